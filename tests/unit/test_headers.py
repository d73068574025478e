"""From an answer's header fields to one hint: the vectors, and the rules between the fields."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from calls_async._headers import LONGEST_FIELD, LONGEST_WAIT, NO_HINT, Budget, Hint, read_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).parents[1] / "vectors"
RETRY_AFTER = json.loads((VECTORS / "retry_after.json").read_text("utf-8"))
RATELIMIT = json.loads((VECTORS / "ratelimit.json").read_text("utf-8"))
NOW: int = RETRY_AFTER["now_epoch"]
DATE: str = RETRY_AFTER["now"]
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
FAR_OFF = 4e9  # a clock that is wrong by decades


def read(status: int = 429, /, *, now: float = NOW, **fields: str) -> Hint:
    """The hint of an answer with the given fields; `_` in a name stands for `-`."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return read_hint(status, CIMultiDictProxy(CIMultiDict(headers)), now)


def outcome(wait: float | None, cap: float) -> object:
    """A wait in the vectors' words: whether it is too long is decided by who reads the hint."""
    return "refuse" if wait is not None and wait > cap else wait


@pytest.fixture(params=["UTC0", "EST5EDT,M3.2.0,M11.1.0"], ids=["UTC", "New_York"])
def machine_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine's time zone, for one test.

    New York is written as its rule, because the name needs a zone database, and without one the C
    library would silently take UTC and prove nothing.
    """
    if not hasattr(time, "tzset"):
        pytest.skip("this platform's time zone is not set by TZ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


# --- The vectors ---


@pytest.mark.usefixtures("machine_zone")
@pytest.mark.parametrize("clock", ["the answer's Date", "the caller's"])
@pytest.mark.parametrize("case", RETRY_AFTER["cases"], ids=lambda case: case["value"][:40])
def test_retry_after_reads_as_the_vectors_say(case, clock):
    """Every form of Retry-After, whatever the machine's zone; a wrong clock gives way to Date."""
    if clock == "the caller's":
        hint = read(retry_after=case["value"])
    else:
        hint = read(retry_after=case["value"], date=DATE, now=FAR_OFF)
    assert outcome(hint.wait, RETRY_AFTER["cap_s"]) == case["expect"]


@pytest.mark.parametrize("case", RETRY_AFTER["with_ms"], ids=lambda case: str(case["headers"]))
def test_milliseconds_read_as_the_vectors_say(case):
    """retry-after-ms wins over Retry-After where it is readable."""
    hint = read(**case["headers"])
    assert outcome(hint.wait, RETRY_AFTER["cap_s"]) == case["expect"]


@pytest.mark.usefixtures("machine_zone")
@pytest.mark.parametrize("case", RATELIMIT["cases"], ids=lambda case: str(case["headers"]))
def test_quotas_read_as_the_vectors_say(case):
    """RateLimit, RateLimit-Policy and X-RateLimit-* give the wait that the vectors give."""
    hint = read(case["status"], now=RATELIMIT["now_epoch"], **case["headers"])
    assert outcome(hint.wait, RATELIMIT["cap_s"]) == case["expect"]


# --- The answer as a whole ---


def test_an_answer_without_any_of_the_fields_costs_no_object():
    """Most answers carry no hint, and they all share one."""
    assert read(200, content_type="application/json", date=DATE, age="3") is NO_HINT
    assert Hint() == NO_HINT


def test_field_names_are_case_insensitive():
    """HTTP field names have no case."""
    assert read(RETRY_AFTER="7") == read(retry_after="7") == Hint(wait=7.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("true", True), ("false", False), ("True", True), (" false ", False), ("1", None), ("", None)],
)
def test_should_retry_is_true_false_or_not_said(value, expected):
    """x-should-retry is read as a word, without case; anything else says nothing."""
    assert read(x_should_retry=value) == Hint(should_retry=expected)


