"""`foreach`: items are named by their values, joined in order, and selected, cached and reused one by one."""

import json
import time

import pytest

from runner.errors import Invalid
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
    return {"env": {"COUNT": str(project.beside / "count")}}


def test_outputs_are_lists_in_the_order_of_the_items_and_the_best_is_one_of_them(project, tmp_path):
    more = tuned(project, tmp_path)
    assert project.runner("apply", "p.yaml", **more).code == 0
    assert text_of(project) == "['model 2', 'model 4'] [8, 6] model 4 4 2"


def test_another_order_runs_no_item_and_a_new_value_runs_one(project, tmp_path):
    more = tuned(project, tmp_path)
    project.runner("apply", "p.yaml", **more)
    project.runner("apply", "p.yaml", "-p", "depths=[4, 6, 2]", **more)
    assert sorted((project.beside / "count").read_text().split()) == ["2", "4", "6"]
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


# --- what the items are -------------------------------------------------------------------------------------------

ITEMS = """
    steps:
      a:
        kind: command
        command: [make]
        foreach: {FOREACH}
        outputs: {{o: {{type: file}}, n: {{type: number}}}}
"""


def items(foreach):
    """The names of the items that `foreach` gives, without that of the fan-out."""
    return [name[1:] for name in Lab(ITEMS.format(FOREACH=f"{{{foreach}}}")).plan().decisions if name != "a"]


def test_several_axes_are_multiplied_in_written_order():
    assert items("over: {y: [2, 1], x: [b, a]}") == ["[y=2,x=b]", "[y=2,x=a]", "[y=1,x=b]", "[y=1,x=a]"]


def test_exclude_takes_items_out_and_include_adds_some_at_the_end():
    assert items("over: {x: [1, 2], y: [1, 2]}, exclude: [{x: 1}, {x: 2, y: 2}], include: [{y: 9, x: 9}]") == [
        "[x=2,y=1]", "[x=9,y=9]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "label"),
    [
        pytest.param("1e-3", "0.001", id="number"),
        pytest.param("1.0", "1", id="whole number"),
        pytest.param("'1.0'", '"1.0"', id="number as text"),
        pytest.param("'1e5'", '"1e5"', id="exponent as text"),
        pytest.param("'null'", '"null"', id="null as text"),
        pytest.param("''", '""', id="empty text"),
        pytest.param("a/b", '"a/b"', id="slash"),
        pytest.param("'a,b=c'", '"a,b=c"', id="comma and equals sign"),
        pytest.param("it's", '"it\'s"', id="apostrophe"),
        pytest.param("'say \"hi\"'", "say-hi~aef19960", id="quotes"),
        pytest.param('"x]y[z"', "x-y-z~658118da", id="brackets"),
        pytest.param('"a\\nb"', "a-b~8cb67f89", id="line break"),
        pytest.param("'$$(x)'", "x~c7b5ee9c", id="what reads as an expression"),
        pytest.param("日本", '"日本"', id="unicode"),
        pytest.param("x" * 99, "xxxxxxxxxxxxxxxxxxxxxxxx~3d2838ac", id="long"),
        pytest.param("{k: 1}", "~a0da1fce", id="object"),
        pytest.param("[1, 2]", "~49a64717", id="list"),
    ],
)
def test_the_name_of_an_item_tells_its_value_apart_from_all_others(value, label):
    assert items(f"over: {{v: [{value}, other]}}") == [f"[v={label}]", "[v=other]"]


AWKWARD = ["a b", 'say "hi"', "it's", "a/b", "a,b=c", "x]y[z", "..", "", "1", "true", "*", "-rf", "a\nb", "$(x)", "日本", " lead", "x" * 99]  # fmt: skip


