"""`runner apply`: plan, then run."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .options import color, epilog, notices, output_option, overrides, store_option, tell, workers_of, workers_option

if TYPE_CHECKING:
    from ..app import Asked
    from ..engine import Stop
    from ..estimate import Estimate
    from ..plan import Plan
    from ..project import Settings
    from ..record import Event, RunRecord
    from ..store.local import LocalStore


@click.command(epilog=epilog(0, 1, 2, 3, 4, 5, 6, 7, 130))
@click.argument("file", type=click.Path())
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; with a pipeline file only."
)
@click.option("--again", is_flag=True, help="Run even if an unchanged request has succeeded.")
@click.option("--junit", metavar="FILE", help="Write how each step ended as JUnit XML.")
@workers_option()
@output_option("text", "json")
@store_option
def command(
    file: str,
    params: tuple[str, ...],
    again: bool,
    junit: str | None,
    workers: int | None,
    form: str,
    store: str | None,
) -> int:
    """Plan a run file (or a whole pipeline), print the plan, and run it.

    FILE may also be a plan that `runner plan --out` wrote: it is planned again, and run only if nothing has moved;
    one plan file starts one run.

    \b
    runner apply pipelines/abalone/runs/full.yaml
    runner apply pipelines/abalone/pipeline.yaml -p xgb_max_depth=8 -p mse_threshold=5.5
    runner apply plan.json                 what was planned, or nothing
    runner apply run.yaml -o json          events as JSON, one a line
    runner apply run.yaml --junit out.xml  the end of each step, for CI
    """
    from .. import app, planning

    if not planning.is_plan(file):
        plain = workers is None and form == "text" and not store and junit is None
        args = ["apply", file, *(word for param in params for word in ("-p", param))] if plain else []
        return perform(app.read(file, overrides(params), store), again, workers, form, store, junit, args)
    if params or again:
        raise click.UsageError("a plan file is whole: -p and --again do not go with it")
    return _planned(file, workers, form, store, junit)


def _planned(file: str, workers: int | None, form: str, store: str | None, junit: str | None) -> int:
    """Run the plan that a file holds, if it still holds."""
    from .. import engine, planning

    value = planning.load_plan(file)
    workers = workers_of(workers)
    opened = planning.open_store_of(file, value, store, create=True)
    opened.refuse_applied(value["digest"])
    request = planning.planned_again(value, file, opened)[0].request
    with opened.group(request.group, request.conflict == "queue", tell), opened.in_use(tell):
        asked, made = planning.planned_again(value, file, opened)  # the world may have moved while it waited
        settings = asked.project.settings()
        notices(opened)
        estimate = planning.estimated(made, opened, settings, workers)
        _show(made, estimate, form)
        made.refuse_findings()
        engine.verify_kept(made, opened, settings.verify == "always")
        return start(asked, opened, made, settings, workers, form, junit, estimate, once=True)


def _show(plan: Plan, estimate: Estimate, form: str) -> None:
    from ..reporters import text

    click.echo(text.plan_text(plan, estimate), err=form == "json")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from ..reporters import annotations

        for line in annotations.finding_lines(plan):
            click.echo(line, err=True)


def perform(
    asked: Asked,
    again: bool,
    workers: int | None,
    form: str,
    store: str | None,
    junit: str | None = None,
    args: Sequence[str] = (),
) -> int:
    """Plan and run what is asked; return the exit code. `args` are those that may be answered at once the next time."""
    from .. import app

    settings = asked.project.settings()
    workers = workers_of(workers)
    app.check_request(asked)  # before there is a store: what is refused leaves nothing behind
    opened = app.open_store(asked.project, settings, store, create=True)
    with opened.group(asked.request.group, asked.request.conflict == "queue", tell), opened.in_use(tell):
        return _perform(asked, opened, settings, again, workers, form, junit, args)


def _perform(
    asked: Asked,
    opened: LocalStore,
    settings: Settings,
    again: bool,
    workers: int | None,
    form: str,
    junit: str | None,
    args: Sequence[str],
) -> int:
    from .. import app, engine, planning

    made = app.plan(asked, opened)
    notices(opened)
    for warning in asked.pipeline.warnings:
        click.echo(str(warning), err=True)
    estimate = None

    def show(plan: Plan) -> None:
        nonlocal estimate
        estimate = planning.estimated(plan, opened, settings, workers)
        _show(plan, estimate, form)

    if not made.findings and not again and (run := app.earlier(made, opened)):
        engine.verify_kept(made, opened, whole=False)
        message = f"nothing to do: run {run} has done this already (--again runs it anew)"
        click.echo(message, err=form == "json")
        if args and (found := app.standing(asked, made, opened, run)):
            from .. import settled

            settled.keep(args, message, *found)
        if form == "json":
            import json

            click.echo(json.dumps({"event": "unchanged", "run": run}))
        return 0
    show(made)
    made.refuse_findings()
    made = app.verified(asked, opened, made, settings.verify == "always", show)
    assert estimate is not None  # `show` made it
    return start(asked, opened, made, settings, workers, form, junit, estimate, once=False)


def start(
    asked: Asked,
    opened: LocalStore,
    made: Plan,
    settings: Settings,
    workers: int | None,
    form: str,
    junit: str | None,
    estimate: Estimate,
    once: bool,
    waiting: RunRecord | None = None,
    stop: Stop | None = None,
) -> int:
    """Run a plan, or go on with a run that waits; with `stop` only to end it. Return the exit code."""
    from .. import app, engine
    from ..reporters import annotations, json, text

    stop = stop or engine.Stop()
    app.refuse_lacks(made, asked.project, opened, app.ended_before(made, waiting, stop))
    click.echo("", err=form == "json")
    gc.freeze()  # what planning made stays; only what the run makes is worth collecting
    gc.set_threshold(50_000, 20, 100)  # a step makes few rings, and to look for them takes as long as a step
    gc.enable()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    outlives = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # its terminal: so asks `nohup`
    for number in (signal.SIGINT, signal.SIGTERM, *(() if outlives else (signal.SIGHUP,))):
        signal.signal(number, stop)
    extra: list[app.Reporter] = []
    if junit is not None:
        from ..reporters.junit import Junit

        report = Junit(junit, made)
        for ended in waiting.steps.values() if waiting else ():
            report(ended)
        extra.append(report)
    if os.environ.get("GITHUB_ACTIONS") == "true":

        def annotate(event: Event) -> None:
            for line in annotations.lines(event, made):
                _print(line, err=form == "json")

        extra.append(annotate)

    def go(*reporters: app.Reporter) -> int:
        return app.apply(
            made,
            asked,
            opened,
            settings,
            workers,
            stop,
            read_end,
            [*reporters, *extra],
            once,
            estimate,
            tell,
            waiting,
        )

    if form == "json":
        return go(lambda event: _print(json.event_line(event)))
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from ..reporters.terminal import LiveTable, silence

        def hang_up(number: int, frame: object) -> None:
            stop(number, frame)
            if not os.isatty(1):  # it was: the terminal is closed, not only the signal sent
                silence()

        if not outlives:
            signal.signal(signal.SIGHUP, hang_up)
        with LiveTable(made, color(sys.stdout), estimate.seconds) as live:
            return go(live)

    def lines(event: Event) -> None:
        for line in text.event_lines(event, estimate.seconds):
            _print(line)

    return go(lines)


def _print(line: str, err: bool = False) -> None:
    """Print a line at once; a reader that has gone away does not end the run."""
    try:
        print(line, flush=True, file=sys.stderr if err else sys.stdout)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
