"""Which HAProxy processes are on this host, and which part each plays: from /proc alone.

Cheap enough for every second: only processes that are new, young or already known are looked
at, all of them again now and then (an exec changes what a pid is).  A process is told from a
later one with the same pid by its start.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hatrace.haproxy import arguments, procfs
from hatrace.haproxy.arguments import Arguments
from hatrace.haproxy.version import Versions
from hatrace.model.topology import Kind, Process

NAME = re.compile(r"haproxy(?:[-_.]?v?\d[\w.~+-]*|-debug|-dbg)?")
"""Names of HAProxy's binary: not those of its exporters, controllers and agents."""
YOUNG_NS = 10_000_000_000
FULL_SCAN_NS = 10_000_000_000
SETTLED_NS = 2_000_000_000
"""A fork that is older than this is no child on its way to exec (an external check)."""
LOADING_NS = 60_000_000_000
"""No configuration takes longer to load; binds that are taken are tried for two seconds more."""

Key = tuple[int, int]
"""Pid and start in ticks."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What does not change in a process's life, but by an exec: read once per command line."""

    stat: procfs.Stat
    words: tuple[str, ...]
    arguments: Arguments
    inner: int | None
    netns: int | None
    mount_ns: int | None
    root: str
    version: str | None

    @property
    def seen_as(self) -> int:
        """Its pid as it and its siblings see it."""
        return self.inner or self.stat.pid

    @property
    def key(self) -> Key:
        return self.stat.pid, self.stat.started_ticks


