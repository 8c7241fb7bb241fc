"""One worker of the local pool: stages an attempt, starts it, collects and hashes what it leaves, reports.

A stand-alone program of the standard library, started by exec: calls come in as JSON lines on standard input,
outcomes go out on standard output. It is the subreaper and supervisor of one attempt at a time; the end of its
input means that the engine is gone, so it kills everything and leaves. Its parent is a guard that does the same
should the worker itself be killed. The fields of a call are those of `executors.Call`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import json
import os
import select
import signal
import stat
import subprocess
import sys
import time

TYPE_CHECKING = False  # as that of `typing`, which takes 2 ms to load
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set
    from typing import Any

    Json = dict[str, Any]

CHUNK = 1 << 16
LITTLE_ROOM, FEW_FILES = 16 << 20, 1000  # bytes and files of a disk that may have been full a moment ago
TAIL = 4096  # bytes of output that a failure report may quote
VALUES_LIMIT = 16 << 20


class Failed(Exception):
    """The attempt failed for a cause that is told to the engine."""

    def __init__(self, cause: str, message: str, digest: str = "") -> None:
        super().__init__(message)
        self.cause, self.message, self.digest = cause, message, digest


# --- staging ----------------------------------------------------------------------------------------------------


def signature(path: str) -> Any:
    """Return what changes when the bytes at `path` do: of a directory, of all that is in it."""
    found = os.stat(path)
    mark = [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]
    if not stat.S_ISDIR(found.st_mode):
        return mark
    marks = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(os.path.join(folder, name))
                marks.append([name, found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns])
        marks.append([folder, folders])
    return hashlib.sha256(json.dumps(marks).encode("utf-8", "surrogateescape")).hexdigest()


def stage(call: Json) -> dict[str, tuple[Any, str]]:
    """Make the attempt's directory with only what the step declares; return the signatures of its inputs."""
    root = call["root"]
    _given.clear()
    if not _emptied:
        os.makedirs(os.path.dirname(root), exist_ok=True)
    make_folder(root)
    made = {root}

    def make(folder: str) -> None:
        if folder not in made:
            make(os.path.dirname(folder))
            make_folder(folder)
            made.add(folder)

    def folder_of(path: str) -> None:
        make(os.path.dirname(path))

    make(call["work"])

    for path, text in call["files"].items():
        write_new(path, text.encode("utf-8", "surrogateescape"), 0o644)
    marks: dict[str, tuple[Any, str]] = {}
    for target, source, digest, mark in call["links"]:
        folder_of(target)
        if digest and copy_small(source, target, digest):
            continue
        try:
            found = signature(source)
        except FileNotFoundError:
            raise Failed("environment", f"{source} is gone") from None
        if mark is not None and found != mark:
            raise Failed("environment", f"{source} has changed since it was planned")
        marks[source] = (found, digest)
        os.symlink(source, target)
    for target, source, digest in call["copies"]:
        folder_of(target)
        copy(source, target, digest)
    for target, manifest, objects in call["trees"]:
        folder_of(target)
        unpack(target, manifest, objects)
    for path in call["folders"]:
        make(path)
    return marks


# Folders that attempts have left empty, and small files that they were given, by mode: each is used for the next. To free
# one is a request to the disk, which a file system mounted with `discard` waits for, and one without a journal passes over
# each number that was freed in the last minute when it looks for a free one. One that differs from a new one is not kept.
_emptied: list[str] = []
_spare: dict[int, list[tuple[str, int]]] = {}  # each with its size
_given: list[tuple[str, tuple[int, ...]]] = []  # the files of the attempt, and what they were
_KEPT = 64
_numbers = itertools.count()


def make_folder(path: str) -> None:
    while _emptied:
        try:
            os.rename(_emptied.pop(), path)
            return
        except FileNotFoundError:
            continue
    os.mkdir(path)


def write_new(path: str, content: bytes, mode: int) -> None:
    """Write a file that is not there yet; `open` would ask four things more of it."""
    if len(content) >= CHUNK or not rewrite(path, content, mode):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            write_all(fd, content)
            found = os.fstat(fd)
        finally:
            os.close(fd)
        _given.append((path, (found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_dev)))


