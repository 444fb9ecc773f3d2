"""The two lines on top, and the one at the bottom."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from hatrace.sinks import wording
from hatrace.sinks.live.frame import Frame, Header
from hatrace.sinks.live.keys import ViewState
from hatrace.sinks.live.pace import Pace
from hatrace.sinks.live.paint import ALARM, DIM, STRONG, Lines, join, left_right, one_line, word
from hatrace.sinks.text import clock_time, duration, size


def header(
    console: Console, frame: Frame, state: ViewState, pace: Pace | None, width: int
) -> Lines:
    """Who and since when; then how well, and at what cost."""
    top = left_right(_where(frame.header), _when(frame.header, state, pace), width)
    below = left_right(_how(frame), _cost(frame.header), width)
    return one_line(console, top, width) + one_line(console, below, width)


def _where(head: Header) -> Text:
    haproxy = " ".join(("HAProxy", *head.haproxy))
    parts = [Text("hatrace", STRONG), word(head.host, STRONG), word(haproxy)]
    return join([*parts, word(head.processes)])


def _when(head: Header, state: ViewState, pace: Pace | None) -> Text:
    parts = []
    if pace is not None:
        parts.append(Text(f" REPLAY {pace} ", "reverse"))
    if state.paused:
        parts.append(Text(" PAUSED ", "reverse"))
    parts.append(Text(clock_time(head.now_unix_s), DIM))
    parts.append(Text(duration(round(head.elapsed_s)), STRONG))
    return join(parts)


def _how(frame: Frame) -> Text:
    head = frame.header
    blind = len(head.blind_spots)
    parts = [
        word(f"rung {head.rung}"),
        Text(f"blind: {blind}"),
        word(f"scope {head.scope}"),
        _lost(frame),
    ]
    return join(parts)


def _lost(frame: Frame) -> Text:
    losses = frame.header.losses
    if losses.total:
        return Text(f"LOST {wording.losses(losses)}", ALARM)
    if frame.scan_truncated:
        return Text(f"lost 0, held: at least (+{frame.scan_truncated:,} unseen)", ALARM)
    return Text("lost 0")


def _cost(head: Header) -> Text:
    parts = []
    if head.cpu_share is not None:
        parts.append(f"self cpu {head.cpu_share:.1%}")
    if head.resident_bytes is not None:
        parts.append(size(head.resident_bytes))
    if head.bpf_share is not None:
        parts.append(f"bpf {'~' if head.bpf_sampled else ''}{head.bpf_share:.1%}")
    return Text(" ".join(parts), DIM)


def footer(console: Console, state: ViewState, replay: bool, width: int) -> Lines:
    """What the keys do here; while a filter is typed, the filter."""
    if state.typing:
        text = Text.assemble(("filter: ", STRONG), word(state.filter), ("_", "blink"))
        text.append("   Enter keeps it, Esc drops it", DIM)
    elif state.help or state.evidence:
        text = _keys(
            ("Esc", "back"), ("up/down PgUp/PgDn", "scroll"), ("p", "pause"), ("q", "quit")
        )
    else:
        pause = [("p", "pause"), ("+/-", "speed")] if replay else [("p", "pause")]
        choose = "Enter" if replay else "up/down Enter"
        text = _keys(
            ("q", "quit"),
            *pause,
            (choose, "evidence"),
            ("t", "table"),
            ("s", "sort"),
            ("/", "filter"),
            ("?", "help"),
        )
    return one_line(console, text, width)


def _keys(*pairs: tuple[str, str]) -> Text:
    return join([Text.assemble((key, STRONG), " ", (does, DIM)) for key, does in pairs])
