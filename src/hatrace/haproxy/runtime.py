"""The runtime API: one command, one connection, one deadline over all of it.

An answer ends with an empty line; a worker's socket is then closed by HAProxy, a master's stays
open, and we close it.  Nothing is sent after the command and no side is shut down early: that
would end `show events` at once and has leaked sockets in HAProxy itself (GH #2727).

No connection is made when the guard says that a socket is not well.  A master's has 10 slots
which no setting raises: never more than one connection to it, and none without a guard.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from hatrace.errors import EnvironmentLacks
from hatrace.haproxy import procfs
from hatrace.haproxy.config_words import address
from hatrace.model.address import is_unspecified, printable
from hatrace.model.topology import CommandSocket

DEADLINE_S = 3.0
LIMIT_BYTES = 16 << 20
_UNIX_PATH_BYTES = 107
_NO_TARGET = b"Can't find the target"


class Problem(StrEnum):
    """Why there is no (whole) answer."""

    QUEUE_FULL = "queue full"
    REFUSED = "refused"
    NOT_THERE = "not there"
    FORBIDDEN = "forbidden"
    TIMEOUT = "timeout"
    CUT = "cut"
    TOO_LONG = "too long"
    DENIED = "denied"
    UNKNOWN = "unknown command"
    NO_TARGET = "no target"
    GUARDED = "guarded"


class NoAnswer(EnvironmentLacks):
    """HAProxy did not answer (all) that was asked; ``partial`` is what came."""

    def __init__(self, problem: Problem, what: str, why: str, do: str = "", partial: str = ""):
        super().__init__(what, why, do)
        self.problem = problem
        self.partial = partial


@dataclass(frozen=True, slots=True)
class Answer:
    """``complete``: it ended as HAProxy ends an answer."""

    text: str
    complete: bool


Guard = Callable[[CommandSocket], str | None]
"""Why not to connect to a socket now (somebody waits in its accept queue, or the last of its
slots would be taken); None: go ahead."""

_masters: dict[str, threading.Lock] = {}
_masters_lock = threading.Lock()


class Client:
    """Asks one command-line socket.

    ``root``: where its paths are seen from here.  ``guard`` is needed for a master's socket:
    without one it is never connected to.
    """

    def __init__(self, where: CommandSocket, root: str = "/", guard: Guard | None = None) -> None:
        self.where = where
        self._root = root
        self._guard = guard

    def ask(
        self,
        command: str,
        deadline_s: float = DEADLINE_S,
        limit_bytes: int = LIMIT_BYTES,
        partial: bool = False,
    ) -> Answer:
        """Its answer; raises NoAnswer.

        ``partial``: a cut, late or overlong answer is returned as far as it came, not raised.
        """
        what = f"{command!r} on {self.where.path}"
        end_ns = time.monotonic_ns() + int(deadline_s * 1e9)
        with self._alone(what, deadline_s):
            data, problem = self._exchange(command, what, end_ns, limit_bytes)
        text = data.decode(errors="replace")
        _raise_if_refused(text, what)
        if problem is None:
            return Answer(text, True)
        if partial and text:
            return Answer(text, False)
        why = _WHY[problem].format(size=len(data), seconds=deadline_s)
        raise NoAnswer(problem, what, why, partial=text)

    @contextmanager
    def _alone(self, what: str, deadline_s: float) -> Iterator[None]:
        """Only if the guard agrees, and to a master's socket one connection at a time."""
        if not self.where.master:
            self._heed(self._guard(self.where) if self._guard else None, what)
            yield
            return
        with _masters_lock:
            lock = _masters.setdefault(f"{self._root}:{self.where.path}", threading.Lock())
        if not lock.acquire(timeout=deadline_s):
            raise NoAnswer(Problem.GUARDED, what, "hatrace itself is asking this master already")
        try:
            watched = self._guard(self.where) if self._guard else "nobody watches its slots"
            self._heed(watched, what)
            yield
        finally:
            lock.release()

    @staticmethod
    def _heed(reason: str | None, what: str) -> None:
        if reason is not None:
            raise NoAnswer(Problem.GUARDED, what, reason)

    def _exchange(
        self, command: str, what: str, end_ns: int, limit_bytes: int
    ) -> tuple[bytes, Problem | None]:
        """What came, and why it is not all."""
        with self.connect(what, end_ns) as link:
            try:
                _send(link, command.encode() + b"\n", end_ns)
                return self._receive(link, end_ns, limit_bytes)
            except TimeoutError:
                return b"", Problem.TIMEOUT
            except OSError:
                return b"", Problem.CUT

    def _receive(
        self, link: socket.socket, end_ns: int, limit_bytes: int
    ) -> tuple[bytes, Problem | None]:
        data = bytearray()
        while len(data) < limit_bytes:
            try:
                _wait(link, select.POLLIN, end_ns)
                part = link.recv(65536)
            except TimeoutError:
                return bytes(data), Problem.TIMEOUT
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            data += part
            if not part:
                return bytes(data), None if is_whole(data) else Problem.CUT
            if self.where.master and is_whole(data):
                return bytes(data), None
        return bytes(data[:limit_bytes]), Problem.TOO_LONG

    def connect(self, what: str, end_ns: int) -> socket.socket:
        """A connected, non-blocking socket; raises NoAnswer."""
        try:
            link, target = _target(self.where.path, self._root)
        except OSError as error:
            raise _not_connected(error, what) from error
        link.setblocking(False)
        try:
            with _reachable(target) as reachable:
                _connect(link, reachable, end_ns)
        except OSError as error:
            link.close()
            raise _not_connected(error, what) from error
        return link