def rewrite(path: str, content: bytes, mode: int) -> bool:
    """Let a file of an attempt before be the new one; return whether there was one."""
    spare = _spare.get(mode)
    if not spare:
        return False
    place, size = spare.pop()
    try:
        fd = os.open(place, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(fd, content)
            if size > len(content):
                os.ftruncate(fd, len(content))
            found = os.fstat(fd)
        finally:
            os.close(fd)
        os.rename(place, path)
    except (FileNotFoundError, PermissionError):
        return False
    _given.append((path, (found.st_ino, found.st_mode, found.st_uid, found.st_gid, found.st_dev)))
    return True


def write_all(fd: int, content: bytes) -> None:
    while content:
        content = content[os.write(fd, content) :]


def clear(root: str) -> None:
    """Remove an attempt's directory when no process is left in it; keep its folders and small files for the next."""
    kept = f"{os.path.dirname(root)}/emptied-{os.getpid()}"
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(kept)
        new = os.stat(kept)
        fresh = (new.st_mode, new.st_uid, new.st_gid, new.st_dev)
        for path, was in _given:
            _spare_file(path, kept, was)
        empty(root, lambda path: _set_apart(path, kept, fresh, _KEPT + (path == root)))  # its seal is for that folder
    except OSError:
        remove(root)


def _spare_file(path: str, kept: str, was: tuple[int, ...]) -> None:
    """Keep a file in `kept` if it is as it was made, and goes by no other name."""
    try:
        mark = os.lstat(path)
    except OSError:
        return
    spare = _spare.setdefault(stat.S_IMODE(mark.st_mode), [])
    if (
        len(spare) < _KEPT
        and (mark.st_ino, mark.st_mode, mark.st_uid, mark.st_gid, mark.st_dev) == was
        and mark.st_nlink == 1
        and mark.st_size < CHUNK
        and not os.listxattr(path, follow_symlinks=False)
    ):
        place = f"{kept}/{next(_numbers)}"
        os.rename(path, place)
        spare.append((place, mark.st_size))


def _set_apart(path: str, kept: str, fresh: tuple[int, ...], room: int) -> None:
    """Keep an emptied folder in `kept` if it is as a new one; else remove it."""
    mark = os.lstat(path)
    if (
        len(_emptied) < room
        and (mark.st_mode, mark.st_uid, mark.st_gid, mark.st_dev) == fresh
        and not os.listxattr(path)  # nor an access list
    ):
        place = f"{kept}/{next(_numbers)}"
        os.rename(path, place)
        _emptied.append(place)
    else:
        os.rmdir(path)


def copy(source: str, target: str, digest: str) -> None:
    """Copy a file that must still be what the plan saw."""
    try:
        with open(source, "rb") as file:
            content = file.read()
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise Failed("environment", f"{source}: {error.strerror}") from None
    if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
        raise Failed("environment", f"{source} has changed since it was planned")
    with open(target, "wb", opener=lambda p, flags: os.open(p, flags, 0o555 if mode & 0o100 else 0o444)) as file:
        file.write(content)


def copy_small(source: str, target: str, digest: str) -> bool:
    """Copy a stored file that is small, which is cheaper than a link of more than 59 characters: that takes a block of
    the disk, and gives it back. Return whether it was.
    """
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
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
    write_new(target, content, 0o444)
    return True


def unpack(target: str, manifest: str, objects: str) -> None:
    """Lay out a stored directory as a copy of its own, so that no step can reach the store through it."""
    with open(manifest, encoding="utf-8", errors="surrogateescape") as file:
        entries = json.load(file)["entries"]
    os.mkdir(target)
    for path, kind, content, _ in entries:
        place = os.path.join(target, path)
        if kind == "dir":
            os.makedirs(place, exist_ok=True)
        elif kind == "link":
            os.symlink(content, place)
        else:
            _copy_object(object_path(objects, content), place, kind == "exec")


def _copy_object(source: str, target: str, executable: bool) -> None:
    with (
        open(source, "rb") as old,
        open(target, "wb", opener=lambda p, flags: os.open(p, flags, 0o555 if executable else 0o444)) as new,
    ):
        left = os.fstat(old.fileno()).st_size
        while left > 0:
            try:
                done = os.copy_file_range(old.fileno(), new.fileno(), left)  # a reflink where the file system has them
            except OSError:
                done = 0
            if not done:
                content = old.read()
                new.write(content)
                break
            left -= done


# --- collecting -------------------------------------------------------------------------------------------------


def object_path(objects: str, digest: str) -> str:
    digest = digest[7:]
    return f"{objects}/sha256/{digest[:2]}/{digest}"


def keep(path: str, objects: str) -> tuple[str, int]:
    """Hash a file and move it into the store; return its digest and size."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        before = os.fstat(fd)
        digest = digest_of(fd, before.st_size)
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
        if "sha256:" + again.hexdigest() != digest:
            raise Failed("output", f"{os.path.basename(path)} was written while it was collected")
        os.unlink(path)
        path = partial
    if holds(target, before.st_size, digest):
        os.unlink(path)  # the bytes are there: whoever reads them keeps what he has opened
        return digest, before.st_size
    os.chmod(path, 0o444)
    publish(path, target, f"{os.path.dirname(objects)}/quarantine")
    return digest, before.st_size


def publish(path: str, target: str, quarantine: str) -> None:
    """Give a file its name in the store, over a damaged one of that name, too."""
    try:
        os.replace(path, target)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        publish(path, target, quarantine)
    except IsADirectoryError:  # somebody has put a directory there: it is put aside, not deleted
        os.rename(target, f"{quarantine}/{os.path.basename(target)}.{os.getpid()}")
        os.replace(path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_over(path, target)


def copy_over(path: str, target: str) -> None:
    """Publish a file from another file system. The copy has no name before it is whole and durable."""
    folder = os.path.dirname(target)
    fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o444)
    with open(path, "rb") as old, open(fd, "wb") as new:
        while content := old.read(1 << 20):
            new.write(content)
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


def digest_of(fd: int, size: int) -> str:
    """Return the digest of a file; a small one is read at once, which takes a fifth of the time."""
    if size < CHUNK:
        content = os.read(fd, CHUNK)
        if len(content) == size:
            return "sha256:" + hashlib.sha256(content).hexdigest()
        os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb", closefd=False) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def holds(path: str, size: int, digest: str) -> bool:
    """Return whether a file is there with these bytes."""
    try:
        with open(path, "rb") as file:
            return (
                os.fstat(file.fileno()).st_size == size
                and "sha256:" + hashlib.file_digest(file, "sha256").hexdigest() == digest
            )
    except OSError:
        return False


def keep_tree(path: str, objects: str, trees: str) -> tuple[str, int]:
    """Move a directory's files into the store; return the digest of its manifest and the size of its files."""
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
                digest, size = keep(item.path, objects)
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
    body = {"format": 1, "entries": sorted(entries)}
    return json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
        "utf-8", "surrogateescape"
    )