class Finder:
    """Finds HAProxy's processes again and again.

    ``names``: command names to take for HAProxy (empty: those of its binary); ``pids``: only
    these processes, their workers and their master (empty: all).
    """

    def __init__(self, names: Iterable[str] = (), pids: Iterable[int] = ()) -> None:
        self._names = frozenset(name[:15] for name in names)
        self._pids = frozenset(pids)
        self._known: dict[Key, _Found] = {}
        self._replaced: set[Key] = set()
        """Those that a later process which served named after -sf: it may be gone before they
        are."""
        self._others: dict[int, int] = {}
        """When each pid that is no HAProxy was first seen."""
        self._full_ns = 0
        self._versions = Versions()
        self._mount_ns = procfs.namespace(os.getpid(), "mnt")
        self._netns = procfs.namespace(os.getpid(), "net")

    def scan(self) -> tuple[Process, ...]:
        """The processes as of now, by pid."""
        now_ns = time.monotonic_ns()
        full = now_ns - self._full_ns > FULL_SCAN_NS
        if full:
            self._full_ns = now_ns
        known: dict[Key, _Found] = {}
        states: dict[int, procfs.Stat] = {}
        others: dict[int, int] = {}
        for pid in procfs.pids():
            first_ns = self._others.get(pid)
            if first_ns is not None and not full and now_ns - first_ns > YOUNG_NS:
                others[pid] = first_ns
                continue
            stat = procfs.stat(pid)
            if stat is None or stat.state in "ZX":
                continue
            key = pid, stat.started_ticks
            found = self._look(stat)
            if found is None:
                others[pid] = first_ns if first_ns is not None else now_ns
            else:
                known[key], states[pid] = found, stat
        self._known, self._others = known, others
        return self._classified({f.stat.pid: f for f in known.values()}, states, now_ns)

    def _look(self, stat: procfs.Stat) -> _Found | None:
        """All of one process, if it is HAProxy; None else, or if it vanished meanwhile."""
        if not self._is_haproxy(stat):
            return None
        old = self._known.get((stat.pid, stat.started_ticks))
        words = procfs.words(stat.pid, "cmdline")
        if not words:
            return None
        if old is not None and old.words == words:
            return old
        mount_ns = procfs.namespace(stat.pid, "mnt")
        here = mount_ns is None or mount_ns == self._mount_ns
        root = procfs.link(stat.pid, "root") or "/" if here else f"/proc/{stat.pid}/root"
        return _Found(
            stat,
            words,
            arguments.parse(words),
            procfs.inner_pid(stat.pid),
            procfs.namespace(stat.pid, "net"),
            mount_ns,
            root,
            self._versions.of(stat.pid, trusted=here),
        )

    def _is_haproxy(self, stat: procfs.Stat) -> bool:
        if self._is_name(stat.comm):
            return True
        binary = procfs.link(stat.pid, "exe") or ""
        return self._is_name(Path(binary.removesuffix(" (deleted)")).name[:15])

    def _is_name(self, name: str) -> bool:
        return name in self._names if self._names else NAME.fullmatch(name) is not None

    def _classified(
        self, found: Mapping[int, _Found], states: Mapping[int, procfs.Stat], now_ns: int
    ) -> tuple[Process, ...]:
        parents = {pid: states[pid].parent_pid for pid in found}
        masters = _masters(found, parents, now_ns)
        kinds: dict[int, Kind] = dict.fromkeys(masters, Kind.MASTER)
        for master in masters:
            workers = [pid for pid, parent in parents.items() if parent == master]
            old = _replaced([found[pid] for pid in workers], [found[master], *_all(found, workers)])
            for pid in workers:
                kinds[pid] = Kind.OLD_WORKER if pid in old else Kind.WORKER
        alone = [f for pid, f in found.items() if pid not in kinds and parents[pid] not in found]
        replaced = self._ever_replaced(alone, now_ns)
        for each in alone:
            gone_by = each.stat.pid in replaced
            kinds[each.stat.pid] = Kind.OLD_WORKER if gone_by else Kind.STANDALONE
        wanted = self._wanted(kinds, parents)
        return tuple(
            _process(
                found[pid],
                states[pid],
                kinds[pid],
                found.get(parents[pid]),
                self._netns,
                _failed(found[pid], [found[each] for each in found if parents[each] == pid])
                if pid in masters
                else None,
            )
            for pid in sorted(wanted)
        )

    def _ever_replaced(self, alone: list[_Found], now_ns: int) -> set[int]:
        """The pids of those without a master that were told to leave, now or before.

        A successor that ends while it loads (a bind is taken) has told nobody to leave.
        """
        now = _replaced(alone, alone, newest_only=False)
        there = {each.key for each in alone}
        self._replaced = (self._replaced & there) | _succeeded(alone, now_ns)
        return now | {pid for pid, _ in self._replaced}

    def _wanted(self, kinds: Mapping[int, Kind], parents: Mapping[int, int]) -> set[int]:
        if not self._pids:
            return set(kinds)
        named = {pid for pid in kinds if pid in self._pids}
        workers = {pid for pid in kinds if parents[pid] in named}
        above = {parents[pid] for pid in named if parents[pid] in kinds}
        return named | workers | above


def _all(found: Mapping[int, _Found], pids: Iterable[int]) -> list[_Found]:
    return [found[pid] for pid in pids]


def _masters(found: Mapping[int, _Found], parents: Mapping[int, int], now_ns: int) -> set[int]:
    """Those which say so on their command line, or have a child that is HAProxy and stays.

    A worker has its master's command line, so a child of a candidate is never a master.
    """
    masters = set()
    for pid, process in found.items():
        if parents[pid] in found:
            continue
        children = [found[child] for child, parent in parents.items() if parent == pid]
        settled = any(now_ns - child.stat.started_ns > SETTLED_NS for child in children)
        if process.arguments.master or settled:
            masters.add(pid)
    return masters


def _replaced(
    workers: list[_Found], family: Iterable[_Found], newest_only: bool = True
) -> set[int]:
    """Which of ``workers`` are old: named after -sf or -st by a later relative of theirs.

    Where that leaves more than one (a reload that has just begun, or failed) the newest is the
    current one, but that workers born together are `nbproc`'s (up to 2.4).
    """
    age = {worker.stat.pid: worker.stat.started_ticks for worker in workers}
    named = {
        worker.stat.pid for relative in family for worker in workers if _names(relative, worker)
    }
    if not newest_only:
        return named
    rest = (age.keys() - named) or set(age)
    newest = max((age[pid] for pid in rest), default=0)
    together = 1_000_000_000 // procfs.TICK_NS
    current = {pid for pid in rest if newest - age[pid] < together}
    return age.keys() - current


