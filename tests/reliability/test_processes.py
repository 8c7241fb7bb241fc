"""Steps that escape, ignore, daemonise and die: what is recorded of them, and that no process is left.

Every test runs as the user of the tests and, where that is root, as `nobody` too: but for one in the slow lane.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import kit

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"

# Five ways to get away from whoever looks only at a process group. Each ends its own process at once.
DAEMON = """
import os, signal, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.closerange(0, 256)
os.execve(sys.executable, ["x", "-c", "import time; time.sleep(3600)"], {})
"""
REFORK = """
import os, time
for _ in range(100000):
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.002)
"""
DEAF = """
import os, signal, time
if os.fork():
    os._exit(0)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
time.sleep(3600)
"""
STOPPED = """
import os, signal
if os.fork():
    os._exit(0)
os.kill(os.getpid(), signal.SIGSTOP)
signal.pause()
"""
REAPER = """
import ctypes, os, time
if os.fork():
    os._exit(0)
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
time.sleep(3600)
"""
ESCAPES = {
    "background": "sleep 3600 &",
    "setsid": "setsid sleep 3600 >/dev/null 2>&1 &",
    "daemon": f"python -c '{DAEMON}'",
    "refork": f"python -c '{REFORK}'",
    "deaf": f"python -c '{DEAF}'",
    "stopped": f"python -c '{STOPPED}'",
    "own reaper": f"python -c '{REAPER}'",
}


def ways(*quick: str) -> list[Any]:
    """All ways to get away; those that are not named are for the slow lane."""
    return [pytest.param(way, marks=[] if way in quick else [pytest.mark.slow]) for way in ESCAPES]


def becoming(user: str) -> list[str]:
    """What starts a program as a user who may read, but not change, what the user of the tests has."""
    may = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups", *may] if user else []


class Project:
    """A folder with a pipeline, and the real program in it as one user."""

    def __init__(self, root: Path, user: str) -> None:
        self.root, self.user = root, user
        (root / "runner.toml").touch()
        # Where steps leave signs for a test: they are sealed from the project.
        self.beside = root.with_name(f"{root.name}-beside")
        self.beside.mkdir(exist_ok=True)
        self.beside.chmod(0o777)

    def pipeline(self, steps: str, head: str = "") -> None:
        (self.root / "p.yaml").write_text(HEAD + head + "steps:\n" + steps)
        if self.user:
            subprocess.run(["chown", "-R", self.user, self.root], check=True)

    def start(self, *args: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, *becoming(self.user), *kit.RUNNER, *args], cwd=self.root, env=kit.environment(HOME=str(self.root)), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *args: str) -> tuple[int, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=60)
        assert "Traceback (most recent call last)" not in err, err
        return process.returncode, out

    def events(self) -> list[dict]:
        """The journal of the newest run."""
        return max(kit.journals(self.root / ".runner"), key=lambda run: run[1][0]["at"])[1]

    def ends(self) -> dict[str, dict]:
        return {event["step"]: event for event in self.events() if event["event"] == "step_ended"}

    def statuses(self) -> dict[str, str]:
        return {step: event["status"] for step, event in self.ends().items()}


@pytest.fixture(params=[pytest.param("", id="me"), pytest.param("nobody", id="nobody", marks=pytest.mark.slow)])
def project(request, tmp_path):
    if not request.param:
        return Project(tmp_path, "")
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv to become nobody")
    for folder in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    return Project(tmp_path, request.param)


def block(text: str) -> str:
    return "|\n" + "".join(f"      {line}\n" for line in text.strip("\n").splitlines())


def escaping(project: Project, way: str, main: str = "", more: str = "") -> None:
    """One step that starts something to get away, tells that it has, and then does `main`."""
    text = f"export COOKIE={project.root}\n{ESCAPES[way]}\nsleep 0.2\ntouch {project.beside}/up\n{main}\necho 1 > o"
    project.pipeline(f"  a:\n    kind: shell\n    outputs: {{o: {{type: file}}}}\n{more}    script: {block(text)}")


def below(project: Project, process: subprocess.Popen[str]) -> dict[int, int]:
    """All processes of the running steps, with when they started: whoever is below a worker."""
    kit.eventually((project.beside / "up").exists)
    time.sleep(0.1)
    workers = [worker for guard in kit.guards(process.pid) for worker in kit.children(guard)]
    return {pid: kit.started_at(pid) for worker in workers for pid in kit.descendants(worker)}


def left_after(seconds: float, people: dict[int, int], cookie: str) -> list[int]:
    """Who is still there after a time; at the latest then, all are ended."""
    until = time.monotonic() + seconds
    while (left := {*kit.survivors(people), *kit.alive(f"COOKIE={cookie}")}) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return sorted(left)


# --- C: how a step ends --------------------------------------------------------------------------------------------


@pytest.mark.reliability("C01")
def test_every_end_is_recorded_as_it_was(project):
    codes = (1, 2, 126, 127, 255)
    signals = ("SEGV", "KILL", "PIPE", "TERM", "ABRT", "HUP", "USR1", "RTMIN+3")
    shells = [f"  s{i}: {{kind: shell, script: 'kill -{name} $$; sleep 9'}}\n" for i, name in enumerate(signals)]
    pythons = [
        f"  c{code}: {{kind: command, command: [python, -c, 'import os; os._exit({code})']}}\n" for code in codes
    ]
    project.pipeline("".join(shells + pythons), "failure_policy: finish_independent\n")
    assert project.run("apply", "p.yaml")[0] == 1
    assert {
        step: (e["status"], e["cause"], e.get("exit_code"), e.get("signal", "")) for step, e in project.ends().items()
    } == {
        **{f"c{code}": ("failed", "exit", code, "") for code in codes},
        **{f"s{i}": ("failed", "signal", None, f"SIG{name}") for i, name in enumerate(signals[:-1])},
        "s7": ("failed", "signal", None, "signal 37"),
    }


@pytest.mark.reliability("C03")
@pytest.mark.parametrize(
    ("script", "what"),
    [
        pytest.param("true", "did not write `o`", id="missing"),
        pytest.param("mkdir o", "is a directory", id="a directory"),
        pytest.param("mkfifo o", "is something else", id="a fifo"),
        pytest.param("ln -s /etc/hostname o", "is a symlink", id="a symlink"),
        pytest.param("echo 1 > x; ln -s x o", "is a symlink", id="a symlink inside"),
    ],
)
def test_an_output_that_is_not_what_was_declared_fails_and_is_not_cached(project, script, what):
    project.pipeline(f"  a: {{kind: shell, script: '{script}', outputs: {{o: {{type: file}}}}}}\n")
    codes = [project.run("apply", "p.yaml")[0] for _ in range(2)]
    end = project.ends()["a"]
    stored = list((project.root / ".runner/objects/sha256").glob("*/*"))
    assert (codes, end["status"], end["cause"], what in end["reason"], stored) == ([1, 1], "failed", "output", True, [])


@pytest.mark.reliability("C05", "H05")
@pytest.mark.parametrize("way", ways("background", "daemon", "refork", "deaf"))
def test_what_gets_away_from_a_step_is_ended_before_its_outputs_are_taken(project, way):
    escaping(project, way, "sleep 0.3", "    grace_period: 500ms\n")
    started = time.monotonic()
    process = project.start("apply", "p.yaml")
    people = below(project, process)
    process.communicate(timeout=30)
    took = time.monotonic() - started
    left = left_after(0, people, str(project.root))
    notes = project.ends()["a"].get("notes")
    assert (process.returncode, left, len(people) >= 2, notes, took < 12) == (
        0,
        [],
        True,
        ["it left processes behind, which were ended"],
        True,
    )


@pytest.mark.reliability("C07")
@pytest.mark.parametrize("whom", ["worker", "guard"])
def test_a_killed_worker_costs_the_step_that_it_had_and_no_other(project, whom):
    lines = [f"  s{i}: {{kind: shell, script: sleep 0.05}}\n" for i in range(10)]
    victim = f"  victim: {{kind: shell, script: 'export COOKIE={project.root}; setsid sleep 60 & touch {project.beside}/up; sleep 60'}}\n"
    project.pipeline(victim + "".join(lines), "failure_policy: finish_independent\n")
    process = project.start("apply", "p.yaml", "--workers", "2")
    kit.eventually((project.beside / "up").exists)
    step = kit.alive(f"COOKIE={project.root}")[0]
    chain = [step]
    while chain[-1] != process.pid:
        chain.append(int(Path(f"/proc/{chain[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    os.kill({"worker": chain[-4], "guard": chain[-3]}[whom], signal.SIGKILL)
    process.communicate(timeout=30)
    assert (process.returncode, left_after(2, {}, str(project.root))) == (1, [])
    assert project.statuses() == {"victim": "failed", **{f"s{i}": "succeeded" for i in range(10)}}
    assert (project.ends()["victim"]["cause"], project.ends()["victim"]["reason"]) == (
        "lost",
        "its worker process ended (killed by SIGKILL)",
    )


@pytest.mark.reliability("C07")
def test_the_process_that_workers_are_forked_from_can_be_killed_at_any_time(project):
    """What runs goes on, also a worker whose guard is the runner's then; the next worker is forked from another one."""
    project.pipeline(
        f"  a: {{kind: shell, script: 'touch {project.beside}/up; until test -e {project.beside}/go; do sleep 0.02; done; echo 1 > o', outputs: {{o: {{type: file}}}}}}\n"
        f"  b: {{kind: shell, inputs: {{a: $(steps.a.outputs.o)}}, script: sleep 0.1}}\n"
        f"  c: {{kind: shell, inputs: {{a: $(steps.a.outputs.o)}}, script: sleep 0.1}}\n"
    )
    process = project.start("apply", "p.yaml", "--workers", "3")
    people = below(project, process)
    [server] = kit.children(process.pid)
    os.kill(server, signal.SIGKILL)
    (project.beside / "go").touch()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, project.statuses(), err) == (0, dict.fromkeys("abc", "succeeded"), "")
    assert left_after(0, people, str(project.root)) == []


