"""Who holds a socket: /proc/PID/fd, where a socket is a link to ``socket:[inode]``.

One readlink(2) per fd, 4-5 µs each, nearly all of it in the kernel: 20,000 fds take 0.1 s.
Any process may end while we look; that is no trouble, being refused is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hatrace.model.event import Holder, Trouble
from hatrace.sockets.names import comm

_PREFIX = "socket:["


def held_by(pid: int) -> list[Holder]:
    """The socket fds of one process; raises OSError when it is gone or may not be read."""
    held: list[Holder] = []
    directory = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    try:
        readlink = os.readlink
        for name in os.listdir(directory):  # noqa: PTH208 - it is an open directory
            try:
                link = readlink(name, dir_fd=directory)
            except FileNotFoundError:
                continue  # closed meanwhile
            if link[:8] == _PREFIX:
                held.append(Holder(pid, int(name), int(link[8:-1])))
    finally:
        os.close(directory)
    return held


def holds(holder: Holder) -> bool:
    """Whether that fd of that process still is that socket."""
    try:
        link = str(Path(f"/proc/{holder.pid}/fd/{holder.fd}").readlink())
    except OSError:
        return False
    return link == f"{_PREFIX}{holder.inode}]"


def holders(pids: Iterable[int]) -> tuple[list[Holder], list[Trouble]]:
    """The socket fds of these processes; Trouble for each that we may not look into."""
    held: list[Holder] = []
    troubles: list[Trouble] = []
    for pid in pids:
        try:
            held += held_by(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            troubles.append(_trouble(pid, error))
    return held, troubles


def _trouble(pid: int, error: OSError) -> Trouble:
    return Trouble(
        time.monotonic_ns(),
        "proc",
        f"fds of process {pid} ({comm(pid) or '?'})",
        f"/proc/{pid}/fd: {error.strerror}",
        "run hatrace as root (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH) in the host's user namespace",
    )


def all_pids() -> list[int]:
    """Every process of the host, as this pid namespace sees it."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


@dataclass(slots=True)
class Finder:
    """Finds who holds some inodes on the whole host, cheaply enough to be asked each second.

    What was found is remembered, and asked about by one readlink the next time.  An inode
    not found yet is first looked for in processes that held such inodes before; only then
    every process's fds are read, and that at most a ``share`` of the time.  So a new holder
    may stay unknown for some seconds on a host with very many fds, and an inode that is
    passed on to a second process gains that holder at the next look at every process.
    """

    share: float = 0.05
    _known: dict[int, set[Holder]] = field(default_factory=dict)
    _regulars: dict[int, None] = field(default_factory=dict)
    _rest_until_ns: int = 0
    unreadable: int = 0
    """Processes whose fds could not be read in the latest look at every process."""

    def find(
        self, inodes: Collection[int], known: Iterable[Holder] = ()
    ) -> dict[int, list[Holder]]:
        """The holders of each inode found; ``known``: what the caller has just read itself."""
        wanted = {inode for inode in inodes if inode}
        self._known = {
            inode: held
            for inode in wanted
            if (held := {h for h in self._known.get(inode, ()) if holds(h)})
        }
        self._add(holder for holder in known if holder.inode in wanted)
        self._look(wanted - self._known.keys(), self._regulars_alive())
        if wanted - self._known.keys():
            self._look_everywhere(wanted)
        return {inode: sorted(held, key=_order) for inode, held in self._known.items()}

    def _regulars_alive(self) -> list[int]:
        self._regulars = {pid: None for pid in self._regulars if Path(f"/proc/{pid}").exists()}
        return list(self._regulars)

    def _look_everywhere(self, wanted: set[int]) -> None:
        """Every process's fds, unless the latest such look was too recent for its cost."""
        started = time.monotonic_ns()
        if started < self._rest_until_ns:
            return
        self._look(wanted, all_pids())
        ended = time.monotonic_ns()
        self._rest_until_ns = ended + int((ended - started) / self.share)

    def _look(self, wanted: set[int], pids: Collection[int]) -> None:
        if not wanted or not pids:
            return
        self.unreadable = 0
        for pid in pids:
            try:
                self._add(holder for holder in held_by(pid) if holder.inode in wanted)
            except PermissionError:
                self.unreadable += 1
            except OSError:
                continue

    def _add(self, held: Iterable[Holder]) -> None:
        for holder in held:
            self._known.setdefault(holder.inode, set()).add(holder)
            self._regulars[holder.pid] = None


def _order(holder: Holder) -> tuple[int, int]:
    return holder.pid, holder.fd


def by_inode(held: Iterable[Holder]) -> dict[int, Holder]:
    """One holder of each inode: the first in order."""
    found: dict[int, Holder] = {}
    for holder in held:
        found.setdefault(holder.inode, holder)
    return found
