"""Formats: what a newer runner wrote is refused before anything is written; what every version wrote is read for ever."""

import hashlib
import json
import os
import sqlite3
import tarfile
from pathlib import Path
from zlib import crc32

import pytest

from runner import record
from runner.store import journal
from tests.golden.make import PART, PIPELINE, make, pack
from tests.kit import Project
from tests.reliability.test_corruption import stored

GOLDEN = sorted(Path(__file__).parent.parent.joinpath("golden").glob("*.tar"))
SIMPLE = """
    params: {x: {type: integer, default: 1}}
    steps:
      a: {kind: shell, script: mkdir d; echo 1 > d/f, outputs: {d: {type: dir}}}
      b:
        kind: shell
        inputs: {i: $(steps.a.outputs.d)}
        env: {X: $(params.x)}
        script: cat $RUNNER_INPUT_I/f > o; echo $X >> o
        outputs: {o: {type: file}}
      r: {kind: register, model: $(steps.b.outputs.o), group: g}
"""


def journal_of(project: Project) -> Path:
    return next((project.root / ".runner/runs").glob("*/journal.jsonl"))


def rewrite(path: Path, change) -> None:
    """Change the events of a journal, with sums that are right for what it then says."""
    sum, lines = 0, []
    for line in path.read_text().splitlines():
        event = json.loads(line)
        event.pop("sum")
        change(event)
        text = json.dumps(event, separators=(",", ":")).encode()
        sum = crc32(text[:-1], sum)
        lines.append(text[:-1] + b',"sum":"%08x"}\n' % sum)
    path.write_bytes(b"".join(lines))


def newer_journal(project: Project) -> None:
    rewrite(journal_of(project), lambda e: e.update(format=99) if e["event"] == "run_started" else None)


def newer_journal_of_another_form(project: Project) -> None:
    path = journal_of(project)
    first = json.loads(path.read_text().splitlines()[0]) | {"format": 99}
    path.write_text(json.dumps(first) + "\n\0\0something else\n")


def newer_fingerprint(project: Project) -> None:
    rewrite(journal_of(project), lambda e: e["recipe"].update(format=99) if e.get("recipe") else None)


def newer_store(project: Project) -> None:
    (project.root / ".runner/format").write_text("99\n")