@pytest.mark.reliability("C11")
def test_each_attempt_begins_in_an_empty_folder(project):
    script = f"ls -A >> {project.beside}/seen; echo partial > o; echo x > other; test -e {project.beside}/again || {{ touch {project.beside}/again; exit 1; }}; echo whole > o"
    project.pipeline(
        f"  a: {{kind: shell, retry: {{max_attempts: 2}}, script: '{script}', outputs: {{o: {{type: file}}}}}}\n"
    )
    assert project.run("apply", "p.yaml")[0] == 0
    stored = [path.read_text() for path in (project.root / ".runner/objects/sha256").glob("*/*")]
    assert ((project.beside / "seen").read_text(), stored, project.ends()["a"]["attempt"]) == ("", ["whole\n"], 2)


@pytest.mark.reliability("C12")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param('trap "" TERM; sleep 60; sleep 60', id="trap"),
        pytest.param('trap "" TERM; setsid sleep 60 & sleep 60; sleep 60', id="trap and setsid"),
        pytest.param("kill -STOP $$; sleep 60", id="stopped"),
    ],
)
def test_a_step_that_will_not_end_is_dead_by_timeout_and_grace_and_a_second(project, script):
    project.pipeline(
        f"  a: {{kind: shell, timeout: 500ms, grace_period: 500ms, script: 'export COOKIE={project.root}; {script}'}}\n"
    )
    assert project.run("apply", "p.yaml")[0] == 1
    end = project.ends()["a"]
    assert (end["status"], end["cause"], end["seconds"] < 2, left_after(0, {}, str(project.root))) == (
        "failed",
        "timeout",
        True,
        [],
    )


