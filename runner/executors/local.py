"""The local pool: small worker processes, each supervising one attempt at a time.

A step that is not sandboxed can stop (SIGSTOP) any process of its user. No such process may hold up an end: whatever is
waited for here is looked at now and then, continued if it was stopped, and killed if it is stopped again.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import time
from dataclasses import dataclass, field

from ..errors import EnvironmentFailure
from . import forkserver
from .calls import Call, Outcome
from .folders import remove
from .guard import NO_FORK
from .messages import Inbox, pack
from .processes import become_subreaper, children, continue_or_kill, ready, state

LOOK = 1.0  # seconds between two looks at whether somebody has stopped a worker
PATIENCE = 5.0  # seconds that a worker may take to end
_FILES = 12  # that may be opened beside those of workers: the engine's own, for a moment
LATE = 5.0  # seconds past its latest end after which an attempt is overdue


@dataclass
class _Worker:
    """A worker process, from the engine's side: its pipes, and the call that it has."""

    pid: int  # of the guard, whose child the worker is
    input: int
    output: int
    call: Call | None = None
    inbox: Inbox = field(default_factory=Inbox)
    since: float = 0.0  # when it got the call
    due: float = 0.0  # when the attempt is overdue, whatever it does; 0: never
    stopped: int = 0  # how often it was found stopped since it got the call
    killed: bool = False  # since it was stopped again, or too long

    def close(self) -> None:
        os.close(self.output)
        if self.input >= 0:
            os.close(self.input)

    def end_by(self, until: float) -> None:
        self.due = min(self.due or until, until)


def _ends(pid: int, seconds: float) -> bool:
    """Wait for a process to end; return whether it has."""
    fd = os.pidfd_open(pid)
    try:
        return ready(fd, seconds)
    finally:
        os.close(fd)


