"""`$( ... )`: parse a scalar into a Template, check its types against a scope, evaluate it.

A reference is the only way to read a param or another step's output, so the references of a template are the
edges of the graph. Nothing is ever re-parsed: values are put into the parsed tree, once.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from .errors import suggest
from .frozen import frozen
from .values import Duration, Marked, plain, text_of, to_seconds


class ExpressionError(Exception):
    """A mistake in an expression, `offset` characters into its scalar."""

    def __init__(self, code: str, text: str, offset: int, help: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.offset, self.help = code, text, offset, help


class EvaluationError(Exception):
    """A well-typed expression has no value: a division by zero, a missing pointer. `str()` gives the text alone."""

    def __init__(self, text: str, *, code: str = "E219", help: str = "") -> None:
        super().__init__(text)
        self.code, self.help = code, help

    @property
    def reason(self) -> str:
        """The reason of a step that failed by it: with its code, if that says more than the cause `expression`."""
        return str(self) if self.code == "E219" else f"{self.code} {self}"


# --- types ------------------------------------------------------------------------------------------------------


@frozen
class Type:
    name: str  # string integer number boolean duration null file dir object any list
    item: Type | None = None
    optional: bool = False

    def __str__(self) -> str:
        shown = f"list of {self.item}" if self.name == "list" and self.item else self.name
        return f"{shown}?" if self.optional else shown


STRING, INTEGER, NUMBER, BOOLEAN = Type("string"), Type("integer"), Type("number"), Type("boolean")
DURATION, NULL, FILE, DIR, ANY, OBJECT = (
    Type("duration"),
    Type("null"),
    Type("file"),
    Type("dir"),
    Type("any"),
    Type("object"),
)
_TEXTUAL = {"string", "file", "dir", "duration"}
_NUMERIC = {"integer", "number"}
_IN_TEXT = _TEXTUAL | _NUMERIC | {"boolean", "null"}


def fits(given: Type, wanted: Type) -> bool:
    """Whether a value of type `given` may stand where `wanted` is asked for."""
    if given.optional and not wanted.optional:
        return False
    if wanted.name == "any" or given.name == wanted.name:
        if wanted.name == "list" and wanted.item and given.item:
            return fits(given.item, wanted.item)
        return True
    if wanted.name == "number":
        return given.name == "integer"
    return wanted.name == "string" and given.name in _TEXTUAL


# --- tree -------------------------------------------------------------------------------------------------------


@frozen
class Literal:
    value: Any
    at: int


@frozen
class Ref:
    """A dotted name: `params.x`, `steps.train.outputs.model`."""

    path: tuple[str, ...]
    at: int
    ats: tuple[int, ...]  # where each name starts

    def __str__(self) -> str:
        return ".".join(self.path)


@frozen
class Call:
    """A function, or an operator under its sign.

    `and` and `or` have all that they join as arguments. Of several operators of one rank (`a + b - c`) there is one call
    of CHAIN: its first argument is a value, each other one an operator with the value on its right. So a chain of any
    length is flat, and nothing that walks a tree goes deeper than what is written in parentheses.
    """

    name: str
    args: tuple[Node, ...]
    at: int


@frozen
class Bound:
    """A parameter of an inner pipeline: the value that the step which stands for the pipeline gives it."""

    name: str
    tree: Any  # a literal, a Template, or a file of the project
    declared: Any  # the Param: what is computed for it keeps its rules, too; None for a named input of the same step
    at: int = 0

    @property
    def template(self) -> Template | None:
        return self.tree if isinstance(self.tree, Template) else None


Node = Literal | Ref | Call | Bound


@frozen
class Template:
    """A scalar: literal texts and expressions in turn. `exact` is the one expression that is the whole scalar."""

    parts: tuple[str | Node, ...]

    @property
    def exact(self) -> Node | None:
        return self.parts[0] if len(self.parts) == 1 and not isinstance(self.parts[0], str) else None

    @property
    def literal(self) -> str | None:
        """The text itself where nothing has to be put in."""
        if not self.parts:
            return ""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], str) else None

    def refs(self) -> Iterator[Ref]:
        for part in self.parts:
            if not isinstance(part, str):
                yield from refs(part)


def refs(node: Node) -> Iterator[Ref]:
    """Every reference below `node`."""
    match node:
        case Ref():
            yield node
        case Call():
            for arg in node.args:
                yield from refs(arg)
        case Bound(template=Template() as template):
            yield from template.refs()


def unguarded(node: Node) -> Iterator[Ref]:
    """References that are not an argument of `coalesce` or `default`."""
    match node:
        case Ref():
            yield node
        case Call(name="coalesce" | "default"):
            for arg in node.args:
                if not isinstance(arg, Ref):
                    yield from unguarded(arg)
        case Call():
            for arg in node.args:
                yield from unguarded(arg)
        case Bound(template=Template() as template):
            for part in template.parts:
                if not isinstance(part, str):
                    yield from unguarded(part)


# --- parsing ----------------------------------------------------------------------------------------------------

_NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*"
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    rf"|(?P<name>{_NAME})"
    r"|(?P<string>\"(?:[^\"\\]|\\.)*\"|'[^']*')"
    r"|(?P<op>==|!=|<=|>=|[-+*/%<>()\[\],.])"
)
_COMPARE = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"}
_MAX_DEPTH = 50
_MAX_LEVELS = 3 * _MAX_DEPTH  # of a tree: what is in parentheses makes one or two, of what people write
MOST_NODES = 200_000  # of a step's trees: parameters of pipelines inside pipelines multiply
CHAIN = "..."  # no name of a function
_SIGNS = {"list", "index", "negate"}  # operators that are named, since they have no sign of their own


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _tokens(text: str, start: int) -> Iterator[_Token]:
    """Yield tokens from `start`, up to the parenthesis that closes the expression (it too)."""
    depth = 0
    at = start
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            char = text[at]
            if char in "\"'":
                raise ExpressionError("E203", "this text has no closing quote", at)
            help = {"=": "compare with `==`", "&": "write `and`", "|": "write `or`", "!": "write `not`"}.get(char, "")
            raise ExpressionError("E203", f"unexpected character {char!r}", at, help)
        kind = found.lastgroup or ""
        if kind != "space":
            yield _Token(kind, found.group(), at)
            depth += (found.group() == "(") - (found.group() == ")")
            if depth < 0:
                return
        at = found.end()
    raise ExpressionError("E203", "`$(` has no closing `)`", start - 2, "write `$$(` for the text `$(`")


class _Parser:
    def __init__(self, text: str, start: int) -> None:
        self.tokens = list(_tokens(text, start))
        self.next = 0
        self.depth = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def take(self, *texts: str) -> _Token | None:
        token = self.token
        if token.text in texts and token.kind != "string":
            self.next += 1
            return token
        return None

    def expect(self, text: str) -> None:
        if not self.take(text):
            self.fail(f"expected `{text}`")

    def fail(self, wanted: str) -> NoReturn:
        token = self.token
        found = "the end of the expression" if self.next == len(self.tokens) - 1 else f"`{token.text}`"
        raise ExpressionError("E203", f"{wanted}, found {found}", token.at)

    def whole(self) -> tuple[Node, int]:
        node = self.either()
        end = self.tokens[-1]
        if self.next != len(self.tokens) - 1:
            self.fail("expected an operator or `)`")
        if len(self.tokens) > _MAX_LEVELS and levels(node) > _MAX_LEVELS:
            self.too_deep(self.tokens[0].at)
        return node, end.at + 1

    def too_deep(self, at: int) -> NoReturn:
        raise ExpressionError("E203", f"the expression is nested deeper than {_MAX_DEPTH} levels", at)

    def either(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            self.too_deep(self.token.at)
        node = self.joined("or", self.both)
        self.depth -= 1
        return node

    def both(self) -> Node:
        return self.joined("and", self.negation)

    def joined(self, word: str, operand: Callable[[], Node]) -> Node:
        """Return what `and` or `or` joins, as one node."""
        first = operand()
        token = self.take(word)
        if not token:
            return first
        nodes = [first, operand()]
        while self.take(word):
            nodes.append(operand())
        return Call(word, tuple(nodes), token.at)

    def negation(self) -> Node:
        return self.prefixed("not", "not", self.comparison)

    def prefixed(self, sign: str, name: str, operand: Callable[[], Node]) -> Node:
        """Return a value with all its prefixes of one kind: two undo each other, and are kept for the check of types."""
        prefixes = []
        while token := self.take(sign):
            prefixes.append(token)
        node = operand()
        for token in reversed(prefixes[: 1 + (len(prefixes) + 1) % 2]):
            node = Call(name, (node,), token.at)
        return node

    def comparison(self) -> Node:
        left = self.addition()
        operator = self.compare()
        if not operator:
            return left
        node = Call(operator.text, (left, self.addition()), operator.at)
        again = self.compare()
        if again:
            raise ExpressionError("E203", "comparisons do not chain; join them with `and`", again.at)
        return node

    def compare(self) -> _Token | None:
        if token := self.take("==", "!=", "<", "<=", ">", ">=", "in"):
            return token
        if token := self.take("not"):
            self.expect("in")
            return _Token("op", "not in", token.at)
        return None

    def addition(self) -> Node:
        return self.chained(self.product, "+", "-")

    def product(self) -> Node:
        return self.chained(self.unary, "*", "/", "%")

    def chained(self, operand: Callable[[], Node], *signs: str) -> Node:
        """Return values with operators of one rank between them, which count from the left."""
        first = operand()
        links: list[Node] = []
        while token := self.take(*signs):
            links.append(Call(token.text, (operand(),), token.at))
        if not links:
            return first
        if len(links) == 1 and isinstance(link := links[0], Call):
            return Call(link.name, (first, *link.args), link.at)
        return Call(CHAIN, (first, *links), links[0].at)

    def unary(self) -> Node:
        return self.prefixed("-", "negate", self.postfix)

    def postfix(self) -> Node:
        node = self.primary()
        count = 0
        while token := self.take("["):
            count += 1
            if count > _MAX_DEPTH:
                self.too_deep(token.at)
            node = Call("index", (node, self.either()), token.at)
            self.expect("]")
        return node

    def primary(self) -> Node:
        token = self.token
        if token.kind == "number":
            self.next += 1
            value = float(token.text) if re.search(r"[.eE]", token.text) or len(token.text) > 300 else int(token.text)
            if value in (math.inf, -math.inf) or len(token.text) > 300:
                raise ExpressionError("E203", "this number is too large", token.at)
            return Literal(value, token.at)
        if token.kind == "string":
            self.next += 1
            return Literal(_unquote(token), token.at)
        if token.kind == "name":
            return self.name()
        if self.take("("):
            node = self.either()
            self.expect(")")
            return node
        if self.take("["):
            return Call("list", self.arguments("]"), token.at)
        return self.fail("expected a value")

    def name(self) -> Node:
        token = self.token
        if token.text in ("and", "or", "not", "in"):
            return self.fail("expected a value")
        self.next += 1
        if token.text in ("true", "false", "null"):
            return Literal({"true": True, "false": False, "null": None}[token.text], token.at)
        if self.take("("):
            if token.text in _SIGNS:
                raise _no_function(token.text, token.at)
            return Call(token.text, self.arguments(")"), token.at)
        names, ats = [token.text], [token.at]
        while self.take("."):
            if self.token.kind != "name":
                self.fail("expected a name after `.`")
            names.append(self.token.text)
            ats.append(self.token.at)
            self.next += 1
        return Ref(tuple(names), token.at, tuple(ats))

    def arguments(self, close: str) -> tuple[Node, ...]:
        args: list[Node] = []
        if self.take(close):
            return ()
        while True:
            args.append(self.either())
            if self.take(close):
                return tuple(args)
            if not self.take(","):
                self.fail(f"expected `,` or `{close}`")


def levels(tree: Any) -> int:
    """Return how deep a tree is, without going into it by recursion; what a parameter of a pipeline is bound to counts.

    A tree with more calls and parameters than MOST_NODES is as deep as it has nodes: nobody looks further.
    """
    count, nodes, level = 0, 0, [tree]
    while level:
        count += 1
        below: list[Any] = []
        for one in level:
            match one:
                case Call(args=parts):
                    nodes += 1
                    below += parts
                case Bound(tree=inner):
                    nodes += 1
                    below.append(inner)
                case Template(parts=parts):
                    below += parts
                case list():
                    below += one
                case dict():
                    below += one.values()
        if nodes > MOST_NODES:
            return nodes
        level = below
    return count


def _no_function(name: str, at: int) -> ExpressionError:
    return ExpressionError("E203", f"there is no function `{name}`", at, suggest(name, _FUNCTIONS, "functions"))


def _unquote(token: _Token) -> str:
    if token.text[0] == "'":
        return token.text[1:-1]
    escapes = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}

    def replace(found: re.Match[str]) -> str:
        if found.group(1) not in escapes:
            raise ExpressionError("E203", f"unknown escape \\{found.group(1)}", token.at + found.start())
        return escapes[found.group(1)]

    return re.sub(r"\\(.)", replace, token.text[1:-1], flags=re.S)


# What most expressions are: one reference to what a step made or was given, and nothing around it.
_REFERENCE = re.compile(rf"\$\((params|steps|inputs|outputs|each)((?:\.{_NAME})+)\)")


def _reference(found: re.Match[str]) -> Template:
    names = (found[1], *found[2][1:].split("."))
    ats, at = [], 2
    for name in names:
        ats.append(at)
        at += len(name) + 1
    return Template((Ref(names, 2, tuple(ats)),))


@lru_cache(maxsize=65_536)
def parse(text: str) -> Template:
    """Return the Template of a scalar's text; raises ExpressionError."""
    if whole := _REFERENCE.fullmatch(text):
        return _reference(whole)
    parts: list[str | Node] = []
    literal = ""
    at = 0
    while (found := text.find("$(", at)) >= 0:
        if found > at and text[found - 1] == "$":
            literal += text[at : found - 1] + "$("
            at = found + 2
            continue
        literal += text[at:found]
        if literal:
            parts.append(literal)
        literal = ""
        node, at = _Parser(text, found + 2).whole()
        parts.append(node)
    literal += text[at:]
    if literal or not parts:
        parts.append(literal)
    return Template(tuple(parts))


