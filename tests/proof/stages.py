"""What a client can be about when it is interrupted: every public coroutine in every kind of wait.

A stage is a server, a client over it, what has happened before, and the work that is interrupted.
The same stages are played in virtual time, where a unit is a second, and over real sockets, where
it is some milliseconds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs

from calls_async import (
    Call,
    CallsClient,
    CoolDownEntered,
    Failed,
    Limits,
    NotFoundError,
    RetryPolicy,
    Timeouts,
    gather_calls,
)
from calls_async._hedge import BURST, ENOUGH
from calls_async.journal import Journal, export_calls
from calls_async.testing import SANDBOX_KEY, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from calls_async import Event
    from calls_async.testing import FakeTransport, Sandbox

OLD_KEY = "sk_test_of_yesterday"


@attrs.define(kw_only=True)
class Scene:
    """A stage that is being played.

    Attributes:
        client: The client.
        server: What it talks to.
        unit: Seconds.
        patience: Seconds after which it hangs.
        folder: Where files may be written.
        bystanders: Calls that go on beside the work; none of them may be harmed.
        closed: Calls that the work itself ends, by closing their client.
    """

    client: CallsClient
    server: Sandbox | FakeTransport
    unit: float
    patience: float
    folder: Path
    bystanders: list[asyncio.Future[Call]] = attrs.field(factory=list)
    closed: list[asyncio.Future[Any]] = attrs.field(factory=list)

    async def rest(self, units: float = 1.0) -> None:
        await asyncio.sleep(units * self.unit)


@attrs.frozen(kw_only=True)
class Stage:
    """See above.

    Attributes:
        name: Its name.
        work: What is interrupted.
        right: Whether a result that comes out all the same is right.
        before: What happens before.
        options: The client's, by the seconds of a unit.
        faults: The server's, by the seconds of a unit.
        virtual: Whether it can be played in virtual time.
        real: Whether it can be played over sockets; some waits are seconds long whatever the unit.
    """

    name: str
    work: Callable[[Scene], Awaitable[Any]]
    right: Callable[[Any], bool]
    before: Callable[[Scene], Awaitable[Any]] | None = None
    options: Callable[[float], dict[str, Any]] = lambda _: {}
    virtual: bool = True
    real: bool = True


def faults(unit: float) -> dict[str, Any]:
    """A little of everything that makes a call wait.

    Where time is real, batches are not throttled: the pace that they learn from it takes seconds.
    """
    hint = {"Retry-After": "1", "retry-after-ms": f"{2_000 * unit:.0f}"}
    throttled = Fault.status(429, headers=hint)
    is_real = unit < 1.0
    return {
        "reset": [Fault.reset, Fault.status(500 if is_real else 503)],
        "throttled": [throttled],
        "busy": [Fault.status(500) if is_real else throttled],
        "stalled": [Fault.stall],
        "cut": [Fault.cut],
        "another": [Fault.wrong_id],
        "slow": Fault.slow(3.0 * unit),
        "late": [Fault.slow(50.0 * unit)],
        "missing": Fault.status(404),
        "stuck": Fault.stall,
    }


def common(unit: float) -> dict[str, Any]:
    """The options of every client that says nothing else."""
    return {
        "limits": Limits(max_concurrency=3),
        "timeouts": Timeouts(attempt=max(10.0 * unit, 0.1), total=60.0),
        "retry": RetryPolicy(backoff_base=0.05 * unit, throttle_backoff_base=0.1 * unit),
    }


BATCH = ["a", "reset", "a", "busy", "b", "stalled", "cut", "c", "another", "d"]
"""Ids that are fetched in the end, some of them after a detour; one comes twice."""
MIXED = [*BATCH, "missing", "", "e"]


async def arriving(scene: Scene, ids: list[str]) -> AsyncIterator[str]:
    for call_id in ids:
        await scene.rest(0.05)
        yield call_id


def is_call(call_id: str) -> Callable[[Any], bool]:
    return lambda result: isinstance(result, Call) and result.id == call_id


def are_calls(results: Any) -> bool:
    return [call.id for call in results] == BATCH


def are_mixed(results: Any) -> bool:
    ids = [getattr(result, "id", None) for result in results]
    return ids == [call_id if call_id not in ("missing", "") else None for call_id in MIXED]


def are_outcomes(outcomes: Any) -> bool:
    return sorted((outcome.index, outcome.id) for outcome in outcomes) == list(
        enumerate(MIXED)
    ) and ({outcome.id for outcome in outcomes if isinstance(outcome, Failed)} == {"missing", ""})


def get(call_id: str) -> Callable[[Scene], Awaitable[Any]]:
    return lambda scene: scene.client.get_call(call_id, timeout=50.0)


async def fetch_by_child(scene: Scene) -> Any:
    child = scene.client.with_options(timeouts=Timeouts(attempt=20.0 * scene.unit))
    return (await child.fetch_call("reset")).call


async def close_the_gate(scene: Scene) -> None:
    """Another call is asked to wait, and so the gate is closed for all."""
    closed = asyncio.Event()

    def hear(event: Event) -> None:
        if isinstance(event, CoolDownEntered):
            closed.set()

    # It is told, and not looked for: on a busy machine a few milliseconds are over before the look.
    told = scene.client.with_options(hooks=(hear,))
    scene.bystanders.append(asyncio.ensure_future(told.get_call("throttled", timeout=50.0)))
    await closed.wait()


async def take_the_permits(scene: Scene) -> None:
    for _ in range(3):
        scene.bystanders.append(asyncio.ensure_future(scene.client.get_call("slow", timeout=50.0)))
    await scene.rest(0.5)


def asked(*keys: str) -> Callable[[float], dict[str, Any]]:
    """A provider that takes its time, and gives one key after the other."""

    def options(unit: float) -> dict[str, Any]:
        left = list(keys)

        async def provider() -> str:
            await asyncio.sleep(0.2 * unit)
            return left.pop(0) if len(left) > 1 else left[0]

        return common(unit) | {"api_key": provider}

    return options


def hedged(unit: float) -> dict[str, Any]:
    return common(unit) | {"limits": Limits(max_concurrency=3, hedge=0.05)}


async def know_what_is_late(scene: Scene) -> None:
    hedge = scene.client._core.bind().hedge
    assert hedge is not None
    for _ in range(max(ENOUGH, int(BURST / 0.05))):
        hedge.started()
        hedge.observed(0.5 * scene.unit)


def with_strategies(unit: float) -> dict[str, Any]:
    async def retry(_: Any) -> bool:
        await asyncio.sleep(0.1 * unit)
        return True

    return common(unit) | {"retry": RetryPolicy(backoff_base=0.05 * unit, retry=retry)}


async def gather(scene: Scene) -> Any:
    return await scene.client.gather_calls(BATCH)


async def gather_mixed(scene: Scene) -> Any:
    ids = arriving(scene, MIXED)
    return await scene.client.gather_calls(ids, return_exceptions=True)


async def gather_and_fail(scene: Scene) -> Any:
    try:
        await scene.client.gather_calls(["slow", "stuck", "missing", *BATCH])
    except NotFoundError as exc:
        return exc


async def gather_alone(scene: Scene) -> Any:
    server: Any = scene.server
    options: Any = common(scene.unit)
    return await gather_calls(BATCH, api_key=SANDBOX_KEY, base_url=server.base_url, **options)


async def read(scene: Scene) -> Any:
    async with scene.client.stream_calls(arriving(scene, MIXED)) as outcomes:
        return [outcome async for outcome in outcomes]


async def read_by_hand(scene: Scene) -> Any:
    outcomes = scene.client.stream_calls(MIXED)
    try:
        return [await anext(outcomes) for _ in MIXED]
    finally:
        await outcomes.aclose()


async def leave_early(scene: Scene) -> Any:
    async with scene.client.stream_calls(arriving(scene, MIXED * 3)) as outcomes:
        async for outcome in outcomes:
            if outcome.index > 3:
                break


async def only_leave(scene: Scene) -> Any:
    outcomes = scene.client.stream_calls(arriving(scene, MIXED * 3))
    try:
        await anext(outcomes)
    finally:
        await outcomes.aclose()


async def use_as_context(scene: Scene) -> Any:
    async with scene.client as client:
        return await client.get_call("another")


async def close(scene: Scene) -> Any:
    """Close with calls in flight, on connections of which one is retired."""
    client = scene.client
    await client.get_call("another")
    scene.closed += [asyncio.ensure_future(client.get_call(i)) for i in ("slow", "stuck", "reset")]
    scene.closed.append(asyncio.ensure_future(client.gather_calls(["stuck", "b"])))
    await scene.rest(0.5)
    await client.close()


async def export(scene: Scene) -> Any:
    with Journal.open(scene.folder / "calls.journal") as journal:
        return await export_calls(scene.client, arriving(scene, MIXED), journal)


async def bring_it_back(scene: Scene) -> None:
    """Nobody answers, until some time later somebody does."""
    server: Any = scene.server
    server.reachable = False
    loop = asyncio.get_running_loop()
    loop.call_later(20.0 * scene.unit, lambda: setattr(server, "reachable", True))


STAGES = (
    Stage(name="a record at once", work=get("a"), right=is_call("a")),
    Stage(name="backoff", work=get("reset"), right=is_call("reset")),
    Stage(name="cool-down", work=get("throttled"), right=is_call("throttled")),
    Stage(name="attempt timeout", work=get("stalled"), right=is_call("stalled")),
    Stage(name="cut body", work=get("cut"), right=is_call("cut")),
    Stage(name="fresh connection", work=get("another"), right=is_call("another")),
    Stage(name="parked at the gate", work=get("a"), right=is_call("a"), before=close_the_gate),
    Stage(name="no permit", work=get("a"), right=is_call("a"), before=take_the_permits),
    Stage(name="first key", work=get("a"), right=is_call("a"), options=asked(SANDBOX_KEY)),
    Stage(
        name="another key", work=get("a"), right=is_call("a"), options=asked(OLD_KEY, SANDBOX_KEY)
    ),
    Stage(
        name="hedge",
        work=get("late"),
        right=is_call("late"),
        before=know_what_is_late,
        options=hedged,
    ),
    Stage(name="strategies", work=get("reset"), right=is_call("reset"), options=with_strategies),
    Stage(name="child", work=fetch_by_child, right=is_call("reset")),
    Stage(name="gather", work=gather, right=are_calls),
    Stage(name="gather, errors in place", work=gather_mixed, right=are_mixed),
    Stage(
        name="gather that fails",
        work=gather_and_fail,
        right=lambda result: isinstance(result, NotFoundError),
    ),
    Stage(name="gather of the module", work=gather_alone, right=are_calls, virtual=False),
    Stage(
        name="outage",
        work=gather,
        right=are_calls,
        before=bring_it_back,
        real=False,
    ),
    Stage(name="stream", work=read, right=are_outcomes),
    Stage(name="stream by hand", work=read_by_hand, right=are_outcomes),
    Stage(name="stream left early", work=leave_early, right=lambda result: result is None),
    Stage(name="aclose", work=only_leave, right=lambda result: result is None),
    Stage(name="async with", work=use_as_context, right=is_call("another")),
    Stage(name="close", work=close, right=lambda result: result is None),
    Stage(
        name="export",
        work=export,
        right=lambda status: (status.asked, status.fetched, status.left) == (12, 10, 0),
        virtual=False,
    ),
)
