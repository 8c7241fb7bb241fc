"""An apply is killed before each of its writes, and at random: nothing that was told is lost, and it goes on without a hand.

The points are the writing calls of one process in the order in which they are made, all its threads together; strace's
count is per thread, and the journal is written in threads of their own. SIGKILL comes before the call.
"""

import json
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.reliability import kit

pytestmark = pytest.mark.skipif(not kit.TAPPABLE, reason="needs seccomp notifications of Linux on x86_64")

STEPS = """\
apiVersion: runner/v1
kind: Pipeline
name: p
steps:
  a:
    kind: shell
    script: 'echo a >> {count}; while test -e {count}.a; do sleep 0.02; done; echo 1 > o'
    outputs: {{o: {{type: file}}}}
  b:
    kind: shell
    inputs: {{i: $(steps.a.outputs.o)}}
    script: 'echo b >> {count}; while test -e {count}.b; do sleep 0.02; done; mkdir -p d/e; cp $RUNNER_INPUT_I d/e/x; echo 2 > d/y'
    outputs: {{d: {{type: dir}}}}
  c:
    kind: shell
    inputs: {{i: $(steps.b.outputs.d)}}
    script: 'echo c >> {count}; cat $RUNNER_INPUT_I/y $RUNNER_INPUT_I/e/x > o; echo ''{{"n": 3}}'' > $RUNNER_VALUES'
    outputs: {{o: {{type: file}}, n: {{type: integer}}}}
"""


def counted(folder: Path) -> Path:
    """The file beside a project in which its steps, which are sealed from the project, count."""
    beside = folder.with_name(f"{folder.name}-beside")
    beside.mkdir(exist_ok=True)
    return beside / "count"


def three_steps(folder: Path) -> Path:
    """A pipeline of a file, a directory and a value, whose steps count in a file outside how often they ran."""
    folder.mkdir(parents=True)
    (folder / "runner.toml").touch()
    (folder / "p.yaml").write_text(STEPS.format(count=counted(folder)))
    return folder


def results(folder: Path) -> dict[str, list[str]]:
    """All the different outputs that a step ever had, in any run that says it is done; which run made them does not count."""
    found: dict[str, set[str]] = {}
    for _, events in kit.journals(folder / ".runner"):
        for event in events:
            if event["event"] == "step_ended" and event["status"] in kit.DONE:
                outputs = {n: {k: v for k, v in o.items() if k != "run"} for n, o in event["outputs"].items()}
                found.setdefault(event["step"], set()).add(json.dumps(outputs, sort_keys=True))
    return {step: sorted(texts) for step, texts in sorted(found.items())}


def times(folder: Path) -> dict[str, int]:
    """How often each step ran."""
    count = counted(folder)
    words = count.read_text().split() if count.exists() else []
    return {step: words.count(step) for step in "abc"}


def resume_args(folder: Path) -> list[str]:
    """`retry` of the newest run that was recorded, else `apply`."""
    recorded = json.loads(kit.ask(folder, "runs", "--limit", "1", "-o", "json").stdout)
    return ["retry", recorded[0]["run"], "-o", "json"] if recorded else ["apply", "p.yaml", "-o", "json"]


def wrong_after(folder: Path, out: str, wanted: dict) -> list[str]:
    """What is wrong after a kill: with the store, with what was told, with the resume and with its results."""
    wrong = [f"after the kill: {what}" for what in kit.fsck(folder)]
    told, before = kit.acknowledged(out), times(folder)
    resumed = kit.run(folder, *resume_args(folder))
    if resumed.returncode != 0:
        wrong.append(f"resume: exit {resumed.returncode}: {resumed.stderr[-500:]}")
    after = times(folder)
    wrong += [f"{step} was told as done and ran again" for step in told if after[step] != before[step]]
    wrong += [f"after the resume: {what}" for what in kit.fsck(folder)]
    if resumed.returncode == 0 and (found := results(folder)) != wanted:
        wrong.append(f"other results: {found}")
    if "run_started" in resumed.stdout:
        wrong += [f"tmp still has {path.name}" for path in (folder / ".runner/tmp").iterdir() if path.is_dir()]
    return wrong


def killed_at(folder: Path, number: int, kind: str, then: int, wanted: dict, call: str = "") -> tuple[bool, list[str]]:
    """Apply, with a signal at one call; return whether that call came, and what is wrong afterwards."""
    tapped = kit.tap(three_steps(folder), ["apply", "p.yaml", "-o", "json"], kit.at_call(number, kind, then, call))
    code = tapped.finish()
    wrong = wrong_after(folder, tapped.out, wanted)
    if "Traceback" in tapped.err:
        wrong.append(tapped.err[-500:])
    return code != 0, [f"{kind} {signal.Signals(then).name} at call {number}: {what}" for what in wrong]


HELD = {"run_started": "a", "step_ended": "b", "run_ended": "none"}  # the step that keeps a run where it has told this


