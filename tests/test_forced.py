"""`force` and `cache: false` hold for steps that are not known before the run, and for a run that goes on later."""

import pytest

INNER = """
    apiVersion: runner/v1
    kind: Pipeline
    name: inner
    params: {k: {type: integer}}
    steps:
      never: {kind: shell, cache: false, env: {K: $(params.k)}, script: echo $K > o, outputs: {o: {type: file}}}
      acts: {kind: shell, env: {K: $(params.k)}, script: 'true'}
      c: {kind: shell, tags: [slow], env: {K: $(params.k)}, script: echo c$K > o, outputs: {o: {type: file}}}
      g:
        kind: shell
        foreach: {over: {y: $(steps.d.outputs.l)}}
        env: {K: $(params.k), Y: $(each.y)}
        script: echo g$K$Y > o
        outputs: {o: {type: file}}
      d: {kind: shell, env: {K: $(params.k)}, script: 'echo "{\\"l\\": [$K]}" > "$RUNNER_VALUES"', outputs: {l: {type: list, items: integer}}}
    outputs: {o: $(steps.c.outputs.o)}
"""
TOP = """
    steps:
      a: {kind: shell, cache: false, script: 'echo "{\\"l\\": [1, 2]}" > "$RUNNER_VALUES"', outputs: {l: {type: list, items: integer}}}
      sub: {kind: pipeline, pipeline: inner.yaml, foreach: {over: {x: $(steps.a.outputs.l)}}, params: {k: $(each.x)}}
"""
ALWAYS = ["a", "sub[x=1]/acts", "sub[x=1]/never", "sub[x=2]/acts", "sub[x=2]/never"]


@pytest.fixture
def fan(project):
    project.write(inner_yaml=INNER)
    project.pipeline(TOP)
    assert project.runner("apply", "p.yaml").code == 0
    return project


def ran(project):
    steps = project.record()["steps"]
    return sorted(n for n, s in steps.items() if s["status"] == "succeeded" and s.get("seconds") is not None)


def test_a_step_without_cache_in_an_item_that_the_run_finds_runs_again(fan):
    assert fan.runner("apply", "p.yaml").code == 0
    assert ran(fan) == ALWAYS


@pytest.mark.parametrize(
    ("force", "again", "told"),
    [
        ("[sub/c]", ["sub[x=1]/c", "sub[x=2]/c"], "forced: sub/c"),
        ("['*/c']", ["sub[x=1]/c", "sub[x=2]/c"], "forced: sub/c"),
        ("['tag:slow']", ["sub[x=1]/c", "sub[x=2]/c"], "forced: sub/c"),
        ("[sub/g]", ["sub[x=1]/g[y=1]", "sub[x=2]/g[y=2]"], "forced: sub/g"),
        ("['sub/d+']", ["sub[x=1]/d", "sub[x=1]/g[y=1]", "sub[x=2]/d", "sub[x=2]/g[y=2]"], "forced: sub/g, sub/d"),
        (
            "[sub]",
            ["sub[x=1]/c", "sub[x=1]/d", "sub[x=1]/g[y=1]", "sub[x=2]/c", "sub[x=2]/d", "sub[x=2]/g[y=2]"],
            "forced",
        ),
    ],
)
def test_force_reaches_into_items_that_the_run_finds(fan, force, again, told):
    fan.request(f"force: {force}")
    answer = fan.runner("apply", "run.yaml")
    assert (ran(fan), answer.code) == (sorted([*ALWAYS, *again]), 0)
    assert f"its items are known once a has ended; {told}" in answer.out


@pytest.mark.parametrize(
    ("force", "error"),
    [
        ("[sub/k]", "no step `sub/k`"),
        ("['sub[x=1]/c']", "no step `sub[x=1]/c`"),
        ("['tag:slo']", "no step has tag `slo`"),
        ("['changed:any']", "`changed:` cannot be used in `force`"),
    ],
)
def test_force_of_what_is_nowhere_is_refused(fan, force, error):
    fan.request(f"force: {force}")
    answer = fan.runner("plan", "run.yaml")
    assert answer.code == 2
    assert f"error[E402]: {error}" in answer.err


def test_a_run_that_goes_on_still_forces_what_it_was_told_to(project):
    project.pipeline("""
        steps:
          ok: {kind: approval, message: go?}
          after: {kind: shell, needs: [ok], script: echo x > o, outputs: {o: {type: file}}}
    """)
    project.runner("apply", "p.yaml")
    first = project.record()["run"]
    project.runner("approve", first, "ok")
    assert project.runner("resume", first).code == 0
    project.request("force: [after]")
    assert project.runner("apply", "run.yaml").code == 7
    second = project.record()["run"]
    project.runner("approve", second, "ok")
    assert project.runner("resume", second).code == 0
    assert (second != first, project.statuses()["after"]) == (True, "succeeded")
