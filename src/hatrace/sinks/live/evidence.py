"""A finding's evidence: the sockets, the arithmetic, the cause, what was ruled out, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hatrace.model.finding import Evidence, Finding, Growth, Step
from hatrace.sinks import wording
from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.paint import BADGES, CARE, DIM, STRONG, Lines, lines, word
from hatrace.sinks.text import count, duration, escape, growth, rate, size

_INDENT = 2


def page(console: Console, finding: Finding, frame: Frame, width: int) -> Lines:
    """All that is known of it, as lines to scroll through."""
    resolved = all(one.key != finding.key for one in frame.findings)
    drawn = lines(console, _head(finding, resolved), width)
    for title, body in _sections(finding, width - _INDENT):
        drawn += [[], *lines(console, Text(title, STRONG), width)]
        for part in body:
            drawn += lines(console, Padding(part, (0, 0, 0, _INDENT)), width)
    drawn += [[], *lines(console, _table_title(finding), width)]
    return drawn + lines(
        console, Padding(_sockets(finding, width - _INDENT), (0, 0, 0, _INDENT)), width
    )


def _head(finding: Finding, resolved: bool) -> Text:
    text = Text.assemble((f" {finding.severity.upper()} ", BADGES[finding.severity]), " ")
    if resolved:
        text.append(" RESOLVED: it is gone; this is how it was last seen ", "reverse")
    text.append_text(word(finding.slug, STRONG)).append(f"  {escape(finding.claim)}\n")
    return text.append("  ".join(wording.facts(finding)))


def _sections(finding: Finding, width: int) -> Iterable[tuple[str, Sequence[RenderableType]]]:
    """Title and paragraphs; those that have nothing to say are left out."""
    if finding.next_steps:
        yield "Next", _steps(finding.next_steps, width)
    if finding.verify:
        yield "Then see that it worked", _steps(finding.verify, width)
    if finding.cause:
        yield "Cause", [word(finding.cause)]
    if finding.ruled_out:
        yield "Ruled out", [_hanging("- ", reason) for reason in finding.ruled_out]
    if finding.known_bug:
        yield "Known bug", _known_bug(finding)
    if arithmetic := _arithmetic(finding):
        yield "Arithmetic", arithmetic
    if finding.caveat:
        yield "Caveat", [word(finding.caveat, CARE)]


def _steps(steps: tuple[Step, ...], width: int) -> list[RenderableType]:
    """Numbered words, and below them the command alone on its lines, to be pasted."""
    drawn: list[RenderableType] = []
    for number, one in enumerate(steps, 1):
        drawn.append(_hanging(f"{number}. ", one.text))
        command = pasteable(escape(one.command), width - 3)
        drawn += [Text(f"   {line}", STRONG, no_wrap=True, overflow="fold") for line in command]
    return drawn


def _hanging(marker: str, text: str) -> RenderableType:
    """Text whose further lines begin where the first one's words do."""
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row(Text(marker), word(text))
    return grid


def pasteable(command: str, width: int) -> list[str]:
    """A shell command in lines that fit: broken at unquoted spaces, with a backslash."""
    if len(command) <= width:
        return [command] if command else []
    folded, line = [], ""
    for token in re.findall(r"""(?:'[^']*'|"[^"]*"|\\.|[^\s'"\\]|['"\\])+""", command):
        if line and len(line) + len(token) + 3 > width:
            folded.append(line + " \\")
            line = ""
        line = f"{line} {token}" if line else token
    return [*folded, line]


def _known_bug(finding: Finding) -> list[Text]:
    bug = finding.known_bug
    if bug is None:
        return []
    fixed = f" (fixed in {bug.fixed_in})" if bug.fixed_in else ""
    parts = [word(f"{bug.reference}: {bug.title}{fixed}")]
    if bug.work_around:
        parts.append(word(f"work-around: {bug.work_around}"))
    return [*parts, word(bug.url, DIM)] if bug.url else parts


def _arithmetic(finding: Finding) -> list[Text]:
    drawn = []
    if finding.growth is not None:
        drawn.append(Text(_measured(finding.growth)))
    if finding.forecast is not None:
        drawn.append(Text(wording.forecast(finding.forecast)))
        if finding.forecast.arithmetic:
            drawn.append(word(finding.forecast.arithmetic))
    return drawn


def _measured(grown: Growth) -> str:
    """``growth +4.1/min, measured over 3m (about 246 an hour)``."""
    hourly = rate(grown.per_minute * 60)
    return (
        f"growth {growth(grown.per_minute)}, measured over {duration(grown.interval_s)}"
        f" (about {hourly} an hour)"
    )


def _table_title(finding: Finding) -> Text:
    shown = len(finding.evidence)
    of = "" if shown >= finding.count else f" of {count(finding.count)}, the oldest first"
    return Text(f"Evidence: {shown}{of}", STRONG)


def _sockets(finding: Finding, width: int) -> RenderableType:
    """A table where it has room; else two lines for each, so that no address is torn."""
    rows = [_cells(one) for one in finding.evidence]
    used = [at for at in range(len(_COLUMNS)) if any(row[at] for row in rows)]
    widths = [max(cell_len(row[at]) for row in [_NAMES, *rows]) + 2 for at in used]
    if sum(widths) > width:
        return Group(*(_record(row) for row in rows))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for at in used:
        name, align = _COLUMNS[at]
        table.add_column(Text(name, f"{DIM} underline"), justify=align, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[at]) for at in used))
    return table


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("what", "left"),
    ("held by", "left"),
    ("fd", "right"),
    ("inode", "right"),
    ("local", "left"),
    ("remote", "left"),
    ("state", "left"),
    ("age", "right"),
    ("wrong for", "right"),
    ("sent/received", "right"),
    ("note", "left"),
)
_NAMES = tuple(name for name, _ in _COLUMNS)


def _cells(one: Evidence) -> tuple[str, ...]:
    """One text for each of `_COLUMNS`, escaped; empty where nothing is known."""
    holder = " ".join(part for part in (one.comm, str(one.pid or "")) if part)
    age = "" if one.age_s is None else duration(one.age_s) + ("+" if one.preexisting else "")
    moved = ""
    if one.sent_bytes is not None or one.received_bytes is not None:
        moved = f"{size(one.sent_bytes)}/{size(one.received_bytes)}"
    cells = (
        one.what,
        holder,
        "" if one.fd is None else str(one.fd),
        str(one.inode or ""),
        one.local,
        one.remote,
        " ".join(part for part in (one.state, one.condition) if part),
        age,
        "" if one.since_s is None else duration(one.since_s),
        moved,
        one.note,
    )
    return tuple(map(escape, cells))


def _record(row: tuple[str, ...]) -> RenderableType:
    """``tcp LOCAL -> REMOTE STATE age 2m`` and, below it, the holder and the rest."""
    what, holder, fd, inode, local, remote, state, age, wrong_for, moved, note = row
    ends = " -> ".join(end for end in (local, remote) if end)
    times = ", ".join(
        f"{name} {value}" for name, value in (("age", age), ("wrong for", wrong_for)) if value
    )
    first = "  ".join(part for part in (what, ends, state, times) if part)
    facts = (("held by", holder), ("fd", fd), ("inode", inode), ("sent/received", moved))
    named = [f"{name} {value}" for name, value in facts if value]
    rest = ", ".join([*named, note] if note else named)
    return Group(Text(first, overflow="fold"), Padding(Text(rest), (0, 0, 0, 4)))
