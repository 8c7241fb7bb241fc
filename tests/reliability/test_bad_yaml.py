"""The catalogue of bad files: each is refused at its line, with its code and a remedy, soon, small, and without a trace.

The first line of a file in `tests/bad_yaml` says what is expected: code, line (and column, where it matters), words.
What cannot stand in such a file (bytes before the first line, megabytes) is in the tables below.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.forks import Done, Forked, within

FILES = sorted((Path(__file__).parent.parent / "bad_yaml").glob("*.yaml"))
HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"
STEP = "steps:\n  a: {kind: command, command: [x]}\n"
GOOD = (
    HEAD
    + "params: {n: {type: number, default: 1}, s: {type: string, default: x}, f: {type: file, default: data.csv}}\n"
    + STEP
)
EXPECTED = re.compile(r"# (?P<code>E\d+) (?P<line>\d+)(?::(?P<column>\d+))? ?(?P<words>.*)")
PLACE = re.compile(r"(?P<file>[^:\n]+)(?::(?P<line>\d+):(?P<column>\d+))?: error\[(?P<code>E\d+)\]: ")


@pytest.fixture(scope="module")
def program() -> Iterator[Forked]:
    forked = Forked()
    yield forked
    forked.close()


@pytest.fixture(scope="module")
def fresh() -> Iterator[Forked]:
    forked = Forked(fresh=True)
    yield forked
    forked.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_ways_out(tmp_path / "project")


def with_ways_out(made: Path) -> Path:
    """Make a project, with ways out of it."""
    (made / "folder").mkdir(parents=True)
    for name, text in {"runner.toml": "", "good.yaml": GOOD, "data.csv": "1\n", "folder/x": ""}.items():
        (made / name).write_text(text)
    (made / "outside").symlink_to("/etc/passwd")
    (made / "outside_dir").symlink_to("/etc")
    return made


def refused(program: Forked, folder: Path, raw: bytes, name: str = "bad.yaml", commands: tuple[str, ...] = ("plan", "apply", "validate")) -> str:  # fmt: skip
    """Give a file to each command; return what is said of it. It must be refused, soon, small, without a trace."""
    (folder / name).write_bytes(raw)
    before = trace(folder)
    said = []
    for command in commands:
        done = program(folder, command, name)
        assert done.code == 2, done
        assert within(done.seconds, 2) and done.megabytes < 200, (done.seconds, done.megabytes)
        assert "Traceback" not in done.err and not done.out, done
        assert trace(folder) == before
        said.append(done.err)
    assert len(set(said)) == 1, said
    return said[0]


def trace(folder: Path) -> list[tuple[str, int]]:
    """Return all files there are, and when each was last changed."""
    return sorted((str(f), f.lstat().st_mtime_ns) for f in folder.parent.rglob("*") if f.parent != folder.parent)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_bad_file_is_refused_at_its_line(file: Path, program: Forked, folder: Path):
    raw = file.read_bytes()
    expected = EXPECTED.match(raw.split(b"\n", 1)[0].decode())
    assert expected, "the first line says what is expected"
    said = refused(program, folder, raw, file.name)
    found = PLACE.match(said)
    assert found and found["file"] == file.name, said
    assert (found["code"], found["line"]) == (expected["code"], expected["line"]), said
    assert expected["column"] in (None, found["column"]), said
    assert expected["words"] in said.replace("\n", " "), said


def numbered(count: int, line: str) -> bytes:
    return (HEAD + "steps:\n" + "".join(line.format(i=i) for i in range(count))).encode()


BYTES = [
    ("A01-empty", b"", "bad.yaml:1:1: error[E102]: the document is empty; it must be a mapping of fields"),
    ("A01-blank", b"  \n\n", "bad.yaml:1:1: error[E102]: the document is empty; it must be a mapping of fields"),
    ("A01-byte-order-mark", b"\xef\xbb\xbf", "bad.yaml:1:1: error[E102]: the document is empty"),
    ("A01-nul", b"\0", "bad.yaml:1:1: error[E100]: YAML: the control character '\\x00' is not allowed"),
    ("A01-binary", b"\x7fELF\x02\x01\x01\0\xff\xfe", "bad.yaml:1:9: error[E100]: YAML: the file is not UTF-8"),
    ("A01-utf16", "apiVersion: runner/v1".encode("utf-16"), "bad.yaml:1:1: error[E100]: YAML: the file is not UTF-8"),
    ("A01-latin1", (HEAD + "description: caf\xe9\n").encode("latin-1"), "bad.yaml:4:17: error[E100]: YAML: the file is not UTF-8"),
    ("A01-surrogate", HEAD.encode() + b"description: \xed\xa0\x80\n", "bad.yaml:4:14: error[E100]: YAML: the file is not UTF-8"),
    ("A01-escape-character", (HEAD + "description: \x1b[31m\n").encode(), "bad.yaml:4:14: error[E100]: YAML: the control character '\\x1b' is not allowed"),
    ("A01-windows-line-ends", (HEAD + "step:\n  a: {kind: command, command: [x]}\n").replace("\n", "\r\n").encode(), "bad.yaml:4:1: error[E101]: unknown field `step`"),
    ("A02-json-list", b"[1, 2]", "bad.yaml:1:1: error[E102]: the document is a list"),
    ("A15-block-2000", "".join(" " * i + f"k{i}:\n" for i in range(2000)).encode(), "bad.yaml:65:65: error[E110]: the document is nested deeper than 64 levels"),
    ("A15-flow-100000", b"[" * 100_000, "error[E110]: the document is nested deeper than 64 levels"),
    ("A15-keys-of-keys", b"? " * 100_000, "error[E1"),
    ("A17-quadratic", ("x-a: &a " + "l" * 100_000 + "\nx-b: [" + ", ".join(["*a"] * 1000) + "]\n" + HEAD + STEP).encode(), "bad.yaml:2:171: error[E110]: aliases expand too far"),
    ("A17-many-anchors", ("x-a: [&a x, " + "*a, " * 60_000 + "]\n" + HEAD + STEP).encode(), "bad.yaml:1:200013: error[E110]: aliases expand too far"),
    ("A20-long-key", (HEAD + "labels: {" + "k" * 1_000_000 + ": 1}\n" + STEP).encode(), "bad.yaml:4:"),
    ("A04-long-key", (HEAD + 'x-a:\n  "' + "k" * 1000 + '": 1\n  "' + "k" * 1000 + '": 1\n' + STEP).encode(), "bad.yaml:6:3: error[E103]: key 'kkk"),
    ("A24-50-megabytes", b"#" * 50_000_000, "bad.yaml: error[E110]: the file is larger than 16 MiB"),
    ("A24-one-byte-too-many", b"#" * (16 * 2**20 + 1), "bad.yaml: error[E110]: the file is larger than 16 MiB"),
    ("A24-a-line-of-5-megabytes", HEAD.encode() + b"steps: " + b"x" * 5_000_000, "bad.yaml:4:8: error[E102]: steps is a string; it must be a mapping"),
    ("A24-a-line-of-5-megabytes-of-digits", HEAD.encode() + b"max_parallel: " + b"1" * 5_000_000, "bad.yaml:4:15: error[E108]: 1111111111111111111111111111111111111111 has too many digits"),
    ("A24-a-million-steps", numbered(1_000_000, "  s{i}: {{kind: shell, script: x}}\n"), "bad.yaml: error[E110]: the file is larger than 16 MiB"),
    ("A24-a-million-small-steps", numbered(1_000_000, " {i}:\n"), "bad.yaml: error[E110]: the file has more than 1,000,000 lines and elements"),
    ("A24-a-million-elements", HEAD.encode() + b"x-a: [" + b"1," * 1_000_001 + b"]\n", "bad.yaml: error[E110]: the file has more than 1,000,000 lines and elements"),
    ("A24-twenty-thousand-wrong-names", numbered(20_000, "  s.{i}: {{kind: shell, script: x}}\n"), "bad.yaml:5:3: error[E108]: s.0 is not a name"),
    ("A24-twenty-thousand-wrong-steps", numbered(20_000, "  s{i}: {{kind: shell}}\n"), "bad.yaml:5:3: error[E104]: steps.s0 (a shell step) lacks"),
    ("A24-twenty-thousand-wrong-needs", numbered(10_000, "  s{i}: {{kind: shell, script: x, needs: [t{i}]}}\n"), "bad.yaml:5:40: error[E201]: no step `t0`"),
    ("A24-one-wrong-step-behind-ten-thousand", numbered(10_000, "  s{i}: {{kind: shell, script: x}}\n") + b"  z: {kind: shell, scrip: x}\n", "bad.yaml:10005:20: error[E101]: unknown field `scrip`"),
    ("A24-a-hundred-thousand-wrong-tags", HEAD.encode() + b"x-a: [" + b"!x 1," * 100_000 + b"]\n", "bad.yaml:4:7: error[E108]: YAML tags are not allowed: !x"),
    ("A24-a-hundred-thousand-unknown-fields", HEAD.encode() + "".join(f"f{i}: 1\n" for i in range(100_000)).encode() + STEP.encode(), "bad.yaml:4:1: error[E101]: unknown field `f0`"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "says"), [pytest.param(raw, says, id=name) for name, raw, says in BYTES])
def test_bytes_that_no_editor_would_write_are_refused(raw: bytes, says: str, program: Forked, folder: Path):
    said = refused(program, folder, raw)
    assert says in said
    assert len(said) < 100_000


def test_what_is_not_a_file_is_refused(program: Forked, folder: Path):
    os.mkfifo(folder / "pipe.yaml")
    for name, says in (
        ("pipe.yaml", "pipe.yaml: error[E109]: it is not a file"),
        ("nope.yaml", "nope.yaml: error[E109]: there is no such file"),
        ("nope\n::error::x", "nope\\n::error::x: error[E109]: there is no such file"),
        ("x" * 5000, "error[E109]: there is no such file"),
        ("/dev/zero", "/dev/zero: error[E109]: it is not a file"),
    ):
        for command in ("plan", "apply", "validate"):
            done = program(folder, command, name)
            assert (done.code, says in done.err) == (2, True), done


def test_a_request_for_a_bad_pipeline_names_the_pipeline_s_line(program: Forked, folder: Path):
    request = b"apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n"
    for text, says in (
        ("", "p.yaml:1:1: error[E102]: the document is empty"),
        ("apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n", "p.yaml:2:7: error[E107]: this is a Run; a Pipeline is needed here"),
        ("apiVersion: runner/v1\nkind: [Pipeline]\nname: p\n" + STEP, "p.yaml:2:7: error[E102]: kind is a list; it must be a string"),
        (HEAD + "params: {f: {type: file, default: nope.csv}}\n" + STEP, "p.yaml:4:35: error[E109]: params.f: there is no file nope.csv"),
        (HEAD + "steps:\n  a: {kind: command, comand: [x]}\n", "p.yaml:5:22: error[E101]: unknown field `comand`"),
    ):  # fmt: skip
        (folder / "p.yaml").write_text(text)
        assert refused(program, folder, request).startswith(says)


def test_a_mistake_beside_a_million_good_values_is_found_in_time(program: Forked, folder: Path):
    """As many values as a file may have, and its last line wrong."""
    raw = numbered(16_000, "  step_{i}:\n    kind: command\n    command: [a, b, c, d, e, f, g]\n    env: {{A: x, B: y}}\n") + b"  z: {kind: command, comand: [x]}\n"  # fmt: skip
    (folder / "bad.yaml").write_bytes(raw)
    done = program(folder, "plan", "bad.yaml")
    assert (done.code, "bad.yaml:64005:22: error[E101]" in done.err) == (2, True), done.err[:300]
    assert within(done.seconds, 4) and done.megabytes < 300, (done.seconds, done.megabytes)


WRITTEN = {
    "a": "no", "b": "12:30:45", "c": "010", "d": "2023-02-31", "e": "0000-01-01", "f": "2001-01-01T00:00:00-99:99", "g": "1_000", "h": "yes", "i": "on", "j": "y", "k": "0b1", "l": "1.2.3", "m": "=", "n": "190:20:30.15", "o": "1e", "p": "+", "q": ".5.", "r": "0o8", "s": "0xg", "t": "NO", "u": "nan", "v": "Infinity", "w": "-", "x": "<",
}  # fmt: skip


@pytest.mark.reliability("A07", "A08")
def test_a_plain_word_for_a_text_stays_as_it_is_written(fresh: Forked, folder: Path):
    params = "".join(f"  {name}: {{type: string, default: {text}}}\n" for name, text in WRITTEN.items())
    command = "".join(f"$(params.{name})|" for name in WRITTEN)
    text = HEAD + f"params:\n{params}steps:\n  a: {{kind: command, command: [echo, {command}]}}\n"
    (folder / "good.yaml").write_text(text)
    done = fresh(folder, "apply", "good.yaml")
    assert done.code == 0, done
    assert "".join(f"{text}|" for text in WRITTEN.values()) + "\n" in fresh(folder, "logs", run_of(done)).out


def run_of(done: Done) -> str:
    found = re.search(r"run (\d{8}-\d{4}-[a-z2-9]{4})", done.out)
    assert found, done
    return found[1]


SAMPLE = [file for file in FILES if file.stem in ("A01-only-comments", "A10-apply", "A17-laughs", "A30-param-passwd", "B01-two")]  # fmt: skip


@pytest.mark.parametrize("file", SAMPLE, ids=lambda f: f.stem)
def test_a_fresh_process_says_what_a_fork_says(file: Path, program: Forked, fresh: Forked, folder: Path):
    raw = file.read_bytes()
    assert refused(fresh, folder, raw, file.name, ("plan",)) == refused(program, folder, raw, file.name, ("plan",))
    assert not list(folder.rglob("SENTINEL"))


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_bad_file_is_refused_by_fresh_processes(file: Path, fresh: Forked, folder: Path):
    assert refused(fresh, folder, file.read_bytes(), file.name)
