"""nginx's TLS, with certificates of an authority that nobody but the test knows."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from calls_async import CallsClient, TLSError
from tests.peers.cases import KEY
from tests.peers.nginx import running

trustme = pytest.importorskip("trustme", reason="trustme is not installed: no certificates")
pytestmark = pytest.mark.peer

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
CERTIFICATES = {
    "good": (["127.0.0.1"], {}),
    "expired": (
        ["127.0.0.1"],
        {"not_before": YESTERDAY - timedelta(days=9), "not_after": YESTERDAY},
    ),
    "elsewhere": (["wrong.example"], {}),
}
SERVER = """
    server {{
        listen 127.0.0.1:@port:{name}@ ssl;
        ssl_certificate {name}.pem;
        ssl_certificate_key {name}.pem;
        location / {{ return 200 '@record@'; }}
    }}
"""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def nginx(installed, authority, tmp_path):  # noqa: ARG001 (it skips)
    """An nginx that also has a server for each certificate."""
    for name, (hosts, validity) in CERTIFICATES.items():
        issued = authority.issue_cert(*hosts, **validity)
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    more = "".join(SERVER.format(name=name) for name in CERTIFICATES)
    with running(tmp_path, more=more) as server:
        yield server


async def get(nginx, name, authority=None):
    trusted = None
    if authority is not None:
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
    url = nginx.url(name, scheme="https")
    async with CallsClient(KEY, base_url=url, ssl=trusted) as client:
        return await client.get_call("call-1")


async def test_a_private_authority_is_trusted_when_given(nginx, authority):
    """`ssl=` is all that a private authority needs."""
    assert (await get(nginx, "good", authority)).id == "call-1"


@pytest.mark.parametrize(
    ("name", "words"), [("expired", "certificate has expired"), ("elsewhere", "mismatch")]
)
async def test_a_certificate_that_does_not_hold(nginx, authority, name, words):
    """It is a `TLSError` that names the failed check, and nothing was sent."""
    with pytest.raises(TLSError, match=words) as failure:
        await get(nginx, name, authority)
    nginx.stop()
    assert failure.value.attempts == 1
    assert nginx.log() == []


async def test_an_authority_that_nobody_knows(nginx):
    """Without `ssl=` the system's authorities decide, and they know none of ours."""
    with pytest.raises(TLSError, match="certificate verify failed"):
        await get(nginx, "good")
