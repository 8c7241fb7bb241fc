"""The frozen values that a pipeline and a run request are, and what the compiler may ask of the project's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from posixpath import normpath
from typing import Any, Protocol

from .errors import Diagnostic
from .expression import Template, Type
from .frozen import frozen
from .language import PROCESS_KINDS

WAITS = ("approval", "callback")  # kinds that need no process, but somebody outside

Tree = Any  # a literal, a Template, a ProjectPath, or a list or mapping of these


class Files(Protocol):
    """What the compiler may ask of the project's files. A location is a path from the project root, or absolute."""

    def locate(self, path: str, base: str) -> str:
        """Return the location of `path` as written in a file of folder `base`; raise ValueError if not allowed."""

    def kind(self, location: str) -> str | None:
        """Return file, dir or None."""

    def read(self, location: str) -> bytes:
        """Return the bytes of a file: of an inner pipeline."""

    def expand(self, pattern: str, base: str) -> list[str]:
        """Return the locations of the files that a `code` entry names, sorted; raise ValueError if not allowed."""


@frozen
class ProjectPath:
    """A file or directory that is named by its place."""

    location: str
    kind: str


@frozen
class Param:
    name: str
    type: Type
    default: Any = None
    required: bool = True
    description: str = ""
    rules: Mapping[str, Any] = field(default_factory=dict)
    deprecated: bool = False


@frozen
class Output:
    name: str
    type: Type
    path: str = ""  # of a file or dir, relative to the output directory
    source: str = ""  # the file output that holds the value (`from`); empty = the values file
    pointer: str = ""
    metric: bool = False
    optional: bool = False

    @property
    def is_artifact(self) -> bool:
        return self.type.name in ("file", "dir")


@frozen
class Retry:
    max_attempts: int = 1
    errors: frozenset[str] = frozenset({"exit", "signal", "oom", "lost"})
    exit_codes: frozenset[int] = frozenset()
    interval: float = 5.0
    backoff: float = 2.0
    max_interval: float = 300.0
    jitter: float = 0.1
    expire_after: float | None = None


@frozen
class CachePolicy:
    enabled: bool = True
    expire_after: float | None = None
    key: tuple[Tree, ...] = ()
    ignore: frozenset[str] = frozenset()


@frozen
class Secret:
    """Where a secret is; its value is read when a run starts, and kept nowhere."""

    name: str
    env: str = ""
    file: str = ""  # as written: absolute, or relative to the pipeline
    version: str = ""


@frozen
class Runtime:
    """Where steps run."""

    name: str
    kind: str = "host"  # host, venv or container
    file: str = ""  # location of the requirements or lock file
    python: str = ""
    path: str = ""  # of an environment that is there already
    image: str = ""
    engine: str = ""
    inherit_env: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()


@frozen
class Branch:
    """The place of a step behind a condition."""

    condition: str
    outcome: bool


@frozen
class Fan:
    """`foreach`: what the items of a step are made of."""

    key: str  # what `each` refers to: the step's name where it was written
    over: Mapping[str, Tree]  # axis -> a list, or a template that gives one
    include: tuple[Mapping[str, Any], ...] = ()
    exclude: tuple[Mapping[str, Any], ...] = ()
    max_parallel: int | None = None
    fail_fast: bool = True
    max_items: int = 1000
    best: tuple[str, str] | None = None  # output, min or max
    reads: frozenset[str] = frozenset()  # steps that the axes are computed from
    params: frozenset[str] = frozenset()  # parameters that they are computed from
    body: Mapping[str, Step] = field(default_factory=dict)  # of a `pipeline` step: all of it, for each item


@frozen
class Step:
    name: str
    kind: str
    own: Mapping[str, Tree] = field(default_factory=dict)  # the kind's own fields
    description: str = ""
    tags: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    when: Template | bool = True
    trigger: str = "all_succeeded"
    on_failure: str = "fail"
    timeout: Tree = None
    grace_period: float = 10.0
    retry: Retry = Retry()
    inputs: Mapping[str, Tree] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    code: tuple[str, ...] = ()  # locations of files
    env: Mapping[str, Tree] = field(default_factory=dict)
    cpu: Tree = 1
    memory: Tree = None
    cache: CachePolicy = CachePolicy()
    workdir: str = "attempt"
    isolation: str = "none"
    network: bool = True
    success_codes: tuple[int, ...] = (0,)
    branch: Branch | None = None
    reads: frozenset[str] = frozenset()  # steps whose outputs are read
    unguarded: frozenset[str] = frozenset()  # those of `reads` that must have succeeded
    params: frozenset[str] = frozenset()  # parameters in its fingerprint
    gate_params: frozenset[str] = frozenset()  # parameters that only decide whether or how long it runs
    runtime: Runtime | None = None  # None: this machine, as it is
    base: str = ""  # location of the folder of the pipeline that it was written in
    files: tuple[ProjectPath, ...] = ()  # project files that it names, apart from its code
    foreach: Fan | None = None  # of a fan-out whose items are not known yet, and of one that joins its items
    # Of an item: axis -> value, a Produced for an artifact; of the step that joins them: axis -> all values.
    each: Mapping[str, Any] = field(default_factory=dict)
    axis_reads: tuple[Any, ...] = ()  # of an item with computed axes: the Reads that they were made of
    within: tuple[tuple[str, str], ...] = ()  # (fan-out, item) that it is or is part of, outermost first
    items: tuple[str, ...] = ()  # of a `foreach` step: its items, in order
    computed: bool = (
        False  # whether something in it is more than a reference or a text, and may have no value, or a wrong one
    )

    @property
    def before(self) -> frozenset[str]:
        """Its direct predecessors: data, order and gate."""
        if not self.needs and not self.branch:
            return self.reads
        return self.reads | frozenset(self.needs) | (frozenset({self.branch.condition}) if self.branch else frozenset())

    @property
    def has_process(self) -> bool:
        return self.kind in PROCESS_KINDS and not self.deferred

    @property
    def deferred(self) -> bool:
        """Whether it stands for items that are known only once other steps have ended."""
        return self.foreach is not None and self.kind != "foreach"

    @property
    def of(self) -> str:
        """The fan-out that it is an item of, or nothing."""
        return self.within[-1][0] if self.within and self.within[-1][1] == self.name else ""

    @property
    def joins(self) -> bool:
        """Whether it only brings together what other steps left: the items of a fan-out, an inner pipeline."""
        return self.kind in ("foreach", "pipeline") and not self.deferred


