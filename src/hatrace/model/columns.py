"""Finished flows as columns: the first words of all flows together, then the second ones ...

`struct flow` is 23 words of 8 bytes.  Times become distances, as most are near one another:

    born, fin, closed, released    until gone
    connect, established           since born

modulo 2**64, each flow's by itself.  A time that has not happened (0) stays 0; word 23 says which
have: bit 0 connect, then established, fin, closed, released.  ``gone_ns`` and ``moved_ns`` stay.

The kernel hands finished flows over so (``struct block``, bpf/flow.h): a capture needs them so
(capture/columns.py), and what reads one field of all finds it in one piece.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from hatrace.model.flow import FIELDS, LAYOUT, Flow, flows

WORD_BYTES = 8
WORDS = LAYOUT.size // WORD_BYTES
"""Of a flow; its columns are one more."""
LANE = 64
"""Bits from one flow to the next in a column's number."""

_NAMES = [field.name for field in FIELDS]
BORN, GONE = _NAMES.index("born_ns"), _NAMES.index("gone_ns")
SINCE_BORN = ("connect_ns", "established_ns")
UNTIL_GONE = ("fin_ns", "closed_ns", "released_ns")
OPTIONAL = tuple(_NAMES.index(name) for name in (*SINCE_BORN, *UNTIL_GONE))
"""Words of the times which may be 0; up to `gone_ns` each field is one word."""


@dataclass(frozen=True, slots=True)
class Columns:
    """``words``: `WORDS` + 1 columns of 8 bytes a flow.  Iterated, it gives its flows."""

    words: tuple[bytes, ...] = (b"",) * (WORDS + 1)

    def __len__(self) -> int:
        return len(self.words[0]) // WORD_BYTES

    def __iter__(self) -> Iterator[Flow]:
        return flows(self.records())

    @classmethod
    def of(cls, records: bytes | memoryview) -> Self:
        """Of packed flows; raises ValueError when the last one is cut short."""
        count, rest = divmod(len(records), LAYOUT.size)
        if rest:
            raise ValueError(f"{len(records)} bytes are no whole number of flow records")
        lanes = array("Q", bytes(records))
        words = [lanes[index::WORDS].tobytes() for index in range(WORDS)]
        return cls(Numbers(count).distances(words))

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """All flows of these, in their order."""
        return cls(tuple(map(b"".join, zip(*(part.words for part in parts), strict=True))))

    def records(self) -> bytes:
        """The flows packed one by one."""
        lanes = array("Q", bytes(len(self) * LAYOUT.size))
        for index, word in enumerate(Numbers(len(self)).times(self.words)):
            lanes[index::WORDS] = array("Q", word)
        return lanes.tobytes()

    def values(self, name: str) -> list[int]:
        """One field of all flows: any number that is no time."""
        code, word, offset = _PLACES[name]
        rows: Any = memoryview(self.words[word])  # whose cast() is typed for literal codes only
        size = struct.calcsize(code)
        values: list[int] = rows.cast(code)[offset // size :: WORD_BYTES // size].tolist()
        return values

    def picked(self, numbers: Sequence[int]) -> Self:
        """Some of them, counted from 0."""
        columns = [memoryview(word).cast("Q") for word in self.words]
        return type(self)(tuple(array("Q", [c[n] for n in numbers]).tobytes() for c in columns))


def _places() -> dict[str, tuple[str, int, int]]:
    """Code, word, and offset in the word, of each field which is a number, but of times."""
    found, offset = {}, 0
    for field in FIELDS:
        if field.unit != "ns" and not field.code.endswith("s"):
            found[field.name] = (field.code, *divmod(offset, WORD_BYTES))
        offset += struct.calcsize(field.code)
    return found


_PLACES = _places()


class Numbers:
    """Arithmetic on columns of ``count`` flows, each as one large number, its flows 64 bits apart:
    Python adds and subtracts numbers of any size, all flows at once.

    Each flow's sum and difference is its own, modulo 2**64: top bits are left out, lest they carry
    into the next flow, and put in afterwards (Knuth, TAOCP 7.1.3, on broken words)."""

    def __init__(self, count: int) -> None:
        self._bytes = WORD_BYTES * count
        self._tops = number((1 << LANE - 1).to_bytes(WORD_BYTES, "little") * count)
        self._ones = self._tops >> LANE - 1
        self._low = (1 << LANE * count) - 1 ^ self._tops

    def plus(self, one: int, other: int) -> int:
        return (one & self._low) + (other & self._low) ^ (one ^ other) & self._tops

    def minus(self, one: int, other: int) -> int:
        tops = self._tops
        return ((one | tops) - (other & self._low)) ^ (one ^ other ^ tops) & tops

    def word(self, column: int) -> bytes:
        return column.to_bytes(self._bytes, "little")

    def distances(self, words: list[bytes]) -> tuple[bytes, ...]:
        """The words with times as distances, and the one that says which times there are."""
        born, gone = number(words[BORN]), number(words[GONE])
        happened = 0
        for bit, index in enumerate(OPTIONAL):
            time = number(words[index])
            there = self._present(time)
            happened |= there << bit
            mask = (there << LANE) - there
            since_born = bit < len(SINCE_BORN)
            distance = (
                self.minus(time, born & mask) if since_born else self.minus(gone & mask, time)
            )
            words[index] = self.word(distance)
        words[BORN] = self.word(self.minus(gone, born))
        return (*words, self.word(happened))

    def times(self, columns: tuple[bytes, ...]) -> list[bytes]:
        """The other way round."""
        *words, last = columns
        happened, gone = number(last), number(words[GONE])
        born = self.minus(gone, number(words[BORN]))
        for bit, index in enumerate(OPTIONAL):
            there = happened >> bit & self._ones
            mask = (there << LANE) - there
            distance, since_born = number(words[index]), bit < len(SINCE_BORN)
            time = (
                self.plus(distance, born & mask)
                if since_born
                else self.minus(gone & mask, distance)
            )
            words[index] = self.word(time)
        words[BORN] = self.word(born)
        return words

    def _present(self, column: int) -> int:
        """1 for each flow whose value is not 0: adding 2**63 - 1 carries into the top bit."""
        low = self._low
        return ((column & low) + low | column) >> LANE - 1 & self._ones


def number(word: bytes) -> int:
    """A column as a number."""
    return int.from_bytes(word, "little")
