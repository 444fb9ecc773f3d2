"""The end of a growing file, followed over rotation (rename, copytruncate) as ``tail -F`` does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

MOST_BYTES = 4 << 20
"""Read at once; what is more than that behind is left out, and said."""


class Tail:
    """New whole lines of a file, from its end at the first look; one that comes later whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._first = True
        self.left_out_bytes = 0
        """Of the latest look."""

    def read(self) -> bytes:
        """Whole lines that came since the last call; raises OSError when it cannot be opened."""
        self.left_out_bytes = 0
        from_end, self._first = self._first, False
        data = self._new() if self._file is not None else b""
        if self._file is None or self._replaced():
            self._open(from_end)
            data += self._new()
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        self._rest = self._rest[-65536:]
        return whole + newline

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, from_end: bool) -> None:
        """Raises OSError."""
        self.close()
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        file = os.fdopen(os.open(self._path, flags), "rb", buffering=0)
        if from_end and file.seekable():
            file.seek(0, os.SEEK_END)
        self._file = file

    def _new(self) -> bytes:
        assert self._file is not None
        with suppress(OSError):
            size = os.fstat(self._file.fileno()).st_size
            at = self._file.tell()
            if size < at:  # truncated
                self._file.seek(0)
                at, self._rest = 0, b""
            if size - at > MOST_BYTES:
                self.left_out_bytes += size - at - MOST_BYTES
                self._file.seek(size - MOST_BYTES)
                self._rest = b""
        return self._file.read(MOST_BYTES) or b""

    def _replaced(self) -> bool:
        """Whether the name belongs to another file now."""
        assert self._file is not None
        try:
            now, ours = self._path.stat(), os.fstat(self._file.fileno())
        except OSError:
            return False
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)
