"""Setup: what a HAProxy's configuration files and its host say, before anything has leaked.

`haproxy.config` reads the files and keeps each line's place; `commands.check` adds the host.
The static checks (`hatrace.checks`) read nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hatrace.model.event import CommandSockets
from hatrace.model.finding import Finding, KnownBug
from hatrace.model.topology import CheckSettings, CommandSocket, Process


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a configuration file."""

    file: str
    line: int
    text: str = ""
    """As it stands there, without blanks at its ends."""
    conditional: bool = False
    """Between ``.if`` and ``.endif``: whether it is in force is not known here."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Setting:
    """A line of the global section: what follows its keyword."""

    value: str
    place: Place


@dataclass(frozen=True, slots=True)
class BindLine:
    """One address of a `bind` line: TCP ports ``low`` to ``high``.  None: not readable here."""

    text: str
    address: bytes | None
    low: int | None
    high: int | None
    place: Place | None
    stream: bool = True
    """False: AF_UNIX or datagrams, which have no TCP port."""


@dataclass(frozen=True, slots=True)
class ServerLine:
    """A `server` with what it inherits; of a `server-template` one for each server."""

    name: str
    place: Place | None
    address: bytes | None
    """None: a name, or not readable."""
    port: int | None
    checked: bool
    check_address: bytes | None
    """Of the check: `addr`, or that of the server."""
    check_port: int | None
    """Of the check: `port`, or that of the server."""
    agent_checked: bool
    backup: bool
    encrypted: bool
    """`ssl` or `check-ssl`: a check begins with a TLS handshake."""
    settings: CheckSettings
    tracks: str = ""
    """``backend/server`` whose check it follows instead of one of its own."""
    rise: int = 2
    fall: int = 3


@dataclass(frozen=True, slots=True)
class Section:
    """A frontend, backend or listen, with what its defaults say."""

    kind: str
    """``frontend``, ``backend`` or ``listen``."""
    name: str
    mode: str
    place: Place | None
    timeouts: Mapping[str, int]
    """ms by name (``client-fin``); 0 means that there is none."""
    places: Mapping[str, Place]
    """Where it, or its defaults, say ``mode``, ``timeout client``, ``option httpchk`` ..."""
    binds: tuple[BindLine, ...]
    servers: tuple[ServerLine, ...]
    check: str | None
    """Kind of its health checks, as `CheckSettings.kind`."""
    dialogue: bool
    """Its checks send or expect something (`tcp-check send`, `http-check expect` ...)."""
    splices: bool
    """One of `option splice-*`."""

    @property
    def has_front(self) -> bool:
        return self.kind != "backend"

    @property
    def has_back(self) -> bool:
        return self.kind != "frontend"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The limits of the host (and network namespace) that HAProxy runs in; None: unreadable."""

    port_low: int | None = None
    port_high: int | None = None
    reserved_ports: tuple[tuple[int, int], ...] = ()
    """net.ipv4.ip_local_reserved_ports, ranges with both ends."""
    nr_open: int | None = None
    """fs.nr_open: what no process can exceed."""
    fd_hard: int | None = None
    """Hard limit of open files of HAProxy, or of this shell where none runs."""
    fd_may_raise: bool = False
    """CAP_SYS_RESOURCE: it may raise its hard limit up to fs.nr_open."""
    cpus: int | None = None
    """CPUs it may run on: its number of threads, unless `nbthread` says another."""
    listeners: Mapping[int, str] = field(default_factory=dict)
    """Port → name of the process on this host that listens there."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What ``haproxy -c`` said of the files."""

    accepted: bool
    binary: str
    version: str | None
    words: tuple[str, ...]
    privileged: bool = True
    """Asked as root: files that HAProxy may read could be read."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One HAProxy, running or about to."""

    at_ns: int
    files: tuple[str, ...]
    general: Mapping[str, Setting]
    """The global section by keyword (``stats timeout`` is one)."""
    sections: tuple[Section, ...]
    global_place: Place | None = None
    options: tuple[str, ...] = ()
    """As `Configured.options`: settings and switches that change what leaks."""
    stats_sockets: tuple[str, ...] = ()
    """Paths of the workers' command-line sockets, as configured."""
    peer_sections: int = 0
    peers: int = 0
    """Peers in all sections, itself included."""
    version: str | None = None
    process: Process | None = None
    """Master or standalone process; None: only files were given."""
    old_workers: tuple[Process, ...] = ()
    master_sockets: tuple[CommandSocket, ...] = ()
    seen: CommandSockets | None = None
    """Connections to the master's sockets; None: could not be seen."""
    host: HostFacts = field(default_factory=HostFacts)
    bugs: tuple[tuple[str, KnownBug], ...] = ()
    """Published bugs of this version with the finding they show as, the surest first."""
    validation: Validation | None = None
    not_validated: str = ""
    """Why HAProxy was not asked."""


@dataclass(frozen=True, slots=True)
class Unasked:
    """A question that could not be asked of this setup, and why."""

    question: str
    why: str


@dataclass(frozen=True, slots=True)
class CheckRow:
    """What the check settings of a backend's servers come to; arithmetic, nothing measured."""

    backend: str
    servers: int
    kind: str
    inter_ms: int
    rise: int
    fall: int
    down_within_ms: int
    """Until a server that hangs is DOWN, at worst."""
    up_within_ms: int
    """Until it is UP again once it answers, at worst."""
    per_day: int
    """Checks of one healthy server in 24 hours, at most."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """HAProxy's own arithmetic of file descriptors."""

    maxconn: int
    computed: bool
    """True: no `maxconn` in the global section, HAProxy takes what its fd limit allows."""
    needed: int
    limit: int | None
    arithmetic: str


@dataclass(frozen=True, slots=True)
class Checked:
    """All answers for one setup."""

    setup: Setup
    findings: tuple[Finding, ...]
    unasked: tuple[Unasked, ...]
    health_checks: tuple[CheckRow, ...]
    descriptors: Descriptors | None
