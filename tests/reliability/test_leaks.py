"""A secret that a step lets out by an unusual way is in no file, message or argv. The usual ways: tests/test_secrets.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import Project
from tests.test_secrets import KEY, LEAK, SECRET, TOLD, hits

HEAD = "secrets: {token: {env: TOKEN}, key: {file: key.txt}}\ndefaults: {env: {T: $(secrets.token), K: $(secrets.key)}}\nfailure_policy: finish_independent\n"
# Each lets out all forms of both secrets; what comes out of it may be masked, but must not be the secret.
WAYS = {
    "drips": "import time\nfor f in forms(T):\n    for c in range(0, len(f), 7):\n        print(f[c:c+7], end='', flush=True); time.sleep(0.01)\n    print()",
    "both streams": "for f in forms(T):\n    print(f, end='', flush=True); print(f, file=sys.stderr, end='', flush=True)",
    "children": "import subprocess\nfor f in forms(T):\n    subprocess.run(['sh', '-c', 'printf %s \"$F\"'], env={'F': f[:9]}); subprocess.run(['sh', '-c', 'echo \"$F\"'], env={'F': f[9:]})",
    "a descendant that outlives it": "import subprocess, time\nsubprocess.Popen(['sh', '-c', 'trap env TERM; sleep 9 & wait']); time.sleep(0.5)",
    "no end of line": "os.write(1, T.encode())",
    "control characters": "print('\\x1b[31m' + T + '\\x1b[0m\\r' + T + '\\x08' * 5)",
    "wrapped base64": "import base64, textwrap\nprint(base64.encodebytes((T + K).encode()).decode()); print('\\n'.join(textwrap.wrap(base64.b64encode(T.encode() * 9).decode(), 64)))",
    "beside bytes that are no text": "os.write(1, b'\\xff\\xfe' + T.encode() + b'\\xff')",
    "an exception of a thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0 if not T else (_ for _ in ()).throw(ValueError(T))); t.start(); t.join(); sys.exit(3)",
    "what env prints": "import subprocess\nsubprocess.run(['env']); subprocess.run(['sh', '-xc', 'x=$T; : $x \"$K\"'])",
    "its own environ": "sys.stdout.write(open('/proc/self/environ').read())",
    "a repr": "print(repr(T), ascii(T), [K], {'k': K}); sys.exit(repr(K))",
    "many times": "print((T + '\\n') * 5000 + K * 500)",
}  # fmt: skip


def leak(project: Project, ways: dict[str, str], retry: str = "") -> None:
    steps = []
    for number, (way, code) in enumerate(ways.items()):
        body = LEAK.partition("def leak(way)")[0] + f"T, K = os.environ['T'], os.environ['K']\n# {way}\n{code}\n"
        (project.root / f"way{number}.py").write_text(body)
        steps.append(
            f"  w{number}: {{kind: command, command: [python, way{number}.py], code: [way{number}.py]{retry}}}"
        )
    project.pipeline(HEAD + "steps:\n" + "\n".join(steps))
    (project.root / "key.txt").write_text(KEY + "\n")


@pytest.mark.reliability("J06")
def test_thirteen_unusual_ways_out_lead_to_nothing(project):
    leak(project, WAYS)
    answer = project.runner("apply", "p.yaml", "-o", "json", "--junit", "junit.xml", env=TOLD)
    run = json.loads(project.runner("runs", "-o", "json").raw)[0]["run"]
    record = project.record(run)
    assert {step["status"] for step in record["steps"].values()} == {"succeeded", "failed"}
    logs = [project.start("logs", run, step, errors="replace").communicate()[0] for step in record["steps"]]
    assert len([log for log in logs if "[secret" in log]) == len(WAYS)
    said = [
        project.runner(*words.split())
        for words in (f"show {run}", "plan p.yaml", "graph p.yaml", f"outputs {run}", f"retry {run} --print")
    ]
    texts = [a.raw + a.err for a in said]
    assert (
        hits(project.root / ".runner", answer.raw, answer.err, *logs, *texts, (project.root / "junit.xml").read_text())
        == []
    )


@pytest.mark.reliability("J06")
def test_annotations_and_attempts_that_are_repeated_name_no_secret(project):
    leak(
        project, {"dies": "print(T); sys.exit('it is ' + T + ' and ' + K)"}, ", retry: {max_attempts: 3, interval: 0s}"
    )
    answer = project.runner("apply", "p.yaml", env={**TOLD, "GITHUB_ACTIONS": "true"})
    assert (answer.code, "::error" in answer.out) == (1, True)
    assert hits(project.root / ".runner", answer.raw, answer.err) == []


@pytest.mark.reliability("J06")
@pytest.mark.parametrize(
    "fault",
    [
        "command: [no-such-program]",
        "command: [./way0.py]",
        f"command: [python, way0.py], cwd: x, env: {{L: {'x' * 140_000}}}",
    ],
    ids=["no program", "no right", "too long"],
)
def test_a_step_that_cannot_start_tells_nothing_of_its_environment(project, fault):
    leak(project, {"none": "pass"})
    fault = fault.replace(", cwd: x", "")
    text = HEAD.replace("defaults: {env: {", "defaults: {env: {Z: z, ")
    if "env:" in fault:
        fault = fault.replace("env: {", "env: {T: $(secrets.token), K: $(secrets.key), ")
    project.pipeline(f"{text}steps:\n  a: {{kind: command, {fault}, code: [way0.py]}}")
    answer = project.runner("apply", "p.yaml", env=TOLD)
    assert answer.code in (1, 2, 6), answer
    assert hits(project.root / ".runner", answer.raw, answer.err) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.reliability("J06")
def test_no_argument_of_any_process_holds_a_secret(project, tmp_path):
    """Seen by the kernel: the argv of every program that the run starts, container engines and git included."""
    leak(project, {"quiet": "pass", "loud": "print(T)"})
    env = {k: v for k, v in os.environ.items() if not k.startswith("RUNNER_")} | TOLD
    trace = tmp_path.parent / f"{tmp_path.name}.argv"
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        ["strace", "-f", "-s", "100000", "-e", "trace=execve", "-o", trace, sys.executable, "-m", "runner", "apply", "p.yaml"],
        cwd=project.root, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done
    text = trace.read_text()
    assert text.count("execve(") >= 4
    assert hits(text, done.stdout, done.stderr) == []
    assert SECRET not in text
