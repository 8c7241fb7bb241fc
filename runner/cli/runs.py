"""`runner runs`: what ran?"""

from __future__ import annotations

import click

from ..console import notices, the_store
from .options import epilog, output_option, store_option


@click.command(epilog=epilog(0, 2, 6))
@click.option("--pipeline", metavar="NAME", help="Runs of this pipeline only.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@output_option("text", "json")
@store_option
def command(pipeline: str | None, limit: int, form: str, store: str | None) -> int:
    """List runs, newest first.

    \b
    runner runs
    runner runs --pipeline abalone --limit 5 -o json
    """
    from dataclasses import asdict

    from ..reporters import json, text

    opened = the_store(store)
    found = opened.runs(pipeline, limit)
    notices(opened)
    if form == "json":
        click.echo(json.dump([asdict(run) for run in found]))
    elif found:
        click.echo(text.runs_text(found))
    else:
        click.echo("there are no runs yet" if not pipeline else f"there are no runs of `{pipeline}`")
    return 0