def newer_index(project: Project) -> None:
    connection = sqlite3.connect(project.root / ".runner/index.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()


def newer_manifest(project: Project) -> None:
    """A directory whose manifest has a newer format, and the journal that names it."""
    store = project.root / ".runner"
    old = next((store / "trees").iterdir())
    content = old.read_bytes().replace(b'"format":1', b'"format":99')
    new = hashlib.sha256(content).hexdigest()
    (store / "trees" / new).write_bytes(content)
    path = journal_of(project)
    path.write_text(path.read_text().replace(old.name, new))
    rewrite(path, lambda e: None)


def newer_model(project: Project) -> None:
    path = project.root / ".runner/models/g/1.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))


def snapshot(project: Project) -> dict[str, str]:
    """Return the digests of all files, but of what SQLite keeps beside an open database."""
    files = [p for p in project.root.rglob("*") if p.is_file() and not p.name.endswith(("-wal", "-shm"))]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


PLAN, APPLY, AGAIN = ["plan", "part.yaml"], ["apply", "part.yaml"], ["apply", "p.yaml", "--again"]
VERIFY, GC, REINDEX, DOCTOR = ["store", "verify"], ["store", "gc", "--keep-last", "1"], ["store", "reindex"], ["doctor"]
NEWER = [
    (newer_store, [PLAN, APPLY, AGAIN, VERIFY, GC, REINDEX, DOCTOR], "the store ROOT/.runner has format 99; this runner knows 1"),
    (newer_index, [PLAN, APPLY, GC, VERIFY], "index.db has format 99; this runner knows 4"),
    (newer_journal, [PLAN, APPLY, VERIFY, GC], "the journal format of run R1 is 99; this runner knows 2"),
    (newer_journal_of_another_form, [PLAN, APPLY, VERIFY, GC], "the journal format of run R1 is 99; this runner knows 2"),
    (newer_fingerprint, [PLAN, APPLY, VERIFY, GC], "the fingerprint format of run R1 is 99; this runner knows 1"),
    (newer_manifest, [PLAN, APPLY, VERIFY, GC], "has format 99; this runner knows 1"),
    (newer_model, [["models"], VERIFY, GC], "1.json has format 99; this runner knows 1"),
]  # fmt: skip


@pytest.mark.reliability("U02")
@pytest.mark.parametrize(("harm", "commands", "said"), NEWER, ids=[row[0].__name__ for row in NEWER])
def test_what_a_newer_runner_wrote_is_refused_before_anything_is_written(project, harm, commands, said):
    project.pipeline(SIMPLE)
    project.request("select: [b]\nparams: {x: 2}\n", name="part")
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("runs").code == 0  # SQLite takes its log in when the next process opens the index
    harm(project)
    before = snapshot(project)
    for command in commands:
        answer = project.runner(*command)
        assert (command, answer.code, said in answer.err + answer.out) == (command, 6, True)
    assert snapshot(project) == before


@pytest.mark.reliability("U02")
def test_a_plan_file_of_a_newer_format_is_refused_before_anything_is_written(project):
    project.pipeline(SIMPLE)
    assert project.runner("plan", "p.yaml", "--out", "plan.json").code == 0
    path = project.root / "plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    before = snapshot(project)
    for command in (["apply", "plan.json"], ["plan", "--check", "plan.json"]):
        assert str(project.runner(*command)) == (
            "error: plan.json is a plan of format 99; this runner knows 1\n  = help: use the runner that wrote it\n[exit 6]"
        )
    assert snapshot(project) == before


def test_a_journal_from_before_there_were_sums_is_read_and_goes_on_as_it_began(tmp_path):
    started = {"event": "run_started", "run": "r", "pipeline": "p"}
    lines = [json.dumps(started).encode(), b'{"event":"run_stopping","reason":"x"}', b""]
    assert (journal.damaged_line(lines), journal.last_sum(b"\n".join(lines))) == (0, None)
    stopping = record.RunStopping(reason="x")
    assert journal.written([stopping], None) == (b'{"event":"run_stopping","reason":"x"}\n', None)
    text, sum = journal.written([stopping, stopping], 0)
    assert (journal.damaged_line(text.split(b"\n")), journal.last_sum(text)) == (0, sum)


# golden


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request, project) -> Project:
    """A project with the store of an earlier version."""
    with tarfile.open(request.param) as tar:
        tar.extractall(project.root / ".runner", filter="data")
    project.pipeline(PIPELINE)
    project.request(PART.replace("x: 2", "x: 3"), name="part")
    return project


@pytest.mark.reliability("U02")
def test_a_store_of_every_version_is_opened_verified_and_planned_against(golden):
    told = str(golden.runner("store", "verify")).splitlines(keepends=True)
    # An archive keeps no modes of files that may only be read.
    assert "".join(line for line in told if "may be written: its mode is" not in line) == (
        "the store ROOT/.runner is whole\nnote: the index was missing or damaged; it was made anew from the journals\n[exit 0]"
    )
    runs = json.loads(golden.runner("runs", "-o", "json").raw)
    assert [run["status"] for run in runs] == ["succeeded"] * 3
    assert golden.runner("show", runs[0]["run"]).code == 0
    assert golden.runner("diff", runs[2]["run"], runs[1]["run"]).code == 0
    assert [v["version"] for v in json.loads(golden.runner("models", "-o", "json").raw)] == [2, 1]
    plan = json.loads(golden.runner("plan", "part.yaml", "-o", "json").raw)
    # Whether what was made on another machine counts here is a finding; that it is found is what is asked.
    assert {name: step["decision"] for name, step in plan["steps"].items() if name in ("a", "b")} == {
        "a": "reuse",
        "b": "run",
    }
    assert plan["reference"]["run"] in [run["run"] for run in runs]


@pytest.mark.reliability("U02")
def test_garbage_of_a_store_of_every_version_is_only_what_is_garbage(golden):
    assert golden.runner("store", "gc").out == "removed: 0 runs, 0 stored files, 0 leftovers of attempts: 0 bytes\n"
    output = golden.record()["steps"]["a"]["outputs"]["o"]["digest"]
    assert stored(golden.root / ".runner", output).read_bytes() == b"one\n"


def test_the_golden_store_can_be_made_anew(tmp_path):
    (tmp_path / "p").mkdir()
    pack(make(tmp_path / "p"), tmp_path / "new.tar")
    with tarfile.open(tmp_path / "new.tar") as new, tarfile.open(GOLDEN[-1]) as old:
        assert [{os.path.dirname(n).split("/")[0] for n in tar.getnames()} for tar in (new, old)] == [
            {"", "objects", "runs", "trees", "models"}
        ] * 2
