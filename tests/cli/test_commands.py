"""The commands that read, and what they print, whole."""

import json

import pytest

ABC = """
    params: {x: {type: integer, default: 1}, tags: {type: list, items: string, default: []}, rate: {type: number, default: 0.5}}
    steps:
      a: {kind: shell, env: {X: $(params.x)}, script: 'echo "$X"; echo 1 > o', outputs: {o: {type: file}}}
      b: {kind: shell, needs: [a], script: 'true'}
      check: {kind: condition, if: $(params.x > 0), then: [c]}
      c: {kind: command, command: [cat, $(steps.a.outputs.o)]}
"""


@pytest.fixture
def ran(project):
    project.pipeline(ABC)
    assert project.runner("apply", "p.yaml").code == 0
    return project


def test_graph(project):
    project.pipeline(ABC)
    assert project.runner("graph", "p.yaml").out == (
        "a      shell\n"
        "b      shell      after a\n"
        "check  condition\n"
        "c      command    reads a; if check is true\n"
    )  # fmt: skip
    assert project.runner("graph", "p.yaml", "-o", "mermaid").out == (
        'flowchart TD\n  s0["a"]\n  s1["b"]\n  s2{"check"}\n  s3["c"]\n  s0 -.-> s1\n  s0 --> s3\n  s2 -->|true| s3\n'
    )
    assert json.loads(project.runner("graph", "p.yaml", "-o", "json").raw)["edges"] == [
        {"from": "a", "to": "b", "why": "order"},
        {"from": "a", "to": "c", "why": "data"},
        {"from": "check", "to": "c", "why": "true"},
    ]
    assert project.runner("graph", "p.yaml", "-o", "dot").out.startswith('digraph "p" {\n  "a";\n')


def test_a_graph_shows_what_is_repeated_and_what_happens_at_the_end(project):
    project.pipeline("""
        params: {depths: {type: list, items: integer, default: [2, 3]}}
        steps:
          fit: {kind: shell, foreach: {over: {depth: $(params.depths), eta: [0.1]}}, script: echo}
          best: {kind: shell, needs: [fit], script: echo}
        finally: {tidy: {kind: shell, script: echo}}
    """)
    assert project.runner("graph", "p.yaml").out == (
        "fit   shell      for each depth, eta\n"
        "best  shell      after fit\n"
        "tidy  shell      finally\n"
    )  # fmt: skip
    assert project.runner("graph", "p.yaml", "-o", "mermaid").out == (
        'flowchart TD\n  s0[["fit for each depth, eta"]]\n  s1["best"]\n  s0 -.-> s1\n  subgraph finally\n    f0["tidy"]\n  end\n'
    )
    value = json.loads(project.runner("graph", "p.yaml", "-o", "json").raw)
    assert (value["steps"]["fit"]["foreach"], [*value["finally"]]) == (["depth", "eta"], ["tidy"])


def test_runs_and_show(ran):
    run = ran.record()["run"]
    assert [r["status"] for r in json.loads(ran.runner("runs", "-o", "json").raw)] == ["succeeded"]
    shown = ran.runner("show", run[-4:])
    assert shown.code == 0
    assert "  succeeded  a      N s, o DIGEST\n" in shown.out
    assert "  succeeded  check  true\n" in shown.out
    assert json.loads(ran.runner("show", run, "--params", "-o", "json").raw) == {"x": 1, "tags": [], "rate": 0.5}


def test_runs_of_another_pipeline(ran):
    assert str(ran.runner("runs", "--pipeline", "other")) == "there are no runs of `other`\n[exit 0]"


def test_logs_of_a_reused_step_are_those_of_the_run_that_produced_it(ran):
    ran.request("select: [c]")
    assert ran.runner("apply", "run.yaml").code == 0
    assert ran.runner("logs", ran.record()["run"], "a").out == "1\n"
    assert ran.runner("logs", ran.record()["run"], "nope").code == 2