def test_an_item_with_any_text_as_its_value_runs_with_that_text_and_can_be_selected_by_its_name(project):
    project.pipeline(f"""
        steps:
          a:
            kind: shell
            foreach: {{over: {{v: {json.dumps(AWKWARD).replace("$(", "$$(")}}}}}
            env: {{V: $(each.v)}}
            script: printf %s "$V" > o
            outputs: {{o: {{type: file}}}}
          b:
            kind: python
            function: b:b
            args: {{files: $(steps.a.outputs.o)}}
            outputs: {{texts: {{type: list, items: string}}}}
    """)
    project.write(b_py="def b(files):\n    return {'texts': [f.read_text() for f in files]}\n")
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["steps"]["b"]["outputs"]["texts"]["value"] == AWKWARD
    names = [name for name in project.statuses() if name.startswith("a[")]
    project.request(f"select: {json.dumps(names)}")
    planned = json.loads(project.runner("plan", "run.yaml", "-o", "json").raw)["steps"]
    assert {name: step["decision"] for name, step in planned.items()} == {
        **dict.fromkeys(names, "run"),
        "a": "cut",
        "b": "cut",
    }


@pytest.mark.parametrize(
    ("foreach", "message"),
    [
        pytest.param("over: {v: []}", "the axis `v` is empty: there would be no item", id="no value"),
        pytest.param("over: {v: [1, 1.0]}", "the axis `v` has 1 twice", id="a value twice"),
        pytest.param("over: {v: [1, null]}", "a value of the axis `v` is empty", id="null"),
        pytest.param("over: {v: 1 2}", "a list, or one expression that gives one, is needed here", id="a text"),
        pytest.param("over: {v: [1]}, exclude: [{v: 1}]", "`exclude` leaves no item", id="all excluded"),
        pytest.param("over: {v: [1]}, exclude: [{w: 1}]", "`foreach` has no axis `w`", id="no such axis"),
        pytest.param("over: {v: [1]}, include: [{v: 1}]", "this item is there already", id="included twice"),
        pytest.param("over: {v: [1]}, include: [{v: x}]", "the axis `v` has values of type integer, not string", id="another type"),
        pytest.param("over: {v: [1], w: [1]}, include: [{v: 2}]", "an item of `include` needs a value for every axis; w is missing", id="included in part"),
        pytest.param("over: {v: [1, 2], w: [1, 2]}, max_items: 3", "4 items of a (v: 2, w: 2) are more than `max_items`, 3", id="too many"),
        pytest.param("over: {v: [1]}, best: {output: o, mode: min}", "step `a` declares no number output `o`", id="best of files"),
        pytest.param("over: {v: [$(each.v)]}", "no `each`", id="an axis of itself"),
        pytest.param("over: {v: [$(params.zz), 1]}", "no parameter `zz`", id="no such parameter"),
    ],
)  # fmt: skip
def test_axes_are_refused(foreach, message):
    with pytest.raises(Invalid) as error:
        items(foreach)
    assert message in error.value.diagnostics[0].text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(
            "[1, 2, 3]",
            "p.yaml:6:52: error[E209]: 3 items of a (v: 3) are more than `max_items`, 2\n"
            '    6 |   a: {kind: shell, script: "true", foreach: {over: {v: $(params.vs)}, max_items: 2}}\n'
            "      |                                                    ^\n"
            "      = help: give the axis fewer values, or raise `max_items`\n",
            id="too many",
        ),
        pytest.param(
            "[1, 1]",
            "p.yaml:6:52: error[E209]: two items are called a[v=1]: a value is given twice\n"
            '    6 |   a: {kind: shell, script: "true", foreach: {over: {v: $(params.vs)}, max_items: 2}}\n'
            "      |                                                    ^\n"
            "      = help: items are named by their values: give each value once\n",
            id="one twice",
        ),
    ],
)
def test_a_parameter_that_gives_no_items_is_refused_when_planning(project, values, message):
    project.pipeline("""
        params: {vs: {type: list, items: integer, default: [1]}}
        steps:
          a: {kind: shell, script: "true", foreach: {over: {v: $(params.vs)}, max_items: 2}}
    """)
    answer = project.runner("plan", "p.yaml", "-p", f"vs={values}")
    assert (answer.code, answer.err) == (2, message)


# --- selections of items ------------------------------------------------------------------------------------------

