"""Examples of every diagnostic code: what it means, the files and commands that provoke it, and the remedy.

`python -m tests.errors_page` runs the examples and writes docs/errors.md.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

PIPELINE = "apiVersion: runner/v1\nkind: Pipeline\nname: sales\n"
REQUEST = "apiVersion: runner/v1\nkind: Run\npipeline: pipeline.yaml\n"
VALIDATE = ("runner validate pipeline.yaml",)
VALIDATE_RUN = ("runner validate run.yaml",)
PLAN_RUN = ("runner plan run.yaml",)
PLAN_PART = ("runner apply pipeline.yaml", "runner plan run.yaml")
APPLY = ("runner apply pipeline.yaml",)


@dataclass(frozen=True)
class Example:
    """One code; the output of the last command shows it, and the page prints only that output."""

    title: str
    meaning: str
    remedy: str
    files: Mapping[str, str]
    commands: tuple[str, ...] = VALIDATE


def pipeline(body: str) -> dict[str, str]:
    return {"pipeline.yaml": PIPELINE + textwrap.dedent(body).lstrip("\n")}


def request(body: str, name: str = "run.yaml") -> dict[str, str]:
    return {name: REQUEST + textwrap.dedent(body).lstrip("\n")}


LOAD = """
steps:
  load:
    kind: shell
    script: seq 10 > rows.txt
    outputs:
      rows: {type: file, path: rows.txt}
"""

LOAD_AND_REPORT = f"""{LOAD}
  report:
    kind: command
    command: [wc, -l, $(steps.load.outputs.rows)]
""".replace("\n\n", "\n")

LOAD_BY_SCRIPT = """
steps:
  load:
    kind: command
    command: [bash, load.sh]
    code: [load.sh]
    outputs:
      rows: {type: file, path: rows.txt}
  report:
    kind: command
    command: [wc, -l, $(steps.load.outputs.rows)]
"""

CHAIN = """
steps:
  load:
    kind: command
    command: [echo, load]
  clean:
    kind: command
    command: [echo, clean]
    needs: [load]
  report:
    kind: command
    command: [echo, report]
    needs: [clean]
"""

ROWS_OF_A_PARAM = pipeline("""
    params:
      rows: {type: integer, default: 10}
    steps:
      load:
        kind: shell
        env:
          ROWS: $(params.rows)
        script: seq "$ROWS" > rows.txt
        outputs:
          rows: {type: file, path: rows.txt}
      report:
        kind: command
        command: [wc, -l, $(steps.load.outputs.rows)]
