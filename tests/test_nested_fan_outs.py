"""A fan-out of pipelines inside a fan-out of pipelines: each step has the values of all items that it is part of."""

import pytest

LEAF = """
    apiVersion: runner/v1
    kind: Pipeline
    name: leaf
    params: {p: {type: string}, q: {type: string}, r: {type: integer}, bad: {type: string}}
    steps:
      list:
        kind: shell
        env: {R: $(params.r)}
        script: 'echo "{\\"l\\": [1, $((R + 1))]}" > "$RUNNER_VALUES"'
        outputs: {l: {type: list, items: integer}}
      s:
        kind: shell
        foreach: {over: {x: $(steps.list.outputs.l)}, best: {output: v, mode: max}}
        env: {P: $(params.p), Q: $(params.q), R: $(params.r), X: $(each.x), BAD: $(params.bad)}
        script: |
          test "$P$Q$R$X" != "$BAD" || test -e "$OK"
          echo "{\\"v\\": $((R * 10 + X)), \\"t\\": \\"$P$Q$R$X\\"}" > "$RUNNER_VALUES"
        outputs: {v: {type: integer}, t: {type: string}}
        runtime: marked
    runtimes: {marked: {kind: host, inherit_env: [OK]}}
    outputs: {v: $(steps.s.best.outputs.v), t: $(steps.s.outputs.t)}
"""
MIDDLE = """
    apiVersion: runner/v1
    kind: Pipeline
    name: middle
    params: {one: {type: string}, ys: {type: list, items: string}, bad: {type: string}}
    steps:
      c:
        kind: pipeline
        pipeline: leaf.yaml
        foreach: {over: {x: $(params.ys), z: [1, 2]}, best: {output: v, mode: max}}
        params: {p: $(params.one), q: $(each.x), r: $(each.z), bad: $(params.bad)}
    outputs: {best: $(steps.c.best.outputs.t), texts: $(steps.c.outputs.t)}
"""
TOP = """
    params: {bad: {type: string, default: none}}
    steps:
      gen: {kind: shell, script: 'echo "{\\"l\\": [\\"a\\", \\"b\\"]}" > "$RUNNER_VALUES"', outputs: {l: {type: list, items: string}}}
      d:
        kind: pipeline
        pipeline: middle.yaml
        foreach: {over: {x: $(steps.gen.outputs.l)}}
        params: {one: $(each.x), ys: [p, $(each.x)], bad: $(params.bad)}
      fin:
        kind: python
        function: f:f
        args: {texts: $(steps.d.outputs.texts), best: $(steps.d.outputs.best)}
        outputs: {t: {type: string}}
"""
ALL = (
    "ap11 ap12/ap21 ap23/aa11 aa12/aa21 aa23//bp11 bp12/bp21 bp23/bb11 bb12/bb21 bb23 "
    "[['ap21', 'ap23'], ['bp21', 'bp23']]"
)


@pytest.fixture
def deep(project):
    """Three levels: axes over axes, one of them computed inside of an item; the same axis name on each level."""
    project.pipeline(TOP)
    project.write(
        leaf_yaml=LEAF,
        middle_yaml=MIDDLE,
        f_py="def f(texts, best):\n    return {'t': '//'.join('/'.join(' '.join(s) for s in t) for t in texts) + f' {best}'}\n",
    )
    return project


def text_of(project):
    return project.record()["steps"]["fin"]["outputs"]["t"]["value"]


def with_ok(project):
    return {"env": {"OK": str(project.beside / "ok")}}


def test_each_step_has_the_values_of_all_items_around_it(deep):
    assert deep.runner("apply", "p.yaml", **with_ok(deep)).code == 0
    assert text_of(deep) == ALL
    assert "nothing to do" in deep.runner("apply", "p.yaml", **with_ok(deep)).out


