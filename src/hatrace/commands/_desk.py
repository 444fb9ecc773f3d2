"""Where an action meets its user: facts and questions on a terminal, or JSON lines.

Nothing is changed without a yes: from the keyboard, or from ``--yes``.  Questions go to
stderr, so that stdout can be piped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from hatrace.actions.desk import Change, Desk, Result
from hatrace.commands import _options as options
from hatrace.commands._journal import Journal
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.model.event import Action, Event
from hatrace.model.finding import Evidence
from hatrace.sinks.text import escape

MOST_ROWS = 40

F = TypeVar("F", bound=Callable[..., Any])


def action_options(command: F) -> F:
    """``--yes``, ``-o`` and ``--json``, as every command has them that changes something."""
    for option in (
        options.json_option,
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            help="A capture that what was done is written to: a new one, or appended to.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask: do it."),
    ):
        command = option(command)
    return command


class Voice(Protocol):
    """How what happens is printed."""

    def say(self, text: str) -> None: ...
    def show(self, title: str, rows: Sequence[Evidence]) -> None: ...
    def step(self, change: Change, decision: str) -> None: ...
    def action(self, action: Action) -> None: ...
    def undo(self, commands: Sequence[str]) -> None: ...
    def end(self, result: Result) -> None: ...


class Counter(Desk):
    """The desk of the command line."""

    def __init__(self, voice: Voice, journal: Journal, *, yes: bool, dry_run: bool) -> None:
        self._voice, self._journal = voice, journal
        self._yes, self._dry_run = yes, dry_run
        self._undo: list[str] = []

    @property
    def dry_run(self) -> bool:
        return self._dry_run

    def say(self, text: str) -> None:
        self._voice.say(text)

    def show(self, title: str, rows: Sequence[Evidence]) -> None:
        self._voice.show(title, rows)

    def agreed(self, change: Change) -> bool:
        if self._dry_run:
            self._voice.step(change, "dry-run")
            return False
        if self._yes:
            self._voice.step(change, "yes")
            return True
        self._voice.step(change, "asked")
        try:
            return click.confirm("  do it?", default=False, err=True)
        except OSError as error:
            raise EnvironmentLacks(
                "cannot ask",
                error.strerror or str(error),
                "ask for a --dry-run first, then give --yes",
            ) from error

    def did(self, change: Change, result: str) -> None:
        action = Action(time.monotonic_ns(), change.record or change.text, result)
        if change.undo:
            self._undo.append(change.undo)
        try:
            self._journal.write(action)
        finally:
            self._voice.action(action)

    def saw(self, event: Event) -> None:
        self._journal.saw(event)

    def conclude(self, result: Result) -> int:
        """Say how it ended; the exit code."""
        self._voice.end(result)
        return 1 if result.left else 0

    def finish(self) -> None:
        """However it ended: what takes the changes back."""
        if self._undo:
            self._voice.undo(self._undo)


@contextmanager
def counter(journal: Journal, *, yes: bool, dry_run: bool, as_json: bool) -> Iterator[Counter]:
    """A desk; at its end, also after Ctrl-C, how to undo is said and the capture written, even
    if nobody reads what is said any more (``| head``)."""
    voice: Voice = Lines() if as_json else Words()
    desk = Counter(voice, journal, yes=yes, dry_run=dry_run)
    try:
        yield desk
    finally:
        try:
            desk.finish()
        finally:
            journal.close()


def require_consent(yes: bool, dry_run: bool) -> None:
    """Raises UsageError where nobody could be asked."""
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError(
            "there is nobody to ask",
            "standard input is no terminal, and nothing is changed without a yes",
            "look first with --dry-run, then give --yes",
        )


class Words(Voice):
    """For people."""

    def say(self, text: str) -> None:
        click.echo(escape(text))

    def show(self, title: str, rows: Sequence[Evidence]) -> None:
        click.echo(f"{escape(title)}{':' if rows else ''}")
        for line in table(rows[:MOST_ROWS]):
            click.echo(f"  {line}")
        if len(rows) > MOST_ROWS:
            click.echo(f"  and {len(rows) - MOST_ROWS} more: --json has all")

    def step(self, change: Change, decision: str) -> None:
        mark = "would" if decision == "dry-run" else "next"
        click.echo(f"{mark}: {escape(change.text)}")
        for line in change.command.splitlines():
            click.echo(f"    {escape(line)}")

    def action(self, action: Action) -> None:
        click.echo(f"  done: {escape(action.result)}")

    def undo(self, commands: Sequence[str]) -> None:
        click.echo("to undo:")
        for command in commands:
            click.echo(f"    {escape(command)}")

    def end(self, result: Result) -> None:
        click.echo(escape(result.sentence))
        for step in result.next_steps:
            click.echo(f"  - {escape(step.text)}")
            if step.command:
                click.echo(f"      {escape(step.command)}")


COLUMNS = ("pid", "fd", "inode", "state", "local", "remote", "note")


def table(rows: Sequence[Evidence]) -> list[str]:
    """Sockets in columns, escaped; with a line of titles unless there are none."""
    if not rows:
        return []
    cells = [list(COLUMNS), *([_cell(getattr(row, name)) for name in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cell(value: object) -> str:
    return "?" if value is None else escape(str(value))


class Lines(Voice):
    """For machines: one JSON object a line, ASCII only, told apart by ``type``.

    ``fact``, ``sockets``, ``step``, ``action``, ``undo``, and last ``end``.
    """

    def say(self, text: str) -> None:
        self._line("fact", text=text.strip())

    def show(self, title: str, rows: Sequence[Evidence]) -> None:
        self._line("sockets", title=title, sockets=[asdict(row) for row in rows])

    def step(self, change: Change, decision: str) -> None:
        self._line("step", decision=decision, **asdict(change))

    def action(self, action: Action) -> None:
        self._line("action", action=asdict(action))

    def undo(self, commands: Sequence[str]) -> None:
        self._line("undo", commands=list(commands))

    def end(self, result: Result) -> None:
        self._line("end", **asdict(result))

    def _line(self, kind: str, **fields: Any) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        click.echo(json.dumps({"type": kind, "at": at, **fields}, separators=(",", ":")))
