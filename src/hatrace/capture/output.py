"""The file under a capture: created for its owner alone, appended to, never left half-written."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path

from hatrace.errors import EnvironmentLacks, UsageError


class Output(io.IOBase):
    """An append-only file which can fall back to its last good end when the disk is full."""

    def __init__(self, path: Path, force: bool) -> None:
        self._path = path
        self._fd = _create(path, force)
        self._end = self._good = 0
        self.failed = False

    def write(self, data: bytes) -> int:
        """Appends all of ``data``; raises EnvironmentLacks, and what was not marked is cut off."""
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError as error:
                raise self._fail(error) from error
            self._end += written
            view = view[written:]
        return len(data)

    def tell(self) -> int:
        return self._end

    def mark_good(self) -> None:
        """Everything up to here is complete; a later failure keeps it."""
        self._good = self._end

    def close(self) -> None:
        """Makes it durable; raises EnvironmentLacks when the disk does not take it."""
        if self.closed:
            return
        super().close()
        try:
            if not self.failed:
                os.fsync(self._fd)
        except OSError as error:
            raise self._fail(error) from error
        finally:
            os.close(self._fd)

    def _fail(self, error: OSError) -> EnvironmentLacks:
        self.failed = True
        with contextlib.suppress(OSError):  # a disk that fails may refuse that, too
            os.ftruncate(self._fd, self._good)
        do = "make room and record again"
        if self._good:
            do += f"; what was recorded until then is kept in {self._path}"
        else:  # nothing was: its name is free for the next try
            with contextlib.suppress(OSError):
                self._path.unlink()
        return EnvironmentLacks(f"cannot write {self._path}", error.strerror or str(error), do)


def _create(path: Path, force: bool) -> int:
    """A new file with mode 0600; an old one, or a link, is never written through."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        if force:
            _remove(path)
        return os.open(path, flags, 0o600)
    except FileExistsError:
        raise UsageError(
            f"cannot write {path}", "it exists already", "choose another name, or give --force"
        ) from None
    except OSError as error:
        raise EnvironmentLacks(
            f"cannot write {path}", error.strerror or str(error), "choose another place"
        ) from error


def _remove(path: Path) -> None:
    """A file or a link.  A device or a pipe is not ours to replace: as root, /dev/null goes."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise EnvironmentLacks(f"cannot write {path}", "it is no regular file", "name a file")
        path.unlink()
