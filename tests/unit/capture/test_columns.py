from __future__ import annotations

import pytest

from hatrace.capture import columns
from hatrace.model.columns import WORDS, Columns
from hatrace.model.flow import LAYOUT
from tests import factories as make
from tests.unit.model.test_columns import random_records

CONSTANT = columns.HEADER.size + LAYOUT.size + 8
"""Bytes of a message of which nothing varies."""


def some(count: int) -> Columns:
    return make.columns(make.ended(make.flow(n / 7), sent_bytes=n) for n in range(count))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 1000])
def test_what_was_packed_comes_back(count: int) -> None:
    flows = some(count)
    assert columns.unpack(columns.pack(flows, count + 5)) == (flows, count + 5)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
def test_any_bytes_come_back(zeros: float) -> None:
    """Times in no order borrow from one another."""
    flows = Columns.of(random_records(zeros))
    assert columns.unpack(columns.pack(flows, 0))[0] == flows


def test_what_never_changes_is_stored_once() -> None:
    flows = Columns.of(make.ended(make.flow()).pack() * 1000)
    assert len(columns.pack(flows, 0)) == CONSTANT


def test_distances_need_fewer_bytes_than_times() -> None:
    """One a second, each as long as the others: what is left is the time between two ends."""
    flows = [make.ended(make.flow(n)) for n in range(1000)]
    assert flows[0].gone_ns < flows[1].gone_ns
    fixed = make.columns(flow._replace(id=1, lport=1, moved_ns=0) for flow in flows)
    assert len(columns.pack(fixed, 0)) < CONSTANT + 6 * len(flows)


@pytest.mark.parametrize("cut", [0, 1, columns.HEADER.size - 1, columns.HEADER.size, 100])
def test_a_message_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="flows"):
        columns.unpack(columns.pack(some(9), 9)[:cut])


def test_a_lying_count_costs_no_memory() -> None:
    every_plane_constant = bytes(WORDS + 1)
    message = columns.HEADER.pack(0, 0, 2**32 - 1, every_plane_constant)
    message += bytes(LAYOUT.size + 8)
    with pytest.raises(ValueError, match="larger than any"):
        columns.unpack(message)
