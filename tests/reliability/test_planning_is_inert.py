"""Whoever only looks at a stranger's project runs none of its code: what the kernel saw of a project full of traps."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import Project

RUNNER = shutil.which("runner", path=os.path.dirname(sys.executable))
TRAP = "import os; open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'SPRUNG'), 'a').write(__file__)\n"
# What an interpreter, a test runner or a tool would take up by itself from the folder that it stands in.
TRAPS = (
    "conftest.py", "sitecustomize.py", "usercustomize.py", "setup.py", "yaml.py", "json.py", "click.py", "sqlite3.py", "jsonschema_rs.py", "re.py",
    "runner/__init__.py", "runner/__main__.py", "runner/cli.py", "runner/app.py", "encodings/__init__.py", "__init__.py", "__main__.py",
)  # fmt: skip
DECLARED = ("mod.py", "steps/__init__.py", "steps/one.py")
HOOKS = (
    ".git/hooks/post-checkout",
    ".git/hooks/fsmonitor",
    ".envrc",
    ".runner/hooks/pre-plan",
    "node_modules/.bin/git",
    "bin/git",
)
CALLS = "execve,execveat,fork,vfork,clone,clone3,socket,connect,open,openat,openat2,creat,unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,chmod,fchmodat,truncate"
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


@pytest.fixture
def trapped(project):
    return trapped_project(project)


def trapped_project(project: Project) -> Project:
    """Fill a project, after a run, with all that might be taken up by itself."""
    project.pipeline("""
        params: {x: {type: integer, default: 1}}
        steps:
          a: {kind: python, function: 'mod:f', args: {x: $(params.x)}, outputs: {n: {type: integer}}}
          b: {kind: python, function: 'steps.one:f', outputs: {n: {type: integer}}}
          c: {kind: command, command: [./tool, $(steps.a.outputs.n)], code: [tool]}
          d: {kind: shell, script: 'echo $(touch SPRUNG)', needs: [c]}
    """)
    project.request("select: [d]\nreference: latest\n")
    (project.root / "steps").mkdir()
    (project.root / "tool").write_text("#!/bin/sh\ntouch SPRUNG\n")
    (project.root / "tool").chmod(0o755)
    for name in DECLARED:
        (project.root / name).write_text("def f(x=1): return {'n': x}\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RUNNER_", "PYTHON"))}
    done = subprocess.run([RUNNER, "apply", "p.yaml"], cwd=project.root, env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done
    (project.root / "SPRUNG").unlink(missing_ok=True)
    (project.root / ".env").write_text("RUNNER_STORE=/nonexistent\nPYTHONPATH=.\nPYTHONSTARTUP=conftest.py\n")
    (project.root / "evil.pth").write_text("import os; open('SPRUNG', 'a')\n")
    (project.root / "pyvenv.cfg").write_text("home = .\n")
    (project.root / ".git").mkdir()
    (project.root / ".git/config").write_text(
        "[core]\n fsmonitor = ./bin/git\n hooksPath = .git/hooks\n[diff]\n external = ./bin/git\n"
    )
    for name in (*TRAPS, *DECLARED):
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text(TRAP)
    for name in HOOKS:
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text(f"#!/bin/sh\ntouch {project.root}/SPRUNG\n")
        (project.root / name).chmod(0o755)
    project.env = {**env, "PYTHONDONTWRITEBYTECODE": "1"}
    return project


def kernel_calls(project: Project, *args: str) -> list[str]:
    """Run a command; return the system calls of it and of all that it starts."""
    trace = project.root.parent / f"{project.root.name}.trace"
    done = subprocess.run(
        ["strace", "-f", "-o", trace, "-e", f"trace={CALLS}", RUNNER, *args],
        cwd=project.root, env=project.env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 3), done
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    assert len(calls) > 100
    return [call for call in calls if not re.search(r"= -1 E(NOENT|EXIST|NOTDIR)", call)]


def written(project: Project, calls: list[str]) -> set[str]:
    """The files, as seen from the project, that were opened for writing, made, renamed or removed."""
    touched = set()
    for call in calls:
        if call.startswith("open") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", call):
            continue
        if call.startswith(("execve", "fork", "vfork", "clone", "socket", "connect", "+++", "---", "exit")):
            continue
        paths = [os.path.join(project.root, found) for found in re.findall(r'"([^"]*)"', call)]
        touched |= {os.path.relpath(path, project.root) for path in paths}
    return {re.sub(r"\.\d+\.partial$", "", name) for name in touched}


COMMANDS = [
    (["plan", "run.yaml"], set()),
    (["plan", "p.yaml", "-p", "x=2", "-o", "markdown"], set()),
    (["plan", ".", "-o", "json"], set()),
    (["plan", "p.yaml", "--references", "--out", "plan.json"], {"plan.json"}),
    (["validate", "p.yaml", "run.yaml"], set()),
    (["graph", "p.yaml"], set()),
    (["schema", "pipeline"], set()),
    (["runs"], set()),
    (["show", "RUN"], set()),
    (["logs", "RUN"], set()),
]


@needs_strace
@pytest.mark.reliability("J04")
@pytest.mark.parametrize(("args", "writes"), COMMANDS, ids=[" ".join(args) for args, _ in COMMANDS])
def test_who_only_looks_runs_no_program_opens_no_socket_and_writes_only_caches_and_what_is_named(trapped, args, writes):
    run = next((trapped.root / ".runner/runs").iterdir()).name
    calls = kernel_calls(trapped, *[run if arg == "RUN" else arg for arg in args])
    assert sum(call.startswith(("execve(", "execveat(")) for call in calls) == 1
    assert [c for c in calls if c.startswith(("socket(", "connect(", "fork(", "vfork(", "clone"))] == []
    assert {n for n in written(trapped, calls) if not re.fullmatch(r"\.runner/(index\.db.*|compiled.*)", n)} == writes
    assert not (trapped.root / "SPRUNG").exists()
    opened = {
        os.path.relpath(os.path.join(trapped.root, n), trapped.root) for c in calls for n in re.findall(r'"([^"]*)"', c)
    }
    assert opened & {*TRAPS, *HOOKS, ".env", "evil.pth", "pyvenv.cfg"} == set()


@needs_strace
@pytest.mark.reliability("J04")
def test_a_plan_since_a_revision_runs_git_alone_and_nothing_that_its_repository_names(trapped):
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git")
    shutil.rmtree(trapped.root / ".git")
    (trapped.root / ".gitattributes").write_text("* filter=evil diff=evil\n")
    for words in (
        "init -q", "add -A", "-c user.name=n -c user.email=e commit -qm c", "config core.fsmonitor ./bin/git", "config core.hooksPath .git/hooks",
        "config filter.evil.clean ./bin/git", "config filter.evil.process ./bin/git", "config diff.evil.textconv ./bin/git", "config diff.evil.command ./bin/git",
        "config diff.external ./bin/git", "config core.pager ./bin/git", "config alias.diff !./bin/git", "config core.sshCommand ./bin/git",
    ):  # fmt: skip
        subprocess.run([git, *words.split(" ", words.count(" "))], cwd=trapped.root, check=True, capture_output=True)
    (trapped.root / ".git/hooks").mkdir(exist_ok=True)
    (trapped.root / ".git/hooks/post-index-change").write_text("#!/bin/sh\ntouch SPRUNG\n")
    (trapped.root / ".git/hooks/post-index-change").chmod(0o755)
    for name in ("run.yaml", "mod.py"):
        (trapped.root / name).write_text((trapped.root / name).read_text() + "\n# edited\n")
    calls = kernel_calls(trapped, "plan", ".", "--base", "HEAD")
    programs = {found[1] for call in calls if (found := re.match(r'execve\("([^"]*)"', call))}
    assert programs <= {RUNNER, git, os.path.realpath(git)}, programs
    assert not (trapped.root / "SPRUNG").exists()


@pytest.mark.reliability("J04")
@pytest.mark.parametrize("command", [["plan", "p.yaml"], ["show", "RUN"], ["apply", "p.yaml"]], ids=lambda c: c[0])
def test_no_module_comes_from_the_folder_that_the_runner_stands_in(trapped, command):
    """The search path of modules, seen from inside: neither the current folder nor the project is on it."""
    seen = trapped.root.parent / "seen"
    spy = trapped.root.parent / f"{trapped.root.name}-spy"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(
        f"import atexit, os, sys\natexit.register(lambda: open({str(seen)!r}, 'a').write(chr(10).join([*sys.path, *(getattr(m, '__file__', None) or '' for m in list(sys.modules.values()))]) + chr(10)))\n"
    )
    run = next((trapped.root / ".runner/runs").iterdir()).name
    env = {**trapped.env, "PYTHONPATH": str(spy)}
    subprocess.run(
        [RUNNER, *[run if a == "RUN" else a for a in command]], cwd=trapped.root, env=env, capture_output=True
    )
    places = set(seen.read_text().splitlines())
    assert len(places) > 50
    assert [p for p in places if p in (".", str(trapped.root)) or p.startswith(f"{trapped.root}/")] == []


def victim(tmp_path: Path) -> Path:
    """Somebody's database beside the project."""
    with sqlite3.connect(tmp_path / "victim.db") as found:
        found.execute("CREATE TABLE letters (text TEXT)")
    found.close()
    return tmp_path / "victim.db"


