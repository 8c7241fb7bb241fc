"""`runner approve`, `runner reject`: decide what a run waits for."""

from __future__ import annotations

import click

from .options import complete_runs, epilog, store_option


@click.command(epilog=epilog(0, 2, 4, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@click.argument("step")
@click.option("--reject", is_flag=True, help="Reject it: the same as `runner reject`.")
@click.option("--comment", default="", metavar="TEXT", help="Why; kept in the record.")
@store_option
def command(run: str, step: str, reject: bool, comment: str, store: str | None) -> int:
    """Approve the approval STEP of RUN. Who, when and why are kept in the record.

    A run whose runner has ended goes on with `runner resume RUN`.

    \b
    runner approve x62p release
    runner approve x62p release --comment "checked on the hold-out set"
    """
    return decide(run, step, not reject, comment, store)


def decide(run: str, step: str, approve: bool, comment: str, store: str | None) -> int:
    """Drop a decision into the inbox of a run."""
    import os

    from ..errors import UsageError
    from ..store.local import login
    from .waiting import post, waiting_step

    opened, id, waiting = waiting_step(run, step, store, "approval")
    by = login(os.geteuid())
    if waiting.approvers and by not in waiting.approvers:
        raise UsageError(
            f"{by} may not decide {step} of run {id}", help=f"approvers are: {', '.join(waiting.approvers)}"
        )
    post(opened, id, "approval", {"step": step, "approve": approve, "comment": comment})
    click.echo(f"{step} of run {id} is {'approved' if approve else 'rejected'} by {by}")
    return 0
