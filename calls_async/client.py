"""The client: its lifecycle and every public method; the work is done in the rooms below."""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, overload

import attrs

from calls_async import config
from calls_async._attempt import Line
from calls_async._core import Core, Job, transport_of
from calls_async._fetch import Fetcher, ToldFetcher
from calls_async._secret import ApiKey
from calls_async._telling import Teller
from calls_async.bulk._gather import gather
from calls_async.bulk._source import CallIds, checked
from calls_async.bulk._stream import OutcomeStream
from calls_async.config import ClientConfig, KeyProvider, Limits, RetryPolicy, Timeouts
from calls_async.errors import ConfigurationError
from calls_async.outcomes import Failed, Fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from ssl import SSLContext
    from types import TracebackType
    from typing import Unpack

    from aiohttp import ClientSession

    from calls_async._transport import Transport
    from calls_async.errors import CallsError
    from calls_async.events import Hook, Statistics
    from calls_async.fleet import FleetPace
    from calls_async.models import Call

__all__ = ["CallsClient", "ClientOptions", "gather_calls"]


class ClientOptions(TypedDict, total=False):
    """What `gather_calls` passes on to the client that it opens; see `CallsClient`."""

    api_key: str | KeyProvider | None
    base_url: str | None
    retry: RetryPolicy
    timeouts: Timeouts
    limits: Limits
    session: ClientSession | None
    ssl: SSLContext | None
    proxy: str | None
    trust_env: bool
    allow_http: bool
    headers: Mapping[str, str] | None
    user_agent: str | None
    hooks: Iterable[Hook]
    pace: FleetPace | None


