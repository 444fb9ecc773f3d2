"""Messages of flows as format version 1 had them: distances of all records were taken at once, as
one number, so that one below zero borrowed from the next record.  Later each is by itself."""

from __future__ import annotations

from array import array

from hatrace.capture import columns
from hatrace.capture.format import KINDS, is_packed
from hatrace.model.columns import BORN, GONE, LANE, OPTIONAL, SINCE_BORN, WORDS, Columns, number
from hatrace.model.flow import LAYOUT


def upgrade(topic: str, data: bytes) -> tuple[str, bytes]:
    """A message as version 2 has it; raises ValueError."""
    if topic not in KINDS or not is_packed(KINDS[topic]):
        return topic, data
    matched, began, words = columns.joined(data)
    return topic, columns.pack(Columns.of(_records(words, began)), matched)


def _records(words: list[bytes], began: int) -> bytes:
    size = len(words[0])
    most = (1 << 8 * size) - 1
    numbers = [number(word) for word in words]
    gone = _sums(numbers[GONE] + began, 8 * size)
    born = gone - numbers[BORN]
    numbers[GONE], numbers[BORN] = gone, born
    ones = most // ((1 << LANE) - 1)
    for bit, index in enumerate(OPTIONAL):
        there = numbers[WORDS] >> bit & ones
        mask = (there << LANE) - there
        if bit < len(SINCE_BORN):
            numbers[index] += born & mask
        else:
            numbers[index] = (gone & mask) - numbers[index]
    lanes = array("Q", bytes(size // 8 * LAYOUT.size))
    for index, column in enumerate(numbers[:WORDS]):
        lanes[index::WORDS] = array("Q", (column & most).to_bytes(size, "little"))
    return lanes.tobytes()


def _sums(column: int, bits: int) -> int:
    """Each record's value added to all that follow."""
    step = LANE
    while step < bits:
        column = column + (column << step) & (1 << bits) - 1
        step *= 2
    return column
