"""What the runner costs, counted: system calls, modules, files, SQL. A regression fails without a stopwatch.

The counts are of real processes: 120 steps against 20, so that start-up falls out; what the steps' own programs do is
not counted. A bound is what it took when it was written, and some more where time decides. Who makes it cheaper
lowers the bound: `python -m tests.test_cost` prints what it takes now.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

import runner
from tests.kit import Project

FEW, MANY = 20, 120
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")

# System calls per step, of the runner's own processes and of a child until its program runs.
CALLS = {
    "all": 140, "fchmod": 1, "close": 18, "execve": 1, "getdents64": 11, "mkdir": 1, "newfstatat": 41, "openat": 12, "pipe2": 1, "rename": 2,
    "renameat": 2, "flistxattr": 5.2, "llistxattr": 2.2, "write": 7,
}  # fmt: skip
# What time decides: how many steps share one wait for the disk. In `all` these do not count.
BARRIER = {"fdatasync": 1, "syncfs": 1}
# Steps that are given the same share a seal.
SHARED = {"landlock_create_ruleset": 0.1, "landlock_restrict_self": 0.1, "unlink": 0.2, "unshare": 0.1}
# What the machine decides: how the C library starts a program.
OF_MACHINE = {"rt_sigaction", "rt_sigprocmask", "prlimit64", "brk", "vfork"}
TIMED = {*BARRIER, *OF_MACHINE, "clone3", "epoll_wait", "exit", "fcntl", "futex", "landlock_add_rule", "madvise", "mmap", "munmap", "poll", "pread64", "pwrite64", "rseq", "set_robust_list"}  # fmt: skip
# Modules that a command imports (some more for what differs between interpreters), and those that are packages of others.
MODULES = {
    "--version": (20, set()),
    "plan p.yaml": (211, {"jsonschema_rs", "yaml"}),
    "apply p.yaml --again": (185, {"click"}),
    "apply p.yaml": (153, set()),
}
# What a run with nothing to do opens below the project, and how often; never more for more steps.
OPENED = {"p.yaml": 2, "runner.toml": 2, "seed.txt": 1, ".runner": 1, ".runner/compiled/*": 1, ".runner/format": 2, ".runner/runs": 1, ".runner/index.db": 1, ".runner/index.db-wal": 1,
          ".runner/index.db-shm": 1, ".runner/runs/*/lock": 1, ".runner/runs/*/journal.jsonl": 1,
          ".runner/tmp": 1,  # what a killed run has left
          ".runner/settled": 1, ".runner/settled/*": 1}  # fmt: skip
# SQL statements per step: the first time, and when there is nothing to do.
FIRST = {"SELECT successes": 1, "INSERT successes": 1, "INSERT files": 1}
AGAIN = {"SELECT successes": 1}

# Runs the command line with SQLite's own trace switched on; writes each statement that is performed.
SQL = """\
import json, sqlite3, sys
words, connect = [], sqlite3.connect
def traced(*args, **more):
    made = connect(*args, **more)
    made.set_trace_callback(lambda text: words.append(text))
    return made
