"""A step sees what it declares, and writes in its own directory: by Landlock, by bubblewrap; where neither is, it is said."""

import hashlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runner.executors import landlock
from tests.kit import Project

LANDLOCK = landlock.version()
BWRAP = (
    shutil.which("bwrap") and subprocess.run(["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "true"]).returncode == 0
)
needs_landlock = pytest.mark.skipif(LANDLOCK < 3, reason="needs a kernel with Landlock 3")
needs_scopes = pytest.mark.skipif(not landlock.scopes(), reason="needs a kernel with Landlock 6 (Linux 6.12)")
needs_bwrap = pytest.mark.skipif(not BWRAP, reason="needs bubblewrap (bwrap) and the right to use it")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
both = pytest.mark.parametrize(
    "isolation", [pytest.param("none", marks=needs_landlock), pytest.param("bwrap", marks=needs_bwrap)]
)


def ends(project, *steps):
    """Return how steps of the newest run ended, with the notes of those that failed."""
    record = project.record()["steps"]
    return {name: [record[name]["status"], *record[name].get("notes", ())] for name in steps or record}


# --- what is not declared -----------------------------------------------------------------------------------------


@needs_landlock
def test_an_undeclared_file_is_refused_by_its_absolute_path_and_the_line_to_add_is_told(project):
    project.write(raw_csv="1\n", lib__util_sh="echo used\n", m_py="def f():\n    open('ROOT/raw.csv')\n")
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          cat: {{kind: command, command: [cat, {project.root}/raw.csv]}}
          relative: {{kind: command, command: [sh, -c, cat raw.csv]}}
          source: {{kind: shell, script: . {project.root}/lib/util.sh}}
          python: {{kind: python, function: "m:f", code: [m.py]}}
          limited: {{kind: command, command: [cat, {project.root}/raw.csv], resources: {{memory: 1Gi}}}}
        """)
    (project.root / "m.py").write_text(f"def f():\n    open('{project.root}/raw.csv')\n")
    answer = project.runner("apply", "p.yaml")
    refused = "the project has raw.csv, which the step does not declare: add `inputs: {raw: raw.csv}`; what it writes belongs in $RUNNER_OUTPUT_DIR and `outputs`"
    assert answer.code == 1
    assert ends(project) == {
        "cat": ["failed", refused],
        "relative": [
            "failed",
            "the project has raw.csv, which the step does not declare: add `inputs: {raw: raw.csv}`",
        ],
        "source": [
            "failed",
            "the project has lib/util.sh, which the step does not declare: add `code: [lib/util.sh]`; what it writes belongs in $RUNNER_OUTPUT_DIR and `outputs`",
        ],
        "python": ["failed", refused],
        "limited": ["failed", refused],
    }


@needs_landlock
def test_a_step_with_the_line_that_was_told_succeeds(project):
    project.write(raw_csv="1\n")
    project.pipeline(f"""
        steps:
          cat: {{kind: command, command: [cat, {project.root}/raw.csv], inputs: {{raw: raw.csv}}}}
        """)
    assert project.runner("apply", "p.yaml").code == 0
    assert ends(project) == {"cat": ["succeeded"]}


@needs_landlock
def test_a_write_into_the_project_is_refused_and_the_output_to_declare_is_told(project):
    project.write(raw_csv="1\n")
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          new: {{kind: shell, script: echo x > {project.root}/out.csv}}
          over: {{kind: shell, script: echo x > raw.csv, inputs: {{raw: raw.csv}}}}
          above: {{kind: shell, script: "echo x > {project.root.parent}/seal-above"}}
          list: {{kind: shell, script: "ls {project.root.parent}"}}
        """)
    assert project.runner("apply", "p.yaml").code == 1
    assert ends(project) == {
        "new": [
            "failed",
            "the step may not write out.csv in the project: add `outputs: {out: {type: file, path: out.csv}}`, and write it in $RUNNER_OUTPUT_DIR",
        ],
        "over": [
            "failed",
            "raw.csv is an input, which a step cannot change: write a copy, and declare it in `outputs`",
        ],
        "above": [
            "failed",
            f"a sealed step makes nothing directly in {project.root.parent}, which the project or the store lies in: use $TMPDIR",
        ],
        "list": ["failed", f"a sealed step cannot list {project.root.parent}, which the project or the store lies in"],
    }
    assert (project.root / "raw.csv").read_text() == "1\n"
    assert not (project.root / "out.csv").exists()


@both
def test_a_result_does_not_depend_on_what_is_not_declared(project, isolation):
    """The reason for it all: an undeclared read would let a stale result be reused after that file has changed."""
    project.write(hidden_txt="1\n")
    project.pipeline(f"""
        steps:
          a:
            kind: shell
            isolation: {isolation}
            script: cat {project.root}/hidden.txt > o.txt
            outputs: {{o: {{type: file, path: o.txt}}}}
        """)
    assert [project.runner("apply", "p.yaml").code for _ in range(2)] == [1, 1]


@both
def test_what_is_declared_is_there(project, isolation, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "far.txt"
    outside.write_text("far\n")
    project.write(data__a_txt="a\n", data__b_txt="b\n", lib__c_sh="cat data/a.txt\n", one_txt="1\n")
    (project.root / "data/deep").mkdir()
    (project.root / "data/deep/d.txt").write_text("d\n")
    project.pipeline(f"""
        params: {{one: {{type: file, default: one.txt}}, every: {{type: dir, default: data}}}}
        steps:
          first: {{kind: shell, isolation: {isolation}, script: "mkdir d; echo in > d/x; echo f > f.txt", outputs: {{f: {{type: file, path: f.txt}}, d: {{type: dir}}}}}}
          second:
            kind: command
            isolation: {isolation}
            command: [cat, $(params.one), $(inputs.every)/deep/d.txt, $(steps.first.outputs.f), $(steps.first.outputs.d)/x, {outside}]
            inputs: {{every: $(params.every)}}
          third: {{kind: shell, isolation: {isolation}, script: "sh lib/c.sh", code: [lib], inputs: {{a: data/a.txt}}}}
        """)
    assert project.runner("apply", "p.yaml").code == 0
    log = project.root / f".runner/runs/{project.record()['run']}/logs/second/1.log"
    assert log.read_text() == "1\nd\nf\nin\nfar\n"


@needs_landlock
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            "echo x > {other}/made; mkdir {other}/d; mv {other}/made {other}/d/moved; rm -r {other}/d",
            id="write-beside",
        ),
        pytest.param(
            "mkdir a b; echo x > a/f; mv a/f b/f; mv b c; ln c/f hard; ln -s c soft; mkfifo p; rm -r c",
            id="own-directory",
        ),
        pytest.param("f=$(mktemp); test $(dirname $f) = $TMPDIR", id="mktemp"),
        pytest.param(
            "cat /etc/passwd > copy; cat /proc/self/status >> copy; echo x > /dev/null; ls /usr /etc > /dev/null",
            id="read-system",
        ),
        pytest.param("echo x > /dev/stdout; echo y | tee /dev/stderr; cat < <(echo z)", id="reopen-pipes"),
        pytest.param(
            "python -c 'import sqlite3, json, ctypes, multiprocessing as m; m.Lock(); m.Queue()'", id="python"
        ),
        pytest.param("cat <<< here; (sleep 0.01 & wait); timeout 5 true; env true; bash -c 'exit 0'", id="processes"),
    ],
)
def test_what_is_outside_of_the_project_is_as_without_a_seal(project, tmp_path_factory, script):
    other = tmp_path_factory.mktemp("other")
    project.pipeline("steps:\n  a:\n    kind: shell\n    script: |\n      " + script.format(other=other))
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, ends(project)) == (0, {"a": ["succeeded"]}), answer.out


