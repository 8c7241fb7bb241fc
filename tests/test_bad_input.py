"""Bad files: each mistake with its place and remedy, at once, without a traceback or a side effect."""

import os
import resource
import subprocess
import sys
import time

import pytest

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"
STEP = "steps:\n  a: {kind: command, command: [true]}\n"


def limit():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def refused(project, text, *, name="bad.yaml"):
    """Plan and apply a file that must be refused; return what is said."""
    path = project.root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = []
    for command in ("plan", "apply"):
        started = time.monotonic()
        env = {**os.environ, "PYTHONPATH": os.getcwd()}
        done = subprocess.run(
            [sys.executable, "-m", "runner", command, name],
            cwd=project.root,
            env=env,
            capture_output=True,
            text=True,
            preexec_fn=limit,
            timeout=10,
        )
        assert (done.returncode, time.monotonic() - started < 4) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
        assert not list(project.root.glob(".runner/runs/*"))
        said.append(done.stderr)
    assert said[0] == said[1]
    return said[0]


CASES = [
    ("A01-empty", "", "error[E102]: the document is empty; it must be a mapping of fields"),
    ("A01-comments", "# only\n# comments\n", "error[E102]: the document is empty; it must be a mapping of fields"),
    ("A01-dashes", "---\n", "empty"),
    ("A02-list", "- a\n- b\n", "bad.yaml:1:1: error[E102]: the document is a list; it must be a mapping of fields"),
    ("A02-scalar", "hello\n", "bad.yaml:1:1: error[E102]: the document is a string; it must be a mapping of fields"),
    ("A04-steps", HEAD + "steps:\n  a: {kind: command, command: [x]}\n  a: {kind: command, command: [y]}\n", "bad.yaml:6:3: error[E103]: key 'a' is given twice (first on line 5)"),
    ("A05-comand", HEAD + "steps:\n  a: {kind: command, comand: [x]}\n", "unknown field `comand` in steps.a (a command step)"),
    ("A05-depends", HEAD + "steps:\n  a: {kind: command, command: [x], depends_on: [b]}\n", "unknown field `depends_on` in steps.a (a command step)"),
    ("A06-text", HEAD + 'steps:\n  a: {kind: command, command: [x], retry: {max_attempts: "3"}}\n', "bad.yaml:5:58: error["),
    ("A06-negative", HEAD + "steps:\n  a: {kind: command, command: [x], retry: {max_attempts: -1}}\n", "bad.yaml:5:58: error["),
    ("A06-fraction", HEAD + "steps:\n  a: {kind: command, command: [x], retry: {max_attempts: 1.5}}\n", "bad.yaml:5:58: error["),
    ("A06-true", HEAD + "steps:\n  a: {kind: command, command: [x], retry: {max_attempts: true}}\n", "bad.yaml:5:58: error["),
    ("A06-null", HEAD + "steps:\n  a: {kind: command, command: [x], retry: {max_attempts: null}}\n", "bad.yaml:5:58: error["),
    ("A07-number", HEAD + "params: {s: {type: string, default: 1.10}}\n" + STEP, "error[E120]: params.s: expected a text, got a number; put it in quotes"),
    ("A09-int-tag", HEAD + "description: !!int x\n" + STEP, "error[E1"),
    ("A09-timestamp-tag", HEAD + "description: !!timestamp x\n" + STEP, "error[E1"),
    ("A10-python", HEAD + 'description: !!python/object/apply:os.system ["touch SENTINEL"]\n' + STEP, "error[E1"),
    ("A13-nan", HEAD + "params: {n: {type: number, default: .nan}}\n" + STEP, "error[E1"),
    ("A13-huge", HEAD + "params: {n: {type: number, default: 1e999}}\n" + STEP, "error[E1"),
    ("A15-flow", HEAD + "description: " + "[" * 500 + "]" * 500 + "\n", "error[E110]: the document is nested deeper than 64 levels"),
    ("A15-block", "".join(" " * i + f"k{i}:\n" for i in range(2000)), "error[E110]: the document is nested deeper than 64 levels"),
    ("A17-laughs", "x-a: &a0 [l, l, l, l, l, l, l, l, l]\n" + "".join(f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)) + HEAD + STEP, "error[E110]"),
    ("A17-quadratic", "x-a: &a " + "l" * 100_000 + "\nx-b: [" + ", ".join(["*a"] * 1000) + "]\n" + HEAD + STEP, "error[E110]"),
    ("A19-list", HEAD + "x-a: &a [*a]\n" + STEP, "refers to itself"),
    ("A19-map", HEAD + "params: &p {x: *p}\n" + STEP, "refers to itself"),
    ("A19-merge", HEAD + "x-a: &a\n  <<: *a\n" + STEP, "error[E105]"),
    ("A20-number-key", HEAD + "labels: {1: a}\n" + STEP, "keys must be strings"),
    ("A20-null-key", HEAD + "labels: {~: a}\n" + STEP, "keys must be strings"),
    ("A20-list-key", HEAD + "? [1, 2]\n: a\n" + STEP, "keys must be strings"),
    ("A23-slash", HEAD + "steps:\n  a/b: {kind: command, command: [x]}\n", "bad.yaml:5:3: error["),
    ("A23-dots", HEAD + "steps:\n  ..: {kind: command, command: [x]}\n", "bad.yaml:5:3: error["),
    ("A23-dash", HEAD + "steps:\n  -a: {kind: command, command: [x]}\n", "bad.yaml:5:3: error["),
    ("A23-long", HEAD + "steps:\n  " + "a" * 256 + ": {kind: command, command: [x]}\n", "bad.yaml:5:3: error["),
    ("A23-empty", HEAD + 'steps:\n  "": {kind: command, command: [x]}\n', "bad.yaml:5:3: error["),
    ("A26-no-command", HEAD + "steps:\n  a: {kind: command}\n", "error[E104]: steps.a (a command step) lacks the required field `command`"),
    ("A26-script", HEAD + "steps:\n  a: {kind: command, command: [x], script: y}\n", "error[E101]: unknown field `script` in steps.a (a command step)"),
    ("A26-no-steps", HEAD + "steps: {}\n", "bad.yaml:4:1: error[E108]: steps is empty; it needs at least 1"),
    ("A26-list", HEAD + "steps: []\n", "bad.yaml:4:8: error[E102]"),
    ("A28-param", HEAD + 'steps:\n  a: {kind: command, command: ["$(params.missing)"]}\n', "bad.yaml:5:42: error[E202]: no parameter `missing`"),
    ("A28-output", HEAD + 'steps:\n  b: {kind: shell, script: x}\n  a: {kind: command, command: ["$(steps.b.outputs.nope)"]}\n', "error[E202]: step `b` declares no output `nope`"),
    ("A28-unclosed", HEAD + 'steps:\n  a: {kind: command, command: ["$(params"]}\n', "bad.yaml:5:32: error[E203]"),
    ("A28-cut", HEAD + 'steps:\n  a: {kind: command, command: ["$(1 + )"]}\n', "bad.yaml:5:39: error[E203]"),
    ("A30-absolute", HEAD + "params: {f: {type: file, default: /etc/passwd}}\n" + STEP, "/etc/passwd is absolute and below no input root"),
    ("A30-above", HEAD + "params: {f: {type: file, default: ../x}}\n" + STEP, "leads out of the project root"),
    ("A30-inside-above", HEAD + "params: {f: {type: file, default: a/../../b}}\n" + STEP, "leads out of the project root"),
    ("A30-home", HEAD + "params: {f: {type: file, default: ~/x}}\n" + STEP, "`~`, variables and URLs are not paths here"),
    ("A30-variable", HEAD + "params: {f: {type: file, default: $HOME/x}}\n" + STEP, "`~`, variables and URLs are not paths here"),
    ("A30-url", HEAD + "params: {f: {type: file, default: 'file:///etc/passwd'}}\n" + STEP, "`~`, variables and URLs are not paths here"),
    ("A30-symlink", HEAD + "params: {f: {type: file, default: outside}}\n" + STEP, "outside is a symlink that leads out of the project root"),
    ("A30-output", HEAD + "steps:\n  a: {kind: shell, script: x, outputs: {o: {type: file, path: ../o}}}\n", "error[E108]: the output path '../o' must stay below"),
    ("B01-one", HEAD + "steps:\n  a: {kind: command, command: [x], needs: [a]}\n", "error[E215]: steps wait for each other: a -> a"),
    ("B01-two", HEAD + "steps:\n  a: {kind: command, command: [x], needs: [b]}\n  b: {kind: command, command: [x], needs: [a]}\n", "error[E215]: steps wait for each other: a -> b -> a"),
    ("B02", HEAD + "steps:\n  train: {kind: command, command: [x]}\n  b: {kind: command, command: [x], needs: [trian]}\n", "= help: did you mean `train`?"),
    ("finally-read", HEAD + "steps:\n  a: {kind: command, command: [x], needs: [f]}\nfinally:\n  f: {kind: command, command: [x]}\n", "error[E201]: no step `f`"),
    ("finally-name", HEAD + "steps:\n  a: {kind: command, command: [x]}\nfinally:\n  a: {kind: command, command: [x]}\n", "error[E106]: `a` is a step already"),
    ("finally-kind", HEAD + "steps:\n  a: {kind: command, command: [x]}\nfinally:\n  f: {kind: fail, message: x}\n", "bad.yaml:7:13: error[E107]"),
    ("run-status", HEAD + "steps:\n  a: {kind: shell, env: {S: $(run.status)}, script: x}\n", "run.status may be used in `finally` only"),
    ("E108-duration", HEAD + "steps:\n  a: {kind: command, command: [x], timeout: '1:30'}\n", "bad.yaml:5:45: error[E108]"),
    ("E111-comma", HEAD + "steps:\n  a: {kind: command, command: [$(if(true, 1, 2))]}\n", "error[E111]: YAML split this expression at the comma; put it in quotes"),
    ("E210", HEAD + "params: {x: {type: string, default: a}}\nsteps:\n  a: {kind: shell, script: 'echo $(params.x)'}\n", "error[E210]: expressions are not replaced in shell text"),
    ("E211", HEAD + "params: {x: {type: string, default: a}}\nsteps:\n  a: {kind: command, command: [bash, -c, 'echo $(params.x)']}\n", "error[E211]: an expression inside program text"),
    ("E212", HEAD + "steps:\n  a: {kind: shell, script: x, code: [bad.yaml], outputs: {o: {type: file, path: ./bad.yaml}}}\n", "error[E212]: the path ./bad.yaml of output `o` meets bad.yaml, which is code of the step"),
    ("E212", HEAD + "steps:\n  a: {kind: shell, script: x, inputs: {i: bad.yaml}, outputs: {o: {type: dir, path: bad.yaml}}}\n", "error[E212]: the path bad.yaml of output `o` meets bad.yaml, which is input `i`"),
    ("E212", HEAD + "steps:\n  a: {kind: shell, script: x, outputs: {o: {type: dir, path: d}, p: {type: file, path: d/f}}}\n", "error[E212]: outputs `o` and `p` have equal or nested paths"),
    ("binary", b"\x00\x01\xff\xfe", "error[E1"),
    ("tab", HEAD + "steps:\n\ta: 1\n", "bad.yaml:5:1: error[E100]"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), [pytest.param(text, says, id=name) for name, text, says in CASES])
