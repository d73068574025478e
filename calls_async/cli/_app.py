"""The program; the rule: the commands of a job are in `_jobs`, all others are short and here."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from calls_async import CallsClient, __version__
from calls_async.cli._card import card
from calls_async.cli._completion import completion
from calls_async.cli._demo import picture, run_demo
from calls_async.cli._exits import App, Exit, epilog
from calls_async.cli._files import check_place
from calls_async.cli._jobs import COMMANDS
from calls_async.cli._loop import run
from calls_async.cli._options import base_url as base_url_option
from calls_async.cli._options import finite, set_debug
from calls_async.cli._sandbox import serve
from calls_async.cli._talk import Talk
from calls_async.cli._terminal import DataConsole, document
from calls_async.cli._view import choose_view
from calls_async.journal._wholefile import whole_file
from calls_async.testing import Ledger, Sandbox

if TYPE_CHECKING:
    from calls_async import Fetched


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
    callback=set_debug,
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
@base_url_option
def get(call_id: str, *, as_json: bool, base_url: str | None) -> Exit:
    """Show one call."""
    fetched = run(_fetched(CallsClient(base_url=base_url), call_id))
    if as_json:
        click.echo(document(fetched.raw))
    else:
        DataConsole(highlight=False).print(card(fetched))
    return Exit.FETCHED


async def _fetched(client: CallsClient, call_id: str) -> Fetched:
    async with client:
        return await client.fetch_call(call_id)


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
    callback=finite,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds before each answer.",
)
@click.option(
    "--max-rate",
    type=click.FloatRange(min=0.001),
    callback=finite,
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
    run(serve(Sandbox(ledger=Ledger(keep=0), **options)))
    return Exit.FETCHED


@app.command(epilog=epilog("calls-async demo --svg demo.svg"))
@click.option("--svg", metavar="FILE", help="Save the summary as a picture too; replaces FILE.")
def demo(*, svg: str | None) -> Exit:
    """Fetch 1,000 calls from a sandbox, through faults.

    The sandbox has a rate limit as well. It runs on this machine, so the demo needs neither a key
    nor a network; it takes some seconds. In the end the client's count of the requests is laid
    beside the sandbox's own: the exit code is 0 if they agree and all calls were fetched.
    """
    if svg is not None:
        check_place(svg, replace=True)
    result = run(run_demo(choose_view(Talk())))
    summary = picture(result)
    if svg is not None:
        with whole_file(svg, overwrite=True) as drawing:
            drawing.write(_drawn(summary).encode())
    DataConsole(highlight=False).print(summary)
    return Exit.FETCHED if result.succeeded else Exit.FAILED


for command in (*COMMANDS, completion):
    app.add_command(command)


def _drawn(summary: Any) -> str:
    """The summary as an SVG of a terminal."""
    console = Console(record=True, width=80, file=StringIO(), highlight=False)
    console.print("[bold green]$[/] calls-async demo\n")
    console.print(summary)
    svg = console.export_svg(title="calls-async demo")
    # A picture must not ask another site for its font; any monospaced one will do.
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
