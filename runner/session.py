"""A request -> its plan on the terminal, or its run: what `apply` and `plan` do, and what `retry` and `resume` end in."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .console import color, notices, overrides, say, tell, workers_of

if TYPE_CHECKING:
    from .app import Asked
    from .engine import Stop
    from .estimate import Estimate
    from .plan import Plan
    from .planning import Planned
    from .record import Event, RunRecord
    from .settings import Settings
    from .store.local import LocalStore


def apply(
    file: str, params: tuple[str, ...] = (), again: bool = False, workers: int | None = None, form: str = "text",
    store: str | None = None, junit: str | None = None,
) -> int:  # fmt: skip
    """Plan and run a request, or run the plan that a file holds; return the exit code."""
    from . import app, planning
    from .errors import UsageError

    if planning.is_plan(file):
        if params or again:
            raise UsageError("a plan file is whole: -p and --again do not go with it")
        return _planned(file, workers, form, store, junit)
    simple = workers is None and form == "text" and not store and junit is None
    args = ["apply", file, *(word for param in params for word in ("-p", param))] if simple else []
    return perform(app.read(file, overrides(params), store), again, workers, form, store, junit, args)


def _planned(file: str, workers: int | None, form: str, store: str | None, junit: str | None) -> int:
    """Run the plan that a file holds, if it still holds."""
    from . import engine, planning

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
    from .reporters import text

    say(text.plan_text(plan, estimate), err=form == "json")
    annotate(plan)


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
    from . import app

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
    from . import app, engine, planning

    made = app.plan(asked, opened)
    notices(opened)
    for warning in asked.pipeline.warnings:
        say(str(warning), err=True)
    estimate = None

    def show(plan: Plan) -> None:
        nonlocal estimate
        estimate = planning.estimated(plan, opened, settings, workers)
        _show(plan, estimate, form)

    if not made.findings and not again and (run := app.earlier(made, opened)):
        engine.verify_kept(made, opened, whole=False)
        opened.leftovers.sweep()
        message = f"nothing to do: run {run} has done this already (--again runs it anew)"
        say(message, err=form == "json")
        if args and (found := app.standing(asked, made, opened, run)):
            from . import settled

            settled.keep(args, message, *found)
        if form == "json":
            import json

            say(json.dumps({"event": "unchanged", "run": run}))
        opened.leftovers.finish(tell, lambda: False)
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
    from . import app, engine
    from .reporters import annotations, json, text
    from .store import rights

    rights.refuse_unwritable(opened.path)  # before anything is started or made
    stop = stop or engine.Stop()
    app.refuse_lacks(made, asked.project, opened, app.ended_before(made, waiting, stop))
    say("", err=form == "json")
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
        from .reporters.junit import Junit

        report = Junit(junit, made)
        for ended in waiting.steps.values() if waiting else ():
            report(ended)
        extra.append(report)
    if os.environ.get("GITHUB_ACTIONS") == "true":

        def tell_ci(event: Event) -> None:
            for line in annotations.lines(event, made):
                say(line, err=form == "json")

        extra.append(tell_ci)

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
        return go(lambda event: say(json.event_line(event)))
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        from .reporters.terminal import LiveTable, silence

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
            say(line)

    return go(lines)


# --- plan


def plan(
    file: str, params: tuple[str, ...] = (), workers: int | None = None, form: str = "text", store: str | None = None,
    out: str | None = None, references: bool = False, detailed: bool = False,
) -> int:  # fmt: skip
    """Show what a request would do, and why; return the exit code."""
    from . import app, planning

    planning.refuse_plan(file)
    asked = app.read(file, overrides(params), store)
    opened = app.open_store(asked.project, asked.project.settings(), store, create=False)
    with opened.in_use(tell):
        made = planning.planned(asked, opened, workers_of(workers), references)
        notices(opened)
        if out:
            planning.write_plan(out, made, opened)
        shown = _shown(made, form)
        say(shown)
        _warn(asked, made, opened)
        annotate(made.plan)
        code = code_of(made, opened, detailed)
        if form == "text" and not (references or store or workers or out or detailed):
            _keep(["plan", file, *(word for param in params for word in ("-p", param))], shown, asked, made, opened)
        return code


def _keep(args: list[str], shown: str, asked: Asked, made: Planned, opened: LocalStore) -> None:
    """Keep what was shown of a plan that finds nothing to do, to show it again at once."""
    from . import app, settled

    if made.plan.findings or made.plan.starts or not opened.exists:
        return
    run = app.earlier(made.plan, opened)
    if run and (found := app.standing(asked, made.plan, opened, run)):
        settled.keep(args, shown, *found)


def _shown(made: Planned, form: str) -> str:
    from .reporters import json, markdown, text

    forms = {"text": text.plan_text, "json": json.plan_json, "markdown": markdown.plan_markdown}
    return forms[form](made.plan, made.estimate, made.candidates)


def _warn(asked: Asked, made: Planned, opened: LocalStore) -> None:
    from . import app

    for warning in asked.pipeline.warnings:
        say(str(warning), err=True)
    for name, what in app.lacks(made.plan, asked.project, opened, app.machine_memory(made.plan)):
        say(f"warning[W310]: step {name}: {what}", err=True)


def annotate(plan: Plan) -> None:
    """In CI, tell findings where a reviewer sees them; on stderr, since stdout may be a comment."""
    from .reporters import annotations

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations.finding_lines(plan):
            say(line, err=True)


def code_of(made: Planned, opened: LocalStore, detailed: bool) -> int:
    from . import engine

    engine.verify_kept(made.plan, opened, whole=False)
    if made.plan.findings:
        return 3
    return 10 if detailed and made.plan.starts else 0
