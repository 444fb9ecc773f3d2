"""An agent of HAProxy's SPOE: it acknowledges every message and sets one variable.

Source: HAProxy's doc/SPOE.txt, "SPOP specification": a frame is its length (4 bytes), a type, 4
bytes of flags, two numbers (stream, frame), a payload; numbers from 240 on take several bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from asyncio import StreamReader, StreamWriter

HELLO, DISCONNECT, NOTIFY = 1, 2, 3
AGENT_HELLO, AGENT_DISCONNECT, ACK = 101, 102, 103
FIN = struct.pack("!I", 1)
UINT32, STRING = b"\x03", b"\x08"
MOST_BYTES = 16_380


def number(value: int) -> bytes:
    """A variable-length integer."""
    if value < 240:
        return bytes([value])
    out, value = bytearray([value & 15 | 240]), (value - 240) >> 4
    while value >= 128:
        out.append(value & 127 | 128)
        value = (value - 128) >> 7
    return bytes([*out, value])


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """(value, where the next thing begins)."""
    value, shift = data[at], 4
    at += 1
    if value < 240:
        return value, at
    while True:
        byte = data[at]
        at += 1
        value += byte << shift
        shift += 7
        if byte < 128:
            return value, at


def text(value: str) -> bytes:
    return number(len(value)) + value.encode()


def frame(kind: int, stream: int, frame_id: int, payload: bytes) -> bytes:
    body = bytes([kind]) + FIN + number(stream) + number(frame_id) + payload
    return struct.pack("!I", len(body)) + body


GREETING = (
    text("version") + STRING + text("2.0")
    + text("max-frame-size") + UINT32 + number(MOST_BYTES)
    + text("capabilities") + STRING + text("pipelining")
)  # fmt: skip
FAREWELL = text("status-code") + UINT32 + number(0) + text("message") + STRING + text("")
SET_OK = bytes([1, 3, 0]) + text("ok") + UINT32 + number(1)
"""Action set-var with three arguments: scope process, a name, a value."""


def answer(data: bytes) -> bytes:
    """To one frame without its length; empty: none is due."""
    stream, at = read_number(data, 5)
    frame_id, _ = read_number(data, at)
    if data[0] == HELLO:
        return frame(AGENT_HELLO, 0, 0, GREETING)
    if data[0] == NOTIFY:
        return frame(ACK, stream, frame_id, SET_OK)
    return frame(AGENT_DISCONNECT, 0, 0, FAREWELL) if data[0] == DISCONNECT else b""


async def spop(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Until HAProxy says that it disconnects, or leaves."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            data = await reader.readexactly(size)
            writer.write(answer(data))
            await writer.drain()
            if data[0] == DISCONNECT:
                return
