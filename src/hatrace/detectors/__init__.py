"""Detectors: one question about leaking sockets per file, asked of the world at each tick.

A detector never reads a clock, a file or a socket, so a replayed capture gives the same
findings.  A new one: its file, its line in `create`, its page in docs/findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hatrace.detectors.check_leak import CheckLeak
from hatrace.detectors.drain_survivor import DrainSurvivor
from hatrace.detectors.halves import Shared
from hatrace.detectors.known import Known
from hatrace.detectors.master_socket import MasterSocket
from hatrace.detectors.not_accepting import NotAccepting
from hatrace.detectors.orphan_storm import OrphanStorm
from hatrace.detectors.port_pressure import PortPressure
from hatrace.detectors.stale_bind import StaleBind
from hatrace.detectors.stale_worker import StaleWorker
from hatrace.detectors.stream_leak import StreamLeak
from hatrace.detectors.unreleased_accept import UnreleasedAccept
from hatrace.model.finding import Finding
from hatrace.model.world import World


class Detector(Protocol):
    """What the pipeline asks of each (`pipeline.Detector`)."""

    slug: str

    def observe(self, world: World) -> Iterable[Finding]: ...


def create(known: Known) -> list[Detector]:
    """All detectors, fresh; ``known``: published bugs by HAProxy version and slug."""
    sides = Shared()
    return [
        CheckLeak(known, sides),
        StreamLeak(known, sides),
        MasterSocket(known),
        DrainSurvivor(known),
        StaleWorker(known),
        StaleBind(known),
        UnreleasedAccept(known),
        NotAccepting(known),
        PortPressure(known),
        OrphanStorm(known),
    ]
