"""`kind: pipeline`: another file's steps in this place, selectable one by one, also once for each item."""

INNER = """
    params: {base: {type: integer}, folds: {type: list, items: integer, default: [0, 1]}}
    steps:
      fit:
        kind: shell
        foreach: {over: {fold: $(params.folds)}}
        env: {B: $(params.base), F: $(each.fold)}
        script: |
          echo "{\\"score\\": $((B * 10 + F))}" > "$RUNNER_VALUES"
        outputs: {score: {type: integer}}
      total:
        kind: python
        function: total:total
        args: {scores: $(steps.fit.outputs.score)}
        outputs: {sum: {type: integer}}
    outputs: {sum: $(steps.total.outputs.sum)}
"""
OUTER = """
    steps:
      grid:
        kind: pipeline
        pipeline: inner/cv.yaml
        params: {base: $(each.depth)}
        foreach: {over: {depth: [2, 4]}, best: {output: sum, mode: max}}
    outputs: {best: $(steps.grid.best.outputs.sum), every: $(steps.grid.outputs.sum)}
"""


def nested(project):
    project.pipeline(INNER, name="inner__cv".replace("inner__", ""))
    (project.root / "inner").mkdir(exist_ok=True)
    (project.root / "cv.yaml").rename(project.root / "inner/cv.yaml")
    project.write(inner__total_py="def total(scores):\n    return {'sum': sum(scores)}\n")
    project.pipeline(OUTER)


def test_an_inner_pipeline_runs_once_for_each_item_in_its_own_folder(project):
    nested(project)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["ended"]["outputs"] == {"best": 81, "every": [41, 81]}


def test_a_step_inside_is_selected_by_its_path(project):
    nested(project)
    project.runner("apply", "p.yaml")
    project.request('select: ["grid[depth=4]/total"]')
    assert project.runner("apply", "run.yaml").code == 0
    assert project.statuses()["grid[depth=4]/total"] == "succeeded"
    assert project.statuses()["grid[depth=4]/fit"] == "reused"


def test_what_ran_inside_is_cached_for_the_inner_pipeline_by_itself(project):
    nested(project)
    project.runner("apply", "p.yaml")
    answer = project.runner("apply", "inner/cv.yaml", "-p", "base=2")
    assert (answer.code, answer.err) == (0, "")
    assert project.statuses() == dict.fromkeys(["fit[fold=0]", "fit[fold=1]", "fit", "total"], "cached")


def test_a_mistake_inside_is_told_in_the_inner_file(project):
    nested(project)
    path = project.root / "inner/cv.yaml"
    path.write_text(path.read_text().replace("$(params.base)", "$(params.bas)"))
    assert "inner/cv.yaml:" in project.runner("validate", "p.yaml").err
    assert "error[E202]: no parameter `bas`" in project.runner("validate", "p.yaml").err


def test_a_pipeline_cannot_stand_in_itself(project):
    project.pipeline("steps:\n  a: {kind: pipeline, pipeline: p.yaml}\n")
    assert "error[E208]: pipelines contain each other: p.yaml -> p.yaml" in project.runner("validate", "p.yaml").err


def test_a_fan_out_inside_a_fan_out_takes_its_axis_from_an_outer_parameter(project):
    nested(project)
    path = project.root / "p.yaml"
    path.write_text(
        path.read_text()
        .replace("steps:\n", "params: {folds: {type: list, items: integer, default: [0, 1, 2]}}\nsteps:\n", 1)
        .replace("params: {base: $(each.depth)}", "params: {base: $(each.depth), folds: $(params.folds)}")
    )
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["ended"]["outputs"] == {"best": 123, "every": [63, 123]}
