"""`runner store`: is it whole, how large is it, what may go?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console import here, notices, tell, the_store
from .options import epilog, output_option, store_option

if TYPE_CHECKING:
    from ..store import Damage
    from ..store.local import LocalStore


@click.group()
def command() -> None:
    """Check the store, mend it, measure it, remove what is not wanted any more.

    \b
    runner store verify
    runner store verify --repair
    runner store gc --keep-last 20 --keep-days 30 --dry-run
    runner store du
    runner store reindex
    """


@command.command(epilog=epilog(0, 5, 6))
@click.option("--repair", is_flag=True, help="Put damage aside and run the steps again that made it.")
@output_option("text", "json")
@store_option
def verify(repair: bool, form: str, store: str | None) -> int:
    """Read every stored byte and every journal; list all damage.

    Links, files of other users, with several names or that may be written are noted: the runner makes none of these. Where their
    bytes are right that is no damage. A damaged file that nothing refers to, as a power cut may leave one, is told of, too: with it nothing is lost, so the
    exit code is that of a store that is whole.

    With --repair, what is damaged is moved to the quarantine of the store, the index is made anew, and for each run
    that made what is lost a new run of those steps is planned, printed and started, with that run as reference.

    \b
    runner store verify
    runner store verify --repair
    """
    from dataclasses import asdict

    from ..reporters import json

    opened = the_store(store)
    if not opened.exists:
        click.echo(json.dump([]) if form == "json" else f"there is no store at {opened.path}")
        return 0
    found = _found(opened)
    wrong = [damage for damage in found if not damage.note]
    if wrong and repair:
        for damage in wrong:
            click.echo(f"damaged: {damage.what}", err=form == "json")
        _repair(opened, wrong, form, store)
        found = _found(opened)
    lost = [damage for damage in found if damage.named and not damage.note]
    if form == "json":
        click.echo(json.dump([asdict(damage) for damage in found]))
    else:
        for damage in found:
            click.echo(_line(damage))
        click.echo(f"{len(lost)} damaged" if lost else f"the store {opened.path} is whole")
        if not all(damage.named for damage in found):
            click.echo("`runner store gc` removes what is left over")
    return 5 if lost else 0


def _line(damage: Damage) -> str:
    if damage.note:
        return f"note: {damage.what}"
    return f"damaged: {damage.what}" if damage.named else f"leftover: {damage.what}; nothing refers to it"


def _found(opened: LocalStore) -> list[Damage]:
    from ..store.verify import verify

    with opened.in_use(tell):
        found = list(verify(opened))
    notices(opened)
    return found


def _repair(opened: LocalStore, found: list[Damage], form: str, store: str | None) -> None:
    """Run the producers of what is lost again; one that cannot be planned is told, and the rest goes on."""
    from .. import repair
    from ..errors import RunnerError
    from ..session import perform

    with opened.in_use(tell):
        repair.put_aside(opened, found)
        losses = repair.losses(opened, found)
    for loss in losses:
        if not repair.missing(opened, loss):
            continue
        click.echo(f"\nrepair: {', '.join(loss.steps)} of run {loss.record.id}, in a new run", err=form == "json")
        try:
            perform(repair.request(here()[0], opened, loss), True, None, form, store)
        except RunnerError as error:
            click.echo(str(error), err=True)
    click.echo("", err=form == "json")


@command.command(epilog=epilog(0, 2, 4, 5, 6))
@click.option("--keep-last", type=click.IntRange(1), metavar="N", help="Keep the newest N runs of each pipeline.")
@click.option("--keep-days", type=click.FloatRange(0), metavar="D", help="Keep the runs that ended in the last D days.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@output_option("text", "json")
@store_option
def gc(keep_last: int | None, keep_days: float | None, dry_run: bool, form: str, store: str | None) -> int:
    """Remove stored bytes that no run refers to and, with a limit, whole runs that are beyond all limits given.

    A run stays, whatever the limits are, while it is pinned (`runner pin`), runs or waits, is the newest success of its
    pipeline, made or registered an approved model, or a plan file that may still be applied stands on it.

    \b
    runner store gc --dry-run
    runner store gc --keep-last 20 --keep-days 30
    """
    from ..reporters import json
    from ..reporters import store as report
    from ..store import garbage

    opened = the_store(store)
    if not opened.exists:
        found = garbage.Garbage()
    else:
        found = garbage.collect(opened, garbage.Limits(keep_last, keep_days), dry_run, tell)
        notices(opened)
    click.echo(
        json.dump(report.garbage_json(found, dry_run)) if form == "json" else report.garbage_text(found, dry_run)
    )
    return 0


@command.command(epilog=epilog(0, 6))
@output_option("text", "json")
@store_option
def du(form: str, store: str | None) -> int:
    """Show how large the parts of the store are, and what lies in its quarantine.

    \b
    runner store du
    """
    from ..reporters import json
    from ..reporters import store as report
    from ..store import usage

    opened = the_store(store)
    found = usage.measure(opened)
    click.echo(json.dump(report.usage_json(found)) if form == "json" else report.usage_text(found))
    return 0


@command.command(epilog=epilog(0, 2, 5, 6))
@store_option
def reindex(store: str | None) -> int:
    """Make the index anew from the journals of all runs."""
    from ..errors import UsageError

    opened = the_store(store)
    if not opened.exists:
        raise UsageError(f"there is no store at {opened.path}")
    with opened.in_use(tell):
        click.echo(f"{opened.reindex()} runs are in the index")
    return 0
