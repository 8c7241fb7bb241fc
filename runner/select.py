"""Selectors x Graph x facts of the reference run -> Selection: convex, in one piece, or refused with its repair."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

from .errors import nearest
from .frozen import frozen
from .graph import Graph
from .pipeline import Pipeline, Step

MOST_WORK = 2_000_000  # steps that the selectors of a field may look at, all terms together: about a second
_MOST_WARNINGS = 20
METHODS = ("kind", "tag", "status", "changed", "param")
STATUSES = ("failed", "stopped", "not_run", "succeeded", "skipped")
CHANGES = ("code", "params", "inputs", "env", "any")


class SelectorError(Exception):
    """A mistake `offset` characters into selector number `index` of a field of the request."""

    def __init__(self, code: str, text: str, help: str = "", *, offset: int = 0) -> None:
        super().__init__(text)
        self.code, self.text, self.help, self.offset = code, text, help, offset
        self.field, self.index = "select", 0


@frozen
class Facts:
    """What selectors may ask of the reference run; each raises SelectorError where there is none."""

    having_status: Callable[[str], set[str]]
    changed: Callable[[str], set[str]]


@frozen
class Selection:
    """The steps chosen, in topological order, and where they touch the rest."""

    written: tuple[str, ...]
    steps: tuple[str, ...]
    frontier: tuple[str, ...]  # direct predecessors outside
    closure: tuple[str, ...]  # frontier and all its ancestors outside
    pieces: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self._set

    @cached_property
    def _set(self) -> frozenset[str]:
        return frozenset(self.steps)


def uses_reference(selectors: Iterable[str], methods: Sequence[str] = ("status", "changed")) -> bool:
    """Whether a selector asks for facts of the reference run."""
    return any(
        token.kind == "method" and token.text.split(":")[0] in methods for s in selectors for token in _safe_tokens(s)
    )


def select(
    written: Sequence[str] | None,
    exclude: Sequence[str],
    islands: bool,
    pipeline: Pipeline,
    graph: Graph,
    facts: Facts,
) -> Selection:
    """Return the Selection; raises SelectorError for one that names nothing, has a hole or falls to pieces."""
    warnings: list[str] = []
    meanings = Meanings(pipeline, graph, facts)
    if written is None:
        chosen = set(pipeline.steps)
    else:
        chosen = set()
        seen: set[str] = set()
        for index, text in enumerate(written):
            found = meanings.of(text, "select", index)
            if text in seen or (found <= chosen and found and text in pipeline.steps):
                warnings.append(f"`{text}` is selected twice; it runs once")
            seen.add(text)
            chosen |= found
            if len(written) > 1 and re.match(r"not\b", text.strip()):
                warnings.append(f"`{text}` as an item of its own adds all other steps; `exclude` takes steps out")
    for index, text in enumerate(exclude):
        out = meanings.of(text, "exclude", index)
        if out.isdisjoint(chosen):
            error = SelectorError(
                "E402",
                f"`{text}` excludes nothing: none of it is selected",
                f"selected are: {_listed(graph.sorted(chosen))}",
            )
            error.field, error.index = "exclude", index
            raise error
        chosen -= out
    if not chosen:
        raise SelectorError("E402", "nothing is selected", "a run needs at least one step")
    chosen |= _joins_between(chosen, pipeline, graph)
    _refuse_holes(chosen, pipeline, graph, bool(exclude))
    free = islands or written is None or uses_reference(written)
    if not free and len(pieces := _together(graph.pieces(chosen), pipeline)) > 1:
        listed = "; ".join(_listed(piece) for piece in pieces[:4])
        raise SelectorError(
            "E404",
            f"the selection falls into {len(pieces)} unconnected pieces: {listed}",
            "add `islands: allow` if that is meant, or run them one by one",
        )
    shown = list(dict.fromkeys(warnings))
    more = [f"and {len(shown) - _MOST_WARNINGS} more warnings"] if len(shown) > _MOST_WARNINGS else []
    shown = [*shown[:_MOST_WARNINGS], *more]
    return selection_of(chosen, graph, ("all",) if written is None else tuple(written), tuple(shown))


def _joins_between(chosen: set[str], pipeline: Pipeline, graph: Graph) -> set[str]:
    """Return the joining steps between items and their readers: nobody names those, and they compute nothing."""
    return {name for name in graph.between(chosen) if pipeline.steps[name].joins}


def _together(pieces: Sequence[Sequence[str]], pipeline: Pipeline) -> list[list[str]]:
    """Return the pieces of a selection, those with items of one fan-out as one: they are one step as it is written."""
    whole: list[list[str]] = []
    first: dict[str, int] = {}  # of a fan-out: where the piece is that has its items
    for piece in pieces:
        fans = {fan for name in piece for fan, _ in pipeline.steps[name].within}
        joined = sorted({first[fan] for fan in fans if fan in first})
        at = joined[0] if joined else len(whole)
        if not joined:
            whole.append([])
        for other in joined[1:]:
            whole[at] += whole[other]
            fans |= {fan for name in whole[other] for fan, _ in pipeline.steps[name].within}
            whole[other] = []
        whole[at] += piece
        first |= dict.fromkeys(fans, at)
    return [names for names in whole if names]


def touched(
    written: Sequence[str] | None, exclude: Sequence[str], pipeline: Pipeline, graph: Graph, facts: Facts
) -> set[str]:
    """Return what a request may select of a pipeline whose items are not known: an item stands for its fan-out."""
    if written is None:
        return set(pipeline.steps)

    chosen: set[str] = set()
    meanings = Meanings(pipeline, graph, facts)
    for index, text in enumerate(written):
        try:
            chosen |= meanings.of(generalized(text, pipeline), "select", index)
        except (
            SelectorError
        ):  # a glob may mean what is inside of items; who selects of those that are there tells mistakes
            fans = {name for name, step in pipeline.steps.items() if step.deferred}
            chosen |= fans | (graph.descendants(fans) if "+" in text or ".." in text else set())
    for index, text in enumerate(exclude):
        if "[" not in text:
            chosen -= meanings.of(text, "exclude", index)
    for name, step in pipeline.steps.items():  # parts come before what joins them, which is made anew with any of them
        if step.joins and step.reads & chosen:
            chosen.add(name)
    return chosen


def generalized(text: str, pipeline: Pipeline) -> str:
    """Return a selector with a fan-out in place of each item of it, and step of an item, that is not known yet."""
    out, end = "", 0
    for token in _safe_tokens(text):
        name = token.text
        if token.kind == "word" and name not in pipeline.steps and name.count("/") <= _DEEPEST:
            bare = re.sub(r"\[(?:\"[^\"]*\"|[^\]])*\]", "", name)
            above = next((a for a in reversed(_above(bare)) if a in pipeline.steps), bare)
            name = above if above in pipeline.steps and pipeline.steps[above].deferred else name
        out += text[end : token.at] + name
        end = token.at + len(token.text)
    return out + text[end:]


def selection_of(
    chosen: set[str], graph: Graph, written: tuple[str, ...] = (), warnings: tuple[str, ...] = ()
) -> Selection:
    """Return the Selection of a convex set of steps."""
    frontier = {p for name in chosen for p in graph.before[name]} - chosen
    return Selection(
        written=written,
        steps=tuple(graph.sorted(chosen)),
        frontier=tuple(graph.sorted(frontier)),
        closure=tuple(graph.sorted((frontier | graph.ancestors(frontier)) - chosen)),
        pieces=tuple(tuple(piece) for piece in graph.pieces(chosen)),
        warnings=warnings,
    )


def _refuse_holes(chosen: set[str], pipeline: Pipeline, graph: Graph, excluding: bool) -> None:
    holes = graph.between(chosen)
    if not holes:
        return
    whole = _as_list(written_as(chosen | holes, pipeline, graph))
    witness = " -> ".join(name if name in chosen else f"{name} (not selected)" for name in graph.witness(chosen))
    pieces = _convex_pieces(chosen, graph)
    parts = " then ".join(_as_list(written_as(piece, pipeline, graph)) for piece in pieces[:_SHOWN_PARTS])
    parts += f" and {len(pieces) - _SHOWN_PARTS} more parts" if len(pieces) > _SHOWN_PARTS else ""
    raise SelectorError(
        "E403",
        f"the selection leaves a hole: {witness}",
        f"add {_listed(written_as(holes, pipeline, graph))}: select: {whole}{', and take it out of `exclude`' if excluding else ''}\n        or run the parts one after another: {parts}",
    )


def _convex_pieces(chosen: set[str], graph: Graph) -> list[list[str]]:
    """Split `chosen` along the order into parts that are each convex."""
    parts: list[list[str]] = []
    part: set[str] = set()
    behind: set[str] = set()  # what comes after the part and is not in it
    for name in graph.order:
        before = graph.before[name]
        if name not in chosen:
            if any(prior in part or prior in behind for prior in before):
                behind.add(name)
            continue
        if not parts or any(prior in behind for prior in before):
            parts.append([])
            part, behind = set(), set()
        parts[-1].append(name)
        part.add(name)
    return parts


def _as_list(names: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, names))}]"


def quoted(name: str) -> str:
    """Return a step's name as an element of a YAML flow list."""
    if not set(name) & set("[]{},\"'"):
        return name
    return f'"{name}"' if '"' not in name else "'" + name.replace("'", "''") + "'"


