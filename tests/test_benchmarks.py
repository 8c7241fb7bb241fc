"""The benchmarks measure what they say: every tool leaves the demanded bytes, and one that does not gets no figure."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import benchmarks
from benchmarks import chart, history, measure, reliability, rows, sleeping, workloads
from benchmarks.tools import RUNNER, TOOLS, installed, write_ours
from runner.store.local import LocalStore

SMALL = workloads.layered(4, 5)


@pytest.fixture
def bench(tmp_path):
    tools = [tool for name in ("ours", "ninja", "make") if (tool := installed(TOOLS[name], tmp_path / "cache"))]
    return rows.Bench(tools, tmp_path, 2, measure.spawner(tmp_path))


@pytest.mark.parametrize("what", ["run", "again", "redo", "plan"])
def test_tools_take_turns_and_leave_the_demanded_bytes(bench, what):
    row = bench.row(rows.Row("small", "20 steps", what, lambda: SMALL))
    assert row["notes"] == {}
    assert {name: len(tool["samples"]) for name, tool in row["tools"].items()} == {t.name: 2 for t in bench.tools}


def test_a_program_without_a_shell_leaves_the_demanded_bytes(bench):
    row = bench.row(rows.Row("edits", "", "run", lambda: workloads.layered(4, 5, "edit"), alone=True))
    assert (row["notes"], list(row["tools"]), row["limit"] > 0) == ({}, ["ours"], True)


def test_a_tool_that_leaves_other_bytes_gets_no_figure(bench):
    def wrong(folder, workload):
        write_ours(folder, workload)
        text = (folder / "pipeline.yaml").read_text()
        (folder / "pipeline.yaml").write_text(text.replace("echo s1-2;", "echo s1-3;"))

    bench.tools = [replace(bench.tools[0], write=wrong)]
    row = bench.row(rows.Row("small", "", "run", lambda: SMALL))
    # Step s1-2, the three that read it, and those below them in whose inputs it still shows.
    assert (row["tools"], row["notes"]["ours"].split(",")[0]) == ({}, "8 of 20 outputs are wrong")


def test_a_long_past_is_found_again(tmp_path):
    write_ours(tmp_path / "p", SMALL)
    subprocess.run([RUNNER, "apply", "pipeline.yaml"], cwd=tmp_path / "p", check=True, capture_output=True)
    (real,) = (tmp_path / "p/.runner/runs").iterdir()
    history.extend(tmp_path / "p", 30)
    store = LocalStore(f"{tmp_path}/p/.runner", create=False)
    found = [run.run for run in store.runs(limit=100)]
    assert (len(found), found[0]) == (31, real.name)
    assert {store.run(run).status for run in found} == {"succeeded"}
    assert len({store.run(run).steps["s0-0"].fingerprint for run in found}) == 31
    done = subprocess.run([RUNNER, "apply", "pipeline.yaml"], cwd=tmp_path / "p", capture_output=True, text=True)
    assert done.stdout == f"nothing to do: run {real.name} has done this already (--again runs it anew)\n"


def test_how_many_were_alive_at_once_is_told_by_begins_and_ends():
    assert sleeping.most_at_once([(0, 2), (1, 3), (2, 4), (5, 6)]) == 2  # one ends as the third begins
    assert sleeping.most_at_once([(0, 9), (1, 3), (2, 4)]) == 3


def test_a_chart_is_xml_with_a_line_and_a_label_for_each_name():
    text = chart.svg([("Time", "s", {"a & b": [(100, 0.1), (1000, 1.2)], "c": [(100, 0.2), (1000, 3)]})], "steps")
    tree = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    assert [len(line.get("points").split()) for line in tree.iter(f"{space}polyline")] == [2, 2]
    assert {"a & b", "c"} <= {label.text for label in tree.iter(f"{space}text")}


def test_the_command_prints_a_table_and_keeps_the_figures(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", "--turns", "1", "--peers", "", "--only", "version", "--out", f"{tmp_path}/f.json"],
        cwd=Path(benchmarks.__file__).parent.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "| `--version` |" in done.stdout
    assert '"name": "version"' in (tmp_path / "f.json").read_text()


@pytest.mark.parametrize(
    ("name", "count", "measured"),
    [
        ("concurrency", 1, "0 of 1 rounds with a step executed twice or a word of locks"),
        ("corruption", 5, "5 changes, not found by verify: 0, on reuse: 0"),
        ("leaks", 1, "0 hits in 1 runs"),
        ("strangers", 1, "0 of 1 got a signal"),
    ],
)
def test_a_figure_of_reliability_is_measured_as_often_as_it_is_asked_for(tmp_path, name, count, measured):
    assert reliability.FIGURES[name].measure(tmp_path / name, count) == (measured, [])


def test_what_does_not_hold_is_counted_and_its_first_line_told():
    def broken():
        raise AssertionError("it is lost\nand more")

    assert reliability.failures(iter([lambda: None, broken, broken])) == ["it is lost", "it is lost"]