def collect(call: Json) -> dict[str, Json]:
    """Check all declared outputs, then move them into the store."""
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
    kept = {}
    for output, path in found:
        if output["type"] == "file":
            digest, size = keep(path, call["objects"])
        else:
            digest, size = keep_tree(path, call["objects"], call["trees_dir"])
        kept[output["name"]] = {"type": output["type"], "digest": digest, "size": size}
    return kept


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


# --- processes --------------------------------------------------------------------------------------------------


@functools.cache
def libc() -> Any:
    """Return the C library: what Python has no word for."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Let orphans of a step become children of this process (Linux only)."""
    if sys.platform == "linux":
        libc().prctl(36, 1, 0, 0, 0)


def children(of: int | None = None) -> list[int]:
    """Return the processes whose parent is this one."""
    if not _LISTED:
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(pid) == (of or os.getpid())]
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{of or 'self'}/task"):
            with open(f"/proc/{of or 'self'}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found


_LISTED = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # not every kernel lists them


def parent(pid: int) -> int:
    """Return the parent of a process, 0 if it has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def descendants() -> list[int]:
    found, todo = [], children()
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children(pid)
    return found


def neighbour(name: str) -> Any:
    """Import a module beside this one, which is a part of the package or, in a worker, stands alone."""
    import importlib

    return importlib.import_module(f"{__package__}.{name}" if __package__ else name)


class Log:
    """A log file that is made with its first byte; past its limit the middle is cut. Secrets are masked."""

    def __init__(self, path: str, limit: int, secrets: list[tuple[str, str]]) -> None:
        self.path, self.limit = path, limit
        self.mask = redactor(secrets) if secrets else None
        self.size = 0
        self.half = max(limit // 2, 1)
        self.file: Any = None
        self.ring, self.rest = -1, 0  # a file of the last half, written round and round, and what went there

    def write(self, content: bytes) -> None:
        content = self.mask.feed(content) if self.mask else content
        if content:
            self.put(content)

    def put(self, content: bytes) -> None:
        if self.file is None:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        room = max(0, self.limit // 2 - self.size)
        if room:
            self.file.write(content[:room])
            self.size += min(room, len(content))
        rest = content[room:]
        if rest and self.ring < 0:
            place = f"{os.path.dirname(os.path.dirname(self.path))}/end-{os.getpid()}"
            self.ring = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.unlink(place)  # whoever dies leaves none
        while rest:
            at = self.rest % self.half
            count = os.pwrite(self.ring, rest[: self.half - at], at)
            self.rest += count
            rest = rest[count:]

    def close(self) -> bytes:
        """Write the end of a log that was cut; return its last bytes."""
        if self.mask and (rest := self.mask.flush()):
            self.put(rest)
        if self.file is None:
            return b""
        if self.ring >= 0:
            oldest = self.rest % self.half if self.rest > self.half else 0
            if self.rest > self.half:
                self.file.write(b"\n[... %d bytes cut ...]\n" % (self.rest - self.half))
            self._copy(oldest, min(self.rest, self.half))
            self._copy(0, oldest)
            os.close(self.ring)
        self.file.close()
        with open(self.path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            return file.read()

    def _copy(self, start: int, end: int) -> None:
        """Append a part of the ring."""
        while start < end:
            content = os.pread(self.ring, min(1 << 20, end - start), start)
            self.file.write(content)
            start += len(content)


_redactors: dict[tuple[tuple[str, str], ...], Any] = {}  # making one for a key of many lines takes a while


def redactor(secrets: list[tuple[str, str]]) -> Any:
    key = tuple((name, value) for name, value in secrets)
    if key not in _redactors:
        values = [(name, value.encode("utf-8", "surrogateescape")) for name, value in key]
        _redactors[key] = neighbour("redact").Redactor(values)
    return _redactors[key]


def mask_cells(path: str, mask: Any) -> None:
    """Mask what the cells of an executed notebook have put out; what is no notebook is left to `collect`."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as file:
            notebook = json.load(file)
        for cell in notebook["cells"]:
            if "outputs" in cell:
                cell["outputs"] = neighbour("redact").masked(cell["outputs"], mask)
    except (OSError, ValueError, KeyError, TypeError):
        return
    with open(path, "w", encoding="utf-8") as file:
        json.dump(notebook, file, ensure_ascii=False, indent=1)


class Control:
    """The engine's pipe: calls that wait, and the wish to stop. The end of the guard is the end of the engine."""

    def __init__(self, fd: int, guard: int) -> None:
        self.fds = {fd, guard}
        self.guard = guard
        self.buffer = b""
        self.calls: list[Json] = []
        self.stop, self.kill, self.gone = False, False, False

    def read(self, fd: int) -> None:
        content = os.read(fd, CHUNK) if fd != self.guard else b""
        if not content:
            self.gone = self.stop = self.kill = True
            return
        *lines, self.buffer = (self.buffer + content).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "control" in message:
                self.stop = True
                self.kill = self.kill or message["control"] == "kill"
            else:
                self.calls.append(message)

    def next(self) -> Json | None:
        while not self.calls and not self.gone:
            self.read(select.select(self.fds, [], [])[0][0])
        self.stop = self.kill = False
        return self.calls.pop(0) if self.calls and not self.gone else None


class Warm:
    """The parent of python steps: forks a child for each, so that the interpreter need not start again."""

    def __init__(self) -> None:
        import socket  # only for who has steps in Python

        self.process: subprocess.Popen[bytes] | None = None
        self.socket = socket.socket()
        self.buffer = b""
        self.fds: list[int] = []

    def start(self, call: Json, log: int, procs: str, seal: Any) -> int:
        """Fork the step's child; return its pidfd. The socket tells how it ends.

        Its variables go over the socket, not through a file: they may hold secrets.
        """
        import socket

        if self.process is None or self.process.poll() is not None:
            ours, theirs = socket.socketpair()
            env = {k: v for k, v in call["env"].items() if k in ("PATH", "HOME", "LANG", "TZ") or k.startswith("LC_")}
            self.process = subprocess.Popen(
                [*call["interpreter"][:3], "--serve", *call["interpreter"][3:]],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=env,
                start_new_session=True,
                cwd="/",
            )
            theirs.close()
            self.socket, self.buffer = ours, b""
        told = {"task": call["task"], "env": call["env"], "cwd": call["cwd"], "procs": procs}
        message = json.dumps(told).encode() + b"\n"
        sent = socket.send_fds(self.socket, [message], [log] if seal is None else [log, seal.ruleset])
        self.socket.sendall(message[sent:])
        if self.answer() is None:
            raise Failed("lost", "the parent of python steps ended")
        return self.fds.pop()

    def ended(self) -> int:
        """Return the wait status of the child."""
        status = self.answer()
        if status is None:
            self.process = None
            return signal.SIGKILL
        return status

    def answer(self) -> int | None:
        """Return the next number that the parent tells, or None if it has gone. A fast child's two come at once."""
        import socket

        while b"\n" not in self.buffer:
            content, fds, _, _ = socket.recv_fds(self.socket, 64, 1)
            if not content:
                return None
            self.buffer += content
            self.fds += fds
        line, _, self.buffer = self.buffer.partition(b"\n")
        return int(line)

    @property
    def pids(self) -> set[int]:
        return {self.process.pid} if self.process else set()


class Parents:
    """The warm parents of one worker, by the interpreter that each runs and what it has imported."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, ...], Warm] = {}

    def of(self, call: Json) -> Warm:
        return self.known.setdefault(tuple(call["interpreter"]), Warm())

    @property
    def pids(self) -> set[int]:
        return {pid for warm in self.known.values() for pid in warm.pids}


def sealed(call: Json, linked: Iterable[str]) -> Any:
    """Return the seal that the step's process keeps to, or None where it keeps to none."""
    if not call["closed"]:
        return None
    return neighbour("landlock").seal(tuple(call["closed"]), (*call["readable"], *linked), call["root"])


def program(name: str, path: str) -> str | None:
    """Return where a program is: else each child would try it in one folder after the other. None: let it try."""
    if "/" in name or not all(folder.startswith("/") for folder in path.split(":")):
        return None
    return find(name, path)


@functools.cache
def find(name: str, path: str) -> str | None:
    """Return the first program of a name in the folders of a search path."""
    places = (os.path.join(folder, name) for folder in path.split(":"))
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def spawn(call: Json, output: int, seal: Any) -> int:
    """Start the step's program; return its pid."""
    place = program(call["argv"][0], call["env"].get("PATH", ""))
    if seal is None:
        return _opened(call, output, place)
    if place is None and "/" not in call["argv"][0]:  # let it be looked for
        pid: int = seal.start(lambda: _opened(call, output, place))
    else:
        pid = seal.start(lambda: _spawned(call, output, place or call["argv"][0]))
    return pid


def _opened(call: Json, output: int, place: str | None) -> int:
    process = subprocess.Popen(
        call["argv"], executable=place, cwd=call["cwd"], env=call["env"], stdin=subprocess.DEVNULL, stdout=output,
        stderr=output, start_new_session=True,
    )  # fmt: skip
    process.returncode = 0  # it is collected by who supervises, not by `Popen`
    return process.pid


def _spawned(call: Json, output: int, place: str) -> int:
    """Start a process by the C library, at a third of what `Popen` costs; from a thread with a working directory of its
    own, for it takes that.
    """
    os.chdir(call["cwd"])
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
    ]
    signals = (signal.SIGPIPE, signal.SIGXFSZ)
    return os.posix_spawn(place, call["argv"], call["env"], file_actions=files, setsid=True, setsigdef=signals)


