"""The whole program, in the order in which it happens. Start reading here.

A request file (or a pipeline file) becomes a Document, then typed values, a graph, a selection and a plan; the
engine runs the plan, and each event goes to the reporters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import engine, sealing, unable
from .case import Case, Today
from .causes import Cause, changed_steps
from .decide import Cut, Decision, Kept, Reuse, Run, Skip
from .document import Document, Keys
from .errors import (
    MANY,
    Diagnostic,
    EnvironmentFailure,
    Invalid,
    Moved,
    ReferenceRunError,
    SelectionError,
    StoreDamaged,
    UsageError,
)
from .executors.redact import SHORTEST
from .expand import Known, deferred, expand
from .expression import EvaluationError, Template
from .fingerprint import Before, artifacts
from .force import forced, looks_up
from .frozen import frozen
from .graph import Graph, graph_of
from .params import parse_value, resolve_params, widen
from .pipeline import Pipeline, RunRequest, Runtime, Secret, Step
from .plan import CodeChange, Plan, make_plan, unchanged
from .project import Project, below, confine, content_of, tree_digest
from .record import Event, RunEnded, RunRecord, RunStopping, RunWaiting, StepEnded
from .reference import Reference, View, choose, facts_of
from .request import request_of_json
from .select import SelectorError, selection_of, touched, with_joins, written_as
from .settings import Settings
from .store import Store, rights
from .store.local import LocalStore
from .values import alike, canonical

if TYPE_CHECKING:
    from .environments import Venv
    from .estimate import Estimate

Reporter = Callable[[Event], None]
_LONGEST_PATH = 4000  # of a store: a system takes about 4096 bytes, and names of its own follow


@frozen
class Asked:
    """A request with all that it names: the value that planning starts from."""

    project: Project
    pipeline: Pipeline
    graph: Graph
    request: RunRequest
    document: Document | None  # of the request, if it is a file
    fresh: tuple[str, Pipeline] | None = None  # path and pipeline as compiled just now, to be kept

    def written(self) -> Document:
        """Return the document of the pipeline, to point into."""
        return _document(self.project.path(self.pipeline.path), relative_pipeline(self))


def read(path: str, overrides: Mapping[str, str] | None = None, store: str | None = None) -> Asked:
    """Return what a run file or a pipeline file asks for; raises Invalid with every mistake of a stage.

    `store` is the --store given, where large pipelines are kept as compiled.
    """
    confine(path, path)
    project = Project.of(path)
    if found := _kept(project, path, store):
        return _whole(project, found, overrides)
    from .compiler import compile_pipeline
    from .language import check_document

    document = _document(path, path)
    check_document(document)
    if document.value["kind"] == "Run":
        return _request(document, path, overrides, store)
    pipeline = compile_pipeline(document, project, project.location(path))
    return replace(_whole(project, pipeline, overrides), fresh=(path, pipeline))


def _document(path: str, shown: str) -> Document:
    """Read a run or pipeline file of a project."""
    from . import document as documents

    return documents.parse(content_of(path, shown), shown)


def _request(document: Document, path: str, overrides: Mapping[str, str] | None, store: str | None) -> Asked:
    """Return what a run file asks for."""
    from .request import compile_request

    project = Project.of(path, os.path.join(os.path.dirname(path), document.value["pipeline"].replace("\0", "")))
    if overrides:
        raise UsageError(
            "-p goes with a pipeline file only; a run file is the whole request",
            help="write the parameter into `params` of the run file",
        )
    request = compile_request(document, project, project.location(path))
    shown = os.path.normpath(os.path.join(os.path.dirname(path), document.value["pipeline"]))
    pipeline, fresh = _pipeline(project, request.pipeline, shown, store)
    return replace(_asked(project, pipeline, request, document), fresh=(shown, pipeline) if fresh else None)


def _whole(project: Project, pipeline: Pipeline, overrides: Mapping[str, str] | None) -> Asked:
    """Return the request for a whole pipeline."""
    params = _overrides(pipeline, overrides or {})
    request = RunRequest(pipeline=pipeline.path, base=project.location(os.getcwd()), params=params)
    return _asked(project, pipeline, request, None)


def _asked(project: Project, pipeline: Pipeline, request: RunRequest, document: Document | None) -> Asked:
    """Return a request whose pipeline has the items of all axes that are written out."""
    spread = expand(pipeline)
    return Asked(project, spread, graph_of(spread.steps, request.assume), request, document)


def _pipeline(project: Project, location: str, shown: str, store: str | None = None) -> tuple[Pipeline, bool]:
    """Return a pipeline, and whether it was compiled just now."""
    project.refuse_outside(location, shown)
    if found := _kept(project, shown, store):
        return found, False
    from .compiler import compile_pipeline
    from .language import check_document

    document = _document(project.path(location), shown)
    check_document(document, "Pipeline")
    return compile_pipeline(document, project, location), True


def _kept(project: Project, path: str, store: str | None) -> Pipeline | None:
    """Return a pipeline as it was compiled before, if it may still be used."""
    folder = _cache(store_path(project, project.settings(), store))
    if not os.path.isdir(folder):
        return None
    from . import compiled

    return compiled.kept(folder, path, project.location(path), project)


def _keep(asked: Asked, store: LocalStore) -> None:
    if asked.fresh is not None and store.exists:
        from . import compiled

        shown, pipeline = asked.fresh
        compiled.keep(_cache(store.path), shown, pipeline.path, asked.project, pipeline)


def _cache(store: str) -> str:
    return f"{store}/compiled"


def _overrides(pipeline: Pipeline, given: Mapping[str, str]) -> dict[str, Any]:
    """Return `-p name=text` by the declared types; unknown names are told with all other mistakes later."""
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in pipeline.params:
            values[name] = text
            continue
        try:
            values[name] = parse_value(pipeline.params[name], text)
        except ValueError as error:
            raise UsageError(f"-p {name}: {error}") from None
    return values


def retry_request(project: Project, store: LocalStore, id: str) -> tuple[Asked, list[str]]:
    """Return the request that runs again what did not succeed in a run, and the steps that it selects."""
    record = store.recorded(id)
    if not record.finished:
        raise ReferenceRunError(f"run {id} is {record.status}", help="wait until it has ended")
    pipeline, _ = _pipeline(project, record.started.path, os.path.relpath(project.path(record.started.path)))
    request = RunRequest(pipeline=pipeline.path, base=pipeline.base, select=(), islands=True, reference=id, mode="full")
    asked = _asked(project, pipeline, request, None)
    pipeline, graph = _views(asked, store, {}, record.succeeded)(record)
    ends = record.statuses
    # Items that had no time to begin are not in the record; their fan-out is.
    ends |= {n: ends[of] for n, s in pipeline.steps.items() if n not in ends for of, _ in s.within[:1] if of in ends}
    for name, end in ends.items():
        if end == "failed" and (step := pipeline.steps.get(name)) and step.kind == "fail":
            gate = step.branch.condition if step.branch else name
            raise SelectionError(
                f"run {id} was ended by its fail step {name}; running it again would end the same",
                help=f"select {gate} with other params",
            )
    open_steps = {
        n
        for n, end in ends.items()
        if end in ("failed", "stopped", "interrupted", "not_run", "upstream_failed") and n in pipeline.steps
    }
    own = {n for n in ends if record.started.decisions.get(n, "run") in ("run", "cached", "skip")}
    chosen = graph.sorted((open_steps | (graph.descendants(open_steps) & own)) & set(pipeline.steps))
    chosen = with_joins(written_as(chosen, pipeline, graph), chosen, pipeline, graph)
    return replace(asked, request=replace(request, select=tuple(chosen))), chosen


def relative_pipeline(asked: Asked) -> str:
    """Return the path of the pipeline's file from the current folder."""
    return os.path.relpath(asked.project.path(asked.pipeline.path))


