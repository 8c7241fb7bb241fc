"""Document -> Pipeline, RunRequest: frozen typed values, every name and type in them checked.

The references found in a step's expressions are its edges. All mistakes of a document are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from . import expression
from .document import Document, Keys, kind_of
from .errors import Diagnostic, Invalid, nearest, printable, suggest
from .expression import BOOLEAN, INTEGER, STRING, ExpressionError, Ref, Template, Type
from .language import RESERVED
from .values import DURATION_HELP, Duration, digest_of, to_bytes, to_seconds

Tree = Any  # a literal, a Template, a ProjectPath, or a list or mapping of these


class Files(Protocol):
    """What the compiler may ask of the project's files. A location is a path from the project root, or absolute."""

    def locate(self, path: str, base: str) -> str:
        """Return the location of `path` as written in a file of folder `base`; raise ValueError if not allowed."""

    def kind(self, location: str) -> str | None:
        """Return file, dir or None."""

    def expand(self, pattern: str, base: str) -> list[str]:
        """Return the locations of the files that a `code` entry names, sorted; raise ValueError if not allowed."""


@dataclass(frozen=True)
class ProjectPath:
    """A file or directory that is named by its place."""

    location: str
    kind: str


@dataclass(frozen=True)
class Param:
    name: str
    type: Type
    default: Any = None
    required: bool = True
    description: str = ""
    rules: Mapping[str, Any] = field(default_factory=dict)
    deprecated: bool = False


@dataclass(frozen=True)
class Output:
    name: str
    type: Type
    path: str = ""  # of a file or dir, relative to the output directory
    source: str = ""  # the file output that holds the value (`from`); empty = the values file
    pointer: str = ""
    metric: bool = False
    optional: bool = False

    @property
    def is_artifact(self) -> bool:
        return self.type.name in ("file", "dir")


@dataclass(frozen=True)
class Retry:
    max_attempts: int = 1
    errors: frozenset[str] = frozenset({"exit", "signal", "oom", "lost"})
    exit_codes: frozenset[int] = frozenset()
    interval: float = 5.0
    backoff: float = 2.0
    max_interval: float = 300.0
    jitter: float = 0.1
    expire_after: float | None = None


@dataclass(frozen=True)
class CachePolicy:
    enabled: bool = True
    expire_after: float | None = None
    key: tuple[Tree, ...] = ()
    ignore: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Branch:
    """The place of a step behind a condition."""

    condition: str
    outcome: bool


@dataclass(frozen=True)
class Step:
    name: str
    kind: str
    own: Mapping[str, Tree] = field(default_factory=dict)  # the kind's own fields
    description: str = ""
    tags: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    when: Template | bool = True
    trigger: str = "all_succeeded"
    on_failure: str = "fail"
    timeout: Tree = None
    grace_period: float = 10.0
    retry: Retry = Retry()
    inputs: Mapping[str, Tree] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    code: tuple[str, ...] = ()  # locations of files
    env: Mapping[str, Tree] = field(default_factory=dict)
    cpu: Tree = 1
    memory: Tree = None
    cache: CachePolicy = CachePolicy()
    workdir: str = "attempt"
    success_codes: tuple[int, ...] = (0,)
    branch: Branch | None = None
    reads: frozenset[str] = frozenset()  # steps whose outputs are read
    unguarded: frozenset[str] = frozenset()  # those of `reads` that must have succeeded
    params: frozenset[str] = frozenset()  # parameters in its fingerprint
    gate_params: frozenset[str] = frozenset()  # parameters that only decide whether or how long it runs

    @property
    def before(self) -> frozenset[str]:
        """Its direct predecessors: data, order and gate."""
        return self.reads | frozenset(self.needs) | (frozenset({self.branch.condition}) if self.branch else frozenset())

    @property
    def has_process(self) -> bool:
        return self.kind not in ("condition", "fail")


@dataclass(frozen=True)
class Pipeline:
    name: str
    path: str  # location of its file
    base: str  # location of its folder
    digest: str  # of its definition
    params: Mapping[str, Param]
    steps: Mapping[str, Step]
    finals: Mapping[str, Step] = field(default_factory=dict)  # of `finally`: after all others, whatever their end
    outputs: Mapping[str, Template] = field(default_factory=dict)
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    failure_policy: str = "fail_fast"
    timeout: float | None = None
    max_parallel: int | None = None
    warnings: tuple[Diagnostic, ...] = ()

    def step(self, name: str) -> Step:
        """Return a step or one of `finally`; their names are distinct."""
        return self.steps[name] if name in self.steps else self.finals[name]


