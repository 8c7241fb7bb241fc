"""The release example as a user would run it: train, judge, register, serve in staging, ask a person, serve to everybody."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.kit import Project
from tests.test_stories import ROOT, lived

EXAMPLE = ROOT / "pipelines/release"
MINE = shutil.ignore_patterns("__pycache__", ".runner", "served")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The example in a folder of its own, run up to the question."""
    root = tmp_path_factory.mktemp("release")
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True, ignore=MINE)
    (root / "runner.toml").write_text("[runner]\nworkers = 1\n")
    assert Project(root).runner("apply", "runs/full.yaml").code == 7
    return root


@pytest.fixture
def project(ran, tmp_path):
    """A copy of the example with its store, so that each test has its own past."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Project(tmp_path)


def anybody(text):
    """The text without the login name of who answered."""
    return re.sub(r"(approved|rejected) by [^\s:]+", r"\1 by ada", text)


def served(project):
    """Which version each stage serves."""
    return {path.stem: json.loads(path.read_text())["version"] for path in sorted(project.root.glob("served/*.json"))}


def test_each_command_of_the_readme_says_what_is_written(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "pipelines/release", ignore=MINE)
    (tmp_path / "runner.toml").write_text("[runner]\nworkers = 1\n")
    written = (EXAMPLE / "README.md").read_text()
    now = anybody(lived(written, tmp_path, "."))
    # How wide a column is depends on the times in it.
    assert re.sub(" +", " ", Project(tmp_path).plain(now)) == re.sub(" +", " ", Project(tmp_path).plain(written))


def test_the_subscribers_are_those_that_make_writes(tmp_path):
    shutil.copy(EXAMPLE / "data/make.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True)
    assert (tmp_path / "subscribers.csv").read_text() == (EXAMPLE / "data/subscribers.csv").read_text()


def test_until_somebody_answers_only_staging_is_served(project):
    assert served(project) == {"staging": 1}
    assert project.statuses() == {
        "split": "succeeded", "train": "succeeded", "evaluate": "succeeded", "good-enough": "succeeded",
        "register": "succeeded", "deploy-staging": "succeeded", "smoke-test": "succeeded", "approve": "waiting",
        "deploy-production": "pending", "refuse": "skipped",
    }  # fmt: skip


def test_an_approved_version_is_served_to_everybody(project):
    run = project.record()["run"]
    assert project.runner("approve", run, "approve", "--comment", "yes").code == 0
    assert anybody(str(project.runner("resume", run))) == (
        "\n"
        "  approve: ok, approved by ada: yes\n"
        "  deploy-production: started\n"
        "  deploy-production: ok in N s\n"
        "run succeeded in N s\n"
        "[exit 0]"
    )
    assert served(project) == {"production": 1, "staging": 1}


def test_a_rejected_version_fails_the_run_and_is_not_served(project):
    run = project.record()["run"]
    assert project.runner("reject", run, "approve", "--comment", "no").code == 0
    assert anybody(str(project.runner("resume", run))) == (
        "\n"
        "  approve: FAILED: rejected by ada: no\n"
        "  deploy-production: not run: approve failed\n"
        "run failed in N s: approve: rejected by ada: no\n"
        "[exit 1]"
    )
    assert served(project) == {"staging": 1}


def test_the_approved_version_is_served_again_without_asking(project):
    run = project.record()["run"]
    project.runner("approve", run, "approve")
    project.runner("resume", run)
    (project.root / "served/production.json").unlink()
    assert project.runner("apply", "runs/serve-again.yaml").code == 0
    assert {step: status for step, status in project.statuses().items() if status in ("reused", "succeeded")} == {
        "train": "reused",
        "register": "reused",
        "approve": "reused",
        "deploy-production": "succeeded",
    }
    assert served(project) == {"production": 1, "staging": 1}


def test_a_model_that_is_not_good_enough_is_neither_registered_nor_served(project):
    (project.root / "served/staging.json").unlink()
    answer = project.runner("apply", "pipeline.yaml", "-p", "min_accuracy=90", "-p", "rounds=60")
    assert (answer.code, answer.out.splitlines()[-1]) == (
        1,
        "run failed in N s: Right in 85 of 100 cases; 90 are needed, and more than 58.",
    )
    assert served(project) == {}
    assert [version["version"] for version in json.loads(project.runner("models", "-o", "json").raw)] == [1]
