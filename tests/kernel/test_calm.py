"""A scan passes calm flows over (bpf/calm.h), and misses nothing that happens to them."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from hatrace.kernel.maps import Sizes
from hatrace.kernel.probes import LEAST_LIGHT_SCANS, Probes
from hatrace.kernel.walk import KEYS_A_RUN
from hatrace.kernel.wire import Criteria
from hatrace.model.flow import Condition, Flow, flows
from tests.kernel.own import ME, Pair, attached, reset

pytestmark = pytest.mark.kernel

AT_ONCE = Criteria(half_closed_ns=1, ghost_ns=1, orphan_ns=1)
"""No suspect is too young."""
PAIRS = 100


@pytest.fixture
def probes(opened: ExitStack) -> Probes:
    return opened.enter_context(closing(attached(ME)))


def calm(probes: Probes, connected: Callable[[], Pair], count: int = PAIRS) -> list[Pair]:
    """So many connections that scans have seen, and pass over from now on."""
    made = [connected() for _ in range(count)]
    probes.scan(AT_ONCE)
    assert looks(probes) < count, "else this tells nothing"
    return made


def looks(probes: Probes, criteria: Criteria = AT_ONCE) -> int:
    """How many flows a scan looks at."""
    probes.scan(criteria)
    return probes.looked


def suspects(probes: Probes) -> list[Flow]:
    found = flows(probes.scan(AT_ONCE)[0])
    return [flow for flow in found if flow.condition(0) is not Condition.LISTENER]


def opened_now(probes: Probes, port: int) -> int:
    """By the totals of who connects to the port, and of who accepts there."""
    probes.scan(AT_ONCE)
    return sum(target.open for target in probes.targets() if target.port == port)


def test_calm_flows_are_counted_and_not_looked_at(
    probes: Probes, connected: Callable[[], Pair], listener: socket.socket
) -> None:
    calm(probes, connected)
    assert opened_now(probes, listener.getsockname()[1]) == 2 * PAIRS
    counts = [looks(probes) for _ in range(LEAST_LIGHT_SCANS + 1)]
    assert max(counts) >= 2 * PAIRS, "now and then all are looked at"
    assert sorted(counts)[-2] < PAIRS, "but not often"


def test_one_whose_peer_ends_is_a_suspect_of_the_next_scan(
    probes: Probes, connected: Callable[[], Pair]
) -> None:
    client, accepted = calm(probes, connected)[7]
    client.shutdown(socket.SHUT_WR)
    [flow] = suspects(probes)
    assert flow.inode == os.fstat(accepted.fileno()).st_ino
    assert flow.condition(0) is Condition.HALF_CLOSED
    assert flow.fin_ns


def test_one_whose_peer_resets_it_is_a_suspect_of_the_next_scan(
    probes: Probes, connected: Callable[[], Pair]
) -> None:
    client, accepted = calm(probes, connected)[7]
    reset(client)
    [flow] = suspects(probes)
    assert flow.inode == os.fstat(accepted.fileno()).st_ino
    assert flow.condition(0) is Condition.GHOST


def test_one_that_is_let_go_is_an_orphan_of_the_next_scan(
    probes: Probes, connected: Callable[[], Pair]
) -> None:
    client, accepted = calm(probes, connected)[7]
    port = client.getsockname()[1]
    client.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            client.send(bytes(1 << 16))
    client.close()  # its FIN waits behind data which nobody reads
    [flow] = suspects(probes)
    assert (flow.lport, flow.condition(0)) == (port, Condition.ORPHAN)
    assert accepted


def test_those_of_a_target_that_is_watched_from_now_on(
    probes: Probes, connected: Callable[[], Pair], listener: socket.socket
) -> None:
    calm(probes, connected)
    port = listener.getsockname()[1]
    [target] = [t for t in probes.targets() if t.port == port and not t.inbound]
    probes.watch(target.index, 1)
    found = suspects(probes)
    assert len(found) == PAIRS
    assert {flow.target for flow in found} == {target.index}
    assert len(suspects(probes)) == PAIRS, "and from then on"
    probes.watch(target.index, 0)
    assert not suspects(probes)
    assert looks(probes) < PAIRS, "they are calm again"


def test_counts_stay_exact_as_flows_come_and_go(
    probes: Probes, connected: Callable[[], Pair], listener: socket.socket
) -> None:
    """Calm ones, young ones, and new ones at the addresses of calm ones that ended."""
    port = listener.getsockname()[1]
    pairs = calm(probes, connected)
    for _ in range(LEAST_LIGHT_SCANS + 2):
        for _ in range(10):
            for end in pairs.pop(0):
                end.close()
            pairs.append(connected())
        assert opened_now(probes, port) == 2 * PAIRS
    for client, _ in pairs[:30]:
        client.shutdown(socket.SHUT_WR)
    assert opened_now(probes, port) == 2 * PAIRS, "half-closed ones are open"
    for pair in pairs:
        for end in pair:
            end.close()
    assert opened_now(probes, port) == 0
    assert probes.losses().total == 0


def test_more_to_look_at_than_there_is_room_for(
    opened: ExitStack, connected: Callable[[], Pair]
) -> None:
    """The whole table is looked at instead, until there is room."""
    probes = opened.enter_context(closing(attached(ME, sizes=Sizes(flows=512))))
    pairs = [connected() for _ in range(200)]
    for client, _ in pairs:
        client.shutdown(socket.SHUT_WR)
    assert len(suspects(probes)) == 200
    for client, accepted in pairs[:150]:
        accepted.close()
        client.close()
    assert len(suspects(probes)) == 50
    late, other = connected()
    late.shutdown(socket.SHUT_WR)
    assert os.fstat(other.fileno()).st_ino in {flow.inode for flow in suspects(probes)}


def test_one_that_was_there_before_and_ends_later(
    opened: ExitStack, connected: Callable[[], Pair]
) -> None:
    client, accepted = connected()
    probes = opened.enter_context(closing(attached(ME)))
    for _ in range(3):
        assert not suspects(probes)
    client.shutdown(socket.SHUT_WR)
    time.sleep(0.01)
    [flow] = suspects(probes)
    assert flow.inode == os.fstat(accepted.fileno()).st_ino
    assert flow.preexisting


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many as may be: in guests of the matrix 1,024 is the soft limit, 4,096 the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_none_of_many_suspects_is_passed_over_while_others_calm_down(
    opened: ExitStack, connected: Callable[[], Pair]
) -> None:
    """A scan drops from its maps what it has seen, and goes on."""
    probes = opened.enter_context(closing(attached(ME, sizes=Sizes(flows=1 << 14))))
    ghosts = set()
    for client, accepted in [connected() for _ in range(400)]:
        ghosts.add(os.fstat(accepted.fileno()).st_ino)
        reset(client)
    for _ in range(10):
        for _ in range(150):
            connected()
        assert {flow.inode for flow in suspects(probes)} == ghosts
    still_open = len(ghosts) + 2 * 10 * 150 + 1
    assert still_open > 3 * KEYS_A_RUN, "else they are looked at in one run"
    assert probes.scan(Criteria(everything=True))[1] == still_open