def test_a_bad_file_is_refused(project, text, says):
    os.symlink("/etc/passwd", project.root / "outside")
    assert says in refused(project, text)
    assert not (project.root / "SENTINEL").exists()


def test_a_large_file_is_refused_at_once(project):
    assert "bad.yaml: error[E110]: the file is larger than 16 MiB" in refused(project, b"#" * 50_000_000)


def test_all_mistakes_of_a_stage_are_told_at_once_each_with_its_line_and_remedy(project):
    text = HEAD + (
        "params: {depth: {type: integer, default: '5'}}\n"
        "steps:\n"
        "  train:\n"
        "    kind: command\n"
        "    command: [train, $(params.dpeth), $(steps.prep.outputs.x)]\n"
        "  check:\n"
        "    kind: condition\n"
        "    if: params.depth > 3\n"
    )
    assert refused(project, text) == (
        'bad.yaml:4:42: error[E120]: params.depth: expected an integer, got the text "5"; remove the quotes\n'
        "    4 | params: {depth: {type: integer, default: '5'}}\n"
        "      |                                          ^\n"
        "bad.yaml:8:31: error[E202]: no parameter `dpeth`\n"
        "    8 |     command: [train, $(params.dpeth), $(steps.prep.outputs.x)]\n"
        "      |                               ^\n"
        "      = help: did you mean `depth`?\n"
        "bad.yaml:8:47: error[E201]: no step `prep`\n"
        "    8 |     command: [train, $(params.dpeth), $(steps.prep.outputs.x)]\n"
        "      |                                               ^\n"
        "      = help: there are: check, train\n"
        "bad.yaml:11:9: error[E204]: one expression of type boolean is needed here, with nothing around it\n"
        "   11 |     if: params.depth > 3\n"
        "      |         ^\n"
        "      = help: write $(params.depth > 3)\n"
    )


