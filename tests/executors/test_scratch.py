"""The directory of an attempt has what was asked for and nothing else, whatever the attempt before has done to it."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.executors.files import remove
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


GIVEN = {"context.json": (0o644, b"{}"), "work/.inputs/a/o/o.txt": (0o444, b"of a"), "work/x.py": (0o555, b"code")}
LAID_OUT = {
    "context.json": ("0o644", b"{}"), "work": ("0o755", None), "work/x.py": ("0o555", b"code"), "work/.inputs": ("0o755", None), "work/.inputs/a": ("0o755", None),
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
}


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
    assert [os.listxattr(f"{second}/{path}") for path in LAID_OUT] == [[]] * len(LAID_OUT)
    assert (tmp_path / "precious").read_text() == "as it was"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert harm != "a second name" or (tmp_path / "tmp/second").read_text() == "{}"


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