GRID = """
    steps:
      prep: {kind: command, command: [make, prep], outputs: {o: {type: file}}}
      train:
        kind: command
        command: [make, $(steps.prep.outputs.o), $(each.depth), $(each.eta)]
        foreach: {over: {depth: [4, 8], eta: [0.1, 1e-3]}}
        outputs: {o: {type: file}}
      pick:
        kind: command
        command: [make, pick]
        inputs: {models: $(steps.train.outputs.o)}
        outputs: {o: {type: file}}
      report: {kind: command, command: [make, $(steps.pick.outputs.o)], outputs: {o: {type: file}}}
"""


@pytest.mark.parametrize(
    ("selector", "runs"),
    [
        pytest.param("'train[depth=4,eta=0.1]'", "[4,0.1]", id="one item"),
        pytest.param("'train[eta=0.1,depth=4]'", "[4,0.1]", id="in another order"),
        pytest.param("'train[depth=4]'", "[4,0.1] [4,0.001]", id="a part of the values"),
        pytest.param("'train[eta=0.001]'", "[4,0.001] [8,0.001]", id="a number in its shortest form"),
        pytest.param("'tr*[depth=4]'", "[4,0.1] [4,0.001]", id="a glob"),
        pytest.param("'train[]'", "[4,0.1] [4,0.001] [8,0.1] [8,0.001] train", id="all of them"),
        pytest.param("train", "[4,0.1] [4,0.001] [8,0.1] [8,0.001] train", id="the fan-out"),
        pytest.param("'train[depth=4,eta=0.1]+1'", "[4,0.1] train", id="one step down"),
        pytest.param("'train[depth=4,eta=0.1]+2'", "[4,0.1] train pick", id="two steps down"),
        pytest.param("'train[depth=4,eta=0.1]+'", "[4,0.1] train pick report", id="all the way down"),
        pytest.param("'+train[depth=4,eta=0.1]'", "prep [4,0.1]", id="all the way up"),
        pytest.param("'train[depth=4] .. pick'", "[4,0.1] [4,0.001] train pick", id="a range"),
        pytest.param("'train[depth=4] and not train[eta=0.1]'", "[4,0.001]", id="a difference"),
        pytest.param("'train[depth=4,eta=0.1]', pick", "[4,0.1] train pick", id="with its reader: what joins them comes along"),
    ],
)  # fmt: skip
def test_a_selector_of_items_means(selector, runs):
    lab = Lab(GRID)
    lab.apply()
    plan = lab.plan(f"select: [{selector}]")
    assert " ".join(plan.selection.steps).replace("train[depth=", "[").replace("eta=", "") == runs


def test_case_19_one_item_runs_and_the_reduce_step_takes_the_others_from_the_reference():
    lab = Lab(GRID)
    lab.apply()
    assert lab.decisions("select: ['train[depth=8,eta=0.1]', pick, report]") == {
        "prep": "reuse",
        "train[depth=4,eta=0.1]": "reuse",
        "train[depth=4,eta=0.001]": "reuse",
        "train[depth=8,eta=0.1]": "run",
        "train[depth=8,eta=0.001]": "reuse",
        "train": "run",
        "pick": "run",
        "report": "run",
    }


COUNTED = """
    params: {xs: {type: list, items: integer, default: [1, 2]}, text: {type: string, default: 1 2}}
    runtimes: {counted: {kind: host, inherit_env: [COUNT, BAD, GO]}}
    steps:
      list:
        kind: python
        function: m:split
        args: {text: $(params.text)}
        outputs: {xs: {type: list, items: integer}}
      a:
        kind: shell
        runtime: counted
        foreach: {over: {x: AXIS}FOREACH}
        MORE
        env: {X: $(each.x)}
        script: |
          echo "$X" >> "$COUNT"
          while [ "$X" = 3 ] && [ -n "${GO:-}" ] && ! [ -e "$GO" ]; do sleep 0.02; done
          if grep -qx "$X" "$BAD"; then exit 1; fi
          echo "file $X" > o
        outputs: {o: {type: file}}
      all-of-a:
        kind: python
        function: m:join
        args: {files: $(steps.a.outputs.o)}
        outputs: {text: {type: string}}
"""
M = """
    def split(text):
        return {"xs": [int(x) for x in text.split()]}

    def join(files):
        return {"text": " ".join(f.read_text().strip() if f else "-" for f in files)}
"""