# --- H and D03: how a run ends -------------------------------------------------------------------------------------


def four_running(project: Project, script: str) -> subprocess.Popen[str]:
    lines = [
        f"  s{i}: {{kind: shell, grace_period: 1s, script: 'export COOKIE={project.root}; {script.format(up=project.beside / f'up{i}')}'}}\n"
        for i in range(4)
    ]
    project.pipeline("".join(lines) + "  end: {kind: shell, script: 'true', needs: [s0]}\n")
    process = project.start("apply", "p.yaml", "--workers", "4")
    kit.eventually(lambda: len(list(project.beside.glob("up?"))) == 4)
    return process


@pytest.mark.reliability("H01")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_the_run_and_the_wish_is_written_first(project, number, code):
    process = four_running(project, "touch {up}; setsid sleep 60 & sleep 60")
    asked = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=15)
    took = time.monotonic() - asked
    assert (process.returncode, took < 3, left_after(0, {}, str(project.root))) == (code, True, [])
    assert project.statuses() == {**{f"s{i}": "stopped" for i in range(4)}, "end": "not_run"}
    names = [event["event"] for event in project.events()]
    last = project.events()[-1]
    assert names.index("run_stopping") < names.index("step_ended")
    assert (last["event"], last["status"], last["exit_code"]) == ("run_ended", "stopped", code)


