"""The directory of an attempt has what was asked for and nothing else, whatever the attempt before has done to it."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.executors.folders import remove
from runner.executors.scratch import Scratch


def tree(root):
    """All that is below a folder: path -> mode and, of a file, content."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = f"{folder}/{name}"
            content = Path(path).read_bytes() if name in files else None
            found[os.path.relpath(path, root)] = (oct(stat.S_IMODE(os.lstat(path).st_mode)), content)
    return found


def lay_out(scratch, root, files, folders=()):
    """Make a directory with these files (path -> mode, content) and folders, as a worker does."""
    scratch.lay_out(str(root), [f"{root}/{f}" for f in folders], [f"{root}/{f}" for f in files])
    for path, (mode, content) in files.items():
        scratch.write(f"{root}/{path}", content, mode)


GIVEN = {
    "context.json": (0o644, b"{}"),
    "work/.inputs/a/o/o.txt": (0o444, b"of a"),
    "work/x.py": (0o555, b"code"),
    "work/none": (0o444, b""),
}
LAID_OUT = {
    "context.json": ("0o644", b"{}"), "work": ("0o755", None), "work/x.py": ("0o555", b"code"), "work/none": ("0o444", b""), "work/.inputs": ("0o755", None), "work/.inputs/a": ("0o755", None),
    "work/.inputs/a/o": ("0o755", None), "work/.inputs/a/o/o.txt": ("0o444", b"of a"),
}  # fmt: skip
HARM = {
    "nothing": "true",
    "files of its own": "echo x > work/mine; echo y > work/.inputs/a/o/more; mkdir -p work/deep/er; echo z > work/deep/er/f",
    "longer content": "chmod u+w work/.inputs/a/o/o.txt; echo 'much longer than it was before' > work/.inputs/a/o/o.txt; chmod 444 work/.inputs/a/o/o.txt",
    "another file of the name": "rm -f work/.inputs/a/o/o.txt; echo other > work/.inputs/a/o/o.txt; chmod 444 work/.inputs/a/o/o.txt",
    "a link to elsewhere": "rm -f context.json; ln -s ../../precious context.json",
    "a folder that is a link": "rm -rf work/.inputs/a; ln -s ../../../elsewhere work/.inputs/a",
    "a file that is a folder": "rm -f context.json; mkdir context.json; echo x > context.json/f",
    "a folder that is a file": "rm -rf work/.inputs; echo x > work/.inputs",
    "a pipe": "rm -f context.json; mkfifo context.json",
    "a second name": "ln context.json ../second",
    "other modes of folders": "chmod 700 work/.inputs; chmod 2775 work/.inputs/a",
    "no mode at all": "chmod 0 work/.inputs/a/o work",
    "other modes of files": "chmod 777 context.json",
    "attributes": """python3 -c 'import os; [os.setxattr(p, "user.x", b"y") for p in ("work/.inputs", "context.json")]' || true""",
    "all gone": "rm -rf work context.json",
    "moved": "mv work/.inputs work/inputs; mv context.json work/",
    "times to come": "touch -d 2100-01-01 . work work/.inputs work/none context.json",
    "times long past": "touch -d 1990-01-01 . work work/.inputs work/none context.json",
    "room that is reserved": "fallocate -n -l 1M context.json || true",
    "a folder that has held many": """cd work; python3 -c 'import os; [open(f"f{i}", "w") for i in range(9999)]; [os.unlink(f"f{i}") for i in range(9999)]'""",
    "folders of 1500 levels": """python3 -c 'import os; [(os.mkdir("d"), os.chdir("d")) for i in range(1500)]'""",
    "a path that is too long": """python3 -c 'import os; [(os.mkdir("d" * 250), os.chdir("d" * 250)) for i in range(30)]'""",
    "names that are no text": """python3 -c 'import os; open(b"work/\\xff\\n", "w"); os.mkdir(b"work/.inputs/\\xfe"); open(b"work/-rf", "w")'""",
    "folders that have changed places": "mv work/.inputs/a x; mv work/.inputs work/b; mv x work/.inputs; mv work/b work/.inputs/a",
}


def seen(root):
    """What a step sees of each file and folder that it was given, beside modes and content."""
    now, found = time.time(), {}
    for path in (".", *LAID_OUT):
        of = os.stat(f"{root}/{path}")
        recent = all(now - 60 < at <= now for at in (of.st_atime, of.st_mtime, of.st_ctime))
        small = of.st_size < 1 << 16 and of.st_blocks < 256
        found[path] = (
            of.st_uid,
            of.st_gid,
            of.st_nlink if path in GIVEN else "",
            os.listxattr(f"{root}/{path}"),
            recent,
            small,
        )
    return found


