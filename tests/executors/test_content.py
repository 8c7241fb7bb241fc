"""Bytes are hashed and copied in one pass: holes are not read, copies stay sparse, and whoever waits can say stop."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.executors.collecting import keep
from runner.executors.content import copy_fast, copy_hashed, digest_of, holds, spans
from runner.executors.failed import Failed
from runner.executors.files import object_path
from runner.executors.staging import unpack

MIB = 1 << 20


def made(path, size, *parts):
    """Make a file of a size with bytes at some places; return an open descriptor of it."""
    with open(path, "wb") as file:
        file.truncate(size)
        for at, content in parts:
            file.seek(at)
            file.write(content)
    return os.open(path, os.O_RDONLY)


def plain(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


SHAPES = {
    "only a hole": (300 * MIB, []),
    "bytes first": (40 * MIB, [(0, b"x" * 70_000)]),
    "bytes last": (40 * MIB, [(40 * MIB - 3, b"end")]),
    "bytes within": (40 * MIB + 1, [(5 * MIB + 1, b"y" * 5000), (20 * MIB, b"z")]),
    "no hole": (MIB, [(0, b"w" * MIB)]),
    "small": (100, [(50, b"v")]),
    "small hole": (60_000, []),
    "empty": (0, []),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_digest_is_that_of_all_bytes_whatever_is_a_hole(shape, tmp_path):
    size, parts = SHAPES[shape]
    fd = made(tmp_path / "o", size, *parts)
    assert digest_of(fd, size) == plain(tmp_path / "o")
    assert holds(str(tmp_path / "o"), size, plain(tmp_path / "o"))
    assert sum(end - start for start, end, _ in spans(fd, size)) == size


@pytest.mark.parametrize("copy", [copy_hashed, copy_fast])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_copy_has_the_bytes_and_the_holes(shape, copy, tmp_path):
    size, parts = SHAPES[shape]
    old = made(tmp_path / "o", size, *parts)
    new = os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    copy(old, new, size, lambda what, done, total: None, "")
    assert plain(tmp_path / "copy") == plain(tmp_path / "o")
    assert os.fstat(new).st_blocks <= os.fstat(old).st_blocks + 16


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 3 * MIB),
    st.lists(st.tuples(st.integers(0, 3 * MIB), st.integers(1, 200_000)), max_size=4),
)
def test_any_shape_is_hashed_and_copied_as_it_is(tmp_path_factory, size, parts):
    folder = tmp_path_factory.mktemp("c")
    fd = made(folder / "o", size, *((at, b"q" * count) for at, count in parts))
    size = os.fstat(fd).st_size
    new = os.open(folder / "copy", os.O_RDWR | os.O_CREAT)
    assert copy_hashed(fd, new, size, lambda *_: None, "") == digest_of(fd, size) == plain(folder / "o")
    assert plain(folder / "copy") == plain(folder / "o")
    os.close(fd)
    os.close(new)


READ = """
import os, sys
from runner.executors.content import digest_of
fd = os.open(sys.argv[1], os.O_RDONLY)
before = open("/proc/self/io").read().split()[1]
digest_of(fd, os.fstat(fd).st_size)
print(int(open("/proc/self/io").read().split()[1]) - int(before) < 1 << 20)
"""


def test_the_zeros_of_a_hole_are_not_read(tmp_path):
    os.close(made(tmp_path / "o", 512 * MIB, (100 * MIB, b"x")))
    done = subprocess.run([sys.executable, "-c", READ, tmp_path / "o"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_what_takes_long_tells_what_it_does_and_how_far_it_is(tmp_path):
    os.close(made(tmp_path / "o", 300 * MIB))
    (tmp_path / "objects").mkdir()
    told = []
    keep(str(tmp_path / "o"), str(tmp_path / "objects"), lambda *word: told.append(word), "out")
    steps = [done for what, done, total in told if what == "hashing out" and total == 300 * MIB]
    assert steps[-1] == 300 * MIB
    assert max(b - a for a, b in zip([0, *steps], steps, strict=False)) <= 64 * MIB


def stopped(what, done, total):
    if done >= 100 * MIB:
        raise Failed("timeout", f"{what}: {done >> 20} of {total >> 20} MiB")


def test_hashing_ends_when_it_is_not_wanted_any_more(tmp_path):
    os.close(made(tmp_path / "o", 1 << 40))
    (tmp_path / "objects").mkdir()
    with pytest.raises(Failed, match="hashing out: 100 of 1048576 MiB"):
        keep(str(tmp_path / "o"), str(tmp_path / "objects"), stopped, "out")


@pytest.mark.parametrize("parts", [(), [(0, b"x")]])
def test_laying_out_ends_when_it_is_not_wanted_any_more(parts, tmp_path):
    size = 300 * MIB
    os.close(made(tmp_path / "o", size, *parts))
    digest = plain(tmp_path / "o")
    objects, trees = tmp_path / "objects", tmp_path / "trees"
    place = object_path(str(objects), digest)
    os.makedirs(os.path.dirname(place))
    os.rename(tmp_path / "o", place)
    trees.mkdir()
    text = json.dumps({"format": 1, "entries": [["o", "file", digest, size]]}).encode()
    manifest = trees / hashlib.sha256(text).hexdigest()
    manifest.write_bytes(text)
    unpack(str(tmp_path / "whole"), str(manifest), str(objects))
    assert (tmp_path / "whole/o").stat().st_blocks < 100
    with pytest.raises(Failed, match="copying target/o: "):
        unpack(str(tmp_path / "target"), str(manifest), str(objects), stopped)


def test_a_sparse_output_comes_back_as_it_was(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: "mkdir d; truncate -s 200M o d/x; printf end >> o; printf end >> d/x", outputs: {o: {type: file}, d: {type: dir}}}
          b: {kind: shell, script: "cat $RUNNER_INPUT_O $RUNNER_INPUT_D/x | sha256sum; stat -c %b $RUNNER_INPUT_D/x", inputs: {o: $(steps.a.outputs.o), d: $(steps.a.outputs.d)}}
        """)
    assert project.runner("apply", "p.yaml").code == 0
    whole = hashlib.sha256((bytes(200 * MIB) + b"end") * 2).hexdigest()
    printed = project.runner("logs", project.record()["run"], "b").out.split()
    assert (whole in printed, int(printed[-1]) < 100) == (True, True)
