"""Pipeline outputs and steps of `finally`: what a part of a pipeline has of them, and when there is nothing to do."""

CHOICE = """
    params: {k: {type: integer, default: 1}}
    steps:
      main: {kind: shell, script: 'echo "{\\"n\\": 1}" > $RUNNER_VALUES', outputs: {n: {type: integer}}}
      spare: {kind: shell, env: {K: $(params.k)}, script: 'echo "{\\"n\\": $K}" > $RUNNER_VALUES', outputs: {n: {type: integer}}}
    outputs:
      first: "$(coalesce(steps.main.outputs.n, steps.spare.outputs.n))"
      last: "$(coalesce(steps.spare.outputs.n, steps.main.outputs.n))"
      alone: $(steps.main.outputs.n)
"""


def notes(answer):
    return [line for line in answer.out.splitlines() if line.startswith("note: ")]


def test_an_output_that_needs_what_is_not_selected_is_left_out_and_the_plan_says_so(project):
    project.pipeline(CHOICE)
    project.request("select: [spare]\nparams: {k: 99}")
    project.runner("apply", "p.yaml", "-p", "k=99")
    assert project.record()["ended"]["outputs"] == {"first": 1, "last": 99, "alone": 1}
    answer = project.runner("apply", "run.yaml")
    assert notes(answer) == [
        "note: output first is left out of the record: main is not selected",
        "note: output last is left out of the record if it needs that: main is not selected",
        "note: output alone is left out of the record: main is not selected",
    ]
    assert project.record()["ended"]["outputs"] == {"last": 99}


def test_a_step_of_finally_finds_nothing_of_what_is_not_selected_and_the_plan_says_so(project):
    project.pipeline("""
        steps:
          main: {kind: shell, script: 'echo "{\\"n\\": 1}" > $RUNNER_VALUES', outputs: {n: {type: integer}}}
          other: {kind: shell, script: 'echo x > o.txt', outputs: {o: {type: file, path: o.txt}}}
        finally:
          tell: {kind: shell, env: {N: "$(coalesce(steps.main.outputs.n, 0))"}, script: 'echo "main has $N"'}
    """)
    project.request("select: [other]")
    project.runner("apply", "p.yaml")
    assert notes(project.runner("apply", "run.yaml")) == [
        "note: finally step tell finds no outputs of main, which is not selected"
    ]
    run = project.record()["run"]
    assert project.runner("logs", run, "tell").out == "main has 0\n"


def test_an_edit_of_the_outputs_or_of_finally_is_something_to_do(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: 'echo "{\\"n\\": 1, \\"m\\": 2}" > $RUNNER_VALUES', outputs: {n: {type: integer}, m: {type: integer}}}
        outputs: {result: $(steps.a.outputs.n)}
        finally:
          tell: {kind: shell, code: [tell.txt], script: 'cat tell.txt'}
    """)
    project.write(tell_txt="hello")
    project.runner("apply", "p.yaml")
    assert (
        project.runner("apply", "p.yaml").out == "nothing to do: run R1 has done this already (--again runs it anew)\n"
    )
    path = project.root / "p.yaml"
    path.write_text(path.read_text().replace("result: $(steps.a.outputs.n)", "result: $(steps.a.outputs.m)"))
    assert "a: cached, the same in R1" in project.runner("apply", "p.yaml").out
    assert project.record()["ended"]["outputs"] == {"result": 2}
    project.write(tell_txt="goodbye")
    assert "tell: started" in project.runner("apply", "p.yaml").out
    assert project.runner("apply", "p.yaml").out.startswith("nothing to do: ")


def test_a_condition_with_known_values_is_part_of_the_run_and_nothing_to_do(project):
    project.pipeline("""
        params: {go: {type: boolean, default: true}}
        steps:
          good: {kind: condition, if: $(params.go), then: [publish]}
          publish: {kind: shell, script: 'echo x > o.txt', outputs: {o: {type: file, path: o.txt}}}
    """)
    project.request("expect: {run: [good, publish], steps: {good: succeeded}}")
    assert project.runner("apply", "run.yaml").code == 0
    assert project.statuses() == {"good": "succeeded", "publish": "succeeded"}
    assert project.runner("plan", "p.yaml", "--detailed-exitcode").code == 0
    project.runner("apply", "p.yaml")
    assert project.statuses() == {"good": "succeeded", "publish": "cached"}
    assert project.runner("apply", "p.yaml").out.startswith("nothing to do: ")
