"""A disk that is full: the run ends as failed, says so, and goes on when there is room again; nothing is damaged.

The store lies on a file system of a few megabytes, which is filled at many moments: to a level that the run then
reaches by itself, while it runs, and of its files instead of its bytes.
"""

import itertools
import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.kit import Project

MiB = 1 << 20
STEPS = 12
PIPELINE = "steps:\n" + "".join(
    f"""  s{n}:
    kind: shell
    script: 'head -c 150000 /dev/urandom > o; head -c 20000 /dev/zero | tr "\\0" x; sleep 0.05; echo {n}'
    outputs: {{o: {{type: file, path: o}}}}
    {f"needs: [s{n - 2}]" if n >= 2 else "needs: []"}
"""
    for n in range(STEPS)
)


class Disk:
    """A small file system of its own, with a store."""

    def __init__(self, place: Path, options: str) -> None:
        self.place, self.store = place, place / "store"
        self.filler = place / "filler"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a tmpfs: {done.stderr}")

    def fill(self, leave: int = 0) -> None:
        """Fill it, but for some bytes."""
        with open(self.filler, "ab", buffering=0) as file:
            while (room := os.statvfs(self.place).f_bfree * 4096 - leave) > 0:
                try:
                    file.write(bytes(min(room, 1 << 16)))
                except OSError:
                    return

    def fill_files(self, leave: int = 0) -> None:
        """Use up its inodes, but for some."""
        Path(f"{self.filler}s").mkdir()
        for number in itertools.count():  # a name that is new: how many are free may be the same again, as a run ends
            if os.statvfs(self.place).f_ffree <= leave:
                return
            try:
                Path(f"{self.filler}s/{number}").touch()
            except OSError:
                return

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", f"{self.filler}s"], check=True)

    def left(self) -> list[str]:
        """What is left of attempts and half-written files."""
        return [str(path.relative_to(self.store)) for path in (self.store / "tmp").rglob("*")]


@pytest.fixture
def disk(tmp_path_factory):
    disks = []

    def make(options="size=8m"):
        disks.append(Disk(tmp_path_factory.mktemp("disk"), options))
        return disks[-1]

    yield make
    for disk in disks:
        subprocess.run(["umount", "-l", disk.place], check=True)


def runs(project: Project, *store: str) -> list[dict]:
    return json.loads(project.runner("runs", "-o", "json", *store).raw)


def begun(process: subprocess.Popen[str], disk: Disk) -> None:
    """Wait until the run has its journal, or has ended."""
    while process.poll() is None and not list(disk.store.glob("runs/*/journal.jsonl")):
        time.sleep(0.005)


def ends_well(project: Project, disk: Disk, code: int, err: str) -> str:
    """Check all that is promised of a run on a disk that is or was full; return how it ended."""
    store = ("--store", str(disk.store))
    assert "Traceback" not in err, err
    if not (disk.store / "format").exists() or not runs(project, *store):
        assert (code, "No space left" in err or "is full" in err) == (6, True), err
        how = "refused"
    else:
        (run,) = runs(project, *store)  # while the disk is still full
        record = json.loads(project.runner("show", run["run"], "-o", "json", *store).raw)
        assert (record["status"], code) in [("failed", 6), ("succeeded", 0)], (record, err)
        causes = {step["cause"] for step in record["steps"].values() if step["status"] == "failed"}
        assert causes <= {"environment"}, record
        assert causes or code == 0 or re.search("No space left|is full", record["ended"]["reason"]), record
        how = record["status"]
    disk.free()
    if how != "refused":
        assert project.runner("store", "verify", *store).code == 0
        assert disk.left() == []
    if how == "failed":
        assert project.runner("retry", runs(project, *store)[0]["run"], *store).code == 0
    assert project.runner("apply", "p.yaml", *store).code == 0
    assert project.runner("store", "verify", *store).code == 0
    return how


def trial(project: Project, disk: Disk, fill, delay: float | None = None) -> str:
    """Fill the disk before a run, or some time after it began."""
    project.pipeline(PIPELINE)
    if delay is None:
        fill()
    process = project.start("apply", "p.yaml", "--store", str(disk.store))
    if delay is not None:
        begun(process, disk)
        time.sleep(delay)
        fill()
    _, err = process.communicate(timeout=60)
    return ends_well(project, disk, process.returncode, err)


LEVELS = [2 * MiB + 64 * 1024 + n * 80_000 for n in range(25)]
DELAYS = [n * 0.025 for n in range(25)]


@pytest.mark.reliability("F01")
@pytest.mark.parametrize(
    "level",
    [pytest.param(level, marks=() if level in (LEVELS[0], LEVELS[9]) else pytest.mark.slow) for level in LEVELS],
)
def test_a_disk_that_a_run_fills_up_ends_it_and_a_retry_goes_on(project, disk, level):
    made = disk()
    trial(project, made, lambda: made.fill(level))


@pytest.mark.reliability("F01")
@pytest.mark.parametrize(
    "delay",
    [pytest.param(delay, marks=() if delay in (DELAYS[2], DELAYS[10]) else pytest.mark.slow) for delay in DELAYS],
)
def test_a_disk_that_fills_up_meanwhile_ends_the_run_and_a_retry_goes_on(project, disk, delay):
    made = disk()
    trial(project, made, made.fill, delay)


@pytest.mark.reliability("F01")
@pytest.mark.parametrize(
    "delay",
    [
        pytest.param(delay, marks=() if delay in (DELAYS[6],) else pytest.mark.slow)
        for delay in DELAYS[::4] + [DELAYS[6]]
    ],
)
def test_a_disk_that_runs_out_of_files_ends_the_run_and_a_retry_goes_on(project, disk, delay):
    made = disk("size=64m,nr_inodes=400")
    trial(project, made, made.fill_files, delay)


