"""The lane against servers that are exact to the byte, on each loop, with TLS and without."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import os
import ssl
import weakref
from contextlib import asynccontextmanager

import pytest

from calls_async import CallsClient, Limits
from calls_async._secret import ApiKey
from calls_async._transport import LaneTransport, SessionTransport
from calls_async._transport._link import _ROOM, common_room
from calls_async._wire import Answer
from calls_async.errors import ProtocolError, TransportError
from tests.kit import call_ids, other_tasks, run_python, turns
from tests.rawserver import http, id_of, own, raw_server, record
from tests.waiting import until

trustme = pytest.importorskip("trustme", reason="trustme is not installed: no certificates")

SECRET = "sk_test_of_the_lane"
KEY = ApiKey(SECRET)
CAP = 64 * 1024
TURNS = 5
"""Of the loop; what was sent on loopback has been received by then."""


# --- Where it is tested --------------------------------------------------------------------------


def new_uvloop():
    """A loop of uvloop's."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
    return uvloop.new_event_loop()


LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": new_uvloop}
AUTHORITY = trustme.CA()


def server_context():
    """A server's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    return context


def client_context():
    """A client's side of it."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


SIDES = {"tcp": (None, None), "tls": (server_context(), client_context())}


def everywhere(test):
    """Run an `async def` test on each loop, with TLS and without; its first argument opens a lane.

    What a loop is told of exceptions that nobody looked at fails the test.
    """

    @pytest.mark.parametrize("over", SIDES)
    @pytest.mark.parametrize("loop", LOOPS)
    @functools.wraps(test)
    def run(loop, over, **arguments):
        told = []

        async def main():
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: told.append(context)
            )
            await test(functools.partial(opened, over), **arguments)
            await turns(TURNS)
            assert not told

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(main())

    parameters = [*inspect.signature(test).parameters.values()][1:]
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("loop", "over")]
    run.__signature__ = inspect.Signature([*parameters, *added])
    return run


@asynccontextmanager
async def opened(over, script, *, kind=LaneTransport, greeting=b"", **options):
    """A server, and a transport to it that is closed in the end."""
    serving, trusting = SIDES[over]
    given = {"max_body_bytes": CAP, "headers": {}, "user_agent": "tests", "ssl": trusting}
    async with raw_server(script, tls=serving, greeting=greeting) as server:
        transport = kind(base_url=server.url, **(given | options))
        try:
            yield server, transport
        finally:
            await transport.close()
        await server.quiet()


async def check(transport, call_id="call-1", **options):
    """Get a record, which has to be the right one."""
    answer = await transport.get(call_id, KEY, **options)
    assert isinstance(answer, Answer), answer
    assert (answer.status, answer.body) == (200, record(call_id))
    return answer


def links(lane):
    """Its connections that nobody uses."""
    return lane._pool.idle


def connections(server):
    """On which connection each request came."""
    return [exchange.connection for exchange in server.requests]


def feed(link, data):
    """Let this arrive."""
    link.get_buffer(-1)[: len(data)] = data
    link.buffer_updated(len(data))


# --- Answers -------------------------------------------------------------------------------------


@everywhere
async def test_an_answer_in_one_piece(opened):
    """It comes back as it is, and its connection is used again."""
    answer = http(record("call-1"), "X-Request-Id: r-1", "X-Twice: 1", "x-twice: 2")
    async with opened(answer) as (server, lane):
        for _ in range(3):
            got = await check(lane)
            assert got.headers.get("X-Request-ID") == got.headers.get("x-request-id") == "r-1"
            assert got.headers.getall("X-Twice") == ["1", "2"]
            assert got.silent
        assert connections(server) == [1, 1, 1]
        assert len(links(lane)) == 1


@everywhere
async def test_an_answer_with_a_hint_is_not_silent(opened):
    """Whoever looks for hints only where there may be some finds each."""
    async with opened(http(record("call-1"), "Retry-After: 1")) as (_, lane):
        answer = await check(lane)
        assert not answer.silent
        assert answer.headers.get("retry-after") == "1"


SHORT = http(b'{"a": 1}', "X: y")


@everywhere
async def test_an_answer_in_two_pieces_wherever_it_is_cut(opened):
    """Each cut makes the same answer, and the connection is used again after each."""

    async def script(exchange):
        exchange.send(SHORT[: exchange.number])
        await turns(TURNS)
        return SHORT[exchange.number :]

    async with opened(script) as (server, lane):
        for cut in range(1, len(SHORT)):
            answer = await lane.get("call-1", KEY)
            assert answer[0::2] == (200, b'{"a": 1}')
            # Only what the lane reads itself is known to hold no hint; the whole head has to come.
            assert answer.silent == (cut >= SHORT.index(b"{"))
            assert answer.headers.get("x") == "y"
            assert len(links(lane)) == 1
        assert server.connections == 1