@dataclass(frozen=True)
class Accepted:
    step: str
    reason: str
    cause: str


@dataclass(frozen=True)
class Expect:
    status: str | None = None
    run: frozenset[str] | None = None
    steps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Latest:
    """What the newest usable run must be to become the reference run."""

    status: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)  # param -> value, or `same`
    max_age: float | None = None  # seconds


@dataclass(frozen=True)
class RunRequest:
    """What the user asks of one run: which pipeline, with what, how much of it, against which earlier run."""

    pipeline: str  # location of the pipeline's file
    path: str = ""  # of the request itself; empty for `apply PIPELINE.yaml` and `retry`
    base: str = ""  # folder that paths in `params` start from
    name: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)  # as written
    inherit: str = "reference"
    reset: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None  # None means every step
    exclude: tuple[str, ...] = ()
    islands: bool = False
    reference: str | None = None  # None: `latest` if the selection leaves something out
    latest: Latest | None = None
    mode: str | None = None  # None: full with `select`, else incremental
    force: tuple[str, ...] = ()
    assume: Mapping[str, bool] = field(default_factory=dict)
    accept: tuple[Accepted, ...] = ()
    expect: Expect | None = None
    failure_policy: str | None = None
    timeout: float | None = None
    workers: int | None = None
    cpu: float | None = None
    memory: int | None = None
    group: str = ""
    conflict: str = "queue"

    @property
    def trial(self) -> bool:
        """A run that `latest` never chooses."""
        return bool(self.assume) or (self.expect is not None and self.expect.status not in (None, "succeeded"))


# --- params -----------------------------------------------------------------------------------------------------

_RULES = {
    "minimum": ("integer", "number"), "maximum": ("integer", "number"),
    "exclusiveMinimum": ("integer", "number"), "exclusiveMaximum": ("integer", "number"),
    "minLength": ("string", "file", "dir"), "maxLength": ("string", "file", "dir"),
    "pattern": ("string", "file", "dir"), "items": ("list",), "minItems": ("list",), "maxItems": ("list",),
}  # fmt: skip
_ARTICLE = {"string": "a text", "integer": "an integer", "number": "a number", "boolean": "true or false", "duration": "a duration", "file": "a path", "dir": "a path", "list": "a list", "object": "a mapping"}  # fmt: skip


def check_value(param: Param, value: Any) -> str | None:
    """Return what is wrong with `value` for `param`, or None. Values are never coerced."""
    wrong = _check_type(param.type, value)
    if wrong:
        return wrong
    rules = param.rules
    if "enum" in rules and not any(
        value == option and isinstance(value, bool) == isinstance(option, bool) for option in rules["enum"]
    ):
        return f"{value!r} is none of: {', '.join(map(str, rules['enum']))}"
    bounds: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minimum", lambda bound: value >= bound, "at least"),
        ("maximum", lambda bound: value <= bound, "at most"),
        ("exclusiveMinimum", lambda bound: value > bound, "greater than"),
        ("exclusiveMaximum", lambda bound: value < bound, "less than"),
    )
    for rule, holds, word in bounds:
        if rule in rules and not holds(rules[rule]):
            return f"{value} must be {word} {rules[rule]}"
    lengths: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        ("minLength", lambda bound: len(value) >= bound, "at least {} characters"),
        ("maxLength", lambda bound: len(value) <= bound, "at most {} characters"),
        ("minItems", lambda bound: len(value) >= bound, "at least {} elements"),
        ("maxItems", lambda bound: len(value) <= bound, "at most {} elements"),
    )
    for rule, holds, word in lengths:
        if rule in rules and not holds(rules[rule]):
            return f"it must have {word.format(rules[rule])}, not {len(value)}"
    if "pattern" in rules and not re.fullmatch(rules["pattern"], value):
        return f"{value!r} does not match the pattern {rules['pattern']}"
    return None


