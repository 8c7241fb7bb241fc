"""Secrets reach a step's environment and nothing else; what a step prints of them is masked.

A leaky step prints a secret in eight encodings, in pieces, in a traceback, in a value: then no byte of it may be in any
file that is left, nor in anything that a command says.
"""

import base64
import contextlib
import functools
import importlib.util
import json
import shutil
import signal
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tests.test_runtimes import IMAGE, container_engine

SECRET = 'pä ss"w/ord~+?>€(7)!-hunter'
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBg/kqh+kiG9w0\nBAQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----"
LEAK = """
import base64, json, os, sys, time
from urllib.parse import quote, quote_plus

def forms(text):
    raw = text.encode()
    yield from [text, json.dumps(text), json.dumps(text, ensure_ascii=False), quote(text), quote(text, safe=""), quote_plus(text)]
    for before in (b"", b"u", b"us"):
        yield base64.b64encode(before + raw + b"more").decode()
        yield base64.urlsafe_b64encode(before + raw + b"more").decode()
    yield from [raw.hex(), raw.hex().upper()]

def leak(way):
    secrets = [os.environ["T"], os.environ["K"]]
    for secret in secrets:
        if way == "encoded":
            for form in [*forms(secret), *(f for line in secret.splitlines() for f in forms(line))]:
                print(form, file=sys.stderr)
                print("<" + form + ">", flush=True)
        if way == "pieces":
            print("." * 65530, end="", flush=True)
            for form in forms(secret):
                for start in range(0, len(form), 3):
                    print(form[start : start + 3], end="", flush=True)
                print()
    if way == "traceback":
        raise ValueError(f"it is {secrets[0]} and {secrets[1]}")
    if way == "message":
        sys.exit(f"cannot log in with {secrets[0]}")
    if way == "values":
        with open(os.environ["RUNNER_VALUES"], "w") as file:
            json.dump({"v": base64.b64encode(b"u" + secrets[0].encode()).decode()}, file)
    if way == "pointer":
        with open("o.json", "w") as file:
            json.dump({"v": "x" + secrets[0]}, file)
    if way == "keys":
        with open("o.json", "w") as file:
            json.dump({secrets[0]: 1}, file)
    if way == "names":
        os.mkdir("d")
        os.symlink("/etc", "d/" + quote(secrets[0], safe=""))

if __name__ == "__main__":
    leak(sys.argv[1])
"""
HEAD = """
    secrets: {token: {env: TOKEN}, key: {file: key.txt, version: "1"}}
    defaults: {env: {T: $(secrets.token), K: $(secrets.key)}}
    failure_policy: finish_independent
"""
TOLD = {"TOKEN": SECRET}
WAYS = ("encoded", "pieces", "traceback", "message")
HOW = {
    "command": "kind: command, command: [python, leak.py, WAY]",
    "shell": 'kind: shell, script: "python leak.py WAY; echo $T; echo $T | base64 -w0"',
    "warm": 'kind: python, function: "leak:leak", args: {way: WAY}',
    "fresh": 'kind: python, function: "leak:leak", args: {way: WAY}, env: {PYTHONUNBUFFERED: 1}',
    "notebook": "kind: notebook, notebook: leak.ipynb, parameters: {way: WAY}",
    "docker": "kind: command, runtime: docker, command: [python3, leak.py, WAY]",
    "podman": "kind: command, runtime: podman, command: [python3, leak.py, WAY]",
}


