"""`runner schema`: the JSON Schemas, for editors."""

from __future__ import annotations

import json
import os

import click

from ..console import make_folder
from .options import epilog


@click.command(epilog=epilog(0, 2))
@click.argument("kind", required=False, type=click.Choice(["pipeline", "run", "plan"]))
@click.option(
    "--write",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Write the files into DIR instead of printing.",
)
@click.option("--fields", is_flag=True, help="Print the reference of all fields as Markdown.")
def command(kind: str | None, directory: str | None, fields: bool) -> int:
    """Print a JSON Schema, or write them all where an editor finds them.

    \b
    runner schema pipeline
    runner schema --write schemas
    runner schema --fields
    """
    from ..language import SCHEMAS
    from ..planschema import plan_schema

    if fields:
        if kind or directory:
            raise click.UsageError("--fields goes alone")
        from ..reporters.fields import fields_markdown

        click.echo(fields_markdown({name: make() for name, make in SCHEMAS.items()}), nl=False)
        return 0
    wanted = {name: make() for name, make in SCHEMAS.items() if kind in (None, name)}
    if kind in (None, "plan"):
        wanted["plan"] = plan_schema()
    if directory is None:
        if kind is None:
            raise click.UsageError("name a kind to print (pipeline, run or plan), or --write DIR")
        click.echo(json.dumps(wanted[kind], indent=2, ensure_ascii=False))
        return 0
    make_folder(directory)
    for name, schema in wanted.items():
        path = os.path.join(directory, f"{name}.schema.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(schema, indent=2, ensure_ascii=False) + "\n")
        click.echo(path)
    return 0
