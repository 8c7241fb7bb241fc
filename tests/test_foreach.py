"""`foreach`: items are named by their values, joined in order, and selected, cached and reused one by one."""

from runner.pipeline import Pipeline
from tests.kit import Lab, pipeline

TUNE = """
    params: {depths: {type: list, items: integer, default: [2, 4]}}
    steps:
      tune:
        kind: shell
        foreach: {over: {depth: $(params.depths)}, best: {output: mse, mode: min}}
        env: {D: $(each.depth)}
        script: |
          echo "$D" >> "$COUNT"
          echo "model $D" > model; echo "{\\"mse\\": $((10 - D))}" > "$RUNNER_VALUES"
        outputs: {model: {type: file}, mse: {type: integer, metric: true}}
        runtime: counted
      pick:
        kind: python
        function: pick:pick
        args:
          models: $(steps.tune.outputs.model)
          scores: $(steps.tune.outputs.mse)
          best: $(steps.tune.best.outputs.model)
          depth: $(steps.tune.best.each.depth)
          count: $(steps.tune.count)
        outputs: {text: {type: string}}
    runtimes: {counted: {kind: host, inherit_env: [COUNT]}}
"""
PICK = """
    def pick(models, scores, best, depth, count):
        return {"text": f"{[m.read_text().strip() for m in models]} {scores} {best.read_text().strip()} {depth} {count}"}
"""


def text_of(project):
    return project.record()["steps"]["pick"]["outputs"]["text"]["value"]


def tuned(project, tmp_path):
    project.pipeline(TUNE)
    project.write(pick_py=PICK)
    return {"env": {"COUNT": str(tmp_path / "count")}}


def test_outputs_are_lists_in_the_order_of_the_items_and_the_best_is_one_of_them(project, tmp_path):
    more = tuned(project, tmp_path)
    assert project.runner("apply", "p.yaml", **more).code == 0
    assert text_of(project) == "['model 2', 'model 4'] [8, 6] model 4 4 2"


def test_another_order_runs_no_item_and_a_new_value_runs_one(project, tmp_path):
    more = tuned(project, tmp_path)
    project.runner("apply", "p.yaml", **more)
    project.runner("apply", "p.yaml", "-p", "depths=[4, 6, 2]", **more)
    assert sorted((tmp_path / "count").read_text().split()) == ["2", "4", "6"]
    assert text_of(project) == "['model 4', 'model 6', 'model 2'] [6, 4, 8] model 6 6 3"


def test_one_item_is_selected_and_its_reader_takes_the_others_from_the_reference_run(project, tmp_path):
    more = tuned(project, tmp_path)
    project.runner("apply", "p.yaml", **more)
    project.request('select: ["tune[depth=4]", pick]')
    assert str(project.runner("plan", "run.yaml", **more)).splitlines()[3:5] == [
        "  run     tune  2 items: 1 run, 1 reuse   (run: [depth=4])   selected",
        "  run     pick  selected; input from tune",
    ]
    assert project.runner("apply", "run.yaml", **more).code == 0
    assert project.statuses() == {
        "tune[depth=2]": "reused",
        "tune[depth=4]": "succeeded",
        "tune": "succeeded",
        "pick": "succeeded",
    }


def test_items_that_the_reference_run_lacks_are_named(project, tmp_path):
    more = tuned(project, tmp_path)
    project.runner("apply", "p.yaml", **more)
    project.request('select: ["tune[depth=4]", pick]\nparams: {depths: [4, 6]}')
    assert "tune[depth=6] never ran there" in project.runner("plan", "run.yaml", **more).err


def test_a_reused_fan_out_whose_items_differ_now_is_stale(project, tmp_path):
    more = tuned(project, tmp_path)
    project.runner("apply", "p.yaml", **more)
    project.request("select: [pick]\nparams: {depths: [2, 6]}")
    answer = project.runner("plan", "run.yaml", **more)
    assert answer.code == 3
    assert (
        "F201 tune would be reused, but it is stale: input items: 2 -> 2 ([depth=6] is new; [depth=4] is gone)."
        in answer.out
    )


