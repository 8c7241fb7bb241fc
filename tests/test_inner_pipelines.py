"""`kind: pipeline`: another file's steps in this place, selectable one by one, also once for each item."""

import subprocess

import pytest

FOLD = """
    apiVersion: runner/v1
    kind: Pipeline
    name: fold
    params: {x: {type: integer, maximum: 9}, table: {type: file, default: sample.csv}}
    steps:
      fit:
        kind: command
        command: [python, fit.py, $(params.x), $(params.table), $(outputs.model)]
        code: [fit.py]
        outputs: {model: {type: file, path: model.txt}}
      test:
        kind: python
        function: judge:score
        args: {model: $(steps.fit.outputs.model)}
        outputs: {score: {type: integer}}
    outputs: {model: $(steps.fit.outputs.model), score: $(steps.test.outputs.score)}
"""
GRID = """
    apiVersion: runner/v1
    kind: Pipeline
    name: grid
    params: {depths: {type: list, items: integer, default: [1, 2]}, table: {type: file}}
    steps:
      each:
        kind: pipeline
        pipeline: ../parts/fold.yaml
        params: {x: $(each.depth), table: $(params.table)}
        foreach: {over: {depth: $(params.depths)}, best: {output: score, mode: max}}
      mean:
        kind: command
        command: [python, -c, "import sys; print(sys.argv[1])", "$(sum(steps.each.outputs.score))"]
        outputs: {o: {type: string, optional: true}}
    outputs: {models: $(steps.each.outputs.model), best: $(steps.each.best.outputs.model), depth: $(steps.each.best.each.depth)}
"""


@pytest.fixture
def nested(project):
    """A pipeline with an inner one for each item of an inner one, each in a folder of its own."""
    project.pipeline("""
        params: {top: {type: integer, default: 3}}
        steps:
          prep: {kind: shell, script: "echo rows > table.csv", outputs: {table: {type: file, path: table.csv}}}
          grid:
            kind: pipeline
            pipeline: grids/grid.yaml
            params: {depths: [1, $(params.top)], table: $(steps.prep.outputs.table)}
          show: {kind: command, command: [cat, $(steps.grid.outputs.best)]}
        outputs: {depth: $(steps.grid.outputs.depth)}
    """)
    project.write(
        grids__grid_yaml=GRID,
        parts__fold_yaml=FOLD,
        parts__sample_csv="sample\n",
        parts__fit_py="import sys\nx, table, model = sys.argv[1:]\nopen(model, 'w').write(x + open(table).read())\n",
        parts__judge_py="def score(model):\n    return {'score': int(model.read_text()[0])}\n",
    )
    return project


def change(project, name, old, new):
    path = project.root / name
    path.write_text(path.read_text().replace(old, new))


# --- what runs ----------------------------------------------------------------------------------------------------


def test_inner_steps_run_in_their_own_folder_for_each_item_and_their_outputs_come_out(nested):
    assert nested.runner("apply", "p.yaml").code == 0
    assert nested.runner("logs", nested.record()["run"], "show").out == "3rows\n"
    assert nested.record()["ended"]["outputs"] == {"depth": 3}
    assert list(nested.statuses()) == [
        "prep", "grid/each[depth=1]/fit", "grid/each[depth=1]/test", "grid/each[depth=1]", "grid/each[depth=3]/fit",
        "grid/each[depth=3]/test", "grid/each[depth=3]", "grid/each", "grid/mean", "grid", "show",
    ]  # fmt: skip


def test_the_graph_shows_the_inner_steps(nested):
    nested.pipeline(
        "steps:\n  one: {kind: pipeline, pipeline: parts/fold.yaml, params: {x: 1}, needs: [two]}\n"
        "  two: {kind: shell, script: x}\n"
    )
    assert str(nested.runner("graph", "p.yaml")) == (
        "two       shell\n"
        "one/fit   command    after two\n"
        "one/test  python     reads one/fit; after two\n"
        "one       pipeline   reads one/fit, one/test; after two\n"
        "[exit 0]"
    )


