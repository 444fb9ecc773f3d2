"""Text streams whose readers may go away at any time (``hatrace live --json | head``)."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import TextIO

from hatrace.errors import EnvironmentLacks


class LineStream:
    """Writes whole lines, each at once; once the reader has gone, it writes nowhere.

    A stream without a file descriptor (io.StringIO) is never ``broken``.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._fd = _descriptor(stream)
        self.broken = False

    def write(self, line: str) -> None:
        if self.broken:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._give_up()
        except OSError as error:
            self._give_up()
            why = error.strerror or str(error)
            raise EnvironmentLacks("cannot write the output", why, "make room") from error

    def check(self) -> None:
        """See whether the reader has gone, without writing (poll(2): POLLERR on a pipe)."""
        if self._fd is None or self.broken:
            return
        poller = select.poll()
        poller.register(self._fd, 0)
        if any(happened & select.POLLERR for _, happened in poller.poll(0)):
            self._give_up()

    def _give_up(self) -> None:
        """What is still buffered goes to /dev/null, so that Python's exit does not complain."""
        self.broken = True
        if self._fd is not None:
            forget(self._fd)
        with contextlib.suppress(OSError):
            self._stream.flush()


def aside(text: str) -> None:
    """Says a line on stderr, which is no part of the answer: where it takes nothing (a pipe that
    nobody reads, a full disk), the answer is given all the same."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        forget(sys.stderr.fileno())


def forget(fd: int) -> None:
    """From now on it is one to nowhere: the interpreter's own flush at exit must not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)


def _descriptor(stream: TextIO) -> int | None:
    """The stream's file descriptor; None if it has none."""
    try:
        return stream.fileno()
    except OSError:  # io.UnsupportedOperation is one
        return None
