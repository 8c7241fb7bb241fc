"""The example on its real data: the four use cases as a user would run them. Needs the extra `example`."""

import json
import shutil
from pathlib import Path

import pytest

import runner
from tests.kit import Project

pytest.importorskip("xgboost")
EXAMPLE = Path(runner.__file__).parent.parent / "pipelines" / "abalone"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The example in a folder of its own, run whole once."""
    root = tmp_path_factory.mktemp("abalone")
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".runner"))
    project = Project(root)
    assert project.runner("apply", "runs/full.yaml").code == 0
    return root


@pytest.fixture
def project(ran, tmp_path):
    """A copy of the example with its store, so that each test has its own past."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Project(tmp_path)


def test_the_whole_pipeline_trains_a_model_with_an_mse_below_6_and_registers_it(project):
    record = project.record()
    assert {n: s["status"] for n, s in record["steps"].items()} == {
        "preprocess": "succeeded", "train": "succeeded", "evaluate": "succeeded", "mse-check": "succeeded",
        "register": "succeeded", "create-model": "succeeded", "fail-notify": "skipped",
    }  # fmt: skip
    mse = record["steps"]["evaluate"]["outputs"]["mse"]["value"]
    assert 3 < mse < 6
    package = json.loads(project.output("register", "package"))
    assert (package["metrics"]["mse"], package["approval_status"]) == (mse, "pending")


def test_use_case_1_one_step_with_other_parameters_reuses_its_input_byte_for_byte(project):
    first = project.record()
    answer = project.runner("apply", "runs/train-only.yaml")
    assert answer.code == 0
    record = project.record()
    statuses = {n: s["status"] for n, s in record["steps"].items()}
    assert {n for n, s in statuses.items() if s != "not_selected"} == {"preprocess", "train"}
    assert (statuses["preprocess"], statuses["train"]) == ("reused", "succeeded")
    assert record["steps"]["preprocess"]["outputs"] == first["steps"]["preprocess"]["outputs"]
    assert record["steps"]["preprocess"]["produced_by"] == first["run"]
    assert f"produced by {first['run']}" in project.runner("show", record["run"]).raw


def test_use_case_2_steps_that_follow_one_another(project):
    assert project.runner("apply", "runs/train-evaluate.yaml").code == 0
    assert {n: s for n, s in project.statuses().items() if s != "not_selected"} == {
        "preprocess": "reused",
        "train": "succeeded",
        "evaluate": "succeeded",
    }


def test_use_case_3_a_failed_step_is_mended_and_resumed_with_all_after_it(project):
    path = project.root / "steps" / "evaluate.py"
    good = path.read_text()
    path.write_text("raise SystemExit('no')\n")
    assert project.runner("apply", "runs/full.yaml").code == 1
    assert project.statuses()["evaluate"] == "failed"
    path.write_text(good)
    assert project.runner("apply", "runs/retry-failed.yaml").code == 0
    assert project.statuses() == {
        "preprocess": "reused", "train": "reused", "evaluate": "succeeded", "mse-check": "succeeded",
        "register": "succeeded", "create-model": "succeeded", "fail-notify": "skipped",
    }  # fmt: skip


def test_use_case_3_what_failed_and_nothing_after_it(project):
    path = project.root / "steps" / "evaluate.py"
    good = path.read_text()
    path.write_text("raise SystemExit('no')\n")
    project.runner("apply", "runs/full.yaml")
    path.write_text(good)
    assert project.runner("apply", "runs/failed-only.yaml").code == 0
    assert {n: s for n, s in project.statuses().items() if s != "not_selected"} == {
        "preprocess": "reused",
        "train": "reused",
        "evaluate": "succeeded",
    }


def test_use_case_4_the_branch_that_hardly_ever_runs_ends_as_expected(project):
    answer = project.runner("apply", "runs/fail-branch.yaml")
    assert answer.code == 0
    assert "is above the threshold 0.001." in answer.out
    assert (project.record()["status"], project.statuses()["fail-notify"]) == ("failed", "failed")
    assert answer.out.splitlines()[-1].startswith("run failed, as expected, in N s")


def test_a_hole_is_refused_with_train_as_the_repair(project):
    path = project.root / "runs" / "hole.yaml"
    path.write_text("apiVersion: runner/v1\nkind: Run\npipeline: ../pipeline.yaml\nselect: [preprocess, evaluate]\n")
    answer = project.runner("apply", "runs/hole.yaml")
    assert str(answer) == (
        "runs/hole.yaml:4:10: error[E403]: the selection leaves a hole: preprocess -> train (not selected) -> evaluate\n"
        "    4 | select: [preprocess, evaluate]\n"
        "      |          ^\n"
        "      = help: add train: select: [preprocess, train, evaluate]\n"
        "        or run the parts one after another: [preprocess] then [evaluate]\n"
        "[exit 2]"
    )


def test_a_change_of_a_reused_steps_code_needs_a_decision(project):
    path = project.root / "steps" / "preprocess.py"
    path.write_text(path.read_text() + "# edited\n")
    answer = project.runner("apply", "runs/train-only.yaml")
    assert (answer.code, answer.out.splitlines()[0]) == (
        3,
        "NEEDS A DECISION  abalone: 1 reuse (1 stale), 1 run, 5 cut",
    )
    assert (
        "F201 preprocess would be reused, but it is stale: code steps/preprocess.py: DIGEST -> DIGEST.\n     select: [preprocess, train]\n"
        in answer.out
    )


def test_a_warm_and_a_cold_step_make_the_same_bytes(project):
    first = project.output("train", "model")
    pipeline = project.root / "pipeline.yaml"
    pipeline.write_text(
        pipeline.read_text().replace(
            "    code: [steps/train.py]", "    code: [steps/train.py]\n    env: {PYTHONUNBUFFERED: '1'}"
        )
    )
    assert project.runner("apply", "pipeline.yaml").code == 0
    assert project.output("train", "model") == first
