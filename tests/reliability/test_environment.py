"""Where the machine gives less than usual: it works, or says in one sentence what is lacking; never a traceback, never a hang."""

import os
import resource
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.reliability import kit

PIPELINE = """
    apiVersion: runner/v1
    kind: Pipeline
    name: p
    steps:
      a: {kind: shell, script: "grep SigIgn /proc/self/status; ulimit -n; echo 1 > o", outputs: {o: {type: file}}}
      b: {kind: python, function: "m:f", code: [m.py], outputs: {v: {type: integer}}}
"""
COMMANDS = [
    "--help", "--version", "apply --help", "validate p.yaml", "plan p.yaml", "plan p.yaml -o json", "apply p.yaml",
    "apply p.yaml --again", "apply p.yaml --again -o json", "runs", "runs -o json", "show RUN", "show RUN -o json", "logs RUN a",
    "outputs RUN a", "diff RUN RUN", "graph p.yaml", "schema pipeline", "doctor", "doctor -o json", "store verify", "completion bash",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runner.toml").touch()
    (tmp_path / "m.py").write_text("def f():\n    return {'v': 1}\n")
    (tmp_path / "p.yaml").write_text(textwrap.dedent(PIPELINE))
    return tmp_path


def done(folder: Path) -> str:
    """Have a run, and return its id."""
    assert kit.run(folder, "apply", "p.yaml").returncode == 0
    return next((folder / ".runner/runs").iterdir()).name


def limited(folder: Path, limit: str, command: str) -> subprocess.CompletedProcess[str]:
    return kit.run(folder, *command.split(), preexec_fn=lambda: limit_to(limit))


def limit_to(text: str) -> None:
    name, value = text.split()
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (int(value), int(value)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_standard_output_is_one_sentence_and_what_ran_is_recorded(folder, command):
    words = command.replace("RUN", done(folder)).split()
    before = len(list((folder / ".runner/runs").iterdir()))
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*kit.RUNNER, *words], cwd=folder, env=kit.environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error")]
    assert (ended.returncode, lines) == (6, ["error: standard output cannot be written: No space left on device"])
    assert "Traceback" not in ended.stderr
    assert len(list((folder / ".runner/runs").iterdir())) - before == ("--again" in command)
    statuses = {events[-1]["event"] for _, events in kit.journals(folder / ".runner")}
    assert statuses == {"run_ended"}


@pytest.mark.parametrize("command", ["apply p.yaml --again", "apply p.yaml --again -o json", "plan p.yaml", "runs"])
def test_a_full_standard_error_changes_nothing(folder, command):
    done(folder)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*kit.RUNNER, *command.split()], cwd=folder, env=kit.environment(), stdout=subprocess.PIPE, stderr=full, text=True
        )  # fmt: skip
    assert (ended.returncode, bool(ended.stdout)) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGALRM])
def test_a_signal_that_the_parent_ignores_stops_no_run(folder, number):
    ended = kit.run(folder, "apply", "p.yaml", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN) and None)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_run_whose_parent_blocks_signals_can_be_stopped(folder):
    (folder / "p.yaml").write_text(
        textwrap.dedent(PIPELINE).replace("grep", "touch up; sleep 60; grep").replace("a: {", "a: {workdir: project, ")
    )
    every = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    process = kit.start(
        folder, "apply", "p.yaml", preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, every) and None
    )
    kit.eventually((folder / "up").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 143


@pytest.mark.parametrize("files", [1024, 256, 64, 30, 24])
def test_few_files_may_be_open_and_the_steps_find_the_limit_as_it_was(folder, files):
    ended = limited(folder, f"NOFILE {files}", "apply p.yaml --workers 8")
    assert (ended.returncode, ended.stderr) == (0, "")
    log = next((folder / ".runner/runs").glob("*/logs/a/1.log")).read_text().splitlines()
    assert log[-1] == str(files)


def test_where_few_files_may_be_open_more_steps_than_workers_wait(folder):
    steps = "".join(f"  s{i}: {{kind: shell, script: 'sleep 0.1'}}\n" for i in range(30))
    (folder / "p.yaml").write_text(f"apiVersion: runner/v1\nkind: Pipeline\nname: p\nsteps:\n{steps}")
    ended = limited(folder, "NOFILE 32", "apply p.yaml --workers 30")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("limit", "what"),
    [
        ("NOFILE 12", "error: too many files are open\n  = help: allow more by `ulimit -n`, or run with fewer --workers\n"),
        ("NOFILE 7", "error: too many files are open\n  = help: allow more by `ulimit -n`, or run with fewer --workers\n"),
        (f"AS {24 << 20}", "error: there is not enough memory\n  = help: allow more by `ulimit -v`, or end other programs\n"),
    ],
    ids=["12 files", "7 files", "24 MB"],
)  # fmt: skip
def test_too_little_is_one_sentence(folder, limit, what):
    ended = limited(folder, limit, "apply p.yaml")
    assert (ended.returncode, ended.stderr) == (6, what)