def test_a_single_nested_item_is_selected_and_the_rest_stays(deep):
    deep.runner("apply", "p.yaml", **with_ok(deep))
    deep.request('select: ["d[x=b]/c[x=p,z=2]/s[x=3]+"]')
    assert deep.runner("apply", "run.yaml", **with_ok(deep)).code == 0
    assert text_of(deep) == ALL
    ran = [name for name, status in deep.statuses().items() if status == "succeeded"]
    assert ran == [
        "d[x=b]/c[x=p,z=2]/s[x=3]", "d[x=b]/c[x=p,z=2]/s", "d[x=b]/c[x=p,z=2]", "d[x=b]/c", "d[x=b]", "d", "fin",
    ]  # fmt: skip


def test_a_retry_runs_what_failed_in_a_nested_item_and_what_had_not_begun(deep):
    answer = deep.runner("apply", "p.yaml", "-p", "bad=bp23", **with_ok(deep))
    assert answer.out.splitlines()[-1].endswith("d[x=b]/c[x=p,z=2]/s[x=3]: it exited with 1")
    (deep.beside / "ok").touch()
    assert deep.runner("retry", deep.record()["run"], **with_ok(deep)).code == 0
    assert text_of(deep) == ALL
    assert deep.statuses()["gen"] == "reused"


def test_an_edit_of_the_outer_axis_runs_only_the_new_items(deep):
    deep.runner("apply", "p.yaml", **with_ok(deep))
    deep.pipeline(TOP.replace('\\"b\\"', '\\"b\\", \\"c\\"'))
    assert deep.runner("apply", "p.yaml", **with_ok(deep)).code == 0
    ran = {
        name.partition("/")[0] for name, status in deep.statuses().items() if status == "succeeded" and "/s[" in name
    }
    assert ran == {"d[x=c]"}


