"""A store with one of everything, what may lie in place of each of its files, and the commands that then look at it.

Out: `build` makes it; `files` are its parts by name, `GARBAGE` what is put in their place, `COMMANDS` what is asked.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runner.values import digest_of
from tests.reliability import kit

PIPELINES = {
    "p.yaml": """apiVersion: runner/v1
kind: Pipeline
name: p
params: {x: {type: integer, default: 1}}
steps:
  a:
    kind: shell
    code: [c.txt]
    script: 'echo one > o; mkdir d; echo two > d/f; echo said'
    outputs: {o: {type: file}, d: {type: dir}}
  b:
    kind: shell
    inputs: {i: $(steps.a.outputs.o), j: $(steps.a.outputs.d)}
    env: {X: $(params.x)}
    script: 'cat $RUNNER_INPUT_I $RUNNER_INPUT_J/f > o; echo "{\\"m\\": 1.5}" > $RUNNER_VALUES'
    outputs: {o: {type: file}, m: {type: number, metric: true}}
  c: {kind: condition, if: [$(steps.b.outputs.m > 1)], then: [r]}
  r: {kind: register, group: g, model: $(steps.b.outputs.o), metrics: {m: $(steps.b.outputs.m)}}
""",
    "w.yaml": """apiVersion: runner/v1
kind: Pipeline
name: w
steps:
  ask: {kind: approval, message: sure}
  cb: {kind: callback, outputs: {n: {type: integer}}}
  after: {kind: shell, script: 'echo 1 > o', needs: [ask, cb], outputs: {o: {type: file}}}
