"""`runner retry`: run again what did not succeed."""

from __future__ import annotations

import click

from ..console import here, the_store
from .options import complete_runs, epilog, output_option, store_option, workers_option


@click.command(epilog=epilog(0, 1, 2, 3, 4, 5, 6, 7, 130))
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "--print", "show", is_flag=True, help="Print the request as YAML, to edit and keep, instead of running it."
)
@workers_option()
@output_option("text", "json")
@store_option
def command(run: str, show: bool, workers: int | None, form: str, store: str | None) -> int:
    """Run again the steps of RUN that failed, were stopped or never ran, and all after them, with its params.

    \b
    runner retry 20261124-1601-x62p
    runner retry x62p --print > runs/mend.yaml
    """
    from .. import app
    from ..select import quoted
    from ..session import perform

    opened = the_store(store)
    id = opened.resolve(run)
    asked, chosen = app.retry_request(here()[0], opened, id)
    if not chosen:
        click.echo(f"run {id} has nothing to retry: all its steps succeeded or were skipped")
        return 0
    if show:
        click.echo(
            f"# To be kept in this folder: `pipeline` is relative to the file.\napiVersion: runner/v1\nkind: Run\npipeline: {app.relative_pipeline(asked)}\nreference: {id}\nselect: [{', '.join(map(quoted, chosen))}]\n"
            "islands: allow\nmode: full"
        )
        return 0
    return perform(asked, True, workers, form, store)
