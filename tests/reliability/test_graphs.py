"""Graphs that are wrong, deep or wide, and selections that cannot be."""

import itertools
import os
import random
import shutil
import time

import networkx
import pytest

from runner.compiler import shortest_cycle
from tests.kit import drawn
from tests.reliability.forks import within

HEAD = "apiVersion: runner/v1\nkind: Pipeline\nname: p\n"


def needing(edges: dict[str, list[str]]) -> str:
    return HEAD + "steps:\n" + "".join(f"  {n}: {{kind: command, command: [sh], needs: [{', '.join(b)}]}}\n" for n, b in edges.items())  # fmt: skip


@pytest.mark.reliability("B01")
@pytest.mark.parametrize("seed", range(300))
def test_the_cycle_that_is_named_is_a_shortest_one(seed):
    chance = random.Random(seed)
    count = chance.randrange(2, 9)
    before = {f"s{i}": [f"s{chance.randrange(count)}" for _ in range(chance.choice([0, 1, 1, 2]))] for i in range(count)}  # fmt: skip
    before["s0"] = ["s1"]
    before["s1"] = [*before["s1"], f"s{seed % count}", "s0"][: 2 + seed % 2] + ["s0"]
    graph = networkx.DiGraph([(prior, name) for name, priors in before.items() for prior in priors])
    found = shortest_cycle(before)
    assert len(found) - 1 == min(map(len, networkx.simple_cycles(graph)))
    assert found[0] == found[-1] and all(a in before[b] for a, b in itertools.pairwise(found))


