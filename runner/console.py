"""What commands have in common that is no option: where they are, what they print, how they end. Loads no parser of options."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import EnvironmentFailure, Invalid, RunnerError, UsageError

if TYPE_CHECKING:
    from .project import Project
    from .settings import Settings
    from .store.local import LocalStore


def here() -> tuple[Project, Settings]:
    """Return the project of the current folder."""
    from .project import Project

    project = Project.of(os.path.join(os.getcwd(), "x"))
    return project, project.settings()


def the_store(given: str | None) -> LocalStore:
    """Return the store of the current folder, which need not be there."""
    from . import app

    project, settings = here()
    return app.open_store(project, settings, given, create=False)


def workers_of(given: int | None) -> int | None:
    """Return --workers, else RUNNER_WORKERS."""
    text = os.environ.get("RUNNER_WORKERS", "")
    if given is None and text:
        if not text.isdigit() or not 0 < int(text) <= 1024:
            raise UsageError(f"RUNNER_WORKERS is {text!r}; a number from 1 to 1024 is expected")
        return int(text)
    return given


def overrides(params: tuple[str, ...]) -> dict[str, str]:
    """Return `-p name=value` options as a mapping."""
    out = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"-p {text}: write NAME=VALUE")
        out[name] = value
    return out


def say(text: str, err: bool = False) -> None:
    """Print a line at once; a reader that has gone away ends nothing."""
    stream = sys.stderr if err else sys.stdout
    try:
        print(_writable(text, stream), flush=True, file=stream)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if err else 1)


def tell(text: str) -> None:
    """Print what is waited for."""
    say(text, err=True)


def notices(store: LocalStore) -> None:
    for notice in store.notices:
        say(f"note: {notice}", err=True)
    store.notices.clear()


def color(stream: Any) -> bool:
    """Whether to colour what goes to a stream."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _writable(text: str, stream: Any) -> str:
    """Return a text as the stream can take it: what its encoding lacks as escapes."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def ended(command: Callable[[], int]) -> int:
    """Do what a command does; return its exit code, also for what it raises."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except RunnerError as error:
        sys.stdout.flush()
        print(_writable(str(error), sys.stderr), file=sys.stderr)
        if isinstance(error, Invalid) and os.environ.get("GITHUB_ACTIONS") == "true":
            from .reporters.annotations import diagnostic_lines

            print(*diagnostic_lines(error.diagnostics), sep="\n", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader has gone, and with it the wish for more
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _too_long(error)
        from . import shortage

        if lack := shortage.of(error):
            return shortage.report(lack)
        import traceback

        traceback.print_exc()
        print(
            f"\nThis is a bug of runner {__version__}, not of your files. Please report it with the lines above.",
            file=sys.stderr,
        )
        return 70


def make_folder(path: str) -> None:
    """Make a folder that the user named, and those above it; raises EnvironmentFailure."""
    try:
        if not os.path.isdir(path):
            _refuse_length(path)
            os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailure(f"the folder {path[:200]} cannot be made: {error.strerror}") from None


def _refuse_length(path: str) -> None:
    """Raise OSError for a path that is too long for the system; `makedirs` would take it apart, name by name."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return


def _too_long(error: OSError) -> int:
    """Say that a name which the user gave is too long; return the exit code."""
    name = error.filename if isinstance(error.filename, str) else ""
    shown = UsageError(f"the name {name[:200]}... is too long" if name else "the name of a file is too long")
    print(_writable(str(shown), sys.stderr), file=sys.stderr)
    return shown.exit_status
