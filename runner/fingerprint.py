"""What decides whether a step would do the same again, and why two runs of it would differ.

`evaluate` puts today's values into a step's expressions. The *recipe* is all of that in plain JSON, without
paths and names that do not matter; its digest is the fingerprint (the definition is in docs/language.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import expression
from .errors import printable
from .expression import EvaluationError, Ref, Template
from .pipeline import Output, Pipeline, ProjectPath, Step, overlapping, relative
from .values import Artifact, Marked, alike, digest_of, plain, short, text_of

FORMAT = 1


@dataclass(frozen=True)
class Produced:
    """One output of a step as it is kept: a value, or the digest of an artifact, and the run that made it."""

    type: str
    run: str  # produced_by
    value: Any = None
    digest: str = ""
    size: int = 0

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": self.type, "run": self.run}
        return {**out, "digest": self.digest, "size": self.size} if self.digest else {**out, "value": self.value}

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> Produced:
        return Produced(value["type"], value["run"], value.get("value"), value.get("digest", ""), value.get("size", 0))

    @property
    def identity(self) -> str:
        """The digest of its content, for artifacts and values alike."""
        return self.digest or digest_of(plain(self.value))


@dataclass(frozen=True)
class World:
    """What planning knows of files: digests by location, and how to read one. No clock, no host."""

    files: Mapping[str, str]  # location -> digest of every file and dir that is a value
    code: Mapping[str, tuple[str, bool]]  # location -> digest, executable
    runtime: str  # digest of the interpreter, platform and machine
    read: Callable[[Artifact], Any]  # JSON content of an artifact; raises EvaluationError
    executables: frozenset[str] = frozenset()  # of `files`, those with the executable bit
    marks: Mapping[str, Any] = field(default_factory=dict)  # location -> what changes when its bytes do


@dataclass(frozen=True)
class Before:
    """What a step finds of one predecessor."""

    status: str
    outputs: Mapping[str, Produced] = field(default_factory=dict)
    taken: bool | None = None
    run: str = ""  # that settled `taken`


@dataclass(frozen=True)
class Read:
    """One output that a step consumed."""

    step: str
    output: str
    digest: str
    run: str  # that produced it


@dataclass(frozen=True)
class Evaluated:
    """A step with today's values in place: what an executor needs, and what its fingerprint is made of."""

    own: Mapping[str, Any]
    env: Mapping[str, Any]
    inputs: Mapping[str, Any]
    recipe: Mapping[str, Any]
    fingerprint: str
    params: Mapping[str, Any]  # the parameters read, plain
    reads: tuple[Read, ...]
    artifacts: Mapping[str, Artifact]  # everything to stage, by its path in the attempt
    values: Mapping[str, Any]  # parameters read, as values


class MissingInput(EvaluationError):
    """An output that the step reads is not there."""


def staged_path(step: str, output: Output) -> str:
    """Return where another step's output lies in the attempt, relative to the working directory."""
    return f".inputs/{step}/{output.name}/{_last(output.path)}"


def param_artifact(location: str, kind: str, world: World, base: str, name: str) -> Artifact:
    """Return a project file or one from outside as a value; `name` is the param or input that brings it."""
    last, digest, executable = _last(location), world.files[location], location in world.executables
    if location.startswith("/"):
        return Artifact(f".inputs/{name}/{last}", kind, last, digest, f"host:{location}", executable)
    return Artifact(relative(location, base), kind, last, digest, f"project:{location}", executable)


def _last(path: str) -> str:
    """Return the last component of a path."""
    return path.rstrip("/").rpartition("/")[2]


def evaluate(
    step: Step,
    pipeline: Pipeline,
    params: Mapping[str, Any],
    before: Mapping[str, Before],
    world: World,
    run: Mapping[str, str],
) -> Evaluated:
    """Return `step` with values put in; raises EvaluationError where an expression has none."""
    return _Evaluation(step, pipeline, params, before, world, run).result()


def settle(
    tree: Any,
    step: Step,
    pipeline: Pipeline,
    params: Mapping[str, Any],
    before: Mapping[str, Before],
    world: World,
    run: Mapping[str, str],
) -> Any:
    """Return the value of one field of a step that is outside its fingerprint (`when`, `timeout`, `resources`)."""
    return _Evaluation(step, pipeline, params, before, world, run).tree(tree)


