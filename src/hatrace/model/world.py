"""World: the picture that the events so far give, as detectors and sinks may read it.

`flows.table` builds it; nothing that reads it may change it, and nothing in it comes from
anywhere but events, so a replay shows the same world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hatrace.model.attribution import Attribution
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import (
    CommandClients,
    CommandSockets,
    Configured,
    Cost,
    Descriptors,
    Holder,
    HostCounters,
    Info,
    LogLine,
    Losses,
    Streams,
    Target,
    TimeWaits,
    Trouble,
)
from hatrace.model.flow import Flow
from hatrace.model.topology import Process, Room, Server, TakenPort

Key = tuple[int, int]
"""`Flow.key`."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A target's traffic between the last two totals, per second."""

    born: float
    gone: float


@dataclass(frozen=True, slots=True)
class Check:
    """One run of a health check, put together from its flow and HAProxy's word."""

    at_ns: int
    """connect()."""
    duration_ns: int | None
    """Until its socket was let go; None: still held."""
    result: str
    """HAProxy's check status where known, else what the socket shows: ``refused`` ..."""
    local: str
    pid: int
    inode: int


@dataclass(frozen=True, slots=True)
class CheckActivity:
    """The health (or agent) checks of one server by one process."""

    pid: int
    server: Server
    agent: bool
    started: int
    """Checks whose connect was seen."""
    ended: int
    held: int
    """Check sockets open now; a healthy check holds at most one."""
    expected_ms: int | None
    """The interval in force now: inter, fastinter or downinter."""
    expected_name: str
    """``inter``, ``fastinter``, ``downinter``, or ``default`` (2 s, not configured)."""
    observed_ms: float | None
    """Median distance of the last checks' connects; None before the second."""
    recent: tuple[Check, ...]
    """The latest runs, oldest first."""
    attribution: Attribution
    """How sure it is that these flows are checks."""
    sharing: int = 1
    """Servers checked at this same address and port, counted here together: a healthy
    endpoint holds at most so many."""


class World(Protocol):
    """What is known at ``now_ns``."""

    @property
    def info(self) -> CaptureInfo: ...
    @property
    def now_ns(self) -> int: ...
    @property
    def open(self) -> Mapping[Key, Flow]:
        """The suspects of the latest scan: open flows that are old or in a wrong state."""

    @property
    def targets(self) -> Mapping[int, Target]:
        """By index."""

    @property
    def rates(self) -> Mapping[int, Rate]:
        """By target index."""

    @property
    def processes(self) -> Mapping[int, Process]:
        """HAProxy's processes by pid."""

    @property
    def servers(self) -> Mapping[int, Sequence[Server]]:
        """By the pid of the worker that said so."""

    @property
    def configured(self) -> Mapping[int, Configured]: ...
    @property
    def taken_ports(self) -> Sequence[TakenPort]:
        """Sockets that keep HAProxy from a bind which its configuration files name now."""

    @property
    def infos(self) -> Mapping[int, Info]: ...
    @property
    def streams(self) -> Mapping[int, Streams]: ...
    @property
    def descriptors(self) -> Mapping[int, Descriptors]: ...
    @property
    def command_sockets(self) -> CommandSockets | None: ...
    @property
    def command_clients(self) -> CommandClients | None:
        """Who connected to the command-line sockets, how often, and when last."""

    @property
    def host(self) -> HostCounters | None:
        """As hatrace's own network namespace has them."""

    @property
    def networks(self) -> Mapping[int, HostCounters]:
        """By network namespace, hatrace's own included."""

    @property
    def time_waits(self) -> Mapping[int, TimeWaits]:
        """By network namespace, of those where TIME_WAIT may take many local ports."""

    @property
    def host_at_start(self) -> HostCounters | None: ...
    @property
    def losses(self) -> Losses: ...
    @property
    def troubles(self) -> Sequence[Trouble]:
        """Those that last."""

    @property
    def cost(self) -> Cost | None: ...
    @property
    def checks(self) -> Sequence[CheckActivity]: ...
    @property
    def log_lines(self) -> Sequence[LogLine]:
        """The latest few hundred."""

    @property
    def rooms(self) -> Mapping[int, Room]:
        """By pid: how many fds those processes have that hold suspects."""

    def check_targets(self) -> Mapping[int, int]:
        """Targets to which checks go → the age in ns from which a socket there is worth a look."""

    def holders(self, inode: int) -> Sequence[Holder]:
        """Which fds hold a socket, as of the latest look."""

    def comm(self, pid: int) -> str:
        """A process's name; empty if it was never seen."""

    def first_seen_ns(self, key: Key) -> int:
        """When a scan first reported this flow."""

    def attribution(self, flow: Flow) -> Attribution: ...
    def target_attribution(self, target: Target) -> Attribution: ...
