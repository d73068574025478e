"""TLS: each way in which a secure connection can be refused, by either side, and the good ones.

Every case is asked once by `get_call`, and in full also by a batch and a stream of some ids, over
TLS 1.2 and 1.3 where the kind exists in both. A refusal must be a `TLSError` that says which check
failed, after one connection for each id and no request, and the key is in nothing that it tells.
Certificates are made on the spot. Revocation is left out: Python's default context does not ask for
it, and the client adds nothing to the context that it is given.
"""

from __future__ import annotations

import pickle
import ssl
import traceback
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import attrs
import trustme

from calls_async import Call, CallsClient, CallsError, Failed, Fetched, TLSError
from tests.kit import call_ids, other_tasks
from tests.proof.tally import Tally
from tests.tlsserver import tls_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.tlsserver import TLSServer

SECRET: Final = "Zq7Xw9Kd2Lm4Pv8Rt1Yb6Nc3Hf5Gj0"
KEY: Final = f"sk_live_{SECRET}"
RUNS: Final = {SECRET[at : at + 6] for at in range(len(SECRET) - 5)}
IDS: Final = call_ids(12)
"""What a batch asks for; fewer than the permits at the start, so all are on their way at once."""
DAY: Final = timedelta(days=1)

OURS: Final = trustme.CA()
"""The authority that both sides trust."""
OTHER: Final = trustme.CA()
"""One that nobody trusts."""