sqlite3.connect = traced
from runner.cli import run
code = run(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump(words, file)
sys.exit(code)
"""


def project(root: Path, steps: int) -> Project:
    """A project of steps that each read the output of the first, and write a file without a shell's help."""
    root.mkdir()
    made = Project(root)
    made.write(seed_txt="seed\n")
    lines = ["steps:"]
    lines += ["  first: {kind: command, command: [cp, seed.txt, o], inputs: {i: seed.txt}, outputs: {o: {type: file}}}"]
    for i in range(steps):
        lines += [f"  s{i}:", "    kind: command", f"    command: [/bin/sh, -c, 'echo {i} > o', $(inputs.i)]"]
        lines += ["    inputs: {i: $(steps.first.outputs.o)}", "    outputs: {o: {type: file}}"]
    made.pipeline("\n".join(lines) + "\n")
    return made


def perform(made: Project, *command: str) -> str:
    """Run a command in the project with none of this shell's settings; return what it printed on standard error."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(made.root), "PYTHONPATH": str(Path(runner.__file__).parent.parent)}
    done = subprocess.run(command, cwd=made.root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def runner_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runner", *arguments]


def system_calls(made: Project) -> Counter[str]:
    """Apply, and return how often each system call was made by the runner and by children that had not begun."""
    folder = made.root.parent / f"{made.root.name}-trace"
    folder.mkdir()
    perform(made, "strace", "-ff", "-qq", "-o", f"{folder}/t", *runner_command("apply", "p.yaml"))
    counts: Counter[str] = Counter()
    for file in folder.iterdir():
        lines = file.read_text(errors="replace").splitlines()
        begun = [n for n, line in enumerate(lines) if line.startswith("execve(") and line.endswith("= 0")]
        ours = not begun or re.match(r'execve\("[^"]*/python[^"/]*"', lines[begun[0]])
        own = lines if ours else lines[: begun[0] + 1]
        counts.update(found[1] for line in own if (found := re.match(r"(\w+)\(", line)))
    return counts


def per_step(few: Counter[str], many: Counter[str]) -> dict[str, float]:
    """Return what a step adds, of each and of all."""
    added = {name: (many[name] - few[name]) / (MANY - FEW) for name in many}
    return {**added, "all": sum(count for name, count in added.items() if name not in TIMED)}


def calls_per_step(folder: Path) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    return per_step(*(system_calls(project(folder / f"{n}", n)) for n in (FEW, MANY)))


def statements(made: Project) -> Counter[str]:
    """Apply, and return the SQL statements by what they do to which table."""
    perform(made, sys.executable, "-c", SQL, "../words", "apply", "p.yaml")
    counts: Counter[str] = Counter()
    for text in json.loads((made.root.parent / "words").read_text()):
        table = re.search(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)", text)
        counts[f"{text.split()[0]} {table[1]}" if table else text.split()[0]] += 1
    return counts


def modules(made: Project, *command: str) -> set[str]:
    """Return the modules that a command imports beyond those with which the interpreter starts."""
    perform(made, *runner_command(*command))  # now the compiled files are there, and the store

    def told(*arguments: str) -> set[str]:
        lines = perform(made, sys.executable, "-X", "importtime", *arguments).splitlines()
        return {found[1] for line in lines if (found := re.match(r"import time:.*\| +(\S+)$", line))}

    return told("-m", "runner", *command) - told("-c", "pass")


def reads(made: Project) -> tuple[Counter[str], int]:
    """Apply; return the files below the project that were opened, with how often, and the bytes read of objects."""
    trace = made.root.parent / "reads"
    perform(made, "strace", "-f", "-y", "-qq", "-e", "trace=openat,read,pread64,mmap", "-o", str(trace), *runner_command("apply", "p.yaml"))  # fmt: skip
    root, opened, size = os.path.realpath(made.root), Counter[str](), 0
    for line in trace.read_text(errors="replace").splitlines():
        if found := re.search(rf"openat\(.* = \d+<{re.escape(root)}/([^>]+)>", line):
            opened[found[1]] += 1
        elif found := re.search(r"(?:read|pread64)\(\d+<[^>]*/objects/.* = (\d+)$", line):
            size += int(found[1])
    return opened, size


def others(found: set[str]) -> set[str]:
    """Return the packages among modules that are neither ours nor of the interpreter."""
    return {m.split(".")[0] for m in found} - sys.stdlib_module_names - {"runner", "org"}  # org: asked for by pickle


def plain(opened: Counter[str]) -> dict[str, int]:
    """Return opened files without what differs from run to run."""
    return {re.sub(r"(compiled|runs|settled)/[^/]+", r"\1/*", name): count for name, count in opened.items()}


@pytest.fixture
def place():
    """A folder with a short name: its depth is in the count of what looks at every folder above. Not in /tmp, where others
    make and remove things meanwhile, which a seal has to heed.
    """
    with tempfile.TemporaryDirectory(dir="/var/tmp" if os.path.isdir("/var/tmp") else None) as name:
        yield Path(name)


@needs_strace
def test_a_step_takes_no_more_system_calls(place):
    # The less of two: what others mount, or make beside the project, is heeded by a seal.
    counts, again = (calls_per_step(place / turn) for turn in ("a", "b"))
    counts = {name: min(count, again.get(name, count)) for name, count in counts.items()}
    assert {name: counts[name] for name, most in {**CALLS, **BARRIER, **SHARED}.items() if counts[name] > most} == {}
    # A bound that is twice what it takes would let the next regression through.
    assert {name: counts[name] for name, most in CALLS.items() if counts[name] < most / 2} == {}


@pytest.mark.parametrize("command", MODULES)
def test_a_command_imports_no_more_modules(place, command):
    found = modules(project(place / "p", 1), *command.split())
    most, packages = MODULES[command]
    assert others(found) == packages
    assert len(found) <= most, sorted(found)


@needs_strace
def test_nothing_to_do_opens_the_same_few_files_for_any_number_of_steps_and_reads_no_result(place):
    for steps in (FEW, MANY):
        made = project(place / f"{steps}", steps)
        perform(made, *runner_command("apply", "p.yaml"))
        perform(made, *runner_command("apply", "p.yaml"))
        opened, size = reads(made)
        assert {name: n for name, n in plain(opened).items() if n > OPENED.get(name, 0)} == {}
        assert size == 0


def test_a_step_takes_no_more_sql(place):
    made = [project(place / f"{steps}", steps) for steps in (FEW, MANY)]
    for bounds in (FIRST, AGAIN):
        counts = per_step(*map(statements, made))
        timed = {"BEGIN", "COMMIT", "all"} | ({"INSERT files"} if bounds is AGAIN else set())
        assert {name: n for name, n in counts.items() if n > bounds.get(name, 0.02) and name not in timed} == {}
        assert counts.get("BEGIN", 0) <= 1


def main() -> None:
    """Print what it takes now."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        calls = calls_per_step(place)
        for call, count in sorted(calls.items(), key=lambda item: -item[1]):
            print(f"{count:8.2f} {call}")
        for n in (FEW, MANY):
            made = project(place / f"sql{n}", n)
            print(n, "first apply", statements(made).most_common(), "again", statements(made).most_common())
            opened, size = reads(made)
            print(n, "files of a no-op", plain(opened), size)
        made = project(place / "one", 1)
        for command in (["--version"], ["plan", "p.yaml"], ["apply", "p.yaml", "--again"], ["apply", "p.yaml"]):
            found = modules(made, *command)
            print(command, len(found), sorted(others(found)))


if __name__ == "__main__":
    main()
