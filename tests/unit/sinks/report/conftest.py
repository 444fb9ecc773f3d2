"""Reports of the stories, made by the real way through."""

from __future__ import annotations

import pytest

from hatrace import pipeline
from hatrace.detectors import create
from hatrace.flows.table import Table
from hatrace.model.event import Event
from hatrace.sinks.report.build import Collector
from hatrace.sinks.report.content import Report
from tests import factories as make
from tests.unit.sinks.report import story


def judged(events: list[Event], **info: object) -> Report:
    world, collector = Table(make.info(**info)), Collector()
    pipeline.run(events, world, create(lambda version, slug: ()), [collector])
    return collector.report(world)


@pytest.fixture(scope="session")
def leaking() -> Report:
    return judged(story.leaking(), blind_spots=("it is dark there",))


@pytest.fixture(scope="session")
def healthy() -> Report:
    return judged(story.healthy())
