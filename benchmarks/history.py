"""Give a store a long past: journals of runs that might have been, made from one that was, and the index from them.

In go a project that has run once and a count; out come so many runs more in its store, each a minute before the next,
the newest of them before the one that was. Every run has its own fingerprints, as if its parameters had been others;
what they made is the same, so that the objects are there. The index is made by `runner store reindex`, as from any
journals.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from runner.record import of_json
from runner.store.journal import written

from .tools import RUNNER

_AT = re.compile(r'"at":([0-9.]+)')
_FINGERPRINT = re.compile(r'"fingerprint":"sha256:([0-9a-f]{64})"')
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def ids(before: float, count: int) -> Iterator[tuple[str, float]]:
    """Yield ids of runs, and how many seconds before they were."""
    for n in range(1, count + 1):
        rest, letters = n, ""
        for _ in range(4):
            rest, digit = divmod(rest, len(_LETTERS))
            letters += _LETTERS[digit]
        yield f"{time.strftime('%Y%m%d-%H%M', time.gmtime(before - 60 * n))}-{letters}", 60.0 * n


def extend(project: Path, count: int) -> float:
    """Add runs to the store of a project that has exactly one; return the seconds that the index took."""
    runs = project / ".runner/runs"
    (one,) = os.listdir(runs)
    journal = (runs / one / "journal.jsonl").read_text()
    first = float(_AT.findall(journal)[0])
    for id, earlier in ids(first, count):

        def at(found: re.Match[str], earlier: float = earlier) -> str:
            return f'"at":{float(found[1]) - earlier:.3f}'

        def fingerprint(found: re.Match[str], id: str = id) -> str:
            return f'"fingerprint":"sha256:{hashlib.sha256(f"{id} {found[1]}".encode()).hexdigest()}"'

        os.makedirs(runs / id / "inbox")
        (runs / id / "lock").touch()
        text = _FINGERPRINT.sub(fingerprint, _AT.sub(at, journal.replace(one, id)))
        events = [of_json(json.loads(line)) for line in text.splitlines()]
        (runs / id / "journal.jsonl").write_bytes(written(events, 0)[0])
    started = time.perf_counter()
    subprocess.run([RUNNER, "store", "reindex"], cwd=project, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