@functools.cache
def needles() -> dict[str, bytes]:
    """What must be nowhere, by the name of its encoding; of base64 what no neighbour can change."""
    found = {}
    for name, text in {"token": SECRET, **{f"key {n}": line for n, line in enumerate(KEY.splitlines())}}.items():
        raw = text.encode()
        found |= {
            f"{name} raw": raw,
            f"{name} json": json.dumps(text)[1:-1].encode(),
            f"{name} json utf-8": json.dumps(text, ensure_ascii=False)[1:-1].encode(),
            f"{name} json twice": json.dumps(json.dumps(text)[1:-1])[1:-1].encode(),
            f"{name} url": quote(text).encode(),
            f"{name} url all": quote(text, safe="").encode(),
            f"{name} url plus": quote_plus(text).encode(),
            f"{name} hex": raw.hex().encode(),
            f"{name} HEX": raw.hex().upper().encode(),
        }
        for shift in range(3):
            inner = slice(4 * (shift > 0), (shift + len(raw)) // 3 * 4)
            found[f"{name} base64 {shift}"] = base64.b64encode(bytes(shift) + raw)[inner]
            found[f"{name} base64 url {shift}"] = base64.urlsafe_b64encode(bytes(shift) + raw)[inner]
    return found


def hits(*places: Path | str) -> list[str]:
    """Where a secret stands, in which encoding: in all files of a folder, in a text."""
    found = []
    for place in places:
        files = [p for p in place.rglob("*") if p.is_file()] if isinstance(place, Path) else []
        contents = {str(p): p.read_bytes() for p in files} if isinstance(place, Path) else {"text": place.encode()}
        for path, content in contents.items():
            found += [f"{name} in {path}" for name, needle in needles().items() if needle in content]
    return found


def all_that_is_said(project, run: str) -> str:
    """What every command says of a run, and the index as text."""
    said = [
        project.runner(*words.split(), errors="replace")
        for words in (
            "plan p.yaml",
            "plan p.yaml -o json",
            "plan p.yaml -o markdown",
            f"show {run}",
            f"show {run} -o json",
            f"logs {run}",
            "runs",
        )
    ]
    with contextlib.closing(sqlite3.connect(project.root / ".runner/index.db")) as index:
        rows = "\n".join(index.iterdump())
    return "\n".join([*(answer.raw + answer.err for answer in said), rows])


def leaky(project, tmp_path, *steps: str, more: str = "") -> None:
    project.pipeline(HEAD + more + "    steps:\n" + "".join(f"      {step}\n" for step in steps))
    project.write(leak_py=LEAK, key_txt=KEY + "\n")
    cells = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": text, "outputs": [], "execution_count": None}
        for text, tags in (("way = None", ["parameters"]), ("import leak, os\nleak.leak(way)\nprint(os.environ['T'])\n[os.environ['K']]", []))
    ]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    book = {"nbformat": 4, "nbformat_minor": 4, "metadata": kernel, "cells": cells}
    project.write(**{"leak.ipynb": json.dumps(book)})


def test_the_needles_are_found_where_they_are(tmp_path):
    (tmp_path / "a").write_text(f"x{base64.b64encode(b'us' + SECRET.encode() + b'!').decode()}")
    assert hits(tmp_path) == [f"token base64 2 in {tmp_path}/a"]
    assert hits(json.dumps(SECRET)) == ["token json in text"]


@pytest.mark.reliability("J06")
@pytest.mark.parametrize(
    "kind",
    [
        "shell",
        "warm",
        "notebook",
        "docker",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("command", "fresh", "podman")),
    ],
)
def test_a_leaky_step_leaves_its_secrets_in_nothing(project, tmp_path, kind):
    """Seven kinds of steps in four ways: the store, the index, journal and logs, what the commands say, argv."""
    if kind == "notebook" and importlib.util.find_spec("papermill") is None:
        pytest.skip("papermill is not installed")
    boxes = "".join(f'      {n}: {{kind: container, engine: {n}, image: "{IMAGE}"}}\n' for n in ("docker", "podman"))
    steps = [f"{way}: {{{HOW[kind].replace('WAY', way)}, code: [leak.py]}}" for way in WAYS]
    leaky(project, tmp_path, *steps, more=f"    runtimes:\n{boxes}")
    env = container_engine(tmp_path / "bin", "docker") | container_engine(tmp_path / "bin", "podman") | TOLD
    process = project.start("apply", "p.yaml", "-o", "json", "--junit", "junit.xml", env=env)
    argvs = set()
    while process.poll() is None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                argvs.add(path.read_bytes().decode("utf-8", "replace"))
            except OSError:
                continue
        time.sleep(0.1)
    out, err = process.communicate()
    statuses = project.statuses()
    assert (process.returncode, statuses) == (
        1, {"encoded": "succeeded", "pieces": "succeeded", "traceback": "failed", "message": "failed"}
    )  # fmt: skip
    run = project.record()["run"]
    said = all_that_is_said(project, run)
    assert "[secret token]" in project.runner("logs", run, "encoded").out
    assert hits(project.root / ".runner", tmp_path / "bin", out, err, said, "\n".join(argvs)) == []
    assert hits((project.root / "junit.xml").read_text()) == []


