"""What a step leaves under any name in or beside its folder leads a worker nowhere: links, pipes, devices, folders."""

import hashlib
import json
import mmap
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread

import pytest

from runner.executors.collecting import collect, leads_out
from runner.executors.failed import Failed
from runner.executors.folders import Inside, remove
from runner.executors.logs import mask_cells, redactor
from runner.executors.scratch import Scratch
from runner.executors.staging import unpack
from tests.reliability.kit import fsck
from tests.reliability.test_sealing import needs_bwrap, needs_landlock

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
SEALS = {"isolation: none": [needs_landlock], "isolation: bwrap": [needs_bwrap], "workdir: project": []}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def look(path: Path) -> dict[str, object]:
    """All that a worker could change of a file or folder, and of what is in it."""
    found = {".": (oct(path.lstat().st_mode), path.lstat().st_mtime_ns, path.lstat().st_nlink)}
    found |= {str(p): (oct(p.lstat().st_mode), p.lstat().st_mtime_ns) for p in path.rglob("*")}
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return found | {f"bytes of {p}": p.read_bytes() for p in files}


# --- a step that plants ---------------------------------------------------------------------------------------------

# What is put under a name.
PLANTED = {
    "a link to a file": "ln -s {victim} {at}",
    "a link to a folder": "ln -s {folder} {at}",
    "a link to an object": "ln -s {object} {at}",
    "a link to the index": "ln -s {store}/index.db {at}",
    "a link to nowhere": "ln -s {folder}/new {at}",
    "a pipe": "mkfifo {at}",
    "a socket": "cd $(dirname {at}); python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $(basename {at})",
    "a device": "mknod {at} c 1 3",
    "a folder": "mkdir {at}; echo x > {at}/o",
}
# Where, as a step's script sees it, and what the step declares; `o` and `d` are made otherwise where they are not planted.
PLACES = {
    "output": ("o", "{o: {type: file}}", "true"),
    "output-dir": ("o", "{o: {type: dir}}", "true"),
    "above": ("d", "{o: {type: file, path: d/o}}", "rmdir d"),
    "above-dir": ("d", "{o: {type: dir, path: d/o}}", "rmdir d"),
    "manifest": ("o.manifest", "{o: {type: dir}}", "mkdir o; echo own > o/x"),
    "kept": ("o.kept", "{o: {type: file}}", "echo own > o; ln o o2"),
    "kept-within": ("o/x.kept", "{o: {type: dir}}", "mkdir o; echo own > o/x; ln o/x o/x2"),
    "values": ("$RUNNER_VALUES", "{}", "true"),
    "context": ("$RUNNER_CONTEXT", "{}", "rm $RUNNER_CONTEXT"),
    "script": ("$TMPDIR/script", "{}", "rm -f $TMPDIR/script"),
    "kept-folder": ("$TMPDIR/kept-1", "{}", "true"),
    "work": ("$TMPDIR/work", "{o: {type: file}}", "mv $TMPDIR/work $TMPDIR/other"),
}
LINKS = {kind for kind in PLANTED if kind.startswith("a link")}


def expected(place: str, kind: str) -> str:
    """How a step ends: "" for well."""
    link = kind in LINKS
    is_what = "a symlink" if link else "a directory" if kind == "a folder" else "something else"
    if place in ("output", "output-dir"):
        declared = "dir" if place == "output-dir" else "file"
        well = declared == "dir" and kind == "a folder"
        return "" if well else f"E220 output `o`: o is {is_what}; a {declared} is declared"
    if place in ("above", "above-dir", "work"):
        shown = "o" if place == "work" else "d/o"
        if link:
            return f"E220 output `o`: {shown} lies behind a symlink"
        if kind == "a folder":  # with a file `o` in it
            return "" if place != "above-dir" else "E220 output `o`: d/o is a file; a dir is declared"
        return f"E220 it ended but did not write `o` (expected {shown})"
    if place == "values":
        return "" if link else "E220 the values file is not a file"
    if place == "kept-within" and kind not in ("a folder",):
        if link:
            return "the symlink x.kept leads out of the output directory"
        return "x.kept is neither a file, a directory nor a symlink"
    return ""


