"""Seeds and a source of chance -> documents that nobody would write; what the program does with each, and how long it takes.

A judge answers with an exit code: 0, or 2 for a file that is refused (3, 4 or 6 where planning got further). Every
other exception is a find. `python -m tests.reliability.fuzzing COUNT [SEED]` runs a count of inputs and prints the figures.
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runner import app, document
from runner.errors import RunnerError
from runner.language import SCHEMAS
from runner.project import Settings

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SLOW = 2.0  # seconds of processor time that one input may take

# --- the project beside every input -------------------------------------------------------------------------------

BESIDE = {
    "runner.toml": "",
    "data.csv": "a,b\n1,2\n",
    "steps/a.py": "def f(x: int, *, path: str) -> dict:\n    return {'o': x}\n",
    "req.txt": "",
    "nb.ipynb": json.dumps({"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "x = 1\nn = 2", "outputs": [], "execution_count": None}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
    "inner.yaml": "apiVersion: runner/v1\nkind: Pipeline\nname: inner\nparams: {n: {type: integer, default: 1}, xs: {type: list, items: integer, default: [1]}}\n"
    "steps:\n  fit: {kind: shell, env: {N: $(params.n)}, script: x, outputs: {m: {type: file}, v: {type: number}}}\n"
    "outputs: {m: $(steps.fit.outputs.m), v: $(steps.fit.outputs.v)}\n",
    "p.yaml": "apiVersion: runner/v1\nkind: Pipeline\nname: p\nparams: {n: {type: integer, default: 1, maximum: 9}, s: {type: string, default: x}, f: {type: file, default: data.csv}, xs: {type: list, items: number, default: [1, 2]}}\n"
    "steps:\n  a: {kind: shell, script: x, tags: [t], env: {N: $(params.n)}, outputs: {o: {type: file}, v: {type: number}}}\n"
    "  b: {kind: command, command: [cat, $(steps.a.outputs.o)], outputs: {o: {type: file}}, foreach: {over: {x: $(params.xs)}}}\n"
    "  c: {kind: condition, if: $(steps.a.outputs.v > 1), then: [d], else: [e]}\n"
    "  d: {kind: shell, script: x}\n  e: {kind: fail, message: no}\n",
}  # fmt: skip


def project(root: Path) -> Path:
    """Make the project; return the file that takes the inputs."""
    for name, text in BESIDE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "x.yaml"


# A line of what is said begins with a place, or continues what began with one.
OURS = re.compile(r"[\w/.-].*: error\[[EF]\d+\]: |error(\[[EF]\d+\])?: | *\d* \| |  +(= help: |\S)|\.\.\. and ")


# --- the judge ----------------------------------------------------------------------------------------------------


def judge(path: Path, raw: bytes) -> int:
    """Write, read, check and, where nothing is wrong, plan one input; return the exit code."""
    path.write_bytes(raw)
    try:
        asked = app.read(str(path))
        app.check_request(asked)
        store = app.open_store(asked.project, Settings(), None, create=False)
        return 3 if app.plan(asked, store).findings else 0
    except RunnerError as error:
        said = str(error)
        # What is said can be shown, and no line of it is begun by the input.
        assert said.encode() and all(c.isprintable() or c == "\n" for c in said), said
        assert all(OURS.match(line) for line in said.split("\n")), said
        return error.exit_status


# --- bytes --------------------------------------------------------------------------------------------------------

TOKENS = [
    b"{", b"}", b"[", b"]", b": ", b"- ", b"? ", b", ", b"#", b"&a ", b"*a", b"*a ", b"<<: *a\n", b"!!int ", b"!!python/name:os.system ", b"!x ",
    b"|\n", b">-\n", b"'", b'"', b"\\", b"%YAML 1.1\n---\n", b"---\n", b"...\n", b"~", b"null", b"true", b"no", b"1e999", b".nan", b"-.inf", b"0x" + b"f" * 5000,
    b"0o" + b"7" * 6000, b"1" * 5000, b"-1", b"1.5", b"010", b"2023-02-31", b"12:30:45", b"\t", b"\r", b"\n", b"\r\n", b"\0", b"\x01", b"\x7f", b"\x85", b"\xc2\x85",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\xe2\x80\xae", b"\\ud800", b"\\0", b"\\x1b[31m", b"$(", b"$$(", b")", b"$(params.n)",
    b"$(steps.a.outputs.o)", b"$(1 +", b"$(" + b"(" * 60, b"$(" + b"1" * 5000 + b")", b"$(9e999)", b"$(-" + b"9" * 400 + b" % 7)", b"params", b"steps", b"kind: ", b"Pipeline", b"Run",
    b"select: ", b"foreach: ", b"over: ", b"outputs: ", b"inputs: ", b"env: ", b"cache: ", b"retry: ", b"defaults: ", b"finally: ", b"needs: ", b"when: ", b"if: ",
    b"command", b"shell", b"python", b"notebook", b"condition", b"fail", b"approval", b"callback", b"pipeline", b"register", b"file", b"dir", b"list", b"a", b"b", b"\xc3\xa9", b"../", b"/etc/passwd",
]  # fmt: skip


def seeds() -> list[bytes]:
    """Return the files to start from: the catalogue of bad ones, the corpus, the examples, the templates."""
    places = [HERE / "corpus", HERE.parent / "bad_yaml", ROOT / "pipelines", ROOT / "runner/templates"]
    files = sorted(f for place in places for f in place.rglob("*.yaml") if f.stat().st_size < 20_000)
    return [f.read_bytes() for f in files] + [BESIDE[name].encode() for name in BESIDE if name.endswith(".yaml")]


def mutated(raw: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """Return `raw` after a few changes of bytes, tokens, lines and indentation."""
    out = bytearray(raw)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        at = chance.randrange(len(out) + 1)
        to = min(len(out), at + chance.choice([0, 1, 1, 2, 5, 30]))
        match chance.randrange(9):
            case 0 if at < len(out):
                out[at] = chance.randrange(256)
            case 1:
                out[at:at] = chance.choice(TOKENS)
            case 2:
                out[at:to] = chance.choice(TOKENS)
            case 3:
                del out[at:to]
            case 4:
                out[at:at] = out[at:to] * chance.choice([1, 2, 50])
            case 5:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                out[at:at] = other[start : start + chance.choice([5, 40, 300])]
            case 6 | 7:
                lines = bytes(out).split(b"\n")
                i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[i], lines[j] = chance.choice(
                    [(lines[j], lines[i]), (lines[i], lines[i]), (b"  " + lines[i], lines[j]), (lines[i].lstrip(), lines[j])]
                )  # fmt: skip
                out = bytearray(b"\n".join(lines))
            case _:
                words = bytes(out).split(b" ")
                words[chance.randrange(len(words))] = chance.choice(TOKENS)
                out = bytearray(b" ".join(words))
    return bytes(out)


# --- documents ----------------------------------------------------------------------------------------------------

NAMES = ["a", "b", "c", "d", "e", "n", "s", "f", "xs", "o", "m", "v", "t"]
WORDS = [
    *NAMES, "", "x", "data.csv", "steps/a.py", "steps", "nb.ipynb", "inner.yaml", "req.txt", "steps.a:f", "out/o.txt", "../x", "/etc/passwd", "~", "latest", "none", "1h", "500ms",
    "P1D", "PT30M", "512M", "1.5Gi", "/a/b", "/", "a-b", "A", "RUNNER_X", "params.n", "params.xs", "c00000000", "succeeded", "failed", "pending", "no way", "name@sha256:" + "0" * 64, "20260101-0000-abcd",
    "a+", "+a", "tag:t", "kind:shell", "status:failed+", "a .. c", "b[x=1]", "b[*]", "not a", "changed:any", "*", "all", "3.11",
]  # fmt: skip
NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 3, 1.5, 1e308, -0.0, 10**30, "", " ", "x" * 300, "é\n\t", "\x85", "\u2028", "\u202e", "😀", "null", "yes", "1", "1:30", "$(", "$$(", "$(x", "${{ a }}", "(a+)+$",
    [], {}, [[]], [None], [{}], {"": 1}, {"a": {}}, {"x-a": 1}, ["a", "a"], [1, "1", True], "a" * 64, "a" * 65, "-a", "a/b", "..", "\\", "*", "[", "{", "2023-02-31", "$(secrets.t)", "0" * 5000,
]  # fmt: skip


def expression(chance: random.Random, depth: int = 0) -> str:
    """Return the text of an expression, mostly of the right form."""
    leaves = [
        "1", "0", "2.5", "'x'", '"y"', "true", "null", "params.n", "params.s", "params.f", "params.xs", "steps.a.outputs.o", "steps.a.outputs.v", "steps.b.outputs.o", "steps.c.taken", "steps.a.status",
        "steps.b.best.outputs.v", "steps.b.best.each.x", "steps.b.count", "inputs.a", "outputs.o", "each.x", "each.a", "run.id", "run.status", "secrets.t", "params", "steps.a", "x", "[]", "1e400", "9" * 30, "steps.a.outputs", "steps.d.outputs.version", "steps.b.outputs.comment",
    ]  # fmt: skip
    if depth > 3 or chance.random() < 0.4:
        return chance.choice(leaves)

    def inner() -> str:
        return expression(chance, depth + 1)

    operators = ["==", "!=", "<", "<=", ">", ">=", "in", "not in", "+", "-", "*", "/", "%", "and", "or"]
    functions = ["len", "string", "integer", "number", "boolean", "json", "basename", "join", "lower", "starts_with", "matches", "min", "max", "sum", "round", "coalesce", "default", "if", "nofunc"]  # fmt: skip
    match chance.randrange(7):
        case 0 | 1:
            return f"{inner()} {chance.choice(operators)} {inner()}"
        case 2:
            return f"{chance.choice(['not ', '-', '- -'])}{inner()}"
        case 3:
            return f"{inner()}[{inner()}]"
        case 4:
            return f"[{inner()}, {inner()}]"
        case 5:
            return f"({inner()})"
        case _:
            return f"{chance.choice(functions)}({', '.join(inner() for _ in range(chance.choice([0, 1, 1, 2, 2, 3])))})"


def text(chance: random.Random) -> str:
    """Return a text: a word, an expression, or one inside the other."""
    match chance.randrange(5):
        case 0 | 1:
            return f"$({expression(chance)})"
        case 2:
            return f"{chance.choice(WORDS)}$({expression(chance)}){chance.choice(WORDS)}"
        case _:
            return chance.choice(WORDS)


class Writer:
    """Writes documents that fit one of our JSON Schemas."""

    def __init__(self, kind: str, chance: random.Random) -> None:
        self.schema = SCHEMAS[kind]()
        self.chance = chance

    def document(self) -> dict[str, Any]:
        value: dict[str, Any] = self.value(self.schema, 0)
        return value

    def value(self, schema: dict[str, Any], depth: int) -> Any:
        chance = self.chance
        while "$ref" in schema:
            schema = self.schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]
        if branches := [b for b in schema.get("allOf", ()) if "then" in b]:
            schema = chance.choice(branches)["then"]
            return self.value(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return chance.choice(schema["enum"])
        kinds = schema.get("type", ["string", "integer", "number", "boolean", "array", "object"])
        match chance.choice(kinds) if isinstance(kinds, list) else kinds:
            case "object":
                return self.mapping(schema, depth)
            case "array":
                items = schema.get("items", {})
                return [
                    self.value(items, depth + 1) for _ in range(schema.get("minItems", 0) + chance.choice([0, 1, 1, 2]))
                ]
            case "string":
                if "pattern" in schema:
                    fitting = [w for w in [*WORDS, "pending"] if re.search(schema["pattern"], w)]
                    return chance.choice(fitting) if fitting else text(chance)
                return text(chance)
            case "integer":
                return chance.choice([schema.get("minimum", 0), 1, 2, 5, schema.get("maximum", 10)])
            case "number":
                return chance.choice([0.5, 1, 2, 1e-7, 100])
            case _:
                return chance.random() < 0.5

    def mapping(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        chance = self.chance
        fields = schema.get("properties", {})
        share = 0.6 if depth == 0 else 0.12
        out = {
            name: self.value(body, depth + 1)
            for name, body in fields.items()
            if name in schema.get("required", ()) or chance.random() < share
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and not fields:
            count = schema.get("minProperties", 0) + chance.choice([0, 1, 2, 4] if depth < 3 else [0, 1])
            for name in chance.sample(NAMES, min(count, len(NAMES))):
                out[name] = self.value(more, depth + 1)
        return out


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to every value below `value`."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(inner, (*at, key))


def spoiled(value: Any, chance: random.Random) -> Any:
    """Return a document with one mutation: a value replaced, taken away, moved, wrapped, or a key misspelt."""
    value = json.loads(json.dumps(value))
    ways = list(places(value))
    way = chance.choice(ways)
    parent = value
    for key in way[:-1]:
        parent = parent[key]
    last = way[-1]
    match chance.randrange(7):
        case 0:
            del parent[last]
        case 1:
            parent[last] = [parent[last]]
        case 2:
            parent[last] = {chance.choice(NAMES): parent[last]}
        case 3 if isinstance(parent, dict):
            parent[str(last)[:-1] + chance.choice("xy-_ ")] = parent.pop(last)
        case 4:
            other: Any = value
            for key in chance.choice(ways):
                other = other[key] if isinstance(other, dict | list) and not (isinstance(other, list) and len(other) <= key) else other  # fmt: skip
            parent[last] = json.loads(json.dumps(other))
        case 5:
            parent[last] = text(chance)
        case _:
            parent[last] = chance.choice(NASTY)
    return value


@cache
def good() -> list[dict[str, Any]]:
    """Return documents that are right."""
    files = [
        BESIDE["p.yaml"].encode(),
        BESIDE["inner.yaml"].encode(),
        *map(Path.read_bytes, sorted((HERE / "corpus").glob("good*.yaml"))),
    ]
    return [dict(document.parse(raw, "good.yaml").value) for raw in files]


def documented(chance: random.Random) -> bytes:
    """Return a document of a schema, or a right one, in most cases with one mutation."""
    kind = chance.choice(["pipeline", "pipeline", "run", "good", "good", "good"])
    value = chance.choice(good()) if kind == "good" else Writer(kind, chance).document()
    if kind == "run":
        value["pipeline"] = chance.choice(["p.yaml", "p.yaml", "p.yaml", "inner.yaml", "data.csv", "x.yaml"])
        if chance.random() < 0.7:  # what a request may say only together is seldom said right by chance
            for name in chance.sample(sorted(value), len(value) // 2):
                if name not in ("apiVersion", "kind", "pipeline"):
                    del value[name]
    if chance.random() < 0.8:
        value = spoiled(value, chance)
    return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


# --- the loop -----------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of a number of inputs."""

    codes: Counter[int] = field(default_factory=Counter)
    finds: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # where -> how often, the first input
    slowest: tuple[float, bytes] = (0.0, b"")
    seconds: float = 0.0

    def __str__(self) -> str:
        count = self.codes.total()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return (
            f"{count} inputs in {self.seconds:.0f} s ({count / max(self.seconds, 1e-9):.0f}/s): exit codes {dict(sorted(self.codes.items()))}, "
            f"{len(self.finds)} foreign exceptions, slowest {self.slowest[0]:.2f} s, peak {peak} MB"
        )


