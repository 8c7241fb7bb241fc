"""When a step is tried again, and how much runs at once."""

import pytest

from runner.decide import Run
from runner.estimate import estimate, turns
from runner.pipeline import Retry
from runner.schedule import Capacity, Need, Schedule, next_wait
from tests.kit import Lab, drawn

THREE = Retry(max_attempts=3, interval=5, backoff=2, jitter=0.1, max_interval=8)


@pytest.mark.parametrize(
    ("retry", "cause", "code", "attempt", "elapsed", "spin", "wait"),
    [
        pytest.param(THREE, "exit", 1, 1, 0, 0, 5, id="the first wait is the interval"),
        pytest.param(THREE, "exit", 1, 2, 0, 0, 8, id="the second is capped"),
        pytest.param(THREE, "exit", 1, 1, 0, 1, 5.5, id="jitter"),
        pytest.param(THREE, "exit", 1, 3, 0, 0, None, id="no attempt is left"),
        pytest.param(THREE, "timeout", None, 1, 0, 0, None, id="a timeout is not among the errors"),
        pytest.param(
            Retry(max_attempts=2, errors=frozenset({"timeout"})), "timeout", None, 1, 0, 0, 5.0, id="unless asked for"
        ),
        pytest.param(
            Retry(max_attempts=2, errors=frozenset({"any"})), "output", None, 1, 0, 0, None, id="wrong outputs never"
        ),
        pytest.param(
            Retry(max_attempts=2, exit_codes=frozenset({75})), "exit", 1, 1, 0, 0, None, id="another exit code"
        ),
        pytest.param(Retry(max_attempts=2, exit_codes=frozenset({75})), "exit", 75, 1, 0, 0, 5.0, id="that exit code"),
        pytest.param(Retry(max_attempts=9, expire_after=60), "exit", 1, 1, 56, 0, None, id="too late"),
    ],
)
def test_the_wait_before_the_next_attempt(retry, cause, code, attempt, elapsed, spin, wait):
    assert next_wait(retry, cause, code, attempt, elapsed, spin) == wait


