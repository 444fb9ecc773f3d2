"""Asking the kernel about sockets: SOCK_DIAG_BY_FAMILY requests and their raw answers.

The transport is pyroute2's netlink socket; messages are walked here, because its decoder
costs 53-84 µs a socket and a busy host has 70,000 of them.  This is the only file that
imports pyroute2, and it does so late, and only the modules it uses: all of pyroute2 takes
100 ms and 24 MB, these half of it (most of that is asyncio), and `report` and `replay` nothing.

Layouts: include/uapi/linux/netlink.h and sock_diag.h.  Host byte order.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from hatrace.errors import EnvironmentLacks

T = TypeVar("T")

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
SOCK_DESTROY = 21
TCP_DESTROY_GROUP = 1
"""SKNLGRP_INET_TCP_DESTROY."""
TCP6_DESTROY_GROUP = 3
"""SKNLGRP_INET6_TCP_DESTROY."""

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length with this header, type, flags, sequence, port."""
ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length with this header, type."""

_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_INTERRUPTED = 0x10
_DATAGRAM_BYTES = 1 << 16
"""The kernel fills at most 32 kB of one dump datagram (netlink_dump() since 4.7)."""
_DEADLINE_S = 10.0
_SO_RCVBUFFORCE = 33
_NO_HANDLER = {errno.ENOENT: "load the module: modprobe tcp_diag udp_diag unix_diag"}
"""What to do about the errors of a dump."""

Message = tuple[bytes, int, int]
"""A datagram, and where in it a message's payload starts and ends."""


class Refused(EnvironmentLacks):
    """The kernel answered a request with an error; ``errno`` says which."""

    def __init__(self, number: int, what: str, do: str = "") -> None:
        super().__init__(what, os.strerror(number), do)
        self.errno = number


class Lost(Exception):
    """A subscription overran: the kernel threw notifications away (ENOBUFS)."""


class Diag:
    """A sock_diag socket.  Use it in one thread, in a ``with``."""

    def __init__(self, groups: tuple[int, ...] = (), receive_bytes: int = 1 << 20) -> None:
        _spare_the_rest()
        from pyroute2.netlink.nlsocket import NetlinkSocket

        try:
            self._socket: Any = NetlinkSocket(family=NETLINK_SOCK_DIAG, rcvbuf=receive_bytes)
            self._socket.bind(groups=sum(1 << (group - 1) for group in groups))
        except OSError as error:
            raise EnvironmentLacks(
                "cannot ask the kernel about sockets",
                f"no NETLINK_SOCK_DIAG socket: {error.strerror}",
                "load the module: modprobe inet_diag (CONFIG_INET_DIAG)",
            ) from error
        self._sequence = 0
        self.interrupted = False
        """Whether sockets changed during the latest dump, so that it may not be consistent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def dump(self, payload: bytes, what: str) -> Iterator[Message]:
        """All answers to a dump request, in order; raises Refused.  Read it to its end."""
        for datagram, size in self.runs(payload, what):
            for start in range(HEADER.size, len(datagram), size):
                yield datagram, start, start + size - HEADER.size

    def runs(self, payload: bytes, what: str) -> Iterator[tuple[bytes, int]]:
        """The same, as runs of messages of one size with their headers, and that size in bytes.

        Most datagrams of a dump are one such run: 0.1 us a message, where a walk takes 1.
        """
        self._send(SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, payload)
        self.interrupted = False
        while True:
            datagram = self._receive(what)
            if size := _size_of_all(datagram, self._sequence):
                yield datagram, size
                continue
            for kind, flags, sequence, start, end in walk(datagram):
                if sequence != self._sequence:
                    continue  # left over from a dump that nobody read to its end
                if flags & _INTERRUPTED:
                    self.interrupted = True
                if kind in (_ERROR, _DONE):
                    _raise_error(datagram, start, end, what, _NO_HANDLER)
                    return
                yield datagram[start - HEADER.size : end], end - start + HEADER.size

    def ask(self, kind: int, payload: bytes, what: str) -> list[Message]:
        """One request, its answers up to the acknowledgement; raises Refused."""
        self._send(kind, _REQUEST | _ACK, payload)
        answers: list[Message] = []
        while True:
            datagram = self._receive(what)
            for answer, _flags, sequence, start, end in walk(datagram):
                if sequence != self._sequence:
                    continue
                if answer == _ERROR:
                    _raise_error(datagram, start, end, what)
                    return answers
                answers.append((datagram, start, end))

    def notifications(self) -> Iterator[Message]:
        """What the subscribed groups said since the last call; raises Lost after an overrun."""
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Lost from error
                raise
            for _kind, _flags, _sequence, start, end in walk(datagram):
                yield datagram, start, end

    def grow(self, receive_bytes: int) -> None:
        """A larger receive buffer, past net.core.rmem_max where we may (CAP_NET_ADMIN)."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_bytes)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)

    def _send(self, kind: int, flags: int, payload: bytes) -> None:
        self._sequence += 1
        length = HEADER.size + len(payload)
        header = HEADER.pack(length, kind, flags, self._sequence, 0)
        self._socket.sendto(header + payload, (0, 0))

    def _receive(self, what: str) -> bytes:
        """The next datagram.  sock_diag answers while we send, so waiting means trouble."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                datagram: bytes = self._socket.recv(_DATAGRAM_BYTES)
                return datagram
            except BlockingIOError:
                select.select([self._socket.fileno()], [], [], 0.1)
                if time.monotonic() > deadline:
                    raise Refused(errno.ETIMEDOUT, what) from None


def _size_of_all(datagram: bytes, sequence: int) -> int:
    """Of each message, if all are answers with the same header; else 0."""
    if len(datagram) < HEADER.size:
        return 0
    size, kind, flags, answered, _ = HEADER.unpack_from(datagram)
    if kind in (_ERROR, _DONE) or flags & _INTERRUPTED or answered != sequence:
        return 0
    if size < HEADER.size or size % 4 or len(datagram) % size:
        return 0
    with memoryview(datagram) as whole, whole.cast("I") as words:
        columns = [words[word :: size // 4].tobytes() for word in range(HEADER.size // 4)]
    return size if all(column == column[:4] * (len(column) // 4) for column in columns) else 0


def walk(datagram: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Kind, flags, sequence, start and end of the payload of each message."""
    offset, size = 0, len(datagram)
    while offset + HEADER.size <= size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(datagram, offset)
        end = offset + length
        if length < HEADER.size or end > size:
            raise Refused(errno.EBADMSG, "cannot read an answer of the kernel: it is cut short")
        yield kind, flags, sequence, offset + HEADER.size, end
        offset = (end + 3) & ~3


