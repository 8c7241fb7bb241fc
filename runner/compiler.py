"""Document -> Pipeline: every name and type in it checked.

The references found in a step's expressions are its edges. All mistakes of a document are reported at once.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from . import document as documents
from . import expression, notebooks
from .axes import AxisError, combinations, holds_expression, is_literal, label, name_of, same
from .document import Document, Keys
from .embed import Edges, embed, embed_finals, levels_of, refs_of, with_inputs
from .errors import MANY, Diagnostic, Invalid, LeadsOut, printable, suggest
from .expression import ANY, FILE, INTEGER, NUMBER, STRING, Bound, Template, Type
from .language import RESERVED, a_step, check_document, fields_of
from .params import RULES, check_type, check_value, widen
from .pipeline import (
    WAITS,
    Branch,
    CachePolicy,
    Fan,
    Files,
    Output,
    Param,
    Pipeline,
    ProjectPath,
    Retry,
    Runtime,
    Secret,
    Step,
    Tree,
    overlapping,
    overlaps,
    parents,
    relative,
)
from .scope import Reader
from .values import digest_of, to_bytes, to_limit, to_processors, to_seconds

_INTERPRETERS = re.compile(r"(ba|da|z|k|fi)?sh|python[0-9.]*|perl|ruby|node|Rscript")
_MAX_PIPELINES = 40  # one inside another
_MAX_LEVELS = 250  # of the trees that their parameters make together
_CODE_FLAGS = {"-c", "-e", "--eval", "-lc", "-ec"}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a file: a path of one part, which is what it says
_BY_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\Z")
_SECRET = re.compile(r"\$\(\s*secrets\.[A-Za-z0-9_-]+\s*\)")
_OURS = re.compile(r"\$\((params|steps|inputs|outputs|each|run|secrets)\.")


def compile_pipeline(document: Document, files: Files, path: str, above: tuple[str, ...] = ()) -> Pipeline:
    """Return the Pipeline of a document that fits its schema; raises Invalid with every mistake.

    `above` are the locations of the pipelines that this one is put into, the outermost first.
    """
    return _Compiler(document, files, path, (*above, path)).compile()


class _Compiler:
    """Collects the mistakes of one document on the way to its Pipeline."""

    def __init__(self, document: Document, files: Files, path: str, stack: tuple[str, ...]) -> None:
        self.stack = stack
        self.axes: dict[str, dict[str, Type]] = {}
        self.secrets: Mapping[str, Any] = document.value.get("secrets", {})
        self.inner: dict[str, Pipeline] = {}  # by the step that stands for it
        self.output_paths: dict[str, dict[str, str]] = {}
        self.output_types: dict[str, Type] = {}  # of the pipeline's own outputs
        self.document = document
        self.files = files
        self.path = path
        self.base = posixpath.dirname(path) or "."
        self.mistakes: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []
        self.params: dict[str, Param] = {}
        self.outputs: dict[str, dict[str, Output]] = {}
        self.branches: dict[str, Branch] = {}
        self.raw: dict[str, dict[str, Any]] = {}
        self.finals: set[str] = set()  # of the steps, those of `finally`
        self.maybe: set[str] = set()  # steps that can leave nothing in a good run
        self.expanded: dict[str, list[str]] = {}

    def mistake(self, code: str, text: str, at: Keys, *, key: bool = False, offset: int = 0, help: str = "") -> None:
        self.mistakes.append(self.document.diagnostic(code, text, at, key=key, offset=offset, help=help))
        if len(self.mistakes) >= MANY:
            self._refuse()

    def warn(self, code: str, text: str, at: Keys, help: str = "") -> None:
        self.warnings.append(self.document.diagnostic(code, text, at, help=help))

    def compile(self) -> Pipeline:
        value = self.document.value
        self._find_finals(value)
        for section in ("params", "secrets", "runtimes", "steps", "finally", "outputs"):
            self._check_names(value.get(section, {}), (section,))
        for name, body in value.get("params", {}).items():
            self.params[name] = self._param(name, body)
        for name, body in self.raw.items():
            self._check_names(body.get("inputs", {}), (*self.at(name), "inputs"))
            self._check_names(body.get("outputs", {}), (*self.at(name), "outputs"))
            outside = body["kind"] == "callback"  # then `_given_outputs` tells what does not fit
            self.outputs[name] = {
                o: self._output(name, o, {k: v for k, v in f.items() if k not in _FROM_A_FILE} if outside else f)
                for o, f in body.get("outputs", {}).items()
            }
            self.outputs[name] |= self._given_outputs(name, body)
        self.runtimes = {name: self._runtime(name, body) for name, body in value.get("runtimes", {}).items()}
        secrets = {name: self._secret(name, body) for name, body in self.secrets.items()}
        self._read_inner()
        inherited = (secret for inner in self.inner.values() for secret in inner.secrets.values())
        self.secret_files = {secret.file: secret.name for secret in (*inherited, *secrets.values()) if secret.file}
        self._find_branches()
        self._find_maybe()
        steps = {name: self._step(name, body) for name, body in self.raw.items()}
        self.bindings = {name: self._given(name, inner) for name, inner in self.inner.items()}
        steps = {name: self._with_bindings(step) for name, step in steps.items()}
        outputs = {name: self._pipeline_output(name, text) for name, text in value.get("outputs", {}).items()}
        self._check_cycles(steps)
        self._refuse()
        finals = {n: s for n, s in steps.items() if n in self.finals}
        for name, inner in self.inner.items():
            finals |= embed_finals(inner, name, *self.bindings[name])
        steps = self._put_in(steps)
        self._refuse()
        return Pipeline(
            name=value["name"],
            path=self.path,
            base=self.base,
            digest=digest_of(
                {k: v for k, v in value.items() if not k.startswith("x-")}
                | ({"": [inner.digest for inner in self.inner.values()]} if self.inner else {})
            ),
            params=self.params,
            steps={n: s for n, s in steps.items() if n not in self.finals},
            finals=finals,
            output_types=self.output_types,
            secrets={**{n: s for i in self.inner.values() for n, s in i.secrets.items()}, **secrets},
            files=tuple(dict.fromkeys(f for i in self.inner.values() for f in (i.path, *i.files))),
            outputs=outputs,
            description=value.get("description", ""),
            labels=value.get("labels", {}),
            failure_policy=value.get("failure_policy", "fail_fast"),
            timeout=to_seconds(value["timeout"]) if "timeout" in value else None,
            max_parallel=value.get("max_parallel"),
            warnings=tuple(self.warnings),
        )

    def _refuse(self) -> None:
        if self.mistakes:
            mine = self.document.path
            raise Invalid(
                sorted(dict.fromkeys(self.mistakes), key=lambda d: (d.path != mine, d.path, d.line, d.column)),
                cut=len(self.mistakes) >= MANY,
            )

    def at(self, step: str) -> Keys:
        """Return where a step stands in the document."""
        return ("finally" if step in self.finals else "steps", step)

    def visible(self, step: str, of: str) -> bool:
        """Whether there is a step that another one (or "", the pipeline) may name: `steps` know nothing of `finally`."""
        return step in self.raw and (step not in self.finals or of in self.finals)

    def _find_finals(self, value: Mapping[str, Any]) -> None:
        """Take the steps of `finally` in: they may start whatever the others' end."""
        self.raw = dict(value["steps"])
        for name, body in value.get("finally", {}).items():
            place: Keys = ("finally", name)
            if name in self.raw:
                self.mistake("E106", f"`{name}` is a step already", place, key=True, help="choose another name")
                continue
            if body["kind"] in ("condition", "fail"):
                self.mistake("E107", f"{a_step(body['kind'])} decides nothing in `finally`", (*place, "kind"))
            if body["kind"] in ("approval", "callback", "pipeline"):
                self.mistake("E107", f"{a_step(body['kind'])} cannot stand in `finally`", (*place, "kind"))
            if "foreach" in body:
                self.mistake("E108", "a step of `finally` is not repeated", (*place, "foreach"), key=True)
            if "trigger" in body:
                self.mistake(
                    "E108", "a step of `finally` starts whatever the others' end", (*place, "trigger"), key=True
                )
            self.finals.add(name)
            self.raw[name] = {"on_failure": "continue", **body, "trigger": "all_done"}

    def _check_names(self, names: Mapping[str, Any], at: Keys) -> None:
        seen: dict[str, str] = {}
        for name in names:
            if name in RESERVED:
                self.mistake(
                    "E106", f"`{name}` is a word of the language", (*at, name), key=True, help="choose another name"
                )
            folded = name.upper().replace("-", "_")
            if folded in seen:
                self.mistake(
                    "E106",
                    f"`{name}` and `{seen[folded]}` would have the same environment name {folded}",
                    (*at, name),
                    key=True,
                )
            seen.setdefault(folded, name)

    # params and outputs

    def _param(self, name: str, body: Mapping[str, Any]) -> Param:
        at: Keys = ("params", name)
        kind = body["type"]
        rules = {}
        for rule, value in body.items():
            if rule in RULES and kind not in RULES[rule]:
                self.mistake(
                    "E121",
                    f"`{rule}` does not fit a parameter of type {kind}",
                    (*at, rule),
                    key=True,
                    help=f"it is for: {', '.join(RULES[rule])}",
                )
            elif rule in RULES or rule == "enum":
                rules[rule] = value
        if "pattern" in rules:
            try:
                re.compile(rules["pattern"])
            except (re.error, RecursionError, OverflowError) as error:
                self.mistake("E108", f"params.{name}.pattern: {error}", (*at, "pattern"))
                del rules["pattern"]
        type = Type(kind, Type(body["items"]) if kind == "list" and "items" in body else None)
        param = Param(
            name,
            type,
            body.get("default"),
            "default" not in body,
            body.get("description", ""),
            rules,
            body.get("deprecated", False),
        )
        for index, option in enumerate(body.get("enum", ())):
            if wrong := check_type(type, option):
                self.mistake("E120", f"params.{name}.enum: {wrong}", (*at, "enum", index))
        if "default" in body:
            wrong = check_value(param, body["default"])
            if wrong:
                self.mistake("E120", f"params.{name}: {wrong}", (*at, "default"))
            elif isinstance(body["default"], str) and "$(" in body["default"].replace("$$(", ""):
                self.mistake("E205", "a default is a literal; expressions are not allowed here", (*at, "default"))
        return param

    def _output(self, step: str, name: str, body: Mapping[str, Any]) -> Output:
        at: Keys = (*self.at(step), "outputs", name)
        kind = body["type"]
        type = Type(kind, Type(body["items"]) if kind == "list" and "items" in body else None)
        output = Output(
            name, type, body.get("path", name) if kind in ("file", "dir") else "", body.get("from", ""),
            body.get("pointer", ""), body.get("metric", False), body.get("optional", False),
        )  # fmt: skip
        siblings = self.raw[step].get("outputs", {})
        if output.is_artifact:
            for wrong in ("from", "pointer", "items", "metric"):
                if wrong in body:
                    self.mistake("E121", f"`{wrong}` does not fit an output of type {kind}", (*at, wrong), key=True)
            self._check_output_path(step, output, at)
            return output
        self._refuse_expression(body.get("pointer", ""), "pointer", (*at, "pointer"))
        if "path" in body:
            self.mistake(
                "E121",
                f"`path` does not fit an output of type {kind}",
                (*at, "path"),
                key=True,
                help="name the file output that holds it by `from`",
            )
        if "items" in body and kind != "list":
            self.mistake("E121", f"`items` does not fit an output of type {kind}", (*at, "items"), key=True)
        if output.metric and kind not in ("integer", "number"):
            self.mistake("E121", f"a metric is a number; `{name}` is of type {kind}", (*at, "metric"))
        if output.source and (output.source not in siblings or siblings[output.source].get("type") != "file"):
            known = [o for o, b in siblings.items() if b.get("type") == "file"]
            self.mistake(
                "E202",
                f"step `{step}` declares no file output `{output.source}`",
                (*at, "from"),
                help=suggest(output.source, known, "file outputs"),
            )
        if output.pointer and not output.source:
            self.mistake(
                "E104",
                f"outputs.{name}: `pointer` needs `from`, the file output that it points into",
                (*at, "pointer"),
                key=True,
            )
        return output

    def _check_output_path(self, step: str, output: Output, at: Keys) -> None:
        if _NAME.fullmatch(output.path) and self._output_paths(step).get(output.path) == output.name:
            return  # it leads nowhere else, and no other has it
        at = (*at, "path") if "path" in self.raw[step]["outputs"][output.name] else at
        path = posixpath.normpath(output.path)
        if (
            output.path[:1] in ("/", "~", "$")
            or ".." in output.path.split("/")
            or path == "."
            or "\0" in output.path
            or "\\" in output.path
        ):
            self.mistake(
                "E108",
                f"the output path {output.path!r} must stay below the output directory",
                at,
                help="give a relative path without `..`",
            )
            return
        self._refuse_expression(output.path, "path", at)
        if path.split("/")[0] == ".inputs":
            self.mistake("E212", f"`{output.path}` lies where inputs are staged", at)
        taken = self._output_paths(step)
        for their in (path, *parents(path)):
            other = taken.get(their, output.name)
            if other != output.name:
                self.mistake(
                    "E212", f"outputs `{other}` and `{output.name}` have equal or nested paths: {their} and {path}", at
                )

    def _output_paths(self, step: str) -> dict[str, str]:
        """Return the first output that has each path, so that thousands of outputs are looked up, not compared."""
        if step not in self.output_paths:
            found: dict[str, str] = {}
            for name, body in self.raw[step]["outputs"].items():
                if body.get("type") in ("file", "dir"):
                    found.setdefault(posixpath.normpath(body.get("path", name)), name)
            self.output_paths[step] = found
        return self.output_paths[step]

    # branches

    def _find_branches(self) -> None:
        for name, body in self.raw.items():
            if body["kind"] != "condition":
                continue
            for side, outcome in (("then", True), ("else", False)):
                for index, target in enumerate(body.get(side, ())):
                    at: Keys = ("steps", name, side, index)
                    if not self.visible(target, name):
                        self._unknown_step(target, at)
                    elif target in self.branches:
                        self.mistake(
                            "E207",
                            f"step `{target}` is already in a branch of `{self.branches[target].condition}`",
                            at,
                            help="a step is in at most one branch of one condition; let another condition gate a step between",
                        )
                    else:
                        self.branches[target] = Branch(name, outcome)

    def _find_maybe(self) -> None:
        """Find the steps that can leave nothing in a good run: gated ones, what may fail, and what stands behind them."""
        self.maybe = {
            n
            for n, b in self.raw.items()
            if n in self.branches
            # What is judged for each item leaves null in the lists of a fan-out, which itself ends well.
            or ("foreach" not in b and (b.get("when", True) is not True or b.get("on_failure") == "continue"))
        }
        if not self.maybe:
            return
        after: dict[str, list[str]] = {}
        for name, body in self.raw.items():
            if body.get("trigger", "all_succeeded") != "all_succeeded":
                continue
            for before in {*body.get("needs", ()), *_named_steps(body)}:
                after.setdefault(before, []).append(name)
        todo = list(self.maybe)
        while todo:
            for name in after.get(todo.pop(), ()):
                if name not in self.maybe:
                    self.maybe.add(name)
                    todo.append(name)

    def _unknown_step(self, name: str, at: Keys, offset: int = 0) -> None:
        self.mistake("E201", f"no step `{name}`", at, offset=offset, help=suggest(name, self.raw, "steps"))

    # steps

    def _step(self, name: str, body: Mapping[str, Any]) -> Step:
        at = self.at(name)
        kind = body["kind"]
        # A default is put under the steps whose kind has the field; the others do not read what stands in it.
        written = self.document.value.get("defaults", {})
        defaults = {key: value for key, value in written.items() if key in fields_of(kind)} if written else {}

        def given(key: str, fallback: Any = None) -> tuple[Any, Keys]:
            if key in body:
                return body[key], (*at, key)
            if key in defaults:
                return defaults[key], ("defaults", key)
            return fallback, (*at, key)

        reader = Reader(self, name, body)
        runtime = self._runtime_of(kind, *given("runtime"))
        fan = self._fan(name, body, at)  # first: it says of which types `each` is
        own = self._own(reader, name, kind, body)
        env: dict[str, Tree] = {}
        for source, place in (
            (defaults.get("env", {}), ("defaults", "env")),
            (body.get("env", {}), (*at, "env")),
        ):
            for key, value in source.items():
                if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                    self.mistake("E108", f"{key!r} is not the name of an environment variable", (*place, key), key=True)
                if place[0] == "defaults" and key in body.get("env", {}):
                    continue
                env[key] = self._variable(reader, value, (*place, key))
        inputs = {key: self.input(reader, value, (*at, "inputs", key)) for key, value in body.get("inputs", {}).items()}
        cache, cache_at = given("cache", {})
        policy = self._cache(reader, name, cache, cache_at, body)
        resources, resources_at = given("resources", {})
        params = frozenset(reader.params)
        when = self._when(reader, body, at)
        if inputs and when is not True:
            when = with_inputs(when, inputs)
        timeout, timeout_at = given("timeout")
        timeout = self._by_params(reader, timeout, timeout_at, "a duration", to_limit, ("duration", "string"))
        cpu = self._by_params(
            reader,
            resources.get("cpu", 1),
            (*resources_at, "cpu"),
            "a number of processors",
            to_processors,
            ("integer", "number"),
        )
        memory = self._by_params(
            reader, resources.get("memory"), (*resources_at, "memory"), "a size", to_bytes, ("string",)
        )
        needs = self._needs(name, body, reader, at)
        retry, _ = given("retry")
        code = self._code(body.get("code", []), (*at, "code"), own)
        step = Step(
            name=name, kind=kind, own=own, description=body.get("description", ""), tags=frozenset(body.get("tags", ())),
            needs=needs, when=when, trigger=body.get("trigger", "all_succeeded"),
            on_failure=body.get("on_failure", "fail"), timeout=timeout,
            grace_period=to_seconds(body.get("grace_period", "10s")), retry=_retry(retry), inputs=inputs,
            outputs=self.outputs[name], code=code, env=env, cpu=cpu, memory=memory, cache=policy,
            workdir=body.get("workdir", "attempt"), isolation=body.get("isolation", "none"), network=body.get("network", True), success_codes=tuple(body.get("success_codes", (0,))),
            branch=self.branches.get(name), reads=frozenset(reader.steps), unguarded=frozenset(reader.unguarded),
            params=params, gate_params=frozenset(reader.params) - params, base=self.base, foreach=fan, runtime=runtime,
            files=tuple(tree for tree in (*inputs.values(), *own.values()) if isinstance(tree, ProjectPath)),
            computed=reader.computed or kind == "register" or "PATH" in env,
        )  # fmt: skip
        if fan is not None:
            axes = self._axis_reader
            step = replace(
                step, foreach=replace(fan, reads=frozenset(axes.steps), params=frozenset(axes.params)), reads=step.reads | axes.steps,
                unguarded=step.unguarded | axes.unguarded,
            )  # fmt: skip
        if step.trigger == "all_done":
            for ref, place in reader.guardless:
                self.mistake(
                    "E206",
                    f"with `trigger: all_done` step `{ref.path[1]}` may have failed; its output may be missing",
                    place,
                    offset=ref.at,
                    help=f"write coalesce({ref}, ...)",
                )
        if kind == "command":
            self._check_argv(step, at)
        if step.workdir == "attempt":
            self._check_staged(step, at)
        self._check_isolation(step, at)
        return step

    def _check_isolation(self, step: Step, at: Keys) -> None:
        if step.isolation == "bwrap" and step.runtime and step.runtime.kind == "container":
            self.mistake(
                "E121", "`isolation: bwrap` does not fit a step whose runtime is a container", (*at, "isolation"), key=True,
                help="remove it: a container has an isolation of its own",
            )  # fmt: skip
        elif not step.network and step.isolation == "none":
            self.mistake(
                "E121", "`network: false` needs `isolation: bwrap`", (*at, "network"), key=True,
                help="add `isolation: bwrap` to the step",
            )  # fmt: skip

    def _check_staged(self, step: Step, at: Keys) -> None:
        """An output must not lie where code or a project file is put: the step would write over it."""
        staged = {relative(location, self.base): "code" for location in step.code}
        for name, tree in step.inputs.items():
            if isinstance(tree, ProjectPath) and not tree.location.startswith("/"):
                staged[relative(tree.location, self.base)] = f"input `{name}`"
        if not staged:
            return
        meets = overlaps(staged)
        for output in step.outputs.values():
            if output.is_artifact and (over := meets(output.path)):
                place = (*at, "outputs", output.name)
                self.mistake(
                    "E212",
                    f"the path {output.path} of output `{output.name}` meets {over}, which is {staged[over]} of the step",
                    (*place, "path") if "path" in self.raw[step.name]["outputs"][output.name] else place,
                    help="write the output to a path of its own",
                )

    def _own(self, reader: Reader, name: str, kind: str, body: Mapping[str, Any]) -> dict[str, Tree]:
        at = self.at(name)
        match kind:
            case "command":
                command = body["command"]
                interpreter = isinstance(command[0], str) and _INTERPRETERS.fullmatch(command[0].rsplit("/", 1)[-1])
                for index, item in enumerate(command):
                    if (
                        interpreter
                        and index
                        and command[index - 1] in _CODE_FLAGS
                        and isinstance(item, str)
                        and "$(" in item.replace("$$(", "")
                    ):
                        self.mistake(
                            "E211", "an expression inside program text handed to an interpreter would be run as code",
                            (*at, "command", index), offset=item.find("$("), help="pass it as a further argument or by `env`",
                        )  # fmt: skip
                return {
                    "command": [reader.tree(item, (*at, "command", i), text=True) for i, item in enumerate(command)]
                }
            case "shell":
                if found := _OURS.search(body["script"]):
                    self.mistake(
                        "E210",
                        "expressions are not replaced in shell text",
                        (*at, "script"),
                        offset=found.start(),
                        help='give the value a name in `env` and write "$NAME"',
                    )
                for index, word in enumerate(body.get("shell", ())):
                    self._refuse_expression(word, "shell", (*at, "shell", index))
                return {"script": body["script"], "shell": list(body.get("shell", ["bash", "-euo", "pipefail"]))}
            case "python":
                for key in body.get("args", {}):
                    if not key.isidentifier():
                        self.mistake("E108", f"{key!r} cannot be the name of an argument", (*at, "args", key), key=True)
                return {"function": body["function"], "args": reader.tree(body.get("args", {}), (*at, "args"))}
            case "notebook":
                for key in body.get("parameters", {}):
                    if not key.isidentifier():
                        self.mistake(
                            "E108", f"{key!r} cannot be the name of a parameter", (*at, "parameters", key), key=True
                        )
                self._refuse_expression(body.get("kernel", ""), "kernel", (*at, "kernel"))
                parameters = reader.tree(body.get("parameters", {}), (*at, "parameters"))
                executed = expression.parse("$(outputs.notebook)")
                return {
                    "notebook": body["notebook"], "kernel": body.get("kernel", ""), "parameters": parameters, "executed": executed
                }  # fmt: skip
            case "pipeline":
                return {}
            case "approval":
                for index, approver in enumerate(body.get("approvers", ())):
                    self._refuse_expression(approver, "approvers", (*at, "approvers", index))
                return {
                    "message": reader.tree(body["message"], (*at, "message"), text=True),
                    "approvers": list(body.get("approvers", ())),
                    "on_timeout": body.get("on_timeout", "fail"),
                }
            case "callback":
                return {"message": reader.tree(body.get("message", ""), (*at, "message"), text=True)}
            case "register":
                return self._register(reader, body, at)
            case "condition":
                rules = body["if"] if isinstance(body["if"], list) else [body["if"]]
                places: list[Keys] = (
                    [(*at, "if", i) for i in range(len(rules))] if isinstance(body["if"], list) else [(*at, "if")]
                )
                return {
                    "if": [reader.boolean(rule, place) for rule, place in zip(rules, places, strict=True)],
                    "then": list(body.get("then", ())),
                    "else": list(body.get("else", ())),
                }
            case _:
                return {"message": reader.tree(body["message"], (*at, "message"), text=True)}

    def _refuse_expression(self, text: str, field: str, at: Keys) -> None:
        """Refuse an expression in a field that is taken as it is written."""
        if "$(" in text:
            self.mistake("E205", f"expressions are not allowed in `{field}`", at, offset=text.find("$("))

    def _given_outputs(self, name: str, body: Mapping[str, Any]) -> dict[str, Output]:
        """Return the outputs that a step has by its kind."""
        given = dict(_GIVES.get(body["kind"], {}))
        if body["kind"] == "notebook":
            stem = posixpath.splitext(posixpath.basename(body["notebook"]))[0]
            given["notebook"] = executed = Output("notebook", FILE, f"{stem}.executed.ipynb")
            for output in self.outputs[name].values():
                if output.is_artifact and overlapping(output.path, [executed.path]):
                    self.mistake(
                        "E212", f"the path {output.path} of output `{output.name}` meets {executed.path}, the executed notebook",
                        (*self.at(name), "outputs", output.name), key=True, help="write the output to a path of its own",
                    )  # fmt: skip
        for output in given.keys() & body.get("outputs", {}).keys():
            place: Keys = (*self.at(name), "outputs", output)
            self.mistake(
                "E106",
                f"{a_step(body['kind'])} has an output `{output}` already",
                place,
                key=True,
                help="choose another name",
            )
        if body["kind"] == "callback":
            for output, fields in body["outputs"].items():
                at: Keys = (*self.at(name), "outputs", output)
                if fields["type"] in ("file", "dir"):
                    self.mistake("E121", f"a callback brings values, not a {fields['type']}", (*at, "type"))
                for field in _FROM_A_FILE:
                    if field in fields:
                        self.mistake(
                            "E121", f"`{field}` does not fit a value that comes from outside", (*at, field), key=True
                        )
        return given

    def _register(self, reader: Reader, body: Mapping[str, Any], at: Keys) -> dict[str, Tree]:
        model = reader.tree(body["model"], (*at, "model"))
        found = reader.check(model.exact, (*at, "model")) if isinstance(model, Template) and model.exact else STRING
        if found is not None and found.name not in ("file", "dir"):
            self.mistake(
                "E203",
                f"a file or dir is needed here, not {found}",
                (*at, "model"),
                help="write $(steps.NAME.outputs.MODEL)",
            )
        if isinstance(model, Template) and any(ref.path[0] == "params" for ref in model.refs()):
            self.mistake("E203", "a model is the output of a step; this is a file of the project", (*at, "model"))
        metrics = {}
        for key, value in body.get("metrics", {}).items():
            metrics[key] = tree = reader.tree(value, (*at, "metrics", key))
            kind = (
                reader.check(tree.exact, (*at, "metrics", key)) if isinstance(tree, Template) and tree.exact else None
            )
            if (isinstance(tree, str) or kind is not None) and (kind is None or kind.name not in ("integer", "number")):
                shown = "a text" if kind is None else f"of type {kind}"
                self.mistake("E203", f"a metric is a number; this is {shown}", (*at, "metrics", key))
        status = reader.tree(body.get("status", "pending"), (*at, "status"), text=True)
        return {
            "model": model, "group": reader.tree(body["group"], (*at, "group"), text=True), "metrics": metrics, "status": status,
            "metadata": reader.tree(body.get("metadata", {}), (*at, "metadata"), text=True),
        }  # fmt: skip

    def _variable(self, reader: Reader, value: Any, at: Keys) -> Tree:
        """Read a value of `env`: the only place where a secret may stand, alone."""
        reader.secret_allowed = isinstance(value, str) and _SECRET.fullmatch(value.strip()) is not None
        tree = reader.tree(value, at, text=True)
        reader.secret_allowed = False
        return tree

    # where steps run, and what they are told in secret

    def _secret(self, name: str, body: Mapping[str, Any]) -> Secret:
        at: Keys = ("secrets", name)
        if ("env" in body) == ("file" in body):
            what = "both `env` and `file`" if "env" in body else "neither `env` nor `file`"
            self.mistake("E108", f"the secret `{name}` has {what}", at, key=True, help="say one place where it is")
        file = body.get("file", "")
        if file and not file.startswith("/"):
            try:
                file = self.files.locate(file, self.base)
            except ValueError as error:
                self.mistake("E108", str(error), (*at, "file"))
        return Secret(name, body.get("env", ""), file, body.get("version", ""))

    def _runtime(self, name: str, body: Mapping[str, Any]) -> Runtime:
        at: Keys = ("runtimes", name)
        kind = body["kind"]
        file = path = ""
        sources = [key for key in ("requirements", "lock", "path") if key in body]
        if kind == "venv" and len(sources) != 1:
            self.mistake(
                "E108", f"the runtime `{name}` has {'none' if not sources else 'more than one'} of `requirements`, `lock` and `path`",
                at, key=True, help="say what the environment is made of, or where it is",
            )  # fmt: skip
        for key in sources[:1]:
            try:
                found = self.files.locate(body[key], self.base)
            except ValueError as error:
                self.mistake("E108", str(error), (*at, key))
                continue
            if key != "path" and self.files.kind(found) != "file":
                self.mistake(
                    "E109",
                    f"there is no file {printable(body[key])}",
                    (*at, key),
                    help="the path is relative to this file",
                )
            if key == "path" and self.files.kind(found) != "dir":
                self.mistake(
                    "E109",
                    f"there is no folder {printable(body[key])}",
                    (*at, key),
                    help="make the environment there first",
                )
            file, path = ("", found) if key == "path" else (found, "")
        if path and "python" in body:
            self.mistake(
                "E121", "`python` says of what an environment is made; the one of `path` is there already", (*at, "python"), key=True,
                help="remove it",
            )  # fmt: skip
        image = body.get("image", "")
        if image and not _BY_DIGEST.search(image):
            what = (
                "a digest that is not sha256: and 64 hex digits"
                if "@" in image
                else "no digest, so it may be another one tomorrow"
            )
            self.mistake(
                "E217", f"the image {printable(image)} has {what}", (*at, "image"),
                help=f"write {printable(image.partition('@')[0])}@sha256:...; `docker image inspect --format '{{{{index .RepoDigests 0}}}}' IMAGE` prints it",
            )  # fmt: skip
        return Runtime(
            name, kind, file, body.get("python", ""), path, image, body.get("engine", ""), tuple(body.get("inherit_env", ())),
            tuple(body.get("preload", ())),
        )  # fmt: skip

    def _runtime_of(self, kind: str, name: str | None, at: Keys) -> Runtime | None:
        if name is None:
            return None
        if name not in self.runtimes:
            self.mistake("E202", f"no runtime `{name}`", at, help=suggest(name, self.runtimes, "runtimes"))
            return None
        found = self.runtimes[name]
        if found.kind == "container" and kind in ("python", "notebook"):
            self.mistake(
                "E107", f"a {kind} step cannot run in a container", at, help="call the program by a command step"
            )
        return found

    # fan-outs

    def _fan(self, name: str, body: Mapping[str, Any], at: Keys) -> Fan | None:
        foreach = body.get("foreach")
        if foreach is None:
            return None
        place: Keys = (*at, "foreach")
        self._check_names(foreach["over"], (*place, "over"))
        reader = Reader(self, name, {k: v for k, v in body.items() if k != "foreach"})
        types: dict[str, Type] = {}
        over: dict[str, Tree] = {}
        for axis, values in foreach["over"].items():
            over[axis], types[axis] = self._axis(reader, axis, values, (*place, "over", axis))
            if any(ref.path[0] == "inputs" for ref in refs_of(over[axis])):
                self.mistake(
                    "E205", f"the axis `{axis}` may not be made from inputs", (*place, "over", axis), help="read what the input reads"
                )  # fmt: skip
        self.axes[name], self._axis_reader = types, reader
        include = self._parts(foreach.get("include", ()), types, (*place, "include"), whole=True)
        exclude = self._parts(foreach.get("exclude", ()), types, (*place, "exclude"), whole=False)
        best = foreach.get("best")
        if best and (
            best["output"] not in self.outputs[name] or self.outputs[name][best["output"]].type not in (INTEGER, NUMBER)
        ):
            numbers = [o for o, b in self.outputs[name].items() if b.type in (INTEGER, NUMBER)]
            self.mistake(
                "E202", f"step `{name}` declares no number output `{best['output']}`", (*place, "best", "output"),
                help=suggest(best["output"], numbers, "number outputs"),
            )  # fmt: skip
        fan = Fan(
            name, over, include, exclude, foreach.get("max_parallel"), foreach.get("fail_fast", True), foreach.get("max_items", 1000),
            (best["output"], best["mode"]) if best else None, frozenset(reader.steps),
        )  # fmt: skip
        if is_literal(fan):
            self._check_items(name, fan, place)
        return fan

    def _axis(self, reader: Reader, axis: str, values: Any, at: Keys) -> tuple[Tree, Type]:
        if isinstance(values, list):
            if not values:
                self.mistake(
                    "E209",
                    f"the axis `{axis}` is empty: there would be no item",
                    at,
                    help="give it values, or remove it",
                )
            for index, value in enumerate(values):
                if value is None:
                    self.mistake(
                        "E108", f"a value of the axis `{axis}` is empty", (*at, index), help='write "null" for the text'
                    )
            tree = [reader.tree(value, (*at, index)) for index, value in enumerate(values)]
            found = (
                [self._value_type(reader, value, (*at, index)) for index, value in enumerate(tree)]
                if holds_expression(tree)
                else None
            )
            kinds = expression.type_of(values).item if found is None else expression.common([f for f in found if f])
            return tree, kinds or ANY
        template = reader.template(values, at)
        if template is None or template.exact is None:
            if template is not None:
                self.mistake(
                    "E204",
                    "a list, or one expression that gives one, is needed here",
                    at,
                    help=f"write [{printable(values)[:40]}]",
                )
            return [], ANY
        tree = reader.tree(values, at)
        listed = reader.check(template.exact, at)
        if listed is not None and listed.name != "list":
            self.mistake("E203", f"an axis needs a list, not {listed}", at, offset=template.exact.at)
        element = listed.item if listed is not None and listed.item else ANY
        return tree, replace(element, optional=False)

    @staticmethod
    def _value_type(reader: Reader, value: Tree, at: Keys) -> Type | None:
        """Return the type of one value of an axis that is written out."""
        if isinstance(value, list):
            inner = [_Compiler._value_type(reader, v, (*at, index)) for index, v in enumerate(value)]
            return Type("list", expression.common([t for t in inner if t]))
        if not isinstance(value, Template):
            return expression.type_of(value)
        return STRING if value.exact is None else reader.check(value.exact, at)

    def _parts(
        self, written: Iterable[Mapping[str, Any]], types: Mapping[str, Type], at: Keys, whole: bool
    ) -> tuple[Mapping[str, Any], ...]:
        """Check `include` or `exclude`: literal values of axes that are there."""
        for index, part in enumerate(written):
            for axis, value in part.items():
                if axis not in types:
                    self.mistake(
                        "E202",
                        f"`foreach` has no axis `{axis}`",
                        (*at, index, axis),
                        key=True,
                        help=suggest(axis, types, "axes"),
                    )
                elif isinstance(value, str) and "$(" in value.replace("$$(", ""):
                    self.mistake("E205", "expressions are not allowed here", (*at, index, axis))
                elif not expression.fits(expression.type_of(value), types[axis]):
                    found = expression.type_of(value)
                    self.mistake(
                        "E203", f"the axis `{axis}` has values of type {types[axis]}, not {found}", (*at, index, axis)
                    )
            if whole and part.keys() <= types.keys() and (missing := [axis for axis in types if axis not in part]):
                self.mistake(
                    "E104",
                    f"an item of `include` needs a value for every axis; {', '.join(missing)} is missing",
                    (*at, index),
                )
        return tuple(written)

    def _check_items(self, name: str, fan: Fan, at: Keys) -> None:
        """Refuse literal axes that give no item, too many, or one twice."""
        if any(not values for values in fan.over.values()) or any(set(fan.over) - set(part) for part in fan.include):
            return
        if any(set(part) - set(fan.over) for part in fan.exclude):
            return
        sizes = 1
        for axis, values in fan.over.items():
            seen: set[str] = set()
            for index, value in enumerate(values):
                if (shown := label(value)) in seen:
                    self.mistake(
                        "E209",
                        f"the axis `{axis}` has {shown} twice",
                        (*at, "over", axis, index),
                        help="items are named by their values",
                    )
                seen.add(shown)
            sizes *= len(values)
        try:
            found = combinations(name, fan, fan.over)
        except AxisError as error:
            self.mistake(
                "E209",
                str(error),
                (*at, "over"),
                key=True,
                help="give fewer values, or raise `max_items` if so many are meant",
            )
            return
        if not found:
            self.mistake("E209", "`exclude` leaves no item", (*at, "exclude"), key=True)
        names = Counter(name_of(name, values) for values in found)
        for index, part in enumerate(fan.include):
            if names[name_of(name, {axis: part[axis] for axis in fan.over})] > 1:
                self.mistake("E209", "this item is there already", (*at, "include", index))
        for index, out in enumerate(fan.exclude):
            full = (
                [dict(zip(fan.over, v, strict=True)) for v in product(*fan.over.values())] if sizes <= 100_000 else [{}]
            )
            if not any(all(a in item and same(item[a], v) for a, v in out.items()) for item in full) and full != [{}]:
                self.warn("W405", "this excludes nothing: no item has these values", (*at, "exclude", index))

    # inner pipelines

    def _read_inner(self) -> None:
        """Compile the pipelines that steps stand for; their mistakes are told in their own files."""
        failed = False
        for name, body in self.raw.items():
            if body["kind"] != "pipeline":
                continue
            at: Keys = (*self.at(name), "pipeline")
            try:
                location = self.files.locate(body["pipeline"], self.base)
                if self.files.kind(location) != "file":
                    raise LookupError
            except (LookupError, ValueError) as error:
                if "$(" in body["pipeline"]:
                    self.mistake(
                        "E205", "expressions are not allowed here: which steps there are is known before a run", at
                    )
                    failed = True
                    continue
                what = str(error) or f"there is no file {printable(body['pipeline'])}"
                self.mistake("E109" if not str(error) else "E108", what, at, help="the path is relative to this file")
                failed = True
                continue
            if len(self.stack) >= _MAX_PIPELINES:
                text = f"pipelines are nested deeper than {_MAX_PIPELINES} levels"
                self.mistake("E208", text, at, help="put the steps of some of them into one")
                failed = True
                continue
            if location in self.stack:
                circle = " -> ".join([*self.stack[self.stack.index(location) :], location])
                self.mistake(
                    "E208", f"pipelines contain each other: {circle}", at, help="a pipeline cannot stand in itself"
                )
                failed = True
                continue
            shown = posixpath.normpath(posixpath.join(posixpath.dirname(self.document.path), body["pipeline"]))
            try:
                document = documents.parse(self.files.read(location), shown)
                check_document(document, "Pipeline")
                inner = compile_pipeline(document, self.files, location, self.stack)
            except Invalid as error:
                self.mistakes += error.diagnostics
                failed = True
                continue
            self.warnings += inner.warnings
            self.inner[name] = inner
            self._check_inner(name, body, inner, at)
            self.outputs[name] = {
                o: Output(o, replace(t, optional=False), optional=t.optional) for o, t in inner.output_types.items()
            }
        if failed:
            self._refuse()

    def _check_inner(self, name: str, body: Mapping[str, Any], inner: Pipeline, at: Keys) -> None:
        """Refuse what an inner pipeline has and a step cannot stand for."""
        if inner.finals and "foreach" in body:
            self.mistake("E216", f"{inner.path} has `finally`, which cannot be repeated by `foreach`", at)
        for field in ("timeout", "max_parallel"):
            if getattr(inner, field) is not None:
                self.warn("W406", f"`{field}` of {inner.path} counts only when it runs by itself", at)
        if self.secrets.keys() & inner.secrets.keys():
            for secret in sorted(self.secrets.keys() & inner.secrets.keys()):
                if self.secrets[secret] != inner.secrets[secret]:
                    self.mistake(
                        "E106", f"the secret `{secret}` is another one in {inner.path}", at, help="rename one of them"
                    )
        for output, template in inner.outputs.items():
            for ref in template.refs():
                if ref.path[0] == "params" and inner.params[ref.path[1]].type.name in ("file", "dir"):
                    self.mistake(
                        "E205", f"output `{output}` of {inner.path} is a file of the project, which no step of it made", at,
                        help=f"read the param `{ref.path[1]}` where the output is read",
                    )  # fmt: skip

    def _given(self, name: str, inner: Pipeline) -> tuple[dict[str, Bound], dict[str, Edges]]:
        """Return what each param of an inner pipeline is bound to, and what that refers to here."""
        body, at = self.raw[name], (*self.at(name), "params")
        written = body.get("params", {})
        for param in written:
            if param not in inner.params:
                self.mistake(
                    "E122",
                    f"{inner.path} has no parameter `{param}`",
                    (*at, param),
                    key=True,
                    help=suggest(param, inner.params, "params"),
                )
        given: dict[str, Bound] = {}
        edges: dict[str, Edges] = {}
        sizing = _sizing(inner)
        for param, declared in inner.params.items():
            reader = Reader(self, name, body)
            place: Keys = (*at, param)
            value: Tree = None
            if param in written:
                known = len(self.mistakes)
                value = reader.tree(written[param], place)
                if len(self.mistakes) == known:
                    value = self._binding(reader, declared, value, place, self.base)
            elif declared.required:
                self.mistake(
                    "E104", f"the parameter `{param}` of {inner.path} has no default and is not set", self.at(name), key=True,
                    help=f"add `params: {{{param}: ...}}`",
                )  # fmt: skip
            else:
                value = self._binding(reader, declared, declared.default, (*self.at(name), "pipeline"), inner.base)
            if reader.steps and param in sizing:
                self.mistake(
                    "E205", f"`{param}` of {inner.path} is read by `resources` or `timeout`, which are known before any step ends",
                    place, help="give it a value of params or `each`",
                )  # fmt: skip
            given[param] = Bound(param, value, declared)
            files = (value,) if isinstance(value, ProjectPath) else ()
            edges[param] = Edges(frozenset(reader.steps), frozenset(reader.unguarded), frozenset(reader.params), files)
        return given, edges

    def _binding(self, reader: Reader, param: Param, value: Tree, at: Keys, base: str) -> Tree:
        """Check what a param of an inner pipeline is bound to, as far as it is known before a run."""
        if isinstance(value, Template):
            found = reader.check(value.exact, at) if value.exact is not None else STRING
            if found is not None and not expression.fits(found, param.type):
                self.mistake("E203", f"the parameter `{param.name}` is of type {param.type}, not {found}", at)
            return value
        if isinstance(value, list) and param.type.name == "list" and any(isinstance(v, Template) for v in value):
            for index, item in enumerate(value):
                element = replace(param, name=f"{param.name}[{index}]", type=param.type.item or ANY, rules={})
                if isinstance(item, Template) or param.type.item:
                    self._binding(reader, element, item, (*at, index), base)
            return value
        if wrong := check_value(param, value):
            self.mistake("E120", f"params.{param.name}: {wrong}", at)
            return value
        if param.type.name not in ("file", "dir"):
            return widen(param, value)
        try:
            location = self.files.locate(value, base)
        except ValueError as error:
            self.mistake("E108", f"params.{param.name}: {error}", at)
            return value
        if self.files.kind(location) != param.type.name:
            self.mistake("E109", f"params.{param.name}: there is no {param.type.name} {value}", at)
        return ProjectPath(location, param.type.name)

    def _with_bindings(self, step: Step) -> Step:
        """Let a step that stands for a pipeline come after all that its params refer to, so that rings are found."""
        if step.name not in self.bindings:
            return step
        edges = self.bindings[step.name][1].values()
        return replace(step, reads=step.reads.union(*(e.reads for e in edges)))

    def _put_in(self, steps: Mapping[str, Step]) -> dict[str, Step]:
        """Put the steps of inner pipelines in the place of those that stand for them."""
        out: dict[str, Step] = {}
        for name, step in steps.items():
            if name not in self.inner:
                out[name] = step
                continue
            given, edges = self.bindings[name]
            made = embed(self.inner[name], step, given, edges)
            if given and max(map(levels_of, made.values())) > _MAX_LEVELS:
                self.mistake(
                    "E203", f"what the parameters of {self.inner[name].path} are computed from is nested too deeply or too large", self.at(name),
                    key=True, help="pass plain values through inner pipelines, and compute with them in one place",
                )  # fmt: skip
            if step.foreach is None:
                out |= made
            else:
                out[name] = replace(
                    step, foreach=replace(step.foreach, body=made),
                    reads=frozenset(r for s in made.values() for r in s.reads if r not in made) | step.reads,
                    unguarded=frozenset(r for s in made.values() for r in s.unguarded if r not in made) | step.unguarded,
                    params=frozenset(p for s in made.values() for p in s.params) | step.params, outputs=self.outputs[name],
                )  # fmt: skip
        return out

    def input(self, reader: Reader, value: Any, at: Keys) -> Tree:
        if isinstance(value, str) and "$" not in value:
            try:
                location = self.files.locate(value, self.base) if value else ""
            except ValueError as error:
                if "/" in value or "\0" in value or value in ("..", "~") or isinstance(error, LeadsOut):
                    self.mistake("E108", str(error), at)
                return value
            kind = self.files.kind(location) if location else None
            if kind:
                return ProjectPath(location, kind)
            if "/" in value or re.search(r"\.[A-Za-z][A-Za-z0-9]*$", value):
                what = (
                    "a URL is fetched in a step with `cache: {expire_after: ...}`"
                    if "://" in value
                    else "a text with `/` or an ending is the path of a project file; give other texts by params"
                )
                self.mistake("E109", f"there is no file {value}", at, help=what)
                return value
        return reader.tree(value, at)

    def _cache(self, reader: Reader, name: str, cache: Any, at: Keys, body: Mapping[str, Any]) -> CachePolicy:
        if body["kind"] in WAITS:
            return CachePolicy(False)
        # The steps of an inner pipeline say for themselves whether they act.
        acts = not self.outputs.get(name) and body["kind"] != "pipeline"
        written = "cache" in body
        if isinstance(cache, bool):
            if cache and acts and written:
                self.mistake(
                    "E121",
                    "a step without outputs acts on the world and is never cached",
                    at,
                    help="declare an output, or remove `cache`",
                )
            return CachePolicy(cache and not acts)
        enabled = cache.get("enabled", True)
        if written and cache.get("enabled") is True and acts:
            self.mistake(
                "E121",
                "a step without outputs acts on the world and is never cached",
                at,
                help="declare an output, or remove `cache`",
            )
        for index, ignored in enumerate(cache.get("ignore", ())):
            known = {
                *body.get("inputs", {}),
                *body.get("env", {}),
                *self.document.value.get("defaults", {}).get("env", {}),
            }
            if ignored not in known and written:
                self.mistake(
                    "E201",
                    f"`{ignored}` is neither an input nor an environment variable of this step",
                    (*at, "ignore", index),
                    help=suggest(ignored, known, "inputs or env"),
                )
        unsealed = body.get("workdir") == "project" and not written
        key = tuple(reader.tree(value, (*at, "key", i)) for i, value in enumerate(cache.get("key", ())))
        expire = to_seconds(cache["expire_after"]) if "expire_after" in cache else None
        return CachePolicy(enabled and not acts and not unsealed, expire, key, frozenset(cache.get("ignore", ())))

    def _when(self, reader: Reader, body: Mapping[str, Any], at: Keys) -> Template | bool:
        when = body.get("when", True)
        found = reader.boolean(when, (*at, "when"))
        return found if isinstance(found, bool | Template) else True

    def _by_params(
        self, reader: Reader, value: Any, at: Keys, what: str, convert: Callable[[Any], Any], types: tuple[str, ...]
    ) -> Tree:
        """A number, size or duration, or one expression over params that gives it."""
        if not isinstance(value, str):
            return value
        if "$(" not in value:
            try:
                return convert(value)
            except ValueError as error:
                self.mistake("E108", str(error), at)
                return None
        template = reader.template(value, at)
        if template is None:
            return None
        for ref in template.refs():
            if ref.path[0] != "params":
                self.mistake("E205", "only params may be used here", at, offset=ref.at)
                return None
        reader.note(template, at)
        reader.computed = True  # the field may refuse the value
        node = template.exact
        if node is None:
            self.mistake("E204", "one expression is needed here, with nothing around it", at)
            return None
        found = reader.check(node, at)
        if found and found.name not in types:
            self.mistake("E203", f"{what} is needed here, not {found}", at, offset=node.at)
        return template

    def _needs(self, name: str, body: Mapping[str, Any], reader: Reader, at: Keys) -> tuple[str, ...]:
        needs = []
        for index, other in enumerate(body.get("needs", ())):
            place: Keys = (*at, "needs", index)
            if not self.visible(other, name):
                self._unknown_step(other, place)
                continue
            if other in reader.steps:
                self.warn("W401", f"`needs: {other}` says nothing new: `{name}` already reads from it", place)
            needs.append(other)
        return tuple(dict.fromkeys(needs))

    def _code(self, patterns: Any, at: Keys, own: Mapping[str, Tree]) -> tuple[str, ...]:
        found: set[str] = set()
        for index, pattern in enumerate([patterns] if isinstance(patterns, str) else patterns):
            place: Keys = at if isinstance(patterns, str) else (*at, index)
            if "$(" in pattern:
                self.mistake("E205", "expressions are not allowed in `code`", place)
                continue
            try:
                if pattern not in self.expanded:
                    self.expanded[pattern] = self.files.expand(pattern, self.base)
            except ValueError as error:
                self.mistake("E108", str(error), place)
                continue
            if not self.expanded[pattern]:
                self.mistake(
                    "E109",
                    f"`code` names no file: {pattern}",
                    place,
                    help="paths are relative to the pipeline's folder",
                )
            for location in self.secret_files.keys() & self.expanded[pattern]:
                self.mistake(
                    "E108", f"`code` holds the file of the secret `{self.secret_files[location]}`: {relative(location, self.base)}",
                    place, help="code is copied for the step and kept in the store: keep secrets outside of it, or name less",
                )  # fmt: skip
            found.update(self.expanded[pattern])
        if isinstance(own.get("notebook"), str):
            found.update(self._notebook(own["notebook"], (*at[:-1], "notebook")))
        if isinstance(own.get("function"), str):
            found.update(self._module(own["function"], (*at[:-1], "function")))
        return tuple(sorted(found))

    def _notebook(self, path: str, at: Keys) -> Iterator[str]:
        if "$(" in path:
            self.mistake("E205", "expressions are not allowed in `notebook`", at)
            return
        try:
            location = self.files.locate(path, self.base)
        except ValueError as error:
            self.mistake("E108", str(error), at)
            return
        if self.files.kind(location) != "file":
            self.mistake(
                "E109", f"there is no file {printable(path)}", at, help="the path is relative to the pipeline's folder"
            )
        elif not path.endswith(".ipynb"):
            self.mistake("E108", f"{printable(path)} is no notebook", at, help="a notebook's name ends with .ipynb")
        else:
            self._check_notebook(path, location, at)
            yield location

    def _check_notebook(self, path: str, location: str, at: Keys) -> None:
        """Refuse parameters that no cell takes: papermill would put them where nothing reads them."""
        wanted = self.raw[str(at[1])].get("parameters", {})
        try:
            takes = notebooks.parameters(self.files.read(location))
        except ValueError as error:
            self.mistake("E218", f"{printable(path)} is no notebook: {error}", at)
            return
        if wanted and takes is None:
            self.mistake(
                "E218", f"{printable(path)} has no cell with the tag `parameters`", (*at[:-1], "parameters"), key=True,
                help="give the cell that assigns the defaults this tag, or remove `parameters`",
            )  # fmt: skip
        for name in wanted if takes else ():
            if name not in (takes or ()) and name.isidentifier():
                self.mistake(
                    "E218", f"the cell `parameters` of {printable(path)} assigns no `{name}`", (*at[:-1], "parameters", name), key=True,
                    help=suggest(name, takes or (), "parameters"),
                )  # fmt: skip

    def _module(self, function: str, at: Keys) -> Iterator[str]:
        """Yield the module's file and the `__init__.py` above it, where the module is the project's."""
        parts = function.split(":")[0].split(".")
        for depth in range(1, len(parts)):
            above = "/".join([*parts[:depth], "__init__.py"])
            location = self.files.locate(above, self.base)
            if self.files.kind(location) == "file":
                yield location
        for candidate in ("/".join(parts) + ".py", "/".join([*parts, "__init__.py"])):
            location = self.files.locate(candidate, self.base)
            if self.files.kind(location) == "file":
                yield location
                return
        folder = self.files.locate(parts[0], self.base)
        if self.files.kind(folder) == "dir":
            self.mistake(
                "E109",
                f"there is no module {'.'.join(parts)} in the project",
                at,
                help=f"expected {'/'.join(parts)}.py beside the pipeline",
            )

    def _check_argv(self, step: Step, at: Keys) -> None:
        named = {tree.location for tree in step.inputs.values() if isinstance(tree, ProjectPath)}
        for index, item in enumerate(step.own["command"]):
            if (
                not isinstance(item, str)
                or not item
                or item.startswith("-")
                or len(item) > 255
                or step.workdir == "project"
                or self.files.kind(posixpath.normpath(posixpath.join(self.base, item))) is None
            ):
                continue
            try:
                location = self.files.locate(item, self.base)
            except ValueError:
                continue
            kind = self.files.kind(location)
            if location in step.code or location in named or kind is None or (kind == "dir" and "/" not in item):
                continue  # a bare word that is also a folder is taken for a word
            if kind == "dir" and any(place.startswith(f"{location}/") for place in (*step.code, *named)):
                continue
            self.mistake(
                "E213",
                f"{item} is a project {'file' if kind == 'file' else 'folder'} in neither `code` nor `inputs`; the step would not see it",
                (*at, "command", index),
                help=f"add `code: [{item}]` to the step",
            )

    # the rest

    def _pipeline_output(self, name: str, value: Any) -> Template:
        reader = Reader(self, "", {"trigger": "all_done"})
        tree = reader.tree(value, ("outputs", name), optional=True)
        template = tree if isinstance(tree, Template) else Template((tree,))
        inner = Reader(self, "", {"trigger": "none_failed"})  # inside another pipeline only what ends well is read
        known = len(self.mistakes)
        found = (
            inner.check(template.exact, ("outputs", name)) if template.exact is not None else expression.type_of(tree)
        )
        del self.mistakes[known:]  # told already
        self.output_types[name] = STRING if isinstance(tree, Template) and template.exact is None else found or ANY
        return template

    def _check_cycles(self, steps: Mapping[str, Step]) -> None:
        known = {n: [b for b in s.before if b in steps] for n, s in steps.items()}
        above: set[str] = set()
        for name, before in known.items():
            if not above.issuperset(before):
                break
            above.add(name)
        else:
            return  # each step stands below all that it waits for
        from graphlib import CycleError, TopologicalSorter

        try:
            TopologicalSorter(known).prepare()
        except CycleError:
            cycle = shortest_cycle(known)
            shown = cycle if len(cycle) <= 12 else [*cycle[:6], "...", *cycle[-5:]]
            self.mistake("E215", f"steps wait for each other: {' -> '.join(shown)}", self.at(cycle[0]), key=True)


