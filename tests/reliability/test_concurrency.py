"""Runs at the same time on one store: what is the same is made once, readers wait for nobody, one plan starts one run."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import runner
from tests.kit import Project

DIAMOND = """
    steps:
      a: {kind: shell, script: 'echo a >> $MADE; sleep 0.2; date +%N > o', outputs: {o: {type: file, path: o}}}
      b: {kind: shell, script: 'echo b >> $MADE; cat $RUNNER_INPUT_X > o', inputs: {x: $(steps.a.outputs.o)}, outputs: {o: {type: file, path: o}}}
      c: {kind: shell, script: 'echo c >> $MADE; sleep 0.1; echo >> o', inputs: {x: $(steps.a.outputs.o)}, outputs: {o: {type: file, path: o}}}
      d: {kind: shell, script: 'echo d >> $MADE; echo > o', inputs: {b: $(steps.b.outputs.o), c: $(steps.c.outputs.o)}, outputs: {o: {type: file, path: o}}}
    defaults: {env: {MADE: PLACE}}
"""
# `slow` ends when a file `go` appears, as that file says: TAIL is what comes then.
GATED = """
    steps:
      slow: {kind: shell, script: 'echo $$ >> $MADE; while ! test -e $MADE.go; do sleep 0.05; done; . $MADE.go; echo > o', outputs: {o: {type: file, path: o}}RETRY}
      free: {kind: shell, script: 'echo > o', outputs: {o: {type: file, path: o}}, cache: false}
      last: {kind: shell, script: 'echo > o', inputs: {x: $(steps.slow.outputs.o)}, outputs: {o: {type: file, path: o}}}
    failure_policy: finish_independent
    defaults: {env: {MADE: PLACE}}
"""


@pytest.fixture
def made(tmp_path_factory):
    """Where steps write what they do, outside the project."""
    return tmp_path_factory.mktemp("made") / "made"


def until(holds, seconds=30.0):
    """Wait until something holds; return what it is then."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)
    return found


def events(project: Project, count: int, *args: str) -> list[list[dict]]:
    """What each of several applies at once tells; each must end well and say nothing of locks.

    All are read at once: one that nobody reads stands still once its pipe is full, and so does who waits for its results.
    """
    processes = [project.start("apply", *args, "-o", "json") for _ in range(count)]
    with ThreadPoolExecutor(count) as readers:
        said = list(readers.map(lambda process: process.communicate(timeout=100), processes))
    answers = [(p.returncode, err) for p, (_, err) in zip(processes, said, strict=True)]
    assert [(code, err) for code, err in answers if code or re.search("lock|Traceback", err)] == []
    return [[json.loads(line) for line in out.splitlines()] for out, _ in said]


def ends(told: list[list[dict]]) -> Counter:
    return Counter(e["status"] for run in told for e in run if e["event"] == "step_ended")


def round_of_eight(project: Project, made: Path) -> Counter:
    """Apply four new steps eight times at once; return how often each ran."""
    project.pipeline(DIAMOND.replace("PLACE", str(made)))
    told = events(project, 8, "p.yaml")
    assert set(ends(told)) <= {"succeeded", "cached"}
    assert ends(told)["succeeded"] == 4
    return Counter(made.read_text().split())


@pytest.mark.reliability("E01")
def test_of_eight_applies_at_once_one_makes_each_result_and_the_others_take_it(project, made):
    for number in range(2):
        assert round_of_eight(project, made.with_name(f"made{number}")) == dict.fromkeys("abcd", 1)
    assert project.runner("store", "verify").code == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.reliability("E01")
def test_in_a_hundred_rounds_of_eight_applies_no_step_is_executed_twice(project, made):
    for number in range(100):
        assert round_of_eight(project, made.with_name(f"made{number}")) == dict.fromkeys("abcd", 1)


def gated(project: Project, made: Path, retry: str = "") -> None:
    project.pipeline(GATED.replace("PLACE", str(made)).replace("RETRY", retry))


