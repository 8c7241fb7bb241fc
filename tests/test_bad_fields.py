"""Bad input of the fields for fan-outs, inner pipelines, waiting, notebooks, runtimes, secrets, the registry, resources, retries.

Each row has a pipeline with one mistake, and all that is said of it: place, code, text, and what to do.
"""

import json

import pytest

from runner import document
from runner.compiler import compile_pipeline
from runner.errors import Invalid
from runner.language import check_document
from runner.project import Project as Files
from runner.request import compile_request

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"
DIGEST = "sha256:" + "a" * 64


def notebook(tags, source):
    cell = {"cell_type": "code", "metadata": {"tags": tags}, "source": source, "outputs": [], "execution_count": None}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


BESIDE = {
    "runner.toml": "",
    "p.yaml": "",
    "run.yaml": "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n",
    "tagged.ipynb": notebook(["parameters"], "depth = 1\nrate: float = 0.5"),
    "untagged.ipynb": notebook([], "depth = 1"),
    "broken.ipynb": "{",
    "empty.ipynb": "{}",
    "list.ipynb": "[]",
    "model.txt": "",
    "req.txt": "",
    "folder/x": "",
    "inner.yaml": HEAD
    + """
params: {n: {type: integer, maximum: 10}, f: {type: file, default: model.txt}, xs: {type: list, items: integer, default: [1]}}
steps:
  fit: {kind: shell, env: {N: $(params.n)}, script: x, outputs: {m: {type: file}, s: {type: number}}}
outputs: {m: $(steps.fit.outputs.m), s: $(steps.fit.outputs.s)}
""",
    "ends.yaml": HEAD + "steps:\n  a: {kind: shell, script: x}\nfinally:\n  b: {kind: shell, script: x}\n",
    "wrong.yaml": HEAD + "steps:\n  a: {kind: shell, script: x, needs: [b]}\n",
    "ring.yaml": HEAD + "steps:\n  back: {kind: pipeline, pipeline: p.yaml}\n",
    "token.yaml": HEAD
    + "secrets: {key: {env: OTHER}}\nsteps:\n  a: {kind: shell, env: {K: $(secrets.key)}, script: x}\n",
    "through.yaml": HEAD
    + "params: {f: {type: file}}\nsteps:\n  a: {kind: shell, script: x}\noutputs: {f: $(params.f)}\n",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A project with what the rows name."""
    root = tmp_path_factory.mktemp("bad")
    (root / "folder").mkdir()
    for name, text in BESIDE.items():
        (root / name).write_text(text)
    return Files.of(str(root / "p.yaml"))


def said(compile, files):
    """Return all that is said of a bad file."""
    with pytest.raises(Invalid) as refused:
        compile()
    return tuple(
        f"{d.path}:{d.line}:{d.column}: {d.severity}[{d.code}]: {d.text}{d.help and chr(10) + d.help}".replace(
            files.root, "ROOT"
        )
        for d in refused.value.diagnostics
    )


def pipeline(text, files):
    found = document.parse(text.encode(), "p.yaml")
    check_document(found, "Pipeline")
    return compile_pipeline(found, files, "p.yaml")


# What the rows put their field into.
FOREACH = "steps:\n  a: {kind: shell, script: x, foreach: %s}\n"
AXES = "params: {n: {type: integer, default: 3}, xs: {type: list, items: integer, default: [1]}}\nsteps:\n  b: {kind: shell, script: x, outputs: {n: {type: integer}, l: {type: list, items: string}, f: {type: file}, o: {type: list, optional: true}}}\n  a: {kind: shell, script: x, outputs: {s: {type: number}, t: {type: string}}, foreach: %s}\n"
SECRET = "secrets: {key: {env: KEY}}\n"
TOLD = SECRET + "steps:\n  a: %s\n"
INNER = "params: {t: {type: string, default: x}, big: {type: integer, default: 5}}\nsteps:\n  b: {kind: shell, script: x, outputs: {n: {type: integer}, s: {type: string}, f: {type: file}}}\n  a: {kind: pipeline, %s}\n"
STEP = "steps:\n  a: {%s}\n"
RUNTIMES = "runtimes: %s\nsteps:\n  a: {kind: shell, script: x}\n"
REGISTER = "params: {f: {type: file, default: model.txt}, s: {type: string, default: x}}\nsteps:\n  fit: {kind: shell, script: x, outputs: {m: {type: file}, s: {type: number}, t: {type: string}}}\n  a: {kind: register, %s}\n"

ROWS = [
    ("foreach-list", FOREACH % "[1, 2]", ("p.yaml:5:40: error[E102]: steps.a.foreach is a list; it must be a mapping",)),
    ("foreach-empty", FOREACH % "{}", ("p.yaml:5:31: error[E104]: steps.a.foreach lacks the required field `over`",)),
    ("foreach-over-empty", FOREACH % "{over: {}}", ("p.yaml:5:41: error[E108]: steps.a.foreach.over is empty; it needs at least 1",)),
    ("foreach-over-list", FOREACH % "{over: [1, 2]}", ("p.yaml:5:47: error[E102]: steps.a.foreach.over is a list; it must be a mapping",)),
    ("foreach-unknown", FOREACH % "{over: {x: [1]}, parallel: 2}", ("p.yaml:5:57: error[E101]: unknown field `parallel` in steps.a.foreach\ndid you mean `max_parallel`?",)),
    ("foreach-items", FOREACH % "{items: [1]}", ("p.yaml:5:31: error[E104]: steps.a.foreach lacks the required field `over`", "p.yaml:5:41: error[E101]: unknown field `items` in steps.a.foreach\ndid you mean `max_items`?",)),
    ("axis-number", FOREACH % "{over: {x: 3}}", ("p.yaml:5:51: error[E102]: steps.a.foreach.over.x is an integer; it must be a list or a string\nwrite [3]",)),
    ("axis-text", FOREACH % "{over: {x: abc}}", ("p.yaml:5:51: error[E204]: a list, or one expression that gives one, is needed here\nwrite [abc]",)),
    ("axis-range", FOREACH % "{over: {x: 1..3}}", ("p.yaml:5:51: error[E204]: a list, or one expression that gives one, is needed here\nwrite [1..3]",)),
    ("axis-null", FOREACH % "{over: {x: null}}", ("p.yaml:5:51: error[E102]: steps.a.foreach.over.x is empty; it must be a list or a string\nwrite [value, value]",)),
    ("axis-empty", FOREACH % "{over: {x: []}}", ("p.yaml:5:51: error[E209]: the axis `x` is empty: there would be no item\ngive it values, or remove it",)),
    ("axis-null-value", FOREACH % "{over: {x: [1, null]}}", ("p.yaml:5:55: error[E108]: a value of the axis `x` is empty\nwrite \"null\" for the text",)),
    ("axis-twice", FOREACH % "{over: {x: [1, 2, 1]}}", ("p.yaml:5:58: error[E209]: the axis `x` has 1 twice\nitems are named by their values",)),
    ("axis-1-1.0", FOREACH % "{over: {x: [1, 1.0]}}", ("p.yaml:5:55: error[E209]: the axis `x` has 1 twice\nitems are named by their values",)),
    ("axis-name", FOREACH % "{over: {in: [1]}}", ("p.yaml:5:48: error[E106]: `in` is a word of the language\nchoose another name",)),
    ("axis-name-form", FOREACH % "{over: {a b: [1]}}", ("p.yaml:5:48: error[E108]: a b is not a name\na name starts with a letter and holds letters, digits, `_` and single `-`",)),
    ("axis-clash", FOREACH % "{over: {a-b: [1], a_b: [1]}}", ("p.yaml:5:58: error[E106]: `a_b` and `a-b` would have the same environment name A_B",)),
    ("axis-too-many", FOREACH % "{over: {x: [1, 2, 3], y: [1, 2]}, max_items: 5}", ("p.yaml:5:41: error[E209]: 6 items of a (x: 3, y: 2) are more than `max_items`, 5\ngive fewer values, or raise `max_items` if so many are meant",)),
    ("axis-explode", FOREACH % ("{over: {" + ", ".join(f"a{i}: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" for i in range(8)) + "}}"), ("p.yaml:5:41: error[E209]: 100000000 items of a (a0: 10, a1: 10, a2: 10, a3: 10, a4: 10, a5: 10, a6: 10, a7: 10) are more than `max_items`, 1000\ngive fewer values, or raise `max_items` if so many are meant",)),
    ("axis-param-type", AXES % "{over: {x: $(params.n)}}", ("p.yaml:7:102: error[E203]: an axis needs a list, not integer",)),
    ("axis-output-type", AXES % "{over: {x: $(steps.b.outputs.f)}}", ("p.yaml:7:102: error[E203]: an axis needs a list, not file",)),
    ("axis-optional", AXES % "{over: {x: $(steps.b.outputs.o)}}", ("p.yaml:7:102: error[E203]: this value may be missing\nclose it with coalesce(value, default)",)),
    ("axis-unknown", AXES % "{over: {x: $(params.ys)}}", ("p.yaml:7:109: error[E202]: no parameter `ys`\nthere are: n, xs",)),
    ("axis-text-around", AXES % "{over: {x: 'v$(params.n)'}}", ("p.yaml:7:100: error[E204]: a list, or one expression that gives one, is needed here\nwrite [v$(params.n)]",)),
    ("axis-own", AXES % "{over: {x: $(steps.a.outputs.s)}}", ("p.yaml:7:102: error[E215]: step `a` cannot read its own outputs this way\nwrite $(outputs.NAME) for the path of an own output",)),
    ("axis-each", AXES % "{over: {x: [1], y: ['$(each.x)']}}", ("p.yaml:7:112: error[E202]: this step has no `foreach`, so no `each`\nadd `foreach`",)),
    ("axis-run", AXES % "{over: {x: ['$(run.id)']}}", ("p.yaml:7:104: error[E205]: run.id may be used in `message`, `env` and `finally` only",)),
    ("max_items-0", FOREACH % "{over: {x: [1]}, max_items: 0}", ("p.yaml:5:68: error[E108]: steps.a.foreach.max_items is 0; it must be at least 1",)),
    ("max_items-text", FOREACH % "{over: {x: [1]}, max_items: '5'}", ("p.yaml:5:68: error[E102]: steps.a.foreach.max_items is a string; it must be an integer\nremove the quotes",)),
    ("max_items-expr", FOREACH % "{over: {x: [1]}, max_items: $(params.n)}", ("p.yaml:5:68: error[E102]: steps.a.foreach.max_items is a string; it must be an integer",)),
    ("max_parallel-0", FOREACH % "{over: {x: [1]}, max_parallel: 0}", ("p.yaml:5:71: error[E108]: steps.a.foreach.max_parallel is 0; it must be at least 1",)),
    ("fail_fast-text", FOREACH % "{over: {x: [1]}, fail_fast: no}", ("p.yaml:5:68: error[E102]: steps.a.foreach.fail_fast is a string; it must be true or false\nwrite false; `no` is a text in YAML 1.2",)),
    ("include-axis", FOREACH % "{over: {x: [1]}, include: [{y: 2}]}", ("p.yaml:5:68: error[E202]: `foreach` has no axis `y`\nthere are: x",)),
    ("include-missing", FOREACH % "{over: {x: [1], y: [2]}, include: [{x: 3}]}", ("p.yaml:5:75: error[E104]: an item of `include` needs a value for every axis; y is missing",)),
    ("include-type", FOREACH % "{over: {x: [1]}, include: [{x: a}]}", ("p.yaml:5:71: error[E203]: the axis `x` has values of type integer, not string",)),
    ("include-twice", FOREACH % "{over: {x: [1]}, include: [{x: 1}]}", ("p.yaml:5:67: error[E209]: this item is there already",)),
    ("include-map", FOREACH % "{over: {x: [1]}, include: {x: 1}}", ("p.yaml:5:66: error[E102]: steps.a.foreach.include is a mapping; it must be a list",)),
    ("include-expr", AXES % "{over: {x: [1]}, include: [{x: $(params.n)}]}", ("p.yaml:7:120: error[E205]: expressions are not allowed here",)),
    ("exclude-axis", FOREACH % "{over: {x: [1]}, exclude: [{z: 2}]}", ("p.yaml:5:68: error[E202]: `foreach` has no axis `z`\nthere are: x",)),
    ("exclude-all", FOREACH % "{over: {x: [1]}, exclude: [{x: 1}]}", ("p.yaml:5:57: error[E209]: `exclude` leaves no item",)),
    ("exclude-empty", FOREACH % "{over: {x: [1]}, exclude: [{}]}", ("p.yaml:5:67: error[E108]: steps.a.foreach.exclude.0 is empty; it needs at least 1",)),
    ("best-output", AXES % "{over: {x: [1]}, best: {output: t, mode: min}}", ("p.yaml:7:121: error[E202]: step `a` declares no number output `t`\nthere are: s",)),
    ("best-unknown", AXES % "{over: {x: [1]}, best: {output: u, mode: min}}", ("p.yaml:7:121: error[E202]: step `a` declares no number output `u`\nthere are: s",)),
    ("best-mode", AXES % "{over: {x: [1]}, best: {output: s, mode: least}}", ("p.yaml:7:130: error[E107]: steps.a.foreach.best.mode is 'least', which is none of: min, max",)),
    ("best-missing", AXES % "{over: {x: [1]}, best: {output: s}}", ("p.yaml:7:106: error[E104]: steps.a.foreach.best lacks the required field `mode`",)),
    ("best-text", AXES % "{over: {x: [1]}, best: s}", ("p.yaml:7:112: error[E102]: steps.a.foreach.best is a string; it must be a mapping",)),
    ("foreach-condition", STEP % "kind: condition, if: true, foreach: {over: {x: [1]}}", ("p.yaml:5:34: error[E101]: unknown field `foreach` in steps.a (a condition step)\na field of: command, shell, python, notebook, pipeline",)),
    ("foreach-approval", STEP % "kind: approval, message: m, foreach: {over: {x: [1]}}", ("p.yaml:5:35: error[E101]: unknown field `foreach` in steps.a (an approval step)\na field of: command, shell, python, notebook, pipeline",)),
    ("foreach-finally", "steps:\n  a: {kind: shell, script: x}\nfinally:\n  f: {kind: shell, script: x, foreach: {over: {x: [1]}}}\n", ("p.yaml:7:31: error[E108]: a step of `finally` is not repeated",)),
    ("each-without", STEP % "kind: command, command: [echo, $(each.x)]", ("p.yaml:5:40: error[E202]: this step has no `foreach`, so no `each`\nadd `foreach`",)),
    ("each-axis", STEP % "kind: command, command: [echo, $(each.y)], foreach: {over: {x: [1]}}", ("p.yaml:5:45: error[E202]: `foreach` has no axis `y`\nthere are: x",)),
    ("each-list", STEP % "kind: command, command: [echo, $(each.x)], foreach: {over: {x: [[1], [2]]}}", ("p.yaml:5:40: error[E205]: a value of type list of integer has no text form\nuse join() or the context file",)),
    ("each-in-needs", STEP % "kind: command, command: [echo], needs: ['$(each.x)'], foreach: {over: {x: [a]}}", ("p.yaml:5:47: error[E108]: steps.a.needs.0 is '$(each.x)', which has the wrong form\na name starts with a letter and holds letters, digits, `_` and single `-`",)),
    ("each-in-path", STEP % "kind: shell, script: x, outputs: {o: {type: file, path: '$(each.x)'}}, foreach: {over: {x: [a]}}", ("p.yaml:5:63: error[E108]: the output path '$(each.x)' must stay below the output directory\ngive a relative path without `..`",)),
    ("each-in-timeout", STEP % "kind: shell, script: x, timeout: $(each.x), foreach: {over: {x: [5s]}}", ("p.yaml:5:42: error[E205]: only params may be used here",)),
    ("each-in-cpu", STEP % "kind: shell, script: x, resources: {cpu: $(each.x)}, foreach: {over: {x: [1]}}", ("p.yaml:5:50: error[E205]: only params may be used here",)),
    ("each-in-script", STEP % "kind: shell, script: 'echo $(each.x)', foreach: {over: {x: [1]}}", ("p.yaml:5:34: error[E210]: expressions are not replaced in shell text\ngive the value a name in `env` and write \"$NAME\"",)),
    ("best-without", AXES % "{over: {x: [1]}}" + "  c: {kind: command, command: [echo, $(steps.a.best.outputs.s)]}\n", ("p.yaml:8:48: error[E202]: `foreach` of step `a` says not what is `best`\nadd `best: {output: NAME, mode: min}` to it",)),
    ("best-none", AXES % "{over: {x: [1]}}" + "  c: {kind: command, command: [echo, $(steps.b.best.outputs.n)]}\n", ("p.yaml:8:48: error[E202]: step `b` has no `foreach`, so no `best`\nits outputs are single values",)),
    ("best-axis", AXES % "{over: {x: [1]}, best: {output: s, mode: min}}" + "  c: {kind: command, command: [echo, $(steps.a.best.each.z)]}\n", ("p.yaml:8:58: error[E202]: `foreach` of step `a` has no axis `z`\nthere are: x",)),
    ("best-nothing", AXES % "{over: {x: [1]}, best: {output: s, mode: min}}" + "  c: {kind: command, command: [echo, $(steps.a.best.s)]}\n", ("p.yaml:8:48: error[E202]: `steps.a.best.s` names nothing\nwrite steps.a.best.outputs.NAME or steps.a.best.each.AXIS",)),
    ("list-in-text", AXES % "{over: {x: [1]}}" + "  c: {kind: command, command: [echo, $(steps.a.outputs.s)]}\n", ("p.yaml:8:40: error[E205]: a value of type list of number has no text form\nuse join() or the context file",)),
    ("count-none", AXES % "{over: {x: [1]}}" + "  c: {kind: command, command: [echo, $(steps.b.count)]}\n", ("p.yaml:8:48: error[E202]: step `b` has no `foreach`, so no `count`\nits outputs are single values",)),
    ("item-ref", AXES % "{over: {x: [1]}}" + "  c: {kind: command, command: [echo, '$(steps.a[x=1].outputs.s)']}\n", ("p.yaml:8:50: error[E203]: unexpected character '='\ncompare with `==`",)),
    ("item-needs", AXES % "{over: {x: [1]}}" + "  c: {kind: command, command: [echo], needs: ['a[x=1]']}\n", ("p.yaml:8:47: error[E108]: steps.c.needs.0 is 'a[x=1]', which has the wrong form\na name starts with a letter and holds letters, digits, `_` and single `-`",)),
    ("inner-no-file", INNER % "pipeline: nope.yaml", ("p.yaml:7:33: error[E109]: there is no file nope.yaml\nthe path is relative to this file",)),
    ("inner-missing", INNER % "params: {n: 1}", ("p.yaml:7:3: error[E104]: steps.a (a pipeline step) lacks the required field `pipeline`",)),
    ("inner-number", INNER % "pipeline: 3", ("p.yaml:7:33: error[E102]: steps.a.pipeline is an integer; it must be a string\nput it in quotes: \"3\"",)),
    ("inner-folder", INNER % "pipeline: folder", ("p.yaml:7:33: error[E109]: there is no file folder\nthe path is relative to this file",)),
    ("inner-empty", INNER % "pipeline: ''", ("p.yaml:7:33: error[E108]: steps.a.pipeline is empty",)),
    ("inner-expr", INNER % "pipeline: $(params.t)", ("p.yaml:7:33: error[E205]: expressions are not allowed here: which steps there are is known before a run",)),
    ("inner-url", INNER % "pipeline: 'https://x.org/i.yaml'", ("p.yaml:7:33: error[E108]: https://x.org/i.yaml: `~`, variables and URLs are not paths here; give a path relative to this file\nthe path is relative to this file",)),
    ("inner-out", INNER % "pipeline: ../i.yaml", ("p.yaml:7:33: error[E108]: ../i.yaml leads out of the project root ROOT\nthe path is relative to this file",)),
    ("inner-home", INNER % "pipeline: ~/i.yaml", ("p.yaml:7:33: error[E108]: ~/i.yaml: `~`, variables and URLs are not paths here; give a path relative to this file\nthe path is relative to this file",)),
    ("inner-run", INNER % "pipeline: run.yaml", ("run.yaml:2:7: error[E107]: this is a Run; a Pipeline is needed here",)),
    ("inner-not-yaml", INNER % "pipeline: broken.ipynb", ("broken.ipynb:2:1: error[E100]: YAML: did not find expected node content",)),
    ("inner-itself", INNER % "pipeline: bad.yaml", ("p.yaml:7:33: error[E109]: there is no file bad.yaml\nthe path is relative to this file",)),
    ("inner-ring", INNER % "pipeline: ring.yaml", ("ring.yaml:5:36: error[E208]: pipelines contain each other: p.yaml -> ring.yaml -> p.yaml\na pipeline cannot stand in itself",)),
    ("inner-wrong", INNER % "pipeline: wrong.yaml", ("wrong.yaml:5:39: error[E201]: no step `b`\nthere are: a",)),
    ("inner-no-param", INNER % "pipeline: inner.yaml", ("p.yaml:7:3: error[E104]: the parameter `n` of inner.yaml has no default and is not set\nadd `params: {n: ...}`",)),
    ("inner-unknown-param", INNER % "pipeline: inner.yaml, params: {n: 1, nn: 2}", ("p.yaml:7:60: error[E122]: inner.yaml has no parameter `nn`\ndid you mean `n`?",)),
    ("inner-type", INNER % "pipeline: inner.yaml, params: {n: '1'}", ("p.yaml:7:57: error[E120]: params.n: expected an integer, got the text \"1\"; remove the quotes",)),
    ("inner-expr-type", INNER % "pipeline: inner.yaml, params: {n: $(params.t)}", ("p.yaml:7:57: error[E203]: the parameter `n` is of type integer, not string",)),
    ("inner-rule", INNER % "pipeline: inner.yaml, params: {n: 11}", ("p.yaml:7:57: error[E120]: params.n: 11 must be at most 10",)),
    ("inner-bad-expr", INNER % "pipeline: inner.yaml, params: {n: '$(params.t'}", ("p.yaml:7:57: error[E203]: `$(` has no closing `)`\nwrite `$$(` for the text `$(`",)),
    ("inner-element", INNER % "pipeline: inner.yaml, params: {n: 1, xs: [1, a]}", ("p.yaml:7:64: error[E120]: params.xs: element 1: expected an integer, got the text \"a\"",)),
    ("inner-element-expr", INNER % "pipeline: inner.yaml, params: {n: 1, xs: ['$(params.t)', 2]}", ("p.yaml:7:65: error[E203]: the parameter `xs[0]` is of type integer, not string",)),
    ("inner-element-lit", INNER % "pipeline: inner.yaml, params: {n: 1, xs: ['$(params.big)', a]}", ("p.yaml:7:82: error[E120]: params.xs[1]: expected an integer, got the text \"a\"",)),
    ("inner-file", INNER % "pipeline: inner.yaml, params: {n: 1, f: nope.txt}", ("p.yaml:7:63: error[E109]: params.f: there is no file nope.txt",)),
    ("inner-file-dir", INNER % "pipeline: inner.yaml, params: {n: 1, f: folder}", ("p.yaml:7:63: error[E109]: params.f: there is no file folder",)),
    ("inner-file-text", INNER % "pipeline: inner.yaml, params: {n: 1, f: $(params.t)}", ("p.yaml:7:63: error[E203]: the parameter `f` is of type file, not string",)),
    ("inner-params-list", INNER % "pipeline: inner.yaml, params: [1]", ("p.yaml:7:53: error[E102]: steps.a.params is a list; it must be a mapping",)),
    ("inner-run-id", INNER % "pipeline: inner.yaml, params: {n: 1, f: $(run.id)}", ("p.yaml:7:65: error[E205]: run.id may be used in `message`, `env` and `finally` only",)),
    ("inner-null", INNER % "pipeline: inner.yaml, params: {n: null}", ("p.yaml:7:57: error[E120]: params.n: expected an integer, got nothing",)),
    ("inner-secret", SECRET + INNER % "pipeline: inner.yaml, params: {n: $(secrets.key)}", ("p.yaml:8:59: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("inner-own-output", INNER % "pipeline: inner.yaml, params: {n: $(steps.a.outputs.s)}", ("p.yaml:7:59: error[E215]: step `a` cannot read its own outputs this way\nwrite $(outputs.NAME) for the path of an own output",)),
    ("inner-cycle", INNER % "pipeline: inner.yaml, params: {n: $(steps.c.outputs.n)}" + "  c: {kind: shell, env: {S: $(steps.a.outputs.s)}, script: x, outputs: {n: {type: integer}}}\n", ("p.yaml:7:3: error[E215]: steps wait for each other: a -> c -> a",)),
    ("inner-needs-cycle", INNER % "pipeline: inner.yaml, params: {n: 1}, needs: [c]" + "  c: {kind: shell, env: {S: $(steps.a.outputs.s)}, script: x}\n", ("p.yaml:7:3: error[E215]: steps wait for each other: a -> c -> a",)),
    ("inner-output", INNER % "pipeline: inner.yaml, params: {n: 1}" + "  c: {kind: command, command: [echo, $(steps.a.outputs.mm)]}\n", ("p.yaml:8:56: error[E202]: step `a` declares no output `mm`\ndid you mean `m`?",)),
    ("inner-step", INNER % "pipeline: inner.yaml, params: {n: 1}" + "  c: {kind: command, command: [echo, '$(steps.a/fit.outputs.m)']}\n", ("p.yaml:8:47: error[E202]: `steps.a` names nothing\nwrite steps.a.outputs.NAME",)),
    ("inner-step-name", INNER % "pipeline: inner.yaml, params: {n: 1}" + "  c: {kind: command, command: [echo, $(steps.fit.outputs.m)]}\n", ("p.yaml:8:46: error[E201]: no step `fit`\nthere are: a, b, c",)),
    ("inner-needs", INNER % "pipeline: inner.yaml, params: {n: 1}" + "  c: {kind: command, command: [echo], needs: [a/fit]}\n", ("p.yaml:8:47: error[E108]: steps.c.needs.0 is 'a/fit', which has the wrong form\na name starts with a letter and holds letters, digits, `_` and single `-`",)),
    ("inner-timeout", INNER % "pipeline: inner.yaml, params: {n: 1}, timeout: 5s", ("p.yaml:7:61: error[E101]: unknown field `timeout` in steps.a (a pipeline step)\na field of: command, shell, python, notebook, approval, callback",)),
    ("inner-retry", INNER % "pipeline: inner.yaml, params: {n: 1}, retry: {max_attempts: 2}", ("p.yaml:7:61: error[E101]: unknown field `retry` in steps.a (a pipeline step)\na field of: command, shell, python, notebook",)),
    ("inner-trigger", INNER % "pipeline: inner.yaml, params: {n: 1}, trigger: all_done", ("p.yaml:7:61: error[E101]: unknown field `trigger` in steps.a (a pipeline step)\na field of: command, shell, python, condition, fail, notebook, approval, callback, register",)),
    ("inner-outputs", INNER % "pipeline: inner.yaml, params: {n: 1}, outputs: {o: {type: file}}", ("p.yaml:7:61: error[E101]: unknown field `outputs` in steps.a (a pipeline step)\na field of: command, shell, python, notebook, callback",)),
    ("inner-env", INNER % "pipeline: inner.yaml, params: {n: 1}, env: {A: b}", ("p.yaml:7:61: error[E101]: unknown field `env` in steps.a (a pipeline step)\na field of: command, shell, python, notebook",)),
    ("inner-inputs", INNER % "pipeline: inner.yaml, inputs: {n: 1}", ("p.yaml:7:45: error[E101]: unknown field `inputs` in steps.a (a pipeline step)\na field of: command, shell, python, notebook",)),
    ("inner-runtime", INNER % "pipeline: inner.yaml, runtime: r", ("p.yaml:7:45: error[E101]: unknown field `runtime` in steps.a (a pipeline step)\na field of: command, shell, python, notebook",)),
    ("inner-resources", INNER % "pipeline: inner.yaml, resources: {cpu: 1}", ("p.yaml:7:45: error[E101]: unknown field `resources` in steps.a (a pipeline step)\na field of: command, shell, python, notebook",)),
    ("inner-finally", "steps:\n  a: {kind: shell, script: x}\nfinally:\n  f: {kind: pipeline, pipeline: inner.yaml, params: {n: 1}}\n", ("p.yaml:7:13: error[E107]: a pipeline step cannot stand in `finally`",)),
    ("inner-foreach-finally", INNER % "pipeline: ends.yaml, foreach: {over: {x: [1]}}", ("p.yaml:7:33: error[E216]: ends.yaml has `finally`, which cannot be repeated by `foreach`",)),
    ("inner-secret-other", SECRET + INNER % "pipeline: token.yaml", ("p.yaml:8:33: error[E106]: the secret `key` is another one in token.yaml\nrename one of them",)),
    ("inner-through", INNER % "pipeline: through.yaml, params: {f: model.txt}", ("p.yaml:7:33: error[E205]: output `f` of through.yaml is a file of the project, which no step of it made\nread the param `f` where the output is read",)),
    ("inner-each", INNER % "pipeline: inner.yaml, params: {n: $(each.y)}, foreach: {over: {x: [1]}}", ("p.yaml:7:64: error[E202]: `foreach` has no axis `y`\nthere are: x",)),
    ("inner-each-type", INNER % "pipeline: inner.yaml, params: {n: $(each.x)}, foreach: {over: {x: [a]}}", ("p.yaml:7:57: error[E203]: the parameter `n` is of type integer, not string",)),
    ("inner-best", INNER % "pipeline: inner.yaml, params: {n: 1}, foreach: {over: {x: [1]}, best: {output: m, mode: min}}", ("p.yaml:7:102: error[E202]: step `a` declares no number output `m`\nthere are: s",)),
    ("inner-cache", INNER % "pipeline: inner.yaml, params: {n: 1}, cache: yes", ("p.yaml:7:68: error[E102]: steps.a.cache is a string; it must be true or false or a mapping\nwrite true; `yes` is a text in YAML 1.2",)),
    ("approval-no-message", STEP % "kind: approval", ("p.yaml:5:3: error[E104]: steps.a (an approval step) lacks the required field `message`",)),
    ("approval-nobody", STEP % "kind: approval, message: m, approvers: []", ("p.yaml:5:35: error[E108]: steps.a.approvers is empty; it needs at least 1",)),
    ("approval-empty", STEP % "kind: approval, message: m, approvers: ['']", ("p.yaml:5:47: error[E108]: steps.a.approvers.0 is empty",)),
    ("approval-text", STEP % "kind: approval, message: m, approvers: ann", ("p.yaml:5:46: error[E102]: steps.a.approvers is a string; it must be a list\nwrite [ann]",)),
    ("approval-number", STEP % "kind: approval, message: m, approvers: [12]", ("p.yaml:5:47: error[E102]: steps.a.approvers.0 is an integer; it must be a string\nput it in quotes: \"12\"",)),
    ("approval-timeout", STEP % "kind: approval, message: m, timeout: 60", ("p.yaml:5:44: error[E102]: steps.a.timeout is an integer; it must be a string\na duration has a unit: 60s",)),
    ("approval-on_timeout", STEP % "kind: approval, message: m, on_timeout: accept", ("p.yaml:5:47: error[E107]: steps.a.on_timeout is 'accept', which is none of: fail, approve, reject",)),
    ("approval-retry", STEP % "kind: approval, message: m, retry: {max_attempts: 2}", ("p.yaml:5:35: error[E101]: unknown field `retry` in steps.a (an approval step)\na field of: command, shell, python, notebook",)),
    ("approval-outputs", STEP % "kind: approval, message: m, outputs: {o: {type: string}}", ("p.yaml:5:35: error[E101]: unknown field `outputs` in steps.a (an approval step)\na field of: command, shell, python, notebook, callback",)),
    ("approval-env", STEP % "kind: approval, message: m, env: {A: b}", ("p.yaml:5:35: error[E101]: unknown field `env` in steps.a (an approval step)\na field of: command, shell, python, notebook",)),
    ("approval-cache", STEP % "kind: approval, message: m, cache: true", ("p.yaml:5:35: error[E101]: unknown field `cache` in steps.a (an approval step)\na field of: command, shell, python, notebook, pipeline",)),
    ("approval-unknown", STEP % "kind: approval, message: m, approver: [ann]", ("p.yaml:5:35: error[E101]: unknown field `approver` in steps.a (an approval step)\ndid you mean `approvers`?",)),
    ("approval-message-number", STEP % "kind: approval, message: 3", ("p.yaml:5:32: error[E102]: steps.a.message is an integer; it must be a string\nput it in quotes: \"3\"",)),
    ("approval-message-ref", STEP % "kind: approval, message: 'v $(params.x)'", ("p.yaml:5:44: error[E202]: no parameter `x`\nthere are no params",)),
    ("approval-by", STEP % "kind: approval, message: m" + "  c: {kind: command, command: [echo, $(steps.a.outputs.who)]}\n", ("p.yaml:6:56: error[E202]: step `a` declares no output `who`\nthere are: by, comment",)),
    ("approval-secret", TOLD % "{kind: approval, message: 'k $(secrets.key)'}", ("p.yaml:6:37: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("approval-approvers-expr", STEP % "kind: approval, message: m, approvers: ['$(params.x)']", ("p.yaml:5:47: error[E205]: expressions are not allowed in `approvers`",)),
    ("approval-timeout-expr", STEP % "kind: approval, message: m, timeout: $(params.x)", ("p.yaml:5:44: error[E108]: steps.a.timeout is '$(params.x)', which has the wrong form\na duration is 500ms, 30s, 10m, 2h, 7d, 1w or ISO 8601 (PT30M)",)),
    ("approval-finally", "steps:\n  a: {kind: shell, script: x}\nfinally:\n  f: {kind: approval, message: m}\n", ("p.yaml:7:13: error[E107]: an approval step cannot stand in `finally`",)),
    ("callback-no-outputs", STEP % "kind: callback", ("p.yaml:5:3: error[E104]: steps.a (a callback step) lacks the required field `outputs`",)),
    ("callback-empty", STEP % "kind: callback, outputs: {}", ("p.yaml:5:23: error[E108]: steps.a.outputs is empty; it needs at least 1",)),
    ("callback-file", STEP % "kind: callback, outputs: {o: {type: file}}", ("p.yaml:5:43: error[E121]: a callback brings values, not a file",)),
    ("callback-path", STEP % "kind: callback, outputs: {o: {type: string, path: x}}", ("p.yaml:5:51: error[E121]: `path` does not fit a value that comes from outside",)),
    ("callback-from", STEP % "kind: callback, outputs: {o: {type: string, from: x}}", ("p.yaml:5:51: error[E121]: `from` does not fit a value that comes from outside",)),
    ("callback-pointer", STEP % "kind: callback, outputs: {o: {type: string, pointer: /x}}", ("p.yaml:5:51: error[E121]: `pointer` does not fit a value that comes from outside",)),
    ("callback-type", STEP % "kind: callback, outputs: {o: string}", ("p.yaml:5:36: error[E102]: steps.a.outputs.o is a string; it must be a mapping",)),
    ("callback-timeout", STEP % "kind: callback, outputs: {o: {type: string}}, timeout: soon", ("p.yaml:5:62: error[E108]: steps.a.timeout is 'soon', which has the wrong form\na duration is 500ms, 30s, 10m, 2h, 7d, 1w or ISO 8601 (PT30M)",)),
    ("callback-on_timeout", STEP % "kind: callback, outputs: {o: {type: string}}, on_timeout: fail", ("p.yaml:5:53: error[E101]: unknown field `on_timeout` in steps.a (a callback step)\na field of: approval",)),
    ("callback-inputs", STEP % "kind: callback, outputs: {o: {type: string}}, inputs: {a: b}", ("p.yaml:5:53: error[E101]: unknown field `inputs` in steps.a (a callback step)\na field of: command, shell, python, notebook",)),
    ("callback-secret", TOLD % "{kind: callback, message: $(secrets.key), outputs: {o: {type: string}}}", ("p.yaml:6:34: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("callback-unnamed", STEP % "kind: callback, outputs: {in: {type: string}}", ("p.yaml:5:33: error[E106]: `in` is a word of the language\nchoose another name",)),
    ("notebook-missing", STEP % "kind: notebook", ("p.yaml:5:3: error[E104]: steps.a (a notebook step) lacks the required field `notebook`",)),
    ("notebook-no-file", STEP % "kind: notebook, notebook: nope.ipynb", ("p.yaml:5:33: error[E109]: there is no file nope.ipynb\nthe path is relative to the pipeline's folder",)),
    ("notebook-py", STEP % "kind: notebook, notebook: model.txt", ("p.yaml:5:33: error[E108]: model.txt is no notebook\na notebook's name ends with .ipynb",)),
    ("notebook-untagged", STEP % "kind: notebook, notebook: untagged.ipynb, parameters: {x: 1}", ("p.yaml:5:49: error[E218]: untagged.ipynb has no cell with the tag `parameters`\ngive the cell that assigns the defaults this tag, or remove `parameters`",)),
    ("notebook-name", STEP % "kind: notebook, notebook: tagged.ipynb, parameters: {dept: 1}", ("p.yaml:5:60: error[E218]: the cell `parameters` of tagged.ipynb assigns no `dept`\ndid you mean `depth`?",)),
    ("notebook-ident", STEP % "kind: notebook, notebook: tagged.ipynb, parameters: {a-b: 1}", ("p.yaml:5:60: error[E108]: 'a-b' cannot be the name of a parameter",)),
    ("notebook-broken", STEP % "kind: notebook, notebook: broken.ipynb", ("p.yaml:5:33: error[E218]: broken.ipynb is no notebook: it is not JSON",)),
    ("notebook-list", STEP % "kind: notebook, notebook: list.ipynb", ("p.yaml:5:33: error[E218]: list.ipynb is no notebook: it has no cells as nbformat 4 has them",)),
    ("notebook-nocells", STEP % "kind: notebook, notebook: empty.ipynb", ("p.yaml:5:33: error[E218]: empty.ipynb is no notebook: it has no cells as nbformat 4 has them",)),
    ("notebook-output", STEP % "kind: notebook, notebook: tagged.ipynb, outputs: {notebook: {type: file}}", ("p.yaml:5:57: error[E106]: a notebook step has an output `notebook` already\nchoose another name",)),
    ("notebook-expr", STEP % "kind: notebook, notebook: $(params.x)", ("p.yaml:5:33: error[E205]: expressions are not allowed in `notebook`",)),
    ("notebook-kernel", STEP % "kind: notebook, notebook: tagged.ipynb, kernel: 3", ("p.yaml:5:55: error[E102]: steps.a.kernel is an integer; it must be a string\nput it in quotes: \"3\"",)),
    ("notebook-args", STEP % "kind: notebook, notebook: tagged.ipynb, args: {depth: 1}", ("p.yaml:5:47: error[E101]: unknown field `args` in steps.a (a notebook step)\na field of: python",)),
    ("notebook-parameters-list", STEP % "kind: notebook, notebook: tagged.ipynb, parameters: [1]", ("p.yaml:5:59: error[E102]: steps.a.parameters is a list; it must be a mapping",)),
    ("notebook-secret", TOLD % "{kind: notebook, notebook: tagged.ipynb, parameters: {depth: $(secrets.key)}}", ("p.yaml:6:69: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("notebook-container", "runtimes: {c: {kind: container, image: 'x@" + DIGEST + "'}}\n" + STEP % "kind: notebook, notebook: tagged.ipynb, runtime: c", ("p.yaml:6:56: error[E107]: a notebook step cannot run in a container\ncall the program by a command step",)),
    ("notebook-out", STEP % "kind: notebook, notebook: ../x.ipynb", ("p.yaml:5:33: error[E108]: ../x.ipynb leads out of the project root ROOT",)),
    ("notebook-clash", STEP % "kind: notebook, notebook: tagged.ipynb, outputs: {o: {type: file, path: tagged.executed.ipynb}}", ("p.yaml:5:57: error[E212]: the path tagged.executed.ipynb of output `o` meets tagged.executed.ipynb, the executed notebook\nwrite the output to a path of its own",)),
    ("notebook-folder", STEP % "kind: notebook, notebook: folder", ("p.yaml:5:33: error[E109]: there is no file folder\nthe path is relative to the pipeline's folder",)),
    ("runtimes-list", RUNTIMES % "[venv]", ("p.yaml:4:11: error[E102]: runtimes is a list; it must be a mapping",)),
    ("runtimes-text", RUNTIMES % "{r: venv}", ("p.yaml:4:15: error[E102]: runtimes.r is a string; it must be a mapping",)),
    ("runtimes-kind", RUNTIMES % "{r: {path: folder}}", ("p.yaml:4:12: error[E104]: runtimes.r lacks the required field `kind`",)),
    ("runtimes-unknown-kind", RUNTIMES % "{r: {kind: conda}}", ("p.yaml:4:22: error[E107]: runtimes.r.kind is 'conda', which is none of: host, venv, container",)),
    ("runtimes-field", RUNTIMES % "{r: {kind: host, requirements: req.txt}}", ("p.yaml:4:28: error[E101]: unknown field `requirements` in runtimes.r\nknown are: kind, lock, inherit_env, preload",)),
    ("runtimes-image-venv", RUNTIMES % "{r: {kind: venv, image: x}}", ("p.yaml:4:28: error[E101]: unknown field `image` in runtimes.r\nknown are: kind, requirements, lock, python, path, inherit_env, preload",)),
    ("venv-nothing", RUNTIMES % "{r: {kind: venv}}", ("p.yaml:4:12: error[E108]: the runtime `r` has none of `requirements`, `lock` and `path`\nsay what the environment is made of, or where it is",)),
    ("venv-both", RUNTIMES % "{r: {kind: venv, requirements: req.txt, lock: req.txt}}", ("p.yaml:4:12: error[E108]: the runtime `r` has more than one of `requirements`, `lock` and `path`\nsay what the environment is made of, or where it is",)),
    ("venv-no-file", RUNTIMES % "{r: {kind: venv, requirements: nope.txt}}", ("p.yaml:4:42: error[E109]: there is no file nope.txt\nthe path is relative to this file",)),
    ("venv-no-folder", RUNTIMES % "{r: {kind: venv, path: nope}}", ("p.yaml:4:34: error[E109]: there is no folder nope\nmake the environment there first",)),
    ("venv-path-file", RUNTIMES % "{r: {kind: venv, path: req.txt}}", ("p.yaml:4:34: error[E109]: there is no folder req.txt\nmake the environment there first",)),
    ("venv-path-python", RUNTIMES % "{r: {kind: venv, path: folder, python: '3.12'}}", ("p.yaml:4:42: error[E121]: `python` says of what an environment is made; the one of `path` is there already\nremove it",)),
    ("venv-python-number", RUNTIMES % "{r: {kind: venv, requirements: req.txt, python: 3.12}}", ("p.yaml:4:59: error[E102]: runtimes.r.python is a number; it must be a string\nput it in quotes: \"3.12\"",)),
    ("venv-list", RUNTIMES % "{r: {kind: venv, requirements: [numpy]}}", ("p.yaml:4:42: error[E102]: runtimes.r.requirements is a list; it must be a string",)),
    ("venv-out", RUNTIMES % "{r: {kind: venv, requirements: ../x.txt}}", ("p.yaml:4:42: error[E108]: ../x.txt leads out of the project root ROOT",)),
    ("container-no-image", RUNTIMES % "{r: {kind: container}}", ("p.yaml:4:12: error[E104]: runtimes.r lacks the required field `image`",)),
    ("container-tag", RUNTIMES % "{r: {kind: container, image: 'python:3.12'}}", ("p.yaml:4:40: error[E217]: the image python:3.12 has no digest, so it may be another one tomorrow\nwrite python:3.12@sha256:...; `docker image inspect --format '{{index .RepoDigests 0}}' IMAGE` prints it",)),
    ("container-digest", RUNTIMES % "{r: {kind: container, image: 'python@sha256:abc'}}", ("p.yaml:4:40: error[E217]: the image python@sha256:abc has a digest that is not sha256: and 64 hex digits\nwrite python@sha256:...; `docker image inspect --format '{{index .RepoDigests 0}}' IMAGE` prints it",)),
    ("container-engine", RUNTIMES % ("{r: {kind: container, image: 'x@" + DIGEST + "', engine: runc}}"), ("p.yaml:4:125: error[E107]: runtimes.r.engine is 'runc', which is none of: docker, podman",)),
    ("host-lock", RUNTIMES % "{r: {kind: host, lock: nope.lock}}", ("p.yaml:4:34: error[E109]: there is no file nope.lock\nthe path is relative to this file",)),
    ("inherit_env-text", RUNTIMES % "{r: {kind: host, inherit_env: PATH}}", ("p.yaml:4:41: error[E102]: runtimes.r.inherit_env is a string; it must be a list\nwrite [PATH]",)),
    ("inherit_env-name", RUNTIMES % "{r: {kind: host, inherit_env: [A-B]}}", ("p.yaml:4:42: error[E108]: runtimes.r.inherit_env.0 is 'A-B', which has the wrong form\nthe name of an environment variable",)),
    ("preload-name", RUNTIMES % "{r: {kind: host, preload: ['a b']}}", ("p.yaml:4:38: error[E108]: runtimes.r.preload.0 is 'a b', which has the wrong form\nwrite package.module",)),
    ("runtimes-name", RUNTIMES % "{in: {kind: host}}", ("p.yaml:4:12: error[E106]: `in` is a word of the language\nchoose another name",)),
    ("runtime-unknown", "runtimes: {gpu: {kind: host}}\n" + STEP % "kind: shell, script: x, runtime: gpo", ("p.yaml:6:40: error[E202]: no runtime `gpo`\ndid you mean `gpu`?",)),
    ("runtime-none", STEP % "kind: shell, script: x, runtime: gpu", ("p.yaml:5:40: error[E202]: no runtime `gpu`\nthere are no runtimes",)),
    ("runtime-map", STEP % "kind: shell, script: x, runtime: {kind: host}", ("p.yaml:5:40: error[E102]: steps.a.runtime is a mapping; it must be a string",)),
    ("runtime-defaults", "defaults: {runtime: gpu}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:21: error[E202]: no runtime `gpu`\nthere are no runtimes",)),
    ("runtime-python-container", "runtimes: {c: {kind: container, image: 'x@" + DIGEST + "'}}\n" + STEP % "kind: python, function: m:f, runtime: c", ("p.yaml:6:45: error[E107]: a python step cannot run in a container\ncall the program by a command step",)),
    ("runtime-condition", STEP % "kind: condition, if: true, runtime: c", ("p.yaml:5:34: error[E101]: unknown field `runtime` in steps.a (a condition step)\na field of: command, shell, python, notebook",)),
    ("runtime-expr", STEP % "kind: shell, script: x, runtime: $(params.r)", ("p.yaml:5:40: error[E108]: steps.a.runtime is '$(params.r)', which has the wrong form\na name starts with a letter and holds letters, digits, `_` and single `-`",)),
    ("secrets-text", "secrets: {key: KEY}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:16: error[E102]: secrets.key is a string; it must be a mapping",)),
    ("secrets-none", "secrets: {key: {}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:11: error[E108]: the secret `key` has neither `env` nor `file`\nsay one place where it is",)),
    ("secrets-both", "secrets: {key: {env: A, file: b}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:11: error[E108]: the secret `key` has both `env` and `file`\nsay one place where it is",)),
    ("secrets-value", "secrets: {key: {value: abc}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:17: error[E101]: unknown field `value` in secrets.key\nknown are: env, file, version",)),
    ("secrets-env", "secrets: {key: {env: $KEY}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:22: error[E108]: secrets.key.env is '$KEY', which has the wrong form\nthe name of an environment variable",)),
    ("secrets-file", "secrets: {key: {file: ../../k}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:23: error[E108]: ../../k leads out of the project root ROOT",)),
    ("secrets-home", "secrets: {key: {file: ~/k}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:23: error[E108]: ~/k: `~`, variables and URLs are not paths here; give a path relative to this file",)),
    ("secrets-version", "secrets: {key: {env: A, version: 2}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:34: error[E102]: secrets.key.version is an integer; it must be a string\nput it in quotes: \"2\"",)),
    ("secrets-name", "secrets: {in: {env: A}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:11: error[E106]: `in` is a word of the language\nchoose another name",)),
    ("secrets-file-empty", "secrets: {key: {file: ''}}\n" + STEP % "kind: shell, script: x", ("p.yaml:4:23: error[E108]: secrets.key.file is empty",)),
    ("secrets-file-in-code", "secrets: {key: {file: folder/x}}\n" + STEP % "kind: shell, code: [folder], script: x", ("p.yaml:6:27: error[E108]: `code` holds the file of the secret `key`: folder/x\ncode is copied for the step and kept in the store: keep secrets outside of it, or name less",)),
    ("secret-unknown", TOLD % "{kind: shell, env: {K: $(secrets.kee)}, script: x}", ("p.yaml:6:39: error[E202]: no secret `kee`\ndid you mean `key`?",)),
    ("secret-argv", TOLD % "{kind: command, command: [login, $(secrets.key)]}", ("p.yaml:6:41: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-text", TOLD % "{kind: shell, env: {K: 'Bearer $(secrets.key)'}, script: x}", ("p.yaml:6:39: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-function", TOLD % "{kind: shell, env: {K: $(lower(secrets.key))}, script: x}", ("p.yaml:6:37: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-script", TOLD % "{kind: shell, script: 'login $(secrets.key)'}", ("p.yaml:6:35: error[E210]: expressions are not replaced in shell text\ngive the value a name in `env` and write \"$NAME\"",)),
    ("secret-when", TOLD % "{kind: shell, when: $(secrets.key == 'a'), script: x}", ("p.yaml:6:28: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-if", TOLD % "{kind: condition, if: $(secrets.key == 'a')}", ("p.yaml:6:30: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-args", TOLD % "{kind: python, function: m:f, args: {k: $(secrets.key)}}", ("p.yaml:6:48: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-inputs", TOLD % "{kind: shell, inputs: {k: $(secrets.key)}, script: x}", ("p.yaml:6:34: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-cache", TOLD % "{kind: shell, cache: {key: ['$(secrets.key)']}, script: x, outputs: {o: {type: file}}}", ("p.yaml:6:37: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-fail", TOLD % "{kind: fail, message: $(secrets.key)}", ("p.yaml:6:30: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-outputs", TOLD % "{kind: shell, script: x}" + "outputs: {k: $(secrets.key)}\n", ("p.yaml:7:16: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-over", TOLD % "{kind: shell, script: x, foreach: {over: {k: ['$(secrets.key)']}}}", ("p.yaml:6:55: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-over-expr", TOLD % "{kind: shell, script: x, foreach: {over: {k: $(secrets.key)}}}", ("p.yaml:6:53: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-default", SECRET + "params: {k: {type: string, default: $(secrets.key)}}\n" + STEP % "kind: shell, script: x", ("p.yaml:5:37: error[E205]: a default is a literal; expressions are not allowed here",)),
    ("secret-timeout", TOLD % "{kind: shell, timeout: $(secrets.key), script: x}", ("p.yaml:6:31: error[E205]: only params may be used here",)),
    ("secret-defaults-env", SECRET + "defaults: {env: {K: 'a$(secrets.key)'}}\n" + STEP % "kind: shell, script: x", ("p.yaml:5:25: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-bare", TOLD % "{kind: shell, env: {K: $(secrets)}, script: x}", ("p.yaml:6:31: error[E202]: `secrets` names nothing\nwrite secrets.NAME",)),
    ("secret-register", TOLD % "{kind: register, model: $(secrets.key), group: g, metadata: {k: $(secrets.key)}}", ("p.yaml:6:32: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME", "p.yaml:6:72: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-code", TOLD % "{kind: command, command: [bash, -c, 'x $(secrets.key)']}", ("p.yaml:6:45: error[E211]: an expression inside program text handed to an interpreter would be run as code\npass it as a further argument or by `env`", "p.yaml:6:47: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("secret-finally", TOLD % "{kind: shell, script: x}" + "finally:\n  f: {kind: command, command: [x, $(secrets.key)]}\n", ("p.yaml:8:37: error[E214]: a secret may be used in `env` only, alone\nwrite `env: {NAME: $(secrets.key)}` and let the program read NAME",)),
    ("register-no-model", REGISTER % "group: g", ("p.yaml:7:3: error[E104]: steps.a (a register step) lacks the required field `model`",)),
    ("register-no-group", REGISTER % "model: $(steps.fit.outputs.m)", ("p.yaml:7:3: error[E104]: steps.a (a register step) lacks the required field `group`",)),
    ("register-text", REGISTER % "model: model.txt, group: g", ("p.yaml:7:30: error[E203]: a file or dir is needed here, not string\nwrite $(steps.NAME.outputs.MODEL)",)),
    ("register-number", REGISTER % "model: $(steps.fit.outputs.s), group: g", ("p.yaml:7:30: error[E203]: a file or dir is needed here, not number\nwrite $(steps.NAME.outputs.MODEL)",)),
    ("register-param", REGISTER % "model: $(params.f), group: g", ("p.yaml:7:30: error[E203]: a model is the output of a step; this is a file of the project",)),
    ("register-around", REGISTER % "model: 'x/$(steps.fit.outputs.m)', group: g", ("p.yaml:7:30: error[E203]: a file or dir is needed here, not string\nwrite $(steps.NAME.outputs.MODEL)",)),
    ("register-group", REGISTER % "model: $(steps.fit.outputs.m), group: a/b", ("p.yaml:7:61: error[E108]: steps.a.group is 'a/b', which has the wrong form\na group starts with a letter or digit and holds letters, digits, `_`, `.` and `-`",)),
    ("register-group-number", REGISTER % "model: $(steps.fit.outputs.m), group: 3", ("p.yaml:7:61: error[E102]: steps.a.group is an integer; it must be a string\nput it in quotes: \"3\"",)),
    ("register-metric-text", REGISTER % "model: $(steps.fit.outputs.m), group: g, metrics: {m: good}", ("p.yaml:7:77: error[E203]: a metric is a number; this is a text",)),
    ("register-metric-type", REGISTER % "model: $(steps.fit.outputs.m), group: g, metrics: {m: $(steps.fit.outputs.t)}", ("p.yaml:7:77: error[E203]: a metric is a number; this is of type string",)),
    ("register-metrics-list", REGISTER % "model: $(steps.fit.outputs.m), group: g, metrics: [1]", ("p.yaml:7:73: error[E102]: steps.a.metrics is a list; it must be a mapping",)),
    ("register-metric-bool", REGISTER % "model: $(steps.fit.outputs.m), group: g, metrics: {m: true}", ("p.yaml:7:77: error[E102]: steps.a.metrics.m is a boolean; it must be a number or a string\nwrite a number, or one expression that gives one",)),
    ("register-status", REGISTER % "model: $(steps.fit.outputs.m), group: g, status: done", ("p.yaml:7:72: error[E108]: steps.a.status is 'done', which has the wrong form\na version is pending, approved or rejected",)),
    ("register-status-around", REGISTER % "model: $(steps.fit.outputs.m), group: g, status: 'x$(params.s)'", ("p.yaml:7:72: error[E108]: steps.a.status is 'x$(params.s)', which has the wrong form\na version is pending, approved or rejected",)),
    ("register-metadata", REGISTER % "model: $(steps.fit.outputs.m), group: g, metadata: {a: [1]}", ("p.yaml:7:78: error[E102]: steps.a.metadata.a is a list; it must be a string or a number or true or false",)),
    ("register-outputs", REGISTER % "model: $(steps.fit.outputs.m), group: g, outputs: {o: {type: string}}", ("p.yaml:7:64: error[E101]: unknown field `outputs` in steps.a (a register step)\na field of: command, shell, python, notebook, callback",)),
    ("register-timeout", REGISTER % "model: $(steps.fit.outputs.m), group: g, timeout: 5s", ("p.yaml:7:64: error[E101]: unknown field `timeout` in steps.a (a register step)\na field of: command, shell, python, notebook, approval, callback",)),
    ("register-output", REGISTER % "model: $(steps.fit.outputs.m), group: g" + "  c: {kind: command, command: [echo, $(steps.a.outputs.versoin)]}\n", ("p.yaml:8:56: error[E202]: step `a` declares no output `versoin`\ndid you mean `version`?",)),
    ("register-unknown", REGISTER % "model: $(steps.fit.outputs.m), group: g, metric: {a: 1}", ("p.yaml:7:64: error[E101]: unknown field `metric` in steps.a (a register step)\ndid you mean `metrics`?",)),
    ("register-none", REGISTER % "model: $(steps.fit.outputs.mm), group: g", ("p.yaml:7:50: error[E202]: step `fit` declares no output `mm`\ndid you mean `m`?",)),
    ("resources-text", STEP % "kind: shell, script: x, resources: big", ("p.yaml:5:42: error[E102]: steps.a.resources is a string; it must be a mapping",)),
    ("resources-unknown", STEP % "kind: shell, script: x, resources: {gpu: 1}", ("p.yaml:5:43: error[E101]: unknown field `gpu` in steps.a.resources\ndid you mean `cpu`?",)),
    ("cpu-0", STEP % "kind: shell, script: x, resources: {cpu: 0}", ("p.yaml:5:48: error[E108]: steps.a.resources.cpu is 0; it must be greater than 0",)),
    ("cpu-negative", STEP % "kind: shell, script: x, resources: {cpu: -1}", ("p.yaml:5:48: error[E108]: steps.a.resources.cpu is -1; it must be greater than 0",)),
    ("cpu-text", STEP % "kind: shell, script: x, resources: {cpu: two}", ("p.yaml:5:48: error[E108]: 'two' is not a number of processors",)),
    ("cpu-step", INNER % "pipeline: inner.yaml, params: {n: 1}" + "  c: {kind: shell, script: x, resources: {cpu: $(steps.b.outputs.n)}}\n", ("p.yaml:8:50: error[E205]: only params may be used here",)),
    ("cpu-type", INNER % "pipeline: inner.yaml, params: {n: 1}" + "  c: {kind: shell, script: x, resources: {cpu: $(params.t)}}\n", ("p.yaml:8:50: error[E203]: a number of processors is needed here, not string",)),
    ("memory-number", STEP % "kind: shell, script: x, resources: {memory: 512}", ("p.yaml:5:51: error[E102]: steps.a.resources.memory is an integer; it must be a string\na size has a unit: 512M",)),
    ("memory-unit", STEP % "kind: shell, script: x, resources: {memory: 512MB}", ("p.yaml:5:51: error[E108]: steps.a.resources.memory is '512MB', which has the wrong form\na size is a number with B, K, M, G, T, Ki, Mi, Gi or Ti",)),
    ("memory-lower", STEP % "kind: shell, script: x, resources: {memory: 2g}", ("p.yaml:5:51: error[E108]: steps.a.resources.memory is '2g', which has the wrong form\na size is a number with B, K, M, G, T, Ki, Mi, Gi or Ti",)),
    ("memory-around", "params: {m: {type: string, default: 1G}}\n" + STEP % "kind: shell, script: x, resources: {memory: '$(params.m)x'}", ("p.yaml:6:51: error[E204]: one expression is needed here, with nothing around it",)),
    ("memory-type", "params: {m: {type: integer, default: 1}}\n" + STEP % "kind: shell, script: x, resources: {memory: $(params.m)}", ("p.yaml:6:53: error[E203]: a size is needed here, not integer",)),
    ("resources-condition", STEP % "kind: condition, if: true, resources: {cpu: 1}", ("p.yaml:5:34: error[E101]: unknown field `resources` in steps.a (a condition step)\na field of: command, shell, python, notebook",)),
    ("memory-null", STEP % "kind: shell, script: x, resources: {memory: null}", ("p.yaml:5:51: error[E102]: steps.a.resources.memory is empty; it must be a string\na size is a number with B, K, M, G, T, Ki, Mi, Gi or Ti",)),
    ("retry-number", STEP % "kind: shell, script: x, retry: 3", ("p.yaml:5:38: error[E102]: steps.a.retry is an integer; it must be a mapping",)),
    ("retry-empty", STEP % "kind: shell, script: x, retry: {}", ("p.yaml:5:31: error[E104]: steps.a.retry lacks the required field `max_attempts`",)),
    ("retry-0", STEP % "kind: shell, script: x, retry: {max_attempts: 0}", ("p.yaml:5:53: error[E108]: steps.a.retry.max_attempts is 0; it must be at least 1",)),
    ("retry-101", STEP % "kind: shell, script: x, retry: {max_attempts: 101}", ("p.yaml:5:53: error[E108]: steps.a.retry.max_attempts is 101; it must be at most 100",)),
    ("retry-errors", STEP % "kind: shell, script: x, retry: {max_attempts: 2, errors: [crash]}", ("p.yaml:5:65: error[E107]: steps.a.retry.errors.0 is 'crash', which is none of: exit, timeout, signal, oom, lost, any",)),
    ("retry-errors-text", STEP % "kind: shell, script: x, retry: {max_attempts: 2, errors: exit}", ("p.yaml:5:64: error[E102]: steps.a.retry.errors is a string; it must be a list\nwrite [exit]",)),
    ("retry-interval", STEP % "kind: shell, script: x, retry: {max_attempts: 2, interval: 5}", ("p.yaml:5:66: error[E102]: steps.a.retry.interval is an integer; it must be a string\na duration has a unit: 5s",)),
    ("retry-backoff", STEP % "kind: shell, script: x, retry: {max_attempts: 2, backoff: 0.5}", ("p.yaml:5:65: error[E108]: steps.a.retry.backoff is 0.5; it must be at least 1",)),
    ("retry-jitter", STEP % "kind: shell, script: x, retry: {max_attempts: 2, jitter: 2}", ("p.yaml:5:64: error[E108]: steps.a.retry.jitter is 2; it must be at most 1",)),
    ("retry-codes", STEP % "kind: shell, script: x, retry: {max_attempts: 2, exit_codes: [-1]}", ("p.yaml:5:69: error[E108]: steps.a.retry.exit_codes.0 is -1; it must be at least 0",)),
    ("retry-unknown", STEP % "kind: shell, script: x, retry: {attempts: 2}", ("p.yaml:5:39: error[E101]: unknown field `attempts` in steps.a.retry\ndid you mean `max_attempts`?",)),
    ("retry-expr", STEP % "kind: shell, script: x, retry: {max_attempts: $(params.n)}", ("p.yaml:5:53: error[E102]: steps.a.retry.max_attempts is a string; it must be an integer",)),
    ("retry-fail", STEP % "kind: fail, message: x, retry: {max_attempts: 2}", ("p.yaml:5:31: error[E101]: unknown field `retry` in steps.a (a fail step)\na field of: command, shell, python, notebook",)),
    ("unknown-kind", STEP % "kind: notebok, notebook: x", ("p.yaml:5:13: error[E107]: steps.a.kind is 'notebok', which is none of: command, shell, python, condition, fail, notebook, pipeline, approval, callback, register\ndid you mean `notebook`?",)),
    ("isolation", STEP % "kind: shell, script: x, isolation: docker", ("p.yaml:5:42: error[E107]: steps.a.isolation is 'docker', which is none of: none, bwrap",)),
    ("isolation-fail", STEP % "kind: fail, message: x, isolation: bwrap", ("p.yaml:5:31: error[E101]: unknown field `isolation` in steps.a (a fail step)\na field of: command, shell, python, notebook",)),
    ("isolation-container", "runtimes: {c: {kind: container, image: 'x@" + DIGEST + "'}}\n" + STEP % "kind: shell, script: x, runtime: c, isolation: bwrap", ("p.yaml:6:43: error[E121]: `isolation: bwrap` does not fit a step whose runtime is a container\nremove it: a container has an isolation of its own",)),
    ("network", STEP % "kind: shell, script: x, network: false", ("p.yaml:5:31: error[E121]: `network: false` needs `isolation: bwrap`\nadd `isolation: bwrap` to the step",)),
    ("network-none", STEP % "kind: shell, script: x, isolation: none, network: false", ("p.yaml:5:48: error[E121]: `network: false` needs `isolation: bwrap`\nadd `isolation: bwrap` to the step",)),
    ("network-word", STEP % "kind: shell, script: x, isolation: bwrap, network: no", ("p.yaml:5:58: error[E102]: steps.a.network is a string; it must be true or false\nwrite false; `no` is a text in YAML 1.2",)),
    ("expr-bracket", "params: {xs: {type: list, default: [1]}}\n" + STEP % "kind: command, command: [echo, $(params.xs[0])]", ("p.yaml:6:49: error[E100]: YAML: did not find expected ',' or ']'",)),
    ("alias", "x-a: &a $(1 + params.q)\n" + STEP % "kind: command, command: [echo, *a]", ("p.yaml:6:38: error[E202]: no parameter `q`\nthere are no params",)),
    ("venv-empty", RUNTIMES % "{r: {kind: venv, lock: ''}}", ("p.yaml:4:34: error[E108]: runtimes.r.lock is empty",)),
    ("image-empty", RUNTIMES % "{r: {kind: container, image: ''}}", ("p.yaml:4:40: error[E108]: runtimes.r.image is empty",)),
    ("notebook-empty", STEP % "kind: notebook, notebook: ''", ("p.yaml:5:33: error[E108]: steps.a.notebook is empty",)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), [pytest.param(text, says, id=name) for name, text, says in ROWS])
def test_a_bad_field_is_told_with_its_place_and_remedy(files, text, says):
    assert said(lambda: pipeline(HEAD + text, files), files) == says


RUNS = [
    ("secrets", "secrets: {key: {env: KEY}}", ("run.yaml:4:1: error[E101]: unknown field `secrets` in the document\na field of kind: Pipeline",)),
    ("secret", "params: {k: $(secrets.key)}", ("run.yaml:4:13: error[E205]: expressions are not allowed in a run request",)),
    ("runtimes", "runtimes: {}", ("run.yaml:4:1: error[E101]: unknown field `runtimes` in the document\na field of kind: Pipeline",)),
    ("steps", "steps: {}", ("run.yaml:4:1: error[E101]: unknown field `steps` in the document\na field of kind: Pipeline",)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), [pytest.param(text, says, id=name) for name, text, says in RUNS])
def test_a_run_request_holds_no_field_of_a_pipeline(files, text, says):
    def request():
        found = document.parse(f"{BESIDE['run.yaml']}{text}\n".encode(), "run.yaml")
        check_document(found, "Run")
        compile_request(found, files, "run.yaml")

    assert said(request, files) == says


def test_an_axis_that_excludes_nothing_is_a_warning(files):
    made = pipeline(HEAD + FOREACH % "{over: {x: [1]}, exclude: [{x: 2}]}", files)
    assert [str(warning) for warning in made.warnings] == [
        "p.yaml:5:67: warning[W405]: this excludes nothing: no item has these values\n"
        "    5 |   a: {kind: shell, script: x, foreach: {over: {x: [1]}, exclude: [{x: 2}]}}\n"
        "      |                                                                   ^"
    ]


def test_every_mistake_of_a_file_is_told_at_once(project):
    project.pipeline("""
        secrets: {key: {}}
        runtimes: {gpu: {kind: container, image: 'cuda:12'}}
        steps:
          ask: {kind: approval, message: $(secrets.key)}
          tune:
            kind: command
            command: [fit, $(each.depht), $(secrets.key)]
            foreach: {over: {depth: [1, 1]}}
            runtime: cpu
            outputs: {o: {type: file}}
          keep: {kind: register, model: $(steps.tune.outputs.o), group: g}
    """)
    answer = project.runner("validate", "p.yaml")
    assert [line for line in answer.err.splitlines() if line.startswith("p.yaml")] == [
        "p.yaml:4:11: error[E108]: the secret `key` has neither `env` nor `file`",
        "p.yaml:5:42: error[E217]: the image cuda:12 has no digest, so it may be another one tomorrow",
        "p.yaml:7:36: error[E214]: a secret may be used in `env` only, alone",
        "p.yaml:10:27: error[E202]: `foreach` has no axis `depht`",
        "p.yaml:10:37: error[E214]: a secret may be used in `env` only, alone",
        "p.yaml:11:33: error[E209]: the axis `depth` has 1 twice",
        "p.yaml:12:14: error[E202]: no runtime `cpu`",
        "p.yaml:14:33: error[E203]: a file or dir is needed here, not list of file",
    ]


def axes(project, values="[1, 2, 3]", limit=2):
    project.pipeline(f"""
        params: {{xs: {{type: list, items: integer, default: {values}}}}}
        steps:
          a: {{kind: command, command: [echo, $(each.x)], foreach: {{over: {{x: $(params.xs)}}, max_items: {limit}}}}}
    """)


def test_an_axis_of_a_param_with_too_many_values_is_refused_where_the_param_is_given(project):
    axes(project)
    project.request("params: {xs: [1, 2, 3, 4]}")
    assert str(project.runner("plan", "run.yaml")) == (
        "run.yaml:4:1: error[E209]: 4 items of a (x: 4) are more than `max_items`, 2\n"
        "    4 | params: {xs: [1, 2, 3, 4]}\n"
        "      | ^\n"
        "      = help: give the axis fewer values, or raise `max_items`\n"
        "[exit 2]"
    )


def test_an_axis_with_a_value_given_twice_is_refused(project):
    axes(project, "[1, 2, 1]", 10)
    assert str(project.runner("plan", "p.yaml")) == (
        "p.yaml:6:66: error[E209]: two items are called a[x=1]: a value is given twice\n"
        "    6 |   a: {kind: command, command: [echo, $(each.x)], foreach: {over: {x: $(params.xs)}, max_items: 10}}\n"
        "      |                                                                  ^\n"
        "      = help: items are named by their values: give each value once\n"
        "[exit 2]"
    )


def test_an_axis_that_explodes_at_run_time_fails_its_step_and_starts_no_item(project):
    project.pipeline("""
        steps:
          find: {kind: shell, script: 'echo "{\\"xs\\": [1, 2, 3]}" > "$RUNNER_VALUES"', outputs: {xs: {type: list, items: integer}}}
          a: {kind: command, command: [echo, $(each.x)], foreach: {over: {x: $(steps.find.outputs.xs)}, max_items: 2}}
    """)
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 1
    assert answer.out.endswith(
        "run R1 of p\n"
        "  find: started\n"
        "  find: ok in N s\n"
        "  a: FAILED: E209 3 items of a (x: 3) are more than `max_items`, 2\n"
        "run failed in N s: a: E209 3 items of a (x: 3) are more than `max_items`, 2\n"
    )
