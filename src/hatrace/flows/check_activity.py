"""Health-check activity: every check of every server, as its sockets and HAProxy show it.

Where an address and port take nothing but checks, the target's totals count them all, even
in a capture without finished flows.  Where sessions go there as well, only flows that were
recognised are counted.  Several servers with one check address are counted together.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hatrace.flows.attribution import Attributor
from hatrace.flows.check_runs import Runs
from hatrace.flows.doubt import at_least
from hatrace.flows.places import Pair, agent_pair, check_pair, labels
from hatrace.flows.rhythm import Rhythm, expected, intervals_ms
from hatrace.flows.scans import Suspects, Totals
from hatrace.flows.told import Told
from hatrace.model.attribution import Attribution, Role
from hatrace.model.event import CheckResult, Servers
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flow
from hatrace.model.topology import Kind, Server
from hatrace.model.world import CheckActivity

MISSED_INTERVALS = 3
"""After so many intervals without a connect there is something to explain."""
WATCH_NS = 500_000_000
"""A check on a port of its own is done within milliseconds, or it hangs; a leak shows as soon
as a second socket stands beside the first, not when the last timeout has passed."""
SHARED_WATCH = 500
"""A shared target with more open flows is not watched by age: sessions would fill the scan."""
TRACED = re.compile(r"last=([A-Z0-9]+)\(")
TRACED_END = ("complete", "report", "succeeded", "failed")
Spot = tuple[int, bytes, int]
"""Worker, and the address and port it checks."""


class Counts(NamedTuple):
    """Checks since hatrace came, and those held now."""

    started: int
    ended: int
    held: int


class CheckBook:
    """Keeps the latest runs per worker and checked address; bounded by servers."""

    def __init__(
        self, told: Told, totals: Totals, suspects: Suspects, attributor: Attributor
    ) -> None:
        self._told = told
        self._totals = totals
        self._suspects = suspects
        self._attributor = attributor
        self._runs: dict[Spot, Runs] = {}
        self._groups: dict[int, dict[Pair, list[Server]]] = {}
        self._answer: tuple[CheckActivity, ...] | None = None
        self.flows_reported = True
        """False for a capture of summary detail."""

    # What is learned -------------------------------------------------------------------

    def ended(self, flow: Flow) -> None:
        """A flow taken for a check has ended."""
        pid = self._attributor.owner(flow)
        if pid not in self._told.past:
            self._at((pid, flow.raddr, flow.rport)).end(flow)
            self.stale()

    def apply_servers(self, event: Servers) -> None:
        """A worker's list: what it says of each server's last check belongs to a run."""
        groups = self._groups[event.pid] = grouped(event.servers)
        for pair, servers in groups.items():
            runs = self._at((event.pid, *pair))
            runs.since_ns = runs.since_ns or event.at_ns
            words = {_status(server, pair) for server in servers}
            if len(words) == 1 and (word := words.pop()):
                runs.sampled.append((event.at_ns, word))
        self._keep(spot for spot in self._runs if spot[0] != event.pid or spot[1:] in groups)

    def apply_result(self, event: CheckResult) -> None:
        """HAProxy's trace of a check names no backend: taken where the name is unique."""
        found = TRACED.search(event.text)
        if found is None or not any(word in event.text for word in TRACED_END):
            return
        groups = self._groups.get(event.pid, {})
        wanted = [
            pair
            for pair, servers in groups.items()
            if len(servers) == 1 and _named(servers[0], event.server)
            if (agent_pair if event.agent else check_pair)(servers[0]) == pair
        ]
        if len(wanted) == 1:
            self._at((event.pid, *wanted[0])).traced.append((event.at_ns, found[1]))
            self.stale()

    def apply_targets(self, at_ns: int) -> None:
        """The totals' births give the rhythm where no flow is reported."""
        for spot, runs in self._runs.items():
            runs.count(at_ns, sum(row.born for row in self._totals.at(*spot)))
        self.stale()

    def forget_gone(self) -> None:
        """Processes have been listed: what the gone ones checked is history."""
        gone = self._told.past
        self._groups = {pid: group for pid, group in self._groups.items() if pid not in gone}
        self._keep(spot for spot in self._runs if spot[0] not in gone)

    def stale(self) -> None:
        """Something changed: the next question is answered anew."""
        self._answer = None

    def _at(self, spot: Spot) -> Runs:
        return self._runs.setdefault(spot, Runs())

    def _keep(self, spots: Iterable[Spot]) -> None:
        self._runs = {spot: self._runs[spot] for spot in spots}
        self.stale()

    # What is answered ------------------------------------------------------------------

    def activity(self, now_ns: int) -> Sequence[CheckActivity]:
        """By worker and server, in the order of the workers' lists.

        An old worker checks nothing any more: without a trace of a check it has no place here.
        """
        if self._answer is None:
            held = self._held()
            every = (
                self._of(pid, pair, servers, held, now_ns)
                for pid, groups in self._groups.items()
                for pair, servers in groups.items()
            )
            old = {one.pid for one in self._told.processes.values() if one.kind is Kind.OLD_WORKER}
            self._answer = tuple(
                one for one in every if one.pid not in old or one.started or one.held
            )
        return self._answer

    def target_ages_ns(self) -> Mapping[int, int]:
        """Targets that take checks, and the age from which a socket there is worth a look."""
        ages: dict[int, int] = {}
        for pid, groups in self._groups.items():
            for pair, servers in groups.items():
                shortest_ns = 1_000_000 * min(ms for one in servers for ms in intervals_ms(one))
                for row in self._totals.at(pid, *pair):
                    if self._attributor.shared(row) is None:
                        ages[row.index] = min(WATCH_NS, shortest_ns // 2)
                    elif row.open <= SHARED_WATCH:
                        ages[row.index] = shortest_ns
        return ages

    def _held(self) -> Mapping[Spot, list[Flow]]:
        """Suspects that go where checks go."""
        held: dict[Spot, list[Flow]] = defaultdict(list)
        for flow in self._suspects.open.values():
            spot = (self._attributor.owner(flow), flow.raddr, flow.rport)
            if spot in self._runs and not self._attributor.came_in(flow):
                held[spot].append(flow)
        return held

    def _of(
        self,
        pid: int,
        pair: Pair,
        servers: list[Server],
        held: Mapping[Spot, list[Flow]],
        now_ns: int,
    ) -> CheckActivity:
        spot = (pid, *pair)
        server, agent = _first(servers, pair)
        found, shared = self._attributor.route(pid, "", *pair)
        suspects = held.get(spot, [])
        if shared is not None:
            suspects = [flow for flow in suspects if self._is_check(flow)]
        counts = self._counts(spot, suspects, shared is not None)
        process = self._told.processes.get(pid)
        rhythm = expected(server, process.kind if process is not None else None, agent)
        if counts.started or counts.held:
            why = found.reason if shared is None else self._why_shared()
        else:
            why = self._unseen(spot, rhythm, now_ns)
        sure = found.confidence if shared is None else _by_behaviour(counts)
        runs = self._at(spot)
        return CheckActivity(
            pid=pid,
            server=server,
            agent=agent,
            started=counts.started,
            ended=counts.ended,
            held=counts.held,
            expected_ms=rhythm.interval_ms,
            expected_name=rhythm.name,
            observed_ms=runs.observed_ms(suspects, len(servers), shared is None),
            recent=runs.recent(suspects),
            attribution=Attribution(
                Role.AGENT if agent else Role.CHECK, labels(servers), sure, why
            ),
            sharing=len(servers),
        )

    def _counts(self, spot: Spot, suspects: Sequence[Flow], shared: bool) -> Counts:
        """By the totals where all that goes there are checks, else by recognised flows."""
        if shared:
            ended = self._at(spot).ended
            seen = sum(not flow.preexisting for flow in suspects)
            return Counts(ended + seen, ended, len(suspects))
        rows = self._totals.at(*spot)
        return Counts(
            sum(row.born for row in rows),
            sum(row.gone for row in rows),
            sum(row.open for row in rows),
        )

    def _why_shared(self) -> str:
        why = "sessions go there as well; only flows that behave like checks are counted"
        return why if self.flows_reported else f"{why}, and finished flows were not recorded"

    def _is_check(self, flow: Flow) -> bool:
        found = self._attributor.flow(flow)
        return found.role in (Role.CHECK, Role.AGENT) and at_least(found, Confidence.LIKELY)

    def _unseen(self, spot: Spot, rhythm: Rhythm, now_ns: int) -> str:
        """Why no connect of a check was seen."""
        if rhythm.interval_ms is None:
            return "in maintenance nothing is checked"
        since_ns = self._at(spot).since_ns or now_ns
        if now_ns - since_ns < MISSED_INTERVALS * rhythm.interval_ms * 1_000_000:
            return "none is due yet"
        if self._may_reuse(spot[0]):
            return "no connect seen: check-reuse-pool sends checks over idle connections"
        return "no connect of it was seen: it may be made by a process out of scope"

    def _may_reuse(self, pid: int) -> bool:
        """`check-reuse-pool` came with 3.2; where the configuration was read it tells."""
        configured = self._told.configured.get(pid)
        if configured is not None and any("check-reuse-pool" in o for o in configured.options):
            return True
        process, info = self._told.processes.get(pid), self._told.infos.get(pid)
        version = (process and process.version) or (info and info.values.get("Version")) or ""
        numbers = re.match(r"(\d+)\.(\d+)", version)
        return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (3, 2)


def grouped(servers: Iterable[Server]) -> dict[Pair, list[Server]]:
    """Servers by the address and port of their checks, then of their agents."""
    groups: dict[Pair, list[Server]] = {}
    for server in servers:
        for pair in _pairs(server):
            groups.setdefault(pair, []).append(server)
    return groups


def _pairs(server: Server) -> Iterator[Pair]:
    pairs = (check_pair(server) if server.checked else None, agent_pair(server))
    yield from (pair for pair in pairs if pair is not None)


def _status(server: Server, pair: Pair) -> str:
    """HAProxy's word on the last health check there; it has none on agents here."""
    return (server.check_status or "") if check_pair(server) == pair else ""


def _named(server: Server, name: str) -> bool:
    return name in (server.name, server.label)


def _by_behaviour(counts: Counts) -> Confidence:
    """How sure it is that what was counted among sessions are checks."""
    return Confidence.LIKELY if counts.started else Confidence.POSSIBLE


def _first(servers: Sequence[Server], pair: Pair) -> tuple[Server, bool]:
    """The server that stands for all, and whether only agents are asked there."""
    for server in servers:
        if server.checked and check_pair(server) == pair:
            return server, False
    return servers[0], True
