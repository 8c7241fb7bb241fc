"""A store of one user, and another who may not read or not write it: exit 6 and one sentence, and nothing is changed.

The other user is a fork of this process that has given up its rights, so these tests need root; what a plain user can
do to a store of their own is at the end.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.reliability import kit
from tests.reliability.hostile import asked, build

OWNER, OTHER = 20001, 20002
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become two users")
READING = [
    words.split()
    for words in (
        "plan p.yaml", "plan part.yaml", "plan part.yaml --references", "runs", "show P", "logs P", "outputs P a", "diff P Q", "models",
        "models show g", "pin", "retry P --print", "store verify", "store du", "store gc --dry-run",
    )
]  # fmt: skip
WRITING = [
    words.split()
    for words in (
        "apply p.yaml --again", "apply part.yaml", "resume W", "pin Q", "unpin P", "stop W", "callback W cb n=1", "models approve g 1",
        "store gc", "store gc --keep-last 1", "store reindex",
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def place():
    """A folder that other users may enter: pytest closes those above its own with each session that starts."""
    made = Path(tempfile.mkdtemp(prefix="users-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def pristine(place):
    return place / "pristine", build(place / "pristine")


class Shared:
    """A copy of the store that belongs to OWNER, and both users' answers."""

    def __init__(self, pristine, root: Path) -> None:
        self.pristine, self.runs = pristine
        self.root, self.store = root, root / ".runner"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.pristine, root, symlinks=True)
        for path in [root, *root.rglob("*")]:
            os.lchown(path, OWNER, OWNER)

    def modes(self, folders: int, files: int) -> None:
        for path in [self.store, *self.store.rglob("*")]:
            path.chmod(folders if path.is_dir() else files)

    def files(self) -> list[tuple[str, int, int, int, bytes]]:
        """All that there is, but what SQLite keeps beside its file while somebody reads."""
        found = sorted(p for p in self.store.rglob("*") if not p.name.startswith("index.db-"))
        return [
            (str(p), p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_ino, p.read_bytes() if p.is_file() else b"")
            for p in found
        ]

    def answer(self, command: list[str], uid: int = OTHER) -> tuple[int, str]:
        """The exit code, and the error or else the first line that was printed."""
        code, text = self.printed(command, uid)
        lines = text.replace(str(self.root), "ROOT").splitlines() or [""]
        return code, next((line for line in lines if line.startswith("error: ")), lines[0])

    def printed(self, command: list[str], uid: int = OTHER) -> tuple[int, str]:
        """The exit code and all that was printed."""
        warm = self.root.with_name("warm")
        shutil.rmtree(warm, ignore_errors=True)
        shutil.copytree(self.root, warm, symlinks=True)
        code, text = kit.answered(self.root, *asked(command, self.runs), warm=warm, uid=uid)
        assert "Traceback" not in text, text
        return code, text

    def answers(self, commands: list[list[str]]) -> dict[str, tuple[int, str]]:
        """What each command says, none of which changes anything."""
        before = self.files()
        found = {" ".join(command): self.answer(command) for command in commands}
        assert self.files() == before
        return found


@pytest.fixture
def shared(pristine, place):
    return Shared(pristine, place / "p")


def private(shared: Shared) -> None:
    shared.modes(0o700, 0o600)


def closed(name: str, mode: int):
    return lambda shared: (shared.store / name).chmod(mode)


@needs_root
@pytest.mark.parametrize(
    ("close", "name"),
    [
        pytest.param(private, "format", id="umask 077"), pytest.param(closed("format", 0o600), "format", id="format"),
        pytest.param(closed("index.db", 0o600), "index.db", id="index"), pytest.param(closed("runs", 0o700), "runs", id="runs"),
        pytest.param(closed("objects", 0o700), "objects", id="objects"), pytest.param(closed("trees", 0o700), "trees", id="trees"),
    ],
)  # fmt: skip
def test_a_store_that_this_user_may_not_read_is_exit_6_and_one_sentence(shared, close, name):
    close(shared)
    said = (6, f"error: this user may not read {name} of the store ROOT/.runner")
    commands = [*READING, *WRITING, ["store", "verify", "--repair"]]
    assert shared.answers(commands) == {" ".join(command): said for command in commands}


@needs_root
def test_doctor_says_so_in_its_row_of_the_store(shared):
    private(shared)
    code, text = shared.printed(["doctor"])
    [row] = [line for line in text.splitlines() if line.split()[1:2] == ["store"]]
    assert (code, row.replace(str(shared.root), "ROOT")) == (
        6, "fail  store             this user may not read format of the store ROOT/.runner"
        "   (ask its owner for the right to read it, or name another store by --store)",
    )  # fmt: skip


@needs_root
def test_a_journal_that_this_user_may_not_read_is_no_damage(shared):
    journal = shared.store / f"runs/{shared.runs['P']}/journal.jsonl"
    journal.chmod(0o600)
    said = (6, f"error: this user may not read the journal of run {shared.runs['P']}")
    commands = [c for c in READING if "P" in c] + [
        ["plan", "p.yaml"],
        ["store", "verify"],
        ["store", "gc", "--dry-run"],
    ]
    assert shared.answers(commands) == {" ".join(command): said for command in commands}
    assert shared.answer(["show", "Q"])[0] == 0


