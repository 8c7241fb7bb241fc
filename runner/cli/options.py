"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..console import the_store

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

store_option: Decorator = click.option(
    "--store", metavar="DIR", help="The store; default RUNNER_STORE, runner.toml, or .runner of the project root."
)


def output_option(*forms: str) -> Decorator:
    return click.option(
        "-o",
        "--output",
        "form",
        type=click.Choice(forms),
        default="text",
        show_default=True,
        help="The form of what is printed.",
    )


def workers_option() -> Decorator:
    return click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        metavar="N",
        help="Steps that run at once; default RUNNER_WORKERS, the request, or the number of processors.",
    )


def epilog(*codes: int) -> str:
    """The exit codes that a command can give."""
    texts = {
        0: "fine", 1: "the run failed, was stopped, or did not match `expect`", 2: "invalid input or usage", 3: "the plan needs a decision",
        4: "the world moved", 5: "the store is damaged", 6: "the environment (disk, tool, format)",
        7: "the run waits for an approval or callback", 130: "ended by a signal (129, 130, 143)",
    }  # fmt: skip
    return "Exit codes: " + ", ".join(f"{code} {texts[code]}" for code in codes) + "."


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    try:
        ids = [run.run for run in the_store(ctx.params.get("store")).runs(limit=200)]
    except Exception:  # completion must not print
        return []
    return [id for id in ids if incomplete in id]