def _names(relative: _Found, worker: _Found) -> bool:
    """Whether it is the worker's master, or came later, and has its pid after -sf or -st.

    A container's pids are its own; its processes have one mount namespace.
    """
    later = relative.stat.started_ticks > worker.stat.started_ticks
    listed = worker.seen_as in relative.arguments.replaces
    if worker.inner is None:
        same_space = relative.inner is None
    else:
        same_space = relative.inner is not None and worker.mount_ns == relative.mount_ns
    master = relative.stat.pid == worker.stat.parent_pid
    return listed and same_space and (later or master)


def _succeeded(alone: list[_Found], now_ns: int) -> set[Key]:
    """Those whose successor has served: it is there for longer than any takes to load, or is
    itself succeeded, by one that does not name them again."""
    pairs = [(old, new) for old in alone for new in alone if _names(new, old)]
    return {
        old.key
        for old, new in pairs
        if now_ns - new.stat.started_ns > LOADING_NS
        or any(_names(third, new) and not _names(third, old) for third in alone)
    }


def _process(
    found: _Found,
    stat: procfs.Stat,
    kind: Kind,
    parent: _Found | None,
    here: int | None,
    failed: int | None,
) -> Process:
    """As `model.topology` has it.  A worker may have gone into a chroot: its master has not."""
    above = parent if parent is not None else found
    files = _files_of(above)
    return Process(
        pid=stat.pid,
        kind=kind,
        parent_pid=stat.parent_pid,
        comm=stat.comm,
        started_ns=found.stat.started_ns,
        version=found.version,
        fd_limit=procfs.fd_limit(stat.pid),
        fd_used=procfs.fd_used(stat.pid),
        netns=found.netns,
        failed_reloads=failed,
        other_network=found.netns is not None and found.netns != here,
        config_files=files,
        command_line=found.words,
        container_pid=found.inner,
        root=_root_of(above.root, files),
        stopped=stat.state in "Tt",
    )


def _failed(master: _Found, workers: list[_Found]) -> int | None:
    """How many of the latest reloads failed, at least.

    Up to 3.0 a master says so in the environment in which it executes itself anew; from 3.1
    on it says what was true before, and goes on naming its only worker after -sf.
    """
    told = procfs.environment(master.stat.pid).get("HAPROXY_PROCESSES", "")
    said = re.search(r"\|type=m;[^|]*failedreloads=(\d+)", told)
    alone = bool(workers) and all(w.seen_as in master.arguments.replaces for w in workers)
    return max(int(said[1]), int(alone)) if said else None


def _files_of(found: _Found) -> tuple[str, ...]:
    """Relative ones from its working directory, or from $PWD if it has left that (`chroot`).

    Where that may not be read, a path that says so when it is opened.
    """
    pid = found.stat.pid
    files = config_paths(found.arguments, procfs.link(pid, "cwd") or f"/proc/{pid}/cwd")
    if not files or _exists(found.root, files[0]) or _exists("/", files[0]):
        return files
    began_in = procfs.environment(pid).get("PWD", "")
    other = config_paths(found.arguments, began_in) if began_in else files
    return other if _exists("/", other[0]) else files


def _exists(root: str, path: str) -> bool:
    """Also False where we may not look: `Path.exists` would raise."""
    return os.path.exists(procfs.inside(root, path))  # noqa: PTH110


def _root_of(root: str, files: tuple[str, ...]) -> str:
    """Where its paths begin: not in a root that it entered (`chroot`) after it had read them."""
    if root == "/" or root.startswith("/proc/") or not files:
        return root
    return root if _exists(root, files[0]) else "/"


def config_paths(given: Arguments, cwd: str) -> tuple[str, ...]:
    """Absolute, as the process sees them: ``-C`` and the working directory resolved."""
    folder = Path(cwd, given.folder or "")
    return tuple(os.path.normpath(folder / path) for path in given.config)


def reloaded(process: Process, reloads: int | None, version: str | None) -> Process:
    """With what only its master says."""
    return replace(process, reloads=reloads, version=version or process.version)
