"""What `resources` means to a step: how many threads its libraries start, and how much memory it may have."""

import subprocess
import sys

import pytest

from runner.executors.cgroup import memory_group

_probe = memory_group(64 << 20, "probe-of-the-tests")
if _probe is not None:
    _probe.remove()
limited = pytest.mark.skipif(_probe is None, reason="this machine lets nobody make a group with a memory limit")

NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
SHOW = f"import os\ndef show():\n    return {{'seen': [os.environ.get(n) for n in {NAMES}]}}\n"


@pytest.mark.parametrize(
    ("resources", "threads"),
    [
        pytest.param("{}", "1", id="the default is one"),
        pytest.param("{cpu: 2}", "2", id="an integer"),
        pytest.param("{cpu: 0.5}", "1", id="less than one"),
        pytest.param("{cpu: 1.9}", "1", id="a fraction is no thread"),
        pytest.param("{cpu: $(params.n * 2)}", "2", id="an expression"),
        pytest.param("{cpu: 999}", "2", id="more than the run has"),
    ],
)
def test_numeric_libraries_are_told_to_start_as_many_threads_as_the_step_has_processors(project, resources, threads):
    project.pipeline(f"""
        params: {{n: {{type: integer, default: 1}}}}
        defaults: {{resources: {resources}}}
        steps:
          py: {{kind: python, function: "work:show", code: [work.py], outputs: {{seen: {{type: list}}}}}}
          cmd:
            kind: command
            command: [python, -c, "import os, json, work; json.dump(work.show(), open(os.environ['RUNNER_VALUES'], 'w'))"]
            code: [work.py]
            outputs: {{seen: {{type: list}}}}
    """)
    project.write(work_py=SHOW)
    project.request("concurrency: {workers: 2, cpu: 2}\n")
    assert project.runner("apply", "run.yaml").code == 0
    steps = project.record()["steps"]
    assert [steps[name]["outputs"]["seen"]["value"] for name in ("py", "cmd")] == [[threads] * 5] * 2


def test_declared_variables_come_before_the_number_of_threads(project):
    project.pipeline("""
        defaults: {env: {MKL_NUM_THREADS: 9}}
        steps:
          py: {kind: python, function: "work:show", code: [work.py], env: {OMP_NUM_THREADS: 5}, outputs: {seen: {type: list}}}
    """)
    project.write(work_py=SHOW)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["steps"]["py"]["outputs"]["seen"]["value"] == ["5", "1", "9", "1", "1"]


def test_resources_are_in_no_fingerprint(project):
    text = """
        steps:
          a: {kind: shell, script: "echo 1 > o.txt", outputs: {o: {type: file, path: o.txt}}, resources: {cpu: 1}}
    """
    project.pipeline(text)
    project.runner("apply", "p.yaml")
    project.pipeline(text.replace("cpu: 1", "cpu: 2, memory: 64Mi"))
    assert "  cached  a  " in project.runner("plan", "p.yaml").out


