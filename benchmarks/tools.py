"""The tools that are compared: how each is told a workload, how it is run, and where its outputs are.

A writer makes a project in an empty folder from a `Workload`. All but ours leave the output of a step at `out/<step>`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.store.local import LocalStore

from .workloads import Job, Workload

RUNNER = shutil.which("runner", path=os.path.dirname(sys.executable)) or "runner"
WORKERS = 2  # of every tool


@dataclass(frozen=True)
class Tool:
    """A tool. `commands` are by what is asked of it: run, plan, version; what it lacks it cannot do."""

    name: str
    write: Callable[[Path, Workload], None]
    commands: Mapping[str, tuple[str, ...]]
    lacks: Mapping[str, str] = field(default_factory=dict)  # row -> why it cannot be measured there
    kinds: tuple[str, ...] = ("mix", "zeros", "tail")
    packages: tuple[str, ...] = ()  # of a tool that lives in an environment of its own

    def digests(self, folder: Path, workload: Workload) -> dict[str, str]:
        """Return the sha256 of what each step left, by reading it."""
        found = _stored(folder) if self.name == "ours" else {n: folder / "out" / n for n in workload.jobs}
        return {name: _sha256(path) for name, path in found.items()}

    def does(self, workload: Workload) -> bool:
        return all(job.kind in self.kinds for job in workload.jobs.values())


def _sha256(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(folder: Path) -> dict[str, Path]:
    """Return where the outputs of the newest run are."""
    store = LocalStore(f"{folder}/.runner", create=False)
    record = store.run(store.runs(limit=1)[0].run)
    assert record is not None  # it was listed
    return {n: Path(store.object(e.outputs["o"]["digest"], "file")) for n, e in record.steps.items() if e.outputs}


# --- ours ---------------------------------------------------------------------------------------------------------


def step(job: Job) -> list[str]:
    """Return the lines of a step of ours."""
    inputs = {f"i{k}": f"$(steps.{name}.outputs.o)" for k, name in enumerate(job.steps)}
    inputs |= {f"f{k}": name for k, name in enumerate(job.files)}
    lines = [f"  {job.name}:"]
    if inputs:
        lines.append(f"    inputs: {{{', '.join(f'{name}: {value}' for name, value in inputs.items())}}}")
    match job.kind:
        case "edit":
            argv = job.argv([f"$(inputs.{name})" for name in inputs], "o")
            lines += ["    kind: command", f"    command: {json.dumps(argv)}"]
        case "function":
            lines += ["    kind: python", "    function: work:squares"]
            lines += [f"    args: {{n: {job.name[1:]}, path: $(outputs.o)}}"]
        case _:
            script = job.script([f'"$RUNNER_INPUT_{name.upper()}"' for name in inputs], "o")
            lines += ["    kind: shell", "    shell: [sh, -eu]", "    script: |", f"      {script}"]
    return [*lines, "    outputs: {o: {type: file}}"]


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def write_ours(folder: Path, workload: Workload, head: str = "") -> None:
    lines = ["apiVersion: runner/v1", "kind: Pipeline", f"name: {workload.name}", *([head] if head else []), "steps:"]
    for job in workload.jobs.values():
        lines += step(job)
    write_files(folder, {**workload.files, "runner.toml": "", "pipeline.yaml": "\n".join(lines) + "\n"})


# --- peers --------------------------------------------------------------------------------------------------------


def _paths(job: Job) -> tuple[list[str], str]:
    return [*(f"out/{name}" for name in job.steps), *job.files], f"out/{job.name}"


def _write_peer(folder: Path, workload: Workload, files: Mapping[str, str]) -> None:
    (folder / "out").mkdir(parents=True)
    write_files(folder, {**workload.files, **files})


def write_ninja(folder: Path, workload: Workload) -> None:
    lines = ["rule step", "  command = $script"]
    for job in workload.jobs.values():
        inputs, output = _paths(job)
        lines += [f"build {output}: step {' '.join(inputs)}", f"  script = {job.script(inputs, output)}"]
    _write_peer(folder, workload, {"build.ninja": "\n".join(lines) + "\n"})


def write_make(folder: Path, workload: Workload) -> None:
    lines = ["MAKEFLAGS += -r -R", f"all: {' '.join(f'out/{name}' for name in workload.last)}"]
    for job in workload.jobs.values():
        inputs, output = _paths(job)
        lines += [f"{output}: {' '.join(inputs)}", f"\t@{job.script(inputs, output)}"]
    _write_peer(folder, workload, {"Makefile": "\n".join(lines) + "\n"})


def table(workload: Workload) -> str:
    """Return the steps as JSON, for tools that are told by a program."""
    rows = []
    for job in workload.jobs.values():
        inputs, output = _paths(job)
        function = job.kind == "function"
        script = "" if function else job.script(inputs, output)
        row = {"name": job.name, "steps": job.steps, "inputs": inputs, "output": output, "script": script}
        rows.append({**row, "n": int(job.name[1:])} if function else row)
    return json.dumps(rows)


DOIT = """\
import json

