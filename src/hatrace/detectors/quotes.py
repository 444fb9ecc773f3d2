"""Quotes: HAProxy's own log lines that belong to a finding, as evidence.

A line belongs to it if it names what the finding is about (a server, a proxy) or comes from one
of its processes, and is not older than the trouble.  Lines are HAProxy's words, kept as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from hatrace.model.event import LogLine
from hatrace.model.finding import Evidence
from hatrace.model.world import World

MOST = 3
"""Enough to see, short enough to read; the capture has them all."""


def quotes(
    world: World,
    names: Iterable[str] = (),
    pids: Collection[int] = (),
    since_ns: int = 0,
    most: int = MOST,
) -> tuple[Evidence, ...]:
    """The latest ``most`` lines, oldest first; with ``names`` and ``pids`` both must fit.

    ``names``: ``backend/server``, a proxy's name.  A line of no known process fits any ``pids``.
    """
    wanted = [re.compile(rf"(?<![\w./-]){re.escape(name)}(?![\w/-])") for name in names if name]
    fitting = [
        line
        for line in world.log_lines
        if line.at_ns >= since_ns
        and (not pids or not line.pid or line.pid in pids)
        and (not wanted or any(name.search(line.text) for name in wanted))
    ]
    return tuple(_evidence(world, line) for line in fitting[-most:])


def _evidence(world: World, line: LogLine) -> Evidence:
    return Evidence(
        what="log",
        pid=line.pid or None,
        comm=world.comm(line.pid),
        age_s=round((world.now_ns - line.at_ns) / 1e9, 3),
        note=line.text,
    )
