"""`runner stop`: end a run from another shell."""

from __future__ import annotations

import os
import time

import click

from ..console import here, the_store
from ..record import RunRecord
from ..store.local import LocalStore, login
from .options import complete_runs, epilog, store_option


@click.command(epilog=epilog(0, 2, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@store_option
def command(run: str, store: str | None) -> int:
    """Ask a run to stop: nothing more starts, running steps get TERM and, after their grace period, KILL.

    Asked again, they get KILL at once. The run ends `stopped`, with exit code 1, and may be a reference run.

    \b
    runner stop x62p
    """

    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.run(id)
    if record is None or record.finished:
        click.echo(f"run {id} has ended{f': {record.status}' if record else ''}")
        return 0
    if record.status == "waiting" and not record.alive:
        return _end_waiting(opened, record, f"`runner stop` of {login(os.geteuid())}")
    opened.post(id, "stop", {"by": login(os.geteuid()), "at": round(time.time(), 3)})
    click.echo(f"run {id} is asked to stop")
    return 0


def _end_waiting(opened: LocalStore, record: RunRecord, by: str) -> int:
    """End a run that waits without a process; its `finally` happens now, if it still is what was planned."""
    from .. import app
    from ..engine import Stop
    from ..errors import RunnerError
    from ..planning import estimated
    from ..session import start

    project, settings = here()
    try:
        asked, made = app.waiting_plan(project, opened, record)
        if made.pipeline.finals:
            estimate = estimated(made, opened, settings, None)
            start(
                asked, opened, made, settings, None, "text", None, estimate, once=False, waiting=record, stop=Stop(1, by=by)
            )  # fmt: skip
            return 0
        left = ""
    except RunnerError as error:  # a run that cannot go on can be ended none the less
        left = f"; a `finally` would not have been what was planned: {str(error).splitlines()[0]}"
    app.end_waiting(opened, record, by)
    click.echo(f"run {record.id} waited, and is stopped{left}")
    return 0