def written_as(names: Iterable[str], pipeline: Pipeline, graph: Graph) -> list[str]:
    """Return how a person writes a set of steps: a fan-out or inner pipeline for all that it consists of."""
    chosen = set(names)
    if not any(pipeline.steps[n].within or "/" in n or pipeline.steps[n].joins for n in chosen):
        return graph.sorted(chosen)
    whole: dict[str, int] = {}  # of each name that means several steps: how many of them are not chosen
    for name in pipeline.steps:
        for above in _above(name):
            whole[above] = whole.get(above, 0) + (name not in chosen)
    out: dict[str, None] = {}
    for name in graph.sorted(chosen):
        found = next((above for above in _above(name) if not whole[above]), None)
        if found is not None:
            out[found] = None
        elif not any(part in chosen for part in pipeline.steps[name].before if pipeline.steps[name].joins):
            out[name] = None  # what joins them, and none of them
    return list(out)


def with_joins(names: list[str], chosen: Collection[str], pipeline: Pipeline, graph: Graph) -> list[str]:
    """Return `names`, and selectors for the joins of `chosen` that they leave out: a join alone has no name of its own.

    It is reached from a chosen part of it (`f[x=2]+1`).
    """
    meanings = Meanings(pipeline, graph, Facts(lambda status: set(), lambda kind: set()))
    reached = {step for text in names for step in meanings.of(text, "select", 0)}
    reached |= _joins_between(reached, pipeline, graph)
    out = list(names)
    for join in graph.sorted(step for step in chosen if pipeline.steps[step].joins and step not in reached):
        layer, depth = {join}, 0
        while layer and all(pipeline.steps[step].joins for step in layer):
            layer = {before for step in layer for before in graph.before[step] if before in chosen}
            depth += 1
        part = next((step for step in graph.sorted(layer) if not pipeline.steps[step].joins), None)
        if part is not None:
            out.append(f"{part}+{depth}")
    return out


