"""A table that has been told things."""

from __future__ import annotations

from hatrace.flows.table import Table
from hatrace.model.attribution import Attribution
from hatrace.model.event import Event
from hatrace.model.finding import Confidence
from hatrace.model.world import CheckActivity
from tests import factories as f

POSSIBLE, LIKELY, CERTAIN = Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN


def table(*events: Event, **info: object) -> Table:
    world = Table(f.info(**info))
    for event in events:
        world.apply(event)
    return world


def haproxy(*servers: f.Server, pid: int = f.WORKER) -> tuple[Event, ...]:
    """A master, its worker, the worker's servers and configuration."""
    return (
        f.processes(f.at(0)),
        f.servers(f.at(0.1), *servers, pid=pid),
        f.configured(f.at(0.1), pid=pid),
    )


def said(one: Attribution) -> tuple[str, str, Confidence]:
    return str(one.role), one.label, one.confidence


def only(world: Table) -> CheckActivity:
    (activity,) = world.checks
    return activity
