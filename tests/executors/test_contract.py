"""What every executor promises. A new executor joins by one line."""

import hashlib
import os
import time

import pytest

from runner.executors.calls import Call
from runner.executors.inline import InlineExecutor
from runner.executors.local import LocalExecutor

EXECUTORS = {"local": lambda: LocalExecutor(2), "inline": InlineExecutor}


@pytest.fixture(params=EXECUTORS)
def executor(request):
    made = EXECUTORS[request.param]()
    yield made
    made.close()


@pytest.fixture
def call(tmp_path):
    for name in ("objects", "trees"):
        (tmp_path / name).mkdir()

    def make(script, step="a", **more):
        root = tmp_path / "tmp" / step
        outputs = tuple(
            {"name": n, "type": t, "path": f"{root}/work/{n}", "shown": n, "optional": False}
            for n, t in more.pop("outputs", {}).items()
        )
        return Call(
            step=step, attempt=1, root=str(root), work=f"{root}/work", cwd=f"{root}/work", argv=("sh", "-c", script), env={"PATH": os.environ["PATH"]},
            log=str(tmp_path / f"{step}.log"), objects=str(tmp_path / "objects"), trees_dir=str(tmp_path / "trees"), values=f"{root}/values.json",
            outputs=outputs, grace=0.3, **more,
        )  # fmt: skip

    return make


def done(executor, *calls):
    """Submit calls and wait for all their outcomes."""
    for one in calls:
        executor.submit(one)
    outcomes = {}
    until = time.monotonic() + 20
    while len(outcomes) < len(calls) and time.monotonic() < until:
        outcomes.update({outcome.step: outcome for outcome in executor.wait(1)})
    return outcomes


def test_outputs_are_published_by_their_digest_and_the_directory_is_gone_in_the_end(executor, call, tmp_path):
    outcome = done(executor, call("printf hi > o; echo said", outputs={"o": "file"}))["a"]
    digest = hashlib.sha256(b"hi").hexdigest()
    assert (outcome.cause, outcome.outputs, outcome.exit_code) == (
        "",
        {"o": {"type": "file", "digest": f"sha256:{digest}", "size": 2}},
        0,
    )
    stored = tmp_path / "objects/sha256" / digest[:2] / digest
    assert (stored.read_bytes(), stored.stat().st_mode & 0o777) == (b"hi", 0o444)
    assert (tmp_path / "a.log").read_bytes() == b"said\n"
    executor.close()
    assert not (tmp_path / "tmp/a").exists()


def test_a_large_output_is_hashed_whole_while_the_disk_writes_it(executor, call):
    outcome = done(executor, call("head -c 20000000 /dev/zero > o", outputs={"o": "file"}))["a"]
    digest = hashlib.sha256(bytes(20_000_000)).hexdigest()
    assert outcome.outputs == {"o": {"type": "file", "digest": f"sha256:{digest}", "size": 20_000_000}}


def test_a_silent_step_leaves_no_log(executor, call, tmp_path):
    done(executor, call("true"))
    assert not (tmp_path / "a.log").exists()


def test_failures_have_their_cause(executor, call):
    outcomes = done(
        executor,
        call("exit 3", "exit"),
        call("kill -TERM $$", "signal"),
        call("sleep 5", "slow", timeout=0.2),
        call("true", "missing", outputs={"o": "file"}),
    )
    assert {name: (o.cause, o.message) for name, o in outcomes.items()} == {
        "exit": ("exit", "it exited with 3"),
        "signal": ("signal", "it was killed by SIGTERM"),
        "slow": ("timeout", "it ran longer than 0.2 s"),
        "missing": ("output", "E220 it ended but did not write `o` (expected o)"),
    }


def test_success_codes(executor, call):
    assert done(executor, call("exit 3", success_codes=(0, 3)))["a"].cause == ""


def test_a_hard_linked_output_is_copied_so_that_its_other_name_cannot_change_it(executor, call, tmp_path):
    outcome = done(executor, call(f"echo 1 > o; ln o {tmp_path}/other", outputs={"o": "file"}))["a"]
    digest = outcome.outputs["o"]["digest"].removeprefix("sha256:")
    (tmp_path / "other").chmod(0o644)
    (tmp_path / "other").write_text("changed")
    assert (tmp_path / "objects/sha256" / digest[:2] / digest).read_text() == "1\n"


def test_a_second_call_of_the_same_step_begins_in_an_empty_directory(executor, call):
    first = done(executor, call("test ! -e left; touch left", outputs={}))["a"]
    second = done(executor, call("test ! -e left"))["a"]
    assert (first.cause, second.cause) == ("", "")
