"""How the lab's clients behave, one coroutine each, over TCP or a UNIX socket.

A behaviour has one connection, what to ``send``, and ``seconds``, whose meaning it says; when
it returns, the connection is closed.
"""

from __future__ import annotations

import asyncio
import itertools
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

from hatrace.lab.servers import CHUNK_BYTES, abort


async def close(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends, reads an answer, stays ``seconds``, closes."""
    writer.write(send)
    await reader.read(CHUNK_BYTES)
    await asyncio.sleep(seconds)


async def keep_alive(
    reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float
) -> None:
    """Sends and reads ten times with ``seconds`` between, then closes."""
    for _ in range(10):
        writer.write(send)
        if not await reader.read(CHUNK_BYTES):
            return
        await asyncio.sleep(seconds)


async def half_close(
    reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float
) -> None:
    """Sends, ends its sending half, reads to the end."""
    writer.write(send)
    writer.write_eof()
    while await reader.read(CHUNK_BYTES):
        pass


async def hold(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends and then does nothing for ``seconds`` (0: until it is ended)."""
    writer.write(send)
    await asyncio.sleep(seconds or float("inf"))


async def deaf(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends and never reads, for ``seconds`` (0: until it is ended): its window closes."""
    assert isinstance(writer.transport, asyncio.Transport)
    writer.transport.pause_reading()
    writer.write(send)
    await asyncio.sleep(seconds or float("inf"))


async def reset(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends, reads an answer, and aborts."""
    writer.write(send)
    await reader.read(CHUNK_BYTES)
    abort(writer)


async def leave(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends and closes without reading; with nothing to send it closes at once."""
    writer.write(send)
    await writer.drain()


async def read(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends, and reads until the peer ends."""
    writer.write(send)
    while await reader.read(CHUNK_BYTES):
        pass


async def talk(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends and reads back, every 0.2 s for ``seconds`` (0: until the peer ends)."""
    ends = asyncio.get_running_loop().time() + (seconds or float("inf"))
    while asyncio.get_running_loop().time() < ends:
        writer.write(send)
        if not await reader.read(CHUNK_BYTES):
            return
        await asyncio.sleep(0.2)


async def upgrade(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Becomes a WebSocket, then says a word every ``seconds`` (0: never) until the peer ends."""
    writer.write(send)
    while await reader.read(CHUNK_BYTES):
        await asyncio.sleep(seconds or float("inf"))
        writer.write(b"word")


async def slow_read(
    reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float
) -> None:
    """Sends, and reads 1 kB every ``seconds``."""
    writer.write(send)
    while await reader.read(1024):
        await asyncio.sleep(seconds)


async def slow_send(
    reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float
) -> None:
    """Sends every ``seconds``, also when the peer has ended its half."""
    while True:
        writer.write(send)
        await writer.drain()
        await asyncio.sleep(seconds)


async def dictate(reader: StreamReader, writer: StreamWriter, send: bytes, seconds: float) -> None:
    """Sends its first line, then the others again and again, ``seconds`` apart; reads along."""
    first, *others = send.splitlines(keepends=True)
    for line in itertools.chain([first], itertools.cycle(others)):
        writer.write(line)
        if not await reader.read(CHUNK_BYTES):
            return
        await asyncio.sleep(seconds)


Behaviour = Callable[[StreamReader, StreamWriter, bytes, float], Awaitable[None]]
CALLING: dict[str, Behaviour] = {
    "close": close,
    "keep-alive": keep_alive,
    "half-close": half_close,
    "hold": hold,
    "deaf": deaf,
    "reset": reset,
    "leave": leave,
    "read": read,
    "talk": talk,
    "upgrade": upgrade,
    "slow-read": slow_read,
    "slow-send": slow_send,
    "dictate": dictate,
}
