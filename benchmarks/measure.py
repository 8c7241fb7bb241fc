"""What is measured, and how: seconds, processor time and memory of whole processes, and the limits of the machine.

A command is started by a small interpreter of its own, so that neither the size of this process nor its threads are
in the figures. A limit does what the steps do, and nothing else: it is what no runner can beat.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# wait4 tells the largest resident size of the process and of all that it waited for. A process starts with the size
# of the one that starts it: this one is a bare interpreter, and what is smaller than it cannot be seen.
LAUNCHER = """\
import json, os, sys, time
argv, env = sys.argv[2:], {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
started = time.perf_counter()
pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
took = time.perf_counter() - started
print(json.dumps([os.waitstatus_to_exitcode(status), took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""

SPAWN_C = """\
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
extern char **environ;
/* Each line of standard input is a script for `sh -c`, or words split at tabs; so many are in flight at most. */
int main(int argc, char **argv) {
  static char line[1 << 16];
  int most = atoi(argv[1]), shell = argc > 2, now = 0;
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  while (fgets(line, sizeof line, stdin)) {
    char *words[64] = {"sh", "-c", line, 0};
    pid_t pid;
    line[strcspn(line, "\\n")] = 0;
    if (!strcmp(line, "-")) { while (now) { wait(0); now--; } continue; }
    if (!shell) { int n = 0; for (char *w = strtok(line, "\\t"); w; w = strtok(0, "\\t")) words[n++] = w; words[n] = 0; }
    if (now == most) { wait(0); now--; }
    if (posix_spawnp(&pid, words[0], 0, 0, words, environ)) return 1;
    now++;
  }
  while (now--) wait(0);
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("%f\\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
}
"""

SPAWN_PYTHON = """\
import os, sys, time
most, shell, now = int(sys.argv[1]), len(sys.argv) > 2, 0
lines = sys.stdin.read().splitlines()
started = time.perf_counter()
for line in lines:
    while now and (line == "-" or now == most):
        os.wait()
        now -= 1
    if line != "-":
        words = ["sh", "-c", line] if shell else line.split("\\t")
        os.posix_spawnp(words[0], words, os.environ)
        now += 1
while now:
    os.wait()
    now -= 1
print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Sample:
    """One run of a command."""

    seconds: float
    cpu: float  # seconds of processor time, of all its processes
    memory: float  # MB that its largest process held
    code: int = 0


def measure(argv: Sequence[str], folder: Path, log: Path, ok: bool = True) -> Sample:
    """Run a command to its end; with `ok` it must succeed. What it prints goes to `log`."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(log), *argv], cwd=folder, capture_output=True, text=True, check=True
    )  # fmt: skip
    code, *figures = json.loads(done.stdout)
    if ok and code:
        said = log.read_text(errors="replace").strip().splitlines() or [""]
        raise RuntimeError(f"{os.path.basename(argv[0])} {' '.join(argv[1:])} ended with {code}: {said[-1][:300]}")
    return Sample(*figures, code)


def middle(samples: Sequence[Sample]) -> Sample:
    """Return the median of each figure; of memory the most."""
    return Sample(
        statistics.median(s.seconds for s in samples),
        statistics.median(s.cpu for s in samples),
        max(s.memory for s in samples),
    )


# --- limits -------------------------------------------------------------------------------------------------------


def spawner(folder: Path) -> dict[str, list[str]]:
    """Return the programs that do nothing but start processes and wait: one in C where there is a compiler."""
    found = {"python": [sys.executable, "-I", "-S", "-c", SPAWN_PYTHON]}
    if compiler := shutil.which("cc"):
        (folder / "spawn.c").write_text(SPAWN_C)
        subprocess.run([compiler, "-O2", "-o", folder / "spawn", folder / "spawn.c"], check=True)
        found["c"] = [str(folder / "spawn")]
    return found


def spawn(program: Sequence[str], lines: Sequence[str], shell: bool, most: int, folder: Path) -> float:
    """Return the seconds that starting and awaiting these commands takes; `-` awaits all before it."""
    done = subprocess.run(
        [*program, str(most), *(["shell"] if shell else [])], cwd=folder, input="\n".join(lines) + "\n",
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.splitlines()[-1])


def fsync_seconds(folder: Path, count: int = 30) -> float:
    """Return the seconds of one small append with fdatasync."""
    times = []
    with open(folder / "sync", "ab", buffering=0) as file:
        for _ in range(count):
            started = time.perf_counter()
            file.write(b"x" * 200)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def hash_speed(size: int = 256 << 20) -> float:
    """Return the bytes that sha256 takes in a second, on one core."""
    content = memoryview(bytes(1 << 20))
    started = time.perf_counter()
    whole = hashlib.sha256()
    for _ in range(size >> 20):
        whole.update(content)
    whole.digest()
    return size / (time.perf_counter() - started)


def interpreter_seconds(folder: Path, times: int = 11) -> float:
    argv = [sys.executable, "-I", "-S", "-c", "pass"]
    return middle([measure(argv, folder, folder / "log") for _ in range(times)]).seconds


def output(argv: Sequence[str], folder: Path) -> str:
    return subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