def check_request(asked: Asked, whole: bool = True) -> None:
    """Check what can be checked of a request without a store: its params, those that must be set only if it is `whole`."""
    given = replace(asked.request, inherit="defaults")
    if whole and (
        asked.request.reference == "none" or (asked.request.select is None and asked.request.reference is None)
    ):
        resolve_params(asked.pipeline, given, asked.document, asked.project, None, asked.written)
    else:  # what is not set may come from the reference run
        known = {name: param.default for name, param in asked.pipeline.params.items() if param.required}
        optional = replace(
            asked.pipeline,
            params={
                n: p
                for n, p in asked.pipeline.params.items()
                if n in given.params or n in given.reset or n not in known
            },
        )
        resolve_params(optional, given, asked.document, asked.project, None, asked.written)


def check_names(asked: Asked) -> None:
    """Raise Invalid with all names in a request that its pipeline does not have; a plan finds the first of them."""
    from . import named

    if asked.document is not None and (wrong := named.mistakes(asked.document, asked.pipeline, asked.graph)):
        raise Invalid(wrong)


def plan(asked: Asked, store: LocalStore) -> Plan:
    """Return the plan of a request. Executes nothing, imports nothing of the project, opens no connection."""
    try:
        made = _plan(asked, store)
        refuse_unable(made, asked, store)
        made = replace(made, notes=(*made.notes, *_ends_failed(made), *sealing.notes(starting(made))))
        _keep(asked, store)
        if not store.exists and (os.environ.get("CI") or os.environ.get("RUNNER_STORE")):
            made = replace(made, notes=(*made.notes, "there is no store here, so this plan knows of no earlier run"))
        return made
    except SelectorError as error:
        at = (error.field, error.index)
        raise Invalid([_diagnostic(asked, error.code, error.text, at, error.help, error.offset)]) from None
    except EvaluationError as error:  # of an axis: all others are decisions
        raise Invalid([_diagnostic(asked, "E209", str(error), ("params",), error.help)]) from None
    except ReferenceRunError as error:
        named = asked.document is not None and "reference" in asked.document.value
        field = "reference" if named else "select"
        raise Invalid([_diagnostic(asked, "E405", error.text, (field,), error.help)]) from None
    except SelectionError as error:
        raise Invalid([_diagnostic(asked, "E406", error.text, error.field, error.help)]) from None


