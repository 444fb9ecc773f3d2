"""Choose: which live sockets are meant, by a filter or as the evidence of a finding.

Only processes in scope are looked into: HAProxy's, and those that the user names.  Listeners
are never chosen.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hatrace.actions.residue import looked
from hatrace.actions.rows import fds_of, quiet_ns, row
from hatrace.errors import UsageError
from hatrace.model.address import endpoint, packed
from hatrace.model.event import Open
from hatrace.model.finding import Evidence, Finding
from hatrace.model.flow import Flow, State
from hatrace.sockets.inventory import Look

STATES = {
    "established": State.ESTABLISHED,
    "syn-sent": State.SYN_SENT,
    "fin-wait-1": State.FIN_WAIT1,
    "fin-wait-2": State.FIN_WAIT2,
    "close-wait": State.CLOSE_WAIT,
    "last-ack": State.LAST_ACK,
    "closing": State.CLOSING,
    "close": State.CLOSE,
}
"""By the names that `ss` has; `close` is the ghost's."""


@dataclass(frozen=True, slots=True)
class Side:
    """An address, a port, or both; None: any."""

    address: bytes | None
    port: int | None

    def matches(self, address: bytes, port: int) -> bool:
        return self.address in (None, address) and self.port in (None, port)


def side(text: str) -> Side:
    """``192.0.2.1:443``, ``[2001:db8::1]:443``, ``192.0.2.1`` or ``:443``; raises UsageError."""
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]*)|(.*:.*:.*))(?::(\d{1,5}))?", text)
    host = (match[1] or match[2] or match[3]) if match else None
    port = int(match[4]) if match and match[4] else None
    try:
        address = packed(str(ipaddress.ip_address(host))) if host else None
    except ValueError:
        address = None
        match = None
    if match is None or (address is None and port is None) or not 0 < (port or 1) < 65536:
        why = "an address is 192.0.2.1:443, [2001:db8::1]:443, 192.0.2.1 or :443"
        raise UsageError(f"{text!r} is no address and port", why)
    return Side(address, port)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a connection must be like; None: anything."""

    states: frozenset[State] = frozenset()
    """Empty: any but LISTEN."""
    remote: Side | None = None
    local: Side | None = None
    quiet_ns: int | None = None
    """No data moved for so long: so it is at least that old."""

    def matches(self, flow: Flow, now_ns: int) -> bool:
        if flow.state == State.LISTEN or (self.states and flow.state not in self.states):
            return False
        if self.remote is not None and not self.remote.matches(flow.raddr, flow.rport):
            return False
        if self.local is not None and not self.local.matches(flow.laddr, flow.lport):
            return False
        quiet = quiet_ns(flow, now_ns)
        return self.quiet_ns is None or (quiet is not None and quiet >= self.quiet_ns)


@dataclass(slots=True)
class Chosen:
    """The sockets that are meant, and what of the wish could not be met."""

    at_ns: int = field(default_factory=time.monotonic_ns)
    flows: list[tuple[Flow, int | None]] = field(default_factory=list)
    """With their fds, in the order of pids and fds."""
    remarks: list[str] = field(default_factory=list)
    missed: int = 0
    """Sockets of the finding that are there, but may or can not be destroyed."""

    @property
    def rows(self) -> list[Evidence]:
        return [row(flow, self.at_ns, fd) for flow, fd in self.flows]

    @property
    def event(self) -> Open:
        records = b"".join(flow.pack() for flow, _ in self.flows)
        return Open(self.at_ns, records, len(self.flows))

    @property
    def alive(self) -> list[tuple[Flow, int | None]]:
        return [(flow, fd) for flow, fd in self.flows if flow.state != State.CLOSE]

    @property
    def ghosts(self) -> list[tuple[Flow, int | None]]:
        return [(flow, fd) for flow, fd in self.flows if flow.state == State.CLOSE]


def by_filter(wanted: Filter, scope: Collection[int]) -> Chosen:
    """Every matching socket of the processes in ``scope``; never-connected ones are left out."""
    chosen = Chosen()
    seen = looked(scope)
    found = (flow for flow in _connected(seen) if wanted.matches(flow, chosen.at_ns))
    chosen.flows = _with_fds(found, seen)
    return chosen


def by_findings(findings: Iterable[Finding], wanted: Filter, scope: Collection[int]) -> Chosen:
    """The sockets that the findings' evidence names, if they still are the same and match.

    Those of processes outside the scope are counted as missed while these live.
    """
    chosen = Chosen()
    seen = looked(scope)
    by_inode = {(flow.pid, flow.inode): flow for flow in _connected(seen)}
    flows: dict[int, Flow] = {}
    for finding in findings:
        named = gone = 0
        for evidence in finding.evidence:
            if evidence.what != "tcp":
                continue
            named += 1
            if evidence.pid not in scope:
                alive = Path(f"/proc/{evidence.pid}").exists()
                chosen.missed += alive
                chosen.remarks.append(_outside(evidence, alive))
                continue
            flow = by_inode.get((evidence.pid or 0, evidence.inode or 0))
            if flow is None or not _is_same(flow, evidence):
                gone += 1
            elif wanted.matches(flow, chosen.at_ns):
                flows[flow.id] = flow
        chosen.remarks += _unnamed(finding, named)
        if gone:
            chosen.remarks.append(f"{gone} of the {named} sockets that it names are gone already")
    chosen.flows = _with_fds(flows.values(), seen)
    return chosen


def _connected(seen: Look) -> list[Flow]:
    """Without listeners and sockets that were never connected."""
    return [
        flow
        for flow in seen.owned
        if flow.state != State.LISTEN and (flow.state != State.CLOSE or flow.closed_ns)
    ]


def _with_fds(flows: Iterable[Flow], seen: Look) -> list[tuple[Flow, int | None]]:
    fds = fds_of(seen.held)
    found = [(flow, fds.get((flow.pid, flow.inode))) for flow in flows]
    return sorted(found, key=lambda each: (each[0].pid, each[1] or 0))


def _is_same(flow: Flow, evidence: Evidence) -> bool:
    """An inode may be another socket's by now; a ghost may have lost its local address."""
    remote = endpoint(flow.raddr, flow.rport)
    return "?" in evidence.remote or not evidence.remote or evidence.remote == remote


def _outside(evidence: Evidence, alive: bool) -> str:
    who = f"{evidence.comm or 'process'} {evidence.pid}"
    if not alive:
        return f"{who} has ended, and its sockets with it"
    return f"{who} is out of scope: its sockets are only touched with --pid {evidence.pid}"


def _unnamed(finding: Finding, named: int) -> list[str]:
    """What the finding is about and no flow of its evidence shows."""
    kinds = sorted({each.what for each in finding.evidence} - {"tcp"})
    found = []
    if kinds:
        found.append(
            f"{finding.slug} also names {', '.join(kinds)}: there is no connection to destroy in "
            "those (AF_UNIX sockets end with the process that holds them)"
        )
    if named and finding.count > named:
        found.append(
            f"{finding.slug} counts {finding.count} and names {named} of them: "
            "choose the others by --pid, --state, --dst and --older"
        )
    return found
