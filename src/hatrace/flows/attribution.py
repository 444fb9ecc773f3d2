"""What each flow and target is to HAProxy: role, label, how sure, and why.

In the order of their weight: what HAProxy itself says of the fd (`show fd`, `show sess`);
where the flow goes, by the server list and configuration of its own worker; what it did,
where one address serves both sessions and checks (`behaviour`).  A list borrowed from
another worker, or an owner that is only supposed, makes an answer less sure.
"""

from __future__ import annotations

from dataclasses import replace

from hatrace.flows import inbound
from hatrace.flows.behaviour import Habit, judge
from hatrace.flows.doubt import less_sure, lower_of
from hatrace.flows.owners import Owners
from hatrace.flows.places import Place, labels
from hatrace.flows.scans import Suspects, Totals
from hatrace.flows.told import Told
from hatrace.flows.witness import Witness
from hatrace.model.attribution import UNATTRIBUTED, Attribution, Role
from hatrace.model.event import Target
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flag, Flow, State

WELL_KNOWN = {53: Role.RESOLVER, 853: Role.RESOLVER, 514: Role.LOG, 6514: Role.LOG}
ENDPOINT_ROLES = {"peers": Role.PEERS, "resolver": Role.RESOLVER, "log": Role.LOG}
ACCEPTED, CONNECTED, LISTENER = int(Flag.ACCEPTED), int(Flag.CONNECTED), int(Flag.LISTENER)
"""Plain numbers: each "and" with a `Flag` takes a microsecond, and each flow needs several."""
REMEMBERED_ROUTES = 65_536
REMEMBERED_HABITS = 2_048
"""Addresses which take both sessions and checks, whose rhythm is followed."""

Route = tuple[int, str, bytes, int]
"""Owner's pid (0: unknown), its name, remote address and port."""


class Attributor:
    """Joins what the kernel showed with what HAProxy told; remembers the answer per target."""

    def __init__(self, told: Told, totals: Totals, suspects: Suspects, owners: Owners) -> None:
        self._told = told
        self._suspects = suspects
        self._totals = totals
        self._owners = owners
        self._witness = Witness(told, owners)
        self._routes: dict[Route, tuple[Attribution, Place | None]] = {}
        self._revision = -1
        self._habits: dict[tuple[int, bytes, int], Habit] = {}

    # Answers ---------------------------------------------------------------------------

    def flow(self, flow: Flow) -> Attribution:
        """One socket's."""
        pid, comm = self._owners.of(flow)
        if flow.flags & LISTENER or flow.state == State.LISTEN:
            return inbound.listener(self._told, self._owners, flow, pid, comm)
        if self.came_in(flow):
            accepted = inbound.accepted(self._told, self._owners, flow, pid, comm)
            return self._witness.confirmed(flow, accepted, front=True)
        found, shared = self.route(pid, comm, flow.raddr, flow.rport)
        if not flow.rport:
            found = _without_address(found)
        if shared is not None:
            done = judge(flow, shared, self._habits.get((pid, flow.raddr, flow.rport)))
            found = _weigh(done, found, shared)
        mixed = shared is not None
        return self._witness.confirmed(flow, found, front=False, mixed=mixed)

    def target(self, target: Target) -> Attribution:
        """The totals': what most flows of it are."""
        if target.inbound:
            return inbound.target(self._told, self._owners, target)
        name = self._owners.names.of(target.pid)
        return self.route(target.pid, name, target.address, target.port)[0]

    def came_in(self, flow: Flow) -> bool:
        """Whether it was accepted; of an adopted flow the listeners and its target tell."""
        if flow.preexisting and self._suspects.listening(flow.netns, flow.lport):
            return True
        if flow.flags & (ACCEPTED | CONNECTED):
            return bool(flow.flags & ACCEPTED)
        target = self._totals.rows.get(flow.target)
        if target is None or (target.address, target.port) not in (
            (flow.laddr, flow.lport),
            (flow.raddr, flow.rport),
        ):
            return False
        return target.inbound

    def shared(self, target: Target) -> Place | None:
        """The place of a target to which both sessions and checks go; None: it is not such."""
        name = self._owners.names.of(target.pid)
        return self.route(target.pid, name, target.address, target.port)[1]

    def owner(self, flow: Flow) -> int:
        """The pid it belongs to; 0: unknown."""
        return self._owners.of(flow)[0]

    def learn(self, flow: Flow) -> None:
        """Takes note of a flow, open or ended, where that helps to recognise a rhythm."""
        pid, comm = self._owners.of(flow)
        if self.came_in(flow) or self.route(pid, comm, flow.raddr, flow.rport)[1] is None:
            return
        spot = (pid, flow.raddr, flow.rport)
        habit = self._habits.pop(spot, None) or Habit()
        self._habits[spot] = habit
        habit.learn(flow)
        while len(self._habits) > REMEMBERED_HABITS:
            del self._habits[next(iter(self._habits))]

    # Where it goes ---------------------------------------------------------------------

    def route(
        self, pid: int, comm: str, address: bytes, port: int
    ) -> tuple[Attribution, Place | None]:
        """What goes from this process to this address; with the place, where that alone does
        not tell sessions and checks apart."""
        full = len(self._routes) >= REMEMBERED_ROUTES
        if self._revision != self._told.revision or full:
            self._routes.clear()
            self._revision = self._told.revision
        key = (pid, comm, address, port)
        found = self._routes.get(key)
        if found is None:
            found = self._routes[key] = self._find(*key)
        return found

    def _find(
        self, pid: int, comm: str, address: bytes, port: int
    ) -> tuple[Attribution, Place | None]:
        ours = self._owners.is_haproxy(pid, comm)
        if ours is False:
            return self._of_application(comm, address, port), None
        places, teller = self._told.places(pid)
        found, shared = None, None
        if places is not None:
            place = places.at(address, port)
            if place is not None:
                found, shared = _of_place(place)
            elif (former := places.former(address, port)) is not None:
                found = _of_former(former)
        found = found or self._elsewhere(pid, address, port, places is not None)
        if ours is None:
            found = less_sure(found, f"{f'pid {pid}' if pid else 'its owner'} is not known")
        elif places is not None and teller != pid:
            found = less_sure(found, f"by the server list of pid {teller}, its own is unknown")
        return found, shared

    def _of_application(self, comm: str, address: bytes, port: int) -> Attribution:
        name = comm or "its process"
        socket = inbound.command_socket(self._told, address, port)
        if socket is not None:
            role = Role.MASTER_CLI if socket.master else Role.CLI
            return Attribution(role, "", Confidence.LIKELY, f"{name} talks to {socket.path}")
        place = self._told.places(0)[0]
        used = place.at(address, port) if place is not None else None
        external = [s for s in (used.checks if used else ()) if s.settings.kind == "external"]
        if external and self._owners.only_haproxy:
            why = f"{name}, in HAProxy's scope, connects where an external check would"
            return Attribution(Role.CHECK, labels(external), Confidence.POSSIBLE, why)
        return Attribution(Role.APPLICATION, "", Confidence.LIKELY, f"{name} is not HAProxy")

    def _elsewhere(self, pid: int, address: bytes, port: int, listed: bool) -> Attribution:
        """What goes to no server's address."""
        for configured in self._told.configured.values():
            for one in configured.endpoints:
                if (one.address, one.port) == (address, port) and one.kind in ENDPOINT_ROLES:
                    sure = Confidence.CERTAIN if configured.pid == pid else Confidence.LIKELY
                    why = f"the configuration names {one.name} there"
                    return Attribution(ENDPOINT_ROLES[one.kind], one.name, sure, why)
        role = WELL_KNOWN.get(port)
        if role is not None:
            return Attribution(role, "", Confidence.POSSIBLE, f"by its port, {port}")
        if not listed:
            return replace(UNATTRIBUTED, reason="no worker's server list is known yet")
        why = "HAProxy connects there, but no server it lists has that address"
        return replace(UNATTRIBUTED, reason=why)


