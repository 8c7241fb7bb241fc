"""One workload, written for the runner and for ninja: layers of shell steps that each read three of the layer before."""

from __future__ import annotations

import random
from pathlib import Path


def sources(layers: int, width: int) -> dict[str, list[str]]:
    """Return the inputs of every step."""
    out: dict[str, list[str]] = {}
    for layer in range(layers):
        for i in range(width):
            out[f"s{layer}-{i}"] = [f"s{layer - 1}-{(i + k * 7) % width}" for k in range(3)] if layer else []
    return out


def graph(steps: int, inputs: int) -> dict[str, list[str]]:
    """Return steps that each read some of the 200 before them, the same at every call."""
    chance = random.Random(1)
    names = [f"s{i}" for i in range(steps)]
    return {n: chance.sample(names[max(0, i - 200) : i], min(inputs, i)) for i, n in enumerate(names)}


def write_runner(folder: Path, steps: dict[str, list[str]]) -> None:
    lines = ["apiVersion: runner/v1", "kind: Pipeline", "name: layers", "steps:"]
    for name, inputs in steps.items():
        lines += [f"  {name}:", "    kind: shell"]
        if inputs:
            lines += [f"    inputs: {{{', '.join(f'i{k}: $(steps.{s}.outputs.o)' for k, s in enumerate(inputs))}}}"]
        files = " ".join(f'"$RUNNER_INPUT_I{k}"' for k in range(len(inputs))) or "/dev/null"
        lines += [
            "    shell: [sh, -eu]",
            "    script: |",
            f"      {{ echo {name}; cat {files}; }} | head -c 200 > o",
            "    outputs: {o: {type: file}}",
        ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runner.toml").touch()
    (folder / "p.yaml").write_text("\n".join(lines) + "\n")
