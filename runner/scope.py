"""The scalars of one step -> parsed and type-checked templates, and what they refer to: the step's edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from . import expression
from .document import CUT, Document, Keys
from .errors import nearest, suggest
from .expression import BOOLEAN, INTEGER, STRING, Call, ExpressionError, Ref, Template, Type
from .pipeline import Output, Param, ProjectPath, Tree

_RUN_FIELDS = ("id", "name", "pipeline", "status")
_ROOTS = ("params", "steps", "inputs", "outputs", "each", "secrets", "run")


class Names(Protocol):
    """What a document declares, and where its mistakes go: the compiler, as its readers see it."""

    document: Document
    params: dict[str, Param]
    outputs: dict[str, dict[str, Output]]
    axes: dict[str, dict[str, Type]]  # of the steps with `foreach`
    secrets: Mapping[str, Any]
    raw: dict[str, dict[str, Any]]  # the steps as written, those of `finally` too
    finals: set[str]  # of the steps, those of `finally`
    maybe: set[str]  # steps that can leave nothing in a good run

    def mistake(self, code: str, text: str, at: Keys, *, key: bool = False, offset: int = 0, help: str = "") -> None:
        """Note a mistake."""

    def at(self, step: str) -> Keys:
        """Return where a step stands in the document."""

    def visible(self, step: str, of: str) -> bool:
        """Whether there is a step that another one (or "", the pipeline) may name."""

    def input(self, reader: Reader, value: Any, at: Keys) -> Tree:
        """Return the value of one of a step's inputs."""


def _element(body: Mapping[str, Any], output: Output) -> Type:
    """Return the type of the elements of a fan-out's list: items may be skipped, fail, or leave an output out."""
    lacks = output.optional or body.get("when", True) is not True or body.get("on_failure") == "continue"
    return Type(output.type.name, output.type.item, lacks)


