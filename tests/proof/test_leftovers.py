"""The look at what was left behind sees each kind of it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.proof.leftovers import nothing_left
from tests.proof.tally import Tally


async def forgets_an_exception():
    """A task that fails, and whose failure nobody asks for."""

    async def fail():
        raise ValueError("nobody hears me")

    asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0)


async def forgets_a_socket():
    """A socket that is left to the collector."""
    socket.socket()


async def fails_in_a_destructor():
    """An object whose destructor raises."""

    class Failing:
        def __del__(self):
            raise ValueError("too late")

    Failing()


async def never_awaits():
    """A coroutine that is made and dropped."""
    asyncio.sleep(0)


@pytest.mark.parametrize(
    ("what", "heard"),
    [
        (forgets_an_exception, "the loop: Task exception was never retrieved"),
        (forgets_a_socket, "ResourceWarning: unclosed"),
        (fails_in_a_destructor, "the collector: ValueError"),
        (never_awaits, "RuntimeWarning: coroutine 'sleep' was never awaited"),
    ],
)
async def test_what_is_complained_of_is_heard(what, heard):
    """A complaint of the loop, of the collector or of Python is a leak of those cases."""
    tally = Tally("leaks")
    async with nothing_left(tally, "these cases"):
        await what()
    (leak,) = tally.leaks
    assert leak.startswith(f"these cases: {heard}")


async def test_what_goes_on_is_seen():
    """A task that runs, a timer that waits, an open socket: each is a leak, by its name."""
    tally = Tally("leaks")
    async with nothing_left(tally, "these cases"):
        task = asyncio.create_task(asyncio.Event().wait())
        timer = asyncio.get_running_loop().call_later(60, print)
        wire = socket.socket()
    kinds = [leak.removeprefix("these cases: ").partition(":")[0] for leak in tally.leaks]
    wire.close()
    timer.cancel()
    task.cancel()
    assert kinds == ["tasks", "timers", "sockets"]


async def test_nothing_is_nothing():
    """What is put away in time is no leak, and the loop's own handler is back afterwards."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    tally = Tally("leaks")
    async with nothing_left(tally, "these cases"):
        with socket.socket():
            await asyncio.create_task(asyncio.sleep(0))
    assert not tally.bad
    assert loop.get_exception_handler() is before
