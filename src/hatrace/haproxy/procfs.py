"""Reading /proc of processes which may vanish at any moment: a gone process reads as None."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat used here; ``started_ticks`` since boot tells reused pids."""

    pid: int
    comm: str
    state: str
    parent_pid: int
    started_ticks: int

    @property
    def started_ns(self) -> int:
        """CLOCK_MONOTONIC: ticks count from boot and do not stop in suspend."""
        asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
        return (self.started_ticks - round(asleep_ns / TICK_NS)) * TICK_NS


def pids() -> Iterator[int]:
    """All processes of this pid namespace."""
    with os.scandir("/proc") as entries:
        yield from (int(entry.name) for entry in entries if entry.name.isdecimal())


def stat(pid: int) -> Stat | None:
    """A comm may hold blanks and parentheses: what follows its last ``)`` is numbers."""
    data = read(pid, "stat", 4096)
    if data is None or b")" not in data:
        return None
    comm = data[data.index(b"(") + 1 : data.rindex(b")")].decode(errors="replace")
    rest = data[data.rindex(b")") + 2 :].split()
    return Stat(pid, comm, rest[0].decode(), int(rest[1]), int(rest[19]))


def read(pid: int, name: str, limit_bytes: int = 1 << 20) -> bytes | None:
    """A file below /proc/PID, at most ``limit_bytes`` of it; None: gone or not readable."""
    try:
        file = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while limit_bytes > 0 and (data := os.read(file, min(limit_bytes, 65536))):
            parts.append(data)
            limit_bytes -= len(data)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(file)


def words(pid: int, name: str) -> tuple[str, ...]:
    """NUL-separated words: ``cmdline`` or ``environ``."""
    data = read(pid, name)
    return tuple(os.fsdecode(word) for word in data.rstrip(b"\0").split(b"\0")) if data else ()


def environment(pid: int) -> dict[str, str]:
    """The environment it was started with; empty when unreadable."""
    return dict(word.split("=", 1) for word in words(pid, "environ") if "=" in word)


def link(pid: int, name: str) -> str | None:
    """Where a link below /proc/PID points; None: gone or not readable."""
    try:
        return os.readlink(f"/proc/{pid}/{name}")  # noqa: PTH115 - many, and half the time
    except OSError:
        return None


def inside(root: str, path: str) -> str:
    """Where ``path`` of a process with this root lies for us, symbolic links followed.

    The kernel would follow an absolute link (/var/run to /run) from *our* root.  More than 40
    links (MAXSYMLINKS): the path is left as it is.
    """
    if root in ("", "/"):
        return path
    done: list[str] = []
    rest = path.strip("/").split("/")
    links = 0
    while rest and links <= 40:
        part = rest.pop(0)
        if part == "..":
            done = done[:-1]
        elif part not in ("", "."):
            here = Path(root, *done, part)
            try:
                target = str(here.readlink())
            except OSError:
                done.append(part)
                continue
            links += 1
            done = [] if target.startswith("/") else done
            rest = [*target.strip("/").split("/"), *rest]
    return str(Path(root, *done)) if not rest else root.rstrip("/") + path


def namespace(pid: int, kind: str) -> int | None:
    """Inode of its namespace ``net``, ``mnt`` ...; None: gone or not readable."""
    target = link(pid, f"ns/{kind}")
    return int(target.partition("[")[2].rstrip("]")) if target else None


def inner_pid(pid: int) -> int | None:
    """Its pid as it sees itself in its own pid namespace; None where that is the same."""
    for line in (read(pid, "status", 16384) or b"").splitlines():
        if line.startswith(b"NSpid:"):
            inner = int(line.split()[-1])
            return inner if inner != pid else None
    return None


def fd_limit(pid: int) -> int | None:
    """Soft limit of open files; None: unlimited or unreadable."""
    for line in (read(pid, "limits", 8192) or b"").splitlines():
        if line.startswith(b"Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None
    return None


def fd_used(pid: int) -> int | None:
    """How many fds it has open.

    Since Linux 6.2 (f1f1f2569901) the size of /proc/PID/fd says so; before it is 0 and they
    are counted.
    """
    path = f"/proc/{pid}/fd"
    try:
        return os.stat(path).st_size or sum(1 for _ in os.scandir(path))  # noqa: PTH116
    except OSError:
        return None


def socket_inodes(pid: int, highest_fd: int | None = None) -> dict[int, int] | None:
    """Inodes of its sockets, with the fd of each; only fds up to ``highest_fd`` if given.

    None: gone or not readable.
    """
    found: dict[int, int] = {}
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return None
    for name in names:
        if highest_fd is not None and int(name) > highest_fd:
            continue
        target = link(pid, f"fd/{name}") or ""
        if target.startswith("socket:["):
            found[int(target[8:-1])] = int(name)
    return found


def unix_listeners(pid: int) -> dict[int, str]:
    """Paths of the listening AF_UNIX sockets of its network namespace, by inode.

    ``__SO_ACCEPTCON`` (0x10000) marks them in /proc/net/unix; abstract names begin with ``@``.
    """
    found: dict[int, str] = {}
    for line in (read(pid, "net/unix", 32 << 20) or b"").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and int(fields[3], 16) & 0x10000:
            found[int(fields[6])] = os.fsdecode(fields[7])
    return found
