"""`runner plan`: what would a run do?"""

from __future__ import annotations

import click

from .options import epilog, notices, output_option, store_option


@click.command(epilog=epilog(0, 2, 3, 5, 6) + " With --detailed-exitcode: 10 if something would run.")
@click.argument("file", type=click.Path())
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; with a pipeline file only."
)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 10 if something would run.")
@output_option("text", "json", "markdown")
@store_option
def command(file: str, params: tuple[str, ...], detailed_exitcode: bool, form: str, store: str | None) -> int:
    """Show what a run would execute, reuse and leave, and every reason why.

    Executes no step, imports nothing of the project, opens no connection.

    \b
    runner plan pipelines/abalone/runs/train-only.yaml
    runner plan pipelines/abalone/pipeline.yaml -p xgb_max_depth=8
    """
    from .. import app, engine
    from ..reporters import json, markdown, text
    from .apply import overrides

    asked = app.read(file, overrides(params))
    settings = asked.project.settings()
    opened = app.open_store(asked.project, settings, store, create=False)
    made = app.plan(asked, opened)
    notices(opened)
    forms = {"text": text.plan_text, "json": json.plan_json, "markdown": markdown.plan_markdown}
    click.echo(forms[form](made))
    for warning in asked.pipeline.warnings:
        click.echo(str(warning), err=True)
    for name, what in app.lacks(made, app.machine_memory(made)):
        click.echo(f"warning[W310]: step {name}: {what}", err=True)
    engine.verify_kept(made, opened, whole=False)
    if made.findings:
        return 3
    return 10 if detailed_exitcode and made.runs else 0