class Counted:
    """A project whose items note that they ran, and fail where a file says so."""

    def __init__(self, project, tmp_path, axis="$(params.xs)", foreach="", more=""):
        self.project, self.count, self.bad, self.go = project, *(project.beside / n for n in ("count", "bad", "go"))
        self.bad.touch()
        self.env = {"COUNT": str(self.count), "BAD": str(self.bad)}
        text = COUNTED.replace("AXIS", axis).replace("FOREACH", foreach).replace("MORE", more)
        project.pipeline(text.replace("\n        \n", "\n"))
        project.write(m_py=M)

    def runner(self, *args):
        return self.project.runner(*args, env=self.env)

    def ran(self):
        """The values whose items ran since this was last asked, sorted."""
        found = " ".join(sorted(self.count.read_text().split())) if self.count.exists() else ""
        self.count.write_text("")
        return found

    def text(self):
        return self.project.record()["steps"]["all-of-a"]["outputs"]["text"]["value"]

    def begun(self, value):
        """Wait until the item of a value has begun."""
        while not (self.count.exists() and value in self.count.read_text().split()):
            time.sleep(0.02)

    def newest(self):
        return json.loads(self.runner("runs", "--limit", "1", "-o", "json").raw)[0]["run"]


@pytest.mark.parametrize(
    ("axis", "name", "form"),
    [
        pytest.param("$(params.xs)", "xs", "[{}]", id="of a parameter"),
        pytest.param("$(steps.list.outputs.xs)", "text", "{}", id="of a step"),
    ],
)
def test_only_what_changed_of_an_axis_runs_again(project, tmp_path, axis, name, form):
    a = Counted(project, tmp_path, axis)

    def apply(*values):
        separator = ", " if name == "xs" else " "
        assert a.runner("apply", "p.yaml", "-p", f"{name}={form.format(separator.join(values))}").code == 0
        return a.ran(), a.text()

    assert apply("1", "2", "3") == ("1 2 3", "file 1 file 2 file 3")
    assert apply("3", "1", "2") == ("", "file 3 file 1 file 2")
    assert apply("2", "3") == ("", "file 2 file 3")
    assert apply("4", "2", "3") == ("4", "file 4 file 2 file 3")


def test_a_list_that_the_reference_run_was_given_has_its_items_not_those_of_the_default(project, tmp_path):
    a = Counted(project, tmp_path)
    a.runner("apply", "p.yaml", "-p", "xs=[5, 6, 7]")
    a.ran()
    project.request('select: ["a[x=6]+"]')
    assert a.runner("apply", "run.yaml").code == 0
    assert (a.ran(), a.text()) == ("6", "file 5 file 6 file 7")


def test_items_that_differ_from_those_of_the_reference_run_are_named(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)")
    a.runner("apply", "p.yaml")
    project.request('select: ["a[x=3]"]')
    assert a.runner("plan", "run.yaml").err == (
        "run.yaml:4:10: error[E402]: no step `a[x=3]`\n"
        '    4 | select: ["a[x=3]"]\n'
        "      |          ^\n"
        "      = help: the items are: a[x=1], a[x=2]\n"
    )


def test_an_item_cannot_be_named_where_what_lists_it_runs_again(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)")
    a.runner("apply", "p.yaml")
    project.request('select: [list, "a[x=1]"]')
    assert "= help: the items of `a` are not known before it runs; name a itself\n" in a.runner("plan", "run.yaml").err


def test_the_items_are_found_through_runs_that_only_reused_what_was_made_of_them(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)")
    a.runner("apply", "p.yaml")
    a.ran()
    project.request("select: [all-of-a]")
    a.runner("apply", "run.yaml")
    assert {n for n, status in project.statuses().items() if status == "not_selected"} == {"list", "a[x=1]", "a[x=2]"}
    answer = a.runner("plan", "run.yaml")
    assert answer.out.splitlines()[3:5] == ["  reuse   a         from R1 via R2", "  run     all-of-a  selected"]