def fork(call: Json, output: int, procs: str, seal: Any) -> int:
    """Start the step's program in its memory group: in it before it allocates anything. Return its pid."""
    told, tell = os.pipe()  # closed by a successful exec
    pid = os.fork()
    if pid == 0:
        try:
            _become(call, output, procs, seal)
        except OSError as error:
            os.write(tell, b"%d" % (error.errno or 1))
        finally:
            os._exit(127)
    os.close(tell)
    number = os.read(told, 16)
    os.close(told)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(call: Json, output: int, procs: str, seal: Any) -> None:
    with open(procs, "w") as file:
        file.write("0")
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.chdir(call["cwd"])
    if seal is not None:
        neighbour("landlock").restrict(seal.ruleset)
    os.execvpe(call["argv"][0], call["argv"], call["env"])


def tell_program(main: int, pidfd: int, number: int) -> None:
    """Signal the step's program: bubblewrap, which starts it for us, hands no signal on."""
    inside = children(main) if main else []
    own = children(inside[0]) if inside else []
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(own[0]) if own and _is_below(own[0]) else os.dup(pidfd)
        send(pidfd, number)
        os.close(pidfd)


def send(pidfd: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)


def send_all(spare: Set[int], number: int) -> None:
    """Signal every descendant but `spare`. Each is held first and then looked at again: a number may change hands."""
    for pid in descendants():
        if pid in spare:
            continue
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        if _is_below(pid):
            send(pidfd, number)
        os.close(pidfd)


