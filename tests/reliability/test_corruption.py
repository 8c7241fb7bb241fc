"""Damage of the store, whatever it is and however it hides: found by `verify`, found on reuse, put aside, mended."""

import json
import os
import pickle
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner import app, engine
from runner.errors import RunnerError
from runner.store.local import LocalStore
from runner.store.verify import verify
from tests.kit import Project

PIPELINE = """
    params: {x: {type: integer, default: 1}}
    steps:
      a: {kind: shell, script: 'echo one > o; mkdir d; echo two > d/f', outputs: {o: {type: file}, d: {type: dir}}}
      b:
        kind: shell
        inputs: {i: $(steps.a.outputs.o), j: $(steps.a.outputs.d)}
        env: {X: $(params.x)}
        script: cat $RUNNER_INPUT_I $RUNNER_INPUT_J/f > o; echo $X >> o
        outputs: {o: {type: file}}
"""
PARTS = ("o", "file of d", "manifest of d")


@pytest.fixture
def ran(project: Project) -> Project:
    project.pipeline(PIPELINE)
    project.request("select: [b]\nparams: {x: 2}\n", name="part")
    project.request("select: [a]\n", name="anew")
    assert project.runner("apply", "p.yaml").code == 0
    return project


def part(project: Project, name: str) -> Path:
    """Return the stored file that is an output of `a`, or a part of one."""
    store = project.root / ".runner"
    outputs = project.record()["steps"]["a"]["outputs"]
    manifest = store / "trees" / outputs["d"]["digest"].removeprefix("sha256:")
    of = {"o": outputs["o"]["digest"], "file of d": json.loads(manifest.read_text())["entries"][0][2]}
    return manifest if name not in of else stored(store, of[name])


def stored(store: Path, digest: str) -> Path:
    name = digest.removeprefix("sha256:")
    return store / "objects/sha256" / name[:2] / name


def overwrite(path: Path, content: bytes) -> None:
    """Write into the very file, and put back all that can be: size where it is the same, inode, mode, times."""
    found = path.stat()
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()
    path.chmod(found.st_mode & 0o777)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(path, bytes(content))


def swap(path: Path) -> None:
    """Exchange it with another object, names and all."""
    other = next(p for p in sorted(path.parents[2].glob("*/*/*")) if p.is_file() and p.name != path.name)
    os.rename(path, path.with_suffix(".x"))
    os.rename(other, path)
    os.rename(path.with_suffix(".x"), other)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def link(path: Path, to: str) -> None:
    path.unlink()
    path.symlink_to(to)


