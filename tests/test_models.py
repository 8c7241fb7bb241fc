"""The model registry: what `register` steps make, where a version comes from, and how it is decided on."""

import getpass
import json
import os

import pytest

MODEL = """
    params:
      mse: {type: number, default: 4.5}
      group: {type: string, default: abalone}
      status: {type: string, default: pending}
    steps:
      train: {kind: shell, script: echo model > m, outputs: {m: {type: file}}}
      register:
        kind: register
        model: $(steps.train.outputs.m)
        group: $(params.group)
        status: $(params.status)
        metrics: {mse: $(params.mse), rounds: 120}
        metadata: {purpose: a test, mse: $(params.mse)}
      use: {kind: shell, env: {V: $(steps.register.outputs.version)}, script: 'echo "$V" > o', outputs: {o: {type: file}}}
"""


def registered(project, *args):
    """Run the pipeline, once more if it has run; return the run."""
    answer = project.runner("apply", "p.yaml", *args)
    assert (answer.code, answer.err) == (0, "")
    return project.record()["run"]


def versions(project):
    return json.loads(project.runner("models", "-o", "json").raw)


def again(project):
    """Register anew what the newest run has made."""
    project.request("select: [register]\nmode: full")
    assert project.runner("apply", "run.yaml", "--again").code == 0
    return project.record()["run"]


def test_a_registered_model_is_listed_and_shown_with_its_lineage(project):
    project.pipeline(MODEL)
    assert str(project.runner("models")) == "no model is registered\n[exit 0]"
    assert "  register: ok, abalone version 1, pending\n" in project.runner("apply", "p.yaml").out
    run = project.record()["run"]
    assert project.runner("models").out.splitlines()[1].split()[:3] == ["abalone", "1", "pending"]
    assert str(project.runner("models", "show", "abalone")).partition("objects/")[0] == (
        "group       abalone version 1, pending\n"
        "model       m, 6 bytes, sha256:DIGEST\n"
        "made by     train (m) in run R1\n"
        "registered  by register of p in run R1, TIME\n"
        "metric      mse 4.5\n"
        "metric      rounds 120\n"
        "metadata    purpose = a test\n"
        "metadata    mse = 4.5\n"
        "stored at   ROOT/.runner/"
    )
    shown = json.loads(project.runner("models", "show", "abalone", "1", "-o", "json").raw)
    with open(shown.pop("path"), "rb") as file:
        assert file.read() == b"model\n"
    at, digest = shown["at"], project.record()["steps"]["train"]["outputs"]["m"]["digest"]
    assert shown == {
        "format": 1, "group": "abalone", "version": 1, "status": "pending", "metrics": {"mse": 4.5, "rounds": 120},
        "metadata": {"purpose": "a test", "mse": 4.5},
        "model": {"type": "file", "name": "m", "digest": digest, "size": 6, "run": run, "step": "train", "output": "m"},
        "run": run, "step": "register", "pipeline": "p", "by": "", "at": at,
        "history": [{"status": "pending", "by": "", "at": at, "comment": ""}],
    }  # fmt: skip
    assert versions(project) == [shown]
    assert project.output("use") == b"1\n"


def test_versions_count_up_in_each_group_and_name_the_run_that_made_the_model(project):
    project.pipeline(MODEL)
    first = registered(project)
    second = again(project)
    third = registered(project, "-p", "group=other-1.x_Y")
    assert [(v["group"], v["version"], v["run"], v["model"]["run"]) for v in versions(project)] == [
        ("abalone", 2, second, first), ("abalone", 1, first, first), ("other-1.x_Y", 1, third, first)
    ]  # fmt: skip


def test_the_same_work_is_cached_and_makes_no_new_version(project):
    project.pipeline(MODEL)
    registered(project)
    registered(project, "--again")
    assert project.statuses() == {"train": "cached", "register": "cached", "use": "cached"}
    registered(project, "-p", "mse=4.25")
    assert [(v["version"], v["metrics"]["mse"]) for v in versions(project)] == [(2, 4.25), (1, 4.5)]