def _is_below(pid: int) -> bool:
    """Return whether a process descends from this one."""
    while pid > 1 and pid != os.getpid():
        pid = parent(pid)
    return pid == os.getpid()


def kill_all(spare: Set[int]) -> None:
    """Kill every descendant but `spare`, and at once what these have forked meanwhile."""
    for _ in range(100):
        before = set(descendants())
        send_all(spare, signal.SIGKILL)
        if before >= set(descendants()):
            return


def childless() -> bool:
    """Return whether no descendant is left: whose parent ends becomes a child of this process, the subreaper."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def reap(spare: Set[int]) -> list[int]:
    """Collect ended children but those of `spare`; return the pids that are still there."""
    left = [pid for pid in descendants() if pid not in spare]
    alive = []
    for pid in left:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = 0 if os.path.exists(f"/proc/{pid}") else pid
        if not done:
            alive.append(pid)
    return alive


def run(call: Json, linked: Iterable[str], control: Control | None, parents: Parents | None, spare: Set[int]) -> Json:
    """Run the attempt's process to its end, and to the end of all that it left; return what happened."""
    group = None
    seal = sealed(call, linked)
    if call["memory"]:
        group = neighbour("cgroup").memory_group(call["memory"], f"{os.getpid()}-{os.path.basename(call['root'])}")
    try:
        ended = _run(call, control, parents, spare, group.procs_path if group else "", seal)
        ended["oom"] = group is not None and group.oom_killed()
        return ended
    finally:
        if group is not None:
            group.remove()


