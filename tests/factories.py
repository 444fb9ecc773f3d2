"""Values for tests: each factory gives a sensible default, and takes what the test is about.

Times count from ``START``; ``at(3)`` is three seconds later.  Addresses may be given as text.
The default picture: worker 100 of HAProxy, one server ``be/s1`` at 192.0.2.1:443, whose
health check goes to port 8000 every two seconds; clients come to 192.0.2.100:80.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

from hatrace.model.address import packed
from hatrace.model.capture_info import CaptureInfo, Scope
from hatrace.model.columns import Columns
from hatrace.model.event import (
    CommandSockets,
    Configured,
    Descriptor,
    Descriptors,
    Finished,
    Holder,
    Holders,
    HostCounters,
    Info,
    Open,
    Servers,
    Stream,
    Streams,
    Target,
    Targets,
    Trouble,
    UnixSocket,
)
from hatrace.model.event import Processes as ProcessesEvent
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.topology import (
    Bind,
    CheckSettings,
    CommandSocket,
    Kind,
    Process,
    Server,
    TakenPort,
    Timeouts,
)

START = 1_000_000_000_000
"""The capture's start, in ns of CLOCK_MONOTONIC."""
WORKER = 100
MASTER = 99
SERVER = "192.0.2.1"
LOCAL = "192.0.2.100"
SERVICE_PORT, CHECK_PORT, AGENT_PORT, BIND_PORT = 443, 8000, 9000, 80
DATA_TARGET, CHECK_TARGET, CLIENT_TARGET = 3, 1, 2
CLIENT = "198.51.100.7"

_serial = count(1)


def at(seconds: float) -> int:
    """A time, in seconds since the capture's start."""
    return START + round(seconds * 1e9)


def address(value: str | bytes) -> bytes:
    return packed(value) if isinstance(value, str) else value


def info(**fields: object) -> CaptureInfo:
    default = CaptureInfo(
        host="lb1",
        kernel="6.1.0",
        machine="x86_64",
        hatrace="0",
        rung="cgroup",
        blind_spots=(),
        scope=Scope(),
        command_line=("hatrace", "live"),
        started_ns=START,
        started_unix_ns=1_700_000_000_000_000_000,
    )
    return replace(default, **fields)  # type: ignore[arg-type]


# Flows -------------------------------------------------------------------------------------


def flow(
    born: float = 0.0,
    *,
    laddr: str | bytes = LOCAL,
    raddr: str | bytes = SERVER,
    comm: str = "haproxy",
    **fields: int,
) -> Flow:
    """An established session's connection to the server, born at second ``born``, never ended."""
    serial = next(_serial)
    known: dict[str, object] = {
        "id": 0xABC000 + serial,
        "born_ns": at(born),
        "connect_ns": at(born) + 1_000,
        "established_ns": at(born) + 300_000,
        "fin_ns": 0,
        "closed_ns": 0,
        "released_ns": 0,
        "gone_ns": 0,
        "moved_ns": at(born) + 400_000,
        "sent_bytes": 5_000,
        "received_bytes": 70_000,
        "cookie": 0,
        "laddr": address(laddr),
        "raddr": address(raddr),
        "comm_bytes": comm.encode()[:15].ljust(16, b"\0"),
        "pid": WORKER,
        "closer": 0,
        "inode": 50_000 + serial,
        "netns": 4026531840,
        "target": DATA_TARGET,
        "unread_bytes": 0,
        "unsent_bytes": 0,
        "lport": 40_000 + serial % 20_000,
        "rport": SERVICE_PORT,
        "flags": int(Flag.CONNECTED | Flag.OWNED),
        "error": 0,
        "family": 2,
        "state": int(State.ESTABLISHED),
    }
    unknown = fields.keys() - known.keys()
    if unknown:
        raise TypeError(f"a flow has no {', '.join(sorted(unknown))}")
    return Flow(**(known | fields))  # type: ignore[arg-type]


def check_flow(born: float = 0.0, **fields: object) -> Flow:
    """A health check in progress: connected to the check port, nothing exchanged."""
    default: dict[str, object] = {
        "rport": CHECK_PORT,
        "target": CHECK_TARGET,
        "sent_bytes": 0,
        "received_bytes": 0,
        "moved_ns": 0,
    }
    return flow(born, **(default | fields))  # type: ignore[arg-type]


