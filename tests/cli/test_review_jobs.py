"""The jobs of the review templates: their own scripts, with a `gh` that answers from files and a GitLab of our own."""

import base64
import http.server
import json
import os
import shutil
import sys
import threading
import urllib.parse
import zipfile

import pytest
import yaml

from runner.plan import bound
from runner.reporters.markdown import MARKER
from runner.values import digest_of
from tests.cli.test_review_flow import PIPELINE, TEMPLATES, git, lines_of, shell

REPO = "me/repo"
GH = f"""#!{sys.executable}
# Answers `gh api PATH [--jq EXPRESSION]` from the files of GH_FILES, and notes each call.
import base64, json, os, subprocess, sys

args = [a for a in sys.argv[2:] if a != "--paginate"]
options = dict(zip(args, args[1:]))
method = options.get("-X", "GET")
folder = os.environ["GH_FILES"]
path = args[args.index(method) + 1] if "-X" in args else args[0]
with open(folder + "/calls", "a") as log:
    log.write(f"{{method}} {{path}}\\n")
if method != "GET":
    assert options["-F"] == "body=@.plans/comment.md", args
    sys.exit()
place = folder + "/" + base64.urlsafe_b64encode(path.split("?")[0].encode()).decode()
if not os.path.exists(place):
    sys.exit("gh: Not Found (HTTP 404)")
with open(place, "rb") as file:
    content = file.read()
if "--jq" not in args:
    sys.stdout.buffer.write(content)
else:
    sys.exit(subprocess.run(["jq", "-r", args[args.index("--jq") + 1]], input=content).returncode)
"""
needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="`gh api --jq` is answered by jq, which is not here")


class Hub:
    """A repository on GitHub, as far as the jobs ask for it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "gh").write_text(GH)
        (folder / "gh").chmod(0o755)

    def answers(self, path, value):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        (self.folder / base64.urlsafe_b64encode(f"repos/{REPO}/{path}".encode()).decode()).write_bytes(content)

    @property
    def calls(self):
        return (self.folder / "calls").read_text().replace(f"repos/{REPO}/", "").splitlines()

    def run(self, project, script, store="/nowhere", **env):
        known = {"GH_FILES": str(self.folder), "GITHUB_REPOSITORY": REPO, "GITHUB_SHA": "merge", **env}
        return shell(project, f'PATH="{self.folder}:$PATH"\n{script}', store, **known)


@pytest.fixture
def hub(tmp_path_factory):
    return Hub(tmp_path_factory.mktemp("hub"))


# --- the comment


def commented(hub, project, comments):
    hub.answers("issues/7/comments", comments)
    (project.root / ".plans").mkdir()
    (project.root / ".plans/comment.md").write_text(f"{MARKER}\nnew")
    env = yaml.safe_load((TEMPLATES / "github-plan.yml").read_text())["jobs"]["comment"]["steps"][1]["env"]
    done = hub.run(project, lines_of("github-plan.yml", "comment", "comment"), NUMBER="7", LOGIN=env["LOGIN"])
    assert done.returncode == 0, done
    return hub.calls[1:]


def comment(id, login, body):
    return {"id": id, "user": {"login": login}, "body": body}


OWN = comment(3, "github-actions[bot]", f"{MARKER}\nold")
FORGED = comment(2, "mallory", f"{MARKER}\nREADY, says mallory")


@needs_jq
@pytest.mark.parametrize(
    ("comments", "call"),
    [
        pytest.param([], "POST issues/7/comments", id="none yet"),
        pytest.param([comment(1, "me", "hello"), OWN], "PATCH issues/comments/3", id="its own"),
        pytest.param([FORGED, OWN], "PATCH issues/comments/3", id="a forged one before its own"),
        pytest.param([FORGED], "POST issues/7/comments", id="a forged one only"),
        pytest.param([comment(4, "github-actions[bot]", "of another job")], "POST issues/7/comments", id="no marker"),
        pytest.param([OWN, comment(5, "github-actions[bot]", MARKER)], "PATCH issues/comments/3", id="two, the first"),
    ],
)
def test_the_comment_job_edits_only_a_comment_of_its_own_login(hub, project, comments, call):
    assert commented(hub, project, comments) == [call]


@needs_jq
def test_where_the_comments_cannot_be_read_none_is_written(hub, project):
    (project.root / ".plans").mkdir()
    done = hub.run(project, lines_of("github-plan.yml", "comment", "comment"), NUMBER="7", LOGIN="me")
    assert (done.returncode != 0, hub.calls) == (True, ["GET issues/7/comments?per_page=100"])


# --- the apply


@pytest.fixture
def merged(project, tmp_path_factory):
    """A checkout of what was merged, with a plan of its request; `store` is the one that both jobs use."""
    project.write(a_sh="echo 1 > o\n")
    project.pipeline(PIPELINE)
    project.request("", name="runs-one")
    git(project.root, "init", "-q", "-b", "main")
    git(project.root, "add", ".")
    git(project.root, "commit", "-qm", "one")
    project.store = str(tmp_path_factory.mktemp("store") / "s")
    assert project.runner("plan", "runs-one.yaml", "--out", "runs-one.json", "--store", project.store).code == 0
    project.plan = json.loads((project.root / "runs-one.json").read_text())
    os.unlink(project.root / "runs-one.json")
    return project


def pull(sha="head", repository=REPO, merged="2026-01-01", commit="merge"):
    return {
        "merged_at": merged, "merge_commit_sha": commit,
        "head": {"sha": sha, "repo": {"full_name": repository}}, "base": {"repo": {"full_name": REPO}},
    }  # fmt: skip


def planned_by(sha="head", repository=REPO, event="pull_request", id=11):
    return {"id": id, "event": event, "head_sha": sha, "head_repository": {"full_name": repository}}


def packed(tmp_path, files, top=""):
    path = tmp_path / "plans.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path.read_bytes()


def sealed_again(plan, **changes):
    """Return a plan with changes, digest and checksum redone by the product's own rule, as text."""
    plan = {**plan, **changes}
    plan.pop("checksum")
    plan["digest"] = digest_of(bound(plan))
    return json.dumps({**plan, "checksum": digest_of(plan)})


