"""What killed runs left below tmp -> ended and removed: for a moment at once, the rest while the next run is at work."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from ..executors.folders import remove
from ..executors.processes import send

if TYPE_CHECKING:
    from threading import Thread

AT_ONCE = 0.1  # seconds of removing before a run begins
_AT_THE_END = 0.2  # seconds of it after the run, before that is said
_GONE = "removed-"  # prefix of what only has to be removed
_STALE = 3600.0  # seconds after which a partial file in tmp is nobody's


class Leftovers:
    """The leftovers of one store, as this process removes them."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.removing: Thread | None = None

    def sweep(self) -> None:
        """Clear away what was left by runs that nobody owns: processes first, so that no old attempt is at work."""
        with contextlib.suppress(OSError):  # what cannot be cleared away stops no run
            found = [name for name in os.listdir(f"{self.store}/tmp") if self._nobody_s(name)]
            gone = [name for name in found if name.startswith(_GONE)] + self._put_aside(found)
            if gone:
                from threading import Thread  # only where there is something

                self.removing = Thread(target=self._remove, args=(gone,), daemon=True)
                self.removing.start()
                self.removing.join(AT_ONCE)

    def finish(self, tell: Callable[[str], None], stopped: Callable[[], bool]) -> None:
        """Wait until all is removed, or somebody wants to leave."""
        if self.removing is None:
            return
        self.removing.join(_AT_THE_END)
        if self.removing.is_alive():
            tell("removing what killed runs left in the store; a signal leaves it to the next run")
        while self.removing.is_alive() and not stopped():
            self.removing.join(0.1)
        self.removing = None

    def _remove(self, names: list[str]) -> None:
        for name in names:
            remove(f"{self.store}/tmp/{name}")

    def _nobody_s(self, name: str) -> bool:
        """Whether an entry of tmp may be cleared away; stale files are so at once."""
        place = f"{self.store}/tmp/{name}"
        if name.startswith(_GONE) or os.path.isdir(f"{self.store}/runs/{name}"):
            return os.path.isdir(place)
        with contextlib.suppress(OSError):
            if os.path.isfile(place) and time.time() - os.stat(place).st_mtime > _STALE:
                os.unlink(place)
        return False

    def _put_aside(self, names: list[str]) -> list[str]:
        """End the attempts of runs that have no owner, and rename what they left: a run that goes on makes it again.

        Return the new names.
        """
        gone = []
        with contextlib.ExitStack() as held:
            dead = [name for name in names if not name.startswith(_GONE) and held.enter_context(self._owned(name))]
            end_attempts(self.store, dead)
            for name in dead:
                with contextlib.suppress(OSError):
                    os.rename(f"{self.store}/tmp/{name}", f"{self.store}/tmp/{_GONE}{name}.{os.getpid()}")
                    gone.append(f"{_GONE}{name}.{os.getpid()}")
        return gone

    @contextlib.contextmanager
    def _owned(self, run: str) -> Iterator[bool]:
        """Own a run that nobody owns; whoever goes on with it waits meanwhile."""
        try:
            fd = os.open(f"{self.store}/runs/{run}/lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True
            return
        except OSError:
            yield False  # another user's
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(fd)


def end_attempts(store: str, runs: Collection[str]) -> None:
    """Kill the processes of dead runs' attempts, known by the variables that only the runner gives to a step."""
    if not runs:
        return
    marks = [(f"\0RUNNER_RUN_ID={run}\0".encode(), f"\0TMPDIR={store}/tmp/{run}/".encode()) for run in runs]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            pidfd = os.pidfd_open(int(pid))  # first: what is read next is of this process, or it has ended
        except OSError:
            continue
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
            variables = b"\0" + file.read()
            if b"\0RUNNER_RUN_ID=" in variables and any(a in variables and b in variables for a, b in marks):
                send(pidfd, signal.SIGKILL)
                select.select([pidfd], [], [], 5)
        os.close(pidfd)
