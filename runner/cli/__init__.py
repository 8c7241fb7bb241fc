"""The command line: options in, exit code out, nothing decided. One file a command, loaded when it is asked for."""

from __future__ import annotations

import gc
import importlib
import os
import sys
import warnings

import click

from .. import __version__
from ..errors import Invalid, RunnerError

COMMANDS = {
    "validate": "Check pipeline and run files.",
    "plan": "Show what a run would do, and why.",
    "apply": "Plan, then run.",
    "retry": "Run again what did not succeed in a run.",
    "stop": "Ask a run to stop.",
    "approve": "Approve what a run waits for.",
    "reject": "Reject what a run waits for.",
    "callback": "Give a run the values that it waits for.",
    "resume": "Go on with a run that waits.",
    "runs": "List runs.",
    "show": "Show one run.",
    "diff": "Show what differs between two runs.",
    "logs": "Print what steps printed.",
    "outputs": "Print or restore what a step made.",
    "models": "List, show and decide on registered models.",
    "graph": "Draw a pipeline.",
    "schema": "Write the JSON Schemas.",
    "pin": "Keep a run whatever the limits of gc are.",
    "unpin": "Take the pin of a run away.",
    "doctor": "Check what this machine and the store have.",
    "store": "Check, mend, measure or clean the store.",
    "init": "Make a small project, or the workflow of a review.",
    "completion": "Print shell completion.",
}


class _Lazy(click.Group):
    """Knows its commands by name; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = importlib.import_module(f".{name}", __name__).command
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


def run(args: list[str]) -> int:
    """Run a command; return its exit code."""
    if not sys.warnoptions:  # what Python wonders about in a `pattern` is said to nobody who could heed it
        warnings.simplefilter("ignore", FutureWarning)
    gc.disable()  # planning makes many values and no rings; looking for rings would take a fifth of its time
    try:
        code = group.main(args, prog_name="runner", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except RunnerError as error:
        sys.stdout.flush()
        print(
            str(error)
            .encode(sys.stderr.encoding or "utf-8", "backslashreplace")
            .decode(sys.stderr.encoding or "utf-8"),
            file=sys.stderr,
        )
        if isinstance(error, Invalid) and os.environ.get("GITHUB_ACTIONS") == "true":
            from ..reporters.annotations import diagnostic_lines

            print(*diagnostic_lines(error.diagnostics), sep="\n", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone, and with it the wish for more
        return 0
    except Exception:
        import traceback

        traceback.print_exc()
        print(
            f"\nThis is a bug of runner {__version__}, not of your files. Please report it with the lines above.",
            file=sys.stderr,
        )
        return 70
