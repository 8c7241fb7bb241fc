"""What a pull request can put at a name that the runner opens: links, pipes, folders, garbage. Nothing outside is read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from runner.plan import bound
from runner.values import digest_of

STEP = "steps: {a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}}\n"
SECRET = "TOKEN=hunter2\nroot:x:0:0\n"


@pytest.fixture
def odd(project, tmp_path_factory):
    """A project with a pipeline and a request, and a file outside of it, `secret`."""
    project.pipeline(STEP)
    project.request()
    project.secret = tmp_path_factory.mktemp("outside") / "secret"
    project.secret.write_text(SECRET)
    return project


def settings(project, make):
    path = project.root / "runner.toml"
    path.unlink()
    make(project, path)
    return project.runner("plan", "p.yaml")


HELP = "      = help: replace it with a file that holds the settings\n"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda p, path: path.mkdir(), f"it is a folder, not a file\n{HELP}", id="a folder"),
        pytest.param(lambda p, path: os.mkfifo(path), f"it is a pipe, not a file\n{HELP}", id="a pipe"),
        pytest.param(
            lambda p, path: path.symlink_to(p.secret),
            f"it is a symlink that leads out of the project\n{HELP}",
            id="a link out",
        ),
        pytest.param(
            lambda p, path: path.symlink_to("/dev/zero"),
            f"it is a symlink that leads out of the project\n{HELP}",
            id="/dev/zero",
        ),
        pytest.param(
            lambda p, path: [(p.root / "d").symlink_to("/etc"), path.symlink_to("d/passwd")],
            f"it is a symlink that leads out of the project\n{HELP}",
            id="a link through a folder that is a link",
        ),
        pytest.param(
            lambda p, path: path.symlink_to("nowhere"),
            f"it is a symlink that leads nowhere\n{HELP}",
            id="a link to nothing",
        ),
        pytest.param(
            lambda p, path: path.symlink_to("runner.toml"),
            "it cannot be read: Too many levels of symbolic links\n",
            id="a link to itself",
        ),
        pytest.param(
            lambda p, path: path.write_text("#" * 100_000_000),
            "it is larger than 64 KiB\n      = help: it holds a few settings; leave out all else\n",
            id="100 MB",
        ),
    ],
)
def test_a_runner_toml_that_is_no_file_of_the_project_is_refused_by_name(odd, make, said):
    assert str(settings(odd, make)) == f"ROOT/runner.toml: error[E109]: {said}[exit 2]"


def test_a_runner_toml_that_is_a_link_inside_the_project_counts(odd):
    odd.write(conf__r_toml="[runner]\nworkers = 'x'\n")
    answer = settings(odd, lambda p, path: path.symlink_to("conf/r.toml"))
    assert (answer.code, "runner.toml:2:1: error[E108]: `workers` must not be a text" in answer.err) == (2, True), (
        answer
    )


# What the program imports is read before it becomes another user, who may not read where that is kept.
AS_NOBODY = """
import os, sys
from runner.cli import run
run(sys.argv[1:])
os.setgid(65534); os.setuid(65534)
print("---", file=sys.stderr, flush=True)
raise SystemExit(run(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user who may not read a file")
@pytest.mark.parametrize("name", ["runner.toml", "p.yaml"])
def test_a_file_that_may_not_be_read_is_refused_by_name(odd, name):
    for folder in (odd.root, *odd.root.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (odd.root / name).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "plan", "p.yaml"], cwd=odd.root, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(runner.__file__).parent.parent), "XDG_CONFIG_HOME": str(odd.root)},
    )  # fmt: skip
    said = f"{name}: error[E109]: it cannot be read: Permission denied\n"
    answer = odd.plain(done.stderr).partition("---\n")[2].removeprefix("ROOT/")
    assert (done.returncode, answer) == (2, said), done


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[runner]\nstore = '\xff'\n", "2:10: error[E100]: TOML: the file is not UTF-8"),
        (b"[runner]\nstore = 'a\0b'\n", "2:11: error[E100]: TOML: Found invalid character '\\x00'"),
        (b'[runner]\nstore = "a\\u0000b"\n', "2:1: error[E108]: `store` holds a NUL character"),
        (b"# workers\n[runner]\n# workers\nworkers = 'x'\n", "4:1: error[E108]: `workers` must not be a text"),
        (b"[runner]\nworkers = true\n", "2:1: error[E108]: `workers` must not be true or false"),
        (b"[runner]\nworkers = 1.5\n", "2:1: error[E108]: `workers` must not be a number with a fraction"),
        (b"runner.workers = 99999999999999999999\n", "1:8: error[E108]: `workers` must be at most 1024"),
        (b"[runner]\nstore = {a = 1}\n", "2:1: error[E108]: `store` must not be a section"),
        (b"[store.verify]\na = 1\n", "1:1: error[E108]: `verify` must not be a section"),
        (b"[store]\nverify = 2020-01-01\n", "2:1: error[E108]: `verify` must not be a date or time"),
        (b"[logs]\nmax_bytes = 0\n", "2:1: error[E108]: `max_bytes` must be at least 1"),
        (b"store = 1\n", "1:1: error[E108]: `store` must be a section, not a number"),
        (b"workers = 2\n", "1:1: error[E101]: unknown section `workers`"),
        (b"[[runner]]\nworkers = 2\n", "1:1: error[E108]: `runner` must be a section, not a list"),
        (b"a = " + b"[" * 20_000, "runner.toml: error[E110]: it is nested too deeply"),
        (b"a = " + b"{a = " * 10_000, "runner.toml: error[E110]: it is nested too deeply"),
        (b".".join([b"a"] * 30_000) + b" = 1", "1:1: error[E110]: this line has too many dots"),
        (b"[runner]\nworkers = " + b"9" * 60_000, "runner.toml: error[E100]: TOML: a number has too many digits"),
    ],
)
def test_each_setting_that_is_wrong_has_its_place(odd, text, said):
    answer = settings(odd, lambda p, path: path.write_bytes(text))
    assert (answer.code, said in answer.err) == (2, True), answer


