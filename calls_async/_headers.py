"""What an answer's header fields say about sending more; this file alone reads them for that.

The rule: reading is total. Whatever cannot be read is "no hint", never an exception, because a
header is written by servers and proxies that nobody here controls. So no text reaches `int` or
`float` before a regular expression has admitted it: these two also accept `1_0`, `٣`, `1e3` and
`nan`. For the same reason dates are read here and not by `email.utils`, which is too lenient (it
guesses), nor by `strptime`, which obeys the locale.

Sources: RFC 9110 (Retry-After 10.2.3, dates 5.6.7, repeated fields 5.3), RFC 9111 (Age),
draft-ietf-httpapi-ratelimit-headers (RateLimit, RateLimit-Policy), RFC 8941 and 9651 (Structured
Fields). `retry-after-ms`, `x-should-retry` and `X-RateLimit-*` are conventions without a standard.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
from multidict import istr

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["HINT_FIELDS", "LONGEST_WAIT", "NO_HINT", "Budget", "Hint", "read_hint"]

LONGEST_WAIT = 1e9
"""Seconds (about 31 years) at which every wait saturates.

No client waits that long, so the exact number does not matter any more, and one that is finite and
small enough for `datetime` and `timedelta` cannot overflow further on.
"""


@attrs.frozen(kw_only=True)
class Budget:
    """One announced quota: what is left of it, and until when."""

    remaining: int
    """Requests left in the window.

    The draft also knows quotas in other units; an answer does not have to name them, so they are
    taken for requests too.
    """
    reset: float | None
    """Seconds from this answer until the window renews; None: not said."""


@attrs.frozen(kw_only=True)
class Hint:
    """What one answer says about sending more."""

    wait: float | None = None
    """Seconds during which nothing more should be sent; 0.0: none needed; None: no time given.

    Finite, never negative, and not capped: whether it is too long to obey is for the verdict to
    say. `Retry-After` (in milliseconds before seconds) takes precedence over the budgets.
    """
    budgets: tuple[Budget, ...] = ()
    """The quotas that the answer announced, also where `Retry-After` decided the wait."""
    should_retry: bool | None = None
    """What `x-should-retry` says; None: nothing."""


NO_HINT = Hint()
"""The hint of every answer that carries none of the fields."""

HINT_FIELDS = (  # `istr`: what has to be looked up with each answer is not folded each time
    istr("Retry-After"),
    istr("retry-after-ms"),
    istr("RateLimit"),
    istr("RateLimit-Policy"),
    istr("X-RateLimit-Remaining"),
    istr("x-should-retry"),
)
"""An answer with none of these says nothing; all other fields only help to read these."""


def read_hint(status: int, headers: MultiMapping[str], now: float) -> Hint:
    """Read everything that an answer's header says about sending more. Never raises.

    Args:
        status: The answer's status code. Quota left over means "no wait" on an answer below 400
            only: a refusal that announces it was refused for another reason, of which the quota
            says nothing.
        headers: The answer's fields, a case-insensitive multidict.
        now: The caller's wall clock in seconds since the epoch. Times of day are read against the
            answer's own `Date`, so that a wrong clock on this side does not matter; `now` stands
            in where that is missing or unreadable.
    """
    for name in HINT_FIELDS:  # a plain loop: most answers end here, and `any()` takes twice as long
        if name in headers:
            break
    else:
        return NO_HINT
    budgets = _read_budgets(headers, now)
    wait = _read_retry_after(headers, now)
    if wait is None and budgets is not None:
        wait = _wait_for(budgets, status)
    return Hint(
        wait=wait,
        budgets=budgets or (),
        should_retry={"true": True, "false": False}.get(_field(headers, "x-should-retry").lower()),
    )


LONGEST_FIELD = 8190
"""Characters of a field that are read. A megabyte of `RateLimit` would keep the loop busy for 0.2 s
on each answer, and no honest server needs more for what it says than others have for a line."""


def _field(headers: MultiMapping[str], name: str) -> str:
    """Return a field's value, "" if absent; a repeated field is one list (RFC 9110, 5.3)."""
    text = ", ".join(headers.getall(name, ())).strip(" \t")
    return text if len(text) <= LONGEST_FIELD else ""


