"""What decides whether a step would do the same again, and why two runs of it would differ.

`evaluate` puts today's values into a step's expressions. The *recipe* is all of that in plain JSON, without
paths and names that do not matter; its digest is the fingerprint (the definition is in docs/language.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from . import expression
from .expression import Bound, EvaluationError, Ref, Template
from .frozen import frozen
from .params import check_value
from .pipeline import Pipeline, ProjectPath, Runtime, Step, overlapping, relative
from .values import Artifact, Duration, Marked, digest_of, file_name, marked, plain, plain_json, text_of

FORMAT = 1


@frozen
class Produced:
    """One output of a step as it is kept: a value, or the digest of an artifact, and the run that made it."""

    type: str
    run: str  # produced_by
    value: Any = None
    digest: str = ""
    size: int = 0
    name: str = ""  # of an artifact that is not called as its step declares: its last path component
    items: tuple[Produced | None, ...] | None = None  # of a list of artifacts
    mark: Any = None  # what a value stands for in fingerprints, where that is not the value: who approved, say

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": self.type, "run": self.run}
        if self.items is not None:
            return {**out, "items": [item.to_json() if item else None for item in self.items]}
        if not self.digest:
            return {**out, "value": self.value, **({"mark": self.mark} if self.mark is not None else {})}
        return {**out, "digest": self.digest, "size": self.size, **({"name": self.name} if self.name else {})}

    @staticmethod
    def of_json(value: Mapping[str, Any]) -> Produced:
        items = value.get("items")
        return Produced(
            value["type"], value["run"], value.get("value"), value.get("digest", ""), value.get("size", 0), value.get("name", ""),
            None if items is None else tuple(Produced.of_json(item) if item else None for item in items), value.get("mark"),
        )  # fmt: skip

    @property
    def identity(self) -> str:
        """The digest of its content, for artifacts and values alike."""
        if self.items is not None:
            return digest_of([[item.identity, item.name] if item else None for item in self.items])
        return self.digest or digest_of(self.plain)

    @property
    def plain(self) -> Any:
        """The value as fingerprints have it."""
        return plain(self.value) if self.mark is None else self.mark

    @property
    def label(self) -> str:
        """What an artifact is called in the name of an item: its file and its content."""
        word = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in self.name[:40])
        return f"{word}@{self.identity.removeprefix('sha256:')[:12]}"


def artifacts(outputs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield digest and type of every file and directory in outputs as a record has them, those in lists too."""
    for output in outputs:
        if output.get("digest"):
            yield output["digest"], output["type"]
        elif "items" in output:
            yield from artifacts(item for item in output["items"] if item)


@frozen
class World:
    """What planning knows of files: digests by location, and how to read one. No clock, no host."""

    files: Mapping[str, str]  # location -> digest of every file and dir that is a value
    code: Mapping[str, tuple[str, bool]]  # location -> digest, executable
    runtime: str  # digest of the interpreter, platform and machine
    read: Callable[[Artifact], Any]  # JSON content of an artifact; raises EvaluationError
    executables: frozenset[str] = frozenset()  # of `files`, those with the executable bit
    marks: Mapping[str, Any] = field(default_factory=dict)  # location -> what changes when its bytes do
    runtimes: Mapping[Runtime, str] = field(default_factory=dict)  # digests of those that the pipeline declares

    def runtime_of(self, step: Step) -> str:
        return self.runtimes[step.runtime] if step.runtime else self.runtime


@frozen
class Before:
    """What a step finds of one predecessor."""

    status: str
    outputs: Mapping[str, Produced] = field(default_factory=dict)
    taken: bool | None = None
    run: str = ""  # that settled `taken`


@frozen
class Read:
    """One output that a step consumed."""

    step: str
    output: str
    digest: str
    run: str  # that produced it


@frozen
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
    made: Mapping[str, Produced] = field(default_factory=dict)  # by a step that only joins
    each: Mapping[str, Any] = field(default_factory=dict)  # of an item: axis -> value


_LEFT = frozenset({"succeeded", "cached", "reused"})
# Fields of a kind that decide nothing about its result.
_OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "condition": ("then", "else"), "pipeline": ("outputs",), "approval": ("approvers", "on_timeout"),
}  # fmt: skip


# Type of an output -> others that its values may have.
_ALSO: Mapping[str, tuple[str, ...]] = {"number": ("integer",), "string": ("file", "dir", "duration")}

