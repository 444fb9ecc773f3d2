"""hatrace as its users run it: a process, its JSON lines as they come, and how it ends.

with Hatrace("live", "--pid", str(pid), "--json") as hatrace:
    finding = hatrace.finding("check-leak")
    ended = hatrace.end(signal.SIGTERM)
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hatrace.kernel import bpf

SOURCE = str(Path(__file__).parents[2] / "src")
PATIENCE_S = 40.0
"""For whatever must happen at all; the machine may be busy."""

_PROG_BY_ID, _MAP_BY_ID, _LINK_BY_ID = 13, 14, 30
"""BPF_{PROG,MAP,LINK}_GET_FD_BY_ID."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """What a run of hatrace left to be read."""

    code: int
    rows: list[Row]
    """Its JSON lines."""
    out: str
    errors: str

    def findings(self, change: str | None = None) -> list[Row]:
        """The finding lines, of one kind of change if given."""
        rows = [row for row in self.rows if row["type"] == "finding"]
        return [row for row in rows if change in (None, row["change"])]

    @property
    def slugs(self) -> set[str]:
        return {row["finding"]["slug"] for row in self.findings()}

    @property
    def troubles(self) -> list[Row]:
        return [row["trouble"] for row in self.rows if row["type"] == "trouble"]


class Hatrace:
    """A running hatrace.  Its environment carries a mark, so that whatever it starts is found.

    ``before``: a command that runs it, as `setpriv` or `unshare`.
    """

    def __init__(
        self, *words: str, environment: Mapping[str, str] | None = None, before: Sequence[str] = ()
    ) -> None:
        self.mark = f"HATRACE_TEST={secrets.token_hex(8)}"
        name, value = self.mark.split("=")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._rows: list[Row] = []
        self._lines: list[str] = []
        self.child = subprocess.Popen(
            [*before, sys.executable, "-m", "hatrace", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"PYTHONPATH": SOURCE, name: value} | dict(environment or {}),
        )
        self.pid = self.child.pid
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._lines.append(line)
            if line.startswith('{"type":'):
                self._rows.append(json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        self._reader.join()
        assert self.child.stdout is not None
        self.child.stdout.close()
        self._errors.close()

    def row(self, wanted: Callable[[Row], object], seconds: float = PATIENCE_S) -> Row:
        """The first line that meets a condition, waited for; fails with all that came instead."""
        deadline = time.monotonic() + seconds
        while True:
            over = self.child.poll() is not None
            if over:
                self._reader.join()
            found = next((row for row in self._rows if wanted(row)), None)
            if found is not None:
                return found
            assert not over and time.monotonic() < deadline, self._story()
            time.sleep(0.02)

    def started(self) -> Row:
        return self.row(lambda row: row["type"] == "start")

    def finding(self, slug: str, change: str = "opened") -> Row:
        """The finding of the first such change."""
        row = self.row(
            lambda row: (
                row["type"] == "finding"
                and row["change"] == change
                and row["finding"]["slug"] == slug
            )
        )
        found: Row = row["finding"]
        return found

    def trouble(self, source: str, over: bool = False) -> Row:
        row = self.row(
            lambda row: (
                row["type"] == "trouble"
                and row["trouble"]["source"] == source
                and row["trouble"]["over"] == over
            )
        )
        found: Row = row["trouble"]
        return found

    def end(self, number: signal.Signals | None = None, seconds: float = 90.0) -> Ended:
        """Wait for its end, after a signal if given."""
        if number is not None:
            self.child.send_signal(number)
        code = self.child.wait(seconds)
        self._reader.join()
        return Ended(code, list(self._rows), "".join(self._lines), self._said())

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def _story(self) -> str:
        return f"exit {self.child.poll()}; said {self._said()!r}; lines {self._rows!r:.3000}"

    def relatives(self) -> list[int]:
        """The processes with its mark, itself included while it runs."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in entry.read_bytes().split(b"\0"):
                    found.append(int(entry.parent.name))
            except OSError:
                continue
        return found

    def bpf_ids(self) -> set[tuple[int, int]]:
        """(get-by-id command, id) of each BPF program, map and link it holds open."""
        kinds = {"prog_id": _PROG_BY_ID, "map_id": _MAP_BY_ID, "link_id": _LINK_BY_ID}
        found = set()
        for entry in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            try:
                text = entry.read_text()
            except FileNotFoundError:  # it works: files come and go, those of BPF stay
                continue
            for name, number in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE):
                if name in kinds:
                    found.add((kinds[name], int(number)))
        return found

    def resident_bytes(self) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", text)[0]) << 10


def run(*words: str, **options: Any) -> Ended:
    """A hatrace that ends by itself."""
    with Hatrace(*words, **options) as hatrace:
        return hatrace.end()


def exists(command: int, number: int) -> bool:
    """Whether the kernel still has a BPF object of this id."""
    try:
        os.close(bpf.call(command, number.to_bytes(4, "little")))
    except FileNotFoundError:
        return False
    return True
