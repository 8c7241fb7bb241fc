"""Plan -> mistakes: which of the steps that it runs are known, before anything starts, to be unable to start or to end.

Only what is certain counts: the values are known, and nothing that is still open can skip the step. A step that is not
going to run makes no mistake, nor does one of which the failure is tolerated: its reasons say that it will fail.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

from . import document as documents
from .decide import Kept, Run, Skip
from .document import Document, Keys
from .engine import GROUP, LONGEST, search_path
from .errors import MANY, Diagnostic, printable
from .executors.starting import find
from .expand import Known, items
from .expression import Bound, Call, EvaluationError, Node, Template
from .fingerprint import Before, evaluate, reader_of
from .frozen import frozen
from .pipeline import Step
from .plan import Plan
from .project import Project, content_of
from .select import parts_of
from .store.models import STATUSES
from .values import Artifact, text_of, to_bytes, to_limit, to_processors

MadeWith = Callable[[str], bool]  # whether there is an earlier success of a step that names a program


@frozen
class Wrong:
    """What is wrong with one field of a step, and where in it."""

    step: str
    keys: Keys  # of the field, from the step on
    text: str
    code: str = "E219"
    offset: int = 0
    params: tuple[str, ...] = ()  # of inner pipelines that lead to the value, the innermost first
    help: str = ""


def mistakes(
    plan: Plan, project: Project, written: Callable[[], Document], request: Document | None, made_with: MadeWith
) -> list[Diagnostic]:
    """Return what is certain to fail in a plan, with its places; `written` gives the document of the pipeline."""
    found: dict[tuple[Any, ...], tuple[list[str], Wrong, Document, Keys]] = {}
    places: _Places | None = None
    for wrong in _Looking(plan, project, made_with).wrongs():
        places = places or _Places(written(), plan, request)
        where, keys = places.of(wrong)
        line, column = where.place(keys, offset=wrong.offset)
        key = (where.path, line, column, wrong.code, wrong.text)
        found.setdefault(key, ([], wrong, where, keys))[0].append(wrong.step)
        if len(found) >= MANY:
            break
    return [
        where.diagnostic(
            wrong.code, _sentence(names, wrong, plan), keys, key=keys == ("params",), offset=wrong.offset, help=wrong.help
        )
        for _, (names, wrong, where, keys) in sorted(found.items(), key=lambda item: item[0])
    ]  # fmt: skip


def _sentence(names: list[str], wrong: Wrong, plan: Plan) -> str:
    if wrong.code == "E209":
        return wrong.text  # it names the fan-out
    return f"{_listed(names)} cannot {_what(names, plan)}: {wrong.text}"


def _listed(names: list[str]) -> str:
    return f"step {names[0]}" if len(names) == 1 else f"step {names[0]} and {len(names) - 1} more"


def _what(names: list[str], plan: Plan) -> str:
    step = plan.pipeline.steps.get(names[0])
    return "end" if step is not None and step.joins else "start"


class _Looking:
    """Looks at the steps of one plan."""

    def __init__(self, plan: Plan, project: Project, made_with: MadeWith) -> None:
        self.plan, self.project, self.made_with = plan, project, made_with
        self.before: dict[str, Before] = {}
        steps = plan.pipeline.steps
        for name, decision in plan.decisions.items():
            if isinstance(decision, Run):
                if not decision.may and steps[name].items:
                    self._join(steps[name])
            elif isinstance(decision, Kept):
                self.before[name] = decision.past.before()
            elif isinstance(decision, Skip):
                self.before[name] = Before("skipped")
        self.programs: dict[tuple[str, str, str], str] = {}
        self.there: set[Any] = set()  # programs that are on the PATH of steps
        # A text that is too long to be an argument or a variable of a process.
        self.long = any(isinstance(v, str) and len(v) > LONGEST // 4 for v in plan.params.values())

    def _join(self, fan: Step) -> None:
        """Note what a fan-out leaves that waits for other steps yet, where the ends of all its items are known."""
        if any(item not in self.before for item in fan.items):
            return
        plan = self.plan
        try:
            evaluated = evaluate(fan, plan.pipeline, plan.params, self.before, plan.world, {})
        except EvaluationError:
            return
        self.before[fan.name] = Before("succeeded", evaluated.made)

    def wrongs(self) -> Iterator[Wrong]:
        """Yield what is wrong, step by step."""
        steps, there, any_known, long = self.plan.pipeline.steps, self.there, bool(self.before), self.long
        for name, decision in self.plan.decisions.items():
            if not isinstance(decision, Run):
                continue
            step = steps[name]
            if step.on_failure == "continue":
                continue
            if decision.may and "skipped" in decision.may:
                # Its own `when` may be all that is open, because it has no value.
                if step.computed and not self._may_be_skipped(step):
                    yield from self._failing(step, ("when",), step.when, self.before)
                continue
            if step.foreach is not None and step.deferred:
                yield from self._axes(step)
                continue
            # Of most steps there is nothing to look at: it is looked for fast.
            computed, reads, field = step.computed, step.reads, step.kind
            known = not decision.fingerprint and (not reads or (any_known and self.before.keys() >= reads))
            if computed or known or long:
                yield from self._step(step, self.before, known)
            if (field == "shell" or field == "command") and (computed or step.own[field][0] not in there):
                yield from self._program(step, decision.may)
        for step in self.plan.pipeline.finals.values() if self.plan.runs else ():
            if step.when is True:
                yield from self._step(step, {}, known=False)
                yield from self._program(step, ())

    def _may_be_skipped(self, step: Step) -> bool:
        """Whether what comes before a step may skip it."""
        branch = step.branch.condition if step.branch else ""
        for name in step.before:
            decision = self.plan.decisions[name]
            if isinstance(decision, Run) and (name == branch or "skipped" in decision.may):
                return True
        return False

    # values

    def _axes(self, step: Step) -> Iterator[Wrong]:
        assert step.foreach is not None
        if not self.before.keys() >= step.foreach.reads:
            return
        plan = self.plan
        try:
            items(step, Known(plan.pipeline, plan.params, self.before, plan.world))
        except EvaluationError as error:
            found = None
            for axis, tree in step.foreach.over.items():
                found = found or next(self._failing(step, ("foreach", "over", axis), tree, self.before), None)
            yield found or Wrong(step.name, ("foreach", "over"), str(error), "E209", help=error.help)

    def _step(self, step: Step, before: Mapping[str, Before], known: bool) -> Iterator[Wrong]:
        """Yield the expressions of a step that have no value, and the values that its fields refuse."""
        wrong = False
        for keys, tree in _fields(step):
            for found in self._failing(step, keys, tree, before):
                wrong = True
                yield found
        for found in (*self._limits(step), *self._own(step, before)):
            wrong = True
            yield found
        if known and not wrong:
            try:
                evaluate(step, self.plan.pipeline, self.plan.params, before, self.plan.world, {})
            except EvaluationError as error:
                yield Wrong(step.name, (), str(error), error.code)

    def _failing(self, step: Step, keys: Keys, tree: Any, before: Mapping[str, Before]) -> Iterator[Wrong]:
        """Yield the templates of a tree of which all that they read is known and that have no value all the same."""
        for at, template in _templates(tree, keys):
            if not isinstance(template.exact, Bound | Call) and not any(
                isinstance(p, Bound | Call) for p in template.parts
            ):
                continue
            if any(name not in before for name in _reads(template, step)):
                continue
            value = reader_of(step, self.plan.pipeline, self.plan.params, before, self.plan.world)
            try:
                value(template)
            except EvaluationError as error:
                params, field, offset = _narrowed(template, value)
                yield Wrong(step.name, field or at, str(error), error.code, offset, params)

    def _value(self, step: Step, tree: Any, before: Mapping[str, Before]) -> Any:
        """Return the value of a field where it is known and there is one, else None."""
        if any(name not in before for _, template in _templates(tree, ()) for name in _reads(template, step)):
            return None
        try:
            return reader_of(step, self.plan.pipeline, self.plan.params, before, self.plan.world)(tree)
        except EvaluationError:
            return None

    def _limits(self, step: Step) -> Iterator[Wrong]:
        """Yield what is wrong with how long and with how much a step runs."""
        checks: tuple[tuple[Keys, Any, Callable[[Any], Any]], ...] = (
            (("timeout",), step.timeout, to_limit),
            (("resources", "cpu"), step.cpu, to_processors),
            (("resources", "memory"), step.memory, to_bytes),
        )
        for keys, tree, check in checks:
            if isinstance(tree, Template) and (value := self._value(step, tree, {})) is not None:
                try:
                    check(value)
                except ValueError as error:
                    yield Wrong(step.name, keys, str(error), "E108")

    def _own(self, step: Step, before: Mapping[str, Before]) -> Iterator[Wrong]:
        """Yield the values that fields of a kind refuse."""
        if step.kind == "register":
            status = self._value(step, step.own["status"], before)
            if status is not None and text_of(status) not in STATUSES:
                yield Wrong(step.name, ("status",), f"{text_of(status)!r} is none of: {', '.join(STATUSES)}", "E107")
            group = self._value(step, step.own["group"], before)
            if group is not None and not GROUP.fullmatch(text_of(group)):
                yield Wrong(step.name, ("group",), f"{text_of(group)!r} cannot be the name of a group", "E108")
        if step.has_process:
            for keys, tree in _texts(step):
                value = self._value(step, tree, before)
                text = text_of(value) if not isinstance(value, list | dict) else ""
                if "\0" in text:
                    yield Wrong(step.name, keys, "an argument or variable holds a NUL character", "E108")
                elif len(text) > LONGEST:
                    yield Wrong(
                        step.name, keys, f"an argument or variable is longer than {LONGEST >> 10} KiB", "E108",
                        help="pass it by the context file",
                    )  # fmt: skip

    # programs

    def _program(self, step: Step, may: Container[str]) -> Iterator[Wrong]:
        """Yield a program that this machine lacks; a runtime may bring one that is not here."""
        field = step.kind if step.kind in ("command", "shell") else ""
        if not field or (step.runtime is not None and step.runtime.kind != "host"):
            return
        value: Any = step.own[field][0]
        path: Any = step.env.get("PATH", "")
        if isinstance(value, Template) or isinstance(path, Template):
            value, path = self._value(step, value, self.before), self._value(step, path, self.before)
        if not isinstance(value, str) or isinstance(value, Artifact) or path is None:
            return
        key = (str(value), step.name if "/" in value else "", text_of(path))
        if key not in self.programs:
            self.programs[key] = missing(str(value), step, self.plan, self.project, text_of(path))
        text = self.programs[key]
        # Where a result was made with the program before, it may be taken instead.
        if not text and "/" not in value and "PATH" not in step.env:
            self.there.add(str(value))
        if text and not ("cached" in may and self.made_with(str(value))):
            yield Wrong(
                step.name, (field, 0), text, "E109",
                help="install it here, or name another; where only another machine has it, plan there",
            )  # fmt: skip


def missing(name: str, step: Step, plan: Plan, project: Project, path: str = "") -> str:
    """Return why a program that a step names cannot be started on this machine, or nothing."""
    if name == "python" or ".inputs" in name.split("/"):
        return ""
    if "/" not in name:
        place = find(name, path or search_path())
        return _script(place, name, path) if place else f"there is no program {printable(name)}"
    location = posixpath.normpath(posixpath.join(step.base, name))
    if not name.startswith("/") and step.workdir == "attempt" and not _given(location, step, plan):
        return f"there is no program {printable(name)} among the files that the step is given"
    place = name if name.startswith("/") else project.path(location)
    if not os.path.isfile(place):
        return f"there is no program {printable(name)}"
    if not os.access(place, os.X_OK):
        return f"{printable(name)} is not executable"
    return _script(place, name, path)


def _given(location: str, step: Step, plan: Plan) -> bool:
    """Whether a project file is laid out for a step."""
    params = [plan.params[n] for n in step.params if plan.pipeline.params[n].type.name in ("file", "dir")]
    given = (*step.code, *(file.location for file in step.files), *params)
    return any(location == place or location.startswith(f"{place}/") for place in given)


def _script(place: str, name: str, path: str) -> str:
    """Return what the first line of a script asks for and this machine lacks, or nothing."""
    try:
        with open(place, "rb") as file:
            head = file.readline(256)
    except OSError:
        return ""
    words = os.fsdecode(head[2:].rstrip(b"\n")).split(" ") if head.startswith(b"#!") else []
    words = [word for word in words if word]
    if not words:
        return ""
    if words[0] == "/usr/bin/env" and len(words) > 1 and not words[1].startswith("-") and "=" not in words[1]:
        return "" if find(words[1], path or search_path()) else _asks(name, words[1])
    return "" if not words[0].startswith("/") or os.path.exists(words[0]) else _asks(name, words[0])


def _asks(name: str, wanted: str) -> str:
    return f"the first line of {printable(name)} asks for {printable(wanted)}, which is not there"


# --- where things stand in the files ------------------------------------------------------------------------------


def _fields(step: Step) -> Iterator[tuple[Keys, Any]]:
    """Yield the fields of a step that may be computed, each with its place from the step on."""
    for name, tree in step.inputs.items():
        yield ("inputs", name), tree
    for name, tree in step.own.items():
        yield (name,), tree
    for name, tree in step.env.items():
        yield ("env", name), tree
    yield ("cache", "key"), list(step.cache.key)
    yield ("when",), step.when
    yield ("timeout",), step.timeout
    yield ("resources", "cpu"), step.cpu
    yield ("resources", "memory"), step.memory


def _texts(step: Step) -> Iterator[tuple[Keys, Template]]:
    """Yield what becomes an argument or a variable of a process."""
    for keys, tree in (*((("env", n), t) for n, t in step.env.items()), (("command",), step.own.get("command"))):
        yield from _templates(tree, keys)


def _templates(tree: Any, keys: Keys) -> Iterator[tuple[Keys, Template]]:
    match tree:
        case Template():
            yield keys, tree
        case list():
            for index, item in enumerate(tree):
                yield from _templates(item, (*keys, index))
        case dict():
            for key, value in tree.items():
                yield from _templates(value, (*keys, key))


def _reads(template: Template, step: Step) -> Iterator[str]:
    """Yield the steps that a template reads, by named inputs, too."""
    for ref in template.refs():
        if ref.path[0] == "steps":
            yield ref.path[1]
        elif ref.path[0] == "inputs":
            for _, inner in _templates(step.inputs[ref.path[1]], ()):
                yield from _reads(inner, step)


Values = Callable[[Any], Any]  # raises EvaluationError


def _narrowed(template: Template, value: Values) -> tuple[tuple[str, ...], Keys, int]:
    """Return where in a template that has no value the first part is that has none.

    That is: the params of inner pipelines that lead there, the innermost first, the field if it is another one, and
    the offset into its text.
    """
    part = next((p for p in template.parts if not isinstance(p, str) and _fails(p, value)), None)
    return _narrow(part, value) if part is not None else ((), (), 0)


def _narrow(node: Node, value: Values) -> tuple[tuple[str, ...], Keys, int]:
    match node:
        case Bound(name=name, tree=tree, declared=declared):
            inner = _narrowed(tree, value) if isinstance(tree, Template) else ((), (), 0)
            if declared is None:
                return inner[0], inner[1] or ("inputs", name), inner[2]
            return (name, *inner[0]), inner[1], inner[2]
        case Call():
            wrong = next((arg for arg in node.args if _fails(arg, value)), None)
            return _narrow(wrong, value) if wrong is not None else ((), (), node.at)
        case _:
            return (), (), node.at


def _fails(node: Node, value: Values) -> bool:
    try:
        value(Template((node,)))
    except EvaluationError:
        return True
    return False


class _Places:
    """Finds the fields of steps in the files of a pipeline and of those that it is made of."""

    def __init__(self, document: Document, plan: Plan, request: Document | None) -> None:
        self.document, self.plan, self.request = document, plan, request
        self.inner: dict[str, Document] = {}

    def of(self, wrong: Wrong) -> tuple[Document, Keys]:
        """Return the file and the place of what is wrong with a step."""
        if wrong.code == "E209" and self.request is not None:
            fan = self.plan.pipeline.steps[wrong.step].foreach
            if fan is not None and fan.params & self.request.value.get("params", {}).keys():
                return self.request, ("params",)  # the request gives the axis its values
        chain = list(self._chain(wrong.step))
        if wrong.keys[:1] == ("outputs",):  # of a step that stands for an inner pipeline: they stand there
            chain.append((self._below(*chain[-1]), ()))
        level = len(chain) - 1 - len(wrong.params)
        if wrong.params and level >= 0:
            document, at = chain[level]
            if wrong.params[-1] in document.value[str(at[0])][str(at[1])].get("params", {}):
                return document, (*at, "params", wrong.params[-1])
        document, at = chain[-1]
        return document, self._existing(document, at, wrong.keys)

    def _chain(self, name: str) -> Iterator[tuple[Document, Keys]]:
        """Yield where each part of a step's name is written, the outermost first."""
        document = self.document
        names = [base for base, _ in parts_of(name)]
        for index, base in enumerate(names):
            at: Keys = ("finally", base) if base in document.value.get("finally", {}) else ("steps", base)
            yield document, at
            if index + 1 < len(names):
                document = self._below(document, at)

    def _below(self, document: Document, at: Keys) -> Document:
        """Return the file of the inner pipeline that a step stands for."""
        file = document.value[str(at[0])][str(at[1])]["pipeline"]
        shown = posixpath.normpath(posixpath.join(posixpath.dirname(document.path), file))
        if shown not in self.inner:
            self.inner[shown] = documents.parse(content_of(shown, shown), shown)
        return self.inner[shown]

    def _existing(self, document: Document, at: Keys, keys: Keys) -> Keys:
        """Return the place of a field where it is written: in the step, or among the defaults."""
        body: Any = document.value
        for key in at:
            body = body[key]
        defaults = document.value.get("defaults", {})
        field = str(keys[0]) if keys else ""
        own = body.get(field, {})
        if field in defaults and (field not in body or (field == "env" and keys[1] not in own)):
            return ("defaults", *keys)
        # One condition may stand alone, and the interpreter of a shell step is not written most of the time.
        return (*at, field) if field and not isinstance(own, list | dict) else (*at, *keys)