""")

FILES = {
    "E100": Example(
        "The file cannot be parsed",
        "The file is not valid YAML or TOML, or it is not encoded in UTF-8. Tabs as indentation and missing brackets are frequent causes.",
        "Correct the syntax at the marked place, and save the file as UTF-8.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, load
        """),
    ),
    "E101": Example(
        "Unknown field",
        "The schema has no such field at this place. Often the name is misspelled, or the field belongs to another kind of step.",
        "Correct the name, or remove the field.",
        pipeline("""
            steps:
              load:
                kind: command
                comand: [echo, load]
        """),
    ),
    "E102": Example(
        "Wrong YAML type",
        "A field has a value of the wrong YAML type, for example a number instead of a string.",
        "Write a value of the type that the message names.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, load]
                timeout: 30
        """),
    ),
    "E103": Example(
        "Duplicate key",
        "A mapping contains the same key twice.",
        "Rename or remove one of the two entries.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, first]
              load:
                kind: command
                command: [echo, second]
        """),
    ),
    "E104": Example(
        "Missing field or value",
        "A required field is missing, or a parameter without a default has no value.",
        "Add the field or the value that the message names.",
        pipeline("""
            steps:
              load:
                kind: command
        """),
    ),
    "E105": Example(
        "Merge key",
        "The file uses the merge key `<<`, which YAML 1.2 does not support.",
        "Put common fields of all steps into `defaults`, and write other fields out.",
        pipeline("""
            x-common: &common
              timeout: 30s
            steps:
              load:
                <<: *common
                kind: command
                command: [echo, load]
        """),
    ),
    "E106": Example(
        "Name already taken",
        "A name is a reserved word, or another element of the pipeline already uses it.",
        "Choose another name.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, load]
            finally:
              load:
                kind: command
                command: [echo, done]
        """),
    ),
    "E107": Example(
        "Value is not in the allowed set",
        "A field accepts a fixed set of values, and the given value is not one of them.",
        "Write one of the values that the message lists.",
        pipeline("""
            steps:
              load:
                kind: bash
                script: echo load
        """),
    ),
    "E108": Example(
        "Invalid value",
        "A value has the right type, but its form or range is wrong. Names, durations, sizes, paths and numbers have such rules. YAML tags and keys that are not strings have this code too.",
        "Write a value that follows the rule in the message.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, load]
                timeout: 30 minutes
        """),
    ),
    "E109": Example(
        "File or program not found",
        "The pipeline or the request names a file, a folder or a program that does not exist.",
        "Correct the path, which is relative to the file that contains it, or create the missing file.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [bash, load.sh]
                code: [load.sh]
        """),
    ),
    "E110": Example(
        "Document is too large or recursive",
        "A document exceeds a limit of size, depth or number of values, or an anchor contains itself.",
        "Split the document, and replace large repeated parts by a parameter.",
        pipeline("""
            x-notes: &notes
              more: *notes
            steps:
              load:
                kind: command
                command: [echo, load]
        """),
    ),
    "E111": Example(
        "Unquoted comma in an expression",
        "In a list in brackets, YAML splits an unquoted expression at its comma.",
        "Put the expression in quotes.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, $(max(1, 2))]
        """),
    ),
    "E120": Example(
        "Parameter value violates its declaration",
        "The value or the default of a parameter has the wrong type, or violates a constraint such as `maximum`.",
        "Give a value of the declared type and range, or change the declaration.",
        pipeline("""
            params:
              rows: {type: integer, default: "10"}
            steps:
              load:
                kind: command
                command: [seq, $(params.rows)]
        """),
    ),
    "E121": Example(
        "Fields that do not fit together",
        "Two fields contradict each other, or a field does not apply to this type or kind.",
        "Remove one of the fields, or add the field that the message asks for.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: seq 10 > rows.txt
                network: false
        """),
    ),
    "E122": Example(
        "Unknown parameter",
        "The request sets or resets a parameter that the pipeline does not declare.",
        "Correct the name, or declare the parameter in the pipeline.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              load:
                kind: command
                command: [seq, $(params.rows)]
        """)
        | request("""
            params:
              row: 20
        """),
        VALIDATE_RUN,
    ),
    "E123": Example(
        "Inherited parameter value is no longer valid",
        "The request inherits a parameter value from the reference run, and the pipeline no longer accepts this value.",
        "Set the parameter in `params`, or add it to `reset`.",
        ROWS_OF_A_PARAM | request("select: [report]\n"),
        (
            "runner apply pipeline.yaml",
            "sed -i 's/default: 10/default: 5, maximum: 5/' pipeline.yaml",
            "runner plan run.yaml",
        ),
    ),
}

