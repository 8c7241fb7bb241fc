"""`runner init`: the templates of a review workflow."""

from __future__ import annotations

import os
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


@click.command(epilog=epilog(0, 2, 6))
@click.option("--ci", type=click.Choice(list(TEMPLATES)), required=True, help="For which review system.")
def command(ci: str) -> int:
    """Write a review workflow: on a pull request plan what changed, after the merge apply just that plan.

    Writes into the repository that the current folder is in, and overwrites nothing.

    \b
    runner init --ci github
    """
    from ..errors import EnvironmentFailure, UsageError

    root = _root()
    if root is None:
        raise UsageError("the current folder is in no git repository", help="run `git init` first")
    wanted = {
        root / place: (Path(__file__).parent.parent / "templates" / name).read_text()
        for name, place in TEMPLATES[ci].items()
    }
    other = [place for place, text in wanted.items() if place.exists() and place.read_text() != text]
    if other:
        raise UsageError(
            f"{', '.join(os.path.relpath(p) for p in other)} is there already and is different",
            help="nothing was written; move it away to have the template",
        )
    for place, text in wanted.items():
        if place.exists():
            click.echo(f"{os.path.relpath(place)} is there already, unchanged")
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        except OSError as error:
            raise EnvironmentFailure(f"{place} cannot be written: {error.strerror}") from error
        click.echo(os.path.relpath(place))
    return 0


def _root() -> Path | None:
    """Return the folder of the repository that the current one is in."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
