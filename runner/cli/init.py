"""`runner init`: a small project that runs, or the templates of a review workflow."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

import click

from .options import epilog

TEMPLATES = {
    "github": {
        "github-plan.yml": ".github/workflows/runner-plan.yml",
        "github-apply.yml": ".github/workflows/runner-apply.yml",
    },
    "gitlab": {"gitlab.yml": "runner.gitlab-ci.yml"},
}
# Named one by one: an installer leaves compiled files beside the modules.
PROJECT = (
    "runner.toml",
    ".gitignore",
    "pipelines/hello/pipeline.yaml",
    "pipelines/hello/runs/full.yaml",
    "pipelines/hello/runs/summary-only.yaml",
    "pipelines/hello/steps/clean.py",
    "pipelines/hello/steps/average.py",
    "pipelines/hello/steps/summary.py",
    "pipelines/hello/data/temperatures.csv",
)
NEXT = ("pipelines/hello/runs/full.yaml", "pipelines/hello/runs/summary-only.yaml")


@click.command(epilog=epilog(0, 2, 6))
@click.argument("directory", required=False, metavar="[DIR]", type=click.Path(file_okay=False))
@click.option("--ci", type=click.Choice(list(TEMPLATES)), help="The workflow of a review instead, for this system.")
def command(directory: str | None, ci: str | None) -> int:
    """Make a small project that runs, in DIR or the current folder: three steps, two run requests, the schemas.

    With --ci, write a review workflow into the repository that the current folder is in: on a pull request plan what
    changed, after the merge apply just that plan. Overwrites nothing.

    \b
    runner init                 a project in the current folder
    runner init demo            a project in the folder demo
    runner init --ci github     the workflow of a review
    """
    if ci is None:
        _write(_project(directory or "."))
        click.echo("\nTry next:")
        for request in NEXT:
            click.echo(f"  runner apply {shlex.quote(_below(directory or '.', request))}")
        return 0
    if directory is not None:
        raise click.UsageError("--ci writes into the repository that the current folder is in; leave DIR out")
    _write(_workflow(ci))
    return 0


def _project(directory: str) -> dict[str, str]:
    """Return the texts of a project by their paths, the schemas of this version among them."""
    from ..language import SCHEMAS
    from ..planschema import plan_schema

    schemas = {**{name: make() for name, make in SCHEMAS.items()}, "plan": plan_schema()}
    texts = {name: _template(f"project/{name}") for name in PROJECT}
    for name, schema in schemas.items():
        texts[f"schemas/{name}.schema.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return {_below(directory, name): text for name, text in texts.items()}


def _workflow(ci: str) -> dict[str, str]:
    """Return the texts of a review workflow by their paths."""
    from ..errors import UsageError

    root = _root()
    if root is None:
        raise UsageError("the current folder is in no git repository", help="run `git init` first")
    return {os.path.relpath(root / place): _template(name) for name, place in TEMPLATES[ci].items()}


def _write(wanted: Mapping[str, str]) -> None:
    """Write all texts, or none where one of the places holds something else."""
    from ..errors import EnvironmentFailure, UsageError

    other = [place for place, text in wanted.items() if _holds_other(place, text)]
    if other:
        what = "is there already and is different" if len(other) == 1 else "are there already and are different"
        raise UsageError(f"{', '.join(other)} {what}", help="nothing was written; move it away to have the template")
    for place, text in wanted.items():
        if os.path.exists(place):
            click.echo(f"{place} is there already, unchanged")
            continue
        try:
            os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
            with open(place, "x", encoding="utf-8", newline="") as file:
                file.write(text)
        except OSError as error:
            raise EnvironmentFailure(f"{place} cannot be written: {error.strerror}") from error
        click.echo(place)


def _holds_other(place: str, text: str) -> bool:
    """Whether something is in the way: other content, a folder, a link to nothing, a file where a folder belongs."""
    from ..errors import EnvironmentFailure

    try:
        return Path(place).read_bytes() != text.encode()
    except FileNotFoundError:
        return os.path.lexists(place)
    except (IsADirectoryError, NotADirectoryError):
        return True
    except OSError as error:
        raise EnvironmentFailure(f"{place} cannot be read: {error.strerror}") from error


def _template(name: str) -> str:
    return (Path(__file__).parent.parent / "templates" / name).read_text(encoding="utf-8")


def _below(directory: str, name: str) -> str:
    return os.path.normpath(os.path.join(directory, name))


def _root() -> Path | None:
    """Return the folder of the repository that the current one is in."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