def _without_address(found: Attribution) -> Attribution:
    """A ghost found by the inventory may have lost its addresses, or never had any."""
    if found.role is Role.APPLICATION:
        return found
    return replace(UNATTRIBUTED, reason="its remote address is not known any more")


def _of_place(place: Place) -> tuple[Attribution, Place | None]:
    """A place's attribution; with itself if sessions or checks both go there."""
    checking = (*place.checks, *place.agents)
    if not place.sessions and not checking:
        why = "only this server's checks, off now, have that address and port"
        return Attribution(Role.CHECK, labels(place.dormant), Confidence.LIKELY, why), None
    if not checking:
        why = "this server's address and port, which is not checked there"
        return Attribution(Role.SERVER, labels(place.sessions), Confidence.CERTAIN, why), None
    if not place.sessions:
        return _of_checks(place), None
    why = "both its sessions and its checks go there"
    label = labels((*place.sessions, *checking))
    return Attribution(Role.SERVER, label, Confidence.LIKELY, why), place


def _of_checks(place: Place) -> Attribution:
    """A place which serves no sessions."""
    if place.checks and place.agents:
        why = "health and agent checks go there, and no sessions"
        label = labels((*place.checks, *place.agents))
        return Attribution(Role.CHECK, label, Confidence.LIKELY, why)
    role, users = (Role.CHECK, place.checks) if place.checks else (Role.AGENT, place.agents)
    why = "only checks go to that address and port, no sessions"
    return Attribution(role, labels(users), Confidence.CERTAIN, why)


def _of_former(place: Place) -> Attribution:
    """A place that the server list had before."""
    users = place.sessions or place.checks or place.agents or place.dormant
    role = Role.SERVER if place.sessions else Role.CHECK
    why = "was this server's address and port until it was removed or moved"
    return Attribution(role, labels(users), Confidence.LIKELY, why)


def _weigh(done: Attribution, place: Attribution, shared: Place) -> Attribution:
    """What a flow did, under the doubts of its place."""
    role = Role.AGENT if done.role is Role.CHECK and not shared.checks else done.role
    users = {Role.CHECK: shared.checks, Role.AGENT: shared.agents}.get(role, shared.sessions)
    sure = lower_of(done.confidence, place.confidence)
    return Attribution(role, labels(users), sure, done.reason)
