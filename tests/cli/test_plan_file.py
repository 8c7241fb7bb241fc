"""Plans as files: written, checked, applied once or refused with what moved; `accept` written into run files; diffs."""

import json
import shutil

import jsonschema_rs
import pytest

from runner.planschema import plan_schema
from tests.kit import Project

PIPELINE = """
    params: {x: {type: integer, default: 1}, data: {type: file, default: data.txt}}
    steps:
      a: {kind: shell, code: [a.sh], env: {X: $(params.x)}, inputs: {d: $(params.data)}, script: . ./a.sh, outputs: {o: {type: file}}}
      b: {kind: command, command: [cp, $(steps.a.outputs.o), o], outputs: {o: {type: file}, n: {type: integer, from: o, metric: true}}}
"""


@pytest.fixture
def ran(project):
    project.write(a_sh="echo $X > o\n", data_txt="1\n")
    project.pipeline(PIPELINE)
    project.request("select: [b]\n")
    assert project.runner("apply", "p.yaml").code == 0
    return project


def planned(project, *args):
    answer = project.runner("plan", "run.yaml", "--out", "plan.json", *args)
    assert (project.root / "plan.json").exists(), answer
    return json.loads((project.root / "plan.json").read_text())


@pytest.mark.reliability("E08")
def test_a_plan_file_is_applied_as_it_was_planned_and_only_once(ran):
    assert planned(ran)["applyable"] is True
    assert str(ran.runner("plan", "--check", "plan.json")) == "the plan holds: sha256:DIGEST\n[exit 0]"
    assert ran.runner("apply", "plan.json").code == 0
    assert ran.statuses() == {"a": "reused", "b": "succeeded"}
    again = ran.runner("apply", "plan.json")
    assert str(again) == (
        "error: this plan was applied already: run R2\n"
        "  = help: see `runner show R2`; to do it again, `runner apply` its request with --again\n[exit 4]"
    )
    assert ran.runner("plan", "--check", "plan.json").code == 4


