"""A violation -> a folder that a person can run: README says what does not hold, cmd.sh does it again with the program."""

from __future__ import annotations

import os
import re
from typing import Any

from .project import texts

HEAD = """#!/bin/bash
# {what}
RUNNER=${{RUNNER:-runner}}
cd "$(mktemp -d)" && touch runner.toml
run() {{ "$RUNNER" runs --limit 50 -o json | python3 -c "import json,sys; r=json.load(sys.stdin); print(r[len(r)-$1]['run'])"; }}

"""


def write(violation: dict[str, Any], folder: str, seed: int) -> None:
    """Write README and cmd.sh."""
    os.makedirs(folder, exist_ok=True)
    title = f"{violation['property']} {violation['where']}: {violation['what']}"
    with open(f"{folder}/README", "w") as file:
        file.write(
            f"{title}\n\nseed: {seed} (python -m tests.truth {seed})\nby hand: bash cmd.sh (RUNNER=path of the program)\n"
        )
    with open(f"{folder}/cmd.sh", "w") as file:
        file.write(script(violation, title))


def script(violation: dict[str, Any], title: str) -> str:
    """Return the script that does what was done."""
    out = [HEAD.format(what=" ".join(title.split())[:600])]
    old: dict[str, str] = {}
    ids: dict[str, int] = {}
    for kind, value in violation["log"]:
        if kind == "project":
            new = texts(value)
            out += [_file(name, text) for name, text in new.items() if old.get(name, "") != text]
            out += [f"rm {name}\n" for name in old if name not in new]
            old = new
        elif kind == "file":
            out.append(_file(value[0], value[1], ids))
        else:
            out.append(_command(value, ids))
    return "".join(out)


def _file(name: str, text: str, ids: dict[str, int] | None = None) -> str:
    """Return the lines that write a file; ids of runs in it are asked for."""
    named = _named(text, ids or {})
    if named != text:
        return f"cat > {name} <<END\n{named}END\n"
    return f"cat > {name} <<'END'\n{text}END\n"


def _command(done: dict[str, Any], ids: dict[str, int]) -> str:
    """Return a command as a person would type it, and note the run that it made."""
    args = list(done["args"])
    if args[0] in ("apply", "retry") and "-o" in args:
        at = args.index("-o")
        args = args[:at] + args[at + 2 :]
    if args[0] == "validate":
        return ""
    json_plan = args[0] == "plan"
    if json_plan:
        args = [w for w in args if w not in ("-o", "json")]
    line = _named(" ".join(f"'{w}'" if re.search(r"[\[\] ]", w) else w for w in args), ids)
    for found in re.findall(r'"run_started".*?"run": ?"(\w+-\w+-\w+)"', done["out"]):
        ids.setdefault(found, len(ids) + 1)
    return f'"$RUNNER" {line}; echo "exit $?  # was {done["code"]}"\n'


def _named(text: str, ids: dict[str, int]) -> str:
    for run, number in ids.items():
        text = text.replace(run, f"$(run {number})")
    return text
