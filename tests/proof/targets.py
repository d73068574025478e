"""What is fuzzed; the rule: a target is a strategy and a judge; whoever runs it brings the rest.

pytest runs a few examples of each, the sweep `fuzz` many, and `fuzzing` lets atheris find them by
the coverage that they reach.
"""

from __future__ import annotations

import asyncio
import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from calls_async import CallsClient, CallsError, DecodeError, Limits, RetryPolicy, Timeouts
from calls_async._codec import decode_call, structure_call, unstructure_call
from calls_async._headers import LONGEST_WAIT, read_hint
from calls_async.models import Call
from tests.documents import MEMBERS, json_values, put
from tests.proof import contract, generated, grammar, values
from tests.property import test_headers_total as fields
from tests.rawserver import raw_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.rawserver import Exchange, RawServer


@attrs.frozen
class Target:
    """One thing to fuzz.

    Attributes:
        name: What it is called.
        strategy: Makes its input.
        judge: Feeds one input, asserts what has to hold, and returns how it ended.
        examples: How many of them the full sweep tries.
        of_bytes: Makes an input of bytes, where atheris may do without the strategy: that is a
            hundred times as fast.
        seeds: The bytes to begin with.
    """

    name: str
    strategy: st.SearchStrategy[Any]
    judge: Callable[[Any], str]
    examples: int
    of_bytes: Callable[[bytes], Any] | None = None
    seeds: tuple[bytes, ...] = ()

    @property
    def feed(self) -> Callable[[bytes], object]:
        """Judges what is made of bytes."""
        if self.of_bytes is None:
            test = as_test(self, examples=1, ended=lambda _: None)
            one_input: Callable[[bytes], object] = test.hypothesis.fuzz_one_input
            return one_input
        of_bytes = self.of_bytes
        return lambda data: self.judge(of_bytes(data))


def as_test(target: Target, *, examples: int, ended: Callable[[str], object]) -> Any:
    """A hypothesis test of a target, to be called; `ended` is told how each example ended."""

    @settings(
        max_examples=examples,
        deadline=None,
        phases=[phase for phase in Phase if phase is not Phase.explain],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.strategy)
    def test(value: Any) -> None:
        ended(target.judge(value))

    return test


# --- Header fields -------------------------------------------------------------------------------


def judge_headers(given_: tuple[int, Any, float]) -> str:
    """Any fields are a hint whose numbers can be used."""
    hint = read_hint(*given_)
    for seconds in (hint.wait, *(budget.reset for budget in hint.budgets)):
        assert seconds is None or 0.0 <= seconds <= LONGEST_WAIT, hint
    assert all(type(b.remaining) is int and b.remaining >= 0 for b in hint.budgets), hint
    assert hint.should_retry in (True, False, None)
    return "no hint" if hint.wait is None and not hint.budgets else "hint"


def _fields_of(data: bytes) -> tuple[int, CIMultiDict[str], float]:
    """A status, and lines of fields."""
    first, *lines = data.decode(errors="surrogateescape").split("\n")
    parted = (line.partition(":") for line in lines)
    status = 429 if first == "429" else 200
    return status, CIMultiDict((name, value) for name, _, value in parted), fields.NOW


def _field_seeds() -> tuple[bytes, ...]:
    """The vectors of the headers' readers."""
    vectors = Path(__file__).parents[1] / "vectors"
    waits = json.loads((vectors / "retry_after.json").read_text("utf-8"))["cases"]
    quotas = json.loads((vectors / "ratelimit.json").read_text("utf-8"))["cases"]
    headers = [{"Retry-After": case["value"]} for case in waits]
    headers += [case["headers"] for case in quotas]
    lines = ["".join(f"\n{name}:{value}" for name, value in each.items()) for each in headers]
    return tuple(f"429{each}".encode() for each in lines)


# --- Bodies --------------------------------------------------------------------------------------

_PIECES: Final = [
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b" ", b"\x00", b"\xff", b"\xef\xbb\xbf"),
    *(b"null", b"true", b"0", b"-1", b"1e400", b"NaN", b'""', b'"\\ud800"', b"{}", b"[[", b'"id":'),
    *(b"18446744073709551616", b"0.1e-400", b'"2024-02-30T00:00:00Z"', b'"contact":null'),
]


@st.composite
def edited_bodies(draw: st.DrawFn) -> bytes:
    """A record with other values, its text after a few edits: cuts, pieces put in or repeated."""
    document = draw(generated.documents(generated.CALL_ID))
    for member in draw(st.lists(st.sampled_from(MEMBERS), max_size=2)):
        put(document, member.path, draw(json_values()))
    body = json.dumps(document, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 20)))
        piece = draw(
            st.sampled_from(_PIECES) | st.just(body[start:end] * 2) | st.binary(max_size=3)
        )
        body = body[:start] + piece + body[end:]
    return body


