"""Which server is meant, and which workers know it at which address."""

from __future__ import annotations

import pytest

from hatrace.actions.target import help_for, resolve
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.haproxy.runtime import NoAnswer, Problem
from hatrace.model.topology import Kind
from tests import factories as f
from tests.unit.actions.scripted import Answer, Scripted, servers, stat

MASTER = f.process(99, Kind.MASTER, parent_pid=1)
WORKER = f.process(100)
OLD = f.process(90, Kind.OLD_WORKER)


def knowing(pid: int, *rows: tuple[str, str, int]) -> dict[tuple[int, str], Answer]:
    return {
        (pid, "show info"): f"Pid: {pid}\n",
        (pid, "show servers state"): servers(*rows),
        (pid, "show stat"): stat(rows[0][0]),
    }


def test_an_old_worker_may_know_it_elsewhere() -> None:
    haproxies = Scripted(
        [MASTER, WORKER, OLD],
        knowing(100, ("be/s1", "192.0.2.1", 443)) | knowing(90, ("be/s1", "192.0.2.7", 443)),
    )
    target = resolve(haproxies, "be/s1")
    assert target.endpoints == ("192.0.2.1:443", "192.0.2.7:443")
    assert [(place.process.pid, place.current) for place in target.places] == [
        (100, True),
        (90, False),
    ]
    old = target.places_for(90)
    assert len(old) == 1 and old[0].reached_by(f.flow(raddr="192.0.2.7"))
    assert not old[0].reached_by(f.flow(raddr="192.0.2.1"))


def test_a_server_that_a_reload_removed_is_found_in_the_old_worker() -> None:
    haproxies = Scripted(
        [MASTER, WORKER, OLD],
        knowing(100, ("be/s2", "192.0.2.2", 443)) | knowing(90, ("be/s1", "192.0.2.1", 443)),
    )
    assert [place.process.pid for place in resolve(haproxies, "be/s1").places] == [90]


def test_a_silent_worker_is_judged_by_what_the_others_say() -> None:
    haproxies = Scripted([MASTER, WORKER, OLD], knowing(100, ("be/s1", "192.0.2.1", 443)))
    target = resolve(haproxies, "be/s1")
    assert [(process.pid, bool(why)) for process, why in target.silent] == [(90, True)]
    assert target.places_for(90) == target.places


def test_neighbours_share_its_address() -> None:
    rows = (("be/s1", "192.0.2.1", 443), ("b2/x", "192.0.2.1", 443), ("be/s3", "192.0.2.1", 80))
    target = resolve(Scripted([MASTER, WORKER], knowing(100, *rows)), "be/s1")
    assert target.places[0].neighbours == {"b2/x"}


def test_a_server_without_a_port_is_reached_at_any() -> None:
    haproxies = Scripted([MASTER, WORKER], knowing(100, ("be/s1", "192.0.2.1", 0)))
    place = resolve(haproxies, "be/s1").places[0]
    assert place.reached_by(f.flow(rport=8080)) and not place.reached_by(f.flow(raddr="192.0.2.2"))


def test_two_haproxies_that_know_it_need_a_pid() -> None:
    masters = [f.process(pid, Kind.MASTER, parent_pid=1) for pid in (99, 200)]
    workers = [WORKER, f.process(201, parent_pid=200)]
    script = knowing(100, ("be/s1", "192.0.2.1", 1)) | knowing(201, ("be/s1", "192.0.2.2", 2))
    haproxies = Scripted([*masters, *workers], script)
    with pytest.raises(UsageError, match="master 99, master 200") as caught:
        resolve(haproxies, "be/s1")
    assert "--pid" in caught.value.do
    assert resolve(haproxies, "be/s1", pid=201).endpoints == ("192.0.2.2:2",)
    with pytest.raises(UsageError, match="no HAProxy"):
        resolve(haproxies, "be/s1", pid=5)


@pytest.mark.parametrize(
    "label", ["be", "be/s1; shutdown sessions server be/s2", "be/s1\nquit", ""]
)
def test_what_is_no_server_never_reaches_haproxy(label: str) -> None:
    haproxies = Scripted([MASTER, WORKER], knowing(100, ("be/s1", "192.0.2.1", 443)))
    with pytest.raises(UsageError, match="no server"):
        resolve(haproxies, label)
    assert haproxies.asked == []


def test_an_unknown_server_names_the_nearest() -> None:
    haproxies = Scripted([MASTER, WORKER], knowing(100, ("be/web1", "192.0.2.1", 443)))
    with pytest.raises(UsageError, match="no worker on this host knows it") as caught:
        resolve(haproxies, "be/wep1")
    assert caught.value.do == "did you mean be/web1?"


def test_when_nobody_can_be_asked_that_is_said() -> None:
    with pytest.raises(EnvironmentLacks, match="worker 100 cannot be asked"):
        resolve(Scripted([MASTER, WORKER], {}), "be/s1")
    with pytest.raises(EnvironmentLacks, match="no HAProxy runs"):
        resolve(Scripted([], {}), "be/s1")


def test_what_helps_is_what_the_silence_says() -> None:
    def stopped(command: str) -> str:
        raise NoAnswer(Problem.TIMEOUT, command, "the process is stopped", "kill -CONT 100")

    with pytest.raises(EnvironmentLacks, match="is stopped") as caught:
        resolve(Scripted([MASTER, WORKER], {(100, "show"): stopped}), "be/s1")
    assert caught.value.do == "kill -CONT 100"


@pytest.mark.parametrize(
    ("problem", "helps"),
    [(Problem.DENIED, True), (Problem.NOT_THERE, True)]
    + [(each, False) for each in (Problem.TIMEOUT, Problem.CUT, Problem.GUARDED)],
)
def test_another_socket_helps_where_one_is_missing(problem: Problem, helps: bool) -> None:
    error = NoAnswer(problem, "show stat", "why")
    assert ("level admin" in help_for(error)) is helps


def test_a_server_without_an_address_cannot_be_verified() -> None:
    haproxies = Scripted([MASTER, WORKER], knowing(100, ("be/s1", "-", 0)))
    with pytest.raises(EnvironmentLacks, match="no IP address"):
        resolve(haproxies, "be/s1")