def _ends_failed(made: Plan) -> Iterator[str]:
    """Yield a note for each `fail` step that nothing can skip."""
    for name, decision in made.decisions.items():
        if isinstance(decision, Run) and not decision.may and made.pipeline.steps[name].kind == "fail":
            yield f"this run will end failed at {name}"


def refuse_unable(made: Plan, asked: Asked, store: LocalStore) -> None:
    """Raise Invalid with all that is known to be unable to start or to end."""

    def made_with(program: str) -> bool:
        query = "SELECT 1 FROM successes WHERE instr(detail, ?) LIMIT 1"
        return store.exists and bool(store.rows(query, (canonical(program),)))

    if wrong := unable.mistakes(made, asked.project, asked.written, asked.document, made_with):
        raise Invalid(wrong, cut=len(wrong) >= MANY)


def _plan(asked: Asked, store: LocalStore) -> Plan:
    if asked.request.reference not in (None, "latest", "none"):
        asked = replace(asked, request=replace(asked.request, reference=store.resolve(str(asked.request.reference))))
    known: dict[str, Before] = {}
    while True:
        made = _plan_knowing(asked, store, known)
        # Planning may have found out what the axes of a fan-out are computed from: its items can be planned, too.
        more = {
            name: decision.past.before()
            for step in deferred(made.pipeline)
            if step.foreach and all(isinstance(made.decisions[n], Kept) for n in step.foreach.reads)
            for name in step.foreach.reads
            if isinstance(decision := made.decisions[name], Kept)
        }
        if more.keys() <= known.keys():
            return made
        known |= more


