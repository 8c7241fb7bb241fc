"""Which fields of a step take expressions: a param that one of them reads is found by `param:` and by the effects of a plan.

The others refuse an expression instead of taking its text. Every field of every kind stands in one of the two tables.
"""

import json

import pytest

from runner.errors import Invalid
from runner.graph import Graph
from runner.language import KINDS, fields_of
from runner.select import Facts, expand
from tests.kit import Files, pipeline

PARAMS = {
    "t": {"type": "string", "default": "a"},
    "n": {"type": "integer", "default": 1},
    "b": {"type": "boolean", "default": True},
    "d": {"type": "duration", "default": "5m"},
    "l": {"type": "list", "items": "string", "default": ["a"]},
}
# What a step of a kind needs beside the field that is looked at.
BARE = {
    "command": {"command": ["echo"]},
    "shell": {"script": "x"},
    "python": {"function": "m:f"},
    "condition": {"if": True},
    "fail": {"message": "x"},
    "notebook": {"notebook": "n.ipynb"},
    "pipeline": {"pipeline": "inner.yaml"},
    "approval": {"message": "x"},
    "callback": {"outputs": {"v": {"type": "string"}}},
    "register": {"model": "$(steps.other.outputs.o)", "group": "g"},
}
OUTPUT = {"outputs": {"o": {"type": "file"}}}
# (kind, field) -> values that read the param of which they have the name; kind `*`: every kind that has the field.
READS = {
    ("*", "when"): ["$(params.b)"],
    ("*", "env"): [{"X": "$(params.t)"}, {"X": "a$(params.t)"}],
    ("*", "inputs"): [{"x": "$(params.t)"}],
    ("*", "resources"): [{"cpu": "$(params.n)"}, {"memory": "$(params.t)"}, {"cpu": "$(params.n + 1)"}],
    ("*", "foreach"): [{"over": {"x": "$(params.l)"}}, {"over": {"x": ["a", "$(params.t)"]}}],
    ("*", "timeout"): ["$(params.d)", "$(params.t)"],
    ("*", "cache"): [{"key": ["$(params.t)"]}],
    ("command", "command"): [["echo", "$(params.t)"]],
    ("python", "args"): [{"x": "$(params.t)"}],
    ("notebook", "parameters"): [{"x": "$(params.t)"}],
    ("condition", "if"): ["$(params.b)", [True, "$(params.b)"]],
    ("fail", "message"): ["$(params.t)"],
    ("approval", "message"): ["$(params.t)"],
    ("callback", "message"): ["$(params.t)"],
    ("pipeline", "params"): [{"x": "$(params.t)"}, {"size": "$(params.n)"}, {"limit": "$(params.d)"}],
    ("register", "group"): ["$(params.t)"],
    ("register", "metrics"): [{"m": "$(params.n)"}],
    ("register", "status"): ["$(params.t)"],
    ("register", "metadata"): [{"m": "$(params.t)"}],
}
# The same -> values with an expression that nobody would evaluate.
REFUSES = {
    ("*", "kind"): ["$(params.t)"],
    ("*", "tags"): [["$(params.t)"]],
    ("*", "needs"): [["$(params.t)"]],
    ("*", "trigger"): ["$(params.t)"],
    ("*", "on_failure"): ["$(params.t)"],
    ("*", "grace_period"): ["$(params.d)"],
    ("*", "retry"): [{"max_attempts": "$(params.n)"}, {"max_attempts": 2, "interval": "$(params.d)"}],
    ("*", "outputs"): [
        {"o": {"type": "file", "path": "a$(params.t)"}},
        {"o": {"type": "$(params.t)"}},
        {"f": {"type": "file"}, "o": {"type": "string", "from": "f", "pointer": "/$(params.t)"}},
    ],
    ("*", "code"): [["$(params.t)"]],
    ("*", "runtime"): ["$(params.t)"],
    ("*", "workdir"): ["$(params.t)"],
    ("*", "isolation"): ["$(params.t)"],
    ("*", "network"): ["$(params.b)"],
    ("*", "success_codes"): [["$(params.n)"]],
    ("*", "cache"): [{"expire_after": "$(params.d)"}, {"ignore": ["$(params.t)"]}],
    ("*", "foreach"): [
        {"over": {"x": ["a"]}, "max_parallel": "$(params.n)"},
        {"over": {"x": ["a"]}, "include": [{"x": "$(params.t)"}]},
    ],
    ("shell", "script"): ["echo $(params.t)"],
    ("shell", "shell"): [["bash", "$(params.t)"]],
    ("python", "function"): ["m:$(params.t)"],
    ("notebook", "notebook"): ["$(params.t)"],
    ("notebook", "kernel"): ["$(params.t)"],
    ("condition", "then"): [["$(params.t)"]],
    ("condition", "else"): [["$(params.t)"]],
    ("pipeline", "pipeline"): ["$(params.t)"],
    ("approval", "approvers"): [["$(params.t)"]],
    ("approval", "on_timeout"): ["$(params.t)"],
    ("approval", "timeout"): ["$(params.d)"],
    ("callback", "timeout"): ["$(params.d)"],
    ("register", "model"): ["$(params.t)"],
}
TEXT = {"description"}  # shown, and taken as it is written