COMPUTED = """
    steps:
      list:
        kind: shell
        script: |
          echo '{"xs": [3, 1]}' > "$RUNNER_VALUES"
        outputs: {xs: {type: list, items: integer}}
      each:
        kind: shell
        foreach: {over: {x: $(steps.list.outputs.xs)}}
        env: {X: $(each.x)}
        script: echo $X > o
        outputs: {o: {type: file}}
      first:
        kind: shell
        inputs: {first: "$(steps.each.outputs.o[0])"}
        script: cat "$RUNNER_INPUT_FIRST" > o
        outputs: {o: {type: file}}
"""


def test_axes_that_a_step_computes_are_spread_when_it_has_ended(project):
    project.pipeline(COMPUTED)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.statuses() == {
        "list": "succeeded", "each": "succeeded", "first": "succeeded", "each[x=3]": "succeeded", "each[x=1]": "succeeded"
    }  # fmt: skip
    assert project.output("first") == b"3\n"


def test_computed_items_are_planned_one_by_one_once_they_are_known(project):
    project.pipeline(COMPUTED)
    project.runner("apply", "p.yaml")
    project.request('select: ["each[x=1]+"]')
    assert project.runner("apply", "run.yaml").code == 0
    assert project.statuses() == {
        "list": "reused", "each[x=3]": "reused", "each[x=1]": "succeeded", "each": "succeeded", "first": "succeeded"
    }  # fmt: skip


def test_a_failed_item_fails_the_fan_out_after_the_others(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            foreach: {over: {x: [1, 2, 3]}, fail_fast: false}
            env: {X: $(each.x)}
            script: test "$X" != 2 && echo $X > o
            outputs: {o: {type: file}}
          b: {kind: shell, needs: [a], script: "true"}
    """)
    assert project.runner("apply", "p.yaml").code == 1
    assert project.statuses() == {
        "a[x=1]": "succeeded", "a[x=2]": "failed", "a[x=3]": "succeeded", "a": "upstream_failed", "b": "upstream_failed"
    }  # fmt: skip


def test_an_item_that_when_skips_leaves_null(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            foreach: {over: {x: [1, 2]}}
            when: $(each.x > 1)
            script: |
              echo '{"v": 5}' > "$RUNNER_VALUES"
            outputs: {v: {type: integer}}
        outputs: {every: $(steps.a.outputs.v)}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["ended"]["outputs"] == {"every": [None, 5]}


def test_values_name_their_items():
    made = Lab("""
        steps:
          a:
            kind: command
            command: [x]
            inputs: {v: $(each.v)}
            foreach: {over: {v: [1, "1", 0.5, true, "true", New York, a/b]}}
            outputs: {o: {type: file}}
    """).plan()
    assert [n for n in made.decisions if n != "a"] == [
        "a[v=1]", 'a[v="1"]', "a[v=0.5]", "a[v=true]", 'a[v="true"]', 'a[v="New York"]', 'a[v="a/b"]'
    ]  # fmt: skip


def test_a_fan_out_compiles_to_one_step_until_its_axes_are_known():
    compiled: Pipeline = pipeline("""
        steps:
          a: {kind: command, command: [x, $(each.i)], foreach: {over: {i: [1, 2]}}}
    """)
    assert {n: s.deferred for n, s in compiled.steps.items()} == {"a": True}


def test_selectors_see_the_items_of_the_reference_run_s_parameters(project, tmp_path):
    more = tuned(project, tmp_path)
    project.runner("apply", "p.yaml", "-p", "depths=[2, 4, 6]", **more)
    for selector in ('"+pick"', "tune", "param:depths"):
        project.request(f"select: [{selector}]\nislands: allow")
        assert "tune  3 items: 3 run" in project.runner("plan", "run.yaml", **more).out
        assert project.runner("apply", "run.yaml", "--again", **more).code == 0


def test_a_retry_of_items_can_be_written_down_and_run(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            foreach: {over: {x: [1, 2]}, fail_fast: false}
            env: {X: $(each.x)}
            script: test "$X" != 2
    """)
    project.runner("apply", "p.yaml")
    written = project.runner("retry", project.record()["run"], "--print").raw
    assert 'select: ["a[x=2]"]' in written
    project.write(again_yaml=written)
    assert project.runner("validate", "again.yaml").code == 0
