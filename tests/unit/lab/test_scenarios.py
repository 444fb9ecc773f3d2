"""Every scenario says what it is, and what it must lead to is something hatrace can find."""

from __future__ import annotations

import pytest

from hatrace import detectors
from hatrace.haproxy import known_issues
from hatrace.lab.scenario import Scenario
from hatrace.lab.scenarios import SCENARIOS

every = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))


@every
def test_it_says_what_is_real_and_what_is_injected(scenario: Scenario) -> None:
    assert scenario.title
    assert scenario.real.endswith(".")
    assert scenario.injected.endswith(".")
    assert 0 < scenario.interval_s <= 10


@every
def test_a_detector_asks_for_what_it_must_lead_to(scenario: Scenario) -> None:
    slugs = {detector.slug for detector in detectors.create(known_issues.matching)}
    assert scenario.expects is None or scenario.expects.slug in slugs


def test_each_finding_has_a_scenario_and_health_has_one() -> None:
    expected = {scenario.expects and scenario.expects.slug for scenario in SCENARIOS.values()}
    assert expected == {detector.slug for detector in detectors.create(known_issues.matching)} | {
        None
    }
