"""The findings, on top of everything: as much of each as the screen has room for."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from hatrace.model.event import Trouble
from hatrace.model.finding import Finding, Severity
from hatrace.sinks import wording
from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.paint import (
    ALARM,
    BADGES,
    CALM,
    CARE,
    DIM,
    STRONG,
    Lines,
    left_right,
    lines,
    one_line,
    word,
    wrapped,
)
from hatrace.sinks.text import clock_time, count, duration, escape, plural

_INDENT = 12
"""Marker, badge and a space."""


@dataclass(frozen=True, slots=True)
class Detail:
    """How many lines of a finding are shown; ``claim`` 0: all of it in one line."""

    claim: int
    facts: int
    next_step: int


_FULL = Detail(4, 2, 2)
_MIDDLE = Detail(2, 1, 1)
_SHORT = Detail(1, 1, 0)
_LINE = Detail(0, 0, 0)
_CHOICES = (
    (_FULL, _FULL),
    (_FULL, _MIDDLE),
    (_MIDDLE, _MIDDLE),
    (_MIDDLE, _SHORT),
    (_FULL, _LINE),
    (_MIDDLE, _LINE),
    (_SHORT, _LINE),
    (_LINE, _LINE),
)
"""Detail of the selected finding and of the others: the first that fits is taken."""


def findings(
    console: Console, frame: Frame, selected: tuple[str, str] | None, width: int, room: int
) -> Lines:
    """At most ``room`` lines; which of the findings are hidden is said."""
    if not frame.findings:
        return _calm(console, frame, width)
    number = _position(frame, selected)
    room -= 1
    for choice in _CHOICES:
        blocks = [
            _finding(console, finding, at == number, choice[at != number], width)
            for at, finding in enumerate(frame.findings)
        ]
        if sum(map(len, blocks)) <= room:
            break
    title = one_line(console, _title(frame), width)
    return title + _around(console, blocks, number, width, room)


def _position(frame: Frame, selected: tuple[str, str] | None) -> int:
    keys = [finding.key for finding in frame.findings]
    return keys.index(selected) if selected in keys else 0


def _title(frame: Frame) -> Text:
    by_severity = [
        f"{number} {severity}"
        for severity in (Severity.CRITICAL, Severity.WARNING, Severity.NOTICE)
        if (number := sum(one.severity is severity for one in frame.findings))
    ]
    words = f"{plural(len(frame.findings), 'finding')}: {', '.join(by_severity)}"
    worst = frame.findings[0].severity
    return Text(words, ALARM if worst is Severity.CRITICAL else STRONG)


def _calm(console: Console, frame: Frame, width: int) -> Lines:
    """Nothing found: what is being watched, and since when."""
    head = frame.header
    if not head.watched:
        return one_line(console, Text("Starting: nothing has been looked at yet."), width)
    since = f"since {clock_time(head.started_unix_s)} ({duration(round(head.elapsed_s))})"
    text = Text.assemble(("No finding", CALM), f" {since}. Watching {head.watched}.")
    return [
        line for part in wrapped(console, text, width, 3) for line in lines(console, part, width)
    ]


def _finding(console: Console, finding: Finding, chosen: bool, detail: Detail, width: int) -> Lines:
    badge = f" {finding.severity.upper()} "
    marker = Text.assemble((">" if chosen else " ", STRONG), " ")
    marker.append(badge, BADGES[finding.severity])
    marker.append(" " * (_INDENT - marker.cell_len))
    if not detail.claim:
        left = Text.assemble(marker, _brief(finding))
        facts = Text(", ".join(wording.brief_facts(finding)), STRONG)
        return one_line(console, left_right(left, facts, width), width)
    room = width - _INDENT
    body = wrapped(console, _claim(finding), room, detail.claim)
    body += wrapped(console, _facts(finding), room, detail.facts)
    if detail.next_step and (todo := wording.next_step(finding)):
        step = Text.assemble(("next: ", STRONG), todo)
        body += wrapped(console, step, room, detail.next_step)
    indent = Text(" " * _INDENT)
    drawn = [Text.assemble(marker if not at else indent, text) for at, text in enumerate(body)]
    return [line for text in drawn for line in one_line(console, text, width)]


def _claim(finding: Finding) -> Text:
    return Text.assemble((escape(finding.slug), STRONG), "  ", escape(finding.claim))


def _brief(finding: Finding) -> Text:
    """For one line: what it is about comes before what it says, which may be cut."""
    about = Text.assemble((escape(finding.slug), STRONG), "  ", (escape(finding.subject), STRONG))
    return Text.assemble(about, "  ", escape(finding.claim))


def _facts(finding: Finding) -> Text:
    text = Text("  ").join(Text(fact) for fact in wording.facts(finding))
    if left := wording.time_left(finding):
        text.highlight_words([left], ALARM if finding.severity is Severity.CRITICAL else STRONG)
    return text


def _around(console: Console, blocks: list[Lines], number: int, width: int, room: int) -> Lines:
    """The blocks, or those around the selected one, with what is above and below counted."""
    total = sum(map(len, blocks))
    if total <= room:
        apart: Lines = [[]] if total > len(blocks) and total + len(blocks) <= room // 2 else []
        return [line for block in blocks for line in (*block, *apart)]
    fit = max(1, room - 2)
    start = max(0, min(number - fit // 2, len(blocks) - fit))
    shown = [line for block in blocks[start : start + fit] for line in block]
    above, below = start, len(blocks) - start - fit
    if above:
        shown = one_line(console, _more(above, "above"), width) + shown
    if below > 0:
        shown += one_line(console, _more(below, "below"), width)
    return shown


def _more(number: int, where: str) -> Text:
    return Text(f"  … {plural(number, 'more finding')} {where}", DIM)


def troubles(console: Console, known: tuple[Trouble, ...], width: int, room: int) -> Lines:
    """What is blind for now, a line each; ``room`` at least 1 if there are any."""
    shown = known if len(known) <= room else known[: max(0, room - 1)]
    drawn = [_trouble(one) for one in shown]
    if len(shown) < len(known):
        drawn.append(Text(f"TROUBLE  {count(len(known) - len(shown))} more sources", CARE))
    return [line for text in drawn for line in one_line(console, text, width)]


def _trouble(one: Trouble) -> Text:
    text = Text.assemble(("TROUBLE  ", CARE), word(f"{one.source} {one.subject}".strip(), STRONG))
    text.append(f": {escape(one.why)}")
    if one.do:
        text.append(f"; do: {escape(one.do)}")
    return text
