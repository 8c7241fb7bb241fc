"""Plans, without files or processes: what is run, reused, cached, skipped, cut, and why. Numbers are those of the cases."""

from collections import Counter

import pytest

from benchmarks import layers
from runner import causes, decide, verdict
from runner.decide import Reuse
from runner.errors import NeedsDecision, ReferenceRunError, SelectionError
from runner.fingerprint import evaluate, outline
from runner.select import SelectorError
from tests.kit import Files, Lab, drawn

ABC = drawn("a > b > c")
PARAMS = """
params:
  x: {type: integer, default: 1}
  y: {type: integer, default: 1}
  idle: {type: integer, default: 1}
steps:
  a: {kind: command, command: [make, $(params.x)], code: [a.py], outputs: {o: {type: file, path: o.txt}}}
  b: {kind: command, command: [use, $(steps.a.outputs.o), $(params.y)], outputs: {o: {type: file, path: o.txt}}}
  c: {kind: command, command: [end, $(steps.b.outputs.o)], outputs: {o: {type: file, path: o.txt}}}
"""


def lab(text=PARAMS, **files):
    return Lab(text, Files({"a.py": "1", **files}))


def stale(plan):
    return {
        n: "; ".join(map(str, d.verdict.causes))
        for n, d in plan.decisions.items()
        if isinstance(d, Reuse) and d.verdict.word == "stale"
    }


def test_a_first_run_runs_everything_and_says_what_may_end_cached():
    plan = lab().plan()
    assert {n: (d.name, d.may) for n, d in plan.decisions.items()} == {
        "a": ("run", ()),
        "b": ("run", ("cached",)),
        "c": ("run", ("cached",)),
    }


def test_a_second_run_is_cached():
    it = lab()
    it.apply()
    assert it.decisions() == {"a": "cached", "b": "cached", "c": "cached"}


def test_a_changed_parameter_runs_its_reader_and_may_end_cached_behind_it():
    it = lab()
    it.apply()
    assert it.decisions("params: {y: 2}") == {"a": "cached", "b": "run", "c": "run"}
    assert it.plan("params: {y: 2}").decisions["b"].reasons == ("param y: 1 -> 2",)


def test_an_unchanged_output_stops_the_rerun_of_what_follows():
    it = lab(drawn("a > b", a="$(run.id)").replace(", $(run.id)", ""))
    it.apply()
    record = it.apply("force: [a]")
    assert {n: e.status for n, e in record.steps.items()} == {"a": "succeeded", "b": "cached"}


def test_one_step_reuses_its_frontier_and_leaves_the_rest():
    it = lab()
    it.apply()
    assert it.decisions("select: [c]") == {"a": "unneeded", "b": "reuse", "c": "run"}
    assert it.decisions("select: [b]\nparams: {y: 2}") == {"a": "reuse", "b": "run", "c": "cut"}


def test_case_5_a_prefix_needs_no_reference_run():
    assert lab().decisions("select: [a, b]") == {"a": "run", "b": "run", "c": "cut"}


def test_case_5_the_staleness_of_a_suffix_goes_to_the_roots():
    it = lab()
    it.apply()
    plan = it.plan("select: [c]\nparams: {x: 2}")
    assert stale(plan) == {"b": "upstream a (param x: 1 -> 2)"}
    with pytest.raises(NeedsDecision):
        plan.refuse_findings()


def test_case_6_an_order_only_edge_counts():
    it = lab("steps:\n  a: {kind: command, command: [a]}\n  b: {kind: command, command: [b], needs: [a]}\n")
    it.apply()
    assert it.decisions("select: [b]") == {"a": "reuse", "b": "run"}


def test_case_7_a_chain_of_selective_runs_resolves_to_the_producers():
    it = lab()
    first = it.apply()
    for y in (2, 3, 4):
        last = it.apply(f"select: [b]\nparams: {{y: {y}}}")
    assert (last.steps["a"].produced_by, last.steps["a"].reused_from, last.steps["a"].outputs["o"]["run"]) == (
        first.id,
        "r3",
        first.id,
    )


def test_case_8_a_new_step_between_is_named():
    it = lab(drawn("a > c"))
    it.apply()
    it.text = drawn("a > b > c")
    with pytest.raises(ReferenceRunError) as error:
        it.plan("select: [c]")
    assert error.value.text == "no finished run of `p` has usable outputs of b\n  r1: b never ran there"
    assert error.value.help == "add b to `select`, or name another run"


def test_case_9_an_output_that_the_producer_lacks_is_named():
    it = lab(
        "steps:\n  a: {kind: command, command: [a], outputs: {o: {type: file}}}\n  b: {kind: command, command: [b, $(steps.a.outputs.o)]}\n"
    )
    it.apply()
    it.text = it.text.replace("outputs: {o: {type: file}}", "outputs: {o: {type: file}, p: {type: file}}").replace(
        "outputs.o)", "outputs.p)"
    )
    with pytest.raises(ReferenceRunError) as error:
        it.plan("select: [b]")
    assert error.value.text == "no finished run of `p` has usable outputs of a\n  r1: its a has no output p"


