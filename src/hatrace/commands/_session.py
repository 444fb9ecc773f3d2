"""A session: this host watched live, to a screen, to lines or to a file.

`live`, `record` and `lab` are the same session with other settings.  The screen (rich) and the
capture (mcap, zstd) are imported where they are used: together 100 ms of start and 9 MB.
"""

from __future__ import annotations

import contextlib
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hatrace import __version__, detectors
from hatrace.commands._budget import Limits
from hatrace.commands._scope import settled
from hatrace.commands._signals import Ending
from hatrace.commands._tracing import Tracing
from hatrace.flows.table import Table
from hatrace.haproxy import known_issues
from hatrace.model.capture_info import CaptureInfo, Scope
from hatrace.pipeline import Recorder, Sink, run
from hatrace.sinks.lines import JsonLines, TextLines
from hatrace.sinks.live.terminal import usable


@dataclass(frozen=True, slots=True)
class Settings:
    """What is watched, how long, and where the answers go."""

    scope: Scope
    duration_s: float | None = None
    json: bool = False
    output: Path | None = None
    force: bool = False
    """Overwrite ``output``."""
    max_bytes: int | None = None
    detail: str = "full"
    rung: str | None = None
    check_events: bool = False
    redact: bool = False
    """Names and addresses in ``output`` become tokens which still join."""
    max_cpu: float | None = None
    """Share of one CPU that hatrace may take; detail goes before it takes more."""
    bpf_stats: bool = True
    """Let the kernel time BPF programs for a second now and then, to show what hatrace costs."""
    logs: str = "none"
    """``auto``, ``none`` or a file: HAProxy's log lines, which findings then quote."""
    screen: bool = True
    """Draw, if there is a terminal; else print lines."""


class Screen(Sink, Protocol):
    """A sink with a user behind it."""

    @property
    def stop_requested(self) -> bool: ...
    def poll(self) -> None: ...


def watch(settings: Settings) -> int:
    """Watch until the time is up or the user has seen enough.

    Exit code: 1 with findings; 128 + n when signal n ended it.
    """
    settings = replace(settings, scope=settled(settings.scope))
    with contextlib.ExitStack() as stack:
        tracing = stack.enter_context(_tracing(settings))
        info = _info(settings, tracing)
        recorder = _recorder(settings, info, stack) if settings.output else None
        screen = stack.enter_context(_screen(settings, info))
        ending = stack.enter_context(Ending())
        sinks: list[Sink] = [tracing.feedback, screen]
        book = run(
            tracing.events(_until(screen, ending, settings.duration_s)),
            Table(info),
            detectors.create(known_issues.matching),
            sinks,
            recorder,
        )
    if ending.number:
        return 128 + ending.number
    return 1 if book.open else 0


def _recorder(settings: Settings, info: CaptureInfo, stack: contextlib.ExitStack) -> Recorder:
    """The capture being written; redacted before a byte of it reaches the disk, if so asked."""
    from hatrace.capture.redact import RedactedRecorder, Redactor
    from hatrace.capture.writer import Writer

    assert settings.output
    redactor = Redactor() if settings.redact else None
    header = redactor.info(info) if redactor else info
    writer = stack.enter_context(
        Writer(settings.output, header, max_bytes=settings.max_bytes, force=settings.force)
    )
    return RedactedRecorder(writer, redactor) if redactor else writer


def _tracing(settings: Settings) -> Tracing:
    return Tracing(
        settings.scope,
        settings.rung,
        settings.detail,
        settings.check_events,
        Limits(cpu_share=settings.max_cpu),
        settings.bpf_stats,
        settings.logs,
    )


def _info(settings: Settings, tracing: Tracing) -> CaptureInfo:
    return CaptureInfo(
        host=platform.node(),
        kernel=platform.release(),
        machine=platform.machine(),
        hatrace=__version__,
        rung=tracing.rung,
        blind_spots=tuple(tracing.blind_spots),
        scope=settings.scope,
        command_line=("hatrace", *sys.argv[1:]),
        started_ns=tracing.began_ns,
        started_unix_ns=tracing.began_unix_ns,
        haproxy_versions=tracing.versions,
        detail=settings.detail,
    )


def _screen(settings: Settings, info: CaptureInfo) -> contextlib.AbstractContextManager[Screen]:
    if settings.json:
        return JsonLines(sys.stdout)
    if settings.screen and usable():
        from hatrace.sinks.live.app import LiveView

        return LiveView(info)
    return TextLines(sys.stdout)


def _until(screen: Screen, ending: Ending, duration_s: float | None) -> Callable[[], bool]:
    """Called many times a second between events: lets the screen work; False ends it all."""
    end_s = None if duration_s is None else time.monotonic() + duration_s

    def go_on() -> bool:
        screen.poll()
        if screen.stop_requested or ending.number:
            return False
        return end_s is None or time.monotonic() < end_s

    return go_on
