"""Reader: a capture as a source of events, in the order in which they were recorded.

A torn or damaged file gives all that is whole, and a `Trouble` event where something is missing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from mcap.exceptions import InvalidMagic
from mcap.records import Message as Stored
from mcap.records import Metadata

from hatrace.capture import migrate
from hatrace.capture.codec import decode
from hatrace.capture.format import FINDINGS, KINDS, METADATA, SOURCE, Message
from hatrace.capture.mcap_records import Damage, records
from hatrace.errors import CaptureUnreadable
from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Event, Trouble
from hatrace.model.finding import FindingChange


class Capture(NamedTuple):
    """An opened capture.  Both iterators read the file as they go."""

    info: CaptureInfo
    events: Iterator[Event]
    findings: Iterator[FindingChange]
    """What was concluded while recording."""


MAGIC = b"\x89MCAP0\r\n"
"""With which an MCAP file begins and, once it is closed, ends."""


def is_closed(path: Path) -> bool:
    """Whether its writer has ended it: else it is torn, or still being recorded."""
    try:
        with path.open("rb") as stream:
            stream.seek(-len(MAGIC), os.SEEK_END)
            return stream.read() == MAGIC
    except OSError:
        return False


def read(path: Path) -> Capture:
    """Opens a capture; raises CaptureUnreadable when it is none, or of a newer version."""
    header = _header(path)
    return Capture(header.info, _events(path, header), _findings(path, header))


@dataclass(frozen=True, slots=True)
class _Header:
    version: int
    info: CaptureInfo
    channels: dict[int, str]
    """Topic by channel number."""


def _header(path: Path) -> _Header:
    try:
        for record in _open(path):
            if isinstance(record, Metadata) and record.name == METADATA:
                return _parse_header(path, record.metadata)
            if isinstance(record, Damage | Stored):
                break
    except (KeyError, ValueError, RecursionError) as error:
        raise _unreadable(path, f"its header is damaged ({error})") from error
    raise _unreadable(path, "it has no header of hatrace")


def _parse_header(path: Path, metadata: dict[str, str]) -> _Header:
    version = int(metadata["format_version"])
    migrate.check_version(version, str(path))
    info = msgspec.json.decode(metadata["info"], type=CaptureInfo)
    _check_time(info.started_ns)
    _check_time(info.started_unix_ns)
    return _Header(version, info, msgspec.json.decode(metadata["channels"], type=dict[int, str]))


def _check_time(time_ns: int) -> None:
    """Raises ValueError for what no kernel's clock shows: it has no date, and no place in MCAP."""
    if not 0 <= time_ns < 1 << 63:
        raise ValueError(f"no clock shows {time_ns} ns")


def _events(path: Path, header: _Header) -> Iterator[Event]:
    """Every event; where something is missing, be it a finding, a Trouble at the time of the last
    whole event."""
    at_ns = header.info.started_ns
    troubles: set[str] = set()
    for item in _messages(path, header):
        if isinstance(item, Damage):
            if item.why not in troubles:
                troubles.add(item.why)
                yield _trouble(path, at_ns, item)
        elif not isinstance(item, FindingChange):
            at_ns = max(at_ns, item.at_ns)
            yield item


def _findings(path: Path, header: _Header) -> Iterator[FindingChange]:
    for item in _messages(path, header, FINDINGS):
        if isinstance(item, FindingChange):
            yield item


def _messages(path: Path, header: _Header, only: str | None = None) -> Iterator[Message | Damage]:
    """Those of all channels, or only of one."""
    for record in _open(path):
        if isinstance(record, Damage):
            yield record
        elif isinstance(record, Stored):
            topic = header.channels.get(record.channel_id, "")
            if only in (None, topic):
                yield from _decode(header.version, topic, record)


def _decode(version: int, topic: str, stored: Stored) -> Iterator[Message | Damage]:
    try:
        upgraded = migrate.upgrade(version, topic, stored.data)
        if upgraded is None:
            return
        topic, data = upgraded
        if topic not in KINDS:
            yield Damage(f"this hatrace does not know its events of kind {topic!r}", False)
            return
        message = decode(KINDS[topic], data, stored.log_time)
        _check_time(message.finding.at_ns if isinstance(message, FindingChange) else message.at_ns)
    except (ValueError, RecursionError) as error:
        yield Damage(f"an event of kind {topic!r} cannot be understood ({error})", False)
        return
    yield message


def _open(path: Path) -> Iterator[object]:
    """The records of a regular file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, "it is no regular file")
        with path.open("rb") as stream:
            yield from records(stream)
    except InvalidMagic:
        raise _unreadable(path, "it is no MCAP file, as every capture is") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _unreadable(path: Path, why: str) -> CaptureUnreadable:
    return CaptureUnreadable(
        f"cannot read {path}", why, "give a *.hatrace file that `hatrace record` wrote"
    )


def _trouble(path: Path, at_ns: int, damage: Damage) -> Trouble:
    lost = "what follows is lost" if damage.end else "the rest is read"
    return Trouble(at_ns, SOURCE, path.name, damage.why, f"judge with care: {lost}")
