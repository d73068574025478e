"""A TLS server that refuses as real ones do: with an alert, which the client gets to read.

asyncio's own server drops a connection whose handshake fails, and a client then sees a reset where
nginx and OpenSSL send "protocol version" or "certificate required". So this one is made of threads
and OpenSSL. It listens on loopback, answers each request with that id's record, and keeps what it
was sent.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs

from tests.rawserver import http, record

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 5.0
"""Seconds that a connection may be silent."""


@attrs.define(eq=False)
class TLSServer:
    """What a test sees of its server.

    Attributes:
        url: Its base URL, by address and with https.
        connections: How many were opened.
        handshakes: How many of them became secure, as far as the server knows.
        requests: The heads of the requests that came, decrypted.
    """

    url: str
    connections: int = 0
    handshakes: int = 0
    requests: list[bytes] = attrs.field(factory=list)
    _threads: list[threading.Thread] = attrs.field(factory=list)
    _open: list[socket.socket] = attrs.field(factory=list)


@contextmanager
def tls_server(context: ssl.SSLContext | None) -> Iterator[TLSServer]:
    """Serve until the block ends.

    Args:
        context: The server's side of TLS; `None`: it speaks plain http on this port.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = TLSServer(f"https://127.0.0.1:{listener.getsockname()[1]}")

    def accept() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:  # the block has ended
                return
            wire.settimeout(LONGEST)
            server.connections += 1
            if context is not None:
                wire = context.wrap_socket(wire, server_side=True, do_handshake_on_connect=False)
            thread = threading.Thread(target=_serve, args=(server, wire), daemon=True)
            server._open.append(wire)
            server._threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # close alone would not wake who accepts
        listener.close()
        acceptor.join()
        for wire in server._open:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        for thread in server._threads:
            thread.join()


def _serve(server: TLSServer, wire: socket.socket) -> None:
    with wire, suppress(OSError):
        try:
            if isinstance(wire, ssl.SSLSocket):
                wire.do_handshake()
                server.handshakes += 1
            _answer(server, wire)
        except ssl.SSLError:
            # The alert is sent. To close now, with bytes of the client unread, would be a reset,
            # and a reset takes back what the client has not read yet.
            wire.shutdown(socket.SHUT_WR)
            while wire.recv(4096):
                pass


def _answer(server: TLSServer, wire: socket.socket) -> None:
    """Answer each request, until the client hangs up."""
    while True:
        head = b""
        while b"\r\n\r\n" not in head:
            part = wire.recv(4096)
            if not part:
                return
            head += part
            if not isinstance(wire, ssl.SSLSocket) and head[0] == 0x16:
                # A TLS handshake where plain http is spoken: what web servers answer to that.
                wire.sendall(http(b"", "Connection: close", status="400 Bad Request"))
                wire.shutdown(socket.SHUT_WR)
        server.requests.append(head)
        target = head.split(b" ", 2)[1].decode("ascii")
        wire.sendall(http(record(target.rpartition("/")[2])))
