"""Garbage collection: what stays, what goes, and that nothing goes that a kept run, a pin, a plan or a model needs."""

import contextlib
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import EnvironmentFailure, Moved, ReferenceRunError, StoreDamaged
from runner.executors.collecting import keep, keep_tree
from runner.executors.folders import remove
from runner.record import AttemptFailed, RunEnded, RunStarted, RunWaiting, StepEnded, StepWaiting
from runner.store import garbage
from runner.store.garbage import Limits, collect
from runner.store.local import LocalStore
from runner.store.verify import verify

NONE, LAST = Limits(), Limits(last=1)


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "store"), create=True)


def put(store: LocalStore, content: str) -> dict[str, object]:
    """Publish a file as a worker does; return it as an output."""
    path = f"{store.path}/tmp/new"
    Path(path).write_text(content)
    digest, size, *_ = keep(path, store.places()[0])
    return {"type": "file", "run": "r", "digest": digest, "size": size}


def put_folder(store: LocalStore, **files: str) -> dict[str, object]:
    path = Path(f"{store.path}/tmp/folder")
    path.mkdir()
    for name, content in files.items():
        (path / name).write_text(content)
    digest, size = keep_tree(str(path), *store.places())
    path.rmdir()
    return {"type": "dir", "run": "r", "digest": digest, "size": size}


def started(run: str, pipeline: str = "p", at: float = 1e9, **more) -> RunStarted:
    return RunStarted(
        run=run, pipeline=pipeline, path="p.yaml", definition="d", request={}, request_digest="q", plan_digest="", params={},
        sources={}, decisions={"a": "run"}, at=at, **more,
    )  # fmt: skip


def ended(outputs, status: str = "succeeded", recipe=None, **more) -> StepEnded:
    return StepEnded(
        step="a", status=status, fingerprint="sha256:f", outputs=outputs, produced_by="r", recipe=recipe or {}, **more
    )


def run_of(store: LocalStore, outputs, status: str = "succeeded", at: float = 1e9, pipeline: str = "p", **more) -> str:
    run, ledger = store.begin()
    ledger.append([started(run, pipeline, at), ended(outputs, **more), RunEnded(status=status, at=at)])
    ledger.close()
    return run


def held(store: LocalStore) -> list[str]:
    """Return the contents of all objects."""
    return sorted(p.read_text() for p in Path(store.path, "objects").rglob("*") if p.is_file())


def ids(store: LocalStore) -> list[str]:
    return sorted(os.listdir(f"{store.path}/runs"))


def checksums(store: LocalStore) -> dict[str, str]:
    files = [p for p in Path(store.path).rglob("*") if p.is_file() and not p.name.startswith("index.db")]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def swept(store: LocalStore, limits: Limits = NONE) -> garbage.Garbage:
    """Collect, and check that a dry run said the same before, and that what is left is whole."""
    said = collect(store, limits, True, print)
    found = collect(store, limits, False, print)
    assert replace(said) == found
    assert list(verify(LocalStore(store.path, create=False))) == []
    return found


def test_without_limits_only_bytes_that_no_run_refers_to_go(store):
    run = run_of(store, {"o": put(store, "kept")})
    put(store, "stray")
    put_folder(store, f="of a stray folder")
    found = swept(store)
    assert (held(store), ids(store)) == (["kept"], [run])
    assert (len(found.files), found.runs) == (3, ())


def test_all_that_a_record_names_stays(store):
    listed = {
        "type": "list",
        "run": "r",
        "items": [put(store, "in a list"), None, put_folder(store, f="in a listed folder")],
    }
    code = put(store, "code")["digest"]
    run_of(
        store,
        {"o": put(store, "o"), "d": put_folder(store, f="in a folder"), "l": listed},
        recipe={"code": [["s.py", "", code]]},
    )
    assert swept(store).files == {}
    assert held(store) == ["code", "in a folder", "in a list", "in a listed folder", "o"]


def test_the_newest_runs_of_each_pipeline_stay(store):
    runs = [run_of(store, {"o": put(store, f"{n}")}, at=1e9 - n) for n in range(4)]  # the clock was set back
    other = run_of(store, {"o": put(store, "other")}, pipeline="q")
    swept(store, Limits(last=2))
    assert (ids(store), held(store)) == (sorted([*runs[2:], other]), ["2", "3", "other"])
    assert [r.run for r in store.runs()] == [other, *runs[:1:-1]]


def test_runs_that_ended_lately_stay(store):
    old = run_of(store, {"o": put(store, "old")}, at=time.time() - 3 * 86400)
    new = [run_of(store, {"o": put(store, f"new {n}")}, at=time.time() - 86400) for n in (1, 2)]
    assert [r.id for r in swept(store, Limits(days=2)).runs] == [old]
    assert ids(store) == sorted(new)


