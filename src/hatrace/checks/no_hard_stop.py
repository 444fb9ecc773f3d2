"""Can an old worker stay for ever after a reload?

Evidence: no `hard-stop-after`.  After a reload the old worker serves what it has until the last
session ends; one websocket keeps it, with its memory, its fds and its servers, which the new
process's command line does not reach.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatrace.checks._answer import finding, into_global, named, reload, several, time
from hatrace.model.finding import Evidence, Finding, Severity, Step
from hatrace.model.setup import Place, Section, Setup
from hatrace.model.topology import Process

SLUG = "no-hard-stop"
LONG_MS = 30 * 60_000
"""A session that may idle this long outlives a reload in a way that people notice."""
SHORTEST_MS = 15 * 60_000
ENDING = ("client", "server", "tunnel")


def findings(setup: Setup) -> Iterable[Finding]:
    setting = setup.general.get("hard-stop-after")
    if setting is None and setup.sections:
        yield _finding(setup)


def _finding(setup: Setup) -> Finding:
    lasting = [one for one in setup.sections if _lasts(one)]
    severe = bool(lasting or setup.old_workers)
    return finding(
        setup,
        SLUG,
        "global",
        Severity.WARNING if severe else Severity.NOTICE,
        "no hard-stop-after: after a reload an old worker stays as long as its longest session"
        + (f"; {several(len(setup.old_workers), 'old worker')} now" if setup.old_workers else ""),
        places=[setup.global_place, *(place for one in lasting for place in _places(one))],
        evidence=[_old(setup, process) for process in setup.old_workers],
        cause=f"sessions may last long in {named(one.name for one in lasting)}"
        if lasting
        else "the default is to wait without end; timeouts end idle sessions, not busy ones",
        next_steps=[into_global(setup, f"hard-stop-after {time(_proposal(setup))}"), reload(setup)],
        verify=[
            Step(
                "after a reload and that time, no old worker is left",
                "ps -o pid,ppid,etime,args -C haproxy",
            )
        ],
        caveat="sessions that last longer than that are cut then; old workers from before this"
        " setting do not have it",
    )


def _lasts(section: Section) -> bool:
    """`mode tcp` knows no end of a request; else a timeout that is long or absent."""
    return section.mode == "tcp" or any(_is_long(section, name) for name in ENDING)


def _is_long(section: Section, name: str) -> bool:
    return section.timeouts.get(name, 1) == 0 or section.timeouts.get(name, 0) >= LONG_MS


def _places(section: Section) -> Iterable[Place | None]:
    if section.mode == "tcp":
        yield section.places.get("mode") or section.place
    for name in ENDING:
        if _is_long(section, name):
            yield section.places.get(f"timeout {name}")


def _proposal(setup: Setup) -> int:
    """What no idle session reaches: the longest timeout, but a quarter of an hour at least."""
    every = [each.timeouts.get(name, 0) for each in setup.sections for name in ENDING]
    return max(SHORTEST_MS, *every)


def _old(setup: Setup, process: Process) -> Evidence:
    age_s = round((setup.at_ns - process.started_ns) / 1e9, 1)
    return Evidence(what="process", pid=process.pid, comm=process.comm, age_s=age_s)
