"""The same scripted workload gives the same flows on every rung that works here.

Each test of a fact leaves a record (fact, rung, what it sees); `scripts/vm matrix` runs these on
every kernel and makes the table of docs/kernels.md from the records.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from hatrace.kernel import preflight
from hatrace.kernel.probes import Probes
from hatrace.kernel.rungs import LADDER
from hatrace.kernel.wire import Criteria
from hatrace.lab.stage import wait_until
from hatrace.model.address import packed, printable
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.event import Losses
from hatrace.model.flow import Condition, Flag, Flow, State, flows
from tests.kernel.cgroups import new_cgroup
from tests.kernel.own import ME, attached, reset
from tests.kernel.workload import CASES, Expected

pytestmark = pytest.mark.kernel

WORKLOAD = Path(__file__).with_name("workload.py")
EVERYTHING = Criteria(everything=True)
LOST_NOTHING = (0, 0, 0, 0, 0)


@cache
def rungs() -> list[str]:
    """Those that work here, best first."""
    return [answer.rung for answer in map(preflight.ask, LADDER) if answer.works]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rung" in metafunc.fixturenames:
        names = rungs() if os.geteuid() == 0 else ["needs root"]
        metafunc.parametrize("rung", names, scope="module")


@pytest.fixture
def sees(rung: str, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Records a fact of the table; ``no``: what the rung is known not to see."""

    def record(fact: str, word: str = "yes") -> None:
        for name, value in (("fact", fact), ("rung", rung), ("sees", word)):
            record_property(name, value)

    return record


@dataclass(frozen=True)
class Run:
    """What the workload says it did, and what one rung saw of it."""

    expected: list[Expected]
    flows: list[Flow]
    losses: Losses
    still_open: list[Flow]
    pid: int

    def of(self, expected: Expected) -> list[Flow]:
        """The flows that are this socket; a listener by its own end."""
        return [flow for flow in self.flows if is_it(flow, expected)]

    def pairs(self) -> Iterator[tuple[Expected, Flow]]:
        for expected in self.expected:
            for flow in self.of(expected):
                yield expected, flow


SIDES = {
    "connected": Flag.CONNECTED,
    "accepted": Flag.ACCEPTED,
    "unaccepted": Flag.ACCEPTED,
    "listener": Flag.LISTENER,
}


def is_it(flow: Flow, expected: Expected) -> bool:
    if not flow.flags & SIDES[expected.kind] or flow.lport != expected.lport:
        return False
    if expected.kind == "listener":
        return printable(flow.laddr) == plain(expected.local)
    ends = printable(flow.laddr), printable(flow.raddr), flow.rport
    return ends == (plain(expected.local), plain(expected.remote), expected.rport)


def plain(address: str) -> str:
    """IPv4 and v4-mapped alike."""
    return printable(packed(address))


@cache
def played(rung: str) -> Run:
    """One run of the workload under one rung."""
    with ExitStack() as stack:
        environment = os.environ | {"PYTHONPATH": f"{WORKLOAD.parents[2] / 'src'}"}
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, WORKLOAD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        stack.callback(process.kill)
        assert process.stdin and process.stdout
        process.stdout.readline()
        probes = stack.enter_context(closing(attached(process.pid, rung=rung)))
        process.stdin.write("go\n")
        process.stdin.flush()
        expected = [Expected(**fields) for fields in json.loads(process.stdout.readline())]
        process.stdin.write("bye\n")
        process.stdin.close()
        assert process.wait(30) == 0
        finished = ended(probes, len(expected))
        still_open = list(flows(probes.scan(EVERYTHING)[0]))
        return Run(expected, finished, probes.losses(), still_open, process.pid)


def ended(probes: Probes, count: int) -> list[Flow]:
    """The flows that ended, when there are so many."""
    finished: list[Flow] = []

    def enough() -> bool:
        finished.extend(probes.drain())
        return len(finished) >= count

    assert wait_until(enough), (len(finished), count)
    return finished


@pytest.fixture(scope="module")
def run(rung: str) -> Run:
    return played(rung)


def wrong(
    run: Run, said: Callable[[Flow], object], right: Callable[[Expected], object]
) -> list[object]:
    """One entry for each socket whose flow says something else."""
    return [
        (expected.case, expected.kind, said(flow), "not", right(expected))
        for expected, flow in run.pairs()
        if said(flow) != right(expected)
    ]