def test_a_run_within_either_limit_stays(store):
    day = 86400
    runs = [run_of(store, {"o": put(store, f"{n}")}, at=time.time() - n * day) for n in (9, 1, 8)]
    assert [r.id for r in swept(store, Limits(last=1, days=2)).runs] == runs[:1]


def test_what_a_kept_run_shares_with_a_removed_one_stays(store):
    shared = put_folder(store, f="shared")
    first = run_of(store, {"o": shared, "x": put(store, "alone")})
    run_of(store, {"o": shared}, status="succeeded")
    assert [r.id for r in swept(store, LAST).runs] == [first]
    assert held(store) == ["shared"]


@pytest.mark.parametrize("status", ["reused", "cached"])
def test_what_a_kept_run_has_taken_from_a_removed_one_stays(store, status):
    outputs = {"o": put(store, "1"), "d": put_folder(store, f="2")}
    run_of(store, outputs)
    run, ledger = store.begin()
    ledger.append([started(run), replace(ended(outputs), status=status), RunEnded(status="succeeded")])
    ledger.close()
    swept(store, LAST)
    assert (ids(store), held(store)) == ([run], ["1", "2"])


def test_the_newest_success_stays_beyond_the_limits(store):
    good = run_of(store, {"o": put(store, "good")})
    for n in range(3):
        run_of(store, {"o": put(store, f"bad {n}")}, status="failed")
    assert dict(swept(store, LAST).kept) == {good: "the newest success of p"}


def test_a_pinned_run_stays_until_it_is_unpinned(store):
    runs = [run_of(store, {"o": put(store, f"{n}")}) for n in range(3)]
    garbage.pin(store, runs[0])
    assert dict(swept(store, LAST).kept) == {runs[0]: "pinned"}
    assert (garbage.pinned(store), held(store)) == ([runs[0]], ["0", "2"])
    assert (garbage.unpin(store, runs[0]), garbage.unpin(store, runs[0])) == (True, False)
    swept(store, LAST)
    assert ids(store) == runs[2:]


def test_a_run_that_waits_stays(store):
    run, ledger = store.begin()
    waiting = StepWaiting(step="b", kind="approval")
    ledger.append([started(run), ended({"o": put(store, "1")}), waiting, RunWaiting(run=run, steps={"b": "approval"})])
    ledger.close()
    run_of(store, {"o": put(store, "2")})
    assert dict(swept(store, LAST).kept) == {run: "it is waiting"}


def test_beside_a_live_run_it_is_refused(store, monkeypatch):
    monkeypatch.setattr(garbage, "PATIENCE", 0.2)
    run, ledger = store.begin()
    ledger.append([started(run)])
    put(store, "not told yet")
    with pytest.raises(Moved, match=f"the store is in use by run {run}"):
        collect(store, LAST, False, print)
    assert held(store) == ["not told yet"]
    ledger.close()
    assert len(swept(store).files) == 1


def test_while_somebody_plans_it_waits_and_then_goes_on(store, monkeypatch):
    monkeypatch.setattr(garbage, "PATIENCE", 0.2)
    told: list[str] = []
    with store.in_use(), pytest.raises(Moved, match="in use by a plan or apply"):
        collect(store, NONE, True, told.append)
    assert told == ["waiting for a plan or apply"]
    assert collect(store, NONE, True, told.append) == garbage.Garbage()


def test_a_run_that_an_open_plan_stands_on_stays_until_the_plan_is_applied_or_given_up(store):
    runs = [run_of(store, {"o": put(store, f"{n}")}) for n in range(3)]
    for n, name in enumerate(("aa", "bb")):
        garbage.note_plan(store, f"sha256:{name}", [runs[n]])
    assert dict(swept(store, LAST).kept) == {
        runs[0]: "the plan sha256:aa stands on it",
        runs[1]: "the plan sha256:bb stands on it",
    }
    Path(store.path, "plans/aa").write_text(f"{runs[2]}\n")  # as an apply does
    old = time.time() - 31 * 86400
    os.utime(f"{store.path}/plans/open/bb", (old, old))
    swept(store, LAST)
    assert (ids(store), os.listdir(f"{store.path}/plans/open")) == (runs[2:], [])


@pytest.mark.parametrize(
    ("status", "left"), [("approved", ["m", "new", "other"]), ("pending", ["m", "new"]), ("rejected", ["m", "new"])]
)
def test_a_registered_model_stays_and_of_an_approved_one_the_run_that_made_it(store, status, left):
    model = put(store, "m")
    run = run_of(store, {"o": model, "x": put(store, "other")})
    version = {
        "group": "g", "status": status, "metrics": {}, "metadata": {}, "run": run, "step": "r", "pipeline": "p", "by": "",
        "model": {"type": "file", "name": "m", "digest": model["digest"], "size": 1, "run": run, "step": "a", "output": "o"},
    }  # fmt: skip
    store.register(version)
    run_of(store, {"o": put(store, "new")})
    swept(store, LAST)
    assert held(store) == left