@pytest.mark.reliability("E08")
def test_a_plan_file_starts_one_run_also_in_an_empty_store(project):
    project.pipeline("steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("")
    planned(project)
    assert not (project.root / ".runner").exists()
    assert [project.runner("apply", "plan.json").code for _ in range(2)] == [0, 4]


@pytest.mark.reliability("E08")
def test_of_two_that_apply_one_plan_at_once_one_starts(project):
    project.pipeline("steps: {a: {kind: shell, script: sleep 0.3; echo 1 > o, outputs: {o: {type: file}}}}")
    project.request("")
    planned(project)
    both = [project.start("apply", "plan.json") for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
    assert sorted(process.returncode for process in both) == [0, 4]


@pytest.mark.reliability("E09")
@pytest.mark.parametrize(
    ("change", "moved"),
    [
        pytest.param({"a_sh": "echo $X >> o\n"}, "  code a.sh: DIGEST -> DIGEST\n", id="code"),
        pytest.param({"data_txt": "2\n"}, "  input data.txt: DIGEST -> DIGEST\n", id="input"),
        pytest.param(
            {"run_yaml": "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselect: [a, b]\n"},
            "  the request run.yaml: DIGEST -> DIGEST\n  step a: reuse -> run\n",
            id="request",
        ),
        pytest.param(
            {"p_yaml": "apiVersion: runner/v1\nkind: Pipeline\nname: p\nsteps: {}\n"}, "error[E108]", id="broken"
        ),
    ],
)
def test_a_plan_is_refused_with_what_moved(ran, change, moved):
    planned(ran)
    ran.write(**change)
    for command in (["apply", "plan.json"], ["plan", "--check", "plan.json"]):
        answer = ran.runner(*command)
        assert (answer.code, answer.err.startswith("error: plan.json does not hold any more"), moved in answer.err) == (
            4,
            True,
            True,
        ), answer


@pytest.mark.reliability("E09")
def test_a_plan_is_refused_when_another_run_has_become_the_reference(ran):
    planned(ran)
    assert ran.runner("apply", "p.yaml", "-p", "x=2").code == 0
    answer = ran.runner("apply", "plan.json")
    assert (
        answer.code,
        "  the reference run: R1 -> R2 (`reference: R1` in the request would have kept it)\n" in answer.err,
    ) == (4, True), answer


def test_a_run_that_is_not_chosen_moves_nothing(ran):
    planned(ran)
    assert ran.runner("apply", "p.yaml", "-p", "x=2", "-p", "data=nope").code == 2
    ran.write(t_yaml="apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nexpect: {status: failed}\n")
    assert ran.runner("apply", "t.yaml").code == 1  # a trial
    assert ran.runner("plan", "--check", "plan.json").code == 0


def test_the_digest_is_the_same_in_another_folder_and_from_another_place(ran, tmp_path_factory):
    digest = planned(ran)["digest"]
    other = Project(tmp_path_factory.mktemp("other"))
    shutil.copytree(ran.root, other.root, dirs_exist_ok=True)
    assert planned(other)["digest"] == digest
    (other.root / "sub").mkdir()
    value = json.loads(other.runner("plan", "../run.yaml", "-o", "json", cwd=other.root / "sub").raw)
    assert value["digest"] == digest


def test_a_plan_of_a_pipeline_file_holds_its_parameters(ran):
    answer = ran.runner("plan", "p.yaml", "-p", "x=5", "--out", "plan.json")
    assert answer.code == 0
    assert ran.runner("apply", "plan.json").code == 0
    assert ran.output("b") == b"5\n"


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        pytest.param(lambda t: t.replace('"run"', '"cut"', 1), 2, "it was changed after it was written", id="edited"),
        pytest.param(
            lambda t: t.replace("selected", "harmless"), 2, "it was changed after it was written", id="a reason edited"
        ),
        pytest.param(lambda t: t[: len(t) // 2], 2, "it is not a plan, or only a part of one", id="truncated"),
        pytest.param(lambda t: "{}", 2, "it is JSON, but not a plan", id="foreign JSON"),
        pytest.param(lambda t: "[1]", 2, "it is JSON, but not a plan", id="a list"),
        pytest.param(lambda t: "", 2, "it is not a plan", id="empty"),
        pytest.param(lambda t: "\x00\x01", 2, "it is not a plan", id="binary"),
        pytest.param(lambda t: "[" * 100_000, 2, "it is not a plan", id="deep"),
        pytest.param(
            lambda t: t.replace('"format_version": 1', '"format_version": 2'), 6, "is a plan of format 2", id="newer"
        ),
        pytest.param(
            lambda t: t.replace('"format_version": 1', '"format_version": "1"'),
            2,
            "its format_version is '1'",
            id="no number",
        ),
        pytest.param(
            lambda t: '{"format_version": 1, "digest": "x", "checksum": "y"}', 2, "it was changed after", id="hollow"
        ),
    ],
)
def test_a_file_that_is_not_the_plan_that_was_written_is_refused(ran, spoil, code, says):
    planned(ran)
    text = (ran.root / "plan.json").read_text()
    (ran.root / "plan.json").write_text(spoil(text))
    for command in (["apply", "plan.json"], ["plan", "--check", "plan.json"]):
        answer = ran.runner(*command)
        assert (answer.code, says in answer.err) == (code, True), answer


def test_a_plan_file_of_another_project_is_refused(ran, tmp_path_factory):
    planned(ran)
    other = Project(tmp_path_factory.mktemp("other"))
    shutil.copy(ran.root / "plan.json", other.root)
    answer = other.runner("apply", "plan.json")
    assert (answer.code, "does not hold here: there is no run.yaml in" in answer.err) == (4, True)


def test_a_plan_that_needs_a_decision_is_kept_but_not_started(ran):
    ran.write(a_sh="echo $X > o # new\n")
    assert planned(ran)["applyable"] is False
    assert ran.runner("apply", "plan.json").code == 3


def test_a_reference_run_whose_journal_is_damaged_is_named(ran):
    run = ran.record()["run"]
    journal = ran.root / f".runner/runs/{run}/journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"event"', b'"ev\xff"', 2))
    answer = ran.runner("plan", "run.yaml")
    assert (answer.code, "line 1 of the journal of run R1 is damaged" in answer.err) == (5, True), answer


def test_damage_is_told_by_plan_and_stops_the_plan_file(ran):
    planned(ran)
    digest = ran.record()["steps"]["a"]["outputs"]["o"]["digest"].removeprefix("sha256:")
    path = ran.root / ".runner/objects/sha256" / digest[:2] / digest
    path.chmod(0o644)
    path.write_bytes(b"9\n")
    assert [ran.runner(*c).code for c in (["plan", "run.yaml"], ["apply", "plan.json"], ["plan", "run.yaml"])] == [
        5,
        5,
        5,
    ]
    assert path.exists()


@pytest.mark.parametrize("how", ["edited in place", "deleted", "swapped"])
def test_case_12_a_stored_output_that_is_not_what_it_was_is_found_before_the_first_step(ran, how):
    ends = ran.record()["steps"]
    a, b = (
        ran.root / ".runner/objects/sha256" / d[:2] / d
        for d in (ends[n]["outputs"]["o"]["digest"].removeprefix("sha256:") for n in ("a", "b"))
    )
    other = a.with_name("other")
    other.write_text("9\n")
    {
        "edited in place": lambda: (a.chmod(0o644), a.write_text("7\n")),
        "deleted": lambda: a.unlink(),
        "swapped": lambda: other.replace(a),
    }[how]()
    assert (a == b, ran.runner("plan", "run.yaml").code) == (True, 5)
    answer = ran.runner("apply", "run.yaml")
    assert (answer.code, "output o of a (R1)" in answer.err, "add it to `select`" in answer.err) == (5, True, True), (
        answer
    )
    assert [run["status"] for run in json.loads(ran.runner("runs", "-o", "json").raw)] == ["succeeded"]


def test_every_printed_plan_fits_its_schema(ran):
    validator = jsonschema_rs.validator_for(plan_schema())
    ran.write(a_sh="echo $X > o # new\n")
    for args in ([], ["--references"], ["-o", "json"]):
        value = planned(ran, *args)
        validator.validate(value)
    validator.validate(json.loads(ran.runner("plan", "run.yaml", "--references", "-o", "json").raw))
    assert [c["lines"] for c in value["code_changes"]] == [["@@ -1 +1 @@", "-echo $X > o", "+echo $X > o # new"]]


# accept


def test_accept_prints_the_stanza_and_writes_only_its_lines(ran):
    ran.write(a_sh="echo $X > o # new\n")
    text = "# mine\napiVersion: runner/v1\nkind: Run\npipeline: p.yaml  # here\n\nselect: [b]\n# the end\n"
    (ran.root / "run.yaml").write_text(text)
    printed = ran.runner("plan", "run.yaml", "--accept", "a", "--reason", 'only a "comment"')
    assert str(printed) == 'accept:\n  - {step: a, cause: CAUSE, reason: "only a \\"comment\\""}\n[exit 0]'
    answer = ran.runner("plan", "run.yaml", "--accept", "a", "--reason", 'only a "comment"', "-w")
    assert (answer.code, answer.out.splitlines()[0]) == (0, "READY  p: 1 reuse, 1 run")
    assert (ran.root / "run.yaml").read_text() == text + printed.raw
    assert ran.runner("apply", "run.yaml").code == 0
    ran.write(a_sh="echo $X > o # newer\n")
    again = ran.runner("plan", "run.yaml")
    assert (again.code, "Its cause is not the one that was accepted." in again.out) == (3, True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "accept:\n  - {step: a, cause: c00000000, reason: old}  # keep\nname: n\n",
            'accept:\n  - {step: a, cause: CAUSE, reason: "new"}  # keep\nname: n\n',
            id="the same step",
        ),
        pytest.param("accept: []\nname: n\n", 'accept: [{step: a, cause: CAUSE, reason: "new"}]\nname: n\n', id="an empty list"),
        pytest.param(
            "accept:\n- step: b\n  cause: c11111111\n  reason: it is\n\n# end\nname: n\n",
            'accept:\n- step: b\n  cause: c11111111\n  reason: it is\n- {step: a, cause: CAUSE, reason: "new"}\n\n# end\nname: n\n',
            id="a block list",
        ),
        pytest.param(
            "accept: [{step: b, cause: c11111111, reason: it is},  # one\n  ]\n",
            'accept: [{step: b, cause: c11111111, reason: it is}, {step: a, cause: CAUSE, reason: "new"},  # one\n  ]\n',
            id="a flow list",
        ),
        pytest.param("name: n", 'name: n\naccept:\n  - {step: a, cause: CAUSE, reason: "new"}\n', id="no last newline"),
        pytest.param("name: n\n...\n", 'name: n\naccept:\n  - {step: a, cause: CAUSE, reason: "new"}\n...\n', id="an end mark"),
    ],
)  # fmt: skip
def test_accept_finds_its_place_in_every_layout(ran, before, after):
    ran.write(a_sh="echo $X > o # new\n")
    head = "apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselect: [b]\n"
    (ran.root / "run.yaml").write_text(head + before)
    answer = ran.runner("plan", "run.yaml", "--accept", "a", "--reason", "new", "-w")
    assert answer.code == 0, answer
    assert ran.plain((ran.root / "run.yaml").read_text()) == head + after.replace("c11111111", "CAUSE")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["run.yaml", "--accept", "a"], "--accept needs --reason TEXT"),
        (["run.yaml", "--accept", "a", "--reason", " "], "--accept needs --reason TEXT"),
        (["run.yaml", "--accept", "b", "--reason", "x"], "the plan has no finding on b to accept"),
        (["p.yaml", "--accept", "a", "--reason", "x", "-w"], "p.yaml is a pipeline; `accept` belongs into a run file"),
        (["run.yaml", "-w"], "--reason and -w go with --accept STEP"),
        (["run.yaml", "--base", "HEAD"], "--base goes with a folder of run files"),
    ],
)
def test_an_accept_that_means_nothing_is_refused(ran, args, says):
    ran.write(a_sh="echo $X > o # new\n")
    answer = ran.runner("plan", *args)
    assert (answer.code, says in answer.err) == (2, True), answer


