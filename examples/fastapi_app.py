"""A FastAPI application that reads calls: `uvicorn examples.fastapi_app:app`."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from calls_async import (
    AttemptTimeoutError,
    CallsClient,
    CallsError,
    ClientClosedError,
    DeadlineExceededError,
    Failed,
    Fetched,
    InvalidCallIdError,
    NotFoundError,
    RateLimitedError,
    Timeouts,
    unstructure_call,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from starlette.types import Receive, Scope, Send

T = TypeVar("T")
log = logging.getLogger(__name__)


# --- The client lives as long as the application -------------------------------------------------


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client, and at the end let it finish what background tasks have begun."""
    timeouts = Timeouts(attempt=3.0, total=8.0)  # shorter than who asks is willing to wait
    async with CallsClient(timeouts=timeouts) as client:  # CALLS_API_KEY, CALLS_BASE_URL
        app.state.calls = client
        yield
        await client.close(grace=5.0)


app = FastAPI(lifespan=lifespan)


def calls_client(request: Request) -> CallsClient:
    """The client, for routes that ask for it."""
    client: CallsClient = request.app.state.calls
    return client


Calls = Annotated[CallsClient, Depends(calls_client)]


# --- Routes --------------------------------------------------------------------------------------


@app.get("/calls/{call_id}")
async def read_call(call_id: str, calls: Calls, request: Request) -> Response:
    """One call, as the API has sent it."""
    fetched = await unless_gone(request, calls.fetch_call(call_id))
    return Response(fetched.raw, media_type="application/json")


@app.post("/calls")
async def read_calls(ids: list[str], calls: Calls) -> StreamingResponse:
    """Many calls, each a line of JSON, as they come."""
    return ClosingResponse(lines(calls, ids), media_type="application/x-ndjson")


class ClosingResponse(StreamingResponse):
    """A stream that is closed when nobody reads it any more; some servers leave it open."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        content: Any = self.body_iterator
        async with aclosing(content):
            await super().__call__(scope, receive, send)


async def lines(calls: CallsClient, ids: list[str]) -> AsyncIterator[bytes]:
    """A line for each id, and one more if the batch could not go on."""
    try:
        async with calls.stream_calls(ids) as outcomes:
            async for outcome in outcomes:
                match outcome:
                    case Fetched(call=call):
                        yield line(unstructure_call(call))
                    case Failed(id=call_id, error=error):
                        yield line({"id": call_id, "error": type(error).__name__})
    except CallsError as error:  # the status has long been sent
        yield line({"error": type(error).__name__})


def line(content: dict[str, Any]) -> bytes:
    """One line of JSON."""
    return json.dumps(content).encode() + b"\n"


# --- Who hangs up cancels ------------------------------------------------------------------------


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the one who asked has gone; Starlette would not."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(hung_up(request))
    try:
        await asyncio.wait([working, listening], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "nobody waits for the answer any more")
        return working.result()
    finally:
        working.cancel()
        listening.cancel()
        await asyncio.wait([working, listening])


async def hung_up(request: Request) -> None:
    """Wait until the connection is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# --- Errors are answers --------------------------------------------------------------------------


@app.exception_handler(CallsError)
async def answer(request: Request, error: CallsError) -> JSONResponse:
    """What an error means to the one who asked; whatever is nobody's fault there is a 502."""
    silence = request.app.state.calls.statistics().cool_down
    match error:
        case InvalidCallIdError():
            status = 422
        case NotFoundError():
            status = 404
        case RateLimitedError(retry_after=seconds):
            status, silence = 503, max(silence, seconds or 1.0)
        case ClientClosedError():
            status, silence = 503, 1.0
        case DeadlineExceededError() | AttemptTimeoutError():
            status = 503 if silence else 504
        case _:
            status = 502
    if status >= 500:
        log.warning("%s: %s", type(error).__name__, error)
    headers = {"Retry-After": str(math.ceil(silence))} if status == 503 else {}
    content = {"error": type(error).__name__, "call_id": error.call_id}
    return JSONResponse(content, status, headers)
