"""What a store holds, and what garbage collection takes, as text and as JSON."""

from __future__ import annotations

from typing import Any

from ..store.garbage import Garbage
from ..store.usage import Usage
from .text import table


def garbage_text(found: Garbage, dry: bool) -> str:
    """Return what went, or would go: the figures of a dry run are those of the real one."""
    out = [["remove", f"run {r.id}", r.started.pipeline, r.status] for r in found.runs]
    out += [["remove", f"run {id}", "", "it never began"] for id in found.never_began]
    out += [["keep", f"run {id}", "", why] for id, why in found.kept.items()]
    lines = table(out) if out else []
    runs, objects, left = len(found.runs) + len(found.never_began), len(found.files), len(found.leftovers)
    counts = f"{runs} runs, {objects} stored files, {left} leftovers of attempts: {size_text(found.bytes)}"
    return "\n".join([*lines, f"would be removed: {counts}" if dry else f"removed: {counts}"])


def garbage_json(found: Garbage, dry: bool) -> dict[str, Any]:
    return {
        "dry_run": dry, "runs": [r.id for r in found.runs], "never_began": list(found.never_began), "kept": dict(found.kept),
        "files": sorted(found.files), "leftovers": list(found.leftovers), "bytes": found.bytes,
    }  # fmt: skip


def usage_text(found: Usage) -> str:
    """Return the sizes of the parts, and each thing in quarantine."""
    if not found.parts:
        return f"there is no store at {found.path}"
    rows = [[name, f"{count} files", size_text(size)] for name, (count, size) in found.parts.items() if count]
    rows.append(["total", f"{found.total[0]} files", size_text(found.total[1])])
    rows += [[f"quarantine/{name}", "", size_text(size)] for name, size in found.quarantine.items()]
    return "\n".join(table(rows))


def usage_json(found: Usage) -> dict[str, Any]:
    parts = {name: {"files": count, "bytes": size} for name, (count, size) in found.parts.items()}
    return {"path": found.path, "parts": parts, "bytes": found.total[1], "quarantine": dict(found.quarantine)}


def size_text(size: int) -> str:
    """Return bytes as a person reads them, with the exact number where that is short."""
    if size < 10_000:
        return f"{size} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        size_in = size / 1024 ** (("KiB", "MiB", "GiB").index(unit) + 1)
        if size_in < 1024:
            break
    return f"{size_in:.1f} {unit}"
