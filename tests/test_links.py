"""Links within the repository lead somewhere; Sphinx looks at those of its own pages alone."""

from __future__ import annotations

import re

import pytest

from tests.kit import ROOT

PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), ROOT / "llms.txt", *ROOT.glob("docs/**/*.md"))
    if "_build" not in page.parts
)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(#[^)\s]*)?\)")


def without_code(page):
    """The prose of a page."""
    text = (ROOT / page).read_text("utf-8")
    return re.sub(r"^( *)```.*?^\1```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """What a page's headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """To a file of the repository and, with a `#`, to a heading of it."""
    for target, anchor in LINK.findall(without_code(page)):
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), target
        # A name of the package is an anchor that Sphinx makes, and holds to be there.
        if anchor and not anchor.startswith("#calls_async."):
            assert anchor[1:] in anchors(place), (target, anchor)


def test_every_guide_is_in_llms_txt():
    """What leads a language model names each how-to, and the tutorial."""
    listed = {target for target, _ in LINK.findall((ROOT / "llms.txt").read_text("utf-8"))}
    guides = {page for page in PAGES if page.startswith("docs/how-to/")} - {"docs/how-to/index.md"}
    assert guides | {"docs/tutorial/index.md"} <= listed