def _affordable(size: int) -> int:
    """Return how many workers there may be, where few files may be open: each takes two of this process."""
    limit = os.sysconf("SC_OPEN_MAX")
    if limit < 0 or limit > 2 * size + 200:
        return size
    with contextlib.suppress(OSError):
        return max(1, min(size, (limit - len(os.listdir("/proc/self/fd")) - _FILES) // 2))
    return size


class LocalExecutor:
    """Starts workers as they are needed, up to `size`. `wake` is a file descriptor that interrupts a wait; `closed` are the
    folders that most calls will close.
    """

    def __init__(self, size: int, wake: int | None = None, closed: tuple[str, ...] = ()) -> None:
        self.size = _affordable(size)
        self.backlog: list[Call] = []  # where fewer workers can be had than there are calls
        self.given_up: list[Outcome] = []  # of the backlog
        self.closed = closed
        self.server: forkserver.ForkServer | None = None
        self.workers: dict[int, _Worker] = {}
        self.idle: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.wake = wake
        self.look_at = 0.0  # when it is looked next whether somebody has stopped a worker
        if wake is not None:
            self.selector.register(wake, selectors.EVENT_READ, None)
        become_subreaper()  # for what a dead worker leaves

    def prepare(self, count: int) -> None:
        """Start workers for the first attempts."""
        for _ in range(min(count, self.size)):
            if (started := self._start()) is None:
                return
            self.idle.append(started)

    def submit(self, call: Call) -> None:
        found = self.idle.pop() if self.idle else self._start()
        if found is None:
            self.backlog.append(call)
            return
        found.call, found.since, found.stopped, found.due = call, time.monotonic(), 0, 0.0
        if call.timeout:
            found.end_by(found.since + call.timeout + call.grace + LATE)
        self._send(found, pack(vars(call)))

    def _send(self, found: _Worker, message: bytes) -> None:
        """Write to a worker. One that does not read is stopped or dead: its death is noticed by the end of its output."""
        with contextlib.suppress(BrokenPipeError):
            while message and not found.killed:
                try:
                    message = message[os.write(found.input, message) :]
                except BlockingIOError:
                    if not ready(found.input, LOOK, select.POLLOUT):
                        self._look_at(found)

    def _start(self) -> _Worker | None:
        """Start a worker; return None where there are as many as can be had. Raises EnvironmentFailure if there is none at all."""
        if len(self.workers) >= self.size:
            return None
        try:
            started = self._forked()
        except OSError as error:
            if self.workers:
                self.size = len(self.workers)
                return None
            raise EnvironmentFailure(
                f"no process for steps can be started: {error.strerror}",
                help="see the limits of this user (`ulimit -a`): processes, open files, memory",
            ) from error
        os.set_blocking(started.input, False)
        self.workers[started.pid] = started
        self.selector.register(started.output, selectors.EVENT_READ, started)
        if self.closed:
            self._send(started, pack({"closed": self.closed}))
        return started

    def _forked(self) -> _Worker:
        self.server = self.server or forkserver.start()
        try:
            return _Worker(*self.server.fork())
        except ConnectionError:  # somebody has killed it
            self.server.close()
            self.server = forkserver.start()
            return _Worker(*self.server.fork())

    def wait(self, seconds: float | None) -> list[Outcome]:
        outcomes, self.given_up = self.given_up, []
        now = time.monotonic()
        if now >= self.look_at:
            self._look(now)
        until = 0.0 if outcomes else self.look_at - now
        for key, _ in self.selector.select(until if seconds is None else min(seconds, until)):
            found = key.data
            if found is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 1024)
                continue
            content = os.read(found.output, 1 << 16)
            if not content:
                outcomes += self._lost(found)
                continue
            for outcome in found.inbox.feed(content):
                found.call = None
                self.idle.append(found)
                outcomes.append(Outcome(**outcome))
        while self.backlog and (self.idle or len(self.workers) < self.size):
            self.submit(self.backlog.pop(0))
        return outcomes

    def _look(self, now: float) -> None:
        """Look whether somebody has stopped a worker that has had its call for a while."""
        self.look_at = now + LOOK
        for found in self.workers.values():
            if found.call is not None and now >= found.since + LOOK:
                self._look_at(found)

    def _look_at(self, found: _Worker) -> None:
        """Continue a worker and its guard, if they are stopped; kill the worker if it is stopped again, or overdue."""
        continue_or_kill(found.pid, kill=False)
        overdue = 0 < found.due < time.monotonic()
        kill = found.stopped > 0 or overdue
        # The child of the guard; of a guard that is dead, ours.
        workers = children(found.pid) if state(found.pid) not in ("", "Z") else self._orphans()
        if sum(continue_or_kill(pid, kill, traced=overdue) for pid in workers):
            found.stopped += 1
            found.killed = found.killed or kill

    def _lost(self, found: _Worker) -> list[Outcome]:
        """A worker died: end what it supervised, and tell that its attempt is lost."""
        self.selector.unregister(found.output)
        code = self._code(found)
        del self.workers[found.pid]
        if found in self.idle:
            self.idle.remove(found)
        self._sweep()
        if found.call is None:
            return []
        remove(found.call.root)
        if found.killed:
            message = "its worker process was stopped (SIGSTOP) again and again, and was killed"
            return [Outcome(found.call.step, found.call.attempt, "environment", message)]
        if code == NO_FORK:
            message = "no process for it can be started: see the limits of this user (`ulimit -u`)"
            return [Outcome(found.call.step, found.call.attempt, "environment", message)]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return [Outcome(found.call.step, found.call.attempt, "lost", f"its worker process ended ({how})")]

    def _code(self, found: _Worker) -> int:
        """Wait for the end of a worker; return its exit code, or minus the number of the signal."""
        assert self.server is not None  # it has made the worker
        found.close()
        looks = 0
        while not _ends(found.pid, LOOK):  # the guard clears up what the worker has left
            looks += continue_or_kill(found.pid, kill=looks > 0)
        return os.waitstatus_to_exitcode(self.server.status(found.pid))

    def _orphans(self) -> list[int]:
        """Return the children of this process that are neither worker nor fork server."""
        ours = self.workers.keys() | ({self.server.pid} if self.server else set())
        return [pid for pid in children() if pid not in ours]

    def _sweep(self) -> None:
        """Kill the orphans that have become ours, until none is found twice."""
        empty = 0
        foreign = set()  # programs with the rights of another user (sudo): nobody here can end them
        while empty < 2:
            orphans = [pid for pid in self._orphans() if pid not in foreign]
            empty = 0 if orphans else empty + 1
            for pid in orphans:
                try:
                    os.kill(pid, signal.SIGKILL)  # a child of ours: nobody else collects it and frees its number
                    os.waitpid(pid, 0)
                except PermissionError:
                    foreign.add(pid)
                except (ProcessLookupError, ChildProcessError):
                    continue

    def stop(self, step: str | None, kill: bool) -> None:
        message = pack({"control": "kill" if kill else "stop"})
        for found in self.workers.values():
            if found.call is not None and step in (None, found.call.step):
                found.end_by(time.monotonic() + (0 if kill else found.call.grace + LATE))
                self._send(found, message)
        self.look_at = 0.0
        ended = [call for call in self.backlog if step in (None, call.step)]
        self.backlog = [call for call in self.backlog if call not in ended]
        self.given_up += [Outcome(call.step, call.attempt, "stopped", "stopped") for call in ended]

    def close(self) -> None:
        for found in self.workers.values():
            os.close(found.input)
            found.input = -1
        until = time.monotonic() + PATIENCE
        for found in self.workers.values():
            self._end(found, until)
            self._code(found)
        if self.workers:
            self._sweep()
        self.workers.clear()
        if self.server is not None:
            self.server.close()
            self.server = None
        self.selector.close()

    def _end(self, found: _Worker, until: float) -> None:
        """Wait for a worker to end, which was told so by the end of its input; in the end kill it."""
        found.stopped = 0
        while not _ends(found.pid, min(LOOK, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                os.kill(found.pid, signal.SIGKILL)
                return
            self._look_at(found)
