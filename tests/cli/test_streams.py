"""Standard streams that are closed: nothing that the program opens gets their numbers, and nothing is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_run_with_closed_streams_is_a_run(project, closed):
    project.pipeline("steps: {a: {kind: shell, script: 'echo said; echo x > o', outputs: {o: {type: file}}}}\n")
    command = f'"{sys.executable}" -m runner apply p.yaml {closed}'
    env = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent)}
    done = subprocess.run(["sh", "-c", command], cwd=project.root, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert project.statuses() == {"a": "succeeded"}
    assert project.runner("store", "verify").code == 0
    assert project.runner("logs", project.record()["run"], "a").out == "said\n"
