"""Approvals and callbacks: a run waits without a process, is answered, and goes on as it was planned."""

import json
import os
import subprocess
import time

import pytest

RELEASE = """
    params: {version: {type: integer, default: 1}}
    steps:
      train:
        kind: shell
        script: echo model > m
        outputs: {m: {type: file}}
      ok: {kind: approval, message: "release version $(params.version)?", needs: [train]}
      deploy:
        kind: shell
        needs: [ok]
        env: {M: $(steps.train.outputs.m)}
        script: cat "$M" > o
        outputs: {o: {type: file}}
"""
VALUES = """
    steps:
      labels:
        kind: callback
        message: label them
        outputs:
          count: {type: integer}
          score: {type: number, optional: true}
          by: {type: string, optional: true}
          done: {type: boolean, optional: true}
          classes: {type: list, items: string, optional: true}
          more: {type: object, optional: true}
      use:
        kind: shell
        env: {N: $(steps.labels.outputs.count)}
        script: echo "$N" > o
        outputs: {o: {type: file}}
"""
IF_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def waiting(project, body=RELEASE, **files):
    """Run a pipeline until it waits; return the run."""
    project.write(**files)
    project.pipeline(body)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err) == (7, "")
    return project.record()["run"]


def drop(project, run, name, message):
    """Drop a message into the inbox of a run, as a program outside would."""
    path = project.root / f".runner/runs/{run}/inbox/{name}"
    path.write_text(message if isinstance(message, str) else json.dumps(message))
    return path


def lines(answer):
    """What a resume printed, up to how to go on."""
    return answer.out.strip("\n").partition("\n  runner ")[0].splitlines()


# --- stopping a run that waits ---------------------------------------------------------------------------------------


ENDING = """
    secrets: {token: {env: TOKEN}}
    steps:
      train: {kind: shell, env: {T: $(secrets.token)}, script: echo model > m, outputs: {m: {type: file}}}
      ok: {kind: approval, message: release?, needs: [train]}
      deploy: {kind: shell, needs: [ok], env: {T: $(secrets.token)}, script: exit 1}
    finally:
      tidy: {kind: shell, env: {S: $(run.status)}, script: echo "$S" > s, outputs: {s: {type: file}}}
"""


def test_a_waiting_run_that_is_stopped_does_its_finally_at_once_and_needs_no_secret_for_it(project, monkeypatch):
    monkeypatch.setenv("TOKEN", "a token for a test")
    run = waiting(project, ENDING)
    monkeypatch.delenv("TOKEN")
    assert lines(project.runner("stop", run)) == [
        f"stopping (`runner stop` of {login()}): running steps may end; again to kill them",
        f"  ok: stopped: stopped by `runner stop` of {login()}",
        f"  deploy: not run: stopped by `runner stop` of {login()}",
        "  tidy: started",
        "  tidy: ok in N s",
        f"run stopped in N s: stopped by `runner stop` of {login()}",
    ]
    assert project.statuses() == {"train": "succeeded", "ok": "stopped", "deploy": "not_run", "tidy": "succeeded"}
    assert project.output("tidy", "s") == b"stopped\n"


def test_a_waiting_run_can_be_stopped_after_its_pipeline_has_changed_without_its_finally(project, monkeypatch):
    monkeypatch.setenv("TOKEN", "a token for a test")
    run = waiting(project, ENDING)
    project.write(**{"p.yaml": "changed"})
    answer = project.runner("stop", run)
    assert (answer.code, answer.out.splitlines()[0].partition("; ")[0]) == (0, "run R1 waited, and is stopped")
    assert project.statuses()["tidy"] == "not_run"


# --- a run that waits ---------------------------------------------------------------------------------------------


def test_a_run_that_only_waits_ends_its_runner_with_7_and_says_how_to_go_on(project):
    project.pipeline(RELEASE)
    assert str(project.runner("apply", "p.yaml")) == (
        "READY  p: 3 run\n"
        "\n"
        "  run     train   nothing stored has its fingerprint\n"
        "  run     ok      it waits for a decision\n"
        "  run     deploy  input from train   may end cached\n"
        "\n"
        "plan sha256:DIGEST\n"
        "\n"
        "run R1 of p\n"
        "  train: started\n"
        "  train: ok in N s\n"
        "  ok: waits for approval: release version 1?\n"
        "run waits for ok; its runner ends here\n"
        "  runner approve R1 ok\n"
        "  runner resume R1\n"
        "[exit 7]"
    )
    run = project.record()["run"]
    assert project.statuses() == {"train": "succeeded", "ok": "waiting", "deploy": "pending"}
    assert str(project.runner("show", run)) == (
        "run        R1   waiting\n"
        "pipeline   p   (p.yaml, DIGEST)\n"
        "started    TIME\n"
        "\n"
        "  succeeded  train   N s, o DIGEST\n".replace(" o ", " m ")
        + "  waiting    ok      for approval: release version 1?\n"
        "  pending    deploy\n"
        "\n"
        "to go on\n"
        "  runner approve R1 ok\n"
        "  runner resume R1\n"
        "\n"
        "params\n"
        "  version  = 1  default\n"
        "[exit 0]"
    )
    assert [r["status"] for r in json.loads(project.runner("runs", "-o", "json").raw)] == ["waiting"]
    assert str(project.runner("logs", run)) == "[exit 0]"


