"""`runner completion`: for your shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import epilog


@click.command(epilog=epilog(0, 2))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print the completion of a shell.

    \b
    eval "$(runner completion bash)"          in ~/.bashrc
    runner completion fish > ~/.config/fish/completions/runner.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # the choice above
    click.echo(found(ctx.find_root().command, {}, "runner", "_RUNNER_COMPLETE").source())
    return 0
