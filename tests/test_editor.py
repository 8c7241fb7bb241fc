"""What an editor with the YAML language server shows of our files, by the schemas alone: mistakes, fields, texts.

`«…»` marks what is underlined, `|` where the cursor is. Skipped where yaml-language-server is not installed.
"""

import json
import re
from pathlib import Path

import pytest

import runner
from runner.language import KINDS, pipeline_schema
from tests.kit import Project
from tests.lsp import Editor, find_server, place

ROOT = Path(runner.__file__).parent.parent
FOLDER = ROOT / "pipelines/abalone"  # the texts of this file are opened here, beside the example
LINE = "# yaml-language-server: $schema=../../schemas/{}.schema.json\n"
PIPELINE = LINE.format("pipeline") + "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"
RUN = LINE.format("run") + "apiVersion: runner/v1\nkind: Run\npipeline: pipeline.yaml\n"
SNIPPETS = [f"{kind} step" for kind in KINDS]
BRANCHES = pipeline_schema()["$defs"]


@pytest.fixture(scope="module")
def editor():
    program = find_server(ROOT)
    if program is None:
        pytest.skip("yaml-language-server is not installed")
    opened = Editor(program)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            PIPELINE + "steps:\n  a:\n    kind: command\n    command: [python, a.py]\n    «retries»: 3\n",
            "Property retries is not allowed.",
            id="a field that there is not",
        ),
        pytest.param(
            PIPELINE
            + "steps:\n  a: {kind: shell, script: echo}\n  b: {kind: shell, script: echo, «depends_on»: [a]}\n",
            "Property depends_on is not allowed.",
            id="a field of other tools",
        ),
        pytest.param(
            PIPELINE + "steps:\n  «a»:\n    kind: command\n    code: [a.py]\n",
            'Missing property "command".',
            id="no command",
        ),
        pytest.param(
            PIPELINE + "steps:\n  a:\n    kind: command\n    command: «python a.py»\n",
            "a list is needed, one element for each argument: [python, steps/step.py]",
            id="a command as one text",
        ),
        pytest.param(
            PIPELINE + "steps:\n  a: «shell»\n",
            'Incorrect type. Expected "step".',
            id="a step that is no mapping",
        ),
        pytest.param(
            PIPELINE + "steps:\n  a:\n    kind: «bash»\n    script: echo\n",
            f"Value is not accepted. Valid values: {', '.join(json.dumps(kind) for kind in KINDS)}.",
            id="a kind that there is not",
        ),
        pytest.param(
            PIPELINE + "steps:\n  a:\n    kind: shell\n    script: echo\n    timeout: «1:30»\n",
            "a duration is 500ms, 30s, 10m, 2h, 7d, 1w or ISO 8601 (PT30M)",
            id="a duration like a clock",
        ),
        pytest.param(
            PIPELINE + "steps:\n  a:\n    kind: shell\n    script: echo\n    trigger: «always»\n",
            'Value is not accepted. Valid values: "all_succeeded", "none_failed", "all_done".',
            id="a trigger that there is not",
        ),
        pytest.param(
            PIPELINE + "steps:\n  «train model»:\n    kind: shell\n    script: echo\n",
            "a name starts with a letter and holds letters, digits, `_` and single `-`",
            id="a blank in a name",
        ),
        pytest.param(
            PIPELINE + "steps:\n  a:\n    kind: shell\n    script: echo\n    retry: {max_attempts: «0»}\n",
            "Value is below the minimum of 1.",
            id="no attempt at all",
        ),
        pytest.param(
            PIPELINE + "«schedule»: daily\nsteps:\n  a: {kind: shell, script: echo}\n",
            "Property schedule is not allowed.",
            id="a field of the document that there is not",
        ),
        pytest.param(
            RUN + "select: «train»\n",
            "a list of selectors is needed: [name, name]",
            id="a selection that is no list",
        ),
        pytest.param(
            RUN + "select: [train]\n«parameters»: {xgb_eta: 0.3}\n",
            "Property parameters is not allowed.",
            id="a field of a request that there is not",
        ),
    ],
)
def test_a_mistake_is_underlined_where_it_is(editor, text, message):
    before, wrong, after = re.split("[«»]", text)
    assert editor.underlined(before + wrong + after, FOLDER) == [
        ({"start": place(before), "end": place(before + wrong)}, message)
    ]


