"""What the crash tests share: the check of a whole store, who is alive, and a tap on the system calls of a tree.

In: a project's folder, a command, a rule. Out: lists of what is wrong (empty is good), pids, the trail of calls.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import pkgutil
import platform
import select
import socket
import sqlite3  # noqa: F401 (loaded before a fork)
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread, Timer
from typing import Any, NoReturn

import runner.store.local
from runner import cli

ROOT = Path(__file__).parent.parent.parent
RUNNER = (sys.executable, "-m", "runner")
DONE = frozenset({"succeeded", "reused", "cached"})


def environment(**more: str) -> dict[str, str]:
    """The variables of a user's shell, without settings of this runner."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RUNNER_", "PYTEST_"))}
    return {**env, "PYTHONPATH": str(ROOT), **more}


def run(folder: Path, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the program to its end; it must not meet a bug of its own."""
    done = subprocess.run(
        [*RUNNER, *args], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **more
    )  # fmt: skip
    assert "Traceback (most recent call last)" not in done.stderr, done.stderr
    return done


def ask(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command that only reads, in a fork of this process: the matrices ask often, and a start takes long."""
    done = _forked(folder, args)
    assert "Traceback (most recent call last)" not in done.stderr, done.stderr
    return done


def console(folder: Path, *args: str) -> str:
    """Run a command in a fork; return all that it prints, stdout and stderr in the order in which they come."""
    return _forked(folder, args, together=True).stdout


def answered(folder: Path, *args: str, warm: Path | None = None, uid: int = 0) -> tuple[int, str]:
    """Run a command in a fork; return its exit code, and all that it printed. One that hangs is killed: -9.

    With `uid` it is run by that user. What the program imports may lie where that user may not read: before, the same
    command is run in the folder `warm`.
    """
    done = _forked(folder, args, warm, uid)
    return done.returncode, done.stdout + done.stderr


def _forked(
    folder: Path, args: Sequence[str], warm: Path | None = None, uid: int = 0, together: bool = False
) -> subprocess.CompletedProcess[str]:
    _load_all()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _child(folder, args, (out.fileno(), (out if together else err).fileno()), warm, uid)
        timer = Timer(60, os.kill, (pid, 9))
        timer.start()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        timer.cancel()
        texts = [(file.seek(0), file.read().decode("utf-8", "replace"))[1] for file in (out, err)]
    return subprocess.CompletedProcess(args, code, *texts)


def _child(folder: Path, args: Sequence[str], streams: tuple[int, int], warm: Path | None, uid: int) -> NoReturn:
    code = 70
    try:
        for name in [n for n in os.environ if n.startswith("RUNNER_")]:
            del os.environ[name]
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if warm:
            os.chdir(warm)
            _print_to((os.open(os.devnull, os.O_WRONLY),) * 2)
            cli.run(list(args))
        _print_to(streams)
        os.chdir(folder)
        if uid:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        code = cli.run(list(args))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


@cache
def _load_all() -> None:
    for module in pkgutil.walk_packages(runner.__path__, "runner."):
        if not module.name.endswith(("_main", "__main__")):  # these two are run, not imported
            importlib.import_module(module.name)


def _print_to(streams: tuple[int, int]) -> None:
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115


def start(folder: Path, *args: str, **more: Any) -> subprocess.Popen[str]:
    """Start the program."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.Popen([*RUNNER, *args], cwd=folder, env=environment(), text=True, **streams)


# --- the store ----------------------------------------------------------------------------------------------------


def journals(store: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each run with the events of its journal; a torn last line counts as not written."""
    for journal in sorted(store.glob("runs/*/journal.jsonl")):
        yield journal.parent.name, [json.loads(line) for line in journal.read_bytes().split(b"\n")[:-1]]


def fsck(folder: Path) -> list[str]:
    """What `runner store verify` and a walk of our own find wrong: no code of the program is used for the walk."""
    store = folder / ".runner"
    if not (store / "format").exists():
        return []
    verified = ask(folder, "store", "verify")
    wrong = (
        [] if verified.returncode == 0 else [f"verify: exit {verified.returncode}: {verified.stdout}{verified.stderr}"]
    )
    return [*wrong, *bad_objects(store), *lost_results(store)]


def bad_objects(store: Path) -> list[str]:
    """Stored files and manifests whose bytes are not those of their name."""
    stored = [*store.glob("objects/sha256/*/*"), *store.glob("trees/*")]
    return [
        f"{p.relative_to(store)} has other bytes"
        for p in stored
        if hashlib.sha256(p.read_bytes()).hexdigest() != p.name
    ]


def lost_results(store: Path) -> list[str]:
    """Outputs of done steps, in any journal, of which something is not there or not whole."""
    wrong = []
    for run_id, events in journals(store):
        for event in events:
            if event["event"] != "step_ended" or event["status"] not in DONE:
                continue
            for name, output in event.get("outputs", {}).items():
                wrong += [
                    f"run {run_id}, step {event['step']}, output {name}: {what}" for what in _lacks(store, output)
                ]
    return wrong


def _lacks(store: Path, output: dict[str, Any]) -> Iterator[str]:
    for item in output.get("items") or ():
        yield from _lacks(store, item)
    if not (digest := output.get("digest", "").removeprefix("sha256:")):
        return
    places = [store / "objects/sha256" / digest[:2] / digest]
    if output["type"] == "dir":
        places = [store / "trees" / digest]
        if places[0].exists() and hashlib.sha256(places[0].read_bytes()).hexdigest() == digest:
            entries = json.loads(places[0].read_bytes())["entries"]
            inner = [content.removeprefix("sha256:") for _, kind, content, _ in entries if kind in ("file", "exec")]
            places += [store / "objects/sha256" / d[:2] / d for d in inner]
    for place in places:
        if not place.is_file():
            yield f"{place.name} is missing"
        elif hashlib.sha256(place.read_bytes()).hexdigest() != place.name:
            yield f"{place.name} has other bytes"


def acknowledged(out: str) -> list[str]:
    """The steps that a killed `-o json` run has told as done; what was cut off in the middle of a line was not told."""
    told = [json.loads(line) for line in out.split("\n")[:-1] if line.startswith("{")]
    return [e["step"] for e in told if e["event"] == "step_ended" and e["status"] in DONE]


# --- processes ----------------------------------------------------------------------------------------------------


def alive(cookie: str) -> list[int]:
    """The processes whose environment or arguments hold a cookie; the dead that nobody has collected have neither."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            text = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if cookie.encode() in text and pid != os.getpid():
            found.append(pid)
    return found


def started_at(pid: int) -> int:
    """When a process started, in ticks; 0 if it has gone or is dead: with its pid this names it for ever."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in "ZX" else int(words[19])


def survivors(people: dict[int, int]) -> list[int]:
    """Those of {pid: start} that still live."""
    return [pid for pid, start in people.items() if start and started_at(pid) == start]


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return found


def guards(runner: int) -> list[int]:
    """The guards of a runner's workers: children of the process that they are forked from. A guard has one child."""
    return [guard for server in children(runner) for guard in children(server)]


def descendants(pid: int) -> list[int]:
    """All processes below one, parents first."""
    found = []
    todo = [pid]
    while todo:
        try:
            below = children(todo.pop())
        except OSError:
            continue
        found += below
        todo += below
    return found


def eventually(what: Callable[[], Any], seconds: float = 30) -> Any:
    """Return what is true in the end; fail if it does not become so in time."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.01)
    return found


# --- the tap ------------------------------------------------------------------------------------------------------

CALLS = {
    "write": 1, "pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "mkdirat": 258, "unlinkat": 263, "renameat": 264, "linkat": 265,
    "fallocate": 285, "syncfs": 306, "renameat2": 316, "copy_file_range": 326,
}  # fmt: skip
NAMES = {number: name for name, number in CALLS.items()}
TAPPABLE = platform.machine() == "x86_64" and sys.platform == "linux"

# The child lets a filter hand each of these calls to whoever holds the listener, gives that away, and becomes the program.
_CHILD = """
import array, ctypes, os, socket, struct, sys
numbers = [int(n) for n in sys.argv[2].split(",")]
def line(code, yes, no, value): return struct.pack("HBBI", code, yes, no, value)
text = line(0x20, 0, 0, 0)
for place, number in enumerate(numbers):
    text += line(0x15, len(numbers) - place, 0, number)
text += line(0x06, 0, 0, 0x7FFF0000) + line(0x06, 0, 0, 0x7FC00000)
buffer = ctypes.create_string_buffer(text)
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(text) // 8, ctypes.addressof(buffer)))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
listener = libc.syscall(317, 1, 8, program)
there = socket.socket(fileno=int(sys.argv[1]))
if listener < 0:
    there.send(b"no: " + os.strerror(ctypes.get_errno()).encode())
    sys.exit(1)
there.sendmsg([b"y"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [listener]))])
os.close(listener); there.close()
os.execv(sys.argv[3], sys.argv[3:])
"""
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
_GO_ON = 1


@dataclass
class Tapped:
    """A program whose writing system calls, and those of all it starts, stop until `rule` has seen them.

    The calls are counted over all threads of a process: the runner writes its journal in threads of their own, and a
    count per thread (that of `strace -f -e inject=...:when=N`) would never reach the second thread's first call.
    """

    process: subprocess.Popen[str]
    listener: int
    rule: Callable[[Tapped, int, str], None]
    trail: list[tuple[int, str]] = field(default_factory=list)  # process, call: in the order in which they were made
    out: str = ""
    err: str = ""
    thread: Thread | None = None
    groups: dict[int, int] = field(default_factory=dict)
    kinds: dict[int, bool] = field(default_factory=dict)

    def process_of(self, thread: int) -> int:
        """The process that a thread belongs to."""
        if thread not in self.groups:
            try:
                text = Path(f"/proc/{thread}/status").read_text()
                self.groups[thread] = int(text.partition("Tgid:")[2].split()[0])
            except OSError:
                return thread
        return self.groups[thread]

    def is_worker(self, pid: int) -> bool:
        """Whether a process supervises steps: it was started as the file of the workers, and writes as such."""
        if pid not in self.kinds:
            try:
                self.kinds[pid] = b"worker_main.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                return False
        return self.kinds[pid]

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while True:
            for _, what in poll.poll():
                if what & (select.POLLHUP | select.POLLERR):
                    return
                asked = bytearray(80)
                try:
                    fcntl.ioctl(self.listener, _RECEIVE, asked)
                except OSError:
                    continue  # whoever asked is dead
                id, thread, _, number = struct.unpack_from("QIIi", asked)
                pid = self.process_of(thread)
                self.trail.append((pid, NAMES[number]))
                self.rule(self, pid, NAMES[number])
                try:
                    fcntl.ioctl(self.listener, _SEND, bytearray(struct.pack("QqiI", id, 0, 0, _GO_ON)))
                except OSError:
                    continue

    def finish(self, seconds: float = 60) -> int:
        """Wait for the end of all processes; return how the program ended."""
        self.out, self.err = self.process.communicate(timeout=seconds)
        assert self.thread is not None
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "a process is left"
        os.close(self.listener)
        return self.process.returncode


def tap(folder: Path, args: list[str], rule: Callable[[Tapped, int, str], None], calls: str = "") -> Tapped:
    """Start the program under a tap; `calls` names those that are stopped, all if empty."""
    ours, theirs = socket.socketpair()
    numbers = [CALLS[name] for name in calls.split()] or list(CALLS.values())
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CHILD, str(theirs.fileno()), ",".join(map(str, numbers)), *RUNNER, *args],
        cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()],
    )  # fmt: skip
    theirs.close()
    content, fds, _, _ = socket.recv_fds(ours, 200, 1)
    ours.close()
    assert fds, f"this kernel gives no listener: {content.decode()}"
    made = Tapped(process, fds[0], rule)
    made.thread = Thread(target=made.serve, daemon=True)
    made.thread.start()
    return made


def at_call(number: int, kind: str, then: int, call: str = "") -> Callable[[Tapped, int, str], None]:
    """A rule: before the `number`th call of the runner (or of its workers), the process that makes it gets a signal.

    With `call` only calls of this name count. SIGKILL comes before the call is made; what follows it never happens.
    """
    count = 0

    def rule(tapped: Tapped, pid: int, name: str) -> None:
        nonlocal count
        concerned = (
            pid == tapped.process.pid if kind == "runner" else pid != tapped.process.pid and tapped.is_worker(pid)
        )
        if concerned and call in ("", name):
            count += 1
            if count == number:
                os.kill(pid, then)

    return rule
