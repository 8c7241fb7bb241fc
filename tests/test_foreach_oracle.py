"""The one property for fan-outs: whatever values an axis gains, loses or reorders between runs, and whatever steps and items
are selected, each step that runs or is reused has exactly the outputs of a full run, or the plan said otherwise."""

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from runner import app, engine
from runner.decide import Kept, Reuse
from runner.errors import Invalid
from runner.executors.calls import Outcome
from runner.store.memory import MemoryStore
from tests.kit import FakeExecutor, sha

GOOD = ("succeeded", "cached", "reused")


class Store(MemoryStore):
    """A store in memory that looks at real project files."""

    exists, path = True, ""

    def digest(self, path: str) -> str:
        return sha(Path(path).read_bytes())

    def flush(self) -> None:
        """Nothing is kept."""


class Executor(FakeExecutor):
    """Makes of a step what it is given, in the order in which it is given."""

    def wait(self, seconds: float | None) -> list[Outcome]:
        if not self.calls:
            return []
        call = self.calls.pop(0)
        digests = {link[0]: link[2] for link in call.links}
        context = json.loads(call.files[f"{call.root}/context.json"])
        if call.argv[0] == "list":
            values = {"xs": [int(x) for x in call.argv[1].split()]}
            return [Outcome(call.step, call.attempt, values=json.dumps(values), exit_code=0)]
        shown = [context["inputs"], context["each"], [digests.get(f"{call.cwd}/{a}".lstrip("/"), a) for a in call.argv]]
        text = json.dumps(shown + sorted(c[2] for c in call.copies), sort_keys=True)
        for path, digest in sorted(digests.items()):
            text = text.replace(f'"{path}"', f'"{digest}"')
        digest = self.store.put(text.encode())
        outputs = {o["name"]: {"type": o["type"], "digest": digest, "size": len(text)} for o in call.outputs}
        numbers = {"n": int(call.argv[2]) * 7 % 5} if call.argv[1] == "a" else None
        return [Outcome(call.step, call.attempt, outputs=outputs, values=json.dumps(numbers or {}), exit_code=0)]


@dataclass
class World:
    """A pipeline with a fan-out `a` of some kind of axes, a fan-out `b` of its files, and readers of both."""

    axis: str  # literal, param or step
    second: bool  # whether `a` has another axis
    conditional: bool  # whether `a` leaves items out by `when`
    xs: list[int] = field(default_factory=lambda: [1, 2, 3])
    code: dict[str, int] = field(default_factory=dict)

    def write(self, root: Path) -> None:
        over = {"literal": str(self.xs), "param": "$(params.xs)", "step": "$(steps.list.outputs.xs)"}[self.axis]
        second = ", y: [0, 9]" if self.second else ""
        b = (
            """
              b:
                kind: command
                command: [make, b, $(each.f), $(params.p)]
                foreach: {over: {f: $(steps.a.outputs.o)}}
                code: [b.py]
                outputs: {o: {type: file, path: o.txt}}
              c:
                kind: command
                command: [make, c]
                inputs: {o: $(steps.b.outputs.o)}
                outputs: {o: {type: file, path: o.txt}}
        """
            if not self.conditional
            else ""
        )
        (root / "p.yaml").write_text(f"""
            apiVersion: runner/v1
            kind: Pipeline
            name: p
            params:
              xs: {{type: list, items: integer, default: [1, 2]}}
              text: {{type: string, default: 1 2}}
              p: {{type: integer, default: 0}}
              q: {{type: integer, default: 0}}
            steps:
              list:
                kind: command
                command: [list, $(params.text)]
                outputs: {{xs: {{type: list, items: integer}}}}
              a:
                kind: command
                command: [make, a, $(each.x), $(params.q)]
                foreach: {{over: {{x: {over}{second}}}, best: {{output: n, mode: max}}}}
                code: [a.py]
                {"when: $(each.x != 2)" if self.conditional else ""}
                outputs: {{o: {{type: file, path: o.txt}}, n: {{type: integer}}}}
              {b.strip()}
              d:
                kind: command
                command: [make, d, $(steps.a.best.outputs.o), $(steps.a.best.each.x), $(steps.a.count)]
                inputs: {{o: $(steps.a.outputs.o)}}
                outputs: {{o: {{type: file, path: o.txt}}}}
              e:
                kind: command
                command: [make, e, $(steps.d.outputs.o)]
                code: [e.py]
                outputs: {{o: {{type: file, path: o.txt}}}}
        """)
        for name in "abe":
            (root / f"{name}.py").write_text(str(self.code.get(name, 0)))


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    """Programs of the names that the steps have: a plan looks for them, and the executor here starts none."""
    for name in ("list", "make"):
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


