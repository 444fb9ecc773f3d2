"""Which traces hatrace has switched on, kept on disk, so that a killed run can be cleared up.

One file a run, ``check-trace.<pid>.json`` in a folder that only its owner may enter; a run that
is still alive keeps its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hatrace.haproxy import procfs

STATE_DIR = Path("/run/hatrace")


@dataclass(frozen=True, slots=True)
class Traced:
    """A process whose check trace is on, and the socket to switch it off at."""

    pid: int
    started_ticks: int
    seen_as: int
    """Its pid as it says itself."""
    path: str
    root: str

    @property
    def lives(self) -> bool:
        stat = procfs.stat(self.pid)
        return stat is not None and stat.started_ticks == self.started_ticks


class TraceState:
    """This run's file."""

    def __init__(self, folder: Path = STATE_DIR) -> None:
        self._folder = folder
        self._path = folder / f"check-trace.{os.getpid()}.json"

    def keep(self, traced: list[Traced]) -> None:
        """Replaces what is kept; raises OSError."""
        if not traced:
            self._path.unlink(missing_ok=True)
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.geteuid():
            raise PermissionError(f"{self._folder} belongs to somebody else")
        own = procfs.stat(os.getpid())
        data = {
            "owner": os.getpid(),
            "owner_ticks": own.started_ticks if own else 0,
            "traced": [asdict(each) for each in traced],
        }
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
            json.dump(data, file)
        temporary.replace(self._path)

    def left_behind(self) -> Iterator[tuple[Path, list[Traced]]]:
        """Files of runs that have ended without clearing up; what cannot be read is removed."""
        for path in sorted(self._folder.glob("check-trace.*.json")):
            try:
                if path.is_symlink() or path.stat().st_uid != os.geteuid():
                    continue
                data = json.loads(path.read_text())
                owner = procfs.stat(int(data["owner"]))
                alive = owner is not None and owner.started_ticks == data["owner_ticks"]
                traced = [Traced(**each) for each in data["traced"]]
            except (OSError, ValueError, TypeError, KeyError):
                with suppress(OSError):
                    path.unlink()
                continue
            if not alive:
                yield path, traced