def test_a_file_is_relative_to_the_file_that_says_it(project):
    project.write(
        sub__inner_yaml="""
            apiVersion: runner/v1
            kind: Pipeline
            name: inner
            params: {f: {type: file, default: here.txt}}
            steps: {show: {kind: command, command: [cat, $(params.f)]}}
        """,
        sub__here_txt="inner",
        here_txt="outer",
    )
    project.pipeline("""
        params: {p: {type: file, default: here.txt}}
        steps:
          default: {kind: pipeline, pipeline: sub/inner.yaml}
          literal: {kind: pipeline, pipeline: sub/inner.yaml, params: {f: here.txt}}
          param: {kind: pipeline, pipeline: sub/inner.yaml, params: {f: $(params.p)}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    run = project.record()["run"]
    shown = [project.runner("logs", run, f"{name}/show").out for name in ("default", "literal", "param")]
    assert shown == ["inner", "outer", "outer"]


def test_elements_of_a_list_may_be_expressions_and_two_dollars_are_one(project):
    project.write(
        inner_yaml="""
            apiVersion: runner/v1
            kind: Pipeline
            name: inner
            params: {xs: {type: list, items: string}, t: {type: string}, d: {type: duration, default: 5s}}
            steps: {show: {kind: command, command: [echo, "$(join(params.xs, '+'))", $(params.t), $(params.d)]}}
        """
    )
    project.pipeline("""
        params: {s: {type: string, default: b}}
        steps: {one: {kind: pipeline, pipeline: inner.yaml, params: {xs: [a, $(params.s)], t: $$(x)}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("logs", project.record()["run"], "one/show").out == "a+b $(x) 5s\n"


def test_a_computed_param_keeps_the_rules_of_the_inner_pipeline(nested):
    nested.request("params: {top: 10}")
    assert str(nested.runner("apply", "run.yaml")) == (
        "grids/grid.yaml:9:17: error[E219]: step grid/each[depth=10]/fit cannot start: params.x of the inner pipeline: 10 must be at most 9\n"
        "    9 |     params: {x: $(each.depth), table: $(params.table)}\n"
        "      |                 ^\n"
        "[exit 2]"
    )


def test_an_inner_output_does_not_overwrite_a_file_that_a_param_brings(project):
    project.write(
        inner_yaml="""
            apiVersion: runner/v1
            kind: Pipeline
            name: inner
            params: {f: {type: file, default: data.csv}}
            steps:
              a: {kind: shell, env: {F: $(params.f)}, script: "echo lost > data.csv", outputs: {o: {type: file, path: data.csv}}}
        """,
        data_csv="precious",
    )
    project.pipeline("steps: {one: {kind: pipeline, pipeline: inner.yaml}}")
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err.splitlines()[0]) == (
        2, "inner.yaml:6:29: error[E212]: step one/a cannot start: the path data.csv of output `o` meets data.csv, which is param `f`",
    )  # fmt: skip
    assert (project.root / "data.csv").read_text() == "precious"


# --- what decides -------------------------------------------------------------------------------------------------

GATED = """
    apiVersion: runner/v1
    kind: Pipeline
    name: inner
    params: {n: {type: integer}}
    steps:
      judge: {kind: condition, if: $(params.n > 2), then: [big], else: [small, stop]}
      big: {kind: shell, script: "echo big > o", outputs: {o: {type: file}}}
      small: {kind: shell, trigger: none_failed, script: "echo small > o", outputs: {o: {type: file}}}
      stop: {kind: fail, message: "$(params.n) is too small"}
    finally:
      bye: {kind: shell, env: {S: $(steps.judge.status), N: $(params.n)}, script: 'echo "$S $N"'}
    outputs: {taken: $(steps.judge.taken), big: $(steps.big.outputs.o)}
"""


@pytest.fixture
def gated(project):
    project.write(inner_yaml=GATED)
    project.pipeline("""
        params: {n: {type: integer, default: 5}, go: {type: boolean, default: true}, ok: {type: boolean, default: true}}
        steps:
          first: {kind: shell, env: {OK: $(params.ok)}, script: 'test "$OK" = true'}
          one: {kind: pipeline, pipeline: inner.yaml, params: {n: $(params.n)}, when: $(params.go), needs: [first]}
          read: {kind: command, command: [echo, $(steps.one.outputs.taken)]}
    """)
    return project


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        pytest.param("n=5", "succeeded succeeded succeeded skipped skipped succeeded succeeded", id="all holds"),
        pytest.param("go=false", "succeeded skipped skipped skipped skipped skipped skipped", id="`when` of the outer step"),
        pytest.param("ok=false", "failed" + " upstream_failed" * 6, id="`needs` of the outer step"),
    ],
)  # fmt: skip
def test_what_gates_the_outer_step_gates_each_inner_one(gated, given, ends):
    gated.runner("apply", "p.yaml", "-p", given)
    names = ("first", "one/judge", "one/big", "one/small", "one/stop", "one", "read")
    assert [gated.statuses()[name].replace("cached", "succeeded") for name in names] == ends.split()


