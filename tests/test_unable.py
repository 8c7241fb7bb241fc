"""A plan never says READY of a run in which a step is known to be unable to start or to end: errors with places, exit 2."""

import pytest

HEAD = "params: {t: {type: string, default: x}, n: {type: integer, default: 0}, d: {type: duration, default: 0s}, f: {type: file, default: c.yaml}, j: {type: file, default: j.json}}\n"
MAKE = '  make: {kind: shell, script: \'echo "{\\"n\\": 1}" > "$RUNNER_VALUES"\', outputs: {n: {type: integer}}}\n'
STEP = "steps:\n" + MAKE + "  s: {%s}\n"
INNER = """
    apiVersion: runner/v1
    kind: Pipeline
    name: inner
    params: {p: {type: integer, maximum: 9}, q: {type: integer, default: 1}}
    steps:
      i: {kind: shell, env: {P: "$(100 / params.q)", Q: $(params.p)}, script: echo}
      o: {kind: shell, script: 'echo "{\\"v\\": 0}" > "$RUNNER_VALUES"', outputs: {v: {type: integer}}}
    outputs: {v: "$(1 / params.q)"}
"""

# id, the pipeline's text after its head, and for each error its place, code and text.
ROWS = [
    ("json-of-yaml", STEP % "kind: shell, env: {C: '$(string(json(params.f, \"/a\")))'}, script: x", ["7:39: error[E219]: step s cannot start: c.yaml is not JSON: Expecting value: line 1 column 1 (char 0)"]),
    ("json-without-key", STEP % "kind: shell, env: {C: '$(string(json(params.j, \"/b\")))'}, script: x", ["7:39: error[E219]: step s cannot start: no `/b`; there is: a"]),
    ("division", STEP % "kind: shell, env: {C: $(1 / params.n)}, script: x", ["7:33: error[E219]: step s cannot start: division by zero"]),
    ("in-a-text", STEP % "kind: shell, env: {C: 'a $(1 / params.n) b'}, script: x", ["7:36: error[E219]: step s cannot start: division by zero"]),
    ("index", STEP % "kind: shell, env: {C: '$([1, 2][params.n + 5])'}, script: x", ["7:38: error[E219]: step s cannot start: there is no element 5"]),
    ("number-of-text", STEP % "kind: command, command: [echo, $(number(params.t))]", ["7:40: error[E219]: step s cannot start: number: could not convert string to float: 'x'"]),
    ("argument-of-python", STEP % "kind: python, function: m:f, args: {a: [1, {b: $(1 / params.n)}]}", ["7:58: error[E219]: step s cannot start: division by zero"]),
    ("beside-a-step-that-runs", STEP % "kind: shell, env: {N: $(steps.make.outputs.n), C: $(1 / params.n)}, script: x", ["7:61: error[E219]: step s cannot start: division by zero"]),
    ("input", STEP % "kind: shell, inputs: {i: $(1 / params.n)}, script: x", ["7:36: error[E219]: step s cannot start: division by zero"]),
    ("when", STEP % "kind: shell, when: $(1 / params.n > 1), script: x", ["7:30: error[E219]: step s cannot start: division by zero"]),
    ("when-by-an-input", STEP % "kind: shell, inputs: {i: $(1 / params.n)}, when: $(inputs.i > 1), script: x", ["7:36: error[E219]: step s cannot start: division by zero"]),
    ("cache-key", STEP % "kind: shell, cache: {key: [1, $(1 / params.n)]}, outputs: {o: {type: file}}, script: x", ["7:41: error[E219]: step s cannot start: division by zero"]),
    ("condition", STEP % "kind: condition, if: $(1 / params.n > 1)", ["7:32: error[E219]: step s cannot start: division by zero"]),
    ("condition-of-two", STEP % "kind: condition, if: [true, $(1 / params.n > 1)]", ["7:39: error[E219]: step s cannot start: division by zero"]),
    ("message", STEP % "kind: approval, message: a $(1 / params.n)", ["7:38: error[E219]: step s cannot start: division by zero"]),
    ("fail", STEP % "kind: fail, message: a $(1 / params.n)", ["7:34: error[E219]: step s cannot start: division by zero"]),
    ("callback", STEP % "kind: callback, message: a $(1 / params.n), outputs: {v: {type: integer}}", ["7:38: error[E219]: step s cannot start: division by zero"]),
    ("default", "defaults: {env: {C: $(1 / params.n)}}\n" + "steps:\n  s: {kind: shell, script: x}\n", ["5:25: error[E219]: step s cannot start: division by zero"]),
    ("timeout", STEP % "kind: shell, timeout: $(params.d), script: x", ["7:29: error[E108]: step s cannot start: '0s' leaves no time: a timeout must be longer than 0 s"]),
    ("timeout-of-text", STEP % "kind: shell, timeout: $(params.t), script: x", ["7:29: error[E108]: step s cannot start: 'x' is not a duration"]),
    ("timeout-of-default", "defaults: {timeout: $(params.d)}\n" + "steps:\n  s: {kind: shell, script: x}\n", ["5:21: error[E108]: step s cannot start: '0s' leaves no time: a timeout must be longer than 0 s"]),
    ("cpu", STEP % "kind: shell, resources: {cpu: $(params.n)}, script: x", ["7:37: error[E108]: step s cannot start: 0 is not a number of processors"]),
    ("cpu-less-than-none", STEP % "kind: shell, resources: {cpu: $(params.n - 1)}, script: x", ["7:37: error[E108]: step s cannot start: -1 is not a number of processors"]),
    ("cpu-without-value", STEP % "kind: shell, resources: {cpu: $(1 / params.n)}, script: x", ["7:41: error[E219]: step s cannot start: division by zero"]),
    ("memory", STEP % "kind: shell, resources: {memory: $(params.t)}, script: x", ["7:40: error[E108]: step s cannot start: 'x' is not a size"]),
    ("axis", STEP % "kind: shell, foreach: {over: {x: [1, $(1 / params.n)]}}, script: x", ["7:48: error[E219]: step s cannot start: division by zero"]),
    ("too-many-items", STEP % "kind: shell, foreach: {over: {x: [1, $(params.n)]}, max_items: 1}, script: x", ["7:36: error[E209]: 2 items of s (x: 2) are more than `max_items`, 1"]),
    ("twice", STEP % "kind: shell, foreach: {over: {x: [0, $(params.n)]}}, script: x", ["7:36: error[E209]: two items are called s[x=0]: a value is given twice"]),
    ("items", STEP % "kind: shell, foreach: {over: {x: [0, 1]}}, env: {C: $(each.x / params.n)}, script: x", ["7:68: error[E219]: step s[x=0] and 1 more cannot start: division by zero"]),
    ("program", STEP % "kind: command, command: [no-such-program]", ["7:32: error[E109]: step s cannot start: there is no program no-such-program"]),
    ("program-of-a-param", STEP % "kind: command, command: [no-$(params.t)]", ["7:32: error[E109]: step s cannot start: there is no program no-x"]),
    ("program-by-its-path", STEP % "kind: command, command: [/no/such/program]", ["7:32: error[E109]: step s cannot start: there is no program /no/such/program"]),
    ("program-of-the-project", STEP % "kind: command, command: [./tool]", ["7:32: error[E109]: step s cannot start: there is no program ./tool among the files that the step is given"]),
    ("interpreter", STEP % "kind: shell, shell: [no-such-shell], script: x", ["7:28: error[E109]: step s cannot start: there is no program no-such-shell"]),
    ("interpreter-of-a-script", STEP % "kind: command, command: [./odd.sh], code: [odd.sh]", ["7:32: error[E109]: step s cannot start: the first line of ./odd.sh asks for /no/such/sh, which is not there"]),
    ("not-executable", STEP % "kind: command, command: [./plain.sh], code: [plain.sh]", ["7:32: error[E109]: step s cannot start: ./plain.sh is not executable"]),
    ("path-of-the-step", STEP % "kind: command, env: {PATH: /no/such/folder}, command: [ls]", ["7:62: error[E109]: step s cannot start: there is no program ls"]),
    ("after-another", STEP % "kind: command, needs: [make], env: {N: $(steps.make.outputs.n)}, command: [no-such-program]", ["7:82: error[E109]: step s cannot start: there is no program no-such-program"]),
    ("finally", "steps:\n" + MAKE + "finally:\n  s: {kind: command, command: [no-such-program, $(1 / params.n)]}\n", ["8:32: error[E109]: step s cannot start: there is no program no-such-program", "8:53: error[E219]: step s cannot start: division by zero"]),
    ("status", "steps:\n" + MAKE.replace("n: {", "m: {type: file}, n: {") + "  s: {kind: register, model: $(steps.make.outputs.m), group: g, status: $(params.t)}\n", ["7:73: error[E107]: step s cannot start: 'x' is none of: pending, approved, rejected"]),
    ("group", "steps:\n" + MAKE.replace("n: {", "m: {type: file}, n: {") + "  s: {kind: register, model: $(steps.make.outputs.m), group: ' $(params.t)'}\n", ["7:62: error[E108]: step s cannot start: ' x' cannot be the name of a group"]),
    ("all-at-once", "steps:\n  a: {kind: shell, env: {C: $(1 / params.n)}, script: x}\n  b: {kind: command, command: [no-such-program]}\n", ["6:33: error[E219]: step a cannot start: division by zero", "7:32: error[E109]: step b cannot start: there is no program no-such-program"]),
    ("param-of-an-inner-pipeline", STEP % "kind: pipeline, pipeline: inner.yaml, params: {p: $(1 / params.n)}", ["7:57: error[E203]: the parameter `p` is of type integer, not number"]),
    ("value-of-an-inner-pipeline", STEP % "kind: pipeline, pipeline: inner.yaml, params: {p: $(integer(1 / params.n))}", ["7:69: error[E219]: step s/i cannot start: division by zero"]),
    ("rule-of-an-inner-pipeline", STEP % "kind: pipeline, pipeline: inner.yaml, params: {p: $(params.n + 10)}", ["7:57: error[E219]: step s/i cannot start: params.p of the inner pipeline: 10 must be at most 9"]),
]  # fmt: skip


