"""Each way that was once found to reuse a wrong byte in silence: real files, compared with a full run from nothing."""

import contextlib
import hashlib
import json

import pytest

from runner.errors import Invalid
from runner.plan import bound
from runner.planning import load_plan
from runner.values import digest_of
from tests.kit import PLAN_SCHEMA

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"
B = """
      b:
        kind: shell
        script: '[ -z "$I" ] && echo none > z || cat $I > z'
        env: {I: "$(coalesce(steps.a.outputs.o, ''))"}
        outputs: {z: {type: file}}
"""
A = "      a: {kind: shell, script: echo a > o, outputs: {o: {type: file}}}\n"
GATE = """
      c: {kind: condition, if: "$(1 > 2)", then: [x], else: [y]}
      x: {kind: shell, script: "true"}
      y: {kind: shell, script: "true"}
"""


def codes(project, request):
    project.request(request)
    answer = project.runner("plan", "run.yaml", "-o", "json")
    value = json.loads(answer.raw)
    assert (answer.code == 3) == bool(value["findings"])
    return [f["code"] for f in value["findings"]]


@pytest.mark.parametrize("gate", ["when: $(params.go)", "needs: [c]"])
def test_a_gate_above_a_skipped_step_is_asked_again(project, gate):
    condition = "c: {kind: condition, if: $(params.go), then: [u]}" if "needs" in gate else ""
    project.pipeline(f"""
    params: {{go: {{type: boolean, default: false}}}}
    steps:
      {condition}
      u: {{kind: shell, script: echo u > o, {gate}, outputs: {{o: {{type: file}}}}}}
      a: {{kind: shell, script: cat $I > o, env: {{I: $(steps.u.outputs.o)}}, outputs: {{o: {{type: file}}}}}}
{B}""")
    assert project.runner("apply", "p.yaml").code == 0
    assert "F220" in codes(project, "select: [b]\nparams: {go: true}")
    assert codes(project, "select: [b]\nparams: {go: false}") == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(A, A.replace("{kind", "{when: false, kind"), id="when: false added"),
        pytest.param(A.replace("{kind", "{when: false, kind"), A, id="when: false removed"),
        pytest.param(A + GATE, A + GATE.replace("[x]", "[x, a]"), id="put behind a branch not taken"),
        pytest.param(A + GATE.replace("[x]", "[x, a]"), A + GATE, id="taken out of it"),
        pytest.param(
            A + GATE.replace("[y]", "[y, a]"), A + GATE.replace("[x]", "[x, a]"), id="moved to the other branch"
        ),
        pytest.param(
            A + GATE.replace("[x]", "[x, a]"), A + GATE.replace("[y]", "[y, a]"), id="moved to the branch taken"
        ),
        pytest.param(
            A + "      u: {kind: shell, script: 'true', when: false}\n",
            A.replace("{kind", "{needs: [u], kind") + "      u: {kind: shell, script: 'true', when: false}\n",
            id="put after a skipped step",
        ),
    ],
)
def test_an_edit_of_what_lets_a_reused_step_run_is_found(project, before, after):
    project.pipeline("    steps:\n" + before + B)
    assert project.runner("apply", "p.yaml").code == 0
    assert codes(project, "select: [b]") == []
    project.pipeline("    steps:\n" + after + B)
    assert "F220" in codes(project, "select: [b]")


@pytest.mark.parametrize("change", [{"p_yaml": "default: true"}, {"p_yaml": "when: true"}])
def test_a_step_that_was_skipped_and_would_run_is_not_nothing_to_do(project, change):
    text = "params: {x: {type: boolean, default: false}}\nsteps: {a: {kind: shell, script: echo 1 > o, when: $(params.x), outputs: {o: {type: file}}}}\n"
    project.pipeline(text)
    project.request("mode: full")
    assert project.runner("apply", "run.yaml").code == 0
    project.pipeline(
        text.replace("default: false", "default: true")
        if "default" in change["p_yaml"]
        else text.replace("$(params.x)", "true")
    )
    answer = project.runner("apply", "run.yaml")
    assert (answer.code, "a: ok" in answer.out) == (0, True), answer


def test_nothing_to_do_names_a_run_that_has_these_results(project):
    text = "params: {x: {type: integer, default: 1}}\nsteps: {a: {kind: shell, script: echo $X > o, env: {X: $(params.x)}, outputs: {o: {type: file}}}}\n"
    project.request("")
    for default in (1, 2, 1):
        project.pipeline(text.replace("default: 1", f"default: {default}"))
        assert project.runner("apply", "run.yaml").code == 0
    run = project.runner("apply", "run.yaml").raw.split()[4]
    assert project.runner("outputs", run, "a", "copy").code == 0
    assert (project.root / "copy/o").read_text() == "1\n"