def test_an_inner_fail_step_ends_the_whole_run_and_the_inner_finally_still_runs(gated):
    answer = gated.runner("apply", "p.yaml", "-p", "n=1")
    assert (answer.code, answer.out.splitlines()[-1]) == (1, "run failed in N s: 1 is too small")
    assert gated.runner("logs", gated.record()["run"], "one/bye").out == "succeeded 1\n"


def test_a_failed_inner_pipeline_with_on_failure_continue_leaves_null_for_its_item(nested):
    change(nested, "grids/grid.yaml", "foreach:", "on_failure: continue\n    foreach:")
    change(nested, "grids/grid.yaml", "sum(steps.each.outputs.score)", "len(steps.each.outputs.score)")
    change(nested, "p.yaml", "default: 3", "default: 10")
    assert nested.runner("apply", "p.yaml").code == 0
    assert nested.runner("logs", nested.record()["run"], "grid/mean").out == "2\n"
    assert nested.statuses()["grid/each[depth=10]"] == "upstream_failed"


# --- selecting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "runs"),
    [
        pytest.param("grid", ["grid/each[depth=1]/fit", "grid/each[depth=1]/test", "grid/each[depth=1]", "grid/each[depth=3]/fit", "grid/each[depth=3]/test", "grid/each[depth=3]", "grid/each", "grid/mean", "grid"], id="all of it"),
        pytest.param("grid/mean", ["grid/mean"], id="one step"),
        pytest.param("grid/each[depth=3]", ["grid/each[depth=3]/fit", "grid/each[depth=3]/test", "grid/each[depth=3]"], id="one item"),
        pytest.param("grid/each[depth=3]/test", ["grid/each[depth=3]/test"], id="one step of one item"),
        pytest.param("grid/each/test", ["grid/each[depth=1]/test", "grid/each[depth=3]/test"], id="one step of all items"),
        pytest.param("grid/*/fit", ["grid/each[depth=1]/fit", "grid/each[depth=3]/fit"], id="a glob"),
        pytest.param("grid/each[depth=1]/test .. show", ["grid/each[depth=1]/test", "grid/each[depth=1]", "grid/each", "grid/mean", "grid", "show"], id="a range across the border"),
    ],
)  # fmt: skip
def test_what_is_inside_is_selected_by_its_path(nested, selector, runs):
    nested.runner("apply", "p.yaml")
    nested.request(f'select: ["{selector}"]\nislands: allow')
    assert nested.runner("apply", "run.yaml").code == 0
    assert [name for name, end in nested.statuses().items() if end == "succeeded"] == runs


def test_a_retry_is_printed_as_yaml_that_can_be_kept(nested):
    change(nested, "parts/fit.py", "import sys\n", "import sys\nassert sys.argv[1] != '3'\n")
    nested.runner("apply", "p.yaml")
    printed = nested.runner("retry", nested.record()["run"], "--print")
    (nested.root / "again.yaml").write_text(printed.raw)
    assert '"grid/each[depth=3]"' in printed.out
    assert str(nested.runner("validate", "again.yaml")) == "1 file is right\n[exit 0]"


# --- reuse across the border --------------------------------------------------------------------------------------


def test_what_ran_by_itself_is_cached_inside_and_the_other_way_round(nested):
    nested.pipeline("steps: {one: {kind: pipeline, pipeline: parts/fold.yaml, params: {x: 1}}}")
    assert nested.runner("apply", "parts/fold.yaml", "-p", "x=1").code == 0
    nested.runner("apply", "p.yaml")
    assert nested.statuses() == dict.fromkeys(["one/fit", "one/test", "one"], "cached")
    nested.pipeline("steps: {two: {kind: pipeline, pipeline: parts/fold.yaml, params: {x: 2}}}", name="q")
    nested.runner("apply", "q.yaml")
    nested.runner("apply", "parts/fold.yaml", "-p", "x=2")
    assert nested.statuses() == {"fit": "cached", "test": "cached"}


