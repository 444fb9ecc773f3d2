"""The flow table: every event folded into one picture, which detectors and sinks may read.

Its memory is bounded by suspects, targets, servers and processes, never by the number of
connections: finished flows arrive packed and leave a trace only where they tell something
of a check or a command-line socket.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hatrace.flows.attribution import Attributor
from hatrace.flows.check_activity import CheckBook
from hatrace.flows.finished import chosen
from hatrace.flows.news import Desk
from hatrace.flows.owners import Owners
from hatrace.flows.scans import Fds, Names, Suspects, Totals
from hatrace.flows.told import Told, bound
from hatrace.model import event as events
from hatrace.model.attribution import Attribution
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Event, Holder, LogLine, Target, Trouble
from hatrace.model.flow import Flow
from hatrace.model.topology import Process, Room, Server, TakenPort
from hatrace.model.world import CheckActivity, Key, Rate

LOG_LINES = 400
ACTIONS = 100
NETWORKS = 256
"""Network namespaces, those heard of last."""
TROUBLES = 1_000
"""Different subjects in trouble at once."""


class Table:
    """`model.world.World`, built from events by `apply`."""

    def __init__(self, info: CaptureInfo) -> None:
        self.info = info
        self.now_ns = info.started_ns
        self.losses = events.Losses(info.started_ns)
        self.command_clients: events.CommandClients | None = None
        self.host: events.HostCounters | None = None
        self.host_at_start: events.HostCounters | None = None
        self.taken_ports: Sequence[TakenPort] = ()
        self.networks: dict[int, events.HostCounters] = {}
        self.time_waits: dict[int, events.TimeWaits] = {}
        self.cost: events.Cost | None = None
        self._told = Told()
        self._suspects, self._totals = Suspects(), Totals()
        self._fds, self._names = Fds(), Names()
        self._owners = Owners(info, self._told, self._fds, self._names)
        self._attributor = Attributor(self._told, self._totals, self._suspects, self._owners)
        self._checks = CheckBook(self._told, self._totals, self._suspects, self._attributor)
        self._checks.flows_reported = info.detail != "summary"
        self._desk = Desk(self._told, self._totals, self._attributor, self._checks)
        self._troubles: dict[tuple[str, str], Trouble] = {}
        self._log: deque[LogLine] = deque(maxlen=LOG_LINES)
        self.rooms: Mapping[int, Room] = {}
        self._actions: deque[events.Action] = deque(maxlen=ACTIONS)
        self._handlers = self._choose_handlers()

    def apply(self, event: Event) -> None:
        """Folds one event; a time that lies before others' does not turn the clock back."""
        self.now_ns = max(self.now_ns, event.at_ns)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _choose_handlers(self) -> Mapping[type, Callable[[Any], None]]:
        told = self._told
        return {
            events.Finished: self._finished,
            events.Open: self._open,
            events.Targets: self._targets,
            events.Holders: self._holders,
            events.Losses: self._losses,
            events.CommandSockets: self._command_sockets,
            events.CommandClients: self._command_clients,
            events.HostCounters: self._host,
            events.TimeWaits: self._time_waits,
            events.Processes: self._processes,
            events.Servers: self._servers,
            events.Configured: told.apply_configured,
            events.TakenPorts: self._taken_ports,
            events.Info: told.apply_info,
            events.Streams: told.apply_streams,
            events.Descriptors: told.apply_descriptors,
            events.CheckResult: self._checks.apply_result,
            events.LogLine: self._log.append,
            events.Action: self._actions.append,
            events.Trouble: self._trouble,
            events.Cost: self._cost,
        }

    # Folding ---------------------------------------------------------------------------

    def _finished(self, event: events.Finished) -> None:
        for flow in chosen(event.flows, self._desk.wants):
            self._desk.take(flow)

    def _open(self, event: events.Open) -> None:
        new = self._suspects.apply(event)
        self._names.learn((flow.pid, flow.comm) for flow in new if flow.pid)
        for flow in new:
            self._attributor.learn(flow)
        self._checks.stale()
        self._count_left_out()

    def _targets(self, event: events.Targets) -> None:
        self._totals.apply(event)
        self._checks.apply_targets(event.at_ns)
        self._desk.review()

    def _servers(self, event: events.Servers) -> None:
        self._told.apply_servers(event)
        self._checks.apply_servers(event)
        self._desk.review()

    def _processes(self, event: events.Processes) -> None:
        self._names.learn((process.pid, process.comm) for process in event.processes)
        self._told.apply_processes(event)
        self._checks.forget_gone()

    def _holders(self, event: events.Holders) -> None:
        self._fds.apply(event)
        self._names.learn(event.names.items())
        self.rooms = event.rooms

    def _command_sockets(self, event: events.CommandSockets) -> None:
        self._fds.command_sockets(event.holders)
        self._told.apply_command_sockets(event)
        unnamed = ((pid, line) for pid, line in event.names.items() if not self._names.of(pid))
        self._names.learn((pid, _program(line)) for pid, line in unnamed)

    def _command_clients(self, event: events.CommandClients) -> None:
        self.command_clients = event
        self._names.learn((calls.pid, calls.comm) for calls in event.calls)

    def _host(self, event: events.HostCounters) -> None:
        self.host_at_start = self.host_at_start or event
        if event.netns == self.host_at_start.netns:
            self.host = event
        if event.netns is not None:
            self.networks.pop(event.netns, None)
            self.networks[event.netns] = event
            bound(self.networks, NETWORKS)

    def _time_waits(self, event: events.TimeWaits) -> None:
        self.time_waits.pop(event.netns, None)
        if event.rows:
            self.time_waits[event.netns] = event
        bound(self.time_waits, NETWORKS)

    def _taken_ports(self, event: events.TakenPorts) -> None:
        self.taken_ports = event.ports
        self._names.learn((port.pid, port.comm) for port in event.ports if port.pid)

    def _losses(self, event: events.Losses) -> None:
        self.losses = event
        self._count_left_out()

    def _count_left_out(self) -> None:
        """The scan itself knows best what found no room in it."""
        left_out = self._suspects.left_out
        if left_out is not None and left_out != self.losses.scan_truncated:
            self.losses = replace(self.losses, scan_truncated=left_out)

    def _trouble(self, event: Trouble) -> None:
        key = (event.source, event.subject)
        self._troubles.pop(key, None)
        if key == (events.OWN, events.DETAIL) and self.info.detail != "summary":
            self._checks.flows_reported = event.over
        if not event.over:
            self._troubles[key] = event
        while len(self._troubles) > TROUBLES:
            del self._troubles[next(iter(self._troubles))]

    def _cost(self, event: events.Cost) -> None:
        self.cost = event

    # The world -------------------------------------------------------------------------

    @property
    def open(self) -> Mapping[Key, Flow]:
        return self._suspects.open

    @property
    def targets(self) -> Mapping[int, Target]:
        return self._totals.rows

    @property
    def rates(self) -> Mapping[int, Rate]:
        return self._totals.rates

    @property
    def processes(self) -> Mapping[int, Process]:
        return self._told.processes

    @property
    def servers(self) -> Mapping[int, Sequence[Server]]:
        return self._told.servers

    @property
    def configured(self) -> Mapping[int, events.Configured]:
        return self._told.configured

    @property
    def infos(self) -> Mapping[int, events.Info]:
        return self._told.infos

    @property
    def streams(self) -> Mapping[int, events.Streams]:
        return self._told.streams

    @property
    def descriptors(self) -> Mapping[int, events.Descriptors]:
        return self._told.descriptors

    @property
    def command_sockets(self) -> events.CommandSockets | None:
        return self._told.command_sockets

    @property
    def troubles(self) -> Sequence[Trouble]:
        return tuple(self._troubles.values())

    @property
    def checks(self) -> Sequence[CheckActivity]:
        return self._checks.activity(self.now_ns)

    @property
    def log_lines(self) -> Sequence[LogLine]:
        return self._log

    @property
    def actions(self) -> Sequence[events.Action]:
        """What hatrace changed on this host."""
        return self._actions

    @property
    def command_flows(self) -> Sequence[Flow]:
        """The latest finished connections to command-line sockets over TCP."""
        return self._desk.command_flows

    def holders(self, inode: int) -> Sequence[Holder]:
        return self._fds.of(inode)

    def comm(self, pid: int) -> str:
        return self._names.of(pid)

    def first_seen_ns(self, key: Key) -> int:
        """When a scan first reported this flow; now, if none did."""
        return self._suspects.first_ns(key, self.now_ns)

    def attribution(self, flow: Flow) -> Attribution:
        return self._attributor.flow(flow)

    def target_attribution(self, target: Target) -> Attribution:
        return self._attributor.target(target)

    def check_targets(self) -> Mapping[int, int]:
        """Targets to which checks go, and the age in ns past which a check there is too old."""
        return self._checks.target_ages_ns()


def _program(command_line: str) -> str:
    """A process's name by its command line, where nothing better is known."""
    return command_line.split(" ", 1)[0].rpartition("/")[2]
