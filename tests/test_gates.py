"""Would what is reused start today: each gate in front of it is asked again, one that is new included."""

import pytest

from tests.kit import Files, Lab
from tests.test_verdict import codes, pasted

READERS = """
  t: {{kind: command, command: [t], outputs: {{o: {{type: file, path: o.txt}}}}{of_t}}}
  r: {{kind: command, command: [r, $(steps.t.outputs.o), $(params.k)], outputs: {{o: {{type: file, path: o.txt}}}}}}
"""
PARAMS = "params: {go: {type: boolean, default: true}, low: {type: boolean, default: false}, k: {type: integer, default: 1}}\nsteps:"


def pipeline(more="", of_t=""):
    return PARAMS + READERS.format(of_t=of_t) + more


def texts(plan):
    return [f"{f.code} {f.text}" for f in plan.findings]


def edited(before, after, request="select: [r]\nparams: {k: 2}", first=""):
    """Return the plan of `request` against a run of the pipeline as it was before an edit."""
    it = Lab(before)
    it.apply(first)
    it.text = after
    return it.plan(request)


@pytest.mark.parametrize(
    ("more", "of_t", "text"),
    [
        pytest.param(
            "  g: {kind: condition, if: $(params.low), then: [t]}",
            "",
            "t ran there; today it would not run: g is false, and t is reused.",
            id="a condition",
        ),
        pytest.param(
            "  g: {kind: condition, if: $(params.go), else: [t]}",
            "",
            "t ran there; today it would not run: g is true, and t is reused.",
            id="an else branch",
        ),
        pytest.param(
            "",
            ", when: $(params.low)",
            "`when` of t was true; with low false it would be false, and t is reused.",
            id="a when",
        ),
        pytest.param(
            "",
            ", when: false",
            "t ran there; today it would not run: `when` is false, and t is reused.",
            id="a when without values",
        ),
        pytest.param(
            "  g: {kind: command, command: [g], when: $(params.low), outputs: {o: {type: file}}}",
            ", needs: [g]",
            "t ran there; today it would not run: g was skipped, and t is reused.",
            id="a step before it that would be skipped",
        ),
    ],
)
def test_a_gate_that_is_new_and_closed_is_a_finding(more, of_t, text):
    assert texts(edited(pipeline(), pipeline(more, of_t))) == [f"F220 {text}"]


def test_a_gate_that_is_new_and_open_is_no_finding():
    assert codes(edited(pipeline(), pipeline("  g: {kind: condition, if: $(params.go), then: [t]}"))) == []


def test_a_step_that_never_ran_and_comes_before_a_reused_one_is_a_finding():
    check = "  check: {kind: command, command: [check], outputs: {o: {type: file}}}"
    plan = edited(pipeline(), pipeline(check, ", needs: [check]"))
    assert texts(plan) == [
        "F220 t ran there; whether it would run today is not known: check never ran, and t is reused."
    ]
    assert pasted(plan) == ["select: [check, t, r]"]


def test_a_when_that_holds_hides_no_other_gate():
    c, when = "  c: {kind: condition, if: $(params.go), then: [t]}", ", when: $(params.go)"
    plan = edited(pipeline(c, when), pipeline(c.replace("then", "else"), when))
    assert texts(plan) == ["F220 t ran there; today it would not run: c is true, and t is reused."]
    assert [(g.step, g.field, g.was, g.now) for g in plan.gates] == [
        ("c", "if", True, True),
        ("t", "when", True, True),
        ("t", "gate", True, False),
    ]


def test_all_gates_that_close_a_step_are_in_one_finding():
    c = "  c: {kind: condition, if: $(params.go), then: [t]}"
    plan = edited(pipeline(c), pipeline(c.replace("then", "else"), ", when: $(params.low)"))
    assert texts(plan) == [
        "F220 `when` of t was true; with low false it would be false; "
        "t ran there; today it would not run: c is true, and t is reused."
    ]


def test_the_own_when_of_a_reused_condition_is_asked():
    text = """
        params: {release: {type: boolean, default: true}}
        steps:
          good: {kind: condition, when: $(params.release), if: $(1 < 2), then: [publish]}
          publish: {kind: command, command: [publish], outputs: {o: {type: file}}}
    """
    plan = edited(text, text, "select: [publish]\nparams: {release: false}")
    assert codes(plan) == ["F220 good", "F210 release"]
    assert plan.findings[0].text == (
        "`when` of good was true at release true; at release false it would be false, and good is reused."
    )


