"""The host's socket counters and the limits they run against, from /proc.

Of one network namespace: TCP in use, TIME_WAIT, listen overflows, the ports' range.
Of the whole kernel, whichever file says so: TCP allocated, orphans, and the files.
So allocated minus in use counts held ghosts only where there is one namespace.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from hatrace.errors import HatraceError
from hatrace.model.event import HostCounters
from hatrace.sockets.netlink import namespace_of, within

_PROC = Path("/proc")
_NET = _PROC / "sys/net/ipv4"
_OWN = ("ip_local_port_range", "tcp_max_tw_buckets", "tcp_tw_reuse")
"""Each network namespace has its own."""


def host_counters(pid: int | None = None) -> HostCounters:
    """As of now, in the network namespace of ``pid`` (None: our own).

    What cannot be read is None.
    """
    net = _PROC / (str(pid) if pid is not None else "thread-self") / "net"
    tcp = sockstat(_text(net / "sockstat")).get("TCP", {})
    tcp6 = sockstat(_text(net / "sockstat6")).get("TCP6", {})
    ports, buckets, reuse = _sysctls(pid)
    low, high = _pair(ports)
    used, _free, most = _file_numbers()
    return HostCounters(
        at_ns=time.monotonic_ns(),
        tcp_inuse=tcp["inuse"] + tcp6.get("inuse", 0) if "inuse" in tcp else None,
        tcp_alloc=tcp.get("alloc"),
        tcp_orphan=tcp.get("orphan"),
        tcp_time_wait=tcp.get("tw"),
        max_orphans=_number(_text(_NET / "tcp_max_orphans")),
        max_time_wait=_number(buckets),
        port_low=low,
        port_high=high,
        file_used=used,
        file_max=most,
        tw_reuse=_number(reuse),
        netns=namespace_of(pid if pid is not None else "thread-self"),
        listen_overflows=netstat(_text(net / "netstat")).get("TcpExt", {}).get("ListenOverflows"),
    )


def sockstat(text: str) -> dict[str, dict[str, int]]:
    """``TCP: inuse 1 orphan 0`` ... by name, then by counter."""
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        found[name] = {
            key: int(value)
            for key, value in zip(words[::2], words[1::2], strict=False)
            if value.isdigit()
        }
    return found


def netstat(text: str) -> dict[str, dict[str, int]]:
    """/proc/net/netstat: a line of names, then a line of numbers, for each protocol."""
    found: dict[str, dict[str, int]] = {}
    lines = text.splitlines()
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        protocol, _, keys = names.partition(":")
        again, _, values = numbers.partition(":")
        if protocol == again:
            found[protocol] = dict(zip(keys.split(), map(int, values.split()), strict=False))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _sysctls(pid: int | None) -> Sequence[str]:
    """Those of `_OWN` as the network namespace of ``pid`` has them: that of who reads counts."""
    try:
        return within(pid, lambda: [_text(_NET / name) for name in _OWN])
    except HatraceError:
        return [""] * len(_OWN)


def _number(text: str) -> int | None:
    word = text.strip()
    return int(word) if word.isdigit() else None


def _pair(text: str) -> tuple[int | None, int | None]:
    words = text.split()
    return (_number(words[0]), _number(words[1])) if len(words) == 2 else (None, None)


def _file_numbers() -> tuple[int | None, int | None, int | None]:
    """fs.file-nr: file handles allocated, free, and at most."""
    words = _text(_PROC / "sys/fs/file-nr").split()
    if len(words) != 3:
        return None, None, None
    return _number(words[0]), _number(words[1]), _number(words[2])
