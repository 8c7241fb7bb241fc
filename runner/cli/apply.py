"""`runner apply`: plan, then run."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from .options import color, epilog, notices, output_option, overrides, store_option, workers_of, workers_option

if TYPE_CHECKING:
    from ..app import Asked
    from ..plan import Plan
    from ..project import Settings
    from ..record import Event
    from ..store.local import LocalStore


@click.command(epilog=epilog(0, 1, 2, 3, 4, 5, 6, 130))
@click.argument("file", type=click.Path())
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; with a pipeline file only."
)
@click.option("--again", is_flag=True, help="Run even if an unchanged request has succeeded.")
@workers_option()
@output_option("text", "json")
@store_option
def command(file: str, params: tuple[str, ...], again: bool, workers: int | None, form: str, store: str | None) -> int:
    """Plan a run file (or a whole pipeline), print the plan, and run it.

    \b
    runner apply pipelines/abalone/runs/full.yaml
    runner apply pipelines/abalone/pipeline.yaml -p xgb_max_depth=8 -p mse_threshold=5.5
    runner apply run.yaml -o json          events as JSON, one a line
    """
    from .. import app

    return perform(app.read(file, overrides(params)), again, workers, form, store)


def perform(asked: Asked, again: bool, workers: int | None, form: str, store: str | None) -> int:
    """Plan and run what is asked; return the exit code."""
    from .. import app, engine
    from ..reporters import text

    settings = asked.project.settings()
    workers = workers_of(workers)
    opened = app.open_store(asked.project, settings, store, create=True)
    made = app.plan(asked, opened)
    notices(opened)
    for warning in asked.pipeline.warnings:
        click.echo(str(warning), err=True)

    def show(plan: Plan) -> None:
        click.echo(text.plan_text(plan), err=form == "json")

    if not made.findings and not again and (run := app.earlier(made, opened)):
        engine.verify_kept(made, opened, whole=False)
        message = f"nothing to do: run {run} has done this already (--again runs it anew)"
        click.echo(message, err=form == "json")
        if form == "json":
            import json

            click.echo(json.dumps({"event": "unchanged", "run": run}))
        return 0
    show(made)
    made.refuse_findings()
    made = app.verified(asked, opened, made, settings.verify == "always", show)
    app.refuse_lacks(made)
    click.echo("", err=form == "json")
    gc.freeze()  # what planning made stays; only what the run makes is worth collecting
    gc.enable()
    return _run(asked, opened, made, settings, workers, form)


def _run(asked: Asked, opened: LocalStore, made: Plan, settings: Settings, workers: int | None, form: str) -> int:
    from .. import app, engine
    from ..reporters import json, text

    stop = engine.Stop()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)

    def go(*reporters: app.Reporter) -> int:
        return app.apply(made, asked, opened, settings, workers, stop, read_end, reporters)

    if form == "json":
        return go(lambda event: _print(json.event_line(event)))
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from ..reporters.terminal import LiveTable

        with LiveTable(made, color(sys.stdout)) as live:
            return go(live)

    def lines(event: Event) -> None:
        for line in text.event_lines(event):
            _print(line)

    return go(lines)


def _print(line: str) -> None:
    """Print a line at once; a reader that has gone away does not end the run."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
