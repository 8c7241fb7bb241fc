"""What a step leaves -> objects of the store, each moved there after one pass over its bytes."""

from __future__ import annotations

import _thread
import contextlib
import errno
import hashlib
import os
import stat

from .failed import Failed
from .files import CHUNK, digest_of, holds, object_path, pass_by, signature
from .processes import libc

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import Any

    from .files import Heed

    Json = dict[str, Any]

VALUES_LIMIT = 16 << 20
LARGE = 8 << 20  # bytes of a file that takes the disk longer than a thread takes to start


def collect(call: Json, heed: Heed = pass_by) -> tuple[dict[str, Json], dict[str, Any]]:
    """Check all declared outputs, then move them into the store; `heed` may end that by an exception.

    Return them, and the signatures of the files that they are now, by digest: of what lies in directories the large ones.
    """
    found, problems = [], []
    for output in call["outputs"]:
        path = output["path"]
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            if not output["optional"]:
                problems.append(f"E220 it ended but did not write `{output['name']}` (expected {output['shown']})")
            continue
        want = stat.S_ISREG if output["type"] == "file" else stat.S_ISDIR
        if not want(mode):
            is_what = (
                "a directory"
                if stat.S_ISDIR(mode)
                else "a file"
                if stat.S_ISREG(mode)
                else "a symlink"
                if stat.S_ISLNK(mode)
                else "something else"
            )
            problems.append(
                f"E220 output `{output['name']}`: {output['shown']} is {is_what}; a {output['type']} is declared"
            )
        elif "/" in output["shown"] and os.path.realpath(path) != os.path.join(
            os.path.realpath(call["work"]), os.path.relpath(path, call["work"])
        ):
            problems.append(f"E220 output `{output['name']}`: {output['shown']} lies behind a symlink")
        else:
            found.append((output, path))
    if problems:
        raise Failed("output", "; ".join(problems))
    kept, marks = {}, {}
    for output, path in found:
        if output["type"] == "file":
            digest, size = keep(path, call["objects"], heed, output["name"])
            marks[digest] = signature(object_path(call["objects"], digest))
        else:
            digest, size = keep_tree(path, call["objects"], call["trees_dir"], heed, marks, output["name"])
        kept[output["name"]] = {"type": output["type"], "digest": digest, "size": size}
    return kept, marks


def keep(path: str, objects: str, heed: Heed = pass_by, name: str = "") -> tuple[str, int]:
    """Hash a file and move it into the store; return its digest and size. `name` is what a message calls it."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        before = os.fstat(fd)
        if before.st_size >= LARGE:
            _thread.start_new_thread(_write_back, (os.dup(fd),))
        digest = digest_of(fd, before.st_size, heed, f"hashing {name}")
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise Failed("output", f"{os.path.basename(path)} was written while it was collected")
    target = object_path(objects, digest)
    if before.st_nlink > 1 or before.st_uid != os.geteuid():
        # Another name could still write to it: keep bytes of our own.
        partial = f"{path}.kept"
        with open(path, "rb") as old, open(partial, "wb") as new:
            again = hashlib.sha256()
            while content := old.read(1 << 20):
                again.update(content)
                new.write(content)
                heed(f"copying {name}", new.tell(), before.st_size)
        if "sha256:" + again.hexdigest() != digest:
            raise Failed("output", f"{os.path.basename(path)} was written while it was collected")
        os.unlink(path)
        path = partial
    if holds(target, before.st_size, digest):
        os.unlink(path)  # the bytes are there: whoever reads them keeps what he has opened
        return digest, before.st_size
    os.chmod(path, 0o444)
    publish(path, target, f"{os.path.dirname(objects)}/quarantine", heed, name)
    return digest, before.st_size


def _write_back(fd: int) -> None:
    """Let the disk begin with a file while it is hashed, instead of when it is waited for."""
    libc().sync_file_range(fd, 0, 0, 2)  # SYNC_FILE_RANGE_WRITE; a disk that is busy is waited for
    os.close(fd)


def publish(path: str, target: str, quarantine: str, heed: Heed = pass_by, name: str = "") -> None:
    """Give a file its name in the store, over a damaged one of that name, too."""
    try:
        os.replace(path, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        publish(path, target, quarantine, heed, name)
    except IsADirectoryError:  # somebody has put a directory there: it is put aside, not deleted
        os.rename(target, f"{quarantine}/{os.path.basename(target)}.{os.getpid()}")
        os.replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_over(path, target, heed, name)


def copy_over(path: str, target: str, heed: Heed, name: str) -> None:
    """Publish a file from another file system. The copy has no name before it is whole and durable."""
    folder = os.path.dirname(target)
    fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o444)
    with open(path, "rb") as old, open(fd, "wb") as new:
        while content := old.read(1 << 20):
            new.write(content)
            heed(f"copying {name}", new.tell(), os.fstat(old.fileno()).st_size)
        new.flush()
        os.fsync(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
        files = os.open("/proc/self/fd", os.O_RDONLY)
        try:
            with contextlib.suppress(FileExistsError):  # another worker has just published the same
                os.link(str(fd), target, src_dir_fd=files, follow_symlinks=True)
        finally:
            os.close(files)
    os.unlink(path)


def keep_tree(
    path: str, objects: str, trees: str, heed: Heed = pass_by, marks: dict[str, Any] | None = None, output: str = ""
) -> tuple[str, int]:
    """Move a directory's files into the store; return the digest of its manifest and the size of its files.

    The signatures of those that are large go into `marks`.
    """
    entries: list[list[Any]] = []
    total = 0
    top = os.path.realpath(path)

    def walk(folder: str, prefix: str) -> None:
        nonlocal total
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
        for item in items:
            name = prefix + item.name
            if item.is_symlink():
                text = os.readlink(item.path)
                inside = os.path.realpath(item.path)
                if os.path.isabs(text) or not (inside == top or inside.startswith(top + "/")):
                    raise Failed("output", f"the symlink {name} leads out of the output directory")
                entries.append([name, "link", text, 0])
            elif item.is_dir():
                entries.append([name, "dir", "", 0])
                walk(item.path, name + "/")
            elif item.is_file():
                executable = item.stat().st_mode & 0o100
                digest, size = keep(item.path, objects, heed, f"{output}/{name}")
                if marks is not None and size >= CHUNK:
                    marks[digest] = signature(object_path(objects, digest))
                entries.append([name, "exec" if executable else "file", digest, size])
                total += size
            else:
                raise Failed("output", f"{name} is neither a file, a directory nor a symlink")

    walk(path, "")
    text = manifest_text(entries)
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    partial = f"{path}.manifest"
    with open(partial, "wb") as file:
        file.write(text)
    os.chmod(partial, 0o444)
    publish(partial, f"{trees}/{digest[7:]}", f"{os.path.dirname(trees)}/quarantine")
    return digest, total


def manifest_text(entries: list[list[Any]]) -> bytes:
    """Return the canonical bytes of a directory's entries: path, kind (file exec dir link), content, size."""
    import json

    body = {"format": 1, "entries": sorted(entries)}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
        "utf-8", "surrogateescape"
    )


def written_values(call: Json) -> str | None:
    try:
        fd = os.open(call["values"], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Failed("output", "E220 the values file is not a file")
        content = file.read(VALUES_LIMIT + 1)
    if len(content) > VALUES_LIMIT:
        raise Failed("output", "E220 the values file is larger than 16 MiB")
    return content.decode("utf-8", "replace") or None