# --- checking ---------------------------------------------------------------------------------------------------

Scope = Callable[[Ref], Type]  # raises ExpressionError for a name that is not there

_FUNCTIONS = [
    "len",
    "string",
    "integer",
    "number",
    "boolean",
    "json",
    "basename",
    "join",
    "lower",
    "starts_with",
    "matches",
    "min",
    "max",
    "sum",
    "round",
    "coalesce",
    "default",
    "if",
]
_ARITY = {
    "len": (1, 1), "string": (1, 1), "integer": (1, 1), "number": (1, 1), "boolean": (1, 1), "json": (1, 2),
    "basename": (1, 1), "join": (1, 2), "lower": (1, 1), "starts_with": (2, 2), "matches": (2, 2), "min": (1, 99),
    "max": (1, 99), "sum": (1, 1), "round": (1, 2), "coalesce": (1, 99), "default": (2, 2), "if": (3, 3),
}  # fmt: skip


def check(node: Node, scope: Scope) -> Type:
    """Return the type of `node`; raises ExpressionError at the first part that has none."""
    match node:
        case Ref():
            return scope(node)
        case Literal(value=None):
            return NULL
        case Literal(value=value):
            return type_of(value)
        case Bound():
            raise AssertionError("types are checked before a pipeline is put into another")
        case Call(name="coalesce" | "default"):
            return _check_coalesce(node, scope)
        case Call(name="...", args=(first, *links)):
            type = check(first, scope)
            for link in links:
                assert isinstance(link, Call)
                types = [type, check(link.args[0], scope)]
                type = _check_call(Call(link.name, (first, *link.args), link.at), types, scope)
            return type
        case Call():
            return _check_call(node, [check(arg, scope) for arg in node.args], scope)