def test_an_approved_run_goes_on_in_the_same_run(project):
    run = waiting(project)
    assert str(project.runner("approve", run, "ok", "--comment", "checked")) == (
        "ok of run R1 is approved by root\nits runner has ended: go on with `runner resume R1`\n[exit 0]".replace(
            "root", login()
        )
    )
    assert lines(project.runner("resume", run)) == [
        f"  ok: ok, approved by {login()}: checked", "  deploy: started", "  deploy: ok in N s", "run succeeded in N s"
    ]  # fmt: skip
    record = project.record()
    assert (record["run"], record["status"]) == (run, "succeeded")
    assert {n: o["value"] for n, o in record["steps"]["ok"]["outputs"].items()} == {"by": login(), "comment": "checked"}
    assert project.output("deploy") == b"model\n"


def until(holds):
    """Wait until something is so."""
    limit = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.1)


def login():
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def test_when_it_was_decided_is_in_the_record_not_only_when_the_run_went_on(project):
    run = waiting(project)
    before = time.time()
    project.runner("approve", run, "ok")
    after = time.time()
    time.sleep(0.3)
    project.runner("resume", run)
    ok = project.record()["steps"]["ok"]
    assert before - 0.1 <= ok["answered"] <= after < ok["at"]


def test_a_resume_without_an_answer_waits_again(project):
    run = waiting(project)
    for _ in range(2):
        answer = project.runner("resume", run)
        assert (answer.code, lines(answer)) == (7, ["run waits for ok; its runner ends here"])
    assert project.statuses()["ok"] == "waiting"


def test_a_rejection_fails_the_step_and_what_needs_it(project):
    run = waiting(project)
    assert (
        project.runner("approve", run, "ok", "--reject", "--comment", "no").out
        == f"ok of run R1 is rejected by {login()}\n"
    )
    answer = project.runner("resume", run)
    assert (answer.code, lines(answer)) == (1, [
        f"  ok: FAILED: rejected by {login()}: no", "  deploy: not run: ok failed", f"run failed in N s: ok: rejected by {login()}: no"
    ])  # fmt: skip
    assert project.record()["steps"]["ok"]["cause"] == "rejected"


def test_after_a_rejection_a_retry_asks_again_and_reuses_what_was_made(project):
    run = waiting(project)
    project.runner("reject", run, "ok")
    project.runner("resume", run)
    assert project.runner("retry", run).code == 7
    again = project.record()["run"]
    assert project.statuses() == {"train": "reused", "ok": "waiting", "deploy": "pending"}
    project.runner("approve", again, "ok")
    assert project.runner("resume", again).code == 0


def test_a_decision_cannot_be_taken_back(project):
    run = waiting(project)
    project.runner("approve", run, "ok")
    assert str(project.runner("reject", run, "ok")) == (
        f"error: ok of run R1 is approved already, by {login()}\n  = help: see `runner show R1`\n[exit 4]"
    )
    assert project.runner("resume", run).code == 0


def test_only_what_waits_can_be_answered_and_only_by_its_command(project):
    run = waiting(project)
    assert str(project.runner("approve", run, "train")) == (
        "error: run R1 does not wait for train, which is succeeded\n  = help: it waits for: ok (approval)\n[exit 2]"
    )
    assert str(project.runner("approve", run, "nope")) == (
        "error: run R1 has no step `nope`\n  = help: it waits for: ok (approval)\n[exit 2]"
    )
    assert str(project.runner("callback", run, "ok", "x=1")) == (
        "error: ok of run R1 is of kind approval\n  = help: answer it by `runner approve R1 ok`\n[exit 2]"
    )


def test_events_of_a_waiting_run_as_json(project):
    project.pipeline(RELEASE)
    first = [json.loads(line) for line in project.runner("apply", "p.yaml", "-o", "json").raw.splitlines()]
    assert [e["event"] for e in first] == ["run_started", "step_started", "step_ended", "step_waiting", "run_waiting"]
    asked = first[3]
    assert (asked["step"], asked["kind"], asked["message"]) == ("ok", "approval", "release version 1?")
    run = first[4]["run"]
    assert first[4]["steps"] == {"ok": "approval"}
    project.runner("approve", run, "ok")
    then = [json.loads(line) for line in project.runner("resume", run, "-o", "json").raw.splitlines()]
    assert [(e["event"], e.get("step", "")) for e in then] == [
        ("step_ended", "ok"), ("step_started", "deploy"), ("step_ended", "deploy"), ("run_ended", "")
    ]  # fmt: skip


def test_junit_of_a_resumed_run_has_all_its_steps(project):
    run = waiting(project)
    project.runner("approve", run, "ok")
    project.runner("resume", run, "--junit", "out.xml")
    assert 'tests="3" failures="0" errors="0" skipped="0"' in (project.root / "out.xml").read_text()


