"""Planning executes nothing: what the kernel saw of `runner plan` in a project full of traps."""

import os
import re
import shutil
import subprocess
import sys

import pytest

RUNNER = shutil.which("runner", path=os.path.dirname(sys.executable))
TRAP = "import os; open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'SPRUNG'), 'a').write(__file__)\n"
TRAPS = ("conftest.py", "sitecustomize.py", "usercustomize.py", "yaml.py", "json.py", "click.py", "runner.py", "mod.py", "steps/__init__.py", "steps/one.py")  # fmt: skip


@pytest.fixture
def trapped(project):
    project.pipeline("""
        params: {x: {type: integer, default: 1}}
        steps:
          a: {kind: python, function: 'mod:f', args: {x: $(params.x)}, outputs: {n: {type: integer}}}
          b: {kind: python, function: 'steps.one:f', outputs: {n: {type: integer}}}
          c: {kind: command, command: [./tool, $(steps.a.outputs.n)], code: [tool]}
          d: {kind: shell, script: 'echo $(touch SPRUNG)', needs: [c]}
    """)
    project.request("select: [d]\nreference: latest\n")
    (project.root / ".env").write_text("RUNNER_STORE=/nonexistent\nPYTHONPATH=.\n")
    (project.root / "steps").mkdir()
    (project.root / "tool").write_text("#!/bin/sh\ntouch SPRUNG\n")
    (project.root / "tool").chmod(0o755)
    for name in ("mod.py", "steps/one.py", "steps/__init__.py"):
        (project.root / name).write_text("def f(x=1): return {'n': x}\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RUNNER_", "PYTHON"))}
    assert subprocess.run([RUNNER, "apply", "p.yaml"], cwd=project.root, env=env, capture_output=True).returncode in (
        0,
        1,
    )
    for name in TRAPS:
        (project.root / name).write_text(TRAP)
    (project.root / "SPRUNG").unlink(missing_ok=True)
    project.env = env
    return project


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("args", "writes"),
    [
        (["plan", "run.yaml"], set()),
        (["plan", "p.yaml", "-p", "x=2", "-o", "markdown"], set()),
        (["plan", ".", "-o", "json"], set()),
        (["plan", "p.yaml", "--references", "--out", "plan.json"], {"plan.json"}),
        (["validate", "p.yaml", "run.yaml"], set()),
    ],
)
def test_planning_runs_no_program_opens_no_socket_and_writes_only_the_store_and_what_is_named(trapped, args, writes):
    trace = trapped.root.parent / "trace"
    done = subprocess.run(
        ["strace", "-f", "-o", trace, "-e", "trace=execve,execveat,fork,vfork,clone,clone3,socket,connect,open,openat,creat,unlink,rename,mkdir", RUNNER, *args],
        cwd=trapped.root, env=trapped.env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 3), done
    lines = trace.read_text().splitlines()
    assert len(lines) > 100
    calls = [line.split(None, 1)[1] for line in lines]
    assert (
        sum(
            call.startswith(("execve(", "execveat(")) and not call.endswith("ENOENT (No such file or directory)")
            for call in calls
        )
        == 1
    )
    assert [c for c in calls if c.startswith(("socket(", "connect(", "fork(", "vfork("))] == []
    written = {
        found[1]
        for call in calls
        if re.search(r"O_WRONLY|O_RDWR|O_CREAT", call)
        and "ENOENT" not in call
        and (found := re.search(r'"([^"]*)"', call))
    }
    named = {name for path in written for name in [os.path.relpath(os.path.join(trapped.root, path), trapped.root)]}
    own = {n for n in named if not n.startswith(".runner/") and not n.startswith("../") and not n.endswith(".pyc")}
    assert {re.sub(r"\.\d+\.partial$", "", name) for name in own} == writes, own
    assert not (trapped.root / "SPRUNG").exists()
