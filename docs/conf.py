"""How Sphinx builds the documentation; `nox -s docs` builds it with warnings as errors."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "calls_async"
author = "The calls_async developers"
project_copyright = "2026, The calls_async developers"
release = installed_version("calls_async")
version = release.partition("+")[0]  # without the commit that a development version names

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"calls_async {version}"
html_static_path = ["_static"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Docstrings write code as `code`, in one way for all readers: editors, `help()` and this page.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

smartquotes_action = "De"  # no quotes: what stands in them is to be copied as it stands
toc_object_entries_show_parents = "hide"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

# Every reference to a name of this package must resolve. Names of others would need their
# inventories, and so the network: a build must not fail because another site is down.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!calls_async\.)\w+\..*"),
    # As annotations name them:
    (r"py:class", r"datetime|Path|PathLike|SSLContext|ClientSession|RetryCallState"),
    (r"py:class", r"TracerProvider|MeterProvider|TextMapPropagator"),
    (r"py:class", r"T|Headers|Latency|Transport"),  # of this package, and private
]

linkcheck_ignore = [r"https://(calls|api)\.example\.com.*"]


def shield_first_line(
    _app: Sphinx, what: str, _name: str, _obj: Any, _opt: Any, lines: list[str]
) -> None:
    """Keep napoleon from reading the sentence before a colon as the type of an attribute."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def lead_language_models(app: Sphinx, failure: Exception | None) -> None:
    """Put `llms.txt` beside the pages, with links to their sources, which models read best."""
    if failure is not None or app.builder.format != "html":
        return
    output = Path(app.outdir)
    text = (Path(app.srcdir).parent / "llms.txt").read_text("utf-8")
    text = re.sub(r"^- .*\]\((?!docs/).*\n", "", text, flags=re.MULTILINE)  # of no page here
    text = re.sub(r"\]\(docs/([^)]*)\)", r"](_sources/\1.txt)", text)
    for link in re.findall(r"\]\((.*?)\)", text):
        if not (output / link).is_file():
            raise FileNotFoundError(link)
    (output / "llms.txt").write_text(text, "utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("build-finished", lead_language_models)
    app.connect("autodoc-process-docstring", shield_first_line, priority=400)  # napoleon has 500
