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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.reliability import kit, test_crash_matrix, test_power_cut, test_processes

WAYS = ("background", "setsid", "daemon", "refork", "own reaper")
SIGNALS = (
    ("runner", signal.SIGKILL),
    ("worker", signal.SIGKILL),
    ("runner", signal.SIGTERM),
    ("resume", signal.SIGKILL),
)
Row = tuple[str, str, str, list[str]]  # what, measured, goal, what is wrong


def matrix(place: Path, share: int, kind: str, then: int) -> Row:
    """D01: one signal at one call, for all calls of a process; `resume` kills an apply and then its retry."""
    folder = test_crash_matrix.three_steps(place / "whole")
    tapped = kit.tap(folder, ["apply", "p.yaml", "-o", "json"], kit.at_call(0, "worker", then))
    tapped.finish()
    wanted = test_crash_matrix.results(folder)
    runner = sum(pid == tapped.process.pid for pid, _ in tapped.trail)
    count = runner if kind != "worker" else sum(bool(tapped.kinds.get(pid)) for pid, _ in tapped.trail)
    hits, wrong = 0, []
    for number in range(1, count + 1, share):
        folder = place / str(number)
        if kind == "resume":
            came, found = test_crash_matrix.killed_in_resume(folder, int(0.85 * runner), number, wanted)
        else:
            came, found = test_crash_matrix.killed_at(folder, number, kind, then, wanted)
        hits, wrong = hits + came, wrong + found
        shutil.rmtree(folder)
        note(f"{signal.Signals(then).name} {kind} {number}/{count}", wrong)
    what = f"D01 {signal.Signals(then).name} to the {kind}, before each of its {count} writing calls"
    return what, f"{hits} ended by it, {len(wrong)} wrong", "0 wrong", wrong


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


def escapes(place: Path, share: int) -> Row:
    """C05, H05, D03: five ways to get away, and what is left 2 s after an end, a stop and a kill."""
    trials = max(20 // share, 1)
    wrong: list[str] = []
    for way in WAYS:
        for number in range(trials):
            folder = place / f"{way.replace(' ', '-')}-{number}"
            folder.mkdir(parents=True)
            wrong += one_escape(test_processes.Project(folder, ""), way, ("end", "TERM", "KILL")[number % 3])
            note(f"{way} {number + 1}/{trials}", wrong)
    measured = f"{len(wrong)} in {trials * len(WAYS)} trials"
    return f"processes left after 2 s ({', '.join(WAYS)})", measured, "0 in 100 trials", wrong


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
    print(f"{text}: {len(wrong)} wrong", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=int, default=1, metavar="N", help="measure only each Nth")
    share = parser.parse_args().share
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with ProcessPoolExecutor(4) as pool:  # most of the time they wait
            parts = [
                *(pool.submit(matrix, place / f"{kind}{then}", share, kind, then) for kind, then in SIGNALS),
                pool.submit(kills, place / "kills", share),
                *(pool.submit(cuts, place / kind, share, kind) for kind in ("ext4", "xfs")),
                pool.submit(escapes, place / "escapes", share),
            ]
            rows = [part.result() for part in parts]
    print("| what | measured | goal |\n|---|---|---|")
    for what, measured, goal, _ in rows:
        print(f"| {what} | {measured} | {goal} |")
    for what, _, _, wrong in rows:
        print(*(f"{what}: {line}" for line in wrong), sep="\n")


if __name__ == "__main__":
    main()
