"""The wheel, built and run from an environment of its own in another folder, holds all that it needs."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import runner


def test_the_wheel_runs_from_an_empty_environment_in_another_folder(tmp_path):
    root = Path(runner.__file__).parent.parent
    source = tmp_path / "source"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True
    ).stdout.split("\n")
    wanted = [
        n
        for n in names
        if n.split("/")[0]
        in ("runner", "schemas", "setup.cfg", "pyproject.toml", "README.md", "MANIFEST.in", "LICENSE")
    ]
    for name in wanted or [
        str(p.relative_to(root)) for top in ("runner", "schemas") for p in (root / top).rglob("*.*")
    ]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((root / name).read_bytes())
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        (source / name).write_bytes((root / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path / "dist"), str(source)],
        check=True,
        capture_output=True,
    )
    wheel = next((tmp_path / "dist").glob("*.whl"))
    venv.create(tmp_path / "env", with_pip=True)
    subprocess.run([tmp_path / "env/bin/pip", "install", "-q", str(wheel)], check=True, capture_output=True)
    work = tmp_path / "work"
    work.mkdir()
    (work / "p.yaml").write_text(
        "apiVersion: runner/v1\nkind: Pipeline\nname: p\nsteps:\n"
        "  a: {kind: python, function: 'code_of:f', outputs: {n: {type: integer}}}\n"
        "  b: {kind: command, command: [echo, $(steps.a.outputs.n)]}\n"
    )
    (work / "code_of.py").write_text("def f():\n    return {'n': 41 + 1}\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RUNNER_"))}
    for command in (
        ["apply", "p.yaml"],
        ["schema", "--write", "schemas"],
        ["init", "new"],
        ["apply", "new/pipelines/hello/runs/full.yaml"],
        ["store", "verify"],
        ["runs"],
    ):
        done = subprocess.run(
            [tmp_path / "env/bin/runner", *command], cwd=work, env=env, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), done
    assert sorted(p.name for p in (work / "schemas").iterdir()) == [
        "pipeline.schema.json",
        "plan.schema.json",
        "run.schema.json",
    ]
