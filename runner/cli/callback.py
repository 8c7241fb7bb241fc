"""`runner callback`: give a run the values that it waits for."""

from __future__ import annotations

from typing import Any

import click

from .options import complete_runs, epilog, store_option


@click.command(epilog=epilog(0, 2, 4, 5, 6))
@click.argument("run", shell_complete=complete_runs)
@click.argument("step")
@click.argument("values", nargs=-1, metavar="NAME=VALUE...")
@store_option
def command(run: str, step: str, values: tuple[str, ...], store: str | None) -> int:
    """Give the callback STEP of RUN its values, checked by their declared types.

    Lists and objects are given as JSON. A wrong value is refused, and the step goes on waiting.

    \b
    runner callback x62p labelling labels=1200 accuracy=0.97
    """
    from ..collect import WrongOutput, answered, expected
    from ..errors import UsageError, suggest
    from ..params import parse_value
    from ..pipeline import Param
    from .waiting import post, waiting_step

    opened, id, waiting = waiting_step(run, step, store, "callback")
    given: dict[str, Any] = {}
    outputs = {output.name: output for output in expected(waiting)}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text}: write NAME=VALUE")
        if name not in outputs:
            raise UsageError(f"{step} waits for no value `{name}`", help=suggest(name, outputs, "values"))
        try:
            given[name] = parse_value(Param(name, outputs[name].type), value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
    try:
        answered(outputs.values(), given)
    except WrongOutput as error:
        raise UsageError(error.text, help="the step goes on waiting") from None
    post(opened, id, "callback", {"step": step, "values": given})
    click.echo(f"{step} of run {id} has its values")
    return 0
