"""The sweep of TLS in its short form."""

from __future__ import annotations

import pytest

pytest.importorskip("trustme", reason="trustme is not installed: no certificates")

from tests.proof.tls import BOTH, KINDS, sweep


@pytest.mark.usefixtures("way")
async def test_every_refusal_says_which_check_failed():
    """Either the record, or one `TLSError` that names the check, after one connection."""
    tally = await sweep(short=True)
    assert not tally.bad
    good = sum(len(kind.versions) for kind in KINDS if not kind.says)
    once = sum(not kind.versions for kind in KINDS)
    assert tally.ends == {
        "record": good,
        "TLSError": len(BOTH) * (len(KINDS) - once) - good + once,
    }
