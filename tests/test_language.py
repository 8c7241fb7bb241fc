"""Both judges of the schemas agree: the fast one that decides, and the one that words the mistakes."""

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runner.language import SCHEMAS
from tests.test_bad_input import CASES

PIPELINE = SCHEMAS["pipeline"]()
KEYS = st.sampled_from(
    [
        "kind",
        "command",
        "script",
        "needs",
        "when",
        "outputs",
        "retry",
        "timeout",
        "cache",
        "if",
        "then",
        "message",
        "function",
        "nope",
        "env",
        "inputs",
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(["command", "shell", "condition", "fail", "a", "$(params.x)", "1h", "file", ""]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    steps=st.dictionaries(st.sampled_from(["a", "b-c", "9x"]), st.dictionaries(KEYS, VALUES, max_size=5), max_size=3)
)
def test_both_judges_agree_on_any_document(steps):
    document = {"apiVersion": "runner/v1", "kind": "Pipeline", "name": "p", "steps": steps}
    assert jsonschema_rs.validator_for(PIPELINE).is_valid(document) == Draft202012Validator(PIPELINE).is_valid(document)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_schemas_are_schemas(kind):
    Draft202012Validator.check_schema(SCHEMAS[kind]())


def test_both_judges_agree_on_the_bad_files():
    for name, text, _ in CASES:
        if name[0] in "AB" and name[:3] in ("A05", "A06", "A26", "B01", "B02"):
            document = yaml.safe_load(text)
            assert jsonschema_rs.validator_for(PIPELINE).is_valid(document) == Draft202012Validator(PIPELINE).is_valid(
                document
            ), name


def test_a_pattern_that_python_wonders_about_is_a_pattern(project):
    project.pipeline("""
        params: {s: {type: string, default: "[", pattern: "[[a]"}}
        steps: {a: {kind: command, command: [echo, "$(params.s)", "$(matches(params.s, '[[b]'))"]}}
    """)
    for command in ("validate", "plan", "apply"):
        answer = project.runner(command, "p.yaml")
        assert (answer.code, answer.err) == (0, "")