def serving(
    *names: str, authority: trustme.CA = OURS, since: float = -1.0, until: float = 1.0
) -> ssl.SSLContext:
    """A server's context, with a certificate that is valid between so many days from now."""
    now = datetime.now(UTC)
    issued = authority.issue_cert(
        *(names or ("127.0.0.1",)), not_before=now + since * DAY, not_after=now + until * DAY
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    return context


def serving_itself() -> ssl.SSLContext:
    """A server whose certificate nobody but itself has signed: an authority's own."""
    alone = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with alone.private_key_pem.tempfile() as key, alone.cert_pem.tempfile() as certificate:
        context.load_cert_chain(certificate, key)
    return context


def serving_the_old() -> ssl.SSLContext:
    """A server that knows nothing newer than TLS 1.1."""
    context = serving()
    with warnings.catch_warnings():  # that it is old is the point
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def serving_one_cipher() -> ssl.SSLContext:
    """A server of TLS 1.2 that knows one cipher alone."""
    context = serving()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    return context


def demanding() -> ssl.SSLContext:
    """A server that wants to see a client certificate of our authority."""
    context = serving()
    context.verify_mode = ssl.CERT_REQUIRED
    OURS.configure_trust(context)
    return context


def trusting(shown: trustme.CA | None = None) -> ssl.SSLContext:
    """A client's context that trusts our authority, and shows a certificate if it is given one."""
    context = ssl.create_default_context()
    OURS.configure_trust(context)
    if shown is not None:
        shown.issue_cert("worker@example.org").configure_cert(context)
    return context


def trusting_another_cipher() -> ssl.SSLContext:
    """A client that does not know the one cipher of `serving_one_cipher`."""
    context = trusting()
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    return context


BOTH: Final = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@attrs.frozen
class Kind:
    """One way in which a connection is secured, or is not.

    Attributes:
        name: What is special about it.
        server: Makes the server's context; `None`: it speaks plain http.
        client: Makes the client's context; `None`: the system's authorities.
        says: What the error's message must hold, one of them; empty: nothing is wrong.
        versions: The versions of TLS that the server is held to, in turn; empty: as it comes.
    """

    name: str
    server: Callable[[], ssl.SSLContext] | None
    client: Callable[[], ssl.SSLContext] | None
    says: tuple[str, ...] = ()
    versions: tuple[ssl.TLSVersion, ...] = BOTH


KINDS: Final = (
    Kind("good", serving, trusting),
    Kind("good by name", lambda: serving("127.0.0.1", "localhost"), trusting),
    Kind("client certificate given", demanding, lambda: trusting(OURS)),
    Kind("expired", lambda: serving(since=-9, until=-1), trusting, ("certificate has expired",)),
    Kind(
        "not yet valid",
        lambda: serving(since=1, until=9),
        trusting,
        ("certificate is not yet valid",),
    ),
    Kind(
        "another host", lambda: serving("wrong.example"), trusting, ("not valid for '127.0.0.1'",)
    ),
    Kind("another address", lambda: serving("127.0.0.2"), trusting, ("not valid for '127.0.0.1'",)),
    Kind(
        "unknown authority",
        lambda: serving(authority=OTHER),
        trusting,
        ("unable to get local issuer certificate",),
    ),
    Kind("unknown to the system", serving, None, ("unable to get local issuer certificate",)),
    Kind(
        "self-signed",
        serving_itself,
        trusting,
        ("self-signed certificate", "self signed certificate"),
    ),
    Kind("old protocol", serving_the_old, trusting, ("protocol version",), ()),
    Kind(
        "no common cipher", serving_one_cipher, trusting_another_cipher, ("handshake failure",), ()
    ),
    Kind("plain http on the port", None, trusting, ("wrong version number", "record layer"), ()),
    Kind(
        "client certificate missing",
        demanding,
        trusting,
        ("certificate required", "handshake failure"),
    ),
    Kind("client certificate of others", demanding, lambda: trusting(OTHER), ("unknown ca",)),
)

WAYS: Final = ("get_call", "gather_calls", "stream_calls")


async def sweep(*, short: bool) -> Tally:
    """Go through all of them; the short form asks for one call each."""
    tally = Tally("TLS")
    for kind in KINDS:
        for version in kind.versions or (None,):
            for way in WAYS[:1] if short else WAYS:
                name = f"{kind.name}, {version.name if version else 'as it comes'}, {way}"
                await _one(tally, name, kind, version, way)
    return tally


async def _one(
    tally: Tally, case: str, kind: Kind, version: ssl.TLSVersion | None, way: str
) -> None:
    context = None if kind.server is None else kind.server()
    if context is not None and version is not None:
        context.minimum_version = context.maximum_version = version
    trusted = None if kind.client is None else kind.client()
    ids = IDS[:1] if way == WAYS[0] else IDS
    tasks = other_tasks()
    got: list[Call | CallsError] = []
    with tls_server(context) as server:
        async with CallsClient(KEY, base_url=server.url, ssl=trusted) as client:
            work = _asked(client, way, ids, got)
            await tally.judge(case, work, accept=lambda calls: _right(kind, ids, calls))
            requests = client.statistics().requests
        if kind.says:
            for error in got:
                for problem in _problems(kind, error):
                    tally.found(case, "wrong", problem)
                for leak in _leaks(error):
                    tally.found(case, "leaks", leak)
        for problem in _miscounts(kind, len(ids), server, requests):
            tally.found(case, "wrong", problem)
    if left := other_tasks() - tasks:
        tally.found(case, "leaks", repr(left))


async def _asked(
    client: CallsClient, way: str, ids: list[str], got: list[Call | CallsError]
) -> list[Call | CallsError]:
    """What became of each id, which also goes into `got`; the first error is raised."""
    if way == "get_call":
        try:
            got.append(await client.get_call(ids[0]))
        except CallsError as exc:
            got.append(exc)
    elif way == "gather_calls":
        got += await client.gather_calls(ids, return_exceptions=True)
    else:
        ends: dict[str, Call | CallsError] = {}
        async with client.stream_calls(ids) as outcomes:
            async for outcome in outcomes:
                match outcome:
                    case Fetched(id=call_id, call=call):
                        ends[call_id] = call
                    case Failed(id=call_id, error=error):
                        ends[call_id] = error
        got += [ends[call_id] for call_id in ids]
    for end in got:
        if isinstance(end, CallsError):
            raise end
    return got


def _right(kind: Kind, ids: list[str], got: list[Call | CallsError]) -> bool:
    """Whether there were to be records, and each id has its own."""
    return not kind.says and [each.id for each in got if isinstance(each, Call)] == ids


def _problems(kind: Kind, error: object) -> Iterable[str]:
    """What is wrong with the error of a refused connection."""
    if not isinstance(error, TLSError):
        yield f"{error!r} is no TLSError"
        return
    if error.attempts != 1:
        yield f"{error.attempts} attempts"
    told = error.message.lower()
    if not any(words.lower() in told for words in kind.says):
        yield f"the message does not say {' or '.join(kind.says)}: {error.message}"
    if str(pickle.loads(pickle.dumps(error))) != str(error):
        yield "its pickle is another"


def _leaks(error: object) -> Iterable[str]:
    """What of the key can be read in the error."""
    if not isinstance(error, CallsError):
        return
    told = repr(error) + "".join(traceback.format_exception(error)) + repr(pickle.dumps(error))
    yield from (run for run in RUNS if run in told)


def _miscounts(kind: Kind, ids: int, server: TLSServer, requests: int) -> Iterable[str]:
    """Where the server saw something else than was to be sent."""
    if kind.says:
        if server.requests:
            yield f"{len(server.requests)} requests reached the server"
        if server.connections != ids:
            yield f"{server.connections} connections for {ids} ids"
    elif not len(server.requests) == requests == ids:
        yield f"{len(server.requests)} requests came, {requests} were counted, for {ids} ids"
