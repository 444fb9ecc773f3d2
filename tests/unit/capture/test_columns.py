from __future__ import annotations

import random

import pytest

from hatrace.capture import columns
from tests import factories as make


def some_records(count: int) -> bytes:
    return make.records(make.ended(make.flow(n / 7), sent_bytes=n) for n in range(count))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 1000])
def test_what_was_packed_comes_back(count: int) -> None:
    records = some_records(count)
    assert columns.unpack(columns.pack(records, count + 5)) == (records, count + 5)


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
def test_any_bytes_come_back(zeros: float) -> None:
    """Times in no order, of which some have not happened, borrow from one another."""
    chance = random.Random(zeros)
    words = columns.RECORD_BYTES // 8 * 97
    records = b"".join(
        bytes(8) if chance.random() < zeros else chance.randbytes(8) for _ in range(words)
    )
    assert columns.unpack(columns.pack(records, 0))[0] == records


def test_a_time_at_its_base_is_not_taken_for_one_that_has_not_happened() -> None:
    flow = make.ended(make.flow())
    same = flow._replace(connect_ns=flow.born_ns, released_ns=flow.gone_ns, fin_ns=flow.gone_ns)
    never = flow._replace(connect_ns=0, released_ns=0, fin_ns=0)
    records = make.records([same, never, same])
    assert columns.unpack(columns.pack(records, 3))[0] == records


def test_what_never_changes_is_stored_once() -> None:
    record = make.ended(make.flow()).pack()
    planes = columns.RECORD_BYTES + 8
    assert len(columns.pack(record * 1000, 0)) == columns.HEADER.size + planes


def test_distances_need_fewer_bytes_than_times() -> None:
    """One a second, each as long as the others: what is left is the time between two ends."""
    flows = [make.ended(make.flow(n)) for n in range(1000)]
    assert flows[0].gone_ns < flows[1].gone_ns
    fixed = make.records(flow._replace(id=1, lport=1, moved_ns=0) for flow in flows)
    rest = columns.HEADER.size + columns.RECORD_BYTES + 8
    assert len(columns.pack(fixed, 0)) < rest + 6 * len(flows)


def test_a_record_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        columns.pack(some_records(2)[:-1], 0)


@pytest.mark.parametrize("cut", [0, 1, columns.HEADER.size - 1, columns.HEADER.size, 100])
def test_a_message_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="flows"):
        columns.unpack(columns.pack(some_records(9), 9)[:cut])


def test_a_lying_count_costs_no_memory() -> None:
    every_plane_constant = bytes(columns.WORDS + 1)
    message = columns.HEADER.pack(0, 0, 2**32 - 1, every_plane_constant)
    message += bytes(columns.RECORD_BYTES + 8)
    with pytest.raises(ValueError, match="larger than any"):
        columns.unpack(message)
