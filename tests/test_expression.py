"""Expressions: what they mean, what type they have, where a mistake is."""

import pytest

from runner import expression
from runner.expression import BOOLEAN, INTEGER, STRING, EvaluationError, ExpressionError, Type

TYPES = {
    "n": INTEGER,
    "x": Type("number"),
    "s": STRING,
    "b": BOOLEAN,
    "f": Type("file"),
    "l": Type("list", INTEGER),
    "o": Type("object"),
    "m": Type("number", None, True),
}
VALUES = {"n": 3, "x": 2.5, "s": "text", "b": True, "l": [1, 2, 3], "o": {"a": 1}, "m": None}


def scope(ref):
    return TYPES[ref.path[1]]


def evaluate(text):
    template = expression.parse(f"$({text})")
    expression.check(template.exact, scope)
    return expression.evaluate(template.exact, lambda ref: VALUES[ref.path[1]], lambda artifact: {"a": {"b": 4}})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("7 / 2", 3.5), ("7 % 4", 3), ("-params.n", -3), ("1 < 2 and not false", True),
        ("params.n == 3.0", True), ("params.s == 'text'", True), ("'x' in ['x', 'y']", True), ("2 not in params.l", False),
        ("params.l[0]", 1), ("len(params.l)", 3), ("string(2.0)", "2"), ("integer('12')", 12), ("number('1.5')", 1.5), ("boolean('true')", True),
        ("join(['a', 'b'], '-')", "a-b"), ("lower('AB')", "ab"), ("starts_with('abc', 'ab')", True), ("matches('abc', 'a.c')", True),
        ("min(params.l)", 1), ("max(1, 2.5)", 2.5), ("sum(params.l)", 6), ("round(2.567, 1)", 2.6), ("coalesce(params.m, 7)", 7),
        ("default(params.m, 8)", 8), ("if(params.b, 'yes', 'no')", "yes"), ("basename('a/b.csv')", "b.csv"),
    ],
)  # fmt: skip
def test_an_expression_means(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("1 + ", "expected a value, found the end of the expression", 6),
        ("1 = 2", "unexpected character '='", 4),
        ("1 < 2 < 3", "comparisons do not chain; join them with `and`", 8),
        ("params.s + 'x'", None, None),
        ("params.f <= 1", None, None),
        ("params.s == 1", None, None),
        ("params.m > 1", None, None),
        ("nofunc(1)", None, None),
        ("len(1)", None, None),
        ("if(1, 2, 3)", None, None),
    ],
)
def test_a_mistake_is_told_where_it_is(text, message, at):
    with pytest.raises(ExpressionError) as error:
        evaluate(text)
    assert message is None or (error.value.text, error.value.offset) == (message, at)


@pytest.mark.parametrize("text", ["1 / 0", "1 % 0", "integer('x')", "params.l[9]", "json(params.f, '/nope')"])
def test_a_value_that_is_not_there_is_an_evaluation_error(text):
    VALUES["f"] = expression.__name__
    with pytest.raises(EvaluationError):
        evaluate(text)


def test_two_dollars_are_a_literal():
    template = expression.parse("a $$(b) $(params.n)")
    assert template.parts[0] == "a $(b) "


def test_a_text_that_is_one_expression_keeps_its_type_and_any_other_is_text():
    assert (expression.parse("$(params.n)").exact is not None, expression.parse(" $(params.n)").exact) == (True, None)


@pytest.mark.parametrize(
    "name",
    [
        "params.x",
        "steps.a.outputs.o",
        "steps.a-b.outputs.c_d",
        "each.n",
        "inputs.not",
        "outputs.true",
        "steps.a.best.each.n",
    ],
)
def test_a_reference_alone_is_read_as_within_an_expression(name):
    alone, within = expression.parse(f"$({name})").exact, expression.parse(f"$({name} )").exact
    assert alone == within


@pytest.mark.parametrize(
    "text", ["$(params.a-)", "$(params.)", "$(steps.5)", "$(params.x", "$(params..x)", "$(each.ä)"]
)
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(ExpressionError):
        expression.parse(text)
