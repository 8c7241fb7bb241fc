"""Two checkouts, one store: what the sandbox kept to its declaration serves both; what it did not belongs to one."""

import json
import re

import pytest

from tests.kit import Answer, Project

PIPELINE = """
    steps:
      s: {kind: shell, script: 'echo same > o', outputs: {o: {type: file}}}
      u:
        kind: shell
        workdir: project
        cache: true
        script: cat hidden.txt > $RUNNER_OUTPUT_DIR/o
        outputs: {o: {type: file}}
      t: {kind: shell, inputs: {i: $(steps.u.outputs.o)}, script: cat $RUNNER_INPUT_I > o, outputs: {o: {type: file}}}
      v: {kind: shell, inputs: {i: $(steps.t.outputs.o)}, script: 'cat $RUNNER_INPUT_I > o; echo v >> o', outputs: {o: {type: file}}}
"""


class Checkout(Project):
    """A project whose store is beside it, shared with the other checkout."""

    def runner(self, *args: str, **more: object) -> Answer:
        return super().runner(*args, env={"RUNNER_STORE": str(self.root.parent / "store")}, **more)

    def decided(self, file: str) -> dict[str, str]:
        plan = json.loads(self.runner("plan", file, "-o", "json").raw)
        return {name: step["decision"] for name, step in plan["steps"].items()}


@pytest.fixture
def checkouts(tmp_path):
    """Two checkouts that differ in a file which `u` reads and does not declare; the first has run."""
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = Checkout(tmp_path / name)
        made.write(hidden_txt=f"{name}\n")
        made.pipeline(PIPELINE)
        made.request("select: [v]\n", name="v")
        made.request("select: [t, v]\n", name="tv")
        found.append(made)
    assert found[0].runner("apply", "p.yaml").code == 0
    return found


def test_a_result_of_the_sandbox_is_cached_in_both_checkouts_and_any_other_in_its_own(checkouts):
    one, two = checkouts
    assert one.decided("p.yaml") == {"s": "cached", "u": "cached", "t": "cached", "v": "cached"}
    assert two.decided("p.yaml") == {"s": "cached", "u": "run", "t": "run", "v": "run"}


def test_each_checkout_gets_what_its_own_files_give(checkouts):
    one, two = checkouts
    answer = two.runner("apply", "p.yaml")
    assert (answer.code, "cached, the same in" in answer.out.partition("u: started")[0]) == (0, True)
    outputs = {c.root.name: c.runner("outputs", c.record()["run"], "v", str(c.root / "out")).code for c in (two,)}
    assert (outputs, (two.root / "out/o").read_text()) == ({"two": 0}, "two\nv\n")
    assert one.decided("p.yaml") == two.decided("p.yaml") == dict.fromkeys("sutv", "cached")
    assert one.runner("apply", "p.yaml").out.startswith("nothing to do: run ")


def test_what_another_checkout_made_outside_the_sandbox_is_not_looked_up_by_a_run_either(checkouts):
    one, two = checkouts
    # `u` waits for `s`, so that it is the run that looks whether there is a result of it.
    for checkout in checkouts:
        checkout.pipeline(PIPELINE.replace("cache: true", "cache: true\n        needs: [s]"))
    assert one.runner("apply", "p.yaml").code == 0
    two.write(p_yaml=(two.root / "p.yaml").read_text().replace("echo same", "echo other"))
    answer = two.runner("apply", "p.yaml")
    assert [line.split(" in ")[0] for line in answer.out.splitlines() if line.startswith("  u: ")] == [
        "  u: started",
        "  u: ok",
    ]


