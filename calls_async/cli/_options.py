"""Options that several commands have; the rule: a wrong value is found before anything is sent.

The key has no option on purpose: arguments are visible to every user of the machine and stay in the
shell's history.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from calls_async import Limits
from calls_async.cli._exits import App
from calls_async.cli._talk import JsonTalk, Talk
from calls_async.engines.dask import CHUNK_SIZE, MOST_IDS
from calls_async.engines.redis import URL_VARIABLE, has_password

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULTS: Final = Limits()


def finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """A callback that refuses what is no finite number."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("must be a finite number")
    return value


def set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click's)
    """A callback that shows the traceback of what ends the command."""
    if isinstance(ctx.command, App):
        ctx.command.debug = value


def _no_password(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A callback that refuses a secret on the command line; the environment may hold one."""
    given = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    if value is not None and given and has_password(value):
        raise click.BadParameter(
            f"a password here can be seen by every user: put the URL into {URL_VARIABLE}"
        )
    return value


def _choose_talk(ctx: click.Context, _: click.Parameter, value: str) -> Talk:
    talk = JsonTalk() if value == "json" else Talk()
    root = ctx.find_root().command
    if isinstance(root, App):
        root.talk = talk  # an error that ends the command is told in the same way
    return talk


base_url = click.option(
    "--base-url", metavar="URL", help="Where the API is, in place of CALLS_BASE_URL."
)

_SENDING: Final[tuple[Any, ...]] = (
    click.option(
        "--max-rate",
        type=click.FloatRange(min=0.001),
        callback=finite,
        metavar="N",
        help="Requests a second, at most. Without it: as many as the server admits.",
    ),
    click.option(
        "--shared-pace",
        metavar="URL",
        envvar=URL_VARIABLE,
        callback=_no_password,
        help="A Redis, redis://host:6379/0: all who name it keep --max-rate together. Without it: "
        f"the variable {URL_VARIABLE}, if it is set.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=_DEFAULTS.max_concurrency,
        show_default=True,
        metavar="N",
        help="Requests at the same time, at most.",
    ),
    click.option(
        "--patience",
        type=click.FloatRange(min=0.001),
        callback=finite,
        default=_DEFAULTS.patience,
        show_default=True,
        metavar="SECONDS",
        help="How long to go on while nobody answers.",
    ),
    click.option(
        "--fail-fast", is_flag=True, help="End with the first id that fails; the rest is left."
    ),
    base_url,
)


def sending(command: F) -> F:
    """The options of a command that sends requests for many ids."""
    for option in reversed(_SENDING):
        command = option(command)
    return command


_FLEET: Final[tuple[Any, ...]] = (
    click.option(
        "--dask",
        metavar="ADDRESS",
        help="Fetch on a Dask cluster: tcp://HOST:PORT, or local. --out is a folder or a URL then.",
    ),
    click.option(
        "--chunk-size",
        type=click.IntRange(1, MOST_IDS),
        metavar="N",
        help=f"With --dask: ids to a part. Without it: {CHUNK_SIZE:,}.",
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        help="With --dask: try those again that failed and may succeed now.",
    ),
)


def fleet(command: F) -> F:
    """The options of a command that can have a cluster do its work."""
    for option in reversed(_FLEET):
        command = option(command)
    return command


log_format = click.option(
    "--log-format",
    "talk",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    callback=_choose_talk,
    is_eager=True,
    help="What is said on standard error: for people, or a JSON object on each line.",
)


def out(text: str, *, required: bool = False) -> Callable[[F], F]:
    """The option for the file of the records."""
    return click.option("--out", type=click.Path(), metavar="FILE", required=required, help=text)


errors = click.option(
    "--errors",
    type=click.Path(),
    metavar="FILE",
    help="The ids that failed, and why: .jsonl or .csv.",
)
force = click.option("--force", is_flag=True, help="Replace files that exist.")
journal = click.argument("journal", type=click.Path(), metavar="JOURNAL")