def type_of(value: Any) -> Type:
    match value:
        case None:
            return NULL
        case bool():
            return BOOLEAN
        case int():
            return INTEGER
        case float():
            return NUMBER
        case str():
            return STRING
        case list() | tuple():
            return Type("list", common([type_of(v) for v in value]))
        case _:
            return OBJECT


def common(types: Sequence[Type]) -> Type:
    present = [t for t in types if t.name != "null"]
    optional = any(t.optional for t in types) or len(present) < len(types)
    names = {t.name for t in present}
    if not names:
        base = NULL if types else ANY
    elif len(names) == 1:
        base = present[0]
    elif names <= _NUMERIC:
        base = NUMBER
    elif names <= _TEXTUAL:
        base = STRING
    else:
        base = ANY
    return Type(base.name, base.item, optional and base.name != "null")


def _check_coalesce(node: Call, scope: Scope) -> Type:
    _check_arity(node)
    types = [check(arg, scope) for arg in node.args]
    shared = common(types)
    closed = any(not t.optional and t.name != "null" for t in types)
    if shared.name == "any" and not any(t.name == "any" for t in types):
        raise ExpressionError("E203", f"{node.name}() needs values of one type", node.at)
    return Type(shared.name, shared.item, not closed)


def _check_arity(node: Call) -> None:
    if node.name not in _ARITY:
        raise _no_function(node.name, node.at)
    low, high = _ARITY[node.name]
    if not low <= len(node.args) <= high:
        wanted = str(low) if low == high else f"{low} to {high}"
        raise ExpressionError("E203", f"{node.name}() takes {wanted} arguments, not {len(node.args)}", node.at)