@pytest.fixture
def files(project):
    project.write(c_yaml="a: 1\n", inner_yaml=INNER, m_py="def f(a): pass\n")
    (project.root / "j.json").write_text('{"a": 1}')
    for name, text in (("odd.sh", "#!/no/such/sh\n"), ("plain.sh", "#!/bin/sh\n")):
        (project.root / name).write_text(text)
    (project.root / "odd.sh").chmod(0o755)
    return project


@pytest.mark.parametrize(("body", "errors"), [pytest.param(body, errors, id=name) for name, body, errors in ROWS])
def test_what_is_known_to_fail_is_an_error_with_its_place(files, body, errors):
    files.pipeline(HEAD + body)
    plan = files.runner("plan", "p.yaml")
    assert [line for line in plan.err.splitlines() if "error[" in line] == [f"p.yaml:{error}" for error in errors]
    assert (plan.code, plan.out) == (2, "")
    assert str(files.runner("apply", "p.yaml")) == str(plan)
    assert files.runner("runs").out == "there are no runs yet\n"


# --- and what is only possible, or does not run, is none ----------------------------------------------------------

BROKEN = "kind: command, command: [no-such-program, $(1 / params.n)]"
FINE = [
    ("skipped", f"steps:\n  s: {{{BROKEN}, when: false}}\n", ""),
    ("skipped-by-a-param", f"steps:\n  s: {{{BROKEN}, when: $(params.n > 1)}}\n", ""),
    ("branch-that-is-not-taken", f"steps:\n  c: {{kind: condition, if: false, then: [s]}}\n  s: {{{BROKEN}}}\n", ""),
    ("branch-that-may-be-taken", f"steps:\n{MAKE}  c: {{kind: condition, if: $(steps.make.outputs.n > 1), then: [s]}}\n  s: {{{BROKEN}}}\n", "warning[W310]: step s: there is no program no-such-program\n"),
    ("when-that-may-hold", f"steps:\n{MAKE}  s: {{{BROKEN}, when: $(steps.make.outputs.n > 1)}}\n", "warning[W310]: step s: there is no program no-such-program\n"),
    ("axis-that-is-not-needed", "steps:\n  s: {kind: shell, foreach: {over: {x: [1, $(1 / params.n)]}}, script: x, needs: [c]}\n  c: {kind: condition, if: false, then: [s]}\n", ""),
    ("branch-of-if", "steps:\n  s: {kind: shell, env: {C: \"$(if(params.n > 0, 1 / params.n, 0))\"}, script: x}\n", ""),
    ("tolerated", "steps:\n  s: {kind: shell, env: {C: $(1 / params.n)}, script: x, on_failure: continue}\n", ""),
    ("tool-of-a-param", "params: {x: {type: file, default: odd.sh}}\nsteps:\n  s: {kind: command, command: [$(params.x)]}\n", ""),
    ("tool-that-a-step-makes", "steps:\n  a: {kind: shell, script: x, outputs: {tool: {type: file}}}\n  s: {kind: command, command: [$(steps.a.outputs.tool)]}\n  t: {kind: command, command: [.inputs/a/tool/tool], env: {T: $(steps.a.outputs.tool)}}\n", ""),
    ("tool-in-a-folder-of-code", "steps:\n  s: {kind: command, command: [bin/tool], code: [bin]}\n  t: {kind: command, command: [bin/tool], workdir: project}\n", ""),
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), [pytest.param(body, said, id=name) for name, body, said in FINE])
def test_what_may_not_run_or_may_go_well_is_no_error(files, body, said):
    (files.root / "bin").mkdir()
    (files.root / "bin/tool").write_text("#!/bin/sh\n")
    (files.root / "bin/tool").chmod(0o755)
    files.pipeline(("" if body.startswith("params") else HEAD) + body)
    plan = files.runner("plan", "p.yaml")
    assert (plan.code, plan.out.split()[0], plan.err) == (0, "READY", said)


