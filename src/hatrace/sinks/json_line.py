"""The JSON lines that machines read: one struct per line type, told apart by ``type``.

`schema` is published as docs/json-lines.schema.json; a unit test keeps the two the same.
Lines are pure ASCII: what HAProxy, a peer or a process name put into a string cannot reach
a terminal as a control character, not even when the lines are printed on one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Action, Losses, Trouble
from hatrace.model.finding import Change, Finding

SCHEMA_VERSION = 1


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """``at`` is wall time, UTC; times that end in ``_ns`` are CLOCK_MONOTONIC of the host."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]


class Start(Line, frozen=True, kw_only=True, tag="start"):
    """The first line: which host, kernel, rung, blind spots and scope."""

    schema: int = SCHEMA_VERSION
    info: CaptureInfo


class FindingLine(Line, frozen=True, kw_only=True, tag="finding"):
    """A finding that came, changed materially or went; (slug, subject) is its identity."""

    change: Change
    finding: Finding


class TroubleLine(Line, frozen=True, kw_only=True, tag="trouble"):
    """A source that cannot read something; ``over``: it can again."""

    trouble: Trouble


class LossLine(Line, frozen=True, kw_only=True, tag="loss"):
    """Events were lost: ``lost`` since the last such line, ``losses`` since the start."""

    lost: int
    losses: Losses


class ActionLine(Line, frozen=True, kw_only=True, tag="action"):
    """Something a hatrace command changed on this host, after it was confirmed."""

    action: Action


class End(Line, frozen=True, kw_only=True, tag="end"):
    """The last line.  If it is missing, the output was cut short."""

    findings: int
    """Still open."""
    findings_seen: int
    """Different ones since the start, those resolved included."""
    losses: Losses
    elapsed_s: float


AnyLine = Start | FindingLine | TroubleLine | LossLine | ActionLine | End


def wall(info: CaptureInfo, at_ns: int) -> datetime:
    """Wall time, UTC, of a monotonic time in ns."""
    return datetime.fromtimestamp(info.wall_s(at_ns), UTC)


def encode(line: AnyLine) -> str:
    """One line of JSON without its newline; ASCII only."""
    return json.dumps(msgspec.to_builtins(line), separators=(",", ":"))


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of any line."""
    text = msgspec.json.schema(AnyLine)
    title = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of `hatrace live|record|replay|lab --json`",
    }
    return title | text


def main() -> None:
    """Print the schema: ``python -m hatrace.sinks.json_line > docs/json-lines.schema.json``."""
    print(json.dumps(schema(), indent=2))


if __name__ == "__main__":
    main()
