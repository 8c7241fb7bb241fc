"""What a memory limit does to real processes. Skipped, by name, where no cgroup with a memory limit may be made."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.executors import cgroup
from runner.executors.cgroup import Group, memory_group

LIMIT = 64 << 20
ENTER = 'echo 0 > "$0" && exec "$@"'  # a shell that enters the group, then becomes the program


def none_may_be_made():
    probe = memory_group(LIMIT, f"probe-{os.getpid()}")
    if probe:
        probe.remove()
    return probe is None


needs_memory_group = pytest.mark.skipif(none_may_be_made(), reason="no cgroup with a memory limit may be made here")


@pytest.fixture
def group():
    made = memory_group(LIMIT, f"test-{os.getpid()}")
    assert made is not None
    yield made
    made.remove()
    assert not os.path.exists(made.path)


def start_in(group, *argv):
    """Start a program that is in the group from its first instruction on."""
    return subprocess.Popen(["sh", "-c", ENTER, group.procs_path, *argv], stdout=subprocess.PIPE, text=True)


def run_in(group, *argv):
    """Run a program in the group; return how it ended and what it printed."""
    with start_in(group, *argv) as started:
        printed, _ = started.communicate(timeout=60)
        return started.returncode, printed


def python(script):
    return [sys.executable, "-I", "-S", "-c", script]


def members(group):
    return [int(pid) for pid in Path(group.procs_path).read_text().split()]


@needs_memory_group
def test_a_process_that_allocates_more_than_the_limit_is_killed(group):
    assert run_in(group, *python("held = b'x' * (256 << 20); print('held')")) == (-signal.SIGKILL, "")
    assert group.oom_killed()


@needs_memory_group
def test_a_process_that_stays_below_the_limit_is_not(group):
    assert run_in(group, *python("held = b'x' * (16 << 20); print('held')")) == (0, "held\n")
    assert not group.oom_killed()


@needs_memory_group
def test_the_limit_is_one_for_all_processes_together(group):
    run_in(group, *python("import os; held = bytearray(b'x') * (40 << 20); os.fork(); held[:] = held; os.wait()"))
    assert group.oom_killed()


@needs_memory_group
def test_a_process_that_is_killed_by_another_was_not_out_of_memory(group):
    assert run_in(group, "sh", "-c", "kill -KILL $$") == (-signal.SIGKILL, "")
    assert not group.oom_killed()


@needs_memory_group
def test_a_running_process_is_moved_in_and_its_new_children_are_there_too(group):
    script = "read go; sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        group.add(shell.pid)
        print("go", file=shell.stdin, flush=True)
        child = int(shell.stdout.readline())
        assert sorted(members(group)) == sorted([shell.pid, child])
        os.kill(child, signal.SIGKILL)


@needs_memory_group
def test_a_process_that_has_ended_is_moved_in_without_an_error(group):
    ended = subprocess.Popen(["true"])
    ended.wait()
    group.add(ended.pid)
    assert members(group) == []


@needs_memory_group
def test_a_group_is_removed_when_its_last_process_has_ended(group):
    with start_in(group, "sh", "-c", "echo in; sleep 0.3") as busy:
        assert busy.stdout.readline() == "in\n"
        group.remove()
        assert not os.path.exists(group.path)


def test_where_the_kernel_can_all_processes_of_a_group_are_killed_by_one_word(tmp_path):
    (tmp_path / "cgroup.kill").touch()
    Group(str(tmp_path)).kill()
    assert (tmp_path / "cgroup.kill").read_text() == "1"


def test_where_it_cannot_nothing_happens(tmp_path):
    Group(str(tmp_path / "none")).kill()


@needs_memory_group
def test_a_group_in_which_a_process_stays_is_left(group, monkeypatch):
    monkeypatch.setattr(cgroup, "PATIENCE", 0.05)
    with start_in(group, "sh", "-c", "echo in; exec sleep 60") as busy:
        assert busy.stdout.readline() == "in\n"
        group.remove()
        assert os.path.exists(group.path)
        busy.kill()
    monkeypatch.undo()


@needs_memory_group
def test_groups_that_a_process_made_below_its_own_are_removed_with_it(group):
    assert run_in(group, "mkdir", "-p", f"{group.path}/inner/most") == (0, "")
    group.remove()
    assert not os.path.exists(group.path)


@needs_memory_group
def test_a_group_that_was_left_is_replaced_and_one_in_use_is_not(group):
    name = os.path.basename(group.path).removeprefix("runner-")
    run_in(group, *python("held = b'x' * (256 << 20)"))
    again = memory_group(LIMIT, name)
    assert (again.path, again.oom_killed()) == (group.path, False)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as cat:
        again.add(cat.pid)
        assert memory_group(LIMIT, name) is None
        assert members(again) == [cat.pid]


@needs_memory_group
@pytest.mark.parametrize(
    ("limit", "name"),
    [
        pytest.param(-5, "below-zero", id="limit"),
        pytest.param(LIMIT, "in/a/folder", id="folder"),
        pytest.param(LIMIT, "/../../out", id="out"),
        pytest.param(LIMIT, "null\0", id="null"),
        pytest.param(LIMIT, "\udc80\ud800", id="surrogate"),
    ],
)
def test_what_cannot_be_made_is_none_and_leaves_nothing(group, limit, name):
    before = sorted(os.listdir(os.path.dirname(group.path)))
    assert memory_group(limit, name) is None
    assert sorted(os.listdir(os.path.dirname(group.path))) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who owns no group")
def test_who_owns_no_group_gets_none():
    become = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    script = f"{Path(cgroup.__file__).read_text()}\n{become}\nprint(memory_group({LIMIT}, 'nobody'))"
    assert subprocess.run(python(script), capture_output=True, text=True).stdout == "None\n"


def test_a_program_in_a_group_is_given_the_signals_that_others_are(project):
    project.pipeline("""
        steps:
          free: {kind: command, command: [grep, SigIgn, /proc/self/status]}
          limited: {kind: command, command: [grep, SigIgn, /proc/self/status], resources: {memory: 1Gi}}
        """)
    assert project.runner("apply", "p.yaml").code == 0
    run = json.loads(project.runner("runs", "--limit", "1", "-o", "json").raw)[0]["run"]
    ignored = [int(project.runner("logs", run, step).raw.split()[-1], 16) for step in ("free", "limited")]
    assert [mask & 1 << (signal.SIGXFSZ - 1) | mask & 1 << (signal.SIGPIPE - 1) for mask in ignored] == [0, 0]
