"""The commands of a job: fetch, retry, status, export, report; the rule: the journal is the job.

`fetch` and `retry` write it, the others read it, also while one of those runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import click

from calls_async import CallsClient, Limits
from calls_async.cli import _options, _status
from calls_async.cli._exits import CommandError, Exit, epilog
from calls_async.cli._files import Files, check_place, is_own, journal_of
from calls_async.cli._fleet import Fleet
from calls_async.cli._job import Job
from calls_async.cli._loop import run
from calls_async.cli._plan import planned
from calls_async.cli._signals import terminable
from calls_async.cli._sources import KINDS, ReadAhead, begun, source_of
from calls_async.cli._terminal import DataConsole
from calls_async.cli._view import choose_view
from calls_async.cli._watch import Watch
from calls_async.engines.dask import CHUNK_SIZE
from calls_async.engines.redis import SharedPace
from calls_async.journal import Journal
from calls_async.journal.report import write_report

if TYPE_CHECKING:
    from typing import Unpack

    from calls_async.cli._job import End
    from calls_async.cli._talk import Talk
    from calls_async.journal.sources import Source


class _Sending(TypedDict):
    """What `_options.sending` gives."""

    max_rate: float | None
    shared_pace: str | None
    concurrency: int
    patience: float
    fail_fast: bool
    base_url: str | None


@click.command(
    epilog=epilog(
        "calls-async fetch ids.txt --out calls.jsonl --errors failed.jsonl",
        "calls-async fetch export.csv --column call_id --out calls.parquet",
        "cut -d, -f1 export.csv | calls-async fetch - --out calls.csv",
        "calls-async fetch a.txt --out a.csv --max-rate 9 --shared-pace redis://host",
    )
)
@click.argument("ids_file", type=click.Path(allow_dash=True), metavar="IDS_FILE|-")
@_options.out("The records: .jsonl, .csv or .parquet.")
@_options.errors
@click.option(
    "--journal",
    type=click.Path(),
    metavar="FILE",
    help="The record of the job. Without it: the name of --out with .journal added.",
)
@click.option(
    "--from",
    "kind",
    type=click.Choice(KINDS),
    help="What IDS_FILE is. Without it: what its name says, or text.",
)
@click.option("--column", metavar="NAME", help="The column or the JSON member that has the ids.")
@click.option("--query", metavar="SELECT", help="The query that gives the ids of an SQLite file.")
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and send nothing.")
@_options.force
@_options.fleet
@_options.sending
@_options.log_format
def fetch(
    ids_file: str,
    *,
    out: str | None,
    errors: str | None,
    journal: str | None,
    kind: str | None,
    column: str | None,
    query: str | None,
    dry_run: bool,
    force: bool,
    dask: str | None,
    chunk_size: int | None,
    retry_failed: bool,
    talk: Talk,
    **sending: Unpack[_Sending],
) -> Exit:
    """Fetch all calls of a file of ids, or of standard input for "-".

    The ids stand in a text file, one on each line, or in a column of a CSV, JSON lines, Parquet or
    SQLite file. One that is repeated is fetched once.

    What is fetched is kept in the journal as it arrives. When every id has its outcome, the files
    are written from it, in the order of the ids. A job that was ended earlier, in whichever way,
    goes on when the same command is run again: nothing is fetched twice.

    With --dask a cluster does the work, and a folder of Parquet files takes the place of journal
    and files.

    Ctrl-C finishes what is in flight and ends; a second Ctrl-C ends at once. SIGTERM is the same.
    """
    source = source_of(ids_file, kind, column=column, query=query)
    if dask is not None:
        unused = {
            "--errors": errors, "--journal": journal, "--dry-run": dry_run, "--force": force,
            "--fail-fast": sending["fail_fast"],
        }  # fmt: skip
        return _fleet(
            Fleet(
                address=dask,
                out=out,
                chunk_size=chunk_size or CHUNK_SIZE,
                retry_failed=retry_failed,
                max_rate=sending["max_rate"],
                pace=_pace(sending),
                concurrency=sending["concurrency"],
                patience=sending["patience"],
                base_url=sending["base_url"],
            ),
            source,
            [option for option, value in unused.items() if value],
            talk,
        )
    if chunk_size is not None or retry_failed:
        raise click.UsageError("--chunk-size and --retry-failed go with --dask.")
    if journal is None:
        if out is None:
            raise click.UsageError("give --out FILE for the records, or --journal FILE.")
        journal = journal_of(out)
    files = Files(out=out, errors=errors, replace=force or is_own(out, journal))
    files.check()
    check_place(journal, replace=True)
    if dry_run:
        return _plan(source, journal, sending["max_rate"], talk)
    ids = ReadAhead(begun(source))
    watch, client = _sender(sending)
    with terminable(), Journal.open(journal) as opened:
        status = opened.status()
        done = status.fetched + status.failed
        begin = [f"{done:,} already done, {status.left:,} left"] if done else []
        talk.tell("start", *begin, journal=journal, done=done, left=status.left)
        job = Job(
            client=client,
            journal=opened,
            watch=watch,
            ids=ids,
            digest=source.digest(),
            fail_fast=sending["fail_fast"],
        )
        return _run(job, files, journal, talk)


def _fleet(fleet: Fleet, source: Source, unused: list[str], talk: Talk) -> Exit:
    if unused:
        raise click.UsageError(f"{unused[0]} and --dask do not go together.")
    return fleet.run(begun(source), talk)


def _plan(source: Source, journal: str, max_rate: float | None, talk: Talk) -> Exit:
    ids = begun(source)
    if Path(journal).exists():
        with Journal.open(journal, read_only=True) as opened:
            plan = planned(ids, opened, max_rate=max_rate)
    else:
        plan = planned(ids, None, max_rate=max_rate)
    talk.tell("plan", *plan.lines(), **plan.members())
    return Exit.FETCHED


def _pace(options: _Sending) -> SharedPace | None:
    """The pace that is shared, if one is."""
    rate, url = options["max_rate"], options["shared_pace"]
    if url is None:
        return None
    if rate is None:
        raise click.UsageError("a shared pace needs --max-rate N, the limit that all share.")
    return SharedPace(url, rate=rate)


def _sender(options: _Sending) -> tuple[Watch, CallsClient]:
    """The client, and what sees its work."""
    rate = options["max_rate"]
    watch = Watch(given_rate=rate)
    # In a fleet the rate is that of all, and any of them may have most of it.
    pace = _pace(options)
    limits = Limits(
        max_rate=rate if pace is None else None,
        max_concurrency=options["concurrency"],
        patience=options["patience"],
    )
    client = CallsClient(base_url=options["base_url"], limits=limits, hooks=[watch], pace=pace)
    return watch, client


def _run(job: Job, files: Files, journal: str, talk: Talk) -> Exit:
    """Do the job, write the files if every id has its outcome, and give account."""
    end: End = run(job.run(choose_view(talk)))
    if end.complete:
        files.write(job.journal, talk)
    end.tell(talk, journal=journal, listed=files.errors)
    return end.code


@click.command(epilog=epilog("calls-async retry calls.jsonl.journal --out calls.jsonl"))
@_options.journal
@_options.out("Write the records anew: .jsonl, .csv or .parquet.")
@_options.errors
@_options.force
@_options.sending
@_options.log_format
def retry(
    journal: str,
    *,
    out: str | None,
    errors: str | None,
    force: bool,
    talk: Talk,
    **sending: Unpack[_Sending],
) -> Exit:
    """Try those again that failed and may succeed now.

    Those that are left are fetched as well. What failed for good, such as a call that does not
    exist, is not asked for again.
    """
    files = Files(out=out, errors=errors, replace=force or is_own(out, journal))
    files.check()
    _there(journal)
    watch, client = _sender(sending)
    with terminable(), Journal.open(journal) as opened:
        status = opened.status()
        begin = f"{status.retryable:,} to try again, {status.left:,} left"
        talk.tell("start", begin, journal=journal, retryable=status.retryable, left=status.left)
        job = Job(
            client=client,
            journal=opened,
            watch=watch,
            retry_failed=True,
            fail_fast=sending["fail_fast"],
        )
        return _run(job, files, journal, talk)


@click.command(epilog=epilog("calls-async status calls.jsonl.journal"))
@_options.journal
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(journal: str, *, as_json: bool) -> Exit:
    """Show how far a job is, also while it runs."""
    with _reading(journal) as opened:
        found = opened.status()
    if as_json:
        click.echo(json.dumps({"journal": journal, **_status.members(found)}))
    else:
        DataConsole(highlight=False).print(_status.told(found))
    return Exit.FETCHED


@click.command(
    epilog=epilog("calls-async export calls.jsonl.journal --out calls.csv --errors failed.csv")
)
@_options.journal
@_options.out("The records: .jsonl, .csv or .parquet.")
@_options.errors
@_options.force
@_options.log_format
def export(journal: str, *, out: str | None, errors: str | None, force: bool, talk: Talk) -> Exit:
    """Write what a journal has into files, also while its job runs.

    The records are in the order of the ids.
    """
    if out is None and errors is None:
        raise click.UsageError("give --out FILE for the records, or --errors FILE.")
    files = Files(out=out, errors=errors, replace=force)
    files.check()
    with terminable(), _reading(journal) as opened:
        files.write(opened, talk)
        left = opened.status().left
    if left:
        talk.tell("left", f"that is not all: {left:,} left", left=left)
    return Exit.FETCHED


@click.command(epilog=epilog("calls-async report calls.jsonl.journal --out report.html"))
@_options.journal
@_options.out("The page: one HTML file that needs nothing else.", required=True)
@_options.force
def report(journal: str, *, out: str, force: bool) -> Exit:
    """Make a page about a job: its throughput, latency, retries, failures and timeline."""
    check_place(out, replace=force)
    with terminable(), _reading(journal) as opened:
        write_report(opened, out, overwrite=force)
    return Exit.FETCHED


def _there(journal: str) -> None:
    if not Path(journal).exists():
        raise CommandError(f"there is no journal {journal}: fetch makes it", Exit.USAGE)


def _reading(journal: str) -> Journal:
    _there(journal)
    return Journal.open(journal, read_only=True)


COMMANDS: Final = (fetch, status, retry, export, report)
