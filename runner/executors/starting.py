"""A call -> its process: a program, sealed or in a memory group, or a child of a warm parent of python steps."""

from __future__ import annotations

import functools
import os
import select
import signal
import time

from .failed import Failed
from .processes import continue_or_kill, ready, send

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable
    from typing import Any

    from .files import Heed

    Json = dict[str, Any]


_PATIENCE = 0.5  # seconds between two looks at whether somebody has stopped or killed the parent of Python steps


class Warm:
    """The parent of python steps: forks a child for each, so that the interpreter need not start again."""

    def __init__(self) -> None:
        import socket  # only for who has steps in Python

        self.process: subprocess.Popen[bytes] | None = None
        self.socket = socket.socket()
        self.buffer = b""
        self.fds: list[int] = []
        self.child, self.pidfd = 0, -1  # of the step's process
        self.silent = False  # that was found dead, but not reported
        self.look_at = 0.0  # when it is looked next whether somebody has stopped the parent

    def start(self, call: Json, log: int, procs: str, seal: Any, heed: Heed) -> int:
        """Fork the step's child; return its pidfd. The socket tells how it ends. `heed` may end the waiting by an exception.

        Its variables go over the socket, not through a file: they may hold secrets.
        """
        import json

        told = {"task": call["task"], "env": call["env"], "cwd": call["cwd"], "procs": procs}
        message = json.dumps(told).encode() + b"\n"
        fds = [log] if seal is None else [log, seal.ruleset]
        self.silent, self.look_at = False, time.monotonic() + _PATIENCE
        for _ in range(2):  # where one was killed meanwhile, by another
            if self.process is None or self.process.poll() is not None:
                self._launch(call)
            try:
                child = self._forked(message, fds, heed)
            except BaseException:
                self.drop()  # nobody knows what it has done
                raise
            if child is not None:
                self.child, self.pidfd = child, self.fds.pop()
                return self.pidfd
            self.drop()
        raise Failed("lost", "the parent of python steps ended")

    def _launch(self, call: Json) -> None:
        import socket
        import subprocess

        ours, theirs = socket.socketpair()
        env = {k: v for k, v in call["env"].items() if k in ("PATH", "HOME", "LANG", "TZ") or k.startswith("LC_")}
        self.process = subprocess.Popen(
            [*call["interpreter"][:3], "--serve", *call["interpreter"][3:]],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
            cwd="/",
        )
        theirs.close()
        self.socket.close()
        ours.setblocking(False)
        self.socket, self.buffer = ours, b""

    def _forked(self, message: bytes, fds: list[int], heed: Heed) -> int | None:
        """Ask for a child; return its pid, or None if the parent is dead, or was stopped by somebody and so killed."""
        import socket

        try:
            while fds:
                try:
                    message = message[socket.send_fds(self.socket, [message], fds) :]
                    fds = []
                except BlockingIOError:
                    self._wait(select.POLLOUT, heed)
            while message:
                try:
                    message = message[self.socket.send(message) :]
                except BlockingIOError:
                    self._wait(select.POLLOUT, heed)
        except ConnectionError:
            return None
        while b"\n" not in self.buffer:
            self._wait(select.POLLIN, heed)
            if not self._receive():
                return None
        return self._line()

    def _wait(self, events: int, heed: Heed) -> None:
        """Wait for the parent to read or write; one that somebody has stopped is killed."""
        while not ready(self.socket.fileno(), _PATIENCE, events):
            heed("starting Python", 0, 0)
            assert self.process is not None
            continue_or_kill(self.process.pid, kill=True)

    def ended(self) -> int:
        """Return the wait status of the child, which the parent has sent, or else has gone."""
        while b"\n" not in self.buffer:
            if not self._receive():
                return self.take_over()
        return self._line()

    def lost(self, now: float) -> bool:
        """Whether the child has ended and the parent does not say so: somebody has stopped it. Looks now and then."""
        if now < self.look_at:
            return False
        self.look_at = now + _PATIENCE
        seen, self.silent = self.silent, ready(self.pidfd, 0)
        return seen and self.silent

    def take_over(self) -> int:
        """End the parent; return the wait status of the child, which is ours then."""
        self.drop()
        send(self.pidfd, signal.SIGKILL)
        try:
            return os.waitpid(self.child, 0)[1]
        except ChildProcessError:  # the parent has collected it
            return signal.SIGKILL

    def drop(self) -> None:
        """Kill the parent: another is started when there is need."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None
        while self.fds:
            os.close(self.fds.pop())

    def _receive(self) -> bool:
        """Read what the parent has sent; return whether it is still there."""
        import socket

        try:
            content, fds, _, _ = socket.recv_fds(self.socket, 64, 1)
        except BlockingIOError:
            return ready(self.socket.fileno(), _PATIENCE)
        except ConnectionError:
            return False
        self.buffer += content
        self.fds += fds
        return bool(content)

    def _line(self) -> int:
        """Take the next number out of what the parent has sent: a fast child's two come at once."""
        line, _, self.buffer = self.buffer.partition(b"\n")
        return int(line)

    @property
    def pids(self) -> set[int]:
        return {self.process.pid} if self.process else set()