def test_a_failure_that_is_no_longer_tolerated_is_a_finding():
    text = """
        steps:
          p: {kind: command, command: [p], outputs: {o: {type: file}}, on_failure: continue}
          t: {kind: command, command: [t, '$(coalesce(steps.p.outputs.o, "none"))'], outputs: {o: {type: file}}}
          r: {kind: command, command: [r, $(steps.t.outputs.o)], outputs: {o: {type: file}}}
    """
    it = Lab(text, fails=lambda call: "exit" if call.step == "p" else "")
    it.apply()
    assert codes(it.plan("select: [r]")) == []
    it.text = text.replace(", on_failure: continue", "")
    assert texts(it.plan("select: [r]")) == ["F220 t ran there; today it would not run: p failed, and t is reused."]


ASSUMED = """
params: {limit: {type: integer, default: 5}}
steps:
  ok: {kind: condition, if: $(params.limit > 6), then: [publish, announce]}
  publish: {kind: command, command: [publish], outputs: {o: {type: file}}}
  announce: {kind: command, command: [announce], outputs: {o: {type: file}}}
"""


def test_an_outcome_that_was_assumed_is_evaluated_when_a_trial_is_the_reference():
    it = Lab(ASSUMED)
    it.apply("select: [publish]\nassume: {ok: true}")
    plan = it.plan("select: [announce]\nreference: r1")
    assert texts(plan) == [
        "F220 ok was assumed true; with limit 5 it would be false, and you select announce behind it."
    ]


def test_an_assumed_outcome_that_the_condition_has_is_no_finding():
    it = Lab(ASSUMED)
    it.apply("select: [publish]\nassume: {ok: true}\nparams: {limit: 7}")
    assert codes(it.plan("select: [announce]\nreference: r1")) == []


def test_a_cause_that_is_accepted_below_does_not_settle_what_the_selection_reads_itself():
    it = Lab(
        """
        steps:
          u: {kind: command, command: [u], code: [u.txt], outputs: {o: {type: file}}}
          x: {kind: command, command: [x, $(steps.u.outputs.o)], outputs: {o: {type: file}}}
          s: {kind: command, command: [s, $(steps.u.outputs.o), $(steps.x.outputs.o)], outputs: {o: {type: file}}}
        """,
        Files({"u.txt": "one"}),
    )
    it.apply()
    it.files.files["u.txt"] = "two"
    plan = it.plan("select: [s]")
    assert codes(plan) == ["F201 u", "F201 x"]
    cause = plan.findings[1].cause[:9]
    assert codes(it.plan(f"select: [s]\naccept: [{{step: x, cause: {cause}, reason: counts lines}}]")) == ["F201 u"]


def test_what_a_cached_step_did_not_read_is_looked_up_where_it_was_cached():
    it = Lab("""
        params: {go: {type: boolean, default: true}, k: {type: integer, default: 1}}
        steps:
          extra: {kind: command, command: [extra], when: $(params.go), outputs: {o: {type: file}}}
          b: {kind: command, command: [b, $(steps.extra.status == "failed")], needs: [extra], trigger: all_done, outputs: {o: {type: file}}}
          c: {kind: command, command: [c, $(steps.b.outputs.o), $(params.k)], outputs: {o: {type: file}}}
    """)
    it.apply()
    it.apply("params: {go: false}")
    assert codes(it.plan("select: [c]\nparams: {k: 2}")) == []


def test_all_causes_of_a_difference_are_named():
    it = Lab(
        """
        steps:
          a: {kind: command, command: [a], inputs: {f: a.txt}, code: [c.txt], env: {E: "1"}, outputs: {o: {type: file}}}
          b: {kind: command, command: [b, $(steps.a.outputs.o)], outputs: {o: {type: file}}}
        """,
        Files({"a.txt": "1", "c.txt": "1"}),
    )
    it.apply()
    it.files.files |= {"a.txt": "2", "c.txt": "2"}
    it.text = it.text.replace('E: "1"', 'E: "2"').replace("command: [a]", "command: [a, more]")
    verdict = it.plan("select: [b]").decisions["a"].verdict
    assert [f"{c.kind} {c.name}" for c in verdict.causes] == [
        "code c.txt",
        "input f",
        "env E",
        "code `command` of the step",
    ]


