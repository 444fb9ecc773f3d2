"""Bytes to keys, and what keys do to the view."""

from __future__ import annotations

import math

import pytest

from hatrace.sinks.live.keys import KeyReader, Sort, Tab, ViewState, press
from hatrace.sinks.live.pace import Pace

FINDINGS = (("check-leak", "a"), ("check-leak", "b"), ("stream-leak", "c"))


def pressed(*keys: str, state: ViewState | None = None, limit: int = 50) -> ViewState:
    state = state or ViewState()
    for key in keys:
        state = press(state, key, FINDINGS, limit)
    return state


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"qp", ["q", "p"]),
        (b"\x1b[A\x1bOB", ["up", "down"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", ["pgup", "pgdn", "home", "end"]),
        (b"\r\n\x7f", ["enter", "enter", "backspace"]),
        (b"\x1b[1;5A\x1b[200~x", ["x"]),
        (b"\x01\x1bx", ["esc", "x"]),
        ("ö".encode(), ["ö"]),
    ],
)
def test_bytes_to_keys(data: bytes, keys: list[str]) -> None:
    assert KeyReader().feed(data) == keys


def test_a_sequence_cut_in_two_is_put_together() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b") == []
    assert reader.feed(b"[") == []
    assert reader.feed(b"Bq\xc3") == ["down", "q"]
    assert reader.feed(b"\xb6") == ["ö"]


def test_escape_alone_is_a_key_once_nothing_follows() -> None:
    reader = KeyReader()
    assert reader.feed(b"\x1b") == []
    assert reader.flush() == ["esc"]
    assert reader.flush() == []


def test_arrows_choose_a_finding_and_stop_at_the_ends() -> None:
    assert pressed("down").selected == FINDINGS[1]
    assert pressed("down", "down", "down").selected == FINDINGS[2]
    assert pressed("down", "up", "up").selected == FINDINGS[0]


def test_enter_opens_the_chosen_finding_and_escape_closes_it() -> None:
    opened = pressed("down", "enter")
    assert (opened.evidence, opened.selected) == (True, FINDINGS[1])
    assert pressed("enter").selected == FINDINGS[0]
    assert not pressed("esc", state=opened).evidence


def test_arrows_scroll_a_page_and_the_table_where_nothing_is_to_choose() -> None:
    assert pressed("enter", "down", "down", "up").scroll == 1
    assert pressed("enter", "end").scroll == 50
    assert pressed("enter", "up").scroll == 0
    assert press(ViewState(), "down", (), 3).scroll == 1
    assert press(ViewState(), "enter", (), 3).evidence is False


def test_a_chosen_finding_that_is_gone_gives_way_to_the_first() -> None:
    lost = ViewState(selected=("gone", "x"))
    assert pressed("enter", state=lost).selected == FINDINGS[0]


def test_filter_takes_every_printable_key_as_text() -> None:
    state = pressed("/", *"web q/", "backspace", "enter")
    assert (state.filter, state.typing, state.quit) == ("web q", False, False)
    assert pressed("esc", state=state).filter == ""
    assert pressed("/", *"abc", "esc").filter == ""


def test_tabs_and_sorts_go_round() -> None:
    assert pressed("t").tab is Tab.CHECKS
    assert pressed(*"ttt").tab is Tab.TARGETS
    assert pressed("s").sort is Sort.HELD
    assert pressed(*"s" * len(Sort)).sort is Sort.ROLE


def test_pause_help_and_quit() -> None:
    assert pressed("p").paused and not pressed("p", "p").paused
    assert pressed("?").help and not pressed("?", "esc").help
    assert pressed("q").quit


def test_pace_keys() -> None:
    pace = Pace()
    assert pace.press("+") and pace.speed == 2
    assert pace.press("-") and pace.press("-") and pace.speed == 0.5
    for _ in range(20):
        pace.press("+")
    assert math.isinf(pace.speed) and str(pace) == "max"
    pace.press("-")
    assert pace.speed == 64
    pace.press(" ")
    assert str(pace) == "x64 PAUSED"
    assert not pace.press("q")
