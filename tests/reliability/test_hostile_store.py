"""Garbage in any file of a store is reported as damage, or passed over where it is a cache: no traceback, no waiting."""

import shutil

import pytest

from tests.reliability import kit
from tests.reliability.hostile import COMMANDS, GARBAGE, asked, build, files, first_of

NAMES = tuple(files(str, dict.fromkeys("PWQ", "")))
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile") / "pristine"
    return root, build(root)


def wrong(pristine, work, name, garbage, commands):
    """Ask each command of a store with garbage in one place; return what is no answer."""
    root, runs = pristine
    found = []
    for command in commands:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(root, work, symlinks=True)
        GARBAGE[garbage](work / ".runner" / files(first_of(root / ".runner"), runs)[name])
        code, text = kit.answered(work, *asked(command, runs))
        found += [(garbage, " ".join(command), code, text)] if code not in DOCUMENTED or "Traceback" in text else []
    return found


def some(number: int, of: int, count: int) -> list[tuple[str, list[list[str]]]]:
    """Every `of`th kind of garbage with `count` commands, others for each: `number` is that of the file."""
    kinds = list(GARBAGE)[number % of :: of]
    return [
        (g, [COMMANDS[(number * 7 + i * 5 + n * 11) % len(COMMANDS)] for n in range(count)])
        for i, g in enumerate(kinds)
    ]


@pytest.mark.reliability("G02")
@pytest.mark.parametrize("name", NAMES)
def test_garbage_in_a_file_of_the_store_ends_no_command_in_a_traceback(pristine, tmp_path, name):
    cases = some(NAMES.index(name), 16, 2)
    assert [w for garbage, commands in cases for w in wrong(pristine, tmp_path / "p", name, garbage, commands)] == []


@pytest.mark.slow
@pytest.mark.reliability("G02")
@pytest.mark.parametrize("name", NAMES)
def test_each_kind_of_garbage_in_each_file_ends_no_command_in_a_traceback(pristine, tmp_path, name):
    cases = some(NAMES.index(name), 1, 4)
    assert [w for garbage, commands in cases for w in wrong(pristine, tmp_path / "p", name, garbage, commands)] == []
