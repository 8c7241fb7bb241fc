"""What an earlier result is worth today: verdicts with their proof, effects of parameters, gates, findings, remedies."""

import dataclasses

import pytest

from runner.decide import Reuse
from runner.review import gate_text
from tests.kit import Files, Lab

ABC = """
params:
  x: {type: integer, default: 1}
  y: {type: integer, default: 1}
  z: {type: integer, default: 1}
  idle: {type: integer, default: 1}
steps:
  a: {kind: command, command: [make, $(params.x)], code: [a.py], outputs: {o: {type: file, path: o.txt}}}
  b: {kind: command, command: [use, $(steps.a.outputs.o), $(params.y)], outputs: {o: {type: file, path: o.txt}}}
  c: {kind: command, command: [end, $(steps.b.outputs.o), $(params.y)], outputs: {o: {type: file, path: o.txt}}}
  d: {kind: command, command: [last, $(steps.c.outputs.o), $(params.z)], outputs: {o: {type: file, path: o.txt}}}
"""


def lab(text=ABC, **more):
    return Lab(text, Files({"a.py": "1"}), **more)


def verdicts(plan):
    return {n: d.verdict.word for n, d in plan.decisions.items() if isinstance(d, Reuse)}


def codes(plan):
    return [f"{f.code} {f.subject}" for f in plan.findings]


def pasted(plan, kind="select"):
    return [r.paste for f in plan.findings for r in f.remedies if r.kind == kind]


def test_what_would_be_made_in_the_same_way_is_the_same():
    it = lab()
    it.apply()
    assert verdicts(it.plan("select: [b]")) == {"a": "same"}


def test_a_reformatting_that_another_run_has_shown_to_change_nothing_is_the_same_by_evidence():
    it = lab(blind=True)
    it.apply()
    it.files.files["a.py"] = "1  # a comment"
    it.apply("select: [a]")
    plan = it.plan("select: [c]\nreference: r1")
    assert (verdicts(plan), codes(plan)) == ({"b": "same"}, [])
    plan = it.plan("select: [b]\nreference: r1")
    assert (verdicts(plan), plan.decisions["a"].verdict.evidence) == ({"a": "same-by-evidence"}, "r2")


def test_a_step_that_another_run_has_made_otherwise_differs_by_evidence():
    it = lab()
    it.apply()
    it.files.files["a.py"] = "2"
    it.apply("select: [a]")
    plan = it.plan("select: [b]\nreference: r1")
    assert (verdicts(plan), codes(plan)) == ({"a": "differs-by-evidence"}, ["F202 a"])
    assert plan.findings[0].text == (
        "a would be reused, but run r2 made other bytes of it with today's inputs: code a.py: 6b86b273 -> d4735e3a."
    )


def test_evidence_above_makes_what_read_the_old_bytes_stale():
    it = lab()
    it.apply()
    it.files.files["a.py"] = "2"
    it.apply("select: [a]")
    plan = it.plan("select: [c]\nreference: r1")
    assert (verdicts(plan), codes(plan)) == ({"b": "stale"}, ["F201 b"])
    assert [c.kind + " " + c.name for c in plan.decisions["b"].verdict.causes] == ["upstream a"]


def test_nothing_is_proven_of_a_step_whose_producing_run_is_gone():
    it = lab()
    it.apply()
    it.apply("select: [c]")
    del it.store.journals["r1"]
    plan = it.plan("select: [c]\nreference: r2")
    assert (verdicts(plan), codes(plan)) == ({"b": "unknown"}, ["F203 b"])


def test_one_fingerprint_with_two_results_is_noted_as_unreproducible():
    it = lab()
    it.apply()
    ended = it.store.run("r1").steps["a"]
    digest = it.store.put(b"other")
    other = dataclasses.replace(
        ended, produced_by="r0", outputs={"o": {"type": "file", "run": "r0", "digest": digest, "size": 5}}
    )
    it.store.journals["r0"] = [other]
    assert it.plan("select: [b]").notes == ("a is unreproducible: run r0 made other bytes with the same fingerprint",)


@pytest.mark.parametrize(
    ("params", "word", "read_by", "findings"),
    [
        pytest.param("z: 2", "deferred", ("d",), [], id="read only below the selection"),
        pytest.param("x: 2", "shadowed", ("a",), ["F201 b", "F210 x"], id="read only by what is reused"),
        pytest.param("y: 2", "split", ("b", "c"), ["F201 b", "F211 y"], id="read by both"),
        pytest.param("idle: 2", "unused", (), [], id="read by nobody"),
    ],
)
def test_case_13_the_effect_of_a_parameter_that_differs(params, word, read_by, findings):
    it = lab()
    it.apply()
    plan = it.plan(f"select: [c]\nparams: {{{params}}}")
    assert [(e.word, e.read_by) for e in plan.effects] == [(word, read_by)]
    assert codes(plan) == findings