@everywhere
async def test_an_answer_byte_by_byte(opened):
    """So many pieces are one answer, too."""

    async def script(exchange):
        for at in range(len(SHORT)):
            exchange.send(SHORT[at : at + 1])
            await turns(TURNS)
        return b""

    async with opened(script) as (server, lane):
        for _ in range(2):
            assert (await lane.get("call-1", KEY)).body == b'{"a": 1}'
        assert server.connections == 1


@everywhere
async def test_answers_that_come_in_turns_are_not_mixed_up(opened):
    """A piece of each at a time, through one buffer: each call gets its own record."""
    many = call_ids(8)

    async def script(exchange):
        answer = own(exchange)
        for at in range(0, len(answer), 100):
            exchange.send(answer[at : at + 100])
            await turns(TURNS)
        return b""

    async with opened(script) as (server, lane):
        for _ in range(2):
            answers = await asyncio.gather(*(lane.get(call_id, KEY) for call_id in many))
            assert [answer.body for answer in answers] == list(map(record, many))
        assert server.connections == len(many)


class ForeignLoop(asyncio.AbstractEventLoop):
    """A loop of which nothing is known."""


@pytest.mark.parametrize("made", LOOPS.values(), ids=LOOPS)
def test_a_loop_that_reads_at_one_go_has_one_room_for_all(made):
    """The selector loop and uvloop fill a buffer and tell of it without a pause."""
    loop = made()
    assert len(common_room(loop)) == _ROOM
    loop.close()


def test_any_other_loop_may_keep_a_buffer_for_later():
    """As a proactor does, which gives it to the kernel: so each connection has its own."""
    assert common_room(ForeignLoop()) is None


async def test_each_connection_of_such_a_loop_has_a_room_of_its_own(monkeypatch):
    """Then what comes in turns cannot be mixed up either."""
    monkeypatch.setattr("calls_async._transport._lane.common_room", lambda _: None)
    async with opened("tcp", own) as (_, lane):
        await asyncio.gather(*(check(lane, call_id) for call_id in call_ids(2)))
        first, second = links(lane)
        assert first.get_buffer(-1) is first.get_buffer(-1)
        assert first.get_buffer(-1) is not second.get_buffer(-1)


SIZES = [0, 1, CAP - 1, CAP, CAP + 1, 5 * CAP]


@pytest.mark.parametrize("fill", [-1, 0, 1])
@everywhere
async def test_an_answer_around_the_size_of_the_room(opened, fill):
    """Whether or not it fills the buffer just so, it is whole, and so is the one after it."""
    head = len(http(b"", length=_ROOM))
    body = b"x" * (_ROOM - head + fill)
    async with opened(http(body)) as (server, lane):
        for _ in range(3):
            assert (await lane.get("call-1", KEY)).body == body
        assert server.connections == 1


@pytest.mark.parametrize("size", SIZES)
@everywhere
async def test_a_body_up_to_the_cap_is_read_and_none_beyond_it(opened, size):
    """What is longer is an error, and the client does not go on to read it."""

    async def script(exchange):
        if exchange.number == 2:
            return own(exchange)
        return http(b"x" * size)

    async with opened(script) as (_, lane):
        answer = await lane.get("call-1", KEY)
        if size > CAP:
            assert isinstance(answer, ProtocolError)
        else:
            assert answer.body == b"x" * size
        await check(lane)


# --- As the session has it -----------------------------------------------------------------------

RECORD = record("call-1")
LENGTH = len(RECORD)


def framed(*fields, line="HTTP/1.1 200 OK", body=RECORD, end="\r\n"):
    """The record under a head of these lines alone; `{}` is its length."""
    told = [field.replace("{}", str(len(body))) for field in fields]
    return end.join((line, *told, "", "")).encode("latin-1") + body


CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (LENGTH, RECORD)
OTHER = http(record("stranger"))
ODD = {
    "usual": framed("Content-Length: {}"),
    "chunked": framed("Transfer-Encoding: chunked", body=CHUNKS),
    "chunked, with a length": framed(
        "Transfer-Encoding: chunked", "Content-Length: 5", body=CHUNKS
    ),
    "chunks and an answer behind": framed("Transfer-Encoding: chunked", body=CHUNKS) + OTHER,
    "says close": framed("Content-Length: {}", "Connection: close"),
    "says close to a proxy": framed("Content-Length: {}", "Proxy-Connection: close"),
    "says keep-alive": framed("Content-Length: {}", "Connection: Keep-Alive"),
    "upgrade": framed("Content-Length: {}", "Connection: upgrade", "Upgrade: h2c"),
    "HTTP/1.0": framed("Content-Length: {}", line="HTTP/1.0 200 OK"),
    "HTTP/1.0, kept": framed(
        "Content-Length: {}", "Connection: keep-alive", line="HTTP/1.0 200 OK"
    ),
    "lower case": framed("Content-Length: {}", line="http/1.1 200 OK"),
    "no reason": framed("Content-Length: {}", line="HTTP/1.1 200"),
    "empty reason": framed("Content-Length: {}", line="HTTP/1.1 200 "),
    "another reason": framed("Content-Length: {}", line="HTTP/1.1 200 Fine"),
    "obs-text reason": framed("Content-Length: {}", line="HTTP/1.1 200 OK\xff"),
    "two blanks": framed("Content-Length: {}", line="HTTP/1.1  200 OK"),
    "HTTP/2.0": framed("Content-Length: {}", line="HTTP/2.0 200 OK"),
    "201": framed("Content-Length: {}", line="HTTP/1.1 201 Created"),
    "204": framed("Content-Length: {}", line="HTTP/1.1 204 No Content"),
    "404": framed("Content-Length: {}", line="HTTP/1.1 404 Not Found"),
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + framed("Content-Length: {}"),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + RECORD,
    **{
        f"length {length!a}": framed(f"Content-Length: {length}")
        for length in (
            "{}, {}", "+{}", "-{}", "000{}", "1", "0", "", " {} ", "\t{}\t", "0x{}", "{};", "{}.0",
            "\xb2", "1_0", "{} {}",
        )
    },
    "two lengths": framed("Content-Length: {}", "Content-Length: {}"),
    "two other lengths": framed("Content-Length: {}", "Content-Length: 5"),
    "a blank before the colon": framed("Content-Length : {}"),
    "a blank before a colon": framed("X : y", "Content-Length: {}"),
    "no colon": framed("Content-Type: json", "Content-Length: {}"),
    "no colon any more": framed("Content-Type", "Content-Length: {}"),
    "no name": framed(": y", "Content-Length: {}"),
    "folded": framed("X: y", " z", "Content-Length: {}"),
    "folded length": framed("Content-Length:", " {}"),
    "bare LF": framed("X: y", "Content-Length: {}", end="\n"),
    "a bare LF": framed("X: y\nContent-Length: {}"),
    "a bare CR": framed("X: y\rContent-Length: {}"),
    "NUL": framed("X: \0", "Content-Length: {}"),
    "DEL": framed("X: \x7f", "Content-Length: {}"),
    "obs-text": framed("X: \xff\xfe", "Content-Length: {}"),
    "a name with obs-text": framed("X\xff: y", "Content-Length: {}"),
    "a long field": framed(f"X: {'y' * 8_100}", "Content-Length: {}"),
    "a field that is too long": framed(f"X: {'y' * 9_000}", "Content-Length: {}"),
    "many fields": framed(*(f"X-{n}: y" for n in range(100)), "Content-Length: {}"),
    "too many fields": framed(*(f"X-{n}: y" for n in range(200)), "Content-Length: {}"),
    "identity": framed("Content-Encoding: identity", "Content-Length: {}"),
    "no gzip": framed("Content-Encoding: gzip", "Content-Length: {}"),
    "a byte behind": framed("Content-Length: {}") + b"x",
    "an empty line behind": framed("Content-Length: {}") + b"\r\n",
    "an empty line before": b"\r\n" + framed("Content-Length: {}"),
    "two answers": framed("Content-Length: {}") + OTHER,
    "half an answer behind": framed("Content-Length: {}") + OTHER[:20],
    "no HTTP": b"garbage\r\n\r\n",
}  # fmt: skip
CUT = {
    **{f"closed after {at}": ODD["usual"][:at] for at in (0, 5, 17, 30, 60, -9)},
    "closed in chunks": ODD["chunked"][:-5],
    "closed before the last chunk": ODD["chunked"][:-7],
    "no length": framed("X: y"),
    "no field at all": framed(),
    **{
        f"length {length}": framed(f"Content-Length: {length}")
        for length in ("{}0", "9" * 15, "9" * 30)
    },
    "until closed, said": framed("Connection: close"),
    "HTTP/0.9": RECORD,
    "closed after the whole": ODD["usual"],
}


async def ends(opened, script, kind, **options):
    """How three requests end with a transport of this kind, and on which connection they came."""
    came = []
    async with opened(script, kind=kind, **options) as (server, transport):
        for _ in range(3):
            end = await transport.get("call-1", KEY)
            if isinstance(end, Answer):
                fields = [(name.lower(), value) for name, value in end.headers.items()]
                end = (end.status, bytes(end.body), fields)
            elif isinstance(end, TransportError):
                end = (type(end), str(end), end.retryable)
            came.append(end)
            await turns(TURNS)
        return came, connections(server)


