"""The certificate of the bench's servers; the rule: it is made anew, and trusted by nobody else."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import attrs
import trustme

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Certificate:
    """A certificate for this machine.

    Attributes:
        chain: The file with the key and the certificate.
        authority: The file with the authority that signed it.
    """

    chain: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """What a server of asyncio's needs."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain)
        return context


def make_certificate(folder: Path) -> Certificate:
    """A new certificate; its files are in the folder."""
    authority = trustme.CA()
    made = Certificate(folder / "server.pem", folder / "authority.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        made.chain
    )
    authority.cert_pem.write_to_path(made.authority)
    return made
