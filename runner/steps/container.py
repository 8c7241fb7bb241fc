"""A launch on this machine -> the same in a container: an argv prefix, the same paths inside, the client's variables.

What the step sees is what it would see without: its attempt's directory may be written, what it is given may be read.
Variables are handed on by name, so that no value, a secret's neither, stands in the argv of the client.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ..frozen import frozen


def heeded(name: str) -> bool:
    """Return whether the client itself reads a variable: such a one is given by value, and no secret may be in it."""
    return name in ("HOME", "TMPDIR", "PATH") or name.startswith(("DOCKER_", "CONTAINER", "XDG_"))


def variables(env: Mapping[str, str], path: str) -> dict[str, str]:
    """Return the variables of the client: the step's to hand on, and of those that it heeds the user's own."""
    own = {name: value for name, value in os.environ.items() if heeded(name)}
    return {**{name: value for name, value in env.items() if not heeded(name)}, **own, "PATH": path}


@frozen
class Container:
    """How one attempt is run in a container."""

    engine: str  # docker or podman
    image: str
    name: str
    writable: str  # the attempt's directory
    readable: tuple[str, ...]  # the store's objects and the project files that the step is given
    cpu: float
    memory: int  # bytes; 0 means no limit


def argv(container: Container, command: Iterable[str], cwd: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the argv of the client. `env` are the variables of the step."""
    mounts = [f"type=bind,source={container.writable},target={container.writable}"]
    mounts += [f"type=bind,source={path},target={path},readonly" for path in container.readable]
    for path in (container.writable, *container.readable):
        if "," in path or "\n" in path:
            raise ValueError(f"a container cannot be given {path}: its path holds a comma or a line break")
    user = ["--userns=keep-id"] if container.engine == "podman" and os.geteuid() else []
    own = {"HOME": container.writable, **{name: value for name, value in env.items() if heeded(name)}}
    limits = ["--cpus", f"{container.cpu:g}", *(["--memory", f"{container.memory}b"] if container.memory else [])]
    return (
        container.engine, "run", "--rm", "--init", "--name", container.name, "--label", "runner.step=1", "--log-driver", "none",
        "--entrypoint", "", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        *user, "--user", f"{os.geteuid()}:{os.getegid()}", *limits,
        *(part for mount in mounts for part in ("--mount", mount)), "--workdir", cwd,
        *(part for name, value in own.items() for part in ("--env", f"{name}={value}")),
        *(part for name in env if name not in own for part in ("--env", name)),
        container.image, *command,
    )  # fmt: skip


def cleanup(container: Container) -> tuple[str, ...]:
    """Return the argv that ends the container where the client was killed: it is no child of the client."""
    return (container.engine, "rm", "--force", container.name)
