"""How a static check answers: findings whose evidence is lines of the configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from hatrace.model.finding import Confidence, Evidence, Finding, KnownBug, Severity, Step
from hatrace.model.setup import Place, Section, Setup
from hatrace.model.topology import Kind

DAY_MS = 86_400_000


def finding(
    setup: Setup,
    slug: str,
    subject: str,
    severity: Severity,
    claim: str,
    *,
    places: Iterable[Place | None] = (),
    evidence: Iterable[Evidence] = (),
    confidence: Confidence = Confidence.CERTAIN,
    count: int | None = None,
    cause: str = "",
    ruled_out: Iterable[str] = (),
    known_bug: KnownBug | None = None,
    next_steps: Iterable[Step] = (),
    verify: Iterable[Step] = (),
    caveat: str = "",
) -> Finding:
    """A finding as of this setup; ``places`` become its evidence, and its doubt if some of
    them stand between ``.if`` and ``.endif``."""
    lines = list(dict.fromkeys(place for place in places if place is not None))
    proof = (*(_line(place) for place in lines), *evidence)
    return Finding(
        slug=slug,
        subject=subject,
        severity=severity,
        confidence=confidence,
        claim=claim,
        at_ns=setup.at_ns,
        since_ns=setup.at_ns,
        count=len(proof) if count is None else count,
        evidence=proof,
        cause=cause,
        ruled_out=tuple(ruled_out),
        known_bug=known_bug,
        next_steps=tuple(next_steps),
        verify=tuple(verify),
        caveat="; ".join(filter(None, (caveat, *_conditional(lines)))),
    )


def _line(place: Place) -> Evidence:
    return Evidence(what="config", note=f"{place}: {place.text}")


def _conditional(places: Iterable[Place]) -> Iterator[str]:
    found = [str(place) for place in places if place.conditional]
    if found:
        yield f"between .if and .endif, so perhaps not in force: {', '.join(found)}"


def configure(where: Place | None, line: str, why: str = "", section: str = "") -> Step:
    """A line to write into the configuration; ``where``: the line below which it belongs."""
    below = f" below {where}" if where is not None else ""
    what = f"into {section or 'the configuration'}{below}"
    return Step(f"{why}{': ' if why else ''}write {what}", line)


def into_global(setup: Setup, line: str, why: str = "") -> Step:
    return configure(setup.global_place, line, why, "the global section")


def into(section: Section, line: str, why: str = "") -> Step:
    return configure(section.place, line, why, f"{section.kind} {section.name}")


def reload(setup: Setup) -> Step:
    """Check the files with the binary that will read them, then have them read."""
    files = " ".join(f"-f {shlex.quote(file)}" for file in setup.files)
    process = setup.process
    if process is None:
        return Step("check and reload", f"haproxy -c {files} && systemctl reload haproxy")
    if process.kind is not Kind.MASTER or process.container_pid not in (None, process.pid):
        return Step("check and reload", "systemctl reload haproxy")
    check = f"/proc/{process.pid}/exe -c -q {files}"
    return Step("check and reload", f"{check} && kill -USR2 {process.pid}")


def again(setup: Setup) -> Step:
    """Ask once more."""
    files = " ".join(shlex.quote(file) for file in setup.files)
    words = "hatrace check" if setup.process is not None else f"hatrace check {files}"
    return Step("this finding is gone", words)


def said(setup: Setup, command: str) -> str:
    """A runtime API command to the first command-line socket; empty without one."""
    paths = [path.removeprefix("unix@") for path in setup.stats_sockets]
    path = next((path for path in paths if path.startswith("/")), "")
    return f"echo {shlex.quote(command)} | socat - {shlex.quote(path)}" if path else ""


def pid(setup: Setup) -> str:
    """The process's number, or the words that find it."""
    return f"{setup.process.pid}" if setup.process is not None else "$(pgrep -n haproxy)"


def time(ms: float) -> str:
    """``500ms``, ``5s``, ``10m``, ``1h``: as HAProxy writes times, exact."""
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")):
        if ms >= unit_ms and ms % unit_ms == 0:
            return f"{ms / unit_ms:.0f}{unit}"
    return f"{ms / 1000:g}s" if ms >= 1000 else f"{ms:g}ms"


def several(number: int, noun: str) -> str:
    """``1 server``, ``2 servers``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def named(names: Iterable[str], most: int = 5) -> str:
    """``a, b, c and 12 more``."""
    every = list(names)
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"
