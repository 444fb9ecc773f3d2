"""scripts/scoreboard: from what a lab said to its verdict, its numbers and its page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hatrace.lab.scenario import Expected, Running, Scenario
from hatrace.lab.stage import Stage
from scoreboard import __main__ as command
from scoreboard import table
from scoreboard.judge import Line, Verdict, due_s, judge
from scoreboard.page import About, render
from scoreboard.totals import totals
from scoreboard.trial import HAProxy, Trial, plays_on, seconds

SECOND_NS = 1_000_000_000
BEGAN_NS = 70 * SECOND_NS


def never(stage: Stage, binary: Path | None) -> Running:
    raise AssertionError("no scenario is played here")


LEAK = Scenario("leak", "", "", "", Expected("check-leak", "does not close", ("also",)), 1.0, never)
QUIET = Scenario("quiet", "", "", "", None, 10.0, never)
SCENARIOS = {one.name: one for one in (LEAK, QUIET)}
OLD = HAProxy("2.2", "2.2.9", "bullseye")
NEW = HAProxy("3.2", "3.2.1", "forky")


def start() -> Line:
    return Line(BEGAN_NS, {"type": "start", "info": {"started_ns": BEGAN_NS, "rung": "cgroup"}})


def finding(seconds: float, slug: str = "check-leak", subject: str = "be/s1", **more: str) -> Line:
    said = {
        "slug": slug,
        "subject": subject,
        "claim": "it leaks",
        "cause": "HAProxy does not close",
    }
    said |= more
    at_ns = BEGAN_NS + round(seconds * SECOND_NS)
    return Line(at_ns, {"type": "finding", "change": "opened", "finding": said})


def end(**losses: int) -> Line:
    lost: dict[str, Any] = {"at_ns": 99, "ring_full": 0} | losses
    return Line(0, {"type": "end", "losses": lost})


def test_a_leak_is_named_when_its_first_line_is_read() -> None:
    verdict = judge(LEAK, [start(), finding(2.5), finding(4), end()])
    assert verdict.named_s == 2.5
    assert verdict.cause_right
    assert verdict.complete
    assert verdict.false == ()


def test_another_cause_is_not_right() -> None:
    verdict = judge(LEAK, [start(), finding(2, cause="the process is stopped"), end()])
    assert verdict.named_s == 2
    assert not verdict.cause_right
    assert "another cause: the process is stopped" in table.notes([trial(LEAK, verdict)])[0]


def test_another_finding_is_false_unless_it_is_true_here_too() -> None:
    lines = [finding(1, "stream-leak", "fe"), finding(2, "also"), finding(3, "stream-leak", "fe")]
    verdict = judge(LEAK, [start(), *lines, end()])
    assert verdict.false == ("stream-leak fe: it leaks",)
    assert verdict.named_s is None


def test_any_finding_is_false_where_nothing_leaks() -> None:
    verdict = judge(QUIET, [start(), finding(1), finding(2, subject="be/s2"), end()])
    assert len(verdict.false) == 2


def test_losses_are_summed_and_a_torn_run_is_seen() -> None:
    assert judge(QUIET, [start(), end(ring_full=2, overwritten=3)]).lost == 2
    assert not judge(QUIET, [start()]).complete


def test_due_in_three_intervals_or_two_seconds() -> None:
    assert due_s(LEAK) == 3
    assert due_s(dataclasses.replace(LEAK, interval_s=0.2)) == 2
    assert seconds(LEAK, quick=True) > due_s(LEAK)
    assert seconds(QUIET, quick=True) == due_s(QUIET) == 30


def test_a_scenario_is_played_where_it_can_be() -> None:
    needs = dataclasses.replace(QUIET, since="2.10")
    assert plays_on(QUIET, OLD)
    assert not plays_on(needs, OLD)
    assert plays_on(needs, NEW)


def trial(
    scenario: Scenario, verdict: Verdict, on: HAProxy = OLD, load: float = 0.5, failure: str = ""
) -> Trial:
    return Trial(scenario.name, on.series, 0, 30, verdict, load, failure)


def named(after_s: float | None, *false: str, right: bool = True, lost: int = 0) -> Verdict:
    return Verdict(after_s, "", right, false, lost, {"rung": "cgroup"}, True)


TRIALS = [
    trial(LEAK, named(2.0)),
    trial(LEAK, named(4.0, "stream-leak fe: x"), NEW),
    trial(QUIET, named(None, lost=3)),
    trial(QUIET, named(None, "check-leak be: y"), NEW, load=99),
]


def test_totals() -> None:
    found = totals(TRIALS, SCENARIOS)
    assert (found.leaks, found.found, found.missed, found.causes, found.in_time) == (2, 2, 0, 2, 1)
    assert (found.silent, found.false, found.lost, found.disturbed) == (2, 2, 3, 1)
    assert (found.median_s, found.worst_s) == (3.0, 4.0)
    assert found.wrong


def test_what_could_not_be_played_is_neither_found_nor_missed() -> None:
    found = totals([trial(LEAK, Verdict(), failure="exit code 3: no HAProxy")], SCENARIOS)
    assert (found.leaks, found.found, found.missed, found.failed) == (1, 0, 0, 1)
    assert not found.wrong


@pytest.mark.parametrize(
    ("trials", "code"),
    [
        ([trial(LEAK, named(2.0)), trial(QUIET, named(None))], 0),
        ([trial(LEAK, named(None))], 1),
        ([trial(LEAK, named(2.0)), trial(QUIET, named(None, "x y: z"))], 1),
        ([trial(LEAK, named(2.0)), trial(QUIET, Verdict(), failure="no")], 3),
        ([], 3),
    ],
)
def test_exit_code(trials: Sequence[Trial], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SCENARIOS", SCENARIOS)
    assert command.exit_code(trials) == code


def cells(text: str, label: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {label} ")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_cells() -> None:
    series = ["2.2", "3.2"]
    head, _, leak = table.leaks(TRIALS, SCENARIOS, series).splitlines()
    assert [cell.strip() for cell in head.split("|")[4:6]] == ["HAProxy 2.2", "HAProxy 3.2"]
    assert "| 2.0 s (2.0) " in leak
    assert "| 4.0 s (4.0), LATE, FALSE stream-leak |" in leak
    quiet = table.silent(TRIALS, SCENARIOS, series)
    assert cells(quiet, "quiet") == ["quiet", "30 s", "silent, 3 events lost", "FALSE check-leak *"]


def test_cells_of_several_rounds() -> None:
    rounds = [trial(LEAK, named(after)) for after in (1.0, None, 2.5)]
    text = table.leaks(rounds, SCENARIOS, ["2.2"])
    assert "MISSED 1 of 3, 1.8 s (1.8), worst 2.5 s" in text
    assert cells(table.summary(rounds, SCENARIOS, ["2.2"]), "leaks named")[1:] == ["2 of 3"] * 2


def test_the_page_says_what_made_it() -> None:
    about = About(
        ("scripts/scoreboard", "--haproxy", "2.2"), "2026-11-21", "6.1", "x86_64", 2, "0.1.0",
        ["cgroup"], [OLD],
    )  # fmt: skip
    page = render(about, TRIALS[:1], {"leak": LEAK})
    assert "    scripts/scoreboard --haproxy 2.2\n" in page
    assert "2026-11-21, hatrace 0.1.0, rung cgroup, kernel 6.1 (x86_64, 2 processors)" in page
    assert "HAProxy 2.2.9 (bullseye)." in page
    assert "## Leaks" in page
    assert "## Look-alikes" not in page
    assert "## Remarks" not in page


def test_rows_played_anew_take_the_place_of_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SCENARIOS", SCENARIOS)
    verdict = judge(LEAK, [start(), finding(2.5), finding(3, slug="port-pressure"), end()])
    trials = [Trial(name, "2.2", 0, 30.0, verdict, 0.5) for name in ("leak", "quiet", "gone")]
    rows = json.loads(json.dumps([dataclasses.asdict(one) for one in trials]))
    new = dataclasses.replace(trials[1], load=0.1)
    assert command.kept(rows, [new]) == [trials[0], new]
