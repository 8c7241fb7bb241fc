"""The process of a `python` step: imports one function, calls it, keeps what it returns.

A stand-alone program of the standard library. With a task file it does that task; with `--serve` it is the warm
parent, which forks a child for each task that comes in on its socket. The parent never imports project code.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any, NoReturn


def perform(task_path: str) -> NoReturn:
    """Do the task; never returns."""
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
        sys.path.insert(0, os.getcwd())
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
    os._exit(code & 0xFF)


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


def serve() -> None:
    """Fork a child for each task; tell its pid, and how it ended."""
    import atexit  # what every child needs is imported once
    import importlib
    import pathlib
    import threading
    import traceback

    del atexit, importlib, pathlib, threading, traceback
    server = socket.socket(fileno=0)
    buffer = b""
    while True:
        content, fds, _, _ = socket.recv_fds(server, 65536, 1)
        if not content:
            return
        buffer += content
        if not buffer.endswith(b"\n"):
            continue
        task_path, buffer = os.fsdecode(buffer[:-1]), b""
        pid = os.fork()
        if pid == 0:
            become(task_path, fds[0], server)
        os.close(fds[0])
        server.sendall(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        server.sendall(b"%d\n" % status)


def become(task_path: str, log: int, server: socket.socket) -> NoReturn:
    """Turn the forked child into the step's process."""
    os.setsid()
    server.close()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 256)
    try:
        with open(task_path, encoding="utf-8", errors="surrogateescape") as file:
            task = json.load(file)
        os.environ.clear()
        os.environ.update(task["env"])
        os.chdir(task["cwd"])
        sys.argv = [task["function"]]
        if "TZ" in task["env"]:
            import time

            time.tzset()
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
        os._exit(1)
    perform(task_path)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        perform(sys.argv[1])
