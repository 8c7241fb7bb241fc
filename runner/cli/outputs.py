"""`runner outputs`: what did a step make?"""

from __future__ import annotations

import os
import shutil

import click

from .options import complete_runs, epilog, output_option, store_option, the_store


@click.command(epilog=epilog(0, 2, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@click.argument("step")
@click.argument("directory", required=False, type=click.Path(file_okay=False))
@output_option("text", "json")
@store_option
def command(run: str, step: str, directory: str | None, form: str, store: str | None) -> int:
    """List the outputs of a step, or copy its files into DIRECTORY. Bytes are checked before they are copied.

    \b
    runner outputs x62p train
    runner outputs x62p train ./model
    """
    from ..errors import StoreDamaged, UsageError, suggest
    from ..executors import worker
    from ..reporters import json, text

    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.run(id)
    assert record is not None  # `resolve` found it
    if step not in record.steps:
        known = [n for n, e in record.steps.items() if e.outputs]
        raise UsageError(f"step `{step}` left no outputs in run {id}", help=suggest(step, known, "steps with outputs"))
    ended = record.steps[step]
    if damage := opened.damaged(
        [(o["digest"], o["type"]) for o in ended.outputs.values() if o.get("digest")], whole=True
    ):
        raise StoreDamaged("; ".join(f"{d.digest} {d.what}" for d in damage), help=f"select {step} to make it again")
    paths = {n: opened.object(o["digest"], o["type"]) for n, o in ended.outputs.items() if o.get("digest")}
    if directory:
        os.makedirs(directory, exist_ok=True)
        for name, output in ended.outputs.items():
            if not output.get("digest"):
                continue
            target = os.path.join(directory, _file_name(ended.recipe, name))
            if os.path.lexists(target):
                raise UsageError(f"{target} is there already", help="name an empty directory")
            if output["type"] == "dir":
                worker.unpack(target, paths[name], opened.places()[0])
            else:
                shutil.copyfile(paths[name], target)
    if form == "json":
        click.echo(
            json.dump({n: {**o, **({"path": paths[n]} if n in paths else {})} for n, o in ended.outputs.items()})
        )
        return 0
    rows = [
        [
            n,
            o["type"],
            f"{o['size']} bytes, {o['digest']}" if o.get("digest")
            else text.output_text(o) if "items" in o
            else f"= {o.get('value')}",
            f"produced by {o['run']}",
        ]
        for n, o in ended.outputs.items() if not n.startswith(".")  # what a fan-out keeps for itself
    ]  # fmt: skip
    click.echo("\n".join(text.table(rows)) if rows else f"step `{step}` declares no outputs")
    if directory:
        click.echo(f"{len(paths)} copied to {directory}")
    return 0


def _file_name(recipe: object, name: str) -> str:
    """Return the file name that a step gave an output."""
    declared = recipe.get("outputs", {}).get(name) if isinstance(recipe, dict) else None
    return os.path.basename(declared[1]) if declared and declared[1] else name
