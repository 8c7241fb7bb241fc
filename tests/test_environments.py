"""Virtual environments of runtimes: made once by the real uv and pip from wheels written by hand, without a network."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest

import runner
from runner.environments import Venv, contents, interpreter_of, lacks, prepare
from runner.errors import EnvironmentFailure, Moved

UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
TOOLS = [pytest.param("uv", marks=pytest.mark.skipif(UV is None, reason="uv is not installed")), "pip"]
WITHOUT_UV = os.pathsep.join(folder for folder in os.get_exec_path() if not os.path.exists(f"{folder}/uv"))
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture(autouse=True)
def tools(tmp_path, monkeypatch) -> dict[str, Path]:
    """Folders for PATH with uv in it or not; what is there comes first, so uv where it is installed."""
    folders = {tool: tmp_path / "tools" / tool for tool in ("uv", "pip")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["uv"] / "uv").symlink_to(UV or "missing")
    monkeypatch.setenv("PATH", f"{folders['uv']}:{WITHOUT_UV}")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folders


@pytest.fixture(params=TOOLS)
def tool(request, tools, monkeypatch) -> str:
    monkeypatch.setenv("PATH", f"{tools[request.param]}:{WITHOUT_UV}")
    return request.param


def wheel(folder: Path, value: int = 1) -> None:
    """Write a wheel whose only module says VALUE."""
    parts = {
        "tiny.py": f"VALUE = {value}\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as file:
        for name, text in parts.items():
            file.writestr(name, text)
        file.writestr(
            "tiny-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in [*parts, "tiny-1.0.dist-info/RECORD"])
        )


def source(folder: Path, script: str) -> None:
    """Write a package that is built by running a script in its folder, and then is the wheel above."""
    wheel(folder)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "tiny"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(
        "import os, pathlib, shutil, time\n"
        "def build_wheel(target, settings=None, metadata=None):\n"
        + textwrap.indent(textwrap.dedent(script).strip(), "    ")
        + "\n    return shutil.copy('tiny-1.0-py3-none-any.whl', target).rpartition('/')[2]\n"
    )


def wanted(folder: Path, text: str = "--no-index\n./tiny-1.0-py3-none-any.whl\n", **more: str) -> Venv:
    """Write a requirements file; return the environment it asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "requirements.txt"
    file.write_text(text)
    return Venv(more.get("name", "train"), str(file), digest(file), more.get("python", ""))


def digest(file: Path) -> str:
    return "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()


def plain(text: str) -> str:
    return re.sub(r"\d+\.\d s\b", "N s", text)


def value(python: str) -> str:
    """What the wheel's module says in an environment, and which folder that is."""
    words = "import sys, tiny; print(tiny.VALUE, sys.prefix)"
    return subprocess.run([python, "-I", "-c", words], capture_output=True, text=True, check=True).stdout