def is_whole(data: bytes | bytearray) -> bool:
    """Whether an answer ends as HAProxy ends one: by an empty line.

    The one exception is the master's word that it does not know the process asked for.
    """
    if data.startswith(_NO_TARGET):
        return data.endswith(b"\n")
    return data == b"\n" or data.endswith(b"\n\n")


_WHY = {
    Problem.TIMEOUT: "no (complete) answer within {seconds:g} s, {size} bytes came",
    Problem.CUT: "the answer was cut after {size} bytes",
    Problem.TOO_LONG: "the answer is longer than {size} bytes",
}


def _raise_if_refused(text: str, what: str) -> None:
    line = text.partition("\n")[0]
    if line.startswith("Permission denied"):
        do = "give the socket a higher level: stats socket PATH level operator"
        raise NoAnswer(Problem.DENIED, what, "the level of this socket does not allow it", do)
    if line.startswith("Unknown command"):
        raise NoAnswer(Problem.UNKNOWN, what, "this HAProxy does not know the command")
    if line.startswith(_NO_TARGET.decode()):
        raise NoAnswer(Problem.NO_TARGET, what, "the master has no such worker")


def _target(path: str, root: str) -> tuple[socket.socket, str | tuple[str, int]]:
    """The socket to use and what to connect it to; raises OSError for what has no address.

    ``path`` as HAProxy's bind lines have it.  One that binds any address is asked on loopback;
    an abstract name fills all of sun_path with NULs (`abns@`).
    """
    where = address(path)
    if where is not None and where.path is not None:
        if where.path.startswith("@"):
            target = f"\0{where.path[1:]}".ljust(_UNIX_PATH_BYTES + 1, "\0")
        else:
            target = procfs.inside(root, where.path)
        return socket.socket(socket.AF_UNIX), target
    if where is None or where.host is None or not where.low:
        raise OSError(errno.EADDRNOTAVAIL, f"{path!r} is no address that can be connected to")
    host = printable(where.host)
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    if is_unspecified(where.host):
        host = "::1" if kind == socket.AF_INET6 else "127.0.0.1"
    return socket.socket(kind), (host, where.low)


@contextmanager
def _reachable(target: str | tuple[str, int]) -> Iterator[str | tuple[str, int]]:
    """A path longer than sun_path is reached through an open fd of its folder."""
    if (
        isinstance(target, tuple)
        or target[0] == "\0"
        or len(os.fsencode(target)) <= _UNIX_PATH_BYTES
    ):
        yield target
        return
    folder, name = os.path.split(target)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)


def _connect(link: socket.socket, target: str | tuple[str, int], end_ns: int) -> None:
    """Raises OSError; EAGAIN of an AF_UNIX socket: its accept queue is full."""
    code = link.connect_ex(target)
    if code == errno.EINPROGRESS:
        _wait(link, select.POLLOUT, end_ns)
        code = link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _not_connected(error: OSError, what: str) -> NoAnswer:
    if error.errno == errno.EAGAIN and not isinstance(error, TimeoutError):
        why = "its accept queue is full (Resource temporarily unavailable)"
        do = "see which clients hold its connections: hatrace explain master-socket"
        return NoAnswer(Problem.QUEUE_FULL, what, why, do)
    if isinstance(error, TimeoutError):
        return NoAnswer(Problem.TIMEOUT, what, "no connection in time")
    if error.errno in (errno.EACCES, errno.EPERM):
        do = "run hatrace as root (CAP_DAC_OVERRIDE)"
        return NoAnswer(Problem.FORBIDDEN, what, "no permission", do)
    if error.errno == errno.ECONNREFUSED:
        return NoAnswer(Problem.REFUSED, what, "nobody listens there")
    return NoAnswer(Problem.NOT_THERE, what, error.strerror or str(error))


def _send(link: socket.socket, data: bytes, end_ns: int) -> None:
    while data:
        _wait(link, select.POLLOUT, end_ns)
        try:
            data = data[link.send(data) :]
        except BlockingIOError:
            continue


def _wait(link: socket.socket, events: int, end_ns: int) -> None:
    """Until ``link`` is ready; raises TimeoutError at ``end_ns``."""
    poll = select.poll()
    poll.register(link, events)
    left_ms = (end_ns - time.monotonic_ns()) // 1_000_000
    if left_ms <= 0 or not poll.poll(left_ms):
        raise TimeoutError
