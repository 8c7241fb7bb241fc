"""The review workflow: the templates' own shell lines, in two clones; folders since a revision; the Markdown comment."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import runner
from runner.reporters.markdown import LIMIT, MARKER
from tests.kit import Project

TEMPLATES = Path(runner.__file__).parent / "templates"
PIPELINE = """
    params: {x: {type: integer, default: 1}}
    steps:
      a: {kind: shell, code: [a.sh], script: . ./a.sh, outputs: {o: {type: file}}}
      b: {kind: shell, inputs: {i: $(steps.a.outputs.o)}, env: {X: $(params.x)}, script: 'cat "$RUNNER_INPUT_I" > o; echo $X >> o', outputs: {o: {type: file}}}
"""
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e"}  # fmt: skip


def git(root, *args):
    done = subprocess.run(["git", *args], cwd=root, env={**os.environ, **GIT}, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout.strip()


@pytest.fixture
def origin(project, tmp_path_factory):
    """A repository with a pipeline and a request, and a store that both jobs use, with one run in it."""
    project.write(a_sh="echo 1 > o\n")
    project.pipeline(PIPELINE)
    project.request("select: [b]\n", name="runs-one")
    git(project.root, "init", "-q", "-b", "main")
    git(project.root, "add", ".")
    git(project.root, "commit", "-qm", "one")
    project.store = str(tmp_path_factory.mktemp("store") / "s")
    assert project.runner("apply", "p.yaml", "--store", project.store).code == 0
    return project


def clone(origin, tmp_path_factory):
    root = tmp_path_factory.mktemp("clone")
    git(root, "clone", "-q", str(origin.root), ".")
    return Project(root)


def lines_of(template, job, name):
    """The shell lines of a step of a template."""
    steps = yaml.safe_load((TEMPLATES / template).read_text())["jobs"][job]["steps"]
    return next(step["run"] for step in steps if step.get("name") == name)


def shell(project, script, store, **env):
    """Run a template's lines as CI does, with this program as `runner` on the PATH."""
    bin = project.root.parent / f"bin-{project.root.name}"
    bin.mkdir(exist_ok=True)
    program = bin / "runner"
    program.write_text(f'#!/bin/sh\nexec {os.sys.executable} -m runner "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=project.root, capture_output=True, text=True,
        env={**os.environ, **GIT, "PATH": f"{bin}:{os.environ['PATH']}", "PYTHONPATH": str(Path(runner.__file__).parent.parent), "RUNNER_STORE": store, "REQUESTS": ".", "CI": "true", **env},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_init_writes_the_templates_and_overwrites_nothing(project):
    (project.root / ".git").mkdir()
    assert str(project.runner("init", "--ci", "github")) == (
        ".github/workflows/runner-plan.yml\n.github/workflows/runner-apply.yml\n[exit 0]"
    )
    assert project.runner("init", "--ci", "github").code == 0
    (project.root / ".github/workflows/runner-plan.yml").write_text("mine")
    answer = project.runner("init", "--ci", "github")
    assert (answer.code, "runner-plan.yml is there already and is different" in answer.err) == (2, True)
    assert (project.root / ".github/workflows/runner-plan.yml").read_text() == "mine"
    assert str(project.runner("init", "--ci", "gitlab")) == "runner.gitlab-ci.yml\n[exit 0]"


@pytest.mark.parametrize("name", sorted(p.name for p in TEMPLATES.glob("*.yml")))
def test_the_templates_are_yaml_and_their_lines_are_shell(name):
    value = yaml.safe_load((TEMPLATES / name).read_text())
    scripts = [s["run"] for job in value.get("jobs", {}).values() for s in job["steps"] if "run" in s]
    scripts += [line for job in value.values() if isinstance(job, dict) for line in job.get("script", [])]
    assert scripts
    for script in scripts:
        assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0, script


@pytest.fixture
def reviewed(origin, tmp_path_factory):
    """A branch that changes the request, planned by the template's lines on what the merge would be."""
    branch = clone(origin, tmp_path_factory)
    git(branch.root, "checkout", "-qb", "topic")
    branch.request("select: [b]\nparams: {x: 2}\n", name="runs-one")
    git(branch.root, "commit", "-qam", "x is 2")
    base = git(origin.root, "rev-parse", "main")
    for name in ("validate", "plan"):
        done = shell(branch, lines_of("github-plan.yml", "plan", name), origin.store, BASE=base)
        assert done.returncode == 0, done
    comment = (branch.root / ".plans/comment.md").read_text()
    assert comment.startswith(f"{MARKER}\n### `runs-one.yaml`: READY  p: 1 reuse, 1 run\n")
    assert [p.name for p in (branch.root / ".plans").glob("*.json")] == ["runs-one.json"]
    branch.base = base
    return branch


def merge(origin, branch, tmp_path_factory):
    git(origin.root, "pull", "-q", "--no-ff", "--no-edit", "--no-rebase", str(branch.root), "topic")
    main = clone(origin, tmp_path_factory)
    (main.root / ".plans").mkdir()
    for file in (branch.root / ".plans").iterdir():
        (main.root / ".plans" / file.name).write_bytes(file.read_bytes())
    return main


def applied(main, store):
    return shell(main, lines_of("github-apply.yml", "apply", "apply"), store)


def test_what_was_reviewed_is_what_is_applied_after_the_merge_and_once(origin, reviewed, tmp_path_factory):
    main = merge(origin, reviewed, tmp_path_factory)
    done = applied(main, origin.store)
    assert (done.returncode, "run succeeded" in done.stdout) == (0, True), done
    again = applied(main, origin.store)
    assert (again.returncode, "this plan was applied already" in again.stderr) == (4, True), again


def test_a_base_that_moves_what_was_planned_refuses_the_plan(origin, reviewed, tmp_path_factory):
    origin.write(a_sh="echo 2 > o\n")
    git(origin.root, "commit", "-qam", "another change lands first")
    done = applied(merge(origin, reviewed, tmp_path_factory), origin.store)
    assert (done.returncode, "does not hold any more; what moved:\n  code a.sh:" in done.stderr) == (4, True), done


def test_a_base_that_moves_elsewhere_does_not(origin, reviewed, tmp_path_factory):
    origin.write(README_txt="hello\n")
    git(origin.root, "add", ".")
    git(origin.root, "commit", "-qm", "unrelated")
    assert applied(merge(origin, reviewed, tmp_path_factory), origin.store).returncode == 0


def test_a_head_that_moves_after_the_plan_refuses_it(origin, reviewed, tmp_path_factory):
    reviewed.request("select: [b]\nparams: {x: 3}\n", name="runs-one")
    git(reviewed.root, "commit", "-qam", "x is 3")
    done = applied(merge(origin, reviewed, tmp_path_factory), origin.store)
    assert (done.returncode, "  the request runs-one.yaml:" in done.stderr) == (4, True), done


def test_a_plan_without_the_store_says_so(origin, reviewed, tmp_path):
    done = shell(reviewed, "runner plan p.yaml", str(tmp_path / "none"))
    assert "note: there is no store here, so this plan knows of no earlier run\n" in done.stdout


def test_a_folder_is_planned_since_a_revision_file_by_file(origin):
    origin.request("select: [b]\nparams: {x: 5}\n", name="two")
    origin.write(broken_yaml="apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\nselekt: [b]\n")
    answer = origin.runner("plan", ".", "--base", "HEAD", "--store", origin.store)
    assert answer.code == 2
    assert [line for line in answer.out.splitlines() if line.startswith(("== ", "READY", "broken"))] == [
        "== broken.yaml",
        "broken.yaml:4:1: error[E101]: unknown field `selekt` in the document",
        "== two.yaml",
        "READY  p: 1 reuse, 1 run",
    ]
    os.unlink(origin.root / "broken.yaml")
    origin.write(a_sh="echo 3 > o\n")  # code that both requests name
    value = json.loads(origin.runner("plan", ".", "--base", "HEAD", "--store", origin.store, "-o", "json").raw)
    assert [(v["path"], v["plan"]["verdict"]) for v in value] == [
        ("runs-one.yaml", "needs a decision"),
        ("two.yaml", "needs a decision"),
    ]
    git(origin.root, "checkout", "-q", ".")
    os.unlink(origin.root / "two.yaml")
    assert (
        str(origin.runner("plan", ".", "--base", "HEAD")) == "no run request below . has changed since HEAD\n[exit 0]"
    )
    assert origin.runner("plan", ".", "--base", "nope").err.startswith("error: git knows no revision nope\n")


def test_what_differs_in_the_settings_since_a_revision_is_said_key_by_key(origin):
    origin.write(runner_toml="[runner]\nworkers = 2\n[logs]\nmax_bytes = 5\n")
    git(origin.root, "commit", "-qam", "settings")
    origin.write(runner_toml="[runner]\nworkers = 4\nstore = 'a|`b`<!-- x -->@me'\n[store]\nverify = 'changed'\n")
    assert str(origin.runner("plan", ".", "--base", "HEAD")) == (
        "== runner.toml\n"
        "settings: the file was changed\n"
        "  runner.workers  2 -> 4\n"
        "  logs.max_bytes  5 -> not set\n"
        '  runner.store    not set -> "a|`b`<!-- x -->@me"\n'
        '  store.verify    not set -> "changed"\n'
        "\n"
        "no run request below . has changed since HEAD\n"
        "[exit 0]"
    )
    assert origin.runner("plan", ".", "--base", "HEAD", "-o", "markdown").out == (
        f"{MARKER}\n"
        "### `runner.toml`: the settings were changed\n"
        "\n"
        "| setting | before | now |\n"
        "|---|---|---|\n"
        "| runner.workers | 2 | 4 |\n"
        "| `logs.max_bytes` | 5 | not set |\n"
        '| runner.store | not set | ``"a\\|`b`<!-- x -->@me"`` |\n'
        '| store.verify | not set | `"changed"` |\n'
        "\n"
        "no run request below . has changed since HEAD\n"
        "\n"
        "planning ran no code of this repository\n"
    )
    assert json.loads(origin.runner("plan", ".", "--base", "HEAD", "-o", "json").raw) == [
        {
            "path": "runner.toml",
            "file": "changed",
            "settings": [
                {"key": "runner.workers", "base": 2, "now": 4},
                {"key": "logs.max_bytes", "base": 5, "now": None},
                {"key": "runner.store", "base": None, "now": "a|`b`<!-- x -->@me"},
                {"key": "store.verify", "base": None, "now": "changed"},
            ],
        }
    ]


def test_settings_that_are_added_removed_or_broken_are_said_and_no_other_folders(origin):
    said = {}
    (origin.root / "runner.toml").unlink()
    said["removed"] = origin.runner("plan", ".", "--base", "HEAD").out.splitlines()[:2]
    (origin.root / "runner.toml").symlink_to("/etc/passwd")
    said["a link"] = origin.runner("plan", ".", "--base", "HEAD").out.splitlines()[:2]
    git(origin.root, "checkout", "-q", ".")
    (origin.root / "sub").mkdir()
    (origin.root / "sub/runner.toml").touch()
    said["added"] = origin.runner("plan", ".", "--base", "HEAD").out.splitlines()[:2]
    assert said == {
        "removed": ["== runner.toml", "settings: the file was removed, and holds none"],
        "a link": ["== runner.toml", "ROOT/runner.toml: error[E109]: it is a symlink that leads out of the project"],
        "added": ["== sub/runner.toml", "settings: the file was added, and holds none"],
    }
    (origin.root / "other").mkdir()
    assert origin.runner("plan", "other", "--base", "HEAD").out == "no run request below other has changed since HEAD\n"


FORGED = "x` | @everyone <img src=x> \n## heading ```` ![i](http://e.x/i.png) <!-- runner plan --> \u202e"


def test_no_value_can_forge_the_comment(project):
    project.pipeline(f"""
        params: {{t: {{type: string, default: {json.dumps(FORGED)}}}}}
        steps:
          a: {{kind: shell, env: {{T: $(params.t)}}, script: echo 1 > o, outputs: {{o: {{type: file}}}}}}
          b: {{kind: command, command: [cp, $(steps.a.outputs.o), o], outputs: {{o: {{type: file}}}}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    project.request(f"select: [b]\nparams: {{t: {json.dumps(FORGED + '2')}}}")
    text = project.runner("plan", "run.yaml", "-o", "markdown").raw
    assert text.count(MARKER) == 1 + text.count(f"`{MARKER}") + len(re.findall(r"[^\n]<!-- runner plan -->", text))
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text.replace("\\|", ""))  # without code spans
    for forbidden in ("@everyone", "<img", "![i]", "http:", "\u202e", "## heading"):
        assert forbidden not in outside.replace("### NEEDS", ""), outside
    assert not any(line.startswith("## heading") for line in text.splitlines())


def test_a_long_plan_is_folded_and_no_finding_is_cut(project):
    steps = "\n".join(
        f"          s{i}: {{kind: shell, code: [c{i}.txt], script: echo {i} > o, outputs: {{o: {{type: file}}}}}}"
        for i in range(300)
    )
    last = ", ".join(f"i{i}: $(steps.s{i}.outputs.o)" for i in range(300))
    project.pipeline(f"""
        steps:
{steps}
          last: {{kind: shell, inputs: {{{last}}}, script: echo > o, outputs: {{o: {{type: file}}}}}}
    """)
    project.write(**{f"c{i}_txt": "1" for i in range(300)})
    assert project.runner("apply", "p.yaml").code == 0
    project.write(**{f"c{i}_txt": "2" for i in range(300)})
    project.request("select: [last]")
    text = project.runner("plan", "run.yaml", "-o", "markdown").raw
    assert len(text) < LIMIT
    findings = [line for line in text.splitlines() if line.startswith("- **F201**")]
    assert len(findings) == 300
    assert all(line.endswith(("6b86b273 -> d4735e3a.`", "6b86b273 -> d4735e3a.")) for line in findings), findings[0]
    assert len(re.findall(r"accept: \[\{step: s\d+, cause: c[0-9a-f]{8}, reason: \"\.\.\.\"\}\]", text)) == 300
