"""`runner why`: why does a step run, or why is it reused?"""

from __future__ import annotations

import click

from ..console import overrides, say, tell
from .options import epilog, output_option, store_option


@click.command(epilog=epilog(0, 2, 3, 5, 6))
@click.argument("file", type=click.Path())
@click.argument("step")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; with a pipeline file only."
)
@output_option("text", "json")
@store_option
def command(file: str, step: str, params: tuple[str, ...], form: str, store: str | None) -> int:
    """Show all that is counted for one step, then and now, and what the plan makes of it.

    Code, parameters, inputs, variables, the runtime, what it reads of other steps, and its gates are compared with what
    the reference run has, or with the newest result of the step. Executes nothing. Exit code 3 if a finding is on it.

    \b
    runner why pipelines/abalone/runs/train-only.yaml preprocess
    runner why pipelines/abalone/pipeline.yaml train -p xgb_max_depth=8 -o json
    """
    from .. import app, planning
    from ..reporters import json
    from ..reporters.why import why_text, why_value
    from ..why import explain

    planning.refuse_plan(file)
    asked = app.read(file, overrides(params), store)
    opened = app.open_store(asked.project, asked.project.settings(), store, create=False)
    with opened.in_use(tell):
        made = app.plan(asked, opened)
        found = explain(made, step, opened)
    say(json.dump(why_value(found, made)) if form == "json" else why_text(found, made))
    return 3 if found.findings else 0
