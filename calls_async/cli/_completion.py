"""Shell completion; the rule: click knows the commands, so its scripts ask the program itself."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from calls_async.cli._exits import Exit, epilog

PROGRAM: Final = "calls-async"
VARIABLE: Final = "_CALLS_ASYNC_COMPLETE"
"""What click looks for when the shell asks."""


@click.command(
    epilog=epilog(
        'eval "$(calls-async completion bash)"    # in ~/.bashrc',
        'eval "$(calls-async completion zsh)"     # in ~/.zshrc',
        "calls-async completion fish > ~/.config/fish/completions/calls-async.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> Exit:
    """Print the script that lets a shell complete commands, options and files."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 (click has these three)
    asked = kind(ctx.find_root().command, {}, PROGRAM, VARIABLE)
    # Not `source()`: for bash that runs bash, to warn of old ones.
    click.echo(asked.source_template % asked.source_vars())
    return Exit.FETCHED
