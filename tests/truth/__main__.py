"""`python -m tests.truth SEED [--shrink]`: one case. `python -m tests.truth --seeds A:B [--jobs N]`: many."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from . import replay
from .cases import case, isolated, warm_up, with_log
from .shrink import shrunk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="check this case, and write it as a script")
    parser.add_argument("--shrink", action="store_true", help="make it as small as can be")
    parser.add_argument("--only", default="", help="with --shrink: look at this kind only, as `P1` or `P5 select`")
    parser.add_argument("--to", default="", help="the folder for the script; default: truth-SEED")
    parser.add_argument("--seeds", help="A:B, check all from A to before B")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", default="", help="write what does not hold to this file, one JSON value a line")
    args = parser.parse_args()
    warm_up()
    if args.seeds:
        first, last = map(int, args.seeds.split(":"))
        return many(range(first, last), args.jobs, args.out)
    return one(args.seed, args.shrink, args.only, args.to or f"truth-{args.seed}")


def one(seed: int, shrink: bool, only: str, folder: str) -> int:
    """Check a case, and write the first thing that does not hold as a script."""
    found = [v for v in with_log(isolated(case(seed))) if kind_of(v).startswith(only)]
    for violation in found:
        print(line_of(seed, violation))
    if not found:
        print(f"seed {seed}: all holds")
        return 0
    first = shrunk(case(seed), found[0], print) if shrink else found[0]
    replay.write(first, folder, seed)
    print(f"wrote {folder}/cmd.sh and {folder}/README")
    return 1


def many(seeds: range, jobs: int, out: str) -> int:
    """Check many cases in some processes; print what does not hold, and how often what happened."""
    began, stats, bad = time.monotonic(), Counter[str](), set()
    with open(out or os.devnull, "a") as file:
        for seed, found in checked(seeds, jobs):
            for violation in found:
                if violation["property"] == "stats":
                    stats.update(violation["stats"])
                    continue
                bad.add(seed)
                print(line_of(seed, violation), flush=True)
                file.write(json.dumps({"seed": seed, **violation}) + "\n")
                file.flush()
    for name, count in stats.most_common():
        print(f"{count:6} {name}")
    print(f"{len(bad)} of {len(seeds)} cases have something that does not hold; {time.monotonic() - began:.1f} s")
    return 1 if bad else 0


def checked(seeds: range, jobs: int) -> Iterator[tuple[int, list[Any]]]:
    """Yield each seed with what was found, as the processes come to it."""
    if jobs == 1:
        yield from ((seed, isolated(case(seed))) for seed in seeds)
        return
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_checked, seeds, chunksize=4)


def _checked(seed: int) -> tuple[int, list[Any]]:
    return seed, [{k: v for k, v in found.items() if k != "log"} for found in isolated(case(seed))]


def kind_of(violation: dict[str, Any]) -> str:
    return f"{violation['property']} {violation['where']}"


def line_of(seed: int, violation: dict[str, Any]) -> str:
    return f"{seed} {kind_of(violation)} | " + " ".join(violation["what"][:400].split())


if __name__ == "__main__":
    sys.exit(main())
