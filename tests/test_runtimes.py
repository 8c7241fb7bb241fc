"""Where steps run: this machine as it is, environments made from a file or there already, containers by a fake engine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.reliability.kit import children, guards

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
TOOLS = [pytest.param("uv", marks=pytest.mark.skipif(UV is None, reason="uv is not installed")), "pip"]
IMAGE = "registry.example/train@sha256:" + "a" * 64
# Writes down how it was called, then runs the command where it is: mounts have the same path on both sides.
ENGINE = f"""#!{sys.executable}
import json, os, sys
with open(os.path.dirname(__file__) + "/calls.jsonl", "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
with open(os.path.dirname(__file__) + "/client.json", "w") as file:
    json.dump({{n: os.environ.get(n) for n in ("HOME", "DOCKER_HOST", "TZ")}}, file)
if sys.argv[1] == "run":
    options = sys.argv[2 : sys.argv.index({IMAGE!r})]
    pairs = [(options[i], options[i + 1]) for i in range(len(options) - 1)]
    env = dict(v.split("=", 1) if "=" in v else (v, os.environ[v]) for k, v in pairs if k == "--env")
    os.chdir(dict(pairs)["--workdir"])
    command = sys.argv[3 + len(options) :]
    if not env.get("PATH"):
        env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    os.execvpe(command[0], command, env)
"""


def container_engine(folder: Path, name: str) -> dict[str, str]:
    """Put an engine on PATH; return the variables for the runner."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(ENGINE)
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def calls(project, folder: Path) -> list[list[str]]:
    return [json.loads(project.plain(line)) for line in (folder / "calls.jsonl").read_text().splitlines()]


def wheel(folder: Path, value: int = 1) -> None:
    """Write a wheel whose only module says VALUE."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "tiny.py": f"VALUE = {value}\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as file:
        for name, text in parts.items():
            file.writestr(name, text)
        file.writestr("tiny-1.0.dist-info/RECORD", "".join(f"{n},,\n" for n in [*parts, "tiny-1.0.dist-info/RECORD"]))


@pytest.fixture
def tools(tmp_path) -> dict[str, dict[str, str]]:
    """Variables with which the runner finds uv, or finds none."""
    without = os.pathsep.join(folder for folder in os.get_exec_path() if not os.path.exists(f"{folder}/uv"))
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "uv").symlink_to(UV or "missing")
    cache = {"UV_CACHE_DIR": str(tmp_path / "cache")}
    found = {"uv": {"PATH": f"{folder}:{without}", **cache}, "pip": {"PATH": without, **cache}}
    return {**found, "fast": found["uv" if UV else "pip"]}


# --- host -----------------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_lock_file_and_the_inherited_variables_are_in_the_fingerprint(project):
    project.pipeline("""
        runtimes: {here: {kind: host, lock: all.txt, inherit_env: [REGION]}}
        steps:
          a: {kind: shell, runtime: here, script: 'echo "${REGION-none}" > o.txt', outputs: {o: {type: file, path: o.txt}}}
    """)
    project.write(all_txt="numpy==2.0\n")
    north, south = {"REGION": "north"}, {"REGION": "south"}
    assert "a: ok" in project.runner("apply", "p.yaml", env=north).out
    assert project.output("a") == b"north\n"
    changed = "  run     a  env runtime: DIGEST -> DIGEST\n"
    assert changed not in project.runner("plan", "p.yaml", env=north).out
    assert changed in project.runner("plan", "p.yaml", env=south).out
    assert changed in project.runner("plan", "p.yaml").out
    project.write(all_txt="numpy==2.1\n")
    assert changed in project.runner("plan", "p.yaml", env=north).out


def test_a_step_inherits_the_variables_that_its_runtime_names_and_no_others(project):
    project.pipeline("""
        runtimes: {here: {kind: host, inherit_env: [REGION, ZONE, ABSENT, OMP_NUM_THREADS]}}
        steps:
          a:
            kind: shell
            runtime: here
            env: {ZONE: declared}
            script: 'echo "$REGION $ZONE ${ABSENT-no} ${SECRETIVE-no} $OMP_NUM_THREADS $MKL_NUM_THREADS" > o.txt'
            outputs: {o: {type: file, path: o.txt}}
    """)
    project.runner("apply", "p.yaml", env={"REGION": "r", "ZONE": "z", "SECRETIVE": "s", "OMP_NUM_THREADS": "7"})
    assert project.output("a") == b"r declared no no 7 1\n"


def test_a_host_runtime_without_a_lock_says_that_packages_are_not_tracked(project):
    project.pipeline("""
        runtimes: {here: {kind: host}}
        steps:
          a: {kind: shell, runtime: here, script: "true"}
    """)
    note = "runtime here: installed packages are not tracked; a `lock` file would be"
    assert note in project.runner("plan", "p.yaml").out


# --- venv -----------------------------------------------------------------------------------------------------------

VENV = """
    runtimes: {train: {kind: venv, requirements: requirements.txt}}
    defaults: {runtime: train}
    steps:
      py: {kind: python, function: "work:version", code: [work.py], outputs: {value: {type: integer}, prefix: {type: string}}}
      sh:
        kind: shell
        script: printf '{"value":%s}' "$(python -c 'import tiny; print(tiny.VALUE)')" > "$RUNNER_VALUES"
        outputs: {value: {type: integer}}
      cmd:
        kind: command
        command: [python, -c, "import tiny, sys; open('o.txt', 'w').write(f'{tiny.VALUE} {sys.prefix}')"]
        outputs: {o: {type: file, path: o.txt}}
"""
WORK = "import sys, tiny\ndef version():\n    return {'value': tiny.VALUE, 'prefix': sys.prefix}\n"


@pytest.mark.parametrize("tool", TOOLS)
def test_an_environment_is_made_once_for_all_steps_and_found_by_later_runs(project, tools, tool):
    project.pipeline(VENV)
    project.write(work_py=WORK, requirements_txt="--no-index\n./tiny-1.0-py3-none-any.whl\n")
    wheel(project.root)
    answer = project.runner("apply", "p.yaml", env=tools[tool])
    assert (answer.code, answer.err) == (
        0, "making the environment `train` (1 requirement) …\nmade the environment `train` in N s\n"
    )  # fmt: skip
    [place] = (project.root / ".runner/environments").glob("*[!k]")
    assert project.output("cmd").decode() == f"1 {place}"
    steps = project.record()["steps"]
    assert steps["py"]["outputs"]["prefix"]["value"] == str(place)
    assert [steps[n]["outputs"]["value"]["value"] for n in ("py", "sh")] == [1, 1]

    again = project.runner("apply", "--again", "p.yaml", env=tools[tool])
    assert (again.code, again.err, set(project.statuses().values())) == (0, "", {"cached"})


def test_a_changed_file_is_another_environment_and_other_steps(project, tools):
    project.pipeline(VENV)
    project.write(work_py=WORK, requirements_txt="--no-index\n./tiny-1.0-py3-none-any.whl\n")
    wheel(project.root)
    assert project.runner("apply", "p.yaml", env=tools["fast"]).code == 0
    wheel(project.root, value=2)  # the requirements name the same file, which holds something else now
    assert project.runner("plan", "p.yaml", env=tools["fast"]).out.count("env runtime: DIGEST -> DIGEST") == 3
    assert not project.runner("apply", "p.yaml", env=tools["fast"]).code
    assert project.output("cmd").decode()[0] == "2"
    assert len(list((project.root / ".runner/environments").glob("*[!k]"))) == 2


def test_a_reused_step_of_an_environment_that_changed_is_stale(project, tools):
    project.pipeline("""
        runtimes: {train: {kind: venv, lock: requirements.txt}}
        steps:
          a: {kind: shell, runtime: train, script: "echo 1 > o.txt", outputs: {o: {type: file, path: o.txt}}}
          b: {kind: command, command: [cat, $(steps.a.outputs.o)]}
    """)
    project.write(requirements_txt="--no-index\n")
    project.request("select: [b]\n")
    assert project.runner("apply", "p.yaml", env=tools["fast"]).code == 0
    project.write(requirements_txt="--no-index\n# more\n")
    answer = project.runner("apply", "run.yaml", env=tools["fast"])
    assert answer.code == 3
    assert "F201 a would be reused, but it is stale: env runtime: DIGEST -> DIGEST." in answer.out


def test_an_environment_that_cannot_be_made_starts_nothing_and_says_what_the_tool_said(project, tools):
    project.pipeline(VENV)
    project.write(work_py=WORK, requirements_txt="--no-index\nabsent-package\n")
    answer = project.runner("apply", "p.yaml", env=tools["pip"])
    assert answer.code == 6
    assert "the environment `train` cannot be made: pip ended with exit status 1\n" in answer.err
    assert "No matching distribution found for absent-package" in answer.err
    assert project.runner("runs").out == "there are no runs yet\n"
    assert list((project.root / ".runner/environments").glob("*[!k]")) == []


def test_an_environment_that_is_there_already_is_used_by_its_path(project):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project.root / "env"], check=True)
    (project.root / f"env/lib/python{HERE}/site-packages/tiny.py").write_text("VALUE = 3\n")
    project.pipeline(VENV.replace("requirements: requirements.txt", "path: env"))
    project.write(work_py=WORK)
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err) == (0, "")
    assert "runtime train: what is installed in env is not tracked" in answer.out
    assert project.output("cmd").decode() == f"3 {project.root}/env"
    assert not (project.root / ".runner/environments").exists()


def test_a_python_that_the_machine_lacks_is_told_by_plan_and_refused_by_apply(project):
    project.pipeline("""
        runtimes: {old: {kind: venv, requirements: requirements.txt, python: "3.1"}}
        steps:
          a: {kind: shell, runtime: old, script: "true"}
    """)
    project.write(requirements_txt="")
    lacking = "the runtime `old` asks for python3.1, which this machine lacks"
    plan, apply = project.runner("plan", "p.yaml"), project.runner("apply", "p.yaml")
    assert (plan.code, plan.err) == (0, f"warning[W310]: step a: {lacking}\n")
    assert (apply.code, apply.err) == (
        6, f"error: step a: {lacking}\n  = help: install it here, or run on another machine\n"
    )  # fmt: skip
    assert project.runner("runs").out == "there are no runs yet\n"


def test_python_steps_are_forked_from_a_parent_that_has_imported_what_preload_names(project):
    project.pipeline(
        """
        runtimes: {warm: {kind: host, preload: [xml.dom.minidom, no_such_module]}}
        defaults: {outputs: {}}
        steps:
          a: {kind: python, runtime: warm, function: "work:loaded", code: [work.py], outputs: {early: {type: boolean}}}
          b: {kind: python, function: "work:loaded", code: [work.py], outputs: {early: {type: boolean}}}
    """.replace("        defaults: {outputs: {}}\n", "")
    )
    project.write(
        work_py="import sys\nearly = 'xml.dom.minidom' in sys.modules\ndef loaded():\n    return {'early': early}\n"
    )
    project.runner("apply", "p.yaml")
    steps = project.record()["steps"]
    assert [steps[name]["outputs"]["early"]["value"] for name in ("a", "b")] == [True, False]


# --- containers -----------------------------------------------------------------------------------------------------

BOX = f"""
    params: {{data: {{type: file, default: data.csv}}}}
    runtimes: {{box: {{kind: container, image: "{IMAGE}", inherit_env: [REGION]}}}}
    defaults: {{runtime: box}}
"""


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_a_step_runs_in_a_container_that_has_what_the_step_declares_and_no_more(project, tmp_path, name):
    project.pipeline(
        BOX.replace("inherit_env", f"engine: {name}, inherit_env")
        + """
    steps:
      first: {kind: command, command: [cp, $(params.data), $(outputs.o)], outputs: {o: {type: file, path: o.csv}}}
      second:
        kind: shell
        env: {TOKENS: "3"}
        resources: {cpu: 0.5, memory: 64Mi}
        script: cat "$RUNNER_INPUT_O" > o.txt; echo "$TOKENS $REGION $HOME $TMPDIR" >> o.txt
        inputs: {o: $(steps.first.outputs.o)}
        outputs: {o: {type: file, path: o.txt}}
    """
    )
    project.write(data_csv="1\n")
    env = container_engine(tmp_path / "bin", name)
    answer = project.runner("apply", "p.yaml", env={**env, "REGION": "north"})
    assert (answer.code, answer.err) == (0, "")
    place = "ROOT/.runner/tmp/R1/second.1"
    assert project.plain(project.output("second").decode()) == f"1\n3 north {place} {place}\n"
    names = "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS NUMBA_NUM_THREADS RUNNER_CONTEXT RUNNER_VALUES RUNNER_RUN_ID RUNNER_STEP RUNNER_ATTEMPT RUNNER_OUTPUT_DIR RUNNER_INPUT_O RUNNER_OUTPUT_O REGION TOKENS"
    first, second = calls(project, tmp_path / "bin")
    digest = project.record()["steps"]["first"]["outputs"]["o"]["digest"].removeprefix("sha256:")
    assert second == [
        name, "run", "--rm", "--init", "--name", "runner-R1-second-1", "--label", "runner.step=1", "--log-driver", "none",
        "--entrypoint", "", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        *(["--userns=keep-id"] if name == "podman" and os.geteuid() else []), "--user", f"{os.geteuid()}:{os.getegid()}",
        "--cpus", "0.5", "--memory", f"{64 << 20}b",
        "--mount", f"type=bind,source={place},target={place}",
        "--mount", "type=bind,source=ROOT/.runner/objects,target=ROOT/.runner/objects,readonly",
        "--mount", project.plain(f"type=bind,source=ROOT/.runner/objects/sha256/{digest[:2]}/{digest},target=ROOT/.runner/objects/sha256/{digest[:2]}/{digest},readonly"),
        "--workdir", f"{place}/work", "--env", f"HOME={place}", "--env", f"TMPDIR={place}",
        *(part for variable in names.split() for part in ("--env", variable)),
        project.plain(IMAGE), "bash", "-euo", "pipefail", f"{place}/script",
    ]  # fmt: skip
    assert "type=bind,source=ROOT/data.csv,target=ROOT/data.csv,readonly" in first


def test_variables_that_the_client_itself_heeds_are_given_by_value_and_leave_the_client_as_it_is(project, tmp_path):
    project.pipeline(
        BOX.replace("params: {data: {type: file, default: data.csv}}", "")
        + """
    steps:
      a:
        kind: shell
        env: {HOME: /home/step, PATH: "/usr/bin:/bin", TZ: Mars, DOCKER_HOST: "tcp://inner"}
        script: echo "$HOME $PATH $TZ $DOCKER_HOST" > o.txt
        outputs: {o: {type: file, path: o.txt}}
    """
    )
    env = container_engine(tmp_path / "bin", "docker")
    assert (
        project.runner("apply", "p.yaml", env={**env, "TZ": "UTC", "DOCKER_HOST": "unix:///mine", "HOME": "/mine"}).code
        == 0
    )
    assert project.output("a") == b"/home/step /usr/bin:/bin Mars tcp://inner\n"
    [call] = calls(project, tmp_path / "bin")
    given = [call[i + 1] for i, word in enumerate(call) if word == "--env"]
    assert {"HOME=/home/step", "PATH=/usr/bin:/bin", "DOCKER_HOST=tcp://inner", "TZ"} <= set(given)
    client = json.loads((tmp_path / "bin/client.json").read_text())
    assert client == {"HOME": "/mine", "DOCKER_HOST": "unix:///mine", "TZ": "Mars"}


def test_a_secret_may_not_be_in_a_variable_that_the_client_heeds(project, tmp_path):
    project.pipeline(f"""
        secrets: {{token: {{env: TOKEN}}}}
        runtimes: {{box: {{kind: container, image: "{IMAGE}"}}}}
        steps:
          a: {{kind: command, runtime: box, command: [env], env: {{TMPDIR: $(secrets.token)}}}}
    """)
    env = container_engine(tmp_path / "bin", "docker")
    answer = project.runner("apply", "p.yaml", env={**env, "TOKEN": "hunter2-hunter2"})
    assert "a: FAILED: TMPDIR of a container may hold no secret: docker itself reads it\n" in answer.out
    assert not (tmp_path / "bin/calls.jsonl").exists()


def test_the_exit_code_of_the_command_is_that_of_the_step(project, tmp_path):
    project.pipeline(
        BOX.replace("params: {data: {type: file, default: data.csv}}", "")
        + """
    failure_policy: finish_independent
    steps:
      a: {kind: shell, script: exit 3}
      b: {kind: shell, script: exit 4, success_codes: [4]}
    """
    )
    project.runner("apply", "p.yaml", env=container_engine(tmp_path / "bin", "docker"))
    steps = project.record()["steps"]
    assert {n: (s["status"], s["exit_code"]) for n, s in steps.items()} == {
        "a": ("failed", 3), "b": ("succeeded", 4)
    }  # fmt: skip
    assert [call[1] for call in calls(project, tmp_path / "bin")] == ["run"] * 2  # what ended by itself is not removed


@pytest.mark.parametrize(
    ("script", "more", "reason"),
    [
        pytest.param("trap 'exit 0' TERM; sleep 60 & wait", "timeout: 500ms", "it ran longer than N s", id="TERM"),
        pytest.param("trap '' TERM; sleep 60 & wait; wait", "timeout: 500ms, grace_period: 500ms", "it ran longer than N s", id="KILL"),
    ],
)  # fmt: skip
def test_a_container_that_is_ended_is_removed(project, tmp_path, script, more, reason):
    project.pipeline(f"""
        runtimes: {{box: {{kind: container, image: "{IMAGE}"}}}}
        steps:
          a: {{kind: shell, runtime: box, script: "{script}", {more}}}
    """)
    answer = project.runner("apply", "p.yaml", env=container_engine(tmp_path / "bin", "docker"))
    assert f"a: FAILED: {reason}\n" in answer.out
    run, removed = calls(project, tmp_path / "bin")
    assert removed == ["docker", "rm", "--force", run[run.index("--name") + 1]]


def in_a_container(project, tmp_path):
    """Start a run whose step sleeps in a container; return it once the step has begun."""
    project.pipeline(f"""
        runtimes: {{box: {{kind: container, image: "{IMAGE}"}}}}
        steps:
          a: {{kind: shell, runtime: box, script: "touch started; sleep 60"}}
    """)
    process = project.start("apply", "p.yaml", env=container_engine(tmp_path / "bin", "docker"))
    until(lambda: list((project.root / ".runner/tmp").glob("*/a.1/work/started")))
    return process


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_container_is_removed_when_its_run_is_stopped_or_its_runner_killed(project, tmp_path, end):
    process = in_a_container(project, tmp_path)
    getattr(process, end)()
    process.communicate(timeout=20)
    until(lambda: len(calls(project, tmp_path / "bin")) == 2)
    run, removed = calls(project, tmp_path / "bin")
    assert removed == ["docker", "rm", "--force", run[run.index("--name") + 1]]


def test_a_container_is_removed_when_its_worker_is_killed(project, tmp_path):
    process = in_a_container(project, tmp_path)
    [worker] = [pid for guard in guards(process.pid) for pid in children(guard)]
    os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=20)
    assert "a: FAILED: its worker process ended (killed by SIGKILL)\n" in output
    run, removed = calls(project, tmp_path / "bin")
    assert removed == ["docker", "rm", "--force", run[run.index("--name") + 1]]


def until(true) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_missing_engine_is_told_by_plan_and_refused_by_apply(project, tmp_path):
    project.pipeline(f"""
        runtimes:
          box: {{kind: container, image: "{IMAGE}"}}
          pod: {{kind: container, image: "{IMAGE}", engine: podman}}
        steps:
          a: {{kind: command, runtime: box, command: [env]}}
          b: {{kind: command, runtime: pod, command: [env]}}
    """)
    nothing = {"PATH": str(tmp_path)}
    plan, apply = project.runner("plan", "p.yaml", env=nothing), project.runner("apply", "p.yaml", env=nothing)
    a = "there is no docker or podman to run the container of runtime box"
    b = "there is no podman to run the container of runtime pod"
    assert plan.code == 0
    assert f"warning[W310]: step a: {a}\n" in plan.err
    assert f"warning[W310]: step b: {b}\n" in plan.err
    assert (apply.code, apply.err) == (
        6, f"error: step a: {a}; step b: {b}\n  = help: install it here, or run on another machine\n"
    )  # fmt: skip
    assert project.runner("runs").out == "there are no runs yet\n"


def test_another_image_is_another_step_and_an_image_without_a_digest_is_refused(project, tmp_path):
    text = (
        BOX.replace("params: {data: {type: file, default: data.csv}}", "")
        + """
    steps:
      a: {kind: shell, script: "echo 1 > o.txt", outputs: {o: {type: file, path: o.txt}}}
    """
    )
    env = container_engine(tmp_path / "bin", "docker")
    project.pipeline(text)
    assert project.runner("apply", "p.yaml", env=env).code == 0
    project.pipeline(text.replace("a" * 64, "b" * 64))
    assert "  run     a  env runtime: DIGEST -> DIGEST\n" in project.runner("plan", "p.yaml", env=env).out
    project.pipeline(text.replace("@sha256:" + "a" * 64, ":latest"))
    assert (
        "error[E217]: the image registry.example/train:latest has no digest" in project.runner("validate", "p.yaml").err
    )


def test_python_steps_and_notebooks_are_not_for_containers(project):
    project.pipeline(
        BOX
        + """
    steps:
      a: {kind: python, function: "work:version", code: [work.py]}
    """
    )
    project.write(work_py=WORK, data_csv="")
    assert "error[E107]: a python step cannot run in a container\n" in project.runner("validate", "p.yaml").err
