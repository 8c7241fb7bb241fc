"""Runs at the same time on one store: what is the same is made once, nobody waits for a lock, one plan starts one run."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter

import pytest

from tests.kit import Project

DIAMOND = """
    steps:
      a: {kind: shell, script: 'echo a >> $MADE; sleep 0.2; date +%N > o', outputs: {o: {type: file, path: o}}}
      b: {kind: shell, script: 'echo b >> $MADE; cat $RUNNER_INPUT_X - < /dev/null > o', inputs: {x: $(steps.a.outputs.o)}, outputs: {o: {type: file, path: o}}}
      c: {kind: shell, script: 'echo c >> $MADE; sleep 0.1; echo >> o', inputs: {x: $(steps.a.outputs.o)}, outputs: {o: {type: file, path: o}}}
      d: {kind: shell, script: 'echo d >> $MADE; echo > o', inputs: {b: $(steps.b.outputs.o), c: $(steps.c.outputs.o)}, outputs: {o: {type: file, path: o}}}
    defaults: {env: {MADE: PLACE}}
"""
MAKES = """
    steps:
      a: {kind: shell, script: 'echo $RUNNER_RUN_ID >> $MADE; while ! test -e $MADE.go; do sleep 0.02; done; echo > o; TAIL', outputs: {o: {type: file, path: o}}}
      free: {kind: shell, script: 'echo > o', outputs: {o: {type: file, path: o}}, cache: false}
    failure_policy: finish_independent
    defaults: {env: {MADE: PLACE}}
"""


@pytest.fixture
def made(tmp_path_factory):
    """Where steps write what they do, outside the project."""
    return tmp_path_factory.mktemp("made") / "made"


def until(holds, seconds=20.0):
    """Wait until something holds; what it returned then."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)
    return found


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def all_applied_at_once(project: Project, count: int, *args: str) -> list[tuple[int, str, str]]:
    return [ended(p) for p in [project.start("apply", *args) for _ in range(count)]]


def one_round(project: Project, made) -> list[str]:
    """Eight applies at once of four new steps: what was wrong."""
    project.pipeline(DIAMOND.replace("PLACE", str(made)))
    answers = all_applied_at_once(project, 8, "p.yaml")
    wrong = [f"exit {code}: {out}{err}" for code, out, err in answers if code or "lock" in out + err]
    counts = Counter(made.read_text().split())
    return wrong + [f"{step} ran {counts[step]} times" for step in "abcd" if counts[step] != 1]


@pytest.mark.reliability("E01")
def test_eight_applies_at_once_make_each_result_once(project, made):
    wrong = [w for n in range(2) for w in one_round(project, made.with_name(f"made{n}"))]
    assert wrong == []
    ends = Counter(
        s for run in json.loads(project.runner("runs", "-o", "json").raw) for s in project.statuses(run["run"]).values()
    )
    assert (ends.pop("succeeded"), set(ends)) == (8, {"cached"})


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.reliability("E01")
def test_eight_applies_at_once_a_hundred_times(project, made):
    assert [w for n in range(100) for w in one_round(project, made.with_name(f"made{n}"))] == []