HARMS = {
    "flipped, with inode, size and times as before": flip,
    "emptied": lambda path: overwrite(path, b""),
    "cut": lambda path: overwrite(path, path.read_bytes()[:-1]),
    "appended": lambda path: overwrite(path, path.read_bytes() + b"x"),
    "deleted": Path.unlink,
    "a directory": directory,
    "a dangling link": lambda path: link(path, "nowhere"),
    "a link to other bytes": lambda path: link(path, "/dev/null"),
    "a link to itself": lambda path: link(path, path.name),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
SOME = [("o", harm) for harm in HARMS] + [
    ("file of d", "flipped, with inode, size and times as before"), ("file of d", "a directory"), ("file of d", "deleted"),
    ("manifest of d", "flipped, with inode, size and times as before"), ("manifest of d", "a directory"),
    ("manifest of d", "a dangling link"), ("manifest of d", "deleted"),
]  # fmt: skip
ALL = [(name, harm) for name in PARTS for harm in HARMS]


def reused(project: Project, name: str, harm: str) -> None:
    """A selective run that would reuse damage ends with exit 5 and starts nothing; its producer mends it."""
    HARMS[harm](part(project, name))
    answer = project.runner("apply", "part.yaml")
    assert (answer.code, answer.err.endswith("  = help: run a again: add it to `select`\n")) == (5, True)
    assert len(json.loads(project.runner("runs", "-o", "json").raw)) == 1
    assert project.runner("apply", "anew.yaml").code == 0
    assert project.runner("apply", "part.yaml").code == 0
    assert project.output("b") == b"one\ntwo\n2\n"
    assert project.runner("store", "verify").code == 0


@pytest.mark.reliability("G01", "G02")
@pytest.mark.parametrize(
    ("name", "harm"), [SOME[0], SOME[5], SOME[11], SOME[14]], ids=lambda text: text.partition(",")[0]
)
def test_damage_is_not_reused_and_its_producer_mends_it(ran, name, harm):
    reused(ran, name, harm)


@pytest.mark.slow
@pytest.mark.reliability("G01", "G02")
@pytest.mark.parametrize(("name", "harm"), ALL, ids=lambda text: text.partition(",")[0])
def test_no_damage_is_reused_and_its_producer_mends_it(ran, name, harm):
    reused(ran, name, harm)


@pytest.mark.reliability("G01", "G02")
@pytest.mark.parametrize(("name", "harm"), [SOME[0], SOME[5], SOME[11]], ids=lambda text: text.partition(",")[0])
def test_a_damaged_cached_result_is_put_aside_and_made_again(ran, name, harm):
    path = part(ran, name)
    HARMS[harm](path)
    answer = ran.runner("apply", "p.yaml", "--again")
    assert (answer.code, ran.statuses()) == (0, {"a": "succeeded", "b": "cached"})
    assert [p.name for p in (ran.root / ".runner/quarantine").iterdir()] == [path.name]
    assert ran.output("b") == b"one\ntwo\n1\n"
    assert ran.runner("store", "verify").code == 0


@pytest.mark.reliability("G02")
def test_two_objects_that_were_swapped_are_both_found(ran):
    swap(part(ran, "o"))
    answer = ran.runner("store", "verify")
    assert (answer.code, answer.out.count(" has other bytes\n")) == (5, 2)
    assert ran.runner("apply", "part.yaml").code == 5


def everything(project: Project) -> Path:
    """Damage a bit of everything; return what was the object of `b`."""
    directory(part(project, "o"))
    link(part(project, "file of d"), "nowhere")
    path = stored(project.root / ".runner", project.record()["steps"]["b"]["outputs"]["o"]["digest"])
    flip(path)
    (path.parent / "stray").write_text("x")
    return path


@pytest.mark.reliability("G02")
def test_verify_lists_all_damage_and_goes_on_past_what_cannot_be_read(ran):
    everything(ran)
    answer = ran.runner("store", "verify")
    lines = [line.split("/")[-1] for line in answer.out.splitlines()]
    assert sorted(line if line.startswith("stray") else line.partition(" ")[2] for line in lines) == [
        "damaged", "has other bytes", "is no file, but a folder", "is no file, but a symlink to nowhere", "stray is no object",
    ]  # fmt: skip
    assert answer.code == 5


@pytest.mark.reliability("G02")
def test_repair_puts_damage_aside_and_runs_the_producers_on_the_runs_that_made_it(ran):
    everything(ran)
    answer = ran.runner("store", "verify", "--repair")
    assert "\nrepair: a, b of run R1, in a new run\nREADY  p: 2 run\n" in answer.out
    assert answer.out.endswith("\nthe store ROOT/.runner is whole\n")
    assert (answer.code, ran.record()["started"]["reference"]) == (0, next(iter(ran.ids)))
    assert len(list((ran.root / ".runner/quarantine").iterdir())) == 4
    assert ran.output("b") == b"one\ntwo\n1\n"


@pytest.mark.reliability("G02")
def test_a_repair_that_needs_a_decision_says_so_and_leaves_the_damage_told(ran):
    ran.write(part_yaml="")
    ran.pipeline(PIPELINE.replace("echo two", "echo three"))
    HARMS["flipped, with inode, size and times as before"](
        stored(ran.root / ".runner", ran.record()["steps"]["b"]["outputs"]["o"]["digest"])
    )
    answer = ran.runner("store", "verify", "--repair")
    assert (answer.code, "NEEDS A DECISION" in answer.out) == (5, True)
    assert answer.out.endswith("\ndamaged: output o of b in run R1 is missing\n1 damaged\n")


@pytest.mark.reliability("G02")
def test_a_run_whose_journal_is_damaged_is_put_aside_and_keeps_its_bytes(ran):
    assert ran.runner("apply", "part.yaml").code == 0
    newest = ran.record()["run"]
    flip(ran.root / f".runner/runs/{newest}/journal.jsonl")
    answer = ran.runner("store", "verify", "--repair")
    assert (answer.code, answer.out.splitlines()[0].partition(" of the journal")[0][:13]) == (0, "damaged: line")
    assert [run["run"] for run in json.loads(ran.runner("runs", "-o", "json").raw)] == list(ran.ids)[:1]
    assert os.listdir(ran.root / ".runner/quarantine") == [newest]
    assert "removed: 0 runs, 0 stored files" in ran.runner("store", "gc").out


LOST = ["emptied", "deleted", "a dangling link", "a link to other bytes", "a pipe"]


@pytest.mark.reliability("G02")
@pytest.mark.parametrize("harm", LOST)
def test_who_asks_for_a_run_whose_journal_is_lost_is_told(ran, harm):
    run = ran.record()["run"]
    HARMS[harm](ran.root / f".runner/runs/{run}/journal.jsonl")
    asked = (
        f"show {run}", f"logs {run}", f"outputs {run} a", f"diff {run} {run}", f"retry {run}", f"resume {run}", f"approve {run} a",
        "store gc", "store verify",
    )  # fmt: skip
    answers = [ran.runner(*words.split()) for words in asked]
    assert [(a.code, "run R1 has lost its journal\n" in a.out + a.err) for a in answers] == [(5, True)] * len(asked)


@pytest.mark.reliability("G02")
@pytest.mark.parametrize(("name", "code"), [("format", 5), ("index.db", 5), ("removed.jsonl", 0)])
def test_a_pipe_in_place_of_a_file_of_the_store_keeps_nobody_waiting(ran, name, code):
    path = ran.root / ".runner" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    commands = ("runs", "plan p.yaml", "apply p.yaml --again", "store gc", "store verify")
    assert {words: ran.runner(*words.split()).code for words in commands} == dict.fromkeys(commands, code)


@pytest.mark.reliability("G02")
def test_what_a_plain_user_may_not_read_is_damage_and_the_rest_is_read(ran):
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    one, two, trees = part(ran, "o"), part(ran, "file of d"), part(ran, "manifest of d").parent
    flip(two)
    for path in [ran.root, *ran.root.rglob("*")]:
        os.chown(path, 65534, 65534)
    for above in list(ran.root.parents)[:-2]:
        above.chmod(above.stat().st_mode | 0o055)
    one.chmod(0)
    trees.chmod(0)
    # What the program imports is read before it becomes another user, who may not read where that is kept.
    code = (
        f"import os; os.chdir({str(ran.root)!r}); from runner.cli import run; run(['store', 'verify']);"
        "print('---', flush=True); os.setgid(65534); os.setuid(65534); raise SystemExit(run(['store', 'verify']))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent), "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    lines = done.stdout.partition("---\n")[2].splitlines()
    assert (done.returncode, done.stderr) == (5, "")
    run = ran.record()["run"]
    assert sorted(line.removeprefix("damaged: ") for line in lines) == sorted([
        f"objects/sha256/{one.parent.name}/{one.name} cannot be read (Permission denied)",
        f"objects/sha256/{two.parent.name}/{two.name} has other bytes", "trees cannot be read (Permission denied)",
        f"output d of a in run {run} is missing", "4 damaged",
    ])  # fmt: skip


# every byte

KINDS = {
    "object": "objects/sha256/*/*", "manifest": "trees/*", "journal": "runs/*/journal.jsonl", "index": "index.db", "format": "format",
    "plan mark": "plans/[0-9a-f]*", "model": "models/*/*.json",
}  # fmt: skip
REUSED = {
    "object",
    "manifest",
    "format",
}  # what a plan stands on; a changed journal or index is told, or takes nothing wrong


def whole_store(project: Project) -> tuple[Path, dict[str, str]]:
    """Return a store with two runs, and the digests of the plans that reuse all they made."""
    project.pipeline(PIPELINE + "      r: {kind: register, model: $(steps.b.outputs.o), group: g}\n")
    project.request("select: [b]\nparams: {x: 3}\n", name="part")
    assert project.runner("plan", "p.yaml", "--out", "plan.json").code == 0
    for args in (["plan.json"], ["p.yaml", "-p", "x=2"]):
        assert project.runner("apply", *args).code == 0
    return project.root / ".runner", plans(project)


def plans(project: Project) -> dict[str, str]:
    """Plan a selective and an incremental run in this process, and verify the bytes that they would reuse."""
    found = {}
    for name, x in (("part.yaml", ""), ("p.yaml", "1"), ("p.yaml", "2")):
        asked = app.read(str(project.root / name), {"x": x} if x else {})
        store = LocalStore(str(project.root / ".runner"), create=False)
        made = app.plan(asked, store)
        engine.verify_kept(made, store, whole=True)
        found[name + x] = made.digest
        store.index.close()
    return found


def dump(index: Path) -> list[str]:
    """Return all that an index says, or nothing if it cannot be read.

    Of which file and when a digest was noted is left out: where that has changed, the file is read again.
    """
    try:
        connection = sqlite3.connect(f"file:{index}?mode=ro", uri=True)
        lines = [
            re.sub(r"""(INTO "files" VALUES\().*(,[^,]*\);)""", r"\1FILE\2", line) for line in connection.iterdump()
        ]
        return [*lines, str(connection.execute("PRAGMA user_version").fetchone())]
    except (sqlite3.Error, UnicodeDecodeError):
        return []


def told_by_verify(path: Path) -> bool:
    try:
        store = LocalStore(str(path), create=False)
        damage = list(verify(store))
        store.index.close()
        return bool(damage or store.notices)
    except RunnerError:
        return True


def told_on_reuse(project: Project, before: dict[str, str]) -> bool:
    """Whether damage ends a plan or changes it; a plan that is the same has reused nothing that is wrong."""
    try:
        return plans(project) != before
    except RunnerError:
        return True


def change_bytes(project: Project, count: int, seed: int) -> dict[str, list[str]]:
    """Change single bytes anywhere in a store, one at a time; return those that were not found, by who did not."""
    path, before = whole_store(project)
    kept = project.root / "kept"
    shutil.copytree(path, kept, copy_function=shutil.copy2)
    rng = random.Random(seed)
    files = {kind: sorted(kept.glob(pattern)) for kind, pattern in KINDS.items()}
    text = dump(kept / "index.db")
    missed: dict[str, list[str]] = {"verify": [], "reuse": []}
    for _ in range(count):
        kind = rng.choice(list(KINDS))
        name = rng.choice(files[kind]).relative_to(kept)
        shutil.rmtree(path)
        shutil.copytree(kept, path)
        content = bytearray((path / name).read_bytes())
        place, by = rng.randrange(len(content)), rng.randrange(1, 256)
        content[place] ^= by
        overwrite(path / name, bytes(content))
        # A byte of the index that nothing is read from says nothing wrong; all others must be found.
        silent = kind == "index" and dump(path / "index.db") == text
        what = f"{name} byte {place} xor {by} (seed {seed})"
        if not told_on_reuse(project, before) and kind in REUSED and not harmless(kind, content):
            missed["reuse"].append(what)
        shutil.rmtree(path)
        shutil.copytree(kept, path)
        overwrite(path / name, bytes(content))
        if not silent and not told_by_verify(path):
            missed["verify"].append(what)
    return missed


def harmless(kind: str, content: bytes) -> bool:
    """A blank for a line feed behind the number of the format says the same."""
    return kind == "format" and content.decode("latin-1").strip() == "1"


@pytest.mark.reliability("G01", "G02")
def test_changed_bytes_are_found_by_verify_and_on_reuse(project):
    assert change_bytes(project, 60, seed=1) == {"verify": [], "reuse": []}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.reliability("G01", "G02")
def test_a_thousand_changed_bytes_are_found_by_verify_and_on_reuse(project):
    assert change_bytes(project, 1000, seed=2) == {"verify": [], "reuse": []}


# inputs that change while they are read

INPUT = """
    steps:
      a: {kind: shell, inputs: {i: in.csv}, script: 'sleep 1.5; cat $RUNNER_INPUT_I > o', outputs: {o: {type: file}}}
"""
FOLDER = INPUT.replace("in.csv", "./data").replace("cat $RUNNER_INPUT_I", "cat $RUNNER_INPUT_I/in.csv")


def edited_and_back(path: Path) -> None:
    content = path.read_bytes()
    found = path.stat()
    path.write_bytes(b"evil\n")
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def exchanged_and_back(path: Path) -> None:
    aside = path.with_suffix(".aside")
    os.rename(path, aside)
    path.write_bytes(b"evil\n")
    os.rename(aside, path)


EDITS = {
    "edited": lambda path: path.write_bytes(b"evil\n"),
    "edited and back": edited_and_back,
    "exchanged and back": exchanged_and_back,
    "appended": lambda path: path.open("ab").write(b"x"),
}


@pytest.mark.reliability("G06")
@pytest.mark.parametrize(
    ("pipeline", "name", "edit"),
    [
        *((INPUT, "in.csv", edit) for edit in EDITS), (FOLDER, "data/in.csv", "edited and back"),
        (INPUT.replace("inputs: {", "workdir: project, inputs: {").replace("> o", "> $RUNNER_OUTPUT_O"), "in.csv", "edited and back"),
    ],
    ids=[*EDITS, "in a folder", "workdir project"],
)  # fmt: skip
def test_a_result_of_an_input_that_was_edited_while_it_was_read_is_not_kept(project, pipeline, name, edit):
    project.pipeline(pipeline)
    path = project.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("good\n")
    process = project.start("apply", "p.yaml")
    assert process.stdout is not None
    while "a: started" not in process.stdout.readline():
        pass
    EDITS[edit](path)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, "in.csv" in out or "data" in out) == (6, True)
    path.write_text("good\n")
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, project.statuses(), project.output("a")) == (0, {"a": "succeeded"}, b"good\n")