@pytest.mark.parametrize("size", [30, 40, 50, 60, 70, 80])
def test_little_memory_is_enough_or_one_sentence(folder, size):
    lacking = "error: there is not enough memory\n  = help: allow more by `ulimit -v`, or end other programs\n"
    ended = limited(folder, f"AS {size << 20}", "apply p.yaml")
    assert (ended.returncode, ended.stderr) in [(0, ""), (6, lacking)]


@pytest.mark.parametrize("size", [100, 200])
def test_little_memory_is_enough(folder, size):
    ended = limited(folder, f"AS {size << 20}", "apply p.yaml")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", ["runs", "doctor", "store verify"])
def test_a_folder_that_is_not_there_any_more_is_one_sentence(tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {' '.join(kit.RUNNER)} {command}"
    ended = subprocess.run(["sh", "-c", script], env=kit.environment(), capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (
        6,
        "error: the current folder is not there any more\n  = help: go to a folder of the project first\n",
    )


@pytest.mark.parametrize(
    "more",
    [{"TMPDIR": "/not/there"}, {"HOME": "/not/there"}, {"LC_ALL": "C", "LANG": ""}],
    ids=["TMPDIR", "HOME", "C"],
)
def test_a_variable_that_leads_nowhere_stops_no_run(folder, more):
    ended = subprocess.run(
        [*kit.RUNNER, "apply", "p.yaml"], cwd=folder, env=kit.environment(**more), capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# --- what a killed run left ----------------------------------------------------------------------------------------


def killed(folder: Path, files: int) -> Path:
    """A run that was killed, with some files in its attempt; return where they are."""
    up = folder.with_name(f"{folder.name}-up")
    up.mkdir(exist_ok=True)
    script = f"mkdir d; cd d; touch $(seq {files}); touch {up}/up; sleep 60"
    (folder / "k.yaml").write_text(
        f"apiVersion: runner/v1\nkind: Pipeline\nname: k\nsteps:\n  a: {{kind: shell, script: '{script}'}}\n"
    )
    process = kit.start(folder, "apply", "k.yaml")
    kit.eventually((up / "up").exists)
    process.kill()
    process.communicate()
    [place] = (folder / ".runner/tmp").iterdir()
    return place


@pytest.mark.parametrize("command", ["apply p.yaml --again", "apply p.yaml", "retry RUN", "store gc"])
def test_what_a_killed_run_left_goes_with_the_next_command(folder, command):
    done(folder)
    place = killed(folder, 100)
    path = folder / "k.yaml"
    path.write_text(path.read_text().replace("sleep 60", "true"))
    ended = kit.run(folder, *command.replace("RUN", place.name).split())
    assert (ended.returncode, list((folder / ".runner/tmp").iterdir())) == (0, [])


def test_what_a_killed_run_left_holds_up_the_first_step_for_a_moment_only(folder):
    killed(folder, 1)
    for number in range(100):
        inner = folder / f".runner/tmp/removed-test/{number}"
        inner.mkdir(parents=True)
        for name in range(200):
            (inner / str(name)).touch()
    ended = kit.run(folder, "apply", "p.yaml")
    assert (ended.returncode, list((folder / ".runner/tmp").iterdir())) == (0, [])
    assert ended.stderr in ("", "removing what killed runs left in the store; a signal leaves it to the next run\n")


def test_what_a_living_run_has_is_left_alone(folder):
    up = folder.with_name(f"{folder.name}-up")
    up.mkdir()
    script = f"echo 1 > o; touch {up}/up; until test -e {up}/go; do sleep 0.02; done; test -e o"
    (folder / "k.yaml").write_text(
        f"apiVersion: runner/v1\nkind: Pipeline\nname: k\nsteps:\n  a: {{kind: shell, script: '{script}'}}\n"
    )
    process = kit.start(folder, "apply", "k.yaml")
    kit.eventually((up / "up").exists)
    assert kit.run(folder, "apply", "p.yaml").returncode == 0
    (up / "go").touch()
    process.communicate(timeout=15)
    assert (process.returncode, os.listdir(folder / ".runner/tmp")) == (0, [])