def client_flow(born: float = 0.0, **fields: object) -> Flow:
    """A client's connection, accepted on the bind's address."""
    default: dict[str, object] = {
        "raddr": CLIENT,
        "lport": BIND_PORT,
        "rport": 50_000,
        "target": CLIENT_TARGET,
        "connect_ns": 0,
        "flags": int(Flag.ACCEPTED | Flag.OWNED),
    }
    return flow(born, **(default | fields))  # type: ignore[arg-type]


def listener_flow(**fields: object) -> Flow:
    """The bind's listening socket."""
    default: dict[str, object] = {
        "raddr": "0.0.0.0",
        "lport": BIND_PORT,
        "rport": 0,
        "target": CLIENT_TARGET,
        "state": int(State.LISTEN),
        "connect_ns": 0,
        "established_ns": 0,
        "moved_ns": 0,
        "sent_bytes": 0,
        "received_bytes": 0,
        "flags": int(Flag.LISTENER | Flag.OWNED),
    }
    return flow(0.0, **(default | fields))  # type: ignore[arg-type]


def ended(one: Flow, after: float = 0.002, flags: Flag = Flag.FIN_SENT, **fields: int) -> Flow:
    """The same flow, let go ``after`` seconds; by default as a FIN of this side ends it."""
    end_ns = one.born_ns + round(after * 1e9)
    flags = Flag(one.flags) | flags
    return one._replace(
        **{
            "released_ns": end_ns,
            "gone_ns": end_ns + 20_000,
            "closer": one.pid,
            "flags": int(flags),
            "state": int(State.CLOSE),
        }
        | fields
    )


def tcp_check(born: float = 0.0, **fields: object) -> Flow:
    """A healthy, finished TCP check: connected, nothing said, ended by a reset of this side."""
    return ended(check_flow(born, **fields), flags=Flag.RST_SENT)


def http_check(born: float = 0.0, request: int = 60, **fields: object) -> Flow:
    """A healthy, finished HTTP check: request and answer, ended by a reset of this side."""
    sizes: dict[str, object] = {"sent_bytes": request, "received_bytes": 120}
    return ended(check_flow(born, **(sizes | fields)), flags=Flag.RST_SENT)


def refused(born: float = 0.0, **fields: object) -> Flow:
    """A check whose connect was refused."""
    one = check_flow(born, **({"established_ns": 0} | fields))
    return ended(one, flags=Flag.FAILED | Flag.RST_RECEIVED, error=111)


def half_closed(one: Flow, after: float = 1.0) -> Flow:
    """The same flow after its peer's FIN: CLOSE_WAIT, still held."""
    flags = one.flags | Flag.FIN_RECEIVED
    fin_ns = one.born_ns + round(after * 1e9)
    return one._replace(fin_ns=fin_ns, state=int(State.CLOSE_WAIT), flags=int(flags))


def ghost(one: Flow, after: float = 1.0, by_reset: bool = False) -> Flow:
    """The same flow, its connection gone in both directions (or reset), its fd still held."""
    ends = Flag.RST_RECEIVED if by_reset else Flag.FIN_RECEIVED | Flag.FIN_SENT
    end_ns = one.born_ns + round(after * 1e9)
    return one._replace(
        fin_ns=0 if by_reset else end_ns,
        closed_ns=end_ns,
        state=int(State.CLOSE),
        flags=int(one.flags | ends),
    )


# Events ------------------------------------------------------------------------------------


def records(flows: Iterable[Flow]) -> bytes:
    return b"".join(one.pack() for one in flows)


def columns(flows: Iterable[Flow]) -> Columns:
    return Columns.of(records(flows))


def finished(*flows: Flow, at_ns: int | None = None) -> Finished:
    """The ring's news of these; by default right after the last one's end."""
    last_ns = max((max(one.gone_ns, one.released_ns) for one in flows), default=START)
    return Finished(last_ns if at_ns is None else at_ns, columns(flows))


def open_scan(at_ns: int, *flows: Flow, matched: int | None = None) -> Open:
    """A scan; ``matched`` above the number of flows makes it a truncated one."""
    return Open(at_ns, records(flows), len(flows) if matched is None else matched)


