"""Steps that print much: it is kept in order, up to a limit, at the speed of the disk and without growing memory."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.kit import Project

MiB = 1 << 20
# Lines of 64 bytes that count up, a megabyte at a time.
COUNT = """
import os, sys
for start in range(0, int(sys.argv[1]) * 16384, 16384):
    text = b"".join(b"%63d\\n" % n for n in range(start, start + 16384))
    while text:
        text = text[os.write(1, text):]
"""


def memory(pid: int) -> int:
    """The most bytes of memory that a process has had."""
    try:
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10
    except (OSError, TypeError):
        return 0


def grown(process: subprocess.Popen[str], most: dict[int, int]) -> None:
    """Note the most memory of a runner and its workers, but not of the steps, while it runs."""
    while process.poll() is None:
        for pid in [process.pid, *workers(process.pid)]:
            most[pid] = max(most.get(pid, 0), memory(pid))
        time.sleep(0.02)


def workers(pid: int) -> list[int]:
    """The worker processes below a runner."""
    out, left = [], [pid]
    while left:
        try:
            children = Path(f"/proc/{left.pop()}/task").glob("*/children")
            below = [int(n) for path in children for n in path.read_text().split()]
        except OSError:
            continue
        left += below
        for child in below:
            try:
                if b"executors/worker_main.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                    out.append(child)
            except OSError:
                continue
    return out


def applied(project: Project, *args: str) -> tuple[float, int]:
    """Apply; return the seconds that it took, and the most bytes that runner or a worker had."""
    start = time.monotonic()
    process = project.start("apply", "p.yaml", *args)
    most: dict[int, int] = {}
    watch = threading.Thread(target=grown, args=(process, most))
    watch.start()
    out, err = process.communicate(timeout=600)
    watch.join()
    assert process.returncode == 0, (out, err)
    return time.monotonic() - start, max(most.values())


def direct(project: Project, size: int) -> float:
    """The seconds that one such step takes on its own, into a file."""
    start = time.monotonic()
    with open(project.root.parent / "direct", "wb") as file:
        subprocess.run([sys.executable, "count.py", str(size)], cwd=project.root, stdout=file, check=True)
    (project.root.parent / "direct").unlink()
    return time.monotonic() - start


def log_of(project: Project, step: str) -> Path:
    return next((project.root / ".runner/runs").glob(f"*/logs/{step}/1.log"))


SIZES = [
    pytest.param(48, 40, id="48 MiB"),
    pytest.param(1024, 1024, id="1 GiB", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    pytest.param(1300, 1024, id="1.3 GiB", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


@pytest.mark.reliability("I02")
@pytest.mark.parametrize(("size", "limit"), SIZES)
def test_a_large_log_takes_little_time_and_no_memory(project, size, limit):
    """RSS: a runner with its modules has about 60 MiB; 64 more are promised."""
    project.pipeline(f"steps: {{a: {{kind: command, command: [python, count.py, '{size}'], code: [count.py]}}}}")
    project.write(count_py=COUNT, runner_toml=f"[logs]\nmax_bytes = {limit * MiB}\n")
    alone = direct(project, size)
    seconds, most = applied(project)
    assert (seconds - alone < 10, most < (60 + 64) * MiB) == (True, True), (seconds, alone, most / MiB)
    with open(log_of(project, "a"), "rb") as file:
        first = file.read(limit * MiB // 2)
        marker = file.readline() + file.readline() if size > limit else b""
        last = file.read()
    assert marker == (b"\n[... %d bytes cut ...]\n" % ((size - limit) * MiB) if size > limit else b"")
    assert len(first) + len(last) == min(size, limit) * MiB
    lines = size * MiB // 64
    assert first.endswith(b"%63d\n" % (len(first) // 64 - 1))
    assert last.startswith(b"%63d\n" % (lines - len(last) // 64))
    assert last.endswith(b"%63d\n" % (lines - 1))


@pytest.mark.reliability("I02")
@pytest.mark.parametrize(
    "steps", [pytest.param(8, id="8"), pytest.param(200, id="200", marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_many_steps_with_large_logs(project, steps):
    lines = "\n".join(
        f"  s{n}: {{kind: command, command: [python, count.py, '5'], env: {{N: {n}}}, code: [count.py]}}"
        for n in range(steps)
    )
    project.pipeline(f"steps:\n{lines}")
    project.write(count_py=COUNT)
    alone = direct(project, 5) * steps
    seconds, most = applied(project, "--workers", "2")
    assert (seconds - alone < 10, most < (60 + 64) * MiB) == (True, True), (seconds, alone, most / MiB)
    sizes = {path.stat().st_size for path in (project.root / ".runner/runs").glob("*/logs/*/1.log")}
    assert sizes == {5 * MiB}


@pytest.mark.reliability("I02")
def test_one_line_without_an_end_is_kept_in_pieces(project):
    """What reads by lines would hold all of it."""
    project.pipeline("steps: {a: {kind: shell, script: 'head -c 100000000 /dev/zero | tr \"\\\\0\" x'}}")
    project.write(runner_toml="[logs]\nmax_bytes = 1000\n")
    _, most = applied(project)
    assert most < (60 + 64) * MiB
    assert log_of(project, "a").read_bytes() == b"x" * 500 + b"\n[... 99999000 bytes cut ...]\n" + b"x" * 500


@pytest.mark.reliability("I02")
@pytest.mark.parametrize("size", [*range(95, 106), 149, 150, 151, 199, 200, 201, 250, 1000])
def test_a_log_around_its_limit_keeps_each_byte_of_its_ends(project, size):
    text = "".join(chr(33 + n % 90) for n in range(size))
    project.write(text_txt=text, runner_toml="[logs]\nmax_bytes = 100\n")
    project.pipeline("steps: {a: {kind: command, command: [cat, text.txt], inputs: {x: text.txt}}}")
    assert project.runner("apply", "p.yaml").code == 0
    cut = f"\n[... {size - 100} bytes cut ...]\n" if size > 100 else ""
    assert log_of(project, "a").read_text() == text[:50] + cut + text[max(50, size - 50) :]
    assert os.listdir(log_of(project, "a").parent) == ["1.log"]


@pytest.mark.reliability("I02")
def test_a_secret_that_lies_across_the_cut_is_masked_on_both_sides(project):
    """At every place around the two ends of the cut."""
    secret = "abcdefghijklmnop"
    project.write(runner_toml="[logs]\nmax_bytes = 200\n")
    steps = "\n".join(
        f'  s{n}: {{kind: shell, env: {{T: $(secrets.t)}}, script: \'printf "%{n}s" ""; for i in $(seq 30); do printf "%s" "$T"; done\'}}'
        for n in range(20)
    )
    project.pipeline(f"secrets: {{t: {{env: TOKEN}}}}\nsteps:\n{steps}")
    assert project.runner("apply", "p.yaml", env={"TOKEN": secret}).code == 0
    logs = [path.read_text() for path in (project.root / ".runner/runs").glob("*/logs/*/1.log")]
    assert len(logs) == 20
    assert [log for log in logs if any(secret[n : n + 6] in log for n in range(11))] == []
    assert json.loads(project.runner("runs", "-o", "json").raw)[0]["status"] == "succeeded"