def test_a_parameter_explains_the_fields_that_it_is_put_into_and_no_edit():
    it = Lab("""
        params: {x: {type: integer, default: 1}}
        steps:
          a: {kind: command, command: [a, $(params.x)], env: {E: v$(params.x)}, outputs: {o: {type: file}}}
          b: {kind: command, command: [b, $(steps.a.outputs.o)], outputs: {o: {type: file}}}
    """)
    it.apply()
    named = [str(c) for c in it.plan("select: [b]\nparams: {x: 2}").decisions["a"].verdict.causes]
    assert named == ["param x: 1 -> 2"]
    it.text = it.text.replace("E: v$", "E: w$")
    named = [str(c) for c in it.plan("select: [b]\nparams: {x: 2}").decisions["a"].verdict.causes]
    assert named == ["param x: 1 -> 2", "env E: v1 -> w2"]


def test_a_step_behind_one_that_is_known_to_be_skipped_is_skipped_and_twins_may_end_cached():
    plan = Lab("""
        params: {go: {type: boolean, default: false}}
        steps:
          a: {kind: command, command: [a], when: $(params.go), outputs: {o: {type: file}}}
          b: {kind: command, command: [b], outputs: {o: {type: file}}}
          c: {kind: command, command: [c, $(steps.a.outputs.o), $(steps.b.outputs.o)], outputs: {o: {type: file}}}
          b2: {kind: command, command: [b], outputs: {o: {type: file}}}
    """).plan()
    assert {n: (d.name, d.may) for n, d in plan.decisions.items()} == {
        "a": ("skip", ()),
        "b": ("run", ("cached",)),
        "c": ("skip", ()),
        "b2": ("run", ("cached",)),
    }


def test_the_reason_why_a_step_runs_compares_with_its_newest_result():
    it = Lab(
        """
        steps:
          a: {kind: command, command: [a], code: [a.txt], outputs: {o: {type: file}}}
          b: {kind: command, command: [b], code: [b.txt], outputs: {o: {type: file}}}
        """,
        Files({"a.txt": "1", "b.txt": "1"}),
    )
    it.apply()
    it.files.files |= {"a.txt": "2", "b.txt": "2"}
    it.apply("select: [a]")
    assert it.plan().decisions["b"].reasons == ("code b.txt: 6b86b273 -> d4735e3a",)


def test_one_cause_of_many_steps_is_one_finding():
    readers = "".join(
        f"  m{n}: {{kind: command, command: [m{n}, $(steps.root.outputs.o)], outputs: {{o: {{type: file}}}}}}\n"
        for n in range(5)
    )
    inputs = ", ".join(f"$(steps.m{n}.outputs.o)" for n in range(5))
    it = Lab(
        f"""
steps:
  root: {{kind: command, command: [root], code: [leaf], outputs: {{o: {{type: file}}}}}}
{readers}  gather: {{kind: command, command: [gather, {inputs}], outputs: {{o: {{type: file}}}}}}
""",
        Files({"leaf": "1"}),
    )
    it.apply()
    it.files.files["leaf"] = "2"
    plan = it.plan("select: [gather]")
    assert texts(plan) == [
        "F201 m0, m1, m2 and 2 more would be reused, but they are stale: upstream root (code leaf: 6b86b273 -> d4735e3a)."
    ]
    entries = plan.findings[0].remedies[-1].paste
    assert [entries.count(f"step: m{n}, ") for n in range(5)] == [1] * 5
    assert codes(it.plan(f"select: [gather]\n{entries.replace('...', 'only a comment')}")) == []


def test_a_condition_whose_outcome_is_assumed_makes_no_hole_and_the_remedy_can_be_pasted_beside_it():
    it = Lab(
        """
        params: {go: {type: boolean, default: false}}
        steps:
          a: {kind: command, command: [a], code: [a.txt], outputs: {o: {type: file}}}
          c: {kind: condition, if: $(params.go), then: [t], needs: [a]}
          t: {kind: command, command: [t, $(steps.a.outputs.o)], outputs: {o: {type: file}}}
        """,
        Files({"a.txt": "1"}),
    )
    it.apply()
    it.files.files["a.txt"] = "2"
    assert pasted(it.plan("select: [t]\nassume: {c: true}")) == ["select: [a, t]"]
    plan = it.plan("select: [a, t]\nassume: {c: true}")
    assert (codes(plan), plan.runs) == ([], ["a", "t"])


