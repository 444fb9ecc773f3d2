"""A finding taken apart, in the order of a reader's questions: the same for every printer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hatrace.model.event import Cost, HostCounters
from hatrace.model.finding import Finding, Forecast, Growth, KnownBug
from hatrace.sinks import wording
from hatrace.sinks.report.content import Report
from hatrace.sinks.text import count, duration, growth, plural, size


class Fact(NamedTuple):
    """``label: text``; unescaped."""

    label: str
    text: str


def facts(finding: Finding) -> Iterator[Fact]:
    """How many, how fast, until when, why, why not otherwise, is it known, how sure."""
    yield Fact("held", _held(finding))
    if finding.growth is not None:
        yield Fact("growth", _growth(finding.growth))
    if finding.forecast is not None:
        yield from _forecast(finding.forecast)
    yield Fact("confidence", f"{finding.confidence}; seen for {duration(wording.age_s(finding))}")
    if finding.cause:
        yield Fact("cause", finding.cause)
    for reason in finding.ruled_out:
        yield Fact("ruled out", reason)
    if finding.known_bug is not None:
        yield Fact("known bug", _bug(finding.known_bug))
    if finding.caveat:
        yield Fact("mind", finding.caveat)


def _held(finding: Finding) -> str:
    older = finding.preexisting
    return count(finding.count) + (f", {count(older)} of them older than hatrace" if older else "")


def _growth(measured: Growth) -> str:
    return f"{growth(measured.per_minute)}, measured over {duration(measured.interval_s)}"


def _forecast(limit: Forecast) -> Iterator[Fact]:
    yield Fact("limit", wording.forecast(limit))
    if limit.arithmetic:
        yield Fact("reckoned", limit.arithmetic)


def _bug(bug: KnownBug) -> str:
    fixed = f"fixed in {bug.fixed_in}" if bug.fixed_in else "not fixed yet"
    return " ".join(part for part in (f"{bug.reference}: {bug.title}; {fixed}", bug.url) if part)


def evidence_title(finding: Finding, shown: int) -> str:
    """``Evidence (20 of 312, oldest first)``.  A row may be a process: more than are counted."""
    rows = min(shown, len(finding.evidence), finding.count)
    return f"Evidence ({rows} of {count(finding.count)}, oldest first)"


def title(report: Report) -> str:
    """``hatrace: lb1, 2026-11-21 03:12:44 to 03:13:44 UTC, 1m``."""
    return f"hatrace: {report.info.host}, {_time(report)}"


def measured(report: Report) -> Iterator[Fact]:
    """How the capture came about, and what it cost."""
    info, span = report.info, report.span
    yield Fact("host", f"{info.host}, Linux {info.kernel} {info.machine}")
    yield Fact("HAProxy", ", ".join(report.haproxy_versions) or "none seen")
    if report.processes:
        yield Fact("processes", report.processes)
    yield Fact("time", _time(report))
    yield Fact(
        "seen", f"{plural(span.events, 'event')}, {plural(span.finished_flows, 'ended flow')}"
    )
    yield Fact(
        "hatrace", f"{info.hatrace}, rung {info.rung}, scope {info.scope}, {_detail(report)}"
    )
    yield Fact("command", " ".join(info.command_line))
    for spot in info.blind_spots:
        yield Fact("blind spot", spot)
    yield Fact("lost", wording.losses(report.losses))
    if report.cost is not None:
        yield Fact("own cost", _cost(report.cost, span.duration_s))
    if report.host_at_end is not None:
        yield from _host(report.host_at_start, report.host_at_end)


def _time(report: Report) -> str:
    span = report.span
    times = f"{span.started:%Y-%m-%d %H:%M:%S} to {span.ended:%H:%M:%S} UTC"
    return f"{times}, {duration(span.duration_s)}"


def _detail(report: Report) -> str:
    less_s = report.span.summary_s
    less = f" (but for {duration(less_s)}: ended flows only counted)" if less_s else ""
    return f"detail {report.info.detail}{less}" + (", redacted" if report.info.redacted else "")


def _cost(cost: Cost, elapsed_s: float) -> str:
    cpu_s = cost.cpu_ns / 1e9
    share = f" ({cpu_s / elapsed_s:.1%} of a CPU)" if elapsed_s else ""
    parts = [f"CPU {duration(cpu_s)}{share}", f"memory {size(cost.resident_bytes)}"]
    if cost.bpf_ns is not None:
        runs = f" in {count(cost.bpf_runs)} runs" if cost.bpf_runs else ""
        part = cost.bpf_measured_ns
        how = "" if part is None else f" (extrapolated from {duration(part / 1e9)})"
        about = "" if part is None else "about "
        parts.append(f"BPF {about}{duration(cost.bpf_ns / 1e9)}{runs}{how}")
    return ", ".join(parts)


_COUNTERS = (
    ("tcp_inuse", "TCP in use"),
    ("tcp_alloc", "allocated"),
    ("tcp_orphan", "orphans"),
    ("tcp_time_wait", "TIME_WAIT"),
    ("file_used", "files"),
    ("listen_overflows", "listen overflows"),
)


def _host(start: HostCounters | None, end: HostCounters) -> Iterator[Fact]:
    """``TCP in use 50 → 812``: what the whole host counted at the start and at the end."""
    parts = []
    for name, words in _COUNTERS:
        now, then = getattr(end, name), getattr(start, name, None)
        if now is not None:
            moved = f"{count(then)} → {count(now)}" if then not in (None, now) else count(now)
            parts.append(f"{words} {moved}")
    if parts:
        yield Fact("host counts", ", ".join(parts))