def test_reuse_of_it_needs_a_decision_that_names_the_checkout_and_can_be_accepted(checkouts):
    _, two = checkouts
    plan = two.runner("plan", "tv.yaml")
    assert plan.code == 3
    finding = plan.out.partition("\n\n")[2].partition("\nplan sha256")[0].partition("F203")[2].strip()
    first, *remedies = finding.splitlines()
    assert first == (
        f"u would be reused, but what it would make today is not known: env checkout: {two.root.parent}/one -> this one."
    )
    assert [line.strip() for line in remedies] == [
        "select: [u, t, v]", 'or accept: [{step: u, cause: CAUSE, reason: "..."}]',
    ]  # fmt: skip
    cause = re.search(r"cause: (c[0-9a-f]+)", two.runner("plan", "tv.yaml").raw)[1]
    two.request(f"select: [t, v]\naccept: [{{step: u, cause: {cause}, reason: same data}}]\n", name="tv")
    assert two.runner("apply", "tv.yaml").code == 0
    two.runner("outputs", two.record()["run"], "v", str(two.root / "out"))
    assert (two.root / "out/o").read_text() == "one\nv\n"


def test_what_was_made_from_it_is_not_known_either(checkouts):
    _, two = checkouts
    plan = two.runner("plan", "v.yaml")
    assert plan.code == 3
    assert (
        "F203 t would be reused, but what it would make today is not known: "
        f"upstream u (env checkout: {two.root.parent}/one -> this one)." in plan.out
    )


def test_the_same_bytes_made_here_prove_it(checkouts):
    one, two = checkouts
    two.write(hidden_txt="one\n")
    assert two.runner("apply", "p.yaml").code == 0
    two.request(f"select: [t, v]\nreference: {one.runner('runs', '-o', 'json').raw and _first(one)}\n", name="tv")
    plan = two.runner("plan", "tv.yaml")
    assert (plan.code, "reuse   u  from " in plan.out, "unknown" in plan.out) == (0, True, False)


def _first(project: Project) -> str:
    run: str = json.loads(project.runner("runs", "-o", "json").raw)[-1]["run"]
    return run


def test_nothing_to_do_is_not_said_of_what_another_checkout_did(checkouts):
    one, two = checkouts
    for checkout in checkouts:
        checkout.request("mode: full\n", name="full")
    assert one.runner("apply", "full.yaml").code == 0
    assert one.runner("apply", "full.yaml").out.startswith("nothing to do")
    assert two.runner("apply", "full.yaml").out.startswith("READY  p: 4 run")


def test_the_record_names_the_checkout_of_what_ran_outside_the_sandbox_only(checkouts):
    one, _ = checkouts
    steps = one.record()["steps"]
    assert {n: (step.get("unsealed", ""), step.get("checkout", "")) for n, step in steps.items()} == {
        "s": ("", ""), "u": ("it works in the project's folder", str(one.root)), "t": ("", ""), "v": ("", ""),
    }  # fmt: skip


@pytest.mark.parametrize(("place", "decision"), [("store", "run"), ("one/.runner", "cached")])
def test_a_record_of_an_earlier_version_is_of_this_checkout_only_in_its_own_store(checkouts, place, decision):
    one, _ = checkouts
    [journal] = (one.root.parent / "store/runs").glob("*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        line.pop("sum")
        line.pop("checkout", None)
    lines[0] |= {"format": 1}
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    one.runner("store", "reindex")
    (one.root.parent / "store").rename(one.root.parent / place)
    plan = Project.runner(one, "plan", "p.yaml", "-o", "json", "--store", str(one.root.parent / place))
    assert json.loads(plan.raw)["steps"]["u"]["decision"] == decision


def test_a_run_that_waits_is_gone_on_with_where_its_results_were_made(checkouts):
    one, two = checkouts
    for checkout in checkouts:
        checkout.pipeline(PIPELINE + "      ask: {kind: approval, message: sure, needs: [u]}\n")
    assert one.runner("apply", "p.yaml").code == 7
    run = one.record()["run"]
    assert two.runner("approve", run, "ask").code == 0
    answer = two.runner("resume", run)
    assert (answer.code, answer.err.splitlines()[0]) == (
        4, f"error: step u of run R1 was made outside the sandbox, in {one.root}".replace(str(two.root), "ROOT"),
    )  # fmt: skip
    assert one.runner("resume", run).code == 0
