"""`runner resume`: go on with a run that waits."""

from __future__ import annotations

import click

from ..console import here, tell, the_store, workers_of
from .options import complete_runs, epilog, output_option, store_option, workers_option


@click.command(epilog=epilog(0, 1, 2, 4, 5, 6, 7, 130))
@click.argument("run", shell_complete=complete_runs)
@click.option("--junit", metavar="FILE", help="Write how each step ended as JUnit XML.")
@workers_option()
@output_option("text", "json")
@store_option
def command(run: str, junit: str | None, workers: int | None, form: str, store: str | None) -> int:
    """Go on with a run that waits for an approval or a callback: the same run, as it was planned.

    Refused if a file that it was planned with has changed since. A run that has ended is continued by `runner retry`.

    \b
    runner approve x62p release
    runner resume x62p
    """
    from .. import app, engine
    from ..errors import Moved, UsageError
    from ..request import request_of_json
    from ..session import start

    opened = the_store(store)
    id = opened.resolve(run)
    record = opened.recorded(id)
    if record.finished:
        raise UsageError(
            f"run {id} is {record.status}, so there is nothing to go on with", help=f"see `runner retry {id}`"
        )
    if record.alive or not record.waiting:
        raise Moved(f"run {id} is under way in another process", help=f"see `runner show {id}`")
    project, settings = here()
    request = request_of_json(record.started.request)
    with opened.group(request.group, request.conflict == "queue", tell), opened.in_use(tell):
        asked, made = app.waiting_plan(project, opened, record)
        engine.verify_results(record, opened, settings.verify == "always")
        from ..planning import estimated

        estimate = estimated(made, opened, settings, workers_of(workers))
        return start(
            asked, opened, made, settings, workers_of(workers), form, junit, estimate, once=False, waiting=record
        )
