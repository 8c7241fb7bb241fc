"""All commands as one, by the parser of options; each is loaded when it is called."""

from __future__ import annotations

import importlib

import click

from .. import __version__
from . import COMMANDS


class _Lazy(click.Group):
    """Knows its commands by name; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = importlib.import_module(f".{name}", __package__).command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from ..errors import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command `{args[0]}`. {nearest(args[0], COMMANDS)}".strip(), ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="runner %(version)s")
def group() -> None:
    """Run pipelines that are written in YAML, whole or in part.

    \b
    runner apply pipelines/abalone/runs/full.yaml          run a pipeline
    runner plan  pipelines/abalone/runs/train-only.yaml    see what a part of it would run and reuse
    runner apply pipelines/abalone/runs/train-only.yaml    run that part
    runner runs                                            what ran
    """


def parsed(args: list[str]) -> int:
    """Do what a command line asks for; return the exit code."""
    try:
        code = group.main(args, prog_name="runner", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    return code if isinstance(code, int) else 0
