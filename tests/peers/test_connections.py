"""How nginx treats connections: it ends them, gives no answer, reloads, proxies, redirects."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from urllib.request import Request, urlopen

import pytest

from calls_async import CallsClient, Fetched, ProtocolError, RedirectError, ServerError
from calls_async.errors import StoppedBy
from tests.kit import call_ids
from tests.peers.cases import KEY, fetch
from tests.peers.nginx import record, running

pytestmark = [pytest.mark.peer, pytest.mark.usefixtures("way")]


async def test_connections_that_do_not_live_long(nginx):
    """After three requests, and after a second of idleness, the client goes on over new ones."""
    async with CallsClient(KEY, base_url=nginx.url("short_lived")) as client:
        first = await client.gather_calls(call_ids(60))
        await asyncio.sleep(1.2)  # nginx cuts what is idle
        second = await client.gather_calls(call_ids(60))
        requests = client.statistics().requests
    assert [call.id for call in first] == [call.id for call in second] == call_ids(60)
    nginx.stop()
    assert requests == len(nginx.log()) == 120
    assert max(line.place for line in nginx.log()) == 3
    assert {line.encoding for line in nginx.log()} == {""}  # it would compress, if it were asked


async def test_a_close_without_an_answer_once_in_a_while(nginx):
    """It costs that request alone: it is sent again, and nobody sends it behind our back."""
    batch = await fetch(nginx, "unlucky", 200)
    assert batch.inexact(200) == ()
    statuses = Counter(line.status for line in batch.log)
    assert statuses[444] > 0
    assert statuses == {200: 200, 444: batch.requests - 200}


async def test_no_answer_ever(nginx):
    """A single call says that none came, after as many requests as it counts."""
    async with CallsClient(KEY, base_url=nginx.url("mute")) as client:
        with pytest.raises(ProtocolError) as failure:
            await client.get_call("call-1")
    nginx.stop()
    assert failure.value.stopped_by is StoppedBy.ATTEMPTS
    assert failure.value.attempts == len(nginx.log()) == 4


async def test_nobody_behind_the_proxy(nginx):
    """A single call fails with the proxy's 502, its page within reach."""
    async with CallsClient(KEY, base_url=nginx.url("proxy")) as client:
        with pytest.raises(ServerError) as failure:
            await client.get_call("call-1")
    assert failure.value.status == 502
    assert "<title>502 Bad Gateway</title>" in failure.value.body
    assert failure.value.attempts == 4


@pytest.mark.usefixtures("installed")
async def test_nobody_answers_behind_the_proxy(tmp_path):
    """A single call fails with the proxy's 504."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # connects, and is never read
        running(tmp_path, behind=silent.getsockname()[1]) as nginx,
    ):
        async with CallsClient(KEY, base_url=nginx.url("proxy")) as client:
            with pytest.raises(ServerError) as failure:
                await client.get_call("call-1")
    assert failure.value.status == 504
    assert failure.value.attempts == 4


async def test_a_batch_waits_until_somebody_is_behind_the_proxy(nginx):
    """A batch holds while a proxy answers in the server's place, and loses nothing."""
    repaired = nginx.port("plain")
    asyncio.get_running_loop().call_later(1.0, lambda: nginx.reload(behind=repaired))
    batch = await fetch(nginx, "proxy", 20)
    assert (batch.fetched, batch.wrong) == (20, 0)
    behind = Counter((line.status, line.behind) for line in batch.log if line.behind)
    assert behind[200, f"127.0.0.1:{repaired}"] == 20
    assert behind[502, f"127.0.0.1:{nginx.port('nobody')}"] > 0


async def test_a_graceful_reload_in_the_middle_of_a_batch(nginx):
    """Another process takes over the port, and no id is lost."""
    batch = await fetch(
        nginx, "plain", 2000, at={200: lambda: nginx.reload(behind=nginx.port("plain"))}
    )
    assert batch.inexact(2000, interrupted=True) == ()
    assert len({line.worker for line in batch.log}) == 2


@pytest.mark.parametrize(
    ("call_id", "status", "location"),
    [
        ("same", 301, "/v1/calls/found"),
        ("other", 307, "http://127.0.0.1:{plain}/v1/calls/other"),
        ("name", 308, "http://localhost:{plain}/v1/calls/name"),
        ("file", 302, "file:///etc/hostname"),
        ("loop", 302, "/v1/calls/loop"),
    ],
)
async def test_a_redirect_is_told_and_not_followed(nginx, call_id, status, location):
    """The key is not carried elsewhere: one request, and an error that says where to."""
    async with CallsClient(KEY, base_url=nginx.url("redirects")) as client:
        with pytest.raises(RedirectError) as failure:
            await client.get_call(call_id)
    nginx.stop()
    assert failure.value.status == status
    assert failure.value.location == location.format(plain=nginx.port("plain"))
    assert [line.target for line in nginx.log()] == [f"/v1/calls/{call_id}"]


async def test_gzip_is_not_asked_for(nginx):
    """A server that would compress does not, because the client asks it not to."""
    url = nginx.url("plain")
    async with CallsClient(KEY, base_url=url) as client:
        fetched = await client.fetch_call("call-1")
    asked = Request(f"{url}/v1/calls/call-2", headers={"Accept-Encoding": "gzip"})  # noqa: S310 (loopback)
    with urlopen(asked, timeout=5) as answer:  # noqa: S310, ASYNC210 (loopback; nobody else waits)
        assert answer.headers["Content-Encoding"] == "gzip"
    nginx.stop()
    ours, others = nginx.log()
    assert isinstance(fetched, Fetched)
    assert fetched.raw == record("call-1")
    assert (ours.accepts, ours.encoding) == ("identity", "")
    assert (others.accepts, others.encoding) == ("gzip", "gzip")