def damage_journal(store: LocalStore, run: str) -> None:
    path = Path(store.path, "runs", run, "journal.jsonl")
    path.write_bytes(path.read_bytes().replace(b"succeeded", b"Succeeded", 1))


def lose_journal(store: LocalStore, run: str) -> None:
    Path(store.path, "runs", run, "journal.jsonl").unlink()


def directory_for_journal(store: LocalStore, run: str) -> None:
    lose_journal(store, run)
    Path(store.path, "runs", run, "journal.jsonl").mkdir()


def lose_run(store: LocalStore, run: str) -> None:
    remove(f"{store.path}/runs/{run}")


def damage_manifest(store: LocalStore, run: str) -> None:
    path = next(Path(store.path, "trees").iterdir())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")


def damage_model(store: LocalStore, run: str) -> None:
    Path(store.path, "models/g").mkdir(parents=True)
    Path(store.path, "models/g/1.json").write_text("{")


@pytest.mark.reliability("G01")
@pytest.mark.parametrize(
    "harm",
    [damage_journal, lose_journal, directory_for_journal, lose_run, damage_manifest, damage_model],
    ids=lambda f: f.__name__,
)
def test_what_cannot_be_read_ends_it_before_anything_is_removed(store, harm):
    run_of(store, {"o": put(store, "old")})
    run = run_of(store, {"o": put(store, "1"), "d": put_folder(store, f="2")})
    put(store, "stray")
    harm(store, run)
    before = checksums(store)
    for limits in (NONE, LAST):
        with pytest.raises(StoreDamaged):
            collect(LocalStore(store.path, create=False), limits, False, print)
    assert checksums(store) == before


@pytest.mark.reliability("U02")
def test_a_run_of_a_newer_format_ends_it_before_anything_is_removed(store):
    run, ledger = store.begin()
    ledger.append([started(run, format=99)])
    ledger.close()
    put(store, "stray")
    before = checksums(store)
    with pytest.raises(EnvironmentFailure, match=r"the journal format of run .* is 99; this runner knows 2"):
        collect(store, LAST, False, print)
    assert checksums(store) == before


def test_what_dead_attempts_left_goes_whatever_its_modes(store):
    folder = Path(store.path, "tmp/20200101-0000-aaaa/a.1")
    folder.mkdir(parents=True)
    (folder / "out").write_text("x" * 100)
    (folder / "link").symlink_to("/etc")
    folder.chmod(0)
    (Path(store.path) / "tmp/code-1").write_text("x")
    assert swept(store).leftovers == ("20200101-0000-aaaa", "code-1")
    assert os.listdir(f"{store.path}/tmp") == []
    assert os.path.exists("/etc/passwd")


def test_a_run_that_died_before_its_first_event_goes(store):
    run, ledger = store.begin()
    ledger.close()
    assert swept(store).never_began == (run,)
    assert ids(store) == []


def test_an_interrupted_run_is_a_run(store):
    run, ledger = store.begin()
    ledger.append([started(run), ended({"o": put(store, "1")})])
    ledger.append([AttemptFailed(step="a", attempt=1, cause="exit", message="", wait=0)])
    ledger.close()
    assert (swept(store).files, ids(store)) == ({}, [run])


def test_what_was_removed_is_not_offered_and_its_id_says_so(store):
    old = run_of(store, {"o": put(store, "1")})
    new = run_of(store, {"o": put(store, "2")})
    swept(store, LAST)
    opened = LocalStore(store.path, create=False)
    assert [s.outputs["o"]["digest"] for s in opened.successes("sha256:f")] == [
        "sha256:" + hashlib.sha256(b"2").hexdigest()
    ]
    assert ([r.run for r in opened.runs()], opened.run(old), opened.reindex()) == ([new], None, 1)
    with pytest.raises(ReferenceRunError, match=f"run {old} was removed by `runner store gc`, "):
        opened.resolve(old[-4:])


