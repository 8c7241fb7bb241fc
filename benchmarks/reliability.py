"""Measure what docs/reliability.md promises: each figure beside its goal, as one Markdown table.

python -m benchmarks.reliability                        all, as often as the goals say: some hours
python -m benchmarks.reliability --quick                a sample of each: about three minutes
python -m benchmarks.reliability --only corruption disk only these, of: {names}

As root, with strace, mkfs.xfs and a C compiler; where one is missing, the row says so. The store lies in TMPDIR.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from tests import test_secrets
from tests.kit import Project
from tests.reliability import (
    fuzzing,
    test_bad_yaml,
    test_concurrency,
    test_corruption,
    test_full_disk,
    test_hostile_values,
    test_leaks,
    test_planning_is_inert,
    test_processes,
)
from tests.reliability.forks import Forked

from . import crash, measure, workloads
from .tools import RUNNER, write_ours

Found = tuple[str, list[str]]  # what was measured, and all that is not as promised


@dataclass(frozen=True)
class Figure:
    """One promise with its goal, and how it is measured, so many times."""

    what: str
    goal: str
    measure: Callable[[Path, int], Found]
    full: int
    quick: int


def projects(place: Path, count: int) -> Iterator[Project]:
    """Yield empty projects one after another; what a trial has left goes with it."""
    for number in range(count):
        folder = place / f"{number}/p"
        folder.mkdir(parents=True)
        yield Project(folder)
        shutil.rmtree(folder.parent)


def failures(trials: Iterator[Callable[[], object]]) -> list[str]:
    """Do what is asserted somewhere; return what did not hold."""
    found = []
    for trial in trials:
        try:
            trial()
        except AssertionError as error:
            found.append(str(error).splitlines()[0] if str(error) else repr(error))
    return found


# --- crashes and processes ----------------------------------------------------------------------------------------


def writes(place: Path, count: int) -> Found:
    """Kill the runner before so many of its writing calls, spread evenly; 0: before each."""
    what, measured, _, wrong = crash.matrix(place, -(-120 // count) if count else 1, "runner", signal.SIGKILL)
    return f"{what.partition(', ')[2]}: {measured}", wrong


def kills(place: Path, count: int) -> Found:
    _, measured, _, wrong = crash.kills(place, 200 // count)
    return measured, wrong


def cuts(place: Path, count: int) -> Found:
    _, measured, _, wrong = crash.cuts(place, 20 // count, "ext4")
    return measured, wrong


def escapes(place: Path, count: int) -> Found:
    _, measured, _, wrong = crash.escapes(place, 100 // count)
    return f"{measured.partition(' ')[0]} trials with a process left, {measured.partition(' ')[2]}", wrong


def strangers(place: Path, count: int) -> Found:
    """A process that looks like a step of a killed run lives on."""
    holds = test_processes.test_a_foreign_process_that_only_looks_like_a_step_gets_no_signal

    def trials() -> Iterator[Callable[[], object]]:
        for project in projects(place, count):
            yield lambda root=project.root: holds(test_processes.Project(root, ""))

    wrong = failures(trials())
    return f"{len(wrong)} of {count} got a signal", wrong


# --- input --------------------------------------------------------------------------------------------------------


def fuzz(place: Path, count: int) -> Found:
    """So many inputs of changed bytes, and a hundredth of that, but 500 at least, of changed documents."""
    tallies = [
        fuzzing.fuzz(make, many, seed=int(time.time()))
        for make, many in ((fuzzing.byte_maker(), count), (fuzzing.documented, max(count // 100, 500)))
    ]
    wrong = [f"{where}: {raw!r}" for tally in tallies for where, (_, raw) in tally.finds.items()]
    counts = " + ".join(f"{tally.codes.total():,}" for tally in tallies)
    slowest = max(tally.slowest[0] for tally in tallies)
    return f"{counts} inputs: {len(wrong)} tracebacks or hangs, slowest {slowest:.2f} s", wrong


def catalogue(place: Path, count: int) -> Found:
    """Each file of the catalogue names itself, a line, a column and a code; both are those that it expects."""
    folder = test_bad_yaml.with_ways_out(place / "project")
    files = test_bad_yaml.FILES[:count]
    placed, as_expected, wrong, most = 0, 0, [], 0.0
    with closing(Forked()) as program:
        for file in files:
            raw = file.read_bytes()
            (folder / file.name).write_bytes(raw)
            done = program(folder, "plan", file.name)
            found = test_bad_yaml.PLACE.match(done.err)
            expected = test_bad_yaml.EXPECTED.match(raw.split(b"\n", 1)[0].decode())
            assert expected
            said = (found["file"], found["code"], found["line"]) if found else ()
            placed += bool(found and found["line"])
            as_expected += (same := said == (file.name, expected["code"], expected["line"]))
            wrong += [] if same and done.code == 2 else [f"{file.name}: {done.err[:200]}"]
            most = max(most, done.megabytes)
    share = 100 * as_expected / len(files)
    return f"{placed} of {len(files)} with a place, {share:.1f} % as expected, at most {most:.0f} MB", wrong


def hostile(place: Path, count: int) -> Found:
    """All values by request, command line, argument, variable, output, item and content of a file."""
    values = test_hostile_values

    def trials() -> Iterator[Callable[[], object]]:
        for way in (
            values.test_each_text_reaches_a_python_step_as_it_was_given_by_a_request,
            values.test_each_text_reaches_a_python_step_as_it_was_given_on_the_command_line,
        ):
            yield from (lambda p=p, way=way: way(values.with_params(p)) for p in projects(place / way.__name__, count))
        for way in (
            values.test_each_text_is_one_argument_and_one_variable_of_its_own,
            values.test_each_text_stays_itself_as_an_output_a_default_a_label_and_an_item,
            values.test_content_of_a_file_arrives_byte_for_byte,
        ):
            yield from (lambda p=p, way=way: way(p) for p in projects(place / way.__name__, count))

    wrong = failures(trials())
    return f"{len(values.NAUGHTY)} values by 7 ways: {len(wrong)} executed or changed", wrong


def inert(place: Path, count: int) -> Found:
    """The system calls of commands that only look, in a project full of traps."""
    if not shutil.which("strace"):
        return "not measured: needs strace", []
    look = test_planning_is_inert
    wrong = []
    for number, (args, _) in enumerate(look.COMMANDS[:count]):
        (folder := place / f"{number}/p").mkdir(parents=True)
        project = look.trapped_project(Project(folder))
        run = next((project.root / ".runner/runs").iterdir()).name
        calls = look.kernel_calls(project, *[run if arg == "RUN" else arg for arg in args])
        programs = [call for call in calls if call.startswith("execve")]
        wrong += [f"{' '.join(args)}: {call}" for call in programs[1:]]
        wrong += [f"{' '.join(args)}: {call}" for call in calls if call.startswith(("socket(", "connect("))]
        wrong += [f"{' '.join(args)}: a trap was sprung"] if (project.root / "SPRUNG").exists() else []
    return f"{len(wrong)} foreign calls in {min(count, len(look.COMMANDS))} commands", wrong


LEAKS = ("unusual", "command", "shell", "warm", "fresh", "notebook")


def leaks(place: Path, count: int) -> Found:
    """Runs whose steps let out two secrets in all encodings; then what the store, its index and all commands say."""
    found = []
    for number, project in enumerate(projects(place, count)):
        kind = LEAKS[number % len(LEAKS)]
        if kind == "unusual":
            test_leaks.leak(project, test_leaks.WAYS)
        else:
            steps = [f"{w}: {{{test_secrets.HOW[kind].replace('WAY', w)}, code: [leak.py]}}" for w in test_secrets.WAYS]
            test_secrets.leaky(project, place, *steps)
        answer = project.runner("apply", "p.yaml", "-o", "json", "--junit", "junit.xml", env=test_secrets.TOLD)
        said = test_secrets.all_that_is_said(project, project.record()["run"])
        assert "[secret token]" in said, answer
        junit = (project.root / "junit.xml").read_text()
        found += test_secrets.hits(project.root / ".runner", answer.raw, answer.err, said, junit)
    return f"{len(found)} hits in {count} runs", found


# --- the store ----------------------------------------------------------------------------------------------------


def concurrency(place: Path, count: int) -> Found:
    """Rounds of eight applies of four new steps in one store."""
    (folder := place / "p").mkdir(parents=True)
    project = Project(folder)

    def once(number: int) -> None:
        ran = test_concurrency.round_of_eight(project, project.beside / f"made{number}")
        assert ran == dict.fromkeys("abcd", 1), ran

    wrong = failures(lambda n=n: once(n) for n in range(count))
    return f"{len(wrong)} of {count} rounds with a step executed twice or a word of locks", wrong


def corruption(place: Path, count: int) -> Found:
    """Single bytes, anywhere in a store."""
    (folder := place / "p").mkdir(parents=True)
    missed = test_corruption.change_bytes(Project(folder), count, seed=int(time.time()))
    wrong = [f"{who}: {what}" for who, lines in missed.items() for what in lines]
    return f"{count:,} changes, not found by verify: {len(missed['verify'])}, on reuse: {len(missed['reuse'])}", wrong


def disk(place: Path, count: int) -> Found:
    """A disk that is filled before and while a run goes on, and a retry when there is room again."""
    chosen = [("level", level) for level in test_full_disk.LEVELS] + [
        ("delay", delay) for delay in test_full_disk.DELAYS
    ]
    chosen = chosen[:: -(-len(chosen) // count)]
    ends: list[str] = []

    def once(project: Project, how: str, much: float) -> None:
        (folder := project.root.parent / "disk").mkdir()
        made = test_full_disk.Disk(folder, "size=8m")
        try:
            fill = (lambda: made.fill(int(much))) if how == "level" else made.fill
            ends.append(test_full_disk.trial(project, made, fill, None if how == "level" else much))
        finally:
            subprocess.run(["umount", "-l", folder], check=True)

    pairs = zip(projects(place, len(chosen)), chosen, strict=False)
    wrong = failures(lambda p=p, how=how, much=much: once(p, how, much) for p, (how, much) in pairs)
    told = ", ".join(f"{ends.count(end)} {end}" for end in dict.fromkeys(ends))
    return f"{len(chosen)} moments ({told}): {len(wrong)} not as promised", wrong


STUBS = """\
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
int syncfs(int fd) { return 0; }
void sync(void) {}
"""


def durability(place: Path, count: int) -> Found:
    """1,000 trivial steps, in turns as they are and with calls to the disk that do nothing: the median of the pairs."""
    if not (compiler := shutil.which("cc")):
        return "not measured: needs a C compiler (cc)", []
    place.mkdir()
    (place / "stubs.c").write_text(STUBS)
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", place / "stubs.so", place / "stubs.c"], check=True)
    workload = workloads.layered(20)

    def apply(name: str, *before: str) -> float:
        (folder := place / name).mkdir()
        write_ours(folder, workload)
        os.sync()
        took = measure.measure([*before, RUNNER, "apply", "pipeline.yaml"], folder, place / "log").seconds
        shutil.rmtree(folder)
        return took

    shares, times = [], []
    for number in range(count + 1):
        stubbed = apply("stubbed", "env", f"LD_PRELOAD={place}/stubs.so")
        whole = apply("whole")
        if number:  # the first pair only warms up
            times.append((whole, stubbed))
            shares.append(100 * (whole - stubbed) / whole)
    with_, without = (statistics.median(column) for column in zip(*times, strict=True))
    share = statistics.median(shares)
    sync = measure.fsync_seconds(place)
    measured = (
        f"{share:.1f} % ({with_:.2f} s, without {without:.2f} s; {count} pairs, {min(shares):.1f} to {max(shares):.1f} %; "
        f"one append with fdatasync here: {sync * 1000:.2f} ms)"
    )
    return measured, [] if share < 10 else [measured]


FIGURES = {
    "writes": Figure("the runner is killed before its writing calls, then goes on", "0 acknowledged steps lost, 0 wrong bytes, each resumes by itself", writes, 0, 8),
    "kills": Figure("`kill -9` at random times, 30 steps", "0 of 200 lose anything", kills, 200, 10),
    "cuts": Figure("power cuts during applies, ext4 on a loop device", "0 of 20 lose an acknowledged step or its bytes", cuts, 20, 2),
    "escapes": Figure("processes of steps that are left 2 s after an end, a stop or a kill", "0 in 100 trials over 5 ways to escape", escapes, 100, 10),
    "strangers": Figure("signals to foreign processes", "0", strangers, 20, 3),
    "fuzz": Figure("fuzzed inputs and mutated documents", "0 tracebacks, 0 crashes of 1,000,000 + 10,000, each under 2 s", fuzz, 1_000_000, 20_000),
    "catalogue": Figure("bad files named by file, line, column and code", "all; 95 % the line that a reviewer names", catalogue, 1_000_000, 1_000_000),
    "concurrency": Figure("8 applies of one pipeline at once", "0 of 100 rounds with a step executed twice or a lock error", concurrency, 100, 3),
    "corruption": Figure("single changed bytes of a store", "1,000 of 1,000 found by verify, and on reuse", corruption, 1000, 200),
    "disk": Figure("a disk that is full", "50 moments: 0 damaged stores, 50 ends recorded, 50 resumes", disk, 50, 10),
    "leaks": Figure("a secret in any file or message, 8 encodings", "0 hits in 20 leaky runs", leaks, 20, 6),
    "hostile": Figure("hostile values", "0 executed of 100 values by 6 ways", hostile, 1, 1),
    "inert": Figure("`execve` and `connect` of commands that only look", "0 but git's", inert, 100, 4),
    "durability": Figure("cost of durability of 1,000 trivial steps", "under 10 % of the time", durability, 5, 5),
}  # fmt: skip


def machine(place: Path) -> str:
    """Return what the figures were measured on."""
    kind, device = subprocess.run(
        ["df", "--output=fstype,source", place], capture_output=True, text=True, check=True
    ).stdout.split()[-2:]  # fmt: skip
    return (
        f"{date.today()}, {len(os.sched_getaffinity(0))} processors ({platform.machine()}), {platform.system()} {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}, {kind} on {device}, load {os.getloadavg()[0]:.1f}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability", description=(__doc__ or "").format(names=" ".join(FIGURES)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a sample of each")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(FIGURES), help="only these figures")
    options = parser.parse_args()
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        print(f"{machine(Path(folder))}\n\n| figure | goal | measured | took |\n|---|---|---|--:|", flush=True)
        for name in options.only or FIGURES:
            figure = FIGURES[name]
            started = time.monotonic()
            try:
                measured, wrong = figure.measure(Path(folder) / name, figure.quick if options.quick else figure.full)
            except pytest.skip.Exception as skipped:
                measured, wrong = f"not measured: {skipped}", []
            took = time.monotonic() - started
            print(f"| {name}: {figure.what} | {figure.goal} | {measured} | {took:.0f} s |", flush=True)
            missed += [f"{name}: {line}" for line in wrong]
    print(*["", *missed][: 1 + len(missed)], sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
