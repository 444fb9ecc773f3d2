"""The records of an MCAP file which may be torn or damaged: what is whole, and where it is not."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard
from mcap.exceptions import InvalidMagic, McapError
from mcap.records import Chunk, DataEnd, McapRecord
from mcap.stream_reader import StreamReader, breakup_chunk

LIMIT_BYTES = 1 << 29
"""Larger records, or chunks which unpack to more, are taken for damage (or for malice)."""

TORN = "it has no end: hatrace was killed, the disk was full, or it is still recording"

_BROKEN = (McapError, struct.error, ValueError, OverflowError, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class Damage:
    """Something is missing here."""

    why: str
    end: bool
    """Nothing after it can be read."""


class _Bounded:
    """Never asked for more than the file has: a damaged length must not cost all memory.

    Nor does it go through zeros, as a power failure may leave them: to the reader each 9 are a
    record to be skipped (opcode 0, which the specification rules out), and 20 MB take 10 s.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = os.fstat(stream.fileno()).st_size

    def read(self, length: int) -> bytes:
        data = self._stream.read(min(length, self._left))
        self._left -= len(data)
        if length == 1 and data == b"\0":  # only an opcode is asked for alone
            raise ValueError("no record begins with 0")
        return data


def records(stream: IO[bytes]) -> Iterator[McapRecord | Damage]:
    """Everything before the summary; chunks broken up.  Raises InvalidMagic: no MCAP file."""
    bounded = cast(IO[bytes], _Bounded(stream))
    source = iter(StreamReader(bounded, emit_chunks=True, record_size_limit=LIMIT_BYTES).records)
    while True:
        try:
            record = next(source)
        except InvalidMagic:
            raise
        except (*_BROKEN, StopIteration):
            yield Damage(TORN, True)
            return
        if isinstance(record, DataEnd):
            return
        if isinstance(record, Chunk):
            yield from _chunk(record)
        else:
            yield record


def _chunk(chunk: Chunk) -> Iterator[McapRecord | Damage]:
    try:
        if _unpacked_bytes(chunk) > LIMIT_BYTES:
            raise ValueError("it would unpack to too much")
        inner = breakup_chunk(chunk, validate_crc=True)
    except _BROKEN as error:
        seconds = max(0, chunk.message_end_time - chunk.message_start_time) / 1e9
        yield Damage(f"a chunk of {seconds:.1f} s is damaged ({error})", False)
        return
    yield from inner


def _unpacked_bytes(chunk: Chunk) -> int:
    if chunk.compression != "zstd":
        return len(chunk.data)
    return max(zstandard.get_frame_parameters(chunk.data).content_size, chunk.uncompressed_size)