def test_runs_at_once_each_get_a_number_of_their_own(project):
    project.pipeline(MODEL)
    registered(project)
    project.request("select: [register]\nmode: full")
    processes = [project.start("apply", "run.yaml", "--again") for _ in range(4)]
    for process in processes:
        process.communicate(timeout=60)
    assert [p.returncode for p in processes] == [0, 0, 0, 0]
    found = versions(project)
    assert [v["version"] for v in found] == [5, 4, 3, 2, 1]
    assert len({v["run"] for v in found}) == 5


def test_a_step_that_a_killed_resume_had_registered_keeps_its_version(project):
    """The version is there, its journal line is not: the run goes on and gets the same number."""
    project.pipeline("""
        steps:
          train: {kind: shell, script: echo model > m, outputs: {m: {type: file}}}
          first: {kind: approval, message: a, needs: [train]}
          second: {kind: approval, message: b}
          register: {kind: register, model: $(steps.train.outputs.m), group: g, needs: [first]}
    """)
    project.runner("apply", "p.yaml")
    run = project.record()["run"]
    journal = project.root / f".runner/runs/{run}/journal.jsonl"
    before = journal.read_bytes()
    project.runner("approve", run, "first")
    assert project.runner("resume", run).code == 7
    journal.write_bytes(before)
    project.runner("store", "reindex")
    assert "register: ok, g version 1, pending" in project.runner("resume", run).out
    assert [v["version"] for v in versions(project)] == [1]


def test_a_version_is_decided_on_and_keeps_its_history(project):
    me = getpass.getuser()
    project.pipeline(MODEL)
    registered(project)
    approve = project.runner("models", "approve", "abalone", "1", "--comment", "better on every fold")
    assert str(approve) == f"version 1 of abalone is approved by {me}\n[exit 0]"
    assert str(project.runner("models", "approve", "abalone", "1")) == (
        "error: version 1 of `abalone` is approved already\n  = help: see `runner models show`\n[exit 4]"
    )
    assert project.runner("models", "reject", "abalone", "1", "--comment", "\x1b[31mleaked").code == 0
    [found] = versions(project)
    assert found["status"] == "rejected"
    assert [(h["status"], h["by"], h["comment"]) for h in found["history"]] == [
        ("pending", "", ""), ("approved", me, "better on every fold"), ("rejected", me, "\x1b[31mleaked")
    ]  # fmt: skip
    assert project.runner("models", "show", "abalone").out.splitlines()[8:10] == [
        f"approved    by {me}, TIME: better on every fold", f"rejected    by {me}, TIME: \\x1b[31mleaked"
    ]  # fmt: skip


def test_a_decision_on_a_version_changes_nothing_for_later_runs(project):
    project.pipeline(MODEL)
    registered(project)
    project.runner("models", "reject", "abalone", "1")
    registered(project, "--again")
    assert project.statuses()["register"] == "cached"


def test_a_version_may_be_born_approved(project):
    project.pipeline(MODEL)
    registered(project, "-p", "status=approved")
    assert project.runner("models", "show", "abalone").out.startswith("group       abalone version 1, approved\n")


def test_wrong_names_of_groups_and_versions_are_told(project):
    project.pipeline(MODEL)
    registered(project)
    (project.root / ".runner/models/README").write_text("a stray file")
    asked = [("show", "abalne"), ("show", "../abalone"), ("show", "README"), ("show", "abalone", "7"), ("approve", "nope", "1"), ("reject", "abalone", "0")]  # fmt: skip
    assert [str(project.runner("models", *words)) for words in asked] == [
        "error: there is no group `abalne`\n  = help: did you mean `abalone`?\n[exit 2]",
        "error: there is no group `../abalone`\n  = help: did you mean `abalone`?\n[exit 2]",
        "error: there is no group `README`\n  = help: there are: abalone\n[exit 2]",
        "error: group `abalone` has no version 7\n  = help: there are: 1\n[exit 2]",
        "error: there is no group `nope`\n  = help: there are: abalone\n[exit 2]",
        "error: group `abalone` has no version 0\n  = help: there are: 1\n[exit 2]",
    ]