def odd_the_second_time(name):
    """What answers the second request in this odd way, and all others rightly."""

    def script(exchange):
        if exchange.number != 2:
            return own(exchange)
        if name in ODD:
            return ODD[name]
        exchange.send(CUT[name])
        return None

    return script


@pytest.mark.parametrize("name", [*ODD, *CUT])
@everywhere
async def test_odd_answers_end_as_over_a_session(opened, name):
    """The same answer or error, word for word, and the same connections, in the same order."""
    script = odd_the_second_time(name)
    by_lane, by_session = [
        await ends(opened, script, kind) for kind in (LaneTransport, SessionTransport)
    ]
    assert by_lane == by_session


@pytest.mark.parametrize("greeting", ["record", "404", "half", "garbage"])
@everywhere
async def test_a_server_that_speaks_first_is_heard_as_over_a_session(opened, greeting):
    """What it says unasked is the first answer, and what follows is as over a session, too.

    Where the connection is being closed already, aiohttp notices that first: the words may differ.
    """
    said = {
        "record": http(record("call-1")),
        "404": http(b"{}", status="404 Not Found"),
        "half": http(b"{}", status="404 Not Found")[:20],
        "garbage": b"garbage\r\n\r\n",
    }[greeting]
    ways = []
    for kind in (LaneTransport, SessionTransport):
        came, used = await ends(opened, own, kind, greeting=said)
        ways.append(([end if isinstance(end[0], int) else end[0] for end in came], used))
    assert ways[0] == ways[1]


@everywhere
async def test_a_request_is_written_as_over_a_session(opened):
    """The same line and the same fields, apart from their order."""
    options = {"headers": {"X-Gateway": "7", "accept": "text/json"}, "user_agent": "mine/1"}
    heads = []
    for kind in (LaneTransport, SessionTransport):
        async with opened(own, kind=kind, **options) as (server, transport):
            await check(transport)
            (exchange,) = server.requests
        first, *fields = exchange.head.decode().split("\r\n")
        port = server.url.rpartition(":")[2]
        heads.append((first, sorted(field.replace(port, "PORT") for field in fields)))
    assert heads[0] == heads[1]


# --- What comes unasked --------------------------------------------------------------------------


@pytest.mark.parametrize("stray", [b"x", b"\r\n", http(record("stranger")), b"x" * 2 * _ROOM])
@everywhere
async def test_what_comes_on_an_idle_connection_is_no_answer(opened, stray):
    """The connection is closed at once, and the next request has its own answer, on another."""

    async def script(exchange):
        exchange.send(own(exchange))
        await turns(TURNS)
        if exchange.number == 1:
            exchange.send(stray)
            await exchange.hung_up()
        return b""

    async with opened(script) as (server, lane):
        await check(lane)
        await until(lambda: not links(lane) and not server.open)
        await check(lane, "call-2")
        assert connections(server) == [1, 2]


@pytest.mark.parametrize("how", ["closed", "reset"])
@everywhere
async def test_a_connection_that_is_lost_while_idle_is_forgotten(opened, how):
    """The next request is sent once, on another connection."""

    async def script(exchange):
        exchange.send(own(exchange))
        await turns(TURNS)
        if exchange.number == 1:
            return exchange.reset() if how == "reset" else None
        return b""

    async with opened(script) as (server, lane):
        await check(lane)
        await until(lambda: not links(lane))
        await check(lane, "call-2")
        assert connections(server) == [1, 2]


@pytest.mark.parametrize("pieces", [1, 2])
@everywhere
async def test_a_reset_after_an_answer_that_aiohttp_read_is_nobodys_error(opened, pieces):
    """Nobody waits for the end of an idle connection, and asyncio has nothing to complain of."""

    async def script(exchange):
        whole = http(b"{}", status="404 Not Found")
        if pieces == 2:
            exchange.send(whole[:-1])
            await turns(TURNS)
            whole = whole[-1:]
        exchange.send(whole)
        await turns(TURNS)
        exchange.reset()

    async with opened(script) as (server, lane):
        assert (await lane.get("call-1", KEY)).status == 404
        await until(lambda: not links(lane) and not server.open)
        await turns(TURNS)
        gc.collect()  # what asyncio complains of, it complains of when it is collected


@everywhere
async def test_a_connection_that_is_being_lost_is_not_used(opened):
    """Between the loss and the turn in which it is told of, a request takes another connection."""
    async with opened(own) as (server, lane):
        await check(lane)
        links(lane)[0].transport.abort()
        await check(lane, "call-2")
        assert connections(server) == [1, 2]
        assert len(links(lane)) == 1


