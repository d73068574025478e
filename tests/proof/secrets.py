"""Secrets: a key that servers echo in every place and writing, and where the key goes at all.

After each case, all that a user can get to see is searched: the error with its whole chain and the
locals of our frames, its copy and pickle, what the hooks and the logs were told (asyncio's debug
mode on), the client, its statistics and its pickle. What is searched for is any six characters in a
row of the key's secret part, in upper or lower case, as the text is and as URL, JSON, HTML, base64
and hexadecimal readers would read it. These readers are the standard library's, not the client's.

The records and failures of all cases go into a journal, whose files are searched as well, and all
that the command line makes of it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import copy
import html
import json
import logging
import pickle
import re
import tempfile
import traceback
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from click.testing import CliRunner

from calls_async import CallsClient, CallsError, Failed, Fetched, RetryPolicy, Timeouts
from calls_async.cli._app import app
from calls_async.journal import Journal
from calls_async.journal.render import render, render_failures
from calls_async.journal.report import write_report
from tests.documents import example
from tests.proof.tally import Tally
from tests.rawserver import http, raw_server, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

OURS = "calls_async"
RUN = 6
STEP = 11
"""The short form takes one case of so many; it shares no factor with the number of writings."""
OTHERS = 89
"""And one of so many with the other keys."""

KEYS = {
    "live": "sk_live_Zq7Xw9Kd2Lm4Pv8Rt1Yb6Nc3Hf5Gj0",
    "marks": "sk_test_a/b+c=d&e<f>g\"h'i\\j{k}l|m.n*o?p",
    "no prefix": "Vx4Jq9Tz2Bw7Ck5Mn1",
    "its own prefix": "sk_live_sk_live_Hy6Rp3Ws8Gd",
    "percent": "sk_test_%41x%2FyQ7%25zW9%u0041&amp;k",
    "short": "sk_test_Qj7x2",
}


def everywhere(text: str, one: Callable[[int], str]) -> str:
    return "".join(one(ord(char)) for char in text)


def _entities(text: str) -> str:
    names = {"/": "&sol;", "+": "&plus;", "_": "&lowbar;", "=": "&equals;", "%": "&percnt;"}
    return "".join(names.get(char, html.escape(char)) for char in text)


WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "lower": str.lower,
    "upper": str.upper,
    "url": lambda key: quote(key, safe=""),
    "url, all": lambda key: everywhere(key, lambda c: f"%{c:02X}"),
    "url, lower": lambda key: everywhere(key, lambda c: f"%{c:02x}"),
    "url twice": lambda key: quote(everywhere(key, lambda c: f"%{c:02X}"), safe=""),
    "url thrice": lambda key: quote(quote(everywhere(key, lambda c: f"%{c:02X}"))),
    "json": lambda key: json.dumps(key).replace("/", "\\/")[1:-1],
    "json, all": lambda key: everywhere(key, lambda c: f"\\u{c:04x}"),
    "json, upper": lambda key: everywhere(key, lambda c: f"\\u{c:04X}"),
    "json twice": lambda key: json.dumps(everywhere(key, lambda c: f"\\u{c:04x}"))[1:-1],
    "script": lambda key: everywhere(key, lambda c: f"\\x{c:02x}"),
    "script, braced": lambda key: everywhere(key, lambda c: f"\\u{{{c:x}}}"),
    "escape()": lambda key: everywhere(key, lambda c: f"%u{c:04X}"),
    "html": html.escape,
    "html names": _entities,
    "html decimal": lambda key: everywhere(key, lambda c: f"&#{c};"),
    "html hex": lambda key: everywhere(key, lambda c: f"&#x{c:02X};"),
    "html padded": lambda key: everywhere(key, lambda c: f"&#00{c};"),
    "json in html": lambda key: html.escape(json.dumps(key).replace("/", "\\/")),
    "url in html": lambda key: html.escape(quote(key, safe="")),
    "html in json": lambda key: json.dumps(html.escape(key))[1:-1],
    "regex": re.escape,
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 of Bearer": lambda key: base64.b64encode(f"Bearer {key}".encode()).decode(),
    "base64 of user:": lambda key: base64.b64encode(f"u:{key}".encode()).decode(),
    "base64, url-safe": lambda key: base64.urlsafe_b64encode(f"{key}?".encode()).decode(),
    "base64 in a url": lambda key: quote(base64.b64encode(f"{key}>>".encode()), safe=""),
    "hex": lambda key: key.encode().hex(),
    "HEX": lambda key: key.encode().hex().upper(),
    "cut": lambda key: f"{key[:-3]}...",
    "cut in front": lambda key: f"...{key[11:]}",
    "piece": lambda key: f"{key[10:17]}",
}

PLACES: dict[str, Callable[[str, str], bytes]] = {
    "500": lambda text, _: http(text.encode(), status="500 Oops"),
    "400, at the cut": lambda text, _: http(b"x" * 485 + text.encode(), status="400 Bad"),
    "401": lambda text, _: http(f'{{"error": "{text}"}}'.encode(), status="401 No"),
    "403, page": lambda text, _: http(f"<p>{text}</p>".encode(), status="403 No"),
    "429": lambda text, _: http(text.encode(), "Retry-After: 999", status="429 Slow"),
    "reason": lambda text, _: http(b"", status=f"500 {text}"),
    "request id": lambda text, _: http(b"", f"x-request-id: {text}", status="404 No"),
    "request id of a record": lambda text, of: http(record(of), f"x-request-id: {text}"),
    "location": lambda text, _: http(
        b"", f"Location: https://x.example/?t={text}", status="302 At"
    ),
    "two headers": lambda text, _: http(
        text.encode(), f"x-request-id: {text[:9]}", f"WWW-Authenticate: {text}", status="401 No"
    ),
    "no json": lambda text, _: http(f"<html>{text}</html>".encode()),
    "cut json": lambda text, _: http(f'{{"id": "{text}'.encode()),
    "other id": lambda text, _: http(record(text), f"x-request-id: {text}"),
    "violations": lambda text, _: http(
        json.dumps({**example(), "callType": {text: text}, text: text}).encode()
    ),
    "body is short": lambda text, _: http(record(text), length=9_000, status="503 Cut"),
    "status line": lambda text, _: f"garbage {text}\r\n\r\n".encode(),
    "header": lambda text, _: f"HTTP/1.1 200 OK\r\n{text} {text}\r\n\r\n".encode(),
    "header with NUL": lambda text, _: f"HTTP/1.1 200 OK\r\nX: '\0{text}\r\n\r\n".encode(),
    "length": lambda text, _: f"HTTP/1.1 200 OK\r\nContent-Length: {text}\r\n\r\n".encode(),
    "chunk": lambda text, _: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{text}\r\n".encode()
    ),
    "encoding": lambda text, _: http(text.encode(), "Content-Encoding: gzip", f"X: {text}"),
    "long header": lambda text, _: http(b"", f"X: {'y' * 80}{text}{'y' * 9000}"),
    "cut head": lambda text, _: f"HTTP/1.1 200 OK\r\nX: {text}".encode(),
}


# --- Searching -----------------------------------------------------------------------------------


class Searcher:
    """Finds a key's secret part in texts, by other means than the client's own."""

    def __init__(self, *keys: str) -> None:
        self.runs: set[str] = set()
        self._searched: set[int] = set()
        for key in keys:
            prefix = next((p for p in ("sk_live_", "sk_test_") if key.startswith(p)), "")
            secret = key.removeprefix(prefix)
            runs = {secret[at : at + RUN] for at in range(len(secret) - RUN + 1)} or {key}
            self.runs |= {run.lower() for run in runs if run not in prefix}

    def leaks(self, *texts: str) -> str | None:
        """What of the key the texts give away."""
        # What many cases show, such as the loop's debug output, is searched once.
        for reading in self._readings("\n\n".join(text for text in texts if self._is_new(text))):
            lowered = reading.lower()
            for run in self.runs:
                if (at := lowered.find(run)) >= 0:
                    return f"{run!r} in {reading[max(0, at - 150) : at + 150]!r}"
        return None

    def _readings(self, text: str) -> Iterator[str]:
        yield from _read(text)
        for each in (text, unquote(text)):
            for word in re.findall(r"[0-9A-Za-z+/_-]{8,}", each):
                if self._is_new(word):
                    yield from _decoded(word)

    def _is_new(self, text: str) -> bool:
        known = len(self._searched)
        self._searched.add(hash(text))
        return len(self._searched) > known


def _read(text: str) -> Iterator[str]:
    """The text, and what usual readers make of it, one after the other."""
    waiting, seen = [text], set()
    for _ in range(4):
        found: list[str] = []
        for each in waiting:
            if each in seen:
                continue
            seen.add(each)
            yield each
            found += [reader(each) for mark, reader in _READERS if mark in each]
        waiting = found


def _unescaped(text: str) -> str:
    text = re.sub(r"(?:[\\%]u00|\\x|\\u\{)([0-9a-fA-F]{2})\}?", lambda m: chr(int(m[1], 16)), text)
    return re.sub(r"\\(.)", r"\1", text)


_READERS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("%", unquote),
    ("&", html.unescape),
    ("\\", _unescaped),
    ("%u", _unescaped),
)
"""What each reader takes for an escape, and the reader."""


def _decoded(word: str) -> Iterator[str]:
    for start in range(4):
        piece = word[start:].replace("-", "+").replace("_", "/")
        yield base64.b64decode(piece[: len(piece) // 4 * 4]).decode("latin-1")
    for digits in re.findall(r"[0-9A-Fa-f]{12,}", word):
        for start in range(2):
            piece = digits[start:]
            yield binascii.unhexlify(piece[: len(piece) // 2 * 2]).decode("latin-1")


def shown(thing: Any, depth: int = 4) -> Iterator[str]:
    """All that can be printed of a thing: text, repr, and what hangs on it, some steps deep."""
    yield repr(thing)
    yield str(thing)
    if depth and type(thing).__module__.partition(".")[0] == OURS:
        for value in getattr(thing, "__dict__", {}).values():
            yield from shown(value, depth - 1)


def confessed(error: BaseException) -> Iterator[str]:
    """All that an exception and its whole chain give away, the locals of our frames included."""
    yield "".join(traceback.format_exception(error))
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        waiting += [link.__cause__, link.__context__]
        yield from shown(link)
        yield repr(link.args) + repr(getattr(link, "__notes__", ()))
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if f"/{OURS}/" in frame.f_code.co_filename:
                for value in frame.f_locals.values():
                    with suppress(ReferenceError):
                        yield from shown(value, 1)


class Logs(logging.Handler):
    """Keeps all that any logger says."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said += [record.getMessage(), repr(vars(record))]
        if record.exc_info:
            self.said.append("".join(traceback.format_exception(*record.exc_info)))