def test_repeated_fields_are_one_list():
    """Members of RateLimit may come in lines of their own; a second Retry-After is unreadable."""
    headers = CIMultiDict(
        [("RateLimit", '"a";r=0;t=5'), ("ratelimit", '"b";r=3'), ("Retry-After", "2")]
    )
    budgets = (Budget(remaining=0, reset=5.0), Budget(remaining=3, reset=None))
    assert read_hint(429, headers, NOW) == Hint(wait=2.0, budgets=budgets)
    headers.add("Retry-After", "2")
    assert read_hint(429, headers, NOW) == Hint(wait=5.0, budgets=budgets)


# --- Clocks and dates ---


@pytest.mark.parametrize("date", ["", "soon", f"{DATE}, {DATE}", "Fri, 31 Feb 2023 16:26:37 GMT"])
def test_the_callers_clock_stands_in_for_an_unreadable_date(date):
    """Where the answer has no readable Date of its own, the time is read against `now`."""
    assert read(retry_after="Fri, 29 Sep 2023 16:26:57 GMT", date=date).wait == 20.0


def test_an_epoch_reset_is_read_against_the_answers_date():
    """A wrong clock on this side does not change an epoch reset either."""
    fields = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(NOW + 30)}
    assert read(**fields, date=DATE, now=FAR_OFF).wait == 30.0


@pytest.mark.usefixtures("machine_zone")
@pytest.mark.parametrize("date", [DATE, "Friday, 29-Sep-23 16:26:37 GMT"])
@pytest.mark.parametrize(
    ("short", "seconds"),
    [
        ("Friday, 29-Sep-73 16:26:37 GMT", LONGEST_WAIT),  # 2073: 50 years, and not more
        ("Friday, 29-Sep-73 16:26:38 GMT", 0.0),  # 1973
        ("Tuesday, 29-Feb-72 00:00:00 GMT", LONGEST_WAIT),  # 2072, a leap year
        ("Thursday, 29-Feb-73 00:00:00 GMT", None),  # neither 2073 nor 1973 has that day
    ],
)
def test_a_short_year_more_than_fifty_years_ahead_is_past(short, seconds, date):
    """RFC 9110, 5.6.7, to the second, also where the answer's Date has a short year itself."""
    assert read(retry_after=short, date=date).wait == seconds


@pytest.mark.parametrize(
    ("now", "date"),
    [
        ("Fri, 29 Sep 1999 16:26:37 GMT", "Saturday, 01-Jan-00 00:00:00 GMT"),
        ("Fri, 29 Sep 2099 16:26:37 GMT", "Saturday, 01-Jan-00 00:00:00 GMT"),
    ],
)
def test_a_short_year_crosses_the_century(now, date):
    """Shortly before the turn of a century, year 00 lies ahead and not 99 years behind."""
    wait = read(retry_after=date, date=now).wait
    assert wait is not None
    assert wait / 86400 == pytest.approx(93.3, abs=0.1)


@pytest.mark.parametrize("month", range(1, 13))
def test_every_month_has_its_name(month):
    """In all three forms, and in any case."""
    date = datetime(2022, month, 7, 8, 9, 10, tzinfo=UTC)
    later = datetime(2022, month, 7, 8, 9, 40, tzinfo=UTC).timestamp()
    name = MONTHS[month - 1]
    for told in (
        f"Fri, 07 {name} 2022 08:09:40 GMT",
        f"friday, 07-{name.lower()}-22 08:09:40 gmt",
        f"FRI {name.upper()}  7 08:09:40 2022",
    ):
        assert read(retry_after=told, now=date.timestamp()).wait == 30.0
        assert read(retry_after=told, now=later).wait == 0.0


def test_a_past_short_year_is_exactly_a_century_back():
    """Where the server's own date is written so as well, the distance between the two counts."""
    dates = {"date": "Monday, 31-Dec-73 00:00:00 GMT"}
    assert read(retry_after="Mon, 31 Dec 1973 00:00:30 GMT", **dates).wait == 30.0


def test_a_number_with_a_letter_is_no_number():
    """Only white space is taken off a value's ends."""
    assert read(retry_after="7X").wait is None


