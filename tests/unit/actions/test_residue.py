"""Whose a socket is: by its stream, its address, or `show fd`; and what is left without one."""

from __future__ import annotations

from hatrace.actions.residue import Residue, _Worker, note
from hatrace.actions.target import resolve
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Kind
from tests import factories as f
from tests.unit.actions.scripted import Answer, Scripted, servers, sess, stat

MASTER = f.process(99, Kind.MASTER, parent_pid=1)
WORKER = f.process(100)


def looked(
    flows: dict[int, Flow],
    sessions: str | None = "",
    fds: str | None = None,
    shared: bool = False,
) -> Residue:
    """What is left of be/s1 (192.0.2.1:443) among one worker's flows by fd."""
    rows = [("be/s1", "192.0.2.1", 443), ("b2/x", "192.0.2.1" if shared else "192.0.2.9", 443)]
    script: dict[tuple[int, str], Answer] = {
        (100, "show info"): "Pid: 100\n",
        (100, "show servers state"): servers(*rows),
        (100, "show stat"): stat("be/s1"),
    }
    if sessions is not None:
        script[100, "show sess"] = sessions
    if fds is not None:
        script[100, "show fd"] = fds
    haproxies = Scripted([MASTER, WORKER], script)
    found = Residue(f.at(10))
    _Worker(haproxies, resolve(haproxies, "be/s1"), WORKER, flows).add_to(found)
    return found


def test_a_stream_names_the_server_and_the_other_half() -> None:
    found = looked({10: f.client_flow(), 11: f.flow()}, sess(("0x1", "be/s1", 10, 11)))
    assert [(each.fd, each.sure, each.front) for each in found.left] == [(11, True, False)]
    assert note(found.left[0]) == "client 198.51.100.7:50000 on fd 10, ESTABLISHED"
    assert found.count == 1 and not found.clean


def test_a_stream_counts_wherever_its_socket_goes() -> None:
    """A server whose address changed keeps its sessions at the old one."""
    moved = f.flow(raddr="192.0.2.77")
    assert len(looked({11: moved}, sess(("0x1", "be/s1", 10, 11))).left) == 1


def test_without_a_stream_the_address_decides() -> None:
    found = looked({11: f.flow(), 12: f.flow(raddr="192.0.2.3")})
    assert [(each.fd, each.sure) for each in found.left] == [(11, True)]
    assert note(found.left[0]) == "no session has it"


def test_another_servers_stream_is_not_ours() -> None:
    found = looked({11: f.flow()}, sess(("0x1", "b2/x", 10, 11)), shared=True)
    assert found.clean and found.others == 1


def test_at_a_shared_address_show_fd_decides() -> None:
    line = "    {} : st=0x22 iocb=0x2(sock_conn_iocb) back=1 cflg=0x300 lport=1 rport=443 sv={}\n"
    fds = line.format(11, "be/s1") + line.format(12, "b2/x")
    found = looked({11: f.flow(), 12: f.flow()}, "", fds, shared=True)
    assert [(each.fd, each.sure) for each in found.left] == [(11, True)]
    assert found.others == 1


def test_at_a_shared_address_what_nobody_says_stays_unsure() -> None:
    found = looked({11: f.flow()}, "", None, shared=True)
    assert [(each.fd, each.sure) for each in found.left] == [(11, False)]
    assert found.sure == [] and not found.clean
    assert "may belong to another server" in note(found.left[0])


def test_a_worker_that_does_not_answer_is_judged_by_addresses() -> None:
    found = looked({11: f.flow(), 12: f.flow(raddr="192.0.2.3")}, None)
    assert [each.fd for each in found.left] == [11] and found.streams == {}


def test_a_stream_without_a_socket_to_the_server_is_left_with_its_client() -> None:
    found = looked({10: f.client_flow()}, sess(("0x1", "be/s1", 10, -1)))
    assert [(each.fd, each.front) for each in found.left] == [(10, True)]
    assert "the client's half" in note(found.left[0])
    bare = looked({}, sess(("0x1", "be/s1", 10, -1)))
    assert not bare.clean and bare.count == 1 and [*bare.bare] == [100]


def test_a_ghost_is_left_as_well() -> None:
    found = looked({11: f.ghost(f.flow())})
    assert [each.flow.state for each in found.left] == [State.CLOSE]


def test_the_event_holds_both_halves() -> None:
    found = looked({10: f.client_flow(), 11: f.flow()}, sess(("0x1", "be/s1", 10, 11)))
    assert found.event.matched == 2 and found.event.at_ns == f.at(10)


def test_rows_say_who_and_how_long_quiet() -> None:
    row = looked({11: f.flow()}).rows[0]
    assert (row.pid, row.fd, row.remote, row.age_s) == (100, 11, "192.0.2.1:443", None)
    assert row.note.startswith("no session has it, quiet for 10 s")
