"""Notebooks: executed by papermill with the step's parameters, in kernels that leave nothing behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("papermill", reason="papermill is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")


NAMES = ("text", "count", "rate", "flag", "time", "names", "table", "data", "tree", "first", "out")


def notebook(*cells: str, kernel: str = "python3") -> str:
    """A notebook of code cells, the first of which has the tag `parameters`."""
    kept: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for n, text in enumerate(cells)
    ]
    kept[0]["metadata"] = {"tags": ["parameters"]}
    kernelspec = {"name": kernel, "display_name": kernel, "language": "python"}
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernelspec}, "cells": kept})


def alive(cookie: str) -> list[str]:
    """The command lines of the processes whose environment holds a cookie."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if cookie.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_parameters_of_every_type_and_files_come_in_and_values_go_out(project):
    project.pipeline("""
        params:
          text: {type: string, default: 'it''s "ü" \\n {y}'}
          count: {type: integer, default: 3}
          rate: {type: number, default: 0.5}
          flag: {type: boolean, default: true}
          time: {type: duration, default: 90s}
          names: {type: list, default: [a, 1, {b: false}]}
          table: {type: object, default: {k: [1, null]}}
          data: {type: file, default: data.csv}
          tree: {type: dir, default: tree}
        steps:
          first: {kind: shell, script: "echo 2 > o.txt", outputs: {o: {type: file, path: o.txt}}}
          nb:
            kind: notebook
            notebook: study.ipynb
            parameters:
              text: $(params.text)
              count: $(params.count)
              rate: $(params.rate)
              flag: $(params.flag)
              time: $(params.time)
              names: $(params.names)
              table: $(params.table)
              data: $(params.data)
              tree: $(params.tree)
              first: $(steps.first.outputs.o)
              out: $(outputs.made)
            outputs: {made: {type: file, path: made.txt}, seen: {type: object}, total: {type: integer, metric: true}}
          after: {kind: command, command: [grep, -c, injected-parameters, $(steps.nb.outputs.notebook)]}
    """)
    project.write(data_csv="1\n", tree__x_txt="x")
    project.write(**{"study.ipynb": notebook(
        "\n".join(f"{name} = None" for name in NAMES),
        "import json, os\nprint('printed by a cell')\nopen(out, 'w').write(open(data).read() + open(first).read())\n"
        "seen = [text, count, rate, flag, time, names, table, os.listdir(tree)]\n"
        "json.dump({'seen': {'all': seen}, 'total': count + 1}, open(os.environ['RUNNER_VALUES'], 'w'))",
    )})  # fmt: skip
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert "  nb: ok in N s, total 4\n" in answer.out
    step = project.record()["steps"]["nb"]
    assert step["outputs"]["seen"]["value"]["all"] == [
        'it\'s "ü" \\n {y}', 3, 0.5, True, "90s", ["a", 1, {"b": False}], {"k": [1, None]}, ["x.txt"]
    ]  # fmt: skip
    assert project.output("nb", "made") == b"1\n2\n"
    cells = json.loads(project.output("nb", "notebook"))["cells"]
    assert [cell["metadata"]["tags"] for cell in cells[:2]] == [["parameters"], ["injected-parameters"]]
    assert cells[2]["outputs"][0]["text"] == ["printed by a cell\n"]
    run = project.record()["run"]
    assert "printed by a cell\n" in project.runner("logs", run, "nb").out
    assert "cached  nb" in project.runner("plan", "p.yaml", "-p", "count=3").out
    assert "run     nb" in project.runner("plan", "p.yaml", "-p", "count=4").out


def test_a_failing_cell_is_shown_with_its_number_source_and_traceback(project):
    project.pipeline("""
        steps:
          nb: {kind: notebook, notebook: study.ipynb, parameters: {n: 0}}
    """)
    project.write(**{"study.ipynb": notebook("n = 1", "print('before')", "# divide\n1 / n", "print('never')")})
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 1
    assert answer.out[answer.out.index("  nb: FAILED") :].replace(str(project.root), "ROOT") == (
        "  nb: FAILED: it exited with 1\n"
        "    | ---------------------------------------------------------------------------\n"
        "    | ZeroDivisionError                         Traceback (most recent call last)\n"
        "    | Cell In[4], line 2\n"
        "    |       1 # divide\n"
        "    | ----> 2 1 / n\n"
        "    | \n"
        "    | ZeroDivisionError: division by zero\n"
        "    | cell 3 failed: ZeroDivisionError: division by zero\n"
        "run failed in N s: nb: it exited with 1\n"
    )
    log = project.runner("logs", project.record()["run"], "nb").out
    # The kernel's own warnings may come between what a cell printed and what is said of the next one.
    assert "before\n" in log
    assert "cell 3 failed: ZeroDivisionError: division by zero\n    # divide\n    1 / n\n-----" in log


