"""The table: every event leaves its mark, later ones replace, nothing grows without bound."""

from __future__ import annotations

import sys

import pytest

from hatrace.flows import scans
from hatrace.flows.table import ACTIONS, LOG_LINES, TROUBLES, Table
from hatrace.model import event as events
from hatrace.model.address import packed
from hatrace.model.finding import Change, Confidence, Finding, FindingChange, Severity
from hatrace.model.flow import Flag
from hatrace.model.topology import Kind
from hatrace.model.world import Rate, World
from hatrace.pipeline import Fold, run
from tests import factories as f
from tests.unit.flows.support import haproxy, table


def test_it_is_a_world_and_folds() -> None:
    fold: Fold = Table(f.info())
    world: World = fold
    assert world.now_ns == f.START
    assert (world.open, world.targets, world.checks, world.troubles) == ({}, {}, (), ())
    assert world.losses.total == 0
    assert world.host is world.cost is world.command_sockets is None


def test_every_kind_of_event_is_folded() -> None:
    """A new event type needs a place here; ticks only move the clock."""
    unhandled = set(events.EVENTS) - Table(f.info())._handlers.keys()
    assert unhandled == {events.Tick}


def test_the_clock_never_turns_back() -> None:
    world = table(events.Tick(f.at(5)), f.trouble(f.at(3)))
    assert world.now_ns == f.at(5)


# Scans -------------------------------------------------------------------------------------


def test_a_scan_replaces_the_one_before() -> None:
    first, second = f.half_closed(f.flow()), f.half_closed(f.flow())
    world = table(f.open_scan(f.at(1), first), f.open_scan(f.at(2), second))
    assert world.open == {second.key: second}


def test_first_sight_lasts_from_scan_to_scan_and_ends_with_absence() -> None:
    flow = f.half_closed(f.flow())
    world = table(f.open_scan(f.at(1), flow), f.open_scan(f.at(2), flow))
    assert world.first_seen_ns(flow.key) == f.at(1)
    world.apply(f.open_scan(f.at(3)))
    assert world.first_seen_ns(flow.key) == world.now_ns == f.at(3)
    world.apply(f.open_scan(f.at(4), flow))
    assert world.first_seen_ns(flow.key) == f.at(4)


def test_a_truncated_scan_forgets_nobody() -> None:
    flow, other = f.half_closed(f.flow()), f.half_closed(f.flow())
    world = table(f.open_scan(f.at(1), flow), f.open_scan(f.at(2), other, matched=2))
    assert world.open == {other.key: other}
    assert world.losses.scan_truncated == 1
    world.apply(f.open_scan(f.at(3), flow, other))
    assert world.first_seen_ns(flow.key) == f.at(1)
    assert world.losses.scan_truncated == 0


def test_a_reused_socket_is_another_flow() -> None:
    flow = f.flow(0)
    again = flow._replace(born_ns=f.at(2))
    world = table(f.open_scan(f.at(1), flow), f.open_scan(f.at(3), again))
    assert world.first_seen_ns(again.key) == f.at(3)


def test_truncated_scans_do_not_remember_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scans, "REMEMBERED_KEYS", 10)
    world = table()
    for second in range(20):
        world.apply(f.open_scan(f.at(second), f.flow(), f.flow(), matched=100))
    assert len(world._suspects._first_ns) == 10


def test_a_loss_count_does_not_hide_what_the_scan_left_out() -> None:
    world = table(f.open_scan(f.at(1), f.flow(), matched=5), events.Losses(f.at(2), ring_full=3))
    assert (world.losses.ring_full, world.losses.scan_truncated) == (3, 4)
    early = table(events.Losses(f.at(2), scan_truncated=7))
    assert early.losses.scan_truncated == 7


# Targets -----------------------------------------------------------------------------------


def test_rates_come_from_two_totals() -> None:
    world = table(f.targets(f.at(1), f.target(born=10, gone=8)))
    assert not world.rates
    world.apply(f.targets(f.at(3), f.target(born=30, gone=18), f.data_target(born=4)))
    assert world.rates == {f.CHECK_TARGET: Rate(10.0, 5.0), f.DATA_TARGET: Rate(2.0, 0.0)}
    assert world.targets[f.CHECK_TARGET].open == 12


def test_an_index_which_changed_hands_has_no_rate() -> None:
    world = table(
        f.targets(f.at(1), f.target(born=10)), f.targets(f.at(2), f.target(born=20, port=8001))
    )
    assert not world.rates
    world.apply(f.targets(f.at(3), f.target(born=5, port=8001)))
    assert not world.rates