# --- who may approve ----------------------------------------------------------------------------------------------

GUARDED = """
    steps:
      ok: {kind: approval, message: go, approvers: [nobody]}
"""


def test_who_is_not_an_approver_is_refused(project):
    run = waiting(project, GUARDED)
    assert str(project.runner("approve", run, "ok")) == (
        f"error: {login()} may not decide ok of run R1\n  = help: approvers are: nobody\n[exit 2]"
    )


@IF_ROOT
def test_who_decided_is_who_owns_the_message_whatever_it_says(project):
    run = waiting(project, GUARDED)
    drop(project, run, "approval-001.json", {"run": run, "step": "ok", "approve": True, "by": "nobody"})
    answer = project.runner("resume", run)
    assert lines(answer)[0] == "  ok: goes on waiting; refused from root: root is not one of the approvers: nobody"
    assert answer.code == 7
    message = drop(project, run, "approval-002.json", {"run": run, "step": "ok", "approve": True, "by": "root"})
    os.chown(message, 65534, -1)
    assert lines(project.runner("resume", run))[1] == "  ok: ok, approved by nobody"


@IF_ROOT
def test_somebody_elses_decision_is_not_to_be_had_by_a_link_or_from_another_run(project):
    first = waiting(project, "steps:\n  ok: {kind: approval, message: go, approvers: [root]}\n")
    project.runner("approve", first, "ok")
    project.runner("apply", "p.yaml")
    second = project.record()["run"]
    inboxes = [project.root / f".runner/runs/{run}/inbox" for run in (first, second)]
    os.symlink(inboxes[0] / "approval-001.json", inboxes[1] / "approval-001.json")
    os.lchown(inboxes[1] / "approval-001.json", 65534, -1)
    os.link(inboxes[0] / "approval-001.json", inboxes[1] / "approval-002.json")
    answer = project.runner("resume", second)
    assert (answer.code, lines(answer)) == (7, [
        "  inbox: refused approval-001.json from nobody: it cannot be read: Too many levels of symbolic links",
        "  ok: goes on waiting; refused from root: it was written for run R1",
        "run waits for ok; its runner ends here",
    ])  # fmt: skip


def test_messages_that_decide_nothing_are_refused_and_nothing_ends(project):
    run = waiting(project)
    odd = "`approve` must be true or false, and `comment` a text"
    messages = [
        ({"step": "ok", "approve": True}, "ok: goes on waiting; refused", "it does not say for which run it is"),
        ({"run": run, "step": "ok"}, "ok: goes on waiting; refused", odd),
        ({"run": run, "step": "ok", "approve": "no"}, "ok: goes on waiting; refused", odd),
        ({"run": run, "step": "ok", "approve": True, "comment": {}}, "ok: goes on waiting; refused", odd),
        ({"run": run, "step": "ok", "values": {"a": 1}}, "ok: goes on waiting; refused", odd),
        ({"run": run, "step": ["ok"], "approve": True}, "inbox: refused approval-5.json", "it names no step"),
        ("nonsense", "inbox: refused approval-6.json", "it holds no JSON object"),
        ('{"step": "ok", "appr', "inbox: refused approval-7.json", "it holds no JSON object"),
        ("[" * 100_000, "inbox: refused approval-8.json", "it holds no JSON object"),
        ("[1]", "inbox: refused approval-9.json", "it holds no JSON object"),
    ]
    for number, (message, _, _) in enumerate(messages):
        drop(project, run, f"approval-{number}.json", message)
    answer = project.runner("resume", run)
    assert answer.code == 7
    assert lines(answer)[:-1] == [f"  {what} from {login()}: {why}" for _, what, why in messages]


def test_a_pipe_or_a_folder_in_the_inbox_holds_nothing_up(project):
    run = waiting(project)
    os.mkfifo(project.root / f".runner/runs/{run}/inbox/approval-001.json")
    os.mkdir(project.root / f".runner/runs/{run}/inbox/approval-002.json")
    assert project.runner("resume", run).code == 7


# --- time limits --------------------------------------------------------------------------------------------------

LIMITED = """
    steps:
      ok: {{kind: approval, message: go, timeout: {timeout}, on_timeout: {then}}}
      deploy:
        kind: shell
        env: {{BY: $(steps.ok.outputs.by), WHY: $(steps.ok.outputs.comment)}}
        script: echo "$BY/$WHY" > o
        outputs: {{o: {{type: file}}}}
"""


@pytest.mark.parametrize(
    ("then", "code", "said", "cause"),
    [
        pytest.param("fail", 1, "  ok: FAILED: nobody answered in time", "timeout", id="fail"),
        pytest.param("reject", 1, "  ok: FAILED: rejected, since nobody decided in time", "rejected", id="reject"),
        pytest.param("approve", 0, "  ok: ok, approved, since nobody decided in time", None, id="approve"),
    ],
)
def test_a_limit_passes_while_no_runner_lives(project, then, code, said, cause):
    run = waiting(project, LIMITED.format(timeout="500ms", then=then))
    time.sleep(0.6)
    assert str(project.runner("approve", run, "ok")) == (
        "error: it is too late to answer ok of run R1\n  = help: see `runner show R1`\n[exit 4]"
    )
    answer = project.runner("resume", run)
    assert (answer.code, lines(answer)[0], project.record()["steps"]["ok"].get("cause")) == (code, said, cause)


