"""What finds no room is counted, to the flow, and a leak is named all the same.

Rooms are made tiny on purpose; the storms are real sockets of this process, on loopback.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

import pytest

from hatrace import detectors
from hatrace.commands._tracing import Tracing
from hatrace.flows.table import Table
from hatrace.haproxy import known_issues
from hatrace.kernel import maps, totals
from hatrace.kernel.maps import Sizes
from hatrace.kernel.probes import Probes
from hatrace.kernel.wire import Criteria
from hatrace.model.address import packed
from hatrace.model.columns import Columns
from hatrace.model.event import Event, Finished, Open, Targets, Tick
from hatrace.model.finding import Finding
from hatrace.model.flow import LAYOUT, Condition, Flag, flows
from hatrace.pipeline import run
from tests import factories
from tests.kernel.own import ME, MINE, Pair, attached, reset
from tests.kernel.running import Hatrace

pytestmark = pytest.mark.kernel

TINY_RING = Sizes(ring_bytes=4096)
RING_HOLDS = 4096 // 192
PAIRS = 2_000
GHOSTS = 3
GHOST_S = 5.5
"""A little more than the detector waits before it calls a held dead socket a leak."""


@pytest.fixture
def watched(opened: ExitStack) -> Callable[[Sizes], Probes]:
    """Attaches to this process, with room for so much; its listener is known by then."""

    def start(sizes: Sizes) -> Probes:
        return opened.enter_context(closing(attached(ME, sizes=sizes)))

    return start


def storm(connected: Callable[[], Pair], count: int) -> None:
    """So many connections that come and go, one after the other: two flows each."""
    for _ in range(count):
        for end in connected():
            end.close()


def aborted(connected: Callable[[], Pair]) -> socket.socket:
    """The accepted end of a connection that its client reset: held here, gone in the kernel."""
    client, accepted = connected()
    reset(client)
    return accepted


def gone(probes: Probes) -> int:
    """The flows that ended, by the totals."""
    probes.scan(Criteria())
    return sum(target.gone for target in probes.targets())


def until(true: Callable[[], bool]) -> None:
    """The last sockets end a moment after their close; a generous limit."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


