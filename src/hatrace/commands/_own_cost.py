"""What hatrace itself costs: CPU, memory, and the time its BPF programs run inside others' calls.

The kernel times BPF programs only while somebody asks it to, and that costs some 50 ns for each
run of any program of the host.  So it is asked for a second in thirty, earlier when the load has
changed, and the rest is extrapolated; where `kernel.bpf_stats_enabled` is 1, it counts always.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hatrace.kernel.bpf import enable_stats
from hatrace.model.event import Cost

EVERY_NS, SOONEST_NS = 30_000_000_000, 3_000_000_000
CHANGED = 2.0
"""Another sample is due when so many times as many flows end as in the last, or as few."""
IDLE = 10.0
"""Ended flows each second below which it does not matter how many they are."""
_ENABLED = Path("/proc/sys/kernel/bpf_stats_enabled")

Read = Callable[[], tuple[int, int] | None]
"""Run time in ns and runs of hatrace's programs, as far as they were counted; None: no BPF."""


class BpfTime:
    """Run time and runs since the start, by samples.  ``enable`` gives an fd: counts until it
    is closed; it raises OSError where that is not allowed."""

    def __init__(self, read: Read, enable: Callable[[], int], now_ns: int) -> None:
        self._read, self._enable = read, enable
        self._last_ns, self._gone = now_ns, 0
        self._began_ns: int | None = None
        self._sampled_rate = 0.0
        self._fd: int | None = None
        self._before = (0, 0)
        self._per_ns: tuple[float, float] | None = None
        self._unmeasured_ns = 0
        self._ns = self._runs = 0.0
        self.measured_ns = 0

    def look(self, now_ns: int, gone: int) -> tuple[int, int] | None:
        """The sums as of now, when ``gone`` flows have ended; None before the first sample.

        A sample lasts from one look to the next.
        """
        span_ns, self._last_ns = now_ns - self._last_ns, now_ns
        ended, self._gone = gone - self._gone, gone
        rate = max(IDLE, ended / span_ns * 1e9) if span_ns > 0 else IDLE
        if self._fd is not None:
            self._end(span_ns, rate)
        elif self._is_due(now_ns, rate):
            self._begin(now_ns)
        self._unmeasured_ns += span_ns
        if self._per_ns is None:
            return None
        self._ns += self._per_ns[0] * self._unmeasured_ns
        self._runs += self._per_ns[1] * self._unmeasured_ns
        self._unmeasured_ns = 0
        return round(self._ns), round(self._runs)

    def _is_due(self, now_ns: int, rate: float) -> bool:
        if self._began_ns is None or now_ns - self._began_ns >= EVERY_NS:
            return True
        ratio = rate / self._sampled_rate if self._sampled_rate else 1.0
        changed = not 1 / CHANGED <= ratio <= CHANGED
        return changed and now_ns - self._began_ns >= SOONEST_NS

    def _begin(self, now_ns: int) -> None:
        before = self._read()
        self._began_ns = now_ns
        if before is not None:
            self._before = before
            with contextlib.suppress(OSError):
                self._fd = self._enable()

    def _end(self, span_ns: int, rate: float) -> None:
        now = self._read()
        self.close()
        if now is not None and span_ns > 0:
            ns, runs = now[0] - self._before[0], now[1] - self._before[1]
            self._per_ns = ns / span_ns, runs / span_ns
            self.measured_ns += span_ns
            self._sampled_rate = rate

    def close(self) -> None:
        """Ends a sample that is being taken."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class OwnCost:
    """Own CPU time, memory and BPF time since this was made.  ``sample``: let the kernel time
    BPF now and then, where it does not anyway."""

    def __init__(self, read: Read, sample: bool = True) -> None:
        self._began_cpu_ns = _cpu_ns()
        self._read = read
        self._bpf = None
        if sample and not _counted_anyway():
            self._bpf = BpfTime(read, enable_stats, time.monotonic_ns())

    @property
    def cpu_ns(self) -> int:
        return _cpu_ns() - self._began_cpu_ns

    def event(self, gone: int) -> Cost:
        """As of now, when ``gone`` flows have ended."""
        now_ns = time.monotonic_ns()
        if self._bpf:
            bpf, measured_ns = self._bpf.look(now_ns, gone), self._bpf.measured_ns
        else:
            bpf, measured_ns = (self._read() if _counted_anyway() else None), None
        cost = Cost(now_ns, self.cpu_ns, _resident_bytes(), None)
        if bpf is None:
            return cost
        return replace(cost, bpf_ns=bpf[0], bpf_runs=bpf[1], bpf_measured_ns=measured_ns)

    def close(self) -> None:
        if self._bpf:
            self._bpf.close()


def _counted_anyway() -> bool:
    try:
        return _ENABLED.read_text().strip() == "1"
    except OSError:
        return False


def _cpu_ns() -> int:
    """User and system time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