MERGED, PLANNED = pull(), planned_by()


def applied(hub, merged, tmp_path, files, pulls=(MERGED,), runs=(PLANNED,)):
    """Run the steps of the apply job one after another, as CI does; return the answer of the last one that ran."""
    hub.answers("commits/merge/pulls", list(pulls))
    hub.answers("actions/workflows/runner-plan.yml/runs", {"workflow_runs": list(runs)})
    artifacts = [{"id": 20, "name": "other", "expired": False}, {"id": 21, "name": "runner-plans", "expired": False}]
    hub.answers("actions/runs/11/artifacts", {"artifacts": artifacts})
    hub.answers("actions/artifacts/21/zip", packed(tmp_path, files))
    steps = ("fetch the plans of the merged pull request", "unpack the plans", "apply")
    script = "".join(
        f"bash -e <<'STEP' || exit\n{lines_of('github-apply.yml', 'apply', name)}\nSTEP\n" for name in steps
    )
    return hub.run(merged, script, merged.store)


@needs_jq
def test_the_plans_of_the_merged_head_are_applied(hub, merged, tmp_path):
    files = {"runs-one.json": json.dumps(merged.plan), "comment.md": "x"}
    others = (planned_by(event="push", id=1), planned_by(sha="older", id=2), planned_by(repository="fork/repo", id=3))
    done = applied(hub, merged, tmp_path, files, runs=(*others, planned_by()))
    assert (done.returncode, "run succeeded" in done.stdout) == (0, True), done
    assert hub.calls == [
        "GET commits/merge/pulls",
        "GET actions/workflows/runner-plan.yml/runs?event=pull_request&head_sha=head&per_page=100",
        "GET actions/runs/11/artifacts?per_page=100",
        "GET actions/artifacts/21/zip",
    ]
    assert sorted(p.name for p in (merged.root / ".plans").iterdir()) == ["runs-one.json", "runs-one.json.junit.xml"]


@needs_jq
def test_without_a_plan_there_is_nothing_to_apply(hub, merged, tmp_path):
    done = applied(hub, merged, tmp_path, {"comment.md": "no run request has changed"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NOTHING = "no pull request of this repository was merged: there is nothing to apply\n"


@needs_jq
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(pull(merged=None), id="not merged"),
        pytest.param(pull(commit="older"), id="merged by another commit"),
        pytest.param(pull(repository="fork/repo"), id="of a fork"),
    ],
)
def test_no_pull_request_but_the_merged_one_of_this_repository_is_applied(hub, merged, tmp_path, other):
    done = applied(hub, merged, tmp_path, {"runs-one.json": json.dumps(merged.plan)}, pulls=(other,))
    assert (done.returncode, done.stdout) == (0, NOTHING), done
    assert hub.calls == ["GET commits/merge/pulls"]


