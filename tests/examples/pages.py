"""What the tests of the examples share; the rule: a page's code is run as it stands there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap

from tests.kit import ROOT

EXAMPLES = ROOT / "examples"


def blocks(page, language="python"):
    """What a page has in one language, block by block, also in lists."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^\1```$", text(page), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, name, body in found if name == language]


def commands(page):
    """What a page says to type in."""
    return re.findall(r"^\$ (.*)$", text(page), re.MULTILINE)


def text(page):
    """A how-to by its name, any other page by its path."""
    place = ROOT / page if "/" in page or page == "README.md" else ROOT / "docs" / "how-to" / page
    return place.read_text("utf-8")


async def run(block, **names):
    """Run a block, its `await`s included; gives the names that it left."""
    code = compile(block, "the page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    left = eval(code, names)  # noqa: S307 (it is our own page)
    if inspect.isawaitable(left):
        await left
    return names


async def until(condition, within=30):
    """Wait for a condition that other processes bring about, and leave them the processor."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 (what is waited for is in another process)
            await asyncio.sleep(0.005)