@needs_root
def test_an_object_that_this_user_may_not_read_is_no_damage(shared):
    for path in shared.store.glob("objects/*/*/*"):
        path.chmod(0o400)
    before = shared.files()
    commands = (["outputs", "P", "a"], ["plan", "p.yaml"], ["apply", "p.yaml"], ["store", "verify"])
    found = [shared.answer(command) for command in commands]
    assert [code for code, _ in found] == [6] * 4
    assert [text.startswith("error: this user may not read ROOT/.runner/objects/sha256/") for _, text in found] == [
        True
    ] * 4
    assert shared.files() == before


@needs_root
def test_who_may_only_read_reads_and_writes_nothing(shared):
    assert {" ".join(c): shared.answers([c])[" ".join(c)][0] for c in READING} == {" ".join(c): 0 for c in READING}
    found = shared.answers(WRITING)
    assert {command: code for command, (code, _) in found.items()} == {" ".join(c): 6 for c in WRITING}
    assert found["apply p.yaml --again"] == (6, "error: this user may not write the store ROOT/.runner")


SHARED = "error: uid 20001 could not write the store ROOT/.runner any more if this user rebuilt its index"


@needs_root
@pytest.mark.parametrize("harm", ["nothing", "gone", "damaged"])
def test_who_may_write_all_locks_the_owner_of_the_index_out_in_no_way(shared, harm):
    shared.modes(0o777, 0o666)
    index = shared.store / "index.db"
    {"nothing": lambda: None, "gone": index.unlink, "damaged": lambda: index.write_bytes(b"x" * 5000)}[harm]()
    for end in ("-wal", "-shm"):
        (shared.store / f"index.db{end}").unlink(missing_ok=True)
    assert shared.answer(["store", "reindex"]) == (6, SHARED)
    assert shared.answer(["runs"])[0] == 0
    assert shared.answer(["apply", "p.yaml", "--again"], OWNER)[0] in (
        0,
        1,
    )  # the owner's step may lack its interpreter
    assert index.stat().st_uid == OWNER


@needs_root
def test_a_repair_that_would_lock_the_owner_out_changes_nothing(shared):
    shared.modes(0o777, 0o666)
    path = next(iter(sorted(shared.store.glob("objects/*/*/*"))))
    path.write_bytes(b"other bytes")
    before = shared.files()
    code, text = shared.printed(["store", "verify", "--repair"])
    assert (code, SHARED.replace("ROOT", str(shared.root)) in text.splitlines()) == (6, True)
    assert [f[:4] for f in shared.files()] == [f[:4] for f in before]


@needs_root
@pytest.mark.parametrize(
    ("harm", "kept"),
    [
        pytest.param(lambda s: (s.store / "claims").chmod(0o644), "claims", id="a lock"),
        pytest.param(lambda s: (s.store / "removed.jsonl").chmod(0o644), "removed.jsonl", id="what was removed"),
        pytest.param(lambda s: [p.chmod(0o755) for p in s.store.glob("runs/*")], "runs/", id="a run"),
        pytest.param(lambda s: (s.store / "runs").chmod(0o1777), "runs", id="a folder in which each removes their own"),
    ],
)
def test_gc_of_who_may_not_remove_all_removes_nothing(shared, harm, kept):
    kit.run(shared.root, "unpin", shared.runs["P"])
    for _ in range(2):
        assert kit.run(shared.root, "apply", "p.yaml", "--again").returncode == 0
    for path in [shared.store, *shared.store.rglob("*")]:
        os.lchown(path, OWNER, OWNER)
    shared.modes(0o777, 0o666)
    harm(shared)
    before = shared.files()
    code, line = shared.answer(["store", "gc", "--keep-last", "1"])
    assert (code, kept in line, shared.files() == before) == (6, True, True)


@needs_root
@pytest.mark.parametrize("harm", ["nothing", "gone", "damaged"])
def test_root_gives_an_index_that_it_makes_to_whose_it_was(shared, harm):
    index = shared.store / "index.db"
    index.chmod(0o664)
    {"nothing": lambda: None, "gone": index.unlink, "damaged": lambda: index.write_bytes(b"x" * 5000)}[harm]()
    assert kit.run(shared.root, "store", "reindex").returncode == 0
    found = index.stat()
    assert (found.st_uid, found.st_gid, oct(found.st_mode)) == (
        OWNER, OWNER, {"nothing": "0o100664", "gone": "0o100644", "damaged": "0o100664"}[harm],
    )  # fmt: skip
    assert shared.answer(["runs"], OWNER)[0] == 0


# a plain user alone


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize("name", ["format", "index.db", "runs"])
def test_what_a_plain_user_has_closed_to_themselves_is_exit_6(pristine, tmp_path, name):
    shutil.copytree(pristine[0], tmp_path / "p", symlinks=True)
    (tmp_path / f"p/.runner/{name}").chmod(0)
    code, text = kit.answered(tmp_path / "p", "runs")
    (tmp_path / f"p/.runner/{name}").chmod(0o700)
    assert (code, text.splitlines()[0]) == (
        6, f"error: this user may not read {name} of the store {tmp_path}/p/.runner",
    )  # fmt: skip