@pytest.fixture
def on_one_cpu() -> Iterator[None]:
    """What is sent on loopback is received on the same CPU: one lane fills."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("on_one_cpu")
def test_a_full_ring_counts_each_flow_it_has_no_room_for(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes]
) -> None:
    probes = watched(TINY_RING)
    storm(connected, PAIRS)
    until(lambda: gone(probes) == 2 * PAIRS)
    received = list(probes.drain())
    held = RING_HOLDS + TINY_RING.lane_flows
    assert len(received) == held
    assert probes.losses().ring_full == 2 * PAIRS - held


def test_flows_of_a_lane_are_as_those_of_the_ring(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes]
) -> None:
    """The kernel takes distances as `Columns` does, and says of the same times that they were."""
    probes = watched(Sizes())
    storm(connected, PAIRS)
    until(lambda: gone(probes) == 2 * PAIRS)
    flows = probes.drain()
    assert len(flows) == 2 * PAIRS
    assert Columns.of(flows.records()) == flows
    assert all(f.born_ns <= f.established_ns <= f.released_ns <= f.gone_ns for f in flows)
    assert {f.connect_ns > 0 for f in flows} == {True, False}


def test_a_ring_that_is_drained_on_the_way_loses_no_more_than_it_says(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes]
) -> None:
    probes = watched(TINY_RING)
    received = 0
    for _ in range(40):
        storm(connected, PAIRS // 40)
        received += len(probes.drain())
    until(lambda: gone(probes) == 2 * PAIRS)
    received += len(probes.drain())
    losses = probes.losses()
    assert losses.ring_full > 0
    assert received + losses.ring_full == 2 * PAIRS
    assert losses.total == losses.ring_full


def judged(probes: Probes, finished: Columns) -> tuple[Finding, ...]:
    """What the detectors say of all that the kernel shows now."""
    info = factories.info(scope=MINE, started_ns=time.monotonic_ns())
    records, matched = probes.scan(Criteria())
    now_ns = time.monotonic_ns()
    events: list[Event] = [
        Finished(now_ns, finished),
        Open(now_ns, records, matched),
        Targets(now_ns, probes.targets()),
        probes.losses(),
        Tick(now_ns),
    ]
    return run(events, Table(info), detectors.create(known_issues.matching), []).open


def test_a_leak_is_named_whatever_the_ring_has_lost(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes], opened: ExitStack
) -> None:
    probes = watched(TINY_RING)
    storm(connected, PAIRS // 2)
    ghosts = [opened.enter_context(aborted(connected)) for _ in range(GHOSTS)]
    since = time.monotonic()
    storm(connected, PAIRS // 2)
    ended = 2 * PAIRS + GHOSTS
    until(lambda: gone(probes) == ended and time.monotonic() > since + GHOST_S)
    finished = probes.drain()
    assert len(finished) + probes.losses().ring_full == ended
    (finding,) = judged(probes, finished)
    assert (finding.slug, finding.count) == ("unreleased-accept", GHOSTS)
    inodes = {os.fstat(ghost.fileno()).st_ino for ghost in ghosts}
    assert {one.inode for one in finding.evidence} == inodes


def test_all_flows_reset_at_once_are_all_there(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes], opened: ExitStack
) -> None:
    """More ghosts than one scan reports: all are counted, and which are missing is known."""
    probes, count = watched(Sizes()), 5_000
    pairs = [connected() for _ in range(count)]
    for client, _ in pairs:
        reset(client)
    time.sleep(0.6)  # before that no dead socket is a suspect
    records, matched = probes.scan(Criteria())
    ghosts = [flow for flow in flows(records) if flow.condition(0) is Condition.GHOST]
    listeners = len(records) // LAYOUT.size - len(ghosts)
    assert matched == count + 1
    assert probes.losses().scan_truncated == matched - Criteria().limit
    assert len(ghosts) + listeners == Criteria().limit
    assert all(flow.flags & Flag.RST_RECEIVED for flow in ghosts)
    assert sum(target.open for target in probes.targets()) == count
    assert len(probes.drain()) == count
    assert probes.losses().total == 0


def test_flows_without_a_place_in_the_table_are_counted(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes], opened: ExitStack
) -> None:
    probes = watched(Sizes(flows=256))
    room = 256 - probes.scan(Criteria(everything=True))[1]
    for end in [end for _ in range(300) for end in connected()]:
        opened.enter_context(end)
    assert probes.losses().flows_full == 600 - room
    assert probes.scan(Criteria(everything=True))[1] == 256


def test_flows_of_more_targets_than_there_is_room_for_are_counted(
    watched: Callable[[Sizes], Probes], opened: ExitStack
) -> None:
    """Once each, however often they are looked at.

    Each listener makes two targets: its own, and that of those who connect to it.
    """
    room, listeners = 16, 20
    probes = watched(Sizes(targets=room))
    ends = []
    for _ in range(listeners):
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        ends += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    for _ in range(3):
        probes.scan(Criteria())
    for end in ends:
        end.close()
    until(lambda: len(probes.drain()) >= 0 and gone(probes) >= room - 1)
    assert probes.losses().targets_full == 2 * listeners - (room - 1)


def test_targets_of_ended_processes_make_room_for_new_ones(
    watched: Callable[[Sizes], Probes], opened: ExitStack
) -> None:
    """Each reload, and each check by a command, brings processes with targets of their own."""
    room, processes = 16, 50
    listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
    probes = watched(Sizes(targets=room))
    for done in range(1, processes + 1):
        pid = os.fork()
        if not pid:
            socket.create_connection(listener.getsockname()).close()
            os._exit(0)
        os.waitpid(pid, 0)
        listener.accept()[0].close()
        until(partial(counted, probes, pid, [(1, 1)]))
        until(partial(counted, probes, 0, [(done, done)]))
        assert len(probes.targets()) < room
    assert probes.losses().total == 0


def counted(probes: Probes, pid: int, expected: list[tuple[int, int]]) -> bool:
    """Whether a process's targets (0: those of whoever accepts) have counted so many yet."""
    probes.scan(Criteria())
    return [(row.born, row.gone) for row in probes.targets() if row.pid == pid] == expected