def test_a_kernel_that_is_not_there_is_named(project):
    project.pipeline("""
        steps:
          nb: {kind: notebook, notebook: study.ipynb, kernel: julia-9}
    """)
    project.write(**{"study.ipynb": notebook("n = 1")})
    answer = project.runner("apply", "p.yaml")
    assert "    | study.ipynb: there is no kernel julia-9: install ipykernel, or name another\n" in answer.out
    assert answer.code == 1


def test_an_environment_without_papermill_is_told_what_it_lacks(project):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project.root / "env"], check=True)
    project.pipeline("""
        runtimes: {bare: {kind: venv, path: env}}
        steps:
          nb: {kind: notebook, notebook: study.ipynb, runtime: bare}
    """)
    project.write(**{"study.ipynb": notebook("n = 1")})
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 1
    assert "there is no papermill in ROOT/env/bin/python: install papermill and ipykernel there\n" in answer.out


def test_the_kernel_is_that_of_the_environment_of_the_step(project):
    """An environment that sees the packages of this one, and a module that only it has."""
    place = project.root / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    site = next(place.glob("lib/*/site-packages"))
    (site / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (site / "tiny.py").write_text("VALUE = 3\n")
    project.pipeline("""
        runtimes: {own: {kind: venv, path: env}}
        steps:
          nb: {kind: notebook, notebook: study.ipynb, runtime: own, outputs: {seen: {type: list}}}
    """)
    project.write(**{"study.ipynb": notebook(
        "n = 1",
        "import json, os, sys, tiny\njson.dump({'seen': [tiny.VALUE, sys.prefix]}, open(os.environ['RUNNER_VALUES'], 'w'))",
    )})  # fmt: skip
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert project.record()["steps"]["nb"]["outputs"]["seen"]["value"] == [3, str(place)]


@pytest.mark.parametrize(
    ("more", "ends"), [("timeout: 4s, grace_period: 1s, ", False), ("", True)], ids=["timeout", "stop"]
)
def test_no_kernel_outlives_its_step(project, more, ends):
    project.pipeline(f"""
        steps:
          nb: {{kind: notebook, notebook: study.ipynb, {more}env: {{COOKIE: "{project.root}"}}}}
    """)
    project.write(**{"study.ipynb": notebook("n = 1", "import time\nopen('started', 'w')\ntime.sleep(60)")})
    process = project.start("apply", "p.yaml")
    end = time.monotonic() + 20
    while not list((project.root / ".runner/tmp").glob("*/nb.1/work/started")) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    cookie = f"COOKIE={project.root}\0"
    assert ["ipykernel_launcher" in line for line in alive(cookie)].count(True) == 1
    [process.terminate() for _ in range(ends)]
    process.communicate(timeout=30)
    assert alive(cookie) == []
    assert project.statuses() == {"nb": "stopped" if ends else "failed"}


def test_nothing_is_written_to_the_home_of_who_runs_it(project, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    project.pipeline("""
        steps:
          nb: {kind: notebook, notebook: study.ipynb}
    """)
    project.write(
        **{
            "study.ipynb": notebook(
                "n = 1", "from IPython import get_ipython\nget_ipython().run_line_magic('history', '')"
            )
        }
    )
    answer = project.runner("apply", "p.yaml", env={"HOME": str(home)})
    assert (answer.code, files(home)) == (0, [])
    assert list((project.root / ".runner/tmp").iterdir()) == []


def test_the_notebook_and_its_parameters_are_checked_before_anything_runs(project):
    project.pipeline("""
        steps:
          a: {kind: notebook, notebook: study.ipynb, parameters: {m: 1}}
          b: {kind: notebook, notebook: absent.ipynb}
          c: {kind: notebook, notebook: broken.ipynb}
    """)
    project.write(**{"study.ipynb": notebook("n = 1"), "broken.ipynb": "{}"})
    answer = project.runner("validate", "p.yaml")
    assert answer.code == 2
    assert [line for line in answer.err.splitlines() if line.startswith("p.yaml")] == [
        "p.yaml:5:59: error[E218]: the cell `parameters` of study.ipynb assigns no `m`",
        "p.yaml:6:33: error[E109]: there is no file absent.ipynb",
        "p.yaml:7:33: error[E218]: broken.ipynb is no notebook: it has no cells as nbformat 4 has them",
    ]