class _Evaluation:
    def __init__(
        self,
        step: Step,
        pipeline: Pipeline,
        params: Mapping[str, Any],
        before: Mapping[str, Before],
        world: World,
        run: Mapping[str, str],
    ) -> None:
        self.step, self.pipeline, self.all_params, self.before = step, pipeline, params, before
        self.world, self.run = world, run
        self.params: dict[str, Any] = {}
        self.reads: dict[tuple[str, str], Read] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.inputs: dict[str, Any] = {}

    def result(self) -> Evaluated:
        step = self.step
        for name, tree in step.inputs.items():
            self.inputs[name] = self.tree(tree, name)
        own = {key: self.tree(tree) for key, tree in step.own.items()}
        env = {key: self.tree(tree) for key, tree in step.env.items()}
        key = [self.tree(tree) for tree in step.cache.key]
        recipe = self._recipe(own, env, key)
        return Evaluated(
            own=own, env=env, inputs=self.inputs, recipe=recipe, fingerprint=digest_of(recipe),
            params={name: plain(value) for name, value in self.params.items()},
            reads=tuple(self.reads[k] for k in sorted(self.reads)), artifacts=self.artifacts, values=self.params,
        )  # fmt: skip

    def _recipe(self, own: Mapping[str, Any], env: Mapping[str, Any], key: list[Any]) -> dict[str, Any]:
        step, ignore = self.step, self.step.cache.ignore
        own = {k: v for k, v in own.items() if step.kind != "condition" or k == "if"}
        recipe: dict[str, Any] = {"format": FORMAT, "kind": step.kind, "own": plain(own)}
        if not step.has_process:
            return recipe
        recipe["env"] = plain({k: v for k, v in env.items() if k not in ignore})
        recipe["inputs"] = plain({k: v for k, v in self.inputs.items() if k not in ignore})
        recipe["code"] = [
            [relative(place, self.pipeline.base), executable, digest]
            for place in step.code
            for digest, executable in (self.world.code[place],)
        ]
        recipe["outputs"] = {
            o.name: [o.type.name, o.path, o.source, o.pointer, o.type.item.name if o.type.item else "", o.optional]
            for o in step.outputs.values()
        }
        recipe["workdir"] = step.workdir
        recipe["success_codes"] = list(step.success_codes)
        recipe["runtime"] = self.world.runtime
        if key:
            recipe["cache_key"] = plain(key)
        return recipe

    def tree(self, tree: Any, name: str = "") -> Any:
        match tree:
            case Template():
                return self.template(tree)
            case ProjectPath():
                return self.staged(param_artifact(tree.location, tree.kind, self.world, self.pipeline.base, name))
            case list():
                return [self.tree(item) for item in tree]
            case dict():
                return {key: self.tree(value) for key, value in tree.items()}
            case _:
                return tree

    def template(self, template: Template) -> Any:
        if template.exact is not None:
            return expression.evaluate(template.exact, self.lookup, self.world.read)
        values = [
            part if isinstance(part, str) else expression.evaluate(part, self.lookup, self.world.read)
            for part in template.parts
        ]
        text = "".join(text_of(value) for value in values)
        if not any(isinstance(value, Marked) for value in values):
            return text
        parts: list[Any] = []
        for value in values:  # neighbouring plain texts are one part
            if isinstance(value, Marked):
                parts.append(value.mark)
            elif parts and isinstance(parts[-1], str):
                parts[-1] += text_of(value)
            else:
                parts.append(text_of(value))
        return Marked(text, parts)

    def staged(self, value: Any) -> Any:
        if isinstance(value, Artifact):
            self.artifacts[str(value)] = value
        return value

    def lookup(self, ref: Ref) -> Any:
        match ref.path:
            case ("params", name):
                value = self.all_params[name]
                param = self.pipeline.params[name]
                if param.type.name in ("file", "dir"):
                    value = self._file(
                        name, param_artifact(value, param.type.name, self.world, self.pipeline.base, name)
                    )
                self.params[name] = value
                return value
            case ("inputs", name):
                return self.inputs[name]
            case ("outputs", name):
                return Marked(self.run.get("outputs_at", "") + self.step.outputs[name].path, {"output": name})
            case ("run", name):
                return Marked(self.run.get(name, ""), {"run": name})
            case ("steps", name, "status"):
                status = self.before[name].status if name in self.before else "not_run"
                return "succeeded" if status in ("reused", "cached") else status  # where it came from is no matter
            case ("steps", name, "taken"):
                found = self.before.get(name)
                if found is None or found.taken is None:
                    return None
                self.reads[(name, "taken")] = Read(name, "taken", digest_of(found.taken), found.run)
                return found.taken
            case ("steps", name, "outputs", output):
                return self.output(name, output)
        raise AssertionError(ref)

    def _file(self, name: str, artifact: Artifact) -> Artifact:
        for output in self.step.outputs.values():
            if output.is_artifact and self.step.workdir == "attempt" and overlapping(output.path, [artifact]):
                raise EvaluationError(
                    f"E212 the path {output.path} of output `{output.name}` meets {artifact}, which is param `{name}`"
                )
        self.artifacts[str(artifact)] = artifact
        return artifact

    def output(self, name: str, output: str) -> Any:
        found = self.before.get(name)
        produced = found.outputs.get(output) if found else None
        if produced is None:
            return None
        self.reads[(name, output)] = Read(name, output, produced.identity, produced.run)
        if not produced.digest:
            return produced.value
        declared = self.pipeline.step(name).outputs[output]
        path = staged_path(name, declared)
        return self.staged(
            Artifact(self.run.get("inputs_at", "") + path, produced.type, _last(path), produced.digest, "store:")
        )


def holds(conditions: list[Any]) -> bool:
    """Return whether all evaluated conditions are true."""
    return all(value is True for value in conditions)


# --- why two recipes differ -------------------------------------------------------------------------------------


@dataclass(frozen=True)
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
    text = printable(text_of(value) if not isinstance(value, list | dict) else str(value))
    return text if len(text) <= 60 else f"{text[:45]}... ({short(digest_of(value))})"
