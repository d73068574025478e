"""nginx at 0 ms; the rule: it does as little as it can, and nothing of it outlives the bench."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.machine import Served, on_core
from benchmarks.record import letters, template
from tests.peers.nginx import PROGRAM
from tests.peers.process import free_ports, happens, is_open, killed, launched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.certificate import Certificate

LONGEST: Final = 7_200
"""Seconds after which it ends by itself, where the bench was killed."""

__all__ = ["PROGRAM", "nginx"]


@contextmanager
def nginx(certificate: Certificate, core: int | None) -> Iterator[Served]:
    """An nginx until the block ends, with a plain port and one for TLS.

    Raises:
        RuntimeError: It does not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = free_ports("plain", "tls")
        text = configuration(ports, certificate)
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        assert PROGRAM is not None
        with on_core(core):
            process = launched(
                PROGRAM, "-p", f"{folder}/", "-e", "error.log", "-c", "nginx.conf", longest=LONGEST
            )
        try:
            # Exited, or with all ports open: the plain one is opened first.
            if not happens(lambda: is_open(ports["tls"]) or process.poll() is not None) or (
                process.poll() is not None
            ):
                raise RuntimeError(f"nginx does not start: {(folder / 'error.log').read_text()}")
            yield Served(
                name="nginx",
                plain=f"http://127.0.0.1:{ports['plain']}",
                tls=f"https://127.0.0.1:{ports['tls']}",
                authority=certificate.authority,
                process=process.pid,
            )
        finally:
            killed(process)


def configuration(ports: dict[str, int], certificate: Certificate) -> str:
    """The text of nginx.conf."""
    words = {
        "plain": str(ports["plain"]),
        "tls": f"listen 127.0.0.1:{ports['tls']} ssl backlog=4096;"
        f" ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.chain};",
        "record": template(
            call_id="${i}", minute="${m}", second="${s}", millis="${l}",
            notes="${notes_a}${notes_b}${notes_c}",
        ),
    }  # fmt: skip
    for place, name in enumerate("abc"):
        words[f"notes_{name}"] = " ".join(f"{n} '{letters(place, n)}';" for n in range(10))
    source = Path(__file__).with_name("nginx.conf").read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], source)
