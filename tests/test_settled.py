"""What was found to need nothing is said again at once, while every file that it stands on is as it was."""

import os
import time

import pytest

from runner import app, settled
from runner.store.local import LocalStore

PIPELINE = """
    params: {data: {type: file, default: data/a.csv}, n: {type: integer, default: 1}}
    steps:
      a: {kind: command, command: [sh, steps/run.sh, later.txt], code: ["steps/*.sh"], inputs: {d: $(params.data), more: extra}, outputs: {o: {type: file}}}
      b: {kind: shell, needs: [a], script: 'mkdir t; echo $N $N > t/x', env: {N: $(params.n)}, outputs: {t: {type: dir}}}
"""
FILES = {"data__a_csv": "1\n", "extra__x": "x", "extra__y": "y", "steps__run_sh": "cp data/a.csv o"}


@pytest.fixture
def done(project):
    project.write(**FILES)
    project.pipeline(PIPELINE)
    assert project.runner("apply", "p.yaml").code == 0
    return project


def test_a_plan_with_nothing_to_do_stands_on_all_that_it_read_and_on_what_is_not_there(done, monkeypatch):
    monkeypatch.chdir(done.root)
    asked, store = app.read("p.yaml", {}), LocalStore(".runner", False)
    made = app.plan(asked, store)
    run = app.earlier(made, store)
    files, stored, absent = app.standing(asked, made, store, run)
    relative = {os.path.relpath(path, done.root) for path in files}
    assert relative == {"p.yaml", "runner.toml", "data/a.csv", "extra", "extra/x", "extra/y", "steps", "steps/run.sh"}
    kept = {os.path.relpath(path, ".runner").split("/")[0] for path in stored}
    assert (kept, len(stored)) == ({"format", "runs", "objects", "trees"}, 6)
    assert {os.path.relpath(path, done.root) for path in absent if path.startswith(str(done.root))} == {
        "later.txt",
        "sh",
        "steps/*.sh",
    }


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param("select: [b]\nreference: latest\n", id="another run decides"),
        pytest.param("concurrency: {group: g}\n", id="others may hold the group"),
        pytest.param("mode: full\n", id="nothing is taken from before"),
    ],
)
def test_what_more_than_files_decides_is_found_out_anew(done, monkeypatch, request_of):
    monkeypatch.chdir(done.root)
    done.request(request_of)
    asked, store = app.read("run.yaml"), LocalStore(".runner", False)
    assert app.standing(asked, app.plan(asked, store), store, done.record()["run"]) is None


def write(path, text):
    path.write_text(text)


def rewrite(path):
    """Write other bytes of the same size, and give the file its old times."""
    before = path.stat()
    path.write_text("z" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "nothing": (lambda root: None, True),
    "a file": (lambda root: rewrite(root / "file"), False),
    "a file gone": (lambda root: (root / "file").unlink(), False),
    "a name in a folder": (lambda root: write(root / "folder/new", ""), False),
    "what was not there": (lambda root: write(root / "absent", ""), False),
    "a stored file": (lambda root: rewrite(root / ".runner/object"), False),
    "another root": (lambda root: write(root / "sub/runner.toml", ""), False),
    "another store": (lambda root: rewrite(root / ".runner/format"), False),
    "the answer itself": (lambda root: next((root / ".runner/settled").iterdir()).write_bytes(b"0" * 99), False),
}


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """A project for each change, all of them old enough to be stood on."""
    made = {}
    for name in CHANGES:
        root = made[name] = tmp_path_factory.mktemp("settled")
        for folder in (".runner", "folder", "sub"):
            (root / folder).mkdir()
        for file in ("runner.toml", "file", "sub/p.yaml", ".runner/object", ".runner/format"):
            (root / file).write_text("text")
    time.sleep(2.1)
    return made


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_said_again_until_something_changes(projects, monkeypatch, change):
    root, (make, again) = projects[change], CHANGES[change]
    monkeypatch.chdir(root)
    args = ["apply", "sub/p.yaml", "-p", "n=1"]
    settled.keep(args, "nothing", [f"{root}/file", f"{root}/folder"], [f"{root}/.runner/object"], [f"{root}/absent"])
    assert settled.said(args) == "nothing"
    make(root)
    assert (settled.said(args) == "nothing") is again
    assert settled.said(["apply", "sub/p.yaml", "-p", "n=2"]) is None
    assert settled.said(["apply", "sub/p.yaml", "-p", "n=1", "--again"]) is None


def test_nothing_is_kept_that_was_touched_just_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".runner").mkdir()
    for name in ("runner.toml", "file", ".runner/format"):
        (tmp_path / name).write_text("")
    settled.keep(["apply", "p.yaml"], "nothing", [f"{tmp_path}/file"], [], [])
    assert settled.said(["apply", "p.yaml"]) is None


def test_the_program_says_it_without_planning(done):
    time.sleep(2.1)
    first, again = done.runner("apply", "p.yaml"), done.runner("apply", "p.yaml")
    assert (str(first), len(list((done.root / ".runner/settled").iterdir()))) == (str(again), 1)
    assert again.out.startswith("nothing to do: run R1 has done this already")
    done.write(data__a_csv="2\n")
    assert done.runner("apply", "p.yaml").out.startswith("READY  p: 2 run\n")


def test_so_is_a_plan_that_finds_nothing_to_do(done):
    time.sleep(2.1)
    first, again = done.runner("plan", "p.yaml"), done.runner("plan", "p.yaml")
    assert (str(first), len(list((done.root / ".runner/settled").iterdir()))) == (str(again), 1)
    assert first.out.startswith("READY  p: 2 cached\n")
    assert done.runner("plan", "p.yaml", "-o", "json").raw.startswith("{")
    assert done.runner("apply", "p.yaml", "-p", "n=2").code == 0
    assert done.runner("plan", "p.yaml").out.startswith("READY  p: 2 cached\n")  # found out anew: there is another run
    done.write(data__a_csv="2\n")
    assert done.runner("plan", "p.yaml").out.startswith("READY  p: 2 run\n")
