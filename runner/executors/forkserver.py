"""The process that workers are forked from, both ends of it.

Its interpreter starts before it is known what workers will be given, while the runner loads and plans, on another processor;
then each worker costs a fork. It holds nothing and guards nothing: when it is gone, another is started. Where it is given
nothing it ends with the runner, whose end of its socket closes.
"""

from __future__ import annotations

import _socket  # what `socket` adds takes 3 ms to load
import os
import signal
import sys

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import NoReturn

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker_main.py")
_NUMBER = 8  # bytes of a message, which is a number
LOOK = 1.0  # seconds that an answer may take before it is looked whether somebody has stopped it


class ForkServer:
    """The runner's end: starts the process, asks it for workers, and how one has ended."""

    def __init__(self) -> None:
        self.socket, theirs = _socket.socketpair()
        command = [sys.executable, "-I", "-S", "-X", "utf8", _PROGRAM]
        # Not the runner's output: who reads that waits until nobody holds it any more.
        files = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        try:
            self.pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=files, setsid=True)
        finally:
            theirs.close()

    def fork(self) -> tuple[int, int, int]:
        """Return the pid of a new worker, and the file descriptors of its input and its output.

        Raises ConnectionError where the process is gone, OSError where there can be no other process.
        """
        its_input, our_output = os.pipe()
        our_input, its_output = os.pipe()
        try:
            pid = self._ask(0, [its_input, its_output])
        except BaseException:
            os.close(our_output)
            os.close(our_input)
            raise
        finally:
            os.close(its_input)
            os.close(its_output)
        return pid, our_output, our_input

    def status(self, pid: int) -> int:
        """Wait for the end of a worker; return its wait status. What another one forked, which is gone, has become ours."""
        try:
            return self._ask(pid, [])
        except (ConnectionError, ChildProcessError):
            return os.waitpid(pid, 0)[1]

    def _ask(self, number: int, fds: list[int]) -> int:
        from .processes import continue_or_kill, ready  # not before it is started

        packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
        self.socket.sendmsg([number.to_bytes(_NUMBER, "little")], rights, _socket.MSG_NOSIGNAL)
        looks = 0
        while not ready(self.socket.fileno(), LOOK):  # somebody may have stopped it
            looks += continue_or_kill(self.pid, kill=looks > 0)
        answer = self.socket.recv(_NUMBER, _socket.MSG_WAITALL)
        if len(answer) < _NUMBER:
            raise ConnectionResetError("the process that workers are forked from has ended")
        if (found := int.from_bytes(answer, "little", signed=True)) < 0:
            raise OSError(-found, os.strerror(-found))
        return found

    def close(self) -> None:
        """End it, once there are no workers any more."""
        self.socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


_early: list[ForkServer] = []


def start_early() -> None:
    """Start the process that `start` will return."""
    _early.append(ForkServer())


def start() -> ForkServer:
    """Return a process that workers can be forked from."""
    return _early.pop() if _early else ForkServer()


def serve() -> NoReturn:
    """Be that process: standard input is its socket."""
    from . import landlock, worker  # all that a worker needs is loaded once
    from .processes import continue_with_parent_s_end

    landlock.version()
    continue_with_parent_s_end()
    asked = _socket.socket(fileno=os.dup(0))
    while True:
        number, rights, _, _ = asked.recvmsg(_NUMBER, _socket.CMSG_SPACE(8))
        if len(number) < _NUMBER:
            os._exit(0)
        if rights:
            fds = [int.from_bytes(rights[0][2][at : at + 4], sys.byteorder) for at in (0, 4)]
            answer = _fork()
            if answer == 0:
                asked.close()
                for target, fd in enumerate(fds):
                    os.dup2(fd, target)
                    os.close(fd)
                os.setsid()
                worker.main()
            for fd in fds:
                os.close(fd)
        else:
            answer = _wait(int.from_bytes(number, "little"))
        asked.send(answer.to_bytes(_NUMBER, "little", signed=True))


def _wait(pid: int) -> int:
    """Return the wait status of a child, or less than 0: the error."""
    try:
        return os.waitpid(pid, 0)[1]
    except OSError as error:
        return -(error.errno or 1)


def _fork() -> int:
    """Return the pid of the child, 0 in the child, or less: the error."""
    try:
        return os.fork()
    except OSError as error:
        return -(error.errno or 1)
