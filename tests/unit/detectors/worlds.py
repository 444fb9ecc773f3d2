"""A real flow table fed with events, and a detector asked at each tick, as the pipeline does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hatrace.detectors import Detector
from hatrace.flows.table import Table
from hatrace.model.event import Event, Tick
from hatrace.model.finding import Finding, KnownBug
from hatrace.model.topology import Kind
from tests import factories as make


def table(*events: Event, **info: object) -> Table:
    """A table which knows a master, its worker, its server and its configuration."""
    known = Table(make.info(**info))
    start = make.at(0)
    basics: Sequence[Event] = (
        make.processes(
            start,
            make.process(make.MASTER, Kind.MASTER, parent_pid=1),
            make.process(fd_used=100),
        ),
        make.servers(start),
        make.configured(start),
    )
    for event in (*basics, *events):
        known.apply(event)
    return known


def ask(detector: Detector, world: Table, seconds: float, *events: Event) -> list[Finding]:
    """What the detector finds at a tick, after these events."""
    for event in events:
        world.apply(event)
    world.apply(Tick(make.at(seconds)))
    return list(detector.observe(world))


def nothing_known(version: str, slug: str) -> Sequence[KnownBug]:
    return ()


def text_of(finding: Finding) -> str:
    """All its words."""
    steps: Iterable[str] = (
        f"{step.text} {step.command}" for step in (*finding.next_steps, *finding.verify)
    )
    return "\n".join([finding.claim, finding.cause, *finding.ruled_out, *steps, finding.caveat])
