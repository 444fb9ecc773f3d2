"""Keys: bytes of a terminal into key names, and what each key does to the view.

Names: ``up down left right pgup pgdn home end enter esc backspace``, or the character itself.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

_SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "OA": "up",
    "OB": "down",
    "OC": "right",
    "OD": "left",
    "[5~": "pgup",
    "[6~": "pgdn",
    "[H": "home",
    "[F": "end",
    "[1~": "home",
    "[4~": "end",
    "OH": "home",
    "OF": "end",
}
_CONTROLS = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace"}


class KeyReader:
    """Decodes what was read so far; a sequence cut in two by a slow line is put together.

    A lone ESC byte is the Escape key once `flush` is called with nothing behind it.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete with these bytes."""
        text, self._rest = self._rest + self._decode(data), ""
        keys: list[str] = []
        while text:
            key, used = _next_key(text)
            if not used:
                self._rest = text
                break
            if key:
                keys.append(key)
            text = text[used:]
        return keys

    def flush(self) -> list[str]:
        """Nothing followed: an ESC that waits was the key; a torn sequence is dropped."""
        rest, self._rest = self._rest, ""
        return ["esc"] if rest == "\x1b" else []


def _next_key(text: str) -> tuple[str, int]:
    """The first key and its length; length 0: more has to come; key empty: to be ignored."""
    if text[0] != "\x1b":
        key = _CONTROLS.get(text[0], text[0])
        return (key if key.isprintable() else ""), 1
    if len(text) == 1:
        return "", 0
    if text[1] not in "[O":
        return "esc", 1
    for end, char in enumerate(text[2:], 2):
        if "@" <= char <= "~":  # the final byte of a control sequence (ECMA-48, 5.4)
            return _SEQUENCES.get(text[1 : end + 1], ""), end + 1
    return "", 0


class Tab(StrEnum):
    """Which table is shown first."""

    TARGETS = "targets"
    CHECKS = "checks"
    SOCKETS = "sockets"


class Sort(StrEnum):
    """What targets are sorted by; ``role`` groups them, the fullest first in each group."""

    ROLE = "role"
    HELD = "held"
    OPEN = "open"
    NEW = "new/s"
    ENDED = "ended/s"
    FAILED = "failed"
    OLDEST = "oldest"
    NAME = "name"


Key = tuple[str, str]
"""`Finding.key`."""


@dataclass(frozen=True, slots=True)
class ViewState:
    """What the user chose to look at."""

    tab: Tab = Tab.TARGETS
    sort: Sort = Sort.ROLE
    filter: str = ""
    typing: bool = False
    """The filter is being typed."""
    selected: Key | None = None
    """A finding; None: the first."""
    evidence: bool = False
    help: bool = False
    paused: bool = False
    scroll: int = 0
    """Lines of the page, or rows of the first table, that are above the window."""
    quit: bool = False


def press(state: ViewState, key: str, findings: tuple[Key, ...], scroll_limit: int) -> ViewState:
    """The view after a key; ``scroll_limit`` is how far what is shown can be scrolled."""
    if state.typing:
        return _typed(state, key)
    if key in _SCROLLS or (key in ("up", "down") and not _selecting(state, findings)):
        return _scrolled(state, key, scroll_limit)
    if key in ("up", "down"):
        return _select(state, key, findings)
    if key in ("esc", "left", "backspace"):
        return _back(state)
    if key in ("enter", "right"):
        return _open(state, findings)
    action = _ACTIONS.get(key)
    return action(state) if action else state


_SCROLLS = {"pgup": -10, "pgdn": 10, "home": -(10**9), "end": 10**9}


def _selecting(state: ViewState, findings: tuple[Key, ...]) -> bool:
    """Whether up and down choose a finding, rather than scroll."""
    return bool(findings) and not state.evidence and not state.help


def _scrolled(state: ViewState, key: str, limit: int) -> ViewState:
    lines = {"up": -1, "down": 1}.get(key) or _SCROLLS[key]
    return replace(state, scroll=max(0, min(limit, state.scroll + lines)))


def _select(state: ViewState, key: str, findings: tuple[Key, ...]) -> ViewState:
    now = findings.index(state.selected) if state.selected in findings else 0
    now = max(0, min(len(findings) - 1, now + (1 if key == "down" else -1)))
    return replace(state, selected=findings[now])


def _open(state: ViewState, findings: tuple[Key, ...]) -> ViewState:
    if not findings or state.evidence or state.help:
        return state
    selected = state.selected if state.selected in findings else findings[0]
    return replace(state, selected=selected, evidence=True, scroll=0)


def _back(state: ViewState) -> ViewState:
    """One step: out of help, else out of the evidence, else the filter is dropped."""
    if state.help:
        return replace(state, help=False, scroll=0)
    if state.evidence:
        return replace(state, evidence=False, scroll=0)
    return replace(state, filter="", scroll=0)


def _typed(state: ViewState, key: str) -> ViewState:
    if key == "enter":
        return replace(state, typing=False)
    if key == "esc":
        return replace(state, typing=False, filter="", scroll=0)
    if key == "backspace":
        return replace(state, filter=state.filter[:-1], scroll=0)
    if len(key) == 1:
        return replace(state, filter=state.filter + key, scroll=0)
    return state


def _next_tab(state: ViewState) -> ViewState:
    tabs = list(Tab)
    return replace(state, tab=tabs[(tabs.index(state.tab) + 1) % len(tabs)], scroll=0)


def _next_sort(state: ViewState) -> ViewState:
    sorts = list(Sort)
    return replace(state, sort=sorts[(sorts.index(state.sort) + 1) % len(sorts)], scroll=0)


_ACTIONS: dict[str, Callable[[ViewState], ViewState]] = {
    "q": lambda state: replace(state, quit=True),
    "p": lambda state: replace(state, paused=not state.paused),
    " ": lambda state: replace(state, paused=not state.paused),
    "s": _next_sort,
    "t": _next_tab,
    "/": lambda state: replace(state, typing=True, evidence=False, help=False, scroll=0),
    "?": lambda state: replace(state, help=not state.help, scroll=0),
    "h": lambda state: replace(state, help=not state.help, scroll=0),
}