_FROM_A_FILE = ("path", "from", "pointer")  # fields of an output that a step writes
# Outputs of kinds that declare none.
_GIVES: Mapping[str, Mapping[str, Output]] = {
    "approval": {"by": Output("by", STRING), "comment": Output("comment", STRING)},
    "register": {"version": Output("version", INTEGER)},
}


def shortest_cycle(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a shortest cycle of a graph that has one, in the direction of the arrows, its first step repeated."""
    into = {name: dict.fromkeys(priors) for name, priors in before.items()}
    out: dict[str, dict[str, None]] = {name: {} for name in into}
    for name, priors in into.items():
        for prior in priors:
            out[prior][name] = None
    # What no cycle goes through is dropped, after a search also its start: what is left grows small soon.
    _drop([name for name in into if not into[name] or not out[name]], into, out)
    best: list[str] = []
    for _ in range(200):
        if not into or len(best) == 2:
            break
        start = next(iter(into))
        best = _cycle_through(start, out, len(best) or len(out) + 2) or best
        _drop([start], into, out)
    return best


def _drop(names: list[str], into: dict[str, dict[str, None]], out: dict[str, dict[str, None]]) -> None:
    """Take nodes out of a graph, and then all that nothing leads to or that leads to nothing."""
    while names:
        name = names.pop()
        if name not in into:
            continue
        for near, far in ((out, into), (into, out)):
            for other in near.pop(name):
                if other in far:
                    far[other].pop(name, None)
                    if not far[other]:
                        names.append(other)


def _cycle_through(start: str, out: Mapping[str, Iterable[str]], below: int) -> list[str]:
    """Return a shortest cycle through a node that is written with fewer than `below` names, or nothing."""
    came: dict[str, str] = {}
    level = [start]
    length = 1
    while level and start not in came and length + 1 < below:
        following = []
        for name in level:
            for target in out[name]:
                if target not in came:
                    came[target] = name
                    following.append(target)
        level = following
        length += 1
    if start not in came:
        return []
    path = [start, came[start]]
    while path[-1] != start:
        path.append(came[path[-1]])
    return path[::-1]


_STEP_REF = re.compile(r"\bsteps\.([A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*)")


def _named_steps(value: Any) -> Iterator[str]:
    """Yield the names after `steps.` anywhere in a raw value."""
    match value:
        case str():
            if "$(" in value:
                yield from _STEP_REF.findall(value)
        case Mapping():
            for inner in value.values():
                yield from _named_steps(inner)
        case list():
            for inner in value:
                yield from _named_steps(inner)


def _sizing(inner: Pipeline) -> set[str]:
    """Return the params of an inner pipeline that say how long or with how much a step of it runs."""
    trees = (tree for step in inner.every_step() for tree in (step.timeout, step.cpu, step.memory))
    refs = (ref for tree in trees if isinstance(tree, Template) for ref in tree.refs())
    return {ref.path[1] for ref in refs if ref.path[0] == "params"}


def _retry(body: Mapping[str, Any] | None) -> Retry:
    if not body:
        return Retry()
    default = Retry()
    return Retry(
        max_attempts=body["max_attempts"],
        errors=frozenset(body.get("errors", default.errors)),
        exit_codes=frozenset(body.get("exit_codes", ())),
        interval=to_seconds(body.get("interval", "5s")),
        backoff=body.get("backoff", default.backoff),
        max_interval=to_seconds(body.get("max_interval", "5m")),
        jitter=body.get("jitter", default.jitter),
        expire_after=to_seconds(body["expire_after"]) if "expire_after" in body else None,
    )
