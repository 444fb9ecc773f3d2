"""The capture format's names: version, channels, schemas, encodings (docs/capture-format.md).

A capture is an MCAP file (https://mcap.dev/spec): a metadata record with the `CaptureInfo`,
then one message per event, in the order in which the pipeline met them.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import msgspec

from hatrace.model.capture_info import FORMAT_VERSION
from hatrace.model.event import EVENTS, Event, Finished, Open
from hatrace.model.finding import FindingChange
from hatrace.model.flow import FIELDS, LAYOUT

VERSION = FORMAT_VERSION
PROFILE = "hatrace"
METADATA = "hatrace"
"""Name of the MCAP metadata record with keys ``format_version``, ``info`` and ``channels``."""

JSON = "json"
"""Message encoding of all events but the packed ones."""
PACKED = "hatrace-flows"
"""Message encoding of `Finished` and `Open` (capture/columns.py)."""

FINDINGS = "finding-change"
"""The channel of what was concluded."""
SOURCE = "capture"
"""`Trouble.source` of everything a capture has to say about itself."""
SIZE = "size limit"
"""`Trouble.subject` when detail was shed."""

Message = Event | FindingChange


def topic(kind: type[Message]) -> str:
    """The channel of an event type: ``CommandSockets`` → ``command-sockets``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


KINDS: dict[str, type[Message]] = {topic(kind): kind for kind in (*EVENTS, FindingChange)}
"""What each channel carries, by topic."""


def is_packed(kind: type[Message]) -> bool:
    """Whether its flows are stored as columns instead of JSON."""
    return kind in (Finished, Open)


def json_schema(kind: type[Message]) -> bytes:
    """JSON Schema of an event type, with an object at its root, as MCAP readers want it."""
    _, definitions = msgspec.json.schema_components([kind])
    root: dict[str, Any] = {**definitions.pop(kind.__name__), "$defs": definitions}
    return msgspec.json.encode(root)


def flow_schema() -> bytes:
    """What one record holds, a line per field: ``offset code name unit: meaning``."""
    lines = [f"struct flow, {LAYOUT.size} bytes, little-endian; offset, struct code, name, meaning"]
    offset = 0
    for field in FIELDS:
        unit = f" [{field.unit}]" if field.unit else ""
        lines.append(f"{offset:3} {field.code:3} {field.name}{unit}: {field.text}")
        offset += struct.calcsize(field.code)
    return "\n".join(lines).encode()
