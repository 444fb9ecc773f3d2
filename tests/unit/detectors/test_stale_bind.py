"""stale-bind: an old process that still listens, told from a listener that was handed over."""

from __future__ import annotations

from hatrace.detectors.stale_bind import StaleBind
from hatrace.flows.table import Table
from hatrace.model.event import TakenPorts
from hatrace.model.finding import Confidence, Severity
from hatrace.model.flow import Flag, Flow, State
from hatrace.model.topology import Kind, TakenPort
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of

OLD = 90


def world_with(*held: tuple[int, int, Flow], stopped: bool = False) -> Table:
    """An old worker and a current one; who holds which listener as which fd."""
    world = table(
        make.processes(
            make.at(0),
            make.process(make.MASTER, Kind.MASTER, parent_pid=1),
            make.process(OLD, Kind.OLD_WORKER, started_ns=make.at(-600), stopped=stopped),
            make.process(),
        )
    )
    rows = [(pid, fd, listener.inode) for pid, fd, listener in held]
    world.apply(make.holders(make.at(1), *rows))
    listeners = {listener.inode: listener for _, _, listener in held}
    world.apply(make.open_scan(make.at(1), *listeners.values()))
    return world


def test_a_stopped_old_worker_that_takes_connections_is_critical() -> None:
    mine, current = make.listener_flow(pid=OLD, unread_bytes=3), make.listener_flow()
    world = world_with((OLD, 6, mine), (make.WORKER, 7, current), stopped=True)
    (finding,) = ask(StaleBind(nothing_known), world, 2)
    assert finding.severity is Severity.CRITICAL
    assert finding.subject == "pid 90 listening"
    assert "old worker pid 90 (stopped) still listens on 192.0.2.100:80" in finding.claim
    assert "beside the current process, and takes connections away from it" in finding.claim
    assert "3 connections wait there unserved" in finding.claim
    assert "SO_REUSEPORT" in finding.cause
    assert "kill -CONT 90" in text_of(finding)
    (listener,) = finding.evidence
    assert (listener.pid, listener.fd, listener.condition) == (OLD, 6, "3 waiting of 0")


def test_a_port_that_todays_configuration_lacks_is_a_deleted_one() -> None:
    gone = make.listener_flow(pid=OLD, lport=44_201)
    world = world_with((OLD, 6, gone), (make.WORKER, 7, make.listener_flow()))
    world.apply(make.host(make.at(1)))
    (finding,) = ask(StaleBind(nothing_known), world, 2)
    assert "listens on 192.0.2.100:44201, not in today's configuration" in finding.claim
    assert finding.severity is Severity.WARNING
    assert "44201 lies in the ephemeral range 32768-60999" in finding.caveat
    assert any("in LISTEN" in words for words in finding.ruled_out)


def test_the_same_socket_in_both_was_handed_over() -> None:
    shared = make.listener_flow(pid=OLD)
    world = world_with((OLD, 6, shared), (make.WORKER, 7, shared))
    (finding,) = ask(StaleBind(nothing_known), world, 2)
    assert "handed over by -x" in finding.cause


def test_a_listener_that_only_the_current_worker_holds_is_in_order() -> None:
    """It was made by the old one, so the flow still has the old one's pid."""
    handed_over = make.listener_flow(pid=OLD)
    world = world_with((make.WORKER, 7, handed_over))
    assert not ask(StaleBind(nothing_known), world, 60)


def test_a_handover_has_its_time() -> None:
    detector = StaleBind(nothing_known)
    world = world_with((OLD, 6, make.listener_flow(pid=OLD)))
    world.apply(
        make.processes(
            make.at(1),
            make.process(OLD, Kind.OLD_WORKER, started_ns=make.at(-600)),
            make.process(started_ns=make.at(1)),
        )
    )
    assert not ask(detector, world, 5)
    assert ask(detector, world, 14)
    world.apply(make.configured(make.at(14), pid=OLD, options=("grace 20000 ms",)))
    assert not ask(detector, world, 30)
    assert ask(detector, world, 34)


def test_generations_without_sf_are_likely() -> None:
    files = ("/etc/haproxy/haproxy.cfg",)
    older, newer = make.listener_flow(pid=OLD), make.listener_flow()
    deleted = make.listener_flow(pid=OLD, lport=44_201)
    world = world_with((OLD, 6, older), (OLD, 8, deleted), (make.WORKER, 7, newer))
    world.apply(
        make.processes(
            make.at(1),
            make.process(OLD, Kind.STANDALONE, started_ns=make.at(-9), config_files=files),
            make.process(kind=Kind.STANDALONE, started_ns=make.at(-5), config_files=files),
        )
    )
    detector = StaleBind(nothing_known)
    ask(detector, world, 2)
    (finding,) = ask(detector, world, 15)
    assert finding.confidence is Confidence.LIKELY
    assert "without -sf" in finding.cause
    assert finding.count == 2
    assert "; and on 192.0.2.100:44201, not in today's configuration" in finding.claim


def test_what_stood_before_hatrace_is_named_at_the_first_look() -> None:
    files = ("/etc/haproxy/haproxy.cfg",)
    older = make.listener_flow(pid=OLD, flags=int(Flag.LISTENER | Flag.ADOPTED))
    world = world_with((OLD, 6, older), (make.WORKER, 7, make.listener_flow()))
    world.apply(
        make.processes(
            make.at(0),
            make.process(OLD, Kind.STANDALONE, started_ns=make.at(-900), config_files=files),
            make.process(kind=Kind.STANDALONE, started_ns=make.at(-600), config_files=files),
        )
    )
    (finding,) = ask(StaleBind(nothing_known), world, 1.1)
    assert finding.preexisting == 1


