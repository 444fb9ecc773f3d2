"""A report as Markdown for a ticket: short above, everything else folded away in <details>.

Whatever came from the network, a process or HAProxy is escaped: it cannot close a code
block, start a link, call a person by @name or an issue by #number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hatrace.model.event import Trouble
from hatrace.model.finding import Finding, Step
from hatrace.sinks.report.content import Report
from hatrace.sinks.report.facts import Fact, evidence_title, facts, measured, title
from hatrace.sinks.report.tables import CHECKS, EVIDENCE, SOCKETS, TARGETS, Column, Row, table
from hatrace.sinks.text import escape

MOST_ROWS = 20
_SPECIAL = re.compile(r"([\\`*_\[\]#|~$>])")
_LINK = re.compile(r"@(?=\S)|:(?=//)|(?<![^\W_])www(?=\.)", re.IGNORECASE)
"""What GitHub makes a link, a mail address or a call of, without any markup (GFM, 6.9); that
of the Web may follow a ``_``, and a mail's host may begin with any of ``_``, ``-`` and ``.``."""
_LIST = re.compile(r"^([-+=]|\d+[.)])(?=\s|$)")


def render(report: Report) -> str:
    """The whole ticket text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"## {safe(title(report))}"
    yield ""
    yield f"**{safe(report.summary.sentence)}**"
    yield ""
    yield from _bullets(Fact("but", doubt) for doubt in report.summary.doubts)
    for finding in report.findings:
        yield from _finding(finding)
    for finding in report.recorded:
        yield from _finding(finding, "as recorded, not to be seen in what the capture still holds")
    yield from _resolved(report.resolved)
    yield from _folded("Targets", _table(TARGETS, report.targets))
    yield from _folded("Health checks", _table(CHECKS, report.checks))
    yield from _folded("Command-line sockets", _table(SOCKETS, report.sockets))
    changed = [Fact(one.command, one.result) for one in report.actions]
    yield from _folded("What hatrace changed on this host", _bullets(changed))
    yield from _folded("What could not be read", _bullets(map(_trouble, report.troubles)))
    yield from _folded("How it was measured", _bullets(measured(report)))


def _finding(finding: Finding, note: str = "") -> Iterator[str]:
    yield f"### {finding.severity.upper()}: {safe(finding.slug)}, {safe(finding.subject)}"
    yield ""
    if note:
        yield from (f"*{safe(note)}*", "")
    yield from (safe(finding.claim), "")
    yield from _bullets(facts(finding))
    yield from _steps("What to do", finding.next_steps)
    yield from _steps("How to see that it worked", finding.verify)
    shown = evidence_title(finding, MOST_ROWS)
    yield from _folded(shown, _table(EVIDENCE, finding.evidence, factor=True))


def _resolved(findings: Sequence[Finding]) -> Iterator[str]:
    gone = [Fact(f"{one.slug} {one.subject}", one.claim) for one in findings]
    yield from _folded("Came and went", _bullets(gone))


def _bullets(shown: Iterable[Fact]) -> Iterator[str]:
    lines = [f"- {safe(label)}: {_linked(text)}" for label, text in shown]
    if lines:
        yield from (*lines, "")


def _steps(heading: str, steps: Sequence[Step]) -> Iterator[str]:
    if not steps:
        return
    yield from (f"**{heading}**", "")
    for number, step in enumerate(steps, 1):
        yield f"{number}. {safe(step.text)}"
        if step.command:
            yield from _code_block(step.command, "   ")
    yield ""


def _code_block(command: str, indent: str) -> Iterator[str]:
    """A fence longer than any in the command."""
    text = escape(command)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    yield from (f"{indent}{fence}sh", f"{indent}{text}", f"{indent}{fence}")


def _table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], factor: bool = False
) -> Iterator[str]:
    if not rows:
        return
    cells = table(columns, rows[:MOST_ROWS], factor=factor)
    if cells.common:
        yield from (f"All: {safe('; '.join(cells.common))}", "")
    yield _row(cells.titles)
    yield _row("---:" if right else "---" for right in cells.right)
    for row in cells.rows:
        yield _row(map(safe, row))
    if len(rows) > MOST_ROWS:
        yield from ("", f"and {len(rows) - MOST_ROWS} more")
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _folded(heading: str, lines: Iterable[str]) -> Iterator[str]:
    """Nothing at all, if there is nothing in it."""
    inside = list(lines)
    if inside:
        yield from (f"<details><summary>{safe(heading)}</summary>", "", *inside, "</details>", "")


def _linked(text: str) -> str:
    """The address of a known bug's thread, which is ours to give, stays a link."""
    words, _, last = text.rpartition(" ")
    if re.fullmatch(r"https://github\.com/[\w./#-]+", last, re.ASCII):
        return f"{safe(words)} <{last}>"
    return safe(text)


def _trouble(trouble: Trouble) -> Fact:
    text = f"{trouble.why}; do: {trouble.do}" if trouble.do else trouble.why
    return Fact(" ".join(part for part in (trouble.source, trouble.subject) if part), text)


def safe(text: str) -> str:
    """Text that means itself in Markdown, HTML included; one line."""
    plain = escape(text).replace("&", "&amp;").replace("<", "&lt;")
    escaped = _LIST.sub(lambda mark: f"{mark[0][:-1]}\\{mark[0][-1]}", _SPECIAL.sub(r"\\\1", plain))
    return _LINK.sub("\\g<0>\u2060", escaped)
