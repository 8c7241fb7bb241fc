"""The table of fields of both documents -> their JSON Schemas, and what a misfit is called.

Everything that says which fields exist is here: the schemas for editors, the check of a loaded document, the
words of its messages. Names, types of expressions, edges and files belong to `pipeline.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any

from .document import CUT, Document, Keys, kind_of
from .errors import MANY, Diagnostic, Invalid, nearest, suggest

API = "runner/v1"
NAME = r"^[A-Za-z][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*$"
RESERVED = {"and", "or", "not", "in", "all", "roots", "leaves", "true", "false", "null"}
SIZE = r"^\d+(\.\d+)?(B|K|M|G|T|Ki|Mi|Gi|Ti)$"
DURATION = r"^(\d+(\.\d+)?(ms|s|m|h|d|w)|P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$"
DURATION_OR_EXPRESSION = rf"{DURATION}|\$\("
PARAM_TYPES = ["string", "integer", "number", "boolean", "duration", "file", "dir", "list", "object"]
OUTPUT_TYPES = ["file", "dir", "string", "integer", "number", "boolean", "list", "object"]
SCALAR = ["string", "number", "boolean"]

Schema = dict[str, Any]


def text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def patterned(description: str, pattern: str, must: str, **more: Any) -> Schema:
    """A text of one form; `must` is what messages and editors say instead of the pattern, or of the type."""
    form = {"pattern": pattern, "patternErrorMessage": must, "errorMessage": must}
    return {"type": "string", "description": description, **form, **more}


def name(description: str) -> Schema:
    return patterned(
        description, NAME, "a name starts with a letter and holds letters, digits, `_` and single `-`", maxLength=64
    )


def names(description: str) -> Schema:
    return {
        "type": "array",
        "description": description,
        "errorMessage": "a list of steps is needed: [name, name]",
        "items": name("A step of this pipeline."),
    }


def mapping(description: str, values: Schema, *, named: bool = True, **more: Any) -> Schema:
    keys = {"propertyNames": name("A name.")} if named else {}
    form = {"type": "object", "errorMessage": "a mapping is needed: each name with its value"}
    return {**form, "description": description, "additionalProperties": values, **keys, **more}


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
        "errorMessage": "a list of selectors is needed: [name, name]",
        "items": {
            "type": ["string", "object"],
            "description": "A step, a glob, tag:x, kind:x, status:failed, changed:code, param:x, a .. b, x+, +x, joined by and, or, not.",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"type": "string"},
        },
    }


def whole(description: str, minimum: int = 1, **more: Any) -> Schema:
    # An editor puts in 0 where no snippet says otherwise.
    first: Schema = {"defaultSnippets": [{"label": str(minimum), "body": f"${{1:{minimum}}}"}]} if minimum else {}
    return {"type": "integer", "description": description, "minimum": minimum, **first, **more}


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
AXES = mapping("Values of some axes.", {"description": "A value of the axis."})
FOREACH = closed(
    "foreach",
    "One item of the step for each combination of values; its outputs are lists.",
    {
        "over": mapping(
            "Axis -> its values: a list, or one expression that gives a list. Several axes are multiplied.",
            {
                "type": ["array", "string"],
                "description": "The values of an axis, or $(params.x), $(steps.s.outputs.o).",
            },
            minProperties=1,
        ),
        "include": {"type": "array", "description": "Further items: a value for every axis.", "items": AXES},
        "exclude": {
            "type": "array",
            "description": "Items to leave out: those that have all these values.",
            "items": {**AXES, "minProperties": 1},
        },
        "max_parallel": whole("How many items run at once, at most."),
        "fail_fast": {
            "type": "boolean",
            "default": True,
            "description": "After the failure of an item no other item starts; false: all others run first.",
        },
        "max_items": {**whole("More items than this are an error.", default=1000), "maximum": 1_000_000},
        "best": closed(
            "best",
            "Which item is $(steps.NAME.best).",
            {
                "output": name("A number output of the step."),
                "mode": {"type": "string", "enum": ["min", "max"], "description": "The least or the greatest."},
            },
            ("output", "mode"),
        ),
    },
    ("over",),
)
SECRET = closed(
    "secret",
    "Where a secret is; its value is never in a file of the runner.",
    {
        "env": patterned(
            "The environment variable of the runner that holds it.",
            "^[A-Za-z_][A-Za-z0-9_]*$",
            "the name of an environment variable",
        ),
        "file": text("The file that holds it: an absolute path, or one in the project.", minLength=1),
        "version": text("Counts in the fingerprint: change it when a new value must run steps anew."),
    },
)
RUNTIME_KINDS: dict[str, tuple[dict[str, Schema], tuple[str, ...], str]] = {
    "host": (
        {"lock": text("A lock file; its bytes are in the fingerprint.", minLength=1)},
        (),
        "The interpreter and programs of this machine.",
    ),
    "venv": (
        {
            "requirements": text(
                "A requirements file; the environment is made of it and shared by all that name it.", minLength=1
            ),
            "lock": text("A fully pinned requirements file, in place of `requirements`.", minLength=1),
            "python": text("The interpreter: 3.12, python3.12 or a path; the runner's own if not given."),
            "path": text("An environment that is there already: its folder.", minLength=1),
        },
        (),
        "A virtual environment of Python.",
    ),
    "container": (
        {
            "image": text("The image, by digest (name@sha256:...) so that it stays what it is.", minLength=1),
            "engine": {
                "type": "string",
                "enum": ["docker", "podman"],
                "description": "The program that runs it; the first that is there if not given.",
            },
        },
        ("image",),
        "A container for each attempt.",
    ),
}
_RUNTIME_COMMON: dict[str, Schema] = {
    "inherit_env": {
        "type": "array",
        "description": "Variables of the runner that steps get; their values are in the fingerprint.",
        "items": patterned("A variable.", "^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable"),
    },
    "preload": {
        "type": "array",
        "description": "Modules that the parent of python steps imports once.",
        "items": patterned("A module.", r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$", "write package.module"),
    },
}

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
    "foreach": {"$ref": "#/$defs/foreach", "description": "One item for each combination of values."},
    "runtime": name("The runtime that the step runs in; one of `runtimes`."),
    "resources": {"$ref": "#/$defs/resources", "description": "What the step occupies while it runs."},
    "cache": {"$ref": "#/$defs/cache", "description": "Whether an earlier equal success may stand for this step."},
    "workdir": {
        "type": "string",
        "enum": ["attempt", "project"],
        "default": "attempt",
        "description": "project: run in the pipeline's own folder, unsealed.",
    },
    "isolation": {
        "type": "string",
        "enum": ["none", "bwrap"],
        "default": "none",
        "description": "bwrap: in a sandbox of bubblewrap, where all but its own directory is read-only.",
    },
    "network": {
        "type": "boolean",
        "default": True,
        "description": "false: no network, not even this machine's own; needs `isolation: bwrap`.",
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
                "errorMessage": "a list is needed, one element for each argument: [python, steps/step.py]",
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
    "notebook": (
        {
            "notebook": text("The .ipynb file, relative to the pipeline.", minLength=1),
            "parameters": mapping(
                "Values for the cell with the tag `parameters`.",
                {"description": "A value or an expression."},
                named=False,
            ),
            "kernel": text("The kernel's name; the notebook's own if not given."),
        },
        ("notebook",),
        True,
        "Executes a notebook with papermill.",
    ),
    "pipeline": (
        {
            "pipeline": text("The inner pipeline's file, relative to this one.", minLength=1),
            "params": mapping(
                "Values for the inner pipeline's parameters.", {"description": "A value or an expression."}
            ),
        },
        ("pipeline",),
        False,
        "Puts another pipeline in this place.",
    ),
    "approval": (
        {
            "message": text("What is to be approved."),
            "approvers": {
                "type": "array",
                "minItems": 1,
                "description": "Login names that may decide; anyone who may write the store if not given.",
                "items": text("A login name.", minLength=1),
            },
            "timeout": duration("How long to wait for a decision."),
            "on_timeout": {
                "type": "string",
                "enum": ["fail", "approve", "reject"],
                "default": "fail",
                "description": "What counts as decided when nobody has.",
            },
        },
        ("message",),
        False,
        "Waits for a person.",
    ),
    "callback": (
        {
            "message": text("What is waited for."),
            "outputs": mapping("The values that come in.", {"$ref": "#/$defs/output"}, minProperties=1),
            "timeout": duration("How long to wait for them."),
        },
        ("outputs",),
        False,
        "Waits for values from outside.",
    ),
    "register": (
        {
            "model": text("A file or dir: $(steps.train.outputs.model)."),
            "group": patterned(
                "The registry's group of versions.",
                r"^[A-Za-z0-9][A-Za-z0-9_.-]*$|\$\(",
                "a group starts with a letter or digit and holds letters, digits, `_`, `.` and `-`",
            ),
            "metrics": mapping(
                "Numbers kept with the version.", {"type": ["number", "string"], "description": "A number."}
            ),
            "status": {
                "type": "string",
                "default": "pending",
                "description": "pending, approved or rejected; or an expression.",
                "pattern": r"^(pending|approved|rejected)$|^\$\(",
                "patternErrorMessage": "a version is pending, approved or rejected",
            },
            "metadata": mapping("Free values kept with the version.", {"type": SCALAR}, named=False),
        },
        ("model", "group"),
        False,
        "Makes a new version in the model registry.",
    ),
}
PROCESS_KINDS = frozenset(kind for kind, (_, _, process, _) in KINDS.items() if process)
# Fields of `COMMON` that a kind without a process lacks, unless it has one of its own by that name.
_LACKS = {
    "condition": ("timeout", "grace_period", "retry"),
    "fail": ("timeout", "grace_period", "retry"),
    "approval": ("grace_period", "retry"),
    "callback": ("grace_period", "retry"),
    "register": ("timeout", "grace_period", "retry"),
    "pipeline": ("timeout", "grace_period", "retry", "trigger"),
}


def _step(kind: str) -> Schema:
    own, required, process, description = KINDS[kind]
    common = {k: v for k, v in COMMON.items() if k not in _LACKS.get(kind, ())}
    if kind == "pipeline":
        common |= {"foreach": PROCESS["foreach"], "cache": PROCESS["cache"]}
    fields = {"kind": {"const": kind, "description": description}, **common, **(PROCESS if process else {}), **own}
    return closed(f"{kind} step", description, fields, ("kind", *required))


@cache
def fields_of(kind: str) -> frozenset[str]:
    """Return the fields that a step of this kind may have."""
    return frozenset(_step(kind)["properties"])


_SNIPPETS = [
    {"label": "command step", "body": {"kind": "command", "command": ["${1:python}", "${2:steps/step.py}"], "code": ["${2:steps/step.py}"], "outputs": {"${3:result}": {"type": "file"}}}},
    {"label": "shell step", "body": {"kind": "shell", "script": "${1:echo hello > result}", "outputs": {"${2:result}": {"type": "file"}}}},
    {"label": "python step", "body": {"kind": "python", "function": "${1:steps.module}:${2:function}", "args": {"${3:name}": "${4:value}"}}},
    {"label": "condition step", "body": {"kind": "condition", "if": "\\$(${1:params.x} <= ${2:1})", "then": ["${3:step}"]}},
    {"label": "fail step", "body": {"kind": "fail", "message": "${1:what went wrong}"}},
    {"label": "notebook step", "body": {"kind": "notebook", "notebook": "${1:report.ipynb}", "parameters": {"${2:name}": "${3:value}"}}},
    {"label": "pipeline step", "body": {"kind": "pipeline", "pipeline": "${1:inner.yaml}", "params": {"${2:name}": "${3:value}"}}},
    {"label": "approval step", "body": {"kind": "approval", "message": "${1:what is to be approved}"}},
    {"label": "callback step", "body": {"kind": "callback", "outputs": {"${1:result}": {"type": "${2:string}"}}}},
    {"label": "register step", "body": {"kind": "register", "model": "\\$(steps.${1:train}.outputs.${2:model})", "group": "${3:group}"}},
]  # fmt: skip

_DEFAULTS_FIELDS: dict[str, Schema] = {
    "timeout": COMMON["timeout"],
    "retry": COMMON["retry"],
    "cache": PROCESS["cache"],
    "env": PROCESS["env"],
    "resources": PROCESS["resources"],
    "runtime": PROCESS["runtime"],
}


def _runtime(kind: str) -> Schema:
    own, required, description = RUNTIME_KINDS[kind]
    fields = {"kind": {"const": kind, "description": description}, **own, **_RUNTIME_COMMON}
    return closed(f"{kind} runtime", description, fields, ("kind", *required))


def _either(title: str, description: str, kinds: Mapping[str, tuple[Any, ...]]) -> Schema:
    """One object whose `kind` says which closed branch it fits: an editor then points at the exact place."""
    return {
        "type": "object",
        "title": title,
        "description": description,
        "required": ["kind"],
        "properties": {
            "kind": {
                "type": "string",
                "enum": list(kinds),
                "enumDescriptions": [entry[-1] for entry in kinds.values()],
                "description": f"What the {title} is.",
            }
        },
        # Without `type`, each branch would say of a text that it is no mapping.
        "allOf": [
            {
                "if": {"type": "object", "properties": {"kind": {"const": k}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{title}_{k}"},
            }
            for k in kinds
        ],
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
            "secrets": mapping("Where secrets are; used in `env` only.", {"$ref": "#/$defs/secret"}),
            "runtimes": mapping("Where steps run.", {"$ref": "#/$defs/runtime"}),
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
    step = _either("step", "One step; its kind says which fields it has.", KINDS)
    # Whole steps are offered only where no kind is chosen yet.
    step["allOf"].append({"if": {"type": "object", "required": ["kind"]}, "else": {"defaultSnippets": _SNIPPETS}})
    defs = {
        "param": PARAM,
        "output": OUTPUT,
        "retry": RETRY,
        "cache": CACHE,
        "resources": RESOURCES,
        "env": ENV,
        "foreach": FOREACH,
        "secret": SECRET,
        "runtime": _either("runtime", "Where steps run.", RUNTIME_KINDS),
        "step": step,
    }
    branches = {f"runtime_{k}": _runtime(k) for k in RUNTIME_KINDS} | {f"step_{k}": _step(k) for k in KINDS}
    return _document("pipeline", body, {**defs, **branches})


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
                "Outcomes of conditions that are not selected; makes the run a trial.",
                {"type": "boolean"},
                named=False,  # `outer/inner` is a condition, too
            ),
            "accept": {
                "type": "array",
                "description": "Stale results to reuse knowingly.",
                "items": closed(
                    "accept",
                    "One step whose stale result is accepted.",
                    {
                        "step": text("The reused step or item."),
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
                    "run": selectors("Exactly the steps with decision run."),
                    "steps": mapping(
                        "How single steps and items end.",
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
                        named=False,
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
    if isinstance(kind, str) and kind in _ROOTS and kind != wanted:
        raise Invalid([document.diagnostic("E107", f"this is a {kind}; a {wanted} is needed here", ("kind",))])
    schema = _ROOTS[wanted]
    if not _judge(schema).is_valid(document.value):
        found = _misfits(document, schema)
        raise Invalid(sorted(found, key=lambda d: (d.line, d.column)), cut=len(found) >= MANY)
    return wanted


def _misfits(document: Document, schema: str) -> list[Diagnostic]:
    """Return what does not fit, at most MANY of it."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    def pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
        """Read a pattern as the judge does: digits are ASCII, and `$` is the end, not a line's."""
        if isinstance(value, str) and not re.search(
            pattern.replace("$", r"\Z").replace(r"\\Z", r"\$"), value, re.ASCII
        ):
            yield ValidationError(f"{value!r} does not match {pattern!r}")

    extend: Any = validators.extend
    judge = extend(Draft202012Validator, {"pattern": pattern})(SCHEMAS[schema]())
    found: dict[Diagnostic, None] = {}
    errors = judge.iter_errors(_doubtful(document.value, SCHEMAS[schema]()))
    for worded in (diagnostic for error in errors for diagnostic in _word(document, schema, error)):
        if cut := document.cut_expression(worded.line, worded.column):
            worded = Diagnostic(document.path, *cut, "E111", CUT, source=worded.source)
        found[worded] = None
        if len(found) >= MANY:
            break
    if not found:  # the judges disagree; nothing is refused without a word
        wrong = next(iter(_judge(schema).iter_errors(document.value)))
        return [document.diagnostic("E108", wrong.message[:200], wrong.instance_path)]
    return list(found)