def test_what_is_reused_or_not_selected_may_be_unable_to_run(files):
    body = "steps:\n  a: {kind: command, command: [%s], outputs: {o: {type: file, optional: true}}}\n  b: {kind: shell, env: {A: \"$(coalesce(steps.a.outputs.o, 'none'))\"}, script: x}\n  c: {kind: shell, env: {C: $(1 / params.n)}, needs: [b], script: x}\n"
    files.pipeline("params: {n: {type: integer, default: 1}}\n" + body % "/bin/true")
    files.runner("apply", "p.yaml")
    files.pipeline(HEAD + body.replace("C: $(1", "C: $(2") % "/bin/true")
    files.request("select: [b]")
    assert files.runner("plan", "run.yaml").code == 0
    files.request("select: [c]")
    assert files.runner("plan", "run.yaml").code == 2


def test_a_result_that_was_made_with_a_program_may_be_taken_where_the_program_is_not(files):
    body = (
        "steps:\n  a: {kind: shell, cache: false, script: echo x > o, outputs: {o: {type: file}}}\n"
        "  b: {kind: command, env: {A: $(steps.a.outputs.o)}, command: [tool-of-ours], outputs: {o: {type: file, optional: true}}}\n"
    )
    files.pipeline(body)
    assert files.runner("plan", "p.yaml").code == 2
    folder = files.beside / "bin"
    folder.mkdir()
    (folder / "tool-of-ours").symlink_to("/bin/true")
    with_tool = {"env": {"PATH": f"{folder}:/usr/bin:/bin"}}
    assert files.runner("apply", "p.yaml", **with_tool).code == 0
    plan = files.runner("plan", "p.yaml")
    assert (plan.code, plan.err) == (0, "warning[W310]: step b: there is no program tool-of-ours\n")
    assert files.runner("apply", "p.yaml").code == 0
    assert files.statuses()["b"] == "cached"


