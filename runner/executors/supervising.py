"""A started process -> how it ended: its output is kept, its time is limited, and nothing of it is left behind."""

from __future__ import annotations

import errno
import marshal
import os
import select
import signal
import time

from .failed import Failed
from .files import CHUNK, pass_by
from .logs import Log
from .messages import Inbox
from .processes import childless, end_all, kill_all, reap, send, send_all, tell_program
from .starting import fork, look_around, sealed, spawn

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Iterable, Set
    from typing import Any

    from .cgroup import Group
    from .starting import Parents, Warm

    Json = dict[str, Any]


class Control:
    """The engine's pipe: calls that wait, the wish to stop, and what calls will have in common. The end of the guard is the
    end of the engine.
    """

    def __init__(self, fd: int, guard: int, will: int) -> None:
        self.fds = {fd, guard}
        self.guard = guard
        self.will = will  # a file in memory that the guard reads when this process was killed
        self.looked = 0.0
        self.inbox = Inbox()
        self.calls: list[Json] = []
        self.stop, self.kill, self.gone = False, False, False
        self.timeout, self.grace = 0.0, 0.0  # seconds, of the attempt; a timeout of 0 is none
        self.deadline: float | None = None
        self.asked: float | None = None  # when the first wish to stop was seen

    def begin(self, call: Json) -> None:
        """Begin an attempt, which is staged first: there is nothing yet to be gentle with."""
        self.timeout, self.grace = call["timeout"], 0.0
        self.deadline = self.asked = None

    def clock(self, now: float) -> None:
        """Begin to count the time that the attempt has, if that has not begun yet."""
        if self.deadline is None and self.timeout:
            self.deadline = now + self.timeout

    def read(self, fd: int) -> None:
        content = os.read(fd, CHUNK) if fd != self.guard else b""
        if not content:
            self.gone = self.stop = self.kill = True
            return
        for message in self.inbox.feed(content):
            if "control" in message:
                self.stop = True
                self.kill = self.kill or message["control"] == "kill"
            elif "closed" in message and "step" not in message:
                look_around(message["closed"])
            else:
                self.calls.append(message)

    def next(self) -> Json | None:
        while not self.calls and not self.gone:
            self.read(select.select(self.fds, [], [])[0][0])
        self.stop = self.kill = False
        return self.calls.pop(0) if self.calls and not self.gone else None

    def heed(self, what: str = "", done: int = 0, total: int = 0) -> None:
        """Look what the engine wants, now and then; raise Failed if it does not want the attempt any more, or its time is over.

        Of `what` is being done (such as "hashing o"), so many bytes are done; `total` is 0 where nobody knows how many there are.
        """
        now = time.monotonic()
        if now < self.looked + 0.05:
            return
        self.looked = now
        self.clock(now)
        while not self.gone and (ready := select.select(self.fds, [], [], 0)[0]):
            self.read(ready[0])
        if self.stop and self.asked is None:
            self.asked = now
        if self.kill or (self.asked is not None and now >= self.asked + self.grace):
            raise Failed("stopped", "stopped")
        if self.deadline is not None and now >= self.deadline:
            raise Failed("timeout", f"timed out{f' while {what}' if what else ''}{_progress(done, total)}")

    def bequeath(self, call: Json | None) -> None:
        """Tell the guard what to do should this process be killed: to end what is no descendant of it, a container."""
        will = marshal.dumps([call["cleanup"], call["env"]]) if call else b""
        os.pwrite(self.will, will, 0)
        os.ftruncate(self.will, len(will))


def _progress(done: int, total: int) -> str:
    return f" ({_amount(done)} of {_amount(total)})" if total else f" ({_amount(done)})" if done else ""


def _amount(size: int) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"


def run(call: Json, linked: Iterable[str], control: Control | None, parents: Parents | None, spare: Set[int]) -> Json:
    """Run the attempt's process to its end, and to the end of all that it left; return what happened."""
    group = None
    seal = sealed(call, linked)
    if call["memory"]:
        from .cgroup import memory_group

        group = memory_group(call["memory"], f"{os.getpid()}-{os.path.basename(call['root'])}")
    try:
        ended = _run(call, control, parents, spare, group, seal)
        ended["oom"] = group is not None and group.oom_killed()
        return ended
    finally:
        if group is not None:
            group.remove()


def _run(
    call: Json, control: Control | None, parents: Parents | None, spare: Set[int], group: Group | None, seal: Any
) -> Json:
    log = Log(call["log"], call["log_limit"], call["secrets"])
    # Its other end stays open here, too: who waits for the end of a process need not be woken for that of its output.
    read_end, write_end = os.pipe()
    try:
        started = time.monotonic()
        if control is not None:
            control.clock(started)
            control.grace = call["grace"]
        try:
            main, warm, pidfd = _start(call, control, write_end, parents, group, seal)
        except BaseException:
            end_all(spare | parents.pids if parents is not None else spare)
            raise
        if parents is not None:
            spare = spare | parents.pids
        try:
            return _supervise(call, control, warm, spare, group, log, read_end, main, pidfd, started)
        except BaseException:
            end_all(spare)  # a log that cannot be written must not leave the step running
            raise
        finally:
            os.close(pidfd)
    finally:
        os.close(read_end)
        os.close(write_end)