def rows(table, other):
    """Spread the kinds of a table: what a kind says of a field in either table is not said by `*`."""
    own = {key for key in (*table, *other) if key[0] != "*"}
    return [
        pytest.param(kind, field, value, id=f"{kind}-{field}-{number}")
        for (of, field), values in table.items()
        for kind in (sorted(KINDS) if of == "*" else [of])
        if field in fields_of(kind) and (of != "*" or (kind, field) not in own)
        for number, value in enumerate(values)
    ]


def compiled(kind, field, value):
    steps = {
        "other": {"kind": "shell", "script": "x", **OUTPUT},
        "s": {"kind": kind, **(OUTPUT if field == "cache" and kind != "pipeline" else {}), **BARE[kind], field: value},
    }
    files = Files(
        {
            "inner.yaml": INNER,
            "m.py": "def f(x=1): pass\n",
            "n.ipynb": json.dumps({"cells": [CELL], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
        }
    )
    return pipeline(
        f"apiVersion: runner/v1\nkind: Pipeline\nname: p\nparams: {json.dumps(PARAMS)}\nsteps: {json.dumps(steps)}\n",
        files,
    )


CELL = {
    "cell_type": "code",
    "metadata": {"tags": ["parameters"]},
    "source": "x = 1",
    "outputs": [],
    "execution_count": None,
}
INNER = """
apiVersion: runner/v1
kind: Pipeline
name: inner
params: {x: {type: string, default: a}, size: {type: integer, default: 1}, limit: {type: duration, default: 5m}}
steps:
  s: {kind: shell, env: {X: $(params.x)}, resources: {cpu: $(params.size)}, timeout: $(params.limit), script: x}
"""


@pytest.mark.parametrize(("kind", "field", "value"), rows(READS, REFUSES))
def test_a_param_that_a_field_reads_selects_the_step(kind, field, value):
    made = compiled(kind, field, value)
    (param,) = [name for name in PARAMS if f"params.{name}" in json.dumps(value)]
    graph = Graph({name: step.before for name, step in made.steps.items()})
    found = expand(f"param:{param}", made, graph, Facts(lambda status: set(), lambda kind: set()))
    assert found - {"s"} <= {"s/s"} and found


@pytest.mark.parametrize(("kind", "field", "value"), rows(REFUSES, READS))
def test_a_field_that_takes_no_expression_refuses_one(kind, field, value):
    with pytest.raises(Invalid):
        compiled(kind, field, value)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_of_a_kind_stands_in_a_table(kind):
    told = {field for of, field in (*READS, *REFUSES) if of in ("*", kind)}
    assert fields_of(kind) <= told | TEXT


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("pipeline", "pipeline: inner.yaml"), ("condition", "if: true"), ("fail", "message: x"), ("approval", "message: x"),
        ("callback", "outputs: {v: {type: string}}"), ("register", "model: $(steps.other.outputs.o), group: g"),
    ],
)  # fmt: skip
def test_a_default_is_not_read_by_a_step_whose_kind_lacks_the_field(kind, more):
    made = pipeline(
        f"""
        params: {{t: {{type: string, default: a}}}}
        defaults: {{env: {{X: $(params.t)}}}}
        steps:
          other: {{kind: shell, script: x, outputs: {{o: {{type: file}}}}}}
          s: {{kind: {kind}, {more}}}
        """,
        Files({"inner.yaml": INNER}),
    )
    assert (made.steps["other"].params, made.steps["s"].params, made.steps["s"].env) == ({"t"}, set(), {})


def test_a_timeout_that_a_default_gives_is_read_by_each_step_that_has_the_field():
    made = pipeline("""
        params: {d: {type: duration, default: 5m}}
        defaults: {timeout: 5m, resources: {cpu: 1}}
        steps:
          a: {kind: shell, script: x}
          b: {kind: approval, message: x}
          c: {kind: condition, if: true}
    """)
    assert [made.steps[n].timeout for n in "abc"] == [300.0, 300.0, None]


# --- in real runs -------------------------------------------------------------------------------------------------


def test_a_param_of_resources_and_one_of_timeout_have_effects(project):
    project.pipeline("""
        params: {cores: {type: integer, default: 1}, limit: {type: duration, default: 1m}}
        steps:
          a: {kind: shell, script: echo x > o, resources: {cpu: $(params.cores)}, timeout: $(params.limit), outputs: {o: {type: file}}}
          b: {kind: shell, env: {A: $(steps.a.outputs.o)}, script: cat $A > o, outputs: {o: {type: file}}}
    """)
    project.runner("apply", "p.yaml")
    project.request('params: {cores: 2, limit: 2m}\nselect: ["param:cores"]')
    assert [line for line in project.runner("plan", "run.yaml").out.splitlines() if "->" in line] == [
        "params   cores 1 -> 2     effective   read by a",
        "         limit 1m -> 2m   effective   read by a",
    ]
    project.request("params: {cores: 2, limit: 2m}\nselect: [b]")
    assert "read by no step" not in project.runner("plan", "run.yaml").out