@pytest.mark.parametrize("command", ["validate", "plan", "apply", "graph"])
@pytest.mark.parametrize("marked", [True, False], ids=["in a project", "outside of any"])
def test_a_request_that_is_a_link_out_of_its_project_is_not_read(odd, command, marked):
    (odd.root / "x.yaml").symlink_to(odd.secret)
    if not marked:
        (odd.root / "runner.toml").unlink()
    assert str(odd.runner(command, "x.yaml")) == (
        "x.yaml: error[E109]: it leads out of the project ROOT through the symlink x.yaml\n"
        "      = help: name a file of the project, not a link out of it\n"
        "[exit 2]"
    )


def test_a_request_below_a_folder_that_is_a_link_out_is_not_read(odd):
    (odd.root / "runs").symlink_to(odd.secret.parent)
    answer = odd.runner("plan", "runs/secret")
    assert (answer.code, "through the symlink runs\n" in answer.err, "TOKEN" in str(answer)) == (2, True, False)


def test_a_project_that_is_reached_through_a_link_is_read(odd, tmp_path):
    (tmp_path / "link").symlink_to(odd.root)
    assert odd.runner("plan", "link/p.yaml", cwd=tmp_path).code == 0


def test_code_that_is_a_link_out_of_the_project_is_not_read(odd):
    odd.write(src__a_py="x = 1\n")
    odd.pipeline(
        "steps: {a: {kind: shell, script: 'true', code: [src]}, b: {kind: shell, script: 'true', code: [s*/*.txt]}}\n"
    )
    (odd.root / "src/b.txt").symlink_to(odd.secret)
    answer = odd.runner("plan", "p.yaml")
    assert (answer.code, answer.err.count("src/b.txt is a symlink that leads out of the project root")) == (2, 2), (
        answer
    )


def forged(project, request="run.yaml", **changes):
    """Write a plan file with a changed request, its digest and checksum redone by the product's own rule."""
    assert project.runner("plan", request, "--out", "plan.json").code == 0
    plan = json.loads((project.root / "plan.json").read_text())
    of = "request" if request == "run.yaml" or "base" in changes else "pipeline"
    plan[of] |= changes
    del plan["checksum"]
    plan["digest"] = digest_of(bound(plan))
    (project.root / "x.json").write_text(json.dumps({**plan, "checksum": digest_of(plan)}))


@pytest.mark.parametrize("of", ["run.yaml", "p.yaml"])
@pytest.mark.parametrize("command", [["apply", "x.json"], ["plan", "--check", "x.json"]], ids=["apply", "check"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "x.json: error[E407]: it is no plan of this project: its "),
        ("../../../../../../etc/passwd", "x.json: error[E407]: it is no plan of this project: its "),
        ("a/../run.yaml", "x.json: error[E407]: it is no plan of this project: its "),
        ("a\0b", "x.json: error[E407]: it is no plan of this project: its "),
        ("link.yaml", "link.yaml: error[E109]: link.yaml is a symlink that leads out of the project root\n"),
        (
            "folder/secret",
            "folder/secret: error[E109]: folder/secret is a symlink that leads out of the project root\n",
        ),
        ("pipe.yaml", "pipe.yaml: error[E109]: it is not a file\n"),
        (".", ".: error[E109]: it is not a file\n"),
    ],
)
def test_a_plan_file_whose_path_leads_out_of_the_project_is_refused_before_anything_is_read(
    odd, of, command, path, said
):
    (odd.root / "link.yaml").symlink_to(odd.secret)
    (odd.root / "folder").symlink_to(odd.secret.parent)
    os.mkfifo(odd.root / "pipe.yaml")
    forged(odd, of, path=path)
    answer = odd.runner(*command)
    assert (answer.code, answer.out, answer.err.startswith(said)) == (2, "", True), answer