def test_more_than_twenty_mistakes_are_counted(project):
    text = HEAD + "steps:\n" + "".join(f"  s{i}: {{kind: command, command: [x], nope: 1}}\n" for i in range(30))
    said = refused(project, text)
    assert (said.count("error[E101]"), said.endswith("... and 10 more errors\n")) == (20, True)


RUNS = [
    ("no-pipeline", "pipeline: nope.yaml\n", "run.yaml:3:11: error[E109]: there is no file nope.yaml"),
    ("unknown-param", "pipeline: p.yaml\nparams: {deptth: 1}\n", "run.yaml:4:10: error[E122]: no parameter `deptth`"),
    ("wrong-type", "pipeline: p.yaml\nparams: {depth: '1'}\n", 'error[E120]: params.depth: expected an integer, got the text "1"; remove the quotes'),
    ("too-large", "pipeline: p.yaml\nparams: {depth: 100}\n", "run.yaml:4:17: error[E120]: params.depth: 100 must be at most 20"),
    ("unknown-step", "pipeline: p.yaml\nselect: [trian]\n", "run.yaml:4:10: error[E402]: no step `trian`"),
    ("bad-selector", "pipeline: p.yaml\nselect: ['train or']\n", "error[E401]: expected a step, found the end"),
    ("not-text", "pipeline: p.yaml\nselect: [12]\n", "run.yaml:4:10: error["),
    ("exclude-nothing", "pipeline: p.yaml\nexclude: [nope]\n", "run.yaml:4:11: error[E402]: no step `nope`"),
    ("no-reference", "pipeline: p.yaml\nselect: [test]\n", "error[E405]: no finished run of `p` has usable outputs of train"),
    ("no-such-run", "pipeline: p.yaml\nselect: [test]\nreference: 20260101-0000-abcd\n", "run.yaml:5:12: error[E405]: there is no run 20260101-0000-abcd"),
    ("expression", "pipeline: p.yaml\nparams: {depth: '$(params.x)'}\n", "error[E205]: expressions are not allowed in a run request"),
    ("conflict", "pipeline: p.yaml\nconcurrency: {group: g, conflict: wait}\n", "which is none of: queue, reject"),
    ("latest-max-age", "pipeline: p.yaml\nreference: {latest: {max_age: 1 day}}\n", "run.yaml:4:31: error[E108]"),
    ("latest-status", "pipeline: p.yaml\nreference: {latest: {status: [good]}}\n", "which is none of: succeeded, failed, stopped, interrupted"),
    ("latest-where", "pipeline: p.yaml\nreference: {latest: {where: {x: same}}}\n", "= help: write params.NAME"),
    ("reference-map", "pipeline: p.yaml\nreference: {oldest: {}}\n", "unknown field `oldest`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), [pytest.param(text, says, id=name) for name, text, says in RUNS])
def test_a_bad_request_is_refused(project, text, says):
    project.pipeline("""
        params: {depth: {type: integer, default: 3, maximum: 20}}
        steps:
          train: {kind: command, command: [echo, $(params.depth)], outputs: {m: {type: file}}}
          test: {kind: command, command: [cat, $(steps.train.outputs.m)]}
    """)
    assert says in refused(project, "apiVersion: runner/v1\nkind: Run\n" + text, name="run.yaml")


def test_a07_text_stays_as_it_is_written(project):
    project.pipeline("""
        params:
          a: {type: string, default: no}
          b: {type: string, default: 12:30:45}
          c: {type: string, default: 010}
          d: {type: string, default: 2023-02-31}
        steps: {show: {kind: command, command: [echo, $(params.a), $(params.b), $(params.c), $(params.d)]}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("logs", project.record()["run"]).out == "no 12:30:45 010 2023-02-31\n"


def test_b01_a_cycle_of_5000_steps_is_shown_shortened(project):
    text = (
        HEAD
        + "steps:\n"
        + "".join(f"  s{i}: {{kind: command, command: [x], needs: [s{(i + 1) % 5000}]}}\n" for i in range(5000))
    )
    assert "error[E215]: steps wait for each other: s" in refused(project, text)


@pytest.mark.parametrize("shape", ["chain", "diamonds"])
def test_b03_deep_graphs_are_planned_in_time(project, shape):
    if shape == "chain":
        steps = "".join(
            f"  s{i}: {{kind: command, command: [echo]{f', needs: [s{i - 1}]' if i else ''}}}\n" for i in range(10_000)
        )
    else:
        steps = "".join(
            f"  s{i}{k}: {{kind: command, command: [echo]{f', needs: [s{i - 1}a, s{i - 1}b]' if i else ''}}}\n"
            for i in range(40)
            for k in "ab"
        )
    project.write(p_yaml=HEAD + "steps:\n" + steps)
    started = time.monotonic()
    assert project.runner("plan", "p.yaml").code == 0
    assert time.monotonic() - started < 10


def test_settings_are_strict(project):
    project.write(runner_toml="[runner]\nworkerz = 2\n[store]\nverify = 'never'\n")
    project.pipeline(STEP)
    assert project.runner("plan", "p.yaml").err == (
        "ROOT/runner.toml:2:1: error[E101]: unknown key `workerz` in [runner]\n"
        "    2 | workerz = 2\n"
        "      | ^\n"
        "      = help: did you mean `workers`?\n"
        "ROOT/runner.toml:4:1: error[E107]: `verify` is 'never', which is none of: always, changed\n"
        "    4 | verify = 'never'\n"
        "      | ^\n"
    )


def test_a_file_that_is_not_there(project):
    assert str(project.runner("apply", "nope.yaml")) == "nope.yaml: error[E109]: there is no such file\n[exit 2]"


def test_a_parameter_beside_a_run_file_is_refused(project):
    project.pipeline(STEP)
    project.request()
    assert project.runner("apply", "run.yaml", "-p", "x=1").err == (
        "error: -p goes with a pipeline file only; a run file is the whole request\n  = help: write the parameter into `params` of the run file\n"
    )


def test_without_a_mark_the_project_is_the_pipelines_folder(project):
    (project.root / "runner.toml").unlink()
    project.pipeline(STEP)
    project.write(runs__run_yaml="apiVersion: runner/v1\nkind: Run\npipeline: ../p.yaml\n")
    assert project.runner("apply", "runs/run.yaml").code == 0
    assert (project.root / ".runner").is_dir()


def test_a_selection_of_nothing_is_refused(project):
    assert "run.yaml:4:1: error[E108]: select is empty; it needs at least 1" in refused(
        project, "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselect: []\n", name="run.yaml"
    )
