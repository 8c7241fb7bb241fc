"""`runner stop`: end a run from another shell."""

from __future__ import annotations

import getpass
import time

import click

from .options import complete_runs, epilog, store_option, the_store


@click.command(epilog=epilog(0, 2, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@store_option
def command(run: str, store: str | None) -> int:
    """Ask a run to stop: nothing more starts, running steps get TERM and, after their grace period, KILL.

    Asked again, they get KILL at once. The run ends `stopped`, with exit code 1, and may be a reference run.

    \b
    runner stop x62p
    """
    from .. import app

    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.run(id)
    if record is None or record.finished:
        click.echo(f"run {id} has ended{f': {record.status}' if record else ''}")
        return 0
    if record.status == "waiting" and not record.alive:
        app.end_waiting(opened, record, getpass.getuser())
        click.echo(f"run {id} waited, and is stopped")
        return 0
    opened.post(id, "stop", {"by": getpass.getuser(), "at": round(time.time(), 3)})
    click.echo(f"run {id} is asked to stop")
    return 0
