"""Why a step would not do the same again: what differs between a recipe of then and one of today."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from .case import Today
from .errors import printable
from .fingerprint import World, outline
from .frozen import frozen
from .lineage import Lineage, Made
from .params import widen
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
            f": {brief(self.then)} -> {brief(self.now)}"
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
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    params_then: Mapping[str, Any],
    params_now: Mapping[str, Any],
    middle: Mapping[str, Any] | None = None,
    unknown: Set[str] = frozenset(),
) -> tuple[Cause, ...]:
    """Return all causes for which recipe `now` is not recipe `then`, apart from upstream outputs.

    `middle` is the recipe of today's definition with the parameters of then: what differs between `then` and `middle`
    is no matter of parameters. Without it, a difference is put down to parameters where putting their values of today
    into it makes it disappear. `unknown` are the fields that have no value today (`env.K`, say): nothing is said of them.
    """
    changed = {n: (params_then[n], params_now[n]) for n in sorted({*params_then} & {*params_now})}
    changed = {n: pair for n, pair in changed.items() if not alike(*pair)}
    causes = [_param_cause(name, old, new) for name, (old, new) in changed.items()]
    causes += _code_causes(then.get("code", ()), now.get("code", ()))
    if then.get("runtime") != now.get("runtime"):
        causes.append(Cause("env", "runtime", then.get("runtime") or "none", now.get("runtime") or "none"))
    fields = []
    for kind, group in (("input", "inputs"), ("env", "env"), ("code", "own")):
        old_group, new_group = then.get(group, {}), now.get(group, {})
        for name in sorted({*old_group, *new_group}):
            old, new = old_group.get(name), new_group.get(name)
            if old == new or f"{group}.{name}" in unknown:
                continue
            if middle is not None:
                explained = middle.get(group, {}).get(name) == old
            else:
                explained = bool(changed) and _replaced(old, changed) == _replaced(new, changed)
            if explained and name in old_group and name in new_group:
                continue
            fields.append(
                Cause(kind, name, shown(old, name in old_group), shown(new, name in new_group))
                if kind != "code"
                else Cause("code", f"`{name}` of the step")
            )
    whole = [k for k in ("format", "kind", "each", "outputs", "workdir", "success_codes") if then.get(k) != now.get(k)]
    if then.get("cache_key") != (middle or now).get("cache_key") and "cache_key" not in unknown:
        whole.append("cache_key")
    fields += [Cause("code", f"`{name}` of the step") for name in whole]
    if not fields and not unknown:  # a parameter that is read in another place than a field
        one_sided = sorted({*params_then} ^ {*params_now})
        fields = [Cause("param", n, *_both(params_then, params_now, n)) for n in one_sided]
    return (*causes, *fields)


def _both(then: Mapping[str, Any], now: Mapping[str, Any], name: str) -> tuple[str, str]:
    return shown(then.get(name), name in then), shown(now.get(name), name in now)


def _param_cause(name: str, old: Any, new: Any) -> Cause:
    same_file = isinstance(old, dict) and isinstance(new, dict) and old.get("name") == new.get("name")
    return Cause("input" if same_file else "param", name, shown(old, True), shown(new, True))


def _code_causes(then: Iterable[Sequence[Any]], now: Iterable[Sequence[Any]]) -> list[Cause]:
    """Return how code files differ, each `[path, executable, digest]`."""
    old, new = {path: rest for path, *rest in then}, {path: rest for path, *rest in now}
    causes = []
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before is None or after is None or before[1] != after[1]:
            causes.append(Cause("code", path, before[1] if before else "none", after[1] if after else "none"))
        elif before[0] != after[0]:
            words = {True: "executable", False: "not executable"}
            causes.append(Cause("code", path, words[bool(before[0])], words[bool(after[0])]))
    return causes


def _replaced(value: Any, changed: Mapping[str, tuple[Any, Any]]) -> Any:
    """Return a part of a recipe with the names of the changed parameters in place of their values, of then and of now."""
    for name, pair in changed.items():
        if any(alike(value, one) for one in pair):
            return {"param": name}
    if isinstance(value, Mapping):
        return {key: _replaced(inner, changed) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, changed) for inner in value]
    if isinstance(value, str):
        for name, pair in changed.items():
            texts = sorted({text_of(one) for one in pair if not isinstance(one, list | dict)}, key=len, reverse=True)
            for text in filter(None, texts):
                value = value.replace(text, f"\0{name}\0")
    return value


def brief(text: str) -> str:
    """Return a text for people: of a digest its first digits."""
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


def own_causes(step: Step, made: Made, today: Today) -> tuple[str, tuple[Cause, ...]]:
    """Return today's fingerprint of `step` on the bytes that it consumed then, and all that differs by its own causes.

    The fingerprint is empty where the step cannot be evaluated on them.
    """
    ended = made.ended
    if step.deferred:
        return "", ()  # its items have causes, once they are known
    if (step.kind == "foreach") is not (ended.recipe.get("kind") == "foreach"):
        return "", (Cause("code", "`foreach` of the step"),)  # one step then, several now, or the other way
    if step.kind == "foreach":
        return _items_changed(step, ended)
    consumed = made.consumed(step.reads)
    # An item that was made when the axis had other values too is the same item: its values are in its name.
    alone = replace(step, axis_reads=())
    now = outline(alone, today.pipeline, today.params, consumed, today.world)
    unread = sorted(n for n in step.unguarded if n not in consumed) if made.record else []
    if not unread and not now.errors and now.fingerprint == ended.fingerprint:
        return now.fingerprint, ()
    middle = now
    if any(not alike(now.params[n], v) for n, v in ended.params.items() if n in now.params):
        params, world = _of_then(made, today)
        middle = outline(alone, today.pipeline, params, consumed, world)
    causes = [Cause("input", name, "none", "read now") for name in unread]
    if not unread:
        causes += [Cause("input", text) for text in now.errors.values()]
    unknown = {*now.errors, *middle.errors}
    if now.recipe:  # what joins others has none where one of them has no value
        causes += differences(ended.recipe, now.recipe, ended.params, now.params, middle.recipe, unknown)
    fingerprint = "" if unread or now.errors else now.fingerprint
    return fingerprint, tuple(causes) or (Cause("code", "definition"),)


def _of_then(made: Made, today: Today) -> tuple[dict[str, Any], World]:
    """Return the parameters that a result was made with, and the files that they named, in today's world."""
    params, files, executables = dict(today.params), {}, set(today.world.executables)
    started = made.record.started.params if made.record else {}
    for name, value in made.ended.params.items():
        param = today.pipeline.params.get(name)
        if param is None:
            continue
        if param.type.name not in ("file", "dir"):
            params[name] = widen(param, value)
            continue
        location = started.get(name)
        if isinstance(location, str) and isinstance(value, dict):
            params[name], files[location] = location, value["digest"]
            (executables.add if value.get("executable") else executables.discard)(location)
    world = replace(today.world, files={**today.world.files, **files}, executables=frozenset(executables))
    return params, world if files else today.world


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
    lineage = Lineage(today.past)
    for name, step in today.pipeline.steps.items():
        ended = record.steps.get(name)
        if ended is None:
            if name not in record.started.decisions and kind in ("code", "any"):
                found.add(name)
            continue
        made = lineage.made(name, record) if ended.recipe else None
        if made and any(cause.kind in CHANGES[kind] for cause in own_causes(step, made, today)[1]):
            found.add(name)
    return found
