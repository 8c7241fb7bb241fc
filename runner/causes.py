"""Why a step would not do the same again: what differs between a recipe of then and one of today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .case import NO_RUN, Today
from .errors import printable
from .expression import EvaluationError
from .fingerprint import Before, evaluate
from .frozen import frozen
from .pipeline import Step
from .record import RunRecord, StepEnded
from .values import alike, digest_of, short, text_of


@frozen
class Cause:
    """One reason why a step would not do the same again: what it was then and is now."""

    kind: str  # param code env input upstream
    name: str
    then: str = ""
    now: str = ""
    causes: tuple[Cause, ...] = ()  # of the step upstream

    def __str__(self) -> str:
        inner = f" ({'; '.join(map(str, self.causes))})" if self.causes else ""
        change = (
            f": {_brief(self.then)} -> {_brief(self.now)}"
            if self.then and self.now
            else f": {self.then}"
            if self.then
            else ""
        )
        return f"{self.kind} {self.name}{change}{inner}"

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.then or self.now:
            out.update(then=self.then, now=self.now)
        return {**out, "causes": [c.to_json() for c in self.causes]} if self.causes else out


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any], params_then: Mapping[str, Any], params_now: Mapping[str, Any]
) -> tuple[Cause, ...]:
    """Return the causes for which recipe `now` is not recipe `then`, apart from upstream outputs."""
    causes: list[Cause] = []
    for name in sorted({*params_then, *params_now}):
        old, new = params_then.get(name), params_now.get(name)
        if not alike(old, new):
            same_name = isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name")
            causes.append(
                Cause(
                    "input" if same_name else "param",
                    name,
                    shown(old, name in params_then),
                    shown(new, name in params_now),
                )
            )
    code_then = {path: digest for path, executable, digest in then.get("code", [])}
    code_now = {path: digest for path, executable, digest in now.get("code", [])}
    for path in sorted({*code_then, *code_now}):
        if code_then.get(path) != code_now.get(path):
            causes.append(Cause("code", path, code_then.get(path) or "none", code_now.get(path) or "none"))
    if not causes and then.get("code") != now.get("code"):
        causes.append(Cause("code", "executable bits"))
    old_inputs, new_inputs = then.get("inputs", {}), now.get("inputs", {})
    for name in sorted({*old_inputs, *new_inputs}):
        old, new = old_inputs.get(name), new_inputs.get(name)
        if old != new and not causes:
            causes.append(Cause("input", name, shown(old, name in old_inputs), shown(new, name in new_inputs)))
    if then.get("runtime") != now.get("runtime"):
        causes.append(Cause("env", "runtime", then.get("runtime") or "none", now.get("runtime") or "none"))
    old_env, new_env = then.get("env", {}), now.get("env", {})
    if not causes:
        for name in sorted({*old_env, *new_env}):
            if old_env.get(name) != new_env.get(name):
                causes.append(
                    Cause(
                        "env",
                        name,
                        shown(old_env.get(name), name in old_env),
                        shown(new_env.get(name), name in new_env),
                    )
                )
    if not causes:
        # What no parameter, file or variable explains is an edit of the step itself.
        own = {**then.get("own", {}), **now.get("own", {})}
        fields = [f"own.{k}" for k in sorted(own) if then.get("own", {}).get(k) != now.get("own", {}).get(k)]
        fields += [
            k
            for k in ("format", "kind", "outputs", "workdir", "success_codes", "cache_key")
            if then.get(k) != now.get(k)
        ]
        causes += [Cause("code", f"`{f.removeprefix('own.')}` of the step") for f in fields]
    return tuple(causes)


def _brief(text: str) -> str:
    return short(text) if text.startswith("sha256:") else text


def shown(value: Any, present: bool) -> str:
    """Return a plain value as a short text of one line; two that differ only in what is cut off differ in their digest."""
    if not present:
        return "none"
    if isinstance(value, dict) and set(value) >= {"digest", "name"} and len(value) < 4:
        mode = ", executable" if value.get("executable") else ""
        return f"{printable(value['name'])} ({short(value['digest'])}{mode})"
    if isinstance(value, dict) and set(value) == {"secret", "version"}:
        return f"secret {value['secret']}" + (f", version {printable(value['version'])}" if value["version"] else "")
    text = printable(text_of(value) if not isinstance(value, list | dict) else str(value))
    return text if len(text) <= 60 else f"{text[:45]}... ({short(digest_of(value))})"


def own_causes(step: Step, ended: StepEnded, today: Today, holder: RunRecord | None) -> tuple[str, tuple[Cause, ...]]:
    """Return today's fingerprint of `step` on the bytes that it consumed then, and what differs by its own causes.

    `holder` is the run whose record has `ended`: what was read there may have been made under another name.
    """
    if step.deferred:
        return "", ()  # its items have causes, once they are known
    if step.kind == "foreach":
        return _items_changed(step, ended)
    consumed: dict[str, Before] = {}
    made = {read[0]: read[3] for read in ended.reads}
    for name in step.reads:
        record = today.past.run(made[name]) if name in made else None
        past = record.steps.get(name) if record else None
        if past is None and name not in made and (record := today.past.run(ended.produced_by)):
            past = record.steps.get(name)  # of which only the status was read, or nothing was there
        if past is None and name in made and holder is not None:
            past = holder.steps.get(name)
        if past is not None:
            consumed[name] = past.before()
    unread = sorted(name for name in step.unguarded if name not in consumed)
    if unread:
        return "", tuple(Cause("input", name, "none", "read now") for name in unread)
    try:
        # An item that was made when the axis had other values too is the same item: its values are in its name.
        alone = replace(step, axis_reads=())
        evaluated = evaluate(alone, today.pipeline, today.params, consumed, today.world, NO_RUN)
    except EvaluationError as error:
        return "", (Cause("input", str(error)),)
    if evaluated.fingerprint == ended.fingerprint:
        return evaluated.fingerprint, ()
    causes = differences(ended.recipe, evaluated.recipe, ended.params, evaluated.params)
    return evaluated.fingerprint, causes or (Cause("code", "definition"),)


def _items_changed(step: Step, ended: StepEnded) -> tuple[str, tuple[Cause, ...]]:
    """Return how the items of a fan-out differ from those that were joined."""
    old, new = ended.recipe.get("items", []), [name[len(step.name) :] for name in step.items]
    if old == new:
        return "", ()
    before, now = set(old), set(new)
    changes = [f"{n} is new" for n in new if n not in before] + [f"{n} is gone" for n in old if n not in now]
    what = "; ".join(changes[:4]) + (f" and {len(changes) - 4} more" if len(changes) > 4 else "")
    return digest_of([old, new]), (
        Cause("input", "items", str(len(old)), f"{len(new)} ({what or 'in another order'})"),
    )


CHANGES = {
    "code": {"code"},
    "params": {"param"},
    "inputs": {"input"},
    "env": {"env"},
    "any": {"code", "param", "input", "env"},
}


def changed_steps(record: RunRecord, kind: str, today: Today) -> set[str]:
    """Return the steps that differ now, by their own causes of one kind, from how `record` ran them; new ones too."""
    found: set[str] = set()
    for name, step in today.pipeline.steps.items():
        ended = record.steps.get(name)
        if ended is None:
            if name not in record.started.decisions and kind in ("code", "any"):
                found.add(name)
            continue
        if ended.recipe and any(cause.kind in CHANGES[kind] for cause in own_causes(step, ended, today, record)[1]):
            found.add(name)
    return found
