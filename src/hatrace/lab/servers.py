"""How the lab's backend servers behave, one coroutine each.

A behaviour has one accepted connection (`asyncio` streams) and ``seconds``, whose meaning it
says; when it returns, the connection is closed.  `ACCEPTING` ones are given the listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

CHUNK_BYTES = 65536
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n%s\r\nok\n"
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 8192\r\nConnection: close\r\n\r\n" + bytes(8192)
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: close sends RST."""
PACE_S = 0.05
"""Between two chunks of a stream."""


async def echo(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Sends back what comes, until the peer ends; after ``seconds`` each time."""
    while data := await reader.read(CHUNK_BYTES):
        await asyncio.sleep(seconds)
        writer.write(data)
        await writer.drain()


async def http(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers one request with 200 after ``seconds``, and closes."""
    if await _request(reader):
        await asyncio.sleep(seconds)
        writer.write(OK % b"Connection: close\r\n")
        await writer.drain()


async def http_large(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers one request with 200 and 8 kB, and closes."""
    if await _request(reader):
        writer.write(LARGE)
        await writer.drain()


async def http_keep_alive(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers every request with 200 after ``seconds``, until the peer ends."""
    while await _request(reader):
        await asyncio.sleep(seconds)
        writer.write(OK % b"")
        await writer.drain()


async def http_error(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers one request with 500, and closes: a check that fails, and behaves."""
    if await _request(reader):
        writer.write(ERROR)
        await writer.drain()


async def agent(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """An agent check's server: says ``up 100%`` and closes."""
    writer.write(b"up 100%\n")
    await writer.drain()


async def silent(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Reads everything, answers nothing, closes when the peer ends."""
    while await reader.read(CHUNK_BYTES):
        pass


async def half_close(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers the first data, ends its sending half, waits for the peer's end."""
    writer.write(await reader.read(CHUNK_BYTES))
    writer.write_eof()
    while await reader.read(CHUNK_BYTES):
        pass


async def reset(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Aborts the connection after the first data."""
    await reader.read(CHUNK_BYTES)
    abort(writer)


async def close(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Closes at once."""


async def stream(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Sends 1 kB every 50 ms for ``seconds`` (0: until the peer ends)."""
    ends = asyncio.get_running_loop().time() + (seconds or float("inf"))
    while not reader.at_eof() and asyncio.get_running_loop().time() < ends:
        writer.write(bytes(1024))
        await writer.drain()
        await asyncio.sleep(PACE_S)


async def hold(listener: socket.socket, most: int) -> None:
    """Accepts and keeps what it accepted, whatever its peer does; the fds are never closed."""
    kept: list[socket.socket] = []
    while len(kept) < most:
        kept.append((await asyncio.get_running_loop().sock_accept(listener))[0])
    await asyncio.Event().wait()


async def answer_and_keep(listener: socket.socket, most: int) -> None:
    """Answers one request of each connection with 200, and never looks at it again."""
    loop = asyncio.get_running_loop()
    kept: list[socket.socket] = []
    while len(kept) < most:
        link, _ = await loop.sock_accept(listener)
        with contextlib.suppress(OSError):
            await loop.sock_recv(link, CHUNK_BYTES)
            await loop.sock_sendall(link, OK % b"")
        kept.append(link)
    await asyncio.Event().wait()


async def stop_accepting(listener: socket.socket, most: int) -> None:
    """Answers ``most`` requests with 200, closes each, and accepts no more."""
    loop = asyncio.get_running_loop()
    for _ in range(most):
        link, _ = await loop.sock_accept(listener)
        with link, contextlib.suppress(OSError):
            await loop.sock_recv(link, CHUNK_BYTES)
            await loop.sock_sendall(link, OK % b"Connection: close\r\n")
    await asyncio.Event().wait()


async def never_accept(listener: socket.socket, most: int) -> None:
    """Listens, and leaves every connection in the accept queue."""
    await asyncio.Event().wait()


def abort(writer: StreamWriter) -> None:
    """Close with RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    writer.transport.abort()


async def _request(reader: StreamReader) -> bool:
    """Whether a request's head came."""
    try:
        return bool(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError:
        return False


Behaviour = Callable[[StreamReader, StreamWriter, float], Awaitable[None]]
SERVING: dict[str, Behaviour] = {
    "echo": echo,
    "http": http,
    "http-large": http_large,
    "http-keep-alive": http_keep_alive,
    "http-error": http_error,
    "agent": agent,
    "silent": silent,
    "half-close": half_close,
    "reset": reset,
    "close": close,
    "stream": stream,
}
ACCEPTING: dict[str, Callable[[socket.socket, int], Coroutine[Any, Any, None]]] = {
    "hold": hold,
    "answer-and-keep": answer_and_keep,
    "stop-accepting": stop_accepting,
    "never-accept": never_accept,
}
