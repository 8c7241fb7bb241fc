"""`runner models`: the model registry of the store."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from ..console import the_store
from .options import epilog, output_option, store_option

if TYPE_CHECKING:
    from ..store.local import LocalStore


@click.group(invoke_without_command=True, epilog=epilog(0, 2, 4, 5, 6))
@output_option("text", "json")
@store_option
@click.pass_context
def command(ctx: click.Context, form: str, store: str | None) -> int:
    """List the models that `register` steps have registered; show one; approve or reject it.

    \b
    runner models
    runner models show abalone
    runner models approve abalone 3 --comment "better on every fold"
    """
    if ctx.invoked_subcommand is not None:
        if store is not None or form != "text":
            raise click.UsageError(f"options go behind the command: runner models {ctx.invoked_subcommand} ...")
        return 0
    from ..reporters import json, text
    from ..store import models

    folder = _folder(the_store(store))
    found = [v for group in models.groups(folder) for v in models.versions(folder, group)]
    if form == "json":
        click.echo(json.dump(found))
    elif not found:
        click.echo("no model is registered")
    else:
        rows = [["GROUP", "VERSION", "STATUS", "REGISTERED", "RUN", "METRICS"]]
        for v in found:
            metrics = ", ".join(f"{name} {text.number(value)}" for name, value in v["metrics"].items())
            rows.append([v["group"], str(v["version"]), v["status"], text.local_time(v["at"]), v["run"], metrics])
        click.echo("\n".join(text.table(rows)))
    return 0


def _folder(opened: LocalStore) -> str:
    return f"{opened.path}/models"


@command.command(epilog=epilog(0, 2, 5, 6))
@click.argument("group")
@click.argument("version", type=int, required=False)
@output_option("text", "json")
@store_option
def show(group: str, version: int | None, form: str, store: str | None) -> int:
    """Show a version, the newest if none is named: its model, where it comes from, what was decided.

    \b
    runner models show abalone
    runner models show abalone 3 -o json
    """
    from ..reporters import json, text
    from ..store import models

    opened = the_store(store)
    found = models.version(_folder(opened), group, version)
    model = found["model"]
    path = opened.object(model["digest"], model["type"])
    click.echo(json.dump({**found, "path": path}) if form == "json" else "\n".join(_lines(found, path, text)))
    return 0


def _lines(found: dict[str, Any], path: str, text: Any) -> list[str]:
    model = found["model"]
    rows = [
        ["group", f"{found['group']} version {found['version']}, {found['status']}"],
        ["model", f"{model['name']}, {model['size']} bytes, {model['digest']}"],
        ["made by", f"{model['step']} ({model['output']}) in run {model['run']}"],
        [
            "registered",
            f"by {found['step']} of {found['pipeline']} in run {found['run']}, {text.local_time(found['at'])}",
        ],
        *(["metric", f"{name} {text.number(value)}"] for name, value in found["metrics"].items()),
        *(["metadata", f"{name} = {value}"] for name, value in found["metadata"].items()),
    ]
    for entry in found["history"][1:]:
        said = f": {entry['comment']}" if entry["comment"] else ""
        rows.append([entry["status"], f"by {entry['by']}, {text.local_time(entry['at'])}{said}"])
    last = ["stored at", path]
    if model["type"] == "dir":  # its files are kept one by one
        last = ["restore by", f"runner outputs {model['run']} {shlex.quote(model['step'])} DIR"]
    lines: list[str] = text.table([*rows, last])
    return lines


def _decide(group: str, version: int, status: str, comment: str, store: str | None) -> int:
    import os

    from ..store import models
    from ..store.local import login

    by = login(os.geteuid())
    models.decide(_folder(the_store(store)), group, version, status, by, comment)
    click.echo(f"version {version} of {group} is {status} by {by}")
    return 0


@command.command(epilog=epilog(0, 2, 4, 5, 6))
@click.argument("group")
@click.argument("version", type=int)
@click.option("--comment", default="", metavar="TEXT", help="Why; kept with the version.")
@store_option
def approve(group: str, version: int, comment: str, store: str | None) -> int:
    """Approve a version. What was decided before stays in its history.

    \b
    runner models approve abalone 3
    """
    return _decide(group, version, "approved", comment, store)


@command.command(epilog=epilog(0, 2, 4, 5, 6))
@click.argument("group")
@click.argument("version", type=int)
@click.option("--comment", default="", metavar="TEXT", help="Why; kept with the version.")
@store_option
def reject(group: str, version: int, comment: str, store: str | None) -> int:
    """Reject a version.

    \b
    runner models reject abalone 3 --comment "trained on the test set"
    """
    return _decide(group, version, "rejected", comment, store)