def test_a_plan_file_whose_folder_is_absolute_is_refused(odd):
    forged(odd, "p.yaml", base="/etc")
    said = "x.json: error[E407]: it is no plan of this project: its folder is /etc\n"
    assert odd.runner("apply", "x.json").err.startswith(said)


def test_a_plan_file_that_is_a_link_out_or_too_deep_is_refused(odd):
    (odd.root / "x.json").symlink_to(odd.secret)
    assert odd.runner("plan", "--check", "x.json").err.startswith("x.json: error[E109]: it leads out of the project")
    (odd.root / "x.json").unlink()
    (odd.root / "x.json").write_text('{"format_version": 1, "digest": "x", "a": ' + "[" * 900 + "]" * 900 + "}")
    answer = odd.runner("apply", "x.json")
    assert (answer.code, answer.err.startswith("x.json: error[E407]: it ")) == (2, True), answer


# --- names that are too long

LONG, DEEP = "n" * 300, "n/" * 2500


@pytest.mark.parametrize("name", [LONG, DEEP], ids=["a name of 300 bytes", "a path of 5,000"])
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["apply", "NAME"], 2),
        (["plan", "NAME"], 2),
        (["validate", "NAME"], 2),
        (["graph", "NAME"], 2),
        (["plan", "--check", "NAME"], 2),
        (["plan", "p.yaml", "--out", "NAME"], 6),
        (["plan", ".", "--out", "NAME"], 6),
        (["schema", "--write", "NAME"], 6),
        (["apply", "p.yaml", "--junit", "NAME"], 6),
        (["init", "NAME"], 6),
        (["show", "NAME"], 2),
        (["outputs", "NAME", "a"], 2),
    ],
)
def test_a_name_that_is_too_long_is_one_line(odd, args, code, name):
    answer = odd.runner(*(name if arg == "NAME" else arg for arg in args))
    lines = [line for line in answer.err.splitlines() if "= help" not in line]
    assert (answer.code, len(lines)) == (code, 1), answer


@pytest.mark.parametrize("name", [LONG, DEEP], ids=["a name of 300 bytes", "a path of 5,000"])
def test_a_store_or_folder_whose_name_is_too_long_is_one_line(odd, name):
    answer = odd.runner("apply", "p.yaml", "--store", name)
    assert (answer.code in (2, 6), answer.err.startswith("error: the ")) == (True, True), answer
    assert odd.runner("apply", "p.yaml").code == 0
    run = json.loads(odd.runner("runs", "-o", "json").raw)[0]["run"]
    answer = odd.runner("outputs", run, "a", name)
    assert (answer.code, answer.err.count("\n"), answer.err.startswith("error: the folder n")) == (6, 1, True), answer
    answer = odd.runner("outputs", run, name)
    assert (answer.code, answer.err.startswith(f"error: run {odd.ids[run]} has no step `n")) == (2, True), answer


def test_outputs_of_a_step_that_left_none_say_how_it_ended(project):
    project.pipeline("""
    failure_policy: finish_independent
    steps:
      a: {kind: shell, script: exit 3, outputs: {o: {type: file}}}
      b: {kind: shell, script: cat $I > o, env: {I: $(steps.a.outputs.o)}, outputs: {o: {type: file}}}
      c: {kind: shell, script: 'true', when: false}
      d: {kind: shell, script: echo > o, outputs: {o: {type: file}}}
    """)
    assert project.runner("apply", "p.yaml").code == 1
    run = project.record()["run"]
    assert [str(project.runner("outputs", run, step)) for step in ("a", "b", "c", "e")] == [
        "error: step `a` left no outputs in run R1: it failed: it exited with 3\n  = help: see `runner logs R1 a`\n[exit 2]",
        "error: step `b` left no outputs in run R1: it did not run: a failed\n  = help: there are: d\n[exit 2]",
        "error: step `c` left no outputs in run R1: it was skipped: `when` is false\n  = help: there are: d\n[exit 2]",
        "error: run R1 has no step `e`\n  = help: there are: d\n[exit 2]",
    ]
