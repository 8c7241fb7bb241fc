"""A store in memory, for tests: the same promises but the last."""

from __future__ import annotations

import getpass
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import Moved, ReferenceRunError, StoreDamaged
from ..record import Event, RunEnded, RunRecord, StepEnded, fold
from . import Damage, RunSummary


class MemoryStore:
    """Runs in a list, artifacts in a dict."""

    def __init__(self) -> None:
        self.journals: dict[str, list[Event]] = {}
        self.open: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.messages: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
        self.plans: dict[str, str] = {}  # digest -> run
        self.versions: list[Mapping[str, Any]] = []  # of models
        self.claims: dict[str, str] = {}  # fingerprint -> run
        self.checkout = ""

    def begin(self, plan: str = "") -> tuple[str, MemoryLedger]:
        if plan and self.plans.setdefault(plan, f"r{len(self.journals) + 1}") in self.journals:
            raise Moved(f"this plan was applied already: run {self.plans[plan]}")
        id = f"r{len(self.journals) + 1}"
        self.journals[id] = []
        self.open.add(id)
        return id, MemoryLedger(self, id)

    def resume(self, run: str) -> MemoryLedger:
        if run in self.open:
            raise Moved(f"run {run} is under way in another process")
        self.open.add(run)
        return MemoryLedger(self, run)

    def register(self, version: Mapping[str, Any]) -> int:
        group = [v for v in self.versions if v["group"] == version["group"]]
        for number, known in enumerate(group, 1):
            if (known["run"], known["step"]) == (version["run"], version["step"]):
                return number
        self.versions.append(version)
        return len(group) + 1

    def put(self, content: bytes) -> str:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.objects[digest] = content
        return digest

    def resolve(self, text: str) -> str:
        found = [id for id in self.journals if id.endswith(text)]
        if len(found) != 1 and text not in found:
            raise ReferenceRunError(
                f"{text} may be any of the runs {', '.join(found)}" if found else f"there is no run {text}"
            )
        return text if text in found else found[0]

    def run(self, id: str) -> RunRecord | None:
        return fold(self.journals.get(id, []), id in self.open)

    def finished(self, pipeline: str) -> Iterator[RunRecord]:
        for id in reversed(self.journals):
            record = self.run(id)
            if record and record.finished and record.started.pipeline == pipeline:
                yield record

    def post(self, run: str, name: str, message: Mapping[str, Any]) -> None:
        dropped = {**message, "by": getpass.getuser(), "at": time.time()}
        self.messages.setdefault(run, []).append((name, dropped))

    def posted(self, run: str) -> list[tuple[str, Mapping[str, Any]]]:
        return list(self.messages.get(run, []))

    def same_request(self, digest: str) -> Iterator[str]:
        for id in reversed(self.journals):
            record = self.run(id)
            if record and record.started.request_digest == digest and record.ended and record.ended.exit_code == 0:
                yield id

    def success(self, fingerprint: str) -> StepEnded | None:
        return next(self.successes(fingerprint), None)

    def successes(self, fingerprint: str) -> Iterator[StepEnded]:
        for events in reversed(self.journals.values()):
            for event in reversed(events):
                if (
                    isinstance(event, StepEnded)
                    and event.status == "succeeded"
                    and event.fingerprint == fingerprint
                    and event.is_result
                    and not self.elsewhere(event)
                ):
                    yield event

    def newest(self, pipeline: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for id in self.journals:
            record = self.run(id)
            if record and record.started.pipeline == pipeline:
                found |= {name: id for name, ended in record.steps.items() if ended.is_result}
        return found

    def elsewhere(self, ended: StepEnded) -> str:
        return ended.elsewhere(self.checkout, private=False)

    def durations(self, pipeline: str, rows: int) -> dict[str, list[float]]:
        out: dict[str, list[float]] = {}
        for id in reversed(self.journals):
            record = self.run(id)
            for ended in (
                reversed(list(record.steps.values())) if record and record.started.pipeline == pipeline else ()
            ):
                if ended.is_result:
                    out.setdefault(ended.step, []).append(ended.seconds)
        return out

    def keep(self, path: str, digest: str) -> None:
        """The project of a store in memory has no files."""

    def runs(self, pipeline: str | None = None, limit: int | None = None) -> list[RunSummary]:
        out = []
        for id in reversed(self.journals):
            record = self.run(id)
            if record and pipeline in (None, record.started.pipeline):
                start, end = record.started, record.ended or RunEnded(status="")
                out.append(
                    RunSummary(
                        id,
                        start.pipeline,
                        start.title,
                        record.status,
                        start.at,
                        end.seconds,
                        end.exit_code,
                        start.path,
                        "",
                        start.trial,
                        start.reference,
                        start.labels,
                    )
                )
        return out[:limit]

    def places(self) -> tuple[str, str]:
        return "", ""

    def object(self, digest: str, kind: str) -> str:
        return digest

    def learn(self, marks: Mapping[str, list[int]]) -> None:
        pass

    def mark(self, digest: str) -> list[int] | None:
        return None

    def read(self, digest: str) -> bytes:
        if digest not in self.objects:
            raise StoreDamaged(f"the stored file {digest} is not there")
        return self.objects[digest]

    def damaged(self, artifacts: Iterable[tuple[str, str]], whole: bool) -> list[Damage]:
        return [Damage(digest, "is missing") for digest, _ in artifacts if digest not in self.objects]

    def quarantine(self, digest: str) -> None:
        self.objects.pop(digest, None)


class MemoryLedger:
    def __init__(self, store: MemoryStore, id: str) -> None:
        self.store, self.id = store, id
        self.seen = 0  # messages that were returned
        self.full = ""
        self.number = list(store.journals).index(id) + 1

    def append(self, events: Sequence[Event]) -> None:
        self.store.journals[self.id] += events

    def conclude(self, events: Sequence[Event]) -> None:
        self.append(events)

    def log(self, step: str, attempt: int) -> str:
        return ""

    def inbox(self) -> list[tuple[str, Mapping[str, Any]]]:
        found = self.store.messages.get(self.id, [])[self.seen :]
        self.seen += len(found)
        return found

    def scratch(self, step: str, attempt: int) -> str:
        return ""

    def claim(self, fingerprint: str) -> bool:
        return self.store.claims.setdefault(fingerprint, self.id) == self.id

    def claimant(self, fingerprint: str) -> str:
        return self.store.claims.get(fingerprint, "")

    def release(self, fingerprint: str) -> None:
        del self.store.claims[fingerprint]

    def close(self) -> None:
        self.store.claims = {f: run for f, run in self.store.claims.items() if run != self.id}
        self.store.open.discard(self.id)
