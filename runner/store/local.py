"""A store in a directory: objects by digest, one journal per run, and an index that can be made anew.

The truth of a run is its journal, beside the objects. SQLite only finds: runs for listings, successes by
fingerprint, digests of files that have not changed. Losing it loses nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import struct
import sys
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ..errors import EnvironmentFailure, Moved, ReferenceRunError, RunnerError, StoreDamaged, printable
from ..executors.files import free, object_path
from ..executors.folders import remove
from ..executors.processes import libc
from ..fingerprint import artifacts
from ..record import Event, RunEnded, RunRecord, RunStarted, StepEnded, fold, of_json, to_json
from ..values import canonical, file_name
from . import Damage, RunSummary, checked, journal, models, rights, sync_folder
from .checked import LAST_DATE, is_run
from .leftovers import Leftovers
from .reading import LARGE, Denied, content, opened, parsed, unreadable

if TYPE_CHECKING:
    import sqlite3

FORMAT = 1
INDEX_FORMAT = 4
MANIFEST_FORMAT = 1
BALLAST = 1 << 20  # bytes that a run holds, to let go of when there is no other room to tell how it ended
ROOM = 64 << 10  # bytes behind the end of a journal that nobody else can have
FEWEST_FILES = 64  # that a run must be able to make
# Primary result codes of SQLite: https://sqlite.org/rescode.html
_SQLITE_ERROR, _SQLITE_BUSY, _SQLITE_LOCKED = 1, 5, 6
_SQLITE_IOERR, _SQLITE_CORRUPT, _SQLITE_FULL, _SQLITE_NOTADB = 10, 11, 13, 26
_SQLITE_CONSTRAINT_UNIQUE = 2067  # an extended one
_FULL = {errno.ENOSPC, errno.EDQUOT}
_IN_THE_WAY = {errno.EINVAL, errno.EISDIR, errno.ENOTDIR}  # a link, a folder, a pipe in place of a file, or the reverse
_MESSAGE_LIMIT = 16 << 20  # bytes of a message that are read
_TABLES = """
CREATE TABLE runs (seq INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, pipeline TEXT, status TEXT NOT NULL, request_digest TEXT,
  summary TEXT);
