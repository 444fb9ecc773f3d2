"""drain-survivor: connections to a server that is out, and through which worker."""

from __future__ import annotations

from hatrace.detectors.drain_survivor import DrainSurvivor
from hatrace.flows.table import Table
from hatrace.model.finding import Severity
from hatrace.model.flow import State
from hatrace.model.topology import CommandSocket, Kind, Level
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of

OLD = 90


def maintained(*rows: object, status: str = "MAINT", **fields: object) -> Table:
    world = table(make.servers(make.at(0), make.server(status=status, **fields)))
    world.apply(make.targets(make.at(0), *rows))  # type: ignore[arg-type]
    return world


def reloaded(*current: object) -> Table:
    """An old worker with ``be/s1``, and a current one that has these servers."""
    world = table(
        make.processes(
            make.at(0),
            make.process(make.MASTER, Kind.MASTER, parent_pid=1),
            make.process(OLD, Kind.OLD_WORKER, started_ns=make.at(-600)),
            make.process(),
        ),
        make.servers(make.at(0), pid=OLD),
        make.servers(make.at(0), *current),  # type: ignore[arg-type]
        make.streams(make.at(0), *(make.stream(f"0x{n}") for n in range(4)), pid=OLD),
    )
    world.apply(make.targets(make.at(0), make.data_target(5, pid=OLD, open=4)))
    return world


def test_connections_to_a_server_in_maintenance_are_named() -> None:
    world = maintained(make.data_target(open=3))
    detector = DrainSurvivor(nothing_known)
    assert not ask(detector, world, 1)
    (finding,) = ask(detector, world, 7)
    assert finding.subject == "be/s1 at 192.0.2.1:443"
    assert finding.count == 3
    assert finding.severity is Severity.NOTICE
    assert "3 connections of worker pid 100 to be/s1 (192.0.2.1:443) are open" in finding.claim
    assert "although it is in MAINT" in finding.claim


def test_sessions_that_wait_for_the_server_have_another_cause() -> None:
    """`shutdown sessions server` does not end those: it is not what is proposed first."""
    detector, world = DrainSurvivor(nothing_known), maintained(make.data_target(open=3))
    waiting = [make.flow(state=int(State.SYN_SENT)) for _ in range(3)]
    ask(detector, world, 1)
    one, *_ = ask(detector, world, 7, make.open_scan(make.at(7), *waiting[:1]))
    assert one.cause.startswith("maintenance stops new sessions only"), "of one in three"
    (all_of_them,) = ask(detector, world, 8, make.open_scan(make.at(8), *waiting))
    assert all_of_them.cause.startswith("sessions that wait for their connection to the server")
    for finding in (one, all_of_them):
        texts = [step.text for step in finding.next_steps]
        assert texts[1].startswith("end all of it step by step")
        assert texts[2].endswith("not those that wait for it, before 3.1.7 and 3.2")
        assert texts[3].endswith("HAProxy tries again, up to `retries` times")


def test_what_was_there_before_is_named_within_two_seconds() -> None:
    world = maintained(make.data_target(adopted=3))
    detector = DrainSurvivor(nothing_known)
    ask(detector, world, 0.5)
    (finding,) = ask(detector, world, 1.5)
    assert finding.preexisting == 3


def test_a_server_that_is_up_or_down_is_not_out() -> None:
    for status in ("UP", "DOWN", "DRAIN", "no check"):
        world = maintained(make.data_target(open=30), status=status)
        detector = DrainSurvivor(nothing_known)
        assert not any(ask(detector, world, second) for second in (1, 10, 60))


def test_idle_connections_of_its_pool_do_not_count() -> None:
    world = maintained(make.data_target(open=3), idle_connections=3)
    detector = DrainSurvivor(nothing_known)
    assert not any(ask(detector, world, second) for second in (1, 10))


def test_an_address_that_another_server_serves_is_left_alone() -> None:
    world = maintained(make.data_target(open=3))
    world.apply(make.servers(make.at(0), make.server(status="MAINT"), make.server("s2")))
    detector = DrainSurvivor(nothing_known)
    assert not any(ask(detector, world, second) for second in (1, 10))


def test_what_another_haproxy_goes_on_to_use_is_out_here_all_the_same() -> None:
    both = (
        make.process(make.MASTER, Kind.MASTER, parent_pid=1),
        make.process(),
        make.process(300, Kind.STANDALONE, parent_pid=1, config_files=("/other",)),
    )
    world = maintained(make.data_target(open=3), make.data_target(9, pid=300, open=2))
    world.apply(make.processes(make.at(0), *both))
    world.apply(make.servers(make.at(0), make.server("s2", backend="other"), pid=300))
    detector = DrainSurvivor(nothing_known)
    assert not ask(detector, world, 1)
    (finding,) = ask(detector, world, 7)
    assert "3 connections of worker pid 100 to be/s1" in finding.claim
    assert "hatrace close --pid 100 --dst 192.0.2.1:443" in text_of(finding)