class CallsClient:
    """The client for the Calls API.

    It opens its connections with the first call, and belongs to the event loop and the process in
    which that happens. Use it as an async context manager, or close it::

        async with CallsClient() as client:
            call = await client.get_call("123e4567-e89b-12d3-a456-426614174000")

    Args:
        api_key: The API key, or a function (or coroutine function) without arguments that gives it
            and is asked again after a 401, once per key. Without it: the variable `CALLS_API_KEY`.
        base_url: Where the API is, such as `https://api.example.com`; a path prefix is kept.
            Without it: the variable `CALLS_BASE_URL`.
        retry: When failed attempts are repeated.
        timeouts: How long things may take, in seconds.
        limits: What the client may take of the server and of this machine.
        session: An `aiohttp.ClientSession` to use; it is never closed. `ssl` and `proxy` go with
            each request, so they work with it too.
        ssl: A TLS context, for a private authority or a client certificate.
        proxy: The URL of an http proxy.
        trust_env: Whether `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` may name the proxy.
        allow_http: Whether plain http may leave this machine.
        headers: Further headers for each request.
        user_agent: The `User-Agent` header, in place of the library's own.
        hooks: Called with every event; see `calls_async.events`. A hook may also add header fields
            to each request (`HeaderHook`) and look at the statistics (`ObservingHook`).
        pace: What hands out the starts of a fleet that shares one limit, such as
            `calls_async.engines.redis.SharedPace`; it is closed with the client.

    Raises:
        ConfigurationError: An option, or an environment variable, cannot be used.
    """

    _core: Core
    _config: ClientConfig
    _fetcher: Fetcher | None
    _owns_core: bool

    def __init__(
        self,
        api_key: str | KeyProvider | None = None,
        *,
        base_url: str | None = None,
        retry: RetryPolicy = RetryPolicy(),
        timeouts: Timeouts = Timeouts(),
        limits: Limits = Limits(),
        session: ClientSession | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        allow_http: bool = False,
        headers: Mapping[str, str] | None = None,
        user_agent: str | None = None,
        hooks: Iterable[Hook] = (),
        pace: FleetPace | None = None,
    ) -> None:
        try:
            source = config.resolve_key(api_key, os.environ)
        finally:
            del api_key  # tools that print a traceback's locals shall not find it in this frame
        settings = ClientConfig(
            source=source,
            base_url=config.resolve_base_url(base_url, os.environ, allow_http=allow_http),
            retry=retry,
            timeouts=timeouts,
            limits=limits,
            session=session,
            ssl=config.check_ssl(ssl),
            proxy=config.check_proxy(proxy),
            trust_env=trust_env,
            allow_http=allow_http,
            headers=config.check_headers(headers),
            user_agent=config.check_user_agent(user_agent),
            hooks=config.check_hooks(hooks),
            pace=config.check_pace(pace),
        )
        self._set_up(settings, Core(settings, transport_of(settings)), owns_core=True)

    def _set_up(self, settings: ClientConfig, core: Core, *, owns_core: bool) -> None:
        self._config = settings
        self._core = core
        self._owns_core = owns_core
        self._fetcher = None

    @classmethod
    def _over(
        cls,
        transport: Transport,
        *,
        api_key: str | KeyProvider = "sk_test_transport",
        base_url: str = "http://127.0.0.1",
        **options: Any,
    ) -> Self:
        """A client over another transport; this is how `calls_async.testing` puts in its fake."""
        client = cls(api_key, base_url=base_url, **options)
        client._core = Core(client._config, transport)
        return client

    def with_options(
        self,
        *,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        hooks: Iterable[Hook] | None = None,
    ) -> Self:
        """A client with other policies, on the same connections, key and gate.

        Closing it closes nothing; it ends with the client that it comes from.

        Args:
            retry: In place of this client's.
            timeouts: In place of this client's.
            hooks: In place of this client's.
        """
        settings = attrs.evolve(
            self._config,
            retry=self._config.retry if retry is None else retry,
            timeouts=self._config.timeouts if timeouts is None else timeouts,
            hooks=self._config.hooks if hooks is None else config.check_hooks(hooks),
        )
        child = type(self).__new__(type(self))
        child._set_up(settings, self._core, owns_core=False)  # noqa: SLF001 (the same class)
        return child

    # --- Calls ---------------------------------------------------------------------------------

    async def get_call(self, call_id: str, *, timeout: float | None = None) -> Call:
        """Fetch one call.

        Args:
            call_id: The id, any text; it is sent as one path segment.
            timeout: Seconds for the whole call, in place of `Timeouts.total`.

        Returns:
            The record of this very id.

        Raises:
            CallsError: There is no record, and the error says why.
        """
        total = None if timeout is None else config.check_timeout(timeout)
        fetcher, scope = self._ready(), self._core.scope
        scope.began()
        try:
            outcome = await fetcher.fetch(call_id, 0, scope, total)
        finally:
            scope.ended()
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome.call

    async def fetch_call(self, call_id: str, *, timeout: float | None = None) -> Fetched:
        """Fetch one call, with the record as received and what it took.

        Args:
            call_id: The id, any text; it is sent as one path segment.
            timeout: Seconds for the whole call, in place of `Timeouts.total`.

        Raises:
            CallsError: There is no record, and the error says why.
        """
        total = None if timeout is None else config.check_timeout(timeout)
        fetcher, scope = self._ready(), self._core.scope
        scope.began()
        try:
            outcome = await fetcher.fetch(call_id, 0, scope, total)
        finally:
            scope.ended()
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    @overload
    async def gather_calls(
        self, ids: CallIds, *, return_exceptions: Literal[False] = False
    ) -> list[Call]: ...

    @overload
    async def gather_calls(
        self, ids: CallIds, *, return_exceptions: Literal[True]
    ) -> list[Call | CallsError]: ...

    @overload
    async def gather_calls(
        self, ids: CallIds, *, return_exceptions: bool
    ) -> list[Call] | list[Call | CallsError]: ...

    async def gather_calls(
        self, ids: CallIds, *, return_exceptions: bool = False
    ) -> list[Call] | list[Call | CallsError]:
        """Fetch many calls, as `asyncio.gather` would.

        Args:
            ids: Any (async) iterable of ids. An id that occurs more than once is fetched once.
            return_exceptions: Whether an id that fails puts its error in its place; otherwise the
                first final failure cancels the rest, awaits it, and is raised.

        Returns:
            One entry for each id, in the order of the ids.

        Raises:
            CallsError: A call failed for good. An invalid id is found before anything is sent.
        """
        return await gather(
            self._open_job, ids, width=self._width, return_exceptions=return_exceptions
        )

    def stream_calls(self, ids: CallIds) -> OutcomeStream:
        """Fetch any number of calls in constant memory, and have their outcomes as they come.

        Args:
            ids: Any (async) iterable of ids, endless ones included. It is read as the outcomes are
                consumed; an ordinary iterator must not block.

        Returns:
            An async iterator of `Fetched` and `Failed`, and an async context manager that ends the
            work on the way out. `index` says which occurrence an outcome belongs to.

        Raises:
            ConfigurationError: `ids` is nothing that holds ids.
        """
        return OutcomeStream(self._open_job, checked(ids), width=self._width)

    # --- Lifecycle -----------------------------------------------------------------------------

    async def close(self, *, grace: float = 0.0) -> None:
        """Close the client: at once, or after letting it finish what it has begun.

        From now on no call begins. A stream takes no further id from its source; of a gather, ids
        that were not begun fail. Calls under way go on, retries and waits included, until all of
        them have ended or the time of grace is over; what has not ended then, and what waits for
        longer than that because the server asked for silence, ends with a `ClientClosedError`. Then
        the connections are closed.

        It may be called again, also while another `close` is still waiting: the shorter time of
        grace holds. If it is cancelled, everything ends at once. On a client made by `with_options`
        it does nothing.

        Args:
            grace: Seconds that calls under way may take; with 0 they end at once.

        Raises:
            ConfigurationError: `grace` is no finite number from zero on.
        """
        config.check_grace(grace)
        if self._owns_core:
            await self._core.close(grace)

    async def __aenter__(self) -> Self:
        self._core.bind()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def statistics(self) -> Statistics:
        """What the client has done so far and does now, its `with_options` children included."""
        return self._core.statistics()

    def __repr__(self) -> str:
        if "_core" not in vars(self):  # an option was refused, and a debugger looks at the frame
            return f"<{type(self).__name__}, not made>"
        scope, state = self._core.scope, ""
        if scope.closing is not None:
            state = ", closing" if scope.stopped is None else ", closed"
        return f"<{type(self).__name__} of {self._config.base_url}{state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """The client pickles as its configuration; a key that is a text stays behind.

        Raises:
            ConfigurationError: A part of the configuration cannot be pickled.
        """
        settings = self._config
        options = attrs.asdict(settings, recurse=False)
        source = options.pop("source")
        options["api_key"] = None if isinstance(source, ApiKey) else source
        for name, value in options.items():
            try:
                pickle.dumps(value)
            except Exception as exc:  # noqa: BLE001 (whatever the object's own code raises)
                problem = ConfigurationError(
                    f"CallsClient({name}=...) cannot be pickled: {type(exc).__name__}; "
                    "make the client where it is used, or give an importable function"
                )
                raise problem from None
        return _restored, (type(self), options)

    # --- Inside --------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        # Calls that wait for their next try hold no permit, so more ids than permits are on their
        # way: the permits stay in use while some wait.
        return 2 * self._config.limits.max_concurrency

    def _ready(self) -> Fetcher:
        """The fetcher, made when the event loop is known."""
        throttle = self._core.bind()
        fetcher = self._fetcher
        if fetcher is None:
            fetcher = self._fetcher = (ToldFetcher if self._config.hooks else Fetcher)(
                line=Line(
                    transport=self._core.transport,
                    throttle=throttle,
                    counters=self._core.counters,
                    tell=self._teller(),
                    loop=asyncio.get_running_loop(),
                    calls_url=f"{self._config.base_url}/v1/calls/",
                ),
                credentials=self._core.credentials,
                policy=self._config.retry,
                timeouts=self._config.timeouts,
            )
        return fetcher

    def _teller(self) -> Teller | None:
        """What tells the hooks; `None` where there are none."""
        if not self._config.hooks:
            return None
        taken = {"accept", "user-agent", *map(str.lower, self._config.headers)}
        teller = Teller(self._config.hooks, taken)
        teller.introduce(self._core.statistics)
        return teller

    def _open_job(self, on_sleep: Callable[[], None]) -> Job:
        patience = self._config.limits.patience
        return Job(self._core, self._ready(), patience=patience, on_sleep=on_sleep)


def _restored(cls: type[CallsClient], options: ClientOptions) -> CallsClient:
    return cls(**options)


@overload
async def gather_calls(
    ids: CallIds, *, return_exceptions: Literal[False] = False, **options: Unpack[ClientOptions]
) -> list[Call]: ...


@overload
async def gather_calls(
    ids: CallIds, *, return_exceptions: Literal[True], **options: Unpack[ClientOptions]
) -> list[Call | CallsError]: ...


@overload
async def gather_calls(
    ids: CallIds, *, return_exceptions: bool, **options: Unpack[ClientOptions]
) -> list[Call] | list[Call | CallsError]: ...


async def gather_calls(
    ids: CallIds, *, return_exceptions: bool = False, **options: Unpack[ClientOptions]
) -> list[Call] | list[Call | CallsError]:
    """Fetch many calls with a client that is opened for them and closed after them.

    Args:
        ids: Any (async) iterable of ids; see `CallsClient.gather_calls`.
        return_exceptions: Whether an id that fails puts its error in its place.
        **options: The client's options; see `CallsClient`.

    Returns:
        One entry for each id, in the order of the ids.

    Raises:
        CallsError: A call failed for good, or the client could not be made.
    """
    try:
        client = CallsClient(**options)
    finally:
        del options  # tools that print a traceback's locals shall not find the key in this frame
    async with client:
        return await client.gather_calls(ids, return_exceptions=return_exceptions)