def test_a_parameter_read_only_by_what_runs_is_effective():
    it = lab()
    it.apply()
    plan = it.plan("select: [d]\nparams: {z: 2}")
    assert [(e.param, e.then, e.now, e.word) for e in plan.effects] == [("z", "1", "2", "effective")]
    assert codes(plan) == []


def test_a_shadowed_parameter_can_be_taken_back_by_what_is_printed():
    it = lab()
    it.apply()
    plan = it.plan("select: [b]\nparams: {x: 2}")
    assert pasted(plan, "remove")[0] == "remove x from `params`"
    assert pasted(plan, "reset")[0] == "reset: [x]  # and no x in `params`"
    assert codes(it.plan("select: [b]\nreset: [x]")) == []


def test_a_default_that_differs_from_the_reference_is_taken_back_where_it_comes_from():
    it = lab()
    it.apply("params: {x: 7}")
    assert pasted(it.plan("select: [b]\nreset: [x]"), "remove")[0] == "remove x from `reset`"
    assert pasted(it.plan("select: [b]\ninherit: defaults"), "remove")[:2] == [
        "set x in `params` to 7", "remove `inherit: defaults`"
    ]  # fmt: skip


def test_the_least_honest_selection_leaves_nothing_to_decide_and_no_hole():
    it = lab()
    it.apply()
    plan = it.plan("select: [d]\nparams: {x: 2}")
    assert set(pasted(plan)) == {"select: [a, b, c, d]"}
    assert codes(it.plan("select: [a, b, c, d]\nparams: {x: 2}")) == []


def test_the_least_honest_selection_goes_up_to_what_the_reference_run_has():
    it = lab()
    it.apply()
    it.apply("select: [c]")
    plan = it.plan("select: [c]\nreference: r2\nparams: {y: 2}")  # r2 has no `a`
    assert set(pasted(plan)) == {"select: [a, b, c]"}
    assert codes(it.plan("select: [a, b, c]\nreference: r2\nparams: {y: 2}")) == []


def test_the_least_honest_selection_empties_exclude():
    it = lab()
    it.apply()
    plan = it.plan("select: [b+]\nexclude: [b, d]\nparams: {x: 2}")
    assert set(pasted(plan)) == {"select: [a, b, c]\nexclude: []"}


def test_accepting_a_cause_settles_the_parameter_and_what_lies_below():
    it = lab()
    it.apply()
    plan = it.plan("select: [c]\nparams: {x: 2}")
    assert codes(plan) == ["F201 b", "F210 x"]
    accept = pasted(plan, "accept")[0].replace('"..."', "it is fine")
    settled = it.plan(f"select: [c]\nparams: {{x: 2}}\n{accept}")
    assert (codes(settled), verdicts(settled), settled.decisions["b"].verdict.accepted) == ([], {"b": "stale"}, True)
    assert it.run(settled).started.accepted[0]["reason"] == "it is fine"
    assert codes(it.plan(f"select: [c]\nreference: r1\nparams: {{x: 3}}\n{accept}")) == ["F201 b", "F210 x"]


def test_accepting_the_root_of_a_cause_above_the_frontier_settles_what_it_made_stale():
    it = lab()
    it.apply()
    it.files.files["a.py"] = "2"
    plan = it.plan("select: [b]")
    cause = plan.findings[0].cause[:9]
    assert codes(it.plan(f"select: [c]\naccept: [{{step: a, cause: {cause}, reason: a comment}}]")) == []


GATED = """
params:
  limit: {type: integer, default: 6}
  deploy: {type: boolean, default: true}
steps:
  score: {kind: command, command: [score], outputs: {o: {type: file, path: o.txt}}}
  check: {kind: condition, if: $(params.limit > 4), then: [good], else: [bad], needs: [score]}
  good: {kind: command, command: [good, $(steps.score.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
  after: {kind: command, command: [after, $(steps.good.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
  ship: {kind: command, command: [ship, $(steps.score.outputs.o)], when: $(params.deploy), outputs: {o: {type: file, path: o.txt}}}
  tell: {kind: command, command: [tell, $(steps.ship.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
  bad: {kind: fail, message: below $(params.limit)}
"""


