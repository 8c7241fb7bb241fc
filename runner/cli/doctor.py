"""`runner doctor`: has this machine what it takes?"""

from __future__ import annotations

import click

from ..console import here
from .options import epilog, output_option, store_option


@click.command(epilog=epilog(0, 6))
@output_option("text", "json")
@store_option
def command(form: str, store: str | None) -> int:
    """Look at what this machine and the project's store have: each line is ok, warn or fail, with its remedy.

    \b
    runner doctor
    runner doctor -o json
    """
    from dataclasses import asdict

    from .. import app, doctor
    from ..reporters import json, text

    checks = list(doctor.examine(app.store_path(*here(), store)))
    if form == "json":
        click.echo(json.dump([asdict(check) for check in checks]))
    else:
        rows = [[c.status, c.name, c.text + (f"   ({c.remedy})" if c.remedy else "")] for c in checks]
        click.echo("\n".join(text.table(rows)))
    return 6 if doctor.failed(checks) else 0