def test_what_a_reused_item_was_listed_with_is_no_matter(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)")
    a.runner("apply", "p.yaml", "-p", "text=1 2 3")
    a.runner("apply", "p.yaml", "-p", "text=3 1")
    a.ran()
    project.request('select: ["a[x=1]+"]')
    assert a.runner("apply", "run.yaml").code == 0
    assert (a.ran(), a.text()) == ("1", "file 3 file 1")


# --- verdicts -----------------------------------------------------------------------------------------------------


def test_a_stale_item_is_accepted_by_its_name(project, tmp_path):
    a = Counted(project, tmp_path, more="code: [c.txt]")
    project.write(c_txt="1")
    a.runner("apply", "p.yaml")
    project.write(c_txt="2")
    project.request('select: ["a[x=1]", all-of-a]')
    answer = a.runner("plan", "run.yaml")
    assert answer.code == 3
    assert answer.out.splitlines()[4:6] == [
        "  reuse   a[x=2]    from R1   STALE  code c.txt: DIGEST -> DIGEST",
        "  run     a         2 items: 1 run, 1 reuse   (run: [x=1])   selected; code c.txt: DIGEST -> DIGEST   1 of them needs a decision",
    ]
    assert a.runner("plan", "run.yaml", "--accept", "a[x=2]", "--reason", "a comment", "-w").code == 0
    a.ran()
    assert a.runner("apply", "run.yaml").code == 0
    assert a.ran() == "1"


def test_the_least_honest_selection_has_all_items_of_a_fan_out_that_is_listed_anew(project):
    project.pipeline("""
        params: {xs: {type: list, items: integer, default: [1, 2]}}
        steps:
          a:
            kind: shell
            foreach: {over: {x: $(params.xs)}}
            env: {X: $(each.x)}
            script: echo $X > o
            outputs: {o: {type: file}}
          b:
            kind: shell
            foreach: {over: {f: $(steps.a.outputs.o)}}
            inputs: {f: $(each.f)}
            script: cat "$RUNNER_INPUT_F" > o
            outputs: {o: {type: file}}
    """)
    project.runner("apply", "p.yaml")
    item = "b[f=o@4355a46b19d3]"  # of the file that holds 1
    project.request(f'select: ["{item}"]\nparams: {{xs: [1]}}')
    answer = project.runner("plan", "run.yaml")
    assert (
        "F201 a would be reused, but it is stale: input items: 2 -> 1 ([x=2] is gone).\n     select: [a, b]\n"
        in answer.out
    )
    project.request("select: [a, b]\nparams: {xs: [1]}")
    assert project.runner("apply", "run.yaml").code == 0
    assert project.statuses() == {"a[x=1]": "succeeded", "a": "succeeded", item: "succeeded", "b": "succeeded"}


# --- failures, retry, resume --------------------------------------------------------------------------------------


def test_after_a_failed_item_no_other_begins_and_retry_runs_what_is_missing(project, tmp_path):
    a = Counted(project, tmp_path, foreach=", max_parallel: 1")
    a.bad.write_text("2\n")
    assert a.runner("apply", "p.yaml", "-p", "xs=[1, 2, 4]").code == 1
    assert a.ran() == "1 2"
    assert project.statuses() == {
        "list": "succeeded", "a[x=1]": "succeeded", "a[x=2]": "failed", "a[x=4]": "not_run", "a": "upstream_failed", "all-of-a": "upstream_failed",
    }  # fmt: skip
    a.bad.write_text("")
    run = a.newest()
    assert a.runner("retry", run, "--print").out.splitlines()[-3:] == [
        'select: ["a[x=2]", "a[x=4]", all-of-a]', "islands: allow", "mode: full"
    ]  # fmt: skip
    assert a.runner("retry", run).code == 0
    assert (a.ran(), a.text()) == ("2 4", "file 1 file 2 file 4")


def test_a_printed_retry_is_a_run_file(project, tmp_path):
    a = Counted(project, tmp_path)
    a.bad.write_text("2\n")
    a.runner("apply", "p.yaml")
    a.bad.write_text("")
    project.write(run_yaml=a.runner("retry", a.newest(), "--print").raw)
    a.ran()
    assert a.runner("apply", "run.yaml").code == 0
    assert (a.ran(), a.text()) == ("2", "file 1 file 2")