def cases():
    """Each thing by each seal; bubblewrap lets nobody make a device."""
    for kind in PLANTED:
        for seal, marks in SEALS.items():
            if (kind, seal) != ("a device", "isolation: bwrap"):
                yield pytest.param(kind, seal, marks=[*marks, *([needs_root] if kind == "a device" else [])])


@pytest.mark.parametrize(("kind", "seal"), list(cases()))
@pytest.mark.reliability("C03")
def test_what_a_step_plants_leads_to_nothing(kind, seal, project):
    victim, folder = project.root / "victim", project.root / "folder"
    victim.write_text("precious")
    victim.chmod(0o600)
    folder.mkdir()
    (folder / "o").write_text("precious, too")
    stored = project.root / f".runner/objects/sha256/{sha(b'stored')[:2]}/{sha(b'stored')}"
    names = {"victim": victim, "folder": folder, "object": stored, "store": project.root / ".runner"}
    lines = ["failure_policy: finish_independent", "steps:", "  first: {kind: shell, script: printf stored > o, outputs: {o: {type: file}}}"]  # fmt: skip
    for place, (at, outputs, before) in PLACES.items():
        script = f'cd "$RUNNER_OUTPUT_DIR"; {before}; {PLANTED[kind].format(**names, at=at)}'
        lines += [f"  {place}:", f"    {{kind: shell, {seal}, script: {json.dumps(script)}, needs: [first], outputs: {outputs}}}"]  # fmt: skip
    project.pipeline("\n".join(lines))
    before = look(victim), look(folder)
    answer = project.runner("apply", "p.yaml", "--workers", "1")
    record = project.record()["steps"]
    ends = {place: record[place].get("reason", "") if record[place]["status"] == "failed" else "" for place in PLACES}
    assert ends == {place: expected(place, kind) for place in PLACES}
    assert (answer.code, (look(victim), look(folder))) == (1, before)
    assert (stored.read_bytes(), oct(stored.stat().st_mode)) == (b"stored", "0o100444")
    assert fsck(project.root) == []
    assert "note:" not in project.runner("store", "verify").out
    assert os.listdir(project.root / ".runner/tmp") == []


@pytest.mark.reliability("C03")
def test_no_name_is_the_worker_s_own(project):
    """Files that are called as the worker's once were are outputs like all others."""
    project.pipeline("""
        steps:
          a:
            kind: shell
            script: |
              echo 1 > o; ln o o2; echo 2 > o.kept; echo 5 > kept-1; cp kept-1 new-1
              mkdir d; echo 3 > d/x; ln d/x d/x2; echo 4 > d/x.kept; echo 6 > d.manifest
            outputs: {o: {type: file}, k: {type: file, path: o.kept}, d: {type: dir}, m: {type: file, path: d.manifest}, p: {type: file, path: kept-1}, n: {type: file, path: new-1}}
          b:
            kind: shell
            script: cat $RUNNER_INPUT_O $RUNNER_INPUT_K $RUNNER_INPUT_D/x $RUNNER_INPUT_D/x2 $RUNNER_INPUT_D/x.kept $RUNNER_INPUT_M $RUNNER_INPUT_P $RUNNER_INPUT_N
            inputs: {o: $(steps.a.outputs.o), k: $(steps.a.outputs.k), d: $(steps.a.outputs.d), m: $(steps.a.outputs.m), p: $(steps.a.outputs.p), n: $(steps.a.outputs.n)}
        """)
    assert project.runner("apply", "p.yaml").code == 0
    assert "1\n2\n3\n3\n4\n6\n5\n5\n" in project.runner("logs", project.record()["run"], "b").out
    assert fsck(project.root) == []


