"""Secrets reach a step's environment and nothing else; what a step prints of them is masked."""

import subprocess

SECRET = "hunter2-hunter2"
LEAKY = """
    secrets: {token: {env: TOKEN, version: "1"}}
    steps:
      sh:
        kind: shell
        env: {T: $(secrets.token)}
        script: |
          echo "raw $T"; printf %s "$T" | base64; printf %s "$T" | od -An -tx1 | tr -d ' \\n'; echo "$T" >&2; exit 3
        on_failure: continue
      py: {kind: python, function: "leak:leak", env: {T: $(secrets.token)}, on_failure: continue}
"""


def test_a_secret_is_in_no_file_of_the_store(project):
    project.pipeline(LEAKY)
    project.write(leak_py="import os\ndef leak():\n    raise ValueError(os.environ['T'])\n")
    answer = project.runner("apply", "p.yaml", env={"TOKEN": SECRET})
    assert answer.code == 0
    assert SECRET not in answer.raw + answer.err
    for form in (SECRET, "aHVudGVyMi1odW50ZXIy", SECRET.encode().hex()):
        found = subprocess.run(["grep", "-rla", form, project.root / ".runner"], capture_output=True, text=True)
        assert found.stdout == ""
    run = project.record()["run"]
    assert project.runner("logs", run, "sh").out.splitlines()[0] == "raw [secret token]"


def test_a_missing_secret_stops_the_run_before_it_starts(project):
    project.pipeline(LEAKY)
    project.write(leak_py="def leak(): pass\n")
    answer = project.runner("apply", "p.yaml")
    assert (answer.code, answer.err) == (
        6, "error[E301]: secret `token`: environment variable `TOKEN` is not set\n  = help: nothing was started\n"
    )  # fmt: skip


def test_a_secret_outside_env_is_refused_with_the_place(project):
    project.pipeline("""
        secrets: {token: {env: TOKEN}}
        steps:
          a: {kind: command, command: [curl, $(secrets.token)]}
    """)
    assert (
        "p.yaml:6:40: error[E214]: a secret may be used in `env` only, alone"
        in project.runner("validate", "p.yaml").err
    )


def test_a_value_output_that_holds_a_secret_fails(project):
    project.pipeline("""
        secrets: {token: {env: TOKEN}}
        steps:
          a:
            kind: shell
            env: {T: $(secrets.token)}
            script: |
              echo "{\\"v\\": \\"$T\\"}" > "$RUNNER_VALUES"
            outputs: {v: {type: string}}
    """)
    assert project.runner("apply", "p.yaml", env={"TOKEN": SECRET}).code == 1