@pytest.mark.reliability("J06")
@pytest.mark.parametrize(
    ("way", "outputs", "reason"),
    [
        pytest.param("values", "v: {type: string}", "E222 its values hold a secret, which may be in no record", id="a value"),
        pytest.param(
            "pointer", "o: {type: file, path: o.json}, v: {type: string, from: o, pointer: /v}",
            "E222 its values hold a secret, which may be in no record", id="a value taken from a file",
        ),
        pytest.param(
            "keys", "o: {type: file, path: o.json}, v: {type: string, from: o, pointer: /v}",
            "E221 output `v`: `o`: no `/v`; there is: [secret token]", id="the keys of a file",
        ),
        pytest.param("names", "d: {type: dir}", "the symlink [secret token] leads out of the output directory", id="the name of a file"),
    ],
)  # fmt: skip
def test_what_a_step_gives_back_brings_no_secret_into_the_record(project, tmp_path, way, outputs, reason):
    leaky(
        project, tmp_path, f'a: {{kind: python, function: "leak:leak", args: {{way: {way}}}, outputs: {{{outputs}}}}}'
    )
    answer = project.runner("apply", "p.yaml", "-o", "json", env=TOLD)
    step = project.record()["steps"]["a"]
    assert (answer.code, step["status"], step["reason"]) == (1, "failed", reason)
    shutil.rmtree(project.root / ".runner/objects")  # what a step writes into its own files is its own affair
    assert hits(project.root / ".runner", answer.raw, answer.err) == []


def test_a_step_that_gets_a_secret_of_another_by_a_file_does_not_print_it_either(project):
    project.pipeline("""
        secrets: {token: {env: TOKEN}}
        steps:
          a: {kind: shell, env: {T: $(secrets.token)}, script: 'echo "$T" > o.txt', outputs: {o: {type: file, path: o.txt}}}
          b: {kind: command, command: [cat, $(steps.a.outputs.o)]}
    """)
    assert project.runner("apply", "p.yaml", env=TOLD).code == 0
    assert str(project.runner("logs", project.record()["run"], "b")) == "[secret token]\n[exit 0]"


@pytest.mark.reliability("J06")
@pytest.mark.parametrize("kind", ["command", "warm", "notebook"])
def test_no_secret_is_on_disk_while_a_step_runs_nor_after_its_runner_was_killed(project, tmp_path, kind):
    if kind == "notebook" and importlib.util.find_spec("papermill") is None:
        pytest.skip("papermill is not installed")
    leaky(project, tmp_path, f"a: {{{HOW[kind].replace('WAY', 'wait')}, code: [leak.py]}}")
    project.write(
        leak_py="import sys, time\ndef leak(way):\n    open('started', 'w')\n    time.sleep(60)\nif sys.argv[0] == 'leak.py':\n    leak('')\n"
    )
    process = project.start("apply", "p.yaml", env=TOLD)
    while "a: started" not in process.stdout.readline():  # told once it is in the journal
        assert process.poll() is None
    end = time.monotonic() + 20
    while not (there := list((project.root / ".runner/tmp").glob("*/a.1/work/started"))):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    names = {path.name for path in there[0].parent.parent.iterdir()}
    assert "context.json" in names
    assert hits(project.root / ".runner") == []
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    assert hits(project.root / ".runner", out, err) == []
    assert project.statuses() == {"a": "interrupted"}


def test_secrets_that_are_not_there_are_all_told_before_anything_starts(project):
    project.pipeline(
        """
        secrets:
          one: {env: ONE}
          two: {file: two.txt}
          short: {env: SHORT}
          blank: {file: blank.txt}
          fine: {env: FINE}
          unread: {env: UNREAD}
        steps:
          a: {kind: shell, script: "true", env: {A: $(secrets.one), B: $(secrets.two), C: $(secrets.short), D: $(secrets.blank), E: $(secrets.fine)}}
    """
    )
    project.write(blank_txt="       \n")
    answer = project.runner("apply", "p.yaml", env={"SHORT": "12345", "FINE": "123456"})
    short = "its value is shorter than 6 bytes, too short to be masked in logs"
    assert (answer.code, answer.err) == (
        6,
        "error[E301]: secret `one`: environment variable `ONE` is not set; secret `two`: two.txt cannot be read: "
        f"No such file or directory; secret `short`: {short}; secret `blank`: {short}\n  = help: nothing was started\n",
    )
    assert project.runner("runs").out == "there are no runs yet\n"


