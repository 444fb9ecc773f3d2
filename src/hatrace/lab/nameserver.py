"""A name server: every name has the address 127.0.0.1, over UDP and TCP (RFC 1035)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from asyncio import DatagramProtocol, DatagramTransport, StreamReader, StreamWriter
from typing import cast

HEADER = struct.Struct("!6H")
"""Id, flags, and the numbers of questions, answers, authorities and additional records."""
ANSWERED = 0x8180
A = 1
LIVES_S = 1


def answer(query: bytes) -> bytes:
    """An A record for an A question, no record for any other."""
    number = HEADER.unpack_from(query)[0]
    end = query.index(b"\0", HEADER.size) + 5
    question = query[HEADER.size : end]
    (kind,) = struct.unpack_from("!H", question, len(question) - 4)
    record = struct.pack("!HHHIH4B", 0xC00C, A, 1, LIVES_S, 4, 127, 0, 0, 1)
    answers = record if kind == A else b""
    return HEADER.pack(number, ANSWERED, 1, bool(answers), 0, 0) + question + answers


class _Datagrams(DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(answer(data), addr)


async def serve(listener: socket.socket, most: int) -> None:
    """Over TCP at the listener, over UDP at the same address and port."""
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Datagrams, local_addr=listener.getsockname())
    await asyncio.start_server(_stream, sock=listener)
    await asyncio.Event().wait()


async def _stream(reader: StreamReader, writer: StreamWriter) -> None:
    """Each message has its length before it; the connection stays until the peer ends."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            said = answer(await reader.readexactly(size))
            writer.write(struct.pack("!H", len(said)) + said)
            await writer.drain()
    writer.close()