@everywhere
async def test_surplus_behind_an_answer_costs_its_connection(opened):
    """Whether the answer came in one piece or in two; it is what it is over a session."""

    async def script(exchange):
        whole = own(exchange)
        if exchange.number > 2:
            exchange.send(whole[:-50])
            await turns(TURNS)
            whole = whole[-50:]
        return whole + http(record("stranger")) if exchange.number in (2, 4) else whole

    async with opened(script) as (server, lane):
        for number in range(6):
            await check(lane, f"call-{number}")
        assert connections(server) == [1, 1, 2, 2, 3, 3]


@asynccontextmanager
async def waiting(opened, ask=lambda lane: lane.get("call-1", KEY)):
    """A request that waits for its answer on a connection used before: lane, link, and request."""

    async def script(exchange):
        if exchange.number % 2:
            return own(exchange)
        await exchange.hung_up()
        return None

    async with opened(script) as (server, lane):
        await check(lane)
        (link,) = links(lane)
        request = asyncio.ensure_future(ask(lane))
        await until(lambda: len(server.requests) == 2)
        yield lane, link, request
        await until(lambda: not server.open)
        assert not links(lane)
        assert not lane._pool.users
        await check(lane, "call-3")
        assert connections(server) == [1, 1, 2]


@everywhere
async def test_what_comes_before_the_answer_is_taken_costs_the_connection(opened):
    """The answer is that to its request, and what follows it in the same turn is nobody's."""
    async with waiting(opened) as (_, link, request):
        feed(link, own_answer := http(record("call-1")))
        feed(link, own_answer)
        assert (await request).body == record("call-1")


@everywhere
async def test_the_end_before_the_answer_is_taken_costs_the_connection(opened):
    """The answer is whole; the connection is used no more."""
    async with waiting(opened) as (_, link, request):
        feed(link, http(record("call-1")))
        link.eof_received()
        assert (await request).body == record("call-1")


@everywhere
async def test_a_loss_before_the_answer_is_taken_costs_the_connection(opened):
    """As with the end of what the server sends."""
    async with waiting(opened) as (_, link, request):
        feed(link, http(record("call-1")))
        link.transport.abort()
        assert (await request).body == record("call-1")


@everywhere
async def test_a_cancellation_in_the_turn_of_the_answer(opened):
    """It passes, and the connection is not used again."""
    async with waiting(opened) as (_, link, request):
        feed(link, http(record("call-1")))
        request.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await request


@everywhere
async def test_an_answer_in_the_turn_of_a_cancellation(opened):
    """Nobody waits for it any more: neither whole nor in part does it do harm."""
    for data in (http(record("call-1")), http(record("call-1"))[:-5], b"HTTP", b"garbage\r\n\r\n"):
        async with waiting(opened) as (_, link, request):
            request.cancel()
            feed(link, data)
            with pytest.raises(asyncio.CancelledError):
                await request


# --- Relays --------------------------------------------------------------------------------------


def naming(*ids, seen):
    """What a relay is called with: it names one id after the other, and notes the bodies."""
    left = [*ids]

    def following(answer):
        seen.append(bytes(answer.body))
        return left.pop(0) if left else None

    return following


@everywhere
async def test_a_relay_asks_for_one_after_the_other_on_one_connection(opened):
    """Each answer is shown once and in order, and the last one is given back as well."""
    async with opened(own) as (server, lane):
        for _ in range(2):
            seen = []
            answer = await lane.relay("a", KEY, naming("b", "c/d", "e", seen=seen))
            assert seen == [record("a"), record("b"), record("c%2Fd"), record("e")]
            assert answer.body == record("e")
        assert set(connections(server)) == {1}
        assert len(links(lane)) == 1
        await check(lane, "b")
        assert server.requests[1].head == server.requests[-1].head


@pytest.mark.parametrize("name", [*ODD, *CUT])
@everywhere
async def test_an_odd_answer_ends_a_relay_as_it_ends_a_request(opened, name):
    """It brings what it brings to a request on its own, and nothing is sent behind it."""
    script = odd_the_second_time(name)
    came = []
    for relayed in (False, True):
        async with opened(script) as (server, lane):
            seen = []
            if relayed:
                end = await lane.relay("call-0", KEY, naming("call-1", seen=seen))
                assert seen[0] == record("call-0")
                assert len(seen) < 3
            else:
                await check(lane, "call-0")
                end = await lane.get("call-1", KEY)
            if isinstance(end, Answer):
                came.append((end.status, bytes(end.body), [*end.headers.items()]))
            else:
                came.append((type(end), str(end), end.retryable))
            await turns(TURNS)
            await check(lane, "call-2")
            came.append(connections(server))
    assert came[:2] == came[2:]