def judge_codec(body: bytes) -> str:
    """A body is what the grammar and the standard library say of it."""
    text = body.removeprefix(BOM_UTF8)
    legal = grammar.is_json(text)
    held = legal and grammar.can_be_held(text)
    came = _outcome(decode_call, body)
    if isinstance(came, Call):
        assert held, came
        assert not contract.broken(_loaded(text)), came
        assert came == structure_call(_loaded(text)) == structure_call(unstructure_call(came))
        return "record"
    assert came.raw == body
    assert (came.document_readable, bool(came.violations)) == (legal, held), came
    if not held:
        return "cannot be held" if legal else "no JSON"
    again = _outcome(structure_call, _loaded(text))
    assert isinstance(again, DecodeError), again
    assert again.violations == came.violations, again
    assert contract.broken(_loaded(text)) <= {one.path for one in came.violations}, came
    return "refused"


def _outcome(read: Callable[[Any], Call], given: object) -> Call | DecodeError:
    try:
        return read(given)
    except DecodeError as error:
        return error


def _loaded(text: bytes) -> object:
    return json.loads(text, parse_int=_whole)


def _whole(digits: str) -> float:
    # Beyond 64 bits a whole number becomes a float, as the page says.
    return int(digits) if -(2**63) <= int(digits) < 2**64 else float(digits)


# --- The whole client ----------------------------------------------------------------------------

QUICK: Final = {
    "retry": RetryPolicy(
        max_attempts=2,
        max_throttled_attempts=2,
        backoff_base=0.0,
        throttle_backoff_base=0.0,
        max_server_wait=0.0,
    ),
    "timeouts": Timeouts(attempt=0.05, total=0.5),
    "limits": Limits(max_body_bytes=100_000),
}
PATIENT: Final = {"retry": RetryPolicy(max_attempts=1), "timeouts": Timeouts(attempt=30.0)}


class Peer:
    """A raw server and a loop of its own, for judges that are no coroutines; opened when needed."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._close: Callable[[], object] = lambda: None
        self._raw: RawServer
        self._planned: generated.Planned
        self._stray: list[dict[str, Any]] = []

    def ask(self, planned: generated.Planned, options: dict[str, Any]) -> object:
        """What a client of its own makes of an answer: a record, or an error of ours."""
        if self._runner is None:
            self._open()
        assert self._runner is not None
        self._planned = planned
        end = self._runner.run(self._ask(options))
        assert not self._stray, self._stray
        return end

    async def _ask(self, options: dict[str, Any]) -> object:
        async with CallsClient("sk_test_fuzz", base_url=self._raw.url, **options) as client:
            try:
                async with asyncio.timeout(60):
                    end: object = await client.fetch_call(generated.CALL_ID)
            except CallsError as error:
                end = error
        await self._raw.quiet()
        return end

    async def _answer(self, exchange: Exchange) -> bytes | None:
        planned = self._planned
        if planned.then == "wait":
            return planned.data
        exchange.send(planned.data)
        if planned.then == "reset":
            exchange.reset()
        return None

    def _open(self) -> None:
        self._runner = asyncio.Runner()
        server = raw_server(self._answer)
        self._raw = self._runner.run(server.__aenter__())
        self._runner.get_loop().set_exception_handler(lambda _, told: self._stray.append(told))
        self._close = lambda: server.__aexit__(None, None, None)

    def close(self) -> None:
        """Close what was opened."""
        if self._runner is not None:
            self._runner.run(self._close())
            self._runner.close()
            self._runner = None


PEER: Final = Peer()


def judge_client(planned: generated.Planned) -> str:
    """Whatever a server sends: its record for the id that was asked for, or an error of ours."""
    return _judged(planned, PEER.ask(planned, QUICK))


def judge_legal(planned: generated.Planned) -> str:
    """An answer without a fault is read, however it is written."""
    end = PEER.ask(planned, PATIENT)
    assert not isinstance(end, CallsError), end
    return _judged(planned, end)


def _judged(planned: generated.Planned, end: Any) -> str:
    if isinstance(end, CallsError):
        return type(end).__name__
    assert planned.record is not None, end
    assert end.raw.strip() == planned.record, end
    assert end.call == decode_call(planned.record), end
    return "record"


TARGETS: Final = (
    Target(
        "headers",
        st.tuples(fields.statuses, fields.headers, st.floats()),
        judge_headers,
        10_000,
        of_bytes=_fields_of,
        seeds=_field_seeds(),
    ),
    Target(
        "codec",
        edited_bodies(),
        judge_codec,
        3_000,
        of_bytes=bytes,
        seeds=(*_PIECES, *(case.body for case in values.missing_and_null())),
    ),
    Target("legal", generated.legal_answers(), judge_legal, 1_000),
    Target("client", generated.any_answers(), judge_client, 3_000),
)
