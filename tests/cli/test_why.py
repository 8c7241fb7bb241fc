"""`runner why`: all that is counted for one step, then and now, and the plan's answer for it."""

import json

PIPELINE = """
    params: {x: {type: integer, default: 1}, go: {type: boolean, default: true}}
    steps:
      a: {kind: shell, script: 'cat a.txt > o.txt', code: [a.txt], outputs: {o: {type: file, path: o.txt}}}
      c: {kind: condition, if: $(params.go), then: [b]}
      b: {kind: shell, env: {A: $(steps.a.outputs.o), X: $(params.x)}, script: 'cat $A > o.txt', outputs: {o: {type: file, path: o.txt}}}
"""


def ready(project):
    project.pipeline(PIPELINE)
    project.write(a_txt="one")
    project.request("select: [c, b]\nparams: {x: 2}")


def test_a_reused_step_is_compared_with_what_the_reference_run_has(project):
    ready(project)
    project.runner("apply", "p.yaml")
    project.write(a_txt="two")
    assert str(project.runner("why", "run.yaml", "a")) == (
        """\
a: reuse   from R1   STALE  code a.txt: DIGEST -> DIGEST
compared with the reference run: succeeded in R1

counted
                                     THEN                        NOW
  code     a.txt                     DIGEST                    DIGEST                    changed
  field    script                    cat a.txt > o.txt           cat a.txt > o.txt
  field    shell                     ["bash","-euo","pipefail"]  ["bash","-euo","pipefail"]
  runtime  interpreter and platform  DIGEST                    DIGEST

F201 a would be reused, but it is stale: code a.txt: DIGEST -> DIGEST.
     select: [a, c, b]
     or accept: [{step: a, cause: CAUSE, reason: "..."}]

read by b (run)

plan sha256:DIGEST
[exit 3]"""
    )


def test_a_step_that_runs_has_its_gates_and_what_it_reads(project):
    ready(project)
    project.runner("apply", "p.yaml")
    answer = project.runner("why", "run.yaml", "b")
    assert (answer.code, answer.out) == (
        0,
        """\
b: run   selected; param x: 1 -> 2
compared with the reference run: succeeded in R1

counted
                                     THEN                        NOW
  param    x                         1                           2                           changed
  env      A                         o.txt (DIGEST)            o.txt (DIGEST)
  env      X                         1                           2                           changed
  field    script                    cat $A > o.txt              cat $A > o.txt
  field    shell                     ["bash","-euo","pipefail"]  ["bash","-euo","pipefail"]
  runtime  interpreter and platform  DIGEST                    DIGEST

reads
  STEP  OUTPUT  THEN      NOW
  a     o       DIGEST  DIGEST  reuse

gates
                     THEN       NOW
  branch  c is true  true       true
  after   a          succeeded  reuse
  after   c          succeeded  run

plan sha256:DIGEST
""",
    )


def test_a_step_that_never_ran_is_compared_with_nothing(project):
    ready(project)
    assert project.runner("why", "p.yaml", "a").out.splitlines()[:2] == [
        "a: run   nothing stored has its fingerprint",
        "compared with nothing: it has never run",
    ]


def test_as_json_it_is_whole(project):
    ready(project)
    project.runner("apply", "p.yaml")
    project.write(a_txt="two")
    value = json.loads(project.runner("why", "run.yaml", "a", "-o", "json").raw)
    assert [(c["kind"], c["name"], c["changed"]) for c in value["counted"]] == [
        ("code", "a.txt", True),
        ("field", "script", False),
        ("field", "shell", False),
        ("runtime", "interpreter and platform", False),
        ("definition", "kind", False),
        ("definition", "outputs", False),
        ("definition", "workdir", False),
        ("definition", "success_codes", False),
    ]
    assert (value["step"], value["decision"]["verdict"], value["compared_with"]["why"], value["read_by"]) == (
        "a",
        "stale",
        "the reference run",
        [{"step": "b", "decision": "run"}],
    )
    assert [f["code"] for f in value["findings"]] == ["F201"]


def test_a_name_that_is_no_step_gets_the_nearest_one(project):
    project.pipeline("steps: {train: {kind: shell, script: 'true'}}")
    assert str(project.runner("why", "p.yaml", "tran")) == (
        "error: the pipeline has no step `tran`\n  = help: did you mean `train`?\n[exit 2]"
    )
