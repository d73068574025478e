"""An asyncio server with a latency; the rule: it is so lean that the client is what is measured.

It runs in a process of its own, with uvloop where that is installed: `python -m benchmarks.servers`
opens a plain port, and one for TLS where there is a certificate, and prints both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from benchmarks.certificate import Certificate
from benchmarks.machine import Served, on_core
from benchmarks.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG: Final = 4_096
"""All clients connect at once: with a shorter queue some of them try again after a second."""


class Server(asyncio.Protocol):
    """Answers each GET after a while with the record of the id asked for.

    Args:
        latency: Seconds until an answer.
    """

    _numbers = itertools.count()

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        received = self._received + data if self._received else data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            target = received[: received.index(b" ", 4)]
            received = received[end + 4 :]
            if self._latency:
                self._loop.call_later(self._latency, self._answer, target)
            else:
                self._answer(target)
        self._received = received

    def _answer(self, target: bytes) -> None:
        body = record(target[target.rindex(b"/") + 1 :])
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: keep-alive\r\nx-request-id: %032x\r\n\r\n%b"
            % (len(body), next(self._numbers), body)
        )


async def serve(latency: float, chain: Path | None) -> None:
    """Serve until the process ends, and print the ports."""
    loop = asyncio.get_running_loop()
    contexts = [None, Certificate(chain, chain).context()] if chain else [None]
    servers = [
        await loop.create_server(
            lambda: Server(latency), "127.0.0.1", 0, ssl=context, backlog=BACKLOG
        )
        for context in contexts
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    # Whoever started it holds the other end of its input: it ends with that process.
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def asyncio_server(
    latency: float, certificate: Certificate | None, core: int | None
) -> Iterator[Served]:
    """Such a server in a process of its own, until the block ends."""
    command = [sys.executable, "-m", "benchmarks.servers", "--latency", str(latency)]
    if certificate is not None:
        command += ["--chain", str(certificate.chain)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with on_core(core):
        process = subprocess.Popen(command, **pipes)  # noqa: S603 (this module)
    with process:
        try:
            assert process.stdout is not None
            plain, tls = (*process.stdout.readline().split(), "0")[:2]
            yield Served(
                name=f"an asyncio server with {latency * 1e3:g} ms",
                plain=f"http://127.0.0.1:{plain}",
                tls=f"https://127.0.0.1:{tls}",
                authority=Path() if certificate is None else certificate.authority,
                process=process.pid,
            )
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description="The server of the bench that has a latency.")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--chain", type=Path, help="key and certificate, for TLS")
    given = parser.parse_args()
    run: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 (where it is installed)

        run = uvloop.run
    run(serve(given.latency, given.chain))


if __name__ == "__main__":
    main()