@needs_landlock
def test_what_an_earlier_step_was_given_is_closed_to_the_next_one(project):
    """One worker, one warm parent: a step's rights end with it."""
    project.write(raw_csv="1\n", m_py="def f(path):\n    open(path).close()\n")
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          a: {{kind: command, command: [cat, {project.root}/raw.csv], inputs: {{raw: raw.csv}}}}
          b: {{kind: command, command: [cat, {project.root}/raw.csv], needs: [a]}}
          c: {{kind: python, function: "m:f", args: {{path: "{project.root}/raw.csv"}}, code: [m.py], inputs: {{raw: raw.csv}}}}
          d: {{kind: python, function: "m:f", args: {{path: "{project.root}/raw.csv"}}, code: [m.py], needs: [c]}}
        """)
    project.runner("apply", "p.yaml", "--workers", "1")
    assert project.statuses() == {"a": "succeeded", "b": "failed", "c": "succeeded", "d": "failed"}


@needs_landlock
def test_an_environment_in_the_project_can_be_used_and_not_changed(project):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project.root / ".venv"], check=True)
    package = next((project.root / ".venv/lib").iterdir()) / "site-packages/inside.py"
    package.write_text("def f():\n    return {'v': 'inside'}\n")
    project.write(m_py="from inside import f\n")
    project.pipeline("""
        failure_policy: finish_independent
        runtimes: {own: {kind: venv, path: .venv}}
        defaults: {runtime: own}
        steps:
          function: {kind: python, function: "m:f", code: [m.py], outputs: {v: {type: string}}}
          program: {kind: command, command: [python, -c, "import inside"]}
          change: {kind: command, command: [python, -c, "import inside; open(inside.__file__, 'a')"]}
        """)
    project.runner("apply", "p.yaml")
    assert project.statuses() == {"function": "succeeded", "program": "succeeded", "change": "failed"}


@needs_landlock
def test_a_project_behind_a_symlink_is_closed_by_each_of_its_names(project, tmp_path_factory):
    project.write(raw_csv="1\n")
    link = tmp_path_factory.mktemp("links") / "here"
    link.symlink_to(project.root)
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          real: {{kind: command, command: [cat, {project.root}/raw.csv]}}
          link: {{kind: command, command: [cat, {link}/raw.csv]}}
        """)
    project.runner("apply", "p.yaml", cwd=link)
    assert project.statuses() == {"real": "failed", "link": "failed"}


