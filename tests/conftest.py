"""What every test runs under: the package's own plugin, what takes long apart, no deadlines."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

# A deadline is an assertion about the machine. In CI every run tries the same examples.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
# Where the properties are not what is asked for: `--hypothesis-profile=few`.
settings.register_profile("few", deadline=None, derandomize=True, max_examples=10)
settings.load_profile("ci" if os.environ.get("CI") else "local")

PLUGIN = "calls_async.testing.pytest_plugin"


def pytest_configure(config):
    """Load the plugin, unless the package is installed and its entry point has done so."""
    loaded = {getattr(plugin, "__name__", "") for plugin in config.pluginmanager.get_plugins()}
    if PLUGIN not in loaded:
        config.pluginmanager.import_plugin(PLUGIN)
    config.option.markexpr = config.option.markexpr or "not slow and not peer"


@given(st.none())
def begin(_nothing):
    """Have Hypothesis make its generator, for which it asks the collector who holds it."""


def pytest_collection_finish():
    """Begin while the collector still knows of all that there is; see `spare`."""
    begin()


@pytest.fixture(scope="module", autouse=True)
def spare():
    """Spare the collector what is there for good: many tests have it look for what they left.

    Before each module once more, because those before it have imported more, and been reported on.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["lane", "session"])
def way(request):
    """Clients go this way."""
    from tests.ways import over  # noqa: PLC0415 (not before the plugin is measured)

    with over(request.param):
        yield request.param
