"""Who belongs together, and how each is called and asked by hand."""

from __future__ import annotations

from hatrace.actions.haproxies import Haproxies, families, title
from hatrace.model.topology import CommandSocket, Kind, Level
from tests import factories as f

MASTER = f.process(99, Kind.MASTER, parent_pid=1)
OTHER_MASTER = f.process(300, Kind.MASTER, parent_pid=1)


def test_workers_belong_to_their_master() -> None:
    old = f.process(90, Kind.OLD_WORKER, reloads=2)
    stranger = f.process(301, parent_pid=300)
    found = families([MASTER, f.process(100), old, OTHER_MASTER, stranger])
    assert [{each.pid for each in family.processes} for family in found] == [
        {99, 100, 90},
        {300, 301},
    ]
    assert found[0].master == MASTER and str(found[0]) == "master 99"
    assert [each.pid for each in found[0].workers] == [100, 90], "the current one comes first"
    assert 90 in found[0] and 301 not in found[0]


def test_processes_without_a_master_belong_to_those_they_replaced() -> None:
    def alone(pid: int, kind: Kind, *words: str) -> object:
        return f.process(pid, kind, parent_pid=1, command_line=("haproxy", *words))

    first = alone(10, Kind.OLD_WORKER)
    second = alone(20, Kind.OLD_WORKER, "-sf", "10")
    third = alone(30, Kind.STANDALONE, "-sf", "20")
    other = alone(40, Kind.STANDALONE)
    found = families([first, second, third, other])  # type: ignore[list-item]
    assert [{each.pid for each in family.processes} for family in found] == [{10, 20, 30}, {40}]
    assert str(found[0]) == "process 30"


def test_titles() -> None:
    assert title(f.process(100)) == "worker 100"
    assert title(f.process(90, Kind.OLD_WORKER, reloads=1)) == "old worker 90 (1 reload ago)"
    assert title(f.process(90, Kind.OLD_WORKER, reloads=3)) == "old worker 90 (3 reloads ago)"
    assert title(f.process(7, Kind.STANDALONE)) == "process 7"


def test_by_hand_uses_the_own_socket_else_the_masters() -> None:
    haproxies = Haproxies(None)
    old = f.process(90, Kind.OLD_WORKER, container_pid=9)
    haproxies.processes = (MASTER, f.process(100), old)
    haproxies._asking.know(
        haproxies.processes,
        [
            CommandSocket("/run/m.sock", True, 99, 5, 10, Level.ADMIN),
            CommandSocket("ipv4@0.0.0.0:9999", False, 100, None, None, Level.USER),
            CommandSocket("/run/it's.sock", False, 100, 6, None, Level.ADMIN),
        ],
    )
    own = haproxies.by_hand(f.process(100), "disable server be/s1")
    assert own.startswith("echo 'disable server be/s1' | socat -t 5 - ")
    assert own.endswith("""'UNIX-CONNECT:/run/it'"'"'s.sock'"""), "the one that allows most"
    assert haproxies.by_hand(old, "show sess") == (
        "echo '@!9 show sess' | socat -t 5 - UNIX-CONNECT:/run/m.sock"
    ), "by the pid that its master knows"
    assert haproxies.by_hand(f.process(5, parent_pid=1), "show sess") == ""
