"""Documents that nobody would write: each is right or refused, soon, and never by an exception of Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reliability import fuzzing
from tests.reliability.fuzzing import Tally, byte_maker, documented, fuzz, one, project

pytestmark = pytest.mark.reliability("A35")

SECONDS = float(os.environ.get("RUNNER_FUZZ_SECONDS", 600))


def finds(tally: Tally) -> list[str]:
    return [f"{where}, {times} times, as with {raw!r}" for where, (times, raw) in tally.finds.items()]


@pytest.mark.parametrize("seed", [1, 2])
def test_changed_bytes_of_the_seeds_are_right_or_refused(seed):
    tally = fuzz(byte_maker(), 400, seed=seed)
    assert finds(tally) == [], tally
    assert tally.codes[2] > 200, tally


def test_changed_documents_of_the_schemas_are_right_or_refused():
    tally = fuzz(documented, 400, seed=3)
    assert finds(tally) == [], tally
    assert tally.codes[2] > 100 and tally.codes[0] > 20, tally  # some get as far as a plan


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return project(tmp_path_factory.mktemp("fuzz"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(chance=st.randoms(use_true_random=False))
def test_a_document_with_one_mutation_is_right_or_refused(path, chance):
    tally = Tally()
    one(path, documented(chance), tally)
    assert finds(tally) == []


@pytest.mark.parametrize("file", sorted((fuzzing.HERE / "corpus").iterdir()), ids=lambda file: file.stem)
def test_what_was_once_found_is_right_or_refused(path, file):
    tally = Tally()
    one(path, file.read_bytes(), tally)
    assert finds(tally) == []
    assert tally.codes == ({0: 1} if file.stem.startswith("good") else {2: 1})


def test_a_foreign_exception_and_a_hang_are_finds(path, monkeypatch):
    def judge(path: Path, raw: bytes) -> int:
        while raw == b"hang":
            pass
        return int(raw)

    monkeypatch.setattr(fuzzing, "judge", judge)
    tally = Tally()
    for raw in (b"0", b"x", b"hang"):
        one(path, raw, tally, seconds=0.2)
    assert [found.partition(" at ")[0] for found in finds(tally)] == ["ValueError", "_TooSlow"]


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_inputs_of_ten_minutes_are_right_or_refused():
    for name, make in (("bytes", byte_maker()), ("documents", documented)):
        tally = fuzz(make, seconds=SECONDS / 2, seed=int.from_bytes(os.urandom(4), "big"))
        print(f"{name}: {tally}")
        assert finds(tally) == [], tally


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_inputs_that_reach_new_code_are_right_or_refused(tmp_path):
    pytest.importorskip("atheris", reason="atheris is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.covered", str(tmp_path), str(int(SECONDS))],
        cwd=fuzzing.ROOT,
        capture_output=True,
        text=True,
    )
    print(done.stderr[-2000:])
    assert done.returncode == 0, done.stderr[-4000:]
