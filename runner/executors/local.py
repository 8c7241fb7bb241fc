"""The local pool: small worker processes, each supervising one attempt at a time."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
from dataclasses import dataclass, field

from . import forkserver
from .calls import Call, Outcome
from .files import remove
from .messages import Inbox, pack
from .processes import become_subreaper, children


@dataclass
class _Worker:
    """A worker process, from the engine's side: its pipes, and the call that it has."""

    pid: int
    input: int
    output: int
    call: Call | None = None
    inbox: Inbox = field(default_factory=Inbox)

    def send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # its death is told by the end of its output
            while message:
                message = message[os.write(self.input, message) :]

    def close(self) -> None:
        os.close(self.output)
        if self.input >= 0:
            os.close(self.input)


def _ends(pid: int, seconds: float) -> bool:
    """Wait for a process to end; return whether it has."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


class LocalExecutor:
    """Starts workers as they are needed, up to `size`. `wake` is a file descriptor that interrupts a wait; `closed` are the
    folders that most calls will close.
    """

    def __init__(self, size: int, wake: int | None = None, closed: tuple[str, ...] = ()) -> None:
        self.size = size
        self.closed = closed
        self.server: forkserver.ForkServer | None = None
        self.workers: dict[int, _Worker] = {}
        self.idle: list[_Worker] = []
        self.selector = selectors.DefaultSelector()
        self.wake = wake
        if wake is not None:
            self.selector.register(wake, selectors.EVENT_READ, None)
        become_subreaper()  # for what a dead worker leaves

    def prepare(self, count: int) -> None:
        """Start workers for the first attempts."""
        self.idle += [self._start() for _ in range(min(count, self.size))]

    def submit(self, call: Call) -> None:
        found = self.idle.pop() if self.idle else self._start()
        found.call = call
        found.send(pack(vars(call)))

    def _start(self) -> _Worker:
        self.server = self.server or forkserver.start()
        try:
            started = _Worker(*self.server.fork())
        except ConnectionError:  # somebody has killed it
            self.server.close()
            self.server = forkserver.start()
            started = _Worker(*self.server.fork())
        self.workers[started.pid] = started
        self.selector.register(started.output, selectors.EVENT_READ, started)
        if self.closed:
            started.send(pack({"closed": self.closed}))
        return started

    def wait(self, seconds: float | None) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for key, _ in self.selector.select(seconds):
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
        return outcomes

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
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return [Outcome(found.call.step, found.call.attempt, "lost", f"its worker process ended ({how})")]

    def _code(self, found: _Worker) -> int:
        """Wait for the end of a worker; return its exit code, or minus the number of the signal."""
        assert self.server is not None  # it has made the worker
        found.close()
        return os.waitstatus_to_exitcode(self.server.status(found.pid))

    def _sweep(self) -> None:
        """Kill the orphans that have become ours, until none is found twice."""
        empty = 0
        while empty < 2:
            ours = self.workers.keys() | ({self.server.pid} if self.server else set())
            orphans = [pid for pid in children() if pid not in ours]
            empty = 0 if orphans else empty + 1
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # a child of ours: nobody else collects it and frees its number
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)

    def stop(self, step: str | None, kill: bool) -> None:
        message = pack({"control": "kill" if kill else "stop"})
        for found in self.workers.values():
            if found.call is not None and step in (None, found.call.step):
                found.send(message)

    def close(self) -> None:
        for found in self.workers.values():
            os.close(found.input)
            found.input = -1
        for found in self.workers.values():
            if not _ends(found.pid, 5):
                os.kill(found.pid, signal.SIGKILL)
            self._code(found)
        if self.workers:
            self._sweep()
        self.workers.clear()
        if self.server is not None:
            self.server.close()
            self.server = None
        self.selector.close()
