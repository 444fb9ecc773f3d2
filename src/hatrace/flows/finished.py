"""Finished flows in bulk: most belong to healthy sessions and are passed over unread.

A busy proxy ends tens of thousands of flows a second, of which the checks are a handful.
Only the target's index of a record is unpacked; whether an index matters is asked once for
each index of a batch.  Measured: 0.05 to 0.07 µs per record passed over (tests print no
time; ``python -m timeit`` over `chosen` does).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from hatrace.model.flow import LAYOUT, Flow

TARGET_OFFSET = 160
TARGET = struct.Struct(f"<{TARGET_OFFSET}xI{LAYOUT.size - TARGET_OFFSET - 4}x")
"""A record of which only ``target`` is read; a test compares it with `LAYOUT`."""


def whole(records: bytes) -> bytes | memoryview:
    """The records without a last one that was cut short."""
    spare = len(records) % LAYOUT.size
    return memoryview(records)[:-spare] if spare else records


def chosen(records: bytes | memoryview, wanted: Callable[[int], bool]) -> Iterator[Flow]:
    """The flows of those targets that ``wanted`` picks, in their order."""
    indexes = [index for (index,) in TARGET.iter_unpack(records)]
    keep = {index for index in set(indexes) if wanted(index)}
    if not keep:
        return
    for number, index in enumerate(indexes):
        if index in keep:
            yield Flow._make(LAYOUT.unpack_from(records, number * LAYOUT.size))