def awaited(process: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """Read what an apply tells until it says that it waits for a result; return that and what was told before."""
    before: list[str] = []
    for line in process.stdout:
        if "waits for its result" in line:
            return line, before
        before.append(line)
    raise AssertionError(before)


def go(made: Path, what: str) -> None:
    made.with_suffix(".new").write_text(f"{what}\n")
    made.with_suffix(".new").rename(f"{made}.go")


def second(project: Project, made: Path, retry: str = "") -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Two applies of which the first makes a result, and the second one waits for it."""
    gated(project, made, retry)
    first = project.start("apply", "p.yaml")
    until(made.exists)
    other = project.start("apply", "p.yaml", "--workers", "1")
    line, _ = awaited(other)
    maker = json.loads(project.runner("runs", "-o", "json").raw)[-1]["run"]
    assert line == f"  slow: waits for its result, which run {maker} is making\n"
    return first, other


def test_a_run_that_waits_for_a_result_goes_on_with_its_other_steps_and_names_the_run(project, made):
    first, other = second(project, made)
    assert until(lambda: (line := other.stdout.readline()) and "free: ok" in line and line)
    go(made, "true")
    assert (first.wait(30), other.wait(30)) == (0, 0)
    assert len(made.read_text().split()) == 1
    assert (
        project.statuses() == {"slow": "cached", "free": "succeeded", "last": "cached"}
        or project.statuses()["slow"] == "cached"
    )


def test_a_result_that_failed_elsewhere_is_made_by_who_waited(project, made):
    first, other = second(project, made)
    go(made, f"rm {made}.go; echo 'true' > {made}.go; exit 3")
    assert (first.wait(30), other.wait(30)) == (1, 0)
    assert len(made.read_text().split()) == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_the_end_of_the_runner_that_makes_a_result_passes_it_on(project, made, number):
    first, other = second(project, made)
    first.send_signal(number)
    first.wait(30)
    until(lambda: len(made.read_text().split()) == 2)
    go(made, "true")
    assert other.wait(30) == 0
    assert project.statuses()["slow"] == "succeeded"


def test_between_two_attempts_of_one_run_another_may_make_the_result(project, made):
    first, other = second(project, made, ", retry: {max_attempts: 2, interval: 3s, jitter: 0}")
    go(made, f"rm {made}.go; echo 'true' > {made}.go; exit 3")
    assert (first.wait(30), other.wait(30)) == (0, 0)
    assert len(made.read_text().split()) == 2
    runs = [project.statuses(run["run"])["slow"] for run in json.loads(project.runner("runs", "-o", "json").raw)]
    assert runs == ["succeeded", "cached"]


def test_a_run_that_waits_for_a_result_can_be_stopped(project, made):
    first, other = second(project, made)
    other.send_signal(signal.SIGTERM)
    assert other.wait(30) == 143
    assert project.statuses() | {"free": ""} == {"slow": "not_run", "free": "", "last": "not_run"}
    go(made, "true")
    assert first.wait(30) == 0


def test_two_equal_steps_of_one_run_are_one(project, made):
    project.pipeline(f"""
        steps:
          a: {{kind: shell, script: 'echo 1 >> {made}; echo > o', outputs: {{o: {{type: file, path: o}}}}}}
          b: {{kind: shell, script: 'echo 1 >> {made}; echo > o', outputs: {{o: {{type: file, path: o}}}}}}
    """)
    answer = project.runner("apply", "p.yaml", "--workers", "2")
    assert "  b: waits for its result, which step a is making\n" in answer.out
    assert made.read_text() == "1\n"
    assert project.statuses() == {"a": "succeeded", "b": "cached"}


@pytest.mark.parametrize("how", ["mode: full", "force: [all]"])
def test_who_asks_for_a_run_waits_for_no_other(project, made, how):
    project.pipeline(DIAMOND.replace("PLACE", str(made)))
    project.request(how)
    assert ends(events(project, 2, "run.yaml")) == {"succeeded": 8}
    assert Counter(made.read_text().split()) == dict.fromkeys("abcd", 2)


def many(project: Project, steps: int) -> None:
    lines = "\n".join(
        f"  s{n}: {{kind: command, command: [sh, -c, 'echo {n} > o'], outputs: {{o: {{type: file, path: o}}}}}}"
        for n in range(steps)
    )
    project.pipeline(f"steps:\n{lines}")
    project.request("mode: full")


@pytest.mark.reliability("E03")
@pytest.mark.parametrize(
    ("runs", "steps"),
    [
        pytest.param(6, 20, id="few"),
        pytest.param(16, 100, id="sixteen", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_applies_at_once_keep_all_their_rows(project, runs, steps):
    many(project, steps)
    assert ends(events(project, runs, "run.yaml", "--again")) == {"succeeded": runs * steps}
    with sqlite3.connect(project.root / ".runner/index.db") as index:
        count = "SELECT (SELECT count(*) FROM runs WHERE status='succeeded'), (SELECT count(*) FROM successes)"
        assert index.execute(count).fetchone() == (runs, runs * steps)
    index.close()
    assert project.runner("store", "verify").code == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.reliability("E03")
def test_sixteen_applies_at_once_share_a_hundred_steps(project):
    many(project, 100)
    told = events(project, 16, "p.yaml")
    assert ends(told)["succeeded"] == 100
    assert set(ends(told)) == {"succeeded", "cached"}


READER = """
import os, sys, time
from runner.cli import run
commands = (["runs"], ["show", sys.argv[1]], ["logs", sys.argv[1]], ["show", sys.argv[1], "-o", "json"])
for command in commands:
    run(command)  # loads all modules, which another user may not be allowed to read
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for _ in range(int(sys.argv[2])):
    for command in commands:
        start = time.monotonic()
        code = run(command)
        print(code, round(time.monotonic() - start, 3), *command, file=sys.stderr)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become a user who may only read")
@pytest.mark.reliability("E07")
def test_who_may_only_read_is_answered_at_once_while_a_run_goes_on(project, made):
    for above in [project.root, *list(project.root.parents)[:-2]]:
        above.chmod(above.stat().st_mode | 0o055)
    gated(project, made)
    apply = project.start("apply", "p.yaml")
    until(made.exists)
    run = json.loads(project.runner("runs", "-o", "json").raw)[0]["run"]
    env = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent), "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", READER, run, "100"], cwd=project.root, env=env, capture_output=True, text=True
    )
    answers = [line.split() for line in done.stderr.splitlines()]
    assert len(answers) == 400
    assert {code for code, *_ in answers} == {"0"}
    assert max(float(seconds) for _, seconds, *_ in answers) < 1
    assert "running" in done.stdout
    go(made, "true")
    assert apply.wait(30) == 0


