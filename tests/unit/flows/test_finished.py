"""Finished flows in bulk: the right ones are picked, the layout is the model's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hatrace.flows.finished import ALIKE, FEW, FEWEST, LOOKS, Want, chosen
from hatrace.model.columns import Columns
from hatrace.model.flow import Flag, Flow
from tests import factories as f


def all_of(*indexes: int) -> Callable[[int], Want]:
    return lambda index: Want.ALL if index in indexes else Want.NONE


def like_checks(_index: int) -> Want:
    return Want.LIKE_CHECKS


def test_only_wanted_targets_are_unpacked_in_their_order() -> None:
    flows = [f.flow(target=n % 5) for n in range(20)]
    picked = list(chosen(f.columns(flows), all_of(1, 3)))
    assert picked == [flow for flow in flows if flow.target in (1, 3)]
    assert all(isinstance(flow, Flow) for flow in picked)


def test_each_index_is_asked_about_once_a_batch() -> None:
    asked: list[int] = []

    def none(index: int) -> Want:
        asked.append(index)
        return Want.NONE

    assert not list(chosen(f.columns(f.flow(target=n % 3) for n in range(99)), none))
    assert sorted(asked) == [0, 1, 2]


@pytest.mark.parametrize(
    ("flow", "picked"),
    [
        (f.tcp_check(), True),
        (f.http_check(), True),
        (f.refused(), True),
        (f.ended(f.flow(sent_bytes=100, received_bytes=200)), False),
        (f.ended(f.flow(sent_bytes=100), flags=Flag.RST_RECEIVED), True),
        (f.ended(f.flow(sent_bytes=100_000), flags=Flag.RST_SENT), False),
        (f.ended(f.flow(received_bytes=1 << 20), flags=Flag.RST_SENT), False),
    ],
)
def test_among_sessions_only_what_ends_as_a_check_is_looked_at(flow: Flow, picked: bool) -> None:
    assert bool(list(chosen(f.columns([flow]), like_checks))) is picked


def test_sessions_cannot_crowd_out_silent_checks() -> None:
    loud = [f.http_check(request=n) for n in range(1, LOOKS + 50)]
    silent = f.tcp_check()
    picked = list(chosen(f.columns([*loud, silent]), like_checks))
    assert picked == [*loud[:LOOKS], silent]


def test_what_many_sent_is_no_check_and_crowds_out_none() -> None:
    sessions = [f.http_check(request=80) for _ in range(ALIKE + 1)]
    check = f.http_check(request=60)
    picked = list(chosen(f.columns([*sessions, check, *sessions]), like_checks))
    assert picked == [check]


def test_what_is_rarest_is_looked_at_first() -> None:
    sessions = [f.http_check(request=80 + n // 2) for n in range(2 * LOOKS)]
    check = f.http_check(request=60)
    picked = list(chosen(f.columns([*sessions, check]), like_checks))
    assert len(picked) == LOOKS
    assert picked[-1] == check


def test_each_target_has_its_share() -> None:
    many = 2 * LOOKS // FEWEST
    flows = [f.http_check(request=n, target=n % many) for n in range(1, 4 * LOOKS)]
    picked = list(chosen(f.columns(flows), like_checks))
    assert {flow.target for flow in picked} == set(range(many))
    assert len(picked) <= many * FEWEST


def test_of_an_undecided_target_the_first_few_are_picked() -> None:
    flows = [f.flow(target=n % 2, sent_bytes=n) for n in range(4 * FEW)]
    few = {0: Want.FEW, 1: Want.NONE}
    assert list(chosen(f.columns(flows), few.__getitem__)) == flows[: 2 * FEW : 2]


def test_of_none_none_is_picked() -> None:
    assert not list(chosen(Columns(), all_of(0, 1)))
