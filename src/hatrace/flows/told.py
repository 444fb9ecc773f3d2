"""What HAProxy said of itself: processes, servers, configuration and samples, by pid.

Bounded by the workers there are.  A worker that has gone leaves its server list behind for
a while, since its last flows may be reported after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from hatrace.flows.places import Places
from hatrace.model.event import (
    CommandSockets,
    Configured,
    Descriptor,
    Descriptors,
    Info,
    Processes,
    Servers,
    Stream,
    Streams,
)
from hatrace.model.topology import Kind, Process, Server

REMEMBERED_PIDS = 64
"""Gone processes, and pids that spoke without being listed."""

Value = TypeVar("Value")


def bound(table: dict[int, Value], limit: int) -> None:
    """Drops the oldest entries."""
    while len(table) > limit:
        del table[next(iter(table))]


def _parts(processes: Mapping[int, Process]) -> set[tuple[int, Kind, str, int | None]]:
    """What of the processes an attribution rests on."""
    return {(one.pid, one.kind, one.comm, one.netns) for one in processes.values()}


class Told:
    """Folds what HAProxy's sources say; `revision` grows whenever an attribution may change."""

    def __init__(self) -> None:
        self.processes: dict[int, Process] = {}
        self.past: dict[int, Process] = {}
        self.servers: dict[int, tuple[Server, ...]] = {}
        self.configured: dict[int, Configured] = {}
        self.infos: dict[int, Info] = {}
        self.streams: dict[int, Streams] = {}
        self.descriptors: dict[int, Descriptors] = {}
        self.command_sockets: CommandSockets | None = None
        self.revision = 0
        self._stream_fds: dict[int, tuple[dict[int, Stream], dict[int, Stream]]] = {}
        self._descriptor_fds: dict[int, dict[int, Descriptor]] = {}
        self._places: dict[int, Places] = {}
        """Newest last, workers that have gone included."""

    def apply_processes(self, event: Processes) -> None:
        now = {process.pid: process for process in event.processes}
        gone = {pid: one for pid, one in self.processes.items() if pid not in now}
        self.past = {pid: one for pid, one in self.past.items() if pid not in now} | gone
        bound(self.past, REMEMBERED_PIDS)
        for pid in self.past:
            self._forget(pid)
        if _parts(self.processes) != _parts(now):
            self.revision += 1
        self.processes = now

    def _forget(self, pid: int) -> None:
        """A process has gone: what it said holds no more, but for where its flows went."""
        tables: tuple[dict[int, Any], ...] = (
            self.servers,
            self.configured,
            self.infos,
            self.streams,
            self.descriptors,
            self._stream_fds,
            self._descriptor_fds,
        )
        for table in tables:
            table.pop(pid, None)

    def apply_servers(self, event: Servers) -> None:
        self.servers[event.pid] = event.servers
        bound(self.servers, REMEMBERED_PIDS + len(self.processes))
        before = self._places.pop(event.pid, None)
        self._places[event.pid] = Places(event.servers, before)
        bound(self._places, REMEMBERED_PIDS + len(self.processes))
        self.revision += 1

    def apply_configured(self, event: Configured) -> None:
        before = self.configured.get(event.pid)
        if before is None or replace(before, at_ns=event.at_ns) != event:
            self.revision += 1
        self.configured[event.pid] = event
        bound(self.configured, REMEMBERED_PIDS + len(self.processes))

    def apply_info(self, event: Info) -> None:
        self.infos[event.pid] = event
        bound(self.infos, REMEMBERED_PIDS + len(self.processes))

    def apply_streams(self, event: Streams) -> None:
        self.streams[event.pid] = event
        bound(self.streams, REMEMBERED_PIDS + len(self.processes))
        self._stream_fds.clear()

    def apply_descriptors(self, event: Descriptors) -> None:
        self.descriptors[event.pid] = event
        bound(self.descriptors, REMEMBERED_PIDS + len(self.processes))
        self._descriptor_fds.clear()

    def stream_fds(self, pid: int, front: bool) -> Mapping[int, Stream]:
        """The streams that worker ``pid`` named, by the fd of their front or back side."""
        if pid not in self._stream_fds:
            said = self.streams.get(pid)
            known = said.streams if said is not None else ()
            fronts = {one.front_fd: one for one in known if one.front_fd is not None}
            backs = {one.back_fd: one for one in known if one.back_fd is not None}
            self._stream_fds[pid] = backs, fronts
        return self._stream_fds[pid][front]

    def descriptor_fds(self, pid: int) -> Mapping[int, Descriptor]:
        """What worker ``pid`` said of its fds."""
        if pid not in self._descriptor_fds:
            said = self.descriptors.get(pid)
            lines = said.descriptors if said is not None else ()
            self._descriptor_fds[pid] = {line.fd: line for line in lines}
        return self._descriptor_fds[pid]

    def apply_command_sockets(self, event: CommandSockets) -> None:
        before = self.command_sockets
        self.command_sockets = event
        if before is None or before.sockets != event.sockets:
            self.revision += 1

    def spoke(self, pid: int) -> bool:
        """Whether this pid is, or was, known as a process of HAProxy."""
        return any(pid in known for known in (self.processes, self.past, self._places, self.infos))

    def places(self, pid: int) -> tuple[Places | None, int]:
        """The addresses that worker ``pid`` knows, and who said so: it, or for want of its own
        list the worker that was asked last."""
        own = self._places.get(pid)
        if own is not None:
            return own, pid
        for teller in self._tellers():
            return self._places[teller], teller
        return None, 0

    def _tellers(self) -> list[int]:
        """Pids with a server list: current workers first, then the newest list first."""
        newest_first = list(reversed(self._places))
        return sorted(newest_first, key=self._is_old)

    def _is_old(self, pid: int) -> bool:
        process = self.processes.get(pid)
        return process is None or process.kind is Kind.OLD_WORKER
