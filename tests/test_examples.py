"""docs/examples.md: every example runs and ends as written, and together they use every field of the language."""

import json
import re
from pathlib import Path

import pytest
import yaml

import runner
from runner.language import COMMON, PROCESS, SCHEMAS
from runner.reporters.fields import objects
from tests.kit import Project

ROOT = Path(runner.__file__).parent.parent
TEXT = (ROOT / "docs/examples.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S))
BLOCK = re.compile(r"```(\w+)\n(.*?)```\n", re.S)


@pytest.mark.parametrize("title", SECTIONS)
def test_an_example_ends_as_it_says(project: Project, title):
    for language, body in BLOCK.findall(SECTIONS[title]):
        if language == "console":
            for command, code in re.findall(r"^\$ runner (.+)\nexit (\d+)$", body, re.M):
                words = re.findall(r'"[^"]*"|\S+', command.replace("RUN", _newest(project)))
                answer = project.runner(*(word.strip('"') for word in words))
                assert (command, answer.code, answer.err if answer.code != int(code) else "") == (
                    command,
                    int(code),
                    "",
                )
        else:
            name, content = body.split("\n", 1)
            path = project.root / name.removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)


def _newest(project):
    runs = json.loads(project.runner("runs", "-o", "json").raw)
    return runs[0]["run"] if runs else "RUN"


def test_the_examples_use_every_field():
    documents = [yaml.safe_load(body) for language, body in BLOCK.findall(TEXT) if language == "yaml"]
    used = {field for document in documents for field in _used(SCHEMAS[document["kind"].lower()](), document)}
    used.add(("Run", "accept"))  # written by `plan --accept -w`
    used |= {("accept", name) for name in ("step", "reason", "cause")}
    there = {field for make in SCHEMAS.values() for title, found in objects(make()) for field in _named(title, found)}
    assert sorted(there - used) == []


def _named(title, found):
    """Fields under the name of their object; those that all steps or all runtimes share count once."""
    shared = {"step": {**COMMON, **PROCESS}, "runtime": {"inherit_env", "preload"}}
    owner = title.rpartition(" ")[2]
    return {(owner if n in shared.get(owner, ()) else title, n) for n in found["properties"]}


def _used(schema, value, root=None):
    root = root or schema
    if "$ref" in schema:
        yield from _used(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    for branch in schema.get("allOf", ()):
        wanted = branch.get("if", {}).get("properties", {}).get("kind", {}).get("const")
        if wanted is not None and isinstance(value, dict) and value.get("kind") == wanted:
            yield from _used(branch["then"], value, root)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        named = dict(
            _named(schema.get("title", ""), {"properties": {n: None}}).pop()[::-1] for n in value if n in known
        )
        yield from ((title, name) for name, title in named.items())
        for name, inner in value.items():
            more = known.get(name, schema.get("additionalProperties"))
            if isinstance(more, dict):
                yield from _used(more, inner, root)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            yield from _used(schema["items"], item, root)


def test_the_reference_of_fields_is_what_the_program_prints(project):
    assert project.runner("schema", "--fields").raw == (ROOT / "docs/fields.md").read_text()
