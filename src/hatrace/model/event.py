"""Events: immutable facts with a time.  All that any detector knows came in as one of these.

Each is a line of a capture; `EVENTS` lists them all.  ``at_ns`` is CLOCK_MONOTONIC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from hatrace.model.columns import Columns
from hatrace.model.topology import (
    Bind,
    CommandSocket,
    Endpoint,
    Process,
    Room,
    Server,
    TakenPort,
    Timeouts,
)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, and what belongs to it has been delivered: detectors look now."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Flows which ended, as the kernel handed them over."""

    at_ns: int
    flows: Columns


@dataclass(frozen=True, slots=True)
class Open:
    """The suspects of one scan: every open flow which met the criteria, up to their limit.

    A flow missing from the next scan has ended or is no suspect any more, unless ``matched``
    exceeds the number of records.
    """

    at_ns: int
    records: bytes
    matched: int


@dataclass(frozen=True, slots=True)
class Holder:
    """An fd: process ``pid`` holds the socket ``inode`` as ``fd``."""

    pid: int
    fd: int
    inode: int


@dataclass(frozen=True, slots=True)
class Holders:
    """All socket fds of the processes in scope (/proc/PID/fd or the task_file iterator)."""

    at_ns: int
    held: tuple[Holder, ...]
    names: dict[int, str]
    """comm of each pid."""
    rooms: dict[int, Room] = field(default_factory=dict)
    """Of the pids that hold suspects, as far as they may be read."""


@dataclass(frozen=True, slots=True)
class Target:
    """Totals of one target since hatrace came; ``struct target_total`` of bpf/flow.h."""

    index: int
    inbound: bool
    address: bytes
    port: int
    pid: int
    netns: int
    born: int
    adopted: int
    gone: int
    failed: int
    reset: int
    sent_bytes: int
    received_bytes: int
    lifetime: tuple[int, ...]
    """Gone flows by lifetime: bucket n counts those under 4**n us, the last all above."""

    @property
    def open(self) -> int:
        return self.born + self.adopted - self.gone


@dataclass(frozen=True, slots=True)
class Targets:
    """The totals of every target, as they stand now."""

    at_ns: int
    rows: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Losses:
    """What was not recorded since the start; ``struct losses`` of bpf/flow.h and the sources."""

    at_ns: int
    ring_full: int = 0
    flows_full: int = 0
    targets_full: int = 0
    overwritten: int = 0
    """Ends that no hook saw (a nested run): told late, by the next scan or birth there."""
    scan_truncated: int = 0
    """Open flows that matched in the last scan, but found no room in it."""

    @property
    def total(self) -> int:
        """Records that are missing; an end which was told late is not."""
        return self.ring_full + self.flows_full + self.targets_full


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """An AF_UNIX socket, from unix_diag.  ``peer_inode`` 0: no peer, or it has closed."""

    inode: int
    state: int
    """1 connected, 7 closed, 10 listening (as TCP numbers them)."""
    path: str
    peer_inode: int
    queue: int
    """Listening: connections waiting to be accepted; else bytes to be read."""
    queue_limit: int
    """Listening: the backlog, `queue` may reach one more; else bytes of memory it may fill."""
    waiting: tuple[int, ...] = ()
    """Listening: inodes of the clients whose connection waits (UNIX_DIAG_ICONS)."""


@dataclass(frozen=True, slots=True)
class CommandSockets:
    """HAProxy's command-line sockets, every connection to them, and who holds which end."""

    at_ns: int
    sockets: tuple[CommandSocket, ...]
    unix: tuple[UnixSocket, ...]
    """Their listeners, the accepted ends and the clients' ends."""
    holders: tuple[Holder, ...]
    """Who holds any of these inodes, on the whole host."""
    names: dict[int, str]
    """Command line of each holding pid, as far as it could be read."""


@dataclass(frozen=True, slots=True)
class CommandCalls:
    """How often process ``pid`` connected to the command-line socket ``path``, and when last."""

    path: str
    pid: int
    comm: str
    connects: int
    """Since hatrace came."""
    last_ns: int


@dataclass(frozen=True, slots=True)
class CommandClients:
    """Who connected to HAProxy's command-line sockets: every call, also the shortest."""

    at_ns: int
    calls: tuple[CommandCalls, ...]


@dataclass(frozen=True, slots=True)
class HostCounters:
    """/proc/net/sockstat, /proc/net/netstat and the limits they run against; None: unreadable."""

    at_ns: int
    tcp_inuse: int | None = None
    tcp_alloc: int | None = None
    tcp_orphan: int | None = None
    tcp_time_wait: int | None = None
    max_orphans: int | None = None
    max_time_wait: int | None = None
    port_low: int | None = None
    port_high: int | None = None
    file_used: int | None = None
    file_max: int | None = None
    listen_overflows: int | None = None
    tw_reuse: int | None = None
    """net.ipv4.tcp_tw_reuse: 1 always, 2 on loopback only, 0 never."""
    netns: int | None = None
    """The network namespace that its own counters and limits are of; hatrace's in the first
    event.  Captures before 2026-11-21 do not say it."""


