"""The judge of fuzzing under atheris, which keeps inputs that reach new code: `python -m tests.reliability.covered FOLDER SECONDS`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["runner"]):
    from tests.reliability import fuzzing

    fuzzing.fuzz(
        fuzzing.documented, 300
    )  # what is imported once it is needed is needed here, the compiler first of all


def main(folder: Path, seconds: str) -> None:
    path = fuzzing.project(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, raw in enumerate(fuzzing.seeds()):
        (corpus / str(number)).write_bytes(raw)
    words = folder / "words"
    quoted = ["".join(f"\\x{byte:02x}" for byte in token) for token in fuzzing.TOKENS if len(token) < 64]
    words.write_text("".join(f'"{word}"\n' for word in quoted))

    def judge(raw: bytes) -> None:
        fuzzing.judge(path, raw)

    limits = ["-timeout=10", "-rss_limit_mb=1024", "-max_len=20000", f"-max_total_time={seconds}"]
    atheris.Setup([sys.argv[0], str(corpus), f"-dict={words}", f"-artifact_prefix={folder}/", *limits], judge)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
