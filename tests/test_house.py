"""The house: imports point one way, nothing heavy is loaded before it is needed, the schemas are those of the table."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner.language import SCHEMAS
from runner.planschema import plan_schema

ROOT = Path(runner.__file__).parent
# Each module imports only those above it, in functions too.
ORDER = [
    "__init__", "frozen", "errors", "values", "document", "language", "expression", "pipeline", "axes", "embed", "notebooks", "params", "scope", "compiler", "request", "graph", "select", "named", "fingerprint", "expand", "gate", "record",
    "reference", "force", "case", "lineage", "causes", "starts", "verdict", "decide", "results", "review", "plan", "planfile", "planschema", "amend", "estimate", "compare", "why", "schedule", "collect", "environments", "executors", "store", "steps", "sealing", "hints", "engine", "reading", "settings", "project", "unable", "caches", "compiled", "changes", "reporters", "app", "planning", "repair", "doctor", "settled", "shortage", "console", "session", "cli", "__main__",
]  # fmt: skip
PURE = ORDER[: ORDER.index("collect") + 1]


def modules():
    for path in sorted(p for p in ROOT.rglob("*.py") if "templates" not in p.relative_to(ROOT).parts):
        yield path, path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    """Yield the top-level rooms of the package that a module imports, nested and type-checking imports included."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) - (node.level - 1)]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            for name in names:
                yield (*above, *name.split("."))[0] if above or name in ORDER or "." in name else "__init__"


def test_every_module_has_its_place():
    assert {room for _, room in modules()} == set(ORDER)


def test_imports_point_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path, room in modules()
        for target in imported(path)
        if target != room and ORDER.index(target) > ORDER.index(room)
    ]
    assert wrong == []


def test_what_comes_before_the_effects_has_none():
    """The pure part imports nothing that starts processes, opens sockets or tells the time."""
    banned = {"subprocess", "socket", "threading", "time", "os", "sqlite3", "random", "datetime"}
    wrong = [
        f"{path.name} imports {alias.name}"
        for path, room in modules()
        if room in PURE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in banned
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        pytest.param(["--help"], {"yaml", "jsonschema", "jsonschema_rs", "sqlite3", "rich", "runner.app"}, id="help"),
        pytest.param(
            ["--version"], {"yaml", "jsonschema", "jsonschema_rs", "sqlite3", "rich", "runner.app"}, id="version"
        ),
        pytest.param(["validate", "pipelines/abalone/pipeline.yaml"], {"jsonschema", "sqlite3", "rich"}, id="validate"),
        pytest.param(["plan", "pipelines/abalone/pipeline.yaml"], {"jsonschema", "rich"}, id="plan"),
    ],
)
def test_a_command_imports_only_what_it_needs(command, heavy):
    code = f"import sys; from runner.cli import run; run({command!r}); print(*sorted(set(sys.modules) & {heavy!r}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_schema_files_are_those_of_the_table(kind):
    assert json.loads((ROOT.parent / f"schemas/{kind}.schema.json").read_text()) == SCHEMAS[kind]()


def test_the_schema_file_of_plans_is_that_of_the_code():
    assert json.loads((ROOT.parent / "schemas/plan.schema.json").read_text()) == plan_schema()


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_2020_12_with_closed_branches_and_no_alternatives(kind):
    text = (ROOT.parent / f"schemas/{kind}.schema.json").read_text()
    schema = json.loads(text)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert ("anyOf" in text, "oneOf" in text, "unevaluatedProperties" in text) == (False, False, False)


def test_the_metadata_asks_for_what_was_asked_for():
    text = (ROOT.parent / "setup.cfg").read_text()
    assert all(name in text for name in ("pyyaml", "jsonschema", "graphlib-backport", "click", "pytest"))


def test_no_file_speaks_of_where_it_was_made():
    words = ["/" + "work/main", "/tmp/" + "venv", "py" + "pi.org"]
    text = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT.parent, capture_output=True, text=True).stdout
    paths = [p for p in text.split("\0") if p.endswith((".py", ".md", ".yaml", ".cfg", ".toml"))]
    assert [p for p in paths if any(w in (ROOT.parent / p).read_text() for w in words)] == []
