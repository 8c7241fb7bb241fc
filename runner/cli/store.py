"""`runner store`: is the store whole?"""

from __future__ import annotations

import click

from .options import epilog, notices, output_option, store_option, the_store


@click.group()
def command() -> None:
    """Check the store, or make its index anew.

    \b
    runner store verify
    runner store reindex
    """


@command.command(epilog=epilog(0, 5, 6))
@output_option("text", "json")
@store_option
def verify(form: str, store: str | None) -> int:
    """Read every stored byte and every journal; list all damage."""
    from dataclasses import asdict

    from ..reporters import json

    opened = the_store(store)
    found = list(opened.verify()) if opened.exists else []
    notices(opened)
    if form == "json":
        click.echo(json.dump([asdict(damage) for damage in found]))
    else:
        for damage in found:
            click.echo(f"damaged: {damage.what}")
        click.echo(
            f"{len(found)} damaged"
            if found
            else f"the store {opened.path} is whole"
            if opened.exists
            else f"there is no store at {opened.path}"
        )
    return 5 if found else 0


@command.command(epilog=epilog(0, 2, 5, 6))
@store_option
def reindex(store: str | None) -> int:
    """Make the index anew from the journals of all runs."""
    from ..errors import UsageError

    opened = the_store(store)
    if not opened.exists:
        raise UsageError(f"there is no store at {opened.path}")
    click.echo(f"{opened.reindex()} runs are in the index")
    return 0