@pytest.mark.reliability("H01")
def test_a_run_that_nohup_began_outlives_its_terminal(project):
    project.pipeline(f"  a: {{kind: shell, script: 'touch {project.beside}/up; sleep 1'}}\n")
    process = project.start("apply", "p.yaml", before=["nohup"])
    kit.eventually((project.beside / "up").exists)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=15)
    assert (process.returncode, project.statuses()) == (0, {"a": "succeeded"})


@pytest.mark.reliability("H02")
@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)],
)
def test_a_second_signal_kills_at_once_and_is_recorded(project, first, second):
    process = four_running(project, 'trap "" TERM; touch {up}; sleep 60; sleep 60')
    process.send_signal(first)
    kit.eventually(lambda: any(event["event"] == "run_stopping" for event in project.events()))
    asked = time.monotonic()
    process.send_signal(second)
    process.communicate(timeout=10)
    took = time.monotonic() - asked
    assert (process.returncode, took < 2, left_after(0, {}, str(project.root))) == (128 + first, True, [])
    assert set(project.statuses().values()) == {"stopped", "not_run"}


@pytest.mark.reliability("H02")
def test_a_second_signal_does_not_wait_until_a_large_output_is_hashed(project):
    up = project.beside / "up"
    project.pipeline(f"  a: {{kind: shell, script: 'truncate -s 60G o; touch {up}', outputs: {{o: {{type: file}}}}}}\n")
    process = project.start("apply", "p.yaml")
    kit.eventually(up.exists)
    time.sleep(0.5)  # it has ended; what it left takes half a minute to hash
    process.send_signal(signal.SIGTERM)
    kit.eventually(lambda: any(event["event"] == "run_stopping" for event in project.events()))
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - asked < 2) == (143, True)
    assert project.statuses() == {"a": "stopped"}


@pytest.mark.reliability("H01")
def test_a_crash_after_the_wish_to_stop_still_ends_as_stopped(project):
    process = four_running(project, 'trap "" TERM; touch {up}; sleep 60; sleep 60')
    process.send_signal(signal.SIGTERM)
    kit.eventually(lambda: any(event["event"] == "run_stopping" for event in project.events()))
    process.kill()
    process.communicate(timeout=10)
    listed = json.loads(project.run("runs", "-o", "json")[1])
    assert (listed[0]["status"], left_after(2, {}, str(project.root))) == ("stopped", [])


@pytest.mark.reliability("H01", "H02")
@pytest.mark.parametrize(
    ("keys", "code"), [(b"\x03", 130), (b"\x03\x03", 130), (None, 129)], ids=["ctrl-c", "twice", "hang-up"]
)
def test_a_terminal_stops_the_run(project, keys, code):
    project.pipeline(
        f"  a: {{kind: shell, grace_period: 1s, script: 'export COOKIE={project.root}; touch {project.beside}/up; sleep 60; sleep 60'}}\n"
    )
    pid, terminal = os.forkpty()
    if pid == 0:
        os.chdir(project.root)
        command = [*becoming(project.user), *kit.RUNNER, "apply", "p.yaml"]
        os.execvpe(command[0], command, kit.environment(HOME=str(project.root), TERM="xterm"))
    kit.eventually((project.beside / "up").exists)
    time.sleep(0.1)
    if keys is None:
        os.close(terminal)
    else:
        os.write(terminal, keys)
    ended = kit.eventually(lambda: ended_of(pid, None if keys is None else terminal), 15)
    assert (os.waitstatus_to_exitcode(ended[0]), left_after(0, {}, str(project.root))) == (code, [])
    assert (project.statuses(), project.events()[-1]["exit_code"]) == ({"a": "stopped"}, code)