def test_true_is_not_one(project):
    project.write(m_py="def f(c): open('o', 'w').write(repr(c))\n")
    project.pipeline("""
    params: {cfg: {type: object, default: {a: 1}}, n: {type: number, default: 1}}
    steps:
      a: {kind: python, function: m:f, args: {c: [$(params.cfg), $(params.n)]}, outputs: {o: {type: file}}}
      b: {kind: command, command: [cp, $(steps.a.outputs.o), z], outputs: {z: {type: file}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert codes(project, "select: [b]\nparams: {cfg: {a: true}}") == ["F201", "F210"]
    assert codes(project, "select: [b]\nparams: {n: 1.0}") == []
    assert project.runner("apply", "p.yaml", "-p", "n=1.0", "-p", 'cfg={"a": 1.0}', "--again").code == 0
    assert project.output("a") == b"[{'a': 1}, 1]"


def test_evidence_of_another_type_is_none(project):
    text = "steps:\n  a: {kind: shell, script: 'echo ''{\"v\": true}'' > $RUNNER_VALUES', outputs: {v: {type: boolean}}}\n  b: {kind: shell, script: echo $V > z, env: {V: $(steps.a.outputs.v)}, outputs: {z: {type: file}}}\n"
    project.pipeline(text)
    assert project.runner("apply", "p.yaml").code == 0
    first = project.record()["run"]
    project.pipeline(text.replace("true}", "1}").replace("boolean", "integer"))
    assert project.runner("apply", "p.yaml").code == 0
    project.request(f"select: [b]\nreference: {first}")
    answer = project.runner("plan", "run.yaml")
    assert (answer.code, answer.err.splitlines()[0]) == (
        2,
        "p.yaml:6:6: error[E219]: step b cannot start: output v of a was of type boolean; today it is of type integer",
    )


def test_the_executable_bit_of_a_file_counts_in_fingerprint_and_plan(project):
    project.write(tool_sh="#!/bin/sh\n", t_sh="#!/bin/sh\n")
    project.pipeline("""
    params: {tool: {type: file, default: tool.sh}}
    steps:
      a: {kind: shell, script: 'if [ -x $T ]; then echo exec > o; else echo plain > o; fi', env: {T: $(params.tool)}, outputs: {o: {type: file}}}
      b: {kind: shell, script: 'cat $I > z', env: {I: $(steps.a.outputs.o)}, code: [t.sh], outputs: {z: {type: file}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    project.request("select: [a, b]")
    assert project.runner("plan", "run.yaml", "--out", "plan.json").code == 0
    (project.root / "t.sh").chmod(0o755)
    answer = project.runner("plan", "--check", "plan.json")
    assert (answer.code, "  code t.sh: DIGEST -> DIGEST executable\n" in answer.err) == (4, True), answer
    (project.root / "tool.sh").chmod(0o755)
    assert codes(project, "select: [b]") == ["F201"]


def test_a_link_out_of_a_directory_is_refused(project):
    project.write(shared_txt="one\n")
    (project.root / "d").mkdir()
    (project.root / "d/x").symlink_to(project.root / "shared.txt")
    (project.root / "d/ok").symlink_to("real")
    project.pipeline("""
    params: {d: {type: dir, default: d}}
    steps: {a: {kind: shell, script: cat $D/x > o, env: {D: $(params.d)}, outputs: {o: {type: file}}}}
    """)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, "d/x is a symlink that leads out of" in answer.err) == (2, True), answer


def test_a_status_is_the_same_in_a_partial_run(project):
    project.pipeline("""
    steps:
      a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
      b: {kind: shell, script: echo $I > z, env: {I: $(steps.a.status)}, trigger: all_done, outputs: {z: {type: file}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    project.request("select: [b]")
    assert project.runner("apply", "run.yaml", "--again").code == 0
    assert (project.output("b", "z"), "succeeded -> " in project.runner("plan", "run.yaml").out) == (
        b"succeeded\n",
        False,
    )


def test_a_plan_file_of_another_shape_is_refused_whatever_its_checksum(project):
    project.pipeline("steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("")
    assert project.runner("plan", "run.yaml", "--out", "plan.json").code == 0
    value = json.loads((project.root / "plan.json").read_text())
    del value["checksum"]
    for field in [key for key in value if key not in ("digest", "format_version")]:
        for wrong in (None, 3, [], {"x": None}):
            changed = {**value, field: wrong}
            if PLAN_SCHEMA.is_valid(changed):
                continue
            with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
                changed["digest"] = digest_of(bound(changed))
            (project.root / "x.json").write_text(json.dumps({**changed, "checksum": digest_of(changed)}))
            with pytest.raises(Exception) as error:
                load_plan(str(project.root / "x.json"))
            assert isinstance(error.value, Invalid), (field, wrong)


def test_a_compiled_pipeline_that_came_with_the_files_is_not_believed(project):
    steps = "\n".join(f"  s{i}: {{kind: shell, script: 'true'}}" for i in range(200))
    project.pipeline(f"steps:\n{steps}\n")
    assert project.runner("apply", "p.yaml", "--workers", "2").code == 0
    assert project.runner("plan", "p.yaml").code == 0
    kept = next((project.root / ".runner/compiled").iterdir())
    content = kept.read_bytes()[32:].replace(b"\x04true", b"\x04trap")
    kept.write_bytes(hashlib.sha256(content).digest() + content)
    assert project.runner("plan", "p.yaml").code == 0
    assert kept.read_bytes()[32:] != content  # compiled anew


@pytest.mark.parametrize(
    "text",
    [
        "{apiVersion: runner/v1, kind: Run, pipeline: p.yaml}\n",
        '{"apiVersion": "runner/v1", "kind": "Run", "pipeline": "p.yaml"}\n',
        "apiVersion: runner/v1\nkind: &k Run\npipeline: p.yaml\n",
        "apiVersion: runner/v1\nkind:\n  Run\npipeline: p.yaml\n",
        "\ufeffkind: Run\napiVersion: runner/v1\npipeline: p.yaml\n",
    ],
)
def test_a_folder_finds_requests_in_every_form_of_yaml(project, text):
    project.pipeline("description: 'kind: Run'\nsteps: {a: {kind: shell, script: 'true'}}")
    (project.root / "odd.yaml").write_text(text)
    value = json.loads(project.runner("plan", ".", "-o", "json").raw)
    assert [v["path"] for v in value] == ["odd.yaml"]


def test_no_message_begins_a_line_with_what_a_value_says(project):
    project.pipeline("steps: {a: {kind: shell, script: 'true'}}")
    for field in ("pipeline", "reference"):
        project.write(r_yaml="apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n")
        text = (
            (project.root / "r.yaml")
            .read_text()
            .replace("pipeline: p.yaml\n", "" if field == "pipeline" else "pipeline: p.yaml\n")
        )
        (project.root / "r.yaml").write_text(f'{text}{field}: "x\\n::error::forged"\n')
        answer = project.runner("plan", "r.yaml")
        assert (answer.code, "\n::error" in answer.err) == (2, False), answer


def test_remedies_for_two_parameters_stand_together(project):
    project.pipeline("""
    params: {x: {type: integer, default: 1}, y: {type: integer, default: 1}}
    steps:
      a: {kind: shell, script: echo $X $Y > o, env: {X: $(params.x), Y: $(params.y)}, outputs: {o: {type: file}}}
      b: {kind: command, command: [cp, $(steps.a.outputs.o), z], outputs: {z: {type: file}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    project.request("select: [b]\nparams: {x: 2, y: 2}")
    finding = json.loads(project.runner("plan", "run.yaml", "-o", "json").raw)["findings"][0]
    assert [r["paste"] for r in finding["remedies"]][1:3] == [
        "remove x, y from `params`",
        "reset: [x, y]  # and no x, y in `params`",
    ]


def test_what_stands_behind_a_cached_step_waits_for_the_effect_that_it_needs(project):
    project.pipeline("""
        steps:
          migrate: {kind: shell, script: test ! -e "$FLAG", runtime: r}
          build: {kind: shell, needs: [migrate], script: echo b > o, outputs: {o: {type: file}}}
          deploy: {kind: shell, needs: [build], script: echo deployed}
        runtimes: {r: {kind: host, inherit_env: [FLAG]}}
    """)
    flag = project.root / "flag"
    assert project.runner("apply", "p.yaml", env={"FLAG": str(flag)}).code == 0
    flag.touch()
    answer = project.runner("apply", "p.yaml", env={"FLAG": str(flag)})
    assert "run     build    it comes after migrate   may end cached" in answer.out
    assert project.statuses() == {"migrate": "failed", "build": "upstream_failed", "deploy": "upstream_failed"}


def test_a_folder_in_the_argv_that_the_step_does_not_declare_is_named(project):
    project.write(sql__checks__one_txt="select 1")
    project.pipeline("steps:\n  a: {kind: command, command: [ls, sql/checks]}\n")
    answer = project.runner("validate", "p.yaml")
    assert "error[E213]: sql/checks is a project folder in neither `code` nor `inputs`" in answer.err
    project.pipeline("steps:\n  a: {kind: command, command: [ls, sql/checks], code: [sql/checks]}\n")
    assert project.runner("validate", "p.yaml").code == 0
