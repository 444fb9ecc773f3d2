"""A scripted workload: each way a socket can begin and end, with what must be seen of it.

    python tests/kernel/workload.py        # prints its pid, waits for a line, works, prints JSON

The JSON is a list of the sockets it had, one object each (`Expected`).  What it says is known
from the script itself: which process opened and which let go last, the ports, the bytes.  It is
compared with what hatrace, strace and ss saw.  Everything is on loopback.
"""

from __future__ import annotations

import array
import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

LOOPBACK = "127.0.0.1"
ABORT = struct.pack("ii", 1, 0)
QUESTION, ANSWER = b"q" * 100, b"a" * 250


@dataclass
class Expected:
    """One socket."""

    case: str
    kind: str
    """``connected``, ``accepted``, ``unaccepted`` or ``listener``."""
    family: int
    local: str
    lport: int
    remote: str
    rport: int
    opener: int | None
    """The pid that connected, accepted or listened; None: nobody ever owned it."""
    closer: int | None
    """The pid whose close was the last; None: it never had a file."""
    sent_bytes: int = 0
    received_bytes: int = 0
    end: str = "fin"
    """``fin``, ``rst-sent``, ``rst-received``, ``refused`` or ``unanswered``; listener: ``-``."""
    first: bool | None = None
    """Whether this side ended first; None: no matter."""


class Case:
    """Writes down every socket of one case.  ``listener`` is its own, on a port of its own."""

    def __init__(self, name: str, seen: list[Expected]) -> None:
        self.name, self._seen = name, seen

    def listen(
        self, address: str = LOOPBACK, backlog: int = 16, family: int = socket.AF_INET
    ) -> socket.socket:
        listener = socket.socket(family)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        listener.bind((address, 0))
        listener.listen(backlog)
        host, port = listener.getsockname()[:2]
        self._seen.append(
            Expected(self.name, "listener", family, host, port, "", 0, os.getpid(), os.getpid(),
                     end="-")
        )  # fmt: skip
        return listener

    def note(self, kind: str, link: socket.socket) -> Expected:
        """A connected or accepted socket of this process; what differs is set on the result."""
        (local, lport), (remote, rport) = link.getsockname()[:2], link.getpeername()[:2]
        expected = Expected(self.name, kind, link.family, local, lport, remote, rport,
                            os.getpid(), os.getpid())  # fmt: skip
        self._seen.append(expected)
        return expected

    def add(self, expected: Expected) -> Expected:
        self._seen.append(expected)
        return expected

    def pair(self, **listen: object) -> tuple[socket.socket, Expected, socket.socket, Expected]:
        """A client and its accepted counterpart, both of this process."""
        with self.listen(**listen) as listener:  # type: ignore[arg-type]
            client = socket.create_connection(listener.getsockname()[:2])
            server, _ = listener.accept()
        return client, self.note("connected", client), server, self.note("accepted", server)


def say(link: socket.socket, side: Expected, other: Expected, data: bytes) -> None:
    link.sendall(data)
    side.sent_bytes += len(data)
    other.received_bytes += len(data)


def hear(link: socket.socket, size: int) -> None:
    """Read exactly so much."""
    while size:
        data = link.recv(size)
        if not data:
            raise EOFError
        size -= len(data)


def until_end(link: socket.socket) -> None:
    while link.recv(65536):
        pass


def exchange(client: socket.socket, c: Expected, server: socket.socket, s: Expected) -> None:
    say(client, c, s, QUESTION)
    hear(server, len(QUESTION))
    say(server, s, c, ANSWER)
    hear(client, len(ANSWER))


def close_in_turn(first: socket.socket, f: Expected, second: socket.socket, s: Expected) -> None:
    f.first, s.first = True, False
    first.close()
    until_end(second)
    second.close()