@frozen
class Pipeline:
    name: str
    path: str  # location of its file
    base: str  # location of its folder
    digest: str  # of its definition
    params: Mapping[str, Param]
    steps: Mapping[str, Step]
    finals: Mapping[str, Step] = field(default_factory=dict)  # of `finally`: after all others, whatever their end
    outputs: Mapping[str, Template] = field(default_factory=dict)
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    failure_policy: str = "fail_fast"
    timeout: float | None = None
    max_parallel: int | None = None
    warnings: tuple[Diagnostic, ...] = ()
    files: tuple[str, ...] = ()  # locations of the inner pipelines' files
    output_types: Mapping[str, Type] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)

    def every_step(self) -> Iterator[Step]:
        """Yield all steps, those of `finally` and those that a fan-out repeats, too."""
        todo = [*self.steps.values(), *self.finals.values()]
        while todo:
            step = todo.pop()
            yield step
            todo += step.foreach.body.values() if step.foreach else ()

    def step(self, name: str) -> Step:
        """Return a step or one of `finally`; their names are distinct."""
        return self.steps[name] if name in self.steps else self.finals[name]


@frozen
class Accepted:
    step: str
    reason: str
    cause: str


@frozen
class Expect:
    status: str | None = None
    run: frozenset[str] | None = None
    steps: Mapping[str, str] = field(default_factory=dict)


@frozen
class Latest:
    """What the newest usable run must be to become the reference run."""

    status: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)  # param -> value, or `same`
    max_age: float | None = None  # seconds


@frozen
class RunRequest:
    """What the user asks of one run: which pipeline, with what, how much of it, against which earlier run."""

    pipeline: str  # location of the pipeline's file
    path: str = ""  # of the request itself; empty for `apply PIPELINE.yaml` and `retry`
    base: str = ""  # folder that paths in `params` start from
    name: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)  # as written
    inherit: str = "reference"
    reset: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None  # None means every step
    exclude: tuple[str, ...] = ()
    islands: bool = False
    reference: str | None = None  # None: `latest` if the selection leaves something out
    latest: Latest | None = None
    mode: str | None = None  # None: full with `select`, else incremental
    force: tuple[str, ...] = ()
    assume: Mapping[str, bool] = field(default_factory=dict)
    accept: tuple[Accepted, ...] = ()
    expect: Expect | None = None
    failure_policy: str | None = None
    timeout: float | None = None
    workers: int | None = None
    cpu: float | None = None
    memory: int | None = None
    group: str = ""
    conflict: str = "queue"

    @property
    def effective_mode(self) -> str:
        """The mode asked for, or the one that goes with what is selected."""
        return self.mode or ("full" if self.select is not None else "incremental")

    @property
    def trial(self) -> bool:
        """A run that `latest` never chooses."""
        return bool(self.assume) or (self.expect is not None and self.expect.status not in (None, "succeeded"))


def relative(location: str, base: str) -> str:
    """Return a location of the project as seen from the folder `base` of it."""
    here = [p for p in base.split("/") if p not in ("", ".")]
    there = location.split("/")
    common = 0
    while common < min(len(here), len(there) - 1) and here[common] == there[common]:
        common += 1
    return "/".join([".."] * (len(here) - common) + there[common:])


def parents(path: str) -> Iterator[str]:
    """Yield the directories above a normal relative path, the nearest first, without the last, `.`."""
    while end := path.rfind("/") + 1:
        path = path[: end - 1]
        yield path


def overlapping(path: str, staged: Iterable[str]) -> str:
    """Return which staged path equals, contains or lies in `path`; both are relative to the working directory."""
    return overlaps(staged)(path)


def overlaps(staged: Iterable[str]) -> Callable[[str], str]:
    """Return `overlapping` for many paths against the same staged ones."""
    exact = {normpath(other): other for other in staged}
    above = {parent: other for path, other in exact.items() for parent in parents(path)}

    def meets(path: str) -> str:
        own = normpath(path)
        return next((exact[place] for place in (own, *parents(own)) if place in exact), "") or above.get(own, "")

    return meets
