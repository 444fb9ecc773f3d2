"""The limits that a HAProxy runs (or would run) into on this host: ports, files, capabilities.

Unlike `counters` nothing here moves; it is read once, for static questions.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from pathlib import Path

from hatrace.errors import HatraceError
from hatrace.model.flow import State
from hatrace.model.setup import HostFacts
from hatrace.sockets import tcp_diag
from hatrace.sockets.holders import Finder
from hatrace.sockets.names import comm
from hatrace.sockets.netlink import Diag, within
from hatrace.sockets.tcp_diag import Surroundings

SYS_RESOURCE = 24
"""CAP_SYS_RESOURCE, include/uapi/linux/capability.h."""
_SYSCTL = Path("/proc/sys")


def host_facts(pid: int | None = None) -> HostFacts:
    """For the process ``pid``, in its network namespace; None: for a child of ours."""
    low, high = _range(_net(pid, "ip_local_port_range").replace("\t", "-").strip())
    status = _text(Path(f"/proc/{pid or 'self'}/status"))
    return HostFacts(
        port_low=low,
        port_high=high,
        reserved_ports=tuple(ranges(_net(pid, "ip_local_reserved_ports"))),
        nr_open=_number(_text(_SYSCTL / "fs/nr_open")),
        fd_hard=_hard_limit(pid),
        fd_may_raise=_has_capability(status, SYS_RESOURCE),
        cpus=_cpus(pid),
        listeners=_listeners(pid),
    )


def ranges(text: str) -> Iterable[tuple[int, int]]:
    """``8080,9000-9010`` → (8080, 8080), (9000, 9010)."""
    for part in text.strip().split(","):
        low, high = _range(part)
        if low is not None:
            yield low, high if high is not None else low


def _range(text: str) -> tuple[int | None, int | None]:
    low, _, high = text.partition("-")
    return _number(low), _number(high)


def _net(pid: int | None, name: str) -> str:
    """A sysctl shows the network namespace of its reader."""
    try:
        return within(pid, lambda: _text(_SYSCTL / "net/ipv4" / name))
    except HatraceError:
        return ""


def _hard_limit(pid: int | None) -> int | None:
    """None: unlimited, or not readable."""
    try:
        limit = resource.prlimit(pid or 0, resource.RLIMIT_NOFILE)[1]
    except OSError:
        return None
    return limit if limit != resource.RLIM_INFINITY else None


def _has_capability(status: str, number: int) -> bool:
    words = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(words) and bool(int(words[0], 16) >> number & 1)


def _cpus(pid: int | None) -> int | None:
    try:
        return len(os.sched_getaffinity(pid or 0))
    except OSError:
        return None


def _listeners(pid: int | None) -> dict[int, str]:
    """By port; a process is named where its fds may be read."""
    try:
        ports = within(pid, _listening)
    except HatraceError:
        return {}
    held = Finder().find(ports.keys())
    return {port: comm(held[inode][0].pid) for inode, port in ports.items() if inode in held}


def _listening() -> dict[int, int]:
    """Inode → port of the TCP listeners of this network namespace."""
    around = Surroundings(time.monotonic_ns())
    with Diag() as diag:
        found = tcp_diag.dump(diag, around, 1 << State.LISTEN)
        return {flow.inode: flow.lport for flow in found if flow.inode}


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