def client_closes(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    close_in_turn(client, c, server, s)


def server_closes(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    close_in_turn(server, s, client, c)


def accept_without_address(case: Case) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with case.listen() as listener:
        client = socket.create_connection(listener.getsockname())
        server = socket.socket(fileno=libc.accept4(listener.fileno(), None, None, 0))
    c, s = case.note("connected", client), case.note("accepted", server)
    exchange(client, c, server, s)
    close_in_turn(client, c, server, s)


def connect_twice(case: Case) -> None:
    """Non-blocking, with a second connect() to read the result, as HAProxy does."""
    with case.listen() as listener:
        client = socket.socket()
        client.setblocking(False)
        assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        server, _ = listener.accept()
        assert client.connect_ex(listener.getsockname()) in (0, errno.EISCONN)
    client.setblocking(True)
    c, s = case.note("connected", client), case.note("accepted", server)
    exchange(client, c, server, s)
    close_in_turn(client, c, server, s)


def half_close(case: Case) -> None:
    client, c, server, s = case.pair()
    say(client, c, s, QUESTION)
    client.shutdown(socket.SHUT_WR)
    until_end(server)
    say(server, s, c, ANSWER)
    server.close()
    until_end(client)
    client.close()


def many_bytes(case: Case) -> None:
    client, c, server, s = case.pair()
    data = bytes(1 << 20)
    for link, side, other_link, other in ((client, c, server, s), (server, s, client, c)):
        reader = threading.Thread(target=hear, args=(other_link, len(data)))
        reader.start()
        say(link, side, other, data)
        reader.join()
    close_in_turn(client, c, server, s)


def client_resets(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    reset(client, c, server, s)


def server_resets(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    reset(server, s, client, c)


def reset(first: socket.socket, f: Expected, second: socket.socket, s: Expected) -> None:
    """``first`` aborts; ``second`` is held for a while after its connection is gone."""
    f.first, s.first = True, False
    f.end, s.end = "rst-sent", "rst-received"
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    first.close()
    time.sleep(0.2)
    second.close()


def refused(case: Case) -> None:
    with socket.socket() as nobody, socket.socket() as client:
        nobody.bind((LOOPBACK, 0))
        client.bind((LOOPBACK, 0))
        port, target = client.getsockname()[1], nobody.getsockname()
        assert client.connect_ex(target) == errno.ECONNREFUSED
    case.add(Expected(case.name, "connected", socket.AF_INET, LOOPBACK, port, *target,
                      os.getpid(), os.getpid(), end="refused"))  # fmt: skip


def unanswered(case: Case) -> None:
    """A full accept queue drops the SYN; the filler's other end is never accepted."""
    with case.listen(backlog=0) as listener:
        filler = socket.create_connection(listener.getsockname())
        select.select([listener], [], [])  # until its other end waits there: not full before
        with socket.socket() as client:
            client.setblocking(False)
            client.bind((LOOPBACK, 0))
            port = client.getsockname()[1]
            assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
            time.sleep(0.3)
        case.add(Expected(case.name, "connected", socket.AF_INET, LOOPBACK, port,
                          *listener.getsockname(), os.getpid(), os.getpid(),
                          end="unanswered"))  # fmt: skip
        f = unaccepted(case, filler)
    f.end = "rst-received"
    wait_for_reset(filler)
    filler.close()


def unaccepted(case: Case, client: socket.socket) -> Expected:
    """A client whose connection waits in the queue, and that waiting half; the client's side."""
    c = case.note("connected", client)
    case.add(Expected(case.name, "unaccepted", c.family, c.remote, c.rport, c.local, c.lport,
                      None, None, end="rst-sent"))  # fmt: skip
    return c


def wait_for_reset(link: socket.socket) -> None:
    try:
        until_end(link)
    except ConnectionResetError:
        return
    raise AssertionError("the connection ended without a reset")


def listener_closed_with_unaccepted(case: Case) -> None:
    listener = case.listen()
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    sides = [unaccepted(case, client) for client in clients]
    listener.close()
    for client, side in zip(clients, sides, strict=True):
        side.end = "rst-received"
        wait_for_reset(client)
        client.close()


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child works and ends without touching what it inherited."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"workload: child failed: {error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def finished(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, status


def fork_child_closes_last(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    go_read, go_write = os.pipe()

    def child() -> None:
        server.close()
        os.read(go_read, 1)
        client.close()

    c.closer = pid = in_child(child)
    client.close()
    time.sleep(0.1)
    os.write(go_write, b"x")
    c.first, s.first = True, False
    until_end(server)
    finished(pid)
    server.close()
    os.close(go_read)
    os.close(go_write)


def dup_closed_twice(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    copy = client.dup()
    client.close()
    exchange(copy, c, server, s)
    close_in_turn(copy, c, server, s)


def passed_to_another_process(case: Case) -> None:
    """SCM_RIGHTS; the receiver speaks and closes last, the sender has closed long before."""
    client, c, server, s = case.pair()
    here, there = socket.socketpair()

    def child() -> None:
        client.close()
        server.close()
        here.close()
        _, ancillary, _, _ = there.recvmsg(1, socket.CMSG_SPACE(4))
        fd = array.array("i", ancillary[0][2])[0]
        with socket.socket(fileno=fd) as received:
            received.sendall(QUESTION)
            there.recv(1)

    pid = in_child(child)
    there.close()
    here.sendmsg(
        [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))]
    )
    client.close()
    c.closer, c.sent_bytes, s.received_bytes = pid, len(QUESTION), len(QUESTION)
    c.first, s.first = True, False
    hear(server, len(QUESTION))
    here.send(b"x")
    until_end(server)
    finished(pid)
    here.close()
    server.close()


def owned_by_child(case: Case, ending: Callable[[], None], kill: int | None = None) -> None:
    """A child connects, asks, is answered, and ends with its socket open."""
    told, tell = socket.socketpair()
    with case.listen() as listener:

        def child() -> None:
            told.close()
            where = listener.getsockname()
            listener.close()
            client = socket.create_connection(where)
            client.sendall(QUESTION)
            hear(client, len(ANSWER))
            tell.send(b"x")
            ending()

        pid = in_child(child)
        tell.close()
        server, _ = listener.accept()
    s = case.note("accepted", server)
    c = case.add(Expected(case.name, "connected", s.family, s.remote, s.rport, s.local, s.lport,
                          pid, pid))  # fmt: skip
    c.sent_bytes = s.received_bytes = len(QUESTION)
    c.received_bytes = s.sent_bytes = len(ANSWER)
    c.first, s.first = True, False
    hear(server, len(QUESTION))
    server.sendall(ANSWER)
    told.recv(1)
    if kill is not None:
        os.kill(pid, kill)
    until_end(server)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == (-kill if kill is not None else 0)
    server.close()
    told.close()


def exit_with_open_socket(case: Case) -> None:
    owned_by_child(case, lambda: os._exit(0))


def killed(case: Case) -> None:
    owned_by_child(case, lambda: time.sleep(60), signal.SIGKILL)


def closed_at_exec(case: Case) -> None:
    """Python's sockets are O_CLOEXEC: the new program has none."""
    owned_by_child(case, lambda: os.execv("/bin/true", ["true"]))


def accepted_in_child(case: Case) -> None:
    """A listener made by the parent, used by a child: the accepting process is the owner."""
    told, tell = socket.socketpair()
    with case.listen() as listener:

        def child() -> None:
            server, _ = listener.accept()
            listener.close()
            hear(server, len(QUESTION))
            server.sendall(ANSWER)
            until_end(server)
            server.close()

        pid = in_child(child)
        client = socket.create_connection(listener.getsockname())
        c = case.note("connected", client)
        client.sendall(QUESTION)
        hear(client, len(ANSWER))
    s = case.add(Expected(case.name, "accepted", c.family, c.remote, c.rport, c.local, c.lport,
                          pid, pid))  # fmt: skip
    c.sent_bytes = s.received_bytes = len(QUESTION)
    c.received_bytes = s.sent_bytes = len(ANSWER)
    c.first, s.first = True, False
    client.close()
    finished(pid)
    told.close()
    tell.close()


def closed_by_thread(case: Case) -> None:
    client, c, server, s = case.pair()
    exchange(client, c, server, s)
    closer = threading.Thread(target=client.close)
    closer.start()
    closer.join()
    c.first, s.first = True, False
    until_end(server)
    server.close()


def ipv6(case: Case) -> None:
    client, c, server, s = case.pair(address="::1", family=socket.AF_INET6)
    exchange(client, c, server, s)
    close_in_turn(client, c, server, s)


def v4_mapped(case: Case) -> None:
    """An IPv4 client at a dual-stack listener, and an IPv6 client that names an IPv4 address."""
    with case.listen(address="::", family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        for family, address in ((socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::ffff:127.0.0.1")):
            client = socket.socket(family)
            client.connect((address, port))
            server, _ = listener.accept()
            c, s = case.note("connected", client), case.note("accepted", server)
            exchange(client, c, server, s)
            close_in_turn(client, c, server, s)


CASES = (
    client_closes, server_closes, accept_without_address, connect_twice, half_close, many_bytes,
    client_resets, server_resets, refused, unanswered, listener_closed_with_unaccepted,
    fork_child_closes_last, dup_closed_twice, passed_to_another_process, exit_with_open_socket,
    killed, closed_at_exec, accepted_in_child, closed_by_thread, ipv6, v4_mapped,
)  # fmt: skip


def main() -> None:
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    seen: list[Expected] = []
    for case in CASES:
        case(Case(case.__name__, seen))
    print(json.dumps([asdict(expected) for expected in seen]), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
