"""`runner reject`: decide against what a run waits for."""

from __future__ import annotations

import click

from .approve import decide
from .options import complete_runs, epilog, store_option


@click.command(epilog=epilog(0, 2, 4, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@click.argument("step")
@click.option("--comment", default="", metavar="TEXT", help="Why; kept in the record.")
@store_option
def command(run: str, step: str, comment: str, store: str | None) -> int:
    """Reject the approval STEP of RUN: it ends as failed, and so does all that needs it.

    \b
    runner reject x62p release --comment "the test set leaked"
    """
    return decide(run, step, False, comment, store)