@pytest.mark.slow
@pytest.mark.reliability("F01")
@pytest.mark.parametrize("delay", DELAYS[::4])
def test_somebody_who_takes_every_byte_that_gets_free_does_not_keep_a_run_from_its_end(project, disk, delay):
    made = disk()
    hungry = threading.Event()

    def fill():
        def take():
            while not hungry.is_set():
                made.fill()

        threading.Thread(target=take).start()

    project.pipeline(PIPELINE)
    process = project.start("apply", "p.yaml", "--store", str(made.store))
    begun(process, made)
    time.sleep(delay)
    fill()
    try:
        _, err = process.communicate(timeout=60)
    finally:
        hungry.set()
    ends_well(project, made, process.returncode, err)


@pytest.mark.reliability("F01")
def test_a_run_does_not_begin_without_room_for_its_end(project, disk):
    made = disk("size=3m")
    project.pipeline(PIPELINE)
    made.fill(MiB)
    answer = project.runner("apply", "p.yaml", "--store", str(made.store))
    assert (answer.code, re.sub(r"\d+ KiB, and", "N KiB, and", answer.err)) == (
        6,
        f"error: the disk of the store {made.store} is full: there is room for N KiB, and a run needs 2048 KiB\n"
        "  = help: make room there, or give another place by --store\n",
    )
    assert runs(project, "--store", str(made.store)) == []


@pytest.mark.reliability("F01")
def test_a_log_that_does_not_fit_ends_its_step(project, disk):
    made = disk()
    project.pipeline("""
        steps:
          a: {kind: shell, script: 'head -c 9000000 /dev/zero | tr "\\\\0" x', cache: false, outputs: {n: {type: integer}}}
          b: {kind: shell, script: 'sleep 60', outputs: {n: {type: integer}}}
    """)
    store = ("--store", str(made.store))
    assert project.runner("apply", "p.yaml", "--workers", "2", *store).code == 6
    (run,) = runs(project, *store)
    record = json.loads(project.runner("show", run["run"], "-o", "json", *store).raw)
    assert (record["status"], record["steps"]["a"]["cause"]) == ("failed", "environment"), record
    assert "No space left on device" in record["steps"]["a"]["reason"]
    assert project.runner("store", "verify", *store).code == 0


@pytest.mark.reliability("F01")
def test_a_plan_that_cannot_be_written_leaves_what_was_there(project, disk):
    made = disk("size=3m")
    project.pipeline(PIPELINE)
    project.request()
    place = made.place / "plan.json"
    place.write_text("as it was")
    made.fill()
    answer = project.runner("plan", "run.yaml", "--out", str(place))
    assert (answer.code, answer.err) == (6, f"error: {place} cannot be written: No space left on device\n")
    assert (place.read_text(), sorted(p.name for p in made.place.iterdir())) == ("as it was", ["filler", "plan.json"])


@pytest.mark.reliability("F01")
def test_a_plan_file_whose_run_found_no_room_starts_it_later(project, disk):
    made = disk()
    project.pipeline(PIPELINE)
    project.request()
    assert project.runner("plan", "run.yaml", "--out", "plan.json", "--store", str(made.store)).code == 0
    made.fill(MiB)
    assert project.runner("apply", "plan.json", "--store", str(made.store)).code == 6
    made.free()
    assert project.runner("apply", "plan.json", "--store", str(made.store)).code == 0


TREE = """
    steps:
      a:
        kind: shell
        script: |
          mkdir -p d/sub
          echo one > d/one; echo two > d/sub/two; chmod +x d/one
          head -c 3000000 /dev/zero > o
        outputs: {o: {type: file, path: o}, d: {type: dir, path: d}}
      b: {kind: shell, script: 'cat $RUNNER_INPUT_D/one $RUNNER_INPUT_D/sub/two > o; wc -c < $RUNNER_INPUT_O >> o', inputs: {o: $(steps.a.outputs.o), d: $(steps.a.outputs.d)}, outputs: {o: {type: file, path: o}}}
"""


@pytest.mark.reliability("F04")
@pytest.mark.parametrize("apart", ["tmp", "objects", "trees"])
def test_a_store_of_several_file_systems_works_by_copy(project, disk, apart):
    """Where attempts and objects lie on different file systems, a rename between them is not possible."""
    made = disk("size=32m")
    project.pipeline(TREE)
    assert project.runner("apply", "p.yaml", "--store", str(made.place / "first")).code == 0
    store = project.root / ".runner"
    assert project.runner("apply", "p.yaml").code == 0
    subprocess.run(["cp", "-a", store / apart, made.place / apart], check=True)
    subprocess.run(["rm", "-rf", store / apart], check=True)
    (store / apart).symlink_to(made.place / apart)
    project.pipeline(TREE.replace("one > d/one", "uno > d/one"))
    assert project.runner("apply", "p.yaml").code == 0
    assert project.output("b") == b"uno\ntwo\n3000000\n"
    assert project.runner("store", "verify").code == 0


@pytest.mark.reliability("F04")
def test_a_project_and_its_store_lie_on_different_file_systems(project, disk):
    made = disk("size=32m")
    project.pipeline(
        TREE
        + "      c: {kind: command, command: [cp, data.txt, o], inputs: {x: data.txt}, outputs: {o: {type: file, path: o}}}\n"
    )
    (project.root / "data.txt").write_text("data\n")
    assert project.runner("apply", "p.yaml", "--store", str(made.store)).code == 0
    assert project.runner("store", "verify", "--store", str(made.store)).code == 0
