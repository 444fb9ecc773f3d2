"""Signals to one process that cannot hit another: by pidfd, after its start was compared."""

from __future__ import annotations

import os
import select
import signal
import time
from types import TracebackType
from typing import Self

from hatrace.errors import EnvironmentLacks
from hatrace.haproxy import procfs
from hatrace.model.topology import Process

ROUNDING_NS = 2 * procfs.TICK_NS
"""Two readings of one start differ by less."""


class Handle:
    """A process, held by a pidfd (Linux 5.3): it stays the same one, whatever becomes of its pid.

    Raises EnvironmentLacks if it is gone, or its pid is another's by now.
    """

    def __init__(self, process: Process) -> None:
        self._pid = process.pid
        try:
            self._fd = os.pidfd_open(process.pid)
        except OSError as error:
            raise EnvironmentLacks(f"cannot reach process {self._pid}", str(error)) from error
        stat = procfs.stat(process.pid)
        if stat is None or abs(stat.started_ns - process.started_ns) > ROUNDING_NS:
            os.close(self._fd)
            raise EnvironmentLacks(f"process {self._pid} is another one by now", "it has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def send(self, number: signal.Signals) -> None:
        """Raises EnvironmentLacks if it may not be sent; that it has ended is no trouble."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return
        except OSError as error:
            what = f"cannot send {number.name} to process {self._pid}"
            raise EnvironmentLacks(what, error.strerror or str(error), "run as root") from error

    def ended(self, patience_s: float = 0.0) -> bool:
        """Whether it has ended (also if nobody has waited for it: a zombie holds nothing)."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        end_s = time.monotonic() + patience_s
        while True:
            left_ms = max(0.0, end_s - time.monotonic()) * 1000
            if poll.poll(left_ms):
                return True
            if left_ms == 0:
                return False