@pytest.mark.parametrize(
    ("file", "old", "new", "cause"),
    [
        pytest.param("parts/fit.py", "import sys", "import sys  # more", "code fit.py: DIGEST -> DIGEST", id="its code"),
        pytest.param("parts/fold.yaml", "[python, fit.py", "[python, -B, fit.py", "code `command` of the step", id="its file"),
        pytest.param("p.yaml", "default: 3", "default: 4", "", id="a param that is not inherited"),
    ],
)  # fmt: skip
def test_a_change_inside_makes_what_is_reused_stale(nested, file, old, new, cause):
    nested.runner("apply", "p.yaml")
    change(nested, file, old, new)
    nested.request('select: ["grid/each[depth=3]/test"]')
    answer = nested.runner("plan", "run.yaml")
    assert (answer.code, f"STALE  {cause}\n" in answer.out) == ((3, True) if cause else (0, False))


def test_the_causes_of_a_chain_of_inner_pipelines_are_told_once(nested):
    steps = "  s0: {kind: pipeline, pipeline: parts/fold.yaml, params: {x: 1}}\n" + "".join(
        f"  s{i}: {{kind: pipeline, pipeline: parts/fold.yaml, params: {{x: $({i % 9} + 0 * steps.s{i - 1}.outputs.score)}}}}\n"
        for i in range(1, 9)
    )
    nested.pipeline(f"steps:\n{steps}  last: {{kind: command, command: [cat, $(steps.s8.outputs.model)]}}\n")
    nested.runner("apply", "p.yaml")
    change(nested, "parts/fit.py", "import sys", "import sys  # more")
    nested.request("select: [last]")
    answer = nested.runner("plan", "run.yaml")
    assert answer.code == 3
    assert max(map(len, answer.out.splitlines())) < 2_000


# --- what notices a changed file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "noticed"),
    [
        pytest.param("parts/fold.yaml", FOLD.replace("maximum: 9", "maximum: 8"), True, id="the inner file"),
        pytest.param("parts/fit.py", "", True, id="its code"),
        pytest.param("parts/judge.py", "", True, id="its module"),
        pytest.param("parts/other.py", "", False, id="another file"),
    ],
)
def test_a_review_by_revision_notices_what_an_inner_pipeline_is_made_of(nested, file, text, noticed):
    nested.request(name="runs__run", of="../p")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-C", str(nested.root)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    nested.write(**{file.replace("/", "__").replace(".", "_"): text})
    answer = nested.runner("plan", "runs", "--base", "HEAD")
    assert (answer.code, answer.out.startswith("== runs/run.yaml")) == (0, noticed)


def test_a_kept_pipeline_is_compiled_anew_when_an_inner_file_changes(project):
    many = "".join(f"  s{i}: {{kind: command, command: [echo]}}\n" for i in range(250))
    project.pipeline(f"steps:\n{many}  one: {{kind: pipeline, pipeline: inner.yaml}}\n")
    head = "apiVersion: runner/v1\nkind: Pipeline\nname: inner\n"
    project.write(inner_yaml=head + "steps: {old: {kind: command, command: [echo]}}\n")
    project.runner("apply", "inner.yaml")  # makes the store
    assert "one/old" in project.runner("graph", "p.yaml").out
    assert len(list((project.root / ".runner/compiled").iterdir())) == 1
    project.write(inner_yaml=head + "steps: {new: {kind: command, command: [echo]}}\n")
    assert "one/new" in project.runner("graph", "p.yaml").out


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_a_mistake_inside_is_told_in_the_inner_file_and_once(nested):
    change(nested, "parts/fold.yaml", "$(params.x)", "$(params.y)")
    nested.pipeline(
        "steps:\n  one: {kind: pipeline, pipeline: parts/fold.yaml, params: {x: 1}}\n"
        "  two: {kind: pipeline, pipeline: parts/fold.yaml, params: {x: 2}}\n"
    )
    assert str(nested.runner("validate", "p.yaml")) == (
        "parts/fold.yaml:8:40: error[E202]: no parameter `y`\n"
        "    8 |     command: [python, fit.py, $(params.y), $(params.table), $(outputs.model)]\n"
        "      |                                        ^\n"
        "      = help: there are: table, x\n"
        "[exit 2]"
    )


def test_a_pipeline_cannot_stand_in_itself(project):
    project.pipeline("steps:\n  a: {kind: pipeline, pipeline: p.yaml}\n")
    assert str(project.runner("validate", "p.yaml")) == (
        "p.yaml:5:33: error[E208]: pipelines contain each other: p.yaml -> p.yaml\n"
        "    5 |   a: {kind: pipeline, pipeline: p.yaml}\n"
        "      |                                 ^\n"
        "      = help: a pipeline cannot stand in itself\n"
        "[exit 2]"
    )
