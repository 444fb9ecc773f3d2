"""Fold the world into a `Frame`: at ticks only, a few times a second at most.

The work grows with targets, servers and suspects, never with connections: totals come from
the kernel's own counters, and only the suspects of the latest scan are walked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hatrace.model.address import endpoint
from hatrace.model.event import Cost, Target
from hatrace.model.finding import Finding, Severity
from hatrace.model.flow import State
from hatrace.model.world import CheckActivity, World
from hatrace.sinks import wording
from hatrace.sinks.live.command_sockets import socket_rows
from hatrace.sinks.live.frame import CheckRow, Frame, Header, TargetRow

if TYPE_CHECKING:
    from hatrace.pipeline import Verdict

_WORST_FIRST = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.NOTICE: 2}


class Folder:
    """Makes frames; remembers the last cost sample, to show the cost of now."""

    def __init__(self) -> None:
        self._cost: Cost | None = None
        self._cpu_share: float | None = None
        self._bpf_share: float | None = None

    def fold(self, world: World, verdict: Verdict) -> Frame:
        self._take_cost(world)
        return Frame(
            header=self._header(world),
            findings=tuple(sorted(verdict.findings, key=_urgency)),
            targets=tuple(_target_rows(world)),
            checks=tuple(_check_row(activity, world.now_ns) for activity in world.checks),
            sockets=socket_rows(world.command_sockets, world.command_clients),
            troubles=tuple(world.troubles),
            scan_truncated=world.losses.scan_truncated,
        )

    def _header(self, world: World) -> Header:
        info, cost = world.info, world.cost
        return Header(
            host=info.host,
            haproxy=wording.versions(world),
            processes=wording.processes(world),
            rung=info.rung,
            blind_spots=info.blind_spots,
            scope=str(info.scope),
            losses=world.losses,
            started_unix_s=info.wall_s(info.started_ns),
            now_unix_s=info.wall_s(world.now_ns),
            elapsed_s=(world.now_ns - info.started_ns) / 1e9,
            cpu_share=self._cpu_share,
            resident_bytes=cost.resident_bytes if cost else None,
            bpf_share=self._bpf_share,
            bpf_sampled=cost is not None and cost.bpf_measured_ns is not None,
            watched=wording.watched(world),
        )

    def _take_cost(self, world: World) -> None:
        """The share of one CPU between the last two samples; at first, since the start."""
        new, old = world.cost, self._cost
        if new is None or new is old:
            return
        start_ns = old.at_ns if old else world.info.started_ns
        if (span_ns := new.at_ns - start_ns) <= 0:
            return
        self._cpu_share = (new.cpu_ns - (old.cpu_ns if old else 0)) / span_ns
        if new.bpf_ns is not None and (old is None or old.bpf_ns is not None):
            self._bpf_share = (new.bpf_ns - ((old.bpf_ns or 0) if old else 0)) / span_ns
        self._cost = new


def _urgency(finding: Finding) -> tuple[int, float, int, str]:
    """Sorts the worst first, then what hits its limit soonest, then the largest."""
    left_s = finding.forecast.seconds_left if finding.forecast else None
    soon = math.inf if left_s is None else left_s
    return _WORST_FIRST[finding.severity], soon, -finding.count, finding.subject


class _Held(NamedTuple):
    """The suspects of one target which their owner has not let go."""

    number: int
    oldest_ns: int


_NONE_HELD = _Held(0, 0)


def _held_by_target(world: World) -> dict[int, _Held]:
    held: dict[int, _Held] = {}
    for flow in world.open.values():
        if flow.held and flow.state != State.LISTEN:
            known = held.get(flow.target)
            oldest_ns = min(known.oldest_ns, flow.born_ns) if known else flow.born_ns
            held[flow.target] = _Held(known.number + 1 if known else 1, oldest_ns)
    return held


def _target_rows(world: World) -> Iterator[TargetRow]:
    held = _held_by_target(world)
    for index, target in world.targets.items():
        yield _target_row(world, target, held.get(index, _NONE_HELD))


def _target_row(world: World, target: Target, held: _Held) -> TargetRow:
    attribution = world.target_attribution(target)
    rate = world.rates.get(target.index)
    address = endpoint(target.address, target.port)
    return TargetRow(
        role=attribution.role,
        name=attribution.label or (f"to {address}" if target.inbound else address),
        address=address,
        pid=target.pid,
        open=target.open,
        held=held.number,
        born_per_s=rate.born if rate else None,
        gone_per_s=rate.gone if rate else None,
        failed=target.failed,
        reset=target.reset,
        oldest_s=(world.now_ns - held.oldest_ns) / 1e9 if held.number else None,
        median_s=median_lifetime_s(target.lifetime),
        sent_bytes=target.sent_bytes,
        received_bytes=target.received_bytes,
    )


def median_lifetime_s(lifetime: tuple[int, ...]) -> float | None:
    """Upper bound of the bucket (`Target.lifetime`) in which the median lies; None: no flows."""
    half, seen = sum(lifetime) / 2, 0
    for bucket, number in enumerate(lifetime):
        seen += number
        if number and seen >= half:
            return math.inf if bucket == len(lifetime) - 1 else 4**bucket / 1e6
    return None


def _check_row(activity: CheckActivity, now_ns: int) -> CheckRow:
    server, last = activity.server, activity.recent[-1] if activity.recent else None
    return CheckRow(
        server=server.label,
        agent=activity.agent,
        pid=activity.pid,
        status=server.status or "?",
        expected_s=None if activity.expected_ms is None else activity.expected_ms / 1e3,
        expected_name=activity.expected_name,
        observed_s=None if activity.observed_ms is None else activity.observed_ms / 1e3,
        last_result=last.result if last else (server.check_status or ""),
        last_took_s=None if last is None or last.duration_ns is None else last.duration_ns / 1e9,
        last_ago_s=(now_ns - last.at_ns) / 1e9 if last else None,
        started=activity.started,
        ended=activity.ended,
        held=activity.held,
        healthy_held=activity.sharing,
    )
