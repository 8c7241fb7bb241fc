"""Random projects: pipelines of shell steps that write a deterministic function of all that they are given.

A step prints what it reads into `o.txt`, and leaves numbers, lists or nothing; every number is small, so that gates change
often. A step that is `blind` prints the same whatever it reads. A `brittle` one fails for one value of its number.
"""

from __future__ import annotations

import random
from typing import Any

from .project import HEAD, ROOT, Doc, Project

SHELL = ["sh", "-eu"]
FILE = {"type": "file", "path": "o.txt"}
NUMBER = {"type": "integer"}
LIST = {"type": "list", "items": "integer"}
LETTERS = "abcdefgh"

PARAMS: dict[str, Doc] = {
    "k": {"type": "integer", "default": 1},
    "j": {"type": "integer", "default": 2},
    "go": {"type": "boolean", "default": True},
    "flag": {"type": "boolean", "default": False},
    "xs": {"type": "list", "items": "integer", "default": [1, 2]},
    "src": {"type": "file", "default": "in0.txt"},
    "cores": {"type": "integer", "default": 1},
    "limit": {"type": "duration", "default": "1m"},
}
INNER_PARAMS: dict[str, Doc] = {"k": {"type": "integer", "default": 1}, "go": {"type": "boolean", "default": True}}


def chance(rng: random.Random, percent: int) -> bool:
    return rng.randrange(100) < percent