@needs_landlock
def test_a_store_outside_of_the_project_is_closed_as_well(project, tmp_path_factory):
    store = tmp_path_factory.mktemp("far") / "store"
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          a: {{kind: shell, script: echo x > o.txt, outputs: {{o: {{type: file, path: o.txt}}}}}}
          read: {{kind: shell, script: cat {store}/format, needs: [a]}}
          write: {{kind: shell, script: echo x > {store}/objects/x, needs: [a]}}
          next: {{kind: command, command: [cat, $(steps.a.outputs.o)]}}
        """)
    project.runner("apply", "p.yaml", "--store", str(store))
    steps = json.loads(project.runner("runs", "--store", str(store), "-o", "json").raw)[0]
    shown = json.loads(project.runner("show", steps["run"], "--store", str(store), "-o", "json").raw)["steps"]
    assert {n: s["status"] for n, s in shown.items()} == {
        "a": "succeeded",
        "read": "failed",
        "write": "failed",
        "next": "succeeded",
    }
    assert shown["read"]["notes"] == [
        f"{store}/format is in the store, which is closed to steps: take a result by `$(steps.NAME.outputs.NAME)`"
    ]


@needs_root
@needs_landlock
def test_another_mount_of_the_project_is_closed_as_well(project, tmp_path_factory):
    project.write(raw_csv="1\n")
    other = tmp_path_factory.mktemp("mounted")
    project.pipeline(f"steps:\n  a: {{kind: command, command: [cat, {other}/raw.csv]}}\n")
    if subprocess.run(["mount", "--bind", project.root, other]).returncode:
        pytest.skip("needs the right to mount")
    try:
        project.runner("apply", "p.yaml")
    finally:
        subprocess.run(["umount", other], check=True)
    assert project.statuses() == {"a": "failed"}


# --- attacks on the store -----------------------------------------------------------------------------------------

CALLS = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def ptrace(path):
    checked(libc.ptrace(16, os.getppid(), 0, 0))  # attach

def memory(path):
    open(f"/proc/{os.getppid()}/mem", "r+b")

def descriptor(path):
    checked(libc.syscall(438, checked(libc.syscall(434, os.getppid(), 0)), 0, 0))  # pidfd_open, pidfd_getfd

def handle(path):
    buffer, mount = ctypes.create_string_buffer(struct.pack("=Ii", 120, 0), 128), ctypes.c_int()
    checked(libc.name_to_handle_at(-100, path.encode(), buffer, ctypes.byref(mount), 0))
    os.write(checked(libc.open_by_handle_at(os.open("/etc", os.O_RDONLY), buffer, os.O_WRONLY)), b"x")

def truncate(path):
    os.truncate(path, 0)

def open_truncate(path):
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))

def ring(path):
    import mmap
    params = ctypes.create_string_buffer(120)
    fd = checked(libc.syscall(425, 4, params))
    values = struct.unpack("=30I", params.raw)
    sq, cq = values[10:20], values[20:30]
    rings = mmap.mmap(fd, max(sq[6] + 4 * values[0], cq[5] + 16 * values[1]), offset=0)
    entries = mmap.mmap(fd, 64 * values[0], offset=0x10000000)
    name = ctypes.create_string_buffer(path.encode())
    # openat by the kernel's own hands
    entries[:64] = struct.pack("=BBHiQQIIQ24x", 18, 0, 0, -100, 0, ctypes.addressof(name), 0, os.O_WRONLY, 7)
    rings[sq[6]:sq[6] + 4] = struct.pack("=I", 0)
    rings[sq[1]:sq[1] + 4] = struct.pack("=I", 1)
    checked(libc.syscall(426, fd, 1, 1, 1, None, 0))
    result = struct.unpack("=i", rings[cq[5] + 8:cq[5] + 12])[0]
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    os.write(result, b"x")

def step(call, path):
    globals()[call](path)

if __name__ == "__main__":
    step(*sys.argv[1:])
"""
SHELL = {
    "write": "echo x > $OBJECT",
    "append": "echo x >> $OBJECT",
    "empty": "truncate -s 0 $OBJECT",
    "remove": "rm -f $OBJECT; test ! -e $OBJECT",
    "rename": "mv $OBJECT taken",
    "replace": "echo x > mine; mv -f mine $OBJECT",
    "exchange": "echo x > mine; python -c 'import ctypes, os; l = ctypes.CDLL(None); exit(-l.renameat2(-100, b\"mine\", -100, os.environ[\"OBJECT\"].encode(), 2))'",
    "hard-link": "ln $OBJECT mine; echo x > mine",
    "symlink": "ln -s $OBJECT mine; echo x > mine",
    "input": "echo x > .inputs/make/o/o.txt",
    "own-root": "echo x > /proc/self/root$OBJECT",
    "worker-root": "echo x > /proc/$PPID/root$OBJECT",
    "worker-cwd": "cd /proc/$PPID/cwd; echo x > $OBJECT",
    "first-root": "echo x > /proc/1/root$OBJECT",
    "worker-files": "for f in /proc/$PPID/fd/*; do echo x > $f; done",
    "bind": "mkdir m; mount --bind $(dirname $OBJECT) m; echo x > m/$(basename $OBJECT)",
    "new-mounts": "unshare -m sh -c 'mount --bind $(dirname $OBJECT) /mnt; echo x > /mnt/$(basename $OBJECT)'",
    "user-namespace": "unshare -Urm sh -c 'mount --bind $(dirname $OBJECT) /mnt; echo x > /mnt/$(basename $OBJECT)'",
    "remount": "mount -o remount,rw $STORE; echo x > $OBJECT",
    "chroot": "chroot / sh -c \"echo x > $OBJECT\"",
    "other-mounts": "nsenter -t $PPID -m sh -c \"echo x > $OBJECT\"",
    "folder": "mkdir $STORE/objects/sha256/zz",
    "journal": "echo x >> $(echo $STORE/runs/*/journal.jsonl)",
    "read-journal": "cat $STORE/runs/*/journal.jsonl; cat $STORE/runs/$RUNNER_RUN_ID/journal.jsonl",
    "list": "ls $STORE/runs/$RUNNER_RUN_ID",
    "inherited": "test $(ls /proc/self/fd | wc -l) != 4",
}  # fmt: skip
CALLED = ("handle", "truncate", "open_truncate", "ring")
OF_WORKER = ("ptrace", "memory", "descriptor")  # in a sandbox the worker cannot even be seen


