"""Hostile input, from the caller's side and from files: used as what it is, or refused by name.

Ids go through the client to a server that keeps what it was sent: an id is one segment of the path
that decodes to it, byte for byte, and nothing else of the request changes. Options are sent as they
are, or refused before anything is sent. Files with ids give the ids that stand in them. Journals
are cut, spoiled and filled with what this package never writes; whoever uses one gets data, or an
error of ours.
"""

from __future__ import annotations

import csv
import io
import json
import random
import sqlite3
import tempfile
import unicodedata
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from click.testing import CliRunner

from calls_async import CallsClient, CallsError, RetryPolicy, ServerError
from calls_async.cli._app import app
from calls_async.journal import Journal
from calls_async.journal.render import render, render_failures
from calls_async.journal.report import write_report
from calls_async.journal.sources import CsvColumn, JsonlField, TextFile
from tests.journal.kit import fetched, missing, sick
from tests.proof.tally import Tally
from tests.rawserver import http, raw_server, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

KEY: Final = "sk_test_hostile"
NAUGHTY: Final[list[str]] = json.loads(
    (Path(__file__).parents[1] / "data" / "blns.json").read_text("utf-8")
)
ONCE: Final = RetryPolicy(max_attempts=1)
SECRET: Final = "geheimnis"
"""The value of a header, which no message may quote."""
STEP: Final = 23
"""The short form takes one case of so many."""


async def sweep(*, short: bool) -> Tally:
    """Go through all of it; the short form takes a sample of everything."""
    tally = Tally("hostile input")
    step = STEP if short else 1
    await _ids(tally, [*hostile_ids()][::step])
    await _options(tally, [*hostile_options()][::step])
    _sources(tally, [*NAUGHTY, *hostile_texts()][::step])
    _journals(tally, step)
    _shown(tally, [*NAUGHTY, *hostile_texts()][::step])
    return tally


# --- Ids -----------------------------------------------------------------------------------------


