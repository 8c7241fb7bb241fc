"""What a step leaves -> objects of the store, each moved there after one pass over its bytes.

The step has chosen all names below its folder, and may have left anything there: no link is followed, nothing is made under a
name in it, nothing that is waited for is opened. What goes into the store is the file whose bytes were read, and only if
nobody can write to it any more; else it is a copy.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import hashlib
import os
import stat

from .content import copy_hashed, digest_of, holds, leased, release, unbroken
from .failed import Failed
from .files import CHUNK, object_path, pass_by, signature, write_all
from .folders import LISTED, PASSED, Inside, relative
from .processes import libc

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from typing import Any

    from .files import Heed

    Json = dict[str, Any]

VALUES_LIMIT = 16 << 20
LARGE = 8 << 20  # bytes of a file that takes the disk longer than a thread takes to start
DEEPEST = 900  # folders below one another
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe is not waited for


def attempt_folder(call: Json) -> Inside:
    """Open the folder of an attempt that has ended."""
    try:
        return Inside(os.open(call["root"], PASSED))
    except OSError as error:
        raise Failed("output", f"E220 its folder cannot be opened any more ({error.strerror})") from None


def collect(call: Json, inside: Inside, heed: Heed = pass_by) -> tuple[dict[str, Json], dict[str, Any]]:
    """Check all declared outputs, then move them into the store; `heed` may end that by an exception.

    Return them, and the signatures of the files that they are now, by digest: of what lies in directories the large ones.
    """
    found, problems = [], []
    for output in call["outputs"]:
        path = relative(output["path"], call["root"])
        if problem := _problem(inside, path, output):
            problems.append(problem)
        elif problem is not None:
            found.append((output, path))
    if problems:
        raise Failed("output", "; ".join(problems))
    kept, marks = {}, {}
    for output, path in found:
        folder, name = inside.place(path)
        if output["type"] == "file":
            digest, size, mark, _ = keep(name, call["objects"], heed, output["name"], folder)
            marks[digest] = mark
        else:
            digest, size = keep_tree(name, call["objects"], call["trees_dir"], heed, marks, output["name"], folder)
        kept[output["name"]] = {"type": output["type"], "digest": digest, "size": size}
    return kept, marks


def _problem(inside: Inside, path: str, output: Json) -> str | None:
    """Return what is wrong with an output, "" if nothing is, or None if there is none and need not be."""
    try:
        folder, name = inside.place(path)
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if output["optional"]:
            return None
        return f"E220 it ended but did not write `{output['name']}` (expected {output['shown']})"
    except OSError as error:
        behind = error.errno in (errno.ELOOP, errno.EXDEV)
        what = "lies behind a symlink" if behind else f"cannot be read ({error.strerror})"
        return f"E220 output `{output['name']}`: {output['shown']} {what}"
    want = stat.S_ISREG if output["type"] == "file" else stat.S_ISDIR
    if want(mode):
        return ""
    is_what = (
        "a directory"
        if stat.S_ISDIR(mode)
        else "a file"
        if stat.S_ISREG(mode)
        else "a symlink"
        if stat.S_ISLNK(mode)
        else "something else"
    )
    return f"E220 output `{output['name']}`: {output['shown']} is {is_what}; a {output['type']} is declared"


# --- files --------------------------------------------------------------------------------------------------------


def keep(
    name: str, objects: str, heed: Heed = pass_by, shown: str = "", folder: int | None = None
) -> tuple[str, int, Any, int]:
    """Hash a file of an open folder and move it into the store; return its digest, size, signature there, and mode.

    `shown` is what a message calls it. Who has it open for writing, or can get it by another name, keeps it: the store then has
    a copy.
    """
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        raise Failed("output", f"E220 {shown or name} cannot be read ({error.strerror})") from None
    try:
        held, found = leased(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Failed("output", f"E220 {shown or name} is not a file")
        owned = found.st_nlink == 1 and found.st_uid == os.geteuid()
        if held and owned and found.st_dev == _device(objects):
            kept = _moved(fd, found, name, folder, objects, heed, shown)
            if kept is not None:
                return kept
        release(fd)  # who waits for it may go on
        return _copied(fd, found, objects, heed, shown or os.path.basename(name))
    finally:
        os.close(fd)


_devices: dict[str, int] = {}  # of the folders of objects


def _device(objects: str) -> int:
    if objects not in _devices:
        _devices[objects] = os.stat(objects).st_dev
    return _devices[objects]


def _moved(
    fd: int, found: os.stat_result, name: str, folder: int | None, objects: str, heed: Heed, shown: str
) -> tuple[str, int, Any, int] | None:
    """Give a file that is leased its name in the store; None if it must be copied: somebody wants to write to it, or
    something else had its name.
    """
    if found.st_size >= LARGE:
        _thread.start_new_thread(_write_back, (os.dup(fd),))
    digest = digest_of(fd, found.st_size, heed, f"hashing {shown}")
    target = object_path(objects, digest)
    if holds(target, found.st_size, digest, heed, f"reading the stored bytes of {shown}"):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=folder)  # the bytes are there: whoever reads them keeps what he has opened
        return digest, found.st_size, signature(target), found.st_mode
    try:
        os.fchmod(fd, 0o444)
        _rename(name, folder, target, objects)
        there = os.stat(target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _COPIED:
            raise
        return None
    if (there.st_ino, there.st_dev, there.st_nlink) != (found.st_ino, found.st_dev, 1) or not unbroken(fd):
        _take_back(target, objects)  # before the lease ends
        return None
    if found.st_size >= LARGE:
        release(fd)  # that thread may still hold it
    return (
        digest,
        found.st_size,
        [there.st_size, there.st_ino, there.st_mtime_ns, there.st_ctime_ns],
        found.st_mode,
    )


# Why a file is not renamed: the objects lie on another disk, the name has gone or is another's, the folder may not be written.
_COPIED = {errno.EXDEV, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM}


def _take_back(target: str, objects: str) -> None:
    """Let what is not what was hashed have no name in the store."""
    try:
        os.unlink(target)
    except IsADirectoryError:
        _put_aside(target, objects)


def _write_back(fd: int) -> None:
    """Let the disk begin with a file while it is hashed, instead of when it is waited for."""
    libc().sync_file_range(fd, 0, 0, 2)  # SYNC_FILE_RANGE_WRITE; a disk that is busy is waited for
    os.close(fd)


def _rename(name: str, folder: int | None, target: str, objects: str) -> None:
    """Rename a file into the store, over a damaged one of that name, too."""
    try:
        os.replace(name, target, src_dir_fd=folder)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(name, target, src_dir_fd=folder)
    except IsADirectoryError:  # somebody has put a directory there: it is put aside, not deleted
        _put_aside(target, objects)
        os.replace(name, target, src_dir_fd=folder)


def _put_aside(target: str, objects: str) -> None:
    os.rename(target, f"{os.path.dirname(objects)}/quarantine/{os.path.basename(target)}.{os.urandom(4).hex()}")


def _copied(fd: int, found: os.stat_result, objects: str, heed: Heed, shown: str) -> tuple[str, int, Any, int]:
    """Put a copy of a file into the store, made of what is hashed."""
    new, partial = _new_file(objects)
    try:
        digest = copy_hashed(fd, new, found.st_size, heed, f"copying {shown}")
        after = os.fstat(fd)
        if (found.st_size, found.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise Failed("output", f"{shown} was written while it was collected")
        target = object_path(objects, digest)
        if not holds(target, found.st_size, digest, heed, f"reading the stored bytes of {shown}"):
            os.fsync(new)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _name(new, partial, target, objects)
        return digest, found.st_size, signature(target), found.st_mode
    finally:
        _drop(new, partial)


# --- files of the worker's own --------------------------------------------------------------------------------------


def _new_file(folder: str) -> tuple[int, str]:
    """Make a file in a folder of the store that nobody else can reach: it has no name or, where the file system knows no such
    file, one that nobody can guess. Return it, and the name.
    """
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), ""
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    partial = f"{folder}/new-{os.urandom(16).hex()}"
    return os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), partial


def _name(fd: int, partial: str, target: str, objects: str) -> None:
    """Give a new file its name in the store, over a damaged one of that name, too."""
    os.fchmod(fd, 0o444)
    if not partial:
        try:
            _link(fd, target)
            return
        except FileExistsError:
            partial = f"{target}.{os.urandom(16).hex()}"
            _link(fd, partial)
    try:
        os.replace(partial, target)
    except IsADirectoryError:
        _put_aside(target, objects)
        os.replace(partial, target)


def _link(fd: int, target: str) -> None:
    files = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(fd), target, src_dir_fd=files, follow_symlinks=True)
    finally:
        os.close(files)


def _drop(fd: int, partial: str) -> None:
    os.close(fd)
    if partial:
        with contextlib.suppress(FileNotFoundError):  # it has its name
            os.unlink(partial)


# --- directories --------------------------------------------------------------------------------------------------


def keep_tree(
    name: str,
    objects: str,
    trees: str,
    heed: Heed = pass_by,
    marks: dict[str, Any] | None = None,
    shown: str = "",
    folder: int | None = None,
) -> tuple[str, int]:
    """Move the files of a directory in an open folder into the store; return the digest of its manifest and the size of its
    files.

    The signatures of those that are large go into `marks`.
    """
    entries: list[list[Any]] = []
    links: dict[str, str] = {}
    total = 0
    with Inside(_directory(name, folder, shown or name), LISTED) as inside:
        todo = [""]
        for path in todo:  # grows
            for item in _listed(inside, path, shown or name):
                place = f"{path}/{item.name}" if path else item.name
                if item.is_symlink():
                    links[place] = os.readlink(item.name, dir_fd=inside.folder(path))
                    entries.append([place, "link", links[place], 0])
                elif item.is_dir(follow_symlinks=False):
                    entries.append([place, "dir", "", 0])
                    todo.append(place)
                elif item.is_file(follow_symlinks=False):
                    digest, size, mark, mode = keep(
                        item.name, objects, heed, f"{shown}/{place}" if shown else place, inside.folder(path)
                    )
                    if marks is not None and size >= CHUNK:
                        marks[digest] = mark
                    entries.append([place, "exec" if mode & 0o100 else "file", digest, size])
                    total += size
                    heed(f"hashing {shown}", total, 0)
                else:
                    raise Failed("output", f"{place} is neither a file, a directory nor a symlink")
    for place in sorted(links):
        if leads_out(place, links):
            raise Failed("output", f"the symlink {place} leads out of the output directory")
    return _keep_manifest(manifest_text(entries), objects, trees), total


def _directory(name: str, folder: int | None, shown: str) -> int:
    try:
        return os.open(name, LISTED, dir_fd=folder)
    except OSError as error:
        raise Failed("output", f"E220 {shown} cannot be read ({error.strerror})") from None


def _listed(inside: Inside, path: str, shown: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder of an output, in order."""
    if path.count("/") >= DEEPEST:
        raise Failed("output", "E220 a directory among its outputs is too deep")
    try:
        with os.scandir(inside.folder(path)) as found:
            return sorted(found, key=lambda item: item.name)
    except OSError as error:
        place = f"{shown}/{path}" if path else shown
        raise Failed("output", f"E220 {place} cannot be read ({error.strerror})") from None


