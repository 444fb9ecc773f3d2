"""Real sockets, asked about through sock_diag and /proc as hatrace asks."""

from __future__ import annotations

import array
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.model.address import packed
from hatrace.model.event import Holder, Trouble
from hatrace.model.flow import Condition, Flag, Flow, State, flows
from hatrace.model.topology import CommandSocket
from hatrace.sockets import inventory, tcp_diag, unix_diag
from hatrace.sockets.command_sockets import command_sockets
from hatrace.sockets.counters import host_counters
from hatrace.sockets.destroy import destroy
from hatrace.sockets.ghosts import INODE_ID, ghosts
from hatrace.sockets.holders import Finder, held_by, holders
from hatrace.sockets.inventory import look
from hatrace.sockets.netlink import Diag, Refused, namespace_of, within
from hatrace.sockets.sampled import SampledProbes
from hatrace.sockets.tcp_diag import surroundings
from tests.kernel.own import ME, reset

pytestmark = pytest.mark.kernel


def free_ports() -> Iterator[int]:
    """Below the ephemeral range, where an accepted end is told from its port."""
    for port in range(20000, 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        yield port


PORTS = free_ports()


def time_wait_has_room() -> bool:
    """Whether there are fewer TIME_WAIT sockets than tcp_max_tw_buckets."""
    used = re.search(r"TCP:.* tw (\d+)", Path("/proc/net/sockstat").read_text())
    most = int(Path("/proc/sys/net/ipv4/tcp_max_tw_buckets").read_text())
    return used is not None and int(used[1]) < most


def wait_for(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Until it is true; a generous limit, for loaded machines."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


class Pair:
    """A listener, a client, and the accepted end."""

    def __init__(self, family: int = socket.AF_INET, host: str = "127.0.0.1") -> None:
        self.port = next(PORTS)
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, self.port))
        self.listener.listen(7)
        self.client = socket.socket(family)
        self.client.connect((host, self.port))
        self.client_port = self.client.getsockname()[1]
        self.accepted, _ = self.listener.accept()

    def close(self) -> None:
        for end in (self.listener, self.client, self.accepted):
            end.close()


@pytest.fixture
def pair(opened: ExitStack) -> Pair:
    made = Pair()
    opened.callback(made.close)
    return made


def tcp(states: int = tcp_diag.FULL, minisocks: bool = False) -> list[Flow]:
    with Diag() as diag:
        return list(tcp_diag.dump(diag, surroundings(), states, minisocks))


def inode(of: socket.socket) -> int:
    return os.fstat(of.fileno()).st_ino


def found(flows: list[Flow], of: socket.socket) -> Flow:
    [flow] = [flow for flow in flows if flow.inode == inode(of)]
    return flow


def cookie(of: socket.socket) -> int:
    return int.from_bytes(of.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)


