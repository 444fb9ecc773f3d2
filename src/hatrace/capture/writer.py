"""Writer: records events and findings in a capture, as they come.

Append-only, in compressed chunks with a CRC each, handed to the kernel at least once a second
of event time: a ``kill -9`` costs at most that second.  Near its size limit it sheds detail,
visibly: first the finished flows and other bulk, then all but findings, losses and troubles.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from mcap.writer import Writer as McapWriter

from hatrace import __version__
from hatrace.capture.codec import encode, encode_json
from hatrace.capture.format import (
    JSON,
    KINDS,
    METADATA,
    PACKED,
    PROFILE,
    SIZE,
    SOURCE,
    Message,
    flow_schema,
    is_packed,
    json_schema,
    topic,
)
from hatrace.capture.output import Output
from hatrace.errors import EnvironmentLacks
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import (
    CommandSockets,
    Cost,
    Event,
    Losses,
    Open,
    Targets,
    Tick,
    Trouble,
)
from hatrace.model.finding import FindingChange

CHUNK_BYTES = 1 << 20
FLUSH_NS = 1_000_000_000
SHED_AT = 0.75
"""Part of ``max_bytes`` from which on only suspects, totals and findings are written."""
INDEX_BYTES = 160
"""What the summary says of one chunk, about."""

_SUSPECTS = (Tick, Open, Targets, CommandSockets, Cost, Losses, Trouble)
_LAST = (Losses, Trouble)


class Writer:
    """A capture being written.  Raises EnvironmentLacks when the disk is full: the file, up to
    the last complete chunk, stays readable."""

    def __init__(
        self, path: Path, info: CaptureInfo, *, max_bytes: int | None = None, force: bool = False
    ) -> None:
        self._output = Output(path, force)
        self._max_bytes = max_bytes
        self._mcap = McapWriter(cast(IO[bytes], self._output), CHUNK_BYTES)
        self._channels: dict[type[Message], int] = {}
        self._wall_ns = info.started_unix_ns - info.started_ns
        self._flushed_ns = info.started_ns
        self._count = 0
        self._chunks = 0
        self._schema_bytes = 0
        self._kept: tuple[type[Event], ...] | None = None
        self._begin(info)
        self.trouble: Trouble | None = None
        """Set when detail was shed; it is in the capture too."""

    def write(self, event: Event) -> None:
        """Records one event."""
        if self._kept is None or isinstance(event, self._kept):
            self._add(event, event.at_ns)
        if event.at_ns - self._flushed_ns >= FLUSH_NS:
            self._flush(event.at_ns)

    def found(self, change: FindingChange) -> None:
        """Records what was concluded; a replay concludes it again from the events."""
        self._add(change, change.finding.at_ns)

    def close(self) -> None:
        """Ends the capture with its summary and makes it durable."""
        if self._output.closed:
            return
        try:
            if not self._output.failed:
                self._mcap.finish()  # type: ignore[no-untyped-call]
        finally:
            self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(self, info: CaptureInfo) -> None:
        """Header and metadata, at once: a capture names its host from the start."""
        try:
            self._mcap.start(PROFILE, f"hatrace {__version__}")
            for kind in KINDS.values():
                self._channels[kind] = self._register(kind)
            self._mcap.add_metadata(METADATA, self._metadata(info))
            self._output.mark_good()
        except EnvironmentLacks:
            self._output.close()
            raise

    def _register(self, kind: type[Message]) -> int:
        packed = is_packed(kind)
        text = flow_schema() if packed else json_schema(kind)
        encoding = "hatrace-flow" if packed else "jsonschema"
        schema = self._mcap.register_schema(f"hatrace.{kind.__name__}", encoding, text)
        self._schema_bytes += len(text)
        return self._mcap.register_channel(topic(kind), PACKED if packed else JSON, schema)

    def _metadata(self, info: CaptureInfo) -> dict[str, str]:
        channels = {number: topic(kind) for kind, number in self._channels.items()}
        return {
            "format_version": str(info.format_version),
            "info": encode_json(info).decode(),
            "channels": encode_json(channels).decode(),
        }

    def _add(self, message: Message, at_ns: int) -> None:
        if self._output.failed:
            return
        self._mcap.add_message(
            self._channels[type(message)],
            log_time=at_ns,
            data=encode(message),
            publish_time=max(0, at_ns + self._wall_ns),
            sequence=self._count & 0xFFFFFFFF,
        )
        self._count += 1

    def _flush(self, now_ns: int) -> None:
        if self._output.failed:
            return
        self._mcap.flush()  # type: ignore[no-untyped-call]
        self._output.mark_good()
        self._chunks += 1
        self._flushed_ns = now_ns
        self._shed(now_ns)

    def _shed(self, now_ns: int) -> None:
        """Writes less, and says so, when the size limit comes near."""
        if self._max_bytes is None:
            return
        size = self._size()
        if size >= self._max_bytes and self._kept != _LAST:
            why = "the capture's size limit is reached: only findings and losses are written"
            self._keep_only(_LAST, why, now_ns)
        elif size >= self._max_bytes * SHED_AT and self._kept is None:
            why = "the capture's size limit is near: finished flows and samples are left out"
            self._keep_only(_SUSPECTS, why, now_ns)

    def _size(self) -> int:
        """What the file would measure if it were closed now."""
        return self._output.tell() + self._schema_bytes + INDEX_BYTES * self._chunks

    def _keep_only(self, kinds: tuple[type[Event], ...], why: str, now_ns: int) -> None:
        self._kept = kinds
        do = f"record with a size limit above {self._max_bytes} bytes, or for a shorter time"
        self.trouble = Trouble(now_ns, SOURCE, SIZE, why, do)
        self._add(self.trouble, now_ns)
