"""The table of fields of both documents -> their JSON Schemas, and what a misfit is called.

Everything that says which fields exist is here: the schemas for editors, the check of a loaded document, the
words of its messages. Names, types of expressions, edges and files belong to `pipeline.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from .document import Document, Keys, kind_of
from .errors import Diagnostic, Invalid, nearest, suggest

API = "runner/v1"
NAME = r"^[A-Za-z][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*$"
RESERVED = {"and", "or", "not", "in", "all", "roots", "leaves", "true", "false", "null"}
SIZE = r"^\d+(\.\d+)?(B|K|M|G|T|Ki|Mi|Gi|Ti)$"
DURATION = r"^(\d+(\.\d+)?(ms|s|m|h|d|w)|P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$"
DURATION_OR_EXPRESSION = rf"{DURATION}|\$\("
PARAM_TYPES = ["string", "integer", "number", "boolean", "duration", "file", "dir", "list", "object"]
OUTPUT_TYPES = ["file", "dir", "string", "integer", "number", "boolean", "list", "object"]
SCALAR = ["string", "number", "boolean"]

# Fields and kinds of the language that this version refuses by name.
LATER = {
    "pipeline": {"secrets", "runtimes"},
    "defaults": {"runtime"},
    "step": {"foreach", "runtime", "isolation", "network"},
}
KINDS_LATER = {"notebook", "approval", "callback", "pipeline", "register"}

Schema = dict[str, Any]


def text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def patterned(description: str, pattern: str, must: str, **more: Any) -> Schema:
    """A text of one form; `must` is what messages and editors say instead of the pattern."""
    return {"type": "string", "description": description, "pattern": pattern, "patternErrorMessage": must, **more}


def name(description: str) -> Schema:
    return patterned(
        description, NAME, "a name starts with a letter and holds letters, digits, `_` and single `-`", maxLength=64
    )


def names(description: str) -> Schema:
    return {"type": "array", "description": description, "items": name("A step of this pipeline.")}


def mapping(description: str, values: Schema, *, named: bool = True, **more: Any) -> Schema:
    keys = {"propertyNames": name("A name.")} if named else {}
    return {"type": "object", "description": description, "additionalProperties": values, **keys, **more}


def closed(title: str, description: str, fields: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    out: Schema = {"type": "object", "title": title, "description": description, "additionalProperties": False}
    if required:
        out["required"] = list(required)
    return {**out, "properties": dict(fields)}


def duration(description: str, **more: Any) -> Schema:
    return patterned(description, DURATION, "a duration is 500ms, 30s, 10m, 2h, 7d, 1w or ISO 8601 (PT30M)", **more)


def size(description: str) -> Schema:
    return patterned(description, SIZE, "a size is a number with B, K, M, G, T, Ki, Mi, Gi or Ti: 512M, 1.5Gi")


def selectors(description: str) -> Schema:
    return {
        "type": "array",
        "description": description,
        "items": {
            "type": ["string", "object"],
            "description": "A step, a glob, tag:x, kind:x, status:failed, changed:code, param:x, a .. b, x+, +x, joined by and, or, not.",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"type": "string"},
        },
    }


def whole(description: str, minimum: int = 1, **more: Any) -> Schema:
    return {"type": "integer", "description": description, "minimum": minimum, **more}


LABELS = mapping("Free words to find it by, shown by `runner runs`.", {"type": "string"}, named=False)
DESCRIPTION = text("What it is for, shown by `runner show`.")
LATEST = closed(
    "latest",
    "What the newest usable run must also be.",
    {
        "status": {
            "type": ["string", "array"],
            "description": "How it ended: succeeded, failed, stopped or interrupted, or a list of them.",
            "pattern": "^(succeeded|failed|stopped|interrupted)$",
            "patternErrorMessage": "a run ends succeeded, failed, stopped or interrupted",
            "minItems": 1,
            "items": {
                "type": "string",
                "enum": ["succeeded", "failed", "stopped", "interrupted"],
                "description": "How it ended.",
            },
        },
        "labels": LABELS,
        "where": {
            "type": "object",
            "description": "params.NAME: same (as this request would have it) or a value.",
            "propertyNames": patterned("A parameter.", r"^params\.[A-Za-z][A-Za-z0-9_-]*$", "write params.NAME"),
            "additionalProperties": {"description": "same, or the value it must have had."},
        },
        "max_age": duration("How long ago it may have started."),
    },
)
FAILURE_POLICY: Schema = {
    "type": "string",
    "enum": ["fail_fast", "finish_independent"],
    "default": "fail_fast",
    "description": "After a failure: start nothing more, or go on with steps that do not depend on it.",
}

PARAM = closed(
    "param",
    "One typed parameter of the run.",
    {
        "type": {"type": "string", "enum": PARAM_TYPES, "description": "The type; values are never coerced."},
        "default": {"description": "Its value if the request gives none; without it the parameter is required."},
        "description": DESCRIPTION,
        "enum": {"type": "array", "minItems": 1, "description": "The only values it may have."},
        "minimum": {"type": "number", "description": "The least number allowed."},
        "maximum": {"type": "number", "description": "The greatest number allowed."},
        "exclusiveMinimum": {"type": "number", "description": "Every value is greater than this."},
        "exclusiveMaximum": {"type": "number", "description": "Every value is less than this."},
        "minLength": whole("The least number of characters.", 0),
        "maxLength": whole("The greatest number of characters.", 0),
        "pattern": text("A regular expression that the whole text matches."),
        "items": {"type": "string", "enum": OUTPUT_TYPES, "description": "The type of a list's elements."},
        "minItems": whole("The least number of elements.", 0),
        "maxItems": whole("The greatest number of elements.", 0),
        "examples": {"type": "array", "description": "Values to show."},
        "deprecated": {"type": "boolean", "description": "Setting it prints a warning."},
    },
    ("type",),
)
OUTPUT = closed(
    "output",
    "One declared result of a step.",
    {
        "type": {
            "type": "string",
            "enum": OUTPUT_TYPES,
            "description": "file and dir are artifacts; the rest are values.",
        },
        "path": text("File name in the output directory; the output's name if not given."),
        "from": name("The file output of this step that holds the value, as JSON."),
        "pointer": patterned("JSON Pointer to the value.", "^(/.*)?$", "a JSON Pointer is empty or starts with `/`"),
        "items": {"type": "string", "enum": OUTPUT_TYPES, "description": "The type of a list's elements."},
        "metric": {"type": "boolean", "default": False, "description": "Keep the number with the run's metrics."},
        "optional": {"type": "boolean", "default": False, "description": "The step may leave it out."},
        "description": DESCRIPTION,
    },
    ("type",),
)
RETRY = closed(
    "retry",
    "When and how often a failed attempt is made again.",
    {
        "max_attempts": {**whole("How many attempts in all, the first included."), "maximum": 100},
        "errors": {
            "type": "array",
            "description": "Which failures are retried; exit, signal, oom and lost if not given.",
            "items": {"type": "string", "enum": ["exit", "timeout", "signal", "oom", "lost", "any"]},
        },
        "exit_codes": {
            "type": "array",
            "description": "Only these exit codes are retried.",
            "items": whole("A code.", 0),
        },
        "interval": duration("The wait before the second attempt.", default="5s"),
        "backoff": {"type": "number", "minimum": 1, "default": 2, "description": "The factor of each further wait."},
        "max_interval": duration("The longest wait.", default="5m"),
        "jitter": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "default": 0.1,
            "description": "Share of the wait left to chance.",
        },
        "expire_after": duration("No new attempt later than this after the first start."),
    },
    ("max_attempts",),
)
CACHE: Schema = {
    **closed(
        "cache",
        "Whether an earlier success with the same fingerprint may stand for this step.",
        {
            "enabled": {"type": "boolean", "default": True, "description": "Off: run whenever selected."},
            "expire_after": duration("A result older than this is not taken."),
            "key": {"type": "array", "description": "Further values in the fingerprint.", "items": {"type": SCALAR}},
            "ignore": {
                "type": "array",
                "description": "Names of inputs or env left out of the fingerprint.",
                "items": {"type": "string"},
            },
        },
    ),
    "type": ["boolean", "object"],
}
RESOURCES = closed(
    "resources",
    "What the step occupies while it runs; steps start while the totals allow.",
    {
        "cpu": {
            "type": ["number", "string"],
            "exclusiveMinimum": 0,
            "default": 1,
            "description": "Processors, or $(params.x).",
        },
        "memory": patterned(
            "Memory: 512M, 2Gi, or $(params.x).",
            rf"{SIZE}|^\$\(",
            "a size is a number with B, K, M, G, T, Ki, Mi, Gi or Ti",
        ),
    },
)
ENV = mapping("Environment variables of the step.", {"type": SCALAR}, named=False)

COMMON: dict[str, Schema] = {
    "description": DESCRIPTION,
    "tags": {"type": "array", "description": "Words for `tag:x` in a selection.", "items": name("A tag.")},
    "needs": names("Steps that come first although nothing of theirs is read."),
    "when": {
        "type": ["string", "boolean"],
        "default": True,
        "description": "One boolean expression; where it is false the step is skipped.",
    },
    "trigger": {
        "type": "string",
        "enum": ["all_succeeded", "none_failed", "all_done"],
        "default": "all_succeeded",
        "description": "Which ends of the steps before it let this one start.",
    },
    "on_failure": {
        "type": "string",
        "enum": ["fail", "continue"],
        "default": "fail",
        "description": "continue: the run may succeed all the same, and starts what does not need the step.",
    },
    "timeout": patterned(
        "The longest time of one attempt.",
        DURATION_OR_EXPRESSION,
        "a duration is 500ms, 30s, 10m, 2h, 7d, 1w or ISO 8601 (PT30M)",
    ),
    "grace_period": duration("Between TERM and KILL.", default="10s"),
    "retry": {"$ref": "#/$defs/retry", "description": "When and how often a failed attempt is made again."},
}
PROCESS: dict[str, Schema] = {
    "inputs": mapping(
        "Names for what comes in: a project file, a value, or an expression.", {"description": "A value."}
    ),
    "outputs": mapping("What the step leaves: files, directories and values.", {"$ref": "#/$defs/output"}),
    "code": {
        "type": ["array", "string"],
        "description": "Project files, folders or globs that the step runs or imports; they are in its fingerprint.",
        "items": {"type": "string"},
    },
    "env": {"$ref": "#/$defs/env", "description": "Environment variables of the step."},
    "resources": {"$ref": "#/$defs/resources", "description": "What the step occupies while it runs."},
    "cache": {"$ref": "#/$defs/cache", "description": "Whether an earlier equal success may stand for this step."},
    "workdir": {
        "type": "string",
        "enum": ["attempt", "project"],
        "default": "attempt",
        "description": "project: run in the pipeline's own folder, unsealed.",
    },
    "success_codes": {
        "type": "array",
        "minItems": 1,
        "description": "Exit codes that mean success.",
        "items": {**whole("A code.", 0), "maximum": 255},
    },
}
ARGS = mapping("Keyword arguments of the function.", {"description": "A value or an expression."}, named=False)

# kind -> (own fields, required ones, has a process, one line)
KINDS: dict[str, tuple[dict[str, Schema], tuple[str, ...], bool, str]] = {
    "command": (
        {
            "command": {
                "type": "array",
                "minItems": 1,
                "description": "argv; each element is one argument, no shell.",
                "items": {"type": SCALAR},
            }
        },
        ("command",),
        True,
        "Runs a program with arguments.",
    ),
    "shell": (
        {
            "script": text("The script; values come to it by `env`, never by interpolation."),
            "shell": {
                "type": "array",
                "minItems": 1,
                "description": "The interpreter and its flags.",
                "items": {"type": "string"},
            },
        },
        ("script",),
        True,
        "Runs a script with bash -euo pipefail.",
    ),
    "python": (
        {
            "function": patterned(
                "module:function.", r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", "write package.module:function"
            ),
            "args": ARGS,
        },
        ("function",),
        True,
        "Calls a Python function in a process of its own.",
    ),
    "condition": (
        {
            "if": {
                "type": ["string", "boolean", "array"],
                "description": "A boolean expression, or a list that must all hold.",
                "items": {"type": ["string", "boolean"]},
                "minItems": 1,
            },
            "then": names("Steps that run where it holds."),
            "else": names("Steps that run where it does not."),
        },
        ("if",),
        False,
        "Chooses a branch.",
    ),
    "fail": ({"message": text("What to say.")}, ("message",), False, "Ends the run as failed, with a message."),
}


def _step(kind: str) -> Schema:
    own, required, process, description = KINDS[kind]
    fields = {"kind": {"const": kind, "description": description}, **own, **COMMON, **(PROCESS if process else {})}
    if not process:
        fields = {k: v for k, v in fields.items() if k not in ("timeout", "grace_period", "retry")}
    return closed(f"{kind} step", description, fields, ("kind", *required))


_SNIPPETS = [
    {"label": "command step", "body": {"kind": "command", "command": ["${1:python}", "${2:steps/step.py}"], "code": ["${2:steps/step.py}"], "outputs": {"${3:result}": {"type": "file"}}}},
    {"label": "shell step", "body": {"kind": "shell", "script": "${1:echo hello > result}", "outputs": {"${2:result}": {"type": "file"}}}},
    {"label": "python step", "body": {"kind": "python", "function": "${1:steps.module}:${2:function}", "args": {"${3:name}": "${4:value}"}}},
    {"label": "condition step", "body": {"kind": "condition", "if": "\\$(${1:params.x} <= ${2:1})", "then": ["${3:step}"]}},
    {"label": "fail step", "body": {"kind": "fail", "message": "${1:what went wrong}"}},
]  # fmt: skip

_DEFAULTS_FIELDS: dict[str, Schema] = {
    "timeout": COMMON["timeout"],
    "retry": COMMON["retry"],
    "cache": PROCESS["cache"],
    "env": PROCESS["env"],
    "resources": PROCESS["resources"],
}


def pipeline_schema() -> Schema:
    """Return the JSON Schema (2020-12) of `kind: Pipeline`."""
    steps = mapping("The steps, by name.", {"$ref": "#/$defs/step"}, minProperties=1)
    body = closed(
        "Pipeline",
        "Steps, what they read and what they leave.",
        {
            "apiVersion": {"type": "string", "enum": [API], "description": "The version of the language."},
            "kind": {"type": "string", "enum": ["Pipeline"], "description": "This document is a pipeline."},
            "name": name("The pipeline's identity for its runs."),
            "description": DESCRIPTION,
            "labels": LABELS,
            "params": mapping("Typed parameters of a run.", {"$ref": "#/$defs/param"}),
            "defaults": closed("defaults", "Put under every step that lacks the field.", _DEFAULTS_FIELDS),
            "steps": steps,
            "finally": mapping("Steps after all others, whatever their end.", {"$ref": "#/$defs/step"}),
            "outputs": mapping("Results of the whole pipeline.", {"type": SCALAR, "description": "An expression."}),
            "failure_policy": FAILURE_POLICY,
            "timeout": duration("The longest time of a whole run."),
            "max_parallel": whole("How many steps run at once, at most."),
        },
        ("apiVersion", "kind", "name", "steps"),
    )
    step: Schema = {
        "type": "object",
        "title": "step",
        "description": "One step; its kind says which fields it has.",
        "required": ["kind"],
        "properties": {"kind": {"type": "string", "enum": list(KINDS), "description": "What the step is."}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": k}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/step_{k}"}}
            for k in KINDS
        ],
        "defaultSnippets": _SNIPPETS,
    }
    defs = {
        "param": PARAM,
        "output": OUTPUT,
        "retry": RETRY,
        "cache": CACHE,
        "resources": RESOURCES,
        "env": ENV,
        "step": step,
    }
    return _document("pipeline", body, {**defs, **{f"step_{k}": _step(k) for k in KINDS}})


def run_schema() -> Schema:
    """Return the JSON Schema (2020-12) of `kind: Run`."""
    body = closed(
        "Run",
        "A request: which pipeline, with what, how much of it, against which earlier run.",
        {
            "apiVersion": {"type": "string", "enum": [API], "description": "The version of the language."},
            "kind": {"type": "string", "enum": ["Run"], "description": "This document is a run request."},
            "name": text("Shown in listings."),
            "description": DESCRIPTION,
            "labels": LABELS,
            "pipeline": text("The pipeline's file, relative to this one."),
            "params": mapping(
                "Values for the pipeline's parameters.", {"description": "A value of the declared type."}
            ),
            "inherit": {
                "type": "string",
                "enum": ["reference", "defaults"],
                "default": "reference",
                "description": "Where parameters that are not set come from.",
            },
            "reset": {
                "type": "array",
                "items": name("A parameter."),
                "description": "Parameters to take from the pipeline's defaults.",
            },
            "select": {**selectors("The steps to run; all if not given."), "minItems": 1},
            "exclude": selectors("Steps taken out of the selection."),
            "islands": {
                "type": "string",
                "enum": ["deny", "allow"],
                "default": "deny",
                "description": "Whether the selection may be in pieces.",
            },
            "reference": {
                "type": ["string", "object"],
                "description": "latest, none, a run id, or {latest: {...}}: the finished run that supplies the rest.",
                "minLength": 1,
                "additionalProperties": False,
                "required": ["latest"],
                "properties": {"latest": LATEST},
            },
            "mode": {
                "type": "string",
                "enum": ["incremental", "full"],
                "description": "full: selected steps run. incremental: a stored equal success is reused.",
            },
            "force": selectors("Steps never taken from the cache."),
            "assume": mapping(
                "Outcomes of conditions that are not selected; makes the run a trial.", {"type": "boolean"}
            ),
            "accept": {
                "type": "array",
                "description": "Stale results to reuse knowingly.",
                "items": closed(
                    "accept",
                    "One step whose stale result is accepted.",
                    {
                        "step": name("The reused step."),
                        "reason": patterned("Why it is sound.", r"[^.\s]", 'write why it is sound, in place of "..."'),
                        "cause": patterned(
                            "The cause printed by the plan.",
                            "^c[0-9a-f]{8,64}$",
                            "a cause is `c` and at least 8 hex digits",
                        ),
                    },
                    ("step", "reason", "cause"),
                ),
            },
            "expect": closed(
                "expect",
                "What must come out; the exit code is 0 exactly when it does.",
                {
                    "status": {
                        "type": "string",
                        "enum": ["succeeded", "failed", "stopped"],
                        "description": "How the run ends.",
                    },
                    "run": names("Exactly the steps with decision run."),
                    "steps": mapping(
                        "How single steps end.",
                        {
                            "type": "string",
                            "enum": [
                                "succeeded",
                                "cached",
                                "reused",
                                "skipped",
                                "failed",
                                "upstream_failed",
                                "stopped",
                                "not_run",
                                "not_selected",
                            ],
                        },
                    ),
                },
            ),
            "failure_policy": FAILURE_POLICY,
            "timeout": duration("The longest time of the run."),
            "concurrency": closed(
                "concurrency",
                "How much runs at once.",
                {
                    "workers": whole("Worker processes; as many as there are processors if not given."),
                    "cpu": {"type": "number", "exclusiveMinimum": 0, "description": "Processors to share out."},
                    "memory": size("Memory to share out."),
                    "group": name("One run at a time of all requests with this word."),
                    "conflict": {
                        "type": "string",
                        "enum": ["queue", "reject"],
                        "default": "queue",
                        "description": "While another run of the group is under way: wait for it, or refuse.",
                    },
                },
            ),
        },
        ("apiVersion", "kind", "pipeline"),
    )
    return _document("run", body, {})


def _document(kind: str, body: Schema, defs: Schema) -> Schema:
    out = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:runner:schema:v1:{kind}", **body}
    out["patternProperties"] = {"^x-": {"description": "Ignored; a home for anchors."}}
    return {**out, "$defs": defs} if defs else out


SCHEMAS = {"pipeline": pipeline_schema, "run": run_schema}
_ROOTS = {"Pipeline": "pipeline", "Run": "run"}


@cache
def _judge(kind: str) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(SCHEMAS[kind]())


def check_document(document: Document, wanted: str | None = None) -> str:
    """Return `Pipeline` or `Run`; raises Invalid with every field that does not fit."""
    kind = document.value.get("kind")
    if wanted is None:
        if not isinstance(kind, str) or kind not in _ROOTS:
            help = (
                suggest(str(kind), _ROOTS, "kinds")
                if "kind" in document.value
                else "write `kind: Pipeline` or `kind: Run`"
            )
            code, what = (
                ("E107", f"kind is {kind!r}, which is none of: Pipeline, Run")
                if "kind" in document.value
                else ("E104", "the document lacks the required field `kind`")
            )
            raise Invalid([document.diagnostic(code, what, ("kind",), help=help)])
        wanted = kind
    schema = _ROOTS[wanted]
    if not _judge(schema).is_valid(document.value):
        raise Invalid(_misfits(document, schema))
    return wanted


def _misfits(document: Document, schema: str) -> list[Diagnostic]:
    from jsonschema import Draft202012Validator

    found: list[Diagnostic] = []
    for error in Draft202012Validator(SCHEMAS[schema]()).iter_errors(document.value):
        found.extend(_word(document, schema, error))
    unique = dict.fromkeys(found)
    return sorted(unique, key=lambda d: (d.line, d.column))


def _where(document: Document, at: Keys) -> str:
    shown = ".".join(str(k) for k in at)
    value: Any = document.value
    kind = None
    for index, key in enumerate(at):
        value = value[key]
        if index == 1 and at[0] == "steps" and isinstance(value, dict):
            kind = value.get("kind")
    if kind in KINDS and len(at) == 2:
        return f"{shown} (a {kind} step)"
    return shown or "the document"


def _later(at: Keys, field: str) -> bool:
    if not at:
        return field in LATER["pipeline"]
    if at[0] in ("steps", "finally") and len(at) == 2:
        return field in LATER["step"]
    return field in LATER.get(str(at[-1]), ())


def _word(document: Document, schema: str, error: Any) -> Iterator[Diagnostic]:
    at: Keys = tuple(error.absolute_path)
    shown = ".".join(str(k) for k in at) or "the document"
    value = error.instance
    rule = error.validator
    if "propertyNames" in error.absolute_schema_path:
        key = str(value)
        yield document.diagnostic(
            "E108", f"{printable_name(key)} is not a name", (*at, key), key=True, help=_form(error)
        )
        return
    match rule:
        case "additionalProperties":
            known = list(error.schema.get("properties", ()))
            for key in value:
                if key in known or any(re.search(p, key) for p in error.schema.get("patternProperties", ())):
                    continue
                if _later(at, key):
                    yield document.diagnostic(
                        "E112",
                        f"`{key}` is not supported yet",
                        (*at, key),
                        key=True,
                        help="remove it; a later version will read it",
                    )
                    continue
                hint = _elsewhere(at, key) or nearest(key, known) or f"known are: {', '.join(known)}"
                yield document.diagnostic(
                    "E101",
                    f"unknown field `{printable_name(key)}` in {_where(document, at)}",
                    (*at, key),
                    key=True,
                    help=hint,
                )
        case "required":
            for key in error.validator_value:
                if key not in value:
                    help = "`runner plan FILE --accept STEP --reason TEXT` prints it" if at[:1] == ("accept",) else ""
                    text = f"{_where(document, at)} lacks the required field `{key}`"
                    yield document.diagnostic("E104", text, at, key=bool(at), help=help)
        case "type":
            yield _mistyped(document, at, shown, value, error)
        case "enum" | "const":
            options = error.validator_value if rule == "enum" else [error.validator_value]
            if at and at[-1] == "kind" and value in KINDS_LATER and len(at) == 3:
                yield document.diagnostic(
                    "E112", f"`kind: {value}` is not supported yet", at, help=f"this version has: {', '.join(KINDS)}"
                )
                return
            if at == ("apiVersion",):
                yield document.diagnostic(
                    "E107",
                    f"this runner reads {API}; the file asks for {value!r}",
                    at,
                    help=f"write `apiVersion: {API}`",
                )
                return
            listed = ", ".join(str(o) for o in options)
            yield document.diagnostic(
                "E107",
                f"{shown} is {value!r}, which is none of: {listed}",
                at,
                help=nearest(str(value), map(str, options)),
            )
        case "pattern":
            yield document.diagnostic(
                "E108", f"{shown} is {printable_name(str(value))!r}, which has the wrong form", at, help=_form(error)
            )
        case "minItems" | "minProperties" | "minLength":
            yield document.diagnostic(
                "E108", f"{shown} is empty; it needs at least {error.validator_value}", at, key=True
            )
        case "maxLength":
            yield document.diagnostic("E108", f"{shown} is longer than {error.validator_value} characters", at)
        case "maxProperties":
            yield document.diagnostic(
                "E108",
                f"{shown} has {len(value)} keys; one is allowed here",
                at,
                help="give each selector its own `- `",
            )
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            word = {
                "minimum": "at least",
                "maximum": "at most",
                "exclusiveMinimum": "greater than",
                "exclusiveMaximum": "less than",
            }[rule]
            yield document.diagnostic("E108", f"{shown} is {value}; it must be {word} {error.validator_value}", at)
        case _:
            yield document.diagnostic("E108", f"{shown}: {error.message[:200]}", at)


def printable_name(text: str) -> str:
    from .errors import printable

    return printable(text if len(text) <= 80 else text[:77] + "...")


def _form(error: Any) -> str:
    return str(error.schema.get("patternErrorMessage") or error.schema.get("description", ""))


def _elsewhere(at: Keys, key: str) -> str:
    """Where a field belongs that other tools put here, or another kind has."""
    if at and at[0] == "steps" and len(at) == 2:
        if key in ("depends_on", "depends", "after", "dependsOn"):
            return "did you mean `needs`?"
        having = [kind for kind, (own, _, process, _) in KINDS.items() if key in own or (process and key in PROCESS)]
        if having:
            return f"a field of: {', '.join(having)}"
    return ""


def _mistyped(document: Document, at: Keys, shown: str, value: Any, error: Any) -> Diagnostic:
    words = {
        "array": "a list",
        "object": "a mapping",
        "string": "a string",
        "integer": "an integer",
        "number": "a number",
        "boolean": "true or false",
    }
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    must = " or ".join(words[w] for w in wanted)
    text, help = f"{shown} is {kind_of(value)}; it must be {must}", ""
    if error.schema.get("patternErrorMessage", "").startswith("a duration"):
        help = f"a duration has a unit: {document.written(at)}s" if isinstance(value, int | float) else _form(error)
    elif ("string" in wanted and isinstance(value, int | float)) or (value is None and "string" in wanted):
        written = document.written(at)
        help = (
            f'put it in quotes: "{written}"'
            if written
            else "give it a text, in quotes if it is a number or a word like null"
        )
    elif isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value) and {"integer", "number"} & set(wanted):
        help = "remove the quotes"
    elif isinstance(value, str) and wanted == ["array"]:
        first = f"write [{value.split()[0] if value.split() else ''}{', ...' if len(value.split()) > 1 else ''}]"
        help = first + (", one element for each argument" if at[-1:] in (("command",), ("shell",)) else "")
    return document.diagnostic("E102", text, at, help=help)
