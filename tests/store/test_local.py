"""The store on disk: damage is found before bytes are used again, the index can be lost, the journal can be torn."""

import json
import os
from pathlib import Path

import pytest

PIPELINE = """
    params: {x: {type: integer, default: 1}}
    steps:
      a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
      b: {kind: shell, inputs: {i: $(steps.a.outputs.o)}, env: {X: $(params.x)}, script: cat $RUNNER_INPUT_I > o; echo $X >> o, outputs: {o: {type: file}}}
"""


@pytest.fixture
def ran(project):
    project.pipeline(PIPELINE)
    project.request("select: [b]\nparams: {x: 2}\n", name="part")
    assert project.runner("apply", "p.yaml").code == 0
    return project


def thing(project, step="a"):
    digest = project.record()["steps"][step]["outputs"]["o"]["digest"].removeprefix("sha256:")
    return project.root / ".runner/objects/sha256" / digest[:2] / digest


def flip(path: Path) -> None:
    """Change one byte and put time and mode back, as a careful villain would."""
    found = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    path.chmod(0o444)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replace(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


DAMAGE = {
    "flipped": flip,
    "emptied": lambda path: replace(path, b""),
    "appended": lambda path: replace(path, path.read_bytes() + b"x"),
    "deleted": lambda path: path.unlink(),
    "swapped": lambda path: replace(path, b"other"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_g01_g02_a_damaged_result_is_not_reused(ran, damage):
    damage(thing(ran))
    answer = ran.runner("plan", "part.yaml")
    assert answer.code == 5
    assert answer.err.startswith("error: output o of a (R1) ")
    assert answer.err.endswith("  = help: run a again: add it to `select`\n")
    assert ran.runner("apply", "part.yaml").code == 5
    assert len(json.loads(ran.runner("runs", "-o", "json").raw)) == 1


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_g01_g02_a_damaged_cached_result_is_put_aside_and_its_step_runs(ran, damage):
    before = ran.output("b")
    damage(thing(ran))
    assert ran.runner("plan", "p.yaml").code == 5
    answer = ran.runner("apply", "p.yaml", "--again")
    assert answer.code == 0
    assert ran.statuses() == {"a": "succeeded", "b": "cached"}
    assert ran.output("b") == before
    assert ran.runner("store", "verify").code == 0


def test_verify_lists_all_damage(ran):
    thing(ran, "a").unlink()
    flip(thing(ran, "b"))
    answer = ran.runner("store", "verify")
    assert answer.code == 5
    assert sorted(line.split("/")[-1].split(" ", 1)[-1] for line in answer.out.splitlines()) == [
        "damaged",
        "has other bytes",
        "output o of a in run R1 is missing",
    ]


def test_damage_that_nothing_refers_to_is_told_of_and_is_no_loss(ran):
    """As after a power cut before the journal came to name it."""
    object, manifest = (ran.root / f".runner/{place}{'a' * 64}" for place in ("objects/sha256/aa/", "trees/"))
    object.parent.mkdir(exist_ok=True)
    for path in (object, manifest):
        path.write_bytes(b"half")
    told = [f"leftover: {p.relative_to(ran.root / '.runner')}" for p in (object, manifest)]
    assert ran.runner("store", "verify").out.splitlines() == [
        f"{told[0]} has other bytes; nothing refers to it",
        f"{told[1]} has other bytes; nothing refers to it",
        "the store ROOT/.runner is whole",
        "`runner store gc` removes what is left over",
    ]
    assert ran.runner("store", "verify").code == 0
    flip(thing(ran, "b"))
    answer = ran.runner("store", "verify")
    assert (answer.code, answer.out.splitlines()[-2:]) == (
        5,
        ["1 damaged", "`runner store gc` removes what is left over"],
    )
    assert ran.runner("store", "gc").code == 0
    assert not object.exists() and not manifest.exists()


@pytest.mark.parametrize("harm", ["deleted", "garbage", "emptied"])
def test_a_lost_index_is_made_anew_and_loses_nothing(ran, harm):
    index = ran.root / ".runner/index.db"
    for end in ("-wal", "-shm"):
        (ran.root / f".runner/index.db{end}").unlink(missing_ok=True)
    index.unlink()
    if harm != "deleted":
        index.write_bytes(b"garbage" * 1000 if harm == "garbage" else b"")
    answer = ran.runner("runs", "-o", "json")
    assert (answer.code, len(json.loads(answer.raw))) == (0, 1)
    assert ran.runner("apply", "p.yaml").out == "nothing to do: run R1 has done this already (--again runs it anew)\n"


def test_reindex_by_hand(ran):
    assert str(ran.runner("store", "reindex")) == "1 runs are in the index\n[exit 0]"


def test_a_torn_last_line_is_dropped(ran):
    journal = next((ran.root / ".runner/runs").glob("*/journal.jsonl"))
    content = journal.read_bytes()
    journal.write_bytes(content[: content.rfind(b"\n", 0, -1) + 20])
    assert ran.record()["status"] == "interrupted"
    assert ran.statuses() == {"a": "succeeded", "b": "succeeded"}


def test_a_damaged_line_in_the_middle_is_told(ran):
    journal = next((ran.root / ".runner/runs").glob("*/journal.jsonl"))
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], b"garbage", *lines[2:]]))
    answer = ran.runner("show", ran.root.joinpath(".runner/runs").iterdir().__next__().name)
    assert (answer.code, answer.err.splitlines()[0]) == (5, "error: line 2 of the journal of run R1 is damaged")


def test_a_store_of_a_newer_format_is_refused(ran):
    (ran.root / ".runner/format").write_text("2\n")
    assert (
        str(ran.runner("runs"))
        == "error: the store ROOT/.runner has format 2; this runner knows 1\n  = help: use the runner that wrote it, or a newer one\n[exit 6]"
    )


def test_planning_makes_no_store(project):
    project.pipeline(PIPELINE)
    assert project.runner("plan", "p.yaml").code == 0
    assert not (project.root / ".runner").exists()


def test_the_store_may_be_elsewhere(project, tmp_path_factory):
    project.pipeline(PIPELINE)
    other = tmp_path_factory.mktemp("elsewhere")
    assert project.runner("apply", "p.yaml", "--store", str(other / "s")).code == 0
    assert project.runner("apply", "p.yaml", env={"RUNNER_STORE": str(other / "s")}).out.startswith("nothing to do")
    assert not (project.root / ".runner").exists()


@pytest.mark.reliability("E03")
def test_eight_applies_at_once_all_succeed(project):
    project.pipeline(PIPELINE)
    processes = [project.start("apply", "p.yaml", "--again") for _ in range(8)]
    assert [(p.wait(60), p.communicate()[1]) for p in processes] == [(0, "")] * 8
    assert len(json.loads(project.runner("runs", "-o", "json").raw)) == 8
    assert project.runner("store", "verify").code == 0


@pytest.mark.reliability("E07")
def test_a_user_who_may_only_read_can_look(ran):
    import subprocess

    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    ran.root.chmod(0o755)
    for path in ran.root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for above in list(ran.root.parents)[:-2]:
        above.chmod(above.stat().st_mode | 0o055)
    run = ran.record()["run"]
    code = f"import os; from runner.cli import run; os.chdir({str(ran.root)!r}); [run([c, *a]) for c, a in (('show', [{run!r}]), ('runs', []), ('logs', [{run!r}]))]; os.setgid(65534); os.setuid(65534); raise SystemExit(run(['show', {run!r}]) or run(['runs']) or run(['logs', {run!r}]))"
    import sys

    import runner

    env = {**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent), "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