@pytest.mark.reliability("E07")
@pytest.mark.parametrize("command", ["runs", "show RUN", "logs RUN"])
def test_a_reader_waits_for_no_lock(project, made, command):
    """While one process holds every lock that there is, and writes to the index."""
    gated(project, made)
    apply = project.start("apply", "p.yaml")
    until(made.exists)
    run = json.loads(project.runner("runs", "-o", "json").raw)[0]["run"]
    index = sqlite3.connect(project.root / ".runner/index.db", isolation_level=None)
    index.execute("BEGIN IMMEDIATE")
    start = time.monotonic()
    assert project.runner(*command.replace("RUN", run).split()).code == 0
    assert time.monotonic() - start < 5
    index.close()
    go(made, "true")
    assert apply.wait(30) == 0


def locks_below(folder: Path) -> list[str]:
    """The locks of the kernel on files below a folder."""
    inodes = {str(path.stat().st_ino): path for path in folder.rglob("*")}
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return [str(inodes[fields[5].split(":")[2]]) for fields in held if fields[5].split(":")[2] in inodes]


@pytest.mark.reliability("E08")
@pytest.mark.parametrize("at_once", [False, True], ids=["in turn", "at once"])
def test_a_refused_plan_leaves_no_lock(project, at_once):
    project.pipeline("steps: {a: {kind: shell, script: sleep 0.2; echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("concurrency: {group: g}")
    assert project.runner("plan", "run.yaml", "--out", "plan.json").code == 0
    assert not (project.root / ".runner").exists()
    first = project.start("apply", "plan.json")
    if not at_once:
        first.wait(30)
    other = project.start("apply", "plan.json")
    assert sorted([first.wait(30), other.wait(30)]) == [0, 4]
    assert locks_below(project.root / ".runner") == []
    assert project.runner("apply", "run.yaml", "--again").code == 0
    assert len(json.loads(project.runner("runs", "-o", "json").raw)) == 2


# Another version of the runner: as installed, but for its number.
NEWER = (
    "import runner; runner.__version__ = '99.0'; from runner.cli import run; import sys; sys.exit(run(sys.argv[1:]))"
)


@pytest.mark.reliability("E09")
def test_a_plan_of_another_version_of_the_runner_is_refused_with_both_versions(project):
    project.pipeline("steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("")
    env = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent)}
    command = [sys.executable, "-c", NEWER, "plan", "run.yaml", "--out", "plan.json"]
    subprocess.run(command, cwd=project.root, env=env, check=True, capture_output=True)
    answer = project.runner("apply", "plan.json")
    assert (answer.code, f"  the runner: version 99.0 -> {runner.__version__}\n" in answer.err) == (4, True), answer
    assert json.loads(project.runner("runs", "-o", "json").raw) == []


@pytest.mark.reliability("E09")
def test_a_plan_is_refused_once_another_apply_has_made_what_it_would_run(project):
    project.pipeline("steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("")
    assert project.runner("plan", "run.yaml", "--out", "plan.json").code == 0
    assert project.runner("apply", "p.yaml").code == 0
    answer = project.runner("apply", "plan.json")
    assert (answer.code, "  step a: run -> cached\n" in answer.err) == (4, True), answer


@pytest.mark.reliability("E09")
def test_a_plan_is_refused_when_its_pipeline_says_something_else(project):
    project.pipeline("steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("")
    assert project.runner("plan", "run.yaml", "--out", "plan.json").code == 0
    project.pipeline("steps: {a: {kind: shell, script: echo 2 > o, outputs: {o: {type: file}}}}")
    answer = project.runner("apply", "plan.json")
    assert (answer.code, "  the pipeline p.yaml: DIGEST -> DIGEST\n" in answer.err) == (4, True), answer


@pytest.mark.reliability("E09")
def test_a_plan_is_refused_when_what_it_reuses_was_taken_away(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
          b: {kind: shell, script: cat $RUNNER_INPUT_X > o, inputs: {x: $(steps.a.outputs.o)}, outputs: {o: {type: file}}}
    """)
    project.request("select: [b]\nreference: latest\n")
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("plan", "run.yaml", "--out", "plan.json").code == 0
    run = json.loads(project.runner("runs", "-o", "json").raw)[0]["run"]
    (project.root / f".runner/runs/{run}/journal.jsonl").unlink()
    answer = project.runner("apply", "plan.json")
    assert (answer.code, "reference" in answer.err) == (4, True), answer
