"""A call -> the attempt's directory with only what its step declares; and a look at its inputs when it has ended."""

from __future__ import annotations

import hashlib
import os
import stat

from .content import copy_fast, digest_of, holds
from .failed import Failed
from .files import CHUNK, at_once, object_path, pass_by, signature
from .folders import PASSED, Inside
from .scratch import Scratch

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import Any

    from .files import Heed

    Json = dict[str, Any]


def stage(call: Json, scratch: Scratch, heed: Heed = pass_by) -> dict[str, tuple[Any, str]]:
    """Make the attempt's directory with only what the step declares; return the signatures of its inputs."""
    files = [*call["files"], *(link[0] for link in call["links"]), *(copied[0] for copied in call["copies"])]
    parents = [os.path.dirname(tree[0]) for tree in call["trees"]]
    scratch.lay_out(call["root"], [call["work"], *parents, *call["folders"]], files)
    for path, text in call["files"].items():
        scratch.write(path, text.encode("utf-8", "surrogateescape"), 0o644)
    marks: dict[str, tuple[Any, str]] = {}
    for target, source, digest, mark in call["links"]:
        if digest and copy_small(source, target, digest, scratch):
            continue
        try:
            found = signature(source)
        except FileNotFoundError:
            raise Failed("environment", f"{source} is gone") from None
        if (
            mark != found
            and digest
            and not holds(source, found[0], digest, heed, f"reading {os.path.basename(target)}")
        ):
            raise Failed("environment", f"{source} has not the bytes that were stored", digest)
        if not digest and mark is not None and found != mark:
            raise Failed("environment", f"{source} has changed since it was planned")
        marks[source] = (found, digest)
        scratch.link(target, source)
    for target, source, digest in call["copies"]:
        copy(source, target, digest, scratch)
    for target, manifest, objects in call["trees"]:
        folder, name = scratch.place(target)
        unpack_in(folder, name, manifest, objects, heed)
    return marks


def copy(source: str, target: str, digest: str, scratch: Scratch) -> None:
    """Copy a file that must still be what the plan saw."""
    try:
        with open(source, "rb", opener=at_once) as file:
            content = file.read()
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise Failed("environment", f"{source}: {error.strerror}") from None
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise Failed("environment", f"{source} has changed since it was planned")
    scratch.write(target, content, 0o555 if mode & 0o100 else 0o444)


def copy_small(source: str, target: str, digest: str, scratch: Scratch) -> bool:
    """Copy a stored file that is small, which is cheaper than a link of more than 59 characters: that takes a block of
    the disk, and gives it back. Return whether it was.
    """
    try:
        fd = at_once(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # told by who links it
    try:
        mode, size = os.fstat(fd).st_mode, os.fstat(fd).st_size
        content = os.read(fd, CHUNK) if size < CHUNK and stat.S_ISREG(mode) else None
    finally:
        os.close(fd)
    if content is None or len(content) != size:
        return False
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise Failed("environment", f"{source} has not the bytes that were stored", digest)
    scratch.write(target, content, 0o444)
    return True


def unpack(target: str, manifest: str, objects: str, heed: Heed = pass_by) -> None:
    """Lay out a stored directory as a copy of its own, so that no step can reach the store through it.

    Each byte is compared with its name: it may have been changed since it was stored, by a step that is not sealed.
    """
    folder, name = os.path.split(os.path.abspath(target))
    with Inside(os.open(folder, PASSED & ~os.O_NOFOLLOW)) as inside:
        unpack_in(inside.top, name, manifest, objects, heed)


def unpack_in(folder: int, name: str, manifest: str, objects: str, heed: Heed = pass_by) -> None:
    """The same within an open folder."""
    import json

    with open(manifest, "rb", opener=at_once) as file:
        content = file.read()
    digest = f"sha256:{os.path.basename(manifest)}"
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise Failed("environment", f"{manifest} has not the bytes that were stored", digest)
    os.mkdir(name, dir_fd=folder)
    with Inside(os.open(name, PASSED, dir_fd=folder)) as inside:
        for path, kind, what, _ in json.loads(content.decode("utf-8", "surrogateescape"))["entries"]:
            if path.startswith("/") or ".." in path.split("/"):
                raise Failed("environment", f"{manifest} names {path}, which lies elsewhere")
            within, last = inside.place(path)
            if kind == "dir":
                os.mkdir(last, dir_fd=within)
            elif kind == "link":
                os.symlink(what, last, dir_fd=within)
            else:
                source = object_path(objects, what)
                _copy_object(source, within, last, what, kind == "exec", heed, f"copying {name}/{path}")


def _copy_object(source: str, folder: int, name: str, digest: str, executable: bool, heed: Heed, what: str) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(source, "rb", buffering=0, opener=at_once) as old:
        new = os.open(name, flags, 0o555 if executable else 0o444, dir_fd=folder)
        try:
            size = os.fstat(old.fileno()).st_size
            copy_fast(old.fileno(), new, size, heed, what)
            if digest_of(new, size, heed, what) != digest:
                raise Failed("environment", f"{source} has not the bytes that were stored", digest)
        finally:
            os.close(new)


def check_inputs(marks: dict[str, tuple[Any, str]], heed: Heed = pass_by) -> None:
    """Raise Failed if an input is no longer what it was when the attempt began."""
    for source, (mark, digest) in marks.items():
        try:
            same = signature(source) == mark or (
                digest and holds(source, os.stat(source).st_size, digest, heed, f"reading {source}")
            )
        except OSError:
            same = False
        if not same:
            raise Failed("environment", f"its input {source} changed while it ran", digest)