class Parents:
    """The warm parents of one worker, by the interpreter that each runs and what it has imported."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, ...], Warm] = {}

    def of(self, call: Json) -> Warm:
        return self.known.setdefault(tuple(call["interpreter"]), Warm())

    @property
    def pids(self) -> set[int]:
        return {pid for warm in self.known.values() for pid in warm.pids}


def sealed(call: Json, linked: Iterable[str]) -> Any:
    """Return the seal that the step's process keeps to, or None where it keeps to none."""
    if not call["closed"]:
        return None
    from . import landlock

    return landlock.seal(tuple(call["closed"]), (*call["readable"], *linked), call["root"])


def look_around(closed: tuple[str, ...]) -> None:
    """Find out now what the first seal of these folders will need."""
    from . import landlock

    landlock.look_around(closed)


def program(name: str, path: str) -> str | None:
    """Return where a program is: else each child would try it in one folder after the other. None: let it try."""
    if "/" in name or not all(folder.startswith("/") for folder in path.split(":")):
        return None
    return find(name, path)


@functools.cache
def find(name: str, path: str) -> str | None:
    """Return the first program of a name in the folders of a search path."""
    places = (os.path.join(folder, name) for folder in path.split(":"))
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def spawn(call: Json, output: int, seal: Any) -> int:
    """Start the step's program; return its pid."""
    place = program(call["argv"][0], call["env"].get("PATH", ""))
    if seal is None:
        return _opened(call, output, place)
    if place is None and "/" not in call["argv"][0]:  # let it be looked for
        pid: int = seal.start(lambda: _opened(call, output, place))
    else:
        pid = seal.start(lambda: _spawned(call, output, place or call["argv"][0]))
    return pid


def _opened(call: Json, output: int, place: str | None) -> int:
    import subprocess  # 4 ms, for a program that is not sealed, or is not found

    process = subprocess.Popen(
        call["argv"], executable=place, cwd=call["cwd"], env=call["env"], stdin=subprocess.DEVNULL, stdout=output,
        stderr=output, start_new_session=True,
    )  # fmt: skip
    process.returncode = 0  # it is collected by who supervises, not by `Popen`
    return process.pid


def _spawned(call: Json, output: int, place: str) -> int:
    """Start a process by the C library, at a third of what `Popen` costs; from a thread with a working directory of its
    own, for it takes that.
    """
    os.chdir(call["cwd"])
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    signals = (signal.SIGPIPE, signal.SIGXFSZ)
    return os.posix_spawn(place, call["argv"], call["env"], file_actions=files, setsid=True, setsigdef=signals)


def fork(call: Json, output: int, procs: str, seal: Any) -> int:
    """Start the step's program in its memory group: in it before it allocates anything. Return its pid."""
    told, tell = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        try:
            _become(call, output, procs, seal)
        except OSError as error:
            os.write(tell, b"%d" % (error.errno or 1))
        finally:
            os._exit(127)
    os.close(tell)
    number = os.read(told, 16)
    os.close(told)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(call: Json, output: int, procs: str, seal: Any) -> None:
    with open(procs, "w") as file:
        file.write("0")
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.chdir(call["cwd"])
    if seal is not None:
        from . import landlock

        landlock.restrict(seal.ruleset)
    os.execvpe(call["argv"][0], call["argv"], call["env"])