def _show(node: Node) -> str:
    match node:
        case Ref():
            return node.path[-1]
        case Literal():
            return json.dumps(node.value)
        case Call():
            return f"{node.name}(...)"
        case Bound():
            return node.name


def _check_call(node: Call, types: list[Type], scope: Scope) -> Type:
    name, at = node.name, node.at

    def need(index: int, *names: str) -> None:
        given = types[index]
        if given.name == "any" and "any" not in names:
            raise ExpressionError(
                "E203",
                "this value may be of any type; cast it",
                _start(node.args[index]),
                "string(), integer(), number() or boolean()",
            )
        if given.optional:
            raise ExpressionError(
                "E203",
                f"{_show(node.args[index])} may be missing",
                _start(node.args[index]),
                "close it with coalesce(value, default)",
            )
        if given.name not in names:
            wanted = " or ".join(names)
            raise ExpressionError("E203", f"`{name}` needs {wanted} here, not {given}", _start(node.args[index]))

    match name:
        case "list":
            return Type("list", common(types))
        case "and" | "or" | "not":
            for index in range(len(types)):
                need(index, "boolean")
            return BOOLEAN
        case "==" | "!=":
            left, right = types
            if "any" in (left.name, right.name):
                need(0 if left.name == "any" else 1, "string")
            if "null" not in (left.name, right.name) and common(types).name == "any":
                raise ExpressionError("E203", f"cannot compare {left} and {right}", at)
            return BOOLEAN
        case "<" | "<=" | ">" | ">=":
            left, right = types
            for index in (0, 1):
                if types[index].optional or types[index].name == "any":
                    need(index, "number", "string", "duration")
            names = {left.name, right.name}
            if not (names <= _NUMERIC or names == {"string"} or names == {"duration"}):
                shown = f"{_show(node.args[0])} {name} {_show(node.args[1])}"
                raise ExpressionError("E203", f"cannot order {left} and {right}", at, shown)
            return BOOLEAN
        case "in" | "not in":
            need(1, "list", "string", "object")
            if types[1].name == "string":
                need(0, "string", "file", "dir")
            elif (
                types[1].name == "list"
                and types[1].item
                and common([types[0], types[1].item]).name == "any"
                and types[1].item.name != "any"
            ):
                raise ExpressionError("E203", f"a {types[1]} holds no {types[0]}", at)
            return BOOLEAN
        case "+" | "-" | "*" | "/" | "%":
            if name == "+" and any(t.name in _TEXTUAL for t in types):
                raise ExpressionError("E203", "`+` adds numbers; join texts by writing them together: $(a)$(b)", at)
            need(0, "integer", "number")
            need(1, "integer", "number")
            return NUMBER if name == "/" or NUMBER in types else INTEGER
        case "negate":
            need(0, "integer", "number")
            return types[0]
        case "index":
            need(0, "list", "object")
            if types[0].name == "list":
                need(1, "integer")
                return types[0].item or ANY
            need(1, "string")
            return ANY
    _check_arity(node)
    match name:
        case "len":
            need(0, "string", "list", "object")
            return INTEGER
        case "string":
            need(0, "string", "integer", "number", "boolean", "duration", "file", "dir", "any")
            return STRING
        case "integer" | "number":
            need(0, "string", "integer", "number", "boolean", "any")
            return INTEGER if name == "integer" else NUMBER
        case "boolean":
            need(0, "string", "boolean", "any")
            return BOOLEAN
        case "json":
            need(0, "file", "string")
            if len(types) == 2:
                need(1, "string")
            return ANY
        case "basename" | "lower":
            need(0, "string", "file", "dir")
            return STRING
        case "join":
            need(0, "list")
            item = types[0].item
            _refuse_gaps(node, item)
            if item and item.name not in _IN_TEXT and item.name != "any":
                raise ExpressionError("E203", f"join() cannot make text of a {item}", at)
            if len(types) == 2:
                need(1, "string")
            return STRING
        case "starts_with" | "matches":
            need(0, "string", "file", "dir")
            need(1, "string")
            if name == "matches":
                _check_pattern(node)
            return BOOLEAN
        case "min" | "max":
            if len(types) == 1:
                need(0, "list")
                item = types[0].item or ANY
                _refuse_gaps(node, item)
                if item.name not in _NUMERIC:
                    raise ExpressionError("E203", f"{name}() needs numbers, not {types[0]}", at)
                return item
            for index in range(len(types)):
                need(index, "integer", "number")
            return NUMBER if NUMBER in types else INTEGER
        case "sum":
            need(0, "list")
            item = types[0].item or ANY
            _refuse_gaps(node, item)
            if item.name not in _NUMERIC:
                raise ExpressionError("E203", f"sum() needs numbers, not {types[0]}", at)
            return item
        case "round":
            need(0, "integer", "number")
            if len(types) == 2:
                need(1, "integer")
            return NUMBER if len(types) == 2 else INTEGER
        case _:  # if
            need(0, "boolean")
            shared = common(types[1:])
            if shared.name == "any" and not any(t.name == "any" for t in types[1:]):
                raise ExpressionError("E203", f"both branches of if() need one type, not {types[1]} and {types[2]}", at)
            return shared