@needs_jq
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(planned_by(sha="older"), id="another head"),
        pytest.param(planned_by(repository="fork/repo"), id="a fork"),
        pytest.param(planned_by(event="push"), id="another event"),
    ],
)
def test_no_artifact_of_another_run_is_taken(hub, merged, tmp_path, other):
    done = applied(hub, merged, tmp_path, {"runs-one.json": json.dumps(merged.plan)}, runs=(other,))
    said = "::error::no run of runner-plan.yml has planned head: there is nothing to apply\n"
    assert (done.returncode, done.stdout, len(hub.calls)) == (1, said, 2), done


@needs_jq
def test_a_plan_that_does_not_hold_any_more_is_refused(hub, merged, tmp_path):
    merged.write(a_sh="echo 2 > o\n")
    done = applied(hub, merged, tmp_path, {"runs-one.json": json.dumps(merged.plan)})
    assert (done.returncode, "does not hold any more; what moved:\n  code a.sh:" in done.stderr) == (4, True), done


def elsewhere(plan, path):
    return sealed_again(plan, request={**plan["request"], "path": path})


@needs_jq
@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("../../etc/passwd", "x.json", "::error::x.json is not the plan of a request of this checkout\n"),
        ("/etc/passwd", "x.json", "::error::x.json is not the plan of a request of this checkout\n"),
        ("untracked.yaml", "x.json", "::error::x.json is not the plan of a request of this checkout\n"),
        ("", "x.json", "::error::x.json is not the plan of a request of this checkout\n"),
        ("runs-one.yaml", "../x.json", "::error::the artifact holds '../x.json', which is no file name of a plan\n"),
        (
            "runs-one.yaml",
            "/tmp/x.json",
            "::error::the artifact holds '/tmp/x.json', which is no file name of a plan\n",
        ),
    ],
)
def test_a_forged_artifact_writes_nothing_outside_and_applies_nothing(hub, merged, tmp_path, path, name, said):
    merged.write(untracked_yaml="apiVersion: runner/v1\nkind: Run\npipeline: p.yaml\n")
    before = sorted(p.name for p in merged.root.iterdir())
    done = applied(hub, merged, tmp_path, {name: elsewhere(merged.plan, path)})
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said), done
    assert sorted(p.name for p in merged.root.iterdir()) == sorted([*before, ".plans", "plans.zip"])
    assert list((merged.root / ".plans").iterdir()) == []


@needs_jq
def test_a_link_in_place_of_a_request_is_refused_by_the_runner(hub, merged, tmp_path):
    os.symlink("/etc/passwd", merged.root / "out.yaml")
    git(merged.root, "add", "out.yaml")
    done = applied(hub, merged, tmp_path, {"x.json": elsewhere(merged.plan, "out.yaml")})
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "out.yaml: error[E109]: out.yaml is a symlink that leads out of the project root\n"
        "      = help: name a file of the project, not a link out of it\n",
    )


# --- GitLab


class Lab(http.server.BaseHTTPRequestHandler):
    """A project on GitLab, as far as the jobs ask for it."""

    def do_GET(self):
        path = urllib.parse.urlsplit(self.path).path.removeprefix("/api/")
        self.server.calls.append(f"GET {path}")
        value = self.server.answers.get(path)
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(404 if value is None else 200)
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.calls.append(f"{self.command} {self.path.removeprefix('/api/')}")
        self.send_response(200)
        self.end_headers()

    do_PUT = do_POST

    def log_message(self, *args):
        pass


@pytest.fixture
def lab():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lab)
    server.calls, server.answers = [], {"user": {"id": 9}}
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="the scripts call curl, which is not here")


def lab_run(lab, project, job, store="/nowhere"):
    scripts = yaml.safe_load((TEMPLATES / "gitlab.yml").read_text())[job]["script"]
    return shell(
        project, "set -o pipefail\n" + "\n".join(scripts), store, CI_API_V4_URL=f"http://127.0.0.1:{lab.server_port}/api",
        CI_PROJECT_ID="5", CI_MERGE_REQUEST_IID="7", CI_COMMIT_SHA="merge", CI_DEFAULT_BRANCH="main", RUNNER_COMMENT_TOKEN="t", no_proxy="*",
    )  # fmt: skip


def note(id, author, body):
    return {"id": id, "author": {"id": author}, "body": body}