# artifacts that execute something when they are unpickled


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def npy(content: bytes) -> bytes:
    """Return a .npy file of one object, whose bytes are a pickle."""
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content


@pytest.mark.reliability("J08")
def test_no_command_unpickles_an_artifact(project, tmp_path):
    sentinel = tmp_path / "sentinel"
    content = pickle.dumps(Evil(str(sentinel)))
    pickle.loads(content)
    sentinel.rmdir()  # the attack works where anybody unpickles it
    for name, data in (("e.pkl", content), ("e.joblib", content), ("e.npy", npy(content))):
        (project.root / name).write_bytes(data)
    project.pipeline("""
        params: {x: {type: integer, default: 1}}
        steps:
          a:
            kind: shell
            env: {X: $(params.x)}
            inputs: {p: e.pkl, j: e.joblib, n: e.npy}
            script: cp e.pkl m.pkl; cp e.joblib m.joblib; cp e.npy m.npy; mkdir d; cp e.pkl d/$X
            outputs: {p: {type: file, path: m.pkl}, j: {type: file, path: m.joblib}, n: {type: file, path: m.npy}, d: {type: dir}}
          b: {kind: shell, inputs: {d: $(steps.a.outputs.d)}, script: ls $RUNNER_INPUT_D > o, outputs: {o: {type: file}}}
          r: {kind: register, model: $(steps.a.outputs.p), group: g}
    """)
    project.request("select: [b]\nparams: {x: 2}\n", name="part")
    for x in "12":
        assert project.runner("apply", "p.yaml", "-p", f"x={x}").code == 0
    one, two = (run["run"] for run in json.loads(project.runner("runs", "-o", "json").raw))
    codes = {
        " ".join(args): project.runner(*args).code
        for args in (
            ["show", one], ["diff", one, two], ["outputs", one, "a"], ["outputs", one, "a", "copied"], ["logs", one], ["models"],
            ["models", "show", "g"], ["store", "verify"], ["store", "gc", "--keep-last", "1"], ["store", "du"], ["store", "reindex"],
            ["plan", "p.yaml"], ["doctor"],
        )
    }  # fmt: skip
    assert (set(codes.values()), sentinel.exists()) == ({0}, False)
    flip(stored(project.root / ".runner", project.record()["steps"]["a"]["outputs"]["p"]["digest"]))
    assert project.runner("store", "verify", "--repair").code == 0
    assert not sentinel.exists()


