"""Make the golden store of this version anew: `python -m tests.golden.make` writes tests/golden/store-VERSION.tar.

To be run once before a version is released; tars of released versions are never made again, later versions must read
them. The index and locks are left out: a store is its journals and its bytes.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path

from runner import __version__
from tests.kit import Project

HERE = Path(__file__).parent
LEFT_OUT = {"index.db", "index.db-wal", "index.db-shm", "lock", ".lock", ".gitignore", "groups", "compiled"}
PIPELINE = """
    params: {x: {type: integer, default: 1}, items: {type: list, items: string, default: [p, q]}}
    steps:
      a: {kind: shell, script: 'echo one > o; mkdir d; echo two > d/f; ln -s f d/l', outputs: {o: {type: file}, d: {type: dir}}}
      ok: {kind: condition, if: [$(params.x < 5)]}
      b:
        kind: shell
        inputs: {i: $(steps.a.outputs.o), j: $(steps.a.outputs.d)}
        env: {X: $(params.x)}
        script: 'cat $RUNNER_INPUT_I $RUNNER_INPUT_J/f > o; echo $X >> o; echo "{\\"n\\": $X}" > $RUNNER_VALUES'
        outputs: {o: {type: file}, n: {type: integer}}
      each:
        kind: shell
        foreach: {over: {it: $(params.items)}}
        env: {IT: $(each.it)}
        script: echo $IT > o
        outputs: {o: {type: file}}
      r: {kind: register, model: $(steps.b.outputs.o), group: g, metrics: {n: $(steps.b.outputs.n)}}
"""
PART = "select: [b]\nparams: {x: 2}\n"


def make(root: Path) -> Path:
    """Make a project with runs of several kinds; return its store."""
    project = Project(root)
    project.pipeline(PIPELINE)
    project.request(PART, name="part")
    for args in (["p.yaml"], ["part.yaml"], ["p.yaml", "-p", "x=7"]):
        answer = project.runner("apply", *args)
        assert answer.code == 0, answer
    return root / ".runner"


def pack(store: Path, target: Path) -> None:
    """Write a store as a tar whose bytes depend on the store alone."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(store.rglob("*")):
            name = path.relative_to(store)
            if LEFT_OUT & set(name.parts):
                continue
            entry = tarfile.TarInfo(str(name))
            entry.type = tarfile.DIRTYPE if path.is_dir() else tarfile.REGTYPE
            entry.mode = path.stat().st_mode & 0o777
            content = b"" if path.is_dir() else path.read_bytes()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        pack(make(Path(folder)), HERE / f"store-{__version__}.tar")