def test_a_listener_of_the_master_that_stood_before_is_named_at_the_second_look() -> None:
    left = make.listener_flow(pid=make.MASTER, lport=81, flags=int(Flag.LISTENER | Flag.ADOPTED))
    world = world_with((make.MASTER, 6, left))
    detector = StaleBind(nothing_known)
    assert not ask(detector, world, 1.1)
    assert ask(detector, world, 2.1)


def test_two_instances_with_configurations_of_their_own_are_in_order() -> None:
    world = world_with(
        (OLD, 6, make.listener_flow(pid=OLD)), (make.WORKER, 7, make.listener_flow())
    )
    world.apply(
        make.processes(
            make.at(1),
            make.process(OLD, Kind.STANDALONE, started_ns=make.at(-9), config_files=("/a",)),
            make.process(kind=Kind.STANDALONE, started_ns=make.at(-5), config_files=("/b",)),
        )
    )
    detector = StaleBind(nothing_known)
    assert not any(ask(detector, world, second) for second in (2, 20, 60))


def test_two_containers_with_the_same_files_and_ports_are_in_order() -> None:
    files, other = ("/usr/local/etc/haproxy/haproxy.cfg",), 4_026_532_000
    world = world_with(
        (OLD, 6, make.listener_flow(pid=OLD)),
        (make.WORKER, 7, make.listener_flow(netns=other)),
    )
    older = make.process(OLD, Kind.STANDALONE, started_ns=make.at(-900), config_files=files)
    newer = make.process(kind=Kind.STANDALONE, config_files=files, netns=other)
    world.apply(make.processes(make.at(1), older, newer))
    detector = StaleBind(nothing_known)
    assert not any(ask(detector, world, second) for second in (2, 20, 60))


def test_what_another_container_binds_is_not_wanted_here() -> None:
    mine, theirs = make.listener_flow(pid=OLD), make.listener_flow(netns=4_026_532_000)
    world = world_with((OLD, 6, mine), (make.WORKER, 7, theirs))
    old = make.process(OLD, Kind.OLD_WORKER, started_ns=make.at(-600))
    world.apply(make.processes(make.at(1), old, make.process(netns=4_026_532_000)))
    (finding,) = ask(StaleBind(nothing_known), world, 30)
    assert "not in today's configuration" in finding.claim


def test_a_listener_that_the_master_alone_holds_is_named() -> None:
    world = world_with((make.MASTER, 6, make.listener_flow(pid=make.MASTER, lport=81)))
    detector = StaleBind(nothing_known)
    ask(detector, world, 2)
    (finding,) = ask(detector, world, 15)
    assert "the master alone holds it" in finding.cause


def taken(*ports: TakenPort, failed: int | None = None) -> Table:
    """A master whose last reloads failed so often, and what is in the way of a bind."""
    return table(
        make.processes(
            make.at(0),
            make.process(make.MASTER, Kind.MASTER, parent_pid=1, failed_reloads=failed),
            make.process(),
        ),
        TakenPorts(make.at(0), ports),
    )


def test_a_source_port_that_a_bind_wants_is_the_third_cause() -> None:
    (finding,) = ask(StaleBind(nothing_known), taken(make.taken_port(), failed=2), 1)
    assert finding.severity is Severity.WARNING
    assert finding.subject == "192.0.2.100:44201 taken"
    assert "frontend new cannot bind 192.0.2.100:44201" in finding.claim
    assert "source port of a connection of pid 100 (haproxy) to 192.0.2.1:443" in finding.claim
    assert "the last 2 reloads have failed" in finding.claim
    assert "an ephemeral source port" in finding.cause
    assert any(words.startswith("an old process still bound") for words in finding.ruled_out)
    assert any(words.startswith("a listener inherited") for words in finding.ruled_out)
    assert finding.preexisting == 1
    (socket,) = finding.evidence
    assert (socket.pid, socket.fd, socket.state) == (100, 14, "ESTABLISHED")
    assert "ss -tK src 192.0.2.100:44201 dst 192.0.2.1:443" in text_of(finding)


def test_before_the_reload_it_is_a_notice() -> None:
    (finding,) = ask(StaleBind(nothing_known), taken(make.taken_port()), 1)
    assert finding.severity is Severity.NOTICE
    assert "a reload fails as long as it is there" in finding.claim


def test_a_connection_in_time_wait_cannot_be_ended_and_ends_soon() -> None:
    port = make.taken_port(state=int(State.TIME_WAIT), inode=0, pid=0, fd=None, comm="")
    (finding,) = ask(StaleBind(nothing_known), taken(port), 1)
    assert "in TIME_WAIT, which ends within a minute" in finding.claim
    assert "ss -tK" not in text_of(finding)


def test_it_is_over_when_nothing_is_in_the_way() -> None:
    detector, world = StaleBind(nothing_known), taken(make.taken_port())
    assert ask(detector, world, 1)
    assert not ask(detector, world, 6, TakenPorts(make.at(6), ()))


def test_a_successor_that_still_loads_has_taken_nothing_over() -> None:
    """3.1 and later: the new worker is there long before it serves."""
    detector = StaleBind(nothing_known)
    world = world_with((OLD, 6, make.listener_flow(pid=OLD)))
    world.apply(make.processes(make.at(0), make.process(OLD, started_ns=make.at(-600))))
    assert not ask(detector, world, 0.5, make.info_sample(make.at(0.5), pid=OLD))
    world.apply(
        make.processes(
            make.at(1),
            make.process(OLD, Kind.OLD_WORKER, started_ns=make.at(-600)),
            make.process(started_ns=make.at(1)),
        )
    )
    assert not ask(detector, world, 40)
    assert not ask(detector, world, 41, make.info_sample(make.at(41)))
    assert not ask(detector, world, 50)
    assert ask(detector, world, 54)
