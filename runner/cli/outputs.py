"""`runner outputs`: what did a step make?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ..console import make_folder, the_store
from .options import complete_runs, epilog, output_option, store_option

if TYPE_CHECKING:
    from ..record import RunRecord, StepEnded
    from ..store.local import LocalStore


_ENDS = {
    "failed": "failed", "stopped": "was stopped", "interrupted": "was interrupted", "skipped": "was skipped",
    "upstream_failed": "did not run", "not_run": "did not run", "not_selected": "was not selected",
    "pending": "has not started", "running": "is running", "waiting": "is waiting",
}  # fmt: skip
_LOGGED = ("failed", "stopped", "interrupted", "running")


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
    from ..errors import StoreDamaged
    from ..fingerprint import artifacts
    from ..reporters import json, text

    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.recorded(id)
    ended = _ended(record, step)
    if damage := opened.damaged(list(artifacts(ended.outputs.values())), whole=True):
        raise StoreDamaged("; ".join(f"{d.digest} {d.what}" for d in damage), help=f"select {step} to make it again")
    paths = {n: opened.object(o["digest"], o["type"]) for n, o in ended.outputs.items() if o.get("digest")}
    copied = _written(opened, ended, directory) if directory else 0
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
        click.echo(f"{copied} copied to {directory}")
    return 0


def _ended(record: RunRecord, step: str) -> StepEnded:
    """Return how a step ended that may have outputs; raises UsageError for any other."""
    from ..errors import UsageError, suggest

    ended = record.steps.get(step)
    if ended is not None and ended.usable:
        return ended
    run, status = record.id, record.statuses.get(step, "")
    help = suggest(step, [n for n, e in record.steps.items() if e.outputs], "steps with outputs")
    if not status:
        raise UsageError(f"run {run} has no step `{step[:200]}`", help=help)
    why = f": {ended.reason}" if ended is not None and ended.reason else ""
    raise UsageError(
        f"step `{step}` left no outputs in run {run}: it {_ENDS.get(status, status)}{why}",
        help=f"see `runner logs {run} {step}`" if status in _LOGGED else help,
    )


def _written(opened: LocalStore, ended: StepEnded, directory: str) -> int:
    from ..errors import EnvironmentFailure

    try:
        return _copy(opened, ended, directory)
    except OSError as error:
        raise EnvironmentFailure(f"{error.filename or directory} cannot be written: {error.strerror}") from error


def _copy(opened: LocalStore, ended: StepEnded, directory: str) -> int:
    """Copy all files and directories among the outputs; return how many they are. Those of a list are numbered."""
    from ..errors import UsageError
    from ..executors.content import copy_file
    from ..executors.staging import unpack

    make_folder(directory)
    targets = [
        (os.path.join(directory, place), found)
        for name, output in ended.outputs.items() if not name.startswith(".")
        for place, found in _places(_file_name(ended.recipe, name), output)
    ]  # fmt: skip
    for target, _ in targets:
        if os.path.lexists(target):
            raise UsageError(f"{target} is there already", help="name an empty directory")
    for target, found in targets:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        stored = opened.object(found["digest"], found["type"])
        if found["type"] == "dir":
            unpack(target, stored, opened.places()[0])
        else:
            copy_file(stored, target)
    return len(targets)


def _places(place: str, output: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where an output goes: the elements of a list into a directory of its own, as 0, 1 and so on."""
    if output.get("digest"):
        yield place, output
    for number, item in enumerate(output.get("items", ())):
        if item:
            name = f"{number:0{len(str(len(output['items']) - 1))}}"
            ending = os.path.splitext(item.get("name", ""))[1] if item.get("type") == "file" else ""
            yield from _places(os.path.join(place, name + ending), item)


def _file_name(recipe: object, name: str) -> str:
    """Return the file name that a step gave an output."""
    declared = recipe.get("outputs", {}).get(name) if isinstance(recipe, dict) else None
    return os.path.basename(declared[1]) if declared and declared[1] else name
