"""What a capture says of itself: enough to be understood on another host, years later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FORMAT_VERSION = 2


class ScopeKind(StrEnum):
    """Which processes we look at."""

    HAPROXY = "haproxy"
    PID = "pid"
    COMM = "comm"
    CGROUP = "cgroup"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which processes we look at: ``values`` are pids, command names or a cgroup's path."""

    kind: ScopeKind = ScopeKind.HAPROXY
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {','.join(self.values)}".strip()


@dataclass(frozen=True, slots=True)
class CaptureInfo:
    """The header of a capture, and what the live header shows."""

    host: str
    kernel: str
    machine: str
    hatrace: str
    rung: str
    blind_spots: tuple[str, ...]
    scope: Scope
    command_line: tuple[str, ...]
    started_ns: int
    """CLOCK_MONOTONIC."""
    started_unix_ns: int
    """CLOCK_REALTIME at the same moment; their difference turns every other time into wall time."""
    haproxy_versions: tuple[str, ...] = ()
    detail: str = "full"
    redacted: bool = False
    format_version: int = FORMAT_VERSION

    def wall_s(self, at_ns: int) -> float:
        """Seconds since the epoch of a monotonic time."""
        return (self.started_unix_ns + at_ns - self.started_ns) / 1e9