FAN = """
steps:
  f: {{kind: command, command: [f], code: [c.txt], outputs: {{o: {{type: file}}}}{fan}}}
  g: {{kind: command, command: [g, '$({read})'], outputs: {{o: {{type: file}}}}}}
"""


def test_a_step_that_became_a_fan_out_is_stale_by_that_alone():
    it = Lab(FAN.format(fan="", read="steps.f.outputs.o"), Files({"c.txt": "1"}))
    it.apply()
    it.text = FAN.format(fan=", foreach: {over: {x: [1, 2]}}", read='join(steps.f.outputs.o, "-")')
    assert [str(c) for c in it.plan("select: [g]").decisions["f"].verdict.causes] == ["code `foreach` of the step"]


def test_a_step_that_had_nothing_to_read_is_stale_by_what_would_leave_something_today():
    it = Lab("""
        params: {flag: {type: boolean, default: false}}
        steps:
          a: {kind: command, command: [a], when: $(params.flag), outputs: {o: {type: file}}}
          b: {kind: command, command: [b, '$(default(steps.a.outputs.o, "none"))'], trigger: none_failed, outputs: {o: {type: file}}}
          c: {kind: command, command: [c, $(steps.b.outputs.o)], outputs: {o: {type: file}}}
    """)
    it.apply()
    causes = it.plan("select: [c]\nparams: {flag: true}").decisions["b"].verdict.causes
    assert [str(c) for c in causes] == ["upstream a: skipped -> would run"]


def test_the_reference_run_is_not_offered_as_another_one():
    it = Lab(
        """
        params: {x: {type: integer, default: 1}}
        steps:
          s0: {kind: command, command: [make, $(params.x)], outputs: {o: {type: file}}}
          s1: {kind: command, command: [make, 2], outputs: {o: {type: file}}}
          t: {kind: command, command: [t, $(steps.s0.outputs.o)], outputs: {o: {type: file}}}
        """
    )
    it.apply()
    plan = it.plan("select: [t]\nparams: {x: 2}")
    assert texts(plan)[0] == (
        "F202 s0 would be reused, but s1 of run r1 made other bytes of it with today's inputs: param x: 1 -> 2."
    )
    assert pasted(plan, "reference") == []


def test_a_parameter_is_not_offered_back_where_a_gate_above_is_in_doubt_all_the_same():
    steps = """
  a: {kind: command, command: [a, $(params.k)], outputs: {o: {type: file, path: o.txt}}%s}
  b: {kind: command, command: [b, $(steps.a.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
  r: {kind: command, command: [r, $(steps.b.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
"""
    new = "\n  g: {kind: command, command: [g]}"
    closed = edited(PARAMS + steps % "", PARAMS + new + steps % ", needs: [g]", "select: [r]\nparams: {k: 2}")
    assert [(f.code, f.subject) for f in closed.findings if any(r.kind == "remove" for r in f.remedies)] == [
        ("F210", "k")
    ]
    plain = edited(PARAMS + steps % "", PARAMS + steps % "", "select: [r]\nparams: {k: 2}")
    assert [(f.code, f.subject) for f in plain.findings if any(r.kind == "remove" for r in f.remedies)] == [
        ("F201", "b"),
        ("F210", "k"),
    ]


@pytest.mark.parametrize("subject", ["k", "go"])
def test_the_acceptance_that_a_parameter_offers_settles_it_whole(subject):
    steps = """
  a: {kind: command, command: [a, $(params.k)], outputs: {o: {type: file, path: o.txt}}}
  b: {kind: command, command: [b, $(steps.a.outputs.o), $(params.k), $(params.go)], outputs: {o: {type: file, path: o.txt}}%s}
  c: {kind: command, command: [c, $(steps.b.outputs.o), $(params.k)], outputs: {o: {type: file, path: o.txt}}}
  r: {kind: command, command: [r, $(steps.c.outputs.o), $(params.k)], outputs: {o: {type: file, path: o.txt}}}
"""
    request = "select: [r]\nparams: {k: 2, go: false}"
    it = Lab(PARAMS + steps % "")
    it.apply()
    it.text = PARAMS + steps % ", when: $(params.low)"
    found = next(f for f in it.plan(request).findings if f.subject == subject)
    (accept,) = [r.paste for r in found.remedies if r.kind == "accept"]
    assert accept.startswith("accept: [{step: c, cause: c") and accept.count("step:") == 1
    assert it.plan(f"{request}\n{accept}".replace("...", "it is sound")).findings == ()