def _refuse_gaps(node: Call, item: Type | None) -> None:
    if item is not None and item.optional:
        raise ExpressionError(
            "E203", f"{_show(node.args[0])} may have null elements, which {node.name}() cannot take", _start(node.args[0]),
            "read the list in a step, or take $(steps.NAME.best.outputs.OUTPUT)",
        )  # fmt: skip


def _check_pattern(node: Call) -> None:
    pattern = node.args[1]
    if not isinstance(pattern, Literal):
        raise ExpressionError("E203", "the pattern of matches() must be a literal text", _start(pattern))
    try:
        re.compile(pattern.value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ExpressionError("E203", f"not a pattern: {error}", pattern.at) from None


_AFTER_FIRST = {*_COMPARE, "and", "or", "+", "-", "*", "/", "%", CHAIN, "index"}  # whose sign follows their first value


def _start(node: Node) -> int:
    if isinstance(node, Call) and node.args and node.name in _AFTER_FIRST:
        return min(node.at, _start(node.args[0]))
    return node.at


def check_text(template: Template, scope: Scope) -> None:
    """Check a scalar whose value must have a text form; raises ExpressionError."""
    for part in template.parts:
        if isinstance(part, str):
            continue
        found = check(part, scope)
        if found.optional:
            raise ExpressionError(
                "E203", f"{_show(part)} may be missing", _start(part), "close it with coalesce(value, default)"
            )
        if found.name not in _IN_TEXT:
            help = "use join() or the context file" if found.name == "list" else "pick one value of it and cast it"
            raise ExpressionError("E205", f"a value of type {found} has no text form", _start(part), help)


# --- evaluating -------------------------------------------------------------------------------------------------

Lookup = Callable[[Ref | Bound], Any]


def evaluate(node: Node, lookup: Lookup, read_json: Callable[[Any], Any]) -> Any:
    """Return the value of a checked `node`. A missing value is None. Raises EvaluationError."""
    match node:
        case Literal(value=value):
            return value
        case Ref() | Bound():
            return lookup(node)
        case Call(name="and" | "or", args=args):
            value = None
            for arg in args:
                value = evaluate(arg, lookup, read_json)
                if bool(value) == (node.name == "or"):
                    break
            return value
        case Call(name="if"):
            chosen = node.args[1] if evaluate(node.args[0], lookup, read_json) else node.args[2]
            return evaluate(chosen, lookup, read_json)
        case Call(name="coalesce" | "default"):
            for arg in node.args:
                value = evaluate(arg, lookup, read_json)
                if value is not None:
                    return value
            return None
        case Call(name="index", args=(Ref(path=("steps", _, "outputs", _)) as ref, at)):
            index = evaluate(at, lookup, read_json)  # only this element is read, of a list of thousands
            try:
                return (
                    lookup(replace(ref, path=(*ref.path, str(index)))) if isinstance(index, int) else lookup(ref)[index]
                )
            except (KeyError, IndexError):
                raise EvaluationError(f"there is no element {index!r} of {ref}") from None
            except TypeError:
                raise EvaluationError(f"{ref} is missing") from None
        case Call(name="...", args=(first, *links)):
            value = evaluate(first, lookup, read_json)
            for link in links:
                assert isinstance(link, Call)
                value = _applied(link.name, [value, evaluate(link.args[0], lookup, read_json)], read_json)
            return value
        case Call():
            return _applied(node.name, [evaluate(arg, lookup, read_json) for arg in node.args], read_json)


def _applied(name: str, args: list[Any], read_json: Callable[[Any], Any]) -> Any:
    try:
        return _finite(_apply(name, args, read_json))
    except EvaluationError:
        raise
    except ZeroDivisionError:
        raise EvaluationError("division by zero") from None
    except (KeyError, IndexError):
        raise EvaluationError(f"there is no element {args[-1]!r}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise EvaluationError(f"{name}: {error}") from None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise EvaluationError("the result is not a finite number")
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1024:
        raise EvaluationError("the result is too large")
    return value


def _apply(name: str, args: list[Any], read_json: Callable[[Any], Any]) -> Any:
    match name:
        case "list":
            return args
        case "not":
            return not args[0]
        case "==":
            return _plain(args[0]) == _plain(args[1])
        case "!=":
            return _plain(args[0]) != _plain(args[1])
        case "<" | "<=" | ">" | ">=":
            left, right = (to_seconds(a) if isinstance(a, Duration) else a for a in args)
            return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[name]
        case "in":
            return args[0] in args[1] if not isinstance(args[1], str) else text_of(args[0]) in args[1]
        case "not in":
            return not _apply("in", args, read_json)
        case "+":
            return args[0] + args[1]
        case "-":
            return args[0] - args[1]
        case "*":
            return args[0] * args[1]
        case "/":
            return args[0] / args[1]
        case "%":
            return args[0] % args[1]
        case "negate":
            return -args[0]
        case "index":
            return args[0][args[1]]
        case "len":
            return len(args[0])
        case "string":
            return _kept(name, text_of(args[0]), args)
        case "integer":
            return _integer(args[0])
        case "number":
            return args[0] if isinstance(args[0], int | float) and not isinstance(args[0], bool) else float(args[0])
        case "boolean":
            return _boolean(args[0])
        case "json":
            return pointer(read_json(args[0]), args[1] if len(args) == 2 else "")
        case "basename":
            return _kept(name, text_of(args[0]).rstrip("/").rsplit("/", 1)[-1], args)
        case "join":
            return _kept(name, (args[1] if len(args) == 2 else ",").join(text_of(v) for v in args[0]), args)
        case "lower":
            return _kept(name, text_of(args[0]).lower(), args)
        case "starts_with":
            return text_of(args[0]).startswith(args[1])
        case "matches":
            return re.fullmatch(args[1], text_of(args[0])) is not None
        case "min" | "max":
            values = args[0] if len(args) == 1 and isinstance(args[0], list | tuple) else args
            if not values:
                raise EvaluationError(f"{name}() of nothing")
            return min(values) if name == "min" else max(values)
        case "sum":
            return sum(args[0])
        case _:  # round
            # Beyond 400 digits there is nothing to round; Python would compute the power all the same.
            return round(args[0], max(-400, min(400, args[1]))) if len(args) == 2 else round(args[0])


def _kept(name: str, text: str, args: list[Any]) -> str:
    """Return a text made of others; where a file is among them, it stands for that file's content in fingerprints."""
    marked = any(isinstance(a, Marked) or (isinstance(a, list) and any(isinstance(v, Marked) for v in a)) for a in args)
    return Marked(text, {"function": name, "of": plain(args)}) if marked else text


def _plain(value: Any) -> Any:
    return to_seconds(value) if isinstance(value, Duration) else value


def _integer(value: Any) -> int:
    if isinstance(value, float) and value != int(value):
        raise EvaluationError(f"{value!r} is not a whole number")
    return int(value)


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise EvaluationError(f"{value!r} is neither true nor false")


def pointer(value: Any, path: str) -> Any:
    """Follow a JSON Pointer (RFC 6901); raises EvaluationError that says what is there instead."""
    if path and not path.startswith("/"):
        raise EvaluationError(f"a JSON Pointer starts with `/`: {path!r}")
    for raw in path.split("/")[1:]:
        key = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and re.fullmatch("0|[1-9][0-9]{0,8}", key) and int(key) < len(value):
            value = value[int(key)]
        else:
            there = ", ".join(map(str, list(value)[:12])) if isinstance(value, Mapping) else ""
            has = (
                f"there is: {there}" if there else "it holds a list" if isinstance(value, list) else "nothing is there"
            )
            raise EvaluationError(f"no `{path}`; {has}")
    return value
