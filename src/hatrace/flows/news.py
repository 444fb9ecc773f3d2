"""Finished flows, sorted: which are worth unpacking, and to whom each of these goes.

What a target is for is known only once its totals and a server list have come, and the
ring may be quicker than either: of an undecided target the first few flows wait.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum, auto

from hatrace.flows.attribution import Attributor
from hatrace.flows.check_activity import CheckBook
from hatrace.flows.doubt import at_least
from hatrace.flows.finished import FEW, Want
from hatrace.flows.inbound import command_socket
from hatrace.flows.scans import Totals, same_target
from hatrace.flows.told import Told
from hatrace.model.attribution import Role
from hatrace.model.event import Target
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flow

WAITING = 4_096
"""Flows of undecided targets kept."""
UNSURE = 16
"""Flows per target which may turn out to be a rhythm's first."""
UNSURE_TARGETS = 512
COMMAND_FLOWS = 256
NO_TARGET = 0
"""The index under which the kernel counts what found no room, and sockets never connected."""
LEAST = Confidence.LIKELY
"""A flow that is less surely a check is not counted as one."""
CHECKS = (Role.CHECK, Role.AGENT)


class Use(Enum):
    """What the finished flows of a target are good for."""

    NOTHING = auto()
    CHECKS = auto()
    MIXED = auto()
    """Checks among sessions."""
    COMMANDS = auto()
    UNDECIDED = auto()


class Desk:
    """Decides per target, remembers while nothing changes, and hands each flow on."""

    def __init__(
        self, told: Told, totals: Totals, attributor: Attributor, checks: CheckBook
    ) -> None:
        self._told = told
        self._totals = totals
        self._attributor = attributor
        self._checks = checks
        self._uses: dict[int, tuple[Target, Use]] = {}
        self._revision = -1
        self._waiting: deque[Flow] = deque(maxlen=WAITING)
        self._waiting_for: Counter[int] = Counter()
        self._unsure: dict[int, deque[Flow]] = {}
        self.command_flows: deque[Flow] = deque(maxlen=COMMAND_FLOWS)

    def wants(self, index: int) -> Want:
        """Which flows of this target are worth unpacking now."""
        use = self._use(index)
        if use is Use.NOTHING:
            return Want.NONE
        if use is Use.UNDECIDED:
            return Want.FEW if self._waiting_for[index] < FEW else Want.NONE
        return Want.LIKE_CHECKS if use is Use.MIXED else Want.ALL

    def take(self, flow: Flow) -> None:
        use = self._use(flow.target)
        if use is Use.UNDECIDED:
            self._wait(flow)
        elif use is Use.CHECKS:
            self._checks.ended(flow)
        elif use is Use.MIXED:
            self._look_at(flow)
        elif use is Use.COMMANDS:
            self.command_flows.append(flow)

    def review(self) -> None:
        """Something was learned of targets or servers: those that wait may be decided now."""
        waiting, self._waiting = self._waiting, deque(maxlen=WAITING)
        self._waiting_for.clear()
        for flow in waiting:
            self.take(flow)

    def _wait(self, flow: Flow) -> None:
        if self._waiting_for[flow.target] < FEW:
            self._waiting_for[flow.target] += 1
            self._waiting.append(flow)

    def _look_at(self, flow: Flow) -> None:
        """Counts a check, and with the first of a rhythm those that made it one."""
        self._attributor.learn(flow)
        earlier = self._unsure.pop(flow.target, None) or deque(maxlen=UNSURE)
        if self._is_check(flow):
            alike = [one for one in earlier if one.sent_bytes == flow.sent_bytes]
            known = [one for one in alike if self._is_check(one)]
            for one in (*known, flow):
                self._checks.ended(one)
            earlier = deque((one for one in earlier if one not in known), maxlen=UNSURE)
        else:
            earlier.append(flow)
        self._unsure[flow.target] = earlier
        while len(self._unsure) > UNSURE_TARGETS:
            del self._unsure[next(iter(self._unsure))]

    def _is_check(self, flow: Flow) -> bool:
        found = self._attributor.flow(flow)
        return found.role in CHECKS and at_least(found, LEAST)

    def _use(self, index: int) -> Use:
        if self._revision != self._told.revision:
            self._uses.clear()
            self._revision = self._told.revision
        row = self._totals.rows.get(index)
        if row is None:
            return Use.UNDECIDED if index != NO_TARGET else Use.MIXED
        known = self._uses.get(index)
        if known is None or not (known[0] is row or same_target(known[0], row)):
            known = self._uses[index] = row, self._decide(row)
        return known[1]

    def _decide(self, row: Target) -> Use:
        if row.inbound:
            socket = command_socket(self._told, row.address, row.port)
            return Use.NOTHING if socket is None else Use.COMMANDS
        if self._attributor.shared(row) is not None:
            return Use.MIXED
        role = self._attributor.target(row).role
        if role is Role.UNKNOWN and self._told.places(row.pid)[0] is None:
            return Use.UNDECIDED
        return Use.CHECKS if role in CHECKS else Use.NOTHING
