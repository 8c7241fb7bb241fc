"""The property, over seeds. The slow lane has 3,000; TRUTH_SEEDS=A:B gives others.

What fails says how to see it by hand: `python -m tests.truth SEED --shrink` writes a script.
"""

import os

import pytest

from .cases import case, isolated, warm_up

FIRST, LAST = map(int, os.environ.get("TRUTH_SEEDS", "0:3000").split(":"))


@pytest.fixture(scope="module", autouse=True)
def loaded():
    warm_up()


def told(seeds):
    """Return a line for each thing that does not hold."""
    return [
        f"python -m tests.truth {seed} --shrink: {found['property']} {found['where']}: {found['what']}"
        for seed in seeds
        for found in isolated(case(seed))[:-1]
    ]


@pytest.mark.parametrize("first", range(0, 100, 5))
def test_what_is_selected_is_what_a_full_run_makes_or_the_plan_says_otherwise(first):
    assert told(range(first, first + 5)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(FIRST, LAST, 50))
def test_so_it_is_for_many(first):
    assert told(range(first, min(first + 50, LAST))) == []


def test_a_case_is_that_of_its_seed():
    assert case(17) == case(17)