def ended_of(pid: int, terminal: int | None) -> list[int]:
    """The wait status of a process in a terminal, whose output has to be read meanwhile; [] while it lives."""
    if terminal is not None:
        os.set_blocking(terminal, False)
        try:
            os.read(terminal, 1 << 16)
        except OSError:
            pass
    done, status = os.waitpid(pid, os.WNOHANG)
    return [status] if done else []


@pytest.mark.reliability("D03", "H05")
@pytest.mark.parametrize("way", ways("setsid", "daemon", "stopped", "own reaper"))
def test_when_the_runner_is_killed_no_process_of_a_step_is_left(project, way):
    escaping(project, way, f"test -e {project.beside}/go || sleep 3600")
    process = project.start("apply", "p.yaml")
    people = below(project, process)
    process.kill()
    left = left_after(2, people, str(project.root))
    process.communicate(timeout=5)
    assert (left, len(people) >= 2) == ([], True)


@pytest.mark.reliability("D03", "H05")
@pytest.mark.parametrize("project", ["nobody"], indirect=True)
def test_nobody_leaves_no_process_either(project):
    escaping(project, "daemon", "sleep 3600")
    process = project.start("apply", "p.yaml")
    people = below(project, process)
    process.kill()
    left = left_after(2, people, str(project.root))
    process.communicate(timeout=5)
    assert (left, Path(f"/proc/{os.getpid()}").stat().st_uid, len(people) >= 2) == ([], os.geteuid(), True)


@pytest.mark.reliability("D03")
@pytest.mark.parametrize("whom", ["runner and guard", "runner and worker", "guard and worker"])
def test_when_two_of_three_are_killed_the_third_clears_up(project, whom):
    escaping(project, "daemon", "sleep 3600")
    process = project.start("apply", "p.yaml")
    people = below(project, process)
    guard = kit.guards(process.pid)[0]
    pids = {"runner": process.pid, "guard": guard, "worker": kit.children(guard)[0]}
    for name in whom.split(" and "):
        os.kill(pids[name], signal.SIGKILL)
    left = left_after(2, people, str(project.root))
    process.kill()
    process.communicate(timeout=5)
    assert left == []


@pytest.mark.reliability("D03")
def test_a_resume_does_not_overlap_an_attempt_whose_supervisors_were_all_killed(project):
    project.pipeline(
        f"  a: {{kind: shell, script: 'export COOKIE={project.root}; touch {project.beside}/up; test -e {project.beside}/go || {{ setsid sleep 3600 & sleep 3600; }}'}}\n"
        f"  b: {{kind: shell, needs: [a], workdir: project, script: 'ls {project.root}/.runner/tmp/*/ > {project.beside}/seen'}}\n"
    )
    process = project.start("apply", "p.yaml")
    people = below(project, process)
    guard = kit.guards(process.pid)[0]
    for pid in (process.pid, guard, *kit.children(guard)):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=5) if not people else process.wait(5)
    (project.beside / "go").touch()
    old = project.events()[0]["run"]
    code, _ = project.run("retry", old)
    left = kit.survivors(people)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert (code, left, list((project.root / ".runner/tmp").iterdir())) == (0, [], [])


@pytest.mark.reliability("D03")
def test_a_foreign_process_that_only_looks_like_a_step_gets_no_signal(project):
    """Same variables but for the place, same folder: the sweep of a dead run leaves it alone."""
    escaping(project, "background", "sleep 3600")
    process = project.start("apply", "p.yaml")
    people = below(project, process)
    run = project.events()[0]["run"]
    work = next((project.root / f".runner/tmp/{run}").iterdir())
    stranger = subprocess.Popen(
        ["sleep", "60"], cwd=work, env={"RUNNER_RUN_ID": run, "TMPDIR": "/tmp", "PATH": os.environ["PATH"]}
    )
    process.kill()
    process.communicate(timeout=5)
    assert left_after(2, people, "nobody has this") == []
    (project.root / "p.yaml").write_text(HEAD + "steps:\n  a: {kind: shell, script: 'true'}\n")
    code, _ = project.run("apply", "p.yaml")
    living = stranger.poll()
    stranger.kill()
    assert (code, living, stranger.wait()) == (0, None, -signal.SIGKILL)


