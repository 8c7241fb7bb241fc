"""Chains of any length, in expressions and in selectors: linear, or refused with a sentence; never a traceback."""

import json
import resource

import pytest

from runner import expression, select

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"
DEEP = "error[E203]: the expression is nested deeper than 50 levels"


def cost(project, *args):
    """Run a command; return its answer and the seconds of processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = project.runner(*args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return answer, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def piped(project, when):
    params = "params: {b: {type: boolean, default: true}, n: {type: integer, default: 1}, l: {type: list, items: integer, default: [1]}}\n"
    step = f"steps: {{a: {{kind: shell, script: echo 1 > o, when: {json.dumps(f'$({when})')}, outputs: {{o: {{type: file}}}}}}}}\n"
    project.write(p_yaml=HEAD + params + step)


CHAINS = {
    "or": ("params.b", " or params.b"), "and": ("params.b", " and params.b"), "both": ("params.b", " and true or false"),
    "plus": ("0 != params.n", " + params.n"), "minus": ("0 != params.n", " + 1 - params.n"), "times": ("1 == params.n", " * 1 / 1"),
    "list": ("1 in [1", ", params.n"),
}  # fmt: skip
ENDS = {"list": "]"}


@pytest.mark.parametrize("count", [600, 5000])
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_operators_is_checked_planned_run_and_kept(project, name, count):
    first, more = CHAINS[name]
    piped(project, first + more * count + ENDS.get(name, ""))
    assert project.runner("validate", "p.yaml").code == 0
    assert project.runner("apply", "p.yaml").code == 0
    assert list((project.root / ".runner/compiled").iterdir()) != []
    assert project.runner("plan", "p.yaml", "-p", "n=1").code == 0


@pytest.mark.parametrize("when", ["not " * 5000 + "true", "1 == " + "-" * 5000 + "1", "1 == " + "- " * 5000 + "1"])
def test_prefixes_of_any_number_are_two_at_the_most(project, when):
    piped(project, when)
    assert project.runner("apply", "p.yaml").code == 0


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("not (" * 600 + "true" + ")" * 600, DEEP),
        ("params.l" + "[0]" * 600 + " == 1", DEEP),
        ("(" * 40 + "params.l" + "[0])" * 40 + " == 1", "error[E203]: `index` needs list or object here, not integer"),
        ("(" * 49 + "params.l" + "[0][0][0][0])" * 49 + " == 1", DEEP),
        ("params.l[" * 600 + "0" + "]" * 600 + " == 1", DEEP),
        ("len(" * 600 + "params.l" + ")" * 600 + " == 1", DEEP),
        ("if(true, " * 600 + "true" + ", true)" * 600, DEEP),
        ("[" * 600 + "1" + "]" * 600 + " == 1", DEEP),
        ("params.n" + ".a" * 5000 + " == 1", "error[E202]: "),
        ("1" + " == 1" * 5000, "comparisons do not chain; join them with `and`"),
        ("1 == max(" + "1, " * 5000 + "1)", "max() takes 1 to 99 arguments, not 5001"),
        ("negate(1) == 1", "there is no function `negate`"),
        ("index(1) == 1", "there is no function `index`"),
    ],
)
def test_what_nests_is_refused_with_its_place(project, when, said):
    piped(project, when)
    answer = project.runner("validate", "p.yaml")
    assert (answer.code, answer.err.startswith("p.yaml:"), said in answer.err) == (2, True, True), answer.err[:500]


@pytest.mark.parametrize(
    "text", ["1 - 2 - 3", "7 % 4 % 2", "8 / 2 / 2 * 3", "2 * 3 + 4 - 5 * 6 % 4", "1 - -2 - - -3", "0.1 + 0.2 - 0.3"]
)
def test_a_chain_is_computed_from_the_left(text):
    node = expression.parse(f"$({text})").exact
    assert expression.evaluate(node, lambda ref: None, lambda artifact: None) == eval(text)


def test_an_intermediate_result_that_is_too_large_is_refused():
    node = expression.parse(f"$({' * '.join(['10000000000'] * 40)} * 0)").exact
    with pytest.raises(expression.EvaluationError, match="the result is too large"):
        expression.evaluate(node, lambda ref: None, lambda artifact: None)


def test_a_chain_stops_where_its_value_is_known():
    node = expression.parse("$(params.a or params.b or params.c)").exact
    asked = []
    value = expression.evaluate(
        node, lambda ref: asked.append(str(ref)) or str(ref) == "params.b", lambda artifact: None
    )
    assert (value, asked) == (True, ["params.a", "params.b"])


def nested(project, depth, text):
    for number in range(depth):
        inner = f"{{kind: pipeline, pipeline: p{number + 1}.yaml, params: {{n: {json.dumps(text)}}}}}"
        last = "{kind: shell, env: {X: $(params.n)}, script: echo $X > o, outputs: {o: {type: file}}}"
        body = inner if number < depth - 1 else last
        project.pipeline(f"params: {{n: {{type: integer, default: 1}}}}\nsteps: {{a: {body}}}\n", name=f"p{number}")


def test_pipelines_inside_pipelines_are_run_to_a_depth_of_40(project):
    nested(project, 40, "$(params.n)")
    assert project.runner("apply", "p0.yaml").code == 0
    nested(project, 41, "$(params.n)")
    said = "error[E208]: pipelines are nested deeper than 40 levels"
    assert said in project.runner("validate", "p0.yaml").err


@pytest.mark.parametrize(
    ("depth", "text"),
    [(20, "$(" + "(1+" * 40 + "params.n" + ")" * 40 + ")"), (39, "$(params.n + params.n)")],
    ids=["deep", "wide"],
)
def test_what_parameters_of_inner_pipelines_make_together_is_bounded(project, depth, text):
    nested(project, depth, text)
    answer = project.runner("validate", "p0.yaml")
    assert (answer.code, "are computed from is nested too deeply or too large" in answer.err) == (2, True), answer.err[
        :500
    ]


# --- selectors


def selected(project, field, selectors):
    if field == "expect":
        return project.write(
            run_yaml=f"apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nexpect: {{run: {json.dumps(selectors)}}}\n"
        )
    return project.write(
        run_yaml=f"apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n{field}: {json.dumps(selectors)}\n"
    )


SELECTORS = {
    "or": [" or ".join(["s0"] * 50_000)], "and": [" and ".join(["s0"] * 50_000)], "not": ["not " * 50_000 + "s0"],
    "names": [" or ".join(f"s{n % 50}" for n in range(50_000))], "list": ["s0", "s1"] * 25_000, "all": ["all"] * 50_000,
    "globs": [" or ".join(f"s{n % 50}*" for n in range(50_000))], "different globs": [" or ".join("s" + "*" * n for n in range(1, 400))],
    "ranges": [" or ".join(["s0..s49"] * 50_000)], "both": [" or ".join(["+s9+"] * 50_000)],
    "depths": [" or ".join(f"{n}99999999999999+s9+{n}99999999999" for n in range(20_000))], "digits": ["9" * 50_000 + "+s9"],
    "nots": [" or ".join(f"not s{n % 50}" for n in range(50_000))], "parentheses": [" or ".join(["(s0 and s*)"] * 20_000)],
    "tags": [" or ".join(["tag:t"] * 50_000)],
}  # fmt: skip


@pytest.fixture
def fifty(project):
    steps = ["s0: {kind: shell, tags: [t], script: echo > o, outputs: {o: {type: file}}}"]
    steps += [f"s{n}: {{kind: shell, tags: [t], script: echo > o, inputs: {{i: $(steps.s{n - 1}.outputs.o)}}, outputs: {{o: {{type: file}}}}}}" for n in range(1, 50)]  # fmt: skip
    project.pipeline("steps:\n" + "".join(f"  {step}\n" for step in steps))
    return project


@pytest.mark.parametrize("field", ["select", "exclude", "force", "expect"])
@pytest.mark.parametrize("name", SELECTORS)
def test_a_chain_of_selectors_takes_no_two_seconds(fifty, name, field):
    selected(fifty, field, SELECTORS[name])
    answer, seconds = cost(fifty, "plan", "run.yaml")
    assert (answer.code in (0, 2), seconds < 2) == (True, True), (seconds, answer.err[:500])


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("(" * 8000 + "s0" + ")" * 8000, "the selector is nested too deep"),
        ("s0 or " * 8000 + "s1 and s2", "`and` and `or` are mixed without parentheses"),
        ("..".join(["s0"] * 8000), "expected `and`, `or`, `..` or the end, found `..`"),
        ("s0[" + '"a"' * 8000, "unexpected character '[' in a selector"),
        ("s0" + "/a" * 8000, "no step `s0/a/a"),
        ("s" + "*1" * 8000, "no step matches `s*1*1"),
        ("s" * 50_000, "no step `sss"),
    ],
)
def test_a_selector_that_means_nothing_is_refused_at_once(fifty, selector, said):
    selected(fifty, "select", [selector])
    answer, seconds = cost(fifty, "plan", "run.yaml")
    assert (answer.code, said in answer.err, seconds < 2, len(answer.err) < 4000) == (2, True, True, True), answer.err[
        :500
    ]


def test_a_glob_never_goes_back():
    pattern = select._glob("*a" * 40 + "b")
    assert (pattern.match("a" * 5000), bool(select._glob("a*b?c*d").match("aXbXbYcZZd"))) == (None, True)


def test_selectors_that_would_take_long_are_refused_with_a_sentence(project):
    project.write(p_yaml=HEAD + "steps:\n" + "".join(f"  s{n}: {{kind: shell, script: 'true'}}\n" for n in range(3000)))
    selected(project, "select", [f"s{n}*" for n in range(3000)])
    answer, seconds = cost(project, "plan", "run.yaml")
    assert (answer.code, seconds < 4) == (2, True), seconds
    assert "error[E401]: the selectors have too many terms for the 3000 steps of the pipeline\n" in answer.err