def _run(call: Json, control: Control | None, parents: Parents | None, spare: Set[int], procs: str, seal: Any) -> Json:
    read_end, write_end = os.pipe()
    log = Log(call["log"], call["log_limit"], call["secrets"])
    started = time.monotonic()
    main = 0
    warm = parents.of(call) if parents is not None and call["warm"] else None
    try:
        if warm is not None:
            pidfd = warm.start(call, write_end, procs, seal)
        else:
            main = fork(call, write_end, procs, seal) if procs else spawn(call, write_end, seal)
            pidfd = os.pidfd_open(main)
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        name = call["argv"][0]
        if error.errno == 2:
            raise Failed("environment", f"there is no program {name}") from None
        raise Failed("environment", f"{name}: {error.strerror}") from None
    except BaseException:
        os.close(read_end)
        os.close(write_end)
        raise
    os.close(write_end)
    if parents is not None:
        spare = spare | parents.pids
    try:
        return _supervise(call, control, warm, spare, log, read_end, main, pidfd, started)
    except BaseException:
        end_all(spare)  # a log that cannot be written must not leave the step running
        raise
    finally:
        os.close(read_end)
        os.close(pidfd)


def end_all(spare: Set[int]) -> None:
    """Kill every descendant but `spare`, until none is found twice."""
    empty = 0
    while empty < 2:
        kill_all(spare)
        empty = 0 if reap(spare) else empty + 1
        if not empty:
            time.sleep(0.005)


