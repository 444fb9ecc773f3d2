"""Output without a screen: a text line, or a JSON line, for each thing that changed.

Both end quietly when their reader has gone.  Text says a growing count again only every
10 s, or when it became worse or surer; JSON has every change.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from hatrace.model.event import Action, Event, Losses, Tick, Trouble
from hatrace.model.finding import Change, Finding, FindingChange, Severity
from hatrace.sinks import json_line, wording
from hatrace.sinks.stream import LineStream
from hatrace.sinks.text import clock_time, duration_ns, escape, plural, wall_time

if TYPE_CHECKING:
    from hatrace.model.world import World
    from hatrace.pipeline import Verdict

COUNT_AGAIN_NS = 10 * 10**9
"""Text repeats a finding of which only the count changed after this time: one a second of
the same words hides the other findings, and nobody reads faster."""


class _Lines(ABC):
    """What both printers remember: the world they saw last, and what was said already."""

    def __init__(self, stream: TextIO) -> None:
        self._out = LineStream(stream)
        self._world: World | None = None
        self._losses = Losses(0)
        self._troubles: dict[tuple[str, str], Trouble] = {}
        self._open: set[tuple[str, str]] = set()
        self._seen: set[tuple[str, str]] = set()

    @property
    def stop_requested(self) -> bool:
        return self._out.broken

    def poll(self) -> None:
        self._out.check()

    def accept(self, event: Event, world: World, verdict: Verdict) -> None:
        if self._world is None:
            self._world = world
            self._out.write(self._start(world))
        for line in self._lines(event, world, verdict):
            self._out.write(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The last line is an honest one: it is left out after a failure."""
        if self._world is not None and (kind is None or kind is KeyboardInterrupt):
            self._out.write(self._end(self._world))

    def _lines(self, event: Event, world: World, verdict: Verdict) -> Iterator[str]:
        if isinstance(event, Trouble) and self._is_news(event):
            yield self._trouble(event, world)
        elif isinstance(event, Action):
            yield self._action(event, world)
        elif isinstance(event, Losses) and event.total > self._losses.total:
            yield self._loss(event, event.total - self._losses.total, world)
            self._losses = event
        for change in verdict.changes:
            self._remember(change)
            yield from self._finding(change, world)

    def _is_news(self, trouble: Trouble) -> bool:
        """Whether this source did not already say the same of this subject."""
        key = trouble.source, trouble.subject
        said = self._troubles.get(key)
        self._troubles[key] = trouble
        if said is None:
            return not trouble.over
        return (said.why, said.over) != (trouble.why, trouble.over)

    def _remember(self, change: FindingChange) -> None:
        key = change.finding.key
        self._seen.add(key)
        if change.change is Change.RESOLVED:
            self._open.discard(key)
        else:
            self._open.add(key)

    @abstractmethod
    def _start(self, world: World) -> str:
        """The first line."""

    @abstractmethod
    def _finding(self, change: FindingChange, world: World) -> Iterator[str]:
        """The lines of one change; none if it is not worth one."""

    @abstractmethod
    def _trouble(self, trouble: Trouble, world: World) -> str: ...
    @abstractmethod
    def _loss(self, losses: Losses, lost: int, world: World) -> str: ...
    @abstractmethod
    def _action(self, action: Action, world: World) -> str: ...
    @abstractmethod
    def _end(self, world: World) -> str:
        """The last line."""


class JsonLines(_Lines):
    """One JSON object a line; json_line.py has their shapes."""

    def _start(self, world: World) -> str:
        info = world.info
        at = json_line.wall(info, info.started_ns)
        return json_line.encode(json_line.Start(at=at, info=info))

    def _finding(self, change: FindingChange, world: World) -> Iterator[str]:
        at = json_line.wall(world.info, change.finding.at_ns)
        line = json_line.FindingLine(at=at, change=change.change, finding=change.finding)
        yield json_line.encode(line)

    def _trouble(self, trouble: Trouble, world: World) -> str:
        at = json_line.wall(world.info, trouble.at_ns)
        return json_line.encode(json_line.TroubleLine(at=at, trouble=trouble))

    def _loss(self, losses: Losses, lost: int, world: World) -> str:
        at = json_line.wall(world.info, losses.at_ns)
        return json_line.encode(json_line.LossLine(at=at, lost=lost, losses=losses))

    def _action(self, action: Action, world: World) -> str:
        at = json_line.wall(world.info, action.at_ns)
        return json_line.encode(json_line.ActionLine(at=at, action=action))

    def _end(self, world: World) -> str:
        end = json_line.End(
            at=json_line.wall(world.info, world.now_ns),
            findings=len(self._open),
            findings_seen=len(self._seen),
            losses=world.losses,
            elapsed_s=(world.now_ns - world.info.started_ns) / 1e9,
        )
        return json_line.encode(end)


