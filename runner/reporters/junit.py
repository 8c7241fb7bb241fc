"""How each step ended, as JUnit XML: what CI systems list as tests."""

from __future__ import annotations

import contextlib
import os
import re
from xml.etree import ElementTree as xml

from ..errors import EnvironmentFailure
from ..plan import Plan
from ..record import Event, RunEnded, RunWaiting, StepEnded

_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


class Junit:
    """Collects the steps of a run and writes the file when the run has ended, however it ends."""

    def __init__(self, path: str, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self.steps: list[StepEnded] = []
        try:
            with open(path, "w", encoding="utf-8"):
                pass  # a place that cannot be written is told before anything runs
        except OSError as error:
            raise EnvironmentFailure(f"{path} cannot be written: {error.strerror}") from error

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepEnded):
            self.steps.append(event)
        if isinstance(event, RunEnded):
            self._write(event.seconds)
        if isinstance(event, RunWaiting):  # what is known by now, until `runner resume` writes it anew
            self._write(0.0)

    def _write(self, seconds: float) -> None:
        ends = {step.step: step for step in self.steps}
        suite = xml.Element("testsuite", name=self.plan.pipeline.name, time=f"{seconds:.3f}")
        counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        planned = {n: d.name for n, d in self.plan.decisions.items() if not self.plan.pipeline.steps[n].joins}
        found = {n: "run" for n in ends if n not in self.plan.decisions and n not in self.plan.pipeline.finals}
        for name, decision in (planned | found).items():
            if decision in ("cut", "unneeded"):
                continue
            counts["tests"] += 1
            step = ends.get(name)
            case = xml.SubElement(
                suite,
                "testcase",
                classname=self.plan.pipeline.name,
                name=name,
                time=f"{step.seconds if step else 0:.3f}",
            )
            kind = _kind(step)
            if kind:
                counts[{"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]] += 1
                inner = xml.SubElement(case, kind, message=_clean(step.reason if step else "it never ran"))
                inner.text = _clean(step.tail) if step and kind != "skipped" else ""
        suite.attrib.update({key: str(value) for key, value in counts.items()})
        content = xml.tostring(suite, encoding="utf-8", xml_declaration=True)
        partial = f"{self.path}.{os.getpid()}.partial"
        try:
            with open(partial, "wb") as file:
                file.write(content + b"\n")
            os.replace(partial, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)


def _kind(step: StepEnded | None) -> str:
    if step is None or step.status in ("not_run", "upstream_failed", "skipped"):
        return "skipped"
    if step.status in ("stopped", "interrupted"):
        return "error"
    return "failure" if step.status == "failed" else ""


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