def _supervise(
    call: Json,
    control: Control | None,
    warm: Warm | None,
    spare: Set[int],
    log: Log,
    read_end: int,
    main: int,  # the pid of the step's own process; 0 for a child of a warm parent
    pidfd: int,  # of that process
    started: float,
) -> Json:
    poll = select.poll()
    poll.register(read_end, select.POLLIN)
    ended_fd = warm.socket.fileno() if warm is not None else pidfd
    poll.register(ended_fd, select.POLLIN)
    controls = control.fds if control is not None else set()
    for fd in controls:
        poll.register(fd, select.POLLIN)
    deadline = started + call["timeout"] if call["timeout"] else None
    status: int | None = None
    asked: float | None = None
    killed_at: float | None = None
    why, leftover = "", False
    empty = 0
    drained = False
    while True:
        now = time.monotonic()
        if control is not None and control.stop and not why:
            why = "stopped"
        if deadline is not None and now >= deadline and status is None and not why:
            why = "timeout"
        if why and asked is None and status is None:
            asked = now
            if call["boxed"]:
                tell_program(main, pidfd, signal.SIGTERM)
            else:
                send(pidfd, signal.SIGTERM)
        force = control is not None and control.kill
        if (
            asked is not None
            and (force or now >= asked + call["grace"])
            and (killed_at is None or now >= killed_at + 0.02)
        ):
            killed_at = now
            kill_all(spare)
        if status is None and warm is not None and b"\n" in warm.buffer:
            poll.unregister(ended_fd)  # its end came together with its start
            status = warm.ended()
        if status is not None:
            if not spare and childless():
                break
            alive = reap(spare)
            if alive:
                empty = 0
                if call["boxed"]:
                    end_all(spare)  # its sandbox is ending anyway: what is left was told nothing of its own
                elif not leftover:
                    leftover = True
                    asked = asked or now
                    send_all(spare, signal.SIGTERM)
                elif force and killed_at is None:
                    continue
            else:
                empty += 1
                if empty >= 2:
                    break
                continue
        timeout = 0.02 if status is not None or killed_at is not None else None
        if timeout is None:
            until = [
                t
                for t in (deadline if not why else None, asked + call["grace"] if asked is not None else None)
                if t is not None
            ]
            timeout = max(0.0, min(until) - now) + 0.001 if until else None
        for fd, _ in poll.poll(None if timeout is None else timeout * 1000):
            if fd == read_end:
                content = os.read(read_end, CHUNK)
                if content:
                    log.write(content)
                else:
                    poll.unregister(read_end)
                    drained = True
            elif fd == ended_fd:
                poll.unregister(ended_fd)
                if main:
                    _, status = os.waitpid(main, 0)
                elif warm is not None:
                    status = warm.ended()
            elif control is not None and not control.gone:
                control.read(fd)
                if control.gone:
                    for end in controls:
                        poll.unregister(end)
    while not drained and select.select([read_end], [], [], 0)[0]:
        content = os.read(read_end, CHUNK)
        if not content:
            break
        log.write(content)
    tail = log.close()
    assert status is not None  # the loop above ends with it
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {
        "why": why, "seconds": time.monotonic() - started, "leftover": leftover, "tail": tail.decode("utf-8", "replace"),
        "exit_code": None if number else os.WEXITSTATUS(status),
        "signal": signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}" if number else "",
    }  # fmt: skip


def judge(call: Json, ended: Json) -> None:
    """Raise Failed for a process that did not end well."""
    if ended["why"] == "stopped":
        raise Failed("stopped", "stopped")
    if ended["oom"] and (ended["signal"] or ended["exit_code"] not in call["success_codes"]):
        raise Failed("oom", f"out of memory: it needed more than its {_size(call['memory'])}")
    if ended["why"] == "timeout":
        raise Failed("timeout", f"it ran longer than {call['timeout']:g} s")
    if ended["signal"]:
        raise Failed("signal", f"it was killed by {ended['signal']}")
    if ended["exit_code"] not in call["success_codes"]:
        raise Failed("exit", f"it exited with {ended['exit_code']}")


def _size(size: int) -> str:
    for unit, factor in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size} bytes"


def check_inputs(marks: dict[str, tuple[Any, str]]) -> None:
    """Raise Failed if an input is no longer what it was when the attempt began."""
    for source, (mark, digest) in marks.items():
        try:
            same = signature(source) == mark or (digest and holds(source, os.stat(source).st_size, digest))
        except OSError:
            same = False
        if not same:
            raise Failed("environment", f"its input {source} changed while it ran", digest)


