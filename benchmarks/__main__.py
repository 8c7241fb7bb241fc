"""Measure ours beside other tools and the limits of the machine, with every output checked byte for byte.

python -m benchmarks run                           the table, as Markdown
python -m benchmarks run --quick                   with fewer turns, and without what takes minutes
python -m benchmarks run --peers ninja,doit        only beside these, of: {peers}
python -m benchmarks run --only layers-1000 redo   only these rows
python -m benchmarks run --out FILE.json           the figures of every turn, too

Peers that are packages are installed into environments of their own below --cache. `benchmarks.recorded`,
`benchmarks.sleeping` and `benchmarks.scale` are programs beside this one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import measure, report
from .rows import ROWS, Bench
from .tools import TOOLS, Tool, installed

PEERS = [name for name in TOOLS if name != "ours"]
USUAL = "ninja,make,doit,luigi,snakemake,joblib"


def machine(place: Path, spawners: dict[str, list[str]]) -> dict[str, Any]:
    """Return what the machine is and can do in these minutes."""
    fast = spawners.get("c") or spawners["python"]
    return {
        "python": platform.python_version(), "processors": len(os.sched_getaffinity(0)), "machine": platform.machine(),
        "kernel": platform.release(), "load": os.getloadavg()[0],
        "limits": {
            "spawn": measure.spawn(fast, ["true"] * 300, False, 1, place) / 300, "by": "C" if "c" in spawners else "Python",
            "spawn_python": measure.spawn(spawners["python"], ["true"] * 300, False, 1, place) / 300,
            "fsync": measure.fsync_seconds(place), "sha256": measure.hash_speed(), "interpreter": measure.interpreter_seconds(place),
        },
    }  # fmt: skip


def version(tool: Tool, place: Path) -> str:
    if "version" not in tool.commands:
        return ""
    lines = [line for line in measure.output(tool.commands["version"], place).splitlines() if line.strip()]
    return next((line for line in lines if any(c.isdigit() for c in line)), "").strip().removeprefix("runner ")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").format(peers=" ".join(PEERS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="measure, and print the table")
    run.add_argument("--quick", action="store_true", help="3 turns instead of 5, and no row that takes minutes")
    run.add_argument("--turns", type=int, metavar="N", help="how often each tool does each row")
    run.add_argument("--peers", default=USUAL, metavar="A,B", help=f"default {USUAL}")
    run.add_argument("--only", nargs="+", metavar="NAME", choices=[row.name for row in ROWS], help="only these rows")
    run.add_argument("--out", type=Path, metavar="FILE.json")
    run.add_argument("--cache", type=Path, default=Path.home() / ".cache/runner-benchmarks", metavar="DIR")
    options = parser.parse_args()
    names = [name for name in options.peers.split(",") if name]
    if unknown := [name for name in names if name not in PEERS]:
        parser.error(f"there is no peer {unknown[0]}; there are {', '.join(PEERS)}")
    tools = [tool for name in ["ours", *names] if (tool := installed(TOOLS[name], options.cache))]
    rows = [row for row in ROWS if (row.name in options.only if options.only else not (options.quick and row.slow))]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        spawners = measure.spawner(place)
        made: dict[str, Any] = {
            "machine": machine(place, spawners), "tools": {t.name: version(t, place) for t in tools}, "rows": [],
        }  # fmt: skip
        bench = Bench(tools, place, options.turns or (3 if options.quick else 5), spawners)
        for row in rows:
            print(row.title, file=sys.stderr)
            made["rows"].append(bench.row(row))
            if options.out:
                options.out.write_text(json.dumps(made, indent=1) + "\n")
    print("\n".join(report.markdown(made)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
