"""The scoreboard as tables that read well in a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from hatrace.lab.scenario import Scenario
from scoreboard.judge import due_s
from scoreboard.totals import Totals, totals
from scoreboard.trial import Trial

Scenarios = Mapping[str, Scenario]
NOT_THERE = "-"
DISTURBED = "*"


def leaks(trials: Sequence[Trial], scenarios: Scenarios, series: Sequence[str]) -> str:
    """A row per leak: when it was named, in seconds and in its own intervals."""
    head = ["leak", "expected", "interval", *(f"HAProxy {one}" for one in series)]
    rows = [
        [one.name, f"{one.expects.slug}: {one.expects.cause}", f"{one.interval_s:g} s",
         *(_cell(one, _of(trials, one, which)) for which in series)]
        for one in scenarios.values() if one.expects
    ]  # fmt: skip
    return grid([head, *rows]) if rows else ""


def silent(trials: Sequence[Trial], scenarios: Scenarios, series: Sequence[str]) -> str:
    """A row per look-alike."""
    head = ["look-alike", "watched", *(f"HAProxy {one}" for one in series)]
    rows = [
        [one.name, _watched(trials, one), *(_cell(one, _of(trials, one, s)) for s in series)]
        for one in scenarios.values()
        if not one.expects
    ]
    return grid([head, *rows]) if rows else ""


def _of(trials: Sequence[Trial], scenario: Scenario, series: str) -> list[Trial]:
    return [one for one in trials if (one.scenario, one.series) == (scenario.name, series)]


def _watched(trials: Sequence[Trial], scenario: Scenario) -> str:
    seconds = [one.seconds for one in trials if one.scenario == scenario.name]
    return f"{max(seconds):g} s" if seconds else NOT_THERE


def _cell(scenario: Scenario, trials: Sequence[Trial]) -> str:
    """All rounds of one scenario on one HAProxy."""
    if not trials:
        return NOT_THERE
    failed = sum(bool(one.failure) for one in trials)
    parts = [f"NOT PLAYED{_times(failed, trials)}"] if failed else []
    played = [one for one in trials if not one.failure]
    if played:
        parts.append(_named(scenario, played) if scenario.expects else _kept_silent(played))
    false = sorted({what.partition(" ")[0] for one in played for what in one.verdict.false})
    if false and scenario.expects:
        parts.append(f"FALSE {', '.join(false)}")
    lost = sum(one.verdict.lost for one in trials)
    if lost:
        parts.append(f"{lost} events lost")
    mark = f" {DISTURBED}" if any(one.disturbed for one in trials) else ""
    return ", ".join(parts) + mark


def _times(count: int, trials: Sequence[Trial]) -> str:
    return f" {count} of {len(trials)}" if len(trials) > 1 else ""


def _kept_silent(trials: Sequence[Trial]) -> str:
    loud = [one for one in trials if one.verdict.false]
    if not loud:
        return "silent"
    slugs = sorted({what.partition(" ")[0] for one in loud for what in one.verdict.false})
    return f"FALSE {', '.join(slugs)}{_times(len(loud), trials)}"


def _named(scenario: Scenario, trials: Sequence[Trial]) -> str:
    """``2.1 s (0.7)``, with several rounds ``2.1 s (0.7), worst 2.4 s``; and what is wrong."""
    times = [one.verdict.named_s for one in trials if one.verdict.named_s is not None]
    missed = len(trials) - len(times)
    parts = [f"MISSED{_times(missed, trials)}"] if missed else []
    if times:
        middle = median(times)
        parts.append(f"{middle:.1f} s ({middle / scenario.interval_s:.1f})")
        if len(times) > 1:
            parts.append(f"worst {max(times):.1f} s")
        if max(times) > due_s(scenario):
            parts.append("LATE")
    wrong = [one for one in trials if one.verdict.named_s is not None]
    if any(not one.verdict.cause_right for one in wrong):
        parts.append("OTHER CAUSE")
    return ", ".join(parts)


ROWS: tuple[tuple[str, Callable[[Totals], str]], ...] = (
    ("leaks named", lambda one: f"{one.found} of {one.leaks}"),
    ("with the right cause", lambda one: f"{one.causes} of {one.leaks}"),
    ("in three intervals, or 2 s", lambda one: f"{one.in_time} of {one.leaks}"),
    ("time to name, median", lambda one: _seconds(one.median_s)),
    ("time to name, worst", lambda one: _seconds(one.worst_s)),
    ("look-alikes", lambda one: str(one.silent)),
    ("false findings", lambda one: str(one.false)),
    ("events lost", lambda one: str(one.lost)),
    ("trials not played", lambda one: str(one.failed)),
    ("trials disturbed by others", lambda one: str(one.disturbed)),
)


def _seconds(value: float | None) -> str:
    return NOT_THERE if value is None else f"{value:.1f} s"


def summary(trials: Sequence[Trial], scenarios: Scenarios, series: Sequence[str]) -> str:
    """The totals, per HAProxy and of all."""
    columns = [
        totals([one for one in trials if one.series == which], scenarios) for which in series
    ]
    columns.append(totals(trials, scenarios))
    head = ["total", *(f"HAProxy {one}" for one in series), "all"]
    return grid([head, *([label, *(text(one) for one in columns)] for label, text in ROWS)])


def notes(trials: Sequence[Trial]) -> list[str]:
    """A line for each thing that is not as it should be."""
    lines = []
    for one in trials:
        where = f"{one.scenario} on {one.series}"
        if one.failure:
            lines.append(f"{where} was not played: {one.failure}")
        lines += [f"{where}, false: {what}" for what in one.verdict.false]
        named = one.verdict.named_s is not None
        if named and not one.verdict.cause_right:
            lines.append(f"{where}, another cause: {one.verdict.cause}")
    return list(dict.fromkeys(lines))


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its columns aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(row, widths) for row in [rows[0], rule, *rows[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"| {' | '.join(cells)} |"
