"""`runner doctor`: every line is ok, warn or fail, with its remedy, and only what is in the way gives an exit code."""

import json

PIPELINE = """
    steps:
      a: {kind: shell, script: echo 1 > o, outputs: {o: {type: file}}}
"""
MACHINE = ["runner", "system", "Landlock", "bubblewrap", "memory limits", "container engine", "uv"]


def checks(project, code: int) -> dict[str, dict[str, str]]:
    answer = project.runner("doctor", "-o", "json")
    found = json.loads(answer.raw)
    assert answer.code == code
    assert all(check["status"] == "ok" or check["remedy"] for check in found)
    return {check["name"]: check for check in found}


def test_it_looks_at_the_machine_and_says_that_there_is_no_store(project):
    found = checks(project, 0)
    assert list(found) == [*MACHINE, "store", "free space", "file system"]
    assert found["store"]["text"] == f"there is none yet at {project.root}/.runner"
    assert not (project.root / ".runner").exists()


def test_it_looks_at_the_store_and_leaves_nothing_there(project):
    project.pipeline(PIPELINE)
    assert project.runner("apply", "p.yaml").code == 0
    found = checks(project, 0)
    assert list(found) == [*MACHINE, "store", "index", "free space", "file system"]
    assert found["index"]["text"] == "1 runs, as the journals say"
    assert list((project.root / ".runner/tmp").iterdir()) == []
    assert project.runner("doctor").out.splitlines()[7] == "ok    store             ROOT/.runner, format 1"


def test_an_index_that_names_a_run_that_is_lost_is_worth_knowing(project):
    project.pipeline(PIPELINE)
    assert project.runner("apply", "p.yaml").code == 0
    (project.root / f".runner/runs/{project.record()['run']}").rename(project.root / "aside")
    found = checks(project, 0)["index"]
    assert (found["status"], found["text"]) == ("warn", "0 runs are missing in it, 1 too many")


def test_a_journal_that_cannot_be_read_is_in_the_way(project):
    project.pipeline(PIPELINE)
    assert project.runner("apply", "p.yaml").code == 0
    run = project.record()["run"]
    path = project.root / f".runner/runs/{run}/journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"succeeded", b"Succeeded", 1))
    found = checks(project, 6)["journals"]
    assert (found["status"], found["text"]) == ("fail", f"the journals of 1 runs cannot be read: {run}")


def test_a_store_of_a_newer_format_is_in_the_way(project):
    project.pipeline(PIPELINE)
    assert project.runner("apply", "p.yaml").code == 0
    (project.root / ".runner/format").write_text("99\n")
    assert checks(project, 6)["store"]["status"] == "fail"
