"""Where a command prints to: stdout, or a new file for its owner's eyes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from hatrace.errors import EnvironmentLacks, UsageError


@contextlib.contextmanager
def destination(path: Path | None, force: bool) -> Iterator[TextIO]:
    """A text stream; a file appears under its name only when it is complete, with mode 0600.

    Raises UsageError for an existing file without ``force``, EnvironmentLacks when the disk
    does not take it.
    """
    if path is None:
        yield sys.stdout
        return
    _refuse(path, force)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield from _written(unfinished, path)
    except OSError as error:
        raise EnvironmentLacks(
            f"cannot write {path}", error.strerror or str(error), "choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def is_there(path: Path) -> bool:
    """Whether it exists; a place we may not look at is refused when it is written."""
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def refuse_itself(path: Path | None, source: Path) -> None:
    """Raises UsageError for a file that is to be written over the one that is read."""
    if path is not None and is_there(path) and path.samefile(source):
        raise UsageError(f"cannot write {path}", "it is the one that is read", "name another file")


def _refuse(path: Path, force: bool) -> None:
    """What must not be overwritten."""
    if is_there(path) and not force:
        raise UsageError(
            f"cannot write {path}", "it exists already", "choose another name, or give --force"
        )
    if is_there(path) and not path.is_file():
        raise EnvironmentLacks(f"cannot write {path}", "it is no regular file", "name a file")


def _written(unfinished: Path, path: Path) -> Iterator[TextIO]:
    number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8", newline="") as stream:
        yield stream
    unfinished.replace(path)