MADE = {
    "a large file": ("head -c 200000 /dev/zero > o", "file"),
    "a small file": ("echo small > o", "file"),
    "a large file in a directory": ("mkdir o; head -c 200000 /dev/zero > o/f", "dir"),
    "a small file in a directory": ("mkdir o; echo small > o/f", "dir"),
}


@pytest.mark.reliability("G02")
@pytest.mark.parametrize("size", ["another size", "the same size"])
@pytest.mark.parametrize("made", MADE)
def test_bytes_that_an_unsealed_step_has_changed_are_not_used_in_the_same_run(project, made, size):
    """Such a step may write to the store: what it did is found when the bytes are read next."""
    script, kind = MADE[made]
    write = "printf x >> $f" if size == "another size" else "printf x | dd of=$f bs=1 conv=notrunc status=none"
    project.pipeline(f"""
        steps:
          make: {{kind: shell, script: '{script}', outputs: {{o: {{type: {kind}}}}}}}
          harm:
            kind: shell
            workdir: project
            needs: [make]
            script: 'for f in .runner/objects/*/*/*; do chmod u+w $f; {write}; done'
          use: {{kind: shell, needs: [harm], inputs: {{o: $(steps.make.outputs.o)}}, script: echo used}}
    """)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, project.statuses()) == (5, {"make": "succeeded", "harm": "succeeded", "use": "failed"})
    assert "has not the bytes that were stored" in answer.out
