"""Which socket a process is asked at, and how a master is spared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hatrace.haproxy import asking
from hatrace.haproxy.asking import Asking
from hatrace.haproxy.runtime import NoAnswer, Problem
from hatrace.model.topology import CommandSocket, Kind, Level, Process

from .standin import Behaviour, is_silent, says, says_and_stays, standing_in

MASTER = Process(pid=10, kind=Kind.MASTER, parent_pid=1, comm="haproxy", started_ns=1)
WORKER = Process(pid=11, kind=Kind.WORKER, parent_pid=10, comm="haproxy", started_ns=2)
OLD = Process(pid=9, kind=Kind.OLD_WORKER, parent_pid=10, comm="haproxy", started_ns=1)


def asks(*sockets: CommandSocket, guard: str | None = None, worker: Process = WORKER) -> Asking:
    found = Asking(lambda _: guard)
    found.know((MASTER, worker, OLD), sockets)
    return found


def at(path: Path, pid: int, level: Level | None = None) -> CommandSocket:
    return CommandSocket(str(path), pid == MASTER.pid, pid, level=level)


def problem(found: Asking, process: Process, command: str = "show info") -> Problem:
    with pytest.raises(NoAnswer) as caught:
        found.ask(process, command, deadline_s=0.2)
    return caught.value.problem


def test_its_own_socket_comes_first(tmp_path: Path) -> None:
    with (
        standing_in(tmp_path / "m", says_and_stays("master\n\n")) as master,
        standing_in(tmp_path / "s", says("own\n\n")),
    ):
        found = asks(at(tmp_path / "m", 10), at(tmp_path / "s", 11))
        assert found.ask(WORKER, "show info")[0].text == "own\n\n"
    assert master.asked == []


def test_of_two_the_one_that_allows_more(tmp_path: Path) -> None:
    with (
        standing_in(tmp_path / "u", says("user\n\n")),
        standing_in(tmp_path / "a", says("admin\n\n")),
    ):
        sockets = at(tmp_path / "u", 11, Level.USER), at(tmp_path / "a", 11, Level.ADMIN)
        assert asks(*sockets).ask(WORKER, "show info")[0].text == "admin\n\n"


def test_an_old_worker_is_reached_through_its_master(tmp_path: Path) -> None:
    with standing_in(tmp_path / "m", says_and_stays("old\n\n")) as master:
        found = asks(at(tmp_path / "m", 10))
        assert found.ask(OLD, "show sess")[0].text == "old\n\n"
        found.ask(replace(OLD, container_pid=3), "show sess")
    assert master.asked == ["@!9 show sess", "@!3 show sess"]


def test_a_socket_whose_level_is_too_low_leads_to_the_master(tmp_path: Path) -> None:
    with (
        standing_in(tmp_path / "m", says_and_stays("master\n\n")),
        standing_in(tmp_path / "s", says("Permission denied\n\n")),
    ):
        sockets = at(tmp_path / "m", 10), at(tmp_path / "s", 11)
        assert asks(*sockets).ask(WORKER, "show fd")[0].text == "master\n\n"
    with standing_in(tmp_path / "alone", says("Permission denied\n\n")):
        assert problem(asks(at(tmp_path / "alone", 11)), WORKER) is Problem.DENIED


def test_a_crowded_socket_is_left_alone_and_so_is_its_master(tmp_path: Path) -> None:
    with (
        standing_in(tmp_path / "m", says_and_stays("master\n\n")) as master,
        standing_in(tmp_path / "s", says("own\n\n")) as own,
    ):
        sockets = at(tmp_path / "m", 10), at(tmp_path / "s", 11)
        found = asks(*sockets, guard="10 of its 10 slots are used")
        assert problem(found, WORKER) is Problem.GUARDED
    assert master.asked == own.asked == []


def test_one_that_does_not_answer_is_not_asked_through_its_master_as_well(tmp_path: Path) -> None:
    with (
        standing_in(tmp_path / "m", says_and_stays("master\n\n")) as master,
        standing_in(tmp_path / "s", is_silent),
    ):
        found = asks(at(tmp_path / "m", 10), at(tmp_path / "s", 11))
        assert problem(found, WORKER) is Problem.TIMEOUT
    assert master.asked == []


def test_a_worker_silent_behind_its_master_is_left_alone(tmp_path: Path) -> None:
    """Each try costs the master a slot for as long as the worker does not answer (#3351)."""
    with standing_in(tmp_path / "m", is_silent) as master:
        found = asks(at(tmp_path / "m", 10))
        assert problem(found, WORKER) is Problem.TIMEOUT
        assert problem(found, WORKER) is Problem.GUARDED
    assert master.asked == ["@!11 show info"]


def test_a_master_loses_few_slots_over_all_its_workers(tmp_path: Path) -> None:
    workers = [replace(OLD, pid=100 + n) for n in range(8)]
    with standing_in(tmp_path / "m", is_silent) as master:
        found = Asking(lambda _: None)
        found.know((MASTER, *workers), [at(tmp_path / "m", 10)])
        problems = [problem(found, each) for each in workers]
    assert problems.count(Problem.TIMEOUT) == asking.MOST_UNANSWERED == len(master.asked)
    assert problems[-1] is Problem.GUARDED


def test_a_stopped_process_is_not_asked(tmp_path: Path) -> None:
    with standing_in(tmp_path / "s", says("own\n\n")) as worker:
        found = asks(at(tmp_path / "s", 11))
        assert problem(found, replace(WORKER, stopped=True)) is Problem.TIMEOUT
    assert worker.asked == []


def test_a_socket_where_another_answers_is_not_used_again(tmp_path: Path) -> None:
    with standing_in(tmp_path / "s", says("another\n\n")):
        socket = at(tmp_path / "s", 11)
        found = asks(socket)
        found.not_its_own(socket)
        assert problem(found, WORKER) is Problem.NOT_THERE


def test_no_socket_at_all() -> None:
    found = asks()
    for process in (MASTER, WORKER, OLD):
        assert problem(found, process) is Problem.NOT_THERE


@pytest.mark.parametrize("behaviour", [is_silent, says("")])
def test_a_cut_answer_through_the_master_can_be_taken(tmp_path: Path, behaviour: Behaviour) -> None:
    with standing_in(tmp_path / "m", behaviour), pytest.raises(NoAnswer):
        asks(at(tmp_path / "m", 10)).ask(WORKER, "show fd", 0.2, partial=True)
    with standing_in(tmp_path / "n", says("half an ans")):
        answer, _ = asks(at(tmp_path / "n", 10)).ask(WORKER, "show fd", 0.2, partial=True)
    assert (answer.text, answer.complete) == ("half an ans", False)