@pytest.mark.parametrize(
    "date", ["Fri, 31 Dec 9999 23:59:60 GMT", "Mon, 01 Jan 0001 00:00:00 +2359"]
)
def test_a_date_at_the_end_of_the_calendar_is_no_trap(date):
    """A short year cannot be completed there: no hint, and no exception."""
    assert read(retry_after="Friday, 29-Sep-23 16:26:57 GMT", date=date).wait is None


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 29 Sep 2023 14:26:57 -0200",
        "Fri, 29 Sep 2023 21:56:57 +0530",
        "Sat, 30 Sep 2023 05:26:57 +1300",
        "Fri Sep 29 16:26:57 2023",
    ],
)
def test_numeric_zones_count_east_of_utc(value):
    """Whatever zone a date is written in, it is the same instant."""
    assert read(retry_after=value).wait == 20.0


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 29 \u017fep 2023 16:26:57 GMT",  # a long s, which folds to s outside ASCII
        "Fri, ２9 Sep 2023 16:26:57 GMT",  # noqa: RUF001  the fullwidth digit is the point
        "Fri, 29 Sep 2023 16:26:57 GMT\n",
        "Fri, 29 Sep 2023 16:26:57 +9900",
        "Fri, 29 Sep 2023 16:26:57",
        "Fri, 29 Sep 2023 24:00:00 GMT",
        "Fri, 29 Sep 2023 16:26:61 GMT",
    ],
)
def test_what_only_resembles_a_date_is_no_hint(value):
    """Leniency ends at the forms that are known."""
    assert read(retry_after=value) == NO_HINT


# --- Quotas ---


@pytest.mark.parametrize("status", [400, 429, 500, 503])
@pytest.mark.parametrize("field", [{"RateLimit": '"a";r=5;t=9'}, {"RateLimit-Policy": '"a";q=5'}])
def test_quota_left_explains_no_refusal(status, field):
    """A refusal that announces quota was refused for another reason: no time is given."""
    assert read(status, **field).wait is None
    assert read(200, **field).wait == 0.0
    assert read(302, **field).wait == 0.0  # no refusal, so the quota is believed


def test_the_wait_is_the_longest_of_the_spent_quotas_that_say_when():
    """A spent quota without a time neither shortens the others' wait nor counts as none."""
    assert read(200, RateLimit='"a";r=0;t=5, "b";r=0, "c";r=1;t=99').wait == 5.0
    assert read(200, RateLimit='"b";r=0, "c";r=1;t=99').wait is None


def test_retry_after_decides_the_wait_and_keeps_the_quotas():
    """Retry-After takes precedence; what the answer announced stays known."""
    hint = read(Retry_After="7", RateLimit='"d";r=0;t=30')
    assert hint == Hint(wait=7.0, budgets=(Budget(remaining=0, reset=30.0),))


