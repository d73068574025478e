"""How Sphinx builds the documentation; `nox -s docs` builds it with warnings as errors."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "calls_async"
author = "The calls_async developers"
project_copyright = "2026, The calls_async developers"
version = release = installed_version("calls_async")

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

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

# Every reference to a name of this package must resolve. Names of others would need their
# inventories, and so the network: a build must not fail because another site is down.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!calls_async\.)\w+\..*"),
    (r"py:class", r"datetime|SSLContext|ClientSession|RetryCallState"),  # as annotations name them
    (r"py:class", r"Path|PathLike"),
    (r"py:class", r"T|Headers|Latency|Transport"),  # of this package, and private
]

linkcheck_ignore = [r"https://(calls|api)\.example\.com.*"]


def shield_first_line(
    _app: Sphinx, what: str, _name: str, _obj: Any, _opt: Any, lines: list[str]
) -> None:
    """Keep napoleon from reading the sentence before a colon as the type of an attribute."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", shield_first_line, priority=400)  # napoleon has 500
