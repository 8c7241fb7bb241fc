"""P5: each remedy of a finding, pasted into the request, gives a plan without that finding."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from .property import Check

Json = dict[str, Any]

MOST = 6  # remedies that are tried of one plan


def check(case: Check, plan: Json, doc: Json | None) -> None:
    """Paste the remedies of a plan, one at a time."""
    tried: set[str] = set()
    for finding in plan["findings"] if doc is not None else ():
        for remedy in finding["remedies"]:
            if remedy["paste"] in tried or len(tried) >= MOST or doc is None:
                continue
            tried.add(remedy["paste"])
            if remedy["kind"] != "remove" and not _is_yaml(remedy["paste"]):
                case.wrong("P5", f"`{remedy['paste']}` is no YAML", f"{remedy['kind']} of {finding['code']}")
                continue
            pasted = paste(doc, remedy)
            again = planned(case, pasted, f"{remedy['kind']} of {finding['code']}", remedy["paste"])
            if again and remedy["kind"] == "accept":
                again["settled"] = settled(plan)
                case.check_plan(again)  # what one acceptance settles beside its own finding
            kept = {(f["code"], f["subject"]) for f in again["findings"]} if again else set()
            if (finding["code"], finding["subject"]) in kept and not _moved(plan, again):
                case.wrong(
                    "P5",
                    f"it is still there after `{remedy['paste']}`: {finding['text']}",
                    f"{remedy['kind']} of {finding['code']}",
                )


def settled(plan: Json) -> list[str]:
    """Return what the acceptance of a cause may settle with it: findings of gates and params, not of stale steps."""
    return [
        *plan.get("settled", []),
        *(f["subject"] for f in plan["findings"] if f["code"] in ("F210", "F211", "F220")),
    ]


def _moved(plan: Json, again: Json | None) -> bool:
    """Whether the other request stands on another run: then it is another question."""
    return again is not None and (again["reference"] or {}).get("run") != (plan["reference"] or {}).get("run")


def _is_yaml(text: str) -> bool:
    try:
        return isinstance(yaml.safe_load(text), dict)
    except yaml.YAMLError:
        return False


def paste(doc: Json, remedy: Json) -> Json:
    """Return the request with a remedy in it, as a person would paste it."""
    made = copy.deepcopy(doc)
    kind, text = remedy["kind"], remedy["paste"]
    if kind == "remove":
        return _taken_back(made, text)
    for key, value in yaml.safe_load(text).items():
        if key == "reset":
            for param in value:
                made.get("params", {}).pop(param, None)
            made["reset"] = sorted({*made.get("reset", []), *value})
        elif key == "accept":
            made["accept"] = _entries(made.get("accept", []), value)
        else:
            made[key] = value
    return {k: v for k, v in made.items() if k != "params" or v}


def _taken_back(doc: Json, text: str) -> Json:
    """Do what a remedy says in words: `remove k from params`, `set k in params to 2, and remove j from reset`."""
    doc.setdefault("params", {})
    for part in text.replace("`", "").split(", and "):
        if part == "remove inherit: defaults":
            del doc["inherit"]
        elif found := re.fullmatch(r"remove (\w+) from reset(?: and set it in params to (.*))?", part):
            doc["reset"] = [name for name in doc.get("reset", []) if name != found[1]]
            if found[2]:
                doc["params"][found[1]] = yaml.safe_load(found[2])
        elif found := re.fullmatch(r"set (\w+) in params to (.*)", part):
            doc["params"][found[1]] = yaml.safe_load(found[2])
        elif found := re.fullmatch(r"remove ([\w, ]+) from params", part):
            for name in found[1].split(", "):
                del doc["params"][name]
        else:
            raise AssertionError(part)
    return {k: v for k, v in doc.items() if k not in ("params", "reset") or v}


def _entries(old: list[Json], new: list[Json]) -> list[Json]:
    steps = {e["step"] for e in new}
    return [e for e in old if e["step"] not in steps] + [{**e, "reason": "it is sound"} for e in new]


def planned(case: Check, doc: Json, where: str, what: str) -> Json | None:
    """Plan a request with a remedy in it; a refusal is wrong."""
    case.requests += 1
    name = case.world.request(f"r-{case.requests}.yaml", doc)
    done = case.world.do("plan", name, "-o", "json")
    case.fits(done, (0, 2, 3))
    if done.code == 2 and "nothing has changed" in done.err:  # it was all that `changed:` has selected
        return None
    if done.code == 2 and "none is the best" in done.err:  # today a fan-out has no item that runs: no selection helps
        return None
    if done.code == 2:
        case.wrong("P5", f"`{what}` is refused: {done.err.strip()}", where)
        return None
    found: Json = done.json()
    return found


def accept(case: Check, plan: Json, doc: Json, one: bool) -> tuple[Json, list[str]] | None:
    """Accept the causes that a plan has findings for, or those of its last finding; return the plan then, and how it is applied.

    What one acceptance settles beside its own finding shows in the results.
    """
    made = copy.deepcopy(doc)
    for _ in range(1 if one else 4):
        chosen = plan["findings"][-1:] if one else plan["findings"]
        entries = [
            e
            for f in chosen
            for r in f["remedies"]
            if r["kind"] == "accept"
            for e in yaml.safe_load(r["paste"])["accept"]
        ]
        unique = {(e["step"], e["cause"]): e for e in entries}
        if not unique:
            return None
        made["accept"] = _entries(made.get("accept", []), list(unique.values()))
        again = planned(case, made, "accept of all", f"accept: {list(unique)}")
        if again is None:
            return None
        again["settled"] = settled(plan)
        case.check_plan(again)
        if not again["findings"]:
            return again, ["apply", f"r-{case.requests}.yaml"]
        plan = again
    if not one:
        case.wrong(
            "P5", f"all is accepted, and there are findings: {[f['text'] for f in plan['findings']]}", "accept of all"
        )
    return None