# --- a step that stops (SIGSTOP) or kills the processes that watch over it -------------------------------------------

# A step in the project's folder is not sandboxed: it can signal every process of its user.
STOPPER = """
import os, signal, sys, time

def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

def relatives():
    above = [os.getppid()]
    while b"\\0apply\\0" not in open(f"/proc/{above[-1]}/cmdline", "rb").read():
        above.append(parent(above[-1]))
    names = ("runner", "server", "guard", "worker", "parent of Python steps")
    return dict(zip(names, reversed(above)))

def step(whom):
    pids = relatives()
    for name in [name for name in whom if name != "again"]:
        os.kill(pids[name.removeprefix("killed ")], signal.SIGKILL if name.startswith("killed ") else signal.SIGSTOP)
    open(os.environ["HOME"] + "-beside/up", "w").close()
    while whom[-1] == "again":
        time.sleep(0.01)
        os.kill(pids["worker"], signal.SIGSTOP)
    time.sleep(60)

if __name__ == "__main__":
    step(sys.argv[1].split(", "))
"""


def stopping(project: Project, kind: str, whom: str, more: str = "") -> subprocess.Popen[str]:
    """Start a run whose step stops `whom`, when it has."""
    (project.root / "stopper.py").write_text(STOPPER)
    launch = {
        "shell": f"kind: shell, script: 'python stopper.py \"{whom}\"'",
        "python": f"kind: python, function: 'stopper:step', args: {{whom: [{whom}]}}",
    }[kind]
    project.pipeline(f"  a: {{{launch}, workdir: project, grace_period: 500ms{more}}}\n")
    process = project.start("apply", "p.yaml")
    kit.eventually((project.beside / "up").exists)
    return process


def relatives_left(project: Project, seconds: float) -> list[int]:
    """Who is still there of a run after a time, the fork server and the guards among them; they are ended then."""
    until = time.monotonic() + seconds
    while (left := kit.alive(f"HOME={project.root}")) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


WHOM = [
    pytest.param("shell", "worker", id="worker"),
    pytest.param("shell", "server, guard, worker", id="all"),
    pytest.param("python", "worker, guard, server, parent of Python steps", id="all of a Python step"),
    pytest.param("python", "parent of Python steps", id="parent of Python steps"),
    pytest.param("shell", "guard", id="guard", marks=pytest.mark.slow),
    pytest.param("shell", "server", id="server", marks=pytest.mark.slow),
    pytest.param("shell", "killed server, worker", id="killed server", marks=pytest.mark.slow),
    pytest.param("shell", "killed server, guard, worker", id="killed server and guard", marks=pytest.mark.slow),
    pytest.param("shell", "guard, worker, again", id="again and again", marks=pytest.mark.slow),
]


@pytest.mark.reliability("C12")
@pytest.mark.parametrize(("kind", "whom"), WHOM)
def test_a_stopped_process_does_not_hold_up_a_timeout(project, kind, whom):
    process = stopping(project, kind, whom, ", timeout: 1s")
    begun = time.monotonic()
    process.communicate(timeout=30)
    took = time.monotonic() - begun
    end = project.ends()["a"]
    assert (process.returncode in (1, 6), end["status"], end["cause"] in ("timeout", "environment")) == (
        True,
        "failed",
        True,
    )
    assert (relatives_left(project, 0), took < 10) == ([], True)


