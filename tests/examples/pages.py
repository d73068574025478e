"""What the tests of the examples share; the rule: a page's code is run as it stands there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re

from tests.kit import ROOT

EXAMPLES = ROOT / "examples"


def blocks(page):
    """The Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```", _text(page), re.DOTALL | re.MULTILINE)


def commands(page):
    """What a page says to type in."""
    return re.findall(r"^\$ (.*)$", _text(page), re.MULTILINE)


def _text(page):
    return (ROOT / "docs" / "how-to" / page).read_text("utf-8")


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
