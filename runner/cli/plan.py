"""`runner plan`: what would a run do?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ..console import make_folder, notices, overrides, tell, workers_of
from ..errors import Invalid, RunnerError
from .options import epilog, output_option, store_option, workers_option

if TYPE_CHECKING:
    from ..planning import Planned


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
    from .. import session

    _refuse_mix(file, check, accept, reason, write, base, out)
    if check:
        return _check(file, store, form)
    if os.path.isdir(file):
        return _folder(file, base, out, workers_of(workers), detailed_exitcode, form, store)
    if accept and not _accepted(file, params, accept, reason or "", write, store):
        return 0
    return session.plan(file, params, workers, form, store, out, references, detailed_exitcode)


def _accepted(
    file: str, params: tuple[str, ...], accept: tuple[str, ...], reason: str, write: bool, store: str | None
) -> bool:
    """Print the stanza that accepts findings, or write it; return whether it was written, so that there is a new plan."""
    from .. import app, planning

    planning.refuse_plan(file)
    asked = app.read(file, overrides(params), store)
    opened = app.open_store(asked.project, asked.project.settings(), store, create=False)
    stanza = planning.accept(asked, opened, accept, reason, file if write else None)
    if not write:
        click.echo(stanza, nl=False)
        return False
    click.echo(f"wrote `accept` for {', '.join(accept)} into {file}", err=True)
    return True


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


def _annotate_mistakes(error: RunnerError) -> None:
    from ..reporters import annotations

    if isinstance(error, Invalid) and os.environ.get("GITHUB_ACTIONS") == "true":
        for line in annotations.diagnostic_lines(error.diagnostics):
            click.echo(line, err=True)


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
    from .. import app, planning, session
    from ..changes import changed_since, requests_below, settings_since
    from ..reporters import json, markdown, text

    since = changed_since(base, folder) if base is not None else None
    changed = since.places if since else None
    settings = list(settings_since(since, folder)) if since else []
    results: list[tuple[str, Planned | RunnerError]] = []
    codes = [0, *(2 for _, change in settings if change.error)]
    if out:
        make_folder(out)
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
                codes.append(session.code_of(made, opened, detailed))
        except RunnerError as error:
            if changed is not None and not planning.concerns(path, error, changed):
                continue
            _annotate_mistakes(error)
            results.append((path, error))
            codes.append(error.exit_status)
            continue
        notices(opened)
        session.annotate(made.plan)
        results.append((path, made))
        if out:
            planning.write_plan(
                os.path.join(out, path.replace(os.sep, "__").removesuffix(".yaml") + ".json"), made, opened
            )
    forms = {"text": text.folder_text, "json": json.folder_json, "markdown": markdown.folder_markdown}
    shown = [(path, (r.plan, r.estimate) if not isinstance(r, RunnerError) else str(r)) for path, r in results]
    nothing = f"no run request below {folder} has changed since {base}" if base else ""
    click.echo(forms[form](shown, nothing or f"there is no run request below {folder}", settings))
    return next((code for code in (70, 5, 6, 2, 4, 3, 10) if code in codes), 0)
