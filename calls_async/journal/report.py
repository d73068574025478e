"""A job as a page; the rule: one file that needs nothing else and trusts no text in it.

The page has no script, asks no network for anything and forbids both to whatever might get into it
(Content Security Policy). The same journal gives the same page, so it names no time of its making.
"""

from __future__ import annotations

import base64
import hashlib
import math
from itertools import islice
from typing import TYPE_CHECKING, Final

from calls_async.journal import _charts
from calls_async.journal._charts import Chart, Table, ceiling, number, shown
from calls_async.journal._duration import duration
from calls_async.journal._slots import PAUSE, Course, course_of
from calls_async.journal._style import STYLE
from calls_async.journal._wholefile import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from os import PathLike

    from calls_async.journal._journal import Journal
    from calls_async.journal._records import FailureRecord, JobStatus

__all__ = ["write_report"]

_LISTED: Final = 50
"""Failures that the page names one by one."""

_LONGEST: Final = 300
"""Characters of an id or a message that the page shows."""


def write_report(journal: Journal, out: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Write a page about a job: throughput, latency, retries, failures and when it worked.

    The page is one HTML file of at most some hundred kilobytes, however long the job was. It can be
    written while the job runs.

    Args:
        journal: The journal of the job.
        out: The file.
        overwrite: Whether a file of that name is replaced.

    Raises:
        JournalError: The journal cannot be read.
        OutputError: The file is there already, or cannot be written.
    """
    with whole_file(out, overwrite=overwrite) as file:
        status = journal.status()
        course = course_of(journal.history())
        failures = list(islice(journal.failed(), _LISTED))
        file.write(_page(journal.path.name, status, course, failures).encode())


def _page(name: str, status: JobStatus, course: Course, failures: Sequence[FailureRecord]) -> str:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    sections = "\n".join([_summary(status, course), *_charts_of(course), _failed(status, failures)])
    return f"""<!doctype html>
<html lang="en" dir="ltr">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{shown(name)}: report of the job</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Report of a job</h1>
<p class="quiet">{shown(name)} · {_when(status, course)}</p>
</header>
<main>
{sections}
</main>
<footer>
<p>All times are in UTC. Made by calls_async from the journal of the job.</p>
</footer>
</body>
</html>
"""


def _section(title: str, *parts: str) -> str:
    inside = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{shown(title)}</h2>\n{inside}\n</section>"


# --- Words ---------------------------------------------------------------------------------------


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")


def _when(status: JobStatus, course: Course) -> str:
    if not course.periods:
        return f"made at {_moment(status.started_at)}"
    first, last = course.periods[0].began, course.periods[-1].ended
    return f"{_moment(first)} to {_moment(last)} UTC"


def _latency(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(round(seconds * 1000, 1))} ms"


def _percent(part: float, whole: float) -> str:
    # Not rounded: 100% is all, and not nearly all.
    return f"{math.floor(1000 * part / whole) / 10:g}%" if whole else "0%"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


# --- Sections ------------------------------------------------------------------------------------


def _summary(status: JobStatus, course: Course) -> str:
    outcomes = status.fetched + status.failed
    facts = [
        ("Asked for", number(status.asked), f"{number(status.duplicates)} given again"),
        ("Fetched", number(status.fetched), f"{_percent(status.fetched, status.asked)} of all"),
        ("Failed", number(status.failed), f"{number(status.retryable)} may be tried again"),
        ("Left", number(status.left), "without an outcome"),
        ("Worked for", duration(course.seconds), f"in {_count(len(course.periods), 'run')}"),
    ]
    if course.seconds >= 1:
        facts.append(("Calls a second", number(outcomes / course.seconds), "on average"))
    items = "\n".join(
        f"<div><dt>{shown(name)}</dt><dd>{shown(value)}<small>{shown(more)}</small></dd></div>"
        for name, value, more in facts
    )
    return _section("Summary", f"<dl>\n{items}\n</dl>")


def _count(many: int, noun: str) -> str:
    return f"{number(many)} {noun}{'' if many == 1 else 's'}"


def _charts_of(course: Course) -> list[str]:
    if course.total is None:
        return [_section("Nothing has happened yet", "<p>No id has an outcome.</p>")]
    return [
        _section("Throughput", _throughput(course).html()),
        _section("Latency", _latencies(course).html()),
        _section("Retries", _retries(course).html() if course.total.retries else "<p>None.</p>"),
        _section("Timeline", _timeline(course).html()),
    ]


def _along(course: Course) -> list[str]:
    """Times at the beginning, the quarters and the end of the slots."""
    slots = course.slots
    first, last = slots[0].told.first_at, slots[-1].told.last_at
    form = "%H:%M:%S" if last - first < PAUSE else "%H:%M"
    if first.date() != last.date():
        form = f"%m-%d {form}"
    inner = [slots[len(slots) * i // 4].told.first_at for i in (1, 2, 3)] if len(slots) > 3 else []
    return [time.strftime(form) for time in (first, *inner, last)]


def _throughput(course: Course) -> Chart:
    rates = [
        (slot.told.fetched / max(slot.seconds, 1.0), slot.told.failed / max(slot.seconds, 1.0))
        for slot in course.slots
    ]
    highest = max(map(sum, rates))
    top = ceiling(highest)
    rows = [
        (
            _moment(slot.told.first_at),
            duration(slot.seconds),
            number(slot.told.fetched),
            number(slot.told.failed),
            number(slot.told.retries),
            number(sum(rate)),
            _latency(slot.told.quantile(0.5) or 0.0),
            _latency(slot.told.quantile(0.99) or 0.0),
        )
        for slot, rate in zip(course.slots, rates, strict=True)
    ]
    return Chart(
        name="throughput",
        title="Outcomes per second over the time of work",
        description=(
            f"At most {number(highest)} outcomes per second, in {_count(len(rates), 'piece')} of "
            "the time of work. Pauses of more than ten minutes are left out."
        ),
        shapes=f"{_charts.grid()}\n{_charts.bars(rates, ('fetched', 'failed'), top)}",
        upright=(number(top), number(top / 2), "0"),
        along=_along(course),
        legend=(("fetched", "fetched per second"), ("failed", "failed per second, on top")),
        table=Table(
            head=("From", "Worked", "Fetched", "Failed", "Retries", "Per second", "p50", "p99"),
            rows=rows,
        ),
    )


def _latencies(course: Course) -> Chart:
    total = course.total
    assert total is not None  # noqa: S101 (for type checkers; there are no charts of nothing)
    found = dict(total.latencies)
    bounds = _scale(tuple(found))
    highest = max(found.values())
    top = ceiling(highest)
    half, most, nearly_all = (total.quantile(share) or 0.0 for share in (0.5, 0.9, 0.99))
    outcomes = sum(found.values())
    kept = 0
    rows: list[tuple[str, ...]] = []
    for bound, many in total.latencies:
        kept += many
        rows.append((_latency(bound), number(many), _percent(kept, outcomes)))
    return Chart(
        name="latency",
        title="How long the calls took",
        description=(
            f"Half took at most {_latency(half)}, 90% at most {_latency(most)}, 99% at most "
            f"{_latency(nearly_all)}, with all retries and waits. The scale is logarithmic."
        ),
        shapes=(
            f"{_charts.grid()}\n"
            f"{_charts.bars([[found.get(bound, 0)] for bound in bounds], ('latency',), top)}"
        ),
        upright=(number(top), number(top / 2), "0"),
        along=[_latency(bounds[(len(bounds) - 1) * i // 4]) for i in range(5)]
        if len(bounds) >= 5
        else [_latency(bound) for bound in bounds],
        legend=(("latency", "calls"),),
        table=Table(head=("At most", "Calls", "So far"), rows=rows),
    )


def _scale(bounds: Sequence[float]) -> list[float]:
    """Every bound from the first to the last: the classes that nobody is in as well."""
    scale = [bounds[0]]
    step = 2**0.25  # as `Minute.latencies` has them
    for bound in bounds[1:]:
        while scale[-1] * step < bound * 0.99:
            scale.append(scale[-1] * step)
        scale.append(bound)
    return scale


def _retries(course: Course) -> Chart:
    rates = [(slot.told.retries / max(slot.seconds, 1.0),) for slot in course.slots]
    highest = max(map(sum, rates))
    top = ceiling(highest)
    retries = sum(slot.told.retries for slot in course.slots)
    requests = sum(slot.told.requests for slot in course.slots)
    rows = [
        (
            _moment(slot.told.first_at),
            number(slot.told.requests),
            number(slot.told.retries),
            _percent(slot.told.retries, slot.told.requests),
        )
        for slot in course.slots
    ]
    return Chart(
        name="retries",
        title="Retries per second over the time of work",
        description=(
            f"{_count(requests, 'request')}, of which {number(retries)} "
            f"({_percent(retries, requests)}) were retries; at most {number(highest)} a second."
        ),
        shapes=f"{_charts.grid()}\n{_charts.bars(rates, ('retries',), top)}",
        upright=(number(top), number(top / 2), "0"),
        along=_along(course),
        legend=(("retries", "retries per second"),),
        table=Table(head=("From", "Requests", "Retries", "Share"), rows=rows),
    )


def _timeline(course: Course) -> Chart:
    first, last = course.periods[0].began, course.periods[-1].ended
    whole = max((last - first).total_seconds(), 1.0)
    spans = [
        ((run.began - first).total_seconds() / whole, (run.ended - first).total_seconds() / whole)
        for run in course.periods
    ]
    rows = [
        (
            _moment(run.began),
            _moment(run.ended),
            duration((run.ended - run.began).total_seconds()),
            number(run.outcomes),
        )
        for run in course.periods
    ]
    return Chart(
        name="timeline",
        title="When the job worked",
        description=(
            f"{_count(len(spans), 'run')} within {duration(whole)}; a gap is a pause of more than "
            "ten minutes."
        ),
        shapes=_charts.spans(spans),
        along=(_moment(first), _moment(last)),
        table=Table(head=("From", "To", "Worked", "Outcomes"), rows=rows),
    )


# --- Failures ------------------------------------------------------------------------------------


def _failed(status: JobStatus, failures: Sequence[FailureRecord]) -> str:
    if not status.failed:
        return _section("Failures", "<p>None.</p>")
    families = sorted(status.failed_by.items(), key=lambda item: (-item[1], item[0]))
    most = families[0][1]
    body = "\n".join(
        f'<tr><th scope="row">{shown(family)}</th><td>{number(many)}</td>'
        f"<td>{_percent(many, status.failed)}</td>"
        f"<td>{_charts.share_bar(many / most, 'failed')}</td></tr>"
        for family, many in families
    )
    by_family = f"""<div class="scroll" role="region" tabindex="0" aria-label="Failures by family">
<table class="numbers">
<caption>By the family of the error</caption>
<thead><tr><th scope="col">Error</th><th scope="col">Calls</th><th scope="col">Share</th>\
<td></td></tr></thead>
<tbody>
{body}
</tbody></table></div>"""
    named = Table(
        head=("Id", "Error", "Message", "Attempts", "Again?"),
        rows=[
            (
                _short(failure.id),
                failure.error,
                _short(failure.message),
                number(failure.attempts),
                "yes" if failure.retryable else "no",
            )
            for failure in failures
        ],
        style="texts",
    )
    more = _count(status.failed, "failure")
    if len(failures) < status.failed:
        more = f"The first {len(failures)} of {more}"
    more += ", in the order of the ids"
    return _section(
        "Failures", by_family, f"<details><summary>{more}</summary>\n{named.html(more)}\n</details>"
    )