# --- a process that goes on meanwhile -------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    """The folders of a store, and a folder of an attempt with a file beside it that no step may reach."""
    for name in ("objects", "trees", "quarantine", "root/work", "folder"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "folder/o").write_text("precious")
    return tmp_path


def call(store, *outputs, **more):
    """What a worker knows of an attempt with these outputs: name, type, path."""
    work = store / "root/work"
    told = [{"name": n, "type": t, "path": f"{work}/{p}", "shown": p, "optional": False} for n, t, p in outputs]
    return {
        "root": f"{store}/root", "work": str(work), "objects": f"{store}/objects", "trees_dir": f"{store}/trees",
        "outputs": told, **more,
    }  # fmt: skip


def collected(store, *outputs, heed=lambda what, done, total: None):
    with Inside(os.open(store / "root", os.O_PATH)) as inside:
        return collect(call(store, *outputs), inside, heed)[0]


def objects(store):
    """The bytes that the store has, and whether each is under its name, read-only and has no other name."""
    found = [p for p in (store / "objects").rglob("*") if not p.is_dir() or p.is_symlink()]
    assert [p for p in found if not stat.S_ISREG(p.lstat().st_mode)] == []
    assert [p.name for p in found] == [sha(p.read_bytes()) for p in found]
    assert {(oct(p.lstat().st_mode), p.lstat().st_nlink) for p in found} <= {("0o100444", 1)}
    return sorted(p.read_bytes() for p in found)


def swap_for_link(path, target):
    path.rename(path.with_name("moved"))
    path.symlink_to(target)


def test_a_folder_that_becomes_a_link_while_it_is_collected_is_not_followed(store):
    """The inner folder is swapped when the first file has been read."""
    work = store / "root/work"
    (work / "o/d").mkdir(parents=True)
    (work / "o/a").write_text("a")
    (work / "o/d/o").write_text("own")
    before = look(store / "folder")

    def heed(what, done, total):
        if not (work / "o/d").is_symlink():
            swap_for_link(work / "o/d", store / "folder")

    with pytest.raises(Failed, match="E220 o/d cannot be read"):
        collected(store, ("o", "dir", "o"), heed=heed)
    assert (objects(store), look(store / "folder")) == ([b"a"], before)


@pytest.mark.parametrize("what", ["link", "folder", "gone", "other", "pipe"])
def test_what_takes_the_name_of_an_output_while_it_is_hashed_does_not_get_into_the_store(what, store):
    """The file whose bytes were read is what is kept: by a copy, for its name has gone."""
    place = store / "root/work/o"
    place.write_bytes(b"own" * 100_000)
    before = look(store / "folder")
    swaps = {
        "link": lambda: swap_for_link(place, store / "folder/o"),
        "folder": lambda: (place.rename(f"{place}2"), place.mkdir()),
        "gone": lambda: place.rename(f"{place}2"),
        "other": lambda: (place.rename(f"{place}2"), place.write_text("other")),
        "pipe": lambda: (place.rename(f"{place}2"), os.mkfifo(place)),
    }
    left = [swaps[what]]
    found = collected(store, ("o", "file", "o"), heed=lambda *_: left and left.pop()())
    assert found == {"o": {"type": "file", "digest": f"sha256:{sha(b'own' * 100_000)}", "size": 300_000}}
    assert (objects(store), look(store / "folder")) == ([b"own" * 100_000], before)


def test_a_second_name_that_an_output_gets_while_it_is_hashed_does_not_reach_the_store(store):
    place = store / "root/work/o"
    place.write_bytes(b"own" * 100_000)
    left = [lambda: os.link(place, f"{place}2")]
    collected(store, ("o", "file", "o"), heed=lambda *_: left and left.pop()())
    (store / "root/work/o2").chmod(0o644)
    (store / "root/work/o2").write_text("changed")
    assert objects(store) == [b"own" * 100_000]