def test_what_was_decided_before_the_limit_counts_however_late_the_run_goes_on(project):
    run = waiting(project, LIMITED.format(timeout="6s", then="fail"))
    assert project.runner("approve", run, "ok").code == 0
    time.sleep(6)
    assert project.runner("resume", run).code == 0


def test_what_was_dropped_after_the_limit_does_not_count_whatever_time_it_says(project):
    run = waiting(project, LIMITED.format(timeout="500ms", then="approve"))
    time.sleep(0.6)
    drop(project, run, "approval-001.json", {"run": run, "step": "ok", "approve": False, "at": 1.0})
    assert lines(project.runner("resume", run))[:2] == [
        f"  ok: goes on waiting; refused from {login()}: it came too late",
        "  ok: ok, approved, since nobody decided in time",
    ]
    assert project.output("deploy") == b"/nobody decided in time\n"


def test_a_limit_passes_while_other_steps_run(project):
    project.pipeline("""
        steps:
          ok: {kind: approval, message: go, timeout: 100ms, on_timeout: approve}
          labels: {kind: callback, outputs: {n: {type: integer}}, timeout: 100ms}
          slow: {kind: shell, script: sleep 1}
    """)
    assert project.runner("apply", "p.yaml").code == 1
    steps = project.record()["steps"]
    assert {n: (s["status"], s.get("reason", "")) for n, s in steps.items()} == {
        "ok": ("succeeded", "approved, since nobody decided in time"),
        "labels": ("failed", "nobody answered in time"),
        "slow": ("succeeded", ""),
    }


# --- callbacks ----------------------------------------------------------------------------------------------------


def test_values_of_every_type_come_by_the_command(project):
    run = waiting(project, VALUES)
    given = ["count=12", "score=0.5", "by=a = b", "done=true", 'classes=["x", "y"]', 'more={"a": [1, null]}']
    assert project.runner("callback", run, "labels", *given).out == "labels of run R1 has its values\n"
    assert project.runner("resume", run).code == 0
    assert {n: o["value"] for n, o in project.record()["steps"]["labels"]["outputs"].items()} == {
        "count": 12, "score": 0.5, "by": "a = b", "done": True, "classes": ["x", "y"], "more": {"a": [1, None]}
    }  # fmt: skip
    assert project.output("use") == b"12\n"


def test_wrong_values_of_the_command_are_refused_and_the_step_goes_on_waiting(project):
    run = waiting(project, VALUES)
    wrong = [
        (["count=many"], "count: expected an integer, got 'many'"),
        (["count=1.5"], "output `count` is 1.5; an integer is declared"),
        (["count=1", "done=yes"], "done: expected true or false, got 'yes'"),
        (["count=1", "classes=[1]"], "output `classes` has an element that is 1; a text is declared"),
        ([], "count is missing"),
        (["count"], "count: write NAME=VALUE"),
        (["count=1", "cuont=2"], "labels waits for no value `cuont`"),
    ]
    answers = [project.runner("callback", run, "labels", *given) for given, _ in wrong]
    assert [(a.code, a.err.splitlines()[0]) for a in answers] == [(2, f"error: {reason}") for _, reason in wrong]
    assert os.listdir(project.root / f".runner/runs/{run}/inbox") == []
    assert project.statuses()["labels"] == "waiting"


def test_wrong_values_in_dropped_files_are_refused_and_right_ones_after_them_taken(project):
    run = waiting(project, VALUES)
    wrong = [
        ('{"count": "12"}', 'E222 output `count` is the text "12"; an integer is declared'),
        ('{"count": 12.0}', "E222 output `count` is 12.0; an integer is declared"),
        ('{"count": NaN}', "E222 the message holds NaN, which is not a number of JSON"),
        ('{"count": 1, "more": {"x": 1e999}}', "E222 the message holds Infinity, which is not a number of JSON"),
        ('{"score": 1}', "E220 count is missing"),
        ('{"count": 1, "x": 2}', "E220 it waits for no value x"),
        ("[1]", "E222 `values` must be a JSON object"),
        ("null", "E222 `values` must be a JSON object"),
    ]
    for number, (values, _) in enumerate(wrong):
        drop(project, run, f"callback-{number}.json", f'{{"step": "labels", "values": {values}}}')
    answer = project.runner("resume", run)
    assert answer.code == 7
    refused = [f"  labels: goes on waiting; refused from {login()}: {reason}" for _, reason in wrong]
    assert lines(answer)[:-1] == refused
    drop(project, run, "callback-9.json", {"step": "labels", "values": {"count": 7, "by": None}})
    assert project.runner("resume", run).code == 0
    assert project.output("use") == b"7\n"