def test_a_server_of_another_haproxy_is_not_removed_from_this_one() -> None:
    world = table(
        make.processes(
            make.at(0),
            make.process(make.MASTER, Kind.MASTER, parent_pid=1),
            make.process(OLD, Kind.OLD_WORKER, started_ns=make.at(-600)),
            make.process(),
            make.process(300, Kind.STANDALONE, parent_pid=1, config_files=("/other",)),
        ),
        make.servers(make.at(0), make.server("x", backend="other", address="192.0.2.50"), pid=300),
        make.targets(make.at(0), make.data_target(5, pid=OLD, address="192.0.2.50", open=4)),
    )
    detector = DrainSurvivor(nothing_known)
    assert not any(ask(detector, world, second) for second in (1, 7, 30))
    world.apply(make.servers(make.at(31), make.server("s9", address="192.0.2.50"), pid=OLD))
    assert [one.subject for one in ask(detector, world, 31)] == []
    (finding,) = ask(detector, world, 60)
    assert finding.subject == "be/s9 at 192.0.2.50:443"


def test_sessions_of_an_old_worker_to_a_disabled_server_are_a_warning() -> None:
    world = reloaded(make.server(status="MAINT"))
    (finding,) = ask(DrainSurvivor(nothing_known), world, 1)
    assert finding.severity is Severity.WARNING
    assert "4 connections of old worker pid 90" in finding.claim
    assert "reach only the newest" in finding.cause
    assert "hatrace retire 90" in text_of(finding)


def test_sessions_of_an_old_worker_to_a_removed_server_are_named() -> None:
    world = reloaded(make.server("s2", address="192.0.2.2", check_address="192.0.2.2"))
    (finding,) = ask(DrainSurvivor(nothing_known), world, 1)
    assert "although it is removed from the configuration" in finding.claim
    assert finding.subject == "be/s1 at 192.0.2.1:443"


def test_a_server_that_was_given_another_address_is_in_service() -> None:
    world = table(make.targets(make.at(0), make.data_target(open=3)))
    world.apply(make.servers(make.at(0), make.server(address="192.0.2.7")))
    detector = DrainSurvivor(nothing_known)
    assert not ask(detector, world, 1)
    (finding,) = ask(detector, world, 7)
    assert finding.subject == "be/s1 at 192.0.2.1:443"
    assert "are open, although its address is another now" in finding.claim
    assert "removed" not in text_of(finding) and "maintenance" not in text_of(finding)
    assert "shutdown sessions" not in text_of(finding), "those at its new address would end, too"


def test_an_old_worker_is_waited_for_to_say_which_of_them_have_a_session() -> None:
    world = reloaded(make.server("s2", address="192.0.2.2", check_address="192.0.2.2"))
    world.apply(make.streams(make.at(0), pid=OLD, complete=False))
    detector = DrainSurvivor(nothing_known)
    assert not ask(detector, world, 1)
    assert ask(detector, world, 7)


def test_connections_in_the_pool_of_an_old_worker_are_none() -> None:
    """Asked as an old worker only, it has not said its backends' modes."""
    world = reloaded(make.server("s2", address="192.0.2.2", check_address="192.0.2.2"))
    world.apply(make.servers(make.at(0), make.server(mode=None), pid=OLD))
    world.apply(make.streams(make.at(0), pid=OLD))
    assert not ask(DrainSurvivor(nothing_known), world, 30)


def test_sessions_of_an_old_worker_to_a_server_that_serves_are_ordinary() -> None:
    assert not ask(DrainSurvivor(nothing_known), reloaded(make.server()), 100)


def test_the_clients_behind_them_are_named_as_soon_as_the_old_worker_has_said_so() -> None:
    world = reloaded(make.server("s2", address="192.0.2.2", check_address="192.0.2.2"))
    others = make.stream(server="s2")
    world.apply(make.streams(make.at(1), make.stream(front_fd=13, back_fd=14), others, pid=OLD))
    (finding,) = ask(DrainSurvivor(nothing_known), world, 2)
    _, session = finding.evidence
    assert (session.pid, session.fd, session.remote) == (OLD, 14, "192.0.2.1:443")
    assert session.note == "for client 198.51.100.7:50000 (fd 13) of fe"


def test_new_connections_to_it_are_a_warning() -> None:
    world = maintained(make.data_target(open=3))
    detector = DrainSurvivor(nothing_known)
    ask(detector, world, 1)
    more = make.targets(make.at(7), make.data_target(open=10))
    (finding,) = ask(detector, world, 7, more)
    assert finding.severity is Severity.WARNING
    assert "new ones are still made" in finding.claim


def test_the_master_reaches_the_old_worker() -> None:
    world = reloaded(make.server(status="MAINT"))
    sample = make.master_connections(make.at(0))
    master = CommandSocket("/run/haproxy-master.sock", True, make.MASTER, 7_000, 10, Level.ADMIN)
    world.apply(type(sample)(sample.at_ns, (master,), sample.unix, sample.holders, sample.names))
    (finding,) = ask(DrainSurvivor(nothing_known), world, 1)
    assert "@!90 show sess" in text_of(finding)
    # An old worker refuses `shutdown sessions server`, in every version tried.
    assert "@!90 shutdown" not in text_of(finding)
    assert "hatrace retire 90" in text_of(finding)


def test_idle_connections_of_an_old_workers_pool_are_no_traffic() -> None:
    kept, removed = make.server("s2", address="192.0.2.2"), make.server(mode="http")
    for streams, count in (((), 0), ((make.stream(front_fd=13, back_fd=14),), 1)):
        world = reloaded(kept)
        world.apply(make.servers(make.at(0), removed, pid=OLD))
        world.apply(make.streams(make.at(1), *streams, pid=OLD))
        detector = DrainSurvivor(nothing_known)
        ask(detector, world, 2)
        assert sum(one.count for one in ask(detector, world, 20)) == count