def writer(path):
    """Somebody who has a file open for writing."""
    fd = os.open(path, os.O_RDWR)
    return lambda: os.pwrite(fd, b"EVIL", 0)


def mapper(path):
    """Somebody who has a file mapped, and no descriptor of it any more."""
    fd = os.open(path, os.O_RDWR)
    mapped = mmap.mmap(fd, 4)
    os.close(fd)
    return lambda: mapped.__setitem__(slice(0, 4), b"EVIL")


@pytest.mark.parametrize("holder", [writer, mapper])
@pytest.mark.parametrize("size", [4, 100_000])
@pytest.mark.parametrize("kind", ["file", "dir"])
def test_who_may_write_to_an_output_does_not_reach_the_store(kind, size, holder, store):
    content = b"good" * (size // 4)
    place = store / "root/work" / ("o" if kind == "file" else "o/x")
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    write = holder(place)
    collected(store, ("o", kind, "o"))
    write()
    assert objects(store) == [content]


def test_who_opens_an_output_while_it_is_hashed_does_not_reach_the_store(store):
    """The kernel lets him wait until the lease is given back, and tells of him."""
    place = store / "root/work/o"
    content = b"good" * 200_000
    place.write_bytes(content)
    opened = []
    thread = Thread(target=lambda: opened.append(os.open(place, os.O_RDWR)))

    def heed(what, done, total):
        if not thread.ident:
            thread.start()
            time.sleep(0.2)  # until it waits
            assert opened == []

    assert collected(store, ("o", "file", "o"), heed=heed)["o"]["size"] == len(content)
    thread.join(10)
    os.pwrite(opened[0], b"EVIL", 0)
    assert objects(store) == [content]


def test_an_output_that_is_written_while_it_is_copied_is_refused(store):
    place = store / "root/work/o"
    place.write_bytes(b"good" * 200_000)
    write = writer(place)
    with pytest.raises(Failed, match="o was written while it was collected"):
        collected(store, ("o", "file", "o"), heed=lambda *_: (time.sleep(0.02), write()))
    assert objects(store) == []


def test_an_output_of_which_the_same_bytes_are_stored_leaves_those(store):
    stored = store / f"objects/sha256/{sha(b'good')[:2]}/{sha(b'good')}"
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"good")
    stored.chmod(0o444)
    inode = stored.stat().st_ino
    (store / "root/work/o").write_bytes(b"good")
    collected(store, ("o", "file", "o"))
    write = writer(store / "root/work/o2") if (store / "root/work/o2").exists() else lambda: None
    write()
    assert (objects(store), stored.stat().st_ino) == ([b"good"], inode)


@pytest.mark.parametrize("what", ["a folder", "a link", "bad bytes"])
@pytest.mark.parametrize("held", [False, True])
def test_good_bytes_take_the_place_of_what_has_their_name(held, what, store):
    stored = store / f"objects/sha256/{sha(b'good')[:2]}/{sha(b'good')}"
    stored.parent.mkdir(parents=True)
    before = look(store / "folder")
    {
        "a folder": lambda: (stored.mkdir(), (stored / "x").touch()),
        "a link": lambda: stored.symlink_to(store / "folder/o"),
        "bad bytes": lambda: stored.write_text("bad"),
    }[what]()
    (store / "root/work/o").write_bytes(b"good")
    write = [writer(store / "root/work/o")] if held else []
    collected(store, ("o", "file", "o"))
    for one in write:
        one()
    assert (objects(store), look(store / "folder")) == ([b"good"], before)
    assert len(list((store / "quarantine").iterdir())) == (what == "a folder")


# --- a folder of an attempt, the next time ----------------------------------------------------------------------------


