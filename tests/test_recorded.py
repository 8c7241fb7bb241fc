"""Recorded scientific workflows as pipelines: the graph is the declared one, and every byte is what it demands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks import recorded

needs_data = pytest.mark.skipif(
    "RUNNER_TEST_DATA" not in os.environ,
    reason="RUNNER_TEST_DATA does not name the folder whose `workflows` are recorded workflows",
)
DATA = Path(os.environ.get("RUNNER_TEST_DATA", "")) / "workflows"


def task(id, inputs, outputs, parents=(), children=()):
    return {"id": id, "inputFiles": inputs, "outputFiles": outputs, "parents": parents, "children": children}


def keep(folder, *tasks):
    """Write tasks as a recorded workflow; return its path."""
    path = folder / "small.json"
    path.write_text(json.dumps({"schemaVersion": "1.5", "workflow": {"specification": {"tasks": tasks, "files": []}}}))
    return path


def program(*arguments):
    """Return the exit code and what was printed, with seconds as N."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.recorded", *map(str, arguments)],
        cwd=Path(benchmarks.__file__).parent.parent, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, re.sub(r"\d+\.\d\d s", "N s", done.stdout), done.stderr


HEAD = (
    "| workflow | steps | edges | full run | nothing to do | one step and all after it | with another parameter | edges and bytes right |\n"
    "|---|--:|--:|--:|--:|--:|--:|---|\n"
)
ROWS = {
    "1000genome-chameleon-2ch-100k-001": "| 52 | 76 | N s | N s | 15: N s | N s | yes |\n",
    "blast-chameleon-small-001": "| 43 | 120 | N s | N s | 3: N s | N s | yes |\n",
    "epigenomics-chameleon-hep-1seq-100k-001": "| 41 | 48 | N s | N s | 8: N s | N s | yes |\n",
    "helloworld-forkjoin-10-chameleon": "| 10 | 16 | N s | N s | 2: N s | N s | yes |\n",
    "montage-chameleon-2mass-005d-001": "| 58 | 114 | N s | N s | 11: N s | N s | yes |\n",
    "rnaseq-dirt02-001": "| 197 | 451 | N s | N s | 112: N s | N s | yes |\n",
    "sarek-dirt02-001": "| 26 | 50 | N s | N s | 14: N s | N s | yes |\n",
    "srasearch-chameleon-10a-001": "| 22 | 30 | N s | N s | 2: N s | N s | yes |\n",
}


@needs_data
@pytest.mark.parametrize("name", ["helloworld-forkjoin-10-chameleon", "sarek-dirt02-001"])
def test_a_recorded_workflow_has_its_edges_and_its_bytes_in_every_run(name):
    assert program(DATA, "--only", name) == (0, f"{HEAD}| {name} {ROWS[name]}", "")


@pytest.mark.slow
@needs_data
def test_all_recorded_workflows_have_their_edges_and_their_bytes_in_every_run():
    assert program(DATA) == (0, HEAD + "".join(f"| {name} {row}" for name, row in ROWS.items()), "")


def test_ids_that_are_no_names_of_the_language_go_through_unchanged(tmp_path):
    ids = [
        "", "no", "012", "1e3", "null", "a b", "a_b", "A-B", "a-b", "$(params.salt)", "$$(x)", "${HOME}", "{{x}}", "`ls`",
        '"', "'", "\\", "#", ": ", "two\nlines", "\0", "\x7f\x85\u2028\ufeff", "é", "🤣", "../x", "/", "*", "x" * 300,
    ]  # fmt: skip
    path = keep(
        tmp_path,
        *(
            task(id, [f"{before}.out"], [f"{id}.out"], parents=[before], children=after)
            for before, id, after in zip(["first", *ids], ids, [*([i] for i in ids[1:]), []], strict=False)
        ),
        task("first", ["in"], ["first.out"], children=[ids[0]]),
    )
    workflow = recorded.load(path)
    row = recorded.check(workflow, tmp_path / "out")
    assert (row.steps, row.edges, row.wrong) == (len(ids) + 1, len(ids), ())
    assert {json.loads(made)["task"] for made in list(recorded.demanded(workflow, "").values())[1:]} == {"first", *ids}
    assert len({name.upper() for name in recorded.names("t", ids).values()}) == len(ids)


@pytest.mark.parametrize(
    ("tasks", "why"),
    [
        pytest.param([task("a", [], ["x"]), task("b", [], ["x"])], "a and b both write x", id="two writers"),
        pytest.param([task("a", ["x"], ["x"])], "tasks wait for each other's files: a -> a", id="reads what it writes"),
        pytest.param(
            [task("a", ["y"], ["x"]), task("b", ["x"], ["y"])],
            "tasks wait for each other's files: a -> b -> a",
            id="a ring",
        ),
        pytest.param([], "it has no tasks", id="empty"),
        pytest.param(
            [task("a", ["x"], [])], "a writes no file, so that no bytes could tell what it did", id="no output"
        ),
        pytest.param([task("a", [], ["x"]), task("a", [], ["y"])], "two tasks have the id a", id="one id twice"),
    ],
)
def test_a_workflow_whose_bytes_do_not_follow_from_its_graph_is_refused(tmp_path, tasks, why):
    keep(tmp_path, *tasks)
    assert program(tmp_path) == (1, f"{HEAD}\nsmall is refused: {why}\n", "")


def test_edges_that_are_declared_otherwise_than_files_make_them_are_told(tmp_path):
    keep(
        tmp_path,
        task("a", [], ["x"], children=["b", "c"]),
        task("b", ["x"], ["y"], parents=["a"]),
        task("c", ["y"], ["z"], parents=["a"]),
    )
    code, out, err = program(tmp_path)
    assert (code, err) == (1, "")
    assert out == (
        f"{HEAD}| small | 3 | 2 | - | - | 1: - | - | no |\n"
        "\n"
        "small: the declared parents have an edge t0_a -> t2_c that no file makes\n"
        "small: the declared parents lack the edge t1_b -> t2_c (data)\n"
        "small: the declared children have an edge t0_a -> t2_c that no file makes\n"
        "small: the declared children lack the edge t1_b -> t2_c (data)\n"
    )


def test_bytes_that_the_graph_does_not_demand_are_told_by_the_check_and_by_the_step(tmp_path):
    workflow = recorded.load(
        keep(
            tmp_path,
            task("a", ["in"], ["x"], children=["b"]),
            task("b", ["x"], ["y"], parents=["a"], children=["c"]),
            task("c", ["y"], ["z"], parents=["b"]),
        )
    )
    out = tmp_path / "out"
    assert recorded.check(workflow, out).wrong == ()
    project = recorded.Project(workflow, out)
    statuses = {"t0_a": "reused", "t1_b": "succeeded", "t2_c": "succeeded"}
    left = {"f1_x": "sha256:" + "0" * 64}
    assert list(recorded.wrong_results(project, "pepper", statuses, left)) == [
        "f2_y of t1_b has other bytes than the graph demands",
        "f3_z of t2_c has other bytes than the graph demands",
    ]
    project.demand("pepper")
    done, _ = recorded.run("apply", "runs/salted.yaml", "--again", folder=out)
    assert (done.returncode, "c found other bytes than the graph demands: y" in done.stdout) == (1, True)