class Liar(str):
    """A text that says something else whenever it is asked."""

    __slots__ = ()

    def __str__(self) -> str:
        return "../../admin"

    def __eq__(self, _: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def encode(self, *_: Any) -> bytes:
        return b"/../admin"


class Raising:
    """It is no text, and cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def hostile_texts() -> Iterator[str]:
    """Texts that break out of wherever they are put, if they can."""
    yield from (".", "..", "...", "/", "//", "//evil.example", "\\\\evil.example", "a/../b", "")
    for dots in (".", "..", "a"):
        for escaped in ("%2e", "%252e", "%25252e", "%c0%ae", "%u002e", "%00", "%0d%0a", "%2f", "%"):
            yield dots + escaped
            yield escaped + dots
    for char in "?#@:;&=+ ,!$'()*[]{}|^`<>\"~\\":
        yield f"a{char}b"
        yield f"{char}{char}evil.example/{char}"
    yield from (
        "a\r\nX-Evil: 1",
        "a\nb",
        "a\rb",
        "a\tb",
        "a\0b",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\x9b2J",
    )
    yield from (
        "\ud800",
        "a\udfffb",
        "\ufeffa",
        "\u202eabc",
        "\u2066a",
        "\u2028",
        "\u00a0",
        "\u200b",
    )
    yield from ("\u2024\u2024", "\uff0e\uff0e\uff0f", "\u2215", "\u29f5", "\u2100", "\u0130")
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield unicodedata.normalize(form, "Zoë\ufb01\u212b\u1e9b\u0323")
    yield from ("x" * 511, "x" * 512, "x" * 513, "é" * 512, "🙂" * 512, "x" * 100_000)
    yield from (
        "=1+1",
        "@SUM(A1)",
        "-2+3",
        "+1",
        "<script>alert(1)</script>",
        "[red]x[/red]",
        "'\"--",
    )


def hostile_ids() -> Iterator[Any]:
    """All of them, one code point of each kind, and what is no text."""
    yield from NAUGHTY
    yield from hostile_texts()
    seen: set[tuple[str, int]] = set()
    for number in range(0x110000):
        kind = (unicodedata.category(chr(number)), len(chr(number).encode(errors="replace")))
        if number < 0x180 or kind not in seen:
            seen.add(kind)
            yield chr(number)
            yield f"a{chr(number)}b"
    yield from (Liar("call-1"), Liar(".."), Liar("a\nb"))
    yield from (None, True, 1, 1.5, b"call-1", bytearray(b"a"), [], {}, Raising(), 10**5000, object)


async def _ids(tally: Tally, ids: Iterable[Any]) -> None:
    answers: dict[str, bytes] = {}

    def answer(_: Any) -> bytes:
        return answers["now"]

    async with (
        raw_server(answer) as server,
        CallsClient(KEY, base_url=f"{server.url}/pre%20fix", retry=ONCE) as client,
    ):
        usual = ""
        for call_id in ["call-1", *ids]:
            text = str.__str__(call_id) if isinstance(call_id, str) else None
            answers["now"] = http(record(text or "none"))
            server.requests.clear()
            case = f"id {text[:60]!a}" if text is not None else f"id of {type(call_id).__name__}"
            end = await tally.judge(
                case, client.get_call(call_id), accept=lambda call, text=text: call.id == text
            )
            if isinstance(end, CallsError):
                if server.requests or type(end).__name__ != "InvalidCallIdError":
                    tally.found(case, "wrong", f"sent, or refused as {end!r}"[:200])
                continue
            (exchange,) = server.requests
            line, _, fields = exchange.head.decode("ascii").partition("\r\n")
            usual = usual or fields
            before, _, segment = line.removesuffix(" HTTP/1.1").rpartition("/")
            assert text is not None
            whole = before == "GET /pre%20fix/v1/calls" and segment not in (".", "..")
            if not whole or unquote_to_bytes(segment) != text.encode() or fields != usual:
                tally.found(case, "wrong", line[:200])


# --- Options -------------------------------------------------------------------------------------

HOSTS: Final = (
    "http://127.0.0.1@evil.example", "http://evil.example", "http://127.0.0.1.evil.example",
    "http://localhost.evil.example", "http://2130706433", "http://0177.0.0.1", "http://0x7f.1",
    "http://127.1", "http://[::ffff:127.0.0.1]", "http://[::1%25eth0]", "http://[::1", "http://::1",
    "http://127.0.0.1:0", "http://127.0.0.1:65536", "http://127.0.0.1:-1", "http://127.0.0.1:8a",
    "http://127.0.0.1\\@evil.example", "http://127.0.0.1\t", "http://127.0.0.1#@evil.example",
    "http://127.0.0.1?x", "http://user:password@127.0.0.1", "ftp://127.0.0.1", "file:///etc/passwd",
    "//127.0.0.1", "127.0.0.1", "http:127.0.0.1", "http:///v1", "http://", "https://é.example",
    "https://xn--.example/", "https://\u2024.example", "https://evil。example", "https://ex ample",
    "https://host/a/../b", "https://host/%2e%2e", "https://host/%zz", "https://host/a;b",
)  # fmt: skip
"""Places, of which none but the last few may be asked for in the clear."""


def hostile_options() -> Iterator[tuple[str, Any]]:
    """An option's name and a value."""
    texts = [*NAUGHTY, *hostile_texts(), *HOSTS, None, 1, b"x", [], Liar("x"), Raising()]
    # How long a header may be is the server's to say.
    texts = [text for text in texts if not isinstance(text, str) or len(text) < 1000]
    for option, text in product(("api_key", "base_url", "proxy", "user_agent"), texts):
        yield option, text
    for text in texts:
        yield "headers", {"X-One": text}
        if not isinstance(text, list):
            yield "headers", {text: SECRET}
    for name in ("Authorization", "host", "CONTENT-LENGTH", "Transfer-Encoding", "connection"):
        yield "headers", {name: SECRET}


def _is_acceptable(option: str, given: Any, head: str, host: str) -> bool:
    """Whether a request was sent as it had to be: with this value in its place, and no other."""
    lines = head.removesuffix("\r\n\r\n").split("\r\n")
    fields = [tuple(line.split(": ", 1)) for line in lines[1:]]
    names = [name.lower() for name, *_ in fields]
    if len(names) != len(set(names)) or ("Host", host) not in fields:
        return False
    match option:
        case "api_key":
            return ("Authorization", f"Bearer {str.__str__(given)}") in fields
        case "user_agent":
            return ("User-Agent", str.__str__(given)) in fields
        case "headers":
            return all((str.__str__(n), str.__str__(v)) in fields for n, v in given.items())
        case _:
            return True


async def _options(tally: Tally, options: Iterable[tuple[str, Any]]) -> None:
    async with raw_server(http(record())) as server:
        usual: dict[str, Any] = {"api_key": KEY, "base_url": server.url, "retry": ONCE}
        host = server.url.partition("//")[2]
        for option, given in options:
            if given is None:
                continue  # which is not to give it
            case = f"{option}={_named(given)}"
            server.requests.clear()
            end = await tally.judge(case, _made(option, usual | {option: given}), accept=bool)
            if isinstance(end, CallsError):
                named = option in str(end)
                if type(end).__name__ != "ConfigurationError" or not named or SECRET in str(end):
                    tally.found(case, "wrong", f"{end!r}"[:200])
            elif server.requests:
                head = server.requests[0].head.decode("latin-1")
                if not _is_acceptable(option, given, head, host):
                    tally.found(case, "wrong", head[:300])
            elif option == "base_url" and not str(given).startswith(SAFE):
                tally.found(case, "wrong", "plain http to another host")


SAFE: Final = ("https://", "http://127.", "http://localhost:", "http://[::")
"""How a base URL begins to which a key may go."""


async def _made(option: str, options: dict[str, Any]) -> bool:
    async with CallsClient(**options) as client:
        # Elsewhere there is nobody: that a client can be made is all that can be said of it.
        return option in ("base_url", "proxy") or bool(await client.get_call("call-1"))


def _named(given: Any) -> str:
    try:
        return ascii(given)[:80]
    except RuntimeError:
        return "what cannot be shown"


# --- Files of ids --------------------------------------------------------------------------------


def _sources(tally: Tally, texts: Iterable[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids"
        for text in texts:
            line = text.encode(errors="surrogatepass")
            cell = io.StringIO()
            csv.writer(cell).writerow(["1", text])
            quoted = b"id,call\r\n" + cell.getvalue().encode(errors="surrogatepass")
            object_ = json.dumps({"call": text}).encode() + b"\n"
            for name, content, source in (
                ("text", line + b"\n", lambda: TextFile(path)),
                ("CSV", quoted, lambda: CsvColumn(path, "call")),
                ("JSONL", object_, lambda: JsonlField(path, "call")),
            ):
                path.write_bytes(content)
                given = _told(tally, f"{name} {text[:40]!a}", lambda make=source: [*make()])
                if given and name == "JSONL" and given != [text]:
                    tally.found(f"{name} {text[:40]!a}", "wrong", repr(given)[:200])


def _told(tally: Tally, case: str, use: Callable[[], Any]) -> Any:
    """What a use gives; an error of ours is an end as well, and gives nothing."""
    try:
        given = use()
    except CallsError as exc:
        tally.ends[type(exc).__name__] += 1
        return None
    except Exception as exc:  # noqa: BLE001 (that is what must not come)
        tally.note(case, "foreign", repr(exc)[:200])
        return None
    tally.ends["data"] += 1
    return given


# --- Journals ------------------------------------------------------------------------------------


def _uses(path: Path) -> dict[str, Callable[[], Any]]:
    """All that can be done with a journal."""

    def reading(use: Callable[[Journal], Any]) -> Callable[[], Any]:
        def used() -> Any:
            with Journal.open(path, read_only=True) as journal:
                return use(journal)

        return used

    def written() -> None:
        with Journal.open(path) as journal:
            journal.add(["another"])
            journal.settle([fetched("another")])

    out = path.parent / "out"
    return {
        "status": reading(lambda journal: journal.status()),
        "fetched": reading(lambda journal: [*journal.fetched()]),
        "failed": reading(lambda journal: [*journal.failed()]),
        "left": reading(lambda journal: [*journal.left()]),
        "history": reading(lambda journal: [*journal.history()]),
        "jsonl": reading(lambda j: render(j.fetched(), out.with_suffix(".jsonl"), overwrite=True)),
        "csv": reading(lambda j: render(j.fetched(), out.with_suffix(".csv"), overwrite=True)),
        "failures": reading(
            lambda j: render_failures(j.failed(), out.with_suffix(".csv"), overwrite=True)
        ),
        "report": reading(lambda j: write_report(j, out.with_suffix(".html"), overwrite=True)),
        "writing": written,
    }


def _journal(path: Path, ids: Iterable[str]) -> None:
    with Journal.open(path) as journal:
        ids = [*ids]
        journal.add(ids)
        makers = (fetched, missing, sick)
        journal.settle([makers[place % 3](call_id) for place, call_id in enumerate(ids[:-2])])


SPOILS: Final = (
    "UPDATE fetched SET raw = 'no bytes'", "UPDATE fetched SET raw = x'ff00'",
    "UPDATE fetched SET attempts = 'many'", "UPDATE fetched SET at = 1e300",
    "UPDATE fetched SET elapsed = 'x'", "UPDATE failed SET error = x'00'",
    "UPDATE failed SET message = char(27) || '[2J' || char(10) || '<script>'",
    "UPDATE failed SET status = 'x'", "UPDATE ids SET id = 7", "UPDATE ids SET id = NULL",
    "DELETE FROM ids", "DROP TABLE failed", "PRAGMA user_version = 99", "PRAGMA application_id = 1",
    "CREATE TRIGGER t AFTER INSERT ON ids BEGIN DELETE FROM ids; END",
    "ALTER TABLE fetched RENAME TO old",
)  # fmt: skip
"""What this package never does to a journal. Some do not fit its tables, and do nothing."""


def _journals(tally: Tally, step: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder) / "good.journal"
        _journal(good, [f"call-{number}" for number in range(40)])
        whole = good.read_bytes()
        dice = random.Random(5)
        bad = {f"cut at {at}": whole[:at] for at in range(0, len(whole), 512)}
        for _ in range(400):
            at, bit = dice.randrange(len(whole)), dice.randrange(8)
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            bad[f"bit {bit} of byte {at}"] = bytes(flipped)
        for nth, (name, content) in enumerate(bad.items()):
            if nth % step == 0:
                _used(tally, Path(folder), name, lambda path, c=content: path.write_bytes(c))
        for statement in SPOILS[:: 2 if step > 1 else 1]:
            _used(tally, Path(folder), statement, lambda path, s=statement: _spoil(path, whole, s))


def _spoil(path: Path, whole: bytes, statement: str) -> None:
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as db:
        try:
            db.execute(statement)
            db.commit()
        except sqlite3.Error:  # the tables themselves refuse it
            db.rollback()


def _used(tally: Tally, folder: Path, name: str, make: Callable[[Path], Any]) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        path = Path(aside) / "a.journal"
        make(path)
        for use, run in _uses(path).items():
            _told(tally, f"journal, {name}, {use}", run)


# --- What is shown -------------------------------------------------------------------------------


def _shown(tally: Tally, texts: Iterable[str]) -> None:
    """Hostile texts as ids and errors of a job: on the terminal, in the page, in a spreadsheet."""
    usable = [text for text in dict.fromkeys(texts) if _is_text(text)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.journal"
        with Journal.open(path) as journal:
            journal.add(usable)
            journal.settle([_failed(text) for text in usable])
            page, table = Path(folder) / "a.html", Path(folder) / "a.csv"
            write_report(journal, page)
            render_failures(journal.failed(), table)
        case = f"{len(usable)} texts"
        if "<script>alert" in page.read_text("utf-8"):
            tally.note(f"{case}, page", "wrong", "markup of an id or a message")
        else:
            tally.ends["data"] += 1
        with table.open(encoding="utf-8", newline="") as file:
            formulas = [
                cell for row in csv.reader(file) for cell in row if cell[:1] in set("=@\t\r")
            ]
        if formulas:
            tally.note(f"{case}, CSV", "wrong", repr(formulas[:3]))
        else:
            tally.ends["data"] += 1
        for command in (["status", str(path)], ["status", str(path), "--json"]):
            printed = CliRunner().invoke(app, command).output
            if any(unicodedata.category(char) == "Cc" and char != "\n" for char in printed):
                tally.note(f"{case}, {command[0]}", "wrong", "a command to the terminal")
            else:
                tally.ends["data"] += 1


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text)


def _failed(text: str) -> Any:
    failed = sick(text)
    error = ServerError(text, call_id=text, status=500, body=text)
    return type(failed)(id=text, error=error, attempts=1, elapsed=0.0)