def test_totals_of_the_same_moment_keep_the_rates() -> None:
    world = table(f.targets(f.at(1), f.target(born=1)), f.targets(f.at(2), f.target(born=2)))
    world.apply(f.targets(f.at(2), f.target(born=3)))
    assert world.rates == {f.CHECK_TARGET: Rate(1.0, 0.0)}


# Samples -----------------------------------------------------------------------------------


def test_the_host_at_start_stays() -> None:
    world = table(f.host(f.at(1), tcp_alloc=5), f.host(f.at(2), tcp_alloc=9))
    assert world.host is not None and world.host.tcp_alloc == 9
    assert world.host_at_start is not None and world.host_at_start.tcp_alloc == 5


def test_troubles_last_until_they_are_over() -> None:
    world = table(f.trouble(f.at(1)), f.trouble(f.at(2)), f.trouble(f.at(3), subject="other"))
    assert [one.at_ns for one in world.troubles] == [f.at(2), f.at(3)]
    world.apply(f.trouble(f.at(4), over=True))
    assert [one.subject for one in world.troubles] == ["other"]
    world.apply(f.trouble(f.at(5), subject="never was", over=True))
    assert len(world.troubles) == 1


def test_what_accumulates_is_bounded() -> None:
    world = table()
    for n in range(LOG_LINES + 100):
        world.apply(events.LogLine(f.at(n), f.WORKER, f"line {n}"))
        world.apply(events.Action(f.at(n), "drain", "done"))
    for n in range(TROUBLES + 100):
        world.apply(f.trouble(f.at(n), subject=str(n)))
    assert len(world.log_lines) == LOG_LINES
    assert world.log_lines[-1].text == f"line {LOG_LINES + 99}"
    assert len(world.actions) == ACTIONS
    assert len(world.troubles) == TROUBLES


def test_samples_are_kept_by_pid() -> None:
    world = table(
        *haproxy(),
        f.info_sample(f.at(1), CurrConns="3"),
        f.streams(f.at(1), f.stream()),
        f.descriptors(f.at(1), f.descriptor(11)),
        events.Cost(f.at(1), 5, 6, None),
    )
    assert world.infos[f.WORKER].values["CurrConns"] == "3"
    assert world.streams[f.WORKER].streams[0].server == "s1"
    assert world.descriptors[f.WORKER].descriptors[0].fd == 11
    assert world.configured[f.WORKER].binds[0].frontend == "fe"
    assert world.servers[f.WORKER][0].label == "be/s1"
    assert world.processes[f.MASTER].kind is Kind.MASTER
    assert world.cost is not None and world.cost.cpu_ns == 5


def test_a_gone_process_takes_its_samples_along() -> None:
    world = table(
        *haproxy(), f.info_sample(f.at(1)), f.processes(f.at(2), f.process(f.MASTER, Kind.MASTER))
    )
    assert not world.servers and not world.configured and not world.infos
    assert not world.checks
    world.apply(f.info_sample(f.at(3)))  # answered before it went, delivered after
    world.apply(f.processes(f.at(4), f.process(f.MASTER, Kind.MASTER)))
    assert not world.infos


def test_a_sample_before_its_process_is_kept() -> None:
    world = table(f.servers(f.at(1), pid=200), f.processes(f.at(2)), f.processes(f.at(3)))
    assert 200 in world.servers


def test_pids_without_end_are_forgotten() -> None:
    world = table()
    for pid in range(1_000, 1_500):
        world.apply(f.servers(f.at(1), pid=pid))
        world.apply(f.processes(f.at(1), f.process(pid)))
    assert len(world._told.past) <= 64
    assert set(world.servers) == {1_499}
    assert len(world._checks._runs) == 1


# Who holds what ----------------------------------------------------------------------------


def test_holders_by_inode_from_both_sources() -> None:
    world = table(
        f.holders(f.at(1), (f.WORKER, 10, 77), (200, 10, 77), (f.WORKER, 11, 0)),
        f.master_connections(f.at(1), clients=1),
    )
    assert [one.pid for one in world.holders(77)] == [f.WORKER, 200]
    assert [one.pid for one in world.holders(8_100)] == [500]
    assert not world.holders(0)
    world.apply(f.holders(f.at(2)))
    assert not world.holders(77)
    assert world.holders(8_100)
    assert world.command_sockets is not None


