"""docs/reliability.md against the tests and the code: each id has its test, and all that the page names is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/reliability.md").read_text()
IDS = re.findall(
    r"[A-U]\d\d",
    """
    A01 A02 A04 A05 A06 A07 A08 A09 A10 A13 A15 A17 A19 A20 A23 A24 A26 A28 A30 A35 B01 B02 B03 B04 B07 B08
    C01 C03 C05 C07 C11 C12 D01 D02 D03 D05 E01 E03 E07 E08 E09 F01 F04 G01 G02 G06 H01 H02 H05 I02 J01 J04 J06 J08 U02
    """,
)
RULES = [f"R{n}" for n in (*range(1, 27), *range(30, 43))]
FILES = sorted(set(re.findall(r"\]\(\.\./(tests/[\w/.]+)\)", PAGE)))
# Prints each test that pytest collects, slow ones too, with its ids: of its markers, and at the start of its parameters.
SPY = r"""
import re, sys, pytest
class Spy:
    def pytest_collection_finish(self, session):
        for item in session.items:
            ids = [id for mark in item.iter_markers("reliability") for id in mark.args]
            print("collected", item.nodeid.partition("::")[0], *ids, *re.findall(r"\[([A-U]\d\d)\b", item.nodeid))
sys.exit(pytest.main(["-o", "addopts=", "--collect-only", "-qq", "-p", "no:xdist", *sys.argv[1:]], plugins=[Spy()]))
"""


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    lines = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")][1:]


@pytest.fixture(scope="module")
def collected() -> set[tuple[str, str]]:
    files = {file for row in rows("What is tried") for file in re.findall(r"\.\./(tests/[\w/.]+)", row[2])}
    done = subprocess.run([sys.executable, "-c", SPY, *sorted(files)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("collected ")]
    return {(id, file) for _, file, *ids in lines for id in ids}


def test_the_page_has_all_rules_and_all_ids_once():
    assert [row[0] for row in rows("What is promised")] == RULES
    assert [row[0] for row in rows("What is tried")] == IDS


def test_each_id_has_a_test_in_each_file_that_its_row_names(collected):
    named = {(row[0], file) for row in rows("What is tried") for file in re.findall(r"\.\./(tests/[\w/.]+)", row[2])}
    assert {id for id, _ in named} == set(IDS)
    assert sorted(named - collected) == []


def test_each_file_that_is_named_is_there():
    assert [file for file in re.findall(r"`(tests/[\w/.]+\.py)`", PAGE) if not (ROOT / file).is_file()] == []
    assert [file for file in FILES if not (ROOT / file).is_file()] == []


def test_what_keeps_a_promise_is_there():
    gone = []
    for rule, _, kept, shown in rows("What is promised"):
        text = ""
        for name in re.findall(r"`([^`]+)`", kept):
            if name.endswith(".py"):
                (path,) = [p for p in (ROOT / "runner").rglob("*.py") if str(p).endswith(f"/{name}")]
                text = path.read_text()
            elif not re.search(rf"\b(def|class) {name.rpartition('.')[2]}\b", text):
                gone.append(f"{rule}: {name}")
        gone += [f"{rule}: {id}" for id in re.findall(r"\b[A-JU]\d\d\b", shown.partition("[")[0]) if id not in IDS]
    assert gone == []
