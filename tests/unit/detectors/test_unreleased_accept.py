"""unreleased-accept: dead sockets an application keeps, and who makes them."""

from __future__ import annotations

from hatrace.detectors.unreleased_accept import UnreleasedAccept
from hatrace.flows.table import Table
from hatrace.model.event import Holders
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flag, Flow
from hatrace.model.topology import Room
from tests import factories as make
from tests.unit.detectors.worlds import ask, nothing_known, table, text_of

APP = 700


def accepted(born: float, **fields: int) -> Flow:
    """What the application at the check's address accepts from HAProxy."""
    default = {"pid": APP, "lport": make.CHECK_PORT, "rport": 40_000}
    silent = {"sent_bytes": 0, "received_bytes": 0, "moved_ns": 0, "target": 9}
    return make.client_flow(
        born, laddr=make.SERVER, raddr=make.LOCAL, comm="beam.smp", **(default | silent | fields)
    )


def reset(n: int) -> list[Flow]:
    """One check every two seconds, reset at once, never closed."""
    return [make.ghost(accepted(1 + 2 * k), 0.001, by_reset=True) for k in range(n)]


def world() -> Table:
    return table(make.targets(make.at(0), make.target(open=0)))


def test_checks_that_are_kept_are_named_with_their_maker() -> None:
    flows = reset(8)
    (finding,) = ask(
        UnreleasedAccept(nothing_known), world(), 30, make.open_scan(make.at(30), *flows)
    )
    assert finding.subject == "pid 700 port 8000"
    assert finding.count == 8
    assert finding.confidence is Confidence.CERTAIN
    assert "pid 700 (beam.smp) keeps 8 accepted sockets of 192.0.2.1:8000" in finding.claim
    assert "8 from 192.0.2.100; 8 of 8 carried no byte; one every 2 s" in finding.cause
    assert "HAProxy's checks of be/s1" in finding.cause
    assert "grep 'open files' /proc/700/limits" in text_of(finding)


def test_where_a_scan_had_no_room_for_all_there_are_at_least_so_many() -> None:
    known, scan = world(), make.open_scan(make.at(30), *reset(8), matched=50_010)
    (finding,) = ask(UnreleasedAccept(nothing_known), known, 30, scan)
    assert "keeps at least 8 accepted sockets" in finding.claim
    assert "50,002 more suspects found no room" in finding.caveat


def test_it_is_named_after_three_and_five_seconds() -> None:
    detector, known, flows = UnreleasedAccept(nothing_known), world(), reset(9)
    named = [
        second
        for second in range(1, 20)
        if ask(
            detector,
            known,
            second,
            make.open_scan(make.at(second), *(f for f in flows if f.closed_ns < make.at(second))),
        )
    ]
    assert named[0] == 11


def test_what_was_there_before_is_named_at_once() -> None:
    old = int(Flag.ADOPTED | Flag.OWNED | Flag.ACCEPTED)
    flows = [
        make.ghost(accepted(0), by_reset=True)._replace(
            flags=old, closed_ns=0, fin_ns=0, established_ns=0, moved_ns=0
        )
        for _ in range(5)
    ]
    (finding,) = ask(
        UnreleasedAccept(nothing_known), world(), 1.5, make.open_scan(make.at(1.5), *flows)
    )
    assert finding.preexisting == 5


def test_half_closed_ones_need_a_minute_of_silence() -> None:
    flows = [make.half_closed(accepted(1)) for _ in range(4)]
    detector, known = UnreleasedAccept(nothing_known), world()
    assert not ask(detector, known, 55, make.open_scan(make.at(55), *flows))
    (finding,) = ask(detector, known, 63, make.open_scan(make.at(63), *flows))
    assert finding.confidence is Confidence.LIKELY


def test_a_few_requests_whose_clients_gave_up_are_silent() -> None:
    assert not ask(
        UnreleasedAccept(nothing_known), world(), 60, make.open_scan(make.at(60), *reset(2))
    )


def test_haproxys_own_sockets_are_another_question() -> None:
    flows = [make.ghost(make.client_flow(1), by_reset=True) for _ in range(5)]
    assert not ask(
        UnreleasedAccept(nothing_known), world(), 60, make.open_scan(make.at(60), *flows)
    )


def test_connections_that_live_are_silent() -> None:
    flows = [accepted(1) for _ in range(50)]
    assert not ask(
        UnreleasedAccept(nothing_known), world(), 600, make.open_scan(make.at(600), *flows)
    )


def answered(n: int, every: float, **fields: int) -> list[Flow]:
    """Requests that are answered, and reset right after."""
    spoke = {"received_bytes": 40, "sent_bytes": 60} | fields
    return [make.ghost(accepted(1 + every * k, **spoke), 0.1, by_reset=True) for k in range(n)]


def test_checks_that_were_answered_are_over() -> None:
    """The other ends are sockets of HAProxy's checks; who else asks as often is not meant."""
    kept = [one._replace(rport=30_000 + n) for n, one in enumerate(answered(6, 2.0))]
    checks = [make.http_check(1 + 2 * n, lport=30_000 + n) for n in range(6)]
    detector, known, scan = (
        UnreleasedAccept(nothing_known), world(), make.open_scan(make.at(20), *kept),
    )  # fmt: skip
    assert not ask(detector, known, 20, scan)
    (finding,) = ask(detector, known, 21, make.finished(*checks))
    assert "HAProxy's checks of be/s1" in finding.cause
    (again,) = ask(detector, known, 22)
    assert again.count == 6


def test_many_alike_that_were_there_before_were_checks() -> None:
    old = int(Flag.ADOPTED | Flag.OWNED | Flag.ACCEPTED)
    kept = [
        one._replace(flags=old, born_ns=make.at(0), established_ns=0, moved_ns=0, closed_ns=0)
        for one in answered(10, 1.0)
    ]
    detector = UnreleasedAccept(nothing_known)
    assert not ask(detector, world(), 2, make.open_scan(make.at(2), *kept[:9]))
    assert ask(detector, world(), 2, make.open_scan(make.at(2), *kept))


def test_streams_and_slow_answers_notice_at_their_next_write() -> None:
    detector, known = UnreleasedAccept(nothing_known), world()
    streams, slow = answered(6, 0.7), answered(6, 2.0, sent_bytes=0)
    assert not ask(detector, known, 50, make.open_scan(make.at(50), *streams, *slow))
    (finding,) = ask(detector, known, 80, make.open_scan(make.at(80), *streams, *slow))
    assert finding.count == 12


def test_how_long_it_took_before_is_waited_again() -> None:
    detector, known = UnreleasedAccept(nothing_known), world()
    assert not ask(detector, known, 10, make.open_scan(make.at(10), *reset(2)))
    assert not ask(detector, known, 20, make.open_scan(make.at(20)))  # let go after 19 s
    later = [make.ghost(accepted(30), 0.001, by_reset=True) for _ in range(4)]
    assert not ask(detector, known, 60, make.open_scan(make.at(60), *later))
    assert ask(detector, known, 70, make.open_scan(make.at(70), *later))


def test_its_fd_limit_is_forecast() -> None:
    known = world()
    known.apply(Holders(make.at(20), (), {}, {APP: Room(524, 1024)}))
    (finding,) = ask(
        UnreleasedAccept(nothing_known), known, 21, make.open_scan(make.at(21), *reset(8))
    )
    assert finding.forecast is not None
    assert finding.forecast.arithmetic == "(1,024 - 524) / 30 per minute = 16.7 min"
    assert "fd limit of pid 700 (1,024) in about 17 minutes" in finding.claim