class TextLines(_Lines):
    """One line of text each: local time, how bad, what, what to do.  Colour only on a tty."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._said: dict[tuple[str, str], Finding] = {}
        self._watching = False
        self._colour = _wants_colour(stream)

    def _lines(self, event: Event, world: World, verdict: Verdict) -> Iterator[str]:
        if not self._watching and isinstance(event, Tick):
            self._watching = True
            yield self._at(event.at_ns, "watching", wording.watched(world))
        yield from super()._lines(event, world, verdict)

    def _start(self, world: World) -> str:
        info = world.info
        parts = [
            f"hatrace {escape(info.hatrace)} on {escape(info.host)}",
            f"rung {escape(info.rung)}",
            f"scope {escape(str(info.scope))}",
            wall_time(info.wall_s(info.started_ns)),
        ]
        parts += [f"blind: {escape(spot)}" for spot in info.blind_spots]
        return self._at(info.started_ns, "start", "; ".join(parts))

    def _finding(self, change: FindingChange, world: World) -> Iterator[str]:
        finding = change.finding
        if change.change is Change.RESOLVED:
            self._said.pop(finding.key, None)
            text = f"{escape(finding.slug)} {escape(finding.subject)}: {escape(finding.claim)}"
            yield self._at(finding.at_ns, "resolved", text)
            return
        if not _only_counts(self._said.get(finding.key), finding):
            self._said[finding.key] = finding
            parts = [f"{escape(finding.slug)}: {escape(finding.claim)}", *wording.facts(finding)]
            if todo := wording.next_step(finding):
                parts.append(f"next: {todo}")
            yield self._at(finding.at_ns, finding.severity.value, "; ".join(parts))

    def _trouble(self, trouble: Trouble, world: World) -> str:
        subject = escape(" ".join(part for part in (trouble.source, trouble.subject) if part))
        if trouble.over:
            return self._at(trouble.at_ns, "readable", f"{subject} works again")
        text = f"{subject}: {escape(trouble.why)}"
        return self._at(
            trouble.at_ns, "trouble", f"{text}; do: {escape(trouble.do)}" if trouble.do else text
        )

    def _loss(self, losses: Losses, lost: int, world: World) -> str:
        text = f"{plural(lost, 'event')} lost, {wording.losses(losses)} since the start"
        return self._at(losses.at_ns, "lost", text)

    def _action(self, action: Action, world: World) -> str:
        return self._at(
            action.at_ns, "action", f"{escape(action.command)}: {escape(action.result)}"
        )

    def _end(self, world: World) -> str:
        elapsed = duration_ns(world.now_ns - world.info.started_ns)
        resolved = len(self._seen) - len(self._open)
        parts = [
            plural(len(self._open), "finding") + " open",
            *([f"{resolved} resolved"] if resolved else []),
            f"{wording.losses(world.losses)} lost",
            elapsed,
        ]
        return self._at(world.now_ns, "end", "; ".join(parts))

    def _at(self, at_ns: int, word: str, text: str) -> str:
        """``03:12:44 critical  text``."""
        when = clock_time(self._world.info.wall_s(at_ns)) if self._world else "--:--:--"
        label = f"{word:<9}"
        if self._colour and word in _COLOURS:
            label = f"\x1b[{_COLOURS[word]}m{label}\x1b[0m"
        return f"{when} {label} {text}"


_COLOURS = {
    Severity.CRITICAL.value: "1;31",
    Severity.WARNING.value: "33",
    Severity.NOTICE.value: "36",
    "lost": "31",
    "trouble": "33",
    "resolved": "32",
}


def _wants_colour(stream: TextIO) -> bool:
    """Only on a terminal that has them, and unless NO_COLOR (https://no-color.org) is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("dumb", "unknown", "")
    return stream.isatty() and not plain


def _only_counts(said: Finding | None, finding: Finding) -> bool:
    """Whether it was ``said`` not long ago, as bad and as sure; causes have numbers in them."""
    if said is None or finding.at_ns - said.at_ns >= COUNT_AGAIN_NS:
        return False
    return (said.severity, said.confidence) == (finding.severity, finding.confidence)