def test_outputs_are_listed_and_copied(ran):
    run = ran.record()["run"]
    assert (
        str(ran.runner("outputs", run, "a", "copy"))
        == "o  file  2 bytes, sha256:DIGEST  produced by R1\n1 copied to copy\n[exit 0]"
    )
    assert (ran.root / "copy/o").read_text() == "1\n"
    assert (
        ran.runner("outputs", run, "a", "copy").err
        == "error: copy/o is there already\n  = help: name an empty directory\n"
    )


def test_follow_prints_until_the_run_has_ended(project):
    project.pipeline(
        f"steps: {{a: {{kind: shell, script: 'for i in 1 2 3; do echo $i; touch {project.beside}/up; sleep 0.3; done'}}}}"
    )
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        pass
    followed = project.runner("logs", project.record()["run"], "--follow").out
    process.communicate()
    assert followed == "1\n2\n3\n"


def test_retry_prints_a_request_that_can_be_kept(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
          b: {kind: shell, inputs: {i: $(steps.a.outputs.o)}, script: test -e flag, code: [p.yaml]}
          c: {kind: shell, needs: [b], script: 'true'}
    """)
    assert project.runner("apply", "p.yaml").code == 1
    run = project.record()["run"]
    printed = project.runner("retry", run, "--print")
    assert (
        printed.out == "# To be kept in this folder: `pipeline` is relative to the file.\n"
        "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nreference: R1\nselect: [b, c]\nislands: allow\nmode: full\n"
    )
    (project.root / "mend.yaml").write_text(printed.raw)
    assert project.runner("plan", "mend.yaml").out.startswith("READY  p: 1 reuse, 2 run\n")


def test_retry_of_a_run_that_succeeded_has_nothing_to_do(ran):
    assert (
        str(ran.runner("retry", ran.record()["run"]))
        == "run R1 has nothing to retry: all its steps succeeded or were skipped\n[exit 0]"
    )


def test_plan_as_json_and_markdown(ran):
    ran.request("select: [c]\nparams: {x: 2}")
    value = json.loads(ran.runner("plan", "run.yaml", "-o", "json").raw)
    assert (value["verdict"], {n: s["decision"] for n, s in value["steps"].items()}) == (
        "needs a decision",
        {"a": "reuse", "b": "cut", "check": "reuse", "c": "run"},
    )
    markdown = ran.runner("plan", "run.yaml", "-o", "markdown")
    assert markdown.code == 3
    assert markdown.out.startswith(
        "<!-- runner plan -->\n### NEEDS A DECISION  p: 2 reuse (1 stale), 1 cut, 1 run\n\n"
        "Reference run `R1`, succeeded: latest with a usable a, check\n\n- **F201** a would be reused"
    )


def test_detailed_exit_code(ran):
    assert ran.runner("plan", "p.yaml", "-p", "x=2", "--detailed-exitcode").code == 10
    assert ran.runner("plan", "p.yaml", "-p", "x=2").code == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("x=two", "error: -p x: expected an integer, got 'two'"),
        ("y=1", "error[E122]: no parameter `y`"),
        ("x", "-p x: write NAME=VALUE"),
        ("tags=a", "error: -p tags: expected a list as JSON, got 'a'"),
        ("tags=[1]", "error[E120]: params.tags: element 0: expected a text"),
    ],
)
def test_a_wrong_parameter_on_the_command_line(ran, given, says):
    answer = ran.runner("plan", "p.yaml", "-p", given)
    assert (answer.code, says in answer.err) == (2, True), answer.err


def test_schema_is_written(project):
    assert (
        project.runner("schema", "--write", "s").out
        == "s/pipeline.schema.json\ns/run.schema.json\ns/plan.schema.json\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(project, shell):
    assert "_RUNNER_COMPLETE" in project.runner("completion", shell).out


def test_an_unknown_command_names_the_nearest(project):
    answer = project.runner("aply")
    assert (answer.code, answer.err.splitlines()[-1]) == (2, "Error: no command `aply`. did you mean `apply`?")


def test_validate_as_json(project):
    project.pipeline("steps: {a: {kind: command, command: [x], nope: 1}}")
    answer = project.runner("validate", "p.yaml", "-o", "json")
    assert (answer.code, [(d["line"], d["code"]) for d in json.loads(answer.raw)]) == (2, [(4, "E101")])