def schedule(drawing, needs=None, workers=2, cpu=4.0, memory=None, past=None):
    plan = Lab(drawn(drawing)).plan()
    assert all(isinstance(d, Run) for d in plan.decisions.values())
    return Schedule(
        plan, {n: (needs or {}).get(n, Need()) for n in plan.decisions}, Capacity(workers, cpu, memory), "fail_fast",
        turns(plan, estimate(plan, past or {}, 2)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("drawing", "past", "order"),
    [
        pytest.param("a; b; c > d > e", {}, "a b c d e", id="what never ran: as in the file"),
        pytest.param("a; b; c", {"a": [1], "b": [9], "c": [2]}, "b c a", id="what took longest first"),
        pytest.param("a; b; c > d", {"a": [3], "b": [9], "c": [1], "d": [9]}, "c b d a", id="with what waits for it"),
        pytest.param("a; b; c", {"a": [1.37], "b": [1.38], "c": [1.4]}, "a b c", id="nearly the same: as in the file"),
        pytest.param("a; b", {"a": [0.1], "b": [0.4]}, "a b", id="all of it short: as in the file"),
        pytest.param("a; b; c", {"a": [1], "c": [9]}, "c b a", id="a new step is taken to last as long as the others"),
        pytest.param("a; b > d; c > d", {"a": [1], "d": [9]}, "b c d a", id="two that hold up the same"),
    ],
)
def test_of_steps_that_may_begin_the_one_with_the_longest_way_behind_it_does(drawing, past, order):
    it = schedule(drawing, workers=1, past=past)
    begun = []
    while not it.over:
        begun += it.begin(0)
        it.end(begun[-1], "succeeded")
    assert begun == order.split()


def test_where_there_is_room_for_all_they_begin_as_in_the_file():
    assert list(schedule("a; b; c", workers=3, past={"c": [9]}).begin(0)) == ["a", "b", "c"]


def test_a_run_is_estimated_as_it_is_done():
    plan = Lab(drawn("a; b; c; d")).plan()
    found = estimate(plan, {"a": [1.0], "b": [1.0], "c": [2.0], "d": [4.0]}, workers=2)
    assert (found.seconds, found.full_seconds) == (4.0, 4.0)  # d beside c, a and b; in the order of the file it takes 5


def test_no_more_begin_than_there_are_workers_and_of_alike_steps_those_first_in_the_file():
    it = schedule("a > d; b > d; c > d")
    assert list(it.begin(0)) == ["a", "b"]
    it.end("a", "succeeded")
    assert list(it.begin(0)) == ["c"]


def test_what_does_not_fit_lets_smaller_ones_pass():
    it = schedule("a; b; c", {"a": Need(3), "b": Need(3), "c": Need(1)}, workers=3)
    assert list(it.begin(0)) == ["a", "c"]
    it.end("a", "succeeded")
    assert list(it.begin(0)) == ["b"]


def test_what_is_too_large_for_the_totals_runs_alone():
    it = schedule("a; b", {"a": Need(1, 100), "b": Need(1, 10)}, memory=50)
    assert list(it.begin(0)) == ["a"]
    it.end("a", "succeeded")
    assert list(it.begin(0)) == ["b"]


def test_after_a_failure_nothing_begins_and_the_rest_says_why():
    it = schedule("a > c; b")
    assert list(it.begin(0)) == ["a", "b"]
    it.end("a", "failed")
    it.end("b", "succeeded")
    assert [(name, closed.status, closed.by) for name, closed in it.closed()] == [("c", "upstream_failed", "a")]
    assert list(it.begin(0)) == []


def test_a_step_that_is_tried_again_waits_for_its_time():
    it = schedule("a")
    assert list(it.begin(0)) == ["a"]
    it.again("a", 10.0)
    assert (list(it.begin(9)), it.next_time(), it.over) == ([], 10.0, False)
    assert list(it.begin(10)) == ["a"]


def test_what_does_without_a_failed_step_has_not_failed_with_it_when_a_run_ends_early(project):
    project.pipeline("""
        steps:
          bad: {kind: shell, script: exit 1}
          maybe: {kind: shell, needs: [bad], on_failure: continue, script: echo 1 > o, outputs: {o: {type: file}}}
          sure: {kind: shell, env: {M: '$(coalesce(steps.maybe.outputs.o, "none"))'}, script: echo "$M"}
          after: {kind: shell, needs: [sure], script: echo}
    """)
    project.runner("apply", "p.yaml")
    assert project.statuses() == {"bad": "failed", "maybe": "upstream_failed", "sure": "not_run", "after": "not_run"}


def test_a_fan_out_that_cannot_start_after_a_tolerated_failure_does_not_end_the_run(project):
    project.pipeline("""
        params: {xs: {type: list, items: integer, default: []}}
        steps:
          sign: {kind: approval, message: all right?}
          bad: {kind: shell, on_failure: continue, script: exit 1, outputs: {o: {type: file}}}
          fan: {kind: shell, foreach: {over: {x: $(params.xs)}}, env: {A: $(steps.bad.outputs.o), X: $(each.x)}, script: echo}
    """)
    for values in ("[]", "[1, 2]"):
        answer = project.runner("apply", "p.yaml", "-p", f"xs={values}")
        statuses = project.statuses()
        assert (answer.code, statuses["sign"], statuses["fan"]) == (7, "waiting", "upstream_failed")


def test_a_step_whose_when_is_false_is_skipped_though_another_one_before_it_fails(project):
    project.pipeline("""
        failure_policy: finish_independent
        steps:
          make: {kind: shell, script: 'echo "{\\"n\\": 1}" > "$RUNNER_VALUES"', outputs: {n: {type: integer}}}
          bad: {kind: shell, needs: [make], script: exit 1}
          guarded: {kind: shell, needs: [bad], when: $(steps.make.outputs.n > 1), script: echo}
          sub: {kind: shell, needs: [bad], when: $(steps.make.outputs.n == 1), script: echo}
    """)
    for _ in range(2):  # the second time `make` is cached, and the plan knows
        assert project.runner("apply", "p.yaml").code == 1
        assert project.statuses() | {"make": ""} == {
            "make": "", "bad": "failed", "guarded": "skipped", "sub": "upstream_failed",
        }  # fmt: skip