""",
    "part.yaml": "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselect: [b]\nparams: {x: 2}\nconcurrency: {group: gg}\n",
    "part2.yaml": "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselect: [b]\nparams: {x: 3}\n",
    "c.txt": "c\n",
    "runner.toml": "",
}
REMOVED = '{"run": "20200101-0000-aaaa", "pipeline": "p", "at": 1577836800.0}\n'


def build(root: Path) -> dict[str, str]:
    """Make a project whose store has one of everything; return its runs by a word."""
    root.mkdir()
    for name, text in PIPELINES.items():
        (root / name).write_text(text)
    assert kit.run(root, "apply", "p.yaml").returncode == 0
    time.sleep(2.1)  # what was touched just now is in no answer that is kept
    for words, code in (
        ("apply p.yaml", 0), ("plan part.yaml --out plan.json", 0), ("apply plan.json", 0), ("plan part2.yaml --out plan2.json", 0),
        ("apply w.yaml", 7),
    ):  # fmt: skip
        assert kit.run(root, *words.split()).returncode == code
    (root / ".runner/removed.jsonl").write_text(REMOVED)
    listed = json.loads(kit.run(root, "runs", "-o", "json").stdout)
    runs = {{"p": "P", "w": "W", "ppart.yaml": "Q"}[run["pipeline"] + run["request"]]: run["run"] for run in listed}
    assert kit.run(root, "pin", runs["P"]).returncode == 0
    assert kit.run(root, "approve", runs["W"], "ask").returncode == 0
    return runs


def first_of(store: Path) -> Callable[[str], str]:
    return lambda pattern: str(min(store.glob(pattern)).relative_to(store))


def files(first: Callable[[str], str], runs: dict[str, str]) -> dict[str, str]:
    """Return the parts of the store by name, with places where nothing is yet; `first` finds one by a pattern."""
    p, w, q = f"runs/{runs['P']}", f"runs/{runs['W']}", f"runs/{runs['Q']}"
    stored = first("objects/*/*/*")
    return {
        "format": "format", "index": "index.db", "index-wal": "index.db-wal", "index-shm": "index.db-shm", "claims": "claims",
        "removed": "removed.jsonl", "gitignore": ".gitignore", "runs": "runs", "run": p, "journal": f"{p}/journal.jsonl",
        "journal of a part": f"{q}/journal.jsonl", "journal of a waiting run": f"{w}/journal.jsonl", "lock": f"{p}/lock",
        "lock of a waiting run": f"{w}/lock", "pin": f"{p}/pin", "inbox": f"{w}/inbox", "message": f"{w}/inbox/approval-001.json",
        "logs": f"{p}/logs", "logs of a step": f"{p}/logs/a", "log": f"{p}/logs/a/1.log", "no log": f"{p}/logs/a/x.log",
        "objects": "objects", "objects of a digest": "objects/sha256", "shard": os.path.dirname(stored), "object": stored,
        "no object": "objects/sha256/zz", "trees": "trees", "tree": first("trees/*"), "no tree": "trees/x", "plans": "plans",
        "plan": first("plans/[0-9a-f]*"), "open plans": "plans/open", "open plan": first("plans/open/*"), "no plan": "plans/open/x",
        "models": "models", "group of models": "models/g", "version": "models/g/1.json", "lock of models": "models/g/.lock",
        "another version": "models/g/7.json", "huge version": f"models/g/{'9' * 200}.json", "no group": "models/h", "compiled": "compiled",
        "a compiled": first("compiled/*"), "settled": "settled", "a settled": first("settled/*"), "groups": "groups",
        "a group": "groups/gg", "tmp": "tmp", "in tmp": "tmp/x", "quarantine": "quarantine", "in quarantine": "quarantine/journal.jsonl",
        "no run": "runs/x", "no name": "runs/\udcff\n",
    }  # fmt: skip


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)


def holds(content: bytes) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        clear(path)
        path.write_bytes(content)

    return put


def was(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b'{"a": 1}\n'


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: holds(change(was(path)))(path)


def values(content: bytes) -> list[Any]:
    """The JSON in a file: one value, or one a line."""
    found = []
    for text in [content, *content.split(b"\n")]:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found[:1] if len(found) == 2 else found


def typed(value: Any) -> Callable[[Path], None]:
    """Each value of each line is one of another type; sums are left off."""

    def change(content: bytes) -> bytes:
        lines = [
            {k: v[k] if k == "event" else value for k in v if k not in ("sum", "checksum")}
            for v in values(content)
            if isinstance(v, dict)
        ]
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    return changed(change)


WRONG = (
    None, 1, -1, 1e300, 10**30, True, "", "x", "../../x", "\ud800", [], {}, [1], {"x": 1}, [[]], float("nan"), float("inf"), "sha256:zz",
)  # fmt: skip


def one_field(seed: int, sums: bool) -> Callable[[Path], None]:
    """One to three values, somewhere, are of another type or missing; with `sums` under right sums."""

    def change(content: bytes) -> bytes:
        rng, found = random.Random(seed), values(content)
        places = [place for value in found for place in _places(value)]
        for holder, key in rng.choices(places, k=rng.choice((1, 1, 2, 3))) if places else ():
            if isinstance(holder, dict) and rng.random() < 0.1:
                holder.pop(key, None)
            else:
                holder[key] = rng.choice(WRONG)
        return b"".join(_lines(found, sums))

    return changed(change)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def _lines(found: list[Any], sums: bool) -> Iterator[bytes]:
    sum = 0
    for value in found:
        if not isinstance(value, dict):
            yield json.dumps(value).encode() + b"\n"
            continue
        plain = {k: v for k, v in value.items() if k not in ("sum", "checksum")}
        if sums and "sum" in value:
            text = json.dumps(plain, separators=(",", ":")).encode()
            sum = zlib.crc32(text[:-1], sum)
            yield text[:-1] + b',"sum":"%08x"}\n' % sum
        elif sums and "checksum" in value and "\\ud8" not in json.dumps(plain):
            yield json.dumps({**plain, "checksum": digest_of(plain)}).encode() + b"\n"
        else:
            yield json.dumps(plain | ({"format": 1} if plain.get("format") == 2 else {})).encode() + b"\n"


def link(to: str) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        clear(path)
        path.symlink_to(to)

    return put


def folder(path: Path) -> None:
    clear(path)
    path.mkdir()
    (path / "inside").write_text("x")


def pipe(path: Path) -> None:
    clear(path)
    os.mkfifo(path)


def listening(path: Path) -> None:
    clear(path)
    back = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name[:90].encode("utf-8", "surrogateescape"))
    finally:
        os.fchdir(back)
        os.close(back)


def away(path: Path) -> None:
    """It lies elsewhere, and a link leads there."""
    if path.exists():
        target = path.parents[len(path.parents) - 3] / f"{os.getpid()}-{time.monotonic_ns()}"
        path.rename(target)
        path.symlink_to(target)


GARBAGE: dict[str, Callable[[Path], None]] = {
    "random bytes": holds(random.Random(1).randbytes(5000)), "empty": holds(b""), "zeros": holds(b"\0" * 4096),
    "cut": changed(lambda content: content[: len(content) // 2]), "twice": changed(lambda content: content + content),
    "each line twice": changed(lambda content: b"".join(line + b"\n" + line + b"\n" for line in content.split(b"\n") if line)),
    "a list": holds(b"[]\n"), "a number": holds(b"7\n"), "null": holds(b"null\n"), "a text": holds(b'"x"\n'), "an object": holds(b"{}\n"),
    "5,000 digits": holds(b"9" * 5000 + b"\n"), "a huge format": holds(b'{"event":"run_started","format":' + b"9" * 300 + b"}\n"),
    "100,000 lists deep": holds(b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "100,000 objects deep": holds(b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"), "NaN": holds(b"NaN\n"),
    "missing keys": holds(b'{"event":"run_started","format":1}\n'),
    "surrogates": holds(b'{"event":"run_started","run":"\\ud800","runs":["\\ud800"],"pipeline":"\\udfff","format":1}\n'),
    "a path": holds(b"../../x\n"), "runs that are paths": holds(b'{"runs":["../../x","/etc"],"run":"../../etc","at":1}\n'),
    "nulls": typed(None), "numbers": typed(5), "texts": typed("x"), "lists": typed([[1]]), "objects": typed({"a": {"b": 1}}),
    "infinities": typed(float("inf")), "below all": typed(-1e308), "half characters": typed("\ud800"),
    "a folder": folder, "a pipe": pipe, "a socket": listening, "gone": clear, "a link to nowhere": link("nowhere"), "a link to itself": link("."),
    "a link to zeros": link("/dev/zero"), "a link to a full disk": link("/dev/full"), "a newer number": holds(b"99\n"),
    "a newer format": holds(b'{"format": 99, "event":"run_started"}\n'),
    **{f"values {seed}": one_field(seed, False) for seed in range(12)},
    **{f"values {seed} with sums": one_field(seed, True) for seed in range(12)},
}  # fmt: skip

COMMANDS = tuple(
    words.split()
    for words in (
        "plan p.yaml", "plan part.yaml", "plan part2.yaml -o json", "plan part.yaml --references", "plan --check plan2.json", "runs",
        "runs -o json", "show P", "show W", "show Q -o json", "logs P", "logs P -f", "outputs P a", "outputs P b -o json", "outputs P a OUT",
        "diff P Q", "models", "models show g", "pin", "retry P --print", "store verify", "store du", "store gc --dry-run",
        "store gc --dry-run --keep-last 1", "doctor", "validate p.yaml", "graph p.yaml",
        "apply p.yaml", "apply p.yaml --again", "apply part.yaml", "apply plan2.json", "retry W", "resume W", "pin Q", "unpin P", "stop W",
        "reject W ask", "callback W cb n=1", "models approve g 1", "store gc", "store gc --keep-last 1", "store reindex",
        "store verify --repair",
    )
)  # fmt: skip


def asked(command: list[str], runs: dict[str, str]) -> list[str]:
    """Return a command with the ids of the runs in it."""
    return [runs.get(word, word) for word in command]