@pytest.mark.reliability("H01", "H02")
@pytest.mark.parametrize("signals", [1, 2], ids=["first signal and grace period", "second signal"])
@pytest.mark.parametrize(("kind", "whom"), WHOM)
def test_a_stopped_process_does_not_hold_up_the_end_by_a_signal(project, kind, whom, signals):
    process = stopping(project, kind, whom)
    process.send_signal(signal.SIGTERM)
    for _ in range(signals - 1):
        kit.eventually(lambda: any(event["event"] == "run_stopping" for event in project.events()))
        process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.communicate(timeout=30)
    took = time.monotonic() - begun
    assert (process.returncode, set(project.statuses().values()) <= {"stopped", "failed"}) == (143, True)
    assert (relatives_left(project, 0), took < 10) == ([], True)


@pytest.mark.reliability("D03")
@pytest.mark.parametrize(("kind", "whom"), [one for one in WHOM if "again" not in str(one)])
def test_a_stopped_process_is_not_left_when_the_runner_is_killed(project, kind, whom):
    process = stopping(project, kind, whom)
    process.kill()
    left = relatives_left(project, 3)
    process.communicate(timeout=5)
    assert left == []


@pytest.mark.reliability("C07")
def test_a_worker_that_was_stopped_goes_on_without_a_timeout(project):
    """Nobody else would find it: its step has ended."""
    project.pipeline(
        "  a: {kind: shell, workdir: project, script: 'kill -STOP $PPID; echo 1 > $RUNNER_OUTPUT_DIR/o', outputs: {o: {type: file}}}\n"
    )
    assert project.run("apply", "p.yaml")[0] == 0
    assert (project.statuses(), relatives_left(project, 0)) == ({"a": "succeeded"}, [])


@pytest.mark.reliability("C07")
def test_a_worker_that_is_stopped_again_is_killed_and_its_step_fails(project):
    process = stopping(project, "shell", "worker, again")
    process.communicate(timeout=30)
    end = project.ends()["a"]
    assert (process.returncode, end["cause"], end["reason"]) == (
        6,
        "environment",
        "its worker process was stopped (SIGSTOP) again and again, and was killed",
    )
    assert relatives_left(project, 0) == []


# --- time: an attempt lasts until its outputs are stored ------------------------------------------------------------


@pytest.mark.reliability("C12")
@pytest.mark.parametrize(
    ("script", "output", "what"),
    [("truncate -s 1T o", "file", "o"), ("mkdir o; truncate -s 1T o/x", "dir", "o/x")],
    ids=["file", "directory"],
)
def test_a_timeout_ends_the_hashing_of_outputs(project, script, output, what):
    project.pipeline(f"  a: {{kind: shell, timeout: 1s, script: '{script}', outputs: {{o: {{type: {output}}}}}}}\n")
    begun = time.monotonic()
    code, _ = project.run("apply", "p.yaml")
    end = project.ends()["a"]
    said = re.sub(r"\d[\d.]* [kMGT]?B", "N", end["reason"])
    assert (code, end["cause"], said) == (1, "timeout", f"timed out while hashing {what} (N of N)")
    assert (time.monotonic() - begun < 10, list((project.root / ".runner/tmp").iterdir())) == (True, [])


@pytest.mark.reliability("H01")
def test_one_signal_ends_the_hashing_of_outputs_after_the_grace_period(project):
    up = project.beside / "up"
    project.pipeline(
        f"  a: {{kind: shell, grace_period: 500ms, script: 'truncate -s 1T o; touch {up}', outputs: {{o: {{type: file}}}}}}\n"
    )
    process = project.start("apply", "p.yaml")
    kit.eventually(up.exists)
    time.sleep(0.5)  # it has ended
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - begun < 5) == (143, True)
    assert project.statuses() == {"a": "stopped"}


@pytest.mark.reliability("H05")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a program with the rights of another user")
def test_a_program_with_the_rights_of_another_user_is_not_waited_for_in_the_end(tmp_path):
    """As `sudo` in a step: nobody but its user can end it, so who clears up must not try for ever."""
    script = """
        import os, time
        from runner.executors.processes import become_subreaper, end_all
        become_subreaper()
        if os.fork() == 0:
            time.sleep(60)
        os.setuid(65534)
        end_all(frozenset())
        print("went on")
    """
    begun = time.monotonic()
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert (process.stdout.readline(), time.monotonic() - begun < 10) == ("went on\n", True)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