from doit.tools import run_once

with open("jobs.json") as file:
    JOBS = json.load(file)


def task_step():
    for job in JOBS:
        if job["script"]:
            actions = [job["script"]]
        else:
            import work

            actions = [(work.squares, [job["n"], job["output"]])]
        task = {"name": job["name"], "actions": actions, "file_dep": job["inputs"], "targets": [job["output"]]}
        yield task if job["inputs"] else {**task, "uptodate": [run_once]}
"""

LUIGI = """\
import json
import subprocess

import luigi

with open("jobs.json") as file:
    JOBS = {job["name"]: job for job in json.load(file)}
READ = {name for job in JOBS.values() for name in job["steps"]}


class Step(luigi.Task):
    name = luigi.Parameter()

    def requires(self):
        return [Step(name=name) for name in JOBS[self.name]["steps"]]

    def output(self):
        return luigi.LocalTarget(JOBS[self.name]["output"])

    def run(self):
        job = JOBS[self.name]
        if job["script"]:
            subprocess.run(["sh", "-c", job["script"]], check=True)
        else:
            import work

            work.squares(job["n"], job["output"])


class All(luigi.WrapperTask):
    def requires(self):
        return [Step(name=name) for name in JOBS if name not in READ]
"""

JOBLIB = """\
import json

import joblib

import work

with open("jobs.json") as file:
    jobs = json.load(file)
joblib.Parallel(n_jobs=2)(joblib.delayed(work.squares)(job["n"], job["output"]) for job in jobs)
"""


def write_doit(folder: Path, workload: Workload) -> None:
    _write_peer(folder, workload, {"dodo.py": DOIT, "jobs.json": table(workload)})


def write_luigi(folder: Path, workload: Workload) -> None:
    _write_peer(folder, workload, {"all.py": LUIGI, "jobs.json": table(workload)})


def write_joblib(folder: Path, workload: Workload) -> None:
    _write_peer(folder, workload, {"main.py": JOBLIB, "jobs.json": table(workload)})


def write_snakemake(folder: Path, workload: Workload) -> None:
    lines = ["rule all:", f"    input: {', '.join(repr(f'out/{name}') for name in workload.last)}"]
    for job in workload.jobs.values():
        inputs, output = _paths(job)
        lines += [f"rule {job.name.replace('-', '_')}:"]
        if inputs:
            lines += [f"    input: {', '.join(map(repr, inputs))}"]
        lines += [f"    output: {output!r}"]
        script = job.script(inputs, output).replace("{", "{{").replace("}", "}}")
        lines += [f"    shell: {script!r}"]
    _write_peer(folder, workload, {"Snakefile": "\n".join(lines) + "\n"})


def write_dvc(folder: Path, workload: Workload) -> None:
    lines = ["stages:"]
    for job in workload.jobs.values():
        inputs, output = _paths(job)
        lines += [f"  {job.name}:", f"    cmd: {json.dumps(job.script(inputs, output))}"]
        if inputs:
            lines += [f"    deps: [{', '.join(inputs)}]"]
        lines += [f"    outs: [{output}]"]
    _write_peer(folder, workload, {"dvc.yaml": "\n".join(lines) + "\n", ".dvc/config": "[core]\n    no_scm = true\n"})


KEDRO = """\
import json
import subprocess

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node
from kedro.runner import ThreadRunner

with open("jobs.json") as file:
    JOBS = json.load(file)


def step(job):
    def run(*inputs):
        subprocess.run(["sh", "-c", job["script"]], check=True)
        return True

    run.__name__ = "run_" + job["name"].replace("-", "_")
    return node(run, [f"d{name}" for name in job["steps"]] or "start", f"d{job['name']}", name=job["name"])


catalog = DataCatalog({"start": MemoryDataset(True)})
ThreadRunner(max_workers=2).run(Pipeline([step(job) for job in JOBS]), catalog)
"""


def write_kedro(folder: Path, workload: Workload) -> None:
    _write_peer(folder, workload, {"main.py": KEDRO, "jobs.json": table(workload)})


REDUN = """\
import json
import subprocess

from redun import task

