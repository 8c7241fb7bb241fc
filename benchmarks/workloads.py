"""The workloads, each described once: files, steps, edges, what a step does, and the bytes that it must leave.

A generator (`tools.py`) writes a workload for one tool; nothing else knows what a step is. The bytes that are demanded
follow from the description alone, never from what a tool made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .layers import sources

GIB = 1 << 30
SHOWN = 40  # bytes of each input that a step's output shows: what changes above is seen below, and nothing grows


@dataclass(frozen=True)
class Job:
    """One step. `kind` says what it does with its inputs: those of other steps, then those of the project."""

    name: str
    kind: str = "mix"  # mix (a shell), edit (a program without a shell), function, zeros, tail
    steps: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def script(self, inputs: Sequence[str], output: str) -> str:
        """Return the text for a shell; the paths are those of the tool that runs it, quoted as it needs."""
        match self.kind:
            case "mix" if inputs:
                return f"{{ echo {self.name}; head -qc {SHOWN} {' '.join(inputs)}; }} > {output}"
            case "mix":
                return f"echo {self.name} > {output}"
            case "zeros":
                return f"head -c {GIB} /dev/zero > {output}"
            case "tail":
                return f"tail -c 100 {inputs[0]} > {output}"
        raise AssertionError(f"{self.kind} needs no shell")

    def argv(self, inputs: Sequence[str], output: str) -> list[str]:
        """Return the program that a step without a shell is."""
        return ["sed", "-n", "-s", rf"1s/^\([^ ]* [^ ]* [^ ]*\).*/{self.name} \1/w {output}", *inputs]

    def output(self, inputs: Sequence[bytes]) -> bytes:
        """Return the bytes that the step must leave."""
        match self.kind:
            case "mix":
                return self.name.encode() + b"\n" + b"".join(content[:SHOWN] for content in inputs)
            case "edit":
                first = [content.split(b"\n")[0].split(b" ")[:3] for content in inputs]
                return b"".join(b" ".join([self.name.encode(), *words]) + b"\n" for words in first)
            case "function":
                n = int(self.name[1:])
                return b"%d\n" % (n * (n + 1) * (2 * n + 1) // 6)
            case "zeros":
                return bytes(GIB)
            case "tail":
                return bytes(100)
        raise AssertionError(self.kind)


@dataclass(frozen=True)
class Workload:
    """Steps in topological order, and the project's files."""

    name: str
    jobs: Mapping[str, Job]
    files: Mapping[str, str] = field(default_factory=dict)

    def changed(self, version: int) -> dict[str, str]:
        """Return what the file that changes holds then; 0 is how it begins."""
        return {"late.txt": f"one two {version} and more\n"} if version and "late.txt" in self.files else {}

    @cached_property
    def levels(self) -> list[list[Job]]:
        """The steps by how many are before them: those of one level may run at once."""
        depth: dict[str, int] = {}
        found: list[list[Job]] = []
        for job in self.jobs.values():
            depth[job.name] = level = 1 + max((depth[name] for name in job.steps), default=-1)
            if level == len(found):
                found.append([])
            found[level].append(job)
        return found

    @cached_property
    def last(self) -> list[str]:
        """The steps that no other reads."""
        read = {name for job in self.jobs.values() for name in job.steps}
        return [name for name in self.jobs if name not in read]

    @cached_property
    def _digests(self) -> dict[int, dict[str, str]]:
        return {}

    def digests(self, version: int = 0) -> dict[str, str]:
        """Return the sha256 that the output of every step must have, with that version of the file that changes."""
        if version not in self._digests:
            self._digests[version] = self._demanded(version)
        return self._digests[version]

    def _demanded(self, version: int) -> dict[str, str]:
        files = {name: text.encode() for name, text in {**self.files, **self.changed(version)}.items()}
        made: dict[str, bytes] = {}
        for job in self.jobs.values():
            made[job.name] = job.output([*(made[n] for n in job.steps), *(files[n] for n in job.files)])
        return {name: hashlib.sha256(content).hexdigest() for name, content in made.items()}


NUMPY = '''\
"""A function that needs numpy, for every tool the same."""

import numpy


def squares(n, path):
    with open(path, "w") as file:
        file.write(f"{int((numpy.arange(n + 1) ** 2).sum())}\\n")
'''


def jobs(*made: Job) -> dict[str, Job]:
    return {job.name: job for job in made}


def one() -> Workload:
    return Workload("one", jobs(Job("s0")))


def wide(count: int) -> Workload:
    """Steps that do not know of each other."""
    return Workload(f"wide-{count}", jobs(*(Job(f"s{i}") for i in range(count))))


def chain(count: int) -> Workload:
    return Workload(f"chain-{count}", jobs(*(Job(f"s{i}", steps=(f"s{i - 1}",) if i else ()) for i in range(count))))


def layered(layers: int, width: int = 50, kind: str = "mix") -> Workload:
    """Layers of steps that each read three of the layer before; the last but one also reads a file that may change."""
    made = []
    for name, inputs in sources(layers, width).items():
        late = name.startswith(f"s{layers - 2}-")
        first = kind == "edit" and not inputs
        made.append(Job(name, kind, tuple(inputs), ("late.txt",) * late + ("seed.txt",) * first))
    files = {"late.txt": "one two three\n", **({"seed.txt": "a b c\n"} if kind == "edit" else {})}
    return Workload(f"{kind}-{layers * width}", jobs(*made), files)


def functions(count: int) -> Workload:
    return Workload(f"functions-{count}", jobs(*(Job(f"f{i}", "function") for i in range(count))), {"work.py": NUMPY})


def gib() -> Workload:
    return Workload("gib", jobs(Job("big", "zeros"), Job("end", "tail", ("big",))))
