"""A report as text, 80 to 120 columns: for a terminal, a pager or a mail.

Commands stand alone on their line and are never wrapped, so that they can be pasted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from hatrace.model.capture_info import CaptureInfo
from hatrace.model.event import Action, Trouble
from hatrace.model.finding import Finding, Severity, Step
from hatrace.sinks.report.content import Outcome, Report
from hatrace.sinks.report.facts import Fact, evidence_title, facts, measured, title
from hatrace.sinks.report.tables import CHECKS, EVIDENCE, SOCKETS, TARGETS, Column, Row, table
from hatrace.sinks.text import clock_time, count, escape

MIN_WIDTH, MAX_WIDTH = 80, 120
MOST_ROWS = 40
MOST_EVIDENCE = 10
"""Rows of a table; the JSON report has them all."""

_COLOURS = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.NOTICE: "cyan"}
_OUTCOMES = {
    Outcome.FINDINGS: "bold red",
    Outcome.NOTHING_FOUND: "bold green",
    Outcome.NOT_JUDGED: "bold yellow",
}


def write(report: Report, stream: TextIO, width: int | None = None) -> None:
    """Prints the report; colour only on a terminal that wants it."""
    columns = width or shutil.get_terminal_size((100, 24)).columns
    console = _Paper(
        file=stream,
        width=min(max(columns, MIN_WIDTH), MAX_WIDTH),
        markup=False,
        highlight=False,
        emoji=False,
        no_color=bool(os.environ.get("NO_COLOR")),
    )
    _Printer(console).report(report)


class _Paper(Console):
    """A console that leaves it to the command line what a reader's leaving means; rich's own
    would end the process with exit code 1, which says that there are findings."""

    def on_broken_pipe(self) -> None:
        raise


class _Printer:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._wide = console.width > 100

    def report(self, report: Report) -> None:
        """The verdict, then each finding, then what it rests on."""
        self._line(title(report), "dim")
        self._line(report.summary.sentence, _OUTCOMES[report.summary.outcome])
        for doubt in report.summary.doubts:
            self._line(f"but: {doubt}", "yellow", 2)
        for number, finding in enumerate(report.findings, 1):
            self._finding(f"[{number}]", finding)
        for finding in report.recorded:
            self._finding("[as recorded; not to be seen in what the capture still holds]", finding)
        self._resolved(report.resolved)
        self._table("Targets", TARGETS, report.targets)
        self._table("Health checks", CHECKS, report.checks)
        self._table("Command-line sockets", SOCKETS, report.sockets)
        self._actions(report.info, report.actions)
        self._troubles(report.info, report.troubles)
        self._heading("How it was measured")
        self._facts(measured(report))

    def _finding(self, mark: str, finding: Finding) -> None:
        self._heading(
            f"{mark} {finding.severity.upper()} {finding.slug}: {finding.subject}",
            _COLOURS[finding.severity],
        )
        self._line(finding.claim, "bold", 2)
        self._facts(facts(finding))
        if finding.evidence:
            self._line(evidence_title(finding, MOST_EVIDENCE), "dim", 2)
            self._rows(EVIDENCE, finding.evidence[:MOST_EVIDENCE], indent=4, factor=True)
        self._steps("What to do", finding.next_steps)
        self._steps("How to see that it worked", finding.verify)

    def _facts(self, shown: Iterable[Fact]) -> None:
        grid = RichTable.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        last = ""
        for label, text in shown:
            grid.add_row(Text("" if label == last else label, "dim"), Text(escape(text)))
            last = label
        self._print(Padding(grid, (0, 0, 0, 2), expand=False))

    def _steps(self, heading: str, steps: Sequence[Step]) -> None:
        if not steps:
            return
        self._line(f"{heading}:", "bold", 2)
        for number, step in enumerate(steps, 1):
            self._line(f"{number}. {step.text}", "", 4)
            if step.command:
                command = Text(f"       {escape(step.command)}", "green")
                self._console.print(command, soft_wrap=True)

    def _resolved(self, findings: Sequence[Finding]) -> None:
        if findings:
            self._heading("Came and went")
            self._facts(Fact(f"{one.slug} {one.subject}", one.claim) for one in findings)

    def _table(self, heading: str, columns: Sequence[Column[Row]], rows: Sequence[Row]) -> None:
        if rows:
            self._heading(heading)
            self._rows(columns, rows[:MOST_ROWS], indent=2)
        if len(rows) > MOST_ROWS:
            self._line(f"and {count(len(rows) - MOST_ROWS)} more: --format json has all", "dim", 2)

    def _rows(
        self, columns: Sequence[Column[Row]], rows: Sequence[Row], indent: int, factor: bool = False
    ) -> None:
        cells = table(columns, rows, self._wide, factor)
        if cells.common:
            self._line(f"all: {'; '.join(cells.common)}", "", indent)
        drawn = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="underline")
        for name, right in zip(cells.titles, cells.right, strict=True):
            drawn.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in cells.rows:
            drawn.add_row(*(Text(escape(cell)) for cell in row))
        self._print(Padding(drawn, (0, 0, 0, indent), expand=False))

    def _actions(self, info: CaptureInfo, actions: Sequence[Action]) -> None:
        if actions:
            self._heading("What hatrace changed on this host")
            self._facts(
                Fact(clock_time(info.wall_s(one.at_ns)), f"{one.command}: {one.result}")
                for one in actions
            )

    def _troubles(self, info: CaptureInfo, troubles: Sequence[Trouble]) -> None:
        if troubles:
            self._heading("What could not be read")
            self._facts(Fact(clock_time(info.wall_s(one.at_ns)), _trouble(one)) for one in troubles)

    def _heading(self, text: str, style: str = "bold") -> None:
        self._console.print()
        self._line(text, style)

    def _line(self, text: str, style: str = "", indent: int = 0) -> None:
        self._print(Padding(Text(escape(text), style), (0, 0, 0, indent), expand=False))

    def _print(self, shown: RenderableType) -> None:
        self._console.print(shown)


def _trouble(trouble: Trouble) -> str:
    head = " ".join(part for part in (trouble.source, trouble.subject) if part)
    return f"{head}: {trouble.why}" + (f"; do: {trouble.do}" if trouble.do else "")
