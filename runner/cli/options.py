"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..project import Project, Settings
    from ..store.local import LocalStore

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


def here() -> tuple[Project, Settings]:
    """Return the project of the current folder."""
    from ..project import Project

    project = Project.of(os.path.join(os.getcwd(), "x"))
    return project, project.settings()


def the_store(given: str | None) -> LocalStore:
    """Return the store of the current folder, which need not be there."""
    from .. import app

    project, settings = here()
    return app.open_store(project, settings, given, create=False)


def workers_of(given: int | None) -> int | None:
    """Return --workers, else RUNNER_WORKERS."""
    text = os.environ.get("RUNNER_WORKERS", "")
    if given is None and text:
        if not text.isdigit() or not 0 < int(text) <= 1024:
            raise click.UsageError(f"RUNNER_WORKERS is {text!r}; a number from 1 to 1024 is expected")
        return int(text)
    return given


def overrides(params: tuple[str, ...]) -> dict[str, str]:
    """Return `-p name=value` options as a mapping."""
    out = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-p {text}: write NAME=VALUE")
        out[name] = value
    return out


def notices(store: LocalStore) -> None:
    for notice in store.notices:
        click.echo(f"note: {notice}", err=True)
    store.notices.clear()


def tell(text: str) -> None:
    """Print what is waited for."""
    click.echo(text, err=True)


def color(stream: Any) -> bool:
    """Whether to colour what goes to a stream."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    try:
        ids = [run.run for run in the_store(ctx.params.get("store")).runs(limit=200)]
    except Exception:  # completion must not print
        return []
    return [id for id in ids if incomplete in id]