@pytest.mark.parametrize("harm", HARM)
def test_the_next_attempt_does_not_see_what_one_has_done(harm, tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "precious").write_text("as it was")
    first, second = tmp_path / "tmp/s.1", tmp_path / "tmp/t.1"
    scratch = Scratch()
    lay_out(scratch, first, GIVEN)
    assert tree(first) == LAID_OUT
    subprocess.run(["sh", "-c", HARM[harm]], cwd=first, check=True)
    scratch.keep()
    assert not first.exists()
    lay_out(scratch, second, GIVEN)
    assert tree(second) == LAID_OUT
    lay_out(Scratch(), tmp_path / "tmp/alone", GIVEN)
    assert seen(second) == seen(tmp_path / "tmp/alone")
    assert (tmp_path / "precious").read_text() == "as it was"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert harm != "a second name" or (tmp_path / "tmp/second").read_text() == "{}"


STUBBORN = {
    "a folder": "mkdir work/mine; chattr +i work/mine",
    "a file in a folder": "mkdir work/mine; echo x > work/mine/f; chattr +a work/mine/f",
    "a file": "echo x > work/mine; chattr +i work/mine",
    "a folder that it was given": "chattr +a work",
    "an inner folder that it was given": "chattr +i work/.inputs/a",
    "a file that it was given": "chattr +i context.json",
    "a file that it was given, of which the end is open": "chattr +a context.json",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("ended", ["well", "failed"])
@pytest.mark.parametrize("harm", STUBBORN)
def test_what_cannot_be_removed_is_not_in_the_next_attempt_s_way(harm, ended, tmp_path):
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", GIVEN)
    if subprocess.run(["sh", "-c", STUBBORN[harm]], cwd=tmp_path / "s.1").returncode:
        pytest.skip("needs a file system with attributes (chattr)")
    try:
        scratch.keep() if ended == "well" else remove(str(tmp_path / "s.1"))
        lay_out(scratch, tmp_path / "t.1", GIVEN)
        assert tree(tmp_path / "t.1") == LAID_OUT
        scratch.keep()
        lay_out(scratch, tmp_path / "u.1", GIVEN)
        assert tree(tmp_path / "u.1") == LAID_OUT
    finally:
        subprocess.run(["chattr", "-R", "-i", "-a", tmp_path], check=True)


def test_the_directory_of_an_attempt_that_was_not_looked_through_is_not_used(tmp_path):
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", GIVEN)
    (tmp_path / "s.1/work/mine").touch()
    lay_out(scratch, tmp_path / "t.1", GIVEN)
    assert tree(tmp_path / "t.1") == LAID_OUT
    assert (tmp_path / "s.1/work/mine").exists()


def test_what_somebody_has_put_in_the_place_goes(tmp_path):
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", GIVEN)
    scratch.keep()
    (tmp_path / "t.1").mkdir()
    (tmp_path / "t.1/mine").touch()
    lay_out(scratch, tmp_path / "t.1", {"other": (0o644, b"")})
    scratch.keep()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    (tmp_path / "u.1").symlink_to("elsewhere")
    lay_out(scratch, tmp_path / "u.1", GIVEN)
    assert tree(tmp_path / "u.1") == LAID_OUT
    assert (tmp_path / "elsewhere/precious").exists()
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "u.1"]


