"""nginx's TLS, with certificates of an authority that nobody but the test knows."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from calls_async import CallsClient, RedirectError, StatusError, TLSError
from tests.peers.cases import KEY
from tests.peers.nginx import running

trustme = pytest.importorskip("trustme", reason="trustme is not installed: no certificates")
pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("way")]

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
CERTIFICATES = {
    "good": (["127.0.0.1"], {}),
    "expired": (["127.0.0.1"], {"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}),
    "early": (["127.0.0.1"], {"not_before": NOW + DAY, "not_after": NOW + 9 * DAY}),
    "elsewhere": (["wrong.example"], {}),
}
SERVER = """
    server {{
        listen 127.0.0.1:@port:{name}@ ssl;
        ssl_certificate {certificate}.pem;
        ssl_certificate_key {certificate}.pem;
        {more}
        location = /v1/calls/downgrade {{ return 302 http://127.0.0.1/v1/calls/downgrade; }}
        location / {{ return 200 '@record@'; }}
    }}
"""
SPECIAL = {
    "old": "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;",
    "demanding": "ssl_client_certificate authority.pem; ssl_verify_client on;",
}
"""Servers whose certificate is good, and what else they have."""


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def nginx(installed, authority, tmp_path):  # noqa: ARG001 (it skips)
    """An nginx that also has a server for each certificate."""
    for name, (hosts, validity) in CERTIFICATES.items():
        issued = authority.issue_cert(*hosts, **validity)
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    more = "".join(
        SERVER.format(name=name, certificate="good" if name in SPECIAL else name, more=special)
        for name, special in (dict.fromkeys(CERTIFICATES, "") | SPECIAL).items()
    )
    with running(tmp_path, more=more) as server:
        yield server


async def get(nginx, name, authority=None, *, shown=None, call_id="call-1", scheme="https"):
    trusted = None
    if authority is not None:
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
    if shown is not None:
        shown.configure_cert(trusted)
    url = nginx.url(name, scheme=scheme)
    async with CallsClient(KEY, base_url=url, ssl=trusted) as client:
        return await client.get_call(call_id)


async def test_a_private_authority_is_trusted_when_given(nginx, authority):
    """`ssl=` is all that a private authority needs."""
    assert (await get(nginx, "good", authority)).id == "call-1"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("expired", "certificate has expired"),
        ("early", "certificate is not yet valid"),
        ("elsewhere", "mismatch"),
        ("old", "protocol version"),
    ],
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


async def test_a_client_certificate(nginx, authority):
    """Who shows none gets a 400 when the handshake is over, and who shows one its record."""
    with pytest.raises(StatusError) as failure:
        await get(nginx, "demanding", authority)
    assert failure.value.status == 400
    assert "No required SSL certificate was sent" in failure.value.body
    assert failure.value.attempts == 1
    mine = authority.issue_cert("worker@example.org")
    assert (await get(nginx, "demanding", authority, shown=mine)).id == "call-1"


async def test_plain_http_where_tls_is_spoken(nginx):
    """The server answers 400, which is told with its page, and not tried again."""
    with pytest.raises(StatusError) as failure:
        await get(nginx, "good", scheme="http")
    assert failure.value.status == 400
    assert "plain HTTP request was sent to HTTPS port" in failure.value.body
    assert failure.value.attempts == 1


async def test_a_redirect_from_https_to_http(nginx, authority):
    """It is told and not followed, so the key never travels in clear."""
    with pytest.raises(RedirectError) as failure:
        await get(nginx, "good", authority, call_id="downgrade")
    assert failure.value.location == "http://127.0.0.1/v1/calls/downgrade"
