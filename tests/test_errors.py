"""docs/errors.md lists every diagnostic code of the program, and its examples print what the page says."""

import ast
import re
from pathlib import Path

import pytest

import runner
from tests import errors_page
from tests.error_examples import EXAMPLES

WRITTEN = errors_page.PAGE.read_text()
SECTIONS = errors_page.sections_of(WRITTEN)


def codes_in_the_source() -> set[str]:
    """Return each code that a string literal of the program contains."""
    paths = Path(runner.__file__).parent.rglob("*.py")
    texts = [
        node.value
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return set(re.findall(r"\b[EFW]\d{3}\b", "\n".join(texts)))


def test_the_table_has_each_code_of_the_source_and_no_other():
    assert sorted(EXAMPLES) == sorted(codes_in_the_source())


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_section_of_a_code_is_what_the_generator_writes(code, tmp_path):
    made = errors_page.section(code, tmp_path)
    assert errors_page.plain(SECTIONS[code], tmp_path) == errors_page.plain(made, tmp_path)


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_output_in_the_section_of_a_code_contains_the_code(code):
    output = re.search(r"(?ms)^```console\n(?:\$ [^\n]*\n)+(.*?)^```", SECTIONS[code])[1]
    assert re.search(rf"\b{code}\b", output)


def test_the_rest_of_the_page_is_what_the_generator_writes():
    assert errors_page.page(SECTIONS) == WRITTEN
