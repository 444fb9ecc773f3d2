"""Trials to numbers: recall, causes, false findings, time to name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from hatrace.lab.scenario import Scenario
from scoreboard.judge import due_s
from scoreboard.trial import Trial


@dataclass(frozen=True)
class Totals:
    """Of some trials."""

    leaks: int
    found: int
    missed: int
    """Played, and not named."""
    causes: int
    """Found with the right cause."""
    in_time: int
    silent: int
    """Trials of look-alikes."""
    false: int
    """False findings, in leaks and look-alikes together."""
    lost: int
    disturbed: int
    failed: int
    times_s: tuple[float, ...]

    @property
    def median_s(self) -> float | None:
        return median(self.times_s) if self.times_s else None

    @property
    def worst_s(self) -> float | None:
        return max(self.times_s, default=None)

    @property
    def wrong(self) -> bool:
        """Whether a leak was missed or a false finding made."""
        return bool(self.missed or self.false)


def totals(trials: Sequence[Trial], scenarios: Mapping[str, Scenario]) -> Totals:
    """Trials that failed are neither found nor silent."""
    leaks = [one for one in trials if scenarios[one.scenario].expects]
    named = [
        (one, time)
        for one in leaks
        if not one.failure and (time := one.verdict.named_s) is not None
    ]
    return Totals(
        leaks=len(leaks),
        found=len(named),
        missed=sum(not one.failure for one in leaks) - len(named),
        causes=sum(one.verdict.cause_right for one, _ in named),
        in_time=sum(time <= due_s(scenarios[one.scenario]) for one, time in named),
        silent=len(trials) - len(leaks),
        false=sum(len(one.verdict.false) for one in trials),
        lost=sum(one.verdict.lost for one in trials),
        disturbed=sum(one.disturbed for one in trials),
        failed=sum(bool(one.failure) for one in trials),
        times_s=tuple(time for _, time in named),
    )
