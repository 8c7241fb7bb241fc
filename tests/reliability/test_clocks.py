"""The clock of the machine jumps: order, timeouts and durations do not (R25).

The runner is started with a clock that is off by as many days as a file says.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runner

CLOCK = """
import sys, time
real, real_ns, gmtime, localtime = time.time, time.time_ns, time.gmtime, time.localtime
off = lambda: float(open(sys.argv[1]).read()) * 86400
time.time = lambda: real() + off()
time.time_ns = lambda: real_ns() + int(off() * 1e9)
time.gmtime = lambda at=None: gmtime(time.time() if at is None else at)
time.localtime = lambda at=None: localtime(time.time() if at is None else at)
from runner.cli import run
sys.exit(run(sys.argv[2:]))
"""


@pytest.fixture
def clock(tmp_path_factory):
    return tmp_path_factory.mktemp("clock") / "days"


def off_by(clock: Path, days: int) -> None:
    clock.with_suffix(".new").write_text(str(days))
    os.replace(clock.with_suffix(".new"), clock)


def start(project, clock: Path, *args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent)}
    return subprocess.Popen(
        [sys.executable, "-c", CLOCK, str(clock), *args], cwd=project.root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # fmt: skip


def run(project, clock: Path, days: int, *args: str) -> int:
    off_by(clock, days)
    process = start(project, clock, *args)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    return process.returncode


def listed(project) -> list[str]:
    return [run["run"] for run in json.loads(project.runner("runs", "-o", "json").raw)]


@pytest.mark.parametrize("again", [[], ["store", "reindex"]], ids=["as entered", "from the journals"])
def test_runs_are_in_the_order_in_which_they_began_whatever_the_clock_said(project, clock, again):
    project.pipeline("""
        steps:
          a: {kind: shell, script: 'echo $RUNNER_RUN_ID > o', outputs: {o: {type: file}}}
          b: {kind: shell, script: 'cat $I > o', inputs: {i: $(steps.a.outputs.o)}, env: {I: $(steps.a.outputs.o)}, outputs: {o: {type: file}}}
    """)
    project.request("mode: full", name="full")
    project.request("select: [b]\nreference: latest")
    began = []
    for days in (0, -3, 5, -1):
        assert run(project, clock, days, "apply", "full.yaml", "--again") == 0
        began += set(listed(project)) - set(began)
    if again:
        assert project.runner(*again).code == 0
    assert listed(project) == began[::-1]
    assert f"from {began[-1]}" in project.runner("plan", "run.yaml").raw
    assert run(project, clock, -9, "apply", "run.yaml") == 0
    assert project.record()["steps"]["a"]["reused_from"] == began[-1]


@pytest.mark.parametrize("days", [3, -3])
def test_a_jump_of_the_clock_moves_no_timeout_no_wait_and_no_duration(project, clock, days):
    off_by(clock, 0)
    project.pipeline("""
        failure_policy: finish_independent
        steps:
          long: {kind: command, command: [sleep, '60'], timeout: 3s, grace_period: 1s}
          short: {kind: command, command: [sleep, '2'], timeout: 20s}
          twice: {kind: shell, script: 'test $RUNNER_ATTEMPT = 2', retry: {max_attempts: 2, interval: 2s, jitter: 0}}
        timeout: 40s
    """)
    began = time.monotonic()
    process = start(project, clock, "apply", "p.yaml", "--workers", "3")
    for line in process.stdout:
        if "the next one in" in line:
            break
    off_by(clock, days)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, time.monotonic() - began < 30) == (1, True), out + err
    steps = project.record()["steps"]
    assert {n: s["status"] for n, s in steps.items()} == {"long": "failed", "short": "succeeded", "twice": "succeeded"}
    assert (steps["long"]["cause"], 3 <= steps["long"]["seconds"] < 10, 2 <= steps["short"]["seconds"] < 10) == (
        "timeout",
        True,
        True,
    )
    assert steps["twice"]["attempt"] == 2
