"""Rows of an export: a dict per flow or finding, with the same keys in every format.

A flow's row is `Flow.as_dict`, and before it:

- ``seen``: ``ended`` (it is over, reported once) or ``open`` (a suspect, as last seen);
- ``at``: wall time (UTC, ISO 8601) of the event that brought it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Event, Finished, Open
from hatrace.model.finding import FindingChange
from hatrace.model.flow import Flow, flows

Row = dict[str, Any]


def flow_rows(info: CaptureInfo, events: Iterable[Event]) -> Iterator[Row]:
    """Each finished flow as it comes; at the end, those open suspects that never finished.

    Its memory grows with the suspects, not with the flows.
    """
    open_flows: dict[tuple[int, int], tuple[int, Flow]] = {}
    for event in events:
        if isinstance(event, Finished):
            for flow in event.flows:
                open_flows.pop(flow.key, None)
                yield _flow_row(info, "ended", event.at_ns, flow)
        elif isinstance(event, Open):
            open_flows |= {flow.key: (event.at_ns, flow) for flow in flows(event.records)}
    for at_ns, flow in open_flows.values():
        yield _flow_row(info, "open", at_ns, flow)


def finding_rows(info: CaptureInfo, changes: Iterable[FindingChange]) -> Iterator[Row]:
    """What was concluded while recording: ``change``, ``at``, then the finding's own keys."""
    for change in changes:
        head = {"change": change.change.value, "at": _wall(info, change.finding.at_ns)}
        yield head | msgspec.to_builtins(change.finding)


def _flow_row(info: CaptureInfo, seen: str, at_ns: int, flow: Flow) -> Row:
    return {"seen": seen, "at": _wall(info, at_ns), **flow.as_dict()}


def _wall(info: CaptureInfo, at_ns: int) -> str:
    """With microseconds; floats of today's epoch have no more."""
    return datetime.fromtimestamp(info.wall_s(at_ns), UTC).isoformat(timespec="microseconds")