def target(index: int = CHECK_TARGET, **fields: object) -> Target:
    """Totals of the worker's connections to the check address; ``open=n`` sets what is open."""
    default: dict[str, object] = {
        "index": index,
        "inbound": False,
        "address": SERVER,
        "port": CHECK_PORT,
        "pid": WORKER,
        "netns": 4026531840,
        "born": 0,
        "adopted": 0,
        "gone": 0,
        "failed": 0,
        "reset": 0,
        "sent_bytes": 0,
        "received_bytes": 0,
        "lifetime": (0,) * 16,
    }
    held = fields.pop("open", None)
    known = default | fields
    known["address"] = address(known["address"])  # type: ignore[arg-type]
    if held is not None:
        known["born"] = known["gone"] + held  # type: ignore[operator]
    return Target(**known)  # type: ignore[arg-type]


def data_target(index: int = DATA_TARGET, **fields: object) -> Target:
    """Totals of the worker's connections to the service address."""
    return target(index, **({"port": SERVICE_PORT} | fields))


def client_target(index: int = CLIENT_TARGET, **fields: object) -> Target:
    """Totals of what comes in at the bind's address."""
    default = {"inbound": True, "address": LOCAL, "port": BIND_PORT, "pid": 0}
    return target(index, **(default | fields))


def targets(at_ns: int, *rows: Target) -> Targets:
    return Targets(at_ns, rows)


def server(name: str = "s1", **fields: object) -> Server:
    """``be/s1`` at 192.0.2.1:443, checked at port 8000, up; addresses may be text."""
    default: dict[str, object] = {
        "backend": "be",
        "name": name,
        "address": SERVER,
        "port": SERVICE_PORT,
        "check_address": SERVER,
        "check_port": CHECK_PORT,
        "checked": True,
        "mode": "tcp",
        "status": "UP",
        "check_status": "L4OK",
        "check_duration_ms": 0,
        "settings": CheckSettings(inter_ms=2000),
    }
    known = default | fields
    for field in ("address", "check_address", "agent_address"):
        if isinstance(known.get(field), str):
            known[field] = packed(str(known[field]))
    return Server(**known)  # type: ignore[arg-type]


def same_port_server(name: str = "s1", **fields: object) -> Server:
    """A server which is checked where it serves, as most are."""
    return server(name, **({"check_port": SERVICE_PORT} | fields))


def servers(at_ns: int, *known: Server, pid: int = WORKER) -> Servers:
    return Servers(at_ns, pid, known or (server(),))


def process(pid: int = WORKER, kind: Kind = Kind.WORKER, **fields: object) -> Process:
    default: dict[str, object] = {
        "parent_pid": MASTER,
        "comm": "haproxy",
        "started_ns": at(-60),
        "version": "2.6.12",
        "fd_limit": 4096,
        "netns": 4026531840,
    }
    return Process(pid=pid, kind=kind, **(default | fields))  # type: ignore[arg-type]


def processes(at_ns: int, *known: Process) -> ProcessesEvent:
    """By default a master and its worker."""
    default = (process(MASTER, Kind.MASTER, parent_pid=1), process())
    return ProcessesEvent(at_ns, known or default)


def configured(at_ns: int, *binds: Bind, pid: int = WORKER, **fields: object) -> Configured:
    """By default one frontend ``fe`` on any address, port 80."""
    default: dict[str, object] = {
        "binds": binds or (Bind("fe", packed("0.0.0.0"), BIND_PORT, "tcp"),),
        "timeouts": Timeouts(client_ms=30_000, server_ms=30_000, connect_ms=5_000),
        "hard_stop_after_ms": None,
    }
    return Configured(at_ns, pid, **(default | fields))  # type: ignore[arg-type]


def info_sample(at_ns: int, pid: int = WORKER, **values: str) -> Info:
    """`show info`."""
    return Info(at_ns, pid, {"Pid": str(pid), "Version": "2.6.12"} | values)


def holders(at_ns: int, *held: tuple[int, int, int] | Holder, **names: str) -> Holders:
    """fds as ``(pid, fd, inode)``; names as ``p100="haproxy"``."""
    rows = tuple(one if isinstance(one, Holder) else Holder(*one) for one in held)
    known = {int(pid.lstrip("p")): name for pid, name in names.items()}
    return Holders(at_ns, rows, {row.pid: "haproxy" for row in rows} | known)


def holders_of(at_ns: int, *flows: Flow) -> Holders:
    """Each flow's socket held by its pid, as fds 10, 11, 12 ..."""
    return holders(at_ns, *((one.pid, fd, one.inode) for fd, one in enumerate(flows, 10)))


