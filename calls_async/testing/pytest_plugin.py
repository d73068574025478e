"""Fixtures for tests of code that uses calls_async; pytest finds this plugin by itself.

The rule: a test run without these fixtures pays next to nothing for them. So the server and the
client are imported in the fixtures, and a missing pytest-asyncio fails only the tests that need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from calls_async import CallsClient
    from calls_async.testing import Sandbox

__all__ = ["calls_client", "calls_sandbox", "pytest_configure"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "calls_sandbox(**options): options of the Sandbox that the calls_sandbox fixture starts; "
        "those of a test come on top of those of its class and module",
    )


def _fixture(function: Callable[..., AsyncIterator[Any]]) -> Any:
    """The function as a fixture of pytest-asyncio; without that, one that says what is missing."""
    try:
        import pytest_asyncio  # noqa: PLC0415 (it may be missing)
    except ImportError:

        @pytest.fixture(name=function.__name__)
        def missing() -> None:
            pytest.fail(
                f"{function.__name__} needs pytest-asyncio: pip install pytest-asyncio",
                pytrace=False,
            )

        return missing
    return pytest_asyncio.fixture(function)


@_fixture
async def calls_sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A running sandbox, stopped after the test.

    Its options are given by a mark, `@pytest.mark.calls_sandbox(max_rate=50)`, or as a dict by
    indirect parametrization.
    """
    from calls_async.testing import Sandbox  # noqa: PLC0415 (the module's rule)

    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("calls_sandbox"))):
        if mark.args:
            pytest.fail("the mark calls_sandbox takes keyword arguments only", pytrace=False)
        options |= mark.kwargs
    options |= getattr(request, "param", {})
    async with Sandbox(**options) as sandbox:
        yield sandbox


@_fixture
async def calls_client(calls_sandbox: Sandbox) -> AsyncIterator[CallsClient]:
    """A client of the test's sandbox, closed after the test."""
    from calls_async import CallsClient  # noqa: PLC0415 (the module's rule)

    async with CallsClient(calls_sandbox.api_key, base_url=calls_sandbox.base_url) as client:
        yield client
