"""Decisions -> rows to show: the items of a fan-out are one row; JSON has them one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..decide import Decision, Reuse
from ..frozen import frozen
from ..plan import Plan

ORDER = ("run", "reuse", "cached", "skip", "cut", "unneeded")
NAMED = 4  # items that a row names


@frozen
class Row:
    """One line of a plan: a step with its decision, or a fan-out with how many of its items have which."""

    decision: str
    name: str
    one: Decision | None = None  # of a single step
    text: str = ""  # of a fan-out


def rows(plan: Plan) -> Iterator[Row]:
    """Yield the rows of a plan, in the order of its steps; an item that needs a decision has a row of its own."""
    steps = plan.pipeline.steps
    fans: dict[str, list[Decision]] = {}
    for name, decision in plan.decisions.items():
        within = steps[name].within
        if within:
            fans.setdefault(within[0][0], []).append(decision)
            if isinstance(decision, Reuse) and not decision.verdict.sound:
                yield Row(decision.name, name, decision)
        elif name in fans and isinstance(decision, Reuse) and not any(d.name in ("run", "reuse") for d in fans[name]):
            yield Row(decision.name, name, decision)
        elif name in fans:
            yield _fan(plan, name, fans[name], decision)
        elif steps[name].kind == "foreach" and not steps[name].items:
            yield Row(decision.name, name, text="0 items")
        else:
            yield Row(decision.name, name, decision)


def _fan(plan: Plan, name: str, parts: Sequence[Decision], join: Decision) -> Row:
    steps = plan.pipeline.steps
    items = steps[name].items
    real = [d for d in parts if not steps[d.step].joins]
    counts = {word: [d for d in real if d.name == word] for word in ORDER}
    present = {word: found for word, found in counts.items() if found}
    size = f"{len(items)} {'item' if len(items) == 1 else 'items'}"
    if len(real) != len(items):
        size += f" of {len(real)} steps"
    shown = ", ".join(f"{len(found)} {word}" for word, found in present.items())
    text = f"{size}: {shown}"
    word = next(iter(present), join.name)
    if len(present) > 1:
        names = [d.step.removeprefix(name) for d in present[word]]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        text += f"   ({word}: {' '.join(names[:NAMED])}{more})"
    reasons = list(dict.fromkeys(r for d in present.get("run", ()) for r in d.reasons))
    if reasons:
        text += f"   {'; '.join(reasons[:3])}" + ("; ..." if len(reasons) > 3 else "")
    may = list(dict.fromkeys(m for d in present.get("run", ()) for m in d.may))
    if may:
        text += f"   may end {' or '.join(may)}"
    doubtful = [d for d in real if isinstance(d, Reuse) and not d.verdict.sound]
    if isinstance(join, Reuse) and not join.verdict.sound:
        text += f"   {join.verdict.word.upper()}  {'; '.join(map(str, join.verdict.causes))}"
    elif doubtful:
        text += f"   {len(doubtful)} of them {'needs' if len(doubtful) == 1 else 'need'} a decision"
    return Row(word, name, text=text)