@pytest.mark.reliability("B01")
@pytest.mark.parametrize("count", [1, 2, 13, 5000])
def test_a_cycle_is_refused_with_its_steps(project, count):
    (project.root / "p.yaml").write_text(needing({f"s{i}": [f"s{(i + 1) % count}"] for i in range(count)}))
    answer = project.runner("plan", "p.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert "p.yaml:5:3: error[E215]: steps wait for each other: s0 -> " in answer.err
    assert answer.err.count("error[") == 1 and len(answer.err) < 600


@pytest.mark.reliability("B01")
def test_a_shortest_cycle_is_found_in_time_among_thousands():
    chance = random.Random(7)
    count = 5000
    before = {f"s{i}": [f"s{(i + 1) % count}", f"s{max(0, i - 3 - chance.randrange(500))}"] for i in range(count)}
    started = time.process_time()
    found = shortest_cycle(before)
    assert within(time.process_time() - started, 2)
    assert found[0] == found[-1]


@pytest.mark.reliability("B02")
def test_an_unknown_step_is_named_with_the_one_that_was_meant(project):
    (project.root / "p.yaml").write_text(needing({"train": [], "evaluate": ["trian"], "deploy": ["evalute", "x"]}))
    assert project.runner("plan", "p.yaml").err == (
        "p.yaml:6:52: error[E201]: no step `trian`\n"
        "    6 |   evaluate: {kind: command, command: [sh], needs: [trian]}\n"
        "      |                                                    ^\n"
        "      = help: did you mean `train`?\n"
        "p.yaml:7:50: error[E201]: no step `evalute`\n"
        "    7 |   deploy: {kind: command, command: [sh], needs: [evalute, x]}\n"
        "      |                                                  ^\n"
        "      = help: did you mean `evaluate`?\n"
        "p.yaml:7:59: error[E201]: no step `x`\n"
        "    7 |   deploy: {kind: command, command: [sh], needs: [evalute, x]}\n"
        "      |                                                           ^\n"
        "      = help: there are: deploy, evaluate, train\n"
    )


@pytest.mark.reliability("B03")
@pytest.mark.parametrize(
    ("edges", "runs"),
    [
        pytest.param({f"s{i}": [f"s{i - 1}"] * (i > 0) for i in range(10_000)}, 10_000, id="a chain of 10,000"),
        pytest.param({f"s{i}": [f"s{i + 1}"] * (i < 3_000) for i in range(3_001)}, 3_001, id="a chain written backwards"),
        pytest.param({f"s{i}{k}": [f"s{i - 1}a", f"s{i - 1}b"] if i else [] for i in range(40) for k in "ab"}, 80, id="2^40 paths"),
        pytest.param({**{f"s{i}": [] for i in range(3_000)}, "z": [f"s{i}" for i in range(3_000)]}, 3_001, id="a step behind 3,000"),
    ],
)  # fmt: skip
def test_a_deep_or_wide_graph_is_planned(project, edges, runs):
    (project.root / "p.yaml").write_text(needing(edges))
    before = os.times()
    answer = project.runner("plan", "p.yaml")
    assert (answer.code, answer.out.splitlines()[0]) == (0, f"READY  p: {runs} run")
    assert within(os.times().children_user - before.children_user, 5)  # of processor time


A_TO_C = drawn("a > b > c").replace("[make", "[sh, m.sh")
MAKE = 'for x; do o=$x; done\necho "$*" > o.txt\necho "$1" >> "$RAN"\n'


@pytest.fixture
def made(project):
    """A project whose steps a, b, c have run once; `ran` has what ran."""
    ran = project.root / "ran"
    ran.touch()
    project.write(m_sh='echo "$*" > o.txt\n')
    project.pipeline(A_TO_C.replace("    kind: command\n", "    kind: command\n    code: [m.sh]\n"))
    assert project.runner("apply", "p.yaml").code == 0
    return project


def runs(project) -> int:
    return len(list((project.root / ".runner/runs").iterdir())) if (project.root / ".runner/runs").exists() else 0


@pytest.mark.reliability("B04")
def test_a_part_without_a_reference_run_names_what_is_missing_and_starts_nothing(made):
    shutil.rmtree(made.root / ".runner")
    made.request("select: [c]\n")
    for command in ("plan", "apply"):
        answer = made.runner(command, "run.yaml")
        assert (answer.code, "run.yaml:4:1: error[E405]" in answer.err, "of b" in answer.err) == (2, True, True), answer
    assert runs(made) == 0


@pytest.mark.reliability("B04")
def test_a_part_whose_reference_lacks_an_output_names_it_and_starts_nothing(made):
    made.write(m_sh='test "$1" != b || exit 1\necho "$*" > o.txt\n')
    assert made.runner("apply", "p.yaml").code == 1
    last = made.record()["run"]
    before = runs(made)
    (made.root / ".runner/index.sqlite").unlink(missing_ok=True)
    made.request(f"select: [c]\nreference: {last}\n")
    for command in ("plan", "apply"):
        answer = made.runner(command, "run.yaml")
        assert (answer.code, "run.yaml:5:12: error[E405]" in answer.err, "b" in answer.err) == (2, True, True), answer
    assert runs(made) == before


@pytest.mark.reliability("B07")
def test_a_selection_with_a_hole_names_the_step_between_each_time(made):
    made.request("select: [a, c]\n")
    said = [made.runner("apply", "run.yaml") for _ in range(2)]
    assert said[0].code == 2 and str(said[0]) == str(said[1])
    assert said[0].err == (
        "run.yaml:4:10: error[E403]: the selection leaves a hole: a -> b (not selected) -> c\n"
        "    4 | select: [a, c]\n"
        "      |          ^\n"
        "      = help: add b: select: [a, b, c]\n"
        "        or run the parts one after another: [a] then [c]\n"
    )
    assert runs(made) == 1


@pytest.mark.reliability("B08")
@pytest.mark.parametrize(
    ("selector", "code"),
    [("nope", "E402"), ("nope*", "E402"), ("tag:nope", "E402"), ("kind:shell", "E402"), ("nope+", "E402"), ("a .. nope", "E402"), ("c .. a", "E4"), ("a and b", "E402"), ("not all", "E402"), ("status:failed", "E402"), ("", "E40"), ("a[x=1]", "E402")],
)  # fmt: skip
def test_a_selector_that_matches_nothing_is_refused(made, selector, code):
    made.request(f"select: ['{selector}']\n")
    for command in ("plan", "apply"):
        answer = made.runner(command, "run.yaml")
        assert (answer.code, f"error[{code}" in answer.err) == (2, True), answer
    assert runs(made) == 1