def test_the_examples_and_a_new_project_are_shown_without_a_mistake(editor, project):
    assert project.runner("init", "new").code == 0
    paths = [*ROOT.glob("pipelines/**/*.yaml"), *project.root.glob("new/pipelines/**/*.yaml")]
    assert {path: editor.underlined(path.read_text(), path.parent) for path in paths} == {path: [] for path in paths}


def test_a_file_of_a_new_project_has_its_schema(editor, project: Project):
    """No mistake is shown without a schema, too."""
    assert project.runner("init", "new").code == 0
    requests = project.root / "new/pipelines/hello/runs"
    before, after = (requests / "full.yaml").read_text().split("pipeline:")
    assert editor.hovered(before + "pipeline:" + after, place(before), requests) == (
        "#### Run\n\nThe pipeline's file, relative to this one."
    )


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("steps: {x: {kind: |", list(KINDS), id="kinds, while a flow mapping is typed"),
        pytest.param("steps:\n  x:\n    kind: |\n", list(KINDS), id="kinds"),
        pytest.param("steps:\n  x:\n    |\n", [*SNIPPETS, "kind", "step"], id="whole steps and the first field"),
        pytest.param(
            "steps:\n  x:\n    kind: shell\n    trigger: |\n",
            ["all_succeeded", "none_failed", "all_done"],
            id="values of a field",
        ),
    ],
)
def test_what_fits_is_offered(editor, text, labels):
    before, after = (PIPELINE + text).split("|")
    assert [item["label"] for item in editor.offered(before + after, place(before), FOLDER)] == labels


def test_a_whole_step_is_put_in_with_the_fields_that_it_needs(editor):
    before = PIPELINE + "steps:\n  x:\n    "
    texts = {item["label"]: item["insertText"] for item in editor.offered(before + "\n", place(before), FOLDER)}
    assert {label: texts[label] for label in ("command step", "condition step", "fail step")} == {
        "command step": "kind: command\ncommand:\n  - ${1:python}\n  - ${2:steps/step.py}\n"
        "code:\n  - ${2:steps/step.py}\noutputs:\n  ${3:result}:\n    type: file",
        "condition step": "kind: condition\nif: \\$(${1:params.x} <= ${2:1})\nthen:\n  - ${3:step}",
        "fail step": "kind: fail\nmessage: ${1:what went wrong}",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_offered_the_fields_of_its_kind_and_no_others(editor, kind):
    before = f"{PIPELINE}steps:\n  x:\n    kind: {kind}\n    "
    offered = [item["label"] for item in editor.offered(before + "\n", place(before), FOLDER)]
    offered.remove(f"{kind} step")  # all that is required, in one
    assert ["kind", *offered] == list(BRANCHES[f"step_{kind}"]["properties"])


def test_a_number_is_put_in_that_is_allowed(editor):
    offered = editor.offered(PIPELINE, place(PIPELINE), FOLDER)
    assert [item["insertText"] for item in offered if item["label"] == "max_parallel"] == ["max_parallel: ${1:1}"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param(
            "steps:\n  x:\n    kind: shell\n    script: echo\n    ca|che: false\n",
            "#### cache\n\nWhether an earlier equal success may stand for this step.",
            id="cache",
        ),
        pytest.param(
            "steps:\n  x:\n    ki|nd: command\n    command: [echo]\n",
            "#### step\n\nWhat the step is.\n\nAllowed Values:\n\n"
            + "".join(f"* `{kind}`: {entry[-1]}\n" for kind, entry in KINDS.items()),
            id="kind",
        ),
        pytest.param(
            "steps:\n  |x:\n    kind: shell\n    script: echo\n",
            "#### step\n\nRuns a script with bash -euo pipefail.",
            id="the name of a step",
        ),
    ],
)
def test_what_a_field_means_is_shown_on_hover(editor, text, shown):
    before, after = (PIPELINE + text).split("|")
    assert editor.hovered(before + after, place(before), FOLDER) == shown
