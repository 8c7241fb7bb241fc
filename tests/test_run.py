"""Real steps in real processes, through the command line: what each way to end looks like, and that nothing is left behind."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.reliability.kit import children, guards

STEP = """
steps:
  a:
    kind: shell
    script: |
{script}
    outputs: {{o: {{type: file, path: o.txt}}}}
"""


def script(project, text, more=""):
    lines = "\n".join("      " + line for line in text.splitlines())
    project.pipeline(STEP.format(script=lines) + more)


def alive(cookie: str) -> list[int]:
    """The processes whose environment holds a cookie."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if cookie.encode() in file.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def command(pid: int) -> str:
    """What a process was started with; for a shell step, its script too."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return " ".join([*words, *(Path(word).read_text() for word in words if word.endswith("/script"))])


def test_a_run_in_lines(project):
    project.pipeline("""
        params: {who: {type: string, default: world}}
        steps:
          greet:
            kind: shell
            env: {WHO: $(params.who)}
            script: echo "hello $WHO" | tee greeting.txt
            outputs: {greeting: {type: file, path: greeting.txt}}
          count:
            kind: command
            command: [python, -c, 'import sys,json,os; json.dump({"letters": len(open(sys.argv[1]).read())}, open(os.environ["RUNNER_VALUES"], "w"))', $(steps.greet.outputs.greeting)]
            outputs: {letters: {type: integer, metric: true}}
        outputs: {letters: $(steps.count.outputs.letters)}
    """)
    assert str(project.runner("apply", "p.yaml", "-p", "who=you")) == (
        "READY  p: 2 run\n"
        "\n"
        "  run     greet  nothing stored has its fingerprint\n"
        "  run     count  input from greet   may end cached\n"
        "\n"
        "params   who = you   set by the request\n"
        "\n"
        "plan sha256:DIGEST\n"
        "\n"
        "run R1 of p\n"
        "  greet: started\n"
        "  greet: ok in N s\n"
        "  count: started\n"
        "  count: ok in N s, letters 10\n"
        "run succeeded in N s\n"
        "  letters = 10\n"
        "[exit 0]"
    )
    assert str(project.runner("logs", "R1".replace("R1", next(iter(project.ids))), "greet")) == "hello you\n[exit 0]"
    assert (
        str(project.runner("apply", "p.yaml", "-p", "who=you"))
        == "nothing to do: run R1 has done this already (--again runs it anew)\n[exit 0]"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("exit 1", "it exited with 1", id="exit 1"),
        pytest.param("exit 126", "it exited with 126", id="exit 126"),
        pytest.param("exit 255", "it exited with 255", id="exit 255"),
        pytest.param("kill -SEGV $$", "it was killed by SIGSEGV", id="SEGV"),
        pytest.param("kill -KILL $$", "it was killed by SIGKILL", id="KILL"),
        pytest.param("kill -PIPE $$", "it was killed by SIGPIPE", id="PIPE"),
        pytest.param("true", "E220 it ended but did not write `o` (expected o.txt)", id="no output"),
        pytest.param(
            "mkdir o.txt", "E220 output `o`: o.txt is a directory; a file is declared", id="a directory instead"
        ),
        pytest.param(
            "ln -s /etc/passwd o.txt", "E220 output `o`: o.txt is a symlink; a file is declared", id="a symlink instead"
        ),
        pytest.param(
            "mkfifo o.txt", "E220 output `o`: o.txt is something else; a file is declared", id="a fifo instead"
        ),
        pytest.param("echo 1 > o.txt; exit 3", "it exited with 3", id="output, but a failure"),
    ],
)
def test_a_step_that_ends_badly_fails_the_run_and_is_not_cached(project, text, reason):
    script(project, text)
    for _ in range(2):
        answer = project.runner("apply", "p.yaml")
        assert answer.code == 1
        assert f"  a: FAILED: {reason}\n" in answer.out
        assert project.record()["steps"]["a"]["status"] == "failed"


@pytest.mark.parametrize(
    ("type_", "values", "wrong"),
    [
        pytest.param(
            "number", '{"o": "n/a"}', 'E222 output `o` is the text "n/a"; a number is declared', id="text for a number"
        ),
        pytest.param("number", '{"o": NaN}', "E222 the values file holds NaN, which is not a number of JSON", id="NaN"),
        pytest.param("number", '{"o": 1e999}', "E222 output `o` is inf; a finite number is declared", id="too large"),
        pytest.param(
            "integer", '{"o": 1.5}', "E222 output `o` is 1.5; an integer is declared", id="fraction for an integer"
        ),
        pytest.param(
            "boolean", '{"o": 1}', "E222 output `o` is 1; true or false is declared", id="number for a boolean"
        ),
        pytest.param("number", "{}", "E220 it ended but did not write the value `o` to the values file", id="missing"),
        pytest.param(
            "number", '{"o": 1, "p": 2}', "E220 it wrote the values p, which are not declared", id="not declared"
        ),
        pytest.param("number", "[1]", "E222 the values file must hold a JSON object", id="a list"),
        pytest.param(
            "number",
            "o=1",
            "E221 the values file is not JSON: Expecting value: line 1 column 1 (char 0)",
            id="not JSON",
        ),
    ],
)
def test_a_value_of_another_type_fails_the_step(project, type_, values, wrong):
    project.pipeline(f"""
        steps:
          a:
            kind: shell
            script: |
              echo '{values}' > "$RUNNER_VALUES"
            outputs: {{o: {{type: {type_}}}}}
    """)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, f"  a: FAILED: {wrong}\n" in answer.out) == (1, True), answer.out


def test_a_value_is_read_from_a_file_output_by_a_pointer(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            script: echo '{"m":{"mse":{"value":4.5}}}' > report.json
            outputs:
              report: {type: file, path: report.json}
              mse: {type: number, from: report, pointer: /m/mse/value, metric: true}
              rmse: {type: number, from: report, pointer: /m/rmse, optional: true}
          b: {kind: command, command: [echo, $(steps.a.outputs.mse), "$(coalesce(steps.a.outputs.rmse, 0))"]}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.runner("logs", next(iter(project.ids)), "b").out == "4.5 0\n"
    project.pipeline("""
        steps:
          a:
            kind: shell
            script: echo '{"m":{"mse":1}}' > report.json
            outputs: {report: {type: file, path: report.json}, mse: {type: number, from: report, pointer: /m/msee}}
    """)
    assert "FAILED: E221 output `mse`: `report`: no `/m/msee`; there is: mse\n" in project.runner("apply", "p.yaml").out


def test_a_step_sees_only_what_it_declares_and_is_told_what_to_add(project):
    project.write(lib__helper_py="print('help')", data_txt="secret")
    script(project, "cat data.txt > o.txt")
    answer = project.runner("apply", "p.yaml")
    assert (
        "note: the project has data.txt, which the step does not declare: add `inputs: {data: data.txt}`" in answer.out
    )


def test_the_context_file_and_the_variables(project):
    project.write(data__in_txt="x")
    project.pipeline("""
        params:
          tags: {type: list, items: string, default: [a, b]}
          table: {type: file, default: data/in.txt}
        steps:
          a:
            kind: python
            function: show:show
            args: {tags: $(params.tags), table: $(params.table), made: $(outputs.o), number: 2.0, nested: {list: [1, two], none: null}}
            inputs: {config: data/in.txt}
            outputs: {o: {type: file, path: sub/o.txt}, kind: {type: string}, context: {type: object}, env: {type: list}}
    """)
    project.write(
        show_py="""
        import json, os
        def show(tags, table, made, number, nested):
            made.write_text(table.read_text())
            context = json.load(open(os.environ["RUNNER_CONTEXT"]))
            names = ["RUNNER_STEP", "RUNNER_ATTEMPT", "PWD", "HOME"]
            return {
                "kind": f"{tags} {type(table).__name__} {table} {made} {number} {nested}",
                "context": {k: context[k] for k in ("step", "attempt", "params", "each")},
                "env": sorted(k for k in os.environ if k.startswith("RUNNER_")),
            }
    """
    )
    assert project.runner("apply", "p.yaml").code == 0
    outputs = project.record()["steps"]["a"]["outputs"]
    assert outputs["kind"]["value"] == "['a', 'b'] PosixPath data/in.txt sub/o.txt 2 {'list': [1, 'two'], 'none': None}"
    context = outputs["context"]["value"]
    assert (context["step"], context["attempt"], context["params"]["tags"], context["each"]) == ("a", 1, ["a", "b"], {})
    assert outputs["env"]["value"] == [
        "RUNNER_ATTEMPT", "RUNNER_CONTEXT", "RUNNER_INPUT_CONFIG", "RUNNER_OUTPUT_DIR", "RUNNER_OUTPUT_O", "RUNNER_RUN_ID", "RUNNER_STEP", "RUNNER_VALUES",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "reason", "tail"),
    [
        pytest.param("raise ValueError('no')", "it exited with 1", "    | ValueError: no", id="exception"),
        pytest.param("import sys; sys.exit(4)", "it exited with 4", "", id="sys.exit"),
        pytest.param("import sys; sys.exit('bad')", "it exited with 1", "    | bad", id="sys.exit of a text"),
        pytest.param("import os; os._exit(5)", "it exited with 5", "", id="os._exit"),
        pytest.param("import os; os.abort()", "it was killed by SIGABRT", "", id="abort"),
        pytest.param(
            "return 3",
            "it exited with 1",
            "    | TypeError: steps:f returned int; a mapping of value outputs or None is expected",
            id="returns a number",
        ),
        pytest.param(
            "return {'o': object()}",
            "it exited with 1",
            "    | TypeError: steps:f returned a object, which JSON cannot hold",
            id="returns an object",
        ),
    ],
)
def test_a_python_step_that_ends_badly(project, body, reason, tail):
    project.write(steps_py=f"def f():\n    {body}\n")
    project.pipeline("steps: {a: {kind: python, function: 'steps:f', outputs: {o: {type: number}}}}")
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 1
    assert f"  a: FAILED: {reason}\n" in answer.out
    assert tail in answer.out


def test_python_steps_share_no_state_and_a_step_that_sets_python_variables_has_its_own_interpreter(project):
    project.write(
        steps_py="""
        import os, sys
        seen = []
        def f():
            seen.append(1)
            return {"n": len(seen), "hash": hash("x"), "path": sys.path[0] == os.getcwd()}
    """
    )
    outputs = "outputs: {n: {type: integer}, hash: {type: integer}, path: {type: boolean}}"
    project.pipeline(f"""
        max_parallel: 1
        steps:
          a: {{kind: python, function: "steps:f", {outputs}}}
          b: {{kind: python, function: "steps:f", {outputs}, needs: [a]}}
          c: {{kind: python, function: "steps:f", env: {{PYTHONHASHSEED: "7"}}, {outputs}, needs: [b]}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    steps = project.record()["steps"]
    assert [steps[s]["outputs"]["n"]["value"] for s in "abc"] == [1, 1, 1]
    assert [steps[s]["outputs"]["path"]["value"] for s in "abc"] == [True, True, True]


def test_a_directory_output_keeps_its_files_modes_links_and_empty_folders(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            script: |
              mkdir -p tree/empty tree/sub; echo hi > tree/sub/f; echo 'echo run' > tree/x.sh; chmod +x tree/x.sh; ln -s sub/f tree/link
            outputs: {tree: {type: dir}}
          b:
            kind: shell
            inputs: {tree: $(steps.a.outputs.tree)}
            script: |
              cd "$RUNNER_INPUT_TREE"; find . | sort; ./x.sh; cat link
    """)
    assert project.runner("apply", "p.yaml").code == 0
    run = next(iter(project.ids))
    assert project.runner("logs", run, "b").out == ".\n./empty\n./link\n./sub\n./sub/f\n./x.sh\nrun\nhi\n"
    project.runner("outputs", run, "a", "copy")
    assert sorted(p.name for p in (project.root / "copy/tree").iterdir()) == ["empty", "link", "sub", "x.sh"]


def test_a_retry_starts_in_an_empty_directory_and_waits_longer_each_time(project):
    project.pipeline("""
        steps:
          a:
            kind: shell
            retry: {max_attempts: 3, interval: 10ms, jitter: 0}
            script: |
              test ! -e o.txt; echo part > o.txt; test "$RUNNER_ATTEMPT" = 3
            outputs: {o: {type: file, path: o.txt}}
    """)
    answer = project.runner("apply", "p.yaml")
    assert answer.out.split("\n\n")[-1] == (
        "run R1 of p\n"
        "  a: started\n"
        "  a: attempt 1 failed: it exited with 1; the next one in 0.01 s\n"
        "  a: started (attempt 2)\n"
        "  a: attempt 2 failed: it exited with 1; the next one in 0.02 s\n"
        "  a: started (attempt 3)\n"
        "  a: ok in N s\n"
        "run succeeded in N s\n"
    )


def test_c05_what_a_step_leaves_running_is_ended_and_noted(project):
    script(project, "COOKIE_C05=1 setsid sleep 3600 &\necho 1 > o.txt")
    started = time.monotonic()
    answer = project.runner("apply", "p.yaml")
    assert answer.code == 0
    assert "    note: it left processes behind, which were ended\n" in answer.out
    assert time.monotonic() - started < 12
    assert alive("COOKIE_C05=1") == []


def test_c12_a_step_that_ignores_term_is_killed_after_its_grace_period(project):
    script(
        project,
        "trap '' TERM\nexport COOKIE_C12=1\nsleep 60 & wait\nsleep 60",
        "    timeout: 500ms\n    grace_period: 500ms\n",
    )
    started = time.monotonic()
    answer = project.runner("apply", "p.yaml")
    assert "  a: FAILED: it ran longer than N s\n" in answer.out
    assert time.monotonic() - started < 4
    assert alive("COOKIE_C12=1") == []


def test_of_steps_that_may_begin_the_one_begins_first_that_took_longest_before(project):
    project.pipeline("""
        steps:
          one: {kind: shell, script: "echo 1 > o", outputs: {o: {type: file}}}
          two: {kind: shell, script: "echo 1 > o", outputs: {o: {type: file}}}
          long: {kind: shell, script: "sleep 1; echo 1 > o", outputs: {o: {type: file}}}
    """)
    project.request("force: ['*']\nconcurrency: {workers: 2}\n")

    def begun():
        return re.findall("(.*): started", project.runner("apply", "run.yaml").out)

    assert begun() == ["  one", "  two", "  long"]  # nothing is known: as in the file
    assert begun() == ["  long", "  one", "  two"]


def test_one_failure_stops_the_start_of_others_but_not_what_runs(project):
    project.pipeline("""
        steps:
          bad: {kind: shell, script: exit 1}
          after-bad: {kind: shell, script: 'true', needs: [bad]}
          slow: {kind: shell, script: sleep 1}
          after-slow: {kind: shell, script: 'true', needs: [slow]}
    """)
    assert project.runner("apply", "p.yaml", "--workers", "2").code == 1
    assert project.statuses() == {
        "bad": "failed",
        "after-bad": "upstream_failed",
        "slow": "succeeded",
        "after-slow": "not_run",
    }


def test_finish_independent_goes_on_with_what_does_not_depend_on_the_failure(project):
    project.pipeline("""
        failure_policy: finish_independent
        steps:
          bad: {kind: shell, script: exit 1}
          after-bad: {kind: shell, script: 'true', needs: [bad]}
          whatever: {kind: shell, script: 'true', needs: [after-bad], trigger: all_done}
          slow: {kind: shell, script: 'true'}
          after-slow: {kind: shell, script: 'true', needs: [slow]}
    """)
    assert project.runner("apply", "p.yaml").code == 1
    assert project.statuses() == {
        "bad": "failed",
        "after-bad": "upstream_failed",
        "slow": "succeeded",
        "after-slow": "succeeded",
        "whatever": "succeeded",
    }


def test_skipping_passes_on_unless_every_reference_is_guarded(project):
    project.pipeline("""
        params: {on: {type: boolean, default: false}}
        steps:
          maybe: {kind: shell, when: $(params.on), script: echo 1 > o, outputs: {o: {type: file}}}
          reader: {kind: command, command: [cat, $(steps.maybe.outputs.o)]}
          after: {kind: command, command: [echo], needs: [reader], trigger: none_failed}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.statuses() == {"maybe": "skipped", "reader": "skipped", "after": "succeeded"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_h01_a_signal_stops_the_run_and_leaves_no_process(project, number, code):
    project.pipeline(
        "steps:\n"
        + "".join(
            f"  s{i}: {{kind: shell, script: 'export COOKIE_H01={number.name}; touch {project.beside}/up{i}; sleep 60 & wait'}}\n"
            for i in range(4)
        )
        + "  end: {kind: shell, script: 'true', needs: [s0]}\n"
    )
    process = project.start("apply", "p.yaml", "--workers", "4")
    while len(list(project.beside.glob("up*"))) < 4:
        time.sleep(0.02)
    asked = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=15)
    assert (process.returncode, "Traceback" in err) == (code, False)
    assert f"stopping ({number.name})" in out
    assert project.statuses() == {**dict.fromkeys(["s0", "s1", "s2", "s3"], "stopped"), "end": "not_run"}
    assert project.record()["status"] == "stopped"
    assert alive(f"COOKIE_H01={number.name}") == []
    assert time.monotonic() - asked < 5


def test_h02_a_second_signal_kills_at_once(project):
    script(project, f"trap '' TERM\nexport COOKIE_H02=1\ntouch {project.beside}/up\nsleep 60 & wait\nsleep 60")
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=3)
    assert process.returncode == 130
    assert project.statuses() == {"a": "stopped"}
    assert alive("COOKIE_H02=1") == []


def test_d03_the_runner_is_killed_and_its_steps_end_the_run_is_interrupted_and_can_be_retried(project):
    project.pipeline(f"""
        steps:
          first: {{kind: shell, script: echo 1 > o, outputs: {{o: {{type: file}}}}}}
          second:
            kind: shell
            needs: [first]
            script: export COOKIE_D03=1; touch {project.beside}/up; test -e {project.beside}/go || setsid sleep 60
    """)
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.communicate(timeout=2)  # its output is closed by the last process that holds it
    assert alive("COOKIE_D03=1") == []
    assert (project.record()["status"], project.statuses()) == (
        "interrupted",
        {"first": "succeeded", "second": "interrupted"},
    )
    run = project.record()["run"]
    (project.beside / "go").touch()
    assert project.runner("retry", run).code == 0
    assert project.statuses() == {"first": "reused", "second": "succeeded"}


def test_c07_a_killed_worker_costs_one_step(project):
    project.pipeline(
        "failure_policy: finish_independent\nsteps:\n"
        f"  victim: {{kind: shell, script: 'touch {project.beside}/up; sleep 60'}}\n"
        + "".join(f"  s{i}: {{kind: shell, script: sleep 0.05}}\n" for i in range(10))
    )
    process = project.start("apply", "p.yaml", "--workers", "2")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    victim = next(
        worker
        for guard in guards(process.pid)
        for worker in children(guard)
        if any("touch" in command(pid) for pid in children(worker))
    )
    os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=30)
    statuses = project.statuses()
    assert process.returncode == 1
    assert sorted(statuses.values()) == ["failed", *["succeeded"] * 10]


