"""Kill and cut power as the tests of reliability do, but everywhere; print what was lost beside what is promised.

python -m benchmarks.crash              all: up to an hour, as root for the power cuts
python -m benchmarks.crash --share 10   every tenth point of the matrices, a tenth of the kills, cuts and trials
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.reliability import kit, test_crash_matrix, test_power_cut, test_processes

WAYS = ("background", "setsid", "daemon", "refork", "own reaper")
Row = tuple[str, str, str, list[str]]  # what, measured, goal, what is wrong


def matrix(place: Path, share: int) -> Iterator[Row]:
    """D01: one signal at one call, for all calls of a process."""
    folder = test_crash_matrix.three_steps(place / "whole")
    tapped = kit.tap(folder, ["apply", "p.yaml", "-o", "json"], kit.at_call(0, "worker", signal.SIGKILL))
    tapped.finish()
    wanted = test_crash_matrix.results(folder)
    calls = {
        "runner": sum(pid == tapped.process.pid for pid, _ in tapped.trail),
        "worker": sum(bool(tapped.kinds.get(pid)) for pid, _ in tapped.trail),
    }

    def points(name: str, count: int, one: Callable[[Path, int], tuple[bool, list[str]]]) -> Row:
        hits, wrong = 0, []
        for number in range(1, count + 1, share):
            came, found = one(place / f"{name}-{number}", number)
            hits, wrong = hits + came, wrong + found
            shutil.rmtree(place / f"{name}-{number}")
            note(f"{name} {number}/{count}", wrong)
        return (
            f"D01 {name}, before each of its {count} writing calls",
            f"{hits} hit, {len(wrong)} wrong",
            "0 wrong",
            wrong,
        )

    for kind, then in (("runner", signal.SIGKILL), ("worker", signal.SIGKILL), ("runner", signal.SIGTERM)):
        yield points(
            f"{then.name} to the {kind}", calls[kind],
            lambda folder, n, kind=kind, then=then: test_crash_matrix.killed_at(folder, n, kind, then, wanted),  # type: ignore[misc]
        )  # fmt: skip
    yield points(
        "SIGKILL to the resume of a killed apply", calls["runner"],
        lambda folder, n: test_crash_matrix.killed_in_resume(folder, int(0.85 * calls["runner"]), n, wanted),
    )  # fmt: skip


def kills(place: Path, share: int) -> Row:
    """D02."""
    wanted = max(200 // share, 1)
    hits, wrong = test_crash_matrix.random_kills(place, wanted, seed=2)
    return (
        "D02 kills at random times, 30 steps, 2 workers",
        f"{hits} kills, {len(wrong)} wrong",
        "0 of 200 wrong",
        wrong,
    )


def cuts(place: Path, share: int, kind: str) -> Row:
    """D05."""
    if os.geteuid() != 0:
        return f"D05 power cuts on {kind}", "not measured: needs root", "0 of 20 lose anything", []
    found = test_power_cut.power_cuts(place, max(20 // share, 1), max(60 / share, 5), kind)
    measured = f"{found['cuts']} cuts, {found['told']} told steps looked for: {found['lost']} lost, {found['bad']} records without their bytes"
    return f"D05 power cuts on {kind}", measured, "0 lost, 0 without their bytes", found["wrong"]


def escapes(place: Path, share: int) -> Iterator[Row]:
    """C05, H05, D03: five ways to get away, and what is left 2 s after an end, a stop and a kill."""
    trials = max(20 // share, 1)
    for way in WAYS:
        wrong: list[str] = []
        for number in range(trials):
            folder = place / f"{way}-{number}"
            folder.mkdir(parents=True)
            wrong += one_escape(test_processes.Project(folder, ""), way, ("end", "TERM", "KILL")[number % 3])
            note(f"{way} {number + 1}/{trials}", wrong)
        yield f"processes left after 2 s: {way}", f"{len(wrong)} in {trials} trials", "0 in 20 trials", wrong


def one_escape(project: Any, way: str, end: str) -> list[str]:
    test_processes.escaping(project, way, "sleep 0.5" if end == "end" else "sleep 60", "    grace_period: 500ms\n")
    process = project.start("apply", "p.yaml")
    people = test_processes.below(project, process)
    if end == "end":
        process.communicate(timeout=30)
    else:
        process.send_signal(signal.Signals[f"SIG{end}"])
    left = test_processes.left_after(2, people, str(project.root))
    process.communicate(timeout=30)
    return [f"{way}, {end}: {len(left)} left"] if left else []


def note(text: str, wrong: list[str]) -> None:
    print(f"{text}: {len(wrong)} wrong", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=int, default=1, metavar="N", help="measure only each Nth")
    share = parser.parse_args().share
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        parts: list[Callable[[], list[Row]]] = [
            lambda: list(matrix(place / "matrix", share)),
            lambda: [kills(place / "kills", share)],
            lambda: [cuts(place / kind, share, kind) for kind in ("ext4", "xfs")],
            lambda: list(escapes(place / "escapes", share)),
        ]
        rows = [row for part in parts for row in part()]
    print("| what | measured | goal |\n|---|---|---|")
    for what, measured, goal, _ in rows:
        print(f"| {what} | {measured} | {goal} |")
    for what, _, _, wrong in rows:
        print(*(f"{what}: {line}" for line in wrong), sep="\n")


if __name__ == "__main__":
    main()
