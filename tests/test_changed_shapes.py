"""A reference run whose results have another type or shape than today's declarations: not known, never a crash."""

import json

import pytest

from tests.reliability.kit import ask

PLAIN = """
    steps:
      tune: {kind: shell, script: 'echo "{\\"mse\\": 3}" > "$RUNNER_VALUES"', outputs: {mse: {type: integer}}}
      report: {kind: shell, env: {M: $(steps.tune.outputs.mse)}, script: 'echo "$M" > o', outputs: {o: {type: file}}}
      other: {kind: shell, script: echo x > o, outputs: {o: {type: file}}}
"""
FANNED = PLAIN.replace(
    'tune: {kind: shell, script: \'echo "{\\"mse\\": 3}"',
    'tune: {kind: shell, foreach: {over: {d: [3, 4]}, best: {output: mse, mode: min}}, env: {D: $(each.d)}, script: \'echo "{\\"mse\\": $D}"',
)
SHAPES = {
    "plain": PLAIN,
    "best": FANNED.replace("$(steps.tune.outputs.mse)", "$(steps.tune.best.outputs.mse)"),
    "best-axis": FANNED.replace("$(steps.tune.outputs.mse)", "$(steps.tune.best.each.d)"),
    "count": FANNED.replace("$(steps.tune.outputs.mse)", "$(steps.tune.count)"),
    "element": FANNED.replace("$(steps.tune.outputs.mse)", '"$(steps.tune.outputs.mse[1])"'),
    "sum": FANNED.replace("$(steps.tune.outputs.mse)", "$(sum(steps.tune.outputs.mse))"),
    "list": PLAIN.replace("3}", "[3, 4]}").replace("mse: {type: integer}", "mse: {type: list, items: integer}").replace("$(steps.tune.outputs.mse)", '"$(steps.tune.outputs.mse[1])"'),
    "text": PLAIN.replace("3}", '\\"a\\"}').replace("mse: {type: integer}", "mse: {type: string}").replace("$(steps.tune.outputs.mse)", "$(lower(steps.tune.outputs.mse))"),
    "file": PLAIN.replace('echo "{\\"mse\\": 3}" > "$RUNNER_VALUES"', "echo 3 > mse").replace("mse: {type: integer}", "mse: {type: file}"),
    "object": PLAIN.replace("3}", '{\\"a\\": 1}}').replace("mse: {type: integer}", "mse: {type: object}").replace("$(steps.tune.outputs.mse)", "\"$(string(steps.tune.outputs.mse['a']))\""),
    "condition": PLAIN.replace("tune: {kind: shell, script: 'echo \"{\\\"mse\\\": 3}\" > \"$RUNNER_VALUES\"', outputs: {mse: {type: integer}}}", "tune: {kind: condition, if: true}").replace("$(steps.tune.outputs.mse)", "$(if(steps.tune.taken, 1, 2))").replace("env: {M: $(if(steps.tune.taken, 1, 2))}", 'env: {M: "$(if(steps.tune.taken, 1, 2))"}'),
}  # fmt: skip


@pytest.mark.parametrize("then", SHAPES)
def test_an_output_that_was_of_another_shape_is_no_value(project, then):
    project.pipeline(SHAPES[then])
    assert project.runner("apply", "p.yaml").code == 0
    codes = {}
    for now, text in SHAPES.items():
        project.pipeline(text)
        for select in ("[report]", "[other]", '["changed:any"]', "[tune, report]", "[all]"):
            project.request(f"select: {select}")
            codes[now, select] = ask(project.root, "plan", "run.yaml").returncode
    assert {key: code for key, code in codes.items() if code not in (0, 2, 3)} == {}
    assert project.runner("apply", "p.yaml").code == 0


def test_an_accepted_result_of_another_shape_is_refused_with_the_place_that_reads_it(project):
    project.pipeline(PLAIN)
    project.runner("apply", "p.yaml")
    project.pipeline(SHAPES["text"])
    project.request("select: [report]")
    plan = json.loads(project.runner("plan", "run.yaml", "-o", "json").raw or "{}")
    assert plan == {}
    assert project.runner("plan", "run.yaml").err.splitlines()[0] == (
        "p.yaml:6:42: error[E219]: step report cannot start: output mse of tune was of type integer; today it is of type string"
    )