def test_case_15_a_reused_gate_that_would_now_be_false_needs_a_decision():
    it = lab(GATED)
    it.apply()
    plan = it.plan("select: [good]\nparams: {limit: 3}")
    assert codes(plan) == ["F220 check", "F210 limit"]
    assert plan.findings[0].text == (
        "check was true at limit 6; at limit 3 it would be false, and you select good behind it."
    )
    assert [(g.step, g.decision, g.was, g.now) for g in plan.gates] == [("check", "reuse", True, False)]


def test_a_gate_that_would_decide_the_same_is_none():
    it = lab(GATED)
    it.apply()
    plan = it.plan("select: [good]\nparams: {limit: 5}")
    assert (codes(plan), verdicts(plan)) == ([], {"score": "same", "check": "same"})
    assert plan.notes == ("limit is shadowed: check is reused, and would be the same today",)


def test_a_gate_above_what_is_reused_is_asked_again_too():
    it = lab(GATED)
    it.apply()
    plan = it.plan("select: [after]\nparams: {limit: 3}")
    assert codes(plan) == ["F220 check", "F210 limit"]
    assert plan.findings[0].text.endswith("it would be false, and good behind it is reused.")


def test_an_accepted_gate_stands_as_it_was():
    it = lab(GATED)
    it.apply()
    accept = pasted(it.plan("select: [good]\nparams: {limit: 3}"), "accept")[0].replace('"..."', "known")
    assert codes(it.plan(f"select: [good]\nparams: {{limit: 3}}\n{accept}")) == []
    assert codes(it.plan(f"select: [good]\nparams: {{limit: 2}}\n{accept}")) == ["F220 check", "F210 limit"]


def test_a_when_that_would_now_be_false_is_a_gate_too():
    it = lab(GATED)
    it.apply()
    plan = it.plan("select: [tell]\nparams: {deploy: false}")
    assert codes(plan) == ["F220 ship", "F210 deploy"]
    assert plan.findings[0].text == (
        "`when` of ship was true at deploy true; at deploy false it would be false, and ship is reused."
    )
    accept = pasted(plan, "accept")[0].replace('"..."', "known")
    assert codes(it.plan(f"select: [tell]\nparams: {{deploy: false}}\n{accept}")) == []


def test_an_assumed_gate_is_reported_with_what_it_was():
    it = lab(GATED)
    it.apply()
    plan = it.plan("select: [bad]\nassume: {check: false}")
    assert [(g.step, g.decision, g.was, g.now) for g in plan.gates] == [("check", "assumed", True, False)]
    assert codes(plan) == []  # the request itself is the decision, and its run a trial


def test_both_futures_of_a_selected_condition_are_told():
    it = lab(GATED)
    plan = it.plan()
    assert [(g.step, g.decision, g.then, g.otherwise) for g in plan.gates] == [("check", "run", ("good",), ("bad",))]


def test_a_gate_reads_as_a_sentence():
    it = lab(GATED.replace("$(params.limit > 4)", "$(params.limit > 4 and params.deploy)"))
    it.apply()
    gate = it.plan("select: [good]\nparams: {limit: 3}").gates[0]
    assert gate_text(gate) == "check was true at limit 6; at limit 3 with deploy true it would be false"


def test_a_result_made_without_a_skipped_input_is_the_same_while_it_is_skipped():
    it = lab("""
        params: {on: {type: boolean, default: false}}
        steps:
          a: {kind: command, command: [a], when: $(params.on), outputs: {o: {type: file, path: o.txt}}}
          b: {kind: command, command: [b, '$(default(steps.a.outputs.o, "none"))'], trigger: none_failed, outputs: {o: {type: file, path: o.txt}}}
          c: {kind: command, command: [c, $(steps.b.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
    """)
    it.apply()
    assert (verdicts(it.plan("select: [c]")), codes(it.plan("select: [c]"))) == ({"b": "same"}, [])
    assert codes(it.plan("select: [c]\nparams: {on: true}")) == ["F220 a", "F201 b", "F210 on"]


def test_a_gate_that_opens_a_branch_of_which_nothing_is_selected_is_noted():
    it = lab(GATED.replace(", needs: [score]", ""))
    it.apply()
    plan = it.plan("select: [check, good]\nparams: {limit: 3}")
    assert plan.notes == ("check is false: good will not run, and bad, which would run instead, is not selected",)


def test_a_run_that_made_what_would_be_made_today_is_offered_as_the_reference():
    it = lab()
    it.apply()
    it.files.files["a.py"] = "2"
    it.apply("select: [a]")
    plan = it.plan("select: [b]\nreference: r1")
    assert pasted(plan, "reference") == ["reference: r2"]
    assert codes(it.plan("select: [b]\nreference: r2")) == []