@asynccontextmanager
async def listening() -> AsyncIterator[list[str]]:
    """Everything on: all loggers, asyncio's debug mode, each of its callbacks "slow"."""
    loop, root, logs = asyncio.get_running_loop(), logging.getLogger(), Logs()
    before = root.level, loop.get_debug(), loop.slow_callback_duration
    others = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    for handler in others:
        root.removeHandler(handler)
    root.addHandler(logs)
    root.setLevel(logging.DEBUG)
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    try:
        yield logs.said
    finally:
        level, debug, duration = before
        root.removeHandler(logs)
        for handler in others:
            root.addHandler(handler)
        root.setLevel(level)
        loop.set_debug(debug)
        loop.slow_callback_duration = duration


# --- The sweep -----------------------------------------------------------------------------------


async def sweep(*, short: bool) -> Tally:
    """Echo each key in each place in each writing, then see where a key goes."""
    tally = Tally("secrets")
    for name, key in KEYS.items():
        cases = [(place, writing) for place in PLACES for writing in WRITINGS]
        step = 1 if not short else STEP if name == "live" else OTHERS
        await _echoes(tally, name, key, cases[::step])
    await _rotated(tally, list(WRITINGS.items())[:: STEP if short else 1])
    await _ways(tally)
    return tally


async def _echoes(tally: Tally, name: str, key: str, cases: list[tuple[str, str]]) -> None:
    answers: dict[str, bytes] = {}
    search = Searcher(key)

    async def answer(exchange: Any) -> None:
        exchange.send(answers[exchange.target.rsplit("/", 1)[1]])
        await exchange.writer.drain()

    async with raw_server(answer) as server:
        for place, writing in cases:
            answers["call-1"] = PLACES[place](WRITINGS[writing](key), "call-1")
            await _one(tally, f"{name} key, {place}, {writing}", key, server.url, search)
        ids = [re.sub("[^a-zA-Z0-9]+", "-", f"{place}-{writing}") for place, writing in cases]
        for call_id, (place, writing) in zip(ids, cases, strict=True):
            answers[call_id] = PLACES[place](WRITINGS[writing](key), call_id)
        await _journaled(tally, name, server.url, search, list(dict.fromkeys(ids)))