def killed_amid(folder: Path, event: str) -> list[str]:
    """Apply, and kill it once it has told an event; return the steps that it told as done."""
    hold = counted(three_steps(folder)).with_suffix(f".{HELD[event]}")
    hold.touch()
    process = kit.start(folder, "apply", "p.yaml", "-o", "json")
    out: list[str] = []
    while not out or json.loads(out[-1])["event"] != event:
        out.append(process.stdout.readline())
    process.kill()
    process.communicate()
    hold.unlink()
    return kit.acknowledged("".join(out))


def killed_in_resume(folder: Path, event: str, number: int, wanted: dict) -> tuple[bool, list[str]]:
    """Apply killed once it has told an event, its resume killed at a call; return whether that came, and what is wrong."""
    told, before = killed_amid(folder, event), times(folder)
    again = kit.tap(folder, resume_args(folder), kit.at_call(number, "runner", signal.SIGKILL))
    code = again.finish()
    wrong, after = wrong_after(folder, again.out, wanted), times(folder)
    wrong += [f"{step}, told as done before the resume, ran again" for step in told if after[step] != before[step]]
    return code != 0, [f"apply after {event}, resume {number}: {what}" for what in wrong]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An apply that nothing disturbs: its results, and how many calls the runner and its workers make."""
    folder = three_steps(tmp_path_factory.mktemp("whole") / "p")
    tapped = kit.tap(folder, ["apply", "p.yaml", "-o", "json"], kit.at_call(0, "worker", signal.SIGKILL))
    assert tapped.finish() == 0, tapped.err
    calls = [pid == tapped.process.pid for pid, _ in tapped.trail]
    workers = [pid for pid, _ in tapped.trail if tapped.kinds.get(pid)]
    return {"results": results(folder), "runner": calls.count(True), "worker": len(workers)}


SAMPLE = random.Random(20261125)
PLACES = [(sixth + SAMPLE.random()) / 6 for sixth in range(6)]


@pytest.mark.reliability("D01")
@pytest.mark.parametrize("place", PLACES, ids=lambda p: f"runner at {p:.2f}")
def test_an_apply_killed_at_a_write_of_the_runner_goes_on(tmp_path, whole, place):
    number = 1 + int(place * whole["runner"])
    assert killed_at(tmp_path / "p", number, "runner", signal.SIGKILL, whole["results"])[1] == []


@pytest.mark.reliability("D01")
@pytest.mark.parametrize("place", [0.2, 0.9], ids=lambda p: f"worker at {p:.2f}")
def test_an_apply_whose_worker_is_killed_at_a_write_goes_on(tmp_path, whole, place):
    number = 1 + int(place * whole["worker"])
    assert killed_at(tmp_path / "p", number, "worker", signal.SIGKILL, whole["results"])[1] == []


@pytest.mark.reliability("D01")
@pytest.mark.parametrize("place", [0.5, 0.9], ids=lambda p: f"TERM at {p:.2f}")
def test_an_apply_that_is_told_to_end_at_a_write_goes_on(tmp_path, whole, place):
    number = 1 + int(place * whole["runner"])
    assert killed_at(tmp_path / "p", number, "runner", signal.SIGTERM, whole["results"])[1] == []


@pytest.mark.reliability("D01")
def test_a_resume_that_is_killed_at_a_write_goes_on(tmp_path, whole):
    assert killed_in_resume(tmp_path / "p", "step_ended", 40, whole["results"]) == (True, [])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.reliability("D01")
@pytest.mark.parametrize(
    ("kind", "then"),
    [
        pytest.param("runner", signal.SIGKILL, id="KILL runner"),
        pytest.param("worker", signal.SIGKILL, id="KILL worker"),
        pytest.param("runner", signal.SIGTERM, id="TERM runner"),
    ],
)
def test_an_apply_killed_at_every_write_goes_on(tmp_path, whole, kind, then):
    wrong = []
    for number in range(1, whole[kind] + 1):
        wrong += killed_at(tmp_path / str(number), number, kind, then, whole["results"])[1]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.reliability("D01")
@pytest.mark.parametrize(("event", "fewest"), [("run_started", 60), ("step_ended", 60), ("run_ended", 5)])
def test_a_resume_killed_at_every_write_goes_on(tmp_path, whole, event, fewest):
    wrong, number, came = [], 0, True
    while came:
        number += 1
        came, found = killed_in_resume(tmp_path / str(number), event, number, whole["results"])
        wrong += found
    assert (wrong, number > fewest) == ([], True), number


# --- D02 ----------------------------------------------------------------------------------------------------------


def thirty_steps(folder: Path) -> Path:
    """Thirty steps of a tenth of a second, each reads the one six before it."""
    folder.mkdir(parents=True)
    (folder / "runner.toml").touch()
    lines = ["apiVersion: runner/v1", "kind: Pipeline", "name: p", "steps:"]
    for n in range(30):
        needs = f"inputs: {{i: $(steps.s{n - 6}.outputs.o)}}, " if n >= 6 else ""
        script = f"echo s{n} >> {counted(folder)}; sleep 0.1; echo {n} > o"
        lines.append(f"  s{n}: {{kind: shell, {needs}script: '{script}', outputs: {{o: {{type: file}}}}}}")
    (folder / "p.yaml").write_text("\n".join(lines) + "\n")
    return folder


def random_kills(folder: Path, kills: int, seed: int) -> tuple[int, list[str]]:
    """Kill applies and their resumes at random times; begin anew when one is done; return how many kills hit, and what is wrong."""
    spin, wrong, hit, round = random.Random(seed), [], 0, 0
    place, args, done = folder / "none", [], set()
    while hit < kills:
        if not args:
            round += 1
            place, args, done = thirty_steps(folder / str(round)), ["apply", "p.yaml"], set()
        count = counted(place)
        before = count.read_text().split() if count.exists() else []
        process = kit.start(place, *args, "--workers", "2", "-o", "json")
        try:
            out, err = process.communicate(timeout=spin.uniform(0.1, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            hit += 1
        ran = count.read_text().split()[len(before) :] if count.exists() else []
        wrong += [f"kill {hit}: {step} was told as done and ran again" for step in ran if step in done]
        wrong += [f"kill {hit}: {what}" for what in kit.fsck(place)]
        done |= set(kit.acknowledged(out))
        if process.returncode == 0:
            recorded = results(place)  # a kill may come when all is on the disk, and nothing of the last steps was told
            wrong += [f"round {round}: s{n} is not done" for n in range(30) if f"s{n}" not in recorded]
            wrong += [f"round {round}: {step} has two results" for step, texts in recorded.items() if len(texts) > 1]
            args = []
        elif process.returncode == -signal.SIGKILL:
            args = resume_args(place)[:-2]
        else:
            wrong.append(f"kill {hit}: exit {process.returncode}: {err[-300:]}")
            args = []
    return hit, wrong


@pytest.mark.reliability("D02")
def test_random_kills_lose_nothing(tmp_path):
    assert random_kills(tmp_path, 3, seed=1) == (3, [])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.reliability("D02")
def test_two_hundred_random_kills_lose_nothing(tmp_path):
    assert random_kills(tmp_path, 200, seed=2) == (200, [])


# --- a plan file is not used up by an apply that was killed before its run began -----------------------------------


@pytest.mark.reliability("D01", "E08")
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", ["fsync", "mkdir", "fdatasync", "write"])
def test_a_plan_whose_apply_was_killed_early_can_be_applied_or_its_run_retried(tmp_path, whole, call):
    folder = three_steps(tmp_path / "p")
    assert kit.run(folder, "plan", "p.yaml", "--out", "plan.json").returncode == 0
    wrong, number, came = [], 1, True
    while came:
        shutil.rmtree(folder / ".runner", ignore_errors=True)
        tapped = kit.tap(
            folder, ["apply", "plan.json", "-o", "json"], kit.at_call(number, "runner", signal.SIGKILL, call)
        )
        came = tapped.finish() != 0
        args = resume_args(folder)
        args = ["apply", "plan.json"] if args[0] == "apply" else args
        resumed = kit.run(folder, *args)
        wrong += (
            [f"{call} {number}: {resumed.stderr}"] if resumed.returncode or results(folder) != whole["results"] else []
        )
        number += 1
    assert (number > 2, wrong) == (True, [])


@pytest.mark.reliability("D01", "E08")
def test_a_plan_whose_apply_was_killed_between_its_mark_and_its_run_can_be_applied(tmp_path, whole):
    folder = three_steps(tmp_path / "p")
    assert kit.run(folder, "plan", "p.yaml", "--out", "plan.json").returncode == 0
    tapped = kit.tap(folder, ["apply", "plan.json"], kit.at_call(4, "runner", signal.SIGKILL, "fsync"))
    assert tapped.finish() == -signal.SIGKILL
    marks = [path.read_text() for path in (folder / ".runner/plans").iterdir()]
    applied = [kit.run(folder, "apply", "plan.json").returncode for _ in range(2)]
    assert (marks, applied, results(folder)) == ([""], [0, 4], whole["results"])


def test_the_check_of_a_store_finds_what_is_wrong(tmp_path):
    """The check that all these stand on can fail."""
    folder = three_steps(tmp_path / "p")
    assert (kit.run(folder, "apply", "p.yaml").returncode, kit.fsck(folder)) == (0, [])
    objects = sorted((folder / ".runner/objects/sha256").glob("*/*"))
    objects[0].chmod(0o644)
    objects[0].write_text("other")
    objects[1].unlink()
    found = "\n".join(kit.fsck(folder))
    assert (objects[0].name in found, f"{objects[1].name} is missing" in found, "verify: exit 5" in found) == (
        True,
        True,
        True,
    )