def test_a_program_outside_may_answer_before_the_step_asks(project):
    project.pipeline("""
        steps:
          submit: {kind: shell, script: 'until test -e go; do sleep 0.1; done', workdir: project}
          result: {kind: callback, outputs: {n: {type: integer}}, needs: [submit]}
    """)
    process = project.start("apply", "p.yaml")
    until(lambda: "submit: started" in process.stdout.readline())
    drop(project, project.record()["run"], "callback-job.json", {"step": "result", "values": {"n": 3}})
    time.sleep(1)  # the runner has looked into the inbox
    (project.root / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert project.record()["steps"]["result"]["outputs"]["n"]["value"] == 3


def test_answers_that_come_while_other_steps_run_need_no_resume(project):
    project.pipeline("""
        steps:
          ok: {kind: approval, message: go}
          labels: {kind: callback, outputs: {n: {type: integer}}}
          slow: {kind: shell, script: 'until test -e go; do sleep 0.1; done', workdir: project}
          use: {kind: shell, needs: [ok], env: {N: $(steps.labels.outputs.n)}, script: 'echo "$N" > o', outputs: {o: {type: file}}}
    """)
    process = project.start("apply", "p.yaml")
    until(lambda: "slow: started" in process.stdout.readline())
    run = project.record()["run"]
    assert project.statuses() == {"ok": "waiting", "labels": "waiting", "slow": "running", "use": "pending"}
    assert str(project.runner("resume", run)) == (
        "error: run R1 is under way in another process\n  = help: see `runner show R1`\n[exit 4]"
    )
    assert str(project.runner("approve", run, "ok")) == f"ok of run R1 is approved by {login()}\n[exit 0]"
    assert project.runner("callback", run, "labels", "n=3").code == 0
    until(lambda: project.statuses()["use"] == "succeeded")
    (project.root / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert project.output("use") == b"3\n"


# --- resuming -----------------------------------------------------------------------------------------------------


def test_of_many_resumes_at_once_one_goes_on(project):
    run = waiting(
        project,
        f"""
        steps:
          ok: {{kind: approval, message: go}}
          deploy: {{kind: shell, needs: [ok], script: 'echo once >> {project.root}/count', workdir: project}}
    """,
    )
    project.runner("approve", run, "ok")
    processes = [project.start("resume", run) for _ in range(5)]
    for process in processes:
        process.communicate(timeout=60)
    codes = sorted(p.returncode for p in processes)  # 2 for who comes when the run has ended already
    assert (codes[0], {*codes[1:]} <= {2, 4}) == (0, True)
    assert (project.root / "count").read_text() == "once\n"
    journal = (project.root / f".runner/runs/{run}/journal.jsonl").read_text()
    assert journal.count('"run_ended"') == 1


def test_a_resume_that_is_killed_leaves_an_interrupted_run_that_can_be_retried(project):
    run = waiting(project, RELEASE.replace("cat", "sleep 2; cat"))
    project.runner("approve", run, "ok")
    process = project.start("resume", run)
    until(lambda: "deploy: started" in process.stdout.readline())
    process.kill()
    process.communicate()
    assert project.record(run)["status"] == "interrupted"
    assert str(project.runner("resume", run)) == (
        "error: run R1 is interrupted, so there is nothing to go on with\n  = help: see `runner retry R1`\n[exit 2]"
    )
    assert project.runner("retry", run).code == 0
    assert project.statuses() == {"train": "reused", "ok": "reused", "deploy": "succeeded"}


def test_a_torn_last_line_is_taken_away(project):
    run = waiting(project)
    journal = project.root / f".runner/runs/{run}/journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"event":"step_ended","step":"ok","status":"succ')
    project.runner("approve", run, "ok")
    assert project.runner("resume", run).code == 0
    assert journal.read_bytes().startswith(whole)
    assert [json.loads(line)["event"] for line in journal.read_bytes()[len(whole) :].splitlines()] == [
        "step_ended", "step_started", "step_ended", "run_ended"
    ]  # fmt: skip


def test_a_waiting_run_goes_on_after_its_index_was_made_anew(project):
    run = waiting(project)
    project.runner("approve", run, "ok")
    assert str(project.runner("store", "reindex")) == "1 runs are in the index\n[exit 0]"
    assert [r["status"] for r in json.loads(project.runner("runs", "-o", "json").raw)] == ["waiting"]
    assert project.runner("resume", run).code == 0
    assert project.record()["status"] == "succeeded"


def test_a_run_whose_pipeline_has_changed_does_not_go_on(project):
    run = waiting(project)
    project.pipeline(RELEASE.replace("echo model", "echo another"))
    assert str(project.runner("resume", run)) == (
        "error: p.yaml has changed since run R1 began to wait\n"
        "  = help: select its steps in a new run, with this one as `reference`\n[exit 4]"
    )


def test_a_run_whose_code_or_input_has_changed_does_not_go_on_until_it_is_as_it_was(project):
    body = """
        params: {data: {type: file, default: data.csv}}
        steps:
          ok: {kind: approval, message: go}
          use: {kind: command, command: [python, use.py, $(params.data)], code: [use.py], needs: [ok]}
    """
    run = waiting(project, body, use_py="print(1)", data_csv="1\n")
    for name, before, after in (("use_py", "print(1)", "print(2)"), ("data_csv", "1\n", "2\n")):
        project.write(**{name: after})
        answer = project.runner("resume", run)
        changed = name.replace("_", ".")
        assert (answer.code, answer.err.splitlines()[0]) == (
            4,
            f"error: since run R1 began, this has changed: {changed}",
        )
        project.write(**{name: before})
    project.runner("approve", run, "ok")
    assert project.runner("resume", run).code == 0


def test_a_stored_result_that_is_damaged_meanwhile_stops_a_resume(project):
    run = waiting(project)
    digest = project.record()["steps"]["train"]["outputs"]["m"]["digest"].removeprefix("sha256:")
    stored = project.root / f".runner/objects/sha256/{digest[:2]}/{digest}"
    stored.chmod(0o644)
    stored.write_text("other")
    assert project.runner("resume", run).code == 5


def test_a_waiting_run_can_be_stopped_and_then_retried(project):
    run = waiting(project)
    assert str(project.runner("stop", run)) == "run R1 waited, and is stopped\n[exit 0]"
    assert project.statuses() == {"train": "succeeded", "ok": "stopped", "deploy": "not_run"}
    assert project.record()["status"] == "stopped"
    assert (
        project.runner("resume", run).err.splitlines()[0]
        == "error: run R1 is stopped, so there is nothing to go on with"
    )
    assert (
        project.runner("approve", run, "ok").err.splitlines()[0]
        == "error: run R1 does not wait for ok, which is stopped"
    )
    assert project.runner("retry", run).code == 7
    assert project.statuses() == {"train": "reused", "ok": "waiting", "deploy": "pending"}


def test_a_waiting_run_is_no_reference_run(project):
    run = waiting(project)
    project.request("select: [deploy]")
    assert "E405]: no finished run of `p` has usable outputs of train, ok" in project.runner("plan", "run.yaml").err
    project.request(f"select: [deploy]\nreference: {run}")
    assert "E405]: run R1 is waiting" in project.runner("plan", "run.yaml").err
    assert project.runner("retry", run).err == "error: run R1 is waiting\n  = help: wait until it has ended\n"


def test_a_group_is_free_while_its_run_waits(project):
    project.pipeline(RELEASE)
    project.request("concurrency: {group: g, conflict: reject}")
    assert [project.runner("apply", "run.yaml").code for _ in range(2)] == [7, 7]


# --- where a step may wait ----------------------------------------------------------------------------------------


def test_several_waits_one_after_another_and_side_by_side(project):
    run = waiting(
        project,
        """
        steps:
          first: {kind: approval, message: a}
          side: {kind: approval, message: b}
          second: {kind: callback, outputs: {n: {type: integer}}, needs: [first]}
          end: {kind: shell, needs: [second, side], script: 'true'}
    """,
    )
    project.runner("approve", run, "first")
    assert lines(project.runner("resume", run)) == [
        f"  first: ok, approved by {login()}", "  second: waits for the values n", "run waits for side, second; its runner ends here"
    ]  # fmt: skip
    project.runner("callback", run, "second", "n=1")
    assert project.runner("resume", run).code == 7
    project.runner("approve", run, "side")
    assert project.runner("resume", run).code == 0


def test_an_approval_in_a_branch_waits_only_if_the_branch_is_taken(project):
    run = waiting(
        project,
        """
        params: {mse: {type: number, default: 3}}
        steps:
          good: {kind: condition, if: $(params.mse < 5), then: [ok], else: [sorry]}
          ok: {kind: approval, message: go}
          sorry: {kind: approval, message: release it nevertheless?}
          deploy: {kind: shell, needs: [ok], script: 'true'}
          warn: {kind: shell, needs: [sorry], script: 'true'}
    """,
    )
    project.runner("approve", run, "ok")
    assert project.runner("resume", run).code == 0
    assert project.statuses() == {
        "good": "succeeded", "ok": "succeeded", "sorry": "skipped", "deploy": "succeeded", "warn": "skipped"
    }  # fmt: skip


def test_an_assumed_branch_may_wait_too(project):
    project.pipeline("""
        params: {mse: {type: number, default: 9}}
        steps:
          good: {kind: condition, if: $(params.mse < 5), then: [ok]}
          ok: {kind: approval, message: go}
          deploy: {kind: shell, needs: [ok], script: 'true'}
    """)
    project.runner("apply", "p.yaml")
    project.request("select: [ok, deploy]\nassume: {good: true}")
    assert project.runner("apply", "run.yaml").code == 7
    run = project.record()["run"]
    project.runner("approve", run, "ok")
    assert project.runner("resume", run).code == 0
    assert project.statuses() == {"good": "reused", "ok": "succeeded", "deploy": "succeeded"}


INNER = """
    params: {who: {type: string}}
    steps:
      ok: {kind: approval, message: "$(params.who)?"}
      ship: {kind: shell, needs: [ok], env: {WHO: $(params.who)}, script: 'echo "$WHO" > o', outputs: {o: {type: file}}}
    outputs: {by: $(steps.ok.outputs.by), why: 'because $(coalesce(steps.ok.outputs.comment, "of nothing"))', o: $(steps.ship.outputs.o)}
"""


def test_an_approval_in_an_inner_pipeline_gives_who_decided_to_the_outer_one(project):
    project.pipeline(INNER, "inner")
    run = waiting(
        project,
        """
        steps:
          rel: {kind: pipeline, pipeline: inner.yaml, params: {who: you}}
          note: {kind: shell, env: {BY: $(steps.rel.outputs.by), WHY: $(steps.rel.outputs.why)}, script: 'echo "$BY, $WHY" > o', outputs: {o: {type: file}}}
        outputs: {by: $(steps.rel.outputs.by)}
    """,
    )
    project.runner("approve", run, "rel/ok", "--comment", "it is good")
    assert project.runner("resume", run).out.endswith(f"  by = {login()}\n")
    assert project.output("note") == f"{login()}, because it is good\n".encode()


def test_every_item_of_a_repeated_inner_pipeline_is_asked_for_at_most_so_many_at_once(project):
    project.pipeline(INNER, "inner")
    run = waiting(
        project,
        """
        steps:
          rel: {kind: pipeline, pipeline: inner.yaml, params: {who: $(each.w)}, foreach: {over: {w: [a, b, c]}, max_parallel: 2}}
          end: {kind: command, command: [sh, -c, 'echo "$@" > o', sh, '$(join(steps.rel.outputs.by, " "))'], outputs: {o: {type: file}}}
    """,
    )
    asked = [lines(project.runner("resume", run))[-1]]
    for who in "abc":
        project.runner("approve", run, f"rel[w={who}]/ok")
        asked.append(lines(project.runner("resume", run))[-1])
    assert asked == [
        "run waits for rel[w=a]/ok, rel[w=b]/ok; its runner ends here",
        "run waits for rel[w=b]/ok, rel[w=c]/ok; its runner ends here",
        "run waits for rel[w=c]/ok; its runner ends here",
        "run succeeded in N s",
    ]
    assert project.output("end") == f"{login()} {login()} {login()}\n".encode()


def test_items_that_the_run_has_found_out_wait_are_rejected_and_retried(project):
    project.pipeline(INNER, "inner")
    run = waiting(
        project,
        """
        steps:
          names:
            kind: command
            command: [python, -c, 'import json,os; json.dump({"n": ["x", "y"]}, open(os.environ["RUNNER_VALUES"], "w"))']
            outputs: {n: {type: list, items: string}}
          rel: {kind: pipeline, pipeline: inner.yaml, params: {who: $(each.w)}, foreach: {over: {w: $(steps.names.outputs.n)}}}
          end: {kind: command, command: [sh, -c, 'echo "$@" > o', sh, '$(join(steps.rel.outputs.by, " "))'], outputs: {o: {type: file}}}
    """,
    )
    project.runner("approve", run, "rel[w=x]/ok")
    project.runner("reject", run, "rel[w=y]/ok")
    assert project.runner("resume", run).code == 1
    assert 'select: ["rel[w=' in project.runner("retry", run, "--print").out
    assert project.runner("retry", run).code == 7
    again = project.record()["run"]
    waits = [n for n, status in project.statuses().items() if status == "waiting"]
    assert waits == ["rel[w=y]/ok"]
    project.runner("approve", again, "rel[w=y]/ok")
    assert project.runner("resume", again).code == 0
    assert project.output("end") == f"{login()} {login()}\n".encode()


def test_an_approval_cannot_stand_in_finally(project):
    project.pipeline("""
        steps: {a: {kind: shell, script: 'true'}}
        finally: {ok: {kind: approval, message: go}}
    """)
    assert "E107]: an approval step cannot stand in `finally`" in project.runner("validate", "p.yaml").err


@pytest.mark.parametrize("kind", ["approval, message: $(secrets.token)", "callback, message: $(secrets.token), outputs: {n: {type: integer}}"])  # fmt: skip
def test_a_message_may_hold_no_secret(project, kind):
    project.pipeline(f"""
        secrets: {{token: {{env: TOKEN}}}}
        steps:
          ask: {{kind: {kind}}}
    """)
    assert "E214]: a secret may be used in `env` only, alone" in project.runner("validate", "p.yaml").err


# --- failures meanwhile -------------------------------------------------------------------------------------------

FAILING = """
    failure_policy: {policy}
    steps:
      ok: {{kind: approval, message: go}}
      bad: {{kind: shell, script: exit 3}}
      deploy: {{kind: shell, needs: [ok], script: 'true'}}
    finally:
      tell: {{kind: shell, env: {{S: $(run.status)}}, script: 'echo "$S" > o', outputs: {{o: {{type: file}}}}}}
"""


def test_with_fail_fast_a_failure_ends_what_waits(project):
    project.pipeline(FAILING.format(policy="fail_fast"))
    assert project.runner("apply", "p.yaml").code == 1
    assert project.statuses() == {"ok": "stopped", "bad": "failed", "deploy": "not_run", "tell": "succeeded"}


def test_with_finish_independent_a_run_waits_on_and_fails_at_its_end(project):
    run = waiting(project, FAILING.format(policy="finish_independent"))
    assert project.statuses() == {"ok": "waiting", "bad": "failed", "deploy": "pending", "tell": "pending"}
    project.runner("approve", run, "ok")
    answer = project.runner("resume", run)
    assert (answer.code, lines(answer)[-1]) == (1, "run failed in N s: bad: it exited with 3")
    assert project.statuses() == {"ok": "succeeded", "bad": "failed", "deploy": "succeeded", "tell": "succeeded"}
    assert project.output("tell") == b"failed\n"


# --- what an approval is worth later ------------------------------------------------------------------------------

APPROVED = """
    params: {version: {type: integer, default: 1}, mse: {type: number, default: 5}}
    steps:
      score:
        kind: command
        command: [python, -c, 'import json,os,sys; json.dump({"mse": float(sys.argv[1])}, open(os.environ["RUNNER_VALUES"], "w"))', $(params.mse)]
        outputs: {mse: {type: number}}
      ok: {kind: approval, message: "release $(params.version) with mse $(steps.score.outputs.mse)?"}
      note:
        kind: shell
        env: {BY: $(steps.ok.outputs.by), WHY: $(steps.ok.outputs.comment)}
        script: echo "$BY $WHY" > o
        outputs: {o: {type: file}}
      ship: {kind: shell, needs: [ok], script: 'echo 1 > o', outputs: {o: {type: file}}}
"""


def approved(project):
    run = waiting(project, APPROVED)
    project.runner("approve", run, "ok", "--comment", "checked")
    project.runner("resume", run)
    return run


def test_an_approval_is_asked_for_in_every_whole_run(project):
    approved(project)
    assert project.runner("apply", "p.yaml").code == 7


def test_a_step_that_reads_who_approved_is_not_run_again_because_another_comment_was_given(project):
    approved(project)
    project.runner("apply", "p.yaml")
    run = project.record()["run"]
    project.runner("approve", run, "ok", "--comment", "quite another")
    assert project.runner("resume", run).code == 0
    assert project.statuses() == {"score": "cached", "ok": "succeeded", "note": "cached", "ship": "cached"}
    assert project.output("note") == f"{login()} checked\n".encode()


def test_what_stands_behind_an_approval_reuses_it(project):
    approved(project)
    project.request("select: [note, ship]\nislands: allow")
    assert project.runner("apply", "run.yaml").code == 0
    assert project.statuses() == {"score": "not_selected", "ok": "reused", "note": "succeeded", "ship": "succeeded"}


@pytest.mark.parametrize(
    ("params", "why"),
    [
        pytest.param("version: 2", "param version: 1 -> 2", id="its message"),
        pytest.param("mse: 6", "upstream score (param mse: 5 -> 6)", id="what it reads"),
    ],
)
def test_an_approval_of_something_else_is_a_gate_finding(project, params, why):
    approved(project)
    project.request(f"select: [ship]\nparams: {{{params}}}")
    answer = project.runner("apply", "run.yaml")
    assert answer.code == 3
    assert (
        f"F220 ok was approved by {login()}; today it asks for something else ({why}), and you select ship behind it.\n"
        in answer.out
    )
    assert f"gates    ok   it was approved by {login()}, today it would be asked again\n" in answer.out
    assert "F201" not in answer.out
    gates = json.loads(project.runner("plan", "run.yaml", "-o", "json").raw)["gates"]
    assert [(g["step"], g["field"], g["was"], g["now"]) for g in gates] == [("ok", "approval", True, None)]


def test_an_accepted_approval_of_something_else_stands(project):
    approved(project)
    project.request("select: [ship]\nparams: {version: 2}")
    assert project.runner("plan", "run.yaml", "--accept", "ok", "--reason", "only the number", "-w").code == 0
    assert project.runner("apply", "run.yaml").code == 0


def test_an_approval_above_what_is_reused_is_asked_for_as_well(project):
    run = waiting(
        project,
        """
        params: {version: {type: integer, default: 1}}
        steps:
          ok: {kind: approval, message: "release $(params.version)?"}
          pack: {kind: shell, needs: [ok], script: 'echo 1 > o', outputs: {o: {type: file}}}
          ship: {kind: shell, env: {O: $(steps.pack.outputs.o)}, script: 'cat "$O" > o', outputs: {o: {type: file}}}
    """,
    )
    project.runner("approve", run, "ok")
    project.runner("resume", run)
    project.request("select: [ship]\nparams: {version: 2}")
    answer = project.runner("plan", "run.yaml")
    assert (
        f"F220 ok was approved by {login()}; today it asks for something else (param version: 1 -> 2), and pack behind it is reused.\n"
        in answer.out
    )
