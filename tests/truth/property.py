"""What must hold, whatever is edited and selected.

P1  What a run ran, reused or took from the cache is what a full run has: status and bytes; and so are the outputs of the
    pipeline in its record. Or the plan had a finding on the step or above it, or the run is a trial (`results`).
P2  A finding names a cause that is so, and all there are (`causes`).
P3  No step ends as the decision of its plan and `may` exclude (`results`).
P4  No traceback; exit codes fit; a plan that is READY is not refused; "nothing to do" is true.
P5  A remedy, pasted, takes its finding away (`remedies`).
P6  A param that is said to change nothing changes nothing (`causes`).
P7  A step starts exactly where the states of those before it let it (`gating`).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from typing import Any

import yaml

from . import causes, gating, remedies, results
from .cases import Case
from .project import Shape, template
from .worlds import Broken, Done, Oracle, Run, World

Json = dict[str, Any]


class Check:
    """One case under check: its world, the runs that it made, what does not hold, and how often what happened."""

    def __init__(self, case: Case, folder: str) -> None:
        self.case = case
        self.world = World(tempfile.mkdtemp(dir=folder), case["workers"])
        self.oracle = Oracle(tempfile.mkdtemp(dir=folder))
        self.runs: list[Run] = []
        self.stats: Counter[str] = Counter()
        self.violations: list[Json] = []
        self.requests = 0

    def wrong(self, prop: str, what: str, where: str) -> None:
        """Note that something does not hold."""
        self.violations.append({"property": prop, "what": what, "where": where, "at": len(self.world.log)})

    # --- a case, stage by stage

    def all(self) -> None:
        for number, stage in enumerate(self.case["stages"]):
            kept = self.world.project
            self.world.write(stage["project"])
            done = self.world.do("validate", "p.yaml")
            self.fits(done, (0, 2))
            if done.code == 2:
                self.stats[f"invalid {min(number, 1)}: {_codes(done)}"] += 1
                if not kept:
                    return
                self.world.write(kept)
            for action in stage["actions"]:
                self.act(action)

    def act(self, action: Json) -> None:
        if action["do"] == "apply":
            params = [w for n, v in action["params"].items() for w in ("-p", f"{n}={_text(v)}")]
            self.ask(["p.yaml", *params], ["apply", "p.yaml", *params], "apply", None)
        elif action["do"] == "retry":
            self.retry()
        else:
            doc = json.loads(json.dumps(action["request"]))
            self.name_run(doc)
            self.requests += 1
            name = self.world.request(f"r-{self.requests}.yaml", doc)
            self.ask([name], ["apply", name], action["then"], doc)

    def name_run(self, doc: Json) -> None:
        """Put the id of a run in the place of RUN-1, the newest, or RUN-2."""
        if found := re.fullmatch(r"RUN-(\d)", str(doc.get("reference", ""))):
            at = int(found[1])
            doc["reference"] = self.runs[-at].id if len(self.runs) >= at else "latest"

    def retry(self) -> None:
        """Retry the newest run; its plan is that of the request which `--print` writes."""
        if not self.runs:
            return
        run = self.runs[-1].id
        done = self.world.do("retry", run, "--print")
        self.fits(done, (0, 2))
        if done.code or "apiVersion" not in done.out:
            self.stats["retry: nothing"] += 1
            return
        doc = {k: v for k, v in yaml.safe_load(done.out).items() if k not in ("apiVersion", "kind", "pipeline")}
        self.requests += 1
        name = self.world.request(f"r-{self.requests}.yaml", doc)
        self.ask([name], ["retry", run], "apply", doc, self.runs[-1])

    # --- a plan, and what becomes of it

    def ask(
        self, planned: list[str], applied: list[str], then: str, doc: Json | None, retried: Run | None = None
    ) -> None:
        done = self.world.do("plan", *planned, "-o", "json")
        self.fits(done, (0, 2, 3))
        if done.code not in (0, 3):
            self.refused(done, doc)
            return
        plan = done.json()
        self.stats[f"plan {done.code}"] += 1
        if (done.code == 3) != bool(plan["findings"]):
            self.wrong("P4", f"exit {done.code} with {len(plan['findings'])} findings", "plan")
        full = self.check_plan(plan)
        if full is None:
            self.stats["no oracle"] += 1
            return
        remedies.check(self, plan, doc)
        if retried is not None:
            results.check_retry(plan, retried, self.wrong)
        if then.startswith("accept") and plan["findings"] and doc is not None:
            if not (accepted := remedies.accept(self, plan, doc, then == "accept one")):
                return
            plan, applied = accepted
            self.stats["accepted"] += 1
        if then != "plan" and not plan["findings"]:
            self.apply(plan, applied, full)

    def check_plan(self, plan: Json) -> Run | None:
        """Check all that a plan tells; return the full run that it is compared with."""
        full = self.oracle.full(self.world.project, {n: p["value"] for n, p in plan["params"].items()})
        if full is not None:
            results.check_plan(plan, self.reference(plan), full, Shape(self.world.project), self.wrong)
            causes.Plan(self, plan, full).check()
        return full

    def reference(self, plan: Json) -> Run | None:
        """Return the run that a plan stands on."""
        return next((r for r in self.runs if plan["reference"] and r.id == plan["reference"]["run"]), None)

    def refused(self, done: Done, doc: Json | None) -> None:
        """A request may be refused for what it asks; a pipeline that is valid, or a part that is not asked for, is no reason."""
        codes = _codes(done)
        self.stats[f"refused {codes or done.err.strip()[:60]}"] += 1
        axis = re.search(r"the axis `\w+` of (\S+) has no values", done.err)
        if codes in ("E201", "E202") or (axis and not self.asked_for(template(axis[1]), doc)):
            self.wrong("P4", f"a pipeline that is valid cannot be planned: {done.err.strip()}", "refused")

    def asked_for(self, step: str, doc: Json | None) -> bool:
        """Whether a step is selected, or comes before what is; yes, where that is not plain."""
        shape, names = Shape(self.world.project), (doc or {}).get("select", [])
        if not names or not set(names) <= set(shape.steps):
            return True
        return any(step == name or step in shape.above(name) for name in names)

    def apply(self, plan: Json, applied: list[str], full: Run) -> None:
        done = self.world.do(*applied, "--workers", str(self.world.workers), "-o", "json")
        if not self.fits(done, (0, 1, 7)):
            return
        events = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
        unchanged = [e["run"] for e in events if e.get("event") == "unchanged"]
        if unchanged:
            self.stats["nothing to do"] += 1
            self.check_unchanged(plan, self.world.run(unchanged[0]), full)
            return
        name = self.world.newest()
        if waited := done.code == 7:
            done = self.world.go_on(name, 7) or done
            if not self.fits(done, (0, 1)):
                return
        run = self.world.run(name)
        run.project, run.plan, run.exit = self.world.project, plan, done.code
        self.runs.append(run)
        self.stats[f"run {run.status}{' after waiting' if waited else ''}"] += 1
        self.check_run(run, full)

    def check_run(self, run: Run, full: Run) -> None:
        shape = Shape(run.project)
        if (run.exit, run.status) not in ((0, "succeeded"), (1, "failed")):
            self.wrong("P4", f"the run ended {run.status} with exit {run.exit}", "exit")
        results.within(run, self.reference(run.plan), self.wrong)
        gating.check(run, shape, self.wrong)
        results.check_run(run, full, shape, self.wrong)

    def check_unchanged(self, plan: Json, run: Run, full: Run) -> None:
        """P4: nothing to do, so the named run has what a full run would have, `outputs` and `finally` included."""
        run.project, run.plan = self.world.project, plan
        # What the pipeline no longer has was part of that run; nothing asks for it today.
        run.steps = {n: s for n, s in run.steps.items() if n in plan["steps"] or n in run.finals}

        def wrong(prop: str, what: str, where: str) -> None:
            self.wrong("P4", f"nothing to do, but {where}: {what}", "unchanged")

        results.check_run(run, full, Shape(run.project), wrong)
        if not plan["selection"]["written"]:
            if set(run.finals) != set(full.finals):
                wrong("", f"that run has {run.finals}, a full run {full.finals}", "finally")
            if run.outputs != full.outputs:
                wrong("", f"that run has {run.outputs}, a full run {full.outputs}", "outputs")

    def fits(self, done: Done, codes: tuple[int, ...]) -> bool:
        """P4: whether the exit code is one of these, and nothing was traced."""
        if "Traceback" in done.err or done.code == 70:
            self.wrong("P4", f"{' '.join(done.args)}: {_last_line(done.err)}", "traceback")
            return False
        if done.code not in codes:
            self.wrong("P4", f"{' '.join(done.args)}: exit {done.code}: {done.err.strip()}", f"exit {done.code}")
        return done.code in codes


def check(case: Case, folder: str) -> list[Json]:
    """Return what does not hold in a case, with all that was done; and how often what happened."""
    found = Check(case, folder)
    try:
        found.all()
    except Broken as broken:
        found.wrong("P4", str(broken), "reading")
    last = {"property": "stats", "stats": dict(found.stats)}
    if found.violations:
        last["log"] = [[kind, vars(value) if isinstance(value, Done) else value] for kind, value in found.world.log]
    return [*found.violations, last]


def _codes(done: Done) -> str:
    return " ".join(sorted(set(re.findall(r"error\[(\w+)\]", done.err))))


def _last_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip() and "This is a bug" not in line]
    place = [line.strip() for line in lines if line.strip().startswith("File ")]
    return f"{lines[-1]} at {place[-1].rpartition('/')[2] if place else ''}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
