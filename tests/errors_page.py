"""docs/errors.md: every diagnostic code with an example, its real output and the remedy.

`python -m tests.errors_page` runs the examples and writes the page.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from tests.error_examples import EXAMPLES, GROUPS, Example
from tests.kit import Project
from tests.reliability import kit

PAGE = Path(__file__).parent.parent / "docs/errors.md"
HEAD = """\
# Error codes

Most messages about files, selections and plans have a code. This page explains each code, with an example and its
remedy. A message looks like this:

    pipeline.yaml:7:5: error[E101]: unknown field `comand` in steps.load (a command step)

The message begins with the file, the line and the column. `runner validate -o json` prints the same fields as JSON.

| code | meaning | exit code |
|---|---|--:|
| `E` | an error in a file, a request or a plan file | 2 |
| E220, E221, E222 | a step left wrong outputs, so the run failed | 1 |
| E301 | a secret is missing on this machine | 6 |
| `F` | a finding of a plan; nothing starts until you apply one of the listed remedies | 3 |
| `W` | a warning; the command continues | 0 |

Each example is complete: copy the files into an empty folder and run the commands. The page prints the output of the
last command only. Run ids, digests and times differ on your machine.
`python -m tests.errors_page` generates this page.
"""
_LANGUAGES = {".yaml": "yaml", ".sh": "sh", ".ipynb": "json"}


def page(sections: Mapping[str, str]) -> str:
    """Return the whole page from the section of each code."""
    out = [HEAD]
    for title, group in GROUPS.items():
        out.append(f"- {title}\n" + "".join(f"  - [{code}](#{code}) {e.title}\n" for code, e in group.items()))
    body = [f"## {title}\n\n" + "\n".join(sections[code] for code in group) for title, group in GROUPS.items()]
    return f"{out[0]}\n{''.join(out[1:])}\n" + "\n".join(body)


def section(code: str, folder: Path) -> str:
    """Return the section of a code; its commands run in a new folder `project` of `folder`."""
    example = EXAMPLES[code]
    out = [f'<a id="{code}"></a>', "", f"### {code} {example.title}", "", _wrapped(example.meaning), ""]
    for name, text in example.files.items():
        out += [f"`{name}`:", "", f"```{_LANGUAGES[Path(name).suffix]}", *text.splitlines(), "```", ""]
    out += ["```console", *(f"$ {command}" for command in example.commands), printed(example, folder), "```", ""]
    return "\n".join([*out, _wrapped(f"**Remedy:** {example.remedy}"), ""])


def printed(example: Example, folder: Path) -> str:
    """Return what the last command of an example prints, after all the others."""
    place = folder / "project"
    place.mkdir()
    (place / "runner.toml").touch()
    for name, text in example.files.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    for command in example.commands:
        said = _run(command, place)
    return said.rstrip().replace(str(folder), "/home/ada")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _run(command: str, place: Path) -> str:
    words = shlex.split(command)
    if words[0] != "runner":
        return subprocess.run(["bash", "-c", command], cwd=place, check=True, capture_output=True, text=True).stdout
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "GITHUB_ACTIONS", "FORCE_COLOR", "COLUMNS")}
    with mock.patch.dict(os.environ, env, clear=True):
        return kit.console(place, *words[1:])


def sections_of(text: str) -> dict[str, str]:
    """Return the section of each code of a page."""
    found = re.findall(r'(?ms)^<a id="(\w+)"></a>\n(.*?)(?=^<a id=|^## |\Z)', text)
    return {code: f'<a id="{code}"></a>\n{rest.rstrip()}\n' for code, rest in found}


def plain(text: str, folder: Path) -> str:
    """Replace run ids, digests, times and widths of columns, which differ from run to run."""
    return re.sub(" +", " ", Project(folder).plain(text))


if __name__ == "__main__":
    written = sections_of(PAGE.read_text() if PAGE.exists() else "")
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for code in EXAMPLES:
            place = Path(folder, code)
            place.mkdir()
            made[code] = section(code, place)
            # A section whose ids, digests and times alone differ stays as it is.
            if code in written and plain(made[code], place) == plain(written[code], place):
                made[code] = written[code]
    PAGE.write_text(page(made))
