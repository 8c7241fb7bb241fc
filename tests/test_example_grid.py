"""The grid example as a user would run it: a pipeline for each point of a grid, a step for each fold, two reduces."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.kit import Project
from tests.test_stories import ROOT, lived

EXAMPLE = ROOT / "pipelines/grid"
MINE = shutil.ignore_patterns("__pycache__", ".runner")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The example in a folder of its own, run whole once."""
    root = tmp_path_factory.mktemp("grid")
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True, ignore=MINE)
    (root / "runner.toml").write_text("[runner]\nworkers = 1\n")
    assert Project(root).runner("apply", "runs/full.yaml").code == 0
    return root


@pytest.fixture
def project(ran, tmp_path):
    """A copy of the example with its store, so that each test has its own past."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Project(tmp_path)


def having(project, status):
    """The steps of the newest run that ended so."""
    return [step for step, ended in project.statuses().items() if ended == status]


def point(neighbours, distance):
    """The steps of one point of the grid, in the order in which they end."""
    name = f"point[neighbours={neighbours},distance={distance}]"
    return [*(f"{name}/fold[fold={n}]" for n in (1, 2, 3)), f"{name}/fold", f"{name}/total", name]


def test_each_command_of_the_readme_says_what_is_written(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "pipelines/grid", ignore=MINE)
    (tmp_path / "runner.toml").write_text("[runner]\nworkers = 1\n")
    written = (EXAMPLE / "README.md").read_text()
    now = lived(written, tmp_path, ".")
    # How wide a column is depends on the times in it.
    assert re.sub(" +", " ", Project(tmp_path).plain(now)) == re.sub(" +", " ", Project(tmp_path).plain(written))


def test_the_leaves_are_those_that_make_writes(tmp_path):
    shutil.copy(EXAMPLE / "data/make.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True)
    assert (tmp_path / "leaves.csv").read_text() == (EXAMPLE / "data/leaves.csv").read_text()


def test_all_points_are_in_one_table_the_best_first(project):
    assert project.output("report", "table").decode() == (
        "neighbours  distance  wrong\n"
        "         7  city         28\n"
        "         3  crow         29\n"
        "         3  city         32\n"
        "         7  crow         32\n"
        "         1  city         34\n"
        "         1  crow         37\n"
    )


def test_one_more_value_of_an_axis_runs_the_new_points_and_what_reads_all(project):
    answer = project.runner("apply", "runs/one-more-value.yaml")
    assert (answer.code, answer.out.splitlines()[-4:]) == (
        0,
        ["run succeeded in N s", "  neighbours = 15", "  distance = city", "  wrong = 6"],
    )
    assert sorted(having(project, "succeeded")) == sorted(
        [*point(15, "city"), *point(15, "crow"), "point", "report", "test"]
    )


def test_one_point_runs_anew_and_nothing_else(project):
    assert project.runner("apply", "runs/one-point.yaml").code == 0
    assert (having(project, "succeeded"), having(project, "reused")) == (point(3, "city"), ["split"])


def test_the_reduce_alone_reuses_every_point(project):
    (project.root / "steps/report.py").write_text((project.root / "steps/report.py").read_text() + "# edited\n")
    assert project.runner("apply", "runs/report-only.yaml").code == 0
    assert (having(project, "succeeded"), having(project, "reused")) == (["report"], ["point"])


def test_a_fold_that_failed_is_retried_with_what_never_ran_and_the_finished_points_are_reused(project):
    path = project.root / "steps/neighbours.py"
    good = path.read_text()
    spoilt = "    if (fold, neighbours, distance) == (2, 3, 'crow'):\n        raise SystemExit('a bad fold')\n"
    path.write_text(good.replace("    held =", spoilt + "    held ="))
    assert project.runner("apply", "runs/full.yaml").code == 1
    failed = project.record()["run"]
    assert having(project, "failed") == ["point[neighbours=3,distance=crow]/fold[fold=2]"]
    path.write_text(good)
    assert project.runner("retry", failed).code == 0
    assert having(project, "reused") == [
        "split", "point[neighbours=1,distance=city]", "point[neighbours=1,distance=crow]",
        "point[neighbours=3,distance=city]", "point[neighbours=3,distance=crow]/fold[fold=1]",
    ]  # fmt: skip
    assert sorted(having(project, "succeeded")) == sorted(
        [*point(3, "crow")[1:], *point(7, "city"), *point(7, "crow"), "point", "report", "test"]
    )