def _views(asked: Asked, store: LocalStore, known: Mapping[str, Before], usable: Container[str] | None) -> View:
    """Return how the pipeline looks with the items that a reference run, and what planning knows, give it.

    `usable` are the steps whose results in that run count; None: those that the request does not select.
    """
    found: dict[str, tuple[Pipeline, Graph]] = {}

    def view(record: RunRecord | None) -> tuple[Pipeline, Graph]:
        if not any(True for _ in deferred(asked.pipeline)):
            return asked.pipeline, asked.graph
        key = record.id if record else ""
        if key not in found:
            found[key] = look(record)
        return found[key]

    def left(record: RunRecord, graph: Graph, name: str) -> StepEnded | None:
        """Return what a step left in a run or, where that only reused what was made of it, in the run that made that."""
        if name in record.steps:
            return record.steps[name] if record.steps[name].usable else None
        for reader in graph.sorted(graph.descendants({name})):
            made = record.steps[reader].produced_by if reader in record.steps else ""
            if made and made != record.id and (origin := store.run(made)):
                return left(origin, graph, name)
        return None

    def differing(record: RunRecord, kind: str, pipeline: Pipeline) -> set[str]:
        """Return the steps that differ now; that takes all parameters, not only those of axes."""
        params, _ = resolve_params(
            asked.pipeline, asked.request, asked.document, asked.project, record.started.params, asked.written
        )
        world = asked.project.world(pipeline, params, store.digest, store.read)
        return changed_steps(record, kind, Today(pipeline, params, world, store))

    def look(record: RunRecord | None) -> tuple[Pipeline, Graph]:
        pipeline, request = asked.pipeline, asked.request
        optional = replace(pipeline, params={n: p for n, p in pipeline.params.items() if n in _axis_params(pipeline)})
        given = replace(
            request,
            params={n: v for n, v in request.params.items() if n in optional.params},
            reset=tuple(n for n in request.reset if n in optional.params),
        )
        params, _ = resolve_params(
            optional, given, asked.document, asked.project, record.started.params if record else None, asked.written
        )
        world = asked.project.world(pipeline, params, store.digest, store.read)
        before = dict(known)
        spread = expand(pipeline, Known(pipeline, params, before, world))
        while record is not None:
            # One layer at a time: what is selected of a fan-out shows only once its items are there.
            graph = graph_of(spread.steps, request.assume)
            facts = facts_of(record, spread, lambda r, kind, spread=spread: differing(r, kind, spread))  # type: ignore[misc]
            chosen = set() if usable is not None else touched(request.select, request.exclude, spread, graph, facts)
            more = {
                n: ended.before()
                for step in deferred(spread) if step.foreach for n in step.foreach.reads
                if n not in chosen and n not in before and not spread.steps[n].deferred and (ended := left(record, graph, n))
            }  # fmt: skip
            if not more:
                break
            before |= more
            spread = expand(spread, Known(spread, params, before, world))
        return spread, asked.graph if spread is asked.pipeline else graph_of(spread.steps, request.assume)

    return view


def _axis_params(pipeline: Pipeline) -> set[str]:
    """Return the parameters that axes may be computed from."""
    return {name for step in pipeline.every_step() if step.foreach for name in step.foreach.params}


def _plan_knowing(asked: Asked, store: LocalStore, known: Mapping[str, Before]) -> Plan:
    request = asked.request
    view = _views(asked, store, known, None)

    def values(record: RunRecord | None) -> tuple[dict[str, Any], dict[str, str]]:
        inherited = record.started.params if record else None
        return resolve_params(asked.pipeline, request, asked.document, asked.project, inherited, asked.written)

    def changed(record: RunRecord, kind: str) -> set[str]:
        pipeline, _ = view(record)
        params, _ = values(record)
        world = asked.project.world(pipeline, params, store.digest, store.read)
        return changed_steps(record, kind, Today(pipeline, params, world, store))

    def same(record: RunRecord, name: str) -> bool:
        value, _ = values(record)
        had = record.started.params.get(name)
        if not alike(value[name], had):
            return False
        if asked.pipeline.params[name].type.name not in ("file", "dir"):
            return True
        path = asked.project.path(str(had))
        today = tree_digest(path, store.digest) if os.path.isdir(path) else store.digest(path)
        return all(
            step.params[name].get("digest") == today
            for step in record.steps.values()
            if isinstance(step.params.get(name), dict)
        )

    now = time.time()
    selection, reference = choose(request, view, store, changed, same, now)
    pipeline, graph = view(reference.record if reference else None)
    params, sources = values(reference.record if reference else None)
    world = asked.project.world(pipeline, params, store.digest, store.read)
    today = Today(pipeline, params, world, store)
    made = make_plan(Case(today, graph, request, sources, selection, reference, now))
    return (
        replace(made, code_changes=code_changes(made, asked.project, store))
        if made.findings or request.accept
        else made
    )


