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


def test_any_bytes_come_back() -> None:
    records = random.Random(1).randbytes(columns.RECORD_BYTES * 97)
    assert columns.unpack(columns.pack(records, 0))[0] == records


def test_constant_words_are_stored_once() -> None:
    record = make.flow().pack()
    assert len(columns.pack(record * 1000, 0)) == columns.HEADER.size + columns.RECORD_BYTES


def test_a_record_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        columns.pack(some_records(2)[:-1], 0)


@pytest.mark.parametrize("cut", [0, 1, columns.HEADER.size - 1, columns.HEADER.size, 100])
def test_a_message_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="flows"):
        columns.unpack(columns.pack(some_records(9), 9)[:cut])


def test_a_lying_count_costs_no_memory() -> None:
    every_word_constant = (1 << columns.WORDS) - 1
    message = columns.HEADER.pack(0, 2**32 - 1, every_word_constant) + bytes(columns.RECORD_BYTES)
    with pytest.raises(ValueError, match="larger than any"):
        columns.unpack(message)
