"""What a reviewer does with a plan: reads it with its estimate, keeps it as a file, checks it, accepts a cause, compares
reference runs."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import planfile, reading
from .app import Asked, open_store, plan, pool_size, read
from .decide import Kept, Reuse
from .errors import Diagnostic, EnvironmentFailure, Invalid, Moved, RunnerError, UsageError
from .estimate import Estimate, estimate
from .estimate import to_json as estimate_json
from .frozen import frozen
from .pipeline import Accepted
from .plan import Plan, to_json
from .planfile import stanza
from .project import Project, confine, content_of
from .reference import Candidate
from .settings import Settings
from .store.local import LocalStore

_LARGEST_PLAN = 128 << 20


@frozen
class Planned:
    """A plan with what is shown beside it."""

    plan: Plan
    estimate: Estimate
    candidates: tuple[Candidate, ...] = ()


def planned(asked: Asked, store: LocalStore, workers: int | None, references: bool) -> Planned:
    """Return the plan of a request, how long it takes, and, with `references`, how other runs would serve."""
    made = plan(asked, store)
    found = tuple(candidates(asked, store, workers)) if references else ()
    return Planned(made, estimated(made, store, asked.project.settings(), workers), found)


def estimated(made: Plan, store: LocalStore, settings: Settings, workers: int | None) -> Estimate:
    """Return how long a plan takes, by what its steps took before."""
    past = store.durations(made.pipeline.name, 8 * len(made.pipeline.steps))
    return estimate(made, past, pool_size(made, settings, workers))


def candidates(asked: Asked, store: LocalStore, workers: int | None) -> list[Candidate]:
    """Return all finished runs as reference runs of a request, the best first."""
    found = []
    for record in store.finished(asked.pipeline.name):
        one = Candidate(record.id, record.status, record.started.at, "it is a trial" if record.started.trial else "")
        try:
            made = plan(replace(asked, request=replace(asked.request, reference=record.id, latest=None)), store)
        except Invalid as error:
            found.append(replace(one, why_not="; ".join(d.text for d in error.diagnostics)))
            continue
        unsound = sum(1 for d in made.decisions.values() if isinstance(d, Reuse) and not d.verdict.sound)
        more = estimated(made, store, asked.project.settings(), workers).remedies
        found.append(replace(one, unsound=unsound, redo=max(more.values(), default=0.0)))
    return sorted(found, key=lambda c: c.rank)


def names_any(asked: Asked, path: str, changed: set[str]) -> bool:
    """Whether a request, its pipeline or a file named there is among the changed ones.

    A file that is gone may have been code by a pattern: below the pipeline's folder, or an inner one's, it counts.
    """
    pipeline, project = asked.pipeline, asked.project
    places = {pipeline.path, *pipeline.files}
    for step in pipeline.every_step():
        places |= {*step.code, *(file.location for file in step.files)}
    for name, param in pipeline.params.items():
        value, base = asked.request.params.get(name, param.default), pipeline.base
        if param.type.name in ("file", "dir") and isinstance(value, str):
            base = asked.request.base if name in asked.request.params else base
            places.add(value if value.startswith("/") else os.path.normpath(os.path.join(base, value)))
    files = {os.path.realpath(path), *(os.path.realpath(project.path(place)) for place in places)}
    bases = {pipeline.base, *(step.base for step in pipeline.every_step())}
    folders = tuple(os.path.realpath(project.path(base)) + "/" for base in bases)
    return any(
        place in files
        or any(place.startswith(f"{file}/") for file in files)
        or (place.startswith(folders) and not os.path.lexists(place))
        for place in changed
    )


def concerns(path: str, error: RunnerError, changed: set[str]) -> bool:
    """Whether what is wrong with a request that cannot be planned may come from a changed file."""
    if os.path.realpath(path) in changed:
        return True
    try:
        head = reading.content(path, 1 << 20)
    except (OSError, ValueError):
        return False
    named = re.search(rb"^[ \t]*pipeline[ \t]*:[ \t]*[\"']?([^\s\"'#]+)", head, re.M)
    if named and os.path.realpath(os.path.join(os.path.dirname(path), os.fsdecode(named[1]))) in changed:
        return True
    return any(os.path.basename(place) in str(error) for place in changed)


def plan_file(made: Planned) -> str:
    """Return a plan as the text of a plan file."""
    return planfile.written({**to_json(made.plan), "estimate": estimate_json(made.estimate)})


def write_plan(path: str, made: Planned, store: LocalStore) -> None:
    """Write a plan file; the store notes which runs it stands on, so that they stay while it is open."""
    write(path, plan_file(made))
    reference, decisions = made.plan.reference, made.plan.decisions.values()
    runs = {reference.record.id} if reference else set()
    from .store import garbage  # only for who writes a plan file

    garbage.note_plan(store, made.plan.digest, runs | {d.past.produced_by for d in decisions if isinstance(d, Kept)})


def write(path: str, text: str) -> None:
    """Write a file: afterwards it is what it was, or all of this."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        if os.path.exists(path):
            os.chmod(partial, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise EnvironmentFailure(f"{path} cannot be written: {error.strerror}") from error


def is_plan(path: str) -> bool:
    """Whether a file is meant as a plan: JSON that is no pipeline or run in JSON form."""
    try:
        head = reading.content(path, 4095)
    except (OSError, ValueError):
        return False
    return (path.endswith(".json") or b'"format_version"' in head) and b'"apiVersion"' not in head


def refuse_plan(file: str) -> None:
    """Raise UsageError for a file that is a plan, where a request is needed."""
    if is_plan(file):
        raise UsageError(f"{file} is a plan, not a request", help="`runner plan --check` it, or `runner apply` it")


def load_plan(path: str) -> dict[str, Any]:
    """Return what a plan file holds; raises Invalid for one that is not what was written."""
    confine(path, path)
    raw = content_of(path, path, _LARGEST_PLAN)
    if len(raw) > _LARGEST_PLAN:
        raise Invalid([Diagnostic(path, 0, 0, "E407", f"it is larger than {_LARGEST_PLAN >> 20} MiB", planfile.ANEW)])
    try:
        value = planfile.read(raw.decode("utf-8"), path)
    except UnicodeDecodeError:
        raise Invalid([Diagnostic(path, 0, 0, "E407", "it is not a plan: it is not UTF-8", planfile.ANEW)]) from None
    import jsonschema_rs

    from .planschema import plan_schema

    if not jsonschema_rs.validator_for(plan_schema()).is_valid(value):
        raise Invalid([Diagnostic(path, 0, 0, "E407", "it has not the form of a plan", planfile.ANEW)])
    return value


def check(path: str, store: str | None) -> Plan:
    """Return the plan of a file that still holds and was not applied; else raise Moved with what moved."""
    value = load_plan(path)
    opened = open_store_of(path, value, store, create=False)
    opened.refuse_applied(value["digest"])
    with opened.in_use():
        return planned_again(value, path, opened)[1]


def planned_again(planned: Mapping[str, Any], path: str, store: LocalStore) -> tuple[Asked, Plan]:
    """Return today's plan of a plan file's request, if it is that plan; raises Moved with the list of what is not."""
    try:
        asked = read_planned(planned, path, store.path)
        made = plan(asked, store)
    except Invalid as error:
        raise Moved(f"{path} does not hold any more:\n{error}", help=planfile.ANEW) from None
    if made.digest != planned["digest"]:
        lines = planfile.moved(planned, to_json(made))
        listed = "".join(f"\n  {line}" for line in lines[:20]) + (
            f"\n  and {len(lines) - 20} more" if len(lines) > 20 else ""
        )
        raise Moved(f"{path} does not hold any more; what moved:{listed}", help=planfile.ANEW)
    return asked, made


def read_planned(planned: Mapping[str, Any], path: str, store: str | None = None) -> Asked:
    """Return the request of a plan file."""
    request, project = planned["request"], _project_of(planned, path)
    asked = read(os.path.relpath(project.path(_wanted(planned))), None, store)
    if request["path"]:
        return asked
    return replace(asked, request=replace(asked.request, base=request["base"], params=request["params"]))


def _wanted(planned: Mapping[str, Any]) -> str:
    return str(planned["request"]["path"] or planned["pipeline"]["path"])


def _project_of(planned: Mapping[str, Any], path: str) -> Project:
    """Return the project of the current folder, or else of the plan file, that has what was planned."""
    wanted = _wanted(planned)
    projects = [Project.of(os.path.join(os.getcwd(), "x")), Project.of(os.path.abspath(path))]
    project = next((p for p in projects if os.path.lexists(p.path(wanted))), None)
    if project is not None:
        project.refuse_outside(wanted, os.path.relpath(project.path(wanted)))
    else:
        raise Moved(
            f"{path} does not hold here: there is no {wanted} in {projects[0].root}",
            help="apply it in the project that it was planned in",
        )
    return project


def open_store_of(path: str, planned: Mapping[str, Any], given: str | None, create: bool) -> LocalStore:
    """Return the store that a plan file is applied to or checked against."""
    project = _project_of(planned, path)
    return open_store(project, project.settings(), given, create)


def accept(asked: Asked, store: LocalStore, steps: Sequence[str], reason: str, path: str | None) -> str:
    """Return the stanza that accepts what the plan finds on `steps`; with `path`, write it into that run file."""
    if path is not None and asked.document is None:
        raise UsageError(
            f"{path} is a pipeline; `accept` belongs into a run file", help="write a run file that names it"
        )
    made = plan(asked, store)
    causes: dict[str, list[str]] = {}
    for step, cause in (pair for finding in made.findings for pair in finding.causes):
        causes.setdefault(step, []).append(cause)
    for step in steps:
        if step not in causes:
            listed = f"findings are on: {', '.join(causes)}" if causes else "the plan needs no decision"
            raise UsageError(f"the plan has no finding on {step} to accept", help=listed)
    accepted = [Accepted(step, reason, cause[:9]) for step in steps for cause in causes[step]]
    if path is not None:
        _amend(asked, path, accepted)
    return stanza(accepted)


def _amend(asked: Asked, path: str, accepted: Sequence[Accepted]) -> None:
    """Write `accept` into a run file, if what it then says is what it said and that."""
    real = os.path.realpath(path)
    with open(real, encoding="utf-8", newline="") as file:
        text = file.read()
    from . import amend  # brings a second YAML loader with it
    from . import document as documents
    from .language import check_document
    from .request import compile_request

    refusal = UsageError(
        f"{path} has a form that cannot be edited in place", help="paste the stanza: run this without -w"
    )
    new = amend.amend(text, accepted)
    try:
        changed = documents.parse(new.encode(), path)
        check_document(changed)
        request = compile_request(changed, asked.project, asked.project.location(path))
    except Invalid:
        raise refusal from None
    names = {a.step for a in accepted}
    rest = tuple(a for a in asked.request.accept if a.step not in names)
    if replace(request, accept=()) != replace(asked.request, accept=()) or {*request.accept} != {*rest, *accepted}:
        raise refusal
    write(real, new)
