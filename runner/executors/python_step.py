"""The process of a `python` step: imports one function, calls it, keeps what it returns.

A stand-alone program of the standard library. With a task file it does that task; with `--serve` it is the warm
parent, which forks a child for each task that comes in on its socket. The parent never imports project code. What it
does import, once a child has told that its step needed it, are the few libraries of `LEARNT`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
from typing import Any, NoReturn

# Slow to import, and known to bear a fork: no threads while their variables say 1, and their random state is set anew.
LEARNT = ("numpy", "pandas", "scipy")


def perform(task_path: str, tell: int = -1) -> NoReturn:
    """Do the task; never returns. `tell` is where a warm parent hears what was imported."""
    import atexit
    import importlib
    import pathlib
    import threading
    import traceback

    shut_down: Any = threading.__dict__["_shutdown"]  # what the interpreter itself calls at its end
    run_exit_functions: Any = atexit.__dict__["_run_exitfuncs"]

    def value(tree: list[Any]) -> Any:
        kind, content = tree
        if kind == "path":
            return pathlib.Path(content)
        if kind == "list":
            return [value(item) for item in content]
        if kind == "map":
            return {key: value(item) for key, item in content.items()}
        return content

    code = 0
    try:
        with open(task_path, encoding="utf-8", errors="surrogateescape") as file:
            task = json.load(file)
        here = os.getcwd()
        if here.startswith(f"{os.path.dirname(os.path.abspath(task_path))}/"):
            sys.dont_write_bytecode = True  # it would go with the attempt's directory: nobody would read it
        sys.path.insert(0, here)
        sys.argv = [task["function"]]
        module, _, name = task["function"].partition(":")
        function: Any = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
        returned = function(**{key: value(tree) for key, tree in task["args"].items()})
        if returned is not None:
            keep(task, returned)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        kind, raised, place = sys.exc_info()
        while place is not None and place.tb_frame.f_code.co_filename in (__file__, importlib.__file__):
            place = place.tb_next  # the first lines would be about this file, not the step's
        traceback.print_exception(kind, raised, place)
        code = 1
    try:
        shut_down()
        run_exit_functions()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = code or 1
    tell_learnt(tell)
    os._exit(code & 0xFF)


def tell_learnt(tell: int) -> None:
    """Tell the parent which of the libraries this step has imported from where the interpreter has its own."""
    with contextlib.suppress(OSError, AttributeError):
        for name in LEARNT if tell >= 0 else ():
            origin = getattr(getattr(sys.modules.get(name), "__spec__", None), "origin", None) or ""
            if is_own(origin):
                os.write(tell, name.encode() + b" ")


def keep(task: dict[str, Any], returned: Any) -> None:
    from collections.abc import Mapping

    if not isinstance(returned, Mapping):
        raise TypeError(
            f"{task['function']} returned {type(returned).__name__}; a mapping of value outputs or None is expected"
        )

    def convert(value: Any) -> Any:
        if hasattr(value, "item"):
            return value.item()  # a numpy scalar
        if hasattr(value, "__fspath__"):
            return os.fspath(value)
        raise TypeError(f"{task['function']} returned a {type(value).__name__}, which JSON cannot hold")

    with open(task["values"], "w", encoding="utf-8") as file:
        json.dump(dict(returned), file, default=convert)


def serve(preload: list[str]) -> None:
    """Fork a child for each task; tell its pid, and how it ended. `NAME=VALUE` in `preload` sets a variable first."""
    import atexit  # what every child needs is imported once
    import hashlib
    import importlib
    import pathlib
    import threading
    import traceback

    landlock = neighbour()
    os.environ.update(dict(item.split("=", 1) for item in preload if "=" in item))
    for module in preload:
        if "=" not in module:
            with contextlib.suppress(ImportError):  # the step says so itself
                importlib.import_module(module)
    del atexit, hashlib, importlib, pathlib, threading, traceback
    learnt: set[str] = set()
    learns = all(item.endswith("=1") for item in preload if "=" in item)  # numbers of threads, or LEARN=0
    server = socket.socket(fileno=0)
    buffer = b""
    given: list[int] = []  # the log and, for a sealed step, its ruleset
    while True:
        content, fds, _, _ = socket.recv_fds(server, 1 << 20, 2)
        if not content:
            return
        buffer += content
        given += fds  # they come with the first part of a message
        if not buffer.endswith(b"\n"):
            continue
        told, buffer = json.loads(buffer), b""
        learnt |= learn(named(told) - learnt if learns else set())
        heard, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            if any(os.path.lexists(f"{told['cwd']}/{name}{end}") for name in learnt for end in ("", ".py")):
                told["cold"] = True  # the step brings a module of that name
            become(told, given, server, landlock, tell)
        os.close(tell)
        while given:
            os.close(given.pop())
        pidfd = os.pidfd_open(pid)  # it cannot be collected yet: whoever signals it later hits nobody else
        socket.send_fds(server, [b"%d\n" % pid], [pidfd])
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        server.sendall(b"%d\n" % status)
        os.set_blocking(heard, False)
        with contextlib.suppress(BlockingIOError):
            learnt |= learn(set(os.read(heard, 100).decode().split()) if learns else set())
        os.close(heard)


def named(told: dict[str, Any]) -> set[str]:
    """Return which of the libraries a step's module says that it imports, where they are the interpreter's own.

    Its text is looked at, no more: what a child would import first is then there when it is forked.
    """
    found = set()
    with contextlib.suppress(OSError, ValueError, KeyError):
        with open(told["task"], encoding="utf-8", errors="surrogateescape") as file:
            module = json.load(file)["function"].partition(":")[0].replace(".", "/")
        with open(f"{told['cwd']}/{module}.py", "rb") as file:
            words = [
                line.split() for line in file.read(1 << 18).splitlines() if line.startswith((b"import ", b"from "))
            ]
        for name in LEARNT:
            if any(line[1].split(b".")[0].rstrip(b",") == name.encode() for line in words if len(line) > 1):
                found |= {name} if is_own(origin_of(name)) else set()
    return found


def origin_of(name: str) -> str:
    """Return where a library would be imported from, or nothing."""
    import importlib.util

    return getattr(importlib.util.find_spec(name), "origin", None) or ""


def is_own(origin: str) -> bool:
    """Whether a module is where the interpreter has its own."""
    return origin.startswith((f"{sys.prefix}/", f"{sys.base_prefix}/"))


def learn(names: set[str]) -> set[str]:
    """Import libraries that the next child may need; leave the process as it was if that starts a thread."""
    import importlib

    new = {name for name in names if name in LEARNT and name not in sys.modules}
    for name in new:
        try:
            importlib.import_module(name)
        except BaseException:
            new = set()
            break
    if len(os.listdir("/proc/self/task")) > 1:  # nobody forks with threads alive: begin anew, without
        os.set_inheritable(0, True)
        os.execv(sys.executable, [sys.executable, "-P", *sys.argv, "LEARN=0"])
    return new


def neighbour() -> Any:
    """Return the module of Landlock beside this file; not by `import`: a step's own module may be called the same."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("runner_landlock", f"{os.path.dirname(__file__)}/landlock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def moved_up(fd: int) -> int:
    """Move a file descriptor to a number that no step asks for by itself: above 255, or the last one that there may be."""
    for least in (256, os.sysconf("SC_OPEN_MAX") - 1):
        with contextlib.suppress(OSError, ValueError):
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    return fd


def become(told: dict[str, Any], given: list[int], server: socket.socket, landlock: Any, tell: int) -> NoReturn:
    """Turn the forked child into the step's process."""
    tell = moved_up(tell)
    if told["procs"]:
        with open(told["procs"], "w") as file:
            file.write("0")  # into its memory group, before it allocates anything
    os.setsid()
    server.close()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(given[0], 1)
    os.dup2(given[0], 2)
    try:
        for ruleset in given[1:]:
            landlock.restrict(ruleset)
        os.closerange(3, min(tell, 256))
        os.closerange(tell + 1, 256)
        os.environ.clear()
        os.environ.update(told["env"])
        os.chdir(told["cwd"])
        if "TZ" in told["env"]:
            import time

            time.tzset()
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
        os._exit(1)
    if told.get("cold"):
        os.execve(sys.executable, [sys.executable, "-P", os.path.abspath(__file__), told["task"]], told["env"])
    if random := sys.modules.get("numpy.random"):
        random.seed()  # else all children would draw the same numbers
    perform(told["task"], tell)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2:])
    else:
        perform(sys.argv[1])