@pytest.mark.parametrize("holder", [writer, mapper])
@pytest.mark.parametrize("mode", [0o444, 0o555, 0o644])
def test_who_may_write_to_a_file_of_an_attempt_does_not_reach_that_of_the_next(mode, holder, store):
    scratch = Scratch()
    given = f"{store}/root/s.1/x.py", f"{store}/root/s.2/x.py"
    for number, path in enumerate(given):
        scratch.lay_out(os.path.dirname(path), [], [path])
        scratch.write(path, b"code", mode)
        if not number:
            os.chmod(path, 0o644)
            write = holder(path)
            os.chmod(path, mode)
            scratch.keep()
    write()
    assert (Path(given[1]).read_bytes(), oct(stat.S_IMODE(os.stat(given[1]).st_mode))) == (b"code", oct(mode))
    scratch.drop()


def test_the_folder_of_a_sandboxed_attempt_with_mounts_of_its_own_is_not_the_next_one_s(store):
    scratch = Scratch()
    scratch.lay_out(f"{store}/root/s.1", [f"{store}/root/s.1/work"], [])
    held = os.open(store / "root/s.1/work", os.O_PATH)
    scratch.keep(reused=False)
    scratch.lay_out(f"{store}/root/s.2", [f"{store}/root/s.2/work"], [])
    with pytest.raises(FileNotFoundError):
        os.open("mine", os.O_WRONLY | os.O_CREAT, dir_fd=held)
    assert os.listdir(store / "root/s.2/work") == []
    scratch.drop()
    os.close(held)


PLANTED_LATER = {
    "a folder": lambda at, to: (at.rename(at.with_name("moved")), at.symlink_to(to)),
    "all": lambda at, to: (at.parent.rename(at.parent.with_name("moved")), at.parent.symlink_to(to)),
}


@pytest.mark.parametrize("when", ["before it is looked through", "before it is laid out"])
@pytest.mark.parametrize("what", PLANTED_LATER)
def test_a_folder_of_an_attempt_that_has_become_a_link_is_not_followed(what, when, store):
    victim = store / "folder"
    (victim / "work").mkdir()
    (victim / "work/x.py").write_text("precious")
    for path in (victim / "work/x.py", victim / "work", victim):
        os.utime(path, (1e9, 1e9))
    before = look(victim)
    scratch = Scratch()
    given = [f"{store}/root/s.{n}" for n in (1, 2)]
    scratch.lay_out(given[0], [f"{given[0]}/work"], [f"{given[0]}/work/x.py"])
    scratch.write(f"{given[0]}/work/x.py", b"code", 0o444)
    if when == "before it is looked through":
        PLANTED_LATER[what](Path(given[0]) / "work", victim / "work" if what == "a folder" else victim)
        scratch.keep()
    else:
        scratch.keep()
        kept = store / f"root/kept-{os.getpid()}"
        PLANTED_LATER[what](kept / "work", victim / "work" if what == "a folder" else victim)
    scratch.lay_out(given[1], [f"{given[1]}/work"], [f"{given[1]}/work/y.py"])
    scratch.write(f"{given[1]}/work/y.py", b"other", 0o444)
    scratch.drop()
    assert look(victim) == before


def test_what_is_removed_leaves_what_links_lead_to_as_it_was(store):
    victim = store / "folder"
    victim.chmod(0o500)
    before = look(victim)
    tree = store / "root/tree"
    (tree / "shut/d").mkdir(parents=True)
    for place in (tree, tree / "shut", tree / "shut/d"):
        (place / "link").symlink_to(victim)
        (place / "file").symlink_to(victim / "o")
        os.mkfifo(place / "pipe")
    (tree / "shut").chmod(0)
    remove(str(tree))
    remove(str(tree))  # nothing is there
    assert (look(victim), tree.exists()) == (before, False)


def test_a_tree_is_removed_however_deep_and_shut_it_is(store):
    folder = os.open(store / "root", os.O_RDONLY)
    for number in range(3000):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=inner))
        if number % 50 == 49:
            os.fchmod(folder, 0o500)
        os.close(folder)
        folder = inner
    os.close(folder)
    remove(str(store / "root/d"))
    assert os.listdir(store / "root") == ["work"]