def test_files_on_two_axes_of_one_name_are_two_files(project):
    project.write(
        leaf_yaml="""
            apiVersion: runner/v1
            kind: Pipeline
            name: leaf
            params: {p: {type: file}, q: {type: file}}
            steps: {s: {kind: shell, env: {P: $(params.p), Q: $(params.q)}, script: 'cat $P $Q > o', outputs: {o: {type: file}}}}
            outputs: {o: $(steps.s.outputs.o)}
        """,
        middle_yaml="""
            apiVersion: runner/v1
            kind: Pipeline
            name: middle
            params: {one: {type: file}, ys: {type: list, items: file}}
            steps:
              c: {kind: pipeline, pipeline: leaf.yaml, foreach: {over: {x: $(params.ys)}}, params: {p: $(params.one), q: $(each.x)}}
              k: {kind: shell, foreach: {over: {x: $(params.ys)}}, env: {P: $(params.one), Q: $(each.x)}, script: 'cat $P $Q > o', outputs: {o: {type: file}}}
            outputs: {c: $(steps.c.outputs.o), k: $(steps.k.outputs.o)}
        """,
        f_py="""
            def words(x):
                return [words(i) for i in x] if isinstance(x, list) else "".join(x.read_text().split())
            def f(c, k):
                return {"t": f"{words(c)} {words(k)}"}
        """,
    )
    project.pipeline("""
        steps:
          a: {kind: shell, foreach: {over: {n: [1, 2]}}, env: {N: $(each.n)}, script: 'echo a$N > o', outputs: {o: {type: file}}}
          b: {kind: shell, foreach: {over: {n: [1, 2]}}, env: {N: $(each.n)}, script: 'echo b$N > o', outputs: {o: {type: file}}}
          d: {kind: pipeline, pipeline: middle.yaml, foreach: {over: {x: $(steps.a.outputs.o)}}, params: {one: $(each.x), ys: $(steps.b.outputs.o)}}
          fin: {kind: python, function: f:f, args: {c: $(steps.d.outputs.c), k: $(steps.d.outputs.k)}, outputs: {t: {type: string}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    pairs = "[['a1b1', 'a1b2'], ['a2b1', 'a2b2']]"
    assert text_of(project) == f"{pairs} {pairs}"


def test_a_parameter_from_outside_and_an_axis_may_have_one_name(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "o"
    outside.write_text("outside\n")
    project.pipeline(f"""
        params: {{x: {{type: file, default: {outside}}}}}
        steps:
          made: {{kind: shell, foreach: {{over: {{n: [1]}}}}, script: echo axis > o, outputs: {{o: {{type: file}}}}}}
          read:
            kind: shell
            foreach: {{over: {{x: $(steps.made.outputs.o)}}}}
            env: {{A: $(params.x), B: $(each.x)}}
            script: cat $A $B
    """)
    assert project.runner("apply", "p.yaml", env={"RUNNER_INPUT_ROOTS": str(outside.parent)}).code == 0
    (item,) = [name for name in project.statuses() if name.startswith("read[")]
    assert project.runner("logs", project.record()["run"], item).out == "outside\naxis\n"


GATED = """
    apiVersion: runner/v1
    kind: Pipeline
    name: leaf
    params: {x: {type: string}}
    steps: {s: {kind: shell, env: {X: $(params.x)}, script: echo $X > o, outputs: {o: {type: file}}}}
    outputs: {o: $(steps.s.outputs.o)}
"""
BETWEEN = """
    apiVersion: runner/v1
    kind: Pipeline
    name: middle
    params: {xs: {type: list, items: string, default: [b]}}
    steps:
      c: {kind: pipeline, pipeline: leaf.yaml, foreach: {over: {x: [a]}}, params: {x: $(each.x)}}
      e: {kind: pipeline, pipeline: leaf.yaml, foreach: {over: {x: $(params.xs)}}, params: {x: $(each.x)}}
"""


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        ("when: false", "skipped"),
        ("when: $(params.go)", "skipped"),
        ("when: $(steps.first.outputs.go)", "skipped"),
        ("when: $(each.go), foreach: {over: {go: [false]}}", "skipped"),
        ("needs: [bad]", "upstream_failed"),
        ("tags: [x]", "succeeded"),
    ],
)
def test_what_gates_an_outer_step_gates_what_a_fan_out_inside_repeats(project, gate, status):
    project.write(leaf_yaml=GATED, middle_yaml=BETWEEN)
    project.pipeline(f"""
        params: {{go: {{type: boolean, default: false}}}}
        failure_policy: finish_independent
        steps:
          first: {{kind: shell, script: 'echo "{{\\"go\\": false}}" > "$RUNNER_VALUES"', outputs: {{go: {{type: boolean}}}}}}
          bad: {{kind: shell, script: exit 3}}
          outer: {{kind: pipeline, pipeline: middle.yaml, {gate}}}
    """)
    project.runner("apply", "p.yaml")
    ends = {name: end for name, end in project.statuses().items() if name.endswith("/s")}
    assert len(ends) == 2 and set(ends.values()) == {status}


def test_a_branch_that_is_not_taken_starts_nothing_of_a_fan_out_inside(project):
    project.write(leaf_yaml=GATED, middle_yaml=BETWEEN)
    project.pipeline("""
        steps:
          ask: {kind: condition, if: false, then: [outer]}
          outer: {kind: pipeline, pipeline: middle.yaml}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert {end for name, end in project.statuses().items() if name != "ask"} == {"skipped"}


def test_the_cache_of_a_pipeline_step_counts_for_all_that_is_inside(project):
    project.write(leaf_yaml=GATED, middle_yaml=BETWEEN)
    body = "steps: {outer: {kind: pipeline, pipeline: middle.yaml, cache: %s}}"
    ran = []
    for cache in ("{key: [one]}", "{key: [one]}", "{key: [two]}", "{key: [two], expire_after: 1ms}", "false"):
        project.pipeline(body % cache)
        project.runner("apply", "p.yaml", "--again")
        ran.append(sum(end == "succeeded" for name, end in project.statuses().items() if name.endswith("/s")))
    assert ran == [2, 0, 2, 2, 2]
