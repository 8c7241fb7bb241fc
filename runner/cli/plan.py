"""`runner plan`: what would a run do?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ..errors import Invalid, RunnerError, UsageError
from .options import epilog, notices, output_option, overrides, store_option, tell, workers_of, workers_option

if TYPE_CHECKING:
    from ..app import Asked
    from ..planning import Planned
    from ..store.local import LocalStore


@click.command(epilog=epilog(0, 2, 3, 4, 5, 6) + " With --detailed-exitcode: 10 if something would run.")
@click.argument("file", type=click.Path())
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; with a pipeline file only."
)
@click.option("--out", metavar="PLAN", help="Write the plan to a file (of a folder: to files in a folder).")
@click.option("--check", is_flag=True, help="FILE is a plan: does it still hold?")
@click.option("--accept", multiple=True, metavar="STEP", help="Print the stanza that accepts this step's finding.")
@click.option("--reason", metavar="TEXT", help="Why it is sound; goes with --accept.")
@click.option("-w", "--write", is_flag=True, help="Write the stanza of --accept into FILE.")
@click.option("--base", metavar="REV", help="Of a folder: only requests that changed since this revision of git.")
@click.option("--references", is_flag=True, help="Rank all runs that could be the reference run.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 10 if something would run.")
@workers_option()
@output_option("text", "json", "markdown")
@store_option
def command(
    file: str,
    params: tuple[str, ...],
    out: str | None,
    check: bool,
    accept: tuple[str, ...],
    reason: str | None,
    write: bool,
    base: str | None,
    references: bool,
    detailed_exitcode: bool,
    workers: int | None,
    form: str,
    store: str | None,
) -> int:
    """Show what a run would execute, reuse and leave, and every reason why.

    FILE is a run file, a pipeline file, or a folder: then every run file below it is planned. Executes no step,
    imports nothing of the project, opens no connection.

    \b
    runner plan pipelines/abalone/runs/train-only.yaml
    runner plan pipelines/abalone/pipeline.yaml -p xgb_max_depth=8
    runner plan run.yaml --out plan.json        then: runner apply plan.json
    runner plan --check plan.json               does it still hold?
    runner plan run.yaml --accept preprocess --reason "only a comment" -w
    runner plan runs --base origin/main -o markdown
    """
    from .. import app, planning

    _refuse_mix(file, check, accept, reason, write, base, out)
    if check:
        return _check(file, store, form)
    if os.path.isdir(file):
        return _folder(file, base, out, workers_of(workers), detailed_exitcode, form, store)
    if planning.is_plan(file):
        raise UsageError(f"{file} is a plan, not a request", help="`runner plan --check` it, or `runner apply` it")
    asked = app.read(file, overrides(params), store)
    opened = app.open_store(asked.project, asked.project.settings(), store, create=False)
    if accept:
        stanza = planning.accept(asked, opened, accept, reason or "", file if write else None)
        if not write:
            click.echo(stanza, nl=False)
            return 0
        click.echo(f"wrote `accept` for {', '.join(accept)} into {file}", err=True)
        asked = app.read(file)
    with opened.in_use(tell):
        made = planning.planned(asked, opened, workers_of(workers), references)
        notices(opened)
        if out:
            planning.write_plan(out, made, opened)
        shown = _shown(made, form)
        click.echo(shown)
        _warn(asked, made, opened)
        _annotate(made)
        code = _code(made, opened, detailed_exitcode)
        if form == "text" and not (references or store or workers or out or accept or detailed_exitcode):
            _keep(["plan", file, *(word for param in params for word in ("-p", param))], shown, asked, made, opened)
        return code


def _keep(args: list[str], shown: str, asked: Asked, made: Planned, opened: LocalStore) -> None:
    """Keep what was shown of a plan that finds nothing to do, to show it again at once."""
    from .. import app, settled

    if made.plan.findings or made.plan.runs or not opened.exists:
        return
    run = app.earlier(made.plan, opened)
    if run and (found := app.standing(asked, made.plan, opened, run)):
        settled.keep(args, shown, *found)


def _refuse_mix(
    file: str, check: bool, accept: tuple[str, ...], reason: str | None, write: bool, base: str | None, out: str | None
) -> None:
    if accept and not (reason or "").strip():
        raise click.UsageError("--accept needs --reason TEXT: why the result is sound all the same")
    if (reason or write) and not accept:
        raise click.UsageError("--reason and -w go with --accept STEP")
    if check and (accept or out or base):
        raise click.UsageError("--check goes with a plan file alone")
    if base is not None and not os.path.isdir(file):
        raise click.UsageError("--base goes with a folder of run files")
    if accept and os.path.isdir(file):
        raise click.UsageError("--accept goes with one run file")


def _shown(made: Planned, form: str) -> str:
    from ..reporters import json, markdown, text

    forms = {"text": text.plan_text, "json": json.plan_json, "markdown": markdown.plan_markdown}
    return forms[form](made.plan, made.estimate, made.candidates)


def _warn(asked: Asked, made: Planned, opened: LocalStore) -> None:
    from .. import app

    for warning in asked.pipeline.warnings:
        click.echo(str(warning), err=True)
    for name, what in app.lacks(made.plan, asked.project, opened, app.machine_memory(made.plan)):
        click.echo(f"warning[W310]: step {name}: {what}", err=True)


def _annotate(made: Planned) -> None:
    """In CI, tell findings where a reviewer sees them; on stderr, since stdout may be a comment."""
    from ..reporters import annotations

    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations.finding_lines(made.plan):
            click.echo(line, err=True)


def _annotate_mistakes(error: RunnerError) -> None:
    from ..reporters import annotations

    if isinstance(error, Invalid) and os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations.diagnostic_lines(error.diagnostics):
            click.echo(line, err=True)


def _code(made: Planned, opened: LocalStore, detailed: bool) -> int:
    from .. import engine

    engine.verify_kept(made.plan, opened, whole=False)
    if made.plan.findings:
        return 3
    return 10 if detailed and made.plan.runs else 0


def _check(file: str, store: str | None, form: str) -> int:
    from .. import planning

    made = planning.check(file, store)
    if form == "json":
        import json

        click.echo(json.dumps({"holds": True, "applyable": not made.findings, "digest": made.digest}))
    else:
        click.echo(f"the plan holds{', and needs a decision' if made.findings else ''}: {made.digest}")
    return 3 if made.findings else 0


def _folder(
    folder: str, base: str | None, out: str | None, workers: int | None, detailed: bool, form: str, store: str | None
) -> int:
    """Plan each request below a folder; one that cannot be planned is told, and the rest goes on."""
    from .. import app, planning
    from ..changes import changed_since, requests_below
    from ..reporters import json, markdown, text

    changed = changed_since(base, folder) if base is not None else None
    results: list[tuple[str, Planned | RunnerError]] = []
    codes = [0]
    if out:
        os.makedirs(out, exist_ok=True)
    for path in requests_below(folder):
        try:
            asked = app.read(path, None, store)
            if not asked.request.path:
                continue  # a pipeline whose text speaks of runs
            if changed is not None and not planning.names_any(asked, path, changed):
                continue
            opened = app.open_store(asked.project, asked.project.settings(), store, create=False)
            with opened.in_use(tell):
                made = planning.planned(asked, opened, workers, False)
                codes.append(_code(made, opened, detailed))
        except RunnerError as error:
            if changed is not None and not planning.concerns(path, error, changed):
                continue
            _annotate_mistakes(error)
            results.append((path, error))
            codes.append(error.exit_status)
            continue
        notices(opened)
        _annotate(made)
        results.append((path, made))
        if out:
            planning.write_plan(
                os.path.join(out, path.replace(os.sep, "__").removesuffix(".yaml") + ".json"), made, opened
            )
    forms = {"text": text.folder_text, "json": json.folder_json, "markdown": markdown.folder_markdown}
    shown = [(path, (r.plan, r.estimate) if not isinstance(r, RunnerError) else str(r)) for path, r in results]
    since = f" since {base}" if base else ""
    click.echo(
        forms[form](
            shown,
            f"no run request below {folder} has changed{since}" if base else f"there is no run request below {folder}",
        )
    )
    return next((code for code in (70, 5, 6, 2, 4, 3, 10) if code in codes), 0)