class Lab:
    """A project folder, planned in by the real program, with an executor that starts no process."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, Store()
        (root / "runner.toml").touch()

    def plan(self, request: str):
        (self.root / "run.yaml").write_text(f"apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n{request}")
        return app.plan(app.read(str(self.root / "run.yaml"), None, str(self.root / "nowhere")), self.store)

    def run(self, plan):
        workshop = engine.Workshop(root=str(self.root), workers=2, cpu=2, memory=None)
        for _ in engine.execute(plan, self.store, Executor(self.store), workshop):
            pass
        return self.store.run(list(self.store.journals)[-1])


def content(produced):
    """What an output is, without the run that made it."""
    if produced is None:
        return None
    if "items" in produced:
        return [content(item) for item in produced["items"]]
    return produced.get("digest") or [produced.get("value")]


def contents(ended):
    return {name: content(o) for name, o in ended.outputs.items()}


def text_of(params):
    return json.dumps({k: " ".join(map(str, v)) if k == "text" else v for k, v in params.items()})


VALUES = st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True).filter(lambda xs: xs != [2])
PARAMS = st.fixed_dictionaries(
    {}, optional={"xs": VALUES, "text": VALUES, "p": st.integers(0, 1), "q": st.integers(0, 1)}
)


@st.composite
def selections(draw, names):
    one = st.sampled_from(sorted(names))
    return draw(
        st.one_of(
            st.builds(lambda n: [n], one),
            st.builds(lambda n: [f"{n}+"], one),
            st.builds(lambda n, m: [f"{n}+", f"{m}+"], one, one),
            st.builds(lambda n: [f"1+{n}"], one),
            st.builds(lambda n, m: [f"{n}", f"{m}"], one, one),
            st.builds(lambda n: [n, "a", "d+"], one),
            st.builds(lambda x: [f"a[x={x}]+"], st.integers(1, 5)),
        )
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(st.data())
def test_items_have_the_outputs_of_a_full_run_or_the_plan_says_otherwise(data):
    axis = data.draw(st.sampled_from(["literal", "param", "step"]))
    world = World(axis, data.draw(st.booleans()), data.draw(st.booleans()))
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        world.write(lab.root)
        names = set(lab.run(lab.plan("")).steps)
        for _ in range(data.draw(st.integers(1, 4))):
            world.xs = data.draw(st.one_of(st.just(world.xs), VALUES, st.permutations(world.xs)))
            world.code |= data.draw(st.dictionaries(st.sampled_from("abe"), st.integers(0, 1), max_size=1))
            world.write(lab.root)
            mode = data.draw(st.sampled_from(["full", "incremental"]))
            rest = f"islands: allow\nmode: {mode}\nparams: {text_of(data.draw(PARAMS))}"
            chosen = data.draw(st.one_of(st.just(["all"]), selections(names)))
            try:
                plan = lab.plan(f"select: {json.dumps(chosen)}\n{rest}")
            except Invalid as error:
                event(error.diagnostics[0].code)
                continue
            params = {n: v for n, v in plan.params.items() if n != "text"} | {"text": plan.params["text"].split()}
            naive = Lab(Path(folder))
            full = {n: contents(e) for n, e in naive.run(naive.plan(f"params: {text_of(params)}")).steps.items()}
            names |= full.keys()
            if plan.findings:
                event("needs a decision")
                doubted = [d for d in plan.decisions.values() if isinstance(d, Reuse) and not d.verdict.sound]
                # No false alarm: a step that is called stale would indeed have been made in another way.
                assert not doubted or any(contents(d.past) != full.get(d.step) for d in doubted)
                reference = f"reference: {plan.reference.record.id}"
                plan = lab.plan(f"{plan.findings[0].remedies[0].paste}\n{reference}\n{rest}")
                assert plan.findings == ()  # the least honest selection leaves nothing to decide
            record = lab.run(plan)
            assert record.status == "succeeded"
            for decision in plan.decisions.values():
                if isinstance(decision, Kept) and decision.past.status != "skipped":
                    assert contents(decision.past) == full[decision.step]
            made = {n: contents(e) for n, e in record.steps.items() if e.status in GOOD}
            assert made == {n: full[n] for n in made}