def _doubtful(value: Mapping[str, Any], schema: Schema) -> Mapping[str, Any]:
    """Return a document without the entries of large sections in which nothing is wrong.

    The judge that words mistakes takes a thousand times as long as the one that finds them.
    """
    import jsonschema_rs

    out = dict(value)
    for section, body in value.items():
        if isinstance(body, dict) and len(body) > MANY and section in schema["properties"]:
            judge = jsonschema_rs.validator_for({**schema["properties"][section], "$defs": schema.get("$defs", {})})
            wrong = (key for key, entry in body.items() if not judge.is_valid({key: entry}))
            out[section] = {key: body[key] for key in islice(wrong, MANY)} or dict(islice(body.items(), 1))
    return out


def _where(document: Document, at: Keys) -> str:
    shown = ".".join(str(k) for k in at)
    value: Any = document.value
    kind = None
    for index, key in enumerate(at):
        value = value[key]
        if index == 1 and at[0] == "steps" and isinstance(value, dict):
            kind = value.get("kind")
    if isinstance(kind, str) and kind in KINDS and len(at) == 2:
        return f"{shown} ({a_step(str(kind))})"
    return shown or "the document"


def a_step(kind: str) -> str:
    """Return how a step of a kind is called."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} step"


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
                hint = (
                    (not at and _of_another(schema, key))
                    or _elsewhere(at, key)
                    or nearest(key, known)
                    or f"known are: {', '.join(known)}"
                )
                yield document.diagnostic(
                    "E101",
                    f"unknown field `{printable_name(key)}` in {_where(document, at)}",
                    (*at, key),
                    key=True,
                    help=hint,
                )
        case "required":
            known = list(error.schema.get("properties", ()))
            meant = {nearest(given, known) for given in value if given not in known}  # told as misspelt
            for key in error.validator_value:
                if key not in value and f"did you mean `{key}`?" not in meant:
                    help = "`runner plan FILE --accept STEP --reason TEXT` prints it" if at[:1] == ("accept",) else ""
                    text = f"{_where(document, at)} lacks the required field `{key}`"
                    yield document.diagnostic("E104", text, at, key=bool(at), help=help)
        case "type":
            yield _mistyped(document, at, shown, value, error)
        case "enum" | "const":
            options = error.validator_value if rule == "enum" else [error.validator_value]
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
        case "minLength" if error.validator_value == 1:
            yield document.diagnostic("E108", f"{shown} is empty", at)
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


def _of_another(schema: str, key: str) -> str:
    """Say of a top-level field that the other kind of document has it."""
    other = "run" if schema == "pipeline" else "pipeline"
    return f"a field of kind: {other.capitalize()}" if key in SCHEMAS[other]()["properties"] else ""


def _elsewhere(at: Keys, key: str) -> str:
    """Where a field belongs that other tools put here, or another kind has."""
    if at and at[0] == "steps" and len(at) == 2:
        if key in ("depends_on", "depends", "after", "dependsOn"):
            return "did you mean `needs`?"
        having = [kind for kind in KINDS if key in _step(kind)["properties"]]
        if having:
            return f"a field of: {', '.join(having)}"
    return ""


_SWITCHES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


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
    elif error.schema.get("patternErrorMessage", "").startswith("a size"):
        help = f"a size has a unit: {document.written(at)}M" if isinstance(value, int | float) else _form(error)
    elif {"array", "string"} == set(wanted):
        help = f"write [{document.written(at)}]" if isinstance(value, int | float) else "write [value, value]"
    elif {"number", "string"} == set(wanted):
        help = "write a number, or one expression that gives one"
    elif "boolean" in wanted and isinstance(value, str) and value.lower() in _SWITCHES:
        help = f"write {_SWITCHES[value.lower()]}; `{value}` is a text in YAML 1.2"
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