_NOTHING = Before("not_run")


class MissingInput(EvaluationError):
    """An output that the step reads is not there."""


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
    try:
        return _Evaluation(step, pipeline, params, before, world, run).result()
    except RecursionError:
        raise EvaluationError("a value is nested too deep") from None


@frozen
class Outline:
    """As much of a step's recipe as has values."""

    recipe: Mapping[str, Any]
    params: Mapping[str, Any]  # the parameters read, plain
    errors: Mapping[str, str]  # field (`env.K`) -> why it has no value

    @property
    def fingerprint(self) -> str:
        return digest_of(self.recipe)


def outline(
    step: Step, pipeline: Pipeline, params: Mapping[str, Any], before: Mapping[str, Before], world: World
) -> Outline:
    """Return what `evaluate` gives, as far as it goes: a field that has no value is left out, with the reason."""
    evaluation = _Evaluation(step, pipeline, params, before, world, {})
    if step.joins:
        try:
            whole = evaluation.result()
        except EvaluationError as error:
            return Outline({}, {}, {"outputs": str(error)})
        return Outline(whole.recipe, whole.params, {})
    return evaluation.outline()


_NO_RUN: Mapping[str, str] = {}


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


def when_holds(
    step: Step,
    pipeline: Pipeline,
    params: Mapping[str, Any],
    before: Mapping[str, Before],
    world: World,
    run: Mapping[str, str] = _NO_RUN,
) -> bool | None:
    """Whether the `when` of a step lets it start; None where what it reads has not ended or gives it no value."""
    if isinstance(step.when, bool):
        return step.when
    if any(name not in before for name in when_reads(step)):
        return None
    try:
        return bool(settle(step.when, step, pipeline, params, before, world, run))
    except EvaluationError:
        return None


def when_reads(step: Step) -> set[str]:
    """Return the steps that the `when` of a step reads."""
    return set() if isinstance(step.when, bool) else {r.path[1] for r in step.when.refs() if r.path[0] == "steps"}


def reader_of(
    step: Step, pipeline: Pipeline, params: Mapping[str, Any], before: Mapping[str, Before], world: World
) -> Callable[[Any], Any]:
    """Return what gives the value of any tree that is written in a step; it raises EvaluationError where there is none."""
    return _Evaluation(step, pipeline, params, before, world, {}).tree


