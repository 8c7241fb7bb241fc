"""`store verify` names what the runner has not made so: a user can tell whether somebody was in the store."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tests.kit import Project

DIGEST = hashlib.sha256(b"hi").hexdigest()
OBJECT = f"objects/sha256/{DIGEST[:2]}/{DIGEST}"


@pytest.fixture
def ran(project: Project) -> Project:
    project.pipeline("steps: {a: {kind: shell, script: printf hi > o, outputs: {o: {type: file}}}}")
    assert project.runner("apply", "p.yaml").code == 0
    (project.root / "elsewhere").mkdir()
    return project


def journal(store: Path) -> Path:
    return next(store.glob("runs/*/journal.jsonl"))


def move_and_link(path: Path, target: Path) -> None:
    path.rename(target)
    path.symlink_to(target)


PUT = {
    "an object that may be written": (lambda store, other: (store / OBJECT).chmod(0o644), f"note: {OBJECT} may be written: its mode is 0644"),
    "an object with another name": (lambda store, other: os.link(store / OBJECT, other / "name"), f"note: {OBJECT} has 2 names: who has another of them may write to it"),
    "a folder of objects that is a link": (lambda store, other: move_and_link((store / OBJECT).parent, other / "ab"), f"note: objects/sha256/{DIGEST[:2]} is a symlink to ROOT/elsewhere/ab"),
    "a journal with another name": (lambda store, other: os.link(journal(store), other / "j"), "note: runs/R1/journal.jsonl has 2 names: who has another of them may write to it"),
    "a pipe among the plans' folders": (lambda store, other: os.mkfifo(store / "runs/R1/p".replace("R1", journal(store).parent.name)), "note: runs/R1/p is a pipe"),
    "a file of nobody's": (lambda store, other: (store / "evil").touch(), "note: evil is nothing that the runner puts into a store"),
    "a file in the folder of what was damaged": (lambda store, other: (store / "quarantine/x").symlink_to("y"), ""),
}  # fmt: skip


@pytest.mark.parametrize("what", PUT)
def test_what_is_right_but_not_as_the_runner_makes_it_is_noted(what, ran):
    put, said = PUT[what]
    put(ran.root / ".runner", ran.root / "elsewhere")
    answer = ran.runner("store", "verify")
    assert answer.out == f"{said}\n"[not said :] + "the store ROOT/.runner is whole\n".replace("DIGEST", DIGEST)
    assert answer.code == 0


def test_a_journal_that_is_a_link_is_lost_and_the_link_is_named(ran):
    move_and_link(journal(ran.root / ".runner"), ran.root / "elsewhere/j")
    assert str(ran.runner("store", "verify")) == (
        "damaged: run R1 has lost its journal\nnote: runs/R1/journal.jsonl is a symlink to ROOT/elsewhere/j\n1 damaged\n[exit 5]"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_of_other_users_are_noted_once_for_each(ran):
    os.chown(ran.root / ".runner" / OBJECT, 65534, -1)
    os.chown(journal(ran.root / ".runner"), 65534, -1)
    answer = ran.runner("store", "verify")
    assert (answer.code, answer.out.splitlines()[0].partition(": ")[2]) == (
        0,
        "runs/R1/journal.jsonl and 1 more: of nobody, the store is of root",
    )


HIT = {
    "a link to a file": lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
    "a link to the same bytes": lambda path: move_and_link(
        path, path.parent.parent.parent.parent.parent / "elsewhere/o"
    ),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "other bytes": lambda path: (path.chmod(0o644), path.write_text("ho"), path.chmod(0o444)),
}
WRONG = {
    "a link to a file": "is no file, but a symlink to /etc/hostname",
    "a link to the same bytes": "is no file, but a symlink to ROOT/elsewhere/o",
    "a pipe": "is no file, but a pipe",
    "a folder": "is no file, but a folder",
    "other bytes": "has other bytes",
}


@pytest.mark.parametrize("what", HIT)
def test_an_object_that_is_no_file_of_its_own_is_damage_and_is_mended(what, ran):
    HIT[what](ran.root / ".runner" / OBJECT)
    answer = ran.runner("store", "verify")
    assert (answer.code, answer.out) == (5, f"damaged: {OBJECT} {WRONG[what]}\n1 damaged\n")
    assert ran.runner("store", "verify", "--repair").code == 0
    assert (ran.root / ".runner" / OBJECT).read_bytes() == b"hi"


def test_an_index_that_is_a_link_is_damage_and_all_else_is_read(ran):
    move_and_link(ran.root / ".runner/index.db", ran.root / "elsewhere/index")
    (ran.root / ".runner" / OBJECT).unlink()
    answer = ran.runner("store", "verify")
    assert answer.code == 5
    assert "damaged: the index is damaged: ROOT/.runner/index.db is a link\n" in answer.out
    assert "damaged: output o of a in run R1 is missing\n" in answer.out


def test_what_a_killed_worker_has_left_is_a_leftover_and_gc_takes_it(ran):
    """Where the file system knows no files without a name."""
    store = ran.root / ".runner"
    left = [store / f"objects/new-{'0' * 32}", store / f"trees/new-{'1' * 32}", store / f"{OBJECT}.{'2' * 32}"]
    for path in left:
        shutil.copy(store / OBJECT, path)
    answer = ran.runner("store", "verify")
    assert (answer.code, answer.out.count("leftover: ")) == (0, 3)
    assert ran.runner("store", "gc").code == 0
    assert [path for path in left if path.exists()] == []
    assert ran.runner("store", "verify").out == "the store ROOT/.runner is whole\n"