def test_case_11_a_failed_step_is_not_usable_and_an_older_run_is_taken():
    it = lab()
    good = it.apply()
    it.fails = lambda call: "exit" if call.step == "a" else ""
    bad = it.apply("params: {x: 5}")
    plan = it.plan("select: [b]\ninherit: defaults")
    assert plan.reference.record.id == good.id
    assert plan.reference.rejected == ((bad.id, "its a failed"),)


def test_case_13_a_parameter_of_a_reused_step_makes_it_stale():
    it = lab()
    it.apply()
    assert stale(it.plan("select: [b]\nparams: {x: 2}")) == {"a": "param x: 1 -> 2"}
    assert stale(it.plan("select: [b]\nparams: {idle: 2}")) == {}


def test_case_14_an_accepted_cause_covers_only_itself():
    it = lab()
    it.apply()
    it.files.files["a.py"] = "2"
    plan = it.plan("select: [b]")
    assert [f.code for f in plan.findings] == ["F201"]
    accept = f"select: [b]\naccept: [{{step: a, reason: a comment, cause: {plan.decisions['a'].verdict.cause[:9]}}}]"
    assert it.plan(accept).findings == ()
    it.files.files["a.py"] = "3"
    assert [f.text.split(".")[-2] for f in it.plan(accept).findings] == [" Its cause is not the one that was accepted"]


def test_case_17_a_step_selected_twice_runs_once_with_a_warning():
    it = lab()
    assert it.plan("select: [a, a]").notes == ("`a` is selected twice; it runs once",)


def test_a_remedy_is_the_least_honest_selection():
    it = lab()
    it.apply()
    assert it.plan("select: [c]\nparams: {x: 2}").findings[0].remedies[0].paste == "select: [a, b, c]"


def test_parameters_come_from_the_request_then_the_reference_then_the_default():
    it = lab()
    it.apply("params: {x: 7}")
    plan = it.plan("select: [b]\nparams: {y: 3}")
    assert (plan.params, plan.sources) == (
        {"x": 7, "y": 3, "idle": 1},
        {"x": "reference", "y": "request", "idle": "reference"},
    )
    assert it.plan("select: [b]\nreset: [x]").sources["x"] == "default"
    assert it.plan("select: [b]\ninherit: defaults").params["x"] == 1


def test_without_a_reference_run_the_message_says_what_to_select():
    with pytest.raises(ReferenceRunError) as error:
        lab().plan("select: [c]")
    assert str(error.value) == (
        "error: no finished run of `p` has usable outputs of b\n  = help: run the pipeline first, or add a, b to `select`"
    )


def test_reference_none_with_a_frontier_is_an_error():
    with pytest.raises(ReferenceRunError, match="needs the outputs of b, and there is no reference run"):
        lab().plan("select: [c]\nreference: none")


GATED = """
params: {limit: {type: integer, default: 5}}
steps:
  score: {kind: command, command: [score], outputs: {o: {type: file}}}
  check: {kind: condition, if: $(params.limit > 3), then: [good], else: [bad], needs: [score]}
  good: {kind: command, command: [good], outputs: {o: {type: file}}}
  bad: {kind: fail, message: below $(params.limit)}
"""


def test_a_condition_whose_values_are_known_is_settled_by_the_plan():
    it = lab(GATED.replace(", needs: [score]", ""))
    plan = it.plan()
    assert {n: d.name for n, d in plan.decisions.items()} == {
        "score": "run",
        "check": "run",
        "good": "run",
        "bad": "skip",
    }
    assert (plan.decisions["check"].reasons, plan.decisions["bad"].reasons) == (
        ("evaluated now: true",),
        ("check is true",),
    )


def test_both_futures_of_a_condition_that_the_run_decides_may_be_skipped():
    plan = lab(GATED).plan()
    assert {n: d.may for n, d in plan.decisions.items()} == {
        "score": (),
        "check": (),
        "good": ("skipped",),
        "bad": ("skipped",),
    }


def test_an_unselected_condition_decides_by_what_it_was():
    it = lab(GATED)
    it.apply()
    assert it.decisions("select: [good]") == {"score": "unneeded", "check": "reuse", "good": "run", "bad": "cut"}
    with pytest.raises(SelectionError) as error:
        it.plan("select: [bad]")
    assert error.value.text == "`bad` runs only if check is false; in run r1 it was true"
    assert error.value.help == "add check to `select`, or `assume: {check: false}`"


def test_an_assumed_condition_makes_a_trial_that_latest_never_chooses():
    it = lab(GATED)
    first = it.apply()
    trial = it.apply("select: [bad]\nassume: {check: false}")
    assert (trial.started.trial, trial.statuses["bad"], trial.ended.status) == (True, "failed", "failed")
    assert it.plan("select: [good]").reference.record.id == first.id
    assert it.plan("select: [good]").reference.rejected == ((trial.id, "it is a trial"),)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        pytest.param("assume: {nope: true}", "assume: there is no condition `nope`", id="no such condition"),
        pytest.param(
            "assume: {check: true}", "assume: `check` is selected, so it is evaluated", id="a selected condition"
        ),
        pytest.param("expect: {steps: {nope: failed}}", "expect: no step `nope`", id="expect of no step"),
        pytest.param(
            "expect: {run: [good]}",
            "the plan is not what `expect.run` says: bad, check, score would run too",
            id="expect.run",
        ),
        pytest.param(
            "accept: [{step: nope, reason: r, cause: c12345678}]", "accept: no step `nope`", id="accept of no step"
        ),
    ],
)
def test_a_request_that_cannot_be_is_refused(request_, message):
    with pytest.raises(SelectionError) as error:
        lab(GATED).plan(request_)
    assert error.value.text == message