def _diagnostic(asked: Asked, code: str, text: str, at: Keys, help: str, offset: int = 0) -> Diagnostic:
    if asked.document is None:
        return Diagnostic(asked.pipeline.path, 0, 0, code, text, help)
    value = asked.document.value.get(str(at[0]))
    if value is None:
        return asked.document.diagnostic(code, text, ("pipeline",), key=True, help=help)
    # A one-key mapping (`tag: train`) has no place inside its text.
    inside = len(at) > 1 and isinstance(value, list) and isinstance(value[int(at[1])], str)
    return asked.document.diagnostic(
        code, text, at, key=len(at) == 1 and isinstance(value, list | dict), offset=offset if inside else 0, help=help
    )


def pool_size(made: Plan, settings: Settings, workers: int | None) -> int:
    """Return how many steps may run at once."""
    return workers or made.request.workers or settings.workers or len(os.sched_getaffinity(0))


def code_changes(made: Plan, project: Project, store: LocalStore) -> tuple[CodeChange, ...]:
    """Return the changed lines of the code of reused steps, where the store has what ran."""
    wanted: dict[tuple[str, str, str], str] = {}  # with the folder that the name starts from

    def collect(step: str, causes: Iterable[Cause]) -> None:
        for cause in causes:
            if cause.kind == "code" and cause.then.startswith("sha256:") and cause.now.startswith("sha256:"):
                wanted[cause.name, cause.then, cause.now] = made.pipeline.steps[step].base
            collect(cause.name if cause.kind == "upstream" else step, cause.causes)

    for decision in made.decisions.values():
        if isinstance(decision, Reuse):
            collect(decision.step, decision.verdict.causes)
    out = []
    for (name, then, now), base in list(wanted.items())[:20]:
        try:
            old = store.read(then).decode("utf-8", "replace")
            with open(project.path(os.path.normpath(os.path.join(base, name))), "rb") as file:
                new = file.read().decode("utf-8", "replace")
        except (OSError, StoreDamaged):
            continue
        import difflib  # only where code has changed

        lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm=""))[2:]
        cut = [*lines[:40], f"... and {len(lines) - 40} more lines"] if len(lines) > 40 else lines
        out.append(CodeChange(name, then, now, tuple(line[:200] for line in cut)))
    return tuple(out)


def starting(made: Plan, ended: Container[str] = ()) -> Iterator[Step]:
    """Yield the steps that a plan may start, those that a fan-out will repeat and those of `finally`, too."""
    steps = [made.pipeline.steps[name] for name in made.runs if name not in ended]
    for step in steps:
        yield from step.foreach.body.values() if step.foreach and step.foreach.body else (step,)
    yield from made.pipeline.finals.values()


def venv_of(project: Project, store: LocalStore, runtime: Runtime) -> Venv:
    """Return the environment of a runtime of kind `venv`."""
    from . import environments  # starts processes: only for who has such a runtime

    if runtime.path:
        return environments.Venv(runtime.name, "", "", project.path(runtime.path))
    path = project.path(runtime.file)
    return environments.Venv(runtime.name, path, store.digest(path), runtime.python)


def interpreters(
    steps: Iterable[Step], project: Project, store: LocalStore, tell: Callable[[str], None]
) -> dict[Runtime, str]:
    """Make the environments that steps run in; return the interpreter of each."""
    wanted = dict.fromkeys(s.runtime for s in steps if s.runtime and s.runtime.kind == "venv")
    if not wanted:
        return {}
    from . import environments

    folder = f"{store.path}/environments"
    return {r: environments.prepare(venv_of(project, store, r), folder, tell) for r in wanted if r}


def secrets(made: Plan, steps: Iterable[Step], project: Project) -> dict[str, str]:
    """Return the values of the secrets that steps are told; raises EnvironmentFailure for one that is not there."""
    names = dict.fromkeys(
        ref.path[1]
        for step in steps for tree in step.env.values() if isinstance(tree, Template)
        for ref in tree.refs() if ref.path[0] == "secrets"
    )  # fmt: skip
    found, wrong = {}, []
    for name in names:
        try:
            found[name] = _secret(made.pipeline.secrets[name], project)
        except ValueError as error:
            wrong.append(f"secret `{name}`: {error}")
    if wrong:
        raise EnvironmentFailure("; ".join(wrong), code="E301", help="nothing was started")
    return found