class _TooSlow(BaseException):
    """Processor time ran out; no handler of the program takes it for its own."""


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/runner/" in f.filename] or list(frames)
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def one(path: Path, raw: bytes, tally: Tally, seconds: float = SLOW) -> None:
    """Judge one input and note what came of it."""

    def stop(*_: object) -> None:
        raise _TooSlow

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    started = time.process_time()
    try:
        tally.codes[judge(path, raw)] += 1
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        tally.codes[70] += 1
        where = _where(error)
        count, first = tally.finds.get(where, (0, raw))
        tally.finds[where] = (count + 1, min(first, raw, key=len))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - started
    if took > tally.slowest[0]:
        tally.slowest = (took, raw)


def fuzz(
    make: Callable[[random.Random], bytes], count: int | None = None, seconds: float | None = None, seed: int = 0
) -> Tally:
    """Judge `count` inputs, or as many as fit into `seconds`."""
    chance = random.Random(seed)
    tally = Tally()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = project(Path(folder))
        while tally.codes.total() != count:
            if seconds is not None and time.monotonic() - started > seconds:
                break
            one(path, make(chance), tally)
    tally.seconds = time.monotonic() - started
    return tally


def byte_maker() -> Callable[[random.Random], bytes]:
    """Return what makes inputs out of the seeds."""
    found = seeds()
    return lambda chance: mutated(chance.choice(found), chance, found)


def main(count: int, seed: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    worst = 0
    for name, make, share in (("bytes", byte_maker(), count * 4 // 5), ("documents", documented, count // 5)):
        tally = fuzz(make, share, seed=seed)
        print(f"{name}: {tally}", flush=True)
        for where, (times, raw) in tally.finds.items():
            print(f"  {where}: {times} times, as with {raw[:600]!r}")
        worst += len(tally.finds)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