class Maker:
    """Makes one pipeline, step by step; each step may read those made before it."""

    def __init__(self, rng: random.Random, inner: list[str], docs: dict[str, Doc], code: list[str], root: bool) -> None:
        self.rng, self.inner, self.docs, self.code, self.root = rng, inner, docs, code, root
        self.params = PARAMS if root else INNER_PARAMS
        self.steps: dict[str, Doc] = {}

    def make(self, count: int) -> Doc:
        """Return a pipeline with about `count` steps."""
        for _ in range(count):
            self.add()
        if self.root and chance(self.rng, 35):
            self.chain()
        empty = self.root and chance(self.rng, 10)
        if self.root and chance(self.rng, 4):
            self.steps[self.free("approval")] = self.approval()
        if any(s["kind"] == "approval" for s in self.steps.values()) and chance(self.rng, 50):
            empty = True  # a run that waits, and a fan-out without items
            self.steps[self.free("fan")] = {**self.fan(), "foreach": {"over": {"x": "$(params.xs)"}}}
        self.join_branches()
        params = {**self.params, **({"xs": {**PARAMS["xs"], "default": []}} if empty else {})}
        doc = {**HEAD, "name": "p" if self.root else "inner", "params": params, "steps": self.steps}
        if self.root and chance(self.rng, 15):
            doc["defaults"] = self.defaults()
            for step in self.steps.values():  # a param of the defaults that gates an inner pipeline
                if step["kind"] == "pipeline" and "env" in doc["defaults"] and chance(self.rng, 70):
                    step["when"] = "$(params.go)"
        if self.root and chance(self.rng, 35):
            doc["failure_policy"] = "finish_independent"
        if chance(self.rng, 60 if self.root else 100):
            doc["outputs"] = self.outputs()
        if chance(self.rng, 20 if self.root else 6):
            doc["finally"] = {("tell" if self.root else "mop"): self.last()}
        return doc

    def chain(self) -> None:
        """Add two steps, one after the other, below an inner pipeline."""
        inner = [
            n
            for n, s in self.steps.items()
            if s["kind"] == "pipeline" and "foreach" not in s and self.outputs_of(n).get("o") == "file"
        ]
        name = self.rng.choice(inner) if inner else ""
        for _ in range(2 if inner else 0):
            new = self.free("shell")
            self.steps[new] = {"kind": "shell", "shell": SHELL, "env": {"A": f"$(steps.{name}.outputs.o)"}}
            self.steps[new] |= {"script": f'cat "$A" > o.txt; echo {new} >> o.txt', "outputs": {"o": dict(FILE)}}
            name = new

    def defaults(self) -> Doc:
        choices: list[Doc] = [{"env": {"G": "$(params.go)"}}, {"env": {"G": "$(params.k)"}}, {"cache": False}]
        return self.rng.choice(choices)

    def add(self) -> None:
        kinds = ["shell"] * 11 + ["condition"] * 4 + ["fan"] * 2 + ["twin"]
        kinds += ["pipeline"] * (3 if self.inner else 0) + (
            ["fail", "approval"] if self.root and chance(self.rng, 50) else []
        )
        kind = self.rng.choice(kinds)
        if kind == "twin" and not self.add_twin():
            kind = "shell"
        makers = {"shell": self.shell, "condition": self.condition, "fan": self.fan, "pipeline": self.sub}
        makers |= {"fail": self.fail, "approval": self.approval}
        if kind != "twin":
            self.steps[self.free(kind)] = self.gated(makers[kind]())

    def free(self, kind: str) -> str:
        first = {"shell": "s", "condition": "c", "fan": "f", "pipeline": "sub", "fail": "stop", "approval": "sign"}[
            kind
        ]
        return next(n for n in (f"{first}{i}" for i in range(100)) if n not in self.steps)

    def add_twin(self) -> bool:
        plain = [n for n, s in self.steps.items() if s["kind"] == "shell"]
        if not plain:
            return False
        same = {k: v for k, v in self.steps[self.rng.choice(plain)].items() if k not in ("needs", "when")}
        self.steps[self.free("shell")] = same
        return True

    # --- what a step reads

    def outputs_of(self, name: str) -> dict[str, str]:
        """Return the outputs of a step by type."""
        step = self.steps[name]
        if step["kind"] == "pipeline":
            return {n: "file" if n == "o" else "integer" for n in self.docs[step["pipeline"]].get("outputs", {})}
        return {n: o["type"] for n, o in step.get("outputs", {}).items()}

    def closed(self, ref: str, other: str, percent: int) -> str:
        return f"coalesce({ref}, {other})" if chance(self.rng, percent) else ref

    def reading(self, name: str) -> tuple[str, bool] | None:
        """Return an expression that reads something of a step, and whether it is a number."""
        step, outs = self.steps[name], self.outputs_of(name)
        if step["kind"] == "condition":
            return f"$(steps.{name}.taken)", False
        if "foreach" in step:
            return self.reading_fan(name, step, outs)
        out = self.rng.choice(sorted(outs)) if outs else ""
        percent = 50 if step.get("on_failure") or step["kind"] == "pipeline" else 30
        if outs.get(out) == "integer":
            return f"$({self.closed(f'steps.{name}.outputs.{out}', '0', percent)})", True
        if outs.get(out) == "file":
            return f"$({self.closed(f'steps.{name}.outputs.{out}', chr(34) + 'none' + chr(34), percent)})", False
        if outs.get(out) == "list":
            return f"$(len(steps.{name}.outputs.{out}))", True
        return None

    def reading_fan(self, name: str, step: Doc, outs: dict[str, str]) -> tuple[str, bool] | None:
        choices = [(f"$(steps.{name}.count)", True)]
        best = "best" in step["foreach"]
        if "n" in outs and "when" not in step and step.get("on_failure") != "continue":
            choices.append((f"$(sum(steps.{name}.outputs.n))", True))
        if "n" in outs:
            choices.append((f"$(len(steps.{name}.outputs.n))", True))
        if best:
            choices += [(f"$(steps.{name}.best.outputs.{o})", t == "integer") for o, t in outs.items()] * 2
            choices += [(f"$(steps.{name}.best.each.x)", True)]
        return self.rng.choice(choices)

    def env(self, most: int = 3) -> tuple[Doc, list[str]]:
        """Return variables of a step, and which of them are numbers."""
        env: Doc = {}
        numbers = []
        near = [*self.steps, *list(self.steps)[-2:]]  # the last ones are likelier: longer chains
        chosen = {self.rng.choice(near) for _ in range(self.rng.choice([0, 1, 1, 1, 2, 2, most])) if near}
        for name in sorted(chosen):
            if found := self.reading(name):
                env[LETTERS[len(env)].upper()] = found[0]
                numbers += [LETTERS[len(env) - 1].upper()] if found[1] else []
        for param in [p for p in ("k", "j", "go") if p in self.params and chance(self.rng, 22)]:
            env[param.upper()] = f"$(params.{param})"
            numbers += [param.upper()] if param != "go" else []
        return env, numbers

    # --- kinds

    def shell(self) -> Doc:
        env, numbers = self.env()
        step: Doc = {"kind": "shell", "shell": SHELL}
        if env:
            step["env"] = env
        code = [self.rng.choice(self.code)] if chance(self.rng, 45) else []
        if code:
            step["code"] = code
        if self.root and chance(self.rng, 12):
            step["inputs"] = {"d": self.rng.choice(["$(params.src)", "in0.txt", "in1.txt"])}
        outs = {"o": dict(FILE)} if chance(self.rng, 88) else {}
        outs |= {"n": dict(NUMBER)} if chance(self.rng, 45) else {}
        outs |= {"l": dict(LIST)} if chance(self.rng, 20) else {}
        step["script"] = self.script(step, numbers, outs)
        if outs:
            step["outputs"] = outs
        self.spice(step)
        return step

    def script(self, step: Doc, numbers: list[str], outs: Doc) -> str:
        """Return a script that makes the outputs out of all that the step is given."""
        word = self.rng.choice(LETTERS)
        blind = chance(self.rng, 12)
        sources = [f'"${n}"' for n in step.get("env", {})] + step.get("code", [])
        sources += ['"$RUNNER_INPUT_D"'] if "inputs" in step else []
        terms = "".join(f" + {n}" for n in numbers) + "".join(f" + $(cat {c})" for c in step.get("code", []))
        parts = []
        if "n" in outs or "l" in outs or chance(self.rng, 10):
            parts.append(f"n=$(( ({self.rng.randrange(5)}{'' if blind else terms}) % 5 ))")
            parts += [f"test $n != {self.rng.choice([0, 3, 4])}"] if chance(self.rng, 8) else []
        elif step.get("code") and chance(self.rng, 15):
            parts.append(f'test "$(cat {step["code"][0]})" != 4')
        if "o" in outs:
            shown = " ".join([word, *([] if blind else sources)])
            parts.append(f'for v in {shown}; do if [ -f "$v" ]; then cat "$v"; else echo "$v"; fi; done > o.txt')
        if "l" in outs:
            parts.append('case $n in 0) l="[]";; 1) l="[1]";; 2) l="[2, 3]";; *) l="[1, 2]";; esac')
        values = [f'\\"{n}\\": ${n}' for n in ("n", "l") if n in outs]
        if values:
            parts.append(f'echo "{{{", ".join(values)}}}" > $RUNNER_VALUES')
        return "; ".join(parts) or f"echo {word}"

    def spice(self, step: Doc) -> None:
        """Give a step some of the rarer fields."""
        if step.get("outputs") and chance(self.rng, 6):
            step["cache"] = self.rng.choice([False, {"key": ["$(params.k)"]}, True])
        if self.root and chance(self.rng, 5):
            step["resources"] = {"cpu": "$(params.cores)"}
        if self.root and chance(self.rng, 4):
            step["timeout"] = "$(params.limit)"
        if chance(self.rng, 4):
            step["retry"] = {"max_attempts": 2, "interval": "1ms"}

    def fan(self) -> Doc:
        step = self.shell()
        step.setdefault("env", {})["X"] = "$(each.x)"
        outs = {"o": dict(FILE), "n": dict(NUMBER)}
        numbers = ["X", *([] if not step.get("env") else [n for n in ("K", "J") if n in step["env"]])]
        step["script"], step["outputs"] = self.script(step, numbers, outs), outs
        step["foreach"] = self.foreach()
        return step

    def foreach(self) -> Doc:
        lists = [
            f"$(steps.{n}.outputs.l)"
            for n, s in self.steps.items()
            if "l" in s.get("outputs", {}) and "foreach" not in s
        ]
        axes: list[Any] = [[1, 2], [2], [1, 2, 3], *lists, *lists, *lists, *lists]
        axes += ["$(params.xs)", "$(params.xs)"] if self.root else []
        made: Doc = {"over": {"x": self.rng.choice(axes)}}
        if chance(self.rng, 12):
            made["over"]["y"] = [0, 1]
        if chance(self.rng, 50):
            made["best"] = {"output": "n", "mode": self.rng.choice(["min", "max"])}
        if chance(self.rng, 15):
            made["fail_fast"] = False
        return made

    def test(self) -> str:
        """Return a boolean expression, without its parentheses."""
        choices = ["params.go", "not params.go", f"params.k {self.rng.choice('<>')} {self.rng.choice([1, 2])}"]
        choices += ["params.flag", f"params.j > {self.rng.choice([1, 2])}"] if self.root else []
        for name in self.steps:
            if (found := self.reading(name)) and found[1]:
                choices += [
                    f"{found[0][2:-1]} {self.rng.choice(['<', '>', '!='])} {self.rng.choice([1, 2, 'params.k'])}"
                ] * 2
            if self.steps[name]["kind"] == "condition":
                choices += [self.rng.choice(["", "not "]) + f"steps.{name}.taken"]
        return self.rng.choice(choices)

    def condition(self) -> Doc:
        if chance(self.rng, 10):
            return {"kind": "condition", "if": [f"$({self.test()})", f"$({self.test()})"]}
        return {"kind": "condition", "if": f"$({self.test()})"}

    def fail(self) -> Doc:
        return {"kind": "fail", "message": "it is over", "when": f"$({self.test()})"}

    def approval(self) -> Doc:
        return {"kind": "approval", "message": "all right?"}

    def sub(self) -> Doc:
        step: Doc = {"kind": "pipeline", "pipeline": self.rng.choice(self.inner)}
        given: Doc = {}
        if chance(self.rng, 60):
            numbers = [f[0] for n in self.steps if (f := self.reading(n)) and f[1] and "coalesce" not in f[0]]
            given["k"] = self.rng.choice(["$(params.k)", "$(params.k + 1)", *numbers])
        if chance(self.rng, 50):
            given["go"] = self.rng.choice(
                ["$(params.go)", "$(not params.go)", *(["$(params.flag)"] if self.root else [])]
            )
        has_final = "finally" in self.docs[step["pipeline"]]
        if chance(self.rng, 30) and not has_final and not self.finals_in(step["pipeline"]):
            step["foreach"] = {**self.foreach()}
            step["foreach"].pop("best", None)
            given["k"] = "$(each.x)"
        if given:
            step["params"] = given
        return step

    def finals_in(self, path: str) -> bool:
        doc = self.docs[path]
        inner = [s["pipeline"] for s in doc["steps"].values() if s["kind"] == "pipeline"]
        return "finally" in doc or any(map(self.finals_in, inner))

    def gated(self, step: Doc) -> Doc:
        """Give a step what decides whether it starts."""
        names = sorted(self.steps)
        if names and chance(self.rng, 14):
            step["needs"] = self.rng.sample(names, min(len(names), self.rng.choice([1, 1, 2])))
        if "when" not in step and chance(self.rng, 16):
            step["when"] = f"$({self.test()})"
        if step["kind"] in ("shell", "pipeline") and chance(self.rng, 12 if step["kind"] == "shell" else 22):
            step["on_failure"] = "continue"
        if step["kind"] == "shell" and chance(self.rng, 7):
            step["trigger"] = "none_failed"
        return step

    def join_branches(self) -> None:
        """Put steps into the branches of the conditions before them."""
        names, free = list(self.steps), set(self.steps)
        for at, name in enumerate(names):
            step = self.steps[name]
            later = [n for n in names[at + 1 :] if n in free]
            if step["kind"] != "condition" or not later:
                continue
            chosen = self.rng.sample(later, min(len(later), self.rng.choice([0, 1, 1, 2, 2, 3])))
            free -= set(chosen)
            for other in chosen:
                if chance(self.rng, 30):
                    self.steps[other].setdefault("when", "$(params.go)")
            cut = self.rng.choice([0, len(chosen), len(chosen), len(chosen) // 2])
            step.update({side: part for side, part in (("then", chosen[:cut]), ("else", chosen[cut:])) if part})

    def outputs(self) -> Doc:
        """Return the outputs of the pipeline: `o` a file and `n` a number where it is an inner one."""
        files = [
            f"steps.{n}.outputs.o"
            for n, s in self.steps.items()
            if "foreach" not in s and self.outputs_of(n).get("o") == "file"
        ]
        numbers = [
            f"steps.{n}.outputs.n"
            for n, s in self.steps.items()
            if "foreach" not in s and self.outputs_of(n).get("n") == "integer"
        ]
        made: Doc = {}
        if files:
            picked = self.rng.sample(files, min(len(files), self.rng.choice([1, 1, 2])))
            made["o"] = f"$({picked[0]})" if len(picked) == 1 else f"$(coalesce({picked[0]}, {picked[1]}))"
        if numbers:
            picked = self.rng.sample(numbers, min(len(numbers), self.rng.choice([1, 1, 2])))
            closed = f"coalesce({', '.join([*picked, '9'])})" if chance(self.rng, 50) or not self.root else picked[0]
            made["n"] = f"$({closed}{' + 1' if 'coalesce' in closed and chance(self.rng, 20) else ''})"
        if self.root and chance(self.rng, 15):
            made["k"] = "$(params.k)"
        return made

    def last(self) -> Doc:
        """Return a step of `finally`."""
        env = {"S": "$(run.status)"} if chance(self.rng, 50) else {}
        for name in self.steps:
            if (
                self.outputs_of(name).get("n") == "integer"
                and "foreach" not in self.steps[name]
                and chance(self.rng, 50)
            ):
                env["N"] = f"$(coalesce(steps.{name}.outputs.n, 0))"
        script = f"for v in z {' '.join(f'${n}' for n in env)}; do echo $v; done > o.txt"
        return {
            "kind": "shell",
            "shell": SHELL,
            **({"env": env} if env else {}),
            "script": script,
            "outputs": {"o": dict(FILE)},
        }


def project(rng: random.Random) -> Project:
    """Return a random project."""
    code = [f"c{i}.txt" for i in range(rng.choice([2, 3, 4]))]
    docs: dict[str, Doc] = {}
    inner: list[str] = []
    for name in ["in2.yaml", "in1.yaml"]:
        if chance(rng, 45):
            docs[name] = Maker(rng, list(inner), docs, code, root=False).make(rng.choice([1, 2, 2, 3, 3]))
            inner.append(name)
    docs[ROOT] = Maker(rng, inner, docs, code, root=True).make(rng.choice([2, 3, 4, 4, 5, 5, 6, 7]))
    files = {name: f"{rng.randrange(5)}\n" for name in [*code, "in0.txt", "in1.txt"]}
    return {"docs": docs, "files": files}