def test_status_selectors_resume_a_failed_run():
    it = lab()
    it.fails = lambda call: "exit" if call.step == "b" else ""
    failed = it.apply()
    assert failed.statuses == {"a": "succeeded", "b": "failed", "c": "upstream_failed"}
    it.fails = lambda call: ""
    assert it.decisions("select: [status:failed+]") == {"a": "reuse", "b": "run", "c": "run"}


def test_changed_selectors_find_the_steps_that_differ_by_their_own_causes():
    it = lab()
    it.apply()
    it.files.files["a.py"] = "2"
    assert it.decisions("select: [changed:code]") == {"a": "run", "b": "cut", "c": "cut"}
    assert it.decisions("select: [changed:params+]\nparams: {y: 9}\naccept: []") == {
        "a": "reuse",
        "b": "run",
        "c": "run",
    }


def test_the_digest_says_nothing_of_time_or_place():
    assert lab().plan(now=1.0).digest == lab().plan(now=2e9).digest


def test_a_plan_of_other_code_has_another_digest():
    assert lab().plan().digest != lab(**{"a.py": "2"}).plan().digest


def test_an_expired_result_is_not_cached():
    text = drawn("a").replace("outputs:", "cache: {expire_after: 1h}\n    outputs:")
    it = lab(text)
    it.apply()
    assert it.plan(now=it.store.run("r1").steps["a"].at + 60).decisions["a"].name == "cached"
    assert it.plan(now=it.store.run("r1").steps["a"].at + 4000).decisions["a"].name == "run"


def test_a_step_without_outputs_acts_on_the_world_and_always_runs():
    it = lab("steps:\n  a: {kind: command, command: [a]}\n")
    it.apply()
    assert it.decisions() == {"a": "run"}


@pytest.mark.parametrize("name", "abc")
def test_case_4_one_step_is_always_convex(name):
    it = lab()
    it.apply()
    assert it.plan(f"select: [{name}]").runs == [name]


def test_case_4_all_steps_need_no_reference_run():
    plan = lab().plan("select: [all]\nreference: none")
    assert (plan.runs, plan.reference) == (["a", "b", "c"], None)


OPTIONAL = """
params: {{on: {{type: boolean, default: false}}}}
steps:
  a: {{kind: command, command: [a], when: $(params.on), outputs: {{o: {{type: file, path: o.txt}}}}}}
  b: {{kind: command, command: [b, {reads}], trigger: {trigger}, outputs: {{o: {{type: file, path: o.txt}}}}}}
"""


def test_case_10_a_skipped_step_is_reusable_where_its_output_is_optional():
    it = lab(OPTIONAL.format(reads="'$(default(steps.a.outputs.o, \"none\"))'", trigger="none_failed"))
    it.apply()
    plan = it.plan("select: [b]")
    assert (plan.decisions["a"].reasons, plan.runs) == (("from r1, skipped there",), ["b"])


def test_case_10_a_skipped_step_is_not_usable_where_its_output_is_needed():
    it = lab(OPTIONAL.format(reads="$(steps.a.outputs.o)", trigger="all_succeeded"))
    it.apply()
    with pytest.raises(ReferenceRunError, match="r1: its a was skipped"):
        it.plan("select: [b]")


def test_case_18_excluding_what_is_not_selected_is_an_error():
    with pytest.raises(SelectorError) as error:
        lab().plan("select: [b, c]\nexclude: [a]\nreference: none")
    assert (error.value.text, error.value.field) == ("`a` excludes nothing: none of it is selected", "exclude")


def test_case_20_planning_many_steps_evaluates_only_what_can_differ(monkeypatch):
    """5,000 steps and 20,000 edges; how long it takes is measured by `python -m benchmarks`."""
    steps = layers.graph(5000, 4)
    text = "steps:\n" + "".join(
        f"  {n}:\n    kind: command\n    command: [make, {', '.join([n, *(f'$(steps.{p}.outputs.o)' for p in reads)])}]\n"
        "    outputs: {o: {type: file, path: o.txt}}\n"
        for n, reads in steps.items()
    )
    it = lab(text)
    it.apply()
    count = Counter()
    for module, name, real in (
        (causes, "outline", outline),
        (verdict, "evaluate", evaluate),
        (decide, "evaluate", evaluate),
    ):
        monkeypatch.setattr(module, name, lambda *args, real=real: count.update([args[0].name]) or real(*args))
    plan = it.plan("select: [s4999]")
    assert (plan.runs, sum(len(r) for r in steps.values()), dict(count)) == (["s4999"], 19990, {"s4999": 2})