@pytest.mark.reliability("R05")
@both
def test_a_step_cannot_write_into_the_store(project, isolation):
    """As root and as anyone: each way is tried by a step of its own, and fails."""
    project.write(calls_py=CALLS)
    text = b"kept\n"
    digest = hashlib.sha256(text).hexdigest()
    store = project.root / ".runner"
    kept = store / f"objects/sha256/{digest[:2]}/{digest}"
    steps = {
        "make": {"kind": "shell", "script": "echo kept > o.txt", "outputs": {"o": {"type": "file", "path": "o.txt"}}}
    }
    common = {"isolation": isolation, "needs": ["make"], "env": {"OBJECT": str(kept), "STORE": str(store)}}
    given = {"inputs": {"o": "$(steps.make.outputs.o)"}}
    for name, script in SHELL.items():
        steps[name] = {"kind": "shell", "script": script, **common, **given}
    for name in (*CALLED, *(OF_WORKER if isolation == "none" else ())):
        command = ["python", "calls.py", name, str(kept)]
        steps[f"command-{name}"] = {"kind": "command", "command": command, "code": ["calls.py"], **common, **given}
        args = {"call": name, "path": str(kept)}
        steps[f"python-{name}"] = {
            "kind": "python",
            "function": "calls:step",
            "args": args,
            "code": ["calls.py"],
            **common,
            **given,
        }
    project.pipeline(f"failure_policy: finish_independent\nsteps: {json.dumps(steps)}\n")
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 1, answer.err
    ended_well = {n for n, status in project.statuses().items() if status != "failed"}
    assert ended_well - {"input"} == {"make"}  # a small input is a copy of the step's own, which only root can write to
    assert kept.read_bytes() == text
    assert project.runner("store", "verify").code == 0


