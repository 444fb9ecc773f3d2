"""A capture is just another source: replayed, it gives the same findings byte for byte."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from hatrace import pipeline
from hatrace.capture.reader import read
from hatrace.capture.redact import Redactor
from hatrace.capture.writer import Writer
from hatrace.detectors import create
from hatrace.flows.table import Table
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Event, Tick
from hatrace.model.finding import Finding, FindingChange
from hatrace.model.world import World
from tests import factories as make
from tests.unit.sinks.report import story


class Changes:
    """A sink that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[FindingChange] = []

    def accept(self, event: Event, world: World, verdict: pipeline.Verdict) -> None:
        self.said += verdict.changes


def session() -> list[Event]:
    """A leak, then a master socket that fills up, then both are over."""
    events = story.leaking()
    for second in range(50, 80):
        now = make.at(second)
        clients = min(second - 45, 10)
        events += [make.master_connections(now, clients=clients, waiting=clients // 10), Tick(now)]
    end = make.at(90)
    return [*events, make.open_scan(end), make.master_connections(end), Tick(end)]


def run(
    events: Iterable[Event], info: CaptureInfo, writer: Writer | None = None
) -> tuple[list[FindingChange], tuple[Finding, ...]]:
    changes = Changes()
    book = pipeline.run(events, Table(info), create(lambda *_: ()), [changes], writer)
    return changes.said, book.open


@pytest.mark.parametrize("cut", [None, -2])
def test_a_replay_gives_the_same_findings_byte_for_byte(tmp_path: Path, cut: int | None) -> None:
    path, info = tmp_path / "a.hatrace", make.info()
    events = session()[:cut]
    with Writer(path, info) as writer:
        live, live_open = run(events, info, writer)
    assert {"check-leak", "master-socket"} <= {change.finding.slug for change in live}
    capture = read(path)
    replayed, replayed_open = run(capture.events, capture.info)
    assert msgspec.json.encode(replayed) == msgspec.json.encode(live)
    assert msgspec.json.encode(replayed_open) == msgspec.json.encode(live_open)
    assert msgspec.json.encode(list(capture.findings)) == msgspec.json.encode(live)


def test_a_capture_of_a_replay_is_the_same_capture(tmp_path: Path) -> None:
    first, second = tmp_path / "a.hatrace", tmp_path / "b.hatrace"
    with Writer(first, make.info()) as writer:
        run(session(), make.info(), writer)
    capture = read(first)
    with Writer(second, capture.info) as writer:
        run(capture.events, capture.info, writer)
    assert second.read_bytes() == first.read_bytes()


def test_redacted_it_gives_the_same_findings_about_tokens(tmp_path: Path) -> None:
    path, redactor = tmp_path / "a.hatrace", Redactor()
    info = redactor.info(make.info())
    with Writer(path, info) as writer:
        redacted, _ = run(redactor.events(session()), info, writer)
    plain, _ = run(session(), make.info())
    assert [_outline(one) for one in redacted] == [_outline(one) for one in plain]
    capture = read(path)
    replayed, _ = run(capture.events, capture.info)
    assert msgspec.json.encode(replayed) == msgspec.json.encode(redacted)
    for secret in (b"192.0.2.", b"be/s1", b"agent.py", b"haproxy-master"):
        assert secret in msgspec.json.encode(plain)
        assert secret not in msgspec.json.encode(redacted)


def _outline(change: FindingChange) -> tuple[object, ...]:
    finding = change.finding
    return change.change, finding.slug, finding.severity, finding.confidence, finding.count