def test_names_from_every_source() -> None:
    world = table(
        f.processes(f.at(1), f.process(1, comm="haproxy-3.0")),
        f.holders(f.at(1), (200, 3, 5), p200="nginx"),
        f.master_connections(f.at(1), clients=1),
        f.open_scan(f.at(1), f.flow(pid=300, comm="curl")),
    )
    assert [world.comm(pid) for pid in (1, 200, 300, 500, 9)] == [
        "haproxy-3.0",
        "nginx",
        "curl",
        "python3",
        "",
    ]


def test_a_command_line_does_not_replace_a_name() -> None:
    world = table(f.holders(f.at(1), (500, 3, 5), p500="agent"))
    world.apply(f.master_connections(f.at(1), clients=1))
    assert world.comm(500) == "agent"


# Finished flows ----------------------------------------------------------------------------


def test_memory_does_not_grow_with_connections() -> None:
    world = table(*haproxy(), f.targets(f.at(1), f.target(), f.data_target(), f.client_target()))
    session, client = f.ended(f.flow()), f.ended(f.client_flow())
    batch = events.Finished(f.at(2), f.columns([session, client] * 500))

    def kept() -> int:
        known = (*vars(world._desk).values(), *vars(world._checks).values())
        return sum(sys.getsizeof(one) for one in known)

    world.apply(batch)
    before = kept()
    for _ in range(20):
        world.apply(batch)
    assert kept() == before
    assert not world._desk._waiting and not world.command_flows


def test_flows_that_come_before_their_target_and_servers_wait() -> None:
    checks = [f.tcp_check(2 * n) for n in range(4)]
    world = table(f.finished(*checks))
    assert not world.checks
    world.apply(f.targets(f.at(9), f.target(born=4, gone=4)))
    assert not world.checks
    for event in haproxy():
        world.apply(event)
    (activity,) = world.checks
    assert len(activity.recent) == 4
    assert activity.observed_ms == 2000.0


def test_few_flows_wait_for_each_undecided_target() -> None:
    world = table()
    for n in range(100):
        world.apply(f.finished(*(f.flow(target=50 + m) for m in range(4)), at_ns=f.at(n)))
    assert len(world._desk._waiting) == 4 * 32
    world.apply(f.targets(f.at(1), *(f.client_target(50 + m) for m in range(4))))
    assert not world._desk._waiting


def test_flows_of_a_command_socket_over_tcp_are_kept() -> None:
    socket = f.master_socket(path="ipv4@127.0.0.1:9999", inode=None)
    world = table(
        *haproxy(),
        events.CommandSockets(f.at(1), (socket,), (), (), {}),
        f.targets(f.at(1), f.client_target(address="127.0.0.1", port=9999)),
    )
    flow = f.ended(f.client_flow(1, laddr="127.0.0.1", lport=9999, raddr="127.0.0.1"))
    world.apply(f.finished(flow))
    assert list(world.command_flows) == [flow]
    assert world.attribution(flow).role == "master-cli"


def test_it_runs_in_the_pipeline() -> None:
    """Table and detectors meet at ticks, after everything that belongs to them."""

    class Held:
        slug = "held"

        def observe(self, world: World) -> list[Finding]:
            return [
                Finding(
                    "held",
                    activity.server.label,
                    Severity.NOTICE,
                    Confidence.LIKELY,
                    f"{activity.held} held",
                    world.now_ns,
                    world.now_ns,
                    activity.held,
                )
                for activity in world.checks
                if activity.held > 1
            ]

    said: list[FindingChange] = []

    class Notes:
        def accept(self, event: object, world: World, verdict: object) -> None:
            said.extend(verdict.changes)  # type: ignore[attr-defined]

    source = [*haproxy(), f.targets(f.at(1), f.target(open=3)), events.Tick(f.at(1))]
    source += [f.targets(f.at(2), f.target(born=3, gone=3)), events.Tick(f.at(2))]
    run(source, Table(f.info()), [Held()], [Notes()])
    assert [one.change for one in said] == [Change.OPENED, Change.RESOLVED]


def test_mapped_and_plain_addresses_are_one() -> None:
    assert packed("::ffff:192.0.2.1") == packed("192.0.2.1")
    world = table(*haproxy())
    flow = f.check_flow(raddr="::ffff:192.0.2.1", family=10, flags=int(Flag.CONNECTED))
    assert world.attribution(flow).role == "check"