CREATE INDEX runs_pipeline ON runs (pipeline, seq);
CREATE INDEX runs_unfinished ON runs (id) WHERE status='running';
CREATE TABLE successes (seq INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, pipeline TEXT, run TEXT NOT NULL, step TEXT NOT NULL,
  seconds REAL, detail TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE INDEX successes_fingerprint ON successes (fingerprint, seq);
CREATE INDEX successes_seconds ON successes (pipeline, seq, step, seconds);
CREATE TABLE files (path TEXT PRIMARY KEY, mark TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;
"""
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32, none that are mistaken for one another


class LocalStore:
    """The store in the directory `path`. With `create` it is made if it is not there; else it reads as empty.

    `checkout` is the folder of the project that asks: what was made outside the sandbox in another one is not offered.
    """

    def __init__(self, path: str, create: bool, checkout: str = "") -> None:
        self.path, self.checkout = path, checkout
        self._connection: sqlite3.Connection | None = None
        self._copied = False  # whether the index is a copy in memory, since it cannot be written
        self._records: dict[str, RunRecord | None] = {}
        self._noted: dict[str, tuple[str, str]] = {}  # learnt, to be kept
        self._known: dict[str, tuple[str, str]] = {}  # as kept
        self._stored: dict[str, str] = {}  # digest -> mark of the file, as a worker has just stored it
        self.notices: list[str] = []
        self.leftovers = Leftovers(path)
        self.exists = self._is_there()
        if create and not self.exists:
            self._create()
            self.exists = self._is_there()
        if self.exists:
            self._check_format()
            rights.check(path)

    def _is_there(self) -> bool:
        try:
            os.lstat(f"{self.path}/format")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except PermissionError as error:
            raise Denied("format", self.path) from error
        except OSError as error:
            raise EnvironmentFailure(
                f"the store {printable(self.path[:200])} cannot be used: {error.strerror}"
            ) from error
        return True

    def _create(self) -> None:
        partial = ""
        try:
            for folder in ("objects/sha256", "trees", "plans", "quarantine", "runs", "tmp"):
                os.makedirs(f"{self.path}/{folder}", exist_ok=True)
            for name, text in ((".gitignore", "*\n"), ("format", f"{FORMAT}\n")):
                partial = f"{self.path}/tmp/{name}-{os.getpid()}"
                with open(partial, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, f"{self.path}/{name}")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise EnvironmentFailure(f"the store {self.path} cannot be made: {error.strerror}") from error

    def _check_format(self) -> None:
        try:
            text = content(f"{self.path}/format").decode("ascii", "backslashreplace").strip()
        except PermissionError as error:
            raise Denied("format", self.path) from error
        except OSError as error:
            raise StoreDamaged(f"{self.path}/format cannot be read: {error.strerror}") from error
        if not re.fullmatch("[1-9][0-9]{0,8}", text):
            raise StoreDamaged(f"{self.path}/format is not a number: {text[:40]!r}")
        if int(text) > FORMAT:
            raise EnvironmentFailure(
                f"the store {self.path} has format {text}; this runner knows {FORMAT}",
                help="use the runner that wrote it, or a newer one",
            )

    # the index

    @property
    def index(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open_index()
        return self._connection

    def _open_index(self) -> sqlite3.Connection:
        import sqlite3

        place = f"{self.path}/index.db"
        if not self.exists:
            return self.empty_index()
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                mode = os.lstat(f"{place}{end}").st_mode
                if not stat.S_ISREG(
                    mode
                ):  # a link may have come with somebody's files: its target is not ours to write
                    what = "a link" if stat.S_ISLNK(mode) else "no file"
                    help = "remove it: the index is made anew from the journals"
                    raise StoreDamaged(f"{place}{end} is {what}", help=help)
        if not os.path.exists(place) and not self._make_index():
            return self._read_only(place)
        try:
            connection = self._connect(place)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > INDEX_FORMAT:
                raise EnvironmentFailure(f"{place} has format {version}; this runner knows {INDEX_FORMAT}")
            if version == INDEX_FORMAT:
                self._catch_up(connection)
                return connection
        except sqlite3.OperationalError as error:
            if _primary(error) in (_SQLITE_BUSY, _SQLITE_LOCKED):
                raise EnvironmentFailure(f"{place}: {error}") from error
            if _primary(error) != _SQLITE_ERROR:
                return self._read_only(place)  # no right to write, or no room
            if not self._put_index_aside():  # SQLITE_ERROR: a table or column is missing
                return self._read_only(place)
            connection = self._connect(place)
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # also of the names in an error's text
            if not self._put_index_aside():
                return self._read_only(place)
            connection = self._connect(place)
        try:
            if self._fill(connection):
                self.notices.append("the index was missing or damaged; it was made anew from the journals")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # else who opens it next reads all of that once more
        except sqlite3.OperationalError as error:
            if _primary(error) in (_SQLITE_BUSY, _SQLITE_LOCKED):
                raise EnvironmentFailure(f"{place}: {error}") from error
            return self._read_only(place)
        return connection

    @staticmethod
    def empty_index() -> sqlite3.Connection:
        """Return an index of nothing, in memory."""
        connection = LocalStore._memory()
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        return connection

    @staticmethod
    def _connect(place: str) -> sqlite3.Connection:
        import sqlite3

        new = not os.path.exists(place) or not os.path.getsize(place)
        connection = sqlite3.connect(place, timeout=30, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout=30000")
        # What a power cut takes from the index is in the journals; a new one is synced once, when it is filled.
        connection.execute(f"PRAGMA synchronous={'OFF' if new else 'NORMAL'}")
        connection.execute("PRAGMA journal_mode=WAL")
        return connection

    def _read_only(self, place: str) -> sqlite3.Connection:
        """For a user who may only read: a copy in memory of the index, or of what the journals say."""
        import sqlite3
        from urllib.parse import quote

        self._copied = True
        connection = self._memory()
        try:
            found = sqlite3.connect(f"file:{quote(place)}?mode=ro", uri=True, timeout=5)
            found.backup(connection)
            if connection.execute("PRAGMA user_version").fetchone()[0] == INDEX_FORMAT:
                return connection
        except (sqlite3.Error, UnicodeDecodeError):
            pass
        connection = self._memory()  # what was copied of a damaged one is in the way
        self._fill(connection)
        return connection

    @staticmethod
    def _memory() -> sqlite3.Connection:
        import sqlite3

        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)

    def _recorded(self) -> list[RunRecord]:
        """Return all runs that a journal tells of."""
        # What garbage collection was removing when it died is there no more.
        there = self.folders() - self.removed().keys()
        return [r for id in there if (r := self._record(id))]

    def folders(self) -> set[str]:
        """Return the runs that have a folder."""
        try:
            return {name for name in os.listdir(f"{self.path}/runs") if is_run(name)}
        except OSError as error:
            raise unreadable(f"{self.path}/runs", error) from error

    def _fill(self, connection: sqlite3.Connection, records: list[RunRecord] | None = None) -> int:
        """Make the index anew from the journals, in the order in which the runs began; return how many there are."""
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == INDEX_FORMAT:
            connection.execute("COMMIT")  # another process has just done it
            return 0
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            connection.execute(f"DROP TABLE {table}")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={INDEX_FORMAT}")
        records = self._recorded() if records is None else records
        last = 0
        for record in sorted(records, key=lambda r: (r.started.number, r.started.at, r.id)):
            last = max(last + 1, record.started.number)
            connection.execute("INSERT INTO runs (seq, id, status) VALUES (?, ?, 'running')", (last, record.id))
            ended = [record.ended] if record.ended else []
            self._enter(connection, record.id, [record.started, *record.steps.values(), *ended], record.id)
        connection.execute("COMMIT")
        return len(records)

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        """Enter what the index lacks: of runs whose owner was killed, and what a power cut took from it."""
        import sqlite3

        unfinished = [id for (id,) in connection.execute("SELECT id FROM runs WHERE status='running'")]
        (count,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        folder = f"{self.path}/runs"
        removed: Collection[str] = ()
        if os.stat(folder).st_nlink - 2 != count or any(not os.path.isdir(f"{folder}/{id}") for id in unfinished):
            # Not as many runs as folders, where folders count their own: which are they?
            known = {id for (id,) in connection.execute("SELECT id FROM runs")}
            unknown = sorted(self.folders() - known)
            removed = self.removed().keys() if unknown else ()
            unfinished += unknown
        records = []
        for id in unfinished:
            if id not in removed and os.path.isdir(f"{folder}/{id}") and not self._alive(id):
                with contextlib.suppress(StoreDamaged, EnvironmentFailure):  # told by who asks for that run
                    record = self._record(id)
                    if record and (record.finished or self._lacks(connection, record)):
                        records.append(record)
        if not records:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return  # who may not write reads the index as it is
        for record in sorted(records, key=lambda r: (r.started.number, r.started.at, r.id)):
            connection.execute("INSERT OR IGNORE INTO runs (id, status) VALUES (?, 'running')", (record.id,))
            ended = [record.ended] if record.ended else []
            lacking = self._lacks(connection, record)
            self._enter(connection, record.id, [record.started, *lacking, *ended], record.id)
            if record.finished:
                connection.execute("UPDATE runs SET status=? WHERE id=?", (record.status, record.id))
        connection.execute("COMMIT")

    @staticmethod
    def _lacks(connection: sqlite3.Connection, record: RunRecord) -> list[Event]:
        """Return what the index does not have of a run."""
        there = connection.execute("SELECT 1 FROM runs WHERE id=? AND summary IS NOT NULL", (record.id,)).fetchone()
        steps = {step for (step,) in connection.execute("SELECT step FROM successes WHERE run=?", (record.id,))}
        lacking: list[Event] = [e for e in record.steps.values() if e.is_result and e.step not in steps]
        return lacking if there else [record.started, *lacking]

    def reindex(self) -> int:
        """Rebuild the index; return how many runs it has. Whatever prevents that is raised before the old one goes."""
        import sqlite3

        rights.refuse_foreign_index(self.path)
        rights.refuse_unwritable(self.path)
        records = self._recorded()
        like = rights.owner(self.path)
        try:
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self.path}/index.db{end}")
        except OSError as error:
            raise self._unwritable(error) from error
        rights.give(f"{self.path}/index.db", like)
        try:
            self._connection = self._connect(f"{self.path}/index.db")
            self._fill(self._connection, records)
            self._connection.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise self._unwritable(error) from error
        self.notices.clear()
        return len(records)

    def _enter(self, connection: sqlite3.Connection, run: str, events: Iterable[Event], of: str) -> None:
        for event in events:
            match event:
                case RunStarted():
                    summary = _summary(event)
                    connection.execute(
                        "UPDATE runs SET pipeline=?, request_digest=?, summary=? WHERE id=?",
                        (event.pipeline, event.request_digest, json.dumps(summary), of),
                    )
                case StepEnded(status="succeeded", fingerprint=fingerprint) if event.is_result:
                    detail = canonical(to_json(event))
                    sum = self.row_sum(fingerprint, run, event.step, detail)
                    connection.execute(
                        "INSERT INTO successes (fingerprint, pipeline, run, step, seconds, detail, sum)"
                        " VALUES (?, (SELECT pipeline FROM runs WHERE id=?), ?, ?, ?, ?, ?)",
                        (fingerprint, of, run, event.step, event.seconds, detail, sum),
                    )
                case RunEnded():
                    end = json.dumps(_end(event))
                    connection.execute(
                        "UPDATE runs SET status=?, summary=json_patch(summary, ?) WHERE id=?", (event.status, end, of)
                    )

    @staticmethod
    def row_sum(fingerprint: str, run: str, step: str, detail: str) -> int:
        """Return what tells whether a row of a success is as it was entered."""
        return crc32(f"{fingerprint}\n{run}\n{step}\n{detail}".encode())

    @staticmethod
    def summary_of(record: RunRecord, ended: bool) -> tuple[dict[str, Any], str]:
        """Return what the index says of a run, with its end or without, and its status there."""
        end = record.ended if ended else None
        return {**_summary(record.started), **(_end(end) if end else {})}, end.status if end else "running"

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a query of the index finds; an index that turns out damaged is made anew."""
        import sqlite3

        try:
            return self.index.execute(query, values).fetchall()
        except UnicodeEncodeError:
            return []  # what cannot be written in UTF-8 is in no index
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # SQLITE_ERROR: a table or column is missing, or Python cannot decode a text.
            if _primary(error) not in (_SQLITE_ERROR, _SQLITE_CORRUPT, _SQLITE_NOTADB):
                raise EnvironmentFailure(f"the index of the store cannot be read: {error}") from error
            self._renew()
            return self.index.execute(query, values).fetchall()

    def _renew(self) -> None:
        """Put a damaged index aside, and make it anew from the journals."""
        with contextlib.suppress(Exception):
            self.index.close()
        self._connection = None
        if not self._put_index_aside():  # who may only read has the journals
            self._copied = True
            self._connection = self._memory()
            self._fill(self._connection)

    def _make_index(self) -> bool:
        """Make an empty index, if that locks nobody out."""
        with contextlib.suppress(OSError, EnvironmentFailure):
            if not rights.locks_out(self.path):
                rights.give(f"{self.path}/index.db", rights.owner(self.path))
                return True
        return False

    def _put_index_aside(self) -> bool:
        """Put a damaged index aside, with an empty one in its place, if that locks nobody out."""
        with contextlib.suppress(OSError, EnvironmentFailure):
            if rights.locks_out(self.path):
                return False
            like = rights.owner(self.path)
            os.replace(f"{self.path}/index.db", f"{self.path}/quarantine/index.db")
            for end in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}/index.db{end}", f"{self.path}/quarantine/index.db{end}")
            rights.give(f"{self.path}/index.db", like)
            return True
        return False

    # runs

    def begin(self, plan: str = "") -> tuple[str, LocalLedger]:
        self.refuse_full()
        rights.refuse_unwritable(self.path)
        mark = self._claim(plan) if plan else None
        try:
            self.leftovers.sweep()
            id, ledger = self._begin()
            if mark is not None:
                os.write(mark, f"{id}\n".encode())
                os.fsync(mark)
        except BaseException as error:
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise
        finally:
            if mark is not None:
                os.close(mark)  # without a run in it, it is nobody's: the plan may start one yet
        return id, ledger

    def refuse_full(self) -> None:
        """Raise EnvironmentFailure where the disk has no room for a run to begin and to end."""
        room, files = free(self.path)
        if room < 2 * BALLAST or files < FEWEST_FILES:
            left = f"{room >> 10} KiB" if room < 2 * BALLAST else f"{files} files"
            least = f"{2 * BALLAST >> 10} KiB" if room < 2 * BALLAST else f"{FEWEST_FILES}"
            raise EnvironmentFailure(
                f"the disk of the store {self.path} is full: there is room for {left}, and a run needs {least}",
                help="make room there, or give another place by --store",
            )

    def _unwritable(self, error: Exception) -> RunnerError:
        why = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, OSError) and error.errno in _IN_THE_WAY and error.filename:
            return StoreDamaged(f"{error.filename} cannot be written: {why}", help="move away what is in its place")
        return EnvironmentFailure(f"the store {self.path} cannot be written: {why}")

    def _claim(self, plan: str) -> int:
        """Take the one start that a plan file has; the mark is on disk before the run's first event.

        It is held until it names the run: the mark of an apply that was killed before that is nobody's.
        """
        path = self._mark(plan)
        try:
            fd = opened(path, os.O_WRONLY | os.O_CREAT)
            sync_folder(os.path.dirname(path))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.refuse_applied(plan)
            os.ftruncate(fd, 0)
        except BlockingIOError:
            os.close(fd)
            raise Moved("this plan is being applied by another process") from None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _mark(self, plan: str) -> str:
        return f"{self.path}/plans/{plan.removeprefix('sha256:')}"

    def refuse_applied(self, plan: str) -> None:
        """Raise Moved if a plan file with this digest has started a run: one that is under way or has an event."""
        try:
            run = content(self._mark(plan)).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return
        except OSError as error:
            raise unreadable(self._mark(plan), error) from error
        if is_run(run) and (self._alive(run) or self._record(run)):
            raise Moved(
                f"this plan was applied already: run {run}",
                help=f"see `runner show {run}`; to do it again, `runner apply` its request with --again",
            )

    def _begin(self) -> tuple[str, LocalLedger]:
        stamp = time.strftime("%Y%m%d-%H%M", time.gmtime())
        for _ in range(100):
            id = f"{stamp}-{''.join(_ALPHABET[byte % 32] for byte in os.urandom(4))}"
            try:
                number = self.index.execute("INSERT INTO runs (id, status) VALUES (?, 'running')", (id,)).lastrowid
                if self._copied:
                    raise EnvironmentFailure(f"the index of the store {self.path} cannot be written")
                os.mkdir(f"{self.path}/runs/{id}")
                return id, LocalLedger(self, id, number=number or 0)
            except FileExistsError:
                continue
            except EnvironmentFailure:
                raise
            except Exception as error:
                if getattr(error, "sqlite_errorcode", 0) == _SQLITE_CONSTRAINT_UNIQUE:
                    continue
                raise self._unwritable(error) from error
        raise EnvironmentFailure("no free run id was found")

    def resume(self, run: str) -> LocalLedger:
        self.refuse_full()
        rights.refuse_unwritable(self.path)
        self.leftovers.sweep()
        try:
            return LocalLedger(self, run, new=False)
        except OSError as error:
            raise self._unwritable(error) from error

    def register(self, version: Mapping[str, Any]) -> int:
        return models.register(f"{self.path}/models", version)

    def resolve(self, text: str) -> str:
        pattern = text.replace("%", "").replace("_", "").lstrip(".…")
        if not is_run(pattern):
            pattern = ""  # no run is called so
        found = [
            row[0]
            for row in self.rows(
                "SELECT id FROM runs WHERE id LIKE ? AND summary IS NOT NULL ORDER BY seq DESC", (f"%{pattern}",)
            )
        ]
        found = [id for id in found if pattern and is_run(id) and os.path.isdir(f"{self.path}/runs/{id}")]
        if not found:
            for id, at in self.removed().items() if pattern else ():
                if id.endswith(pattern):
                    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
                    raise ReferenceRunError(
                        f"run {id} was removed by `runner store gc`, {when}",
                        help="`runner runs` lists those that are there",
                    )
            newest = [
                row[0] for row in self.rows("SELECT id FROM runs WHERE summary IS NOT NULL ORDER BY seq DESC LIMIT 3")
            ]
            raise ReferenceRunError(
                f"there is no run {printable(text)}",
                help=f"the newest are: {', '.join(newest)}" if newest else "there are no runs yet",
            )
        if len(found) > 1 and text not in found:
            raise ReferenceRunError(f"{text} may be any of the runs {', '.join(found[:5])}", help="give more of the id")
        return text if text in found else str(found[0])

    def removed(self) -> dict[str, float]:
        """Return the runs that garbage collection has removed, and when."""
        out = {}
        try:
            lines = content(f"{self.path}/removed.jsonl", LARGE).split(b"\n")
        except FileNotFoundError:
            return {}
        except PermissionError as error:
            raise Denied(f"{self.path}/removed.jsonl") from error
        except OSError:
            return {}
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                value = parsed(line)
                if is_run(value["run"]) and 0 <= value["at"] < LAST_DATE:
                    out[value["run"]] = float(value["at"])
        return out

    def run(self, id: str) -> RunRecord | None:
        if id not in self._records or not (found := self._records[id]) or not found.finished:
            self._records[id] = self._record(id)
        return self._records[id]

    def recorded(self, id: str) -> RunRecord:
        """Return a run that `resolve` found; raise StoreDamaged where its journal says nothing any more."""
        record = self.run(id)
        if record is None:
            self.resolve(id)  # which says so if it was removed meanwhile
            raise self.lost_journal(id)
        return record

    def lost_journal(self, id: str) -> StoreDamaged:
        return StoreDamaged(
            f"run {id} has lost its journal",
            help=f"bring runs/{id} back from a backup, or `runner store verify --repair`",
        )

    def _record(self, id: str) -> RunRecord | None:
        alive = self._alive(id)  # before reading: a run that ends meanwhile is read whole
        return fold(self.events(id, ends=True), alive)

    def events(self, id: str, ends: bool = False) -> Iterator[Event]:
        """Yield what a run's journal holds; a torn last line is dropped.

        With `ends`, the starts of steps are left out of a run that has ended: each of them has its end.
        """
        if not is_run(id):
            return
        try:
            lines = content(f"{self.path}/runs/{id}/journal.jsonl", LARGE).split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if error.errno == errno.EINVAL:  # a link or a pipe is no journal: the run has lost its own
                return
            raise unreadable(f"the journal of run {id}", error) from error
        wrong = journal.damaged_line(lines)
        event = of_json if journal.has_sums(lines) else checked.event  # with its sum a line is what was written
        if not wrong:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # all at once is twice as fast
                values = parsed(b"[" + b",".join(lines[:-1]) + b"]")
                if len(values) == len(lines) - 1:
                    for value in values:
                        journal.refuse_newer(value, id)
                    if ends and values and values[-1]["event"] == "run_ended":
                        values = [value for value in values if value["event"] != "step_started"]
                    events = [event(value) for value in values]
                    if all(e.run == id for e in events if isinstance(e, RunStarted)):
                        yield from events
                        return
        for number, line in enumerate(lines[:-1], 1):
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                journal.refuse_newer(parsed(line), id)
            try:
                found = event(parsed(line))
                if number == wrong or (isinstance(found, RunStarted) and found.run != id):
                    raise ValueError
            except (ValueError, KeyError, TypeError, AttributeError):
                raise self._damaged_journal(id, number) from None
            yield found
        if wrong:
            raise self._damaged_journal(id, wrong)

    def _damaged_journal(self, id: str, number: int) -> StoreDamaged:
        return StoreDamaged(
            f"line {number} of the journal of run {id} is damaged", help=f"see {self.path}/runs/{id}/journal.jsonl"
        )

    def _alive(self, id: str) -> bool:
        if not is_run(id):
            return False
        try:
            fd = opened(f"{self.path}/runs/{id}/lock")
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def running(self) -> list[str]:
        """Return the runs under way, newest first."""
        rows = self.rows("SELECT id FROM runs WHERE status='running' ORDER BY seq DESC")
        return [id for (id,) in rows if self._alive(id)]

    def owner(self, id: str) -> int:
        """Return the process id of a run's owner as it wrote it down, or 0."""
        try:
            return int(parsed(content(f"{self.path}/runs/{id}/lock"))["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def finished(self, pipeline: str) -> Iterator[RunRecord]:
        below = 1 << 62
        while some := self.rows(
            "SELECT seq, id FROM runs WHERE pipeline=? AND seq<? ORDER BY seq DESC LIMIT 50", (pipeline, below)
        ):
            for below, id in some:  # noqa: B007 (the last is where the next fifty begin)
                record = self.run(id)
                if record is not None and record.finished:
                    yield record

    def post(self, run: str, name: str, message: Mapping[str, Any]) -> None:
        folder = f"{self.path}/runs/{run}/inbox"
        partial = f"{folder}/.{name}-{os.getpid()}"
        try:
            with open(opened(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
                file.write(canonical(message))
            for number in range(1, 1000):
                with contextlib.suppress(FileExistsError):
                    os.link(partial, f"{folder}/{name}-{number:03}.json")  # whole, or not there
                    break
            os.unlink(partial)
        except OSError as error:
            if error.errno in (*_IN_THE_WAY, errno.ENOENT):
                raise StoreDamaged(f"{folder} cannot be written: {error.strerror}") from error
            raise EnvironmentFailure(f"{folder} cannot be written: {error.strerror}") from error

    def posted(self, run: str) -> list[tuple[str, Mapping[str, Any]]]:
        return list(_messages(f"{self.path}/runs/{run}/inbox", ()))

    def same_request(self, digest: str) -> Iterator[str]:
        """Yield the runs of a request that ended with exit code 0, newest first."""
        rows = self.rows(
            "SELECT id FROM runs WHERE request_digest=? AND json_extract(summary, '$.exit_code')=0 ORDER BY seq DESC LIMIT 5",
            (digest,),
        )
        for (id,) in rows:
            yield id

    def success(self, fingerprint: str) -> StepEnded | None:
        newest = next(self._successes(fingerprint, 1), None)
        if newest is not None and self.elsewhere(newest):
            return next(self.successes(fingerprint), None)
        return newest

    def successes(self, fingerprint: str) -> Iterator[StepEnded]:
        return (found for found in self._successes(fingerprint, -1) if not self.elsewhere(found))

    def elsewhere(self, ended: StepEnded) -> str:
        if not ended.unsealed:
            return ""
        return ended.elsewhere(self.checkout, os.path.realpath(self.path).startswith(f"{self.checkout}/"))

    def _successes(self, fingerprint: str, limit: int) -> Iterator[StepEnded]:
        query = "SELECT run, step, detail, sum FROM successes WHERE fingerprint=? ORDER BY seq DESC LIMIT ?"
        rows = self.rows(query, (fingerprint, limit))
        if any(sum != self.row_sum(fingerprint, run, step, detail) for run, step, detail, sum in rows):
            self._renew()
            rows = self.rows(query, (fingerprint, limit))
        for _, _, detail, _ in rows:
            found = of_json(parsed(detail))
            if isinstance(found, StepEnded):
                yield found

    def newest(self, pipeline: str) -> dict[str, str]:
        query = (
            "SELECT step, run FROM successes"
            " WHERE seq IN (SELECT max(seq) FROM successes WHERE pipeline=? GROUP BY step)"
        )
        return {str(step): str(run) for step, run in self.rows(query, (pipeline,))}

    def durations(self, pipeline: str, rows: int) -> dict[str, list[float]]:
        out: dict[str, list[float]] = {}
        for step, seconds in self.rows(
            "SELECT step, seconds FROM successes WHERE pipeline=? ORDER BY seq DESC LIMIT ?", (pipeline, rows)
        ):
            if isinstance(seconds, float | int):
                out.setdefault(step, []).append(seconds)
        return out

    def keep(self, path: str, digest: str) -> None:
        """Keep the bytes of a project file, if they are still those of the digest; the store has them only once."""
        target = self.object(digest, "file")
        if os.path.exists(target):
            return
        with contextlib.suppress(OSError), open(path, "rb") as file:
            content = file.read()
            if "sha256:" + hashlib.sha256(content).hexdigest() != digest:
                return
            partial = f"{self.path}/tmp/code-{os.getpid()}-{digest[7:23]}"
            try:
                with open(partial, "wb", opener=lambda p, flags: os.open(p, flags, 0o444)) as copy:
                    copy.write(content)
                    copy.flush()
                    os.fsync(copy.fileno())
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.replace(partial, target)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial)

    def runs(self, pipeline: str | None = None, limit: int | None = None) -> list[RunSummary]:
        try:
            return self._runs(pipeline, limit)
        except (ValueError, TypeError, KeyError):  # a summary that is none
            self._renew()
            return self._runs(pipeline, limit)

    def _runs(self, pipeline: str | None, limit: int | None) -> list[RunSummary]:
        where, values = (
            ("WHERE pipeline=? AND summary IS NOT NULL", [pipeline]) if pipeline else ("WHERE summary IS NOT NULL", [])
        )
        rows = self.rows(
            f"SELECT id, status, summary FROM runs {where} ORDER BY seq DESC LIMIT ?",
            (*values, -1 if limit is None else limit),
        )
        out = []
        for id, status, text in rows:
            summary = checked.summary(parsed(text))
            if not (is_run(id) and type(status) is str):
                raise ValueError(id)
            if status == "running" and (record := self.run(id)):
                status = record.status
            out.append(RunSummary(run=id, status=status, **{"seconds": None, "exit_code": None, **summary}))
        return out

    @contextlib.contextmanager
    def group(self, name: str, wait: bool, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold a group of requests of which one runs at a time; raises Moved where it is held and `wait` is not asked."""
        if not name:
            yield
            return
        try:
            os.makedirs(f"{self.path}/groups", exist_ok=True)
            fd = opened(f"{self.path}/groups/{name}", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise Moved(
                        f"another run of the group {name} is under way", help="wait for it, or write `conflict: queue`"
                    ) from None
                tell(f"waiting for another run of the group {name}")
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def in_use(self, tell: Callable[[str], None] = lambda text: None) -> Iterator[None]:
        """Hold the store: while it is held, garbage collection takes nothing. Any number of processes may hold it."""
        if not self.exists:
            yield
            return
        fd = opened(f"{self.path}/format")
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                tell("waiting for `runner store gc`")
                fcntl.flock(fd, fcntl.LOCK_SH)
            self._records.clear()  # what was read before may have gone
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def alone(self, patience: float, tell: Callable[[str], None]) -> Iterator[None]:
        """Have the store for this process; raises Moved if others still hold it after `patience` seconds."""
        fd = opened(f"{self.path}/format")
        try:
            until, told = time.monotonic() + patience, False
            while True:
                # A runner that does not know this lock shows by its run's.
                alive = [id for id in sorted(self.folders()) if self._alive(id)]
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not alive:
                        break
                    fcntl.flock(fd, fcntl.LOCK_UN)
                by = f"run {', '.join(alive)}" if alive else "a plan or apply"
                if time.monotonic() > until:
                    raise Moved(f"the store is in use by {by}", help="try again when that has ended")
                if not told:
                    tell(f"waiting for {by}")
                    told = True
                time.sleep(0.02)
            self._records.clear()
            yield
        finally:
            os.close(fd)

    # artifacts

    def places(self) -> tuple[str, str]:
        return f"{self.path}/objects", f"{self.path}/trees"

    def object(self, digest: str, kind: str) -> str:
        return f"{self.path}/trees/{digest[7:]}" if kind == "dir" else object_path(f"{self.path}/objects", digest)

    def read(self, digest: str) -> bytes:
        try:
            found = content(self.object(digest, "file"), LARGE)
        except OSError as error:
            raise unreadable(f"the stored file {digest}", error) from error
        if "sha256:" + hashlib.sha256(found).hexdigest() != digest:
            raise StoreDamaged(f"the stored file {digest} has other bytes")
        return found

    def entries(self, digest: str) -> list[tuple[str, str, str, int]]:
        """Return what a stored directory holds: path, kind (file exec dir link), content, size."""
        name = f"trees/{digest[7:]}"
        try:
            text = content(self.object(digest, "dir"), LARGE).decode("utf-8", "surrogateescape")
            found = checked.manifest(parsed(text))
        except OSError as error:
            raise unreadable(f"the manifest {name}", error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamaged(f"{name} is not a manifest") from error
        if found["format"] > MANIFEST_FORMAT:
            raise EnvironmentFailure(
                f"the manifest {name} has format {found['format']}; this runner knows {MANIFEST_FORMAT}",
                help="use the runner that wrote it, or a newer one",
            )
        return [tuple(entry) for entry in found["entries"]]

    def damaged(self, artifacts: Iterable[tuple[str, str]], whole: bool) -> list[Damage]:
        found = []
        wanted = dict.fromkeys(artifacts)
        if not whole:
            self._learn([self.object(digest, kind) for digest, kind in wanted])
        for digest, kind in wanted:
            if kind == "dir":
                if wrong := self.wrong(digest, "dir", True):
                    found.append(Damage(digest, wrong))
                    continue
                for path, entry, content, _ in self.entries(digest):
                    if entry in ("file", "exec") and (wrong := self.wrong(content, "file", whole)):
                        found.append(Damage(content, f"{path} in it {wrong}", inside=digest))
            elif wrong := self.wrong(digest, "file", whole):
                found.append(Damage(digest, wrong))
        self.flush()
        return found

    def _learn(self, paths: Sequence[str]) -> None:
        """Look up what was noted of many files at once."""
        for start in range(0, len(paths), 500):
            some = paths[start : start + 500]
            marks = ",".join("?" * len(some))
            for path, mark, digest in self.rows(f"SELECT path, mark, digest FROM files WHERE path IN ({marks})", some):
                self._known[path] = (mark, digest)

    def wrong(self, digest: str, kind: str, whole: bool) -> str:
        """Return what is wrong with stored bytes, or nothing."""
        path = self.object(digest, kind)
        try:
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    return "is no file"  # a link would bring bytes that may change, a pipe would have to be waited for
                if self.digest(path, trust=not whole) == digest:
                    return ""
                self._noted.pop(path, None)  # of objects only what is right is kept
                return "has other bytes"
        except PermissionError as error:
            raise Denied(path) from error
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return "is missing"

    def quarantine(self, digest: str) -> None:
        for kind in ("file", "dir"):
            with contextlib.suppress(EnvironmentFailure):
                self.set_aside(os.path.relpath(self.object(digest, kind), self.path))

    def set_aside(self, path: str) -> None:
        """Move what is damaged to the quarantine, whatever it is; nothing is deleted."""
        name = os.path.basename(path)
        free = (
            target
            for n in range(10_000)
            if not os.path.lexists(target := f"{self.path}/quarantine/{name}" + f".{n}" * (n > 0))
        )
        try:
            os.rename(f"{self.path}/{path}", next(free))
        except FileNotFoundError:
            return
        except OSError as error:
            raise EnvironmentFailure(f"{path} cannot be moved to the quarantine: {error.strerror}") from error

    def forget(self, digests: Iterable[str]) -> None:
        """No longer offer successes whose outputs have these digests."""
        for digest in digests:
            for seq, detail in self.rows("SELECT seq, detail FROM successes WHERE instr(detail, ?)", (digest,)):
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):  # a row that is damaged
                    if any(digest == found for found, _ in artifacts(parsed(detail)["outputs"].values())):
                        self.index.execute("DELETE FROM successes WHERE seq=?", (seq,))

    def digest(self, path: str, trust: bool = True) -> str:
        """Return a file's digest; where size, inode and times are as noted, without reading it again."""
        found = os.stat(path)
        mark = self.mark_of(found)
        if trust:
            noted = self._noted.get(path) or self._known.get(path)
            if noted is None:
                noted = next(iter(self.rows("SELECT mark, digest FROM files WHERE path=?", (path,))), None)
            if noted and noted[0] == mark and isinstance(noted[1], str):
                return noted[1]
        with open(path, "rb", buffering=0) as file:
            if found.st_size < 1 << 16:  # at once
                digest = "sha256:" + hashlib.sha256(file.readall()).hexdigest()
            else:
                from ..executors.content import digest_of  # not for who has only small ones

                digest = digest_of(file.fileno(), found.st_size)
        # A file touched just now may be written again within the grain of its times: it is not noted.
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > 2_000_000_000:
            self._noted[path] = (mark, digest)
        return digest

    def learn(self, marks: Mapping[str, list[int]]) -> None:
        self._stored |= {digest: " ".join(map(str, mark)) for digest, mark in marks.items()}

    def mark(self, digest: str) -> list[int] | None:
        path = self.object(digest, "file")
        noted = self._stored.get(digest) or (self._noted.get(path) or self._known.get(path) or ("",))[0]
        if not noted:
            noted = next(
                (mark for (mark,) in self.rows("SELECT mark FROM files WHERE path=? AND digest=?", (path, digest))), ""
            )
        try:
            return [int(number) for number in noted.split()] if noted else None
        except (ValueError, AttributeError):
            return None  # a row that is damaged

    def note(self, path: str, digest: str) -> tuple[str, str, str]:
        """Return the row that says an object's file is what its name says: nobody writes to it after the rename."""
        return path, self._stored.get(digest) or self.mark_of(os.stat(path)), digest

    @staticmethod
    def mark_of(found: os.stat_result) -> str:
        """Return what changes when the bytes of a file do."""
        return f"{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}"

    def flush(self) -> None:
        """Keep the digests learnt, where the store may be written."""
        if self._noted and self.exists:
            rows = [(path, mark, digest) for path, (mark, digest) in self._noted.items()]
            with contextlib.suppress(Exception):  # a cache: losing it costs only time
                self.index.execute("BEGIN IMMEDIATE")
                self.index.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
                self.index.execute("COMMIT")
            self._noted.clear()


def login(uid: int) -> str:
    """Return the login name of a user of this machine."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _primary(error: Exception) -> int:
    """Return the primary result code of an error of SQLite; what its binding raises by itself has none."""
    return int(getattr(error, "sqlite_errorcode", _SQLITE_ERROR)) & 0xFF


def _messages(folder: str, known: Container[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the messages of an inbox that are not known; who wrote each, and when, is what the file system says."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from error
    for name in names:
        if name.startswith(".") or name in known:
            continue
        try:  # a link would bring somebody else's file, a pipe would have to be waited for
            fd = os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(f"{folder}/{name}")
                yield name, {**_dropped(found), "unreadable": f"it cannot be read: {error.strerror}"}
            continue
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            yield name, {**_dropped(found), "unreadable": "it is not a file"}
            continue
        with open(fd, "rb") as file:
            try:
                message = json.loads(file.read(_MESSAGE_LIMIT))  # what is wrong in it, the step that waits says
            except (ValueError, RecursionError):
                message = None
        if isinstance(message, dict):
            message.pop("unreadable", None)
            yield name, {**message, **_dropped(found)}
        else:
            yield name, {**_dropped(found), "unreadable": "it holds no JSON object"}


def _dropped(found: os.stat_result) -> dict[str, Any]:
    """Return who dropped a message and when; its time of change cannot be set at will."""
    return {"by": login(found.st_uid), "at": found.st_ctime}


def _end(event: RunEnded) -> dict[str, Any]:
    return {"seconds": event.seconds, "exit_code": event.exit_code}


def _summary(event: RunStarted) -> dict[str, Any]:
    return {
        "pipeline": event.pipeline, "title": event.title, "started": event.at, "path": event.path, "request": event.request.get("path", ""),
        "trial": event.trial, "reference": event.reference, "labels": dict(event.labels),
    }  # fmt: skip


_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE of Linux
_FLOCK = "hhqqi4x"  # struct flock of Linux: type, whence, start, length, pid


def _byte(fingerprint: str) -> int:
    """Return the byte of `claims` that stands for a fingerprint."""
    return int(fingerprint.removeprefix("sha256:")[:16], 16) >> 1


def _sync_disk(place: str) -> None:
    """Make all files of a file system durable. An error is final: asked again, the kernel would say that all is well."""
    import ctypes

    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc().syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)


class LocalLedger:
    """The journal of one run, its lock, and the barrier in front of it."""

    def __init__(self, store: LocalStore, id: str, new: bool = True, number: int = 0) -> None:
        self.store, self.id, self.number = store, id, number
        self.folder = f"{store.path}/runs/{id}"
        self.sum: int | None = 0  # of the journal so far; None: a journal of an earlier format goes on as it began
        self.read: set[str] = set()  # messages of the inbox
        self.unreadable: set[str] = set()  # those that were told of as such
        self.full = ""
        self.ballast = self._ballast()
        if new:
            os.mkdir(f"{self.folder}/inbox")
        self.lock = opened(f"{self.folder}/lock", os.O_RDWR | os.O_CREAT)
        self._own(new)
        os.write(self.lock, canonical({"pid": os.getpid()}).encode())
        self.journal = opened(f"{self.folder}/journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.claims = opened(f"{store.path}/claims", os.O_RDWR | os.O_CREAT)
        self.size = os.fstat(self.journal).st_size  # of what is told
        self.room = 0  # up to where it is kept
        self._keep_room()
        self._sync_folders()
        self.index = store._connect(f"{store.path}/index.db")  # its own: it writes while others read

    def _own(self, new: bool) -> None:
        """Take the run's lock; a reader that only looks whether it is held has it for a moment."""
        until = time.monotonic() + (60 if new else 2)
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(self.lock)
                    raise Moved(f"run {self.id} is under way in another process", help="wait for it") from None
                time.sleep(0.01)
        os.ftruncate(self.lock, 0)
        if not new:  # a torn last line is taken away, so that what is appended begins a line of its own
            with open(opened(f"{self.folder}/journal.jsonl", os.O_RDWR), "r+b") as file:
                told = file.read()
                if not told.endswith(b"\n"):
                    file.truncate(told.rfind(b"\n") + 1)
            self.sum = journal.last_sum(told)

    def _ballast(self) -> int:
        """Take room for the end of the run. The file has no name: its room is free as soon as nobody holds it."""
        path = f"{self.store.path}/tmp/ballast-{self.id}-{os.getpid()}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        os.posix_fallocate(fd, 0, BALLAST)
        return fd

    def _let_go(self, why: str) -> bool:
        """Make room by giving up the ballast; whether there was any."""
        if self.full:
            return False
        os.close(self.ballast)
        self.full = why
        return True

    def _keep_room(self) -> None:
        """Keep room behind the journal's end: the ballast, once let go, is anybody's who is faster."""
        if sys.platform != "linux" or self.room - self.size > ROOM // 2:
            return
        import ctypes

        start, size = ctypes.c_int64(self.size), ctypes.c_int64(ROOM)
        if libc().fallocate(self.journal, _KEEP_SIZE, start, size) == 0:  # else there is none, or no such call
            self.room = self.size + ROOM

    def _take_back(self, size: int) -> None:
        """Cut off what was written behind `size`, and the room with it; where nothing was, the room stays."""
        if os.fstat(self.journal).st_size > size:
            os.ftruncate(self.journal, size)
            self.room = 0
            self._keep_room()

    def _sync_folders(self) -> None:
        for folder in (self.folder, f"{self.store.path}/runs"):
            sync_folder(folder)

    def append(self, events: Sequence[Event]) -> None:
        try:
            rows = self._barrier(events)
            lines, total = journal.written(events, self.sum)
            self._write(lines)
            os.fdatasync(self.journal)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._take_back(self.size)  # what is not durable is not written
            raise EnvironmentFailure(f"the journal of run {self.id} cannot be written: {error.strerror}") from error
        self.sum, self.size = total, self.size + len(lines)
        self._keep_room()
        self._enter(events, rows)

    def conclude(self, events: Sequence[Event]) -> None:
        """Write the end of a run whose journal could not be written: into a new file, for a sync that failed once may lie
        the next time; or, where that has no room, behind what is told."""
        self._let_go("the run has failed")
        path = f"{self.folder}/journal.jsonl"
        lines, _ = journal.written(events, self.sum)
        try:
            with open(path, "rb") as old, open(f"{path}.new", "wb") as new:
                new.write(old.read(self.size) + lines)
                new.flush()
                os.fsync(new.fileno())
            os.replace(f"{path}.new", path)
            self._sync_folders()
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(f"{path}.new")
            try:
                self._write(lines)
                os.fdatasync(self.journal)
            except OSError as error:
                raise EnvironmentFailure(f"the end of run {self.id} cannot be written: {error.strerror}") from error
        self._enter(events, ())

    def _write(self, lines: bytes) -> None:
        """Append to the journal, all or nothing; where there is no room, in that of the ballast."""
        size = os.fstat(self.journal).st_size
        left = lines
        try:
            while left:
                left = left[os.write(self.journal, left) :]
        except OSError as error:
            self._take_back(size)
            if error.errno not in _FULL or not self._let_go(os.strerror(error.errno)):
                raise
            self._write(lines)

    def _enter(self, events: Sequence[Event], rows: Sequence[tuple[str, str, str]]) -> None:
        """Bring the index up to date."""
        index = self.index
        try:
            index.execute("BEGIN IMMEDIATE")
            self.store._enter(index, self.id, events, self.id)
            if rows:
                index.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
            index.execute("COMMIT")
        except Exception as error:
            with contextlib.suppress(Exception):
                index.execute("ROLLBACK")
            if not self.full and _primary(error) in (_SQLITE_FULL, _SQLITE_IOERR):
                self._let_go(str(error))
                self._enter(events, rows)
            # Else the journal has it, and the index catches up when it is opened next.

    def _barrier(self, events: Sequence[Event]) -> list[tuple[str, str, str]]:
        """Make all artifacts of these events durable at once; return their rows for the digest cache."""
        rows = []
        results = [e for e in events if isinstance(e, StepEnded) and e.is_result]
        for digest, kind in [(o["digest"], o["type"]) for e in results for o in e.outputs.values() if o.get("digest")]:
            with contextlib.suppress(FileNotFoundError):  # it was found damaged, and put aside, before this was told
                rows.append(self.store.note(self.store.object(digest, kind), digest))
                for _, entry, content, _ in self.store.entries(digest) if kind == "dir" else ():
                    if entry in ("file", "exec"):
                        rows.append(self.store.note(self.store.object(content, "file"), content))
        if rows and sys.platform != "linux":
            os.sync()
        elif rows:
            for place in {os.stat(place).st_dev: place for place in self.store.places()}.values():
                _sync_disk(place)
        return rows

    def inbox(self) -> list[tuple[str, Mapping[str, Any]]]:
        found = []
        for name, message in _messages(f"{self.folder}/inbox", self.read):
            if "unreadable" not in message:
                self.read.add(name)
            elif name in self.unreadable:
                continue
            else:
                self.unreadable.add(name)
            found.append((name, message))
        return found

    def log(self, step: str, attempt: int) -> str:
        return f"{self.folder}/logs/{file_name(step)}/{attempt}.log"

    def scratch(self, step: str, attempt: int) -> str:
        return f"{self.store.path}/tmp/{self.id}/{file_name(step)}.{attempt}"

    def claim(self, fingerprint: str) -> bool:
        # One byte of one empty file for each fingerprint: nothing is written, and nothing is left to sweep. The kernel
        # gives it up when its owner dies. Two fingerprints with the same 63 bits would only wait for each other.
        try:
            fcntl.lockf(self.claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte(fingerprint))
        except (BlockingIOError, PermissionError):
            return False
        return True

    def claimant(self, fingerprint: str) -> str:
        if sys.platform != "linux":
            return ""  # the kernel is asked in another form there
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _byte(fingerprint), 1, 0)
        pid = struct.unpack(_FLOCK, fcntl.fcntl(self.claims, fcntl.F_GETLK, asked))[4]
        return next((run for run in self.store.running() if self.store.owner(run) == pid), "") if pid > 0 else ""

    def release(self, fingerprint: str) -> None:
        fcntl.lockf(self.claims, fcntl.LOCK_UN, 1, _byte(fingerprint))

    def close(self) -> None:
        tmp = f"{self.store.path}/tmp/{self.id}"
        if os.path.exists(tmp):
            remove(tmp)
        self.index.close()
        os.close(self.claims)
        self._let_go("the run has ended")
        with contextlib.suppress(OSError):
            os.ftruncate(self.journal, os.fstat(self.journal).st_size)  # the room behind it is free again
        os.close(self.journal)
        os.close(self.lock)