redun_namespace = "bench"
with open("jobs.json") as file:
    JOBS = {job["name"]: job for job in json.load(file)}
READ = {name for job in JOBS.values() for name in job["steps"]}


@task()
def step(name, script, inputs):
    subprocess.run(["sh", "-c", script], check=True)
    return name


@task()
def main():
    made = {}
    for job in JOBS.values():
        made[job["name"]] = step(job["name"], job["script"], [made[name] for name in job["steps"]])
    return [made[name] for name in JOBS if name not in READ]
"""


def write_redun(folder: Path, workload: Workload) -> None:
    _write_peer(folder, workload, {"main.py": REDUN, "jobs.json": table(workload)})


BLIND = "it does not look at what files hold"
FUNCTIONS = ("mix", "zeros", "tail", "function")
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "ours",
            write_ours,
            {
                "run": (RUNNER, "apply", "pipeline.yaml"),
                "plan": (RUNNER, "plan", "pipeline.yaml"),
                "version": (RUNNER, "--version"),
            },
            kinds=("mix", "edit", "zeros", "tail", "function"),
        ),
        Tool(
            "ninja",
            write_ninja,
            {"run": ("ninja", f"-j{WORKERS}"), "plan": ("ninja", "-n"), "version": ("ninja", "--version")},
            lacks={"gib-touch": "it would run the reader again, by its time"},
        ),
        Tool(
            "make",
            write_make,
            {"run": ("make", f"-j{WORKERS}", "-s"), "plan": ("make", "-n"), "version": ("make", "--version")},
            lacks={"gib-touch": "it would run the reader again, by its time"},
        ),
        Tool(
            "doit",
            write_doit,
            {
                "run": ("doit", "run", "-n", f"{WORKERS}", "-P", "thread"),
                "plan": ("doit", "list", "--all", "--status"),
                "version": ("doit", "--version"),
            },
            kinds=FUNCTIONS,
            packages=("doit", "numpy"),
        ),
        Tool(
            "luigi",
            write_luigi,
            {
                "run": (
                    "python",
                    "-m",
                    "luigi",
                    "--module",
                    "all",
                    "All",
                    "--local-scheduler",
                    "--workers",
                    f"{WORKERS}",
                ),
                "version": ("python", "-c", "import luigi; print(luigi.__version__)"),
            },
            lacks={"redo": BLIND, "gib-touch": BLIND},
            kinds=FUNCTIONS,
            packages=("luigi", "numpy"),
        ),
        Tool(
            "snakemake",
            write_snakemake,
            {
                "run": ("snakemake", "-q", "all", f"-j{WORKERS}"),
                "plan": ("snakemake", "-n", "-q", "all"),
                "version": ("snakemake", "--version"),
            },
            packages=("snakemake",),
        ),
        Tool(
            "joblib",
            write_joblib,
            {"run": ("python", "main.py")},
            kinds=("function",),
            packages=("joblib", "numpy"),
        ),
        Tool(
            "dvc",
            write_dvc,
            {"run": ("dvc", "repro", "-q"), "plan": ("dvc", "repro", "--dry", "-q"), "version": ("dvc", "--version")},
            packages=("dvc",),
        ),
        Tool(
            "kedro",
            write_kedro,
            {"run": ("python", "main.py"), "version": ("kedro", "--version")},
            lacks=dict.fromkeys(("again-1000", "again-10000", "redo", "gib-again", "gib-touch"), "it runs all again"),
            packages=("kedro",),
        ),
        Tool(
            "redun",
            write_redun,
            {"run": ("redun", "run", "main.py", "main"), "version": ("redun", "--version")},
            lacks={"redo": BLIND, "gib-touch": BLIND},
            packages=("redun",),
        ),
    )
}


# --- installed? ---------------------------------------------------------------------------------------------------


def installed(tool: Tool, cache: Path) -> Tool | None:
    """Return the tool with the paths of its programs, made in its own environment if need be; None without them."""
    folder = cache / tool.name
    if tool.packages and not (folder / "ready").exists():
        try:
            venv.create(folder, clear=True, with_pip=True)
            subprocess.run([folder / "bin/pip", "install", "-q", *tool.packages], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            print(f"{tool.name} cannot be installed: {error.stderr.decode()[-300:]}", file=sys.stderr)
            return None
        (folder / "ready").touch()
    found = {}
    for asked, command in tool.commands.items():
        program = shutil.which(command[0], path=f"{folder / 'bin'}" if tool.packages else None)
        if program is None:
            return None
        found[asked] = (program, *command[1:])
    return Tool(tool.name, tool.write, found, tool.lacks, tool.kinds, tool.packages)