@pytest.mark.parametrize("name", ["usual", "chunked", "404"])
@everywhere
async def test_a_connection_keeps_nothing_of_a_relay_that_is_over(opened, name):
    """Whoever read the last answer: a batch and its records are gone with who asked for them."""

    class Following:
        def __call__(self, _):
            return None if name == "usual" else "call-1"

    async with opened(odd_the_second_time(name)) as (_, lane):
        await lane.relay("call-0", KEY, following := Following())
        gone = weakref.ref(following)
        del following
        assert len(links(lane)) == 1
        assert gone() is None


@everywhere
async def test_a_relay_goes_on_behind_bodies_in_pieces(opened):
    """Wherever they are cut; a head in pieces is aiohttp's to read, as always."""

    async def script(exchange):
        answer = own(exchange)
        at = answer.index(b"\r\n\r\n") + 4 + 17 * exchange.number
        exchange.send(answer[:at])
        await turns(TURNS)
        return answer[at:]

    ids = call_ids(20)
    async with opened(script) as (server, lane):
        seen = []
        await lane.relay(ids[0], KEY, naming(*ids[1:], seen=seen))
        assert seen == [*map(record, ids)]
        assert set(connections(server)) == {1}


@everywhere
async def test_a_relay_that_is_cancelled_sends_nothing_more(opened):
    """Not even in the turn in which an answer comes."""
    seen = []
    async with waiting(opened, lambda lane: lane.relay("call-1", KEY, seen.append)) as given:
        _, link, relay = given
        relay.cancel()
        feed(link, http(record("call-1")))
        with pytest.raises(asyncio.CancelledError):
            await relay
        assert not seen


@pytest.mark.parametrize("named", ["b", None])
@everywhere
async def test_who_cancels_a_relay_from_within_ends_it(opened, named):
    """Whether it names another id or not, the cancellation passes, and the connection is gone."""
    async with opened(own) as (server, lane):

        def following(_):
            relay.cancel()
            return named

        relay = asyncio.ensure_future(lane.relay("a", KEY, following))
        with pytest.raises(asyncio.CancelledError):
            await relay
        await until(lambda: not server.open)
        assert not links(lane)
        await check(lane)


@everywhere
async def test_a_relay_ends_when_its_connections_are_trusted_no_longer(opened):
    """The answer that is under way is given back unseen, and the connection is not used again."""
    seen = []
    async with opened(own) as (server, lane):

        def following(answer):
            seen.append(bytes(answer.body))
            if len(seen) == 2:
                lane._renewed()
            return "b"

        answer = await lane.relay("a", KEY, following)
        assert (answer.body, seen) == (record("b"), [record("a"), record("b")])
        await check(lane)
        assert connections(server) == [1, 1, 1, 2]


class Interrupting:
    """A transport whose writes are interrupted.

    Args:
        transport: What all else is asked of.
    """

    def __init__(self, transport):
        self._transport = transport

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def write(self, _):
        raise asyncio.CancelledError


@everywhere
async def test_an_interrupt_while_a_relay_writes_shows_no_request(opened):
    """Its traceback has no frame of the transport's, whose locals hold the key."""
    async with waiting(opened, lambda lane: lane.relay("call-1", KEY, lambda _: "b")) as given:
        _, link, relay = given
        whole, link.transport = link.transport, Interrupting(link.transport)
        with pytest.raises(asyncio.CancelledError) as caught:
            feed(link, http(record("call-1")))
        assert SECRET not in locals_shown(caught.tb)
        link.transport = whole
        relay.cancel()
        await asyncio.wait([relay])


def locals_shown(trace):
    """What tools that show the locals of a traceback show, the test's own frame apart."""
    shown = []
    while trace is not None:
        shown.append(repr([*trace.tb_frame.f_locals.values()]))
        trace = trace.tb_next
    return "".join(shown[1:])


# --- Cancelled and closed ------------------------------------------------------------------------

