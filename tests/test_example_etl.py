"""The ETL example as a user would run it: extract, transform by SQL, check, load or refuse, notify."""

import re
import shutil
import sqlite3
import subprocess
import sys

import pytest

from tests.kit import Project
from tests.test_stories import ROOT, lived

EXAMPLE = ROOT / "pipelines/etl"
MINE = shutil.ignore_patterns("__pycache__", ".runner")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The example in a folder of its own, run whole once, one step at a time."""
    root = tmp_path_factory.mktemp("etl")
    shutil.copytree(EXAMPLE, root, dirs_exist_ok=True, ignore=MINE)
    (root / "runner.toml").write_text("[runner]\nworkers = 1\n")
    assert Project(root).runner("apply", "runs/full.yaml").code == 0
    return root


@pytest.fixture
def project(ran, tmp_path):
    """A copy of the example with its store, so that each test has its own past."""
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True, symlinks=True)
    return Project(tmp_path)


def rows(project, query):
    with sqlite3.connect(project.root / "warehouse.db") as warehouse:
        return warehouse.execute(query).fetchall()


def test_each_command_of_the_readme_says_what_is_written(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "pipelines/etl", ignore=MINE)
    (tmp_path / "runner.toml").write_text("[runner]\nworkers = 1\n")
    written = (EXAMPLE / "README.md").read_text()
    now = lived(written, tmp_path, ".")
    # How wide a column is depends on the times in it.
    assert re.sub(" +", " ", Project(tmp_path).plain(now)) == re.sub(" +", " ", Project(tmp_path).plain(written))


def test_the_files_are_those_that_make_writes(tmp_path):
    shutil.copy(EXAMPLE / "data/make.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True)
    made = {path.name: path.read_text() for path in tmp_path.glob("*.csv")}
    assert made == {path.name: path.read_text() for path in EXAMPLE.glob("data/*.csv")}


def test_the_whole_pipeline_loads_every_order_and_every_customer(project):
    assert project.statuses() == {
        "extract-customers": "succeeded", "extract-products": "succeeded", "extract-orders": "succeeded",
        "extract-items": "succeeded", "stage": "succeeded", "orders": "succeeded", "customers": "succeeded",
        "check": "succeeded", "quality": "succeeded", "load": "succeeded", "export": "succeeded", "refuse": "skipped",
        "notify": "succeeded",
    }  # fmt: skip
    assert rows(project, "SELECT count(*), sum(food_items + drink_items), sum(total_cents) FROM orders") == [
        (60, 116, 52350)
    ]
    assert rows(project, "SELECT kind, count(*), sum(orders) FROM customers GROUP BY kind ORDER BY kind") == [
        ("none", 3, 0),
        ("regular", 4, 24),
        ("returning", 13, 36),
    ]


def test_a_corrected_file_of_orders_leaves_the_other_tables_reused(project):
    answer = project.runner("apply", "runs/corrected-orders.yaml")
    assert answer.code == 0
    assert {step for step, status in project.statuses().items() if status == "reused"} == {
        "extract-customers",
        "extract-products",
        "extract-items",
    }
    assert rows(project, "SELECT order_id, customer_id FROM orders WHERE order_id IN ('o007', 'o031')") == [
        ("o007", "c19"),
        ("o031", "c20"),
    ]


def test_a_changed_value_of_one_transform_runs_from_there_on(project):
    answer = project.runner("apply", "runs/regulars.yaml")
    assert answer.code == 0
    assert project.statuses() == {
        "extract-customers": "not_selected", "extract-products": "not_selected", "extract-orders": "not_selected",
        "extract-items": "not_selected", "stage": "reused", "orders": "reused", "customers": "succeeded",
        "check": "succeeded", "quality": "succeeded", "load": "succeeded", "export": "succeeded", "refuse": "skipped",
        "notify": "succeeded",
    }  # fmt: skip
    assert rows(project, "SELECT count(*) FROM customers WHERE kind = 'regular'") == [(7,)]


def test_orders_that_break_rules_are_refused_and_the_warehouse_stays_as_it_was(project):
    before = (project.root / "warehouse.db").read_bytes()
    answer = project.runner("apply", "runs/broken-orders.yaml")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == (
        "run failed, as expected, in N s: 3 rows break a rule, 0 may; the report of check names them."
    )
    assert (project.root / "warehouse.db").read_bytes() == before
    assert (project.root / "notices.txt").read_text().splitlines()[-1] == "etl failed, 3 violations, 0 rows loaded"


def test_a_file_with_other_columns_fails_where_it_is_read_and_notify_tells(project):
    (project.root / "data/customers.csv").write_text("id,nam\nc01,Ada\n")
    answer = project.runner("apply", "runs/full.yaml")
    assert answer.code == 1
    assert (
        "  extract-customers: FAILED: it exited with 1\n"
        "    | customers.csv has the columns ['id', 'nam']; expected are ['id', 'name']\n"
    ) in answer.out
    assert (project.root / "notices.txt").read_text().splitlines()[-1] == "etl failed, -1 violations, 0 rows loaded"