@dataclass(frozen=True, slots=True)
class TimeWaits:
    """Of network namespace ``netns``: connections in TIME_WAIT that keep a local port of its range,
    by remote address and port, the most frequent; said where there are many."""

    at_ns: int
    netns: int
    rows: tuple[tuple[bytes, int, int], ...]
    """Address, port, how many."""


@dataclass(frozen=True, slots=True)
class Processes:
    """HAProxy's processes on this host as of now."""

    at_ns: int
    processes: tuple[Process, ...]


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that worker ``pid`` knows."""

    at_ns: int
    pid: int
    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration files of worker ``pid`` say, as far as they could be read."""

    at_ns: int
    pid: int
    binds: tuple[Bind, ...]
    timeouts: Timeouts
    hard_stop_after_ms: int | None
    options: tuple[str, ...] = ()
    """Settings that change what leaks: ``-dZ``, ``tune.disable-zero-copy-forwarding``,
    ``check-reuse-pool`` ..."""
    endpoints: tuple[Endpoint, ...] = ()
    """Peers, nameservers and log rings it connects to; source addresses of its servers."""


@dataclass(frozen=True, slots=True)
class TakenPorts:
    """Who has the local port of a bind that HAProxy wants; of files changed since its start."""

    at_ns: int
    ports: tuple[TakenPort, ...]


@dataclass(frozen=True, slots=True)
class Info:
    """`show info` of worker ``pid``: its numbers and words, by HAProxy's names."""

    at_ns: int
    pid: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Stream:
    """A line of `show sess`: one stream and the fds of its two sides."""

    pointer: str
    source: str
    frontend: str
    backend: str
    server: str
    front_fd: int | None
    back_fd: int | None
    expires_ms: int | None
    """Time until its timeout; negative: it is past; None: it never expires, or not said."""
    age_ms: int | None


@dataclass(frozen=True, slots=True)
class Streams:
    """`show sess` of worker ``pid``, asked to confirm a suspicion; ``complete`` unless cut."""

    at_ns: int
    pid: int
    streams: tuple[Stream, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A line of `show fd`: what HAProxy takes an fd for."""

    fd: int
    kind: str
    """``client``, ``server``, ``check``, ``listener``, ``cli``, ``master-cli`` or ``other``."""
    server: str
    """``backend/server``, or empty."""
    frontend: str
    local_port: int | None
    remote_port: int | None
    suspicious: bool
    """HAProxy itself marked the line with ``!``."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """`show fd` of worker ``pid``, asked to confirm a finding (it isolates HAProxy's threads)."""

    at_ns: int
    pid: int
    descriptors: tuple[Descriptor, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of HAProxy's own trace of a health check (``--check-events``)."""

    at_ns: int
    pid: int
    server: str
    agent: bool
    text: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line HAProxy logged, from a ring, a file or the journal."""

    at_ns: int
    pid: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """Something a hatrace command changed on this host, after it was confirmed."""

    at_ns: int
    command: str
    result: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A source could not read something: what is blind for now, why, and what to do."""

    at_ns: int
    source: str
    """``runtime-api``, ``proc``, ``sock_diag`` ...; with ``subject`` its identity."""
    subject: str
    why: str
    do: str = ""
    over: bool = False
    """True: it works again."""


OWN = "hatrace"
"""`Trouble.source` where hatrace speaks of itself."""
DETAIL, PACE = "detail", "pace"
"""`Trouble.subject` there: finished flows are only counted; everything is looked at less often."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What hatrace itself cost since its start."""

    at_ns: int
    cpu_ns: int
    resident_bytes: int
    bpf_ns: int | None
    """BPF run time; None: not measured (yet)."""
    bpf_runs: int | None = None
    bpf_measured_ns: int | None = None
    """The part of the time in which BPF was measured; the rest is extrapolated.  None: all."""


Event = (
    Tick
    | Finished
    | Open
    | Holders
    | Targets
    | Losses
    | CommandSockets
    | CommandClients
    | HostCounters
    | TimeWaits
    | Processes
    | Servers
    | Configured
    | TakenPorts
    | Info
    | Streams
    | Descriptors
    | CheckResult
    | LogLine
    | Action
    | Trouble
    | Cost
)

EVENTS: tuple[type[Event], ...] = get_args(Event)
