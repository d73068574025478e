"""Serving a sandbox; the rule: two lines on standard output say how to reach it, ready to copy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from calls_async.cli._exits import CommandError, Exit
from calls_async.cli._terminal import talk
from calls_async.cli._words import count
from calls_async.config import BASE_URL_VARIABLE, KEY_VARIABLE

if TYPE_CHECKING:
    from calls_async.testing import Ledger, Sandbox


async def serve(sandbox: Sandbox) -> None:
    """Serve until the task is cancelled, then say what there was.

    Raises:
        CommandError: The port is not to be had.
    """
    try:
        await sandbox.start()
    except OSError as exc:
        raise CommandError(
            f"cannot listen on port {sandbox.port}: {exc.strerror}; choose another --port",
            Exit.USAGE,
        ) from exc
    try:
        click.echo(f"export {BASE_URL_VARIABLE}={sandbox.base_url}")
        click.echo(f"export {KEY_VARIABLE}={sandbox.api_key}")
        talk("Serving calls: copy these lines to another terminal. Ctrl-C ends it.")
        await asyncio.get_running_loop().create_future()  # which nobody sets
    finally:
        await sandbox.stop()
        talk(f"{count(len(sandbox.ledger), 'request')}. {_how(sandbox.ledger)}".strip())


def _how(ledger: Ledger) -> str:
    """How often which status was answered."""
    counts = sorted(ledger.by_status.items(), key=lambda item: item[0] or 0)
    return ", ".join(f"{status or 'no whole answer'}: {number:,}" for status, number in counts)