def axis_values(
    step: Step, pipeline: Pipeline, params: Mapping[str, Any], before: Mapping[str, Before], world: World
) -> tuple[dict[str, list[Any]], tuple[Read, ...]]:
    """Return the values of a fan-out's axes, artifacts as Produced, and what they were computed from.

    Raises EvaluationError where an axis has none.
    """
    assert step.foreach is not None
    evaluation = _Evaluation(step, pipeline, params, before, world, {})
    axes: dict[str, list[Any]] = {}
    for axis, tree in step.foreach.over.items():
        values = evaluation.tree(tree)
        if not isinstance(values, list | tuple):
            raise MissingInput(f"the axis `{axis}` of {step.name} has no values: what it is computed from is missing")
        axes[axis] = [evaluation.element_of(axis, value) for value in values]
    return axes, tuple(evaluation.reads[k] for k in sorted(evaluation.reads))


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
        self.found: dict[str, Produced] = {}  # what was looked up, by its path in the attempt
        self.bound: dict[str, Any] = {}  # parameters of the inner pipeline that the step was written in

    def result(self) -> Evaluated:
        step = self.step
        if step.kind == "foreach":
            return self._gathered()
        for read in step.axis_reads:
            self._check_axis(read)
        for name, tree in step.inputs.items():
            self.inputs[name] = self.tree(tree, name)
        own = {key: self.tree(tree) for key, tree in step.own.items()}
        env = {key: self.tree(tree) for key, tree in step.env.items()}
        key = [self.tree(tree) for tree in step.cache.key]
        each = {axis: self.each(axis) for axis in step.each if "." not in axis}
        recipe = self._recipe(own, env, key, each)
        made = {}
        if step.kind == "pipeline":
            made = {name: self.produced(name, value) for name, value in own["outputs"].items() if value is not None}
            recipe["outputs"] = {name: [found.identity, found.name] for name, found in made.items()}
            own = {}
        return Evaluated(
            own=own, env=env, inputs=self.inputs, recipe=recipe, fingerprint=digest_of(recipe),
            params={name: plain(value) for name, value in self.params.items()},
            reads=tuple(self.reads[k] for k in sorted(self.reads)), artifacts=self.artifacts,
            values=self.bound or self.params, made=made, each=each,
        )  # fmt: skip

    def outline(self) -> Outline:
        step = self.step
        errors: dict[str, str] = {}

        def values(group: str, trees: Mapping[str, Any]) -> dict[str, Any]:
            found = {}
            for name, tree in trees.items():
                try:
                    found[name] = self.tree(tree, name if group == "inputs" else "")
                except EvaluationError as error:
                    errors[f"{group}.{name}"] = str(error)
                else:
                    if group == "inputs":
                        self.inputs[name] = found[name]
            return found

        values("inputs", step.inputs)
        own, env = values("own", step.own), values("env", step.env)
        key: list[Any] = []
        try:
            key = [self.tree(tree) for tree in step.cache.key]
        except EvaluationError as error:
            errors["cache_key"] = str(error)
        each = {axis: self.each(axis) for axis in step.each if "." not in axis}
        recipe = self._recipe(own, env, key, each)
        return Outline(recipe, {name: plain(value) for name, value in self.params.items()}, errors)

    def _check_axis(self, read: Read) -> None:
        """Refuse to be an item of an axis that would have other values now."""
        found = self.before.get(read.step)
        produced = found.outputs.get(read.output) if found else None
        if produced is None or produced.identity != read.digest:
            raise MissingInput(
                f"the items of {self.step.of or self.step.name} were made of another {read.step}.{read.output}"
            )
        self.reads[(read.step, read.output)] = replace(read, run=produced.run)

    def _gathered(self) -> Evaluated:
        """Join the items of a fan-out: each output becomes the list of theirs; null where an item left none."""
        step, fan = self.step, self.step.foreach
        assert fan is not None
        made: dict[str, Produced] = {}
        reads = []
        results = [(name, self.before.get(name, _NOTHING)) for name in step.items]
        for output in step.outputs.values():
            found = []
            for name, before in results:
                produced = before.outputs.get(output.name) if before.status in _LEFT else None
                found.append(produced)
                if produced is not None:
                    reads.append(Read(name, output.name, produced.identity, produced.run))
            if output.is_artifact or any(p is not None and p.items is not None for p in found):
                named = tuple(
                    p and (p if p.name or p.items is not None else replace(p, name=_last(output.path))) for p in found
                )
                made[output.name] = Produced("list", "", items=named)
            else:
                marked = any(p is not None and p.mark is not None for p in found)
                marks = [p and p.plain for p in found] if marked else None
                made[output.name] = Produced("list", "", value=[p and p.value for p in found], mark=marks)
        labels = [name[len(step.name) :] for name in step.items]
        made[".count"] = Produced("integer", "", value=len(labels))
        if fan.best:
            for axis in fan.over:
                made[f".each.{axis}"] = self._axis(step.each[axis])
        recipe = {
            "format": FORMAT, "kind": "foreach", "items": labels,
            "content": digest_of([[name, found.identity] for name, found in sorted(made.items())]),
        }  # fmt: skip
        return Evaluated({}, {}, {}, recipe, digest_of(recipe), {}, tuple(reads), {}, {}, made)

    @staticmethod
    def _axis(values: list[Any]) -> Produced:
        if any(isinstance(value, Produced) for value in values):
            return Produced("list", "", items=tuple(values))
        return Produced("list", "", value=values)

    def produced(self, name: str, value: Any) -> Produced:
        """Return a value of an inner pipeline as an output of the step that stands for it."""
        if isinstance(value, Artifact):
            if str(value) not in self.found:
                raise EvaluationError(f"output `{name}`: {value} is a file of the project, which no step made")
            return replace(self.found[str(value)], name=value.name)
        if isinstance(value, list) and any(isinstance(item, Artifact | list) for item in value):
            return Produced(
                "list", "", items=tuple(None if item is None else self.produced(name, item) for item in value)
            )
        mark = plain(value)
        text = plain_json(value)
        return Produced(self.step.outputs[name].type.name, "", value=text, mark=mark if mark != text else None)

    def _recipe(
        self, own: Mapping[str, Any], env: Mapping[str, Any], key: list[Any], each: Mapping[str, Any]
    ) -> dict[str, Any]:
        step, ignore = self.step, self.step.cache.ignore
        own = {k: v for k, v in own.items() if k not in _OUTSIDE.get(step.kind, ())}
        recipe: dict[str, Any] = {"format": FORMAT, "kind": step.kind, "own": plain(own)}
        if not step.has_process:
            return recipe
        if each:
            recipe["each"] = plain(each)  # the step finds it in its context
        recipe["env"] = plain({k: v for k, v in env.items() if k not in ignore})
        recipe["inputs"] = plain({k: v for k, v in self.inputs.items() if k not in ignore})
        recipe["code"] = [
            [relative(place, step.base), executable, digest]
            for place in step.code
            for digest, executable in (self.world.code[place],)
        ]
        recipe["outputs"] = {
            o.name: [o.type.name, o.path, o.source, o.pointer, o.type.item.name if o.type.item else "", o.optional]
            for o in step.outputs.values()
        }
        recipe["workdir"] = step.workdir
        recipe["success_codes"] = list(step.success_codes)
        recipe["runtime"] = self.world.runtime_of(step)
        if key:
            recipe["cache_key"] = plain(key)
        return recipe

    def tree(self, tree: Any, name: str = "") -> Any:
        match tree:
            case Template():
                return self.template(tree)
            case ProjectPath():
                return self.staged(param_artifact(tree.location, tree.kind, self.world, self.step.base, name))
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

    def staged(self, value: Artifact) -> Artifact:
        """Note an artifact to stage; two of different content at one path would be one for the step."""
        other = self.artifacts.setdefault(str(value), value)
        if other.digest != value.digest:
            raise EvaluationError(f"two files would be staged as {value}: give one of the parameters another name")
        return value

    def lookup(self, ref: Ref | Bound) -> Any:
        if isinstance(ref, Bound):
            return self._bound(ref)
        match ref.path:
            case ("params", name):
                value = self.all_params[name]
                param = self.pipeline.params[name]
                if param.type.name in ("file", "dir"):
                    value = self._file(name, param_artifact(value, param.type.name, self.world, self.step.base, name))
                self.params[name] = value
                return value
            case ("inputs", name):
                if name not in self.inputs:
                    self.inputs[name] = self.tree(self.step.inputs[name], name)
                return self.inputs[name]
            case ("outputs", name):
                return Marked(self.run.get("outputs_at", "") + self.step.outputs[name].path, {"output": name})
            case ("run", name):
                return Marked(self.run.get(name, ""), {"run": name})
            case ("steps", name, "status"):
                self._refuse_left_out(name)
                status = self.before[name].status if name in self.before else "not_run"
                return "succeeded" if status in ("reused", "cached") else status  # where it came from is no matter
            case ("steps", name, "taken"):
                found = self.before.get(name)
                if found is None or found.taken is None:
                    self._refuse_left_out(name)
                    if found is not None and found.status in _LEFT:
                        raise MissingInput(f"{name} was no condition there")
                    return None
                self.reads[(name, "taken")] = Read(name, "taken", digest_of(found.taken), found.run)
                return found.taken
            case ("steps", name, "outputs", output):
                return self.output(name, output)
            case ("steps", name, "outputs", output, index):
                return self.output(name, output, int(index))
            case ("steps", name, "count"):
                return self.output(name, ".count")
            case ("steps", name, "best", "outputs", output):
                return self._best(name, output)
            case ("steps", name, "best", "each", axis):
                return self._best(name, f".each.{axis}")
            case ("secrets", name):
                return Marked("", {"secret": name, "version": self.pipeline.secrets[name].version})
            case ("each", axis):
                return self.each(axis)
            case ("each", key, axis):
                return self.each(f"{key}.{axis}")
        raise AssertionError(ref)

    def _bound(self, ref: Bound) -> Any:
        value = self.tree(ref.tree, ref.name)
        if ref.declared is None:
            return value
        self.bound[ref.name] = value
        if isinstance(ref.tree, ProjectPath):
            self._file(ref.name, value)
        # What is written out was checked when the pipeline was compiled.
        elif value is not None and (wrong := check_value(ref.declared, value)):
            raise EvaluationError(f"params.{ref.name} of the inner pipeline: {wrong}")
        return value

    def element_of(self, axis: str, value: Any) -> Any:
        """Return a value of an axis as an item keeps it."""
        if value is None:
            raise MissingInput(f"the axis `{axis}` of {self.step.name} has a value that is missing")
        if isinstance(value, Artifact):
            if str(value) not in self.found:
                raise EvaluationError(f"the axis `{axis}`: {value} is a file of the project, which no step made")
            return replace(self.found[str(value)], name=value.name)
        return plain_json(value)

    def each(self, axis: str) -> Any:
        """Return the value that this item has on an axis; those of fan-outs around it have the fan-out before their name."""
        value = self.step.each[axis]
        return self._element(value, f".inputs/.each/{file_name(axis)}") if isinstance(value, Produced) else value

    def _best(self, name: str, output: str) -> Any:
        """Return what the item with the least or greatest number has; the first of equals."""
        fan = self.pipeline.step(name).foreach
        assert fan is not None and fan.best is not None
        wanted, mode = fan.best
        numbers = self.output(name, wanted)
        ranked = [(number, index) for index, number in enumerate(numbers or ()) if number is not None]
        if not ranked:
            raise MissingInput(f"no item of {name} has `{wanted}`, so none is the best")
        best = min(ranked)[1] if mode == "min" else min(ranked, key=lambda r: (-r[0], r[1]))[1]
        return self.output(name, output, best)

    def _file(self, name: str, artifact: Artifact) -> Artifact:
        for output in self.step.outputs.values():
            if output.is_artifact and self.step.workdir == "attempt" and overlapping(output.path, [artifact]):
                raise EvaluationError(
                    f"the path {output.path} of output `{output.name}` meets {artifact}, which is param `{name}`",
                    code="E212",
                )
        return self.staged(artifact)

    def output(self, name: str, output: str, index: int | None = None) -> Any:
        """Return an output of a step, or one element of a list that it is."""
        found = self.before.get(name)
        produced = found.outputs.get(output) if found else None
        if produced is None:
            self._refuse_left_out(name)
            if found is not None and found.status in _LEFT:
                declared = self.pipeline.step(name).outputs.get(output)
                if output.startswith("."):
                    raise MissingInput(f"{name} was no fan-out there")
                if declared is not None and not declared.optional:
                    raise MissingInput(f"{name} left no output {output} there")
            return None
        declared_type = self._declared_type(name, output, produced)
        self.reads[(name, output)] = Read(name, output, produced.identity, produced.run)
        if index is not None and not -len(produced.items or produced.value) <= index < len(
            produced.items or produced.value
        ):
            raise IndexError
        if produced.items is not None:
            place = f".inputs/{file_name(name)}/{output.lstrip('.')}"
            if index is not None:
                return self._element(produced.items[index], f"{place}/{index % len(produced.items)}")
            return [self._element(item, f"{place}/{i}") for i, item in enumerate(produced.items)]
        if not produced.digest:
            if produced.mark is not None:
                value = marked(produced.value, produced.mark)
                return value if index is None else value[index]
            if declared_type == "duration":
                return Duration(produced.value)
            return produced.value if index is None else produced.value[index]
        last = produced.name or _last(self.pipeline.step(name).outputs[output].path)
        return self._stored(produced, f".inputs/{file_name(name)}/{output}/{last}")

    def _refuse_left_out(self, name: str) -> None:
        found = self.before.get(name)
        if found is not None and found.status == "not_selected":
            raise MissingInput(f"{name} is not selected")

    def _declared_type(self, name: str, output: str, produced: Produced) -> str:
        """Return the type that an output is declared with today; what an earlier run left may be of another one."""
        step = self.pipeline.step(name)
        if output not in step.outputs:  # what a fan-out keeps for itself
            return produced.type
        wanted = "list" if step.foreach is not None else step.outputs[output].type.name
        if produced.type != wanted and produced.type not in _ALSO.get(wanted, ()) and wanted != "any":
            raise MissingInput(f"output {output} of {name} was of type {produced.type}; today it is of type {wanted}")
        return wanted

    def _element(self, produced: Produced | None, place: str) -> Any:
        """Return one element of a list of artifacts, staged in a folder of its own."""
        if produced is None:
            return None
        if produced.items is not None:
            return [self._element(item, f"{place}/{i}") for i, item in enumerate(produced.items)]
        if not produced.digest:
            return produced.value
        return self._stored(produced, f"{place}/{produced.name}")

    def _stored(self, produced: Produced, path: str) -> Artifact:
        value = Artifact(self.run.get("inputs_at", "") + path, produced.type, _last(path), produced.digest, "store:")
        self.found[str(value)] = produced
        return self.staged(value)


def holds(conditions: list[Any]) -> bool:
    """Return whether all evaluated conditions are true."""
    return all(value is True for value in conditions)
