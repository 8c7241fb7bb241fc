"""A disk that fails when it is asked to keep something: the run ends failed, says so, and can be retried."""

import json
import shutil
import subprocess

import pytest

from tests.reliability import kit

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")

PIPELINE = """\
apiVersion: runner/v1
kind: Pipeline
name: p
steps:
  a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
  b: {kind: shell, inputs: {i: $(steps.a.outputs.o)}, script: sleep 1; cat $RUNNER_INPUT_I > o, outputs: {o: {type: file}}}
"""


@pytest.mark.reliability("F01")
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("syncfs:error=EIO:when=1", id="the barrier"),
        pytest.param("fdatasync:error=EIO:when=1", id="the journal"),
        pytest.param("syncfs:error=ENOSPC:when=1+", id="the barrier, no space"),
    ],
)
def test_a_sync_that_fails_ends_the_run_as_failed_and_is_not_asked_again(tmp_path, fault):
    (tmp_path / "runner.toml").touch()
    (tmp_path / "p.yaml").write_text(PIPELINE)
    kit.run(tmp_path, "apply", "p.yaml")  # so that the index is made, whose syncs are not meant
    (tmp_path / "p.yaml").write_text(PIPELINE.replace("echo 1", "echo 2"))
    inject = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", f"inject={fault}", *kit.RUNNER]
    done = subprocess.run(
        [*inject, "apply", "p.yaml"], cwd=tmp_path, env=kit.environment(), capture_output=True, text=True
    )
    listed = json.loads(kit.ask(tmp_path, "runs", "-o", "json").stdout)
    assert (done.returncode, "cannot be written: " in done.stderr, listed[0]["status"], listed[0]["exit_code"]) == (
        6,
        True,
        "failed",
        6,
    )
    assert kit.fsck(tmp_path) == []
    assert kit.run(tmp_path, "retry", listed[0]["run"]).returncode == 0
    assert [path.name for path in (tmp_path / ".runner/tmp").iterdir()] == []