def _above(name: str) -> list[str]:
    """Return all names that mean a step, the widest first: `a`, `a[x=1]`, `a[x=1]/b`."""
    out, done = [], ""
    for part in _split(name):
        base = part.partition("[")[0]
        out.append(done + base)
        if base != part:
            out.append(done + part)
        done += part + "/"
    return out


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


_SHOWN_PARTS = 10
_DEEPEST = 200  # pipelines one inside another; no name has more parts


# --- the grammar ------------------------------------------------------------------------------------------------

_TOKEN = (
    r"(?P<space>\s+)"
    r"|(?P<range>\.\.)"
    r"|(?P<sign>[()+])"
    r"|(?P<method>[A-Za-z_]+:(?:\"[^\"]*\"|'[^']*'|(?:(?!\.\.)[A-Za-z0-9_.\-])*))"
    r"|(?P<word>[A-Za-z0-9_*?/\-](?:[A-Za-z0-9_*?/\-]|\[(?>(?:\"[^\"]*\"|[^\]])*)\])*)"  # (?>: looked at once
)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


@lru_cache(maxsize=16)  # the long ones are asked several times what they use
def _tokens(text: str) -> list[_Token]:
    tokens, at, token = [], 0, re.compile(_TOKEN)
    while at < len(text):
        found = token.match(text, at)
        if not found:
            raise SelectorError(
                "E401",
                f"unexpected character {text[at]!r} in a selector",
                "use names, *, ?, tag:x, +, .., and, or, not, parentheses",
                offset=at,
            )
        if found.lastgroup != "space":
            tokens.append(_Token(found.lastgroup or "", found.group(), at))
        at = found.end()
    return tokens


