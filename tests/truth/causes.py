"""P2 and P6: what a plan says about changes is so. Shown by comparing the texts and values of two worlds.

The world of a run is the project and the params that it ran with. A cause is compared with the world of the run that made
the bytes; a cause further up with the run that made what was read, where the record tells it, else with any earlier run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .project import ROOT, Doc, Project, Shape, params_in, refs, template
from .results import UNKNOWN, left
from .worlds import Run

if TYPE_CHECKING:
    from .property import Check

Json = dict[str, Any]

GATING = (
    "needs",
    "when",
    "trigger",
    "on_failure",
    "retry",
    "timeout",
    "resources",
    "then",
    "else",
    "tags",
    "description",
)


class Side:
    """One of two worlds."""

    def __init__(self, project: Project, params: dict[str, Any]) -> None:
        self.project, self.params, self.shape = project, params, Shape(project)

    def step(self, name: str) -> Doc | None:
        """Return a step as it counts for a fingerprint."""
        step = self.shape.steps.get(template(name))
        return None if step is None else {k: v for k, v in step.items() if k not in GATING}

    def entry(self, name: str, field: str, key: str) -> Any:
        step = self.shape.steps.get(template(name), {})
        found = {**self.defaults(name), **step.get(field, {})} if field == "env" else step.get(field, {})
        return found.get(key)

    def defaults(self, name: str) -> Doc:
        """Return the variables that the pipeline of a step gives to all of its steps."""
        doc = self.project["docs"].get(self.file_of(name), {})
        found: Doc = doc.get("defaults", {}).get("env", {})
        return found

    def file_of(self, name: str) -> str:
        """Return the document that a step is written in."""
        outer = template(name).rpartition("/")[0]
        return str(self.shape.steps[outer]["pipeline"]) if outer in self.shape.steps else ROOT

    def value(self, param: str) -> Any:
        """Return a param; a file by its place and content."""
        value = self.params.get(param)
        return (value, self.project["files"].get(value)) if isinstance(value, str) else value

    def slice(self, name: str) -> Any:
        """Return all that a step, and what comes before it, is made of and gated by."""
        own = template(name)
        outer = {own[:at] for at, letter in enumerate(own) if letter == "/"}  # what gates it gates those in it
        names = sorted({own} | outer | self.shape.above(own))
        docs = [
            self.project["docs"].get(p, {}) for p in sorted({self.file_of(n) for n in names if n in self.shape.steps})
        ]
        read = sorted(set().union(*(self.shape.params.get(n, set()) for n in names)))
        return [
            [(n, self.shape.steps.get(n), self.shape.branch.get(n)) for n in names],
            [(d.get("defaults"), {k: v.get("default") for k, v in d.get("params", {}).items()} if d.get("name") != "p" else 0) for d in docs],
            [(p, self.value(p)) for p in read],
            [(f, t) for f, t in sorted(self.project["files"].items()) if any(f in repr(self.shape.steps.get(n)) for n in names)],
        ]  # fmt: skip


def sha(text: str | None) -> str:
    return "" if text is None else "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class Plan:
    """A plan under check."""

    def __init__(self, case: Check, plan: Json, full: Run) -> None:
        self.case, self.plan, self.full = case, plan, full
        self.now = Side(case.world.project, {n: p["value"] for n, p in plan["params"].items()})
        self.runs = {run.id: run for run in case.runs}
        self.sides = {run.id: Side(run.project, run.params) for run in case.runs}
        self.reference = self.runs.get((plan["reference"] or {}).get("run", ""))

    def wrong(self, what: str, where: str, prop: str = "P2") -> None:
        self.case.wrong(prop, what, where)

    def check(self) -> None:
        if self.reference is None:
            if self.plan["findings"]:
                self.wrong("it has findings without a reference run", self.plan["findings"][0]["code"])
            return
        for finding in self.plan["findings"]:
            self.finding(finding)
        for name, step in self.plan["steps"].items():
            if step["decision"] == "reuse" and step.get("verdict") == "stale":
                self.stale(name, step)
        self.unchanged()
        for gate in self.plan["gates"]:
            self.gate(gate)
        for name, param in self.plan["params"].items():
            if "effect" in param:
                self.effect(name, param)

    # --- findings

    def finding(self, finding: Json) -> None:
        code, subject = finding["code"], finding["subject"]
        if code in ("F210", "F211") and self.sides[self.reference_id].value(subject) == self.now.value(subject):
            self.wrong(f"param {subject} is what it was: {self.now.value(subject)}", f"{code} {subject}")
        if code in ("F201", "F202", "F220") and not self.lenient() and self.same_slice(subject):
            self.wrong(f"nothing at it or above it has changed: {finding['text']}", f"{code} {subject}")

    @property
    def reference_id(self) -> str:
        assert self.reference is not None
        return self.reference.id

    def lenient(self) -> bool:
        """Whether the reference run itself was not what a full run would have been."""
        chain = [run for run in self.case.runs if run.trial or run.accepted]
        return bool(chain) or bool(self.plan["request"]["trial"])

    def same_slice(self, subject: str) -> bool:
        """Whether a step, with all above it, is as in the reference run, or in all runs that may have made it."""
        assert self.reference is not None
        own = self.reference.steps.get(subject, {}).get("status") in ("succeeded", "failed", "skipped")
        thens = [self.sides[self.reference_id]] if own else list(self.sides.values())
        there = template(subject) in self.now.shape.steps
        return there and all(then.slice(subject) == self.now.slice(subject) for then in thens)

    def unchanged(self) -> None:
        """No finding where nothing at all has changed."""
        assert self.reference is not None
        then = self.sides[self.reference_id]
        if then.project == self.now.project and then.params == self.now.params and not self.lenient():
            for finding in self.plan["findings"]:
                self.wrong(f"nothing has changed since the reference run: {finding['text']}", finding["code"])

    # --- causes of a stale step

    def stale(self, name: str, step: Json) -> None:
        causes = step.get("causes", [])
        if not causes:
            self.wrong("it is stale without a cause", name)
        made = self.sides.get(step.get("produced_by", ""))
        if made is None:
            return
        for cause in causes:
            self.cause(name, cause, [made], step["produced_by"])
        if self.runs[step["produced_by"]].steps.get(name, {}).get("status") == "succeeded":  # and no twin of it
            self.complete(name, causes, made)

    def cause(self, name: str, cause: Json, thens: list[Side], run: str) -> None:
        """Check that one of these worlds differs from today's as a cause says."""
        kind, what = cause["kind"], cause["name"]
        if kind == "upstream":
            self.upstream(name, cause, run)
            return
        asked = {"code": self.code, "param": self.param, "env": self.env, "input": self.input}[kind]
        if not any(asked(name, what, cause, then, run) for then in thens):
            self.wrong(
                f"the cause is not so: {kind} {what}: {cause.get('then')} -> {cause.get('now')}", f"{kind} of {name}"
            )

    def upstream(self, name: str, cause: Json, run: str) -> None:
        record = self.runs[run].steps.get(name, {}) if run in self.runs else {}
        makers = {r[3] for r in record.get("reads", []) if r[0] == cause["name"]}
        # What was made in one run may have been taken from the cache by another, from what that one had.
        thens = [self.sides[m] for m in {*makers, run, self.reference_id} if m in self.sides]
        for inner in cause.get("causes", []):
            self.cause(cause["name"], inner, thens, next(iter(makers), run))
        if not cause.get("causes") and "now" in cause:  # without: it was told before
            consumed = {r[2] for r in record.get("reads", []) if r[0] == cause["name"]}
            there = self.full.steps.get(cause["name"], {})
            today = {o.get("digest") or sha(_json(o.get("value"))) for o in there.get("outputs", {}).values()}
            if consumed and consumed <= today and not any(f["subject"] == cause["name"] for f in self.plan["findings"]):
                self.wrong(f"what it read is what a full run makes: upstream {cause}", name)

    def code(self, name: str, what: str, cause: Json, then: Side, run: str) -> bool:
        if what in then.project["files"] or what in self.now.project["files"]:
            before, today = then.project["files"].get(what), self.now.project["files"].get(what)
            listed = [what in (side.step(name) or {}).get("code", []) for side in (then, self.now)]
            return before != today or listed[0] != listed[1]
        return self.written(name, then) != self.written(name, self.now) or (
            "/" in name and self.passed(name, then, run)
        )

    def written(self, name: str, side: Side) -> Any:
        """Return what the definition of a step is made of; that of an inner pipeline has its outputs."""
        step = side.step(name) or {}
        inner = side.project["docs"].get(step.get("pipeline", ""), {})
        return step, side.defaults(name), inner.get("outputs")

    def param(self, name: str, what: str, cause: Json, then: Side, run: str) -> bool:
        if then.value(what) != self.now.value(what):
            return True
        if len({what in params_in(side.step(name)) for side in (then, self.now)}) == 2:
            return True  # it is read since, or not any more
        return "/" in name and self.passed(name, then, run)

    def passed(self, name: str, then: Side, run: str) -> bool:
        """Whether the params that an outer step passes to an inner one may differ."""
        outer = template(name).rpartition("/")[0]
        if then.shape.steps.get(outer) != self.now.shape.steps.get(outer):
            return True
        docs = [side.project["docs"].get(side.file_of(name), {}).get("params") for side in (then, self.now)]
        return docs[0] != docs[1] or self.moved(self.now.shape.steps.get(outer, {}).get("params"), then, outer, run)

    def moved(self, value: Any, then: Side, name: str, run: str) -> bool:
        """Whether what an expression reads may differ."""
        outer = template(name).rpartition("/")[0]
        if any(then.value(p) != self.now.value(p) for p in params_in(value)):
            return True
        if outer and params_in(value):
            return self.passed(name, then, run)
        prefix = outer + "/" if outer else ""
        return any(self.step_moved(prefix + n, run) for n in refs(value))

    def step_moved(self, name: str, run: str) -> bool:
        """Whether a step left other things in a run than a full run of today makes, or nobody can tell."""
        then = self.runs[run].steps.get(name) if run in self.runs else None
        if then is None or then["status"] == "not_selected" or any(c in name for c in "["):
            return True
        if name not in self.full.steps or any(f["subject"] == name for f in self.plan["findings"]):
            return True
        return left(then) != left(self.full.steps[name]) or self.plan["steps"].get(name, {}).get("decision") == "run"

    def env(self, name: str, what: str, cause: Json, then: Side, run: str) -> bool:
        return self.named("env", name, what, then, run)

    def input(self, name: str, what: str, cause: Json, then: Side, run: str) -> bool:
        if what in self.now.shape.steps or what in then.shape.steps:  # a step that it reads since, or not any more
            return then.slice(name) != self.now.slice(name)
        written = (side.entry(name, "inputs", what) for side in (then, self.now))
        if what in self.now.params and not any(written):  # it names a file
            return bool(then.value(what) != self.now.value(what))
        return self.named("inputs", name, what, then, run)

    def named(self, field: str, name: str, what: str, then: Side, run: str) -> bool:
        if what == "items":  # of a fan-out: its values
            before, today = (side.shape.steps.get(template(name), {}).get("foreach") for side in (then, self.now))
        else:
            before, today = then.entry(name, field, what), self.now.entry(name, field, what)
        if before is None and today is None:  # `each.x` of an item, or what a step is read by
            return bool(self.written(name, then) != self.written(name, self.now))
        if before != today or "each." in repr(today):
            return True
        if isinstance(today, str) and today in self.now.project["files"]:
            return then.project["files"].get(today) != self.now.project["files"][today]
        return self.moved(today, then, name, run)

    def complete(self, name: str, causes: list[Json], made: Side) -> None:
        """All causes, always: the script, each file of the code or the inputs, and each param read that differs is named."""
        step, before = self.now.step(name), made.step(name)
        if step is None or before is None or "cache" in step or ("foreach" in step and not name.endswith("]")):
            return
        if ("foreach" in step) is not ("foreach" in before):
            return  # one step then, several now, or the other way: that alone is named
        told = {(c["kind"], c["name"]) for c in causes}
        for what, names in self.differing(name, told, before, made):
            if not names & told:
                self.wrong(f"{what} has changed, and is not named: {sorted(told)}", f"incomplete {name}")

    def differing(
        self, name: str, told: set[tuple[str, str]], before: Doc, made: Side
    ) -> Iterator[tuple[str, set[tuple[str, str]]]]:
        """Yield what surely differs of a step's own, with the causes that would name it."""

        def edited(file: Any) -> bool:
            files = made.project["files"].get(file), self.now.project["files"].get(file)
            return files[0] != files[1] and None not in files

        step = self.now.step(name) or {}
        if step.get("script") != before.get("script"):
            yield "its script", {c for c in told if "script" in c[1]}
        for file in step.get("code", []):
            if file in before.get("code", []) and edited(file):
                yield f"code {file}", {("code", file)}
        for key, file in step.get("inputs", {}).items():
            if before.get("inputs", {}).get(key) == file and edited(file):
                yield f"input {key}", {("input", key), ("input", file)}
        for key, text in step.get("env", {}).items() if "/" not in name else ():
            direct = re.fullmatch(r"\$\(params\.(\w+)\)", str(text))
            same = direct and before.get("env", {}).get(key) == text
            if direct and same and made.value(direct[1]) != self.now.value(direct[1]):
                yield f"param {direct[1]}", {("param", direct[1]), ("env", key)}

    # --- gates and params

    def gate(self, gate: Json) -> None:
        """What a gate would decide today is what it decides in the full run, unless what it reads is in doubt."""
        name, now = gate["step"], gate["now"]
        there = self.full.steps.get(name)
        if now is None or there is None or gate["decision"] in ("assumed", "run") or self.plan["request"]["trial"]:
            return
        above = self.now.shape.above(template(name))
        doubt = {template(f["subject"]) for f in self.plan["findings"]} | {
            template(a["step"]) for a in self.plan["accepted"]
        }
        runs = {template(n) for n, s in self.plan["steps"].items() if s["decision"] == "run"}
        if (above & (doubt | runs)) or any(
            self.full.steps.get(n, {}).get("status") not in _FINE for n in above if n in self.full.steps
        ):
            return
        if gate["field"] == "if" and there["status"] in _FINE and there.get("taken") != now:
            self.wrong(f"it is said to be {now} today, in a full run it is {there.get('taken')}", f"gate {name}")
        if (
            gate["field"] == "when"
            and now is False
            and there["status"] in _FINE
            and "foreach" not in self.now.shape.steps[template(name)]
        ):
            self.wrong(f"its `when` is said to be false today, in a full run it is {there['status']}", f"gate {name}")
        if (
            gate["field"] == "when"
            and now is True
            and there["status"] == "skipped"
            and "`when`" in there.get("reason", "")
        ):
            self.wrong("its `when` is said to be true today, in a full run it is false", f"gate {name}")

    def effect(self, name: str, param: Json) -> None:
        """P6: a param is said to have no effect only if it changes nothing that is selected.

        A shadowed one may change it through a step that is reused; whether that is sound, P1 shows.
        """
        assert self.reference is not None
        effect, then = param["effect"], self.reference.params.get(name)
        there = {
            template(n)
            for n in self.plan["steps"]
            if n.endswith("]") or "foreach" not in self.now.shape.steps.get(template(n), {})
        }
        readers = {n for n, read in self.now.shape.params.items() if name in read and n in there}
        selected = self.plan["selection"]["steps"]
        if effect == "unused" and readers:
            self.wrong(f"it is said to be read by no step, but {sorted(readers)} read it", f"unused {name}", "P6")
        if effect == "shadowed" and (chosen := readers & {template(n) for n in selected}):
            self.wrong(f"it is said to be shadowed, but {sorted(chosen)} read it", f"shadowed {name}", "P6")
        if effect not in ("unused", "deferred") or self.plan["request"]["trial"]:
            return
        other = self.case.oracle.full(self.now.project, {**self.now.params, name: then})
        if other is None:
            return
        for step in selected:
            if step not in self.full.steps or step not in other.steps or not self.definite(step, other):
                continue
            if left(self.full.steps[step]) != left(other.steps[step]):
                self.wrong(
                    f"it is said to be {effect}, but changes {step}, which is selected", f"{effect} {name}", "P6"
                )
                return

    def definite(self, step: str, other: Run) -> bool:
        return all(run.steps[step]["status"] not in UNKNOWN for run in (self.full, other))


_FINE = ("succeeded", "cached", "reused")


def _json(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"), sort_keys=True)