class Reader:
    """Reads the scalars of one step: parses them, checks their types, notes what they refer to."""

    def __init__(self, compiler: Names, step: str, body: Mapping[str, Any]) -> None:
        self.compiler = compiler
        self.step = step
        self.body = body
        self.steps: set[str] = set()
        self.unguarded: set[str] = set()
        self.params: set[str] = set()
        self.guardless: list[tuple[Ref, Keys]] = []  # data references outside coalesce
        self.place: Keys = ()
        self.computed = False  # whether it has read more than references and texts
        self.secret_allowed = False  # whether a secret may stand where this reader reads

    def tree(self, value: Any, at: Keys, *, text: bool = False, optional: bool = False) -> Tree:
        """Return `value` with every text that holds an expression parsed and checked."""
        match value:
            case str():
                if "$(" not in value:
                    return value
                template = self.template(value, at)
                if template is None:
                    return value
                if template.literal is not None:
                    return template.literal
                self._check_template(template, at, text=text, optional=optional)
                return template
            case list():
                return [self.tree(item, (*at, i), text=text) for i, item in enumerate(value)]
            case dict():
                return {key: self.tree(item, (*at, key), text=text) for key, item in value.items()}
            case _:
                return value

    def boolean(self, value: Any, at: Keys) -> Template | bool:
        """Return a condition: true, false, or one expression of type boolean."""
        if isinstance(value, bool):
            return value
        template = self.template(value, at)
        if template is None:
            return True
        node = template.exact
        found = self.check(node, at) if node is not None else None
        if node is None or (found is not None and found != BOOLEAN):
            what = "" if found is None else f"; this one is of type {found}"
            help = f"write $({value})" if "$(" not in value else ""
            self.compiler.mistake(
                "E204", f"one expression of type boolean is needed here, with nothing around it{what}", at, help=help
            )
            return True
        self.note(template, at)
        return template

    def template(self, value: str, at: Keys) -> Template | None:
        try:
            return expression.parse(value)
        except ExpressionError as error:
            self._report(error, at, value)
        except RecursionError:
            self.compiler.mistake("E203", "the expression is too long", at)
        return None

    def check(self, node: expression.Node, at: Keys) -> Type | None:
        self.place = at
        try:
            return expression.check(node, self.scope)
        except ExpressionError as error:
            self._report(error, at)
            return None

    def _check_template(self, template: Template, at: Keys, *, text: bool, optional: bool) -> None:
        self.note(template, at)
        self.place = at
        try:
            if template.exact is not None and not text:
                found = expression.check(template.exact, self.scope)
                if found.optional and not optional:
                    raise ExpressionError(
                        "E203", "this value may be missing", template.exact.at, "close it with coalesce(value, default)"
                    )
            else:
                expression.check_text(template, self.scope)
        except ExpressionError as error:
            self._report(error, at)

    def _report(self, error: ExpressionError, at: Keys, value: str = "") -> None:
        code, text, help = error.code, error.text, error.help
        if code == "E203" and "no closing" in text and "$(" in text and self._cut_by_yaml(at, value):
            code, text, help = "E111", CUT, ""
        self.compiler.mistake(code, text, at, offset=error.offset, help=help)

    def _cut_by_yaml(self, at: Keys, value: str) -> bool:
        """Whether an unclosed scalar stands in a flow list and is followed there by a comma."""
        line, _ = self.compiler.document.place(at)
        source = self.compiler.document.source(line)
        return f"{value}," in source.replace(" ,", ",")

    def note(self, template: Template, at: Keys) -> None:
        """Note what a template refers to."""
        if isinstance(template.exact, Ref):  # most are
            self._note_ref(template.exact, at, guarded=False)
            return
        self.computed = self.computed or any(isinstance(part, Call) for part in template.parts)
        guardless = {id(r) for part in template.parts if not isinstance(part, str) for r in expression.unguarded(part)}
        for ref in template.refs():
            self._note_ref(ref, at, guarded=id(ref) not in guardless)

    def _note_ref(self, ref: Ref, at: Keys, guarded: bool) -> None:
        path = ref.path
        if path[0] == "params" and len(path) > 1:
            self.params.add(path[1])
        elif path[0] == "steps" and len(path) > 2 and path[1] in self.compiler.raw and path[1] != self.step:
            self.steps.add(path[1])
            if guarded or path[2] == "status":
                return
            self.unguarded.add(path[1])
            if path[2] in ("outputs", "best", "count"):
                self.guardless.append((ref, at))

    # names

    def scope(self, ref: Ref) -> Type:
        """Return the type of a reference; raises ExpressionError for a name that is not there."""
        match ref.path:
            case ("params", name):
                if name not in self.compiler.params:
                    raise ExpressionError(
                        "E202", f"no parameter `{name}`", ref.ats[1], suggest(name, self.compiler.params, "params")
                    )
                return self.compiler.params[name].type
            case ("steps", step, *rest):
                return self._step(ref, step, tuple(rest))
            case ("inputs", name):
                known = self.body.get("inputs", {})
                if name not in known:
                    raise ExpressionError(
                        "E202", f"this step has no input `{name}`", ref.ats[1], suggest(name, known, "inputs")
                    )
                return self._input_type(known[name], name)
            case ("outputs", name):
                outputs = self.compiler.outputs.get(self.step, {})
                artifacts = [o for o, body in outputs.items() if body.is_artifact]
                if name not in artifacts:
                    raise ExpressionError(
                        "E202",
                        f"this step declares no file or dir output `{name}`",
                        ref.ats[1],
                        suggest(name, artifacts, "file or dir outputs"),
                    )
                return outputs[name].type
            case ("run", name):
                if name not in _RUN_FIELDS:
                    raise ExpressionError(
                        "E202", f"a run has no `{name}`", ref.ats[1], suggest(name, _RUN_FIELDS[:3], "fields")
                    )
                if self.step not in self.compiler.finals and (
                    name == "status"
                    or not (
                        (len(self.place) > 2 and self.place[2] in ("message", "env"))
                        or self.place[:2] == ("defaults", "env")
                    )
                ):
                    where = "`finally` only" if name == "status" else "`message`, `env` and `finally` only"
                    raise ExpressionError("E205", f"run.{name} may be used in {where}", ref.at)
                return STRING
            case ("each", axis):
                axes = self.compiler.axes.get(self.step, {})
                if "foreach" not in self.body:
                    raise ExpressionError("E202", "this step has no `foreach`, so no `each`", ref.at, "add `foreach`")
                if axis not in axes:
                    raise ExpressionError(
                        "E202", f"`foreach` has no axis `{axis}`", ref.ats[1], suggest(axis, axes, "axes")
                    )
                return axes[axis]
            case ("secrets", name):
                if name not in self.compiler.secrets:
                    raise ExpressionError(
                        "E202", f"no secret `{name}`", ref.ats[1], suggest(name, self.compiler.secrets, "secrets")
                    )
                if not self.secret_allowed:
                    raise ExpressionError(
                        "E214", "a secret may be used in `env` only, alone", ref.at,
                        f"write `env: {{NAME: $(secrets.{name})}}` and let the program read NAME",
                    )  # fmt: skip
                return STRING
            case (root,) if root not in _ROOTS:
                close = nearest(root, self.compiler.params)
                help = (
                    f"did you mean `params.{root}`?"
                    if root in self.compiler.params
                    else close.replace("`", "`params.", 1)
                    if close
                    else "names start with params., steps., inputs., outputs., each., secrets. or run."
                )
                raise ExpressionError("E202", f"no name `{root}`", ref.at, help)
        if ref.path[0] not in _ROOTS:
            raise ExpressionError(
                "E202",
                f"no name `{ref.path[0]}`",
                ref.at,
                suggest(ref.path[0], _ROOTS, "roots"),
            )
        forms = {
            "params": "params.NAME",
            "inputs": "inputs.NAME",
            "outputs": "outputs.NAME",
            "each": "each.AXIS",
            "secrets": "secrets.NAME",
            "run": "run.id, run.name or run.pipeline",
        }
        raise ExpressionError(
            "E202", f"`{ref}` names nothing", ref.at, f"write {forms.get(ref.path[0], 'steps.NAME.outputs.NAME')}"
        )

    def _step(self, ref: Ref, step: str, rest: tuple[str, ...]) -> Type:
        if not self.compiler.visible(step, self.step):
            known = [n for n in self.compiler.raw if self.compiler.visible(n, self.step)]
            help = "it is a step of `finally`" if step in self.compiler.finals else suggest(step, known, "steps")
            raise ExpressionError("E201", f"no step `{step}`", ref.ats[1], help)
        if step == self.step:
            raise ExpressionError(
                "E215",
                f"step `{step}` cannot read its own outputs this way",
                ref.at,
                "write $(outputs.NAME) for the path of an own output",
            )
        body = self.compiler.raw[step]
        kind = body["kind"]
        match rest:
            case ("outputs", name):
                output = self._output_of(step, name, ref.ats[3])
                if "foreach" in body:
                    return Type("list", _element(body, output), self._may_lack(step))
                return Type(output.type.name, output.type.item, output.optional or self._may_lack(step))
            case ("count",) | ("best", *_) if "foreach" not in body:
                raise ExpressionError(
                    "E202",
                    f"step `{step}` has no `foreach`, so no `{rest[0]}`",
                    ref.ats[2],
                    "its outputs are single values",
                )
            case ("count",):
                return Type("integer", None, self._may_lack(step))
            case ("best", *_) if "best" not in body["foreach"]:
                raise ExpressionError(
                    "E202", f"`foreach` of step `{step}` says not what is `best`", ref.ats[2],
                    "add `best: {output: NAME, mode: min}` to it",
                )  # fmt: skip
            case ("best", "outputs", name):
                output = self._output_of(step, name, ref.ats[4])
                return Type(output.type.name, output.type.item, output.optional or self._may_lack(step))
            case ("best", "each", axis):
                axes = self.compiler.axes.get(step, {})
                if axis not in axes:
                    raise ExpressionError(
                        "E202",
                        f"`foreach` of step `{step}` has no axis `{axis}`",
                        ref.ats[4],
                        suggest(axis, axes, "axes"),
                    )
                return replace(axes[axis], optional=self._may_lack(step))
            case ("taken",):
                if kind != "condition":
                    raise ExpressionError(
                        "E202", f"step `{step}` is a {kind} step; only a condition has `taken`", ref.ats[2]
                    )
                return Type("boolean", None, self._may_lack(step))
            case ("status",):
                if self.body.get("trigger") != "all_done":
                    raise ExpressionError(
                        "E205",
                        "a step's status may be read with `trigger: all_done` only",
                        ref.ats[2],
                        "add `trigger: all_done`",
                    )
                return STRING
        if rest[:1] == ("best",):
            raise ExpressionError(
                "E202",
                f"`{ref}` names nothing",
                ref.ats[2],
                f"write steps.{step}.best.outputs.NAME or steps.{step}.best.each.AXIS",
            )
        options = ["outputs.NAME", "status"] + (["taken"] if kind == "condition" else [])
        raise ExpressionError(
            "E202",
            f"`{ref}` names nothing",
            ref.ats[min(2, len(ref.ats) - 1)],
            f"write steps.{step}.{options[-1] if kind == 'condition' else options[0]}",
        )

    def _output_of(self, step: str, name: str, at: int) -> Output:
        outputs = self.compiler.outputs[step]
        if name not in outputs:
            raise ExpressionError(
                "E202", f"step `{step}` declares no output `{name}`", at, suggest(name, outputs, "outputs")
            )
        return outputs[name]

    def _may_lack(self, step: str) -> bool:
        """Whether this step may start although `step` left nothing."""
        match self.body.get("trigger", "all_succeeded"):
            case "all_done":
                return True
            case "none_failed":
                return step in self.compiler.maybe
            case _:
                return False

    def _input_type(self, value: Any, name: str) -> Type:
        if isinstance(value, str) and "$(" in value.replace("$$(", ""):
            if "inputs." in value:
                raise ExpressionError("E205", "an input may not be made from inputs", 0)
            template = expression.parse(value)
            return expression.check(template.exact, self.scope) if template.exact is not None else STRING
        if isinstance(value, str):
            tree = self.compiler.input(self, value, (*self.compiler.at(self.step), "inputs", name))
            return Type(tree.kind) if isinstance(tree, ProjectPath) else STRING
        return INTEGER if isinstance(value, int) and not isinstance(value, bool) else expression.type_of(value)
