"""`runner pin`: keep runs whatever `runner store gc` is told."""

from __future__ import annotations

import click

from ..console import tell, the_store
from .options import complete_runs, epilog, store_option


@click.command(epilog=epilog(0, 2, 4, 5, 6))
@click.argument("run", required=False, shell_complete=complete_runs)
@store_option
def command(run: str | None, store: str | None) -> int:
    """Keep RUN, and all that it has, whatever `runner store gc` is told; without RUN, list what is pinned.

    \b
    runner pin x62p
    runner unpin x62p
    """
    from ..store import garbage

    opened = the_store(store)
    if run is None:
        click.echo("\n".join(garbage.pinned(opened)) or "no run is pinned")
        return 0
    with opened.in_use(tell):
        id = opened.resolve(run)
        garbage.pin(opened, id)
    click.echo(f"run {id} is pinned")
    return 0