class TestTcp:
    def test_both_ends_of_a_connection_with_their_bytes(self, pair: Pair) -> None:
        pair.client.sendall(b"x" * 1000)
        assert pair.accepted.recv(400)
        pair.accepted.sendall(b"y" * 30)
        flows = tcp()
        client, server = found(flows, pair.client), found(flows, pair.accepted)
        assert (client.local, client.remote) == (server.remote, server.local)
        assert client.remote == f"127.0.0.1:{pair.port}"
        assert client.state == server.state == State.ESTABLISHED
        assert (client.sent_bytes, client.received_bytes, client.unread_bytes) == (1000, 30, 30)
        assert (server.sent_bytes, server.received_bytes, server.unread_bytes) == (30, 1000, 600)
        assert client.id == client.cookie == cookie(pair.client)
        assert client.preexisting and client.family == socket.AF_INET
        assert client.netns == Path("/proc/self/ns/net").stat().st_ino
        assert Flag.CONNECTED in Flag(client.flags) and Flag.ACCEPTED in Flag(server.flags)
        assert 0 <= time.monotonic_ns() - server.moved_ns < 5_000_000_000

    def test_listener_shows_queue_and_backlog(self, pair: Pair, opened: ExitStack) -> None:
        for _ in range(3):
            opened.enter_context(socket.create_connection(("127.0.0.1", pair.port)))
        listener = found(tcp(), pair.listener)
        assert (listener.state, listener.unread_bytes, listener.unsent_bytes) == (10, 3, 7)
        assert listener.condition(time.monotonic_ns()) is Condition.LISTENER

    def test_half_closed(self, pair: Pair) -> None:
        pair.client.sendall(b"ab")
        pair.client.shutdown(socket.SHUT_WR)
        wait_for(lambda: found(tcp(), pair.accepted).state == State.CLOSE_WAIT)
        time.sleep(0.3)
        flow = found(tcp(), pair.accepted)
        now_ns = time.monotonic_ns()
        assert flow.condition(now_ns) is Condition.HALF_CLOSED
        assert (flow.received_bytes, flow.unread_bytes) == (2, 2), "the FIN is no byte"
        assert now_ns - flow.fin_ns >= 250_000_000, "the FIN is as old as the silence since"
        other = found(tcp(), pair.client)
        assert other.state == State.FIN_WAIT2 and Flag.FIN_SENT in Flag(other.flags)
        assert not other.released_ns

    def test_orphan(self, pair: Pair) -> None:
        # With a full TIME_WAIT table the kernel makes no minisock, but ends the socket at once.
        wait_for(lambda: time_wait_has_room(), 120)
        pair.client.close()

        def orphans() -> list[Flow]:
            flows = tcp(minisocks=True)
            return [f for f in flows if f.lport == pair.client_port and f.rport == pair.port]

        wait_for(lambda: [f.state for f in orphans()] == [State.FIN_WAIT2])
        [orphan] = orphans()
        assert orphan.inode == 0
        assert orphan.condition(time.monotonic_ns()) is Condition.ORPHAN
        assert orphan.id not in {flow.id for flow in tcp()}, "a minisock"

    def test_orphan_whose_peer_reads_nothing(self, pair: Pair) -> None:
        pair.accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                pair.accepted.send(b"z" * 65536)
        pair.accepted.close()
        [orphan] = [f for f in tcp() if f.lport == pair.port and f.rport == pair.client_port]
        assert orphan.state == State.FIN_WAIT1 and orphan.inode == 0
        assert orphan.condition(time.monotonic_ns()) is Condition.ORPHAN
        assert orphan.unsent_bytes > 0

    def test_waiting_to_be_accepted_is_no_orphan(self, pair: Pair, opened: ExitStack) -> None:
        waiting = opened.enter_context(socket.create_connection(("127.0.0.1", pair.port)))
        port = waiting.getsockname()[1]
        [child] = [f for f in tcp() if f.lport == pair.port and f.rport == port]
        assert child.inode == 0 and not child.released_ns and child.state == State.ESTABLISHED

    def test_unanswered_when_the_backlog_is_full(self, opened: ExitStack) -> None:
        port = next(PORTS)
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        tries = [opened.enter_context(socket.socket()) for _ in range(3)]
        for one in tries:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.connect(("127.0.0.1", port))
        flow = found(tcp(), tries[-1])
        assert flow.state == State.SYN_SENT and flow.connect_ns
        assert flow.condition(time.monotonic_ns()) is Condition.UNANSWERED
        assert flow.unsent_bytes == 0, "the SYN is no byte"
        assert found(tcp(), listener).unread_bytes == 1

    def test_v6_and_v4_mapped(self, opened: ExitStack) -> None:
        port = next(PORTS)
        listener = opened.enter_context(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", port))
        listener.listen()
        four = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        mapped = opened.enter_context(listener.accept()[0])
        six = opened.enter_context(socket.create_connection(("::1", port)))
        plain = opened.enter_context(listener.accept()[0])
        flows = tcp()
        assert found(flows, mapped).laddr == found(flows, four).raddr == packed("127.0.0.1")
        assert found(flows, mapped).family == socket.AF_INET6
        assert found(flows, four).family == socket.AF_INET
        assert found(flows, plain).remote == f"[::1]:{six.getsockname()[1]}"
        assert found(flows, six).remote == f"[::1]:{port}"

    def test_states_choose(self, pair: Pair) -> None:
        listening = tcp(1 << State.LISTEN)
        assert {flow.state for flow in listening} == {State.LISTEN}
        assert found(listening, pair.listener)
        pair.client.close()
        pair.accepted.close()
        waiting = tcp(1 << State.TIME_WAIT)
        assert [f for f in waiting if f.lport == pair.client_port and f.state == State.TIME_WAIT]

    def test_the_kernel_says_no_in_words(self) -> None:
        with Diag() as diag, pytest.raises(Refused, match="cannot list AX") as caught:
            list(diag.dump(bytes([socket.AF_AX25]) + bytes(55), "cannot list AX.25 sockets"))
        assert "modprobe" in caught.value.do
        with Diag() as diag:  # and the next question is answered again
            with pytest.raises(Refused):
                list(diag.dump(bytes([socket.AF_AX25]) + bytes(55), "cannot list nothing"))
            assert list(tcp_diag.dump(diag, surroundings(), 1 << State.LISTEN)) is not None


class TestNamespaces:
    @pytest.fixture
    def elsewhere(self) -> Iterator[int]:
        """A process which listens on port 21999 of a network namespace of its own."""
        code = (
            "import socket, sys; s = socket.socket(socket.AF_INET6); s.bind(('::', 21999));"
            "s.listen(3); print('up', flush=True); sys.stdin.read()"
        )
        command = ["unshare", "--net", sys.executable, "-c", code]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None and child.stdout.readline() == "up\n"
            yield child.pid
            child.communicate(timeout=10)

    def test_sockets_of_another_namespace(self, elsewhere: int) -> None:
        before = namespace_of()
        flows = within(elsewhere, tcp)
        assert [f.lport for f in flows] == [21999]
        assert flows[0].netns == namespace_of(elsewhere) != before
        assert namespace_of() == before, "only a thread has gone there"
        assert 21999 not in {f.lport for f in tcp()}

    def test_inventory_looks_into_each_namespace(self, elsewhere: int, pair: Pair) -> None:
        owned = {f.inode: f for f in look([ME, elsewhere]).owned}
        assert owned[inode(pair.client)].pid == ME
        [there] = [f for f in owned.values() if f.pid == elsewhere]
        assert (there.lport, there.state, there.unsent_bytes) == (21999, State.LISTEN, 3)

    def test_counters_of_another_namespace(self, elsewhere: int) -> None:
        counters = host_counters(elsewhere)
        assert counters.tcp_inuse == 1
        assert counters.port_low and counters.port_high

    def test_a_process_that_is_gone(self) -> None:
        with pytest.raises(EnvironmentLacks, match="network namespace of process"):
            within(2**22 - 1, tcp)


class TestGhosts:
    def test_reset_socket_is_in_no_table_but_found(self, pair: Pair) -> None:
        pair.client.sendall(b"q" * 12)
        pair.accepted.recv(12)
        reset(pair.accepted)
        wait_for(lambda: inode(pair.client) not in {f.inode for f in tcp()})
        row = f":{pair.client_port:04X} 0100007F:{pair.port:04X} "
        assert row not in Path("/proc/net/tcp").read_text()
        [ghost] = [f for f in look([ME]).ghosts.values() if f.inode == inode(pair.client)]
        assert ghost.condition(time.monotonic_ns()) is Condition.GHOST
        assert ghost.local == f"127.0.0.1:{pair.client_port}"
        assert ghost.remote == f"127.0.0.1:{pair.port}"
        assert (ghost.sent_bytes, ghost.received_bytes, ghost.pid) == (12, 0, ME)
        assert ghost.cookie == ghost.id == cookie(pair.client)
        assert Flag.CONNECTED in Flag(ghost.flags) and ghost.preexisting
        assert ghost.comm == Path("/proc/self/comm").read_text().strip()

    def test_accepted_ghost_of_another_process_and_its_fd_stays_untouched(self) -> None:
        with Peer() as peer:
            client = socket.create_connection(("127.0.0.1", peer.port))
            assert peer.says() == "accepted"
            reset(client)
            wait_for(lambda: look([peer.pid]).ghosts)
            [ghost] = look([peer.pid]).ghosts.values()
            assert (ghost.pid, ghost.lport) == (peer.pid, peer.port)
            assert Flag.ACCEPTED in Flag(ghost.flags)
            assert ghost.condition(time.monotonic_ns()) is Condition.GHOST
            assert peer.asked("error") == "104", "SO_ERROR is still there for its owner"

    def test_v6_ghost(self, opened: ExitStack) -> None:
        pair = Pair(socket.AF_INET6, "::1")
        opened.callback(pair.close)
        reset(pair.client)
        wait_for(lambda: inode(pair.accepted) in {f.inode for f in look([ME]).ghosts.values()})
        [ghost] = [f for f in look([ME]).ghosts.values() if f.inode == inode(pair.accepted)]
        assert ghost.remote == f"[::1]:{pair.client_port}"
        assert ghost.family == socket.AF_INET6

    def test_never_connected_is_no_ghost(self, opened: ExitStack) -> None:
        fresh = opened.enter_context(socket.socket())
        bound = opened.enter_context(socket.socket())
        bound.bind(("127.0.0.1", next(PORTS)))
        opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        seen = {f.inode: f for f in look([ME]).ghosts.values()}
        now_ns = time.monotonic_ns()
        assert seen[inode(fresh)].condition(now_ns) is Condition.UNCONNECTED
        assert seen[inode(bound)].condition(now_ns) is Condition.UNCONNECTED
        assert seen[inode(bound)].lport == bound.getsockname()[1]

    def test_refused_connection_failed(self, opened: ExitStack) -> None:
        one = opened.enter_context(socket.socket())
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            one.connect(("127.0.0.1", next(PORTS)))
        [ghost] = [f for f in look([ME]).ghosts.values() if f.inode == inode(one)]
        assert Flag.FAILED in Flag(ghost.flags) and ghost.closed_ns

    def test_without_lending_only_the_fd_is_known(self, pair: Pair) -> None:
        reset(pair.accepted)
        wait_for(lambda: inode(pair.client) not in {f.inode for f in tcp()})
        held = Holder(ME, pair.client.fileno(), inode(pair.client))
        [ghost] = ghosts([held], surroundings(), lend=False)
        assert ghost.id == INODE_ID | held.inode
        assert ghost.laddr == ghost.raddr == bytes(16) and not ghost.closed_ns
        assert ghost.condition(time.monotonic_ns()) is Condition.UNCONNECTED

    def test_living_and_other_sockets_are_not_taken_for_ghosts(self, pair: Pair) -> None:
        alive = Holder(ME, pair.client.fileno(), inode(pair.client))
        with socket.socket(socket.AF_UNIX) as unix:
            held = [alive, Holder(ME, unix.fileno(), inode(unix)), Holder(ME, 1 << 20, 5)]
            assert list(ghosts(held, surroundings())) == []
        stale = Holder(ME, pair.client.fileno(), inode(pair.client) + 1)
        reset(pair.accepted)
        wait_for(lambda: inode(pair.client) not in {f.inode for f in tcp()})
        assert list(ghosts([stale], surroundings())) == [], "another socket has that fd now"


class Peer:
    """A child that listens, accepts, and answers questions about what it accepted."""

    CODE = """
import socket, sys
listener = socket.socket(); listener.setsockopt(1, 2, 1)
listener.bind(("127.0.0.1", int(sys.argv[1]))); listener.listen(9)
print("up", flush=True)
kept = [listener.accept()[0]]
print("accepted", flush=True)
for line in sys.stdin:
    print(kept[0].getsockopt(1, 4) if line == "error\\n" else "?", flush=True)
"""

    def __enter__(self) -> Peer:
        self.port = next(PORTS)
        command = [sys.executable, "-c", self.CODE, str(self.port)]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self.child.pid
        assert self.says() == "up"
        return self

    def says(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def asked(self, question: str) -> str:
        assert self.child.stdin is not None
        self.child.stdin.write(question + "\n")
        self.child.stdin.flush()
        return self.says()

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate(timeout=10)


class TestHolders:
    def test_pids_fds_inodes(self, pair: Pair) -> None:
        held, troubles = holders([ME, 2**22 - 1])
        assert Holder(ME, pair.client.fileno(), inode(pair.client)) in held
        assert not troubles, "a process that is gone is no trouble"

    def test_no_permission_becomes_trouble(self) -> None:
        code = (
            "import os; os.setuid(65534)\n"
            "from hatrace.sockets.holders import holders\n"
            "print(holders([1]))"
        )
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert "Permission denied" in run.stdout and "CAP_SYS_PTRACE" in run.stdout

    def test_passed_fd_has_both_holders(self, opened: ExitStack) -> None:
        """SCM_RIGHTS to a child: the same inode, two processes."""
        ours, theirs = socket.socketpair()
        opened.enter_context(ours)
        code = (
            "import socket, sys\n"
            f"link = socket.socket(fileno={theirs.fileno()})\n"
            "socket.recv_fds(link, 9, 1); print('got', flush=True); sys.stdin.read()"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[theirs.fileno()],
        )
        opened.callback(child.communicate, timeout=10)
        theirs.close()
        sent = opened.enter_context(socket.socket())
        rights = array.array("i", [sent.fileno()])
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        assert child.stdout is not None and child.stdout.readline() == "got\n"
        finder = Finder()
        pids = [holder.pid for holder in finder.find([inode(sent)])[inode(sent)]]
        assert pids == sorted([ME, child.pid])
        child.kill()
        child.wait(10)
        again = [holder.pid for holder in finder.find([inode(sent)])[inode(sent)]]
        assert again == [ME], "what is remembered is asked about again"


class Command:
    """A listening AF_UNIX socket, bound as HAProxy binds: a temporary name, then rename."""

    def __init__(self, folder: Path, backlog: int = 10, temporary: bool = True) -> None:
        self.path = folder / "haproxy.sock"
        name = f"{self.path}.{ME}.tmp" if temporary else str(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(name)
        if temporary:
            Path(name).rename(self.path)
        self.listener.listen(backlog)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.path))
        return client


@pytest.fixture
def command(tmp_path: Path, opened: ExitStack) -> Command:
    made = Command(tmp_path)
    opened.enter_context(made.listener)
    return made


class TestCommandSockets:
    def test_listener_accepted_clients_and_who_waits(
        self, command: Command, opened: ExitStack
    ) -> None:
        client = opened.enter_context(command.connect())
        accepted = opened.enter_context(command.listener.accept()[0])
        waiting = opened.enter_context(command.connect())
        seen = command_sockets([CommandSocket(str(command.path), True, ME)], Finder())
        unix = {one.inode: one for one in seen.unix}
        assert set(unix) == {inode(s) for s in (command.listener, client, accepted, waiting)}
        listener = unix[inode(command.listener)]
        assert (listener.state, listener.queue, listener.queue_limit) == (10, 1, 10)
        assert listener.path == f"{command.path}.{ME}.tmp"
        assert listener.waiting == (inode(waiting),)
        assert unix[inode(accepted)].peer_inode == inode(client)
        assert unix[inode(client)].peer_inode == inode(accepted)
        assert seen.sockets[0].inode == inode(command.listener)
        assert {h.inode for h in seen.holders} == set(unix)
        assert "pytest" in seen.names[ME]

    def test_a_waiting_client_in_another_process_is_named(self, command: Command) -> None:
        code = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "print('up', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(command.path), "\x1b[31mred"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None and child.stdout.readline() == "up\n"
            seen = command_sockets([CommandSocket(str(command.path), True, ME)], Finder())
            [listener] = [unix for unix in seen.unix if unix.state == 10]
            [holder] = [h for h in seen.holders if h.inode in listener.waiting]
            assert holder.pid == child.pid
            assert "\\x1b[31mred" in seen.names[child.pid] and "\x1b" not in seen.names[child.pid]
            child.communicate(timeout=10)

    def test_client_left_and_server_keeps(self, command: Command, opened: ExitStack) -> None:
        command.connect().close()
        accepted = opened.enter_context(command.listener.accept()[0])
        command.connect().close()
        seen = command_sockets([CommandSocket(str(command.path), True, ME)], Finder())
        unix = {one.inode: one for one in seen.unix}
        assert unix[inode(accepted)].peer_inode == 0
        assert unix[inode(command.listener)].waiting == (0,), "it waits, and has left"

    def test_plain_and_abstract_names(self, tmp_path: Path, opened: ExitStack) -> None:
        plain = Command(tmp_path, temporary=False)
        opened.enter_context(plain.listener)
        abstract = opened.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0hatrace-{ME}")
        abstract.listen(4)
        sockets = [
            CommandSocket(f"unix@{plain.path}", False, ME),
            CommandSocket(f"abns@hatrace-{ME}", False, ME),
        ]
        seen = command_sockets(sockets, Finder())
        assert [s.inode for s in seen.sockets] == [inode(plain.listener), inode(abstract)]
        assert f"@hatrace-{ME}" in {unix.path for unix in seen.unix}

    def test_another_listener_with_a_longer_name_is_not_ours(
        self, command: Command, tmp_path: Path, opened: ExitStack
    ) -> None:
        other = opened.enter_context(socket.socket(socket.AF_UNIX))
        other.bind(f"{command.path}.1.tmp.old")
        other.listen()
        seen = command_sockets([CommandSocket(str(command.path), True, ME)], Finder())
        assert inode(other) not in {unix.inode for unix in seen.unix}

    def test_all_unix_sockets_are_listed_with_both_peers(self, opened: ExitStack) -> None:
        pairs = [socket.socketpair() for _ in range(300)]
        for one, other in pairs:
            opened.enter_context(one)
            opened.enter_context(other)
        with Diag() as diag:
            seen = {unix.inode: unix for unix in unix_diag.dump(diag)}
        for one, other in pairs:
            assert seen[inode(one)].peer_inode == inode(other)


class TestDestroy:
    def test_destroys_exactly_that_connection(self, pair: Pair) -> None:
        outcome = destroy(found(tcp(), pair.client))
        assert outcome.done and "ESTABLISHED" in outcome.text
        with pytest.raises(ConnectionAbortedError):
            pair.client.recv(1)
        with pytest.raises(ConnectionResetError):
            pair.accepted.recv(1)
        assert found(tcp(), pair.listener)

    def test_without_a_cookie_the_inode_must_agree(self, pair: Pair) -> None:
        flow = found(tcp(), pair.client)._replace(cookie=0)
        other = destroy(flow._replace(inode=flow.inode + 1))
        assert not other.done and "another one has its addresses" in other.text
        assert found(tcp(), pair.client).state == State.ESTABLISHED
        assert destroy(flow).done

    def test_a_stale_cookie_destroys_nothing(self, pair: Pair) -> None:
        flow = found(tcp(), pair.client)
        outcome = destroy(flow._replace(cookie=flow.cookie + 10**9))
        assert not outcome.done and "gone already" in outcome.text
        assert found(tcp(), pair.client).state == State.ESTABLISHED

    def test_gone_and_ghosts_and_listeners_are_told_apart(self, pair: Pair) -> None:
        flows = tcp()
        listener, client = found(flows, pair.listener), found(flows, pair.client)
        assert "listener" in destroy(listener).text
        assert found(tcp(), pair.listener), "still there"
        reset(pair.client)
        assert "gone already" in destroy(client).text
        ghost = client._replace(state=int(State.CLOSE))
        assert "only its owner" in destroy(ghost).text
        assert destroy(listener, listener=True).done
        assert inode(pair.listener) not in {flow.inode for flow in tcp()}

    def test_v4_mapped(self, opened: ExitStack) -> None:
        port = next(PORTS)
        listener = opened.enter_context(socket.socket(socket.AF_INET6))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        listener.listen()
        client = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        mapped = opened.enter_context(listener.accept()[0])
        assert destroy(found(tcp(), mapped)).done
        with pytest.raises(ConnectionResetError):
            client.recv(1)


class Want:
    """Criteria, as a scan of the BPF rungs takes them."""

    def __init__(self, everything: bool = False, limit: int = 4096, **ns: int) -> None:
        self.half_closed_ns = ns.get("half_closed_ns", 0)
        self.ghost_ns = ns.get("ghost_ns", 0)
        self.orphan_ns = ns.get("orphan_ns", 0)
        self.unanswered_ns = ns.get("unanswered_ns", 0)
        self.idle_ns = ns.get("idle_ns", 0)
        self.everything = everything
        self.limit = limit


def unpacked(records: bytes) -> list[Flow]:
    return list(flows(records))


class TestSampled:
    @pytest.fixture
    def probes(self, opened: ExitStack) -> SampledProbes:
        made = SampledProbes(interval_ns=1, share=1e6)
        opened.callback(made.close)
        return made

    def settle(self, probes: SampledProbes) -> list[Flow]:
        """What a look of now says."""
        probes.inventory()
        return probes.flows()

    def test_inventory_adopts(self, probes: SampledProbes, pair: Pair) -> None:
        held = probes.inventory([ME])
        assert Holder(ME, pair.client.fileno(), inode(pair.client)) in held
        flows = probes.flows()
        client = found(flows, pair.client)
        assert client.preexisting and client.pid == ME and Flag.OWNED in Flag(client.flags)
        rows = {(row.inbound, row.port): row for row in probes.targets()}
        assert rows[False, pair.port].adopted == rows[True, pair.port].adopted == 1
        assert rows[False, pair.port].pid == ME and rows[False, pair.port].open == 1

    def test_looking_is_rationed(self, pair: Pair, opened: ExitStack) -> None:
        probes = SampledProbes(interval_ns=3600 * 10**9)
        opened.callback(probes.close)
        before = probes.inventory([ME])
        late = opened.enter_context(socket.create_connection(("127.0.0.1", pair.port)))
        assert probes.inventory() == before, "not due"
        assert inode(late) not in {flow.inode for flow in probes.flows()}
        with Peer() as peer:
            opened.enter_context(socket.create_connection(("127.0.0.1", peer.port)))
            held = probes.inventory([peer.pid])
            assert {ME, peer.pid} <= {holder.pid for holder in held}, "new in scope: at once"

    def test_birth_and_end_between_looks(self, probes: SampledProbes, opened: ExitStack) -> None:
        probes.inventory([ME])
        pair = Pair()
        opened.callback(pair.close)
        born = found(self.settle(probes), pair.client)
        assert not born.preexisting and born.target
        pair.client.sendall(b"k" * 77)
        pair.accepted.recv(100)
        pair.client.close()
        pair.accepted.close()
        ended: list[Flow] = []
        wait_for(lambda: ended.extend(probes.drain()) or len(ended) >= 2)
        [client] = [flow for flow in ended if flow.id == born.id]
        assert client.gone_ns >= client.released_ns > 0 and client.closer == ME
        assert client.sent_bytes == 77, "the kernel's news carry the bytes"
        [row] = [r for r in probes.targets() if r.port == pair.port and not r.inbound]
        assert (row.born, row.gone, row.sent_bytes, sum(row.lifetime)) == (1, 1, 77, 1)

    def test_who_aborts_is_told_by_the_news(self, pair: Pair, opened: ExitStack) -> None:
        probes = SampledProbes(interval_ns=3600 * 10**9)
        opened.callback(probes.close)
        probes.inventory([ME])
        known = found(probes.flows(), pair.client)
        reset(pair.client)
        ended: list[Flow] = []
        wait_for(lambda: ended.extend(probes.drain()) or ended)
        [gone] = ended
        assert gone.id == known.id and Flag.RST_SENT in Flag(gone.flags)
        assert gone.remote == known.remote and not gone.flags & Flag.FAILED

    def test_ghost_keeps_what_was_known(self, probes: SampledProbes, pair: Pair) -> None:
        probes.inventory([ME])
        reset(pair.accepted)
        wait_for(lambda: found(self.settle(probes), pair.client).state == State.CLOSE)
        ghost = found(probes.flows(), pair.client)
        assert ghost.condition(time.monotonic_ns()) is Condition.GHOST
        assert ghost.remote == f"127.0.0.1:{pair.port}" and not ghost.released_ns
        records, matched = probes.scan(Want(ghost_ns=1))
        assert ghost.id in {flow.id for flow in unpacked(records)} and matched >= 1
        pair.client.close()
        ended: list[Flow] = []
        wait_for(lambda: ended.extend(probes.drain()) or ghost.id in {f.id for f in ended})
        assert ghost.id not in {flow.id for flow in probes.flows()}

    def test_closed_while_a_look_reads_the_tables_is_no_ghost(
        self, probes: SampledProbes, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The fds are read before the tables; another process goes on meanwhile."""
        before = Holder(ME, pair.client.fileno(), inode(pair.client))
        assert before in probes.inventory([ME])

        def read_and_closed(pids: Iterable[int]) -> tuple[list[Holder], list[Trouble]]:
            read = holders(pids)
            if pair.client.fileno() >= 0:
                reset(pair.client)
            return read

        monkeypatch.setattr(inventory, "holders", read_and_closed)
        assert before not in probes.inventory()
        assert before.inode not in {flow.inode for flow in probes.flows()}
        wait_for(lambda: found(self.settle(probes), pair.accepted).state == State.CLOSE)
        ghost = found(probes.flows(), pair.accepted)
        assert ghost.condition(time.monotonic_ns()) is Condition.GHOST, "this one is held"

    def test_half_closed_orphan_and_unanswered_in_a_scan(
        self, probes: SampledProbes, pair: Pair, opened: ExitStack
    ) -> None:
        probes.inventory([ME])
        other = Pair()
        opened.callback(other.close)
        pair.client.shutdown(socket.SHUT_WR)
        other.accepted.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.accepted.send(b"z" * 65536)
        full = opened.enter_context(socket.socket())
        full.bind(("127.0.0.1", next(PORTS)))
        full.listen(0)
        opened.enter_context(socket.create_connection(full.getsockname()))
        late = opened.enter_context(socket.socket())
        late.setblocking(False)
        with pytest.raises(BlockingIOError):
            late.connect(full.getsockname())
        orphan = found(self.settle(probes), other.accepted)
        other.accepted.close()
        self.settle(probes)
        time.sleep(0.05)
        want = Want(half_closed_ns=1, orphan_ns=1, unanswered_ns=1)
        records, _matched = probes.scan(want)
        now_ns = time.monotonic_ns()
        seen = {flow.id: flow.condition(now_ns) for flow in unpacked(records)}
        assert seen[cookie(pair.accepted)] is Condition.HALF_CLOSED
        assert seen[orphan.id] is Condition.ORPHAN
        assert seen[cookie(late)] is Condition.UNANSWERED
        assert cookie(pair.listener) in seen, "listeners always, as the BPF rungs do"
        assert cookie(other.client) not in seen

    def test_limit_and_watch(self, probes: SampledProbes, pair: Pair) -> None:
        probes.inventory([ME])
        records, matched = probes.scan(Want(everything=True, limit=1))
        assert len(unpacked(records)) == 1 < matched
        assert probes.losses().scan_truncated == matched - 1
        target = found(probes.flows(), pair.client).target
        time.sleep(0.05)
        probes.watch(target, 1)
        records, _matched = probes.scan(Want())
        assert cookie(pair.client) in {flow.id for flow in unpacked(records)}
        assert cookie(pair.accepted) not in {flow.id for flow in unpacked(records)}

    def test_short_connections_are_seen_at_their_end(self, opened: ExitStack, pair: Pair) -> None:
        probes = SampledProbes(interval_ns=3600 * 10**9)
        opened.callback(probes.close)
        probes.inventory([ME])
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", pair.port)) as client:
                client.sendall(b"hello")
                with pair.listener.accept()[0] as accepted:
                    accepted.recv(9)
        ended: list[Flow] = []
        wait_for(lambda: ended.extend(probes.drain()) or len(ended) >= 40)
        assert len(ended) == len({flow.id for flow in ended}) == 40
        rows = {row.inbound: row for row in probes.targets() if row.port == pair.port}
        assert rows[True].gone == rows[False].gone == 20
        assert rows[False].sent_bytes == 100 and rows[False].received_bytes == 0
        assert 100 <= rows[True].received_bytes <= 120, "give or take the FINs"
        assert not any(flow.flags & Flag.OWNED for flow in ended), "their holder was never seen"

    def test_others_are_not_followed(self, probes: SampledProbes, pair: Pair) -> None:
        with Peer() as peer, socket.create_connection(("127.0.0.1", peer.port)) as client:
            assert peer.says() == "accepted"
            probes.inventory([peer.pid])
            pids = {flow.pid for flow in probes.flows()}
            assert pids == {peer.pid}
            assert client.getsockname()[1] in {flow.rport for flow in probes.flows()}
        assert ME not in probes.followed()

    def test_children_join_by_themselves(self, probes: SampledProbes) -> None:
        with Peer() as peer:
            probes.follow([ME])
            assert peer.pid in probes.followed()
            probes.leave([peer.pid])
            assert peer.pid not in probes.followed()

    def test_it_says_what_it_cannot_see(self, probes: SampledProbes) -> None:
        assert probes.rung == "netlink" and len(probes.blind_spots) >= 3
        assert probes.losses().total == 0 and probes.bpf_cost() is None
        assert probes.troubles() == []


def test_closer_stays_the_owner_while_hatrace_looks() -> None:
    """Lending a ghost's fd leaves no fd behind, in us or in its owner."""
    with Peer() as peer:
        client = socket.create_connection(("127.0.0.1", peer.port))
        assert peer.says() == "accepted"
        reset(client)
        wait_for(lambda: look([peer.pid]).ghosts)
        before = len(held_by(ME)), len(held_by(peer.pid))
        for _ in range(20):
            assert len(look([peer.pid]).ghosts) == 1
        assert (len(held_by(ME)), len(held_by(peer.pid))) == before


def test_work_that_fails_elsewhere_raises_here() -> None:
    """within() in a thread: the error comes back, and this thread has not moved."""

    def fails() -> None:
        raise ZeroDivisionError

    before = namespace_of()
    with subprocess.Popen(["unshare", "--net", "sleep", "60"]) as child:
        wait_for(lambda: namespace_of(child.pid) != before)
        with pytest.raises(ZeroDivisionError):
            within(child.pid, fails)
        child.kill()
    assert namespace_of() == before