@needs_landlock
@pytest.mark.parametrize("memory", ["", "resources: {memory: 1Gi}, "])
def test_a_step_cannot_speak_for_the_engine_or_its_worker(memory, project):
    """The pipes between them could be opened by /proc if the worker's files were not closed to its steps.

    Nor by one of its threads: one that starts steps is sealed as they are.
    """
    project.write(
        look_py="""
        import os
        worker = os.getppid()
        for thread in os.listdir(f"/proc/{worker}/task"):
            for place in (f"/proc/{worker}/task/{thread}", f"/proc/{thread}"):
                for name, mode in (("fd/0", "w"), ("fd/1", "w"), ("mem", "r+b"), ("cwd/x", "w")):
                    try:
                        open(f"{place}/{name}", mode)
                        print("could open", name)
                    except OSError as error:
                        print(error.strerror)
        """
    )
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          before: {{kind: shell, script: "true"}}
          call: {{kind: shell, {memory}script: "echo '{{\\"control\\": \\"kill\\"}}' > /proc/$PPID/fd/0", needs: [before]}}
          outcome: {{kind: shell, {memory}script: "echo '{{}}' > /proc/$PPID/fd/1", needs: [before]}}
          look: {{kind: command, {memory}command: [python3, look.py], code: [look.py], needs: [before]}}
        """)
    answer = project.runner("apply", "p.yaml", "--workers", "1")
    assert project.statuses() == {"before": "succeeded", "call": "failed", "outcome": "failed", "look": "succeeded"}
    assert answer.out.count("Permission denied") == 2
    run = json.loads(project.runner("runs", "--limit", "1", "-o", "json").raw)[0]["run"]
    assert set(project.runner("logs", run, "look").raw.splitlines()) == {"Permission denied"}


# --- scopes -------------------------------------------------------------------------------------------------------


def test_a_ruleset_is_asked_for_as_the_header_of_linux_has_it():
    """struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped; a kernel before 6 knows no third field."""
    fs, net, scoped = (1).to_bytes(8, sys.byteorder), bytes(8), (3).to_bytes(8, sys.byteorder)
    assert landlock.SCOPE_ABSTRACT_UNIX_SOCKET | landlock.SCOPE_SIGNAL == 3
    assert landlock.attributes(1, 0) == fs
    assert landlock.attributes(1, 3) == fs + net + scoped


SIGNALS = """
import ctypes, os, signal

libc = ctypes.CDLL(None, use_errno=True)

def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])

def report(what, result):
    print(what, "signalled" if result == 0 else os.strerror(ctypes.get_errno()))

def look():
    pid = os.getppid()
    while pid > 1:
        report("kill", libc.kill(pid, signal.SIGSTOP))
        report("pidfd", libc.syscall(424, os.pidfd_open(pid), signal.SIGSTOP, None, 0))
        if COOKIE in open(f"/proc/{pid}/cmdline").read():
            return
        pid = parent(pid)

if __name__ == "__main__":
    look()
"""


@needs_scopes
@pytest.mark.parametrize("memory", ["", "resources: {memory: 1Gi}, "])
def test_a_sandboxed_step_signals_no_process_of_the_runner(project, memory):
    """Its worker, the guard, the fork server, the parent of Python steps, the runner: by pid and by pidfd."""
    (project.root / "signals.py").write_text(SIGNALS.replace("COOKIE", repr("\0apply\0")))
    project.pipeline(f"""
        steps:
          program: {{kind: command, {memory}command: [python3, signals.py], code: [signals.py]}}
          function: {{kind: python, {memory}function: "signals:look", code: [signals.py], needs: [program]}}
        """)
    answer = project.runner("apply", "p.yaml", "--workers", "1")
    assert (answer.code, project.statuses()) == (0, {"program": "succeeded", "function": "succeeded"}), answer.out
    run = project.record()["run"]
    said = {step: project.runner("logs", run, step).raw.splitlines() for step in ("program", "function")}
    assert {line.partition(" ")[2] for lines in said.values() for line in lines} == {"Operation not permitted"}
    assert {step: lines.count("kill Operation not permitted") for step, lines in said.items()} == {
        "program": 4,  # worker, guard, fork server, runner
        "function": 5,
    }


@needs_scopes
@pytest.mark.parametrize("name", ["STOP", "KILL"])
def test_a_signal_to_the_thread_that_starts_a_sandboxed_step_harms_only_that_step(project, name):
    """The thread keeps to the ruleset of the step, so it is within its reach."""
    script = f"for t in /proc/$PPID/task/*; do kill -{name} ${{t##*/}} || true; done; sleep 60"
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          a: {{kind: shell, timeout: 1s, grace_period: 500ms, script: "export COOKIE={project.root}; {script}"}}
          b: {{kind: shell, script: "sleep 0.5; echo 1 > o", outputs: {{o: {{type: file}}}}}}
        """)
    project.runner("apply", "p.yaml", "--workers", "2")
    assert project.statuses() == {"a": "failed", "b": "succeeded"}
    assert [p for p in Path("/proc").glob("[0-9]*/environ") if f"COOKIE={project.root}".encode() in _read(p)] == []