def attempt(
    call: Json, control: Control | None = None, parents: Parents | None = None, spare: Set[int] = frozenset()
) -> Json:
    """Do one attempt; return its outcome as JSON. Its directory is left to the caller to remove."""
    outcome = {
        "step": call["step"],
        "attempt": call["attempt"],
        "cause": "",
        "message": "",
        "outputs": {},
        "values": None,
    }
    try:
        marks = stage(call)
        if control is not None and control.stop:
            raise Failed("stopped", "stopped")
        ended = run(call, marks, control, parents, spare)
        if call["cleanup"] and ended["why"]:
            subprocess.run(
                call["cleanup"],
                env=call["env"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        outcome.update(
            seconds=ended["seconds"],
            exit_code=ended["exit_code"],
            signal=ended["signal"],
            tail=ended["tail"],
            leftover=ended["leftover"],
        )
        judge(call, ended)
        check_inputs(marks)
        if call["secrets"] and call["printed"]:
            mask_cells(call["printed"], redactor(call["secrets"]))
        outcome["outputs"] = collect(call)
        outcome["values"] = written_values(call)
    except Failed as error:
        outcome.update(cause=error.cause, message=error.message)
        if error.digest:
            outcome["damaged"] = error.digest
    except OSError as error:
        outcome.update(
            cause="environment",
            message=f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            errno=error.errno,
        )
    except UnicodeError as error:
        outcome.update(cause="output", message=f"E220 a file name that is not UTF-8: {error}")
    if outcome["cause"] in ("exit", "signal", "output") and full(call["root"], outcome.get("tail", "")):
        outcome.update(
            cause="environment", errno=errno.ENOSPC, message=f"{outcome['message']}; the disk of the store is full"
        )
    return outcome


def full(path: str, said: str) -> bool:
    """Return whether the disk below a path has no room left, or so little that a step which said so was right then."""
    room, files = free(path)
    told = any(os.strerror(number) in said for number in (errno.ENOSPC, errno.EDQUOT))
    return room < 1 << 16 or not files or (told and (room < LITTLE_ROOM or files < FEW_FILES))


def free(path: str) -> tuple[int, int]:
    """Return the bytes and files that there is still room for on the disk of a path."""
    disk = os.statvfs(path)
    room = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)  # some is kept for root
    return room, disk.f_favail if disk.f_files else sys.maxsize  # not every file system counts files


def remove(path: str) -> None:
    """Remove a tree, whatever its modes."""
    with contextlib.suppress(OSError):
        empty(path, os.rmdir)  # no process is left that could swap a folder for a link meanwhile
        return
    import shutil

    def unlock(function: Any, name: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), 0o700)
            if function is not os.unlink:
                os.chmod(name, 0o700)
            function(name)

    shutil.rmtree(path, onerror=unlock)
    if os.path.lexists(path):
        shutil.rmtree(path, ignore_errors=True)


def empty(path: str, drop: Callable[[str], None]) -> None:
    """Remove all files of a tree, and drop each folder once it is empty."""
    with os.scandir(path) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                empty(item.path, drop)
            else:
                os.unlink(item.path)
    drop(path)


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    control, parents = Control(0, guarded()), Parents()
    with contextlib.suppress(BrokenPipeError):  # the engine has just gone
        while (call := control.next()) is not None:
            outcome = attempt(call, control, parents)
            if control.gone:
                break
            if outcome["cause"]:
                remove(call["root"])  # room, perhaps, to tell of the failure
            line = json.dumps(outcome).encode() + b"\n"
            while line:
                line = line[os.write(1, line) :]
            if not outcome["cause"]:
                clear(call["root"])  # while the engine goes on
    end_all(frozenset())
    os._exit(0)  # there is nothing to tidy, and whoever waits for the end waits for the engine


def guarded() -> int:
    """Go on in a child, which gets a pidfd of its guard. The guard does nothing until the child ends: then it ends what
    that has left. Whichever of engine, guard and worker are killed together, the one that is left clears up.
    """
    become_subreaper()
    guard = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid == 0:
        become_subreaper()  # is not inherited
        return guard
    os.close(0)
    os.close(1)
    _, status = os.waitpid(pid, 0)
    end_all(frozenset())
    if os.WIFSIGNALED(status):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))  # the engine tells how it ended
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