def _start(
    call: Json, control: Control | None, output: int, parents: Parents | None, group: Group | None, seal: Any
) -> tuple[int, Warm | None, int]:
    """Start the attempt's process; return its pid or the warm parent whose child it is, and its pidfd."""
    try:
        if parents is not None and call["warm"]:
            warm = parents.of(call)
            heed = control.heed if control is not None else pass_by
            return 0, warm, warm.start(call, output, group.procs_path if group else "", seal, heed)
        main = fork(call, output, group.procs_path, seal) if group else spawn(call, output, seal)
        return main, None, os.pidfd_open(main)
    except OSError as error:
        name = call["argv"][0]
        what = f"there is no program {name}" if error.errno == errno.ENOENT else f"{name}: {error.strerror}"
        raise Failed("environment", what) from None


def _supervise(
    call: Json,
    control: Control | None,
    warm: Warm | None,
    spare: Set[int],
    group: Group | None,
    log: Log,
    read_end: int,
    main: int,  # the pid of the step's own process; 0 for a child of a warm parent
    pidfd: int,  # of that process
    started: float,
) -> Json:
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    ended_fd = warm.socket.fileno() if warm is not None else pidfd
    poll.register(ended_fd, select.POLLIN)
    controls = control.fds if control is not None else set()
    for fd in controls:
        poll.register(fd, select.POLLIN)
    deadline = started + call["timeout"] if call["timeout"] else None
    if control is not None:
        deadline = control.deadline  # staging has taken some of it
    status: int | None = None
    asked: float | None = None
    killed_at: float | None = None
    why, leftover = "", False
    empty = 0
    while True:
        now = time.monotonic()
        if control is not None and control.stop and not why:
            why = "stopped"
        if deadline is not None and now >= deadline and status is None and not why:
            why = "timeout"
        if why and asked is None and status is None:
            asked = now
            if control is not None:
                control.asked = control.asked or now  # collecting has what is left of the grace period
            if call["boxed"]:
                tell_program(main, pidfd, signal.SIGTERM)
            else:
                send(pidfd, signal.SIGTERM)
        force = control is not None and control.kill
        if (
            asked is not None
            and (force or now >= asked + call["grace"])
            and (killed_at is None or now >= killed_at + 0.02)
        ):
            killed_at = now
            if group is not None:
                group.kill()
            kill_all(spare)
        if status is None and warm is not None and b"\n" in warm.buffer:
            poll.unregister(ended_fd)  # its end came together with its start
            status = warm.ended()
        elif status is None and warm is not None and warm.lost(now):
            poll.unregister(ended_fd)
            status = warm.take_over()
        if status is not None:
            if not spare and childless():
                break
            alive, found = reap(spare)
            if found:
                empty = 0
            if alive:
                if call["boxed"]:
                    end_all(spare)  # its sandbox is ending anyway: what is left was told nothing of its own
                elif not leftover:
                    leftover = True
                    asked = asked or now
                    send_all(spare, signal.SIGTERM)
                elif force and killed_at is None:
                    continue
            else:
                empty += not found
                if empty >= 2:
                    break
                continue
        timeout = 0.02 if status is not None or killed_at is not None else None
        if timeout is None:
            until = [
                t
                for t in (deadline if not why else None, asked + call["grace"] if asked is not None else None)
                if t is not None
            ]
            timeout = max(0.0, min(until) - now) + 0.001 if until else None
        if status is None and warm is not None:
            look = max(0.0, warm.look_at - now) + 0.001
            timeout = look if timeout is None else min(timeout, look)
        for fd, _ in poll.poll(None if timeout is None else timeout * 1000):
            if fd == read_end:
                log.write(os.read(read_end, CHUNK))
            elif fd == ended_fd:
                poll.unregister(ended_fd)
                if main:
                    _, status = os.waitpid(main, 0)
                elif warm is not None:
                    status = warm.ended()
            elif control is not None and not control.gone:
                control.read(fd)
                if control.gone:
                    for end in controls:
                        poll.unregister(end)
    while select.select([read_end], [], [], 0)[0]:
        log.write(os.read(read_end, CHUNK))
    tail = log.close()
    assert status is not None  # the loop above ends with it
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {
        "why": why, "seconds": time.monotonic() - started, "leftover": leftover, "tail": tail.decode("utf-8", "replace"),
        "exit_code": None if number else os.WEXITSTATUS(status),
        "signal": signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}" if number else "",
    }  # fmt: skip