def stream(pointer: str = "0x55", **fields: object) -> Stream:
    default: dict[str, object] = {
        "source": f"{CLIENT}:50000",
        "frontend": "fe",
        "backend": "be",
        "server": "s1",
        "front_fd": 10,
        "back_fd": 11,
        "expires_ms": 20_000,
        "age_ms": 1_000,
    }
    return Stream(pointer, **(default | fields))  # type: ignore[arg-type]


def streams(at_ns: int, *known: Stream, pid: int = WORKER, complete: bool = True) -> Streams:
    return Streams(at_ns, pid, known, complete)


def descriptor(fd: int, kind: str = "server", **fields: object) -> Descriptor:
    default: dict[str, object] = {
        "server": "be/s1" if kind in ("server", "check") else "",
        "frontend": "fe" if kind in ("client", "listener") else "",
        "local_port": None,
        "remote_port": None,
        "suspicious": False,
    }
    return Descriptor(fd, kind, **(default | fields))  # type: ignore[arg-type]


def descriptors(
    at_ns: int, *known: Descriptor, pid: int = WORKER, complete: bool = True
) -> Descriptors:
    return Descriptors(at_ns, pid, known, complete)


def master_socket(**fields: object) -> CommandSocket:
    """The master's, as ``-S`` made it: ten slots."""
    default: dict[str, object] = {
        "path": "/run/haproxy-master.sock",
        "master": True,
        "pid": MASTER,
        "inode": 7_000,
        "limit": 10,
    }
    return CommandSocket(**(default | fields))  # type: ignore[arg-type]


def master_connections(
    at_ns: int, clients: int = 0, *, orphaned: int = 0, waiting: int = 0, client_pid: int = 500
) -> CommandSockets:
    """The master's socket with ``clients`` connections held by ``client_pid``, ``orphaned`` ones
    whose client has left while the master keeps its end, and ``waiting`` ones not accepted."""
    socket = master_socket()
    path = f"{socket.path}.{socket.pid}.tmp"
    queue = tuple(9_000 + n for n in range(waiting))
    unix = [UnixSocket(socket.inode or 0, 10, path, 0, waiting, 10, queue)]
    held = [Holder(MASTER, 5, socket.inode or 0)]
    for n in range(clients):
        unix.append(UnixSocket(7_100 + n, 1, path, 8_100 + n, 0, 212_992))
        unix.append(UnixSocket(8_100 + n, 1, "", 7_100 + n, 0, 212_992))
        held += [Holder(MASTER, 20 + n, 7_100 + n), Holder(client_pid, 3 + n, 8_100 + n)]
    for n in range(orphaned):
        unix.append(UnixSocket(7_500 + n, 1, path, 0, 0, 212_992))
        held.append(Holder(MASTER, 60 + n, 7_500 + n))
    unix += [UnixSocket(inode, 1, "", 0, 0, 212_992) for inode in queue]
    held += [Holder(client_pid, 80 + n, inode) for n, inode in enumerate(queue)]
    names = {MASTER: "haproxy -W -S /run/haproxy-master.sock", client_pid: "python3 agent.py"}
    return CommandSockets(at_ns, (socket,), tuple(unix), tuple(held), names)


def host(at_ns: int, **fields: int | None) -> HostCounters:
    default: dict[str, int | None] = {
        "tcp_inuse": 50,
        "tcp_alloc": 55,
        "tcp_orphan": 0,
        "tcp_time_wait": 10,
        "max_orphans": 65_536,
        "max_time_wait": 65_536,
        "port_low": 32_768,
        "port_high": 60_999,
        "file_used": 2_000,
        "file_max": 1_000_000,
        "listen_overflows": 0,
    }
    return HostCounters(at_ns, **(default | fields))


def taken_port(port: int = 44_201, **fields: object) -> TakenPort:
    """A frontend's port that is the source port of the worker's connection to its server."""
    default: dict[str, object] = {
        "wanted_by": WORKER,
        "bind": Bind("new", address(LOCAL), port),
        "local": address(LOCAL),
        "remote": address(SERVER),
        "remote_port": SERVICE_PORT,
        "state": int(State.ESTABLISHED),
        "inode": 50_000,
        "pid": WORKER,
        "fd": 14,
        "comm": "haproxy",
    }
    return TakenPort(**(default | fields))  # type: ignore[arg-type]


def trouble(at_ns: int, source: str = "runtime-api", **fields: object) -> Trouble:
    default: dict[str, object] = {"subject": "/run/haproxy.sock", "why": "permission denied"}
    return Trouble(at_ns, source, **(default | fields))  # type: ignore[arg-type]