def started(venv: Venv, folder: Path) -> subprocess.Popen[str]:
    """Prepare an environment in a process of its own, which prints what it tells and then the path."""
    words = "import sys; from runner.environments import *; say = lambda text: print(text, flush=True); say(prepare(Venv(*sys.argv[2:]), sys.argv[1], say))"
    return subprocess.Popen(
        [sys.executable, "-c", words, folder, venv.name, venv.requirements, venv.digest],
        env={**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, f"{file} never came"
        time.sleep(0.01)


def test_an_environment_is_made_once_and_then_found(tmp_path, tool):
    wheel(tmp_path / "project")
    venv, made = wanted(tmp_path / "project"), tmp_path / "made"
    said: list[str] = []
    python = prepare(venv, str(made), said.append)
    assert [plain(line) for line in said] == [
        "making the environment `train` (1 requirement) …",
        "made the environment `train` in N s",
    ]
    place = Path(python).parent.parent
    assert len(list(place.glob("lib/*/site-packages/__pycache__/tiny.*.pyc"))) == 1
    assert (python, value(python)) == (interpreter_of(venv, str(made)), f"1 {place}\n")
    assert sorted(os.listdir(made)) == [place.name, f"{place.name}.lock"]
    before = os.stat(place / "ready")
    began = time.monotonic()
    assert prepare(venv, str(made), said.append) == python
    assert (len(said), os.stat(place / "ready"), time.monotonic() - began < 0.1) == (2, before, True)


def test_paths_are_taken_as_pip_takes_them_and_modules_of_the_project_stay_out_of_the_way(tmp_path, tool):
    """Nested files lie beside the file that names them, packages in the folder of the first one."""
    project = tmp_path / "project"
    wheel(project / "wheels")
    for name in ("pip.py", "venv.py"):
        (project / name).write_text("raise SystemExit('not the one that was meant')\n")
    (project / "more").mkdir()
    (project / "more/first.txt").write_text("-c limits.txt\n./wheels/tiny-1.0-py3-none-any.whl  # by hand\n")
    (project / "more/limits.txt").write_text("tiny<2\n")
    venv = wanted(project, "--no-index\n\n# what training needs\n-r more/first.txt\n")
    said: list[str] = []
    python = prepare(venv, str(tmp_path / "made"), said.append)
    assert (value(python)[0], said[0]) == ("1", "making the environment `train` (1 requirement) …")
    assert contents(venv.requirements).files == (
        venv.requirements,
        f"{project}/more/first.txt",
        f"{project}/more/limits.txt",
        f"{project}/wheels/tiny-1.0-py3-none-any.whl",
    )


@pytest.mark.parametrize(
    ("line", "count", "named"),
    [
        pytest.param("./a.whl", 1, ["a.whl"], id="a path"),
        pytest.param("a.whl[extra] ; python_version > '3'", 1, ["a.whl"], id="with extras and a marker"),
        pytest.param("a @ file:./a.whl --hash=sha256:00", 1, ["a.whl"], id="by name, with a hash"),
        pytest.param("a @ file:a.whl#sha256=00", 1, ["a.whl"], id="with a fragment"),
        pytest.param("--requirement=more.txt", 1, ["more.txt", "a.whl"], id="a nested file"),
        pytest.param("-cmore.txt", 0, ["more.txt", "a.whl"], id="constraints"),
        pytest.param("-r requirements.txt", 0, [], id="itself"),
        pytest.param("-r missing.txt", 0, [], id="a file that is not there"),
        pytest.param("numpy==2.0 \\\n  --hash=sha256:00", 1, [], id="a name"),
        pytest.param("train", 1, [], id="a name that a folder has too"),
        pytest.param("# ./a.whl", 0, [], id="a comment"),
        pytest.param("./train", 1, ["train"], id="a folder"),
        pytest.param("-e train[extra]", 1, ["train"], id="a folder in place"),
        pytest.param("--find-links=train", 0, ["train"], id="a folder of wheels"),
        pytest.param("--no-index", 0, [], id="an option"),
    ],
)
def test_what_a_line_names(tmp_path, line, count, named):
    (tmp_path / "a.whl").touch()
    (tmp_path / "train").mkdir()
    (tmp_path / "more.txt").write_text("a.whl\n")
    found = contents(wanted(tmp_path, line + "\n").requirements)
    assert (found.requirements, [*found.files[1:], *found.folders]) == (count, [f"{tmp_path}/{name}" for name in named])


def test_what_is_installed_decides_the_place(tmp_path):
    project, other = tmp_path / "project", tmp_path / "other"
    wheel(project)
    wheel(other)
    first = interpreter_of(wanted(project), str(tmp_path))
    assert interpreter_of(wanted(other, name="test"), str(tmp_path)) == first
    assert interpreter_of(wanted(project, python=HERE), str(tmp_path)) == first
    second = interpreter_of(wanted(project, "./tiny-1.0-py3-none-any.whl\n"), str(tmp_path))
    wheel(other, value=2)
    third = interpreter_of(wanted(other), str(tmp_path))
    fourth = interpreter_of(wanted(project, "-e .\n"), str(tmp_path))
    fifth = interpreter_of(wanted(other, "-e .\n"), str(tmp_path))
    assert len({first, second, third, fourth, fifth}) == 5


def test_two_at_once_make_it_once(tmp_path):
    project, made = tmp_path / "project", tmp_path / "made"
    source(project / "slow", "pathlib.Path('began').touch()\nwhile not os.path.exists('go'): time.sleep(0.01)")
    venv = wanted(project, "--no-index\n./slow\n")
    first = started(venv, made)
    until(project / "slow/began")
    second = started(venv, made)
    waiting = second.stdout.readline()
    (project / "slow/go").touch()
    python = interpreter_of(venv, str(made))
    assert plain(first.communicate(timeout=60)[0]) == (
        f"making the environment `train` (1 requirement) …\nmade the environment `train` in N s\n{python}\n"
    )
    assert waiting + second.communicate(timeout=60)[0] == (
        f"waiting for the environment `train`, which another process makes\n{python}\n"
    )
    assert value(python)[0] == "1"


def test_what_a_killed_process_began_is_waited_for_and_made_anew(tmp_path):
    """pip and uv live on when the runner is killed; nobody may take the folder that they still write to."""
    project, made = tmp_path / "project", tmp_path / "made"
    source(project / "slow", "pathlib.Path('began').touch()\nwhile not os.path.exists('go'): time.sleep(0.01)")
    venv = wanted(project, "--no-index\n./slow\n")
    first = started(venv, made)
    until(project / "slow/began")
    first.send_signal(signal.SIGKILL)
    assert first.communicate(timeout=60)[0] == "making the environment `train` (1 requirement) …\n"
    python = interpreter_of(venv, str(made))
    Path(python).parent.with_name("left-by-the-first").touch()
    second = started(venv, made)
    waiting = second.stdout.readline()
    (project / "slow/go").touch()
    assert plain(waiting + second.communicate(timeout=60)[0]) == (
        "waiting for the environment `train`, which another process makes\n"
        "making the environment `train` (1 requirement) …\n"
        "made the environment `train` in N s\n"
        f"{python}\n"
    )
    assert (value(python)[0], Path(python).parent.with_name("left-by-the-first").exists()) == ("1", False)


@pytest.mark.parametrize(
    ("marker", "interpreter"),
    [
        pytest.param("left-over", sys.executable, id="half made"),
        pytest.param("ready", None, id="interpreter gone"),
        pytest.param("ready", "/nowhere/python", id="interpreter dangling"),
    ],
)
def test_what_is_not_whole_is_made_anew(tmp_path, marker, interpreter):
    wheel(tmp_path / "project")
    venv, made = wanted(tmp_path / "project"), str(tmp_path / "made")
    python = Path(interpreter_of(venv, made))
    python.parent.mkdir(parents=True)
    for name in (marker, "left-over"):
        (python.parent.parent / name).touch()
    interpreter is None or python.symlink_to(interpreter)
    said: list[str] = []
    assert prepare(venv, made, said.append) == str(python)
    assert (len(said), value(str(python))[0], (python.parent.parent / "left-over").exists()) == (2, "1", False)


def test_a_requirement_that_fails_is_told_in_the_last_words_of_the_tool(tmp_path, tool):
    project, made = tmp_path / "project", tmp_path / "made"
    source(
        project / "noisy",
        "for n in range(50): print('line', n, flush=True)\nraise SystemExit('no compiler \\x1b[31mhere')",
    )
    venv = wanted(project, "--no-index\n./noisy\n")
    said: list[str] = []
    with pytest.raises(EnvironmentFailure) as failure:
        prepare(venv, str(made), said.append)
    first, *last = failure.value.text.splitlines()
    assert first == f"the environment `train` cannot be made: {tool} ended with exit status 1"
    assert (len(last), "\x1b" in failure.value.text, failure.value.exit_status) == (20, False, 6)
    assert any("no compiler" in line for line in last)
    settings = {"uv": "UV_* or uv.toml; it does not read pip's settings", "pip": "PIP_* or pip.conf"}[tool]
    assert failure.value.help == (
        f"correct {venv.requirements}; an index or a proxy is set as for {tool} itself ({settings})"
    )
    assert said == ["making the environment `train` (1 requirement) …"]
    assert [name for name in os.listdir(made) if not name.endswith(".lock")] == []


def test_a_file_that_changed_after_planning_makes_nothing(tmp_path):
    wheel(tmp_path / "project")
    venv, made = wanted(tmp_path / "project"), tmp_path / "made"
    wanted(tmp_path / "project", "--no-index\n")
    said: list[str] = []
    with pytest.raises(Moved) as moved:
        prepare(venv, str(made), said.append)
    assert (str(moved.value), said, [n for n in os.listdir(made) if not n.endswith(".lock")]) == (
        f"error: {venv.requirements} or a file that it names is not what was planned for the environment `train`\n"
        "  = help: plan again",
        [],
        [],
    )


def test_a_file_that_changes_while_it_is_installed_leaves_nothing(tmp_path):
    project, made = tmp_path / "project", tmp_path / "made"
    venv = wanted(project, "--no-index\n./local\n")
    source(project / "local", f"pathlib.Path({venv.requirements!r}).write_text('tiny')")
    with pytest.raises(Moved):
        prepare(venv, str(made), print)
    assert [name for name in os.listdir(made) if not name.endswith(".lock")] == []


def test_the_tools_get_the_users_environment_less_what_leads_astray(tmp_path, tool, monkeypatch):
    project = tmp_path / "project"
    source(project / "local", f"pathlib.Path({str(tmp_path / 'environment')!r}).write_text(repr(dict(os.environ)))")
    venv = wanted(project, "--no-index\n./local\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://kept.invalid")
    for name in ("PYTHONPATH", "PYTHONHOME", "RUNNER_STORE", "PIP_TARGET", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/dropped")
    assert value(prepare(venv, str(tmp_path / "made"), print))[0] == "1"
    seen = (tmp_path / "environment").read_text()
    assert ("http://kept.invalid" in seen, "/dropped" in seen) == (True, False)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_this_machine_lacks(tmp_path):
    missing = "the runtime `train` asks for {}, which this machine lacks"
    wheel(tmp_path)
    assert lacks(wanted(tmp_path)) == ""
    assert lacks(wanted(tmp_path, python=HERE)) == ""
    assert lacks(wanted(tmp_path, python=sys.executable)) == ""
    assert lacks(wanted(tmp_path, python="3.99")) == missing.format("python3.99")
    assert lacks(wanted(tmp_path, python="/nowhere/python")) == missing.format("/nowhere/python")
    assert lacks(Venv("train", "", "", str(tmp_path))) == missing.format(tmp_path)
    assert lacks(Venv("train", "", "", sys.prefix)) == ""
    with pytest.raises(EnvironmentFailure) as failure:
        prepare(wanted(tmp_path, python="3.99"), str(tmp_path / "made"), print)
    assert (str(failure.value), failure.value.exit_status, (tmp_path / "made").exists()) == (
        f"error: {missing.format('python3.99')}\n  = help: install it here, or name another `python`",
        6,
        False,
    )


def test_a_script_on_the_path_that_stands_for_no_interpreter_is_passed_over(tmp_path, monkeypatch):
    """Version managers put a python3.12 on PATH that only says that there is none."""
    wheel(tmp_path)
    script(tmp_path / "shims/python3.77", "echo 'python3.77: command not found' >&2; exit 127")
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:{tmp_path}/real:{os.environ['PATH']}")
    venv = wanted(tmp_path, python="3.77")
    assert lacks(venv) == "the runtime `train` asks for python3.77, which this machine lacks"
    script(tmp_path / "real/python3.77", f'exec {sys.executable} "$@"')
    assert lacks(venv) == ""
    assert value(prepare(venv, str(tmp_path / "made"), print))[0] == "1"


def test_an_environment_of_another_python(tmp_path, tool):
    versions = [f"3.{minor}" for minor in range(10, 15) if f"3.{minor}" != HERE]
    wheel(tmp_path)
    there = [version for version in versions if not lacks(wanted(tmp_path, python=version))]
    there or pytest.skip("there is no other Python on PATH")
    python = prepare(wanted(tmp_path, python=there[0]), str(tmp_path / "made"), print)
    words = "import sys, tiny; print('%d.%d' % sys.version_info[:2])"
    assert subprocess.run([python, "-c", words], capture_output=True, text=True).stdout == f"{there[0]}\n"


def test_an_environment_that_is_there_already_is_taken_as_it_is(tmp_path):
    python, made = tmp_path / "mine/bin/python", tmp_path / "made"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    for given in ("mine", "mine/bin/python"):
        assert prepare(Venv("train", "", "", f"{tmp_path}/{given}"), str(made), print) == str(python)
    assert made.exists() is False


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    wheel(tmp_path)
    (tmp_path / "made").write_text("a file")
    with pytest.raises(EnvironmentFailure) as failure:
        prepare(wanted(tmp_path), str(tmp_path / "made"), print)
    assert str(failure.value) == (
        f"error: the environment `train` cannot be made: File exists: {tmp_path}/made\n"
        "  = help: free the space or give the rights that this needs"
    )
