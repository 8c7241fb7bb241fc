"""`runner unpin`: let a run go when `runner store gc` says so."""

from __future__ import annotations

import click

from ..console import the_store
from .options import complete_runs, epilog, store_option


@click.command(epilog=epilog(0, 2, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@store_option
def command(run: str, store: str | None) -> int:
    """Take the pin of RUN away: from now on the limits of `runner store gc` count for it.

    \b
    runner unpin x62p
    """
    from ..store import garbage

    opened = the_store(store)
    id = opened.resolve(run)
    click.echo(f"run {id} is pinned no more" if garbage.unpin(opened, id) else f"run {id} was not pinned")
    return 0