SEND = """
import os, socket, sys
files = ["o", "x.py", os.environ["RUNNER_CONTEXT"]]
for file in files:
    os.chmod(file, 0o644)
with socket.socket(socket.AF_UNIX) as to:
    to.connect(sys.argv[1])
    socket.send_fds(to, [b"x"], [os.open(file, os.O_RDWR) for file in files])
    to.recv(1)
"""


@pytest.mark.parametrize(
    "seal", [pytest.param(seal, marks=marks) for seal, marks in SEALS.items() if seal.startswith("isolation")]
)
def test_descriptors_that_a_step_hands_on_reach_neither_the_store_nor_the_next_attempt(seal, project):
    """An output, a file of its code and its context, open for writing, go to a process that writes all the while."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/s")
        server.listen(1)
        server.settimeout(20)
        got, ended = [], []

        def receive():
            connection, _ = server.accept()
            got.extend(socket.recv_fds(connection, 1, 3)[1])
            connection.send(b"k")
            while not ended:
                for fd in got[1:]:
                    os.pwrite(fd, b"raise SystemExit('EVIL')", 0)
                time.sleep(0.001)

        thread = Thread(target=receive)
        thread.start()
        project.write(
            send_py=SEND,
            x_py="import json, os, time\ntime.sleep(0.2)\nprint('good', json.load(open(os.environ['RUNNER_CONTEXT']))['step'])\n",
        )
        project.pipeline(f"""
            steps:
              a: {{kind: shell, {seal}, script: "echo good > o; python3 send.py {folder}/s", code: [send.py, x.py], outputs: {{o: {{type: file}}}}}}
              b: {{kind: shell, {seal}, script: python3 x.py; python3 x.py, code: [x.py], needs: [a]}}
              c: {{kind: shell, {seal}, script: python3 x.py, code: [x.py], needs: [b]}}
            """)
        answer = project.runner("apply", "p.yaml", "--workers", "1")
        ended.append(True)
        thread.join()
    assert len(got) == 3
    os.pwrite(got[0], b"EVIL", 0)
    run = project.record()["run"]
    assert answer.code == 0
    assert [project.runner("logs", run, step).out.count("good") for step in ("b", "c")] == [2, 1]
    assert fsck(project.root) == []


# --- what an output may be --------------------------------------------------------------------------------------------


LINKED = {
    "inside": ({"a": "b"}, []),
    "to nothing inside": ({"a": "b/../c"}, []),
    "itself": ({"a": "a"}, []),
    "round": ({"a": "b", "b": "a"}, []),
    "up and down": ({"d/a": "../b", "d/e/a": "../../d/x"}, []),
    "out": ({"a": "..", "d/a": "../../x"}, ["a", "d/a"]),
    "absolute": ({"a": "/etc"}, ["a"]),
    "by another": ({"a": "d/up", "d/up": "..", "b": "a/../x"}, ["b"]),
    "by what is not there": ({"a": "none/../../x"}, ["a"]),
    "back in": ({"d/a": "../../o/x"}, ["d/a"]),
}


@pytest.mark.parametrize("name", LINKED)
def test_a_link_that_leads_out_of_an_output_is_found_without_following_it(name):
    links, out = LINKED[name]
    assert sorted(place for place in links if leads_out(place, links)) == out


@pytest.mark.parametrize("path", ["../x", "/x", "d/../../x", ".."])
def test_a_manifest_that_names_what_lies_elsewhere_is_not_laid_out(path, store):
    text = json.dumps({"format": 1, "entries": [["d", "dir", "", 0], [path, "link", "x", 0]]}).encode()
    (store / f"trees/{sha(text)}").write_bytes(text)
    with pytest.raises(Failed, match="which lies elsewhere"):
        unpack(f"{store}/target", f"{store}/trees/{sha(text)}", f"{store}/objects")
    assert not os.path.lexists(store / "x")


def test_a_folder_that_a_manifest_has_made_a_link_is_not_followed(store):
    text = json.dumps({"format": 1, "entries": [["d", "link", f"{store}/folder", 0], ["d/x", "link", "y", 0]]}).encode()
    (store / f"trees/{sha(text)}").write_bytes(text)
    before = look(store / "folder")
    with pytest.raises(OSError, match="symbolic link"):
        unpack(f"{store}/target", f"{store}/trees/{sha(text)}", f"{store}/objects")
    assert look(store / "folder") == before


NOTEBOOK = json.dumps({"cells": [{"cell_type": "code", "outputs": [{"text": "secret1"}]}]})


@pytest.mark.parametrize("how", ["a name elsewhere", "a link"])
def test_a_notebook_is_masked_without_a_byte_written_to_what_else_has_it(how, store):
    victim, place = store / "folder/o", store / "root/work/o.ipynb"
    victim.write_text(NOTEBOOK)
    {"a name elsewhere": lambda: os.link(victim, place), "a link": lambda: place.symlink_to(victim)}[how]()
    folder = os.open(store / "root/work", os.O_PATH)
    mask_cells(folder, "o.ipynb", redactor([("S", "secret1")]))
    os.close(folder)
    assert victim.read_text() == NOTEBOOK
    assert place.is_symlink() or "secret1" not in place.read_text()
    assert os.listdir(store / "root/work") == ["o.ipynb"]


# --- as a user who is not root ----------------------------------------------------------------------------------------

SHUT = """
import ctypes, json, os, sys
from runner.executors.collecting import collect
from runner.executors.failed import Failed
from runner.executors.folders import Inside, remove
os.setgroups([]); os.setgid(65534); os.setuid(65534)
root = sys.argv[1]
os.makedirs(f"{root}/work/d/e"); os.makedirs(f"{root}/objects"); os.makedirs(f"{root}/trees")
for path in ("d/e/o", "o"):
    open(f"{root}/work/{path}", "w").write("x")
