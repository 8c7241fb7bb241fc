"""What a Python step says that it imports, or had to, its parent has imported: numpy and its like, and nothing else changes."""

import pytest

pytest.importorskip("numpy")

WORK = """
import sys
EARLY = "numpy" in sys.modules
import numpy, numpy.random
def draw():
    return {"early": EARLY, "number": float(numpy.random.rand()), "real": hasattr(numpy, "ndarray")}
"""
# Nobody sees beforehand that it will.
LATE = """
import sys
EARLY = "numpy" in sys.modules
def draw():
    import numpy, numpy.random
    return {"early": EARLY, "number": float(numpy.random.rand()), "real": hasattr(numpy, "ndarray")}
"""
STEP = "{kind: python, function: 'work:draw', code: [work.py%s], outputs: {early: {type: boolean}, number: {type: number}, real: {type: boolean}}%s}"


def outputs(project, *steps):
    """Run these steps one after another in one worker; return what each gave."""
    names = [chr(ord("a") + n) for n in range(len(steps))]
    chained = [
        f"{n}: {s[:-1]}{f', needs: [{names[i - 1]}]' if i else ''}}}"
        for i, (n, s) in enumerate(zip(names, steps, strict=True))
    ]
    project.pipeline("steps:\n" + "".join(f"  {line}\n" for line in chained))
    project.request("mode: full\nconcurrency: {workers: 1}\n")
    answer = project.runner("apply", "run.yaml")
    assert answer.code == 0, answer.out
    found = project.record()["steps"]
    return [{o: v["value"] for o, v in found[name]["outputs"].items()} for name in names]


@pytest.mark.parametrize(("work", "early"), [pytest.param(WORK, True, id="named"), pytest.param(LATE, False, id="not")])
def test_a_library_that_a_step_names_or_imported_is_there_for_the_next_which_draws_numbers_of_its_own(
    project, work, early
):
    project.write(work_py=work)
    first, second, third = outputs(project, *[STEP % ("", "")] * 3)
    assert [step["early"] for step in (first, second, third)] == [early, True, True]
    assert len({step["number"] for step in (first, second, third)}) == 3


def test_a_step_that_sets_what_the_library_reads_imports_it_itself(project):
    project.write(work_py=WORK)
    first, second = outputs(project, STEP % ("", ""), STEP % ("", ", env: {OPENBLAS_VERBOSE: 1}"))
    assert (first["early"], second["early"]) == (True, False)


def test_nothing_of_a_step_s_modules_is_left_in_its_directory(project):
    project.write(work_py="import os\ndef draw():\n    return {'seen': os.listdir('.')}\n")
    project.pipeline("""
        steps:
          a: {kind: python, function: "work:draw", code: [work.py], outputs: {seen: {type: list}}}
    """)
    assert project.runner("apply", "p.yaml").code == 0
    assert project.record()["steps"]["a"]["outputs"]["seen"]["value"] == ["work.py"]


def test_a_module_of_the_project_goes_before_a_library_that_is_there(project):
    project.write(work_py=WORK)
    (project.root / "numpy").mkdir()
    (project.root / "numpy/__init__.py").write_text("from . import random\n")
    (project.root / "numpy/random.py").write_text("def rand(): return 0.5\n")
    first, second = outputs(project, STEP % ("", ""), STEP % (", numpy", ""))
    assert [step["real"] for step in (first, second)] == [True, False]