def test_g06_an_input_that_is_edited_while_the_step_runs_fails_it(project):
    project.write(data_txt="1")
    project.pipeline(f"""
        steps:
          a:
            kind: shell
            inputs: {{table: data.txt}}
            script: cat data.txt > o; touch {project.beside}/up; until test -e {project.beside}/go; do sleep 0.05; done
            outputs: {{o: {{type: file}}}}
    """)
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.05)
    project.write(data_txt="2")
    (project.beside / "go").touch()
    out, _ = process.communicate()
    assert "  a: FAILED: its input ROOT/data.txt changed while it ran\n" in project.plain(out)
    assert project.record()["steps"]["a"]["status"] == "failed"


def test_events_as_json_one_a_line(project):
    script(project, "echo 1 > o.txt")
    answer = project.runner("apply", "p.yaml", "-o", "json")
    events = [json.loads(line) for line in answer.raw.splitlines()]
    assert [event["event"] for event in events] == ["run_started", "step_started", "step_ended", "run_ended"]
    assert events[2]["outputs"]["o"]["digest"].startswith("sha256:")


def test_arguments_come_through_byte_for_byte(project):
    nasty = "a b $(x) ${y} `z` \\ \" ' ; | & * ? é 😀 \t"
    project.pipeline("""
        params: {text: {type: string}}
        steps: {a: {kind: command, command: [printf, "%s", $(params.text)]}}
    """)
    project.runner("apply", "p.yaml", "-p", f"text={nasty}")
    assert project.runner("logs", project.record()["run"], "a").out == nasty