class TestWorkload:
    """21 cases; each flow is held against what the script itself knows."""

    def test_every_socket_once(self, run: Run, sees: Callable[..., None]) -> None:
        sees("every socket of the scripted workload, each once, and no other")
        counts = {(e.case, e.kind, e.lport): len(run.of(e)) for e in run.expected}
        assert {case for case, _, _ in counts} == {case.__name__ for case in CASES}
        assert {key: count for key, count in counts.items() if count != 1} == {}
        assert [flow for flow in run.flows if not any(is_it(flow, e) for e in run.expected)] == []

    def test_all_are_over(self, run: Run, sees: Callable[..., None]) -> None:
        sees("the end of each, and nothing lost")
        assert run.still_open == []
        lost = run.losses
        assert (
            lost.ring_full, lost.flows_full, lost.targets_full, lost.overwritten,
            lost.scan_truncated,
        ) == LOST_NOTHING  # fmt: skip
        assert all(flow.gone_ns and flow.state == State.CLOSE for flow in run.flows)

    def test_opener(self, run: Run, sees: Callable[..., None]) -> None:
        sees("pid and name of the process that connected, accepted or listened")
        assert wrong(run, lambda flow: flow.pid, lambda expected: expected.opener or 0) == []
        names = {flow.comm for flow in run.flows if flow.pid}
        assert names == {Path(sys.executable).name[:15]}

    def test_closer(self, run: Run, sees: Callable[..., None]) -> None:
        sees("pid that let go last: forked, handed over, killed, ended, by exec, by a thread")
        assert wrong(run, lambda flow: flow.closer, lambda expected: expected.closer or 0) == []

    def test_bytes(self, run: Run, sees: Callable[..., None]) -> None:
        sees("bytes of payload, both ways, exactly")
        assert wrong(run, lambda flow: flow.sent_bytes, lambda e: e.sent_bytes) == []
        assert wrong(run, lambda flow: flow.received_bytes, lambda e: e.received_bytes) == []

    def test_how_it_ended(self, run: Run, sees: Callable[..., None]) -> None:
        sees("how it ended: FIN of either side, RST sent or received, refused, unanswered")
        flags = {
            "fin": Flag.FIN_SENT | Flag.FIN_RECEIVED,
            "rst-sent": Flag.RST_SENT,
            "rst-received": Flag.RST_RECEIVED,
            "refused": Flag.FAILED,
            "unanswered": Flag.FAILED,
            "-": Flag(0),
        }
        resets = Flag.RST_SENT | Flag.RST_RECEIVED | Flag.FAILED
        missing = [
            (expected.case, expected.kind, expected.end, Flag(flow.flags))
            for expected, flow in run.pairs()
            if flags[expected.end] & ~flow.flags & ~late(expected)
            or (expected.end == "fin" and flow.flags & resets)
            or (expected.end.startswith("rst") and flow.flags & resets & ~flags[expected.end])
        ]
        assert missing == []

    def test_errors(self, run: Run, sees: Callable[..., None]) -> None:
        sees("errno of a refusal and of a reset")
        errors = {"refused": 111, "rst-received": 104}
        concerned = [(e, flow.error) for e, flow in run.pairs() if e.end in errors]
        assert concerned and [(e.case, n) for e, n in concerned if n != errors[e.end]] == []

    def test_who_ended_first(self, run: Run, sees: Callable[..., None]) -> None:
        sees("who ended first")
        released: dict[str, list[tuple[int, bool]]] = {}
        for expected, flow in run.pairs():
            if expected.first is not None:
                released.setdefault(expected.case, []).append((flow.released_ns, expected.first))
        assert {
            case: order
            for case, order in released.items()
            if [first for _, first in sorted(order)] != [True, False] * (len(order) // 2)
        } == {}

    def test_times(self, run: Run, sees: Callable[..., None]) -> None:
        sees("times of birth, handshake, release and end, in this order")
        for expected, flow in run.pairs():
            times = [flow.born_ns, flow.established_ns, flow.released_ns, flow.gone_ns]
            present = [at_ns for at_ns in times if at_ns]
            # A segment's time has a microsecond's precision, a call's a nanosecond's.
            steps = pairwise(present)
            assert all(later >= earlier - 1000 for earlier, later in steps), (expected, times)
            assert bool(flow.connect_ns) == (expected.kind == "connected"), expected
            established = expected.kind != "listener" and not flow.flags & Flag.FAILED
            assert bool(flow.established_ns) == established, expected
            assert bool(flow.released_ns) == (expected.closer is not None), expected

    def test_namespace(self, run: Run, sees: Callable[..., None]) -> None:
        sees("network namespace")
        assert {flow.netns for flow in run.flows} == {Path("/proc/self/ns/net").stat().st_ino}


def late(expected: Expected) -> Flag:
    """What the kernel may keep from a socket: an orphan in FIN_WAIT2 becomes a timewait socket, and
    the peer's FIN may come later than that (tcp_rcv_state_process(); on slow machines it does)."""
    return Flag.FIN_RECEIVED if expected.end == "fin" and expected.first else Flag(0)


def facts_of(run: Run) -> list[tuple[object, ...]]:
    """What must not depend on the rung."""
    return sorted(
        (
            expected.case, expected.kind, flow.pid == run.pid, bool(flow.closer), flow.sent_bytes,
            flow.received_bytes, Flag(flow.flags) & ~late(expected), flow.error, flow.family,
            flow.state, bool(flow.established_ns), bool(flow.fin_ns or late(expected)),
            bool(flow.released_ns),
        )
        for expected, flow in run.pairs()
    )  # fmt: skip


def test_all_rungs_agree(rung: str) -> None:
    best = played(rungs()[0])
    assert facts_of(played(rung)) == facts_of(best)


@pytest.fixture(scope="module")
def probes(rung: str) -> Iterator[Probes]:
    with closing(attached(ME, rung=rung)) as made:
        yield made


def pair(opened: ExitStack, port: int = 0) -> tuple[socket.socket, socket.socket, socket.socket]:
    """Client, accepted end, listener."""
    listener = opened.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(8)
    client = opened.enter_context(socket.create_connection(listener.getsockname()))
    server = opened.enter_context(listener.accept()[0])
    return client, server, listener


@contextmanager
def named(comm: Path, name: str) -> Iterator[None]:
    """A process that gives itself another name for a while."""
    before = comm.read_text()
    comm.write_text(name)
    try:
        yield
    finally:
        comm.write_text(before)


def seen(probes: Probes, link: socket.socket) -> Flow:
    """The open flow of a socket of ours."""
    inode = os.fstat(link.fileno()).st_ino
    [flow] = [f for f in flows(probes.scan(EVERYTHING)[0]) if f.inode == inode]
    return flow


class TestOpen:
    """What a scan says of sockets that are open."""

    def test_inode(self, probes: Probes, opened: ExitStack, sees: Callable[..., None]) -> None:
        sees("inode of the socket's file, while it is open")
        ends = pair(opened)
        assert {seen(probes, end).lport for end in ends} == {end.getsockname()[1] for end in ends}

    def test_owner_of_an_accept_without_address(
        self, rung: str, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        """A blind spot of the cgroup rung, which it declares."""
        knows = rung != "cgroup"
        sees(
            "at accept(), the owner, where the caller does not ask for the peer's address",
            "yes" if knows else "no: from its fd table, and at its end",
        )
        client, _, listener = pair(opened)
        again = opened.enter_context(socket.create_connection(listener.getsockname()))
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.accept4(listener.fileno(), None, None, 0)
        opened.callback(os.close, fd)
        inode = os.fstat(fd).st_ino
        [flow] = [f for f in flows(probes.scan(EVERYTHING)[0]) if f.inode == inode]
        assert flow.pid == (ME if knows else 0)
        assert any("without asking" in spot for spot in probes.blind_spots) != knows
        assert inode in {held.inode for held in probes.inventory() if held.pid == ME}
        assert again and client

    def test_owner_of_an_accept_with_address(
        self, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("at accept(), the owner, where the caller asks (as HAProxy does)")
        client, server, listener = pair(opened)
        assert [seen(probes, each).pid for each in (client, server, listener)] == [ME, ME, ME]

    def test_owner_has_its_process_s_name(
        self, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("the name that a process has by then, whatever its threads are called")
        opened.enter_context(named(Path("/proc/self/comm"), "hatrace-a-name"))
        with ThreadPoolExecutor(1) as thread:
            thread.submit(Path("/proc/thread-self/comm").write_text, "hatrace-thread").result()
            ends = thread.submit(pair, opened).result()
        assert {seen(probes, end).comm for end in ends} == {"hatrace-a-name"}

    def test_owner_while_many_wait_in_accept(
        self, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        """A kretprobe has an instance for each CPU, and a blocked call keeps one."""
        sees("the same, while more threads of anybody wait in accept() than there are CPUs")
        count = 4 * len(os.sched_getaffinity(0)) + 8
        waiting = opened.enter_context(python(WAIT, str(count)))
        probes.leave([waiting.pid])
        assert says(waiting) == f"{count} wait\n"
        client, server, listener = pair(opened)
        assert [seen(probes, each).pid for each in (client, server, listener)] == [ME, ME, ME]

    def test_half_closed_and_ghost(
        self, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("half-closed sockets and ghosts while they are held")
        leaver, half_closed, _ = pair(opened)
        aborter, ghost, _ = pair(opened)
        leaver.close()
        reset(aborter)
        now_ns = time.monotonic_ns() + 10**9
        wait_until(lambda: seen(probes, ghost).state == State.CLOSE)
        wait_until(lambda: seen(probes, half_closed).state == State.CLOSE_WAIT)
        assert seen(probes, half_closed).condition(now_ns) is Condition.HALF_CLOSED
        assert seen(probes, ghost).condition(now_ns) is Condition.GHOST
        assert seen(probes, ghost).rport and seen(probes, ghost).lport

    def test_a_listener_that_is_paused_is_no_ghost(self, probes: Probes, opened: ExitStack) -> None:
        """As HAProxy does while another takes its ports over: it listens anew, or closes it."""
        _, _, listener = pair(opened)
        assert seen(probes, listener).condition(0) is Condition.LISTENER
        listener.shutdown(socket.SHUT_RDWR)
        paused = seen(probes, listener)
        assert paused.state == State.CLOSE and paused.closed_ns
        assert paused.condition(0) is Condition.UNCONNECTED
        listener.listen(8)
        assert seen(probes, listener).condition(0) is Condition.LISTENER

    def test_unanswered(self, probes: Probes, opened: ExitStack, sees: Callable[..., None]) -> None:
        sees("connects that nobody answers, while they wait")
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        opened.enter_context(socket.create_connection(listener.getsockname()))
        client = opened.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        waiting = [
            flow
            for flow in flows(probes.scan(EVERYTHING)[0])
            if flow.state == State.SYN_SENT and flow.rport == listener.getsockname()[1]
        ]
        assert [flow.pid for flow in waiting] == [ME]
        assert (printable(waiting[0].laddr), waiting[0].lport) == client.getsockname()
        assert waiting[0].condition(time.monotonic_ns()) is Condition.UNANSWERED
        assert seen(probes, listener).unread_bytes == 1  # of a listener: connections waiting
        networks = {
            target.netns
            for target in probes.targets()
            if target.pid == ME and target.port == listener.getsockname()[1]
        }
        assert networks == {Path("/proc/self/ns/net").stat().st_ino}

    def test_unread_and_unsent(
        self, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("bytes received and not read")
        client, server, _ = pair(opened)
        client.sendall(b"x" * 1234)
        wait_until(lambda: seen(probes, server).unread_bytes == 1234)
        flow = seen(probes, server)
        assert (flow.unread_bytes, flow.received_bytes) == (1234, 1234)
        assert seen(probes, client).sent_bytes == 1234


class TestAdopted:
    """Sockets older than hatrace."""

    def test_their_sides_and_their_end(
        self, rung: str, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("sockets older than hatrace: side, state, end")
        client, server, listener = pair(opened)
        ghost_peer, ghost, its_listener = pair(opened)
        reset(ghost_peer)
        probes = opened.enter_context(closing(attached(ME, rung=rung)))
        outside, inside, waiting = (seen(probes, each) for each in (client, server, listener))
        assert outside.flags & (Flag.CONNECTED | Flag.ACCEPTED) == Flag.CONNECTED
        assert inside.flags & (Flag.CONNECTED | Flag.ACCEPTED) == Flag.ACCEPTED
        assert waiting.flags & Flag.LISTENER
        assert all(flow.flags & Flag.ADOPTED for flow in (outside, inside, waiting))
        dead = seen(probes, ghost)
        assert dead.state == State.CLOSE and dead.flags & Flag.ACCEPTED
        assert dead.lport == its_listener.getsockname()[1]
        client.close()
        server.close()
        ends = {flow.id: flow for flow in ended(probes, 2)}
        assert ends[outside.id].closer == ends[inside.id].closer == ME
        assert ends[outside.id].flags & Flag.ADOPTED

    def test_their_owners_name(self, rung: str, opened: ExitStack) -> None:
        """A process that had a longer name before: 5.10 leaves its end behind the new one."""
        mine = Path("/proc/self/comm")
        opened.callback(mine.write_text, mine.read_text().strip())
        mine.write_text("a-longer-name")
        mine.write_text("short")
        _, server, _ = pair(opened)
        probes = opened.enter_context(closing(attached(ME, rung=rung)))
        assert seen(probes, server).comm_bytes == b"short".ljust(16, b"\0")


class TestScope:
    """Who is watched."""

    def test_forks_join(self, rung: str, opened: ExitStack, sees: Callable[..., None]) -> None:
        sees("forks of those watched; nobody else")
        parent, stranger = (opened.enter_context(python(CONNECT)) for _ in range(2))
        probes = opened.enter_context(closing(attached(parent.pid, rung=rung)))
        says(stranger)
        child, _ = says(parent).split()
        assert int(child) != parent.pid and int(child) in probes.followed()
        assert {flow.pid for flow in ended(probes, 1)} == {int(child)}

    def test_a_program_that_comes(
        self, rung: str, tmp_path: Path, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("programs started later, by their name")
        program = tmp_path / f"py{ME}"
        program.symlink_to(Path(sys.executable).resolve())
        probes = attached(rung=rung, scope=Scope(ScopeKind.COMM, (program.name,)))
        opened.enter_context(closing(probes))
        process = opened.enter_context(python(CONNECT, name=str(program)))
        child, _ = says(process).split()
        assert {(flow.pid, flow.comm) for flow in ended(probes, 1)} == {(int(child), program.name)}

    def test_a_cgroup(self, rung: str, opened: ExitStack, sees: Callable[..., None]) -> None:
        sees("the processes of a cgroup and of those below it")
        folder = opened.enter_context(new_cgroup("test", "below"))
        process, stranger = (opened.enter_context(python(CONNECT)) for _ in range(2))
        (folder / "below/cgroup.procs").write_text(str(process.pid))
        probes = attached(process.pid, rung=rung, scope=Scope(ScopeKind.CGROUP, (str(folder),)))
        opened.enter_context(closing(probes))
        says(stranger)
        child, _ = says(process).split()
        assert {flow.pid for flow in ended(probes, 1)} == {int(child)}
        process.wait(20)

    def test_another_namespace(
        self, rung: str, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("sockets in other network namespaces, and which one")
        inside = ("unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
        process = opened.enter_context(python(CONNECT, before=inside))
        probes = opened.enter_context(closing(attached(process.pid, rung=rung)))
        child, namespace = map(int, says(process).split())
        assert namespace != Path("/proc/self/ns/net").stat().st_ino
        assert {(flow.pid, flow.netns) for flow in ended(probes, 1)} == {(child, namespace)}

    def test_somebody_elses_listener_on_the_same_port(
        self, probes: Probes, opened: ExitStack, sees: Callable[..., None]
    ) -> None:
        sees("of one port shared by SO_REUSEPORT, only what those watched accept")
        mine = opened.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
        port = mine.getsockname()[1]
        stranger = opened.enter_context(python(SERVE, str(port)))
        probes.leave([stranger.pid])  # a fork of ours: it had joined
        assert says(stranger) == "ready\n"
        for _ in range(20):
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        mine.setblocking(False)
        accepted = []
        while link := accepted_by(mine):
            accepted.append(opened.enter_context(link))
        assert wait_until(lambda: int(says(stranger)) == 20 - len(accepted))
        known = [f for f in flows(probes.scan(EVERYTHING)[0]) if f.lport == port]
        inbound = [flow.pid for flow in known if flow.flags & Flag.ACCEPTED]
        assert inbound == [ME] * len(accepted)


def accepted_by(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None


CONNECT = """
import os, socket
input()
if not os.fork():
    listener = socket.create_server(("127.0.0.1", 0))
    link = socket.create_connection(listener.getsockname())
    accepted = listener.accept()
    print(os.getpid(), os.stat("/proc/self/ns/net").st_ino, flush=True)
    os._exit(0)
os.wait()
"""
"""When told, a child connects to itself, says its pid and namespace, and ends."""

SERVE = """
import socket, sys, threading
input()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), reuse_port=True)
print("ready", flush=True)
kept = []
def serve():
    while True:
        kept.append(listener.accept())
threading.Thread(target=serve, daemon=True).start()
for line in sys.stdin:
    print(len(kept), flush=True)
"""
"""When told, listens and accepts; then says, each time it is asked, how many it has."""


WAIT = """
import pathlib, socket, sys, threading, time
input()
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(int(sys.argv[1])):
    threading.Thread(target=listener.accept, daemon=True).start()
tasks = pathlib.Path("/proc/self/task")
def sleeping():
    calls = [(task / "syscall").read_text().split()[0] for task in tasks.iterdir()]
    return sum(calls.count(accept4) for accept4 in ("288", "242"))  # x86_64, aarch64
deadline = time.monotonic() + 20
while sleeping() < int(sys.argv[1]) and time.monotonic() < deadline:
    time.sleep(0.05)
print(sleeping(), "wait", flush=True)
input()
"""
"""When told, so many threads call accept(), and it says how many are in it."""


@contextmanager
def python(
    code: str, *words: str, before: Sequence[str] = (), name: str = sys.executable
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*before, name, "-c", code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[str]) -> str:
    """Let it go on, and the line that it says next."""
    assert process.stdin and process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    return process.stdout.readline()