def _check_type(type: Type, value: Any) -> str | None:
    expected = _ARTICLE[type.name]
    match type.name, value:
        case "string" | "file" | "dir", str():
            return (
                "the text holds a NUL character"
                if "\0" in value
                else None
                if value or type.name == "string"
                else "the path is empty"
            )
        case "duration", str():
            try:
                to_seconds(value)
            except ValueError as error:
                return f"{error}; {DURATION_HELP}"
            return None
        case "integer", int() if not isinstance(value, bool):
            return None
        case "number", int() | float() if not isinstance(value, bool):
            return None
        case "boolean", bool():
            return None
        case "list", list():
            for index, item in enumerate(value):
                if type.item and (wrong := _check_type(type.item, item)):
                    return f"element {index}: {wrong}"
            return None
        case "object", dict():
            return None
    if isinstance(value, str) and type.name in ("integer", "number", "boolean"):
        quoted = re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?|true|false", value)
        return f'expected {expected}, got the text "{value}"' + ("; remove the quotes" if quoted else "")
    if type.name == "duration" and isinstance(value, int | float) and not isinstance(value, bool):
        return f"expected {expected}, got {kind_of(value)}; write its unit: {value}s"
    if type.name in ("string", "file", "dir", "duration") and not isinstance(value, list | dict):
        return f"expected {expected}, got {kind_of(value) if value is not None else 'nothing'}; put it in quotes"
    return f"expected {expected}, got {kind_of(value) if value is not None else 'nothing'}"


def widen(param: Param, value: Any) -> Any:
    """Return a checked value in the form that expressions work on."""
    return Duration(value) if param.type.name == "duration" else value


def parse_value(param: Param, text: str) -> Any:
    """Return the value of `-p name=text` by the declared type; raises ValueError."""
    from .document import resolve

    match param.type.name:
        case "integer" | "number" | "boolean":
            value = resolve(text)
            if isinstance(value, str) or value is None:
                raise ValueError(f"expected {_ARTICLE[param.type.name]}, got {text!r}")
            return value
        case "list" | "object":
            import json

            try:
                return json.loads(text)
            except ValueError:
                raise ValueError(f"expected {_ARTICLE[param.type.name]} as JSON, got {text!r}") from None
        case _:
            return text


# --- compiling --------------------------------------------------------------------------------------------------

_INTERPRETERS = re.compile(r"(ba|da|z|k|fi)?sh|python[0-9.]*|perl|ruby|node|Rscript")
_CODE_FLAGS = {"-c", "-e", "--eval", "-lc", "-ec"}
_OURS = re.compile(r"\$\((params|steps|inputs|outputs|each|run|secrets)\.")
_RUN_FIELDS = ("id", "name", "pipeline", "status")
LATER_ROOTS = {"secrets", "each"}


def compile_pipeline(document: Document, files: Files, path: str) -> Pipeline:
    """Return the Pipeline of a document that fits its schema; raises Invalid with every mistake."""
    return _Compiler(document, files, path).compile()


