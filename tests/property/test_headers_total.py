"""Reading a header is total: any text is a hint or none, and every number in a hint is usable."""

from __future__ import annotations

import math

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from calls_async._headers import LONGEST_WAIT, Budget, Hint, read_hint

NAMES = (
    "Age",
    "Date",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-RateLimit-Reset-After",
    "retry-after-ms",
    "x-should-retry",
)
NOW = 1696004797.0
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What a server may write: anything, or something near the grammars, so that the depths of the
# readers are reached. Lone surrogates are what aiohttp makes of bytes that are no UTF-8.
any_text = st.text(st.characters(), max_size=40)
numbers = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,5})?", fullmatch=True),
)
two_digits = st.integers(0, 99).map("{:02d}".format)
years = st.one_of(two_digits, st.integers(0, 10000).map("{:04d}".format))
clocks = st.tuples(two_digits, two_digits, two_digits).map(":".join)
zones = st.one_of(
    st.sampled_from(["GMT", "UTC", ""]), st.from_regex(r"[+-][0-9]{4}", fullmatch=True)
)
dates = st.one_of(
    st.builds(
        "{0}, {2}{1}{3}{1}{4} {5} {6}".format,
        st.sampled_from(DAYS),
        st.sampled_from(" -"),
        two_digits,
        st.sampled_from(MONTHS),
        years,
        clocks,
        zones,
    ),
    st.builds(
        "{} {} {:2d} {} {}".format,
        st.sampled_from(DAYS),
        st.sampled_from(MONTHS),
        st.integers(0, 32),
        clocks,
        years,
    ),
)
fragments = st.sampled_from(
    ['"a"', '"\\', '"', ";", "r=", "t=", "=", ",", ", ", " ", "0", "-1", "1.5", ":aa=:", "?1", "@1"]
)
lists = st.lists(fragments, max_size=20).map("".join)
words = st.sampled_from(["true", "false", "TRUE", "1"])
values = st.one_of(any_text, numbers, dates, lists, words)
headers = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=8).map(CIMultiDict[str])
statuses = st.integers(100, 599)


@given(status=statuses, headers=headers, now=st.floats())
@example(  # the last second of the calendar, and a year that only it could complete
    status=503,
    headers=CIMultiDict(
        {"Date": "Fri, 31 Dec 9999 23:59:60 GMT", "Retry-After": "Friday, 29-Sep-23 16:26:57 GMT"}
    ),
    now=NOW,
)
@example(  # a year that no clock can complete
    status=503,
    headers=CIMultiDict({"Date": "Friday, 29-Sep-23 16:26:57 GMT", "Retry-After": "x"}),
    now=math.inf,
)
@example(status=503, headers=CIMultiDict({"Retry-After": "9" * 5000}), now=NOW)
@example(status=503, headers=CIMultiDict({"Retry-After": "Fri Sep 29 16:26:57 2023"}), now=math.nan)
def test_reading_never_raises_and_every_number_is_usable(status, headers, now):
    """For any text in any field: waits finite and within bounds, remainders not negative."""
    hint = read_hint(status, headers, now)
    resets = [budget.reset for budget in hint.budgets]
    for seconds in (hint.wait, *resets):
        assert seconds is None or 0.0 <= seconds <= LONGEST_WAIT
    assert all(type(budget.remaining) is int and budget.remaining >= 0 for budget in hint.budgets)
    assert hint.should_retry in (True, False, None)


@given(headers=headers, nows=st.tuples(st.floats(0, 4e9), st.floats(0, 4e9)))
def test_a_readable_date_makes_the_callers_clock_irrelevant(headers, nows):
    """Two callers whose clocks differ by any amount read the same answer in the same way."""
    headers.popall("Date", None)
    headers["Date"] = "Fri, 29 Sep 2023 16:26:37 GMT"
    one, other = (read_hint(429, headers, now) for now in nows)
    assert one == other


@given(seconds=st.integers(0, 10**9), form=st.sampled_from(["Retry-After", "retry-after-ms"]))
def test_a_wait_in_whole_seconds_reads_as_that_wait(seconds, form):
    """Seconds and milliseconds are the same wait, to the second."""
    written = seconds if form == "Retry-After" else seconds * 1000
    assert read_hint(429, CIMultiDict({form: str(written)}), NOW) == Hint(wait=float(seconds))


quotas = st.tuples(st.integers(0, 10**15 - 1), st.none() | st.integers(0, 10**9))
policy_names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8)


@given(announced=st.lists(st.tuples(policy_names, quotas), min_size=1, max_size=5))
def test_every_well_formed_ratelimit_reads_as_what_was_announced(announced):
    """Whatever the policies are called, their remainders and resets come back in order."""
    members = []
    for name, (remaining, reset) in announced:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        members.append(f'"{quoted}";r={remaining}' + ("" if reset is None else f";t={reset}"))
    hint = read_hint(200, CIMultiDict({"RateLimit": ", ".join(members)}), NOW)
    assert hint.budgets == tuple(
        Budget(remaining=remaining, reset=reset) for _, (remaining, reset) in announced
    )