def test_a_plan_says_that_the_run_will_end_at_a_fail_step(files):
    files.pipeline("""
        steps:
          good: {kind: condition, if: false, else: [fail-notify]}
          fail-notify: {kind: fail, message: no}
    """)
    plan = files.runner("plan", "p.yaml")
    assert plan.code == 0
    assert "note: this run will end failed at fail-notify\n" in plan.out
    assert files.runner("apply", "p.yaml").code == 1


def test_a_step_that_may_run_and_then_has_no_value_fails_and_the_rest_goes_on(files):
    files.pipeline(
        "failure_policy: finish_independent\n" + HEAD + "steps:\n" + MAKE.replace("n: {", "b: {type: boolean, optional: true}, n: {")
        + "".join(
            f"  {name}: {{kind: {more}, when: $(steps.make.outputs.n == 1)}}\n"
            for name, more in {
                "cpu": "shell, resources: {cpu: $(1 / params.n)}, script: x",
                "memory": "shell, resources: {memory: $(params.t)}, script: x",
                "timeout": "shell, timeout: $(params.d), script: x",
                "env": "shell, env: {E: $(1 / params.n)}, script: x",
            }.items()
        )
        + "  last: {kind: shell, script: echo}\n"
    )  # fmt: skip
    assert files.runner("apply", "p.yaml").code == 1
    ends = {name: (step["status"], step.get("cause", "")) for name, step in files.record()["steps"].items()}
    failed = ("failed", "expression")
    assert ends == {
        "make": ("succeeded", ""), "cpu": failed, "memory": failed, "timeout": failed, "env": failed, "last": ("succeeded", ""),
    }  # fmt: skip


