"""A line of HAProxy's log taken apart: who wrote it, and what it says.

HAProxy writes its own events (servers, checks, limits, reloads) and a line for each request or
session into the same log.  Only the events are evidence; the traffic would drown them, and the
capture with them, so what does not begin like an event is passed over.

Source: `send_log` and `ha_alert` calls in src/ of 2.2 to 3.2; the formats of `log ... format`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LONGEST = 1000
"""Characters kept of a line."""

_EVENT = (
    rb"(?:Backup )?[Ss]erver \S+ (?:is|was|has|enters)|(?:Health|Agent) check (?:for|on)"
    rb"|(?:Peers )?[Pp]roxy \S+ |[Bb]ackend \S+ |[Ff]rontend \S+ |[Ll]istener "
    rb"|(?:Stopping|Pausing|Paused|Resuming|Resumed) |soft-stop |hard-stop"
    rb"|(?:Former|New|Current|Old) (?:worker|program) |Loading |Reloading |Reexecuting "
    rb"|Exiting |All workers |Failed to |Cannot |Thread \d+ is about to"
)
_TIME = rb"(?:[A-Z][a-z]{2} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\dT\S+)"
_HEADS = (
    rb"(?:<\d+>)?" + _TIME + rb" (?:\S+ )?[\w./-]{1,64}\[(?P<tag>\d+)\]:? ",  # rfc3164, syslogd
    rb"<\d+>1 \S+ \S+ \S+ (?P<five>\d+) \S+ (?:-|\[[^\n]*?\]) (?:\xef\xbb\xbf)?",  # rfc5424
    rb"\[(?:NOTICE|WARNING|ALERT|EMERG|DIAG)/?\] *(?:[\d/]+ )?\((?P<own>\d+)\) : ",  # stderr
    rb"(?:<\d+>)?(?:\d{4}-\d\d-\d\dT\S+ )?",  # raw, short, timed and iso of a ring
)
"""From the begin of a line on: a request may carry anything, also what looks like an event."""
_LINE = re.compile(
    rb"^(?:" + rb"|".join(_HEADS) + rb")(?P<text>(?:" + _EVENT + rb")[^\n]*)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Said:
    """``pid`` as the writer sees itself; None: the line does not say."""

    pid: int | None
    text: str


def events(block: bytes) -> Iterator[Said]:
    """The events among whole lines: one search over the block, not one for each line."""
    for match in _LINE.finditer(block):
        pid = match["tag"] or match["five"] or match["own"]
        text = match["text"].decode(errors="replace").rstrip()[:LONGEST]
        yield Said(int(pid) if pid else None, text)


def here(pid: int | None, seen_as: Mapping[int, int], otherwise: int = 0) -> int:
    """The pid on this host: ``seen_as`` has those of containers by their own number."""
    return otherwise if pid is None else seen_as.get(pid, pid)
