"""Over a network that loses packets, resets connections, swallows everything or is narrow."""

from __future__ import annotations

import pytest

from tests.peers.netns import TROUBLES, missing, run

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    """Skip where there are none."""
    if (why := missing()) is not None:
        pytest.skip(why)


@pytest.mark.parametrize("name", [name for name, each in TROUBLES.items() if not each.single])
def test_a_batch_loses_nothing(name):
    """Each id has its own record in the end, and no request arrived that was not counted."""
    told = run(name)
    print(f"{name}: {told}")  # noqa: T201 (the figures are for the reader)
    assert told["ends"] == {"True": TROUBLES[name].ids}
    assert TROUBLES[name].ids <= told["arrived"] <= told["requests"]


@pytest.mark.parametrize(
    ("name", "end", "requests"),
    [
        # A connection that never opens may have carried nothing, but its attempt was counted.
        ("black hole", "AttemptTimeoutError after 3", 3),
        ("reset at once", "ConnectError after 3", 0),
    ],
)
def test_a_single_call_ends(name, end, requests):
    """It has its typed error within its time, after as many attempts as were allowed."""
    told = run(name)
    print(f"{name}: {told}")  # noqa: T201 (the figures are for the reader)
    assert told["ends"] == {end: 1}
    assert told["requests"] == requests
    assert told["arrived"] == 0
