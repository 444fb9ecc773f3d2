"""Backend servers that take their time, change their mind, or keep a connection for long.

Like those of `servers`: a behaviour has one accepted connection and ``seconds``, whose meaning
it says; `ACCEPTING` ones are given the listener.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine
from typing import Any

from hatrace.lab import nameserver
from hatrace.lab.servers import CHUNK_BYTES, OK, Behaviour

UPGRADE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %s\r\n\r\n"
)
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Hashed with the client's key (RFC 6455, 1.3); HAProxy looks whether it was."""
KEY = re.compile(rb"(?i)\r\nsec-websocket-key: *(\S+)")
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
BLOCK = bytes(16384)


async def websocket(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers 200 until it is asked to upgrade; from then on it is an echo."""
    while head := await _head(reader):
        key = KEY.search(head)
        writer.write(UPGRADE % _accepted(key[1]) if key else OK % b"")
        await writer.drain()
        if key:
            while data := await reader.read(CHUNK_BYTES):
                writer.write(data)


async def http_idle_close(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers every request with 200, and closes after ``seconds`` without one."""
    with contextlib.suppress(TimeoutError):
        while await asyncio.wait_for(_head(reader), seconds):
            writer.write(OK % b"")
            await writer.drain()


async def http_flap(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Answers 200 for ``seconds``, then 503 as long, by the clock."""
    while await _head(reader):
        well = int(time.monotonic() / seconds) % 2 == 0
        writer.write(OK % b"" if well else BUSY)
        await writer.drain()


async def agent_flap(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """An agent that says ``up``, ``drain``, ``down`` and ``stopped``, each for ``seconds``."""
    words = (b"up ready\n", b"drain\n", b"down\n", b"stopped\n")
    writer.write(words[int(time.monotonic() / seconds) % len(words)])
    await writer.drain()


async def drip(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Sends 100 bytes now and every ``seconds``, until the peer resets."""
    while True:
        writer.write(bytes(100))
        await writer.drain()
        await asyncio.sleep(seconds)


async def sink(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Ends its sending half at once, and reads 100 bytes every ``seconds``."""
    writer.write_eof()
    while await reader.read(100):
        await asyncio.sleep(seconds)


async def flood(reader: StreamReader, writer: StreamWriter, seconds: float) -> None:
    """Sends as fast as its peer reads, after the first data, until the peer ends."""
    await reader.read(CHUNK_BYTES)
    while not reader.at_eof():
        writer.write(BLOCK)
        await writer.drain()


async def flap(listener: socket.socket, most: int) -> None:
    """Listens for three seconds as an echo, is gone for three, and comes back."""
    where = listener.getsockname()
    while True:
        server = await asyncio.start_server(_echo, sock=listener)
        await asyncio.sleep(3)
        server.close()
        await asyncio.sleep(3)
        listener = socket.create_server(where)


async def pause(listener: socket.socket, most: int) -> None:
    """Answers all that wait with 200, closes each, and then does nothing for three seconds."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(TimeoutError, OSError):
            while True:
                link, _ = await asyncio.wait_for(loop.sock_accept(listener), 0.1)
                with link:
                    link.settimeout(0)
                    await asyncio.wait_for(loop.sock_recv(link, CHUNK_BYTES), 1)
                    await loop.sock_sendall(link, OK % b"Connection: close\r\n")
        await asyncio.sleep(3)


def _accepted(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + WEBSOCKET, usedforsecurity=False).digest())


async def _echo(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
    writer.close()


async def _head(reader: StreamReader) -> bytes:
    """A request's head; empty at the end."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


SERVING: dict[str, Behaviour] = {
    "websocket": websocket,
    "http-idle-close": http_idle_close,
    "http-flap": http_flap,
    "agent-flap": agent_flap,
    "drip": drip,
    "sink": sink,
    "flood": flood,
}
ACCEPTING: dict[str, Callable[[socket.socket, int], Coroutine[Any, Any, None]]] = {
    "flap": flap,
    "pause": pause,
    "dns": nameserver.serve,
}
