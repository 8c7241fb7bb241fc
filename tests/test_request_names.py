"""What a request names and the pipeline does not have: told by `validate`, without a store, at its place."""

import pytest

PIPELINE = """
    params: {n: {type: integer, default: 1}}
    steps:
      prepare: {kind: shell, tags: [slow], script: 'echo "{\\"l\\": [1]}" > "$RUNNER_VALUES"', outputs: {l: {type: list, items: integer}}}
      spread: {kind: shell, foreach: {over: {x: $(steps.prepare.outputs.l)}}, script: echo}
      grid: {kind: pipeline, pipeline: inner.yaml, foreach: {over: {x: $(steps.prepare.outputs.l)}}}
      lists: {kind: shell, foreach: {over: {x: [1, 2]}}, script: echo}
      good: {kind: condition, if: $(params.n > 0)}
      summary: {kind: shell, script: echo hi}
"""


@pytest.fixture
def named(project):
    project.write(
        inner_yaml="apiVersion: runner/v1\nkind: Pipeline\nname: inner\nsteps: {fit: {kind: shell, script: echo}}\n"
    )
    project.pipeline(PIPELINE)
    return project


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("select: [sumary]", ["4:10: error[E402]: no step `sumary`", "did you mean `summary`?"]),
        ("exclude: [sumary]", ["4:11: error[E402]: no step `sumary`", "did you mean `summary`?"]),
        ("force: [sumary]", ["4:9: error[E402]: no step `sumary`", "did you mean `summary`?"]),
        ("expect: {run: [good, sumary]}", ["4:22: error[E402]: no step `sumary`", "did you mean `summary`?"]),
        ("expect: {steps: {sumary: skipped}}", ["4:18: error[E406]: expect: no step `sumary`", "did you mean `summary`?"]),
        ("assume: {godo: true}", ["4:10: error[E406]: assume: there is no condition `godo`", "did you mean `good`?"]),
        ("assume: {summary: true}", ["4:10: error[E406]: assume: there is no condition `summary`", "there are: good"]),
        ("accept: [{step: sumary, cause: c123456789, reason: r}]", ["4:17: error[E406]: accept: no step `sumary`", "did you mean `summary`?"]),
        ("select: [prepare .. sumary]", ["4:21: error[E402]: no step `sumary`", "did you mean `summary`?"]),
        ("select: [\"tag:slwo\"]", ["4:10: error[E402]: no step has tag `slwo`", "did you mean `slow`?"]),
        ("select: [tag: slwo]", ["4:10: error[E402]: no step has tag `slwo`", "did you mean `slow`?"]),
        ("select: [\"lists[x=3]\"]", ["4:10: error[E402]: no step `lists[x=3]`", "the items are: lists[x=1], lists[x=2]"]),
        ("select: [\"status:failed and sumary\"]", ["4:29: error[E402]: no step `sumary`", "did you mean `summary`?"]),
        ("select: [sumary]\nexclude: [godo]", ["4:10: error[E402]: no step `sumary`", "did you mean `summary`?", "5:11: error[E402]: no step `godo`", "did you mean `good`?"]),
    ],
)  # fmt: skip
def test_a_name_that_the_pipeline_lacks_is_refused_by_validate(named, request_, said):
    named.request(request_)
    answer = named.runner("validate", "run.yaml")
    lines = [line.strip().removeprefix("= help: ").removeprefix("run.yaml:") for line in answer.err.splitlines()]
    assert ([line for line in lines if line in said or "error[" in line], answer.code) == (said, 2)


@pytest.mark.parametrize(
    "request_",
    [
        "select: [summary, prepare]\nislands: allow",
        'select: ["status:failed"]',
        'select: ["changed:any+"]',
        'select: ["spread[x=1]"]',
        'select: ["grid[x=7]/fit"]',
        'select: [grid/fit, "grid[x=7]"]',
        'select: ["grid/f*"]',
        'select: ["lists[x=1]"]',
        "assume: {good: false}",
        'expect: {steps: {"spread[x=1]": succeeded, "grid[x=1]/fit": succeeded}, run: ["spread[x=1]"]}',
        'accept: [{step: "spread[x=1]", cause: c123456789, reason: r}]',
    ],
)
def test_a_name_that_may_be_there_by_the_time_of_a_plan_is_none_of_validates(named, request_):
    named.request(request_)
    assert str(named.runner("validate", "run.yaml")) == "1 file is right\n[exit 0]"


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ("{run: [prepare]}", "run.yaml:5:15: error[E406]: the plan is not what `expect.run` says: summary would run too; prepare would not run"),
        ("{steps: {sumary: skipped}}", "run.yaml:5:1: error[E406]: expect: no step `sumary`"),
        ("{run: [sumary]}", "run.yaml:5:1: error[E406]: expect: no step `sumary`"),
    ],
)  # fmt: skip
def test_an_error_about_what_is_expected_points_there(named, expect, said):
    named.request(f"select: [summary]\nexpect: {expect}")
    named.runner("apply", "p.yaml")
    plan = named.runner("plan", "run.yaml")
    assert (plan.err.splitlines()[0], plan.code) == (said, 2)