def test_a_step_is_told_the_text_of_its_variable_or_file_less_the_last_line_break(project):
    project.pipeline("""
        secrets: {one: {env: ONE}, two: {file: more/two.txt}}
        steps:
          a: {kind: shell, env: {A: $(secrets.one), B: "$( secrets.two )"}, script: 'printf "%s|%s" "$A" "$B" | tr a-z n-za-m > o.txt', outputs: {o: {type: file, path: o.txt}}}
    """)
    project.write(more__two_txt=" second\nline \n\n")
    assert project.runner("apply", "p.yaml", env={"ONE": "first one "}).code == 0
    assert project.output("a") == b"svefg bar | frpbaq\nyvar \n"


def test_the_version_of_a_secret_is_in_the_fingerprint_and_its_value_is_not(project):
    text = """
        secrets: {token: {env: TOKEN, version: "1"}}
        steps:
          a: {kind: shell, env: {T: $(secrets.token)}, script: "echo 1 > o.txt", outputs: {o: {type: file, path: o.txt}}}
    """
    project.pipeline(text)
    assert project.runner("apply", "p.yaml", env={"TOKEN": "one-value"}).code == 0
    assert "  cached  a  " in project.runner("apply", "--again", "p.yaml", env={"TOKEN": "another-value"}).out
    fingerprint = project.record()["steps"]["a"]["fingerprint"]
    project.pipeline(text.replace("env: TOKEN", "env: OTHER"))
    assert "  cached  a  " in project.runner("plan", "p.yaml").out
    project.pipeline(text.replace('"1"', '"2"'))
    assert (
        "  run     a  env T: secret token, version 1 -> secret token, version 2\n"
        in project.runner("plan", "p.yaml").out
    )
    assert project.runner("apply", "p.yaml", env={"TOKEN": "one-value"}).code == 0
    assert project.record()["steps"]["a"]["fingerprint"] != fingerprint


def test_a_secret_outside_env_or_beside_other_text_is_refused_with_the_place(project):
    project.pipeline("""
        secrets: {token: {env: TOKEN}, none: {version: "1"}, both: {env: A, file: b}, out: {file: ../../x}}
        steps:
          a: {kind: command, command: [curl, $(secrets.token)]}
          b: {kind: command, command: [curl], env: {H: "Bearer $(secrets.token)"}}
          c: {kind: command, command: [curl], inputs: {t: $(secrets.token)}}
          d: {kind: command, command: [curl], env: {T: $(secrets.tokn)}}
          e: {kind: fail, message: $(secrets.token)}
    """)
    answer = project.runner("validate", "p.yaml")
    assert (answer.code, [line for line in answer.err.splitlines() if line.startswith("p.yaml")]) == (
        2,
        [
            "p.yaml:4:32: error[E108]: the secret `none` has neither `env` nor `file`",
            "p.yaml:4:54: error[E108]: the secret `both` has both `env` and `file`",
            "p.yaml:4:91: error[E108]: ../../x leads out of the project root ROOT",
            "p.yaml:6:40: error[E214]: a secret may be used in `env` only, alone",
            "p.yaml:7:58: error[E214]: a secret may be used in `env` only, alone",
            "p.yaml:8:53: error[E214]: a secret may be used in `env` only, alone",
            "p.yaml:9:58: error[E202]: no secret `tokn`",
            "p.yaml:10:30: error[E214]: a secret may be used in `env` only, alone",
        ],
    )


def test_items_of_a_fan_out_and_steps_of_finally_are_told_secrets_too(project):
    project.pipeline("""
        secrets: {token: {env: TOKEN}}
        steps:
          fan: {kind: shell, foreach: {over: {n: [1, 2]}}, env: {T: $(secrets.token)}, script: 'echo "fan $T"'}
        finally:
          last: {kind: shell, env: {T: $(secrets.token)}, script: 'echo "last $T"'}
    """)
    assert project.runner("apply", "p.yaml", env=TOLD).code == 0
    run = project.record()["run"]
    assert project.runner("logs", run, "fan[n=2]").out == "fan [secret token]\n"
    assert project.runner("logs", run, "last").out == "last [secret token]\n"
