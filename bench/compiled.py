"""The C programs of this folder: compiled here and now, and asked by lines."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent


class Program:
    """It answers each line of input with one of output."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name, self._process = name, process
        self.pid = process.pid

    def ask(self, line: str = "") -> list[str]:
        """The words of its answer."""
        assert self._process.stdin
        print(line, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> list[str]:
        """The words of its next line."""
        assert self._process.stdout
        words = self._process.stdout.readline().split()
        if not words:
            raise RuntimeError(f"{self._name} has ended: see what it said above")
        return words


@contextmanager
def compiled(source: str, name: str, *arguments: str) -> Iterator[Program]:
    """``source`` as a process of this name; its end of input is its end, and its children's."""
    with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as folder:
        made = Path(folder, name)
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", made, HERE / source], check=True)
        process = subprocess.Popen(
            [made, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:
            yield Program(name, process)
