"""`runner diff`: what a changed metric comes from, without factors that come from other factors."""

import json

import pytest

FIT = """
    apiVersion: runner/v1
    kind: Pipeline
    name: fit
    params: {c: {type: integer}}
    steps:
      train:
        kind: shell
        env: {C: $(params.c)}
        script: echo "{\\"score\\":$C, \\"l\\":[1,$C]}" > "$RUNNER_VALUES"
        outputs: {score: {type: integer, metric: true}, l: {type: list, items: integer}}
    outputs: {score: $(steps.train.outputs.score), more: "$(coalesce(steps.train.outputs.score, 0) + 1)", l: $(steps.train.outputs.l)}
"""
MIDDLE = """
    apiVersion: runner/v1
    kind: Pipeline
    name: middle
    params: {c: {type: integer}}
    steps: {fit: {kind: pipeline, pipeline: fit.yaml, params: {c: $(params.c)}}}
    outputs: {score: $(steps.fit.outputs.more)}
"""
OUTER = """
    params: {c: {type: integer, default: 1}}
    steps:
      fit: {kind: pipeline, pipeline: fit.yaml, params: {c: $(params.c)}}
      deep: {kind: pipeline, pipeline: middle.yaml, params: {c: $(params.c)}}
      each: {kind: pipeline, pipeline: fit.yaml, foreach: {over: {x: [1]}}, params: {c: $(params.c)}}
      plus:
        kind: shell
        env: {N: $(steps.fit.outputs.score + 5), L: "$(steps.fit.outputs.l[1])", T: "s $(steps.fit.outputs.more)", ONE: 1}
        success_codes: [0, 1]
        script: . ./plus.sh
        code: [plus.sh]
        outputs: {sum: {type: integer, metric: true}}
"""


@pytest.fixture
def two(project):
    project.pipeline(OUTER)
    project.write(fit_yaml=FIT, middle_yaml=MIDDLE, plus_sh='echo "{\\"sum\\":$((N + L))}" > "$RUNNER_VALUES"\n')
    project.runner("apply", "p.yaml")
    return project


def factors(project):
    """Return what is said of each metric that differs between the two runs."""
    first, second = (r["run"] for r in reversed(json.loads(project.runner("runs", "-o", "json").raw)))
    lines = project.runner("diff", first, second).out.splitlines()
    said = [
        line.partition(": all that differs on its path is ")[::2] for line in lines if "differs on its path" in line
    ]
    return dict(said)


def test_one_param_is_the_one_factor_of_all_that_is_computed_from_it(two):
    two.runner("apply", "p.yaml", "-p", "c=2")
    assert factors(two) == dict.fromkeys(
        ["score of fit/train", "score of fit", "more of fit", "score of deep/fit/train", "score of deep/fit", "more of deep/fit",
         "score of deep", "score of each[x=1]/train", "score of each[x=1]", "more of each[x=1]", "sum of plus"], "param c: 1 -> 2",
    )  # fmt: skip


def test_an_edit_of_code_beside_a_param_is_a_factor(two):
    two.write(plus_sh='echo "{\\"sum\\":$((N + L + 1))}" > "$RUNNER_VALUES"\n')
    two.runner("apply", "p.yaml", "-p", "c=2")
    found = factors(two)
    assert found["score of fit"] == "param c: 1 -> 2"
    assert found["sum of plus"] == "param c: 1 -> 2; code plus.sh: DIGEST -> DIGEST (2 factors)"


def test_an_edit_of_an_inner_output_is_a_factor(two):
    two.write(fit_yaml=FIT.replace("0) + 1)", "0) + 2)"))
    two.runner("apply", "p.yaml")
    assert factors(two)["more of fit"] == "code `outputs` of the step"
