"""The program in a child of a process that has it loaded: what it says, its exit code, what it took, within limits.

A start of Python takes ten times as long as the refusal of a file; the slow lane starts the program anew for each.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MEMORY = 1 << 30
SECONDS = 10


@dataclass(frozen=True)
class Done:
    code: int  # negative: the signal that ended it
    out: str
    err: str
    seconds: float  # of processor time
    megabytes: float  # of memory at its peak


def within(seconds: float, most: float) -> bool:
    """Whether that much processor time is below a limit, which is meant for a processor that counts to a million in 15 ms."""
    if seconds < most:
        return True
    started = time.process_time()
    for _ in range(1_000_000):
        pass
    return seconds < most * (time.process_time() - started) / 0.015


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def done(pid: int, beside: Path) -> Done:
    _, status, used = os.wait4(pid, 0)
    out, err = ((beside / name).read_bytes().decode("utf-8", "surrogateescape") for name in ("out", "err"))
    code = os.waitstatus_to_exitcode(status)
    return Done(code, out, err, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


class Forked:
    """Forks a process that has loaded the program once; `fresh`: which then starts the program anew."""

    def __init__(self, fresh: bool = False) -> None:
        self.fresh = fresh
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.forks"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    def __call__(self, folder: Path, *args: str) -> Done:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps([str(folder), args, self.fresh]) + "\n")
        self.server.stdin.flush()
        return Done(**json.loads(self.server.stdout.readline()))

    def close(self) -> None:
        self.server.communicate()


def serve() -> None:
    import jsonschema  # noqa: F401
    import jsonschema_rs  # noqa: F401
    import yaml  # noqa: F401

    import runner.cli.apply
    import runner.cli.plan
    import runner.cli.validate
    import runner.planning

    for line in sys.stdin:
        folder, args, fresh = json.loads(line)
        pid = os.fork()
        if not pid:
            limit()
            signal.alarm(30)
            os.chdir(folder)
            for number, name in ((0, os.devnull), (1, f"{folder}/../out"), (2, f"{folder}/../err")):
                os.dup2(os.open(name, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if number else 0)), number)
            if fresh:
                os.execve(
                    sys.executable, [sys.executable, "-m", "runner", *args], {**os.environ, "PYTHONPATH": str(ROOT)}
                )
            code = runner.cli.run(args)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(json.dumps(vars(done(pid, Path(folder).parent))), flush=True)


if __name__ == "__main__":
    serve()