@pytest.mark.parametrize(
    "group", ["../up", "", ".hidden", "a/b", "-x", "two words", "x" * 101, "ü"], ids=lambda g: repr(g[:9])
)
def test_a_group_with_another_kind_of_name_is_refused_by_the_plan(project, group):
    project.pipeline(MODEL)
    answer = project.runner("apply", "p.yaml", "-p", f"group={group}")
    assert (answer.code, f"step register cannot start: {group!r} cannot be the name of a group\n" in answer.err) == (
        2,
        True,
    )
    assert not (project.root / ".runner/models").exists()


def test_a_status_that_is_none_is_refused_by_the_plan(project):
    project.pipeline(MODEL)
    answer = project.runner("apply", "p.yaml", "-p", "status=maybe")
    assert answer.code == 2
    assert "step register cannot start: 'maybe' is none of: pending, approved, rejected\n" in answer.err


@pytest.mark.parametrize(
    ("given", "kept", "shown"),
    [
        pytest.param("100.0", 100, "100", id="whole"),
        pytest.param("1e-7", 1e-07, "1e-07", id="small"),
        pytest.param("1e300", 1e300, "1e+300", id="large"),
        pytest.param("-0.0", 0, "0", id="minus zero"),
        pytest.param("123456789012345678901", 123456789012345678901, "123456789012345678901", id="a long integer"),
    ],
)
def test_a_metric_is_any_number(project, given, kept, shown):
    project.pipeline(MODEL)
    registered(project, "-p", f"mse={given}")
    assert versions(project)[0]["metrics"] == {"mse": kept, "rounds": 120}
    assert project.runner("models").out.splitlines()[1].endswith(f"mse {shown}, rounds 120")


