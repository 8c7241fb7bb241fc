"""The stories of the docs, lived again: each command of a `console` block is run, and says what the text says.

`python -m tests.test_stories` writes the files anew with what the commands say now.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.kit import Project

ROOT = Path(__file__).parent.parent
STORIES = {"docs/review.md": "pipelines/abalone", "pipelines/abalone/README.md": "."}  # file -> folder of its commands


def lived(text: str, place: Path, folder: str) -> str:
    """Return the text with the output of each `$ command` of its console blocks as it is now."""
    shutil.copytree(
        ROOT / "pipelines/abalone", place / "pipelines/abalone", ignore=shutil.ignore_patterns("__pycache__")
    )
    (place / "runner.toml").touch()
    (place / "bin").mkdir()
    program = place / "bin/runner"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m runner "$@"\n')
    program.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if not k.startswith("RUNNER_")}
    env |= {"PATH": f"{place}/bin:{os.path.dirname(sys.executable)}:{env['PATH']}", "PYTHONPATH": str(ROOT)}

    def live(block: re.Match[str]) -> str:
        out = ["```console"]
        for command in re.findall(r"(?m)^\$ (.*(?:\n> .*)*)$", block[1]):
            script = command.replace("\n> ", "\n")
            done = subprocess.run(
                ["bash", "-c", script], cwd=place / folder, env=env, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            out += [f"$ {command}", *done.stdout.rstrip().splitlines()]
        return "\n".join([*out, "```"])

    return re.sub(r"(?ms)^```console\n(.*?)^```", live, text)


@pytest.mark.parametrize("name", STORIES)
def test_each_command_of_the_stories_says_what_is_written(tmp_path, name):
    written = (ROOT / name).read_text()
    now = lived(written, tmp_path, STORIES[name])
    told = written.replace(".../.runner", f"{tmp_path}/.runner")
    # How wide a column is depends on the times in it.
    assert re.sub(" +", " ", Project(tmp_path).plain(now)) == re.sub(" +", " ", Project(tmp_path).plain(told))


if __name__ == "__main__":
    for name in STORIES:
        with tempfile.TemporaryDirectory() as folder:
            told = lived((ROOT / name).read_text(), Path(folder), STORIES[name])
            (ROOT / name).write_text(told.replace(folder, "..."))
