"""Selectors: what each means, and which selections are refused. Graphs are drawn: `a > b; a > c`."""

import itertools

import pytest

from runner.graph import Graph
from runner.select import Facts, SelectorError, select
from tests.kit import chain, drawn, pipeline, selected

DIAMOND = "a > b > d; a > c > d"
ABALONE = (
    "preprocess > train > evaluate > mse-check > register; preprocess > evaluate; mse-check > create-model;"
    "mse-check > fail-notify; train > register; train > create-model; evaluate > register; evaluate > fail-notify"
)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        pytest.param("b", "b", id="a name"),
        pytest.param("?", "a b c d", id="a glob"),
        pytest.param("*", "a b c d", id="a glob of all"),
        pytest.param("all", "a b c d", id="all"),
        pytest.param("roots", "a", id="roots"),
        pytest.param("leaves", "d", id="leaves"),
        pytest.param("b+", "b d", id="a step and all after it"),
        pytest.param("+b", "a b", id="a step and all before it"),
        pytest.param("1+d", "b c d", id="one edge up"),
        pytest.param("a+1", "a b c", id="one edge down"),
        pytest.param("1+b+1", "a b d", id="both"),
        pytest.param("a .. d", "a b c d", id="a range has all between"),
        pytest.param("a..b", "a b", id="a range without blanks"),
        pytest.param("not b", "a c d", id="not"),
        pytest.param("b or c", "b c", id="or"),
        pytest.param("b+ and c+", "d", id="and"),
        pytest.param("(a or b) and not a", "b", id="parentheses"),
        pytest.param("kind:command", "a b c d", id="by kind"),
    ],
)
def test_a_selector_means(text, steps):
    assert selected(text, DIAMOND) == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("e", "no step `e`", id="unknown step"),
        pytest.param("x*", "no step matches `x*`", id="glob that matches nothing"),
        pytest.param("d .. a", "no path leads from d to a", id="range the wrong way"),
        pytest.param("a or b and c", "`and` and `or` are mixed without parentheses", id="mixed"),
        pytest.param("(a", "expected `)`, found the end", id="open parenthesis"),
        pytest.param("a b", "expected `and`, `or`, `..` or the end, found `b`", id="two names"),
        pytest.param("@a", "unexpected character '@' in a selector", id="a symbol"),
        pytest.param("colour:red", "no method `colour:`", id="unknown method"),
        pytest.param("tag:x", "no step has tag `x`", id="tag that nobody has"),
        pytest.param("tag:", "`tag:` needs a value right after the colon", id="no value"),
        pytest.param("", "the selector is empty", id="empty"),
        pytest.param("a[depth=4]", "no step `a[depth=4]`", id="an item of a step without foreach"),
    ],
)
def test_a_selector_is_refused(text, message):
    with pytest.raises(SelectorError) as error:
        selected(text, DIAMOND)
    assert error.value.text == message


def test_mixed_and_and_or_shows_both_readings():
    with pytest.raises(SelectorError) as error:
        selected("a or b and c", DIAMOND)
    assert error.value.help == "write `a or (b and c)`, or `(a or b) and c`"


def _select(steps, drawing, islands=False):
    compiled = pipeline(drawn(drawing))
    graph = Graph({n: s.before for n, s in compiled.steps.items()})
    return select(steps, (), islands, compiled, graph, Facts(lambda s: set(), lambda s: set()))


@pytest.mark.parametrize(
    ("drawing", "steps", "message"),
    [
        pytest.param("a > b > c", ["a", "c"], "the selection leaves a hole: a -> b (not selected) -> c", id="case 1"),
        pytest.param(
            "a > b > c; a > c",
            ["a", "c"],
            "the selection leaves a hole: a -> b (not selected) -> c",
            id="case 2, connected and a hole",
        ),
        pytest.param(DIAMOND, ["a", "b", "d"], "the selection leaves a hole: a -> c (not selected) -> d", id="case 3"),
        pytest.param(
            DIAMOND,
            ["b", "c"],
            "the selection falls into 2 unconnected pieces: b; c",
            id="case 3, convex in two pieces",
        ),
    ],
)
def test_a_selection_is_refused(drawing, steps, message):
    with pytest.raises(SelectorError) as error:
        _select(steps, drawing)
    assert error.value.text == message


def test_a_hole_is_answered_with_the_steps_to_add_and_the_convex_pieces():
    with pytest.raises(SelectorError) as error:
        _select(["preprocess", "evaluate"], ABALONE)
    assert error.value.help == (
        "add train: select: [preprocess, train, evaluate]\n        or run the parts one after another: [preprocess] then [evaluate]"
    )


def test_islands_may_be_allowed():
    assert _select(["b", "c"], DIAMOND, islands=True).pieces == (("b",), ("c",))


def test_the_frontier_is_what_the_selection_reads_and_the_closure_goes_to_the_roots():
    chosen = _select(["mse-check"], ABALONE)
    assert (chosen.frontier, chosen.closure) == (("evaluate",), ("preprocess", "train", "evaluate"))


def test_the_abalone_pipeline_has_45_convex_selections_of_127():
    graph = Graph(chain(ABALONE))
    names = graph.order
    subsets = [set(c) for n in range(1, 8) for c in itertools.combinations(names, n)]
    assert (len(subsets), sum(not graph.between(s) for s in subsets)) == (127, 45)