@pytest.mark.parametrize(
    ("field", "code", "text"),
    [
        pytest.param("metrics: {q: abc}", "E203", "a metric is a number; this is a text", id="a text as metric"),
        pytest.param("metrics: {q: $(params.s)}", "E203", "a metric is a number; this is of type string", id="a string as metric"),
        pytest.param("metrics: {q: .nan}", "E108", ".nan is not a finite number", id="NaN as metric"),
        pytest.param("group: a/b", "E108", "steps.r.group is 'a/b', which has the wrong form", id="a path as group"),
        pytest.param("status: maybe", "E108", "steps.r.status is 'maybe', which has the wrong form", id="another status"),
        pytest.param("model: m.bin", "E203", "a file or dir is needed here, not string", id="a path as model"),
        pytest.param("model: $(steps.d.outputs.n)", "E203", "a file or dir is needed here, not integer", id="a number as model"),
        pytest.param("metadata: {a: $(secrets.token)}", "E214", "a secret may be used in `env` only, alone", id="a secret"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_told_when_the_pipeline_loads(project, field, code, text):
    given = {"model": "$(steps.d.outputs.m)", "group": "g"}
    given.pop(field.partition(":")[0], None)
    lines = "".join(f"    {name}: {value}\n" for name, value in given.items())
    project.pipeline(
        "params: {s: {type: string, default: x}}\nsecrets: {token: {env: TOKEN}}\nsteps:\n"
        "  d: {kind: shell, script: 'true', outputs: {m: {type: file}, n: {type: integer}}}\n"
        f"  r:\n    kind: register\n{lines}    {field}\n"
    )
    answer = project.runner("validate", "p.yaml")
    assert (answer.code, f"error[{code}]: {text}\n" in answer.err) == (2, True)


def test_a_model_may_be_an_element_of_a_list_or_the_best_of_a_fan_out(project):
    project.pipeline("""
        steps:
          tune:
            kind: command
            command: [python, -c, 'import json,os,sys; open("m", "w").write(sys.argv[1]); json.dump({"mse": float(sys.argv[1])}, open(os.environ["RUNNER_VALUES"], "w"))', $(each.k)]
            foreach: {over: {k: [3, 1, 2]}, best: {output: mse, mode: min}}
            outputs: {m: {type: file}, mse: {type: number}}
          best: {kind: register, model: $(steps.tune.best.outputs.m), group: best, metrics: {mse: $(steps.tune.best.outputs.mse), k: $(steps.tune.best.each.k)}}
          last: {kind: register, model: '$(steps.tune.outputs.m[2])', group: last}
    """)
    run = registered(project)
    assert [
        (v["group"], v["metrics"], v["model"]["run"], v["model"]["step"], v["model"]["output"], v["model"]["size"])
        for v in versions(project)
    ] == [("best", {"mse": 1, "k": 1}, run, "tune[k=1]", "m", 1), ("last", {}, run, "tune[k=2]", "m", 1)]


def test_a_model_out_of_an_inner_pipeline_names_the_step_that_made_it(project):
    project.pipeline("""
        steps: {fit: {kind: shell, script: echo x > m, outputs: {m: {type: file}}}}
        outputs: {model: $(steps.fit.outputs.m)}
    """, "inner")  # fmt: skip
    project.pipeline("""
        steps:
          train: {kind: pipeline, pipeline: inner.yaml}
          register: {kind: register, model: $(steps.train.outputs.model), group: g}
    """)
    registered(project)
    assert "made by     train/fit (m) in run R1\n" in project.runner("models", "show", "g").out


def test_a_model_may_be_a_directory_and_is_restored_from_its_run(project):
    project.pipeline("""
        steps:
          train: {kind: shell, script: 'mkdir -p m/part; echo 1 > m/a; echo 22 > m/part/b', outputs: {m: {type: dir}}}
          register: {kind: register, model: $(steps.train.outputs.m), group: g}
    """)
    run = registered(project)
    assert project.runner("models", "show", "g").out.splitlines()[-1] == "restore by  runner outputs R1 train DIR"
    assert project.runner("outputs", run, "train", "restored").code == 0
    assert (project.root / "restored/m/part/b").read_text() == "22\n"


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        pytest.param('{"format": 1, "gro', 5, "1.json cannot be read: ", id="half"),
        pytest.param("", 5, "1.json cannot be read: ", id="empty"),
        pytest.param("[]", 5, "1.json is not a version of a model", id="a list"),
        pytest.param('{"format": 1}', 5, "1.json is not a version of a model", id="fields are missing"),
        pytest.param('{"format": "1"}', 5, "1.json is not a version of a model", id="an odd format"),
        pytest.param('{"format": 2}', 6, "1.json has format 2; this runner knows 1", id="a newer format"),
    ],
)
def test_a_damaged_or_newer_version_stops_what_needs_it_and_nothing_else(project, content, code, said):
    project.pipeline(MODEL)
    registered(project)
    again(project)
    path = project.root / ".runner/models/abalone/1.json"
    whole = path.read_text()
    path.write_text(content)
    for command in (["models"], ["models", "show", "abalone", "1"], ["models", "approve", "abalone", "1"]):
        answer = project.runner(*command)
        assert (answer.code, said in answer.err) == (code, True)
    assert project.runner("models", "show", "abalone").out.startswith("group       abalone version 2, pending\n")
    answer = project.runner("apply", "run.yaml", "--again")
    assert (answer.code, "  register: FAILED: " in answer.out, said in answer.out) == (code, True, True)
    assert project.record()["status"] == "failed"
    assert project.runner("store", "verify").code == code
    assert sorted(os.listdir(path.parent)) == [".lock", "1.json", "2.json"]
    path.write_text(whole)
    again(project)
    assert [v["version"] for v in versions(project)] == [3, 2, 1]


def test_a_model_whose_bytes_are_gone_is_damage(project):
    project.pipeline(MODEL)
    registered(project)
    digest = versions(project)[0]["model"]["digest"].removeprefix("sha256:")
    (project.root / f".runner/objects/sha256/{digest[:2]}/{digest}").unlink()
    answer = project.runner("store", "verify")
    assert (answer.code, "the model of abalone version 1 is missing\n" in answer.out) == (5, True)


def test_options_of_the_list_are_not_taken_for_those_of_a_version(project):
    answer = project.runner("models", "--store", "elsewhere", "show", "abalone")
    assert (answer.code, answer.err.splitlines()[-1]) == (
        2, "Error: options go behind the command: runner models show ..."
    )  # fmt: skip
