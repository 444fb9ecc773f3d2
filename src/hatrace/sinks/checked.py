"""The answers of `hatrace check`: as text for a terminal, as a line of JSON for machines.

Commands and lines of configuration stand alone and are never wrapped, so that they can be pasted.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from hatrace.model.finding import Evidence, Finding, Severity, Step
from hatrace.model.setup import Checked, CheckRow, Descriptors
from hatrace.sinks.text import count, duration, escape, plural

WIDTH = 100
MOST_LINES = {Severity.NOTICE: 3, Severity.WARNING: 8, Severity.CRITICAL: 12}
"""Of evidence; JSON has them all."""
MOST_WORDS = 12
"""Lines of HAProxy's own."""
REJECTED = "config-rejected"
"""The finding that quotes HAProxy's words itself."""
HEADS = ("backend", "servers", "check", "inter", "rise/fall", "DOWN in", "UP in", "checks/day")


def as_text(checked: Checked) -> str:
    """All of it, the worst first."""
    blocks = [
        _head(checked),
        *(_finding(one) for one in checked.findings),
        _rhythms(checked.health_checks),
        _descriptors(checked.descriptors),
        _unasked(checked),
        summary(checked.findings),
    ]
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block)


def as_json(checked: Checked) -> str:
    """One line, pure ASCII: it cannot reach a terminal as a control character."""
    setup = checked.setup
    content: dict[str, Any] = {
        "files": setup.files,
        "version": setup.version,
        "pid": setup.process.pid if setup.process is not None else None,
        "validation": setup.validation,
        "findings": checked.findings,
        "not_asked": checked.unasked,
        "health_checks": checked.health_checks,
        "descriptors": checked.descriptors,
    }
    return json.dumps(msgspec.to_builtins(content), separators=(",", ":"))


def summary(findings: Sequence[Finding]) -> Iterator[str]:
    """``2 critical, 1 warning, 3 notices; hatrace explain SLUG says more``."""
    if not findings:
        yield "nothing found"
        return
    by = Counter(finding.severity for finding in findings)
    parts = [_counted(by[each], each) for each in reversed(Severity) if by[each]]
    slugs = dict.fromkeys(finding.slug for finding in findings)
    yield f"{', '.join(parts)}: hatrace explain {next(iter(slugs))} says more"


def _counted(number: int, severity: Severity) -> str:
    """``1 critical``, ``2 warnings``."""
    return f"{number} critical" if severity is Severity.CRITICAL else plural(number, severity)


def _head(checked: Checked) -> Iterator[str]:
    setup = checked.setup
    files = ", ".join(setup.files)
    version = f"HAProxy {setup.version}" if setup.version else "HAProxy of unknown version"
    running = f", pid {setup.process.pid} ({setup.process.kind})" if setup.process else ""
    yield escape(f"{files}: {version}{running}")
    said = setup.validation
    if said is None:
        yield escape(f"  not validated: {setup.not_validated}")
        return
    told = f" ({said.version})" if said.version and said.version != setup.version else ""
    verb = "accepts" if said.accepted else "DOES NOT ACCEPT"
    yield escape(f"  {said.binary} -c{told} {verb} it")
    quoted = any(finding.slug == REJECTED for finding in checked.findings)
    if not quoted:
        yield from (f"    {escape(line)}" for line in _shortened(said.words, MOST_WORDS))


def _finding(finding: Finding) -> Iterator[str]:
    yield escape(f"{finding.severity.upper()} {finding.slug}: {finding.subject}")
    yield from _wrapped(finding.claim, "  ")
    evidence = [_proof(one) for one in finding.evidence]
    for label, texts in (
        ("at", _shortened(evidence, MOST_LINES[finding.severity])),
        ("cause", [finding.cause]),
        ("not", finding.ruled_out),
        ("known as", _bug(finding)),
        ("sure", [finding.confidence.value]),
        ("mind", [finding.caveat]),
    ):
        yield from _labelled(label, texts)
    yield from _steps("do", finding.next_steps)
    yield from _steps("verify", finding.verify)


def _proof(one: Evidence) -> str:
    """``pid 812 (haproxy), 3d4h old: 2 connections``, or a line of the configuration."""
    age = f", {duration(one.age_s)} old" if one.age_s is not None else ""
    who = f"pid {one.pid} ({one.comm}){age}" if one.pid is not None else ""
    return ": ".join(filter(None, (who, one.note)))


def _bug(finding: Finding) -> list[str]:
    bug = finding.known_bug
    return [f"{bug.reference}: {bug.title}; fixed in {bug.fixed_in}; {bug.url}"] if bug else []


def _labelled(label: str, texts: Iterable[str]) -> Iterator[str]:
    for text in filter(None, texts):
        yield from _wrapped(text, f"  {label:<9} ", " " * 12)
        label = ""


def _wrapped(text: str, first: str, rest: str = "  ") -> list[str]:
    return textwrap.wrap(
        escape(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _steps(label: str, steps: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        yield from _wrapped(f"{number}. {step.text}", f"  {label:<9} ", " " * 15)
        if step.command:
            yield f"                 {escape(step.command)}"
        label = ""


def _rhythms(rows: Sequence[CheckRow]) -> Iterator[str]:
    """What the check settings come to, as a table."""
    if not rows:
        return
    cells = [HEADS, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
    yield "Health checks, as configured:"
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {line}".rstrip()


def _cells(row: CheckRow) -> tuple[str, ...]:
    return (
        escape(row.backend),
        f"{row.servers}",
        row.kind,
        duration(row.inter_ms / 1000),
        f"{row.rise}/{row.fall}",
        duration(row.down_within_ms / 1000),
        duration(row.up_within_ms / 1000),
        count(row.per_day * row.servers),
    )


def _descriptors(told: Descriptors | None) -> Iterator[str]:
    if told is None:
        return
    limit = f" of {count(told.limit)}" if told.limit is not None else ""
    origin = "what the limit allows" if told.computed else "configured"
    yield f"Descriptors: maxconn {count(told.maxconn)} ({origin}) needs {count(told.needed)}{limit}"
    yield from _wrapped(told.arithmetic, "  ")


def _unasked(checked: Checked) -> Iterator[str]:
    for one in checked.unasked:
        yield from _wrapped(f"Not asked: {one.question}: {one.why}", "")


def _shortened(lines: Sequence[str], most: int) -> Iterator[str]:
    yield from lines[:most]
    if len(lines) > most:
        yield f"and {len(lines) - most} more: --json has all"
