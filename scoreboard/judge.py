"""What a `hatrace lab --json` said, held against what its scenario expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatrace.lab.scenario import Scenario

INTERVALS = 3
"""A finding is due within so many of its scenario's own intervals,"""
LEAST_S = 2.0
"""or within this, whichever is later."""


@dataclass(frozen=True)
class Line:
    """One line of JSON, and when it was read (CLOCK_MONOTONIC)."""

    at_ns: int
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """How well one run did."""

    named_s: float | None = None
    """From the moment hatrace began to attach until the line with the finding was read; None:
    the leak was not named, or there was none to name."""
    cause: str = ""
    """What it said of the cause."""
    cause_right: bool = False
    false: tuple[str, ...] = ()
    """Findings that nothing in the scenario justifies: slug, subject and claim of each."""
    lost: int = 0
    """Events the kernel side had no room for."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """The first line's information: kernel, rung, versions."""
    complete: bool = False
    """It came to its last line."""


def judge(scenario: Scenario, lines: Iterable[Line]) -> Verdict:
    """The verdict on one run; a finding that was taken back counts like one that stayed."""
    about: Mapping[str, Any] = {}
    named_s, cause, false = None, "", dict[tuple[str, str], str]()
    lost, complete = 0, False
    for line in lines:
        kind = line.said.get("type")
        if kind == "start":
            about = line.said["info"]
        elif kind == "finding":
            finding = line.said["finding"]
            if _is_false(scenario, finding):
                key = (finding["slug"], finding["subject"])
                false.setdefault(key, f"{key[0]} {key[1]}: {finding['claim']}")
            elif scenario.expects and finding["slug"] == scenario.expects.slug:
                named_s = named_s if named_s is not None else _since_start_s(about, line)
                cause = finding["cause"]
        elif kind == "end":
            lost, complete = _lost(line.said["losses"]), True
    right = scenario.expects is not None and scenario.expects.cause.lower() in cause.lower()
    return Verdict(named_s, cause, right, tuple(false.values()), lost, about, complete)


def _is_false(scenario: Scenario, finding: Mapping[str, Any]) -> bool:
    if scenario.expects is None:
        return True
    return finding["slug"] not in (scenario.expects.slug, *scenario.expects.also)


def _since_start_s(about: Mapping[str, Any], line: Line) -> float:
    return (line.at_ns - int(about["started_ns"])) / 1e9


LOST = ("ring_full", "flows_full", "targets_full")
"""As `Losses.total` counts: an end that was told late, and a scan without room, lose nothing."""


def _lost(losses: Mapping[str, int]) -> int:
    return sum(losses.get(name, 0) for name in LOST)


def due_s(scenario: Scenario) -> float:
    """The latest time at which its finding is in time."""
    return max(INTERVALS * scenario.interval_s, LEAST_S)
