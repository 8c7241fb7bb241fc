"""`runner init`: the project that it makes is right, runs whole and in part, and nothing that was there is lost."""

import re
import shlex
from pathlib import Path

import pytest

import runner
from tests.kit import Project

SCHEMAS = Path(runner.__file__).parent.parent / "schemas"
FILES = [
    "runner.toml",
    ".gitignore",
    "pipelines/hello/pipeline.yaml",
    "pipelines/hello/runs/full.yaml",
    "pipelines/hello/runs/summary-only.yaml",
    "pipelines/hello/steps/clean.py",
    "pipelines/hello/steps/average.py",
    "pipelines/hello/steps/summary.py",
    "pipelines/hello/data/temperatures.csv",
    "schemas/pipeline.schema.json",
    "schemas/run.schema.json",
    "schemas/plan.schema.json",
]
NEXT = """
Try next:
  runner apply pipelines/hello/runs/full.yaml
  runner apply pipelines/hello/runs/summary-only.yaml
[exit 0]"""


@pytest.fixture
def empty(project: Project) -> Project:
    """A folder that holds nothing."""
    (project.root / "runner.toml").unlink()
    return project


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def test_the_project_is_right_and_runs_whole_and_in_part(empty):
    assert str(empty.runner("init")) == "\n".join(FILES) + "\n" + NEXT
    assert files(empty.root) == sorted(FILES)
    assert str(empty.runner("validate", *(f for f in FILES if f.endswith(".yaml")))) == "3 files are right\n[exit 0]"
    assert str(empty.runner("apply", "pipelines/hello/runs/full.yaml")) == (
        "READY  hello: 3 run\n"
        "\n"
        "  run     clean    nothing stored has its fingerprint\n"
        "  run     average  input from clean   may end cached\n"
        "  run     summary  input from clean, average   may end cached\n"
        "\n"
        "plan sha256:DIGEST\n"
        "\n"
        "run R1 of hello\n"
        "  clean: started\n"
        "  clean: ok in N s\n"
        "  average: started\n"
        "  average: ok in N s, celsius 15.75\n"
        "  summary: started\n"
        "  summary: ok in N s\n"
        "run succeeded in N s\n"
        "[exit 0]"
    )
    assert empty.output("summary", "text") == b"15.8 celsius on average in Oslo, Lima, Delhi, Quito\n"
    assert str(empty.runner("apply", "pipelines/hello/runs/summary-only.yaml")) == (
        "READY  hello: 2 reuse, 1 run\n"
        "reference  R1, succeeded   (latest with a usable clean, average)\n"
        "\n"
        "  reuse   clean    from R1\n"
        "  reuse   average  from R1\n"
        "  run     summary  selected; param unit: celsius -> fahrenheit\n"
        "\n"
        "params   unit celsius -> fahrenheit   effective   read by summary\n"
        "\n"
        "plan sha256:DIGEST\n"
        "\n"
        "run R2 of hello, reference R1\n"
        "  clean: reused, from R1\n"
        "  average: reused, from R1\n"
        "  summary: started\n"
        "  summary: ok in N s\n"
        "run succeeded in N s\n"
        "[exit 0]"
    )
    assert empty.output("summary", "text") == b"60.4 fahrenheit on average in Oslo, Lima, Delhi, Quito\n"


def test_what_the_comments_of_the_requests_say_is_true(empty):
    assert empty.runner("init").code == 0
    full = "pipelines/hello/runs/full.yaml"
    assert empty.runner("apply", full).code == 0
    assert empty.runner("apply", full).out == ("nothing to do: run R1 has done this already (--again runs it anew)\n")
    assert empty.runner("logs", empty.record()["run"], "summary").out == (
        "15.8 celsius on average in Oslo, Lima, Delhi, Quito\n"
    )
    with open(empty.root / "pipelines/hello/steps/clean.py", "a") as file:
        file.write("# changed\n")
    answer = empty.runner("plan", "pipelines/hello/runs/summary-only.yaml")
    assert (answer.code, answer.out.split("\n")[0]) == (3, "NEEDS A DECISION  hello: 2 reuse (2 stale), 1 run")


