"""The report: whole without a network, safe whatever is in the journal, bounded, and the same."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls_async import OutputError
from calls_async.journal import FailureRecord, JobStatus, Journal, Minute
from calls_async.journal._charts import ceiling, number
from calls_async.journal._slots import MOST_PERIODS, MOST_SLOTS, PAUSE, course_of
from calls_async.journal._style import STYLE
from calls_async.journal.report import _along, _page, _percent, write_report

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VOID = {"meta", "rect", "path"}

HOSTILE = (
    "<script>alert(1)</script>",
    "</title></style><img src=x onerror=alert(1)>",
    '" onload="alert(1)',
    "\ud800 lone",
    "\u202egnp.exe",
    "a\nb\x1b[31m\u2028",
    "&lt;already&gt;",
)


def minute(at, *, fetched=60, failed=0, retries=3):
    """A minute of a job; its outcomes come over all of it."""
    outcomes = fetched + failed
    latencies = ((0.125, outcomes - outcomes // 4), (1.0, outcomes // 4)) if outcomes > 3 else ()
    return Minute(
        at=at,
        first_at=at,
        last_at=at + MINUTE * 0.999,
        fetched=fetched,
        failed=failed,
        requests=outcomes + retries,
        retries=retries,
        latencies=latencies or ((0.125, outcomes),),
    )


def history(runs):
    """Runs of minutes: pairs of the minute at which a run began and how many it has."""
    for began, length in runs:
        for i in range(length):
            yield minute(NOON + (began + i) * MINUTE)


STATUS = JobStatus(
    asked=1_000,
    duplicates=5,
    fetched=900,
    failed=60,
    failed_by={"NotFoundError": 50, "ServerError": 10},
    retryable=10,
    left=40,
    started_at=NOON,
    last_at=NOON,
    rate=1.0,
    forecast=40.0,
)
FAILURE = FailureRecord(
    id="a", index=0, error="NotFoundError", message="404", attempts=1, elapsed=0.1, at=NOON
)


class Page(HTMLParser):
    """What is in a page, as a browser sees it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.attributes, self.text = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page(status=STATUS, runs=((0, 30), (90, 10)), failures=(FAILURE,), name="job.journal"):
    return _page(name, status, course_of(history(runs)), failures)


# --- The page ------------------------------------------------------------------------------------


def test_the_page_asks_nobody_for_anything():
    """No script, no link, no style but the one that the policy names by its digest."""
    found = Page(page())
    assert not {"script", "link", "img", "iframe", "object", "a", "base", "form"} & set(found.tags)
    names = {name for _, name, _ in found.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("style", "src", "href")]
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    policy = next(value for _, _, value in found.attributes if "default-src" in value)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


def test_every_drawing_is_told():
    """A title and a description that the drawing names, and a table with the same numbers."""
    text = page()
    found = Page(text)
    ids = [value for _, name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    labels = [value.split() for _, name, value in found.attributes if name == "aria-labelledby"]
    assert labels == [
        [f"{n}-title", f"{n}-desc"] for n in ("throughput", "latency", "retries", "timeline")
    ]
    assert {label for pair in labels for label in pair} == set(ids)
    for figure in re.findall("<figure.*?</figure>", text, re.DOTALL):
        assert "<details><summary>" in figure
        assert '<th scope="row">' in figure
    # Every other drawing repeats what a text beside it says.
    assert text.count("<svg") == len(labels) + text.count('class="key"') + text.count(
        'class="share"'
    )


def test_headings_lead_through_the_page():
    """One main heading, then one for each section, and a language."""
    found = Page(page())
    assert [tag for tag in found.tags if tag in ("h1", "h2", "h3")] == ["h1"] + ["h2"] * 6
    assert ("html", "lang", "en") in found.attributes
    assert {"header", "main", "footer"} <= set(found.tags)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_part_of_the_page(text):
    """Ids, messages, families and the file's name are shown, and do nothing."""
    failure = attrs.evolve(FAILURE, id=text, message=text, error=text)
    harmless = Page(page())
    status = attrs.evolve(STATUS, failed_by={text: 50, "ServerError": 10})
    hostile = Page(page(status=status, failures=[failure], name=text))
    assert hostile.tags == harmless.tags
    assert len(hostile.attributes) == len(harmless.attributes)
    shown = "".join(hostile.text)
    assert not re.search("[\x00-\x09\x0b-\x1f\u2028\u202a-\u202e\ud800-\udfff]", shown)


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_can_be_shown(text):
    """Whatever an id is, the page is UTF-8 and its structure is the same."""
    failures = [attrs.evolve(FAILURE, id=text, message=text)]
    assert Page(page(runs=[(0, 1)], failures=failures).encode().decode()).tags


def test_a_long_message_is_cut():
    """A server's text does not make the page long."""
    failures = [attrs.evolve(FAILURE, message="x" * 100_000)] * 50
    assert len(page(failures=failures)) < 100_000


def test_a_job_without_outcomes_has_a_page():
    """It says so."""
    status = attrs.evolve(STATUS, fetched=0, failed=0, failed_by={}, last_at=None, rate=None)
    text = page(status=status, runs=(), failures=())
    assert "Nothing has happened yet" in "".join(Page(text).text)


def test_a_job_of_one_outcome_has_a_page():
    """One bar, and no division by no time."""
    one = attrs.evolve(minute(NOON, fetched=1), last_at=NOON)
    assert Page(_page("a", STATUS, course_of([one]), ()))


def test_a_report_is_the_same_for_the_same_journal(tmp_path):
    """Whenever it is written; and an older one is kept unless it may go."""
    with Journal.open(tmp_path / "job.journal") as journal:
        journal.add(["..", "a\ud800", "a"])
        outs = [tmp_path / "one.html", tmp_path / "two.html"]
        for out in outs:
            write_report(journal, out)
        assert outs[0].read_bytes() == outs[1].read_bytes()
        assert "InvalidCallIdError" in outs[0].read_text(encoding="utf-8")
        with pytest.raises(OutputError, match="exists already"):
            write_report(journal, outs[0])
        write_report(journal, outs[0], overwrite=True)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(scheme):
    """AA: 4.5 for texts, 3 for shapes, on the page and on a card."""
    colours = dict(
        re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme])
    )
    for name, least in {
        "text": 4.5,
        "quiet": 4.5,
        **dict.fromkeys(("fetched", "failed", "retries", "latency"), 3),
    }.items():
        for ground in ("page", "card"):
            dark, light = sorted((luminance(colours[name]), luminance(colours[ground])))
            assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)


