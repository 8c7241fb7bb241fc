"""What every store promises. A new store joins by one line."""

import getpass
import hashlib
import time

import pytest

from runner.errors import Moved, ReferenceRunError, StoreDamaged
from runner.record import RunEnded, RunStarted, RunWaiting, StepEnded, StepWaiting
from runner.store.local import LocalStore
from runner.store.memory import MemoryStore

STORES = {"local": lambda path: LocalStore(str(path / "store"), create=True), "memory": lambda path: MemoryStore()}


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return STORES[request.param](tmp_path)


def put(store, content: bytes) -> str:
    """Publish bytes as a worker does."""
    if isinstance(store, MemoryStore):
        return store.put(content)
    from runner.executors.collecting import keep

    path = f"{store.path}/tmp/new"
    with open(path, "wb") as file:
        file.write(content)
    return keep(path, store.places()[0])[0]


def started(run, **more):
    return RunStarted(
        run=run,
        pipeline="p",
        path="p.yaml",
        definition="d",
        request={},
        request_digest="q",
        plan_digest="",
        params={},
        sources={},
        decisions={"a": "run"},
        **more,
    )


def ended(digest, fingerprint="sha256:f"):
    outputs = {"o": {"type": "file", "run": "r", "digest": digest, "size": 1}}
    return StepEnded(step="a", status="succeeded", fingerprint=fingerprint, outputs=outputs, produced_by="r")


def whole_run(store, content=b"1", fingerprint="sha256:f"):
    run, ledger = store.begin()
    ledger.append([started(run)])
    ledger.append([ended(put(store, content), fingerprint), RunEnded(status="succeeded")])
    ledger.close()
    return run


def test_a_run_is_read_as_it_was_written(store):
    run = whole_run(store)
    record = store.run(run)
    assert (record.id, record.status, record.statuses) == (run, "succeeded", {"a": "succeeded"})
    assert record.steps["a"] == ended("sha256:" + hashlib.sha256(b"1").hexdigest())


def test_a_run_that_is_not_there_is_none(store):
    assert store.run("20200101-0000-aaaa") is None


def test_a_run_is_running_until_its_owner_ends_or_dies(store):
    run, ledger = store.begin()
    ledger.append([started(run)])
    assert (store.run(run).status, list(store.finished("p"))) == ("running", [])
    ledger.close()
    assert (store.run(run).status, [r.id for r in store.finished("p")]) == ("interrupted", [run])


def test_finished_runs_come_newest_first_and_only_of_the_pipeline(store):
    runs = [whole_run(store) for _ in range(3)]
    assert [r.id for r in store.finished("p")] == runs[::-1]
    assert list(store.finished("other")) == []
    assert [s.run for s in store.runs()] == runs[::-1]
    assert [s.run for s in store.runs("p", 1)] == runs[2:]


def test_a_success_is_found_by_its_fingerprint_the_newest_first(store):
    whole_run(store, b"1")
    whole_run(store, b"2")
    assert store.success("sha256:f") == ended("sha256:" + hashlib.sha256(b"2").hexdigest())
    assert store.success("sha256:g") is None


def test_a_failure_is_no_success(store):
    run, ledger = store.begin()
    ledger.append([started(run), StepEnded(step="a", status="failed", fingerprint="sha256:f")])
    ledger.close()
    assert store.success("sha256:f") is None


def test_a_run_is_found_by_the_end_of_its_id(store):
    run = whole_run(store)
    assert store.resolve(run) == run
    assert store.resolve(run[1:]) == run
    with pytest.raises(ReferenceRunError, match="there is no run nope"):
        store.resolve("nope")


def test_bytes_are_read_as_they_were_put(store):
    digest = put(store, b"hello")
    assert store.read(digest) == b"hello"
    assert store.damaged([(digest, "file")], whole=True) == []
    with pytest.raises(StoreDamaged):
        store.read("sha256:" + "0" * 64)


def test_missing_bytes_are_damage(store):
    digest = put(store, b"hello")
    store.quarantine(digest)
    assert [(d.digest, d.what) for d in store.damaged([(digest, "file")], whole=False)] == [(digest, "is missing")]


def test_a_request_is_found_again(store):
    run = whole_run(store)
    assert list(store.same_request("q")) == [run]
    assert list(store.same_request("other")) == []


def waiting_run(store):
    run, ledger = store.begin()
    ledger.append([started(run), StepWaiting(step="a", kind="approval"), RunWaiting(run=run, steps={"a": "approval"})])
    ledger.close()
    return run


def test_a_run_that_waits_is_neither_finished_nor_interrupted(store):
    run = waiting_run(store)
    record = store.run(run)
    assert (record.status, record.finished, list(record.waiting)) == ("waiting", False, ["a"])
    assert list(store.finished("p")) == []


def test_a_run_that_waits_is_resumed_where_it_was(store):
    run = waiting_run(store)
    ledger = store.resume(run)
    assert store.run(run).alive
    ledger.append([StepEnded(step="a", status="succeeded", fingerprint="sha256:f"), RunEnded(status="succeeded")])
    ledger.close()
    record = store.run(run)
    assert (record.status, record.statuses, dict(record.waiting)) == ("succeeded", {"a": "succeeded"}, {})
    assert [r.id for r in store.finished("p")] == [run]


def test_a_run_has_one_owner_at_a_time(store):
    run = waiting_run(store)
    ledger = store.resume(run)
    with pytest.raises(Moved, match="under way in another process"):
        store.resume(run)
    ledger.close()
    store.resume(run).close()


def test_a_message_is_read_once_by_an_owner_and_again_by_the_next(store):
    run = waiting_run(store)
    before = time.time()
    store.post(run, "approval", {"step": "a", "by": "somebody else", "at": 1.0})
    for _ in range(2):
        ledger = store.resume(run)
        [(name, message)] = ledger.inbox()
        assert ledger.inbox() == []
        ledger.close()
        assert (name.startswith("approval"), message["step"], message["by"]) == (True, "a", getpass.getuser())
        assert before - 0.1 <= message["at"] <= time.time()
    assert [m["step"] for _, m in store.posted(run)] == ["a"]


def version(run="r1", step="register", group="g"):
    model = {"type": "file", "name": "m", "digest": "sha256:d", "size": 1, "run": run, "step": "train", "output": "m"}
    return {
        "group": group, "status": "pending", "metrics": {"mse": 4.5}, "metadata": {}, "model": model,
        "run": run, "step": step, "pipeline": "p", "by": "",
    }  # fmt: skip


def test_versions_of_a_model_count_up_in_each_group(store):
    assert [store.register(version(run)) for run in ("r1", "r2", "r3")] == [1, 2, 3]
    assert store.register(version(group="other")) == 1


def test_the_same_step_of_the_same_run_registers_once(store):
    assert [store.register(version(run)) for run in ("r1", "r2", "r1")] == [1, 2, 1]
    assert store.register(version("r1", step="another")) == 3


def test_a_result_is_made_by_one_run_at_a_time(store):
    (_, first), (_, other) = store.begin(), store.begin()
    assert [first.claim("sha256:" + "f" * 64), first.claim("sha256:" + "0" * 64)] == [True, True]
    first.release("sha256:" + "f" * 64)
    assert other.claim("sha256:" + "f" * 64)
    other.close()
    first.close()
