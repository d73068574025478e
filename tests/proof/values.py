"""Every member of a record times every kind of value, against the page that says what is read.

Each case goes over a real socket to a client of its own, so that the number of requests shows what
is asked for again. Where a value is read, the whole record is compared, and the types with it:
Python's `1 == True` would hide a coercion.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import attrs

from calls_async import CallsClient, DecodeError, Fetched, MismatchedCallError, RetryPolicy
from calls_async._scrub import MOST
from calls_async.models import Call, Caller, Contact, PhoneNumber
from tests.documents import MISSING, example, put
from tests.proof import policy
from tests.proof.tally import Tally
from tests.rawserver import http, raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rawserver import RawServer

NAME: Final = "values"
STEP: Final = 11
"""The short form takes one case of so many: a prime, so that it meets all columns of all tables."""
RETRIES: Final = RetryPolicy(backoff_base=0.0)
REQUESTS: Final = {"no JSON": RETRIES.max_attempts, "another id": 2}
"""What is asked for more than once."""
_OBJECTS: Final[dict[str, Any]] = {
    "contact": Contact,
    "phoneNumber": PhoneNumber,
    "caller": Caller,
    "callerPhoneNumber": PhoneNumber,
}
_TIMES: Final = {path[-1] for path, row in policy.members() if row["hold"] == "a time"}


@attrs.frozen
class Case:
    """One body, and what the page says of it.

    Attributes:
        name: Tells which case it is.
        body: What the server sends.
        word: The page's word for what happens.
        call: The record that is read; `None` where it is refused.
        paths: What the violations name.
        member: Where the value stands.
    """

    name: str
    body: bytes
    word: str
    call: Call | None = None
    paths: tuple[str, ...] = ()
    member: tuple[str, ...] = ()


async def sweep(*, short: bool) -> Tally:
    """Send every case to a client, or all nulls and absences and one of `STEP` of the rest."""
    tally = Tally(NAME)
    body = b""
    async with raw_server(lambda _: http(body)) as raw:
        for case in chain(missing_and_null(), islice(others(), None, None, STEP if short else 1)):
            body = case.body
            await _try(case, raw, tally)
    return tally


async def _try(case: Case, raw: RawServer, tally: Tally) -> None:
    before = len(raw.requests)
    async with CallsClient("sk_test_values", base_url=raw.url, retry=RETRIES) as client:
        end = await tally.judge(
            case.name,
            client.fetch_call(policy.CALL_ID),
            accept=lambda fetched: is_as_written(case, fetched),
        )
    if isinstance(end, BaseException) and not is_as_written(case, end):
        tally.found(case.name, "wrong", f"{case.word}, not {end!r}"[:300])
    requests = len(raw.requests) - before
    if requests != REQUESTS.get(case.word, 1):
        tally.found(case.name, "wrong", f"{case.word}, but {requests} requests")


def is_as_written(case: Case, end: object) -> bool:
    """Whether a case ended as the page says."""
    match end:
        case Fetched(call=call, raw=raw):
            return case.call is not None and raw == case.body and _same(case, call)
        case MismatchedCallError():
            return case.word == "another id"
        case DecodeError(call_id=policy.CALL_ID) if end.raw == case.body[:MOST]:
            paths = sorted(violation.path for violation in end.violations)
            return case.call is None and (case.word, sorted(case.paths)) == (_word(end), paths)
        case _:
            return False


def _word(error: DecodeError) -> str:
    if error.violations:
        return "refused"
    return "cannot be held" if error.document_readable else "no JSON"


def _same(case: Case, call: Call) -> bool:
    got, expected = _at(call, case.member), _at(case.call, case.member)
    if type(got) is not type(expected) or call != case.call:
        return False
    # Equal times may have other offsets, and 0.0 is -0.0.
    return not isinstance(got, float | datetime) or str(got) == str(expected)


# --- The cases -----------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """All that the page tells."""
    return chain(missing_and_null(), others())


def others() -> Iterator[Case]:
    """What is neither missing nor null."""
    return chain(_values(), _times(), _twice(), _bodies())


def missing_and_null() -> Iterator[Case]:
    """No value at every member."""
    for path, row in policy.members():
        yield _case(path, "null", b"null", row["`null`"])
        if row["missing"]:
            document = example() | {"id": policy.CALL_ID}
            put(document, path, MISSING)
            case = _case(path, "missing", b"null", row["missing"])
            yield attrs.evolve(case, body=json.dumps(document).encode())


def _values() -> Iterator[Case]:
    rows = policy.table("Values")
    for path, member in policy.members():
        for row in rows:
            text = policy.written(row["as written"])
            yield _case(path, row["as written"], text, row[member["hold"]])


def _times() -> Iterator[Case]:
    for row in policy.table("Times"):
        text = b'"' + policy.written(row["as written"]) + b'"'
        reads = policy.names(row["reads"])
        for path in ((name,) for name in sorted(_TIMES)):
            case = _case(path, row["as written"], text, "refused")
            if reads:
                call = _with(_BASE, path, datetime.fromisoformat(reads[0]))
                case = attrs.evolve(case, word="kept", call=call, paths=())
            yield case


def _twice() -> Iterator[Case]:
    """Each member twice, the second time by its plain name and by one that is all escapes."""
    for path, row in policy.members():
        own = _own_text(path)
        column = "a documented member" if row["missing"] else "any other"
        for pair in policy.table("The same member twice"):
            first, then = (_text(pair[when], own) for when in ("first", "then"))
            name = f"{pair['first']}, then {pair['then']}"
            for again in (path[-1], "".join(f"\\u{ord(letter):04x}" for letter in path[-1])):
                case = _case(path, name, then, pair[column])
                both = first + b', "' + again.encode() + b'": ' + then
                yield attrs.evolve(case, body=_body(path, both))


def _text(cell: str, own: bytes) -> bytes:
    return own if cell == "its value" else policy.written(cell)


def _own_text(path: tuple[str, ...]) -> bytes:
    value: Any = example() | {"id": policy.CALL_ID, "other": "its own"}
    for name in path:
        value = value.get(name, "its own")
    return json.dumps(value).encode()


def _bodies() -> Iterator[Case]:
    required = [".".join(("$", *path)) for path, row in policy.members() if _required(path, row)]
    for row in policy.table("Bodies"):
        body, word = policy.written(row["the body is"]), row["what happens"]
        paths: tuple[str, ...] = ()
        if word == "refused":
            is_object = isinstance(json.loads(body), dict)
            paths = tuple(required) if is_object else ("$",)
        call = _BASE if word == "kept" else None
        yield Case(row["the body is"], body, word, call, paths)


def _required(path: tuple[str, ...], row: dict[str, str]) -> bool:
    return len(path) == 1 and row["missing"] == "refused"


# --- One value at one member ---------------------------------------------------------------------


def _case(path: tuple[str, ...], name: str, text: bytes, word: str) -> Case:
    where = ".".join(("$", *path))
    call, paths = None, ()
    if word == "refused":
        paths = (where,)
    elif word not in {"cannot be held", "no JSON", "another id"}:
        call = _with(_BASE, path, _read(path, text, word))
    return Case(f"{where} = {name}", _body(path, text), word, call, paths, path)


def _body(path: tuple[str, ...], text: bytes) -> bytes:
    """The record with this text as the value at `path`."""
    document = example() | {"id": policy.CALL_ID}
    put(document, path, "@")
    return json.dumps(document).encode().replace(b'"@"', text)


def _read(path: tuple[str, ...], text: bytes, word: str) -> Any:
    """What the text reads as, by the page's word and the standard library's JSON."""
    if word == "None":
        return None
    kind = _OBJECTS.get(path[-1])
    if word == "empty":
        return kind()
    value = float(text) if word == "a float" else json.loads(text)
    if kind is not None:
        known = {_python(name) for name in example()[path[-1]]}
        own = {_python(name): item for name, item in value.items()}
        documented = {name: item for name, item in own.items() if name in known}
        extra = {name: item for name, item in value.items() if _python(name) not in known}
        return kind(**documented, extra=extra)
    if path[-1] in _TIMES and isinstance(value, str):
        return datetime.fromisoformat(value)
    return value


def _python(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _with(record: Any, path: tuple[str, ...], value: Any) -> Any:
    name, *rest = path
    if rest:
        value = _with(getattr(record, _python(name)), tuple(rest), value)
    if name == "other":
        return attrs.evolve(record, extra={"other": value})
    return attrs.evolve(record, **{_python(name): value})


def _at(record: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        record = record.extra[name] if name == "other" else getattr(record, _python(name))
    return record


_BASE: Final = Call(
    **{
        _python(name): _read((name,), json.dumps(value).encode(), "kept")
        for name, value in json.loads(policy.RECORD).items()
    }
)