# --- The course ----------------------------------------------------------------------------------

RUNS = st.lists(
    st.tuples(st.integers(1, 200), st.integers(1, 40)), min_size=1, max_size=60
)  # the pause before a run and its length, in minutes


@given(RUNS)
def test_nothing_is_lost_in_the_slots(pairs):
    """However long and interrupted a job is: few slots and runs, and the sums are the same."""
    runs, at = [], 0
    for pause, length in pairs:
        runs.append((at + pause, length))
        at += pause + length
    minutes = list(history(runs))
    course = course_of(minutes)
    assert len(course.slots) <= MOST_SLOTS
    assert len(course.periods) <= MOST_PERIODS
    fetched = sum(told.fetched for told in minutes)
    assert sum(slot.told.fetched for slot in course.slots) == fetched
    assert sum(period.outcomes for period in course.periods) == fetched
    assert sum(many for _, many in course.total.latencies) == fetched
    assert course.periods[0].began == minutes[0].first_at
    assert course.periods[-1].ended == minutes[-1].last_at
    assert all(a.ended + PAUSE < b.began for a, b in pairwise(course.periods))
    if len(course.periods) < MOST_PERIODS:
        worked = sum((p.ended - p.began).total_seconds() for p in course.periods)
        assert course.seconds == pytest.approx(worked)


def test_silence_is_work_and_a_pause_is_not():
    """Five silent minutes are shown as such; after half an hour a new run begins."""
    course = course_of(history([(0, 1), (6, 1), (40, 1)]))
    assert [slot.outcomes for slot in course.slots] == [60, 0, 0, 0, 0, 0, 60, 60]
    assert [period.outcomes for period in course.periods] == [120, 60]


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(5002, 5003, "99.9%"), (5003, 5003, "100%"), (1, 3, "33.3%"), (1, 5003, "0%"), (0, 0, "0%")],
)
def test_a_share_never_says_all_where_one_is_missing(part, whole, text):
    """Shares are cut and not rounded."""
    assert _percent(part, whole) == text


def test_what_did_not_happen_is_said_and_not_drawn():
    """No retries and no failures are a word each."""
    calm = [attrs.evolve(minute(NOON), retries=0)]
    status = attrs.evolve(STATUS, failed=0, failed_by={})
    assert _page("a", status, course_of(calm), ()).count("<p>None.</p>") == 2


def test_times_are_as_fine_as_the_job_is_long():
    """Seconds for a job of minutes, the day for one of days."""
    assert _along(course_of(history([(0, 2)]))) == ["12:00:00", "12:01:59"]
    assert _along(course_of(history([(0, 40)]))) == ["12:00", "12:10", "12:20", "12:30", "12:39"]
    assert _along(course_of(history([(0, 1), (1440, 1)])))[0] == "03-01 12:00"


@given(st.floats(1e-9, 1e12))
def test_a_scale_ends_at_a_round_number_above_all(value):
    """One digit with zeros, and at most twice too high."""
    top = ceiling(value)
    assert value <= top * (1 + 1e-8)
    assert top < value * 2.001
    assert re.fullmatch(r"[1234568]\.0+e.*", f"{top:e}")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234, "1,234"), (99.96, "100"), (12.345, "12.3"), (0.05, "0.05"), (2.5, "2.5")],
)
def test_numbers_are_short(value, text):
    """Three digits at most where there are decimals."""
    assert number(value) == text
