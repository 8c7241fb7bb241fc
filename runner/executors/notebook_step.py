"""The process of a `notebook` step: executes a notebook with papermill and keeps the executed copy.

A stand-alone program for the interpreter of the step's runtime. A failing cell is printed with its source and its
traceback, without colours, so that the log and the end of it that a failed step shows can be read.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any


def main(task_path: str) -> int:
    with open(task_path, encoding="utf-8", errors="surrogateescape") as file:
        task: dict[str, Any] = json.load(file)
    scratch = os.environ["TMPDIR"]
    # The kernel's own files lie in the attempt, not in the home of who runs it.
    os.environ.update(
        JUPYTER_RUNTIME_DIR=f"{scratch}/jupyter", IPYTHONDIR=f"{scratch}/ipython", PYTHONWARNINGS="ignore"
    )
    try:
        import papermill
    except ImportError:
        print(f"there is no papermill in {sys.executable}: install papermill and ipykernel there", file=sys.stderr)
        return 1
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillException, PapermillExecutionError

    try:
        papermill.execute_notebook(
            task["notebook"], task["executed"], task["parameters"], kernel_name=task["kernel"] or None,
            progress_bar=False, log_output=False, stdout_file=sys.stdout, stderr_file=sys.stderr, start_timeout=60,
        )  # fmt: skip
    except PapermillExecutionError as error:
        show(task["executed"], error)
        return 1
    except (PapermillException, CellTimeoutError, DeadKernelError, ValueError, OSError, ImportError) as error:
        print(f"{task['notebook']}: {type(error).__name__}: {plain(str(error))}", file=sys.stderr)
        return 1
    except Exception as error:
        if type(error).__name__ != "NoSuchKernel":
            raise
        name = getattr(error, "name", task["kernel"])
        print(f"{task['notebook']}: there is no kernel {name}: install ipykernel, or name another", file=sys.stderr)
        return 1
    return 0


def show(executed: str, error: Any) -> None:
    """Print the cell that failed: which it is, its source, its traceback."""
    print(f"cell {number(executed, error.source)} failed: {error.ename}: {plain(error.evalue)}", file=sys.stderr)
    for line in error.source.splitlines():
        print(f"    {line}", file=sys.stderr)
    for line in error.traceback:
        print(plain(line), file=sys.stderr)
    print(f"cell {number(executed, error.source)} failed: {error.ename}: {plain(error.evalue)}", file=sys.stderr)


def number(executed: str, source: str) -> int:
    """Return which cell of the notebook as it was written has this source, from 1; 0 for the injected one."""
    with open(executed, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    tags = [cell.get("metadata", {}).get("tags", []) for cell in cells]
    place = 0
    for cell, marks in zip(cells, tags, strict=True):
        if "papermill-error-cell-tag" in marks:
            continue
        injected = "injected-parameters" in marks
        place += not injected
        if "".join(cell["source"]) == source:
            return 0 if injected else place
    return 0


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