def test_libraries_imported_by_a_parent_are_told_of_the_threads_of_their_steps(project):
    """What `preload` imports reads the variable once, so steps with other numbers have other parents."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project.root / "env"], check=True)
    site = next((project.root / "env").glob("lib/*/site-packages"))
    (site / "early.py").write_text("import os\nTHREADS = os.environ.get('OMP_NUM_THREADS')\n")
    project.pipeline("""
        runtimes: {warm: {kind: venv, path: env, preload: [early]}}
        defaults: {runtime: warm}
        steps:
          one: {kind: python, function: "work:show", code: [work.py], outputs: {seen: {type: list}}}
          two: {kind: python, function: "work:show", code: [work.py], outputs: {seen: {type: list}}, resources: {cpu: 2}}
          own: {kind: python, function: "work:show", code: [work.py], outputs: {seen: {type: list}}, env: {OMP_NUM_THREADS: 6}}
    """)
    project.write(
        work_py="import early, os\ndef show():\n    return {'seen': [early.THREADS, os.environ['OMP_NUM_THREADS']]}\n"
    )
    project.request("mode: full\nconcurrency: {workers: 1, cpu: 2}\n")
    assert project.runner("apply", "run.yaml").code == 0
    steps = project.record()["steps"]
    seen = [steps[name]["outputs"]["seen"]["value"] for name in ("one", "two", "own")]
    assert seen == [["1", "1"], ["2", "2"], ["6", "6"]]


# --- memory ---------------------------------------------------------------------------------------------------------

GREEDY = "def grow(size):\n    kept = bytearray(size << 20)\n    kept[:: 4096] = bytes([1]) * len(kept[:: 4096])\n    return {'size': len(kept) >> 20}\n"


def test_a_step_that_asks_for_more_memory_than_there_is_is_told_by_plan_and_refused_by_apply(project):
    project.pipeline("""
        steps:
          a: {kind: shell, script: "true", resources: {memory: 64Mi}}
    """)
    project.request("concurrency: {memory: 32Mi}\n")
    plan, apply = project.runner("plan", "run.yaml"), project.runner("apply", "run.yaml")
    lacking = "step a: it asks for 64 MiB of memory; there are 32\n"
    assert (plan.code, plan.err) == (0, f"warning[W310]: {lacking}")
    assert (apply.code, apply.err) == (6, f"error: {lacking}  = help: install it here, or run on another machine\n")


@limited
@pytest.mark.parametrize("kind", ["python", "command", "shell"])
def test_a_step_that_takes_more_memory_than_it_asked_for_is_ended_with_the_cause_oom(project, kind):
    how = {
        "python": 'kind: python, function: "work:grow", args: {size: 200}',
        "command": 'kind: command, command: [python, -c, "import work; work.grow(200)"]',
        "shell": f"kind: shell, script: \"{sys.executable} -c 'import work; work.grow(200)'\"",
    }
    project.pipeline(f"""
        steps:
          a: {{{how[kind]}, code: [work.py], resources: {{memory: 64Mi}}}}
    """)
    project.write(work_py=GREEDY)
    answer = project.runner("apply", "p.yaml")
    assert "  a: FAILED: out of memory: it needed more than its 64Mi\n" in answer.out
    step = project.record()["steps"]["a"]
    assert (answer.code, step["status"], step["cause"]) == (1, "failed", "oom")


@limited
def test_a_step_within_its_memory_succeeds_and_the_next_one_in_the_same_worker_has_its_own_limit(project):
    project.pipeline("""
        steps:
          a: {kind: python, function: "work:grow", args: {size: 30}, code: [work.py], resources: {memory: 64Mi}, outputs: {size: {type: integer}}}
          b: {kind: python, function: "work:grow", args: {size: 200}, code: [work.py], outputs: {size: {type: integer}}, needs: [a]}
          c: {kind: python, function: "work:grow", args: {size: 100}, code: [work.py], resources: {memory: 200Mi}, outputs: {size: {type: integer}}, needs: [b]}
    """)
    project.write(work_py=GREEDY)
    answer = project.runner("apply", "--workers", "1", "p.yaml")
    assert (answer.code, set(project.statuses().values())) == (0, {"succeeded"})


@limited
def test_want_of_memory_is_retried_where_retry_names_it_and_only_then(project):
    project.pipeline("""
        failure_policy: finish_independent
        defaults: {resources: {memory: 64Mi}}
        steps:
          warm: {kind: python, function: "work:grow", args: {size: 200}, code: [work.py], retry: {max_attempts: 3, errors: [oom], interval: 10ms}}
          exit: {kind: shell, script: exit 3, retry: {max_attempts: 3, errors: [oom], interval: 10ms}}
          none: {kind: python, function: "work:grow", args: {size: 200}, code: [work.py], retry: {max_attempts: 3, errors: [exit, signal], interval: 10ms}}
    """)
    project.write(work_py=GREEDY)
    answer = project.runner("apply", "p.yaml")
    assert answer.out.count("attempt 1 failed") == 1
    steps = project.record()["steps"]
    assert {n: (s["cause"], s["attempt"]) for n, s in steps.items()} == {
        "warm": ("oom", 3), "exit": ("exit", 1), "none": ("oom", 1)
    }  # fmt: skip
