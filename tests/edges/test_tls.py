"""TLS as a user meets it: docs/how-to/tls.md as it is written, and refusals in a batch.

What each kind of certificate brings is swept in tests/proof/tls.py.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

from calls_async import CallsClient, ConfigurationError, Limits, TLSError
from calls_async.errors import StoppedBy
from calls_async.testing import FakeTransport, fake_client
from tests.kit import call_ids, in_virtual_time
from tests.tlsserver import tls_server

trustme = pytest.importorskip("trustme", reason="trustme is not installed: no certificates")

from tests.proof.tls import KEY, OURS, demanding, serving  # noqa: E402 (they need trustme)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tls.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The files that the page names, in the working directory."""
    OURS.cert_pem.write_to_path(tmp_path / "private-ca.pem")
    worker = OURS.issue_cert("worker@example.org")
    worker.private_key_pem.write_to_path(tmp_path / "worker.key")
    for number, pem in enumerate(worker.cert_chain_pems):
        pem.write_to_path(tmp_path / "worker.pem", append=number > 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS_API_KEY", KEY)


async def run(block, **names):
    """Run an example as it stands on the page, its `await`s included; gives what it defined."""
    code = compile(block, PAGE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    left = eval(code, names)  # noqa: S307 (it is our own page)
    if inspect.isawaitable(left):
        await left
    return names


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("title", "server"), [("authority", serving), ("client certificate", demanding)]
)
async def test_the_page_connects(title, server, monkeypatch):
    """Its examples, to the letter, reach a server that our authority vouches for."""
    (block,) = (block for block in BLOCKS if block.startswith(f"# {title}"))
    with tls_server(server()) as tls:
        monkeypatch.setenv("CALLS_BASE_URL", tls.url)
        names = await run(block, call_id="call-1")
    assert names["call"].id == "call-1"
    assert len(tls.requests) == 1


@pytest.mark.usefixtures("files")
async def test_the_page_tells_a_refusal(monkeypatch, capsys):
    """Its example prints which check failed."""
    (block,) = (block for block in BLOCKS if block.startswith("# refusal"))
    with tls_server(serving(since=-9, until=-1)) as tls:
        monkeypatch.setenv("CALLS_BASE_URL", tls.url)
        await run(block, call_id="call-1")
    assert "unable to get local issuer certificate" in capsys.readouterr().out
    assert tls.requests == []


def test_every_example_of_the_page_is_run():
    """No block is left out by the tests above."""
    assert [block.split("\n")[0] for block in BLOCKS] == [
        "# authority",
        "# client certificate",
        "# refusal",
    ]


# --- In a batch ----------------------------------------------------------------------------------


class Refusing(FakeTransport):
    """A server whose certificate does not hold until a certain time, 20 ms away."""

    def __init__(self, *, until):
        super().__init__()
        self.until = until
        self.handshakes = 0

    async def get(self, call_id, key, headers=None, *, fresh=False):
        self.handshakes += 1
        await asyncio.sleep(0.02)
        if asyncio.get_running_loop().time() < self.until:
            return TLSError("the secure connection was refused: certificate has expired")
        return await super().get(call_id, key, headers, fresh=fresh)


@in_virtual_time
async def test_a_batch_does_not_hammer_a_refused_certificate():
    """After the first wave there is a probe now and then, and after `patience` nothing is sent."""
    transport = Refusing(until=float("inf"))
    async with fake_client(transport, limits=Limits(patience=60.0)) as client:
        errors = await client.gather_calls(call_ids(5000), return_exceptions=True)
        assert client.statistics().requests == 0
    assert transport.handshakes <= 60
    assert {type(error) for error in errors} == {TLSError}
    assert [error.attempts for error in errors].count(1) == transport.handshakes
    unsent = [error for error in errors if error.attempts == 0]
    assert {error.stopped_by for error in unsent} == {StoppedBy.PATIENCE}
    assert len(unsent) + transport.handshakes == 5000


@in_virtual_time
async def test_a_batch_goes_on_once_the_certificate_holds():
    """Only the ids that met the bad certificate are lost; none of them was tried again."""
    transport = Refusing(until=5.0)
    async with fake_client(transport) as client:
        calls = await client.gather_calls(call_ids(1000), return_exceptions=True)
    refused = [call for call in calls if isinstance(call, TLSError)]
    assert {error.attempts for error in refused} == {1}
    assert len(refused) <= 30
    assert len(transport.ledger) == 1000 - len(refused)


# --- Without TLS ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "calls.example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "0.0.0.0",  # noqa: S104 (nobody binds to it)
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:10.0.0.1]",
        "host.docker.internal",
    ],
)
def test_plain_http_beyond_loopback_is_refused(host):
    """The key is not sent in clear to another machine, unless that is asked for by name."""
    with pytest.raises(ConfigurationError, match="allow_http=True"):
        CallsClient(KEY, base_url=f"http://{host}")
    CallsClient(KEY, base_url=f"http://{host}", allow_http=True)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_plain_http_stays_possible_on_this_machine(host):
    """A sandbox needs no certificate."""
    CallsClient(KEY, base_url=f"http://{host}:8080")
