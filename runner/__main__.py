"""`runner` and `python -m runner`: the way in. What needs little of what follows is answered before it is loaded."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` adds takes 2 ms to load
import errno
import io
import os
import sys

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_LEAST_FILES = 16  # that may be open: with fewer no run can be entered in a store


class Output(io.FileIO):
    """A standard stream of which a failure is kept, not raised: whoever prints goes on, and the exit code says it.

    Of a reader that has gone (EPIPE) it is raised: nobody misses the rest.
    """

    error: OSError | None = None

    def write(self, content: ReadableBuffer) -> int:
        if self.error is not None:
            return memoryview(content).nbytes
        try:
            written = super().write(content)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.error = error
            return memoryview(content).nbytes
        if written is None:  # it does not block, and is full
            import select

            select.select([], [self], [])
            return self.write(content)
        return written


def main() -> None:
    """Run a command and leave with its exit code."""
    args = sys.argv[1:]
    open_streams()
    try:
        code = _flushed(_answered(args), args)
    except MemoryError:  # not even for what says it better
        os.write(2, b"error: there is not enough memory\n  = help: allow more by `ulimit -v`, or end other programs\n")
        code = 6
    os._exit(code)  # taking the interpreter down would take 10 ms, and do nothing more


def _answered(args: list[str]) -> int:
    try:
        return _ran(args)
    except (ImportError, OSError) as error:
        from . import shortage

        if not (lack := shortage.of(error)):
            raise
        return shortage.report(lack)


def _ran(args: list[str]) -> int:
    if args == ["--version"]:
        from . import __version__

        print(f"runner {__version__}")
        return 0
    if args[:1] in (["apply"], ["plan"]):
        from .settled import said

        if (message := said(args)) is not None:
            print(message)
            return 0
    if 0 <= os.sysconf("SC_OPEN_MAX") < _LEAST_FILES:
        raise OSError(errno.EMFILE, "")
    if args[:1] in (["apply"], ["retry"], ["resume"]) and not {"--help", "--print"}.intersection(args):
        reset_signals()
        from .executors.forkserver import start_early

        start_early()
    import atexit

    from .cli import run

    code = run(args)
    atexit._run_exitfuncs()
    return code


def _flushed(code: int, args: list[str]) -> int:
    """Write what is buffered; return the exit code, which is 6 where something of it could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the reader has gone
            continue
    lost = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "error", None)
    if lost is None:
        return code
    print(f"error: standard output cannot be written: {lost.strerror}", file=sys.stderr, flush=True)
    if args[:1] in (["apply"], ["retry"], ["resume"]):
        print("  = help: a run that has begun is recorded: see `runner runs`", file=sys.stderr, flush=True)
    return code or 6


def open_streams() -> None:
    """Let no file or pipe get the number of a standard stream that is closed: what is printed would go there. Keep failures
    of the others.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            fd = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, "w" if number else "r", closefd=False))  # noqa: SIM115 (as long as the program)
        elif number:
            setattr(sys, name, _guarded(number, stream))


def _guarded(fd: int, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream like this one, but for failures."""
    return io.TextIOWrapper(
        io.BufferedWriter(Output(fd, "w", closefd=False)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def reset_signals() -> None:
    """Have the ends of processes reported, and signals delivered, whatever the parent of the runner wanted for itself."""
    if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


if __name__ == "__main__":
    main()
