"""A text editor without a screen: opens texts in the real yaml-language-server, and returns what it would show.

Messages are JSON-RPC over the server's standard streams (Language Server Protocol 3.17). Every wait has an end.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 20.0  # the longest wait for one answer; a loaded machine may need a second
# No catalogue of schemas is asked for, and whatever would be fetched all the same meets a closed port.
SETTINGS: dict[str, Any] = {
    "yaml": {
        "schemaStore": {"enable": False},
        "kubernetesCRDStore": {"enable": False},
        "hoverSchemaSource": False,  # would put the schema's absolute path below every text
    },
    "http": {"proxy": "http://127.0.0.1:1"},
}


def find_server(root: Path) -> str | None:
    """Return the server on PATH, else one that npm installed into the repository, else None."""
    places = [os.environ.get("PATH", ""), str(root / "node_modules/.bin"), str(root / ".ci/node/node_modules/.bin")]
    return shutil.which("yaml-language-server", path=os.pathsep.join(places))


def place(text: str) -> dict[str, int]:
    """Return the position behind a text that begins a document; lines and characters count from 0."""
    return {"line": text.count("\n"), "character": len(text) - text.rfind("\n") - 1}


class Editor:
    """One server. Each text is opened as a file of its own, which need not be on disk, in a folder that is."""

    def __init__(self, program: str) -> None:
        self.server = subprocess.Popen(
            [program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.received: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.numbers = itertools.count(1)
        self._ask("initialize", {"processId": os.getpid(), "rootUri": None, "capabilities": {"workspace": {"configuration": True}}})  # fmt: skip
        self._write({"method": "initialized", "params": {}})
        self._until(lambda message: message.get("method") == "workspace/configuration")

    def close(self) -> None:
        """End the server, by the protocol if it listens."""
        try:
            self._ask("shutdown", None)
            self._write({"method": "exit"})
            self.server.wait(SECONDS)
        finally:
            self.server.kill()
            self.server.wait()

    def underlined(self, text: str, folder: Path) -> list[tuple[dict[str, Any], str]]:
        """Return the range and the message of each diagnostic."""
        uri = self._open(text, folder)
        shown = self._until(
            lambda message: (
                message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri
            )
        )
        return [(found["range"], found["message"]) for found in shown["params"]["diagnostics"]]

    def offered(self, text: str, cursor: dict[str, int], folder: Path) -> list[dict[str, Any]]:
        """Return the completions with the cursor at a place."""
        items: list[dict[str, Any]] = self._at("textDocument/completion", text, cursor, folder)["items"]
        return items

    def hovered(self, text: str, pointer: dict[str, int], folder: Path) -> str:
        """Return the text that is shown with the pointer at a place."""
        value: str = self._at("textDocument/hover", text, pointer, folder)["contents"]["value"]
        return value

    def _at(self, method: str, text: str, position: dict[str, int], folder: Path) -> Any:
        return self._ask(method, {"textDocument": {"uri": self._open(text, folder)}, "position": position})

    def _open(self, text: str, folder: Path) -> str:
        uri = (folder / f"opened-{next(self.numbers)}.yaml").as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._write({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        return uri

    def _ask(self, method: str, params: Any) -> Any:
        number = next(self.numbers)
        self._write({"id": number, "method": method, "params": params})
        answer = self._until(lambda message: message.get("id") == number and "method" not in message)
        assert "error" not in answer, answer
        return answer["result"]

    def _write(self, message: dict[str, Any]) -> None:
        assert self.server.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.server.stdin.flush()

    def _read(self) -> None:
        """Put what the server says into the queue, and None when it has ended."""
        assert self.server.stdout is not None
        length = 0
        while line := self.server.stdout.readline():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            elif not line.strip():
                self.received.put(json.loads(self.server.stdout.read(length)))
        self.received.put(None)

    def _until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first message that is wanted; what the server itself asks meanwhile is answered."""
        end = time.monotonic() + SECONDS
        while True:
            message = self.received.get(timeout=max(0.0, end - time.monotonic()))
            assert message is not None, "the language server ended"
            if "id" in message and "method" in message:
                self._write({"id": message["id"], "result": self._answer(message)})
            if wanted(message):
                return message

    def _answer(self, message: dict[str, Any]) -> Any:
        if message["method"] == "workspace/configuration":
            return [SETTINGS.get(item["section"]) for item in message["params"]["items"]]
        return None