@needs_scopes
@pytest.mark.parametrize("memory", ["", "resources: {memory: 1Gi}, "])
def test_a_sandboxed_step_signals_its_own_processes_and_is_signalled_by_its_worker(project, memory):
    project.write(
        m_py="""
        import subprocess

        def f():
            for session in (False, True):
                child = subprocess.Popen(["sleep", "60"], start_new_session=session)
                child.terminate()
                assert child.wait(10) == -15
        """
    )
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          shell: {{kind: shell, {memory}script: "sleep 60 & kill $!; wait $! || test $? = 143"}}
          session: {{kind: shell, {memory}script: "setsid sleep 60 & sleep 0.1; kill $!; wait $! || test $? = 143"}}
          python: {{kind: python, {memory}function: "m:f", code: [m.py]}}
          told: {{kind: shell, {memory}timeout: 1s, script: "trap 'echo heard; exit 4' TERM; sleep 60 & wait"}}
          left: {{kind: shell, {memory}script: "COOKIE={project.root} setsid sleep 60 &"}}
        """)
    answer = project.runner("apply", "p.yaml")
    assert "  told: FAILED: it ran longer than 1 s\n    | heard\n" in answer.out
    assert project.statuses() == {
        **dict.fromkeys(["shell", "session", "python", "left"], "succeeded"),
        "told": "failed",
    }
    assert [p for p in Path("/proc").glob("[0-9]*/environ") if f"COOKIE={project.root}".encode() in _read(p)] == []


@needs_scopes
def test_a_sandboxed_step_connects_to_no_abstract_socket_but_its_own(project):
    """By one, a step handed a writable descriptor of its output to a process that outlived it."""
    name = f"runner-test-{os.getpid()}"
    project.write(
        m_py="""
        import socket

        def outside(name):
            try:
                socket.socket(socket.AF_UNIX).connect("\\0" + name)
            except PermissionError:
                return {"v": "refused"}
            return {"v": "connected"}

        def inside(name):
            server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
            server.bind("\\0" + name + "-own")
            server.listen()
            client.connect("\\0" + name + "-own")
            return {"v": "connected"}
        """
    )
    project.pipeline(f"""
        steps:
          outside: {{kind: python, function: "m:outside", args: {{name: {name}}}, code: [m.py], outputs: {{v: {{type: string}}}}}}
          inside: {{kind: python, function: "m:inside", args: {{name: {name}}}, code: [m.py], outputs: {{v: {{type: string}}}}}}
        """)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        answer = project.runner("apply", "p.yaml")
    assert answer.code == 0, answer.out
    values = {n: s["outputs"]["v"]["value"] for n, s in project.record()["steps"].items()}
    assert values == {"outside": "refused", "inside": "connected"}


# --- bubblewrap ---------------------------------------------------------------------------------------------------


@needs_bwrap
def test_in_a_sandbox_the_machine_is_read_only_and_no_other_process_is_seen(project):
    project.pipeline(f"""
        failure_policy: finish_independent
        defaults: {{env: {{ONE: "1"}}}}
        steps:
          own: {{kind: shell, isolation: bwrap, script: 'echo $ONE > o.txt; mktemp; test $(ps ax | wc -l) -lt 8; test $PWD = $RUNNER_OUTPUT_DIR', outputs: {{o: {{type: file, path: o.txt}}}}}}
          beside: {{kind: shell, isolation: bwrap, script: echo x > {project.beside}/x}}
          project: {{kind: shell, isolation: bwrap, script: echo x > {project.root}/x}}
          python: {{kind: python, isolation: bwrap, function: "m:f", code: [m.py], outputs: {{v: {{type: string}}}}}}
          rights: {{kind: shell, isolation: bwrap, script: "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status"}}
        """)
    project.write(m_py="def f():\n    return {'v': 'x'}\n")
    project.runner("apply", "p.yaml")
    assert project.statuses() == {
        "own": "succeeded", "beside": "failed", "project": "failed", "python": "succeeded", "rights": "failed"
    }  # fmt: skip
    assert project.output("own") == b"1\n"


@needs_bwrap
def test_without_a_network_there_is_not_even_the_machine_s_own(project):
    project.write(
        m_py="""
        import socket

        def f(port):
            socket.create_connection(("127.0.0.1", port), 5).close()
        """
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        project.pipeline(f"""
            failure_policy: finish_independent
            defaults: {{}}
            steps:
              on: {{kind: python, isolation: bwrap, function: "m:f", args: {{port: {server.getsockname()[1]}}}, code: [m.py]}}
              off: {{kind: python, isolation: bwrap, network: false, function: "m:f", args: {{port: {server.getsockname()[1]}}}, code: [m.py]}}
            """)
        project.runner("apply", "p.yaml")
    assert project.statuses() == {"on": "succeeded", "off": "failed"}


@needs_bwrap
def test_term_reaches_the_program_in_a_sandbox_and_its_end_ends_all(project):
    project.pipeline(f"""
        failure_policy: finish_independent
        steps:
          told: {{kind: shell, isolation: bwrap, timeout: 1s, script: "trap 'echo heard; exit 4' TERM; sleep 60 & wait"}}
          deaf: {{kind: shell, isolation: bwrap, timeout: 1s, grace_period: 500ms, script: "trap '' TERM; export COOKIE={project.root}; setsid sleep 60 & wait; sleep 60"}}
          left: {{kind: shell, isolation: bwrap, script: "COOKIE={project.root} setsid sleep 60 & echo left > o.txt", outputs: {{o: {{type: file, path: o.txt}}}}}}
        """)
    answer = project.runner("apply", "p.yaml")
    assert "  told: FAILED: it ran longer than 1 s\n    | heard\n" in answer.out
    assert project.statuses() == {"told": "failed", "deaf": "failed", "left": "succeeded"}
    assert [p for p in Path("/proc").glob("[0-9]*/environ") if f"COOKIE={project.root}".encode() in _read(p)] == []


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


@needs_bwrap
def test_a_step_in_the_project_s_folder_writes_there_and_not_into_the_store(project):
    project.pipeline("""
        failure_policy: finish_independent
        steps:
          project: {kind: shell, workdir: project, isolation: bwrap, script: echo x > made.txt}
          store: {kind: shell, workdir: project, isolation: bwrap, script: echo x > .runner/made.txt}
        """)
    project.runner("apply", "p.yaml")
    assert project.statuses() == {"project": "succeeded", "store": "failed"}
    assert (project.root / "made.txt").read_text() == "x\n"


def test_where_there_is_no_bubblewrap_a_plan_says_so_and_an_apply_starts_nothing(project, tmp_path_factory):
    bare = tmp_path_factory.mktemp("bin")
    for program in ("true", "bash"):
        (bare / program).symlink_to(shutil.which(program))
    project.pipeline("steps: {a: {kind: shell, isolation: bwrap, script: 'true'}}\n")
    env = {"PATH": str(bare)}
    lacking = "step a: there is no program bwrap (bubblewrap) for its isolation"
    planned, applied = project.runner("plan", "p.yaml", env=env), project.runner("apply", "p.yaml", env=env)
    assert (planned.code, planned.err) == (0, f"warning[W310]: {lacking}\n")
    assert (applied.code, applied.err) == (
        6, f"error: {lacking}\n  = help: install it here, or run on another machine\n"
    )  # fmt: skip


def test_isolation_is_in_no_fingerprint(project):
    text = "steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}MORE}}\n"
    project.pipeline(text.replace("MORE", ""))
    assert project.runner("apply", "p.yaml").code == 0
    project.pipeline(text.replace("MORE", ", isolation: bwrap, network: false"))
    plan = json.loads(project.runner("plan", "p.yaml", "-o", "json").raw)
    assert plan["steps"]["a"]["decision"] == "cached"


# --- where the kernel has no Landlock -----------------------------------------------------------------------------

# Makes the kernel answer as one without: `landlock_create_ruleset` is no system call.
BLIND = """
import ctypes, os, struct, sys
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
program, one, zero = struct.pack("@HP", len(lines), ctypes.addressof(code)), ctypes.c_ulong(1), ctypes.c_ulong(0)
libc = ctypes.CDLL(None)
assert libc.prctl(38, one, zero, zero, zero) == 0 and libc.prctl(22, ctypes.c_ulong(2), program, zero, zero) == 0
os.execv(sys.executable, [sys.executable, "-m", "runner", *sys.argv[1:]])
"""


def blind(project, *args):
    """Run the program on a kernel without Landlock."""
    env = {**os.environ, "PYTHONPATH": str(Path(landlock.__file__).parent.parent.parent)}
    return subprocess.run(
        [sys.executable, "-c", BLIND, *args], cwd=project.root, env=env, capture_output=True, text=True
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs seccomp")
def test_where_the_kernel_has_no_landlock_plan_and_record_say_so(project):
    project.write(raw_csv="1\n")
    project.pipeline(
        f"steps: {{a: {{kind: shell, script: cat {project.root}/raw.csv > o, outputs: {{o: {{type: file}}}}}}}}\n"
    )
    why = "this kernel has no Landlock, or it is switched off"
    note = f"steps are not sealed here: {why}; `isolation: bwrap` seals a step without it"
    assert f"note: {note}\n" in blind(project, "plan", "p.yaml").stdout
    assert blind(project, "apply", "p.yaml").returncode == 0
    assert project.record()["steps"]["a"]["unsealed"] == why


@pytest.mark.skipif(sys.platform != "linux", reason="needs seccomp")
def test_where_the_kernel_has_no_landlock_a_changed_object_is_found_before_it_is_used_again(project):
    digest = hashlib.sha256(b"kept\n").hexdigest()
    kept = project.root / f".runner/objects/sha256/{digest[:2]}/{digest}"
    make = "steps:\n  make: {kind: shell, script: echo kept > o, outputs: {o: {type: file}}}\n"
    project.pipeline(f"{make}  use: {{kind: shell, script: chmod u+w {kept}; echo x > {kept}, needs: [make]}}\n")
    assert blind(project, "apply", "p.yaml").returncode == 0
    assert kept.read_text() == "x\n"
    project.pipeline(f"{make}  read: {{kind: command, command: [grep, -x, kept, $(steps.make.outputs.o)]}}\n")
    answer = blind(project, "apply", "p.yaml")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert project.statuses() == {"make": "succeeded", "read": "succeeded"}  # else it would be cached


@needs_landlock
def test_a_record_says_which_step_was_unsealed_by_its_own_wish(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
          b: {kind: shell, script: echo 1 > "$RUNNER_OUTPUT_DIR/o", outputs: {o: {type: file}}, workdir: project}
        """)
    project.runner("apply", "p.yaml")
    steps = project.record()["steps"]
    assert {name: step.get("unsealed", "") for name, step in steps.items()} == {
        "a": "",
        "b": "it works in the project's folder",
    }