# --- Numbers ----------------------------------------------------------------------------------

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COUNT = re.compile(r"[0-9]{1,15}")  # the range of a Structured Fields integer


def _number(text: str) -> float | None:
    """Read plain decimal notation; a number too large for a float reads as infinity."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _saturated(seconds: float) -> float:
    """Bring a wait into 0.0 … `LONGEST_WAIT`; what is in the past needs no wait."""
    return min(max(0.0, seconds), LONGEST_WAIT)


# --- Retry-After ------------------------------------------------------------------------------


def _read_retry_after(headers: MultiMapping[str], now: float) -> float | None:
    """Read the wait in seconds from `retry-after-ms` or else `Retry-After` (seconds or a date)."""
    milliseconds = _number(_field(headers, "retry-after-ms"))
    if milliseconds is not None:
        return _saturated(milliseconds / 1000)
    text = _field(headers, "Retry-After")
    if not text:
        return None  # so that an answer with quotas alone does not have its Date read
    seconds = _number(text)
    if seconds is None:
        server_now = _server_time(headers, now)
        date = _read_date(text, server_now)
        if date is None:
            return None
        seconds = date - server_now
    return _saturated(seconds)


# --- Quotas -----------------------------------------------------------------------------------

_FIRST_EPOCH_IN_MS = 1e11
"""As seconds since the epoch this is the year 5138, as milliseconds it is 1973."""


def _wait_for(budgets: tuple[Budget, ...], status: int) -> float | None:
    """Return the seconds until every used-up quota renews; None: that is not said."""
    spent = [budget.reset for budget in budgets if budget.remaining == 0]
    if not spent:
        return 0.0 if status < 400 else None
    return max((reset for reset in spent if reset is not None), default=None)


def _read_budgets(headers: MultiMapping[str], now: float) -> tuple[Budget, ...] | None:
    """Read the quotas; None: nothing readable; (): there is a policy, its state is not said."""
    if _number(_field(headers, "Age")):
        return (
            None  # the answer comes from a cache: the quotas are those of another time and client
        )
    budgets = _read_ratelimit(_field(headers, "RateLimit"))
    if budgets is None:
        budgets = _read_x_ratelimit(headers, now)
    if budgets is None and _read_list(_field(headers, "RateLimit-Policy")) is not None:
        budgets = ()
    return budgets


def _read_ratelimit(text: str) -> tuple[Budget, ...] | None:
    """Read `RateLimit`; the draft has a malformed field ignored, and so all of it is."""
    members = _read_list(text)
    if members is None:
        return None
    budgets: list[Budget] = []
    for parameters in members:
        remaining = _COUNT.fullmatch(parameters.get("r", ""))
        reset = _COUNT.fullmatch(parameters.get("t", "0"))
        if remaining is None or reset is None:
            return None
        budgets.append(
            Budget(
                remaining=int(remaining[0]),
                reset=_saturated(float(reset[0])) if "t" in parameters else None,
            )
        )
    return tuple(budgets)


def _read_x_ratelimit(headers: MultiMapping[str], now: float) -> tuple[Budget, ...] | None:
    """Read `X-RateLimit-Remaining` with `-Reset-After` or else `-Reset`."""
    remaining = _COUNT.fullmatch(_field(headers, "X-RateLimit-Remaining"))
    if remaining is None:
        return None
    reset = _number(_field(headers, "X-RateLimit-Reset-After"))
    if reset is None:
        reset = _read_x_reset(headers, now)
    return (
        Budget(
            remaining=int(remaining[0]),
            reset=None if reset is None else _saturated(reset),
        ),
    )


def _read_x_reset(headers: MultiMapping[str], now: float) -> float | None:
    """Read `X-RateLimit-Reset` as seconds from now.

    Servers send a delta, or seconds or milliseconds since the epoch, and do not say which. The size
    tells: at `LONGEST_WAIT` and above, which are decades, it is no delta.
    """
    reset = _number(_field(headers, "X-RateLimit-Reset"))
    if reset is None or reset < LONGEST_WAIT:
        return reset
    if reset >= _FIRST_EPOCH_IN_MS:
        reset /= 1000
    return reset - _server_time(headers, now)


# --- Structured Fields ------------------------------------------------------------------------
# Only what the two fields need: a list of strings with parameters. A complete parser would be one
# more dependency for every user, to read two fields of one draft.

_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_MEMBER = re.compile(_STRING)
_PARAMETER = re.compile(
    rf"""
    ;\x20*
    (?P<key>[a-z*][a-z0-9_.*-]*)
    (?:=(?P<value>
        -?[0-9]{{1,12}}\.[0-9]{{1,3}}                   # decimal
      | @?-?[0-9]{{1,15}}                               # integer, date
      | {_STRING}
      | [A-Za-z*][A-Za-z0-9!\#$%&'*+.^_`|~:/-]*         # token
      | :[A-Za-z0-9+/=]*:                               # byte sequence
      | \?[01]                                          # boolean
      | %"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{{2}})*"  # display string
    ))?
    """,
    re.VERBOSE,
)
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def _read_list(text: str) -> list[dict[str, str]] | None:
    """Return the parameters of each member, their values as written; None: malformed or empty.

    A key without a value (true by definition) reads "". The last of equal keys wins.
    """
    members: list[dict[str, str]] = []
    position = 0
    while member := _MEMBER.match(text, position):
        position = member.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(text, position):
            position = parameter.end()
            parameters[parameter["key"]] = parameter["value"] or ""
        members.append(parameters)
        if position == len(text):
            return members
        comma = _COMMA.match(text, position)
        if comma is None:
            return None
        position = comma.end()
    return None


# --- Dates ------------------------------------------------------------------------------------

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-5][0-9]|60)"  # 60: a leap second
_ZONE = r"(?P<zone>GMT|UTC|[+-](?:[01][0-9]|2[0-3])[0-5][0-9])"
# ASCII beside IGNORECASE: without it a long s (U+017F) would also begin a September.
_DATE_FORMS = (
    # IMF-fixdate and RFC 850. The weekday is not compared: where it is wrong, the date wins.
    re.compile(
        rf"[a-z]{{3,9}}, (?P<day>[0-9]{{1,2}})[ -]{_MONTH}[ -](?P<year>[0-9]{{4}}|[0-9]{{2}})"
        rf" {_TIME} {_ZONE}",
        re.ASCII | re.IGNORECASE,
    ),
    # asctime: it names no zone, and means UTC.
    re.compile(
        rf"[a-z]{{3}} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})(?P<zone>)",
        re.ASCII | re.IGNORECASE,
    ),
)


def _server_time(headers: MultiMapping[str], now: float) -> float:
    """Return the server's clock when it answered, in seconds since the epoch."""
    date = _read_date(_field(headers, "Date"), now)
    return now if date is None else date


def _read_date(text: str, now: float) -> float | None:
    """Read an HTTP date as seconds since the epoch; `now` tells the century of a short year."""
    for form in _DATE_FORMS:
        if match := form.fullmatch(text):
            break
    else:
        return None
    month = _MONTHS.index(match["month"].lower()) + 1
    year, day, hour, minute, second = map(
        int, match.group("year", "day", "hour", "minute", "second")
    )
    try:
        if len(match["year"]) == 2:
            year = _full_year(year, (month, day, hour, minute, second), now)
        # The seconds are added later, because `datetime` knows no second 60.
        start = datetime(year, month, day, hour, minute, tzinfo=UTC)
    except (ValueError, OverflowError):  # no such day or hour; or `now` is beyond all calendars
        return None
    return start.timestamp() + second - _zone_offset(match["zone"])


def _full_year(short: int, rest: tuple[int, int, int, int, int], now: float) -> int:
    """Complete a two-digit year: more than 50 years ahead means the past (RFC 9110, 5.6.7).

    Args:
        short: The year's last two digits.
        rest: The date's other parts, from month to second.
        now: Seconds since the epoch.
    """
    today = datetime.fromtimestamp(now, UTC)
    latest = today.year + 50
    year = latest - (latest - short) % 100
    return year - 100 if year == latest and rest > today.timetuple()[1:6] else year


def _zone_offset(zone: str) -> int:
    """Return the seconds that a zone such as `+0200` is ahead of UTC; a named one is UTC."""
    if not zone.startswith(("+", "-")):
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
    return seconds if zone[0] == "+" else -seconds