def test_it_stands_a_crash_between_any_two_of_its_steps(store, monkeypatch):
    """Whatever call it dies at, the next one ends what it began, and no run is without its bytes."""

    class Died(BaseException):
        pass

    class Clock:
        def __init__(self, at: int) -> None:
            self.left = at

        def counted(self, real):
            def call(*args, **more):
                self.left -= 1
                if self.left == 0:
                    raise Died
                return real(*args, **more)

            return call

    died = 0
    while True:
        clock = Clock(died + 1)
        run_of(store, {"o": put(store, f"old {died}"), "d": put_folder(store, f=f"folder {died}")})
        run_of(store, {"o": put(store, "new")})
        with monkeypatch.context() as patch:
            for name in ("rename", "unlink", "fsync"):
                patch.setattr(garbage.os, name, clock.counted(getattr(os, name)))
            with contextlib.suppress(Died):
                collect(store, LAST, False, print)
        store.index.close()
        store = LocalStore(store.path, create=False)
        assert list(verify(store)) == []
        swept(store, LAST)
        assert held(store) == ["new"]
        if clock.left > 0:
            break
        died += 1
    assert died > 5


# the commands

PIPELINE = """
    params: {x: {type: integer, default: 1}}
    steps:
      a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
      b: {kind: shell, inputs: {i: $(steps.a.outputs.o)}, env: {X: $(params.x)}, script: cat $RUNNER_INPUT_I > o; echo $X >> o, outputs: {o: {type: file}}}
"""


def test_the_commands_say_what_goes_and_the_same_when_it_has_gone(project):
    project.pipeline(PIPELINE)
    for x in "123":
        assert project.runner("apply", "p.yaml", "-p", f"x={x}").code == 0
    runs = [run["run"] for run in json.loads(project.runner("runs", "-o", "json").raw)][::-1]
    project.request(f"reference: {runs[1]}\nselect: [b]\n", name="gone")
    assert str(project.runner("pin", runs[0][-4:])) == "run R1 is pinned\n[exit 0]"
    said = project.runner("store", "gc", "--keep-last", "1", "--dry-run").out
    assert said.startswith(
        "remove  run R2  p  succeeded\nkeep    run R1     pinned\nwould be removed: 1 runs, 1 stored files, "
    )
    done = project.runner("store", "gc", "--keep-last", "1").out
    assert done == said.replace("would be removed", "removed")
    assert project.runner("plan", "gone.yaml").code == 2
    assert "run R2 was removed by `runner store gc`" in project.runner("plan", "gone.yaml").err
    assert project.runner("diff", runs[0], runs[2]).code == 0
    assert project.runner("show", runs[2]).code == 0
    assert str(project.runner("unpin", runs[0])) == "run R1 is pinned no more\n[exit 0]"
    assert project.runner("store", "du").out.splitlines()[0].split()[:3] == ["objects", "3", "files"]


def test_a_plan_file_keeps_the_runs_that_it_stands_on(project):
    project.pipeline(PIPELINE)
    assert project.runner("apply", "p.yaml").code == 0
    first = project.record()["run"]
    project.request(f"reference: {first}\nselect: [b]\nparams: {{x: 9}}\n", name="part")
    assert project.runner("plan", "part.yaml", "--out", "plan.json").code == 0
    assert project.runner("apply", "p.yaml", "-p", "x=2").code == 0
    assert "keep  run R1    the plan sha256:" in project.runner("store", "gc", "--keep-last", "1").out
    assert project.runner("apply", "plan.json").code == 0
    assert "remove  run R1  p  succeeded" in project.runner("store", "gc", "--keep-last", "1", "--dry-run").out


def loops(project, seconds: float) -> dict[str, dict[int, int]]:
    """Collect garbage in a loop beside loops of applies and plans; return how often each ended with which exit code."""
    project.pipeline(PIPELINE)
    project.request("select: [b]\n", name="part")
    assert project.runner("apply", "p.yaml").code == 0
    jobs = {
        "apply": ["apply", "p.yaml", "--again", "-p"], "plan": ["plan", "part.yaml"], "part": ["apply", "part.yaml", "--again"],
        "gc": ["store", "gc", "--keep-last", "1"],
    }  # fmt: skip
    codes: dict[str, dict[int, int]] = {name: {} for name in jobs}
    running = dict.fromkeys(jobs)
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until or any(running.values()):
        for name, process in list(running.items()):
            if process is not None and process.poll() is not None:
                out, err = process.communicate()
                assert process.returncode in ((0, 4) if name == "gc" else (0,)), (name, out, err)
                codes[name][process.returncode] = codes[name].get(process.returncode, 0) + 1
                running[name] = None
            if running[name] is None and time.monotonic() < until:
                count += 1
                running[name] = project.start(*jobs[name], *([f"x={count % 3}"] if name == "apply" else []))
        time.sleep(0.005)
    assert project.runner("store", "verify").code == 0
    return codes


def test_it_is_safe_beside_applies_and_plans(project):
    codes = loops(project, 5)
    assert all(codes[name].get(0, 0) > 0 for name in codes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_is_safe_beside_applies_and_plans_for_long(project):
    codes = loops(project, 120)
    assert all(codes[name][0] > 10 for name in codes)
