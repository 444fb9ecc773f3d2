"""master-socket: slots, who holds them, and which of the causes it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hatrace.detectors.master_socket import MasterSocket
from hatrace.flows.table import Table
from hatrace.model.event import CommandSockets, UnixSocket
from hatrace.model.finding import Confidence, Finding, KnownBug, Severity
from hatrace.model.topology import CommandSocket, Kind
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of


def watch(
    *samples: tuple[float, CommandSockets],
    world: Table | None = None,
    detector: MasterSocket | None = None,
) -> list[Finding]:
    """What is found at the last of these samples."""
    world, detector = world or table(), detector or MasterSocket(nothing_known)
    found: list[Finding] = []
    for seconds, sample in samples:
        found = ask(detector, world, seconds, replace(sample, at_ns=make.at(seconds)))
    return found


def held(n: int = 0, *, orphaned: int = 0, waiting: int = 0) -> CommandSockets:
    return make.master_connections(0, n, orphaned=orphaned, waiting=waiting)


def steadily(sample: CommandSockets, seconds: int = 5) -> list[Finding]:
    return watch(*((second, sample) for second in range(seconds)))


def test_a_few_commands_are_silent() -> None:
    assert not steadily(held(3), 60)


def test_seven_that_stay_are_a_warning_before_the_eleventh_is_refused() -> None:
    (finding,) = steadily(held(7))
    assert finding.severity is Severity.WARNING
    assert finding.subject == "master socket /run/haproxy-master.sock"
    assert "7 of 10 slots are taken" in finding.claim
    assert "7 by pid 500 (python3 agent.py)" in finding.claim
    assert finding.forecast is not None
    assert (finding.forecast.used, finding.forecast.maximum) == (7, 10)


def test_seven_in_one_sample_are_a_burst() -> None:
    assert not watch((0, held(0)), (1, held(7)), (2, held(0)))


def test_other_connections_at_each_look_are_no_holders() -> None:
    def burst(n: int) -> CommandSockets:
        sample = held(9)
        listener = sample.unix[0]
        shift = 100 * n
        unix = [replace(one, inode=one.inode + shift) for one in sample.unix[1:]]
        held_by = [
            one if one.inode == listener.inode else replace(one, inode=one.inode + shift)
            for one in sample.holders
        ]
        return replace(sample, unix=(listener, *unix), holders=tuple(held_by))

    assert not watch(*((second, burst(second)) for second in range(1, 30)))


def test_a_full_socket_is_critical_within_two_seconds() -> None:
    (finding,) = watch((0, held(10, waiting=3)), (1, held(10, waiting=3)))
    assert finding.severity is Severity.CRITICAL
    assert "10 of 10 slots" in finding.claim
    assert "3 clients waiting for a slot (3 of pid 500" in finding.claim
    assert finding.preexisting == 10
    queued = [one for one in finding.evidence if one.condition == "waiting"]
    assert len(queued) == 3


def test_growth_warns_before_seven() -> None:
    samples = [(second, held(min(1 + second // 2, 5))) for second in range(1, 14)]
    (finding,) = watch(*samples)
    assert finding.severity is Severity.WARNING
    assert finding.growth is not None and finding.growth.per_minute == 30
    assert finding.forecast is not None and finding.forecast.seconds_left is not None


# Causes -----------------------------------------------------------------------------------


def test_clients_that_hold_are_named_as_the_cause() -> None:
    (finding,) = steadily(held(8))
    assert "clients hold" in finding.cause
    assert "no timeout" in finding.cause
    assert any("the client's end is still open" in words for words in finding.ruled_out)
    words = text_of(finding)
    assert "kill -TERM 500" in words
    assert "cannot be raised" in words
    first = finding.evidence[0]
    assert (first.pid, first.fd, first.comm) == (500, 3, "python3 agent.py")


def test_slots_kept_after_the_client_left_are_the_servers_fault_if_workers_answer() -> None:
    world = table()
    samples = [(second, held(orphaned=8)) for second in range(6)]
    watch(*samples, world=world)
    world.apply(make.info_sample(make.at(6)))
    (finding,) = watch(*samples, (7, held(orphaned=8)), world=world)
    assert "the server keeps" in finding.cause
    assert any("all have answered since" in words for words in finding.ruled_out)
    assert finding.confidence is Confidence.CERTAIN
    assert finding.evidence[0].condition == "client left"


def test_without_a_word_of_the_workers_two_causes_are_left() -> None:
    (finding,) = steadily(held(orphaned=8))
    assert "is not known" in finding.cause
    assert finding.confidence is Confidence.LIKELY


def test_a_stopped_worker_is_the_cause_where_there_is_one() -> None:
    stopped = make.processes(
        make.at(0),
        make.process(make.MASTER, Kind.MASTER, parent_pid=1),
        make.process(stopped=True),
    )
    samples = [(second, held(orphaned=8)) for second in range(5)]
    (finding,) = watch(*samples, world=table(stopped))
    assert "a worker does not answer (pid 100 (stopped))" in finding.cause
    assert "kill -CONT 100" in text_of(finding)


def test_clients_that_wait_for_a_stopped_worker_are_not_to_blame() -> None:
    stopped = make.processes(
        make.at(0),
        make.process(make.MASTER, Kind.MASTER, parent_pid=1),
        make.process(stopped=True),
    )
    sample = held(8)
    unix = tuple(
        replace(one, queue=12) if 7_100 <= one.inode < 7_200 else one for one in sample.unix
    )
    samples = [(second, replace(sample, unix=unix)) for second in range(5)]
    (finding,) = watch(*samples, world=table(stopped))
    assert "does not answer" in finding.cause


def test_three_dead_slots_are_a_warning_one_a_notice() -> None:
    assert not steadily(held(orphaned=1), 10)
    (notice,) = steadily(held(orphaned=1), 13)
    assert notice.severity is Severity.NOTICE
    (warning,) = steadily(held(orphaned=3))
    assert warning.severity is Severity.WARNING


def test_the_command_under_way_when_a_worker_was_stopped_is_no_leak() -> None:
    stopped = make.processes(make.at(0), make.process(make.MASTER, stopped=True))
    samples = [(second, held(orphaned=1)) for second in range(40)]
    assert not watch(*samples, world=table(stopped))


def test_what_was_held_before_hatrace_is_named_at_the_second_look() -> None:
    (finding,) = steadily(held(7), 2)
    assert finding.preexisting == 7


def test_a_queue_before_free_slots_means_nobody_accepts() -> None:
    (finding,) = steadily(held(waiting=2))
    assert finding.severity is Severity.CRITICAL
    assert "does not accept" in finding.cause


def test_a_stats_socket_has_a_limit_of_its_own() -> None:
    sample = held(8)
    socket = replace(
        make.master_socket(), master=False, pid=make.WORKER, path="/run/stats.sock", limit=50
    )
    holders = tuple(
        replace(one, pid=make.WORKER) if one.pid == make.MASTER else one for one in sample.holders
    )
    stats = replace(sample, sockets=(socket,), holders=holders)
    assert not steadily(stats, 10)
    small = replace(stats, sockets=(replace(socket, limit=10),))
    (finding,) = steadily(small)
    assert finding.subject == "stats socket /run/stats.sock"
    assert "stats maxconn" in text_of(finding)
    assert "cannot be raised" not in text_of(finding)


def test_hatrace_itself_is_no_holder() -> None:
    sample = held(7)
    names = dict(sample.names) | {500: "/usr/bin/python3 /usr/bin/hatrace live"}
    assert not steadily(replace(sample, names=names), 20)


def test_a_client_whose_process_is_unknown_is_said_so() -> None:
    sample = held(8)
    holders = tuple(one for one in sample.holders if one.pid != 500)
    (finding,) = steadily(replace(sample, holders=holders))
    assert "a client that no process on this host holds" in finding.claim
    assert finding.confidence is Confidence.LIKELY


def bugs(version: str, slug: str) -> Sequence[KnownBug]:
    return [KnownBug("14a413033c15", "CLI client that leaves early", "not verified")]


def test_a_bug_is_quoted_only_where_its_signature_was_measured() -> None:
    samples = [(second, held(orphaned=8)) for second in range(6)]
    (finding,) = watch(*samples, detector=MasterSocket(bugs))
    assert finding.known_bug is None


def test_next_steps_lead_around_the_master() -> None:
    sample = held(8)
    stats = CommandSocket("/run/stats.sock", False, make.WORKER, 7_777, 10)
    extra = UnixSocket(7_777, 10, "/run/stats.sock", 0, 0, 10)
    both = replace(sample, sockets=(*sample.sockets, stats), unix=(*sample.unix, extra))
    (finding,) = steadily(both)
    assert "UNIX-CONNECT:/run/stats.sock" in text_of(finding)
    assert "ss -xlp | grep -F /run/haproxy-master.sock" in text_of(finding)


def test_it_resolves_when_the_slots_are_freed() -> None:
    samples = [(second, held(8)) for second in range(5)]
    assert not watch(*samples, (6, held(0)))


def test_the_same_events_give_the_same_words() -> None:
    assert steadily(held(8)) == steadily(held(8))