# the reference advisor


def test_all_runs_are_ranked_as_reference_runs(ran):
    ran.write(a_sh="echo $X$X > o\n")
    assert ran.runner("apply", "p.yaml").code == 0
    ran.write(a_sh="false\n")
    assert ran.runner("apply", "p.yaml").code == 1
    ran.write(a_sh="echo $X > o\n")
    answer = ran.runner("plan", "run.yaml", "--references")
    rows = [line.split()[:2] + line.split()[3:4] for line in answer.out.splitlines() if " TIME" in line]
    assert rows == [["R1", "succeeded", "0"], ["R2", "succeeded", "1"], ["R3", "failed", "run"]], answer


def test_a_reference_can_be_asked_for_by_status_label_value_and_age(ran):
    ran.write(
        a_sh="echo $X$X > o\n",
        q_yaml="apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nlabels: {for: test}\nparams: {x: 3}\n",
    )
    assert ran.runner("apply", "q.yaml").code == 0
    found = {}
    for ask in (
        "{}",
        "{labels: {for: test}}",
        "{where: {params.x: 1}}",
        "{where: {params.x: same}}",
        "{max_age: 1ms}",
        "{status: failed}",
    ):
        ran.request(f"select: [b]\nreset: [x]\nreference: {{latest: {ask}}}")
        answer = ran.runner("plan", "run.yaml", "-o", "json")
        found[ask] = (
            ran.plain(json.loads(answer.raw)["reference"]["run"])
            if answer.raw
            else [line.strip() for line in answer.err.splitlines() if ": it " in line]
        )
    assert found == {
        "{}": "R2", "{labels: {for: test}}": "R2", "{where: {params.x: 1}}": "R1", "{where: {params.x: same}}": "R1",
        "{max_age: 1ms}": ["R2: it is too old", "R1: it is too old"],
        "{status: failed}": ["R2: it ended succeeded", "R1: it ended succeeded"],
    }  # fmt: skip