@pytest.mark.parametrize("kind", ["any", "params", "code", "inputs"])
@pytest.mark.parametrize("axis", ["$(params.xs)", "$(steps.a.outputs.l)"])
def test_changed_sees_all_params_where_an_axis_is_computed(project, kind, axis):
    text = f"""
        params: {{xs: {{type: list, items: integer, default: [1, 2]}}, q: {{type: integer, default: 0}}, f: {{type: file, default: f.txt}}}}
        steps:
          a: {{kind: shell, script: 'echo "{{\\\\"l\\\\": [1]}}" > "$RUNNER_VALUES"', outputs: {{l: {{type: list, items: integer}}}}}}
          b: {{kind: shell, env: {{X: $(each.x)}}, code: [b.sh], script: 'echo "$X" > o', foreach: {{over: {{x: {axis}}}}}, outputs: {{o: {{type: file}}}}}}
          c: {{kind: shell, env: {{Q: $(params.q), F: $(params.f)}}, script: 'echo "$Q" > o', outputs: {{o: {{type: file}}}}}}
    """.replace('\\\\"', '\\"')
    project.write(f_txt="1", b_sh="1")
    project.pipeline(text)
    assert project.runner("apply", "p.yaml").code == 0
    project.write(f_txt="2", b_sh="2")
    project.request(f'params: {{q: 1}}\nselect: ["changed:{kind}"]\nislands: allow')
    plan = project.runner("plan", "run.yaml")
    ran = [line.split()[1] for line in plan.out.splitlines() if line.startswith("  run")]
    assert (plan.code, ran) == (0, {"any": ["b", "c"], "params": ["c"], "code": ["b"], "inputs": ["c"]}[kind])


RENAMED = """
    failure_policy: finish_independent
    params: {k: {type: integer, default: 1}}
    steps:
      a: {kind: shell, script: 'echo "{\\"l\\": [1, 2]}" > "$RUNNER_VALUES"', outputs: {l: {type: list, items: integer}}}
      b: {kind: shell, foreach: {over: {x: $(steps.a.outputs.l)}}, env: {X: $(each.x)}, script: 'echo "$X" > o', outputs: {o: {type: file}}}
      c: {kind: shell, env: {K: $(params.k)}, script: 'test "$K" = 2; echo ok > o', outputs: {o: {type: file}}}
      d: {kind: shell, inputs: {b: $(steps.b.outputs.o)}, script: echo}
"""


@pytest.fixture
def renamed(project):
    """A run that failed in a step beside a fan-out, and since then the output of its axis has another name."""
    project.pipeline(RENAMED)
    project.runner("apply", "p.yaml")
    project.pipeline(
        RENAMED.replace('\\"l\\"', '\\"m\\"').replace("{l: {type", "{m: {type").replace("outputs.l)", "outputs.m)")
    )
    return project


def test_what_stands_beside_a_fan_out_whose_axis_is_gone_is_planned(renamed):
    renamed.request("params: {k: 2}\nselect: [c]")
    plan = renamed.runner("plan", "run.yaml")
    assert (plan.code, plan.out.split()[0]) == (0, "READY")
    assert renamed.runner("apply", "run.yaml").code == 0


@pytest.mark.parametrize(("select", "code"), [("[b]", 2), ('["b[x=1]"]', 2), ("[d]", 3), ("[a, b]", 0), ('["+d"]', 0)])
def test_a_selection_that_needs_the_axis_is_refused_unless_it_is_computed_again(renamed, select, code):
    renamed.request(f"params: {{k: 2}}\nselect: {select}")
    assert renamed.runner("plan", "run.yaml").code == code


def test_a_retry_after_the_axis_was_renamed_runs_what_had_failed(renamed):
    retry = renamed.runner("retry", renamed.record()["run"])
    assert retry.code in (1, 2)
    assert "c" in retry.out + retry.err


def test_a_waiting_run_with_a_fan_out_of_no_items_goes_on(project):
    project.write(b_sh='echo "$X"\n')
    project.pipeline("""
        params: {xs: {type: list, items: integer, default: []}}
        steps:
          a: {kind: shell, script: 'echo "{\\"l\\": []}" > "$RUNNER_VALUES"', outputs: {l: {type: list, items: integer}}}
          b: {kind: shell, foreach: {over: {x: $(params.xs)}}, env: {X: $(each.x)}, code: [b.sh], script: sh b.sh}
          c: {kind: shell, foreach: {over: {x: $(steps.a.outputs.l)}}, env: {X: $(each.x)}, code: [b.sh], script: sh b.sh}
          sign: {kind: approval, message: release?}
    """)
    assert project.runner("apply", "p.yaml").code == 7
    run = project.record()["run"]
    project.runner("approve", run, "sign")
    assert project.runner("resume", run).code == 0


def test_a_waiting_run_does_not_go_on_with_other_code_of_an_item(project):
    project.write(b_sh='echo "$X"\n')
    project.pipeline("""
        steps:
          b: {kind: shell, foreach: {over: {x: [1]}}, env: {X: $(each.x)}, code: [b.sh], needs: [sign], script: sh b.sh}
          sign: {kind: approval, message: release?}
    """)
    project.runner("apply", "p.yaml")
    run = project.record()["run"]
    project.runner("approve", run, "sign")
    project.write(b_sh="echo other\n")
    answer = project.runner("resume", run)
    assert (answer.code, "this has changed: b.sh" in answer.err) == (4, True)
