"""A worker's configuration as a sample: read once, and watched for changes on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hatrace.haproxy import arguments, config, procfs
from hatrace.haproxy.config import Configuration
from hatrace.model.event import Configured
from hatrace.model.topology import Process

SETTLED_S = 10.0
"""A change younger than this may be about to be loaded."""
_LOADING_NS = 2_000_000_000
"""A file written so soon after the start may be what was read."""
_SWITCHES = ("-dZ", "-dS", "-dR")
"""Switches that change what leaks: no zero-copy, no splice, no SO_REUSEPORT."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read for a worker, and the state of the files then."""

    configuration: Configuration
    stamp: tuple[tuple[str, int], ...]
    """Path and modification time in ns of each file."""


def load(process: Process) -> Loaded:
    """Reads its files; raises OSError for one that cannot be read, or if it names none."""
    files = _files(process)
    if not files:
        raise FileNotFoundError("its command line names no configuration file")
    stamp = stamp_of(files)
    environment = procfs.environment(process.pid)
    local_peer = (
        arguments.parse(process.command_line).local_peer
        or environment.get("HAPROXY_LOCALPEER")
        or os.uname().nodename
    )
    return Loaded(config.read(files, environment, local_peer), stamp)


def _files(process: Process) -> tuple[Path, ...]:
    """As seen from here."""
    return tuple(Path(procfs.inside(process.root, path)) for path in process.config_files)


def stamp_of(files: Iterable[Path]) -> tuple[tuple[str, int], ...]:
    """Raises OSError."""
    found = [each for path in files for each in config.files_of(path)]
    return tuple((str(path), path.stat().st_mtime_ns) for path in found)


def wanted(process: Process, latest: Loaded | None) -> Loaded | None:
    """What its files say now, if they were changed after it had started; None: they were not.

    ``latest``: what was read last, so that nothing is read twice.  Raises OSError, ValueError.
    """
    stamp = stamp_of(_files(process))
    newest_ns = max((time_ns for _, time_ns in stamp), default=0)
    if newest_ns <= _started_unix_ns(process) + _LOADING_NS:
        return None
    return latest if latest is not None and latest.stamp == stamp else load(process)


def _started_unix_ns(process: Process) -> int:
    return time.time_ns() - (time.monotonic_ns() - process.started_ns)


def changed_since(process: Process, loaded: Loaded | None) -> bool:
    """Whether the files on disk are not those that this process was started with."""
    try:
        stamp = stamp_of(_files(process))
    except OSError:
        return False
    newest_ns = max((time_ns for _, time_ns in stamp), default=0)
    settled = time.time_ns() - newest_ns > SETTLED_S * 1e9
    later = newest_ns > _started_unix_ns(process) + _LOADING_NS
    return settled and (later or (loaded is not None and stamp != loaded.stamp))


def event(process: Process, configuration: Configuration) -> Configured:
    """With the switches of its command line; binds that could not be read are named."""
    switches = [each for each in process.command_line if each in _SWITCHES]
    unread = [f"unread bind {text}" for text in configuration.unread_binds]
    return Configured(
        at_ns=time.monotonic_ns(),
        pid=process.pid,
        binds=configuration.binds,
        timeouts=configuration.timeouts,
        hard_stop_after_ms=configuration.hard_stop_after_ms,
        options=(*switches, *configuration.options, *unread),
        endpoints=configuration.endpoints,
    )