def attributes(datagram: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, start and end of each attribute between two offsets of a datagram.

    Nothing is copied; the walk ends at an attribute that is cut short.
    """
    while start + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(datagram, start)
        if length < ATTRIBUTE.size or start + length > end:
            return
        yield kind & 0x3FFF, start + ATTRIBUTE.size, start + length
        start += (length + 3) & ~3


def _raise_error(
    datagram: bytes, start: int, end: int, what: str, hints: Mapping[int, str] | None = None
) -> None:
    """The errno at the start of a NLMSG_ERROR or NLMSG_DONE, if it is one."""
    code = int.from_bytes(datagram[start : min(start + 4, end)], sys.byteorder, signed=True)
    if code < 0:
        raise Refused(-code, what, (hints or {}).get(-code, ""))


def namespace_of(pid: int | str = "thread-self") -> int | None:
    """Inode of a process's network namespace; None when it is gone or may not be read."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def within(pid: int | None, work: Callable[[], T]) -> T:
    """Run ``work`` in the network namespace of ``pid``; None or the same one: just run it.

    In a thread that lives as long as ``work``: setns(CLONE_NEWNET) moves one thread only.
    No socket is kept, for an open one would keep the namespace of a dead container alive.
    """
    if pid is None or namespace_of(pid) == namespace_of():
        return work()
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _enter(pid)
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="hatrace-netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _spare_the_rest() -> None:
    """Lets modules of pyroute2 be imported alone: its ``__init__`` would import all of them."""
    spec = find_spec("pyroute2") if "pyroute2" not in sys.modules else None
    if spec is not None:
        sys.modules["pyroute2"] = module_from_spec(spec)


def _enter(pid: int) -> None:
    _spare_the_rest()
    from pyroute2 import netns

    path = Path(f"/proc/{pid}/ns/net")
    try:
        with path.open("rb") as namespace:
            netns.setns(namespace.fileno(), flags=0)
    except OSError as error:
        raise EnvironmentLacks(
            f"cannot enter the network namespace of process {pid}",
            os.strerror(error.errno or errno.EIO),
            "run as root (CAP_SYS_ADMIN); or the process has just ended",
        ) from error
