"""Less detail where too much happens or hatrace costs too much; more again when it is calm."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hatrace.commands._budget import LONGEST_S, SECOND_NS, TICK_S, Budget, Limits, Pace
from hatrace.model.event import DETAIL, OWN, PACE, Trouble

RATE, SHARE = 1_000.0, 0.05
LIMITS = Limits(flows_per_s=RATE, cpu_share=SHARE)


class Run:
    """A budget judged second by second."""

    def __init__(self, limits: Limits = LIMITS, full: bool = True) -> None:
        self.budget = Budget(limits, full, 0, 0)
        self.now_ns = self.cpu_ns = self.gone = 0
        self.said: list[Trouble] = []

    def spend(self, seconds: float, share: float = 0.0, flows_per_s: float = 0.0) -> list[Trouble]:
        """So long it takes this share of a CPU while so many flows end; what is said of it."""
        before, end_ns = len(self.said), self.now_ns + seconds * SECOND_NS
        while self.now_ns < end_ns:
            step_s = self.budget.tick_s
            self.now_ns += int(step_s * SECOND_NS)
            self.cpu_ns += int(step_s * share * SECOND_NS)
            self.gone += int(step_s * flows_per_s)
            self.said += self.budget.judge(self.now_ns, self.cpu_ns, self.gone)
        return self.said[before:]


def steps(said: Iterable[Trouble]) -> list[tuple[str, bool]]:
    assert all(trouble.source == OWN and trouble.why for trouble in said)
    return [(trouble.subject, trouble.over) for trouble in said]


def test_a_usual_day_changes_nothing() -> None:
    run = Run()
    assert run.spend(3600, share=SHARE * 0.9, flows_per_s=RATE * 0.9) == []
    assert (run.budget.summary, run.budget.tick_s) == (False, TICK_S)


def test_a_storm_of_flows_is_counted_from_the_next_tick_on() -> None:
    run = Run()
    run.spend(10, flows_per_s=RATE / 2)
    (said,) = run.spend(1, flows_per_s=RATE * 3)
    assert steps([said]) == [(DETAIL, False)]
    assert "1,000" in said.why
    assert run.budget.summary


def test_after_a_storm_it_must_be_calm_for_a_while() -> None:
    run = Run()
    run.spend(5, flows_per_s=RATE * 3)
    assert run.spend(30, flows_per_s=RATE * 0.8) == []
    assert run.spend(9, flows_per_s=RATE * 0.3) == []
    assert steps(run.spend(2, flows_per_s=RATE * 0.3)) == [(DETAIL, True)]
    assert not run.budget.summary


def test_the_first_seconds_are_not_judged() -> None:
    """Reading configurations, finding what is open: done once."""
    run = Run()
    assert run.spend(4, share=1.0) == []


def test_too_much_cpu_costs_detail_first_then_pace() -> None:
    run = Run()
    run.spend(8)
    assert steps(run.spend(4, share=SHARE * 2)) == [(DETAIL, False)]
    assert (run.budget.summary, run.budget.tick_s) == (True, TICK_S)
    assert steps(run.spend(4, share=SHARE * 2)) == [(PACE, False)]
    assert run.budget.tick_s == 2 * TICK_S


def test_however_dear_it_looks_now_and_then() -> None:
    run = Run()
    said = run.spend(1000, share=1.0)
    assert run.budget.tick_s == 16 * TICK_S
    assert steps(said) == [(DETAIL, False)] + 4 * [(PACE, False)]
    assert "16 s" in said[-1].why


def test_when_it_is_cheap_again_all_comes_back_step_by_step() -> None:
    run = Run()
    run.spend(100, share=1.0)
    said = run.spend(300, share=SHARE / 10)
    assert steps(said) == 3 * [(PACE, False)] + [(PACE, True), (DETAIL, True)]
    assert (run.budget.summary, run.budget.tick_s) == (False, TICK_S)


def test_detail_that_is_too_dear_each_time_is_tried_less_and_less() -> None:
    """The cost shows only with the detail: it comes and goes, more and more seldom."""
    run, tries = Run(), []
    run.spend(8)
    for second in range(7200):
        said = run.spend(1, share=SHARE / 10 if run.budget.summary else SHARE * 2)
        tries += [second for trouble in said if trouble.over]
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[0] < 30 < 600 <= waits[-1] < 620


def test_without_a_budget_no_cost_is_too_high() -> None:
    run = Run(Limits(cpu_share=None))
    assert run.spend(100, share=1.0) == []


def test_in_summary_from_the_start_there_is_no_detail_to_lose() -> None:
    run = Run(full=False)
    assert run.budget.summary
    run.spend(8)
    assert run.spend(4, flows_per_s=RATE * 3) == []
    assert steps(run.spend(4, share=SHARE * 2)) == [(PACE, False)]
    assert steps(run.spend(60)) == [(PACE, True)]
    assert run.budget.summary


def waits(costs_s: Iterable[float], calm: bool = True) -> list[float]:
    pace, found = Pace(0.02, 0.1), []
    for cost_s in costs_s:
        pace.took(cost_s)
        found.append(pace.wait_s(calm, 1.0))
    return found


def test_cheap_looks_come_at_their_time() -> None:
    assert waits([0.5, 0.01, 0.012, 0.019]) == [1.0] * 4


def test_dear_looks_take_their_share() -> None:
    assert waits([0.04] * 4) == [1.0, 2.0, 2.0, 2.0]
    assert waits([0.04] * 4, calm=False) == [1.0] * 4
    assert waits([0.4] * 3, calm=False)[-1] == 4.0
    assert waits([9.0] * 3)[-1] == LONGEST_S


def test_one_look_that_took_long_changes_nothing() -> None:
    assert waits([0.01, 0.01, 2.0, 0.01]) == [1.0] * 4