def test_targets_at_rest_make_room_for_new_ones(
    watched: Callable[[Sizes], Probes], opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that goes anywhere, servers whose addresses change; each address is two targets."""
    monkeypatch.setattr(totals, "REST_LOOKS", 3)
    room, rounds = 128, 10
    kept_open, rare, busy = "127.1.0.1", "127.1.0.2", "127.1.0.3"
    listener = opened.enter_context(socket.create_server(("0.0.0.0", 0)))
    probes, port = watched(Sizes(targets=room)), listener.getsockname()[1]

    def visit(host: str) -> Pair:
        return socket.create_connection((host, port)), listener.accept()[0]

    for end in visit(kept_open):
        opened.enter_context(end)
    storm(partial(visit, rare), 1)
    until(partial(gone_to, probes, {rare: 1}))
    for row in probes.targets():
        if row.address == packed(rare):
            probes.watch(row.index, 10**9)
    for number in range(rounds):
        new = {f"127.2.{number}.{each}": 1 for each in range(10)}
        for host in (busy, *new):
            storm(partial(visit, host), 1)
        until(partial(gone_to, probes, new | {busy: number + 1}))
        for _ in range(totals.REST_LOOKS + 2):
            probes.scan(Criteria())
            assert len(probes.targets()) < room
    assert probes.losses().targets_full == 0
    assert gone_to(probes, {kept_open: 0, rare: 1, busy: rounds})
    assert not gone_to(probes, {"127.2.0.0": 1}), "the longest at rest"


def gone_to(probes: Probes, expected: dict[str, int]) -> bool:
    """Whether so many flows to each address have ended by now, by both its targets."""
    probes.scan(Criteria())
    rows = probes.targets()
    return all(
        [row.gone for row in rows if row.address == packed(host)] == [count] * 2
        for host, count in expected.items()
    )


def came_and_went() -> int:
    """A child whose life is over."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_forks_that_have_ended_make_room_in_the_scope(watched: Callable[[Sizes], Probes]) -> None:
    """The kernel lets each fork of those watched join; most, user space never sees."""
    room = 8
    probes = watched(Sizes(processes=room))
    for _ in range(2 * room):
        came_and_went()
    assert len(probes.followed()) == room
    probes.follow([os.getppid()])
    assert probes.followed() == {ME, os.getppid()}
    child = came_and_went()
    assert probes.forget_ended() == {child}
    assert probes.followed() == {ME, os.getppid()}
    assert probes.troubles() == []


def test_more_living_processes_than_there_is_room_for_are_a_trouble(
    watched: Callable[[Sizes], Probes], opened: ExitStack
) -> None:
    room, count = 3, 5
    probes = watched(Sizes(processes=room))
    processes = [
        opened.enter_context(subprocess.Popen("cat", stdin=subprocess.PIPE)) for _ in range(count)
    ]
    probes.follow(process.pid for process in processes)
    assert len(probes.followed()) == room
    [trouble] = probes.troubles()
    assert f" {1 + count - room} more " in trouble.why
    assert probes.troubles() == []


def test_an_inventory_lets_those_go_that_have_ended(opened: ExitStack) -> None:
    tracing = opened.enter_context(Tracing(MINE, None, "summary", bpf_stats=False))
    child = came_and_went()
    assert child in tracing._probes.followed()
    assert list(tracing.events(lambda: False))
    assert child not in tracing._probes.followed()
    assert ME in tracing._probes.followed()


def test_detail_can_be_dropped_and_taken_up_while_it_runs(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes]
) -> None:
    """What is only counted is no loss."""
    probes = watched(Sizes())
    reported = []
    for wanted in (True, False, True):
        before = gone(probes)
        probes.report_finished(wanted)
        storm(connected, 100)
        ended = partial(lambda due: gone(probes) == due, before + 200)
        until(ended)
        reported.append(len(probes.drain()))
    assert reported == [200, 0, 200]
    assert probes.losses().total == 0


def test_a_budget_is_kept_by_doing_less_and_a_leak_is_named_all_the_same(
    connected: Callable[[], Pair], opened: ExitStack
) -> None:
    """A tenth of a percent is less than hatrace needs at any pace: it says so, and works on."""
    options = ("live", "--json", "--pid", str(os.getpid()), "--max-cpu", "0.1")
    with Hatrace(*options) as hatrace:
        hatrace.started()
        said = hatrace.trouble("hatrace")
        assert said["subject"] == "detail"
        assert "--max-cpu" in said["why"]
        for _ in range(GHOSTS):
            opened.enter_context(aborted(connected))
        assert hatrace.finding("unreleased-accept")["count"] == GHOSTS


def test_few_may_be_left_for_later(
    connected: Callable[[], Pair], watched: Callable[[Sizes], Probes]
) -> None:
    probes = watched(Sizes())
    storm(connected, 2)
    until(lambda: gone(probes) == 4)
    assert not probes.drain(5 * LAYOUT.size)
    assert len(probes.drain(4 * LAYOUT.size)) == 4
    assert not probes.drain()


@pytest.mark.parametrize("room", [1, 2, 64])
def test_what_finds_no_room_in_a_lane_takes_the_ring(
    room: int,
    connected: Callable[[], Pair],
    watched: Callable[[Sizes], Probes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lane is a CPU's own, and short where there are many CPUs."""
    monkeypatch.setattr(maps, "MOST_LANE_FLOWS", room)
    probes = watched(Sizes())
    received: list[tuple[int, int]] = []
    for _ in range(4):
        storm(connected, PAIRS // 4)
        received += [(flow.id, flow.born_ns) for flow in probes.drain()]
    until(lambda: gone(probes) == 2 * PAIRS)
    received += [(flow.id, flow.born_ns) for flow in probes.drain()]
    assert len(received) == len(set(received)) == 2 * PAIRS
    assert probes.losses().total == 0
