"""The one property: whatever convex set is selected, each step that runs or is reused has exactly the outputs of a full
run with the same params, or the plan said otherwise before it started."""

from dataclasses import dataclass

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from runner.decide import Reuse, Run
from runner.graph import Graph
from tests.kit import Files, Lab

PARAMS = ["p0", "p1", "p2"]


@dataclass
class World:
    """A random pipeline and what is changed between its runs."""

    before: dict[str, list[str]]
    order: dict[str, list[str]]
    reads: dict[str, list[str]]
    conditions: dict[str, str]

    def text(self) -> str:
        out = ["params:", *(f"  {p}: {{type: integer, default: 0}}" for p in PARAMS), "steps:"]
        for name, priors in self.before.items():
            arguments = [*(f"$(steps.{p}.outputs.o)" for p in priors), *(f"$(params.{p})" for p in self.reads[name])]
            out += [
                f"  {name}:",
                "    kind: command",
                f"    command: [make, {', '.join([name, *arguments])}]",
                f"    code: [{name}.py]",
            ]
            out += [f"    needs: [{', '.join(self.order[name])}]"] if self.order[name] else []
            out += ["    outputs: {o: {type: file, path: o.txt}}"]
            if name in self.conditions:
                gate = self.conditions[name]
                out += [f"    when: {'false' if gate == 'never' else f'$(params.{gate} < 1)'}"]
        return "\n".join(out) + "\n"


@st.composite
def worlds(draw):
    count = draw(st.integers(2, 6))
    names = [f"s{i}" for i in range(count)]
    before = {
        n: draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=2)) if i else [] for i, n in enumerate(names)
    }
    order = {
        n: [
            m
            for m in (draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=1)) if i else [])
            if m not in before[n]
        ]
        for i, n in enumerate(names)
    }
    reads = {n: draw(st.lists(st.sampled_from(PARAMS), unique=True, max_size=2)) for n in names}
    conditions = {n: draw(st.sampled_from(PARAMS)) for n in names if draw(st.integers(0, 5)) == 0}
    return World(before, order, reads, conditions)


@st.composite
def requests(draw, names):
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    params = draw(st.dictionaries(st.sampled_from(PARAMS), st.integers(0, 1), max_size=2))
    edits = draw(st.dictionaries(st.sampled_from(names), st.integers(0, 1), max_size=2))
    mode = draw(st.sampled_from(["full", "incremental"]))
    return chosen, params, edits, mode


def naive(world: World, files: dict[str, str], params: dict[str, int], blind: bool = False) -> dict[str, dict]:
    """A full run from nothing, with nothing to reuse."""
    lab = Lab(world.text(), Files(files), blind=blind)
    record = lab.apply(f"params: {{{', '.join(f'{k}: {v}' for k, v in params.items())}}}")
    return {name: {o: v["digest"] for o, v in end.outputs.items()} for name, end in record.steps.items()}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_what_is_selected_has_the_outputs_of_a_full_run_or_the_plan_says_otherwise(data):
    world = data.draw(worlds())
    names = list(world.before)
    files = {f"{n}.py": "0" for n in names}
    blind = data.draw(st.booleans())
    lab = Lab(world.text(), Files(files), blind=blind)
    lab.apply()
    graph = Graph({n: [*world.before[n], *world.order[n]] for n in names})
    for _ in range(data.draw(st.integers(1, 5))):
        chosen, params, edits, mode = data.draw(requests(names))
        chosen = set(chosen) | graph.between(chosen)
        lab.files.files.update({f"{n}.py": str(v) for n, v in edits.items()})
        for name in data.draw(st.lists(st.sampled_from(names), max_size=1)):  # somebody edits a gate
            world.conditions.pop(name, None)
            if gate := data.draw(st.sampled_from([*PARAMS, "never", ""])):
                world.conditions[name] = gate
        lab.text = world.text()
        shown = ", ".join(f"{k}: {v}" for k, v in params.items())
        rest = f"islands: allow\nmode: {mode}\nparams: {{{shown}}}"
        plan = lab.plan(f"select: [{', '.join(sorted(chosen))}]\n{rest}")
        full = naive(world, lab.files.files, plan.params, blind)
        if plan.findings and not blind and not any(f.code == "F220" for f in plan.findings):
            # No false alarm: a step that is called stale would indeed have been made in another way.
            made = {
                n: {o: v["digest"] for o, v in d.past.outputs.items()}
                for n, d in plan.decisions.items()
                if isinstance(d, Reuse) and not d.verdict.sound
            }
            # (A parameter that only a step above the reused ones reads is told too; nothing is made of it here.)
            assert not made or any(made[n] != full[n] for n in made)
        if plan.findings:
            plan = lab.plan(f"{plan.findings[0].remedies[0].paste}\nreference: {plan.reference.record.id}\n{rest}")
            assert plan.findings == ()  # the least honest selection leaves nothing to decide
        record = lab.run(plan)
        touched = [n for n, d in plan.decisions.items() if isinstance(d, Run | Reuse) or d.name == "cached"]
        assert {n: {o: v["digest"] for o, v in record.steps[n].outputs.items()} for n in touched} == {
            n: full[n] for n in touched
        }
        assume(record.ended is not None)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_whole_run_is_the_same_whatever_is_in_the_store(data):
    world = data.draw(worlds())
    names = list(world.before)
    lab = Lab(world.text(), Files({f"{n}.py": "0" for n in names}))
    for _ in range(3):
        _, params, edits, _ = data.draw(requests(names))
        lab.files.files.update({f"{n}.py": str(v) for n, v in edits.items()})
        record = lab.apply(f"params: {{{', '.join(f'{k}: {v}' for k, v in params.items())}}}")
        assert {n: {o: v["digest"] for o, v in e.outputs.items()} for n, e in record.steps.items()} == naive(
            world, lab.files.files, record.started.params
        )