def test_each_yaml_file_begins_with_a_line_that_leads_an_editor_to_the_schema_of_this_version(empty):
    assert empty.runner("init").code == 0
    lines = {f: (empty.root / f).read_text().split("\n")[0] for f in FILES if f.endswith(".yaml")}
    named = {f: (empty.root / f).parent / re.sub(r"^# yaml-language-server: \$schema=", "", lines[f]) for f in lines}
    assert {f: path.read_text() for f, path in named.items()} == {
        "pipelines/hello/pipeline.yaml": (SCHEMAS / "pipeline.schema.json").read_text(),
        "pipelines/hello/runs/full.yaml": (SCHEMAS / "run.schema.json").read_text(),
        "pipelines/hello/runs/summary-only.yaml": (SCHEMAS / "run.schema.json").read_text(),
    }


def test_a_second_init_says_that_all_is_there(empty):
    assert empty.runner("init").code == 0
    assert str(empty.runner("init")) == "".join(f"{f} is there already, unchanged\n" for f in FILES) + NEXT


def test_what_is_missing_is_made_again(empty):
    assert empty.runner("init").code == 0
    (empty.root / ".gitignore").unlink()
    said = "".join(f"{f} is there already, unchanged\n" for f in FILES)
    said = said.replace(".gitignore is there already, unchanged\n", ".gitignore\n")
    assert str(empty.runner("init")) == said + NEXT


def test_a_folder_is_made_and_the_commands_lead_into_it(empty):
    answer = empty.runner("init", "new/my project")
    assert str(answer) == "".join(f"new/my project/{f}\n" for f in FILES) + (
        "\nTry next:\n"
        "  runner apply 'new/my project/pipelines/hello/runs/full.yaml'\n"
        "  runner apply 'new/my project/pipelines/hello/runs/summary-only.yaml'\n"
        "[exit 0]"
    )
    commands = [shlex.split(line)[1:] for line in answer.raw.split("\n") if line.startswith("  runner ")]
    assert [empty.runner(*command).code for command in commands] == [0, 0]
    assert (empty.root / "new/my project/.runner").is_dir()


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        pytest.param(
            lambda root: (root / ".gitignore").write_text("mine\n"),
            ".gitignore is there already and is different",
            id="another text",
        ),
        pytest.param(
            lambda root: [(root / name).write_text("") for name in (".gitignore", "runner.toml")],
            "runner.toml, .gitignore are there already and are different",
            id="two files",
        ),
        pytest.param(
            lambda root: (root / ".gitignore").mkdir(), ".gitignore is there already and is different", id="a folder"
        ),
        pytest.param(
            lambda root: (root / ".gitignore").symlink_to("nowhere"),
            ".gitignore is there already and is different",
            id="a link to nothing",
        ),
        pytest.param(
            lambda root: (root / "schemas").write_text(""),
            "schemas/pipeline.schema.json, schemas/run.schema.json, schemas/plan.schema.json are there already and are different",
            id="a file for a folder",
        ),
    ],
)
def test_where_something_else_is_there_nothing_is_written(empty, prepare, said):
    prepare(empty.root)
    before = sorted(empty.root.rglob("*"))
    assert str(empty.runner("init")) == (
        f"error: {said}\n  = help: nothing was written; move it away to have the template\n[exit 2]"
    )
    assert sorted(empty.root.rglob("*")) == before


def test_a_review_workflow_takes_no_folder(empty):
    assert str(empty.runner("init", "demo", "--ci", "github")) == (
        "Usage: runner init [OPTIONS] [DIR]\n"
        "Try 'runner init --help' for help.\n"
        "\n"
        "Error: --ci writes into the repository that the current folder is in; leave DIR out\n"
        "[exit 2]"
    )
    assert files(empty.root) == []
