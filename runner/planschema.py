"""The JSON Schema of a plan as JSON: what `plan -o json` prints, `--out` writes, and readers may rely on."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_CAUSE: Schema = {"$ref": "#/$defs/cause"}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _digest(description: str) -> Schema:
    return {"type": "string", "description": description, "pattern": "^sha256:[0-9a-f]{64}$"}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "description": description, "items": items}


def _names(description: str) -> Schema:
    return _list(_TEXT, description)


def _word(description: str, *words: str) -> Schema:
    return {"type": "string", "enum": list(words), "description": description}


def _truth(description: str) -> Schema:
    return {"type": ["boolean", "null"], "description": description}


def _object(description: str, properties: Schema, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "required": list(properties) if required is None else required,
        "properties": properties,
    }


def plan_schema() -> Schema:
    """Return the schema (2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:runner:schema:v1:plan",
        "title": "Plan",
        **_object(
            "What a run would do, with every reason; what `runner plan -o json` prints and `--out` writes.",
            {
                "format_version": {
                    "type": "integer",
                    "description": "Of this form; a reader refuses a newer one.",
                    "const": 1,
                },
                "digest": _digest(
                    "Of all that is bound: everything but digest, notes, estimate, code_changes, references, checksum, reasons, and the texts of findings."
                ),
                "verdict": _word("The first line.", "ready", "needs a decision"),
                "applyable": {"type": "boolean", "description": "Whether `apply` would start it."},
                "runner": _text("The version of the runner that planned."),
                "pipeline": _object(
                    "The pipeline.",
                    {
                        "name": _text("Its name."),
                        "path": _text("Its file, from the project root."),
                        "digest": _digest("Of its definition."),
                    },
                ),
                "request": _object(
                    "What was asked.",
                    {
                        "path": _text("Its file, from the project root; empty for a pipeline file."),
                        "name": _text("Its name."),
                        "digest": _digest("Of what is asked."),
                        "mode": _word("How selected steps are treated.", "full", "incremental"),
                        "trial": {"type": "boolean", "description": "Whether `latest` never chooses the run."},
                        "base": _text("The folder that -p paths start from."),
                        "params": {"type": "object", "description": "What -p gave."},
                    },
                    ["path", "name", "digest", "mode", "trial"],
                ),
                "reference": {
                    **_object(
                        "The reference run.",
                        {
                            "run": _text("Its id."),
                            "status": _text("How it ended."),
                            "why": _text("Why this one."),
                            "rejected": _list(
                                _object(
                                    "A newer run that cannot serve.",
                                    {"run": _text("Its id."), "why": _text("Why not.")},
                                ),
                                "Newer runs.",
                            ),
                            "latest": _text("The newest run that was looked at."),
                        },
                    ),
                    "type": ["object", "null"],
                },
                "selection": _object(
                    "What is selected.",
                    {
                        "written": _names("As written."),
                        "exclude": _names("As written."),
                        "steps": _names("Expanded, in order."),
                        "convex": {
                            "type": "boolean",
                            "const": True,
                            "description": "A plan is made of a convex selection only.",
                        },
                        "pieces": _list(_names("A piece."), "Connected pieces."),
                        "frontier": _names("Direct predecessors outside."),
                    },
                ),
                "steps": {
                    "type": "object",
                    "description": "Every step, in topological order.",
                    "additionalProperties": {"$ref": "#/$defs/step"},
                },
                "params": {
                    "type": "object",
                    "description": "Every parameter.",
                    "additionalProperties": _object(
                        "One parameter.",
                        {
                            "value": {"description": "Its value."},
                            "source": _word("Where it comes from.", "request", "reference", "default"),
                            "then": _text("In the reference run, as text."),
                            "now": _text("Now, as text."),
                            "effect": _word(
                                "What the difference changes.", "effective", "split", "shadowed", "deferred", "unused"
                            ),
                            "read_by": _names("Steps that read it."),
                        },
                        ["value", "source"],
                    ),
                },
                "finally": _names("Steps after all others, whatever their end."),
                "gates": _list(
                    _object(
                        "A condition or `when`.",
                        {
                            "step": _text("Whose."),
                            "field": _word("Which.", "if", "when", "gate", "approval"),
                            "decision": _word("How it is decided.", "run", "cached", "reuse", "unneeded", "assumed"),
                            "was": _truth("In the reference run."),
                            "now": _truth("Today; null where only the run will tell."),
                            "values": _list(
                                _object(
                                    "What it reads.",
                                    {
                                        "name": _text("Of a param or output."),
                                        "then": _text("As text."),
                                        "now": _text("As text."),
                                    },
                                ),
                                "What it reads.",
                            ),
                            "then": _names("Selected steps that run if it is true."),
                            "else": _names("Selected steps that run if it is false."),
                        },
                    ),
                    "Gates that the plan stands on or decides.",
                ),
                "findings": _list(
                    _object(
                        "What only a person can decide.",
                        {
                            "code": _word("Its kind.", "F201", "F202", "F203", "F210", "F211", "F220"),
                            "subject": _text("The step or parameter."),
                            "text": _text("A sentence."),
                            "cause": _text("What an `accept` names, whole."),
                            "remedies": _list(
                                _object(
                                    "A way out.",
                                    {
                                        "kind": _word("Which.", "select", "reference", "reset", "remove", "accept"),
                                        "paste": _text("Ready to paste."),
                                        "adds": _names("Steps that it adds."),
                                    },
                                ),
                                "Ways out.",
                            ),
                            "steps": _list(
                                _object(
                                    "One of the steps that the finding is on.",
                                    {"step": _text("Its name."), "cause": _text("What an `accept` names, whole.")},
                                ),
                                "All steps that differ for this one reason.",
                            ),
                        },
                        ["code", "subject", "text", "cause", "remedies"],
                    ),
                    "Findings; nothing starts while there is one.",
                ),
                "accepted": _list(
                    _object(
                        "An entry of `accept`.",
                        {"step": _text("Whose."), "cause": _text("Of what."), "reason": _text("Why.")},
                    ),
                    "What the request accepts.",
                ),
                "notes": _names("What is worth knowing."),
                "code_changes": _list(
                    _object(
                        "Changed lines of the code of reused steps.",
                        {
                            "path": _text("From the pipeline's folder."),
                            "then": _digest("Then."),
                            "now": _digest("Now."),
                            "lines": _names("Of a unified diff."),
                        },
                    ),
                    "Changed code.",
                ),
                "preconditions": _object(
                    "What must still be so when it is applied.",
                    {
                        "files": {"type": "object", "description": "Inputs.", "additionalProperties": _TEXT},
                        "code": {"type": "object", "description": "Code files.", "additionalProperties": _TEXT},
                        "outputs": {
                            "type": "object",
                            "description": "step/output of each reused artifact.",
                            "additionalProperties": _TEXT,
                        },
                        "runtime": _digest("Interpreter version, platform, machine."),
                    },
                ),
                "estimate": _object(
                    "Seconds, by what steps took before.",
                    {
                        "seconds": {"type": "number", "description": "This plan."},
                        "full_seconds": {"type": "number", "description": "All steps."},
                        "workers": {"type": "integer", "description": "At once."},
                        "unknown": _names("Steps that never ran."),
                        "steps": {
                            "type": "object",
                            "description": "Per step.",
                            "additionalProperties": _object(
                                "One step.",
                                {
                                    "median": {"type": "number"},
                                    "low": {"type": "number"},
                                    "high": {"type": "number"},
                                    "count": {"type": "integer"},
                                },
                            ),
                        },
                    },
                ),
                "references": _list(
                    _object(
                        "A run as the reference run.",
                        {
                            "run": _text("Its id."),
                            "status": _text("How it ended."),
                            "at": {"type": "number", "description": "When it began."},
                            "why_not": _text("Why it cannot serve."),
                            "unsound": {"type": "integer", "description": "Reused steps that would need a decision."},
                            "redo": {"type": "number", "description": "Seconds that the least honest selection adds."},
                        },
                    ),
                    "With --references: all finished runs, the best first.",
                ),
                "checksum": _digest("Of a plan file: all else in it."),
            },
            [
                "format_version",
                "digest",
                "verdict",
                "applyable",
                "runner",
                "pipeline",
                "request",
                "reference",
                "selection",
                "steps",
                "params",
                "finally",
                "gates",
                "findings",
                "accepted",
                "notes",
                "code_changes",
                "preconditions",
            ],
        ),
        "$defs": {
            "cause": _object(
                "Why a step would not do the same again.",
                {
                    "kind": _word("Of what.", "param", "code", "env", "input", "upstream"),
                    "name": _text("Which."),
                    "then": _text("What it was."),
                    "now": _text("What it is."),
                    "causes": _list(_CAUSE, "Of the step upstream."),
                },
                ["kind", "name"],
            ),
            "step": _object(
                "What is done with one step.",
                {
                    "decision": _word("The decision.", "run", "reuse", "cached", "skip", "cut", "unneeded"),
                    "reasons": _names("All of them."),
                    "may": _list({"enum": ["cached", "skipped"]}, "What a `run` may end as instead."),
                    "fingerprint": _text("What decides whether it would do the same."),
                    "verdict": _word(
                        "On a reused step.",
                        "same",
                        "same-by-evidence",
                        "differs-by-evidence",
                        "stale",
                        "unknown",
                        "assumed",
                    ),
                    "evidence": _text("The run that proves it."),
                    "causes": _list(_CAUSE, "Why not the same."),
                    "cause": _text("Their digest, to accept."),
                    "accepted": {"type": "boolean", "description": "Whether the request accepts them."},
                    "reused_from": _text("The run it is taken from."),
                    "produced_by": _text("The run that made the bytes."),
                    "outputs": {
                        "type": "object",
                        "description": "What is taken.",
                        "additionalProperties": {"type": "object"},
                    },
                    "taken": {
                        "type": "boolean",
                        "description": "What a condition decided, or decides by values that are known.",
                    },
                    "by": _text("The step that closes a skipped one."),
                },
                ["decision", "reasons", "may"],
            ),
        },
    }
