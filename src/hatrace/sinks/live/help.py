"""The help page: keys, then the words of the tables, then what this run cannot see."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hatrace.sinks.live.frame import Frame
from hatrace.sinks.live.paint import DIM, STRONG, word

_KEYS = (
    ("q", "quit"),
    ("up, down", "choose a finding; without findings, or on a page: scroll"),
    ("Enter", "the finding's evidence: sockets, arithmetic, cause, next steps, how to verify"),
    ("Esc", "back; in the overview: drop the filter"),
    ("PgUp, PgDn, Home, End", "scroll the first table, or the page"),
    ("t", "put the next table first: targets, checks, command sockets"),
    ("s", "sort the targets by the next column"),
    ("/", "filter the tables by role, name, address or pid; findings are never hidden"),
    ("p, space", "pause: the picture stands still, events are still counted, nothing is lost"),
    ("+, -", "in a replay: faster, slower; space pauses the replay itself"),
    ("Ctrl-Z", "suspend; events wait in the kernel until fg, so not for long"),
)
_WORDS = (
    ("open", "sockets the kernel has now"),
    ("held", "suspects (old, half-closed or dead) which their owner has not let go"),
    ("new/s, ended/s", "connections begun and ended per second between the last two totals"),
    ("failed", "ended without ever being established"),
    ("oldest", "age of the oldest held suspect"),
    ("p50", "half of the ended connections lived less than this (in steps of four)"),
    ("every, seen every", "rhythm of the checks as configured, and as measured"),
    ("slots", "connections to a command-line socket, of those it serves at once"),
    ("waiting", "connections which it has not accepted: their clients get no answer"),
    ("lost", "events which did not fit into the kernel's buffers; open sockets stay counted"),
    ("age 3m+", "at least: the socket is older than hatrace"),
)


def help_page(frame: Frame) -> Group:
    blind = [word(f"- {spot}") for spot in frame.header.blind_spots] or [Text("- nothing known")]
    return Group(
        Text("Keys", STRONG),
        _grid(_KEYS),
        Text("\nWords", STRONG),
        _grid(_WORDS),
        word(f"\nWhat rung {frame.header.rung} cannot see".strip(), STRONG),
        *blind,
    )


def _grid(pairs: tuple[tuple[str, str], ...]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in pairs:
        grid.add_row(Text(f"  {name}"), Text(text, DIM))
    return grid