def _safe_tokens(text: str) -> list[_Token]:
    try:
        return _tokens(text)
    except SelectorError:
        return []


def expand(text: str, pipeline: Pipeline, graph: Graph, facts: Facts) -> frozenset[str]:
    """Return the steps that one selector means; raises SelectorError, with its place, if it means none."""
    return Meanings(pipeline, graph, facts).of(text, "select", 0)


def union(texts: Iterable[str], pipeline: Pipeline, graph: Graph, facts: Facts, field: str) -> set[str]:
    """Return the steps that the selectors of a field mean together."""
    meanings = Meanings(pipeline, graph, facts)
    return set().union(*(meanings.of(text, field, index) for index, text in enumerate(texts)))


class Meanings:
    """What selectors mean in a pipeline: each term is looked up once, and all together look at so many steps only."""

    def __init__(self, pipeline: Pipeline, graph: Graph, facts: Facts) -> None:
        self.pipeline, self.graph, self.facts = pipeline, graph, facts
        self.steps = frozenset(pipeline.steps)
        self.known: dict[tuple[str, ...], frozenset[str]] = {}
        self.work = 0

    def of(self, text: str, field: str, index: int) -> frozenset[str]:
        """Return the steps that one selector means; raises SelectorError, with its place, if it means none."""
        try:
            found = _Parser(text, self).whole()
            self.work += 1 + len(found) // 16
            return frozenset(found)
        except SelectorError as error:
            error.field, error.index = field, index
            raise

    @cached_property
    def firsts(self) -> list[tuple[str, str]]:
        """Each step's name with its first part, the values of an item left out."""
        return [(name, parts_of(name)[0][0]) for name in self.pipeline.steps]

    def matching(self, name: str, at: int) -> set[str]:
        """Return the steps that a name or a glob means."""
        if name.count("/") > _DEEPEST:
            return set()
        wanted = [_segment(part) for part in _split(name)]
        if len(wanted) == 1 and not wanted[0][1]:
            self.spend(len(self.steps) // 4, at)
            match = wanted[0][0].match
            return {step for step, first in self.firsts if match(first)}
        self.spend(len(self.steps), at)
        return {step for step in self.pipeline.steps if wanted and _matches(wanted, step)}

    def spend(self, steps: int, at: int) -> None:
        """Count steps that a term looks at."""
        self.work += 1 + steps
        if self.work > MOST_WORK:
            raise SelectorError(
                "E401",
                f"the selectors have too many terms for the {len(self.steps)} steps of the pipeline",
                "write fewer terms that stand for many steps: *, tag:x, not, +, ..",
                offset=at,
            )


Steps = frozenset[str] | set[str]


class _Parser:
    def __init__(self, text: str, meanings: Meanings) -> None:
        self.text, self.meanings = text, meanings
        self.pipeline, self.graph, self.facts = meanings.pipeline, meanings.graph, meanings.facts
        self.tokens = _tokens(text)
        self.next = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> _Token:
        index = self.next + ahead
        return self.tokens[index] if index < len(self.tokens) else _Token("end", "", len(self.text))

    def take(self, text: str) -> _Token | None:
        token = self.peek()
        if token.text == text and token.kind != "end":
            self.next += 1
            return token
        return None

    def fail(self, wanted: str) -> SelectorError:
        token = self.peek()
        found = f"`{token.text}`" if token.kind != "end" else "the end"
        return SelectorError("E401", f"expected {wanted}, found {found}", offset=token.at)

    def whole(self) -> Steps:
        if not self.tokens:
            raise SelectorError("E401", "the selector is empty", "name a step")
        found = self.expression()
        if self.peek().kind != "end":
            raise self.fail("`and`, `or`, `..` or the end")
        return found

    def expression(self) -> Steps:
        self.depth += 1
        if self.depth > 50:
            raise SelectorError("E401", "the selector is nested too deep", offset=self.peek().at)
        start = self.peek().at
        found = self.term()
        word = self.peek().text
        if word in ("and", "or"):
            found = set(found)
        while (token := self.peek()).text in ("and", "or"):
            self.next += 1
            if token.text != word:
                raise SelectorError(
                    "E401", "`and` and `or` are mixed without parentheses", self._readings(start), offset=token.at
                )
            right = self.term()
            self.meanings.spend((len(right) if word == "or" else min(len(found), len(right))) // 16, token.at)
            if word == "and":
                found = found & right
            else:
                found |= right
        self.depth -= 1
        return found

    def _readings(self, start: int) -> str:
        """Show both ways to put the parentheses."""
        words = self.text[start:].split()
        depth, parts, joins = 0, [[]], []  # type: int, list[list[str]], list[str]
        for word in words:
            depth += word.count("(") - word.count(")")
            if depth < 0:
                break
            if depth == 0 and word in ("and", "or"):
                joins.append(word)
                parts.append([])
            else:
                parts[-1].append(word)
        terms = [" ".join(part) for part in parts]
        if len(terms) > 10:
            return "put what `and` joins, or what `or` joins, into parentheses"
        return f"write {_group(terms, joins, 'and', 'or')}, or {_group(terms, joins, 'or', 'and')}"

    def term(self) -> Steps:
        negate = False
        token = self.peek()
        while self.take("not"):
            negate = not negate
        found = self.range()
        if not negate:
            return found
        self.meanings.spend(len(self.meanings.steps) // 16, token.at)
        return self.meanings.steps - found

    def range(self) -> Steps:
        """Return what a term without `not` means; what is written twice is looked up once."""
        key = self._key()
        if key in self.meanings.known:
            self.next += len(key)
            return self.meanings.known[key]
        at = self.peek().at
        found = self.operand()
        if self.take(".."):
            found = self._path(found, self.operand(), at)
        if key:
            self.meanings.known[key] = frozenset(found)
        return found

    def _key(self) -> tuple[str, ...]:
        """Return the words of the term that comes next, none for one with parentheses."""
        words = []
        for index in range(self.next, len(self.tokens)):
            token = self.tokens[index]
            if token.text in ("and", "or", ")"):
                break
            if token.text == "(":
                return ()
            words.append(token.text)
        return tuple(words)

    def _path(self, left: Steps, right: Steps, at: int) -> Steps:
        after, before = self.graph.descendants(left), self.graph.ancestors(right)
        self.meanings.spend(len(after) + len(before), at)
        if right.isdisjoint(after) and right.isdisjoint(left):
            raise SelectorError(
                "E401",
                f"no path leads from {_listed(sorted(left))} to {_listed(sorted(right))}",
                "turn the range round"
                if not left.isdisjoint(self.graph.descendants(right))
                else "name the steps: they are not connected",
                offset=at,
            )
        return left | right | (after & before)

    def operand(self) -> Steps:
        up: int | None = 0
        token = self.peek()
        if token.text == "+":
            self.next += 1
            up = None
        elif token.kind == "word" and token.text.isascii() and token.text.isdigit() and self.peek(1).text == "+":
            self.next += 2
            up = int(token.text[:9])
        found = self.atom()
        down: int | None = 0
        if self.take("+"):
            down = None
            token = self.peek()
            if token.kind == "word" and token.text.isascii() and token.text.isdigit():
                self.next += 1
                down = int(token.text[:9])
        if up == 0 and down == 0:
            return found
        reached = self.graph.ancestors(found, up) | self.graph.descendants(found, down)
        self.meanings.spend(len(reached), token.at)
        return found | reached

    def atom(self) -> Steps:
        token = self.peek()
        if self.take("("):
            found = self.expression()
            if not self.take(")"):
                raise self.fail("`)`")
            return found
        if token.kind == "method":
            self.next += 1
            self.meanings.spend(len(self.meanings.steps), token.at)
            return self.method(token)
        if token.kind != "word" or token.text in ("and", "or", "not", "in"):
            raise self.fail("a step")
        self.next += 1
        return self.named(token)

    def named(self, token: _Token) -> Steps:
        steps = self.pipeline.steps
        name = token.text
        if name == "all":
            return self.meanings.steps
        if name == "roots":
            return {n for n in steps if not self.graph.before[n]}
        if name == "leaves":
            return {n for n in steps if not self.graph.after[n]}
        if name in steps and not (steps[name].joins or steps[name].items):
            return {name}
        found = self.meanings.matching(name, token.at)
        if not found:
            written = [n for n in steps if not steps[n].within]  # items are made, not written
            if "*" in name or "?" in name:
                raise SelectorError(
                    "E402", f"no step matches `{name}`", f"there are: {_listed(written)}", offset=token.at
                )
            raise SelectorError("E402", f"no step `{name}`", self._near(name, written), offset=token.at)
        return found

    def _near(self, name: str, written: list[str]) -> str:
        parts = parts_of(name)
        fan = self.pipeline.steps.get(parts[0][0]) if parts else None
        inside = fan.foreach.body if fan is not None and fan.deferred and fan.foreach else {}
        if "[" in name and fan is not None and fan.items:
            return f"the items are: {_listed(fan.items)}"
        if "[" in name and fan is not None and fan.foreach is None:
            return f"`{fan.name}` has no `foreach`"
        if fan is not None and fan.deferred and ("[" in name or name in inside):
            return f"the items of `{fan.name}` are not known before it runs; name {fan.name} itself"
        return nearest(name, written) or f"there are: {_listed(written)}"

    def method(self, token: _Token) -> Steps:
        method, _, value = token.text.partition(":")
        value = value.strip("\"'")
        if method not in METHODS:
            raise SelectorError(
                "E401",
                f"no method `{method}:`",
                nearest(method, METHODS) or f"there are: {', '.join(METHODS)}",
                offset=token.at,
            )
        if not value:
            raise SelectorError("E401", f"`{method}:` needs a value right after the colon", offset=token.at)
        steps = self.pipeline.steps
        known: Iterable[str]
        match method:
            case "kind":
                known = sorted({s.kind for s in steps.values()})
                found = {n for n, s in steps.items() if s.kind == value}
            case "tag":
                known = sorted({t for s in steps.values() for t in s.tags})
                found = {n for n, s in steps.items() if value in s.tags}
            case "param":
                known = sorted(self.pipeline.params)
                found = {n for n, s in steps.items() if value in s.params | s.gate_params | _axis_params(s)}
                found |= {
                    n for n, s in steps.items() if any(fan in found for fan, _ in s.within)
                }  # it decides the items
            case "status":
                known = STATUSES
                if value in known:
                    found = self.facts.having_status(value)
                    if not found:
                        raise SelectorError("E402", f"no step is {value} in the reference run", offset=token.at)
            case _:
                known = CHANGES
                if value in known:
                    found = self.facts.changed(value)
                    if not found:
                        raise SelectorError(
                            "E402", f"nothing has changed ({value}) since the reference run", offset=token.at
                        )
        if (method in ("status", "changed") and value not in known) or not found:
            help = nearest(value, known) or f"there are: {', '.join(list(known)[:12]) or 'none'}"
            raise SelectorError("E402", f"no step has {method} `{value}`", help, offset=token.at)
        return found


def _axis_params(step: Step) -> frozenset[str]:
    return step.foreach.params if step.foreach else frozenset()


_Segment = tuple[re.Pattern[str], frozenset[str]]  # of the name, and the values that an item must have


def _split(name: str) -> list[str]:
    """Return the parts of a name between slashes, those inside brackets left alone."""
    return [m for m in re.findall(r"(?:\[(?>(?:\"[^\"]*\"|[^\]])*)\]|[^/\[])+", name) if m]


@lru_cache(maxsize=65_536)
def parts_of(name: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """Return the parts of a step's name: each with the values of the item that it is, as text."""
    out = []
    for part in _split(name):
        base, _, values = part.partition("[")
        out.append((base, frozenset(re.findall(r"(?:[^,\"]|\"[^\"]*\")+", values[:-1]))))
    return tuple(out)


def _segment(part: str) -> _Segment:
    base, _, values = part.partition("[")
    return _glob(base), frozenset(v.strip() for v in re.findall(r"(?:[^,\"]|\"[^\"]*\")+", values[:-1]))


def _glob(text: str) -> re.Pattern[str]:
    """Return the pattern of a glob. What stands between two stars is looked for once, from the left: the first place of
    it that fits leaves the most to what follows, so that going back (to the power of the stars) would find no other."""
    first, *others = re.split(r"\*+", text)

    def plain(part: str) -> str:
        return "".join("[^/]" if c == "?" else re.escape(c) for c in part)

    between = "".join(f"(?>[^/]*?{plain(part)})" for part in others[:-1])
    last = f"[^/]*{plain(others[-1])}" if others else ""
    return re.compile(f"{plain(first)}{between}{last}\\Z")


def _matches(wanted: list[_Segment], name: str) -> bool:
    """Whether a step is meant: a name means all below it, and a fan-out all its items."""
    parts = parts_of(name)
    if len(parts) < len(wanted):
        return False
    for (pattern, values), (base, has) in zip(wanted, parts, strict=False):
        if not pattern.match(base) or not values <= has:
            return False
    return True


def _group(terms: Sequence[str], joins: Sequence[str], inner: str, outer: str) -> str:
    """Write terms with parentheses around those that `inner` joins."""
    groups: list[list[str]] = [[terms[0]]]
    for word, term in zip(joins, terms[1:], strict=False):
        if word == inner:
            groups[-1].append(term)
        else:
            groups.append([term])
    shown = [f"({f' {inner} '.join(g)})" if len(g) > 1 else g[0] for g in groups]
    return f"`{f' {outer} '.join(shown)}`"


def statuses_of(status: str, ends: Mapping[str, str]) -> set[str]:
    """Return the steps whose end in a run counts as `status` in a selector."""
    groups = {
        "succeeded": {"succeeded", "cached", "reused"},
        "not_run": {"not_run", "upstream_failed"},
        "stopped": {"stopped", "interrupted"},
    }
    wanted = groups.get(status, {status})
    return {name for name, end in ends.items() if end in wanted}