def test_too_little_memory_is_a_failure_of_the_environment(project):
    project.pipeline("steps: {b: {kind: shell, script: x, resources: {memory: 9T}}}")
    plan = project.runner("plan", "p.yaml")
    assert (plan.code, plan.err.startswith("warning[W310]: step b: it asks for")) == (0, True)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err.startswith("error: step b: it asks for")) == (6, True)
    assert project.runner("runs").out == "there are no runs yet\n"


def test_a_missing_program_behind_a_gate_fails_its_step_when_the_gate_opens(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: 'echo 1 > "$RUNNER_OUTPUT_O"', outputs: {o: {type: file}, n: {type: integer, from: o}}}
          check: {kind: condition, if: $(steps.a.outputs.n == 1), then: [b]}
          b: {kind: command, command: [no-such-program]}
    """)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, "  b: FAILED: there is no program no-such-program\n" in answer.out) == (6, True)


def test_a_huge_line_of_log_is_cut_in_the_middle_and_costs_no_memory(project):
    project.write(runner_toml="[logs]\nmax_bytes = 100000\n")
    script(project, "head -c 30000000 /dev/zero | tr '\\0' x; echo end; echo 1 > o.txt")
    assert project.runner("apply", "p.yaml").code == 0
    log = project.runner("logs", project.record()["run"], "a").out
    assert (len(log) < 110_000, "bytes cut ...]" in log, log.endswith("xxxend\n")) == (True, True, True)


def test_f01_a_full_disk_fails_the_run_and_leaves_no_process_and_a_whole_store(project):
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(project.root)], capture_output=True
        ).returncode
    ):
        pytest.skip("needs a user who may mount a tmpfs")
    try:
        (project.root / "runner.toml").touch()
        script(
            project, "export COOKIE_F01=1\ntrap '' PIPE TERM\nhead -c 6000000 /dev/zero | tr '\\0' x || true; sleep 60"
        )
        answer = project.runner("apply", "p.yaml")
        assert (answer.code, "  a: FAILED: No space left on device\n" in answer.out) == (6, True)
        assert alive("COOKIE_F01=1") == []
        assert project.runner("store", "verify").code == 0
    finally:
        subprocess.run(["umount", str(project.root)], check=True)


def test_an_output_never_writes_over_a_file_that_a_parameter_brings(project):
    project.write(mine_txt="precious")
    project.pipeline("""
        params: {data: {type: file, default: runner.toml}}
        steps:
          a: {kind: command, command: [sh, -c, "echo > mine.txt", sh, $(params.data)], outputs: {o: {type: file, path: mine.txt}}}
    """)
    assert str(project.runner("apply", "p.yaml", "-p", "data=mine.txt")) == (
        "p.yaml:6:6: error[E212]: step a cannot start: the path mine.txt of output `o` meets mine.txt, which is param `data`\n"
        '    6 |   a: {kind: command, command: [sh, -c, "echo > mine.txt", sh, $(params.data)], outputs: {o: {type: file, path: mine.txt}}}\n'
        "      |      ^\n"
        "[exit 2]"
    )
    assert (project.root / "mine.txt").read_text() == "precious"


def test_a_step_that_may_fail_fails_neither_the_run_nor_who_does_without_it(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: exit 3, on_failure: continue, outputs: {o: {type: file}}}
          b: {kind: command, command: [echo, '$(default(steps.a.outputs.o, "none"))']}
          c: {kind: command, command: [cat, $(steps.a.outputs.o)]}
          d: {kind: shell, script: "true", needs: [a]}
          e: {kind: shell, script: "true", needs: [a], trigger: all_done}
          f: {kind: shell, script: "true"}
    """)
    answer = project.runner("apply", "p.yaml", "--workers", "1")
    assert (answer.code, answer.out.splitlines()[-1]) == (0, "run succeeded in N s")
    assert project.statuses() == {
        "a": "failed", "b": "succeeded", "c": "upstream_failed", "d": "upstream_failed", "e": "succeeded", "f": "succeeded",
    }  # fmt: skip
    assert project.runner("logs", project.record()["run"], "b").out == "none\n"