@pytest.mark.reliability("J04")
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("command", ["plan p.yaml", "runs", "apply p.yaml"])
def test_an_index_that_is_a_link_is_not_written_through(project, tmp_path_factory, command, end):
    other = victim(tmp_path_factory.mktemp("other"))
    before = other.read_bytes()
    project.pipeline("steps: {a: {kind: shell, script: 'true'}}")
    for folder in ("runs", "objects", "trees", "plans", "quarantine", "tmp"):
        (project.root / ".runner" / folder).mkdir(parents=True)
    (project.root / ".runner/format").write_text("1\n")
    (project.root / f".runner/index.db{end}").symlink_to(other)
    answer = project.runner(*command.split())
    assert (answer.code, answer.err) == (
        5,
        f"error: ROOT/.runner/index.db{end} is a link\n  = help: remove it: the index is made anew from the journals\n",
    )
    assert other.read_bytes() == before


@pytest.mark.reliability("J04")
def test_a_folder_of_caches_that_is_a_link_is_left_alone(project, tmp_path_factory):
    steps = "\n".join(f"  s{i}: {{kind: shell, script: 'true'}}" for i in range(200))
    project.pipeline(f"steps:\n{steps}\n")
    papers = tmp_path_factory.mktemp("papers")
    for number in range(20):
        (papers / f"{number}.txt").write_text("mine")
    (project.root / ".runner").mkdir()
    (project.root / ".runner/format").write_text("1\n")
    (project.root / ".runner/runs").mkdir()
    (project.root / ".runner/compiled").symlink_to(papers)
    assert project.runner("plan", "p.yaml").code == 0
    assert sorted(p.name for p in papers.iterdir()) == sorted(f"{n}.txt" for n in range(20))