# diff


def test_a_diff_names_the_one_factor_of_a_changed_metric(ran):
    assert ran.runner("apply", "p.yaml", "-p", "x=3").code == 0
    runs = [r["run"] for r in json.loads(ran.runner("runs", "-o", "json").raw)]
    assert ran.runner("diff", runs[1], runs[0]).out.splitlines()[2:] == [
        "params",
        "  x  1  ->  3",
        "",
        "metrics",
        "  b/n  1  ->  3  +2 (+200.0 %)",
        "",
        "outputs",
        "  a/o  DIGEST  ->  DIGEST",
        "  b/n  1         ->  3",
        "  b/o  DIGEST  ->  DIGEST",
        "",
        "durations",
        "  a  N s  ->  N s",
        "  b  N s  ->  N s",
        "",
        "n of b: all that differs on its path is param x: 1 -> 3",
    ]
    value = json.loads(ran.runner("diff", runs[1], runs[0], "-o", "json").raw)
    assert (value["metrics"][0]["change"], value["metrics"][0]["path"]) == (2, ["a", "b"])
    assert "| `x` | `1` | `3` |" in ran.runner("diff", runs[1], runs[0], "-o", "markdown").out


def test_a_diff_counts_the_factors_and_sees_a_reused_step_as_what_made_it(ran):
    ran.write(a_sh="echo $((X + 1)) > o\n")
    assert ran.runner("apply", "p.yaml", "-p", "x=3").code == 0
    ran.request("select: [b]\nmode: full")
    assert ran.runner("apply", "run.yaml").code == 0
    runs = [r["run"] for r in json.loads(ran.runner("runs", "-o", "json").raw)]
    assert ran.runner("diff", runs[2], runs[0]).out.splitlines()[-1] == (
        "n of b: all that differs on its path is param x: 1 -> 3; code a.sh: DIGEST -> DIGEST (2 factors)"
    )
    assert "nothing differs" in ran.runner("diff", runs[0], runs[0]).out