def test_a_step_may_end_cached_where_another_may_turn_out_to_do_the_same_work():
    it = Lab("""
        steps:
          n: {kind: command, command: [n], outputs: {o: {type: file}}}
          a: {kind: command, command: [work], outputs: {o: {type: file}}}
          b: {kind: command, command: [work, $(steps.n.outputs.o)], outputs: {o: {type: file}}}
          c: {kind: command, command: [work], outputs: {other: {type: file}}}
    """)
    assert {name: d.may for name, d in it.plan().decisions.items()} == {
        "n": ("cached",), "a": ("cached",), "b": ("cached",), "c": (),
    }  # fmt: skip


def test_a_step_that_was_skipped_and_would_be_upstream_failed_is_a_finding(project):
    text = """
        failure_policy: finish_independent
        steps:
          off: {kind: shell, when: false, script: echo}
          bad: {kind: shell, script: exit 1}
          s: {kind: shell, needs: [%s], script: echo > o, outputs: {o: {type: file}}}
          r: {kind: shell, env: {S: '$(coalesce(steps.s.outputs.o, "none"))'}, script: echo "$S" > o, outputs: {o: {type: file}}}
    """
    project.pipeline(text % "off")
    project.runner("apply", "p.yaml")
    project.pipeline(text % "bad")
    project.request("select: [r]")
    answer = project.runner("plan", "run.yaml")
    assert answer.code == 3
    assert (
        "F220 s did not run there; today it would not run: bad failed, so it would be upstream_failed, not skipped, and s is reused."
    ) in answer.out


def test_a_step_that_is_new_in_an_inner_pipeline_is_the_cause(project):
    inner = """
        apiVersion: runner/v1
        kind: Pipeline
        name: inner
        steps:
          a: {kind: shell, script: echo > o, outputs: {o: {type: file}}}
    """
    project.write(inner_yaml=inner)
    project.pipeline("""
        steps:
          sub: {kind: pipeline, pipeline: inner.yaml, foreach: {over: {x: [1]}}}
          r: {kind: shell, env: {N: $(steps.sub.count)}, script: echo > o, outputs: {o: {type: file}}}
    """)
    project.runner("apply", "p.yaml")
    project.write(inner_yaml=inner.replace("          a: ", "          b: {kind: shell, script: echo}\n          a: "))
    project.request("select: [r]")
    assert (
        "STALE  upstream sub[x=1]: succeeded -> not known (upstream sub[x=1]/b: none -> not known)"
        in project.runner("plan", "run.yaml").out
    )


def test_a_new_step_behind_one_that_fails_is_not_taken_for_a_skipped_one(project):
    text = """
        failure_policy: finish_independent
        steps:
          bad: {kind: shell, script: exit 1}
          %s
          r: {kind: shell, %s script: echo > o, outputs: {o: {type: file}}}
          t: {kind: shell, env: {R: $(steps.r.outputs.o)}, script: cat "$R" > o, outputs: {o: {type: file}}}
    """
    project.pipeline(text % ("", ""))
    project.runner("apply", "p.yaml")
    project.pipeline(text % ("new: {kind: shell, needs: [bad], script: echo}", "needs: [new], trigger: none_failed,"))
    project.request("select: [t]")
    answer = project.runner("plan", "run.yaml")
    assert answer.code == 3
    assert "F220 r ran there; today it would not run: new ended upstream_failed, and r is reused." in answer.out


def test_what_comes_before_a_step_that_its_own_when_keeps_skipping_is_not_asked():
    steps = """
  a: {kind: command, command: [a], outputs: {o: {type: file, path: o.txt}}%s}
  s: {kind: command, command: [s], needs: [a], when: $(params.low), outputs: {o: {type: file, path: o.txt}}}
  r: {kind: command, command: [r, '$(coalesce(steps.s.outputs.o, "none"))'], outputs: {o: {type: file, path: o.txt}}}
"""
    assert texts(edited(PARAMS + steps % "", PARAMS + steps % ", when: $(params.low)", "select: [r]")) == []
