"""What the host says beside the flows: its counters, HAProxy's command-line sockets and who calls
them, ports that are taken.  From netlink and /proc, of every network namespace that is followed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from hatrace.errors import HatraceError
from hatrace.model.event import CommandCalls, CommandClients, Event, Holder, TakenPorts, Trouble
from hatrace.model.topology import Bind, CommandSocket, TakenPort
from hatrace.sockets.command_sockets import command_sockets
from hatrace.sockets.counters import host_counters
from hatrace.sockets.holders import Finder
from hatrace.sockets.netlink import namespace_of
from hatrace.sockets.taken_ports import taken_ports
from hatrace.sockets.time_waits import Waits

TAKEN_S = 5.0
"""Binds that are wanted and not made yet are tried this often."""
CALLERS = 64
"""Of those who call HAProxy's command-line sockets, the latest so many are kept."""


class Listening(Protocol):
    """A rung, as far as it sees who connects to AF_UNIX sockets."""

    def listen_for(self, paths: Iterable[str]) -> None: ...
    def callers(self) -> Sequence[CommandCalls]: ...


class Configured(Protocol):
    """What HAProxy's sampler knows of its command-line sockets and its binds."""

    def command_sockets(self) -> Collection[CommandSocket]: ...
    def wanted_binds(self) -> Mapping[int, Sequence[Bind]]: ...


class Surroundings:
    """Read at every picture; each reader limits itself."""

    def __init__(self, haproxy: Configured) -> None:
        self._haproxy = haproxy
        self._sockets, self._sockets_in_the_way = Finder(), Finder()
        self._networks: dict[int, int | None] = {}
        """Network namespaces of the processes followed."""
        self._waits = Waits()
        self._taken: tuple[TakenPort, ...] = ()
        self._taken_s = 0.0
        self._troubles: dict[str, Trouble] = {}
        self._calls: tuple[CommandCalls, ...] = ()

    def look(
        self, rung: Listening, followed: frozenset[int], held: Collection[Holder]
    ) -> Iterator[Event]:
        """``held``: what the processes that are followed hold, if it was just listed."""
        yield from self._counters(followed)
        yield from self._attempt("command-sockets", lambda: self._command_sockets(held))
        yield from self._command_clients(rung)
        yield from self._taken_ports()

    def _counters(self, followed: frozenset[int]) -> Iterator[Event]:
        """Of our own network namespace first, then of those that processes in scope have."""
        own = host_counters()
        yield own
        yield from self._waits.look(own, None)
        known = {pid: at for pid, at in self._networks.items() if pid in followed}
        self._networks = known | {p: namespace_of(p) for p in followed - known.keys()}
        for netns, pid in {netns: pid for pid, netns in self._networks.items()}.items():
            if own.netns and netns not in (None, own.netns):
                counters = host_counters(pid)
                yield counters
                yield from self._waits.look(counters, pid)

    def _command_sockets(self, held: Collection[Holder]) -> Event | None:
        sockets = self._haproxy.command_sockets()
        if not sockets:
            return None
        return command_sockets(sockets, self._sockets, held)

    def _command_clients(self, rung: Listening) -> Iterator[Event]:
        """Who called HAProxy's command-line sockets, if anybody did since the last look."""
        rung.listen_for(one.path for one in self._haproxy.command_sockets())
        calls = tuple(one for one in rung.callers() if one.pid != os.getpid())
        if calls != self._calls:
            self._calls = calls
            yield CommandClients(time.monotonic_ns(), calls[:CALLERS])

    def _taken_ports(self) -> Iterator[Event]:
        """What stands in the way of binds, if the files that name them were changed."""
        wanted, now_s = self._haproxy.wanted_binds(), time.monotonic()
        if wanted and now_s < self._taken_s + TAKEN_S:
            return
        self._taken_s = now_s if wanted else 0.0
        taken = taken_ports(wanted, self._sockets_in_the_way)
        if taken != self._taken:
            self._taken = taken
            yield TakenPorts(time.monotonic_ns(), taken)

    def _attempt(self, source: str, work: Callable[[], Event | None]) -> Iterator[Event]:
        """A reader that may fail: said once when it begins to, and once when it is over."""
        try:
            event = work()
        except HatraceError as error:
            if source not in self._troubles:
                trouble = Trouble(time.monotonic_ns(), source, error.what, error.why, error.do)
                self._troubles[source] = trouble
                yield trouble
            return
        if old := self._troubles.pop(source, None):
            yield Trouble(time.monotonic_ns(), source, old.subject, old.why, over=True)
        if event is not None:
            yield event
