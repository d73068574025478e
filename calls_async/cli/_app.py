"""The commands; the rule: what is wrong with their options is found before anything is sent.

The key has no option on purpose: arguments are visible to every user of the machine and stay in the
shell's history.
"""

from __future__ import annotations

import asyncio
import math
import re
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.console import Console

from calls_async import CallsClient, Limits, __version__
from calls_async.cli._card import card
from calls_async.cli._demo import picture, run_demo
from calls_async.cli._exits import App, Exit, epilog
from calls_async.cli._fetching import FetchJob
from calls_async.cli._ids_file import read_ids
from calls_async.cli._output import WholeFile
from calls_async.cli._rows import format_of
from calls_async.cli._sandbox import serve
from calls_async.cli._terminal import DataConsole, talk
from calls_async.cli._view import choose_view
from calls_async.cli._words import count
from calls_async.testing import Ledger, Sandbox

if TYPE_CHECKING:
    from calls_async import Fetched

T = TypeVar("T")

_DEFAULTS: Final = Limits()


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("must be a finite number")
    return value


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click's)
    if isinstance(ctx.command, App):
        ctx.command.debug = value


_base_url = click.option(
    "--base-url", metavar="URL", help="Where the API is, in place of CALLS_BASE_URL."
)


@click.group(
    "calls-async",
    cls=App,
    epilog=epilog(
        "export CALLS_API_KEY=sk_live_...",
        "export CALLS_BASE_URL=https://api.example.com",
        "calls-async fetch ids.txt --out calls.jsonl",
    ),
    invoke_without_command=True,
)
@click.version_option(__version__)
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    help="Show the traceback of an error.",
)
@click.pass_context
def app(ctx: click.Context) -> None:
    """Fetch calls from the Calls API: one, or all of a file.

    The API key is read from the environment variable CALLS_API_KEY, and the API's address from
    CALLS_BASE_URL. The key is never an option, because other users of the machine can see the
    arguments of a command.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(Exit.USAGE)


@app.command(
    epilog=epilog(
        "calls-async get 123e4567-e89b-12d3-a456-426614174000",
        "calls-async get 123e4567-e89b-12d3-a456-426614174000 --json | jq .contact",
    )
)
@click.argument("call_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the record as it was received.")
@_base_url
def get(call_id: str, *, as_json: bool, base_url: str | None) -> Exit:
    """Show one call."""
    fetched = asyncio.run(_fetched(CallsClient(base_url=base_url), call_id))
    if as_json:
        click.echo(fetched.raw)
    else:
        DataConsole(highlight=False).print(card(fetched))
    return Exit.FETCHED


async def _fetched(client: CallsClient, call_id: str) -> Fetched:
    async with client:
        return await client.fetch_call(call_id)


@app.command(
    epilog=epilog(
        "calls-async fetch ids.txt --out calls.jsonl --errors failed.jsonl",
        "cut -d, -f1 export.csv | calls-async fetch - --out calls.csv",
    )
)
@click.argument("ids_file", metavar="IDS_FILE|-")
@click.option("--out", required=True, metavar="FILE", help="The records: .jsonl or .csv.")
@click.option("--errors", metavar="FILE", help="The ids without a record, and why: JSON lines.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option(
    "--max-rate",
    type=click.FloatRange(min=0.001),
    callback=_finite,
    metavar="N",
    help="Requests a second, at most. Without it: as many as the server admits.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=_DEFAULTS.max_concurrency,
    show_default=True,
    metavar="N",
    help="Requests at the same time, at most.",
)
@_base_url
def fetch(
    ids_file: str,
    *,
    out: str,
    errors: str | None,
    force: bool,
    max_rate: float | None,
    concurrency: int,
    base_url: str | None,
) -> Exit:
    """Fetch all calls of a file of ids, or of standard input for "-".

    One id stands on each line; blank lines are skipped, and an id that is repeated is fetched once.

    The records are written in the order in which they arrive. A .jsonl file has each record as the
    server sent it, on one line. A .csv file is for spreadsheets: it has one column for each
    documented member, and an apostrophe before what a spreadsheet would take for a formula.

    A file is written under its own name with ".part" added, and renamed at the end. Ctrl-C ends it
    as well: the file then has what was fetched so far, and the command says what is missing.
    """
    row_format = format_of(out)
    if errors is not None and Path(errors).resolve() == Path(out).resolve():
        raise click.UsageError("--errors and --out must be two files.")
    found = read_ids(ids_file)
    client = CallsClient(
        base_url=base_url, limits=Limits(max_rate=max_rate, max_concurrency=concurrency)
    )
    with ExitStack() as files:
        records = files.enter_context(WholeFile(out, head=row_format.head, force=force))
        listed = None if errors is None else files.enter_context(WholeFile(errors, force=force))
        if found.duplicates:
            talk(f"{count(found.duplicates, 'repeated id')}: fetched once, written once")
        job = FetchJob(
            client=client,
            ids=found.ids,
            records=records,
            format=row_format,
            errors=listed,
        )
        return asyncio.run(job.run(choose_view()))


@app.command(epilog=epilog("calls-async sandbox --port 8080 --max-rate 100 --fault-share 0.05"))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="N",
    help="Where to listen. Without it: a free port.",
)
@click.option(
    "--latency",
    type=click.FloatRange(min=0),
    callback=_finite,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds before each answer.",
)
@click.option(
    "--max-rate",
    type=click.FloatRange(min=0.001),
    callback=_finite,
    metavar="N",
    help="Requests a second that are admitted; the others get a 429. Without it: all.",
)
@click.option(
    "--fault-share",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="The share of ids, 0 to 1, that meet one or two faults before their record.",
)
@click.option(
    "--permanent-share",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="The share of ids, 0 to 1, that have no record.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Another seed chooses other ids and other faults.",
)
def sandbox(**options: Any) -> Exit:
    """Serve a sandbox of the API on this machine, until Ctrl-C.

    Every id has a record, and always the same one. What to export, so that the other commands (and
    programs with the library) find the sandbox, is printed first.
    """
    # Without entries, because it may serve for long; what is said at the end are the counters.
    asyncio.run(serve(Sandbox(ledger=Ledger(keep=0), **options)))
    return Exit.FETCHED


@app.command(epilog=epilog("calls-async demo --svg demo.svg"))
@click.option("--svg", metavar="FILE", help="Save the summary as a picture too; replaces FILE.")
def demo(*, svg: str | None) -> Exit:
    """Fetch 1,000 calls from a sandbox, through faults.

    The sandbox has a rate limit as well. It runs on this machine, so the demo needs neither a key
    nor a network; it takes some seconds. In the end the client's count of the requests is laid
    beside the sandbox's own: the exit code is 0 if they agree and all calls were fetched.
    """
    with ExitStack() as files:
        drawing = None if svg is None else files.enter_context(WholeFile(svg, force=True))
        result = asyncio.run(run_demo(choose_view()))
        summary = picture(result)
        if drawing is not None:
            drawing.write(_drawn(summary).encode())
            drawing.commit()
        DataConsole(highlight=False).print(summary)
    return Exit.FETCHED if result.succeeded else Exit.FAILED


def _drawn(summary: Any) -> str:
    """The summary as an SVG of a terminal."""
    console = Console(record=True, width=80, file=StringIO(), highlight=False)
    console.print("[bold green]$[/] calls-async demo\n")
    console.print(summary)
    svg = console.export_svg(title="calls-async demo")
    # A picture must not ask another site for its font; any monospaced one will do.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