def test_other_mounts_of_a_folder_are_found_in_the_kernel_s_table():
    table = """
        20 1 8:1 / / rw - ext4 /dev/sda rw
        21 20 8:2 / /home rw - ext4 /dev/sdb rw
        22 20 8:2 /u/project /srv/one rw - ext4 /dev/sdb rw
        23 20 8:2 /u /srv/two\\040words rw - ext4 /dev/sdb rw
        24 20 8:2 /u/project/data /srv/data rw - ext4 /dev/sdb rw
        25 20 8:2 /other /srv/other rw - ext4 /dev/sdb rw
        26 20 8:3 /u /srv/foreign rw - ext4 /dev/sdc rw
    """
    found = landlock._aliases({"/home/u/project"}, textwrap.dedent(table).strip())
    assert sorted(found) == ["/home/u/project", "/srv/data", "/srv/one", "/srv/two words/project"]


@needs_landlock
@pytest.mark.parametrize("limit", [64, 128, 1024])
def test_few_files_may_be_open_and_much_lies_beside(limit, tmp_path):
    """What stays open for the next attempt leaves enough to be opened for this one."""
    for number in range(300):
        (tmp_path / f"beside-{number}").mkdir()
    (tmp_path / "p").mkdir()
    project = Project(tmp_path / "p")
    names = [f"n{number}" for number in range(150)]
    for name in names:
        (project.root / name).write_text(f"{name}\n")
    given = [names[start : start + 15] for start in range(0, 150, 15)]  # more than there are seals
    steps = {
        f"s{number}": {"kind": "command", "command": ["cat", *some], "inputs": {name: name for name in some}}
        for number, some in enumerate(given)
    }
    project.pipeline(f"steps: {json.dumps(steps)}\n")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    few = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))}
    assert project.runner("apply", "p.yaml", "--workers", "1", **few).code == 0
