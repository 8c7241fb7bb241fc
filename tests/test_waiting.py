"""Approvals and callbacks: a run waits without a process, is answered, and goes on as it was planned."""

RELEASE = """
    steps:
      train:
        kind: shell
        script: echo model > m
        outputs: {m: {type: file}}
      register: {kind: register, model: $(steps.train.outputs.m), group: abalone, metrics: {mse: 4.5}}
      ok: {kind: approval, message: "release version $(steps.register.outputs.version)?"}
      labels: {kind: callback, outputs: {n: {type: integer}}}
      deploy:
        kind: shell
        needs: [ok]
        env: {N: $(steps.labels.outputs.n)}
        script: echo "$N" > o
        outputs: {o: {type: file}}
"""


def waiting(project):
    project.pipeline(RELEASE)
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 7
    return project.record()["run"]


def test_a_run_that_only_waits_ends_its_runner_with_7_and_says_how_to_go_on(project):
    run = waiting(project)
    assert project.record()["status"] == "waiting"
    assert project.statuses() == {
        "train": "succeeded", "register": "succeeded", "ok": "waiting", "labels": "waiting", "deploy": "pending"
    }  # fmt: skip
    assert project.runner("resume", run).code == 7


def test_an_answered_run_goes_on_in_the_same_run(project):
    run = waiting(project)
    assert project.runner("approve", run, "ok", "--comment", "checked").code == 0
    assert project.runner("callback", run, "labels", "n=12").code == 0
    assert project.runner("resume", run).code == 0
    record = project.record()
    assert (record["run"], record["status"]) == (run, "succeeded")
    assert record["steps"]["ok"]["outputs"]["comment"]["value"] == "checked"
    assert project.output("deploy") == b"12\n"


def test_a_wrong_value_is_refused_and_the_step_goes_on_waiting(project):
    run = waiting(project)
    assert (
        str(project.runner("callback", run, "labels", "n=many"))
        == "error: n: expected an integer, got 'many'\n[exit 2]"
    )
    assert (
        str(project.runner("callback", run, "labels"))
        == "error: n is missing\n  = help: the step goes on waiting\n[exit 2]"
    )
    assert project.statuses()["labels"] == "waiting"


def test_a_rejection_fails_the_step_and_what_needs_it(project):
    run = waiting(project)
    project.runner("reject", run, "ok", "--comment", "no")
    assert project.runner("resume", run).code == 1
    assert project.record()["steps"]["ok"]["cause"] == "rejected"


def test_a_run_whose_files_have_changed_does_not_go_on(project):
    run = waiting(project)
    project.pipeline(RELEASE.replace("echo model", "echo another"))
    answer = project.runner("resume", run)
    assert (answer.code, answer.err) == (
        4, "error: p.yaml has changed since run R1 began to wait\n  = help: select its steps in a new run, with this one as `reference`\n"
    )  # fmt: skip


def test_a_waiting_run_can_be_stopped(project):
    run = waiting(project)
    project.runner("stop", run)
    assert project.record()["status"] == "stopped"


def test_a_registered_model_knows_its_run_and_is_approved_with_its_history(project):
    waiting(project)
    assert project.runner("models", "approve", "abalone", "1", "--comment", "good").code == 0
    shown = project.runner("models", "show", "abalone").out
    assert "abalone version 1, approved" in shown
    assert "metric      mse 4.5" in shown
    assert "made by     train (m) in run R1" in shown
