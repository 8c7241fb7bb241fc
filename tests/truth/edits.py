"""Random edits of a project: of files, params, steps, gates, outputs and `finally`, in the outer pipeline and in inner ones."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

from .pipelines import FILE, Maker, chance
from .project import ROOT, Doc, Project, Shape

Edit = Callable[["Editing"], bool]


class Editing:
    """A project that is being edited; `doc` is the pipeline that the edit is in."""

    def __init__(self, project: Project, rng: random.Random, aim: set[str]) -> None:
        self.project, self.rng, self.aim = copy.deepcopy(project), rng, aim
        docs = self.project["docs"]
        self.path = rng.choice([ROOT, ROOT, ROOT, ROOT, *docs])
        self.doc: Doc = docs[self.path]
        self.steps: dict[str, Doc] = self.doc["steps"]

    def pick(self, *kinds: str) -> str:
        found = [n for n, s in self.steps.items() if not kinds or s["kind"] in kinds]
        aimed = [n for n in found if n in self.aim]
        return self.rng.choice(aimed if aimed and chance(self.rng, 75) else found) if found else ""

    def maker(self, upto: str = "") -> Maker:
        """Return a maker of steps that may read those before `upto`, or all."""
        inner = [p for p in self.project["docs"] if p > self.path and p != ROOT] if self.path != ROOT else []
        inner = inner if self.path != ROOT else [p for p in self.project["docs"] if p != ROOT]
        code = sorted(f for f in self.project["files"] if f.startswith("c"))
        made = Maker(self.rng, inner, self.project["docs"], code, self.path == ROOT)
        names = list(self.steps)
        made.steps = {n: self.steps[n] for n in (names[: names.index(upto)] if upto else names)}
        return made


def edited(project: Project, rng: random.Random, aim: set[str], gates: bool = False) -> Project:
    """Return the project after one to three edits that leave its graph without a ring; most of them at steps of `aim`.

    With `gates` only what decides whether a step starts is edited.
    """
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        for _ in range(8):
            editing = Editing(project, rng, aim)
            edit = rng.choice(GATES if gates else EDITS)
            if edit(editing) and _sound(editing.project):
                project = editing.project
                break
    return project


def _sound(project: Project) -> bool:
    """Whether no step comes before itself, and no reference or branch leads nowhere."""
    for doc in project["docs"].values():
        names = set(doc["steps"])
        branches = [t for s in doc["steps"].values() for side in ("then", "else") for t in s.get(side, [])]
        if len(branches) != len(set(branches)) or not set(branches) <= names:
            return False
    shape = Shape(project)
    return all(name not in shape.above(name) for name in shape.steps)


# --- files and params


def code_file(e: Editing) -> bool:
    text = repr([s for n, s in e.steps.items() if n in e.aim] or e.project["docs"])
    name = e.rng.choice([f for f in sorted(e.project["files"]) for _ in range(6 if f in text else 1)])
    old = e.project["files"][name]
    e.project["files"][name] = e.rng.choice([v for v in (f"{i}\n" for i in range(5)) if v != old])
    return True


def default(e: Editing) -> bool:
    params = e.doc["params"]
    name = e.rng.choice(sorted(params))
    values: dict[str, list[Any]] = {
        "integer": [1, 2, 3],
        "boolean": [True, False],
        "list": [[1], [2, 1], [1, 2, 3], []],
    }
    values |= {"file": ["in0.txt", "in1.txt"], "duration": ["1m", "2m"]}
    params[name]["default"] = e.rng.choice(values[params[name]["type"]])
    return True


# --- one step


def definition(e: Editing) -> bool:
    name = e.pick("shell")
    script = e.steps[name]["script"] if name else ""
    found = re.search(r"for v in (\w)", script)
    if found:
        e.steps[name]["script"] = script.replace(found[0], f"for v in {e.rng.choice('mnopq')}", 1)
    return bool(found)


def mend(e: Editing) -> bool:
    """Break or mend a step by its script."""
    name = e.pick("shell")
    if not name:
        return False
    script = e.steps[name]["script"]
    mended = re.sub(r'test (\$n|"\$\(cat \S+\)") != \d; |test 1 = 2; ', "", script)
    e.steps[name]["script"] = mended if mended != script else f"test 1 = 2; {script}"
    return True


def variable(e: Editing) -> bool:
    """Let a step read one thing more, or less."""
    name = e.pick("shell")
    if not name:
        return False
    env = e.steps[name].get("env", {})
    gone = [n for n in env if n != "X" and f"+ {n}" not in e.steps[name]["script"]]
    if gone and chance(e.rng, 40):
        word = e.rng.choice(gone)
        env.pop(word)
        e.steps[name]["script"] = e.steps[name]["script"].replace(f' "${word}"', "")
        return True
    more, _ = e.maker(name).env()
    more = {n: v for n, v in more.items() if n not in env}
    e.steps[name]["env"] = {**env, **more}
    if "for v in" in e.steps[name]["script"] and chance(e.rng, 70):
        for word in more:
            e.steps[name]["script"] = e.steps[name]["script"].replace("; do if", f' "${word}"; do if', 1)
    return bool(more)


def field(e: Editing) -> bool:
    """Change a field that gates or tempers a step."""
    name = e.pick()
    step, choice = e.steps[name], e.rng.choice(["on_failure", "trigger", "cache", "retry", "resources"])
    if choice in ("on_failure", "cache") and step["kind"] not in ("shell", "pipeline"):
        return False
    if choice in ("trigger", "retry", "resources") and step["kind"] != "shell":
        return False
    if choice in step:
        step.pop(choice)
        return True
    values = {"on_failure": "continue", "trigger": "none_failed", "cache": False}
    values |= {"retry": {"max_attempts": 2, "interval": "1ms"}, "resources": {"cpu": 1}}
    step[choice] = values[choice]
    return True


# --- gates


def when(e: Editing) -> bool:
    name = e.pick()
    if "when" in e.steps[name] and chance(e.rng, 45):
        e.steps[name].pop("when")
    else:
        e.steps[name]["when"] = f"$({e.maker(name).test()})"
    return True


def needs(e: Editing) -> bool:
    name = e.pick()
    before = [n for n in e.steps if n != name]
    if "needs" in e.steps[name] and chance(e.rng, 50):
        e.steps[name].pop("needs")
    elif before:
        e.steps[name]["needs"] = [e.rng.choice(before)]
    return bool(before)


def held_up(e: Editing) -> bool:
    """Let a step need a new one that is skipped, or fails."""
    name = e.pick("shell")
    if not name:
        return False
    free = next(n for n in (f"s{i}" for i in range(50)) if n not in e.steps)
    gate = {"when": e.rng.choice(["$(params.flag)", "$(params.k > 2)"]) if e.path == ROOT else "$(params.k > 2)"}
    script = "test 1 = 2" if chance(e.rng, 25) else "echo check"
    new = {"kind": "shell", "shell": ["sh", "-eu"], **(gate if script != "test 1 = 2" else {}), "script": script}
    e.doc["steps"] = {free: new, **e.steps}
    e.steps[name]["needs"] = [*e.steps[name].get("needs", []), free]
    return True


def branch(e: Editing) -> bool:
    """Move a step into a branch, out of one, or to the other side."""
    conditions = [n for n, s in e.steps.items() if s["kind"] == "condition"]
    twice = [
        n for c in conditions for side in ("then", "else") for n in e.steps[c].get(side, []) if "when" in e.steps[n]
    ]
    name = e.rng.choice(twice) if twice and chance(e.rng, 40) else e.pick()  # with a gate of its own, too
    if not conditions:
        return False
    taken = [(c, side) for c in conditions for side in ("then", "else") if name in e.steps[c].get(side, [])]
    for c, side in taken:
        e.steps[c][side] = [n for n in e.steps[c][side] if n != name]
        if not e.steps[c][side]:
            e.steps[c].pop(side)
    if taken and chance(e.rng, 30):
        return True
    target = taken[0][0] if taken and chance(e.rng, 60) else e.rng.choice(conditions)
    side = {"then": "else", "else": "then"}[taken[0][1]] if taken else e.rng.choice(["then", "else"])
    e.steps[target].setdefault(side, []).append(name)
    return target != name


def condition(e: Editing) -> bool:
    """Change what a condition asks."""
    name = e.pick("condition")
    if name:
        e.steps[name]["if"] = f"$({e.maker(name).test()})"
    return bool(name)


def new_gate(e: Editing) -> bool:
    """Put a condition, new, in front of a step."""
    name = e.pick()
    gated = {t for s in e.steps.values() for side in ("then", "else") for t in s.get(side, [])}
    if name in gated:
        return False
    made = e.maker(name)
    gate = {**made.condition(), e.rng.choice(["then", "else"]): [name]}
    free = next(n for n in (f"c{i}" for i in range(50)) if n not in e.steps)
    before = {n: s for n, s in e.steps.items() if n in made.steps}
    rest = {n: s for n, s in e.steps.items() if n not in before}
    e.doc["steps"] = {**before, free: gate, **rest}
    return True


# --- the graph


def new_step(e: Editing) -> bool:
    made = e.maker()
    kind = e.rng.choice(["shell", "shell", "condition", "fan"])
    step = {"shell": made.shell, "condition": made.condition, "fan": made.fan}[kind]()
    e.steps[made.free(kind)] = made.gated(step)
    return True


def between(e: Editing) -> bool:
    """Put a new step between two: what read the one reads the new one."""
    readers = [
        (n, v)
        for n, s in e.steps.items()
        for v, t in s.get("env", {}).items()
        if re.fullmatch(r"\$\(steps\.\w+\.outputs\.o\)", t)
    ]
    if not readers:
        return False
    name, variable = e.rng.choice(readers)
    free = next(n for n in (f"s{i}" for i in range(50)) if n not in e.steps)
    new = {"kind": "shell", "shell": ["sh", "-eu"], "env": {"A": e.steps[name]["env"][variable]}}
    e.steps[free] = {**new, "script": 'cat "$A" > o.txt; echo new >> o.txt', "outputs": {"o": dict(FILE)}}
    e.steps[name]["env"][variable] = f"$(steps.{free}.outputs.o)"
    return True


def remove(e: Editing) -> bool:
    """Remove a step that nobody reads."""
    text = repr([e.doc.get("outputs"), e.doc.get("finally")])
    shape = Shape({"docs": {**e.project["docs"], ROOT: e.doc}, "files": {}}) if e.path == ROOT else None
    name = e.pick()
    if shape is None or len(e.steps) < 2 or f"steps.{name}." in text:
        return False
    readers = [n for n in e.steps if f"steps.{name}." in repr(e.steps[n]) or name in e.steps[n].get("needs", [])]
    if readers:
        return False
    e.steps.pop(name)
    for step in e.steps.values():
        for side in ("then", "else"):
            if name in step.get(side, []):
                step[side].remove(name)
    return True


def rename(e: Editing) -> bool:
    """Give a step another name, everywhere."""
    name = e.pick()
    new = name + "x"
    text = re.sub(rf"steps\.{name}\b", f"steps.{new}", repr(e.doc))
    made: Doc = eval(text)  # of our own repr
    made["steps"] = {new if n == name else n: s for n, s in made["steps"].items()}
    for step in made["steps"].values():
        for key in ("needs", "then", "else"):
            if key in step:
                step[key] = [new if n == name else n for n in step[key]]
    e.project["docs"][e.path] = made
    return new not in e.steps


def rename_output(e: Editing) -> bool:
    """Give an output of a step another name, everywhere."""
    axes = [n for n in e.steps if f"$(steps.{n}.outputs.l)" in repr([s.get("foreach") for s in e.steps.values()])]
    name = e.rng.choice(axes) if axes and chance(e.rng, 60) else e.pick("shell")
    outs = e.steps[name].get("outputs", {}) if name else {}
    if not outs or "foreach" in e.steps[name]:
        return False
    old = e.rng.choice(sorted(outs) + ["l"] * (3 * ("l" in outs)))
    new = old + "2"
    e.steps[name]["outputs"] = {new if o == old else o: d for o, d in outs.items()}
    e.steps[name]["script"] = e.steps[name]["script"].replace(f'\\"{old}\\":', f'\\"{new}\\":')
    text = re.sub(rf"steps\.{name}\.outputs\.{old}\b", f"steps.{name}.outputs.{new}", repr(e.doc))
    e.project["docs"][e.path] = eval(text)  # of our own repr
    return True


def fan_or_plain(e: Editing) -> bool:
    """Make a fan-out of a plain step, or a plain step of a fan-out; its readers follow."""
    name = e.pick("shell")
    if not name or "n" not in e.steps[name].get("outputs", {}):
        return False
    step = e.steps[name]
    wide, plain = rf"\$\(steps\.{name}\.best\.outputs\.(\w+)\)", rf"\$\(steps\.{name}\.outputs\.(\w+)\)"
    if "foreach" in step:
        step.pop("foreach")
        step["env"]["X"] = "1"
        text = re.sub(wide, rf"$(steps.{name}.outputs.\1)", repr(e.doc))
        text = re.sub(
            rf"\$\((sum|len)\(steps\.{name}\.outputs\.\w+\)\)|\$\(steps\.{name}\.count\)|\$\(steps\.{name}\.best\.each\.x\)",
            "1",
            text,
        )
    else:
        step.setdefault("env", {})["X"] = "$(each.x)"
        step["script"] = step["script"].replace("n=$(( (", "n=$(( (X + ", 1)
        step["foreach"] = {"over": {"x": [3, 4]}, "best": {"output": "n", "mode": "min"}}
        text = re.sub(plain, rf"$(steps.{name}.best.outputs.\1)", repr(e.doc))
    if re.search(rf"steps\.{name}\.outputs", text) and "foreach" in step:
        return False
    e.project["docs"][e.path] = eval(text)  # of our own repr
    return True


def axes(e: Editing) -> bool:
    fans = [n for n, s in e.steps.items() if "foreach" in s]
    if not fans:
        return False
    name = e.rng.choice(fans)
    lists = e.maker(name).foreach()["over"]["x"]
    e.steps[name]["foreach"]["over"]["x"] = lists
    return True


# --- the pipeline


def outputs(e: Editing) -> bool:
    e.doc["outputs"] = e.maker().outputs() if e.path == ROOT else e.doc["outputs"]
    return e.path == ROOT


def final(e: Editing) -> bool:
    if e.path != ROOT:
        return False
    if "finally" in e.doc and chance(e.rng, 40):
        e.doc.pop("finally")
    else:
        e.doc["finally"] = {**e.doc.get("finally", {}), e.rng.choice(["tell", "told"]): e.maker().last()}
    return True


def inner_params(e: Editing) -> bool:
    name = e.pick("pipeline")
    if not name:
        return False
    given = {
        "k": e.rng.choice(["$(params.k)", "$(params.k + 1)", 2]),
        "go": e.rng.choice(["$(params.go)", True, False]),
    }
    key = e.rng.choice(sorted(given))
    if "foreach" not in e.steps[name]:
        e.steps[name]["params"] = {**e.steps[name].get("params", {}), key: given[key]}
    return "foreach" not in e.steps[name]


GATES: list[Edit] = [when, needs, held_up, held_up, branch, branch, branch, branch, condition, new_gate, new_gate]
EDITS: list[Edit] = [
    code_file, code_file, code_file, default, default, definition, definition, mend, mend, variable, variable, field, field,
    when, when, needs, held_up, branch, branch, branch, condition, condition, new_gate, new_gate, new_step, between, remove, rename,
    rename_output, rename_output, fan_or_plain, fan_or_plain, axes, outputs, outputs, final, final, inner_params,
]  # fmt: skip