def test_with_on_failure_continue_a_failed_item_leaves_null(project, tmp_path):
    a = Counted(project, tmp_path, foreach=", fail_fast: false", more="on_failure: continue")
    a.bad.write_text("1\n")
    answer = a.runner("apply", "p.yaml")
    assert answer.code == 0
    assert "  a: ok, 2 items\n    note: 1 of 2 items failed and left null: a[x=1]\n" in answer.out
    assert (a.ran(), a.text()) == ("1 2", "- file 2")
    a.bad.write_text("")
    assert a.runner("retry", a.newest()).code == 0
    assert (a.ran(), a.text()) == ("1", "file 1 file 2")


def test_when_is_judged_item_by_item_of_a_computed_axis_too(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)", more="when: $(each.x != 2)")
    assert a.runner("apply", "p.yaml", "-p", "text=1 2 3").code == 0
    assert (a.ran(), a.text()) == ("1 3", "file 1 - file 3")


def test_max_parallel_limits_the_items_under_way(project, tmp_path):
    project.pipeline(f"""
        steps:
          a:
            kind: shell
            workdir: project
            foreach: {{over: {{x: [1, 2, 3, 4, 5, 6]}}, max_parallel: 2}}
            script: |
              echo begun >> {tmp_path}/log; sleep 0.1; echo ended >> {tmp_path}/log
    """)
    assert project.runner("apply", "p.yaml", "--workers", "6").code == 0
    under_way = [0]
    for word in (tmp_path / "log").read_text().split():
        under_way.append(under_way[-1] + {"begun": 1, "ended": -1}[word])
    assert (max(under_way), under_way[-1]) == (2, 0)


def test_after_kill_9_in_the_middle_retry_runs_what_had_not_ended(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)", ", max_parallel: 1")
    a.env["GO"] = str(a.go)
    process = project.start("apply", "p.yaml", "-p", "text=1 3 2", env=a.env)
    a.begun("3")
    run = a.newest()
    while project.statuses(run).get("a[x=3]") != "running":  # until then it is not on the disk
        time.sleep(0.05)
    process.kill()
    process.communicate()
    a.go.touch()
    assert project.statuses(run) == {
        "list": "succeeded", "a": "not_run", "all-of-a": "not_run", "a[x=1]": "succeeded", "a[x=3]": "interrupted"
    }  # fmt: skip
    a.ran()
    assert a.runner("retry", run).code == 0
    assert (a.ran(), a.text()) == ("2 3", "file 1 file 3 file 2")


def test_stop_ends_the_item_under_way_and_begins_no_other(project, tmp_path):
    a = Counted(project, tmp_path, foreach=", max_parallel: 1")
    a.env["GO"] = str(a.go)
    process = project.start("apply", "p.yaml", "-p", "xs=[1, 3, 2]", env=a.env)
    a.begun("3")
    run = a.newest()
    a.runner("stop", run)
    process.communicate(timeout=20)
    assert project.statuses(run) == {
        "list": "succeeded", "a[x=1]": "succeeded", "a[x=3]": "stopped", "a[x=2]": "not_run", "a": "not_run", "all-of-a": "not_run",
    }  # fmt: skip
    a.go.touch()
    a.ran()
    assert a.runner("retry", run).code == 0
    assert (a.ran(), a.text()) == ("2 3", "file 1 file 3 file 2")


# --- what is shown ------------------------------------------------------------------------------------------------


def test_a_plan_folds_items_in_text_and_markdown_and_has_each_in_json(project, tmp_path):
    a = Counted(project, tmp_path)
    a.runner("apply", "p.yaml")
    plan = ("plan", "p.yaml", "-p", "xs=[1, 2, 3]")
    assert (
        a.runner(*plan).out.splitlines()[3] == "  run     a         3 items: 1 run, 2 cached   (run: [x=3])   it is new"
    )
    assert "| run | a | `3 items: 1 run, 2 cached (run: [x=3]) it is new` |\n" in a.runner(*plan, "-o", "markdown").out
    assert {n: s["decision"] for n, s in json.loads(a.runner(*plan, "-o", "json").raw)["steps"].items()} == {
        "list": "cached", "a[x=1]": "cached", "a[x=2]": "cached", "a[x=3]": "run", "a": "run", "all-of-a": "run"
    }  # fmt: skip


