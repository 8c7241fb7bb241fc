"""Measure start-up, planning, overhead per step and memory, beside ninja and the limits of the machine.

python -m benchmarks            all figures, as a Markdown table
python -m benchmarks --quick    the same with fewer repetitions
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import layers

HERE = Path(__file__).resolve().parent.parent
RUNNER = shutil.which("runner", path=os.path.dirname(sys.executable)) or "runner"


def timed(command: list[str], cwd: Path) -> float:
    """Return the seconds of one command, which must succeed."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # a user's shell does not set it
    started = time.perf_counter()
    subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def median(measure: Callable[[], float], times: int) -> float:
    return statistics.median(measure() for _ in range(times))


def fork_limit(count: int = 300) -> float:
    """Return the milliseconds that one `sh -c :` takes here, from a small process, one after another."""
    code = f"import subprocess,time;t=time.perf_counter();[subprocess.run(['sh','-c',':']) for _ in range({count})];print((time.perf_counter()-t)/{count}*1000)"
    return float(
        subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
    )


def sync_limit(folder: Path, count: int = 50) -> float:
    """Return the milliseconds of one small append with fdatasync."""
    times = []
    with open(folder / "sync", "ab", buffering=0) as file:
        for _ in range(count):
            started = time.perf_counter()
            file.write(b"x" * 200)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def peak_memory(command: list[str], cwd: Path) -> float:
    """Return the MB that a command's own process held at most; its children do not count."""
    code = (
        "import os,sys,resource\n"
        "pid=os.fork()\n"
        "if pid==0:\n"
        "  null=os.open(os.devnull,os.O_WRONLY); os.dup2(null,1); os.dup2(null,2); os.execvp(sys.argv[1], sys.argv[1:])\n"
        "_,status,usage=os.wait4(pid,0)\n"
        "print(status, usage.ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=cwd, capture_output=True, text=True, check=True)
    status, kilobytes = map(int, done.stdout.split())
    assert status == 0, f"{command} failed"
    return kilobytes / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    times = 3 if options.quick else 5
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        steps = layers.sources(20, 50)
        ninja = shutil.which("ninja")
        ours, theirs = [], []
        for i in range(times):
            layers.write_runner(place / f"r{i}", steps)
            ours.append(timed([RUNNER, "apply", "p.yaml"], place / f"r{i}"))
            if ninja:
                layers.write_ninja(place / f"n{i}", steps)
                theirs.append(timed([ninja], place / f"n{i}"))
        against = ""
        if theirs:
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            against = f"{ratio:.2f} x ninja ({statistics.median(theirs):.2f} s)"
        rows.append(
            ("1,000 shell steps, 20 layers of 50, three inputs each", f"{statistics.median(ours):.2f} s", against)
        )
        rows.append(
            (
                "the same, nothing to do",
                f"{median(lambda: timed([RUNNER, 'apply', 'p.yaml'], place / 'r0'), times):.3f} s",
                "goal 0.25 s",
            )
        )
        rows.append(
            (
                "`runner --version`",
                f"{median(lambda: timed([RUNNER, '--version'], HERE), times * 2) * 1000:.0f} ms",
                "goal 80 ms",
            )
        )
        rows.append(
            (
                "`runner plan` of the Abalone pipeline",
                f"{median(lambda: timed([RUNNER, 'plan', 'pipelines/abalone/runs/full.yaml'], HERE), times) * 1000:.0f} ms",
                "goal 250 ms",
            )
        )
        graph = place / "graph"
        layers.write_runner(graph, layers.graph(5000, 4))
        (graph / "r.yaml").write_text("apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselect: [s4999]\n")
        timed([RUNNER, "apply", "p.yaml"], graph)
        for words, command, goal in (
            ("`runner plan`, 5,000 steps and 20,000 edges, with a reference run", ["plan", "r.yaml"], "goal 1 s"),
            ("`runner plan --check` of that plan", ["plan", "--check", "plan.json"], "goal 0.5 s"),
        ):
            timed([RUNNER, "plan", "r.yaml", "--out", "plan.json"], graph)
            seconds = median(lambda command=command: timed([RUNNER, *command], graph), times)
            memory = peak_memory([RUNNER, *command], graph)
            rows.append((words, f"{seconds:.2f} s, {memory:.0f} MB", f"{goal}, 300 MB"))
        big = place / "big"
        layers.write_runner(big, layers.sources(200, 50))
        rows.append(
            (
                "memory of the runner, plan of 10,000 steps",
                f"{peak_memory([RUNNER, 'plan', 'p.yaml'], big):.0f} MB",
                "goal 300 MB",
            )
        )
        if not options.quick:
            started = time.perf_counter()
            rows.append(
                (
                    "memory of the runner, apply of 10,000 steps",
                    f"{peak_memory([RUNNER, 'apply', 'p.yaml'], big):.0f} MB",
                    f"goal 300 MB; {time.perf_counter() - started:.0f} s",
                )
            )
        limits = f"one `sh -c :` {fork_limit():.2f} ms, one append with fdatasync {sync_limit(place):.2f} ms"
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}. Limits of the machine in the same minutes: {limits}.\n"
    )
    print("| what | measured | against |\n|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