def _secret(secret: Secret, project: Project) -> str:
    if secret.env:
        if secret.env not in os.environ:
            raise ValueError(f"environment variable `{secret.env}` is not set")
        value = os.environ[secret.env]
    else:
        try:
            with open(project.path(secret.file), "rb") as file:
                value = file.read(1 << 20).decode("utf-8", "surrogateescape").removesuffix("\n")
        except OSError as error:
            raise ValueError(f"{secret.file} cannot be read: {error.strerror}") from None
    if len(value.strip().encode("utf-8", "surrogateescape")) < SHORTEST:
        raise ValueError(f"its value is shorter than {SHORTEST} bytes, too short to be masked in logs")
    if "\0" in value:
        raise ValueError("its value holds a NUL character")
    return value


def _has_module(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def _runtime_lacks(runtime: Runtime, project: Project, store: LocalStore) -> str:
    if runtime.kind == "venv":
        from . import environments

        return environments.lacks(venv_of(project, store, runtime))
    if engine.container_engine(runtime):
        return ""
    return f"there is no {runtime.engine or 'docker or podman'} to run the container of runtime {runtime.name}"


def lacks(
    made: Plan,
    project: Project,
    store: LocalStore,
    workers_memory: int,
    ended: Container[str] = (),
    attempt: bool = False,
) -> list[tuple[str, str]]:
    """Return each step that would run and what this machine lacks for it: a program or memory (W310).

    With `attempt`, what only an attempt can tell is tried.
    """
    found = []
    programs: dict[tuple[str, str], str] = {}  # of each that was looked for: what is wrong with it
    for step in starting(made, ended):
        name = step.name
        if step.isolation == "bwrap" and (why := sealing.bubblewrap_lacks(attempt)):
            found.append((name, why))
        if step.runtime and step.runtime.kind != "host":
            if missing := _runtime_lacks(step.runtime, project, store):
                found.append((name, missing))
            continue
        if step.kind == "notebook" and not _has_module("papermill"):
            found.append((name, "there is no papermill; install the extra `notebook` of the runner"))
        program = step.own.get("command", step.own.get("shell", [None]))[0]
        if isinstance(program, str) and "PATH" not in step.env:
            key = (program, step.name if "/" in program else "")
            if key not in programs:
                programs[key] = unable.missing(program, step, made, project)
            if programs[key]:
                found.append((name, programs[key]))
        try:
            needed = engine.memory_of(step, made)
        except (EvaluationError, ValueError) as error:
            found.append((name, f"what it asks for of memory has no value: {error}"))
            continue
        if needed > workers_memory:
            found.append((name, f"it asks for {needed >> 20} MiB of memory; there are {workers_memory >> 20}"))
    return found


def refuse_lacks(made: Plan, project: Project, store: LocalStore, ended: Container[str] = ()) -> None:
    """Raise EnvironmentFailure if a step that is sure to run cannot run on this machine."""
    lacking = lacks(made, project, store, machine_memory(made), ended, attempt=True)
    sure = [(n, what) for n, what in lacking if not _may_not_run(made, n)]
    if sure:
        raise EnvironmentFailure(
            "; ".join(f"step {name}: {what}" for name, what in sure), help="install it here, or run on another machine"
        )


def _may_not_run(made: Plan, name: str) -> bool:
    return name not in made.decisions or bool(made.decisions[name].may)


def machine_memory(made: Plan) -> int:
    """Return the bytes that the steps of a run may ask for."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(there, made.request.memory) if made.request.memory else there


def earlier(made: Plan, store: Store) -> str | None:
    """Return the run that has all that the plan would do, if the request is unchanged."""
    for run in store.same_request(made.request_digest):
        record = store.run(run)
        if record is None or any(store.elsewhere(ended) for ended in record.steps.values()):
            continue
        if unchanged(made, record):
            return run
    return None


def standing(asked: Asked, made: Plan, store: LocalStore, run: str) -> tuple[set[str], set[str], set[str]] | None:
    """Return what it stands on that a plan finds nothing to do: files of the project, of the store, and paths where nothing
    is. None where more than files decides: another run, the time, an environment, what others hold."""
    request, project, world = asked.request, asked.project, made.world
    kept = [
        d
        for d in made.decisions.values()
        if isinstance(d, Kept | Skip) or (isinstance(d, Run) and d.outcome is not None)
    ]
    if (
        request.reference not in (None, "none") or request.select is not None or request.group or world.runtimes
        or len(kept) < len(made.decisions) or made.notes or asked.pipeline.warnings
        or any(step.cache.expire_after is not None for step in made.pipeline.every_step())
    ):  # fmt: skip
        return None
    files, absent = project.asked_of()
    documents = [asked.pipeline.path, *asked.pipeline.files, *([asked.document.path] if asked.document else [])]
    files |= {project.path(place) for place in (*documents, *world.code)}
    for place in world.files:
        files |= set(below(project.path(place)))
    stored = {f"{store.path}/{name}" for name in ("format", "runs", f"runs/{run}/journal.jsonl")}
    for digest, kind in artifacts(o for d in kept if isinstance(d, Kept) for o in d.past.outputs.values()):
        stored.add(store.object(digest, kind))
        if kind == "dir":
            stored |= {store.object(e[2], "file") for e in store.entries(digest) if e[1] in ("file", "exec")}
    return files, stored, absent


def verified(asked: Asked, store: LocalStore, made: Plan, whole: bool, show: Callable[[Plan], None]) -> Plan:
    """Return the plan once all bytes that it stands on are as recorded; damage is put aside and planned around once."""
    try:
        engine.verify_kept(made, store, whole)
        return made
    except engine.DamagedResults as damage:
        rights.refuse_unwritable(store.path)
        for digest in damage.digests:
            store.quarantine(digest)
        if any(
            any(digest in damage.artifacts for digest, _ in artifacts(d.past.outputs.values()))
            for d in made.decisions.values()
            if isinstance(d, Reuse)
        ):
            raise
        store.forget(damage.artifacts)
        again = plan(asked, store)
        engine.verify_kept(again, store, whole)
        again.refuse_findings()
        show(again)
        return again


def apply(
    made: Plan,
    asked: Asked,
    store: LocalStore,
    settings: Settings,
    workers: int | None,
    stop: engine.Stop,
    wake: int | None,
    reporters: Iterable[Reporter],
    once: bool = False,
    estimate: Estimate | None = None,
    tell: Callable[[str], None] = print,
    waiting: RunRecord | None = None,
) -> int:
    """Run a plan and tell each event; return the exit code of the run. With `once` it is the plan of a file."""
    from .estimate import turns
    from .executors.local import LocalExecutor  # what only plans does without it

    processors = len(os.sched_getaffinity(0))
    size = pool_size(made, settings, workers)
    steps = list(starting(made, ended_before(made, waiting, stop)))
    place = os.path.abspath(store.path)
    sealed = any(sealing.seal_of(step) == "landlock" for step in steps)
    executor = LocalExecutor(size, wake, (asked.project.root, place) if sealed else ())
    code = 1
    try:
        executor.prepare(sum(step.has_process for step in steps[:size]))  # they start while the run is entered
        told = secrets(made, steps, asked.project)
        workshop = engine.Workshop(
            interpreters=interpreters(steps, asked.project, store, tell),
            secrets=told,
            root=asked.project.root,
            store=place,
            workers=size,
            cpu=made.request.cpu or max(processors, size),
            memory=made.request.memory,
            log_limit=settings.log_limit,
            stop=stop,
            once=once,
            estimate=estimate.seconds if estimate else 0.0,
            ranks=turns(made, estimate) if estimate else {},
        )
        for event in engine.execute(made, store, executor, workshop, waiting):
            for report in reporters:
                report(event)
            if isinstance(event, RunEnded | RunWaiting):
                code = event.exit_code
    finally:
        executor.close()
    asked_before = stop.asked
    store.leftovers.finish(tell, lambda: stop.asked > asked_before)
    return code


def ended_before(made: Plan, waiting: RunRecord | None, stop: engine.Stop) -> Container[str]:
    """Return the steps that will not start: those that have ended, or all but `finally` in a run that is to stop."""
    return made.pipeline.steps if stop.asked else waiting.steps if waiting else ()


def waiting_plan(project: Project, store: LocalStore, record: RunRecord) -> tuple[Asked, Plan]:
    """Return the plan of a run that waits, with what it knows by now; raises Moved if anything it stands on has changed.

    It is not planned anew: what has been decided stays, and what has not begun is still to run.
    """
    started = record.started
    pipeline, _ = _pipeline(project, started.path, os.path.relpath(project.path(started.path)))
    moved = "select its steps in a new run, with this one as `reference`"
    if pipeline.digest != started.definition:
        raise Moved(f"{started.path} has changed since run {record.id} began to wait", help=moved)
    for ended in record.steps.values():
        if place := store.elsewhere(ended):
            raise Moved(
                f"step {ended.step} of run {record.id} was made outside the sandbox, in {place}",
                help=f"resume the run there, or {moved}",
            )
    request = request_of_json(started.request)
    asked = _asked(project, pipeline, request, None)
    params = {name: widen(pipeline.params[name], value) for name, value in started.params.items()}
    world = project.world(asked.pipeline, params, store.digest, store.read)
    before = {name: ended.before() for name, ended in record.steps.items() if ended.usable}
    spread = expand(asked.pipeline, Known(asked.pipeline, params, before, world))
    graph = graph_of(spread.steps, request.assume)
    chosen = {
        n for n, s in spread.steps.items()
        if started.decisions.get(n, started.decisions.get(s.within[0][0], "run") if s.within else "run") not in ("cut", "unneeded", "reuse")
    }  # fmt: skip
    reference = store.run(started.reference) if started.reference else None
    mode = request.effective_mode
    never_cached = forced(request, spread, graph, reference)
    decisions: dict[str, Decision] = {
        n: Run(step=n, lookup=looks_up(spread.steps[n], mode, never_cached)) if n in chosen else Cut(step=n)
        for n in graph.order
    }
    plan = Plan(
        spread, graph, request, params, started.sources, selection_of(chosen, graph), Reference(reference, "") if reference else None,
        mode, decisions, (), (), (), (), world, started.request_digest, started.plan_digest, forced=never_cached,
    )  # fmt: skip
    now = engine.files_of(plan)  # of all fan-outs, as if none had been spread
    # What only a fan-out without items names was not asked for when the run began, if that was known then.
    needed = engine.files_of(replace(plan, world=project.world(spread, params, store.digest, store.read)))
    changed = sorted(n for n in {*needed, *started.files} if now.get(n) != started.files.get(n))
    if changed:
        raise Moved(f"since run {record.id} began, this has changed: {', '.join(changed[:10])}", help=moved)
    return asked, plan


def end_waiting(store: LocalStore, record: RunRecord, by: str) -> None:
    """End a run that waits and has no process, nor anything to do at its end."""
    ledger = engine.take_up(record, store)
    try:
        why = f"stopped by {by}"
        now = round(time.time(), 3)
        open_steps = [n for n, status in record.statuses.items() if status in ("waiting", "pending")]
        ledger.append(
            [
                RunStopping(reason=by, at=now),
                *(StepEnded(step=n, status="stopped" if n in record.waiting else "not_run", reason=why, at=now) for n in open_steps),
                RunEnded(status="stopped", reason=why, exit_code=1, at=now, seconds=record.worked),
            ]
        )  # fmt: skip
    finally:
        ledger.close()


def open_store(project: Project, settings: Settings, given: str | None, create: bool) -> LocalStore:
    """Return the store: --store, else RUNNER_STORE, else runner.toml, else .runner of the project root."""
    return LocalStore(store_path(project, settings, given), create, project.root)


def store_path(project: Project, settings: Settings, given: str | None) -> str:
    """Return the path of the store."""
    path = (
        given
        or os.environ.get("RUNNER_STORE")
        or (os.path.join(project.root, settings.store) if settings.store else "")
        or f"{project.root}/.runner"
    )
    if len(path) > _LONGEST_PATH:
        raise UsageError(
            f"the path of the store has {len(path)} characters: {path[:60]}...", help="choose a shorter one"
        )
    return os.path.abspath(path)
