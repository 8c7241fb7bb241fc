"""The documents say what the program does: every field has its place, every example is right, every output is real."""

import re
from pathlib import Path

import pytest

import runner
from runner.cli import COMMANDS
from runner.language import SCHEMAS
from tests.kit import Project

ROOT = Path(runner.__file__).parent.parent
LANGUAGE = (ROOT / "docs/language.md").read_text()


def fields(schema):
    """Every field name of a schema, however deep."""
    for key, value in schema.items():
        if key == "properties":
            yield from value
        if isinstance(value, dict):
            yield from fields(value)
        if isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    yield from fields(item)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_is_in_the_reference(kind):
    assert [
        f for f in sorted(set(fields(SCHEMAS[kind]()))) if f"`{f}`" not in LANGUAGE and f"`{f}:" not in LANGUAGE
    ] == []


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [c for c in COMMANDS if c not in text] == []


def test_every_example_has_the_editor_line_and_is_right():
    paths = [*ROOT.glob("pipelines/*/pipeline.yaml"), *ROOT.glob("pipelines/*/runs/*.yaml")]
    assert [p.name for p in paths if not p.read_text().startswith("# yaml-language-server: $schema=../../")] == []
    project = Project.__new__(Project)
    project.root, project.ids = ROOT, {}
    assert str(project.runner("validate", *map(str, paths))) == f"{len(paths)} files are right\n[exit 0]"


def test_the_readme_names_both_commands_on_one_line_each():
    lines = re.findall(r"^    (python3 -m venv .*)$", (ROOT / "README.md").read_text(), re.M)
    assert [line.split(" && ")[-1] for line in lines] == [
        ".venv/bin/runner apply pipelines/abalone/runs/full.yaml",
        ".venv/bin/python -m pytest",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_ends_with_the_exit_codes(command, project):
    said = project.runner(command, "--help").out
    assert f"runner {command}" in said.split("Options:")[0].replace("Usage: runner", "")
    assert command == "store" or "Exit codes: 0 fine" in said.replace("\n  ", " ")
