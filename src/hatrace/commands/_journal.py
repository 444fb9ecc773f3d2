"""Journal: what an action changed, written into a capture: a new one, or one that exists.

A capture that exists gets the actions only, at its end: it must be whole and of this host
and boot, for its times count from that.  A new one also gets the evidence on which the
action rested.  Whether it can be written is found out before anything is changed.
"""

from __future__ import annotations

import heapq
import platform
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from hatrace import __version__
from hatrace.capture.format import SOURCE
from hatrace.capture.reader import Capture, is_closed, read
from hatrace.capture.writer import Writer
from hatrace.commands._output import is_there
from hatrace.errors import EnvironmentLacks, HatraceError, UsageError
from hatrace.kernel import preflight
from hatrace.model.capture_info import CaptureInfo, Scope
from hatrace.model.event import Action, Event, Trouble
from hatrace.model.finding import FindingChange

SAME_BOOT_NS = 120_000_000_000
"""How far wall time may have been set meanwhile; a reboot moves it by more."""
BLIND = "single looks at the sockets around an action: what came and went between is not here"


class Journal(Protocol):
    def write(self, action: Action) -> None: ...
    def saw(self, event: Event) -> None: ...
    def close(self) -> None: ...


def journal(path: Path | None) -> Journal:
    """For the option ``-o``; raises UsageError where the file cannot take it."""
    if path is None:
        return Nowhere()
    return Appended(path) if is_there(path) else New(path)


class Nowhere(Journal):
    """No file was named."""

    def write(self, action: Action) -> None:
        pass

    def saw(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


class New(Journal):
    """A capture of its own."""

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path, here())

    def write(self, action: Action) -> None:
        self._writer.write(action)

    def saw(self, event: Event) -> None:
        self._writer.write(event)

    def close(self) -> None:
        self._writer.close()


class Appended(Journal):
    """A capture that exists: written anew beside it, which then takes its name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._actions: list[Action] = []
        info = read(path).info
        check_same_host(info, path)
        _check_whole(path)
        self._unfinished = path.with_name(f".hatrace.{secrets.token_hex(8)}")
        try:
            path.open("ab").close()
            self._writer = Writer(self._unfinished, info)
        except (HatraceError, OSError) as error:
            raise _cannot_append(path, error, "name a new file, elsewhere") from error

    def write(self, action: Action) -> None:
        self._actions.append(action)

    def saw(self, event: Event) -> None:
        pass

    def close(self) -> None:
        try:
            if self._actions:
                self._append()
        except (HatraceError, OSError) as error:
            do = "it is as it was: what was done now is in the output only"
            raise _cannot_append(self._path, error, do) from error
        finally:
            self._discard()

    def _append(self) -> None:
        for message in _in_order(read(self._path)):
            if isinstance(message, FindingChange):
                self._writer.found(message)
            else:
                self._writer.write(message)
        for action in self._actions:
            self._writer.write(action)
        self._writer.close()
        self._unfinished.replace(self._path)

    def _discard(self) -> None:
        """What has not taken the capture's name; it stays where nothing can be removed now."""
        with suppress(HatraceError, OSError):
            self._writer.close()
        with suppress(OSError):
            self._unfinished.unlink(missing_ok=True)


def _cannot_append(path: Path, error: HatraceError | OSError, do: str) -> EnvironmentLacks:
    why = error.why if isinstance(error, HatraceError) else error.strerror or str(error)
    return EnvironmentLacks(f"cannot append to {path}", why, do)


def _in_order(capture: Capture) -> Iterator[Event | FindingChange]:
    """Events and what was concluded from them; a finding follows the tick it came with."""
    events = ((event.at_ns, 0, n, event) for n, event in enumerate(capture.events))
    found = ((each.finding.at_ns, 1, n, each) for n, each in enumerate(capture.findings))
    merged: Iterator[tuple[int, int, int, Event | FindingChange]] = heapq.merge(events, found)
    return (message for *_, message in merged)


def check_same_host(info: CaptureInfo, path: Path) -> None:
    """Raises UsageError unless its pids, inodes and times are those of this host, as of now."""
    if info.redacted:
        raise UsageError(f"cannot use {path} here", "it is redacted: it names nothing that exists")
    wall_ns = info.started_unix_ns + time.monotonic_ns() - info.started_ns
    if info.host != platform.node() or abs(wall_ns - time.time_ns()) > SAME_BOOT_NS:
        raise UsageError(
            f"cannot use {path} here",
            f"it was recorded on {info.host}, or before this host was started the last time",
            "name a new file, or a capture of this host",
        )


def _check_whole(path: Path) -> None:
    """Raises UsageError for a file that its recorder may still write to, or that lacks a part."""
    troubles = [
        event.why
        for event in read(path).events
        if isinstance(event, Trouble) and event.source == SOURCE and event.subject == path.name
    ]
    if troubles or not is_closed(path):
        why = troubles[0] if troubles else "it was not closed"
        raise UsageError(
            f"cannot append to {path}",
            f"{why}: it is damaged, or still being recorded",
            "name a new file",
        )


def here() -> CaptureInfo:
    """The header of a capture that only holds an action and its evidence."""
    return CaptureInfo(
        host=platform.node(),
        kernel=platform.release(),
        machine=platform.machine(),
        hatrace=__version__,
        rung=preflight.NETLINK,
        blind_spots=(BLIND,),
        scope=Scope(),
        command_line=("hatrace", *sys.argv[1:]),
        started_ns=time.monotonic_ns(),
        started_unix_ns=time.time_ns(),
    )