def test_a_plan_file_with_a_computed_axis_is_applied_and_knows_when_a_file_has_changed(project, tmp_path):
    a = Counted(project, tmp_path, "$(steps.list.outputs.xs)")
    a.runner("plan", "p.yaml", "-p", "text=2 1", "--out", "plan.json")
    assert a.runner("plan", "plan.json", "--check").code == 0
    assert a.runner("apply", "plan.json").code == 0
    assert (a.ran(), a.text()) == ("1 2", "file 2 file 1")
    a.runner("plan", "p.yaml", "-p", "text=2 3", "--out", "plan.json")
    project.write(m_py=M + "# edited")
    assert a.runner("apply", "plan.json").code == 4
    assert a.ran() == ""


def test_outputs_logs_and_diff_know_items(project, tmp_path):
    a = Counted(project, tmp_path)
    project.write(m_py=M)
    a.runner("apply", "p.yaml")
    then = a.newest()
    a.runner("apply", "p.yaml", "-p", "xs=[2, 3]")
    now = a.newest()
    assert a.runner("outputs", then, "a[x=1]", str(tmp_path / "copied")).code == 0
    assert (tmp_path / "copied" / "o").read_text() == "file 1\n"
    assert a.runner("outputs", then, "a", str(tmp_path / "all")).code == 0
    assert [(p.name, p.read_text()) for p in sorted((tmp_path / "all/o").iterdir())] == [
        ("0", "file 1\n"),
        ("1", "file 2\n"),
    ]
    assert a.runner("outputs", then, "a").out == "o  list  2 items  produced by R1\n"
    assert a.runner("logs", then, "a[x=1]").code == 0
    assert a.runner("diff", then, now).out.split("\n\n")[1:4] == [
        "status\n"
        "  list    succeeded  ->  cached\n"
        "  a[x=1]  succeeded  ->  none\n"
        "  a[x=2]  succeeded  ->  cached\n"
        "  a[x=3]  none       ->  succeeded",
        "params\n  xs  [1, 2]  ->  [2, 3]",
        "outputs\n  a/o            DIGEST       ->  DIGEST\n  all-of-a/text  file 1 file 2  ->  file 2 file 3",
    ]


def test_the_first_of_equals_is_the_best_and_null_is_never(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            foreach: {over: {x: [1, 2, 3, 4]}, best: {output: n, mode: min}}
            when: $(each.x > 1)
            env: {X: $(each.x)}
            script: |
              echo "{\\"n\\": $((X == 4 ? 9 : 5))}" > "$RUNNER_VALUES"
            outputs: {n: {type: integer}}
        outputs: {x: $(steps.a.best.each.x), n: $(steps.a.best.outputs.n), count: $(steps.a.count)}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["ended"]["outputs"] == {"x": 2, "n": 5, "count": 4}


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
    assert 'select: ["a[x=2]", "a[x=2]+1"]' in written
    project.write(again_yaml=written)
    assert project.runner("validate", "again.yaml").code == 0


def test_a_result_that_was_cached_behind_a_fan_out_is_reused_again_and_again(project):
    """What it read was joined by the plan, before the run that had it first had a name."""
    project.pipeline("""
        steps:
          a:
            kind: shell
            foreach: {over: {x: [1, 2]}}
            script: echo x > o
            outputs: {o: {type: file}}
          d:
            kind: shell
            inputs: {files: $(steps.a.outputs.o)}
            script: echo "$RUNNER_CONTEXT" > o
            outputs: {o: {type: file}}
          e: {kind: command, command: [cat, $(steps.d.outputs.o)]}
    """)
    project.request("select: [all]\nmode: incremental", "everything")
    project.request("select: [e]\nmode: full", "last")
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("apply", "everything.yaml", "--again").code == 0
    assert project.statuses()["d"] == "cached"
    assert project.runner("apply", "last.yaml", "--again").code == 0
    assert project.runner("apply", "last.yaml", "--again").code == 0
    assert {name: project.statuses()[name] for name in "de"} == {"d": "reused", "e": "succeeded"}