def test_ratelimit_goes_before_the_older_fields():
    """X-RateLimit-* is read only where RateLimit is absent or malformed."""
    older = {"X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "8"}
    assert read(200, RateLimit='"d";r=9;t=3', **older).budgets == (Budget(remaining=9, reset=3.0),)
    assert read(200, RateLimit="d;r=9;t=3", **older).budgets == (Budget(remaining=4, reset=8.0),)


@pytest.mark.parametrize(
    ("fields", "reset"),
    [
        ({}, None),
        ({"X-RateLimit-Reset": "soon"}, None),
        ({"X-RateLimit-Reset": str(NOW - 5)}, 0.0),
        ({"X-RateLimit-Reset": "999999999"}, 999_999_999.0),  # the longest delta
        ({"X-RateLimit-Reset": "1000000000"}, 0.0),  # the first epoch, in 2001
        ({"X-RateLimit-Reset": "99999999999"}, LONGEST_WAIT),  # the last in seconds, in 5138
        ({"X-RateLimit-Reset": "100000000000"}, 0.0),  # the first in milliseconds, in 1973
        ({"X-RateLimit-Reset": "9" * 400}, LONGEST_WAIT),
        ({"X-RateLimit-Reset": "30", "X-RateLimit-Reset-After": "2.5"}, 2.5),
        ({"X-RateLimit-Reset": "30", "X-RateLimit-Reset-After": "x"}, 30.0),
    ],
)
def test_the_older_reset_is_a_delta_or_an_epoch_by_its_size(fields, reset):
    """Reset-After wins, Reset is told apart by size, and an unreadable time is not said."""
    hint = read(200, **{"X-RateLimit-Remaining": "6"}, **fields)
    assert hint == Hint(wait=0.0, budgets=(Budget(remaining=6, reset=reset),))


@pytest.mark.parametrize("remaining", ["-1", "1.5", "0, 0", "1" * 16, "٣", ""])
def test_an_unreadable_older_remainder_is_no_budget(remaining):
    """Without a count of what is left, the reset says nothing."""
    assert read(**{"X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": "30"}) == NO_HINT


@pytest.mark.parametrize(
    ("age", "budgets"),
    [("0", (Budget(remaining=0, reset=9.0),)), ("x", (Budget(remaining=0, reset=9.0),)), ("1", ())],
)
def test_a_cached_answer_announces_no_quota(age, budgets):
    """Quotas are the state of the moment: with a readable Age above 0 they are old."""
    assert read(RateLimit='"a";r=0;t=9', Age=age).budgets == budgets
    older = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9"}
    assert read(Age=age, **older).budgets == budgets


def test_an_answer_from_a_cache_still_asks_to_come_back_later():
    """Retry-After is about the resource and not about the quota: Age leaves it alone."""
    assert read(503, Retry_After="9", Age="5") == Hint(wait=9.0)


# --- Structured Fields ---


@pytest.mark.parametrize(
    "value",
    [
        '"a";r=5;t=9',
        '"a"; r=5;  t=9',
        '  "a";r=5;t=9  ',
        r'"quoted \" and \\, ;r=0";r=5;t=9',
        '"";r=5;t=9',
        '"a";r=1;t=9;r=5',  # the last of equal keys wins
        '"a";pk=:cGs=:;r=5;flag;u=?1;s="x, y";d=-1.25;w=to/ken:*;at=@-1;n=-3;t=9',
        '"a";r=5;t=9;text=%"caf%c3%a9"',
        '"a";r=000000000000005;t=9',
    ],
)
def test_every_legal_form_of_one_quota_is_read(value):
    """Unknown parameters of every type are passed over, as the draft allows them."""
    assert read(200, RateLimit=value).budgets == (Budget(remaining=5, reset=9.0),)


@pytest.mark.parametrize(
    "value",
    [
        "",
        '"a"',
        '"a";t=9',
        '"a";r',
        '"a";r="5"',
        '"a";r=?1',
        '"a";r=5;t',
        '"a";r=5;t=-1',
        '"a";r=5;t=1.0',
        '"a";r=5;t=@9',
        '"a";r=1234567890123456',
        '"a";r=5;x=1.2345',
        '"a";r=5;x=1234567890123456',
        '"a";r=5;x=',
        '"a";r=5;X=1',
        '"a";r=5 ;t=9',
        '"a";r= 5',
        '"a";r=5,',
        ',"a";r=5',
        '"a";r=5,,"b";r=5',
        '"a";r=5 "b";r=5',
        '"a;r=5',
        '"a\\x";r=5',
        '"ä";r=5',
        '("a" "b");r=5',
        '"a";r=5, b;r=5',
        '"a";r=5, "b";t=5',
        "limit=10, remaining=5, reset=3",
    ],
)
def test_a_malformed_field_is_ignored_as_a_whole(value):
    """One bad member or parameter spoils the field, and no member of it is believed."""
    assert read(200, RateLimit=value) == NO_HINT


def test_a_malformed_policy_says_nothing():
    """A policy counts as an announcement only where it can be read."""
    assert read(200, RateLimit_Policy="10;w=1") == NO_HINT


def test_a_field_of_endless_length_says_nothing():
    """One that no server needs is not read at all, so that it costs no time."""
    budget = ', "a";r=0;t=9'
    fits = (LONGEST_FIELD - len(budget)) // len(budget)
    assert read(429, RateLimit='"a";r=0;t=9' + budget * fits).wait == 9.0
    assert read(429, RateLimit='"a";r=0;t=9' + budget * (fits + 2)) == NO_HINT


def test_the_longest_field_is_read():
    """As many characters as a server's line has room for, and not one more."""
    assert read(429, Retry_After="5".rjust(8190, "0")).wait == 5.0
    assert read(429, Retry_After="5".rjust(8191, "0")).wait is None
