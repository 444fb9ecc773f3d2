"""The only way back: what the world shows decides what kernel and HAProxy are asked next.

The world is the real table, fed with events; the two who are told only take notes.
"""

from __future__ import annotations

import pytest

from hatrace.commands._feedback import CONFIRM_AFTER_NS, Feedback
from hatrace.flows.table import Table
from hatrace.model.event import Event, Tick
from hatrace.model.finding import Change, Evidence, FindingChange
from hatrace.pipeline import Verdict
from tests import factories as make
from tests.unit.sinks import story

LATER_S = 1 + CONFIRM_AFTER_NS / 1e9


class Notes:
    """Stands for the probes and for the sampler."""

    def __init__(self) -> None:
        self.watched: list[tuple[int, int]] = []
        self.confirmed: list[int] = []

    def watch(self, target: int, age_ns: int) -> None:
        self.watched.append((target, age_ns))

    def confirm(self, pid: int) -> None:
        self.confirmed.append(pid)


class Told:
    """A feedback, the world it looks at, and what it asked for."""

    def __init__(self) -> None:
        self.world, self.notes = Table(make.info()), Notes()
        self.feedback = Feedback(self.notes, self.notes)

    def hears(self, *events: Event) -> None:
        for event in events:
            self.world.apply(event)
            self.feedback.accept(event, self.world, Verdict())

    def ticks(self, at_s: float) -> None:
        self.hears(Tick(make.at(at_s)))


@pytest.fixture
def told() -> Told:
    told = Told()
    told.hears(
        make.processes(make.at(0), make.process()),
        make.servers(make.at(0), make.server()),
        make.targets(make.at(0), make.target()),
    )
    return told


def test_nothing_is_asked_before_a_tick(told: Told) -> None:
    told.hears(make.open_scan(make.at(1), make.half_closed(make.check_flow())))
    assert (told.notes.watched, told.notes.confirmed) == ([], [])
    assert not told.feedback.suspects


def test_the_targets_of_checks_are_watched_once(told: Told) -> None:
    told.ticks(1)
    [(target, age_ns)] = told.notes.watched
    assert target == make.CHECK_TARGET
    assert age_ns == told.world.check_targets()[target] > 0
    told.ticks(2)
    assert len(told.notes.watched) == 1, "it is known already"


def test_an_index_that_serves_another_target_is_watched_again(told: Told) -> None:
    """One that left is missing from the totals once, before its index comes back."""
    told.ticks(1)
    told.hears(make.targets(make.at(2)))
    told.ticks(2)
    told.hears(make.targets(make.at(3), make.target()))
    told.ticks(3)
    assert [target for target, _ in told.notes.watched] == [make.CHECK_TARGET] * 2


def test_a_target_to_which_no_check_goes_any_more_is_left(told: Told) -> None:
    told.ticks(1)
    told.hears(make.servers(make.at(2), make.server(checked=False)))
    told.ticks(3)
    assert told.notes.watched[-1] == (make.CHECK_TARGET, 0)


def test_suspects_are_asked_about_when_they_last(told: Told) -> None:
    leaked = make.half_closed(make.check_flow())
    told.hears(make.open_scan(make.at(1), leaked))
    told.ticks(1.1)
    assert told.feedback.suspects, "the fds are read at each tick from now on"
    assert told.notes.confirmed == []
    told.hears(make.open_scan(make.at(LATER_S + 1), leaked))
    told.ticks(LATER_S + 1.1)
    assert told.notes.confirmed == [make.WORKER]


def test_no_question_about_processes_that_are_not_haproxy(told: Told) -> None:
    strange = make.half_closed(make.check_flow(pid=4242))
    told.hears(make.open_scan(make.at(1), strange))
    told.hears(make.open_scan(make.at(LATER_S + 1), strange))
    told.ticks(LATER_S + 1.1)
    assert told.notes.confirmed == []


def test_all_is_quiet_again(told: Told) -> None:
    told.hears(make.open_scan(make.at(1), make.half_closed(make.check_flow())))
    told.ticks(1.1)
    told.hears(make.open_scan(make.at(2)))
    told.ticks(2.1)
    assert not told.feedback.suspects
    assert told.notes.confirmed == []


def test_the_clients_behind_a_drain_survivor_are_asked_for_once(told: Told) -> None:
    worker = Evidence("process", pid=make.WORKER)
    finding = story.finding("drain-survivor", evidence=(worker,))
    opened = Verdict((finding,), (FindingChange(Change.OPENED, finding),))
    told.feedback.accept(Tick(make.at(1)), told.world, opened)
    told.feedback.accept(Tick(make.at(2)), told.world, Verdict((finding,)))
    assert told.notes.confirmed == [make.WORKER]
