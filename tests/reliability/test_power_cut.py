"""A power cut during busy applies: what was told before it is there after it, with the right bytes.

The store lies on an ext4 or XFS inside a file, through a loop device. The file lies on an XFS that shares blocks: a clone
of it is what the disk held at that moment; what only the page cache of the inner file system had is not in it. So the
cut takes all that was not yet written back, in whatever order the kernel writes. It does not take what was written back
but not flushed out of a disk's own cache, it tears no sector, and the order of writes is that of one machine.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.reliability import kit

TOOLS = ("mkfs.xfs", "mkfs.ext4", "mount", "umount", "losetup")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a loop device"),
    *(pytest.mark.skipif(not shutil.which(tool), reason=f"needs {tool}") for tool in TOOLS),
    pytest.mark.skipif("\txfs\n" not in Path("/proc/filesystems").read_text(), reason="needs a kernel with XFS"),
]


def sh(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


class Machine:
    """A disk in a file, a file system on it, and the moments at which its power was cut."""

    def __init__(self, place: Path, kind: str) -> None:
        self.kind = kind
        self.outer, self.inner, self.after = place / "outer", place / "inner", place / "after"
        for folder in (self.outer, self.inner, self.after):
            folder.mkdir(parents=True)
        self.backing = place / "backing"
        with open(self.backing, "wb") as file:
            file.truncate(6 << 30)  # sparse
        sh("mkfs.xfs", "-q", "-m", "reflink=1", self.backing)
        sh("mount", "-o", "loop", self.backing, self.outer)
        self.disk = self.outer / "disk"
        with open(self.disk, "wb") as file:
            file.truncate(512 << 20)
        sh(f"mkfs.{kind}", "-q", *(["-F"] if kind == "ext4" else []), self.disk)
        sh("mount", "-o", "loop", self.disk, self.inner)

    def cut(self, number: int) -> Path:
        """What the disk holds now, as another disk."""
        clone = self.outer / f"cut{number}"
        sh("cp", "--reflink=always", self.disk, clone)
        return clone

    def boot(self, clone: Path) -> None:
        """Mount what a cut left, as a machine does that starts again: the file system replays its log."""
        sh("mount", "-o", "loop" + (",nouuid" if self.kind == "xfs" else ""), clone, self.after)

    def shut(self) -> None:
        sh("umount", self.after)

    def end(self) -> None:
        for place in (self.after, self.inner, self.outer):
            subprocess.run(["umount", "-l", str(place)], capture_output=True)


PIPELINE = """\
apiVersion: runner/v1
kind: Pipeline
name: p
params: {round: {type: integer, default: 0}}
steps:
"""


def busy_project(folder: Path) -> None:
    """A pipeline of ten steps that each write a file and a directory, other bytes in each round."""
    folder.mkdir()
    (folder / "runner.toml").touch()
    lines = []
    for n in range(10):
        needs = f"inputs: {{i: $(steps.s{n - 3}.outputs.o)}}, " if n >= 3 else ""
        script = f"seq $R{n} $((R{n} + 3000)) > o; mkdir -p d; date +%N > d/x; head -c 70000 /dev/urandom > d/y"
        outputs = "outputs: {o: {type: file}, d: {type: dir}}"
        lines.append(f"  s{n}: {{kind: shell, {needs}env: {{R{n}: $(params.round)}}, script: '{script}', {outputs}}}")
    (folder / "p.yaml").write_text(PIPELINE + "\n".join(lines) + "\n")


class Busy(threading.Thread):
    """Applies one round after another and notes what each run tells, as it tells it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.told: list[tuple[str, str]] = []  # run, step
        self.ending = False
        self.failed: list[str] = []

    def run(self) -> None:
        round = 0
        while not self.ending:
            round += 1
            process = kit.start(
                self.folder, "apply", "p.yaml", "-p", f"round={round}", "-o", "json", stderr=subprocess.DEVNULL
            )
            assert process.stdout is not None
            name = ""
            for line in process.stdout:
                event = json.loads(line)
                name = event.get("run", name) if event["event"] == "run_started" else name
                if event["event"] == "step_ended" and event["status"] in kit.DONE:
                    self.told.append((name, event["step"]))
            if process.wait() != 0:
                self.failed.append(f"round {round}: exit {process.returncode}")


def power_cuts(place: Path, cuts: int, seconds: float, kind: str) -> dict:
    """Cut the power at `cuts` moments in `seconds` of applies; count what is lost, and say what is wrong."""
    machine = Machine(place, kind)
    found = {"cuts": 0, "told": 0, "lost": 0, "bad": 0, "unnamed": 0, "wrong": []}
    try:
        project = machine.inner / "p"
        busy_project(project)
        busy = Busy(project)
        busy.start()
        kit.eventually(lambda: busy.told, 60)
        moments = []
        for number in range(cuts):
            time.sleep(seconds / cuts)
            told = list(busy.told)  # before the cut: all this was told before the power went
            moments.append((told, machine.cut(number)))
        busy.ending = True
        busy.join(120)
        found["wrong"] += busy.failed
        for told, clone in moments:
            machine.boot(clone)
            try:
                after(machine.after / "p", told, found)
            finally:
                machine.shut()
    finally:
        machine.end()
    return found


def after(folder: Path, told: list[tuple[str, str]], found: dict) -> None:
    """Look at what a cut left: first as it is, then through the program, then go on with it."""
    store = folder / ".runner"
    found["cuts"] += 1
    found["told"] += len(told)
    done = {
        (run, e["step"])
        for run, events in kit.journals(store)
        for e in events
        if e["event"] == "step_ended" and e["status"] in kit.DONE
    }
    found["lost"] += len(set(told) - done)
    bad = kit.lost_results(store)
    found["bad"] += len(bad)
    found["unnamed"] += len(
        kit.bad_objects(store)
    )  # published, but no record names them: the cut came before the barrier
    found["wrong"] += bad[:3]
    listed = kit.ask(folder, "runs", "-o", "json", "--limit", "1000")
    if listed.returncode:
        found["wrong"].append(listed.stderr)
        return
    runs = json.loads(listed.stdout)
    known = {entry["run"] for entry in runs}
    found["wrong"] += [f"run {run} is not listed" for run in {run for run, _ in told} - known]
    resumed = kit.run(folder, "retry", runs[0]["run"])
    if resumed.returncode:
        found["wrong"].append(f"retry: exit {resumed.returncode}: {resumed.stderr[-300:]}")
    if lost := kit.lost_results(store):
        found["wrong"] += lost[:3]


@pytest.mark.reliability("D05")
def test_two_power_cuts_lose_nothing_that_was_told(tmp_path):
    found = power_cuts(tmp_path, 2, 2.0, "ext4")
    assert (found["cuts"], found["lost"], found["bad"], found["wrong"]) == (2, 0, 0, [])
    assert found["told"] > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.reliability("D05")
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_twenty_power_cuts_lose_nothing_that_was_told(tmp_path, kind):
    found = power_cuts(tmp_path, 20, 60.0, kind)
    assert (found["cuts"], found["lost"], found["bad"], found["wrong"]) == (20, 0, 0, [])
    assert found["told"] > 100