def test_a_gate_of_a_pipeline_step_is_effective_though_a_default_reads_it_too(project):
    project.write(
        inner_yaml="""
            apiVersion: runner/v1
            kind: Pipeline
            name: inner
            params: {b: {type: boolean}}
            steps:
              t: {kind: shell, script: echo t > o, outputs: {o: {type: file}}}
              u: {kind: shell, env: {B: $(params.b)}, script: echo $B > o, outputs: {o: {type: file}}}
        """
    )
    project.pipeline("""
        params: {go: {type: boolean, default: true}}
        defaults: {env: {G: $(params.go)}}
        steps: {sub: {kind: pipeline, pipeline: inner.yaml, when: $(params.go), params: {b: $(params.go)}}}
    """)
    project.runner("apply", "p.yaml")
    project.request("params: {go: false}\nselect: [sub/t]")
    assert "effective   read by sub/t (skipped)" in project.runner("plan", "run.yaml").out


@pytest.mark.parametrize(
    ("reads", "status"),
    [
        ("when: $(not steps.c.taken)", "skipped"),
        ("env: {T: $(steps.c.taken)}", "skipped"),
        ("env: {T: 'is $(steps.c.taken)'}", "skipped"),
        ("inputs: {t: \"$(if(steps.c.taken, 'a', 'b'))\"}", "skipped"),
        ("env: {T: '$(coalesce(steps.c.taken, false))'}", "succeeded"),
        ("env: {T: '$(coalesce(steps.c.taken, false))'}, trigger: none_failed", "succeeded"),
        ("when: '$(not coalesce(steps.c.taken, false))'", "succeeded"),
    ],
)
def test_a_reader_of_taken_is_skipped_with_its_condition_unless_it_can_do_without(project, reads, status):
    project.pipeline(f"""
        params: {{go: {{type: boolean, default: false}}}}
        steps:
          c: {{kind: condition, if: $(params.go), when: $(params.go)}}
          d: {{kind: shell, script: echo released, {reads}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.statuses() == {"c": "skipped", "d": status}


@pytest.mark.parametrize(
    ("script", "foreach", "read", "shown"),
    [
        ("exit 3", "", "$(coalesce(steps.sub.outputs.o, 'none'))", "none\n"),
        ("echo hi > o.txt", "", "$(coalesce(steps.sub.outputs.o, 'none'))", "hi\n"),
        ("exit 3", "foreach: {over: {x: [1, 2]}},", "$(steps.sub.count)", "2\n"),
    ],
)
def test_a_reader_in_coalesce_starts_after_a_pipeline_whose_failure_is_tolerated(project, script, foreach, read, shown):
    project.write(
        inner_yaml=f"""
            apiVersion: runner/v1
            kind: Pipeline
            name: inner
            steps:
              t: {{kind: shell, script: {script}, outputs: {{o: {{type: file, path: o.txt}}}}}}
              u: {{kind: shell, env: {{T: $(steps.t.outputs.o)}}, script: cp $T o.txt, outputs: {{o: {{type: file, path: o.txt}}}}}}
            outputs: {{o: $(steps.u.outputs.o)}}
        """
    )
    project.pipeline(f"""
        steps:
          sub: {{kind: pipeline, pipeline: inner.yaml, {foreach} on_failure: continue}}
          reads: {{kind: shell, env: {{I: "{read}"}}, script: 'test -f "$I" && cat "$I" || echo "$I"'}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("logs", project.record()["run"], "reads").out == shown


def test_a_step_that_failed_behind_another_is_tolerated_as_one_that_failed_itself(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: exit 3, outputs: {o: {type: file}}, on_failure: continue}
          b: {kind: shell, env: {A: $(steps.a.outputs.o)}, script: cp $A o, outputs: {o: {type: file}}, on_failure: continue}
          c: {kind: shell, env: {B: "$(coalesce(steps.b.outputs.o, 'none'))"}, script: echo $B}
          d: {kind: shell, env: {B: $(steps.b.outputs.o)}, script: echo $B}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.statuses() == {"a": "failed", "b": "upstream_failed", "c": "succeeded", "d": "upstream_failed"}


def test_what_a_step_may_use_is_known_before_any_step_ends(project):
    project.write(inner_yaml=INNER)
    project.pipeline("""
        steps:
          a: {kind: shell, script: x, outputs: {n: {type: integer}}}
          sub: {kind: pipeline, pipeline: inner.yaml, params: {size: $(steps.a.outputs.n)}}
    """)
    assert str(project.runner("validate", "p.yaml")) == (
        "p.yaml:6:62: error[E205]: `size` of inner.yaml is read by `resources` or `timeout`, which are known before any step ends\n"
        "    6 |   sub: {kind: pipeline, pipeline: inner.yaml, params: {size: $(steps.a.outputs.n)}}\n"
        "      |                                                              ^\n"
        "      = help: give it a value of params or `each`\n"
        "[exit 2]"
    )