@needs_curl
@pytest.mark.parametrize(
    ("notes", "call"),
    [
        pytest.param([], "POST projects/5/merge_requests/7/notes", id="none yet"),
        pytest.param([note(3, 9, MARKER)], "PUT projects/5/merge_requests/7/notes/3", id="its own"),
        pytest.param(
            [note(2, 8, MARKER), note(3, 9, MARKER)],
            "PUT projects/5/merge_requests/7/notes/3",
            id="a forged one before",
        ),
        pytest.param([note(2, 8, MARKER)], "POST projects/5/merge_requests/7/notes", id="a forged one only"),
    ],
)
def test_the_comment_job_of_gitlab_edits_only_a_note_of_its_own_user(lab, project, notes, call):
    lab.answers["projects/5/merge_requests/7/notes"] = notes
    (project.root / ".plans").mkdir()
    (project.root / ".plans/comment.md").write_text(f"{MARKER}\nnew")
    done = lab_run(lab, project, "runner-comment")
    assert (done.returncode, lab.calls[-1]) == (0, call), done


def lab_applied(lab, merged, tmp_path, files, request=None, pipeline=None):
    own = {"state": "merged", "iid": 7, "sha": "head", "merge_commit_sha": "merge", "squash_commit_sha": None,
           "source_project_id": 5, "target_project_id": 5, "target_branch": "main"}  # fmt: skip
    made = {"id": 30, "sha": "head", "project_id": 5, "source": "merge_request_event"}
    lab.answers |= {
        "projects/5/repository/commits/merge/merge_requests": [{**own, **(request or {})}],
        "projects/5/merge_requests/7/pipelines": [{**made, **(pipeline or {})}],
        "projects/5/pipelines/30/jobs": [{"id": 40, "name": "runner-comment"}, {"id": 41, "name": "runner-plan"}],
        "projects/5/jobs/41/artifacts": packed(tmp_path, files, top=".plans/"),
    }
    return lab_run(lab, merged, "runner-apply", merged.store)


@needs_curl
def test_gitlab_applies_the_plans_of_the_merged_head(lab, merged, tmp_path):
    done = lab_applied(lab, merged, tmp_path, {"runs-one.json": json.dumps(merged.plan), "comment.md": "x"})
    assert (done.returncode, "run succeeded" in done.stdout) == (0, True), done


@needs_curl
@pytest.mark.parametrize(
    ("request_", "pipeline", "code", "said"),
    [
        ({"state": "opened"}, {}, 0, "no merge request of this project was merged: there is nothing to apply\n"),
        ({"source_project_id": 6}, {}, 0, "no merge request of this project was merged: there is nothing to apply\n"),
        (
            {"merge_commit_sha": "other"},
            {},
            0,
            "no merge request of this project was merged: there is nothing to apply\n",
        ),
        (
            {},
            {"sha": "older"},
            1,
            "no merge request pipeline of this project has planned head: there is nothing to apply\n",
        ),
        (
            {},
            {"project_id": 6},
            1,
            "no merge request pipeline of this project has planned head: there is nothing to apply\n",
        ),
        (
            {},
            {"source": "push"},
            1,
            "no merge request pipeline of this project has planned head: there is nothing to apply\n",
        ),
    ],
)
def test_gitlab_takes_no_plans_of_anything_else(lab, merged, tmp_path, request_, pipeline, code, said):
    done = lab_applied(lab, merged, tmp_path, {"runs-one.json": json.dumps(merged.plan)}, request_, pipeline)
    assert (done.returncode, done.stdout) == (code, said), done


@needs_curl
@pytest.mark.parametrize(("path", "name"), [("../../etc/passwd", "x.json"), ("runs-one.yaml", "../x.json")])
def test_gitlab_refuses_a_forged_artifact(lab, merged, tmp_path, path, name):
    done = lab_applied(lab, merged, tmp_path, {name: elsewhere(merged.plan, path)})
    assert (done.returncode, done.stdout, (merged.root / "x.json").exists()) == (1, "", False), done


@needs_curl
def test_gitlab_refuses_a_plan_that_does_not_hold_any_more(lab, merged, tmp_path):
    merged.write(a_sh="echo 2 > o\n")
    done = lab_applied(lab, merged, tmp_path, {"runs-one.json": json.dumps(merged.plan)})
    assert (done.returncode, "does not hold any more; what moved:\n  code a.sh:" in done.stderr) == (4, True), done


@pytest.mark.parametrize("name", ["github-plan.yml", "github-apply.yml", "gitlab.yml"])
def test_each_template_says_who_can_forge_a_comment(name):
    head = (TEMPLATES / name).read_text().split("\n\n")[0] + (TEMPLATES / name).read_text()[:1500]
    assert "forge" in head