def test_a_run_is_stopped_from_another_shell_and_can_be_retried(project):
    script(project, f"touch {project.beside}/up; sleep 60; echo 1 > o.txt")
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    run = project.record()["run"]
    assert str(project.runner("stop", run)) == "run R1 is asked to stop\n[exit 0]"
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert project.record(run)["status"] == "stopped"
    assert "stopped by `runner stop` of " in out
    assert str(project.runner("stop", run)) == "run R1 has ended: stopped\n[exit 0]"
    script(project, "echo 1 > o.txt")
    assert project.runner("retry", run).code == 0


def test_a_second_stop_kills(project):
    script(project, f"trap '' TERM; touch {project.beside}/up; sleep 60 & wait; sleep 60; echo 1 > o.txt")
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    run = project.record()["run"]
    started = time.monotonic()
    for _ in range(2):
        assert project.runner("stop", run).code == 0
    process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - started < 9) == (1, True)  # its grace period is 10 s


def test_of_a_group_one_run_is_under_way_at_a_time(project):
    script(project, f"touch {project.beside}/up; sleep 4; echo 1 > o.txt")
    project.request("concurrency: {group: nightly}\nforce: [a]")
    project.request("concurrency: {group: nightly, conflict: reject}", name="other")
    process = project.start("apply", "run.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    refused = project.runner("apply", "other.yaml")
    waited = project.runner("apply", "run.yaml")
    process.communicate(timeout=30)
    assert str(refused) == (
        "error: another run of the group nightly is under way\n  = help: wait for it, or write `conflict: queue`\n[exit 4]"
    )
    assert (waited.code, waited.err) == (0, "waiting for another run of the group nightly\n")
    runs = [r["started"] for r in json.loads(project.runner("runs", "-o", "json").raw)]
    assert runs[0] - runs[1] >= 1
    assert project.runner("apply", "other.yaml").code == 0


FINALLY = """
    steps:
      a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
      b: {kind: shell, script: exit 3, needs: [a]}
      c: {kind: shell, script: "true", needs: [b]}
    finally:
      clean: {kind: shell, env: {S: $(run.status), B: $(steps.b.status), C: $(steps.c.status)}, script: 'echo "$S $B $C"'}
      tell: {kind: command, command: [cat, '$(default(steps.a.outputs.o, "none"))'], needs: [clean]}
"""


def test_finally_runs_whatever_the_end_and_knows_it(project):
    project.pipeline(FINALLY)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, "  finally clean, tell\n" in answer.out) == (1, True)
    run = project.record()["run"]
    assert project.statuses() == {"a": "succeeded", "b": "failed", "c": "upstream_failed", "clean": "succeeded", "tell": "succeeded"}  # fmt: skip
    assert [project.runner("logs", run, step).out for step in ("clean", "tell")] == [
        "failed failed upstream_failed\n",
        "1\n",
    ]
    project.pipeline(FINALLY.replace("exit 3", "exit 0"))
    assert project.runner("retry", run).code == 0
    assert project.runner("logs", project.record()["run"], "clean").out == "succeeded succeeded succeeded\n"


def test_a_failure_in_finally_changes_the_run_only_where_it_says_so(project):
    project.pipeline("steps: {a: {kind: shell, script: 'true'}}\nfinally: {f: {kind: shell, script: exit 3}}")
    assert project.runner("apply", "p.yaml").code == 0
    project.pipeline(
        "steps: {a: {kind: shell, script: 'true'}}\nfinally: {f: {kind: shell, script: exit 3, on_failure: fail}}"
    )
    assert project.runner("apply", "p.yaml").code == 1


def test_finally_runs_after_a_stop(project):
    project.pipeline(f"""
        steps: {{a: {{kind: shell, script: 'touch {project.beside}/up; sleep 60'}}}}
        finally: {{f: {{kind: shell, env: {{S: $(run.status)}}, script: 'echo "$S"'}}}}
    """)
    process = project.start("apply", "p.yaml")
    while not (project.beside / "up").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert project.runner("logs", project.record()["run"], "f").out == "stopped\n"