class _Compiler:
    """Collects the mistakes of one document on the way to its Pipeline."""

    def __init__(self, document: Document, files: Files, path: str) -> None:
        self.document = document
        self.files = files
        self.path = path
        self.base = str(PurePosixPath(path).parent)
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

    def warn(self, code: str, text: str, at: Keys, help: str = "") -> None:
        self.warnings.append(self.document.diagnostic(code, text, at, help=help))

    def compile(self) -> Pipeline:
        value = self.document.value
        self._find_finals(value)
        for section in ("params", "steps", "finally", "outputs"):
            self._check_names(value.get(section, {}), (section,))
        for name, body in value.get("params", {}).items():
            self.params[name] = self._param(name, body)
        for name, body in self.raw.items():
            self._check_names(body.get("inputs", {}), (*self.at(name), "inputs"))
            self._check_names(body.get("outputs", {}), (*self.at(name), "outputs"))
            self.outputs[name] = {o: self._output(name, o, f) for o, f in body.get("outputs", {}).items()}
        self._find_branches()
        self._find_maybe()
        steps = {name: self._step(name, body) for name, body in self.raw.items()}
        outputs = {name: self._pipeline_output(name, text) for name, text in value.get("outputs", {}).items()}
        self._check_cycles(steps)
        if self.mistakes:
            raise Invalid(sorted(dict.fromkeys(self.mistakes), key=lambda d: (d.line, d.column)))
        return Pipeline(
            name=value["name"],
            path=self.path,
            base=self.base,
            digest=digest_of({k: v for k, v in value.items() if not k.startswith("x-")}),
            params=self.params,
            steps={n: s for n, s in steps.items() if n not in self.finals},
            finals={n: s for n, s in steps.items() if n in self.finals},
            outputs=outputs,
            description=value.get("description", ""),
            labels=value.get("labels", {}),
            failure_policy=value.get("failure_policy", "fail_fast"),
            timeout=to_seconds(value["timeout"]) if "timeout" in value else None,
            max_parallel=value.get("max_parallel"),
            warnings=tuple(self.warnings),
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
                self.mistake("E107", f"a {body['kind']} step decides nothing in `finally`", (*place, "kind"))
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
            if rule in _RULES and kind not in _RULES[rule]:
                self.mistake(
                    "E121",
                    f"`{rule}` does not fit a parameter of type {kind}",
                    (*at, rule),
                    key=True,
                    help=f"it is for: {', '.join(_RULES[rule])}",
                )
            elif rule in _RULES or rule == "enum":
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
            if wrong := _check_type(type, option):
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
        at = (*at, "path") if "path" in self.raw[step]["outputs"][output.name] else at
        path = PurePosixPath(output.path)
        if (
            path.is_absolute()
            or ".." in path.parts
            or output.path[:1] in ("~", "$")
            or not path.parts
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
        if path.parts[0] == ".inputs":
            self.mistake("E212", f"`{output.path}` lies where inputs are staged", at)
        for other, body in self.raw[step]["outputs"].items():
            if other == output.name or body.get("type") not in ("file", "dir"):
                continue
            their = PurePosixPath(body.get("path", other))
            if (
                (path == their or their in path.parents)
                and list(self.raw[step]["outputs"]).index(other) < list(self.raw[step]["outputs"]).index(output.name)
            ) or (their != path and their in path.parents):
                self.mistake(
                    "E212", f"outputs `{other}` and `{output.name}` have equal or nested paths: {their} and {path}", at
                )

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
            if n in self.branches or b.get("when", True) is not True or b.get("on_failure") == "continue"
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
        process = kind not in ("condition", "fail")
        defaults = self.document.value.get("defaults", {})

        def given(key: str, fallback: Any = None) -> tuple[Any, Keys]:
            if key in body:
                return body[key], (*at, key)
            if key in defaults and (process or key not in ("cache", "env", "resources", "timeout", "retry")):
                return defaults[key], ("defaults", key)
            return fallback, (*at, key)

        reader = _Reader(self, name, body)
        own = self._own(reader, name, kind, body)
        env: dict[str, Tree] = {}
        for source, place in (
            (defaults.get("env", {}) if process else {}, ("defaults", "env")),
            (body.get("env", {}), (*at, "env")),
        ):
            for key, value in source.items():
                if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                    self.mistake("E108", f"{key!r} is not the name of an environment variable", (*place, key), key=True)
                if place[0] == "defaults" and key in body.get("env", {}):
                    continue
                env[key] = reader.tree(value, (*place, key), text=True)
        inputs = {
            key: self._input(reader, value, (*at, "inputs", key)) for key, value in body.get("inputs", {}).items()
        }
        cache, cache_at = given("cache", {})
        policy = self._cache(reader, cache, cache_at, body)
        resources, resources_at = given("resources", {})
        params = frozenset(reader.params)
        when = self._when(reader, body, at)
        timeout, timeout_at = given("timeout")
        timeout = self._by_params(reader, timeout, timeout_at, "a duration", to_seconds, ("duration", "string"))
        cpu = self._by_params(
            reader,
            resources.get("cpu", 1),
            (*resources_at, "cpu"),
            "a number of processors",
            float,
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
            workdir=body.get("workdir", "attempt"), success_codes=tuple(body.get("success_codes", (0,))),
            branch=self.branches.get(name), reads=frozenset(reader.steps), unguarded=frozenset(reader.unguarded),
            params=params, gate_params=frozenset(reader.params) - params,
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
        return step

    def _check_staged(self, step: Step, at: Keys) -> None:
        """An output must not lie where code or a project file is put: the step would write over it."""
        staged = {relative(location, self.base): "code" for location in step.code}
        for name, tree in step.inputs.items():
            if isinstance(tree, ProjectPath) and not tree.location.startswith("/"):
                staged[relative(tree.location, self.base)] = f"input `{name}`"
        for output in step.outputs.values():
            if output.is_artifact and (over := overlapping(output.path, staged)):
                place = (*at, "outputs", output.name)
                self.mistake(
                    "E212",
                    f"the path {output.path} of output `{output.name}` meets {over}, which is {staged[over]} of the step",
                    (*place, "path") if "path" in self.raw[step.name]["outputs"][output.name] else place,
                    help="write the output to a path of its own",
                )

    def _own(self, reader: _Reader, name: str, kind: str, body: Mapping[str, Any]) -> dict[str, Tree]:
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
                return {"script": body["script"], "shell": list(body.get("shell", ["bash", "-euo", "pipefail"]))}
            case "python":
                for key in body.get("args", {}):
                    if not key.isidentifier():
                        self.mistake("E108", f"{key!r} cannot be the name of an argument", (*at, "args", key), key=True)
                return {"function": body["function"], "args": reader.tree(body.get("args", {}), (*at, "args"))}
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

    def _input(self, reader: _Reader, value: Any, at: Keys) -> Tree:
        if isinstance(value, str) and "$" not in value:
            try:
                location = self.files.locate(value, self.base) if value else ""
            except ValueError as error:
                if "/" in value or value in ("..", "~"):
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

    def _cache(self, reader: _Reader, cache: Any, at: Keys, body: Mapping[str, Any]) -> CachePolicy:
        acts = not body.get("outputs")
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
        for index, name in enumerate(cache.get("ignore", ())):
            known = {
                *body.get("inputs", {}),
                *body.get("env", {}),
                *self.document.value.get("defaults", {}).get("env", {}),
            }
            if name not in known and written:
                self.mistake(
                    "E201",
                    f"`{name}` is neither an input nor an environment variable of this step",
                    (*at, "ignore", index),
                    help=suggest(name, known, "inputs or env"),
                )
        unsealed = body.get("workdir") == "project" and not written
        key = tuple(reader.tree(value, (*at, "key", i)) for i, value in enumerate(cache.get("key", ())))
        expire = to_seconds(cache["expire_after"]) if "expire_after" in cache else None
        return CachePolicy(enabled and not acts and not unsealed, expire, key, frozenset(cache.get("ignore", ())))

    def _when(self, reader: _Reader, body: Mapping[str, Any], at: Keys) -> Template | bool:
        when = body.get("when", True)
        found = reader.boolean(when, (*at, "when"))
        return found if isinstance(found, bool | Template) else True

    def _by_params(
        self, reader: _Reader, value: Any, at: Keys, what: str, convert: Callable[[Any], Any], types: tuple[str, ...]
    ) -> Tree:
        """A number, size or duration, or one expression over params that gives it."""
        if not isinstance(value, str):
            return value
        if "$(" not in value:
            try:
                return convert(value)
            except ValueError:
                self.mistake("E108", f"{value!r} is not {what}", at)
                return None
        template = reader.template(value, at)
        if template is None:
            return None
        for ref in template.refs():
            if ref.path[0] != "params":
                self.mistake("E205", "only params may be used here", at, offset=ref.at)
                return None
        node = template.exact
        if node is None:
            self.mistake("E204", "one expression is needed here, with nothing around it", at)
            return None
        found = reader.check(node, at)
        if found and found.name not in types:
            self.mistake("E203", f"{what} is needed here, not {found}", at, offset=node.at)
        return template

    def _needs(self, name: str, body: Mapping[str, Any], reader: _Reader, at: Keys) -> tuple[str, ...]:
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
            found.update(self.expanded[pattern])
        if isinstance(own.get("function"), str):
            found.update(self._module(own["function"], (*at[:-1], "function")))
        return tuple(sorted(found))

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
            ):
                continue
            try:
                location = self.files.locate(item, self.base)
            except ValueError:
                continue
            if location in step.code or location in named or self.files.kind(location) != "file":
                continue
            self.mistake(
                "E213",
                f"{item} is a project file in neither `code` nor `inputs`; the step would not see it",
                (*at, "command", index),
                help=f"add `code: [{item}]` to the step",
            )

    # the rest

    def _pipeline_output(self, name: str, value: Any) -> Template:
        reader = _Reader(self, "", {"trigger": "all_done"})
        tree = reader.tree(value, ("outputs", name), optional=True)
        return tree if isinstance(tree, Template) else Template((tree,))

    def _check_cycles(self, steps: Mapping[str, Step]) -> None:
        from graphlib import CycleError, TopologicalSorter

        known = {n: [b for b in s.before if b in steps] for n, s in steps.items()}
        try:
            TopologicalSorter(known).prepare()
        except CycleError:
            cycle = shortest_cycle(known)
            shown = cycle if len(cycle) <= 12 else [*cycle[:6], "...", *cycle[-5:]]
            self.mistake("E215", f"steps wait for each other: {' -> '.join(shown)}", self.at(cycle[0]), key=True)


def shortest_cycle(before: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a shortest cycle of a graph that has one, in the direction of the arrows, its first step repeated."""
    alive = {n: set(b) for n, b in before.items()}
    # Steps that nothing cyclic stands behind are peeled off, so that the search below starts on a cycle or near it.
    after: dict[str, list[str]] = {n: [] for n in alive}
    for name, priors in alive.items():
        for prior in priors:
            after[prior].append(name)
    for edges in (after, {n: list(b) for n, b in alive.items()}):
        count = {n: sum(1 for e in edges[n] if e in alive) for n in alive}
        todo = [n for n, c in count.items() if c == 0]
        reverse: dict[str, list[str]] = {n: [] for n in alive}
        for name in alive:
            for target in edges[name]:
                if target in alive:
                    reverse[target].append(name)
        while todo:
            gone = todo.pop()
            alive.pop(gone, None)
            for name in reverse[gone]:
                count[name] -= 1
                if count[name] == 0 and name in alive:
                    todo.append(name)
    best: list[str] = []
    for start in list(alive)[:200]:
        came: dict[str, str] = {}
        queue = [start]
        while queue and start not in came:
            following = []
            for name in queue:
                for target in after[name]:
                    if target in alive and target not in came:
                        came[target] = name
                        following.append(target)
            queue = following
        if start in came:
            path = [start]
            while path[-1] != start or len(path) == 1:
                path.append(came[path[-1]])
            if not best or len(path) < len(best):
                best = path[::-1]
            if len(best) == 2:
                break
    return best


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


def relative(location: str, base: str) -> str:
    """Return a location of the project as seen from the folder `base` of it."""
    here = [p for p in base.split("/") if p not in ("", ".")]
    there = location.split("/")
    common = 0
    while common < min(len(here), len(there) - 1) and here[common] == there[common]:
        common += 1
    return "/".join([".."] * (len(here) - common) + there[common:])


def overlapping(path: str, staged: Iterable[str]) -> str:
    """Return which staged path equals, contains or lies in `path`; both are relative to the working directory."""
    own = PurePosixPath(path)
    for other in staged:
        their = PurePosixPath(other)
        if own == their or own in their.parents or their in own.parents:
            return other
    return ""


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


class _Reader:
    """Reads the scalars of one step: parses them, checks their types, notes what they refer to."""

    def __init__(self, compiler: _Compiler, step: str, body: Mapping[str, Any]) -> None:
        self.compiler = compiler
        self.step = step
        self.body = body
        self.steps: set[str] = set()
        self.unguarded: set[str] = set()
        self.params: set[str] = set()
        self.guardless: list[tuple[Ref, Keys]] = []  # data references outside coalesce
        self.place: Keys = ()

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
        self._note(template, at)
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
        self._note(template, at)
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
            code, text, help = "E111", "YAML split this expression at the comma; put it in quotes", ""
        self.compiler.mistake(code, text, at, offset=error.offset, help=help)

    def _cut_by_yaml(self, at: Keys, value: str) -> bool:
        """Whether an unclosed scalar stands in a flow list and is followed there by a comma."""
        line, _ = self.compiler.document.place(at)
        source = self.compiler.document.source(line)
        return f"{value}," in source.replace(" ,", ",")

    def _note(self, template: Template, at: Keys) -> None:
        guardless = {id(r) for part in template.parts if not isinstance(part, str) for r in expression.unguarded(part)}
        for ref in template.refs():
            if ref.path[0] == "params" and len(ref.path) > 1:
                self.params.add(ref.path[1])
            if ref.path[0] == "steps" and len(ref.path) > 2 and ref.path[1] in self.compiler.raw:
                self.steps.add(ref.path[1])
                if id(ref) in guardless and ref.path[2] == "outputs":
                    self.unguarded.add(ref.path[1])
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
            case (root, *_) if root in LATER_ROOTS:
                raise ExpressionError("E112", f"`{root}.` is not supported yet", ref.at)
            case (root,) if root not in ("params", "steps", "inputs", "outputs", "run"):
                close = nearest(root, self.compiler.params)
                help = (
                    f"did you mean `params.{root}`?"
                    if root in self.compiler.params
                    else close.replace("`", "`params.", 1)
                    if close
                    else "names start with params., steps., inputs., outputs. or run."
                )
                raise ExpressionError("E202", f"no name `{root}`", ref.at, help)
        if ref.path[0] not in ("params", "steps", "inputs", "outputs", "run"):
            raise ExpressionError(
                "E202",
                f"no name `{ref.path[0]}`",
                ref.at,
                suggest(ref.path[0], ["params", "steps", "inputs", "outputs", "run"], "roots"),
            )
        forms = {
            "params": "params.NAME",
            "inputs": "inputs.NAME",
            "outputs": "outputs.NAME",
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
        kind = self.compiler.raw[step]["kind"]
        match rest:
            case ("outputs", name):
                outputs = self.compiler.outputs[step]
                if name not in outputs:
                    raise ExpressionError(
                        "E202",
                        f"step `{step}` declares no output `{name}`",
                        ref.ats[3],
                        suggest(name, outputs, "outputs"),
                    )
                output = outputs[name]
                return Type(output.type.name, output.type.item, output.optional or self._may_lack(step))
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
            case ("best" | "count", *_):
                raise ExpressionError("E112", f"`{rest[0]}` is not supported yet", ref.ats[2])
        options = ["outputs.NAME", "status"] + (["taken"] if kind == "condition" else [])
        raise ExpressionError(
            "E202",
            f"`{ref}` names nothing",
            ref.ats[min(2, len(ref.ats) - 1)],
            f"write steps.{step}.{options[-1] if kind == 'condition' else options[0]}",
        )

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
            tree = self.compiler._input(self, value, (*self.compiler.at(self.step), "inputs", name))
            return Type(tree.kind) if isinstance(tree, ProjectPath) else STRING
        return INTEGER if isinstance(value, int) and not isinstance(value, bool) else expression.type_of(value)


# --- requests ---------------------------------------------------------------------------------------------------


def compile_request(document: Document, files: Files, path: str) -> RunRequest:
    """Return the RunRequest of a document that fits its schema; raises Invalid with every mistake."""
    value = document.value
    base = str(PurePosixPath(path).parent)
    mistakes: list[Diagnostic] = []
    pipeline = ""
    try:
        pipeline = files.locate(value["pipeline"], base)
        if "://" in value["pipeline"] or files.kind(pipeline) != "file":
            mistakes.append(
                document.diagnostic(
                    "E109",
                    f"there is no file {printable(value['pipeline'])}",
                    ("pipeline",),
                    help="the path is relative to this file",
                )
            )
    except ValueError as error:
        mistakes.append(document.diagnostic("E108", str(error), ("pipeline",)))
    mistakes += [
        document.diagnostic("E205", "expressions are not allowed in a run request", at, offset=offset)
        for at, offset in _expressions({k: v for k, v in value.items() if k not in ("description", "accept")})
    ]
    if mistakes:
        raise Invalid(mistakes)
    concurrency = value.get("concurrency", {})
    expect = value.get("expect")
    return RunRequest(
        pipeline=pipeline,
        path=path,
        base=base,
        name=value.get("name", ""),
        description=value.get("description", ""),
        labels=value.get("labels", {}),
        params=value.get("params", {}),
        inherit=value.get("inherit", "reference"),
        reset=tuple(value.get("reset", ())),
        select=tuple(_selector(s) for s in value["select"]) if "select" in value else None,
        exclude=tuple(_selector(s) for s in value.get("exclude", ())),
        islands=value.get("islands") == "allow",
        reference="latest" if isinstance(value.get("reference"), Mapping) else value.get("reference"),
        latest=_latest(value["reference"]["latest"]) if isinstance(value.get("reference"), Mapping) else None,
        mode=value.get("mode"),
        force=tuple(_selector(s) for s in value.get("force", ())),
        assume=value.get("assume", {}),
        accept=tuple(Accepted(a["step"], a["reason"], a["cause"]) for a in value.get("accept", ())),
        expect=Expect(
            expect.get("status"), frozenset(expect["run"]) if "run" in expect else None, expect.get("steps", {})
        )
        if expect is not None
        else None,
        failure_policy=value.get("failure_policy"),
        timeout=to_seconds(value["timeout"]) if "timeout" in value else None,
        workers=concurrency.get("workers"),
        cpu=concurrency.get("cpu"),
        memory=to_bytes(concurrency["memory"]) if "memory" in concurrency else None,
        group=concurrency.get("group", ""),
        conflict=concurrency.get("conflict", "queue"),
    )


def _latest(value: Mapping[str, Any]) -> Latest:
    status = value.get("status", ())
    return Latest(
        frozenset([status] if isinstance(status, str) else status),
        value.get("labels", {}),
        {name.removeprefix("params."): wanted for name, wanted in value.get("where", {}).items()},
        to_seconds(value["max_age"]) if "max_age" in value else None,
    )


def _selector(item: str | Mapping[str, str]) -> str:
    return item if isinstance(item, str) else "".join(f"{key}:{value}" for key, value in item.items())


def _expressions(value: Any, at: Keys = ()) -> Iterator[tuple[Keys, int]]:
    match value:
        case str():
            if "$(" in value.replace("$$(", "  "):
                yield at, value.find("$(")
        case Mapping():
            for key, inner in value.items():
                yield from _expressions(inner, (*at, key))
        case list():
            for index, inner in enumerate(value):
                yield from _expressions(inner, (*at, index))


def resolve_params(
    pipeline: Pipeline,
    request: RunRequest,
    document: Document | None,
    files: Files,
    inherited: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return each parameter's value and its source (request, reference, default).

    A file or dir is given as its location. `inherited` are the reference run's values, already located.
    Raises Invalid with every value that does not fit.
    """
    mistakes: list[Diagnostic] = []

    def mistake(code: str, text: str, at: Keys, *, key: bool = False, help: str = "") -> None:
        if document is not None:
            mistakes.append(document.diagnostic(code, text, at, key=key, help=help))
        else:
            mistakes.append(Diagnostic("command line", 0, 0, code, text, help))

    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in request.params:
        if name not in pipeline.params:
            mistake(
                "E122",
                f"no parameter `{name}`",
                ("params", name),
                key=True,
                help=suggest(name, pipeline.params, "params"),
            )
    for index, name in enumerate(request.reset):
        if name not in pipeline.params:
            mistake("E122", f"no parameter `{name}`", ("reset", index), help=suggest(name, pipeline.params, "params"))
        elif name in request.params:
            mistake("E108", f"`{name}` is both set and reset", ("reset", index))
    for name, param in pipeline.params.items():
        at: Keys = ("params", name)
        base = pipeline.base
        if name in request.params:
            value, source, base = request.params[name], "request", request.base
        elif (
            inherited is not None and name in inherited and request.inherit == "reference" and name not in request.reset
        ):
            value, source = inherited[name], "reference"
        elif not param.required:
            value, source = param.default, "default"
        else:
            mistake(
                "E104",
                f"the parameter `{name}` has no default and is not set",
                ("params",),
                key=True,
                help=f"add `params: {{{name}: ...}}`",
            )
            continue
        wrong = check_value(param, value)
        if wrong:
            if source == "reference":
                mistake(
                    "E123",
                    f"params.{name} has another type or rule than in the reference run: {wrong}",
                    ("params",),
                    key=True,
                    help=f"set it, or add `reset: [{name}]`",
                )
            else:
                mistake("E120", f"params.{name}: {wrong}", at)
            continue
        if param.type.name in ("file", "dir"):
            try:
                if source != "reference":
                    value = files.locate(value, base)
                found = files.kind(value)
            except ValueError as error:
                mistake("E108", f"params.{name}: {error}", at)
                continue
            if found != param.type.name:
                what = (
                    f"there is no {'file' if param.type.name == 'file' else 'directory'} {value}"
                    if found is None
                    else f"{value} is a {'directory' if found == 'dir' else 'file'}"
                )
                mistake("E109", f"params.{name}: {what}", at, help="the path is relative to the file that gives it")
                continue
        values[name], sources[name] = widen(param, value), source
    if mistakes:
        raise Invalid(mistakes)
    return values, sources
