"""`runner logs`: what did the steps print?"""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING

import click

from ..console import the_store
from ..store import reading
from .options import complete_runs, epilog, output_option, store_option

if TYPE_CHECKING:
    from ..store.local import LocalStore


@click.command(epilog=epilog(0, 2, 6))
@click.argument("run", shell_complete=complete_runs)
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run (or the step) has ended.")
@click.option("--attempt", type=click.IntRange(1), help="One attempt of the step; default all.")
@output_option("text", "json")
@store_option
def command(run: str, step: str | None, follow: bool, attempt: int | None, form: str, store: str | None) -> int:
    """Print what the steps of RUN printed, as they printed it.

    A step that was reused or cached printed in the run that produced it; its log is taken from there.

    \b
    runner logs x62p train
    runner logs x62p --follow
    """
    from ..errors import UsageError, suggest
    from ..reporters import json

    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.recorded(id)
    names = list(record.statuses)
    if step is not None and step not in names:
        raise UsageError(f"run {id} has no step `{step}`", help=suggest(step, names, "steps"))
    # The name of a fan-out or an inner pipeline stands for all that it consists of.
    wanted = [n for n in names if n == step or n.startswith((f"{step}[", f"{step}/"))] if step else names
    if form == "json":
        click.echo(
            json.dump(
                [
                    {"step": n, "attempt": a, "path": path}
                    for n in wanted
                    for a, path in _files(opened, id, n)
                    if attempt in (None, a)
                ]
            )
        )
        return 0
    if follow and not record.finished:
        _follow(opened, id, wanted)
        return 0
    for name in wanted:
        for number, path in _files(opened, id, name):
            if attempt in (None, number):
                _head(name, number, len(wanted) > 1 or number > 1)
                _copy(path, 0)
    return 0


def _head(name: str, attempt: int, show: bool) -> None:
    if show:
        click.echo(f"--- {name}" + (f", attempt {attempt}" if attempt > 1 else ""))


def _files(opened: LocalStore, id: str, step: str) -> list[tuple[int, str]]:
    from ..values import file_name

    record = opened.run(id)
    ended = record.steps.get(step) if record else None
    if ended is not None and ended.status in ("reused", "cached") and ended.produced_by and ended.produced_by != id:
        id = ended.produced_by
    folder = f"{opened.path}/runs/{id}/logs/{file_name(step)}"
    try:
        names = os.listdir(folder)
    except PermissionError as error:
        raise reading.Denied(folder) from error
    except OSError:
        return []
    found = [int(name.removesuffix(".log")) for name in names if re.fullmatch(r"[1-9][0-9]{0,8}\.log", name)]
    return [(number, f"{folder}/{number}.log") for number in sorted(found)]


def _copy(path: str, offset: int) -> int:
    """Print a log from `offset`; return where it ended. For a person, what would move the cursor is made visible."""
    sys.stdout.flush()
    terminal = sys.stdout.isatty()
    try:
        fd = reading.opened(path)
    except OSError as error:
        raise reading.unreadable(f"the log {path}", error) from error
    with open(fd, "rb") as file:
        file.seek(offset)
        while content := file.read(1 << 16):
            offset += len(content)
            if terminal:
                text = content.decode("utf-8", "replace")
                sys.stdout.write(
                    "".join(
                        c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" if c != "\r" else "" for c in text
                    )
                )
            else:
                sys.stdout.buffer.write(content)
    sys.stdout.flush()
    return offset


def _follow(opened: LocalStore, id: str, wanted: list[str]) -> None:
    offsets: dict[str, int] = {}
    last = ""
    while True:
        record = opened.run(id)
        over = record is None or record.finished or all(n in record.steps for n in wanted)
        for name in wanted:
            for number, path in _files(opened, id, name):
                if os.lstat(path).st_size > offsets.get(path, 0):
                    if path != last:
                        _head(name, number, len(wanted) > 1)
                        last = path
                    offsets[path] = _copy(path, offsets.get(path, 0))
        if over:
            return
        time.sleep(0.2)