# CI


def test_junit_lists_each_step(ran):
    ran.write(a_sh="echo broken >&2; false\n")
    assert ran.runner("apply", "p.yaml", "--junit", "out.xml").code == 1
    text = (ran.root / "out.xml").read_text()
    assert '<testcase classname="p" name="a"' in text and 'failures="1"' in text and 'skipped="1"' in text
    assert "broken" in text


def test_a_junit_file_that_cannot_be_written_is_told_before_anything_runs(ran):
    answer = ran.runner("apply", "p.yaml", "-p", "x=2", "--junit", "no/out.xml")
    assert (answer.code, answer.err) == (6, "error: no/out.xml cannot be written: No such file or directory\n")


def test_failures_are_annotated_in_ci(ran):
    ran.write(a_sh="echo '::error::x' >&2; false\n")
    answer = ran.runner("apply", "p.yaml", env={"GITHUB_ACTIONS": "true"})
    assert "::error file=p.yaml,title=p%3A a::it exited with 1\n" in answer.out


def test_mistakes_are_annotated_at_their_place(project):
    project.pipeline("steps: {a: {kind: shell, skript: x}}")
    place = "file=p.yaml,line=4,col=26,title=E101::unknown field `skript` in steps.a (a shell step)%0Adid you mean `script`?"
    for command in ("validate", "plan", "apply"):
        answer = project.runner(command, "p.yaml", env={"GITHUB_ACTIONS": "true"})
        assert (answer.code, f"::error {place}\n" in answer.out + answer.err) == (2, True), answer


def test_a_folder_since_a_revision_needs_git(ran):
    answer = ran.runner("plan", ".", "--base", "HEAD", env={"PATH": str(ran.root)})
    assert (answer.code, "git cannot be started" in answer.err) == (6, True)
