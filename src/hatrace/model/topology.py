"""What HAProxy is on this host: processes, command-line sockets, servers and configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hatrace.model.address import packed

_NO_TCP = ("/", "unix@", "abns@", "sockpair@")
"""How command-line sockets begin that are not at a TCP address."""


class Kind(StrEnum):
    """Which part of HAProxy a process plays."""

    MASTER = "master"
    WORKER = "worker"
    OLD_WORKER = "old-worker"
    STANDALONE = "standalone"


class Level(StrEnum):
    """Levels of the runtime API (management guide, 9.3; `level` of `stats socket`)."""

    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class CommandSocket:
    """A command-line socket: ``-S`` of a master, or ``stats socket`` of a worker.

    ``path`` as configured; the kernel knows it as ``path`` or ``<path>.<pid>.tmp``
    (bind(2) to a temporary name, then rename).  ``address`` is set for TCP ones.
    """

    path: str
    master: bool
    pid: int
    inode: int | None = None
    limit: int | None = None
    """Connections it serves at once: 10 for a master (fixed in the source), `stats maxconn`."""
    level: Level | None = None

    @property
    def tcp(self) -> tuple[bytes | None, int] | None:
        """Address (``None``: a name) and port of ``127.0.0.1:9999`` or ``ipv6@[::1]:9999``;
        ``None`` for a UNIX path."""
        host, colon, port = self.path.rpartition(":")
        if self.path.startswith(_NO_TCP) or not colon or not port.isdecimal():
            return None
        host = host.rpartition("@")[2].strip("[]")
        try:
            return packed(host if host not in ("", "*") else "0.0.0.0"), int(port)
        except ValueError:
            return None, int(port)


@dataclass(frozen=True, slots=True)
class Process:
    """One HAProxy process, as /proc, its environment and its master describe it."""

    pid: int
    kind: Kind
    parent_pid: int
    comm: str
    started_ns: int
    """CLOCK_MONOTONIC."""
    version: str | None = None
    reloads: int | None = None
    """How many reloads ago it was the current worker; from `show proc`."""
    fd_limit: int | None = None
    fd_used: int | None = None
    netns: int | None = None
    other_network: bool = False
    """``netns`` is not hatrace's own: commands about its sockets have to be run in it."""
    config_files: tuple[str, ...] = ()
    command_line: tuple[str, ...] = ()
    container_pid: int | None = None
    """Its pid as it sees itself, where that differs."""
    root: str = "/"
    """Where its paths are seen from here (/proc/PID/root in another mount namespace)."""
    failed_reloads: int | None = None
    """Of a master: how many of the latest reloads failed, at least; ``None``: not known."""
    stopped: bool = False
    """Its state in /proc/PID/stat is T or t: a signal or a debugger holds it."""


class Room(NamedTuple):
    """How many fds a process has open, of how many it may (RLIMIT_NOFILE, the soft limit)."""

    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """How a server is checked, from the configuration file; ms.  ``None``: not said."""

    inter_ms: int | None = None
    fastinter_ms: int | None = None
    downinter_ms: int | None = None
    timeout_check_ms: int | None = None
    timeout_connect_ms: int | None = None
    kind: str | None = None
    """``tcp``, ``http``, ``tcp-check``, ``ssl-hello``, ``mysql`` ...; ``None`` unknown."""
    agent_inter_ms: int | None = None
    """`agent-inter`; where not said, agents are asked every `inter`."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a backend; addresses as 16 bytes, ``None`` where a name is unresolved.

    Source: `show servers state` (check address and port from HAProxy 2.4 on; inherited ones
    resolved), `show stat` for the results, the configuration file for the rhythm.
    """

    backend: str
    name: str
    address: bytes | None
    port: int
    check_address: bytes | None
    check_port: int
    checked: bool
    agent_address: bytes | None = None
    agent_port: int = 0
    agent_checked: bool = False
    mode: str | None = None
    """``tcp`` or ``http``."""
    backup: bool = False
    status: str | None = None
    """``UP``, ``DOWN``, ``MAINT``, ``DRAIN``, ``no check`` ... as `show stat` says."""
    check_status: str | None = None
    """``L7OK``, ``L4TOUT`` ...; without the ``* `` of a running check."""
    check_duration_ms: int | None = None
    check_fails: int | None = None
    """Failed checks so far (`chkfail`)."""
    current_sessions: int | None = None
    idle_connections: int | None = None
    settings: CheckSettings = CheckSettings()

    @property
    def label(self) -> str:
        return f"{self.backend}/{self.name}"


@dataclass(frozen=True, slots=True)
class Bind:
    """A `bind` line of the configuration: 16-byte address (unspecified: any) and port."""

    frontend: str
    address: bytes
    port: int
    mode: str | None = None
    limit: int | None = None
    """Its `maxconn`, or its frontend's where that is lower; ``None``: only the global one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a worker connects to by TCP that is no server of a backend, from the configuration.

    ``kind``: ``peers``, ``resolver`` (`nameserver tcp@`) or ``log`` (`ring` servers); or
    ``source``: where the connections to a server come from, port 0, the address unspecified where
    that is not known.  ``name`` as configured: ``section/name``.
    """

    kind: str
    name: str
    address: bytes
    port: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The longest configured timeouts, ms; what an idle connection may be explained by."""

    client_ms: int | None = None
    server_ms: int | None = None
    tunnel_ms: int | None = None
    client_fin_ms: int | None = None
    server_fin_ms: int | None = None
    connect_ms: int | None = None
    http_keep_alive_ms: int | None = None

    @property
    def longest_ms(self) -> int | None:
        """The longest of those which end an idle connection; ``None`` if none is known."""
        known = [
            value
            for value in (self.client_ms, self.server_ms, self.tunnel_ms, self.http_keep_alive_ms)
            if value is not None
        ]
        return max(known, default=None)


@dataclass(frozen=True, slots=True)
class TakenPort:
    """A socket that keeps HAProxy from a bind: its local port is one that a configuration wants.

    The kernel itself refused such a bind (EADDRINUSE); addresses are 16 bytes.
    """

    wanted_by: int
    """The current process (its worker) whose configuration files, as they are now, name it."""
    bind: Bind
    local: bytes
    remote: bytes
    remote_port: int
    state: int
    inode: int
    """0: nobody holds it (TIME_WAIT, an orphan)."""
    pid: int = 0
    """Who holds it, as far as that is known."""
    fd: int | None = None
    comm: str = ""
