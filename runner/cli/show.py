"""`runner show`: what happened in a run?"""

from __future__ import annotations

import click

from ..console import the_store
from .options import complete_runs, epilog, output_option, store_option


@click.command(epilog=epilog(0, 2, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@click.option("--params", is_flag=True, help="Its parameters only.")
@output_option("text", "json")
@store_option
def command(run: str, params: bool, form: str, store: str | None) -> int:
    """Show a run: how each step ended, what produced what it reused, its parameters and outputs.

    \b
    runner show 20261124-1601-x62p
    runner show x62p --params -o json
    """
    from ..reporters import json, text

    opened = the_store(store)
    record = opened.recorded(opened.resolve(run))
    if params:
        values = record.started.params
        click.echo(
            json.dump(dict(values))
            if form == "json"
            else "\n".join(text.table([[n, f"= {v}", record.started.sources.get(n, "")] for n, v in values.items()]))
        )
    else:
        click.echo(json.dump(json.record_value(record)) if form == "json" else text.show_text(record))
    return 0