os.chmod(f"{root}/work/{sys.argv[2]}", int(sys.argv[3], 8))
told = [{"name": n, "type": t, "path": f"{root}/work/{p}", "shown": p, "optional": False} for n, t, p in (("o", "file", "o"), ("e", "file", "d/e/o"), ("d", "dir", "d"))]
call = {"root": root, "work": f"{root}/work", "objects": f"{root}/objects", "trees_dir": f"{root}/trees", "outputs": told}
try:
    with Inside(os.open(root, os.O_PATH)) as inside:
        print(*collect(call, inside)[0])
except Failed as error:
    print(error.message)
remove(f"{root}/work")
print(os.listdir(root) == ["objects", "trees"] or sorted(os.listdir(root)))
"""
SHUT_ENDS = {
    ("o", "000"): "E220 o cannot be read (Permission denied)",
    ("d", "000"): "E220 output `e`: d/e/o cannot be read (Permission denied)",
    ("d/e", "000"): "E220 output `e`: d/e/o cannot be read (Permission denied)",
    ("d/e", "111"): "E220 d/e cannot be read (Permission denied)",
    (
        ".",
        "000",
    ): "E220 output `o`: o cannot be read (Permission denied); E220 output `e`: d/e/o cannot be read (Permission denied); E220 output `d`: d cannot be read (Permission denied)",
    (".", "555"): "o e d",
}


@needs_root
@pytest.mark.parametrize(("path", "mode"), SHUT_ENDS)
def test_what_a_step_has_shut_is_told_of_by_name(path, mode):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        command = [sys.executable, "-c", SHUT, f"{folder}/root", path, mode]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.stdout.splitlines()[:1], done.stderr) == ([SHUT_ENDS[path, mode]], "")
