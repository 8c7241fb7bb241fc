"""`runner apply`: plan, then run."""

from __future__ import annotations

import click

from .options import epilog, output_option, store_option, workers_option


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
    from .. import session

    return session.apply(file, params, again, workers, form, store, junit)