COMPILED = {
    "E201": Example(
        "Unknown step",
        "`needs`, a branch or an expression names a step that the pipeline does not have.",
        "Correct the name, or add the step.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, load]
              report:
                kind: command
                command: [echo, report]
                needs: [laod]
        """),
    ),
    "E202": Example(
        "Unknown name",
        "An expression or a field names a parameter, output, axis, secret or runtime that does not exist.",
        "Correct the name, or declare it.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              load:
                kind: command
                command: [seq, $(params.row)]
        """),
    ),
    "E203": Example(
        "Invalid expression",
        "An expression has a syntax error, its operands have the wrong types, or a value in it may be missing.",
        "Correct the expression at the marked place.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              load:
                kind: command
                command: [seq, $(params.rows)]
                when: $(params.rows > "5")
        """),
    ),
    "E204": Example(
        "A single expression is required",
        "This field requires exactly one expression, without text around it.",
        "Write the whole value as one `$( ... )`.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              large:
                kind: condition
                if: params.rows > 5
                then: [load]
              load:
                kind: command
                command: [seq, $(params.rows)]
        """),
    ),
    "E205": Example(
        "Expression or value is not allowed here",
        "This field accepts no expressions, or no values of this type. For example, the runner must know `code` before the run starts.",
        "Write a literal, or use the value in a field that allows it.",
        pipeline("""
            params:
              script: {type: string, default: load.sh}
            steps:
              load:
                kind: shell
                script: bash load.sh
                code: [$(params.script)]
        """),
    ),
    "E206": Example(
        "Output may be missing after a failure",
        "A step with `trigger: all_done` also starts after a failure. The outputs that it reads may then be missing.",
        "Give a default with `coalesce`.",
        pipeline(
            LOAD
            + """\
  report:
    kind: command
    command: [echo, $(steps.load.outputs.rows)]
    trigger: all_done
"""
        ),
    ),
    "E207": Example(
        "Step in two branches",
        "A step is in the branches of two conditions. It can be in one branch only.",
        "Remove it from one branch, or combine the two conditions into one.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              small:
                kind: condition
                if: $(params.rows < 100)
                then: [report]
              large:
                kind: condition
                if: $(params.rows > 1000)
                then: [report]
              report:
                kind: command
                command: [echo, report]
        """),
    ),
    "E208": Example(
        "Pipelines contain each other",
        "A pipeline contains itself, directly or through other pipelines, or the pipelines are nested too deeply.",
        "Remove the `pipeline` step that closes the cycle.",
        pipeline("""
            steps:
              daily:
                kind: pipeline
                pipeline: pipeline.yaml
        """),
    ),
    "E209": Example(
        "Invalid fan-out",
        "The axes of a `foreach` result in no items, in a duplicate item, or in more items than `max_items`.",
        "Change the values of the axis, or raise `max_items`.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, $(each.year)]
                foreach:
                  over:
                    year: [2024, 2025, 2024]
        """),
    ),
    "E210": Example(
        "Expression in a shell script",
        "The runner does not replace expressions in the text of a `shell` step, because values could be run as code.",
        "Pass the value in `env`, and read it as a shell variable.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              load:
                kind: shell
                script: seq $(params.rows)
        """),
    ),
    "E211": Example(
        "Expression in program text",
        "A `command` passes program text to an interpreter, and this text contains an expression. The value could be run as code.",
        "Pass the value as a further argument, or in `env`.",
        pipeline("""
            params:
              name: {type: string, default: north}
            steps:
              load:
                kind: command
                command: [bash, -c, "echo $(params.name)"]
        """),
    ),
    "E212": Example(
        "Output paths overlap",
        "Two outputs of a step have equal or nested paths, or an output has the path of an input or a code file.",
        "Give each output a path of its own.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: seq 10 > data.csv
                outputs:
                  rows: {type: file, path: data.csv}
                  copy: {type: file, path: data.csv}
        """),
    ),
    "E213": Example(
        "Undeclared project file in a command",
        "A command names a project file that the step does not declare. The working directory of the step contains declared files only.",
        "Add the file to `code` or to `inputs`.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [bash, load.sh]
        """)
        | {"load.sh": "echo load\n"},
    ),
    "E214": Example(
        "Secret outside `env`",
        "A secret is used in a command, in a condition, or inside a longer text.",
        "Set a variable in `env` to the secret alone, and read this variable in the program.",
        pipeline("""
            secrets:
              token: {env: SALES_TOKEN}
            steps:
              load:
                kind: command
                command: [echo, $(secrets.token)]
        """),
    ),
    "E215": Example(
        "Dependency cycle",
        "Steps depend on each other, or a step reads its own outputs.",
        "Remove one of the dependencies in the cycle.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, load]
                needs: [report]
              report:
                kind: command
                command: [echo, report]
                needs: [load]
        """),
    ),
    "E216": Example(
        "Fan-out of a pipeline with `finally`",
        "A `pipeline` step has `foreach`, and the inner pipeline has `finally`, which cannot be repeated.",
        "Move the steps of `finally` to the outer pipeline, or remove `foreach`.",
        pipeline("""
            steps:
              regions:
                kind: pipeline
                pipeline: region.yaml
                foreach:
                  over:
                    region: [north, south]
        """)
        | {
            "region.yaml": textwrap.dedent("""\
                apiVersion: runner/v1
                kind: Pipeline
                name: region
                steps:
                  load:
                    kind: command
                    command: [echo, load]
                finally:
                  clean:
                    kind: command
                    command: [echo, clean]
            """)
        },
    ),
    "E217": Example(
        "Container image without a digest",
        "The image of a runtime has no valid digest. A tag can refer to another image later.",
        "Append `@sha256:` and the digest of the image.",
        pipeline("""
            runtimes:
              python:
                kind: container
                image: python:3.12
            steps:
              load:
                kind: shell
                runtime: python
                script: python --version
        """),
    ),
    "E218": Example(
        "Notebook does not accept the parameters",
        "The file is not a notebook, or its cell with the tag `parameters` does not assign all parameters of the step.",
        "Tag the cell with the defaults as `parameters`, and assign each parameter there.",
        pipeline("""
            steps:
              explore:
                kind: notebook
                notebook: explore.ipynb
                parameters: {rows: 10}
        """)
        | {"explore.ipynb": '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n'},
    ),
    "E219": Example(
        "Expression has no value",
        "An expression has no result for the values of this run, for example because it divides by zero.",
        "Change the parameter, or handle this case in the expression.",
        pipeline("""
            params:
              parts: {type: integer, default: 0}
            steps:
              load:
                kind: command
                command: [echo, $(100 / params.parts)]
        """),
        ("runner plan pipeline.yaml",),
    ),
    "E220": Example(
        "Output missing or not as declared",
        "A step ended successfully, but a declared output is missing, is unreadable, or has another type. A value that is not declared has this code too.",
        "Write the output to its declared path, or declare it as `optional: true`.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: seq 10 > row.txt
                outputs:
                  rows: {type: file, path: rows.txt}
        """),
        APPLY,
    ),
    "E221": Example(
        "Value cannot be extracted from an output",
        "A value output comes from a file that is missing, is too large, is not JSON, or does not contain `pointer`.",
        "Write valid JSON that contains the place that `pointer` names.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: echo '{"rows":10}' > stats.json
                outputs:
                  stats: {type: file, path: stats.json}
                  count: {type: integer, from: stats, pointer: /count}
        """),
        APPLY,
    ),
    "E222": Example(
        "Value of the wrong type",
        "A step or a callback returned a value that does not have the declared type, or that contains a secret.",
        "Write a value of the declared type, or change the declaration.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: echo '{"count":"ten"}' > "$RUNNER_VALUES"
                outputs:
                  count: {type: integer}
        """),
        APPLY,
    ),
}

ENVIRONMENT = {
    "E301": Example(
        "Secret is not available",
        "A step needs a secret whose variable is not set, whose file cannot be read, or whose value is too short. No step was started.",
        "Set the variable or create the file on the machine that runs the pipeline.",
        pipeline("""
            secrets:
              token: {env: SALES_TOKEN}
            steps:
              load:
                kind: shell
                env:
                  TOKEN: $(secrets.token)
                script: test -n "$TOKEN"
        """),
        APPLY,
    ),
}

SELECTION = {
    "E401": Example(
        "Invalid selector",
        "A selector has a syntax error, or mixes `and` and `or` without parentheses.",
        "Correct the selector at the marked place.",
        pipeline(CHAIN) | request('select: ["load or"]\n'),
        VALIDATE_RUN,
    ),
    "E402": Example(
        "Selector matches nothing",
        "A selector names a step or a tag that does not exist, or the result of a selector is empty.",
        "Correct the name.",
        pipeline(CHAIN) | request("select: [reprot]\n"),
        VALIDATE_RUN,
    ),
    "E403": Example(
        "Selection with a hole",
        "An unselected step lies between two selected steps. The later step would read an outdated result.",
        "Select the steps between, or run the parts one after another.",
        pipeline(CHAIN) | request("select: [load, report]\n"),
        PLAN_RUN,
    ),
    "E404": Example(
        "Selection in several pieces",
        "The selected steps are not connected with each other, which is often a mistake.",
        "Add `islands: allow` if you want this selection.",
        pipeline("""
            steps:
              sales:
                kind: command
                command: [echo, sales]
              stock:
                kind: command
                command: [echo, stock]
        """)
        | request("select: [sales, stock]\n"),
        PLAN_RUN,
    ),
    "E405": Example(
        "No usable reference run",
        "The selection reads outputs of steps that it does not contain. No earlier run has these outputs.",
        "Run the whole pipeline first, or select these steps too.",
        pipeline(LOAD_AND_REPORT) | request("select: [report]\n"),
        PLAN_RUN,
    ),
    "E406": Example(
        "Unknown step in `assume`, `expect` or `accept`",
        "The request names a step or a condition outside `select`, and the pipeline does not have it.",
        "Correct the name.",
        pipeline(CHAIN)
        | request("""
            expect:
              steps: {reprot: succeeded}
        """),
        VALIDATE_RUN,
    ),
    "E407": Example(
        "Invalid plan file",
        "The file is not a complete plan, or someone edited it after the runner wrote it.",
        "Write the plan again with `runner plan FILE --out PLAN`.",
        pipeline(CHAIN) | request("select: [load]\n"),
        (
            "runner plan run.yaml --out plan.json",
            "sed -i 's/load/report/' plan.json",
            "runner apply plan.json",
        ),
    ),
}

FINDINGS = {
    "F201": Example(
        "Reused step is stale",
        "The selection reads the result of a step that would give another result today. Its code, inputs or parameters have changed since the reference run.",
        "Select the step too, or accept the stale result with a reason.",
        pipeline(LOAD_BY_SCRIPT) | {"load.sh": "seq 10 > rows.txt\n"} | request("select: [report]\n"),
        ("runner apply pipeline.yaml", "echo 'seq 20 > rows.txt' > load.sh", "runner plan run.yaml"),
    ),
    "F202": Example(
        "Another run produced a different result",
        "A step would be reused from the reference run. Another run executed it with today's code and inputs, and produced a different output.",
        "Select the step too, or use the other run as the reference run.",
        pipeline(LOAD_BY_SCRIPT)
        | {"load.sh": "seq 10 > rows.txt\n"}
        | request("labels: {stage: release}\n", "release.yaml")
        | request("""
            select: [report]
            reference:
              latest:
                labels: {stage: release}
        """),
        (
            "runner apply release.yaml",
            "echo 'seq 20 > rows.txt' > load.sh",
            "runner apply pipeline.yaml",
            "runner plan run.yaml",
        ),
    ),
    "F203": Example(
        "Result of a reused step is unknown",
        "The selection reads the result of a step, and the runner cannot decide whether it would give the same result today. For example, `runner store gc` removed the run that it needs for the comparison.",
        "Select the step too, or accept the result with a reason.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: seq 10 > rows.txt
                outputs:
                  rows: {type: file, path: rows.txt}
              clean:
                kind: shell
                env:
                  ROWS: $(steps.load.outputs.rows)
                script: sort "$ROWS" > sorted.txt
                outputs:
                  sorted: {type: file, path: sorted.txt}
              report:
                kind: command
                command: [wc, -l, $(steps.clean.outputs.sorted)]
        """)
        | request("select: [report]\n"),
        (
            "runner apply pipeline.yaml",
            "runner apply run.yaml",
            "runner store gc --keep-last 1",
            "runner plan run.yaml",
        ),
    ),
    "F210": Example(
        "Parameter without effect in this run",
        "The request changes a parameter, and only reused steps read it. The run would ignore the change.",
        "Select the steps that read the parameter, or remove it from `params`.",
        ROWS_OF_A_PARAM
        | request("""
            select: [report]
            params:
              rows: 20
        """),
        PLAN_PART,
    ),
    "F211": Example(
        "Parameter takes effect in only some steps",
        "The request changes a parameter that both selected and reused steps read. The run would mix results of two values.",
        "Select all steps that read the parameter, or remove it from `params`.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              load:
                kind: shell
                env:
                  ROWS: $(params.rows)
                script: seq "$ROWS" > rows.txt
                outputs:
                  rows: {type: file, path: rows.txt}
              report:
                kind: command
                command: [head, -n, $(params.rows), $(steps.load.outputs.rows)]
        """)
        | request("""
            select: [report]
            params:
              rows: 20
        """),
        PLAN_PART,
    ),
    "F220": Example(
        "Condition or trigger has a different result today",
        "The reference run evaluated a condition, `when`, trigger or approval. With today's values the result would be different, or it is unknown.",
        "Select the condition too, or accept its earlier result with a reason.",
        pipeline("""
            params:
              rows: {type: integer, default: 10}
            steps:
              small:
                kind: condition
                if: $(params.rows < 15)
                then: [report]
              report:
                kind: command
                command: [seq, $(params.rows)]
        """)
        | request("""
            select: [report]
            params:
              rows: 20
        """),
        PLAN_PART,
    ),
}

WARNINGS = {
    "W310": Example(
        "This machine lacks a program or memory",
        "A program, a tool of a runtime, or memory is missing on this machine. `runner apply` exits with code 6 if such a step is certain to run.",
        "Install what is missing, or run the pipeline on another machine.",
        pipeline("""
            steps:
              load:
                kind: shell
                script: echo '{"count":10}' > "$RUNNER_VALUES"
                outputs:
                  count: {type: integer}
              publish:
                kind: command
                command: [publish-sales]
                when: $(steps.load.outputs.count > 5)
        """),
        ("runner plan pipeline.yaml",),
    ),
    "W401": Example(
        "`needs` repeats a dependency",
        "`needs` names a step that this step already depends on, because it reads an output of that step.",
        "Remove the step from `needs`.",
        pipeline(f"{LOAD_AND_REPORT}    needs: [load]\n"),
    ),
    "W404": Example(
        "Deprecated parameter",
        "The request sets a parameter that the pipeline declares as deprecated.",
        "Remove the parameter from the request, and use its successor.",
        pipeline("""
            params:
              rows: {type: integer, default: 10, deprecated: true}
            steps:
              load:
                kind: command
                command: [seq, $(params.rows)]
        """)
        | request("""
            params:
              rows: 20
        """),
        PLAN_RUN,
    ),
    "W405": Example(
        "`exclude` removes no item",
        "An entry of `exclude` in a `foreach` matches no item.",
        "Correct the values of the entry, or remove it.",
        pipeline("""
            steps:
              load:
                kind: command
                command: [echo, $(each.year)]
                foreach:
                  over:
                    year: [2024, 2025]
                  exclude:
                    - {year: 2023}
        """),
    ),
    "W406": Example(
        "Field of an inner pipeline has no effect",
        "The inner pipeline sets `timeout` or `max_parallel`. These fields have an effect only if it runs on its own.",
        "Set the field in the outer pipeline, if its steps need the limit.",
        pipeline("""
            steps:
              north:
                kind: pipeline
                pipeline: region.yaml
        """)
        | {
            "region.yaml": textwrap.dedent("""\
                apiVersion: runner/v1
                kind: Pipeline
                name: region
                timeout: 1h
                steps:
                  load:
                    kind: command
                    command: [echo, load]
            """)
        },
    ),
}

GROUPS = {
    "E1xx: files and schema": FILES,
    "E2xx: pipelines, expressions and outputs": COMPILED,
    "E3xx: secrets and environment": ENVIRONMENT,
    "E4xx: selection, reference runs and plan files": SELECTION,
    "F2xx: findings of a plan": FINDINGS,
    "Wxxx: warnings": WARNINGS,
}
EXAMPLES = {code: example for group in GROUPS.values() for code, example in group.items()}