@pytest.mark.parametrize("end", [Scratch.keep, lambda scratch: remove(scratch._root)])
def test_a_directory_that_has_become_a_link_is_not_followed(end, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", GIVEN)
    shutil.rmtree(tmp_path / "s.1")
    (tmp_path / "s.1").symlink_to("elsewhere")
    end(scratch)
    assert (tmp_path / "elsewhere/precious").exists()
    assert os.listdir(tmp_path) == ["elsewhere"]


TWICE = """
import sys
from runner.executors.scratch import Scratch
scratch = Scratch()
for name in ("s", "t"):
    root = f"{sys.argv[1]}/{name}.1"
    scratch.lay_out(root, [], [f"{root}/o.txt"])
    scratch.write(f"{root}/o.txt", name.encode(), 0o444)
    print(open(f"{root}/o.txt").read(), oct(scratch._folders[root].files["o.txt"][0][1]))
    scratch.keep()
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
def test_root_that_may_not_write_to_what_is_only_readable_writes_a_new_file(tmp_path):
    """As in a container that is started with `--cap-drop ALL`."""
    command = ["setpriv", "--bounding-set=-dac_override", sys.executable, "-c", TWICE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("s 0o100444\nt 0o100444\n", "")


def test_a_step_that_leaves_folders_of_1500_levels_is_no_harm(project):
    project.pipeline("""
        failure_policy: finish_independent
        steps:
          a: {kind: command, command: [python3, -c, "import os; [(os.mkdir('d'), os.chdir('d')) for i in range(1500)]"]}
          b: {kind: command, command: [python3, -c, "import os; [(os.mkdir('d'), os.chdir('d')) for i in range(1500)]; 1 / 0"]}
          c: {kind: shell, script: test -z "$(ls -A)", needs: [a]}
        """)
    assert project.runner("apply", "p.yaml", "--workers", "1").code == 1
    assert project.statuses() == {"a": "succeeded", "b": "failed", "c": "succeeded"}
    assert os.listdir(project.root / ".runner/tmp") == []


def test_an_output_of_1500_levels_is_refused(project):
    project.pipeline("""
        steps:
          a:
            kind: command
            command: [python3, -c, "import os; os.mkdir('o'); os.chdir('o'); [(os.mkdir('d'), os.chdir('d')) for i in range(1500)]"]
            outputs: {o: {type: dir, path: o}}
        """)
    answer = project.runner("apply", "p.yaml", "--workers", "1")
    assert answer.code == 1
    assert "a: FAILED: E220 a directory among its outputs is too deep" in answer.out + answer.err
    assert os.listdir(project.root / ".runner/tmp") == []


def test_what_stays_the_same_stays_where_it_is(tmp_path):
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", GIVEN)
    before = {path: os.stat(tmp_path / "s.1" / path).st_ino for path in LAID_OUT}
    scratch.keep()
    lay_out(scratch, tmp_path / "s.2", GIVEN | {"context.json": (0o644, b"[]")})
    assert {path: os.stat(tmp_path / "s.2" / path).st_ino for path in LAID_OUT} == before
    assert (tmp_path / "s.2/context.json").read_bytes() == b"[]"


def test_a_directory_that_is_gone_is_made_anew(tmp_path):
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", GIVEN)
    shutil.rmtree(tmp_path / "s.1")  # as after a failed attempt
    lay_out(scratch, tmp_path / "s.2", GIVEN)
    scratch.keep()
    shutil.rmtree(tmp_path / f"kept-{os.getpid()}")
    lay_out(scratch, tmp_path / "s.3", GIVEN)
    assert tree(tmp_path / "s.3") == LAID_OUT


def test_a_large_directory_is_not_kept(tmp_path):
    scratch = Scratch()
    lay_out(scratch, tmp_path / "s.1", {f"f{i}": (0o444, b"") for i in range(501)})
    scratch.keep()
    assert list(tmp_path.iterdir()) == []


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.tuples(st.sampled_from([0o444, 0o555, 0o644]), st.binary(max_size=9)), max_size=5)
DEEDS = st.lists(st.tuples(st.sampled_from(["file", "folder", "remove", "chmod"]), PATHS), max_size=4)


def apart(files):
    """The files of which none lies in another."""
    return {path: made for path, made in files.items() if not any(other.startswith(f"{path}/") for other in files)}


def do(deed, path):
    if deed == "file":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("of the step")
    elif deed == "folder":
        os.makedirs(path, exist_ok=True)
    elif deed == "remove":
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    else:
        os.chmod(path, 0o700)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(FILES.map(apart), DEEDS), min_size=2, max_size=5))
def test_any_attempt_after_any_other_has_what_it_would_have_alone(tmp_path_factory, attempts):
    folder = tmp_path_factory.mktemp("s")
    scratch = Scratch()
    for number, (files, deeds) in enumerate(attempts):
        root = folder / f"s.{number}"
        lay_out(scratch, root, files)
        alone = Scratch()
        lay_out(alone, folder / "alone", files)
        assert tree(root) == tree(folder / "alone")
        shutil.rmtree(folder / "alone")
        for deed, path in deeds:
            try:
                do(deed, f"{root}/{path}")
            except OSError:
                continue
        scratch.keep()


@pytest.mark.parametrize("path", ["./o.txt", "./d/o.txt", "d/./o.txt", "d//o.txt"])
@pytest.mark.parametrize("workdir", ["attempt", "project"])
def test_an_output_s_path_may_be_written_with_dots(path, workdir, project):
    project.pipeline(f"""
        steps:
          a: {{kind: shell, workdir: {workdir}, script: echo 1 > "$RUNNER_OUTPUT_O", outputs: {{o: {{type: file, path: {path}}}}}}}
          b: {{kind: shell, script: cat "$RUNNER_INPUT_O", inputs: {{o: $(steps.a.outputs.o)}}}}
        """)
    assert project.runner("apply", "p.yaml").code == 0


def test_a_pipe_in_place_of_a_stored_input_does_not_hold_the_worker(project):
    project.pipeline("""
        failure_policy: finish_independent
        steps:
          a: {kind: shell, script: echo 1 > o.txt, outputs: {o: {type: file, path: o.txt}}}
          p: {kind: shell, workdir: project, script: "f=$(find .runner/objects -type f); rm -f $f; mkfifo $f", needs: [a]}
          b: {kind: shell, script: cat "$RUNNER_INPUT_O", timeout: 1s, inputs: {o: $(steps.a.outputs.o)}, needs: [p]}
          c: {kind: shell, script: "true", needs: [p]}
        """)
    project.runner("apply", "p.yaml", "--workers", "1")
    assert project.statuses() == {"a": "succeeded", "p": "succeeded", "b": "failed", "c": "succeeded"}