PARTS = {
    "nothing": b"",
    "part of the head": ODD["usual"][:9],
    "part of the body": ODD["usual"][:-9],
    "a chunk": ODD["chunked"][:90],
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "part of an error page": http(b"x" * 99, status="404 Not Found")[:-9],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("ended", ["cancelled", "closed"])
@everywhere
async def test_a_request_that_is_ended_in_flight_leaves_nothing(opened, part, ended):
    """Its connection is gone, no task is left, and the next request is served."""

    async def script(exchange):
        if exchange.number == 2:
            return own(exchange)
        exchange.send(PARTS[part])
        await exchange.hung_up()
        return None

    async with opened(script) as (server, lane):
        before = other_tasks()
        request = asyncio.ensure_future(lane.get("call-1", KEY))
        await until(lambda: server.requests)
        await turns(TURNS)
        pool = lane._pool
        if ended == "cancelled":
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        else:
            await lane.close()
            assert isinstance(await request, TransportError)
        await until(lambda: not server.open)
        await until(lambda: other_tasks() <= before)
        assert (pool.users, pool.idle) == (0, [])
        await check(lane)


@everywhere
async def test_closing_waits_until_idle_connections_are_gone(opened):
    """With TLS it takes some turns, and a loop that ends before would complain."""
    async with opened(own) as (_, lane):
        await asyncio.gather(*(check(lane, call_id) for call_id in call_ids(3)))
        gone = [link.handler.closed for link in links(lane)]
        assert len(gone) == 3
        await lane.close()
        assert all(each.done() for each in gone)


@everywhere
async def test_closing_while_a_connection_is_opened(opened):
    """The request ends with an error, and no connection is left."""
    async with opened(own) as (server, lane):
        request = asyncio.ensure_future(lane.get("call-1", KEY))
        await turns(1)
        await lane.close()
        assert isinstance(await request, TransportError)
        await until(lambda: not server.open)
        assert server.requests == []


@everywhere
async def test_a_request_that_is_cancelled_while_it_connects_leaves_nothing(opened):
    """Neither a user nor a connection."""
    async with opened(own) as (server, lane):
        for number in range(1, 9):
            request = asyncio.ensure_future(lane.get("call-1", KEY))
            await turns(number)
            request.cancel()
            await asyncio.wait([request])
            assert not lane._pool.users
        await until(lambda: server.open <= len(links(lane)))
        assert not lane._pool.connector._acquired - {link.handler for link in links(lane)}
        await check(lane)


# --- Fresh connections, and rested ones ----------------------------------------------------------


@everywhere
async def test_fresh_trusts_no_connection_that_is_open(opened):
    """Idle ones are closed; one in use ends its request first, and is not used again."""
    going = {"slow": asyncio.Event(), "slower": asyncio.Event()}

    async def script(exchange):
        if (event := going.get(id_of(exchange))) is not None:
            await event.wait()
        return own(exchange)

    async with opened(script) as (server, lane):
        slow, slower = (asyncio.ensure_future(check(lane, call_id)) for call_id in going)
        await until(lambda: len(server.requests) == 2)
        await check(lane, "call-1")
        old = lane._pool
        await check(lane, "call-2", fresh=True)
        assert old.idle == []
        assert lane._retired == {old}
        await check(lane, "call-3")
        going["slow"].set()
        await slow
        assert (old.idle, old.users) == ([], 1)
        going["slower"].set()
        await slower
        await until(lambda: server.open == 1)
        assert not lane._retired
        assert connections(server)[2:] == [3, 4, 4]


@everywhere
async def test_a_connection_that_rests_goes_back_to_aiohttp(opened):
    """Not before it has rested for a whole turn of the clock; and it is used again afterwards."""
    async with opened(own) as (server, lane):
        await asyncio.gather(*(check(lane, call_id) for call_id in call_ids(3)))
        pool = lane._pool
        pool._timer.cancel()
        pool._rest()
        assert len(pool.idle) == 3
        await check(lane)  # the one that was used last
        pool._timer.cancel()
        pool._rest()
        assert len(pool.idle) == 1
        pool._timer.cancel()
        pool._rest()
        assert pool.idle == []
        assert pool._timer is None
        await asyncio.gather(*(check(lane, call_id) for call_id in call_ids(3)))
        assert server.connections == server.open == 3
        assert pool._timer is not None


@everywhere
async def test_a_rested_connection_that_was_lost_or_spoke_is_not_used(opened):
    """The connector has it then, and looks."""
    resting = asyncio.Event()

    async def script(exchange):
        exchange.send(own(exchange))
        if exchange.number < 3:
            await resting.wait()
            return own(exchange) if exchange.number == 1 else None
        return b""

    async with opened(script) as (server, lane):
        await asyncio.gather(*(check(lane, call_id) for call_id in call_ids(2)))
        for _ in range(2):
            lane._pool._timer.cancel()
            lane._pool._rest()
        resting.set()
        await turns(TURNS)
        await check(lane, "call-3")
        assert connections(server) == [1, 2, 3]


@everywhere
async def test_closing_leaves_no_timer(opened):
    """Nothing is called when all is over."""
    async with opened(own) as (_, lane):
        await check(lane)
        timer = lane._pool._timer
        await lane.close()
        assert timer.cancelled()


# --- Whole clients -------------------------------------------------------------------------------


@everywhere
async def test_no_more_connections_than_permits(opened):
    """1,000 calls at a concurrency of 16 need 16 at the most, and use each many times."""
    async with opened(own) as (server, _):
        trusting = client_context() if server.url.startswith("https") else None
        async with CallsClient(
            SECRET, base_url=server.url, ssl=trusting, limits=Limits(max_concurrency=16)
        ) as client:
            calls = await client.gather_calls(call_ids(1000))
            assert client.statistics().transport == "lane"
        assert [call.id for call in calls] == call_ids(1000)
        assert server.connections <= 16


@everywhere
async def test_aiohttps_protocol_knows_whether_the_server_reads(opened):
    """It may be put back in between, and refuses to hear of the end of what it never heard of."""
    async with opened(own) as (_, lane):
        await check(lane)
        (link,) = links(lane)
        link.pause_writing()
        assert link.handler.writing_paused
        link.resume_writing()
        assert not link.handler.writing_paused


# --- The key -------------------------------------------------------------------------------------


@everywhere
async def test_the_key_is_in_no_part_of_the_lane(opened):
    """Neither before nor after nor while it waits: in no attribute, and in no frame's locals."""
    async with waiting(opened) as (lane, link, request):
        frames = []
        coroutine = request.get_coro()
        while coroutine is not None:
            frames.append(getattr(coroutine, "cr_frame", None))
            coroutine = getattr(coroutine, "cr_await", None)
        shown = [repr(frame.f_locals) for frame in frames if frame is not None]
        for part in (lane, lane._pool, link, link.handler, lane._pool.request, lane._heads):
            told = getattr(part, "__dict__", {})
            shown += [repr(part), str(part), *map(repr, told.values())]
        assert len(shown) > 20
        assert SECRET not in " ".join(shown)
        request.cancel()
        await asyncio.wait([request])


@everywhere
async def test_an_interrupt_while_it_writes_shows_no_request(opened):
    """Its traceback has no frame of the transport's, whose locals hold the key."""
    async with opened(own) as (_, lane):
        await check(lane)
        link = links(lane)[0]

        link.transport = Interrupting(link.transport)
        with pytest.raises(asyncio.CancelledError) as caught:
            await lane.get("call-1", KEY)
        assert SECRET not in locals_shown(caught.tb)


# --- Other processes -----------------------------------------------------------------------------

FORKED = """
import asyncio, gc, os, sys, warnings
from calls_async._secret import ApiKey
from calls_async._transport import LaneTransport

async def get(*ids):
    answers = await asyncio.gather(*(lane.get(call_id, ApiKey("sk_test_1")) for call_id in ids))
    assert [answer.status for answer in answers] == [200, 200, 200]

url, state = os.environ["URL"], os.environ["STATE"]
lane = LaneTransport(base_url=url, max_body_bytes=99999, headers={}, user_agent="tests")
loop = asyncio.new_event_loop()
loop.run_until_complete(get("a", "b", "c"))
if state == "rested":
    for _ in range(2):
        lane._pool._timer.cancel()
        lane._pool._rest()
child = os.fork()
if not child:
    warnings.simplefilter("always", ResourceWarning)
    del lane
    if state == "idle":
        del loop
    gc.collect()
    sys.stderr.write("collected\\n")
    sys.stderr.flush()
    os._exit(0) if state == "rested" else sys.exit()
_, status = os.waitpid(child, 0)
loop.run_until_complete(asyncio.wait_for(get("d", "e", "f"), 10))
loop.run_until_complete(lane.close())
loop.close()
print(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("state", ["idle", "rested"])
async def test_a_forks_child_leaves_the_connections_to_its_parent(state):
    """It collects all without a word of them; the parent goes on over the same connections."""
    async with raw_server(own) as server:
        code, out, err = await run_python(FORKED, URL=server.url, STATE=state)
        assert (code, out) == (0, "0\n"), err
        assert "collected" in err
        assert "Unclosed connect" not in err  # of sockets and loops asyncio speaks by itself
        before, after = connections(server)[:3], connections(server)[3:]
        assert set(after) <= set(before)
        assert len(after) == 3


LEFT = """
import asyncio, os, ssl, warnings
warnings.simplefilter("error")
from calls_async import CallsClient

async def main():
    trusted = ssl.create_default_context(cafile=os.environ["AUTHORITY"])
    async with CallsClient("sk_test_1", base_url=os.environ["URL"], ssl=trusted) as client:
        await client.gather_calls(["a", "b", "c"])

asyncio.run(main())
"""


async def test_a_program_that_closes_its_client_leaves_no_connection(tmp_path):
    """Nothing complains of a transport that was still to be closed, with TLS either."""
    authority = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(authority))
    async with raw_server(own, tls=SIDES["tls"][0]) as server:
        ends = await run_python(LEFT, URL=server.url, AUTHORITY=str(authority))
        assert ends == (0, "", "")
        await server.quiet()