async def _one(tally: Tally, case: str, key: str, url: str, search: Searcher) -> None:
    events: list[Any] = []
    policy = RetryPolicy(max_attempts=2, backoff_base=0.0)
    async with (
        listening() as said,
        CallsClient(key, base_url=url, retry=policy, hooks=(events.append,)) as client,
    ):
        end = await tally.judge(
            case, client.fetch_call("call-1"), accept=lambda fetched: fetched.id == "call-1"
        )
        texts = [*shown(client), *shown(client.statistics()), repr(vars(client))]
        texts.append(pickle.dumps(client).decode("latin-1"))
    if isinstance(end, BaseException):
        texts += [*confessed(end), *confessed(copy.copy(end))]
    texts += shown(end)
    texts.append(pickle.dumps(end).decode("latin-1"))
    texts += shown(pickle.loads(pickle.dumps(end)))
    for event in events:
        texts += shown(event)
    _search(tally, case, search, [*texts, *said])


def _search(tally: Tally, case: str, search: Searcher, texts: list[str]) -> None:
    if (leak := search.leaks(*texts)) is not None:
        tally.found(case, "leaks", leak)


async def _journaled(tally: Tally, name: str, url: str, search: Searcher, ids: list[str]) -> None:
    """All of it as a job: the files of the journal, and what is made of them."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path = place / "calls.journal"
        policy = RetryPolicy(max_attempts=1, max_throttled_attempts=1, max_server_wait=0.0)
        with Journal.open(path) as journal:
            async with CallsClient(KEYS[name], base_url=url, retry=policy) as client:
                ends = [await _outcome(client, call_id) for call_id in ids]
            journal.add(ids)
            journal.settle(ends)
            files = _files(place)
            render(journal.fetched(), place / "calls.jsonl")
            render_failures(journal.failed(), place / "failed.jsonl")
            render_failures(journal.failed(), place / "failed.csv")
            write_report(journal, place / "report.html")
            command = f"status {path}; status {path} --json; export {path} --errors {place}/x.csv"
            for args in command.split("; "):
                files[args] = await asyncio.to_thread(_command, args.split())
        files |= _files(place)
    for file, content in files.items():
        case = f"{name} key, {Path(file).name} of a job of {len(ids)}"
        tally.ends["file"] += 1
        _search(tally, case, search, [content.decode("latin-1")])


def _files(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


async def _outcome(client: CallsClient, call_id: str) -> Fetched | Failed:
    try:
        return await client.fetch_call(call_id)
    except CallsError as error:
        return Failed(id=call_id, error=error, attempts=1, elapsed=0.1)


def _command(args: list[str]) -> bytes:
    """All that a command prints."""
    result = CliRunner().invoke(app, args)
    assert result.exit_code in (0, 1), result.output
    return result.stdout_bytes + (result.stderr_bytes or b"")


async def _rotated(tally: Tally, writings: list[tuple[str, Callable[[str], str]]]) -> None:
    """A server may echo the key from before a rotation as well."""
    old, new = KEYS["live"], "sk_live_Mw3Tn8Qc5Zr1Vb7Xk9"
    search = Searcher(old, new)
    for writing, write in writings:
        keys = iter((old, new))

        def answer(exchange: Any, write: Any = write) -> bytes:
            status = "401 No" if exchange.number == 1 else "400 No"
            return http(f"{write(old)} {write(new)}".encode(), status=status)

        async with raw_server(answer) as server, listening() as said:
            told: list[Any] = []
            client = CallsClient(
                lambda keys=keys: next(keys), base_url=server.url, hooks=(told.append,)
            )
            async with client:
                case = f"rotated, {writing}"
                end = await tally.judge(case, client.get_call("call-1"), accept=lambda _: False)
        texts = [*said, *confessed(end), *(text for event in told[2:] for text in shown(event))]
        _search(tally, case, search, texts)


async def _ways(tally: Tally) -> None:
    """The key goes to the base URL's origin, and nowhere else."""
    key = KEYS["live"]
    search = Searcher(key)
    quick: Any = {"retry": RetryPolicy(max_attempts=1), "timeouts": Timeouts(total=5.0)}
    async with raw_server(http(record("call-1"))) as other:
        for status in (301, 302, 303, 307, 308, 300, 304):
            location = f"Location: {other.url}/v1/calls/call-1"
            async with (
                raw_server(http(b"", location, status=f"{status} Go")) as server,
                CallsClient(key, base_url=server.url, **quick) as client,
            ):
                await tally.judge(
                    f"redirect {status}", client.get_call("call-1"), accept=lambda _: False
                )
        if other.requests:
            tally.found("redirects", "leaks", "somebody else was asked")
    # An https URL through a proxy: it sees CONNECT, and nothing of the request.
    async with raw_server(http(b"", status="403 No")) as proxy:
        way = proxy.url.replace("//", "//user:Wt5Kz8Lm@")
        async with CallsClient(
            key, base_url="https://calls.example.com", proxy=way, **quick
        ) as client:
            end = await tally.judge("CONNECT", client.get_call("call-1"), accept=lambda _: False)
            texts = [*confessed(end), repr(client)]
        heads = [exchange.head.decode("latin-1") for exchange in proxy.requests]
        if not all(head.startswith("CONNECT calls.example.com:443 ") for head in heads):
            tally.found("CONNECT", "wrong", repr(heads))
        _search(tally, "CONNECT", search, [*heads, *texts])
        _search(tally, "the proxy's password", Searcher("Wt5Kz8Lm"), texts)
    # Plain http through a proxy would show it the key.
    for proxy_url in ("http://proxy.example.com:3128", "https://10.0.0.1", "http://u:p@[2001::1]"):
        made = _made(key, base_url="http://127.0.0.1:9", proxy=proxy_url)
        end = await tally.judge(f"http over {proxy_url}", made, accept=lambda _: False)
        _search(tally, f"http over {proxy_url}", search, list(shown(end)))


async def _made(key: str, **options: Any) -> CallsClient:
    return CallsClient(key, **options)