def leads_out(place: str, links: dict[str, str]) -> bool:
    """Return whether a symlink of a directory leads out of it, by way of its other symlinks, too. No file is asked."""
    at: list[str] = []
    todo = place.split("/")
    followed = 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return True
            at.pop()
            continue
        at.append(part)
        text = links.get("/".join(at))
        if text is not None:
            followed += 1
            if text.startswith("/"):
                return True
            if followed > 40:
                return False  # it leads round and round
            at.pop()
            todo[:0] = text.split("/")
    return False


def manifest_text(entries: list[list[Any]]) -> bytes:
    """Return the canonical bytes of a directory's entries: path, kind (file exec dir link), content, size."""
    import json

    body = {"format": 1, "entries": sorted(entries)}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
        "utf-8", "surrogateescape"
    )


def _keep_manifest(text: bytes, objects: str, trees: str) -> str:
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    target = f"{trees}/{digest[7:]}"
    if not holds(target, len(text), digest):
        new, partial = _new_file(trees)
        try:
            write_all(new, text)
            _name(new, partial, target, objects)
        finally:
            _drop(new, partial)
    return digest


# --- values -------------------------------------------------------------------------------------------------------


def written_values(call: Json, inside: Inside) -> str | None:
    """Return the text of the values file, if the step has written one."""
    try:
        folder, name = inside.place(relative(call["values"], call["root"]))
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            return None
        if not stat.S_ISREG(mode):
            raise Failed("output", "E220 the values file is not a file")
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Failed("output", "E220 the values file is not a file")
        content = file.read(VALUES_LIMIT + 1)
    if len(content) > VALUES_LIMIT:
        raise Failed("output", "E220 the values file is larger than 16 MiB")
    return content.decode("utf-8", "replace") or None