def test_the_errors_of_a_retry_and_of_a_plan_file_have_places_too(files):
    files.pipeline(HEAD + "steps:\n  a: {kind: shell, script: exit 3}\n")
    files.runner("apply", "p.yaml")
    files.runner("plan", "p.yaml", "--out", "plan.json")
    files.pipeline(HEAD + "steps:\n  a: {kind: shell, env: {C: $(1 / params.n)}, script: exit 3}\n")
    retry = files.runner("retry", files.record()["run"])
    assert (retry.code, retry.err.splitlines()[0]) == (
        2,
        "p.yaml:6:33: error[E219]: step a cannot start: division by zero",
    )
    assert files.runner("apply", "plan.json").code == 4


def test_the_best_of_items_that_are_all_skipped_is_missed_while_the_fan_out_still_waits_for_another_step(project):
    project.pipeline("""
        steps:
          slow: {kind: shell, script: 'true'}
          fan:
            kind: shell
            needs: [slow]
            when: $(each.x > 2)
            foreach: {over: {x: [1, 2]}, best: {output: n, mode: min}}
            env: {X: $(each.x)}
            script: 'echo "{\\"n\\": 1}" > "$RUNNER_VALUES"'
            outputs: {n: {type: integer}}
          use: {kind: shell, env: {N: $(steps.fan.best.outputs.n)}, script: echo "$N"}
    """)
    answer = project.runner("plan", "p.yaml")
    assert (answer.code, answer.err.splitlines()[0].partition(": error")[2]) == (
        2,
        "[E219]: step use cannot start: no item of fan has `n`, so none is the best",
    )
