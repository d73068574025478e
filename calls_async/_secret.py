"""The API key; the rule: it is used through this type alone, and this type cannot be printed.

The text leaves in one way, `ApiKey.authorization()`, which the transport calls while it writes a
request. Everything else (repr, str, format, logs, pickles, `vars`) shows at most the prefix that
all keys of a kind share, so that a live key can be told from a test key. What a server sends back
of it is taken out by `scrub`.
"""

from __future__ import annotations

import hmac
import re
from typing import Final, NoReturn, final

from calls_async._scrub import MASK, Scrubber, scrub
from calls_async.errors import ConfigurationError

_KIND: Final = re.compile(r"sk_(?:live|test)_")
_FORBIDDEN: Final = re.compile(r"[^\x21-\x7e]")
_REMEMBERED: Final = 8
"""Keys that are scrubbed at most: the one in use and those before it."""


@final
class ApiKey:
    """An API key that does not show itself.

    Args:
        text: The key alone, as the vendor's page has it: `sk_live_xxx` or `sk_test_xxx`.
        origin: Where it comes from, for the message.
        after: The key that this one takes the place of. A server may still echo that one, from its
            cache or its log, so it is scrubbed as well.

    Raises:
        ConfigurationError: The text cannot be a key. The message never quotes it.
    """

    __slots__ = ("_scrubbers", "_text")

    def __init__(self, text: str, origin: str = "api_key", *, after: ApiKey | None = None) -> None:
        if problem := _problem(text):
            # Tools that print a traceback's locals shall not find in this frame what was refused,
            # nor try to print what is not made.
            del text, self
            raise ConfigurationError(f"{origin} {problem}")
        # A subclass of str may tell something else each time that it is asked.
        self._text = str.__str__(text)
        older = () if after is None else after._scrubbers[after == self :]  # noqa: SLF001 (the same class)
        prefix = self._prefix
        own = Scrubber(prefix, self._text.removeprefix(prefix))
        self._scrubbers: tuple[Scrubber, ...] = (own, *older)[:_REMEMBERED]

    def authorization(self) -> str:
        """The value of the `Authorization` header."""
        return f"Bearer {self._text}"

    def scrub(self, data: bytes) -> bytes:
        """`data` without this key and those before it, wherever a server may have echoed one.

        No more of it is kept than was searched; see `calls_async._scrub.MOST`.
        """
        return scrub(data, self._scrubbers)

    @property
    def _prefix(self) -> str:
        kind = _KIND.match(self._text)
        return kind[0] if kind else ""

    def __repr__(self) -> str:
        return f"ApiKey('{self._prefix}{MASK}')"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApiKey):
            return NotImplemented
        return hmac.compare_digest(self._text, other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise ConfigurationError("an API key is never pickled; give it on the other side instead")


def _problem(text: object) -> str | None:
    """What keeps `text` from being a key; `None` if nothing does."""
    if not isinstance(text, str):
        return f"must be a str, not {type(text).__name__}"
    text = str.__str__(text)
    if not text:
        return "is empty"
    if text[:7].lower() == "bearer ":
        return "must be given without the word 'Bearer': the client adds it"
    if text != text.strip():
        return "has white space around it (a line end of the file that it was read from?)"
    if _FORBIDDEN.search(text):
        return "has a space, a control character or a character outside ASCII"
    return None
