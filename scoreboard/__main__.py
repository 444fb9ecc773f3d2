"""Options, the trials, the answer: see ``scripts/scoreboard --help``."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hatrace import __version__
from hatrace.errors import HatraceError
from hatrace.lab import builds
from hatrace.lab.scenario import Scenario
from hatrace.lab.scenarios import SCENARIOS
from scoreboard.judge import Verdict
from scoreboard.page import About, render
from scoreboard.totals import totals
from scoreboard.trial import HAProxy, Trial, play, plays_on, seconds

ABOUT = """\
Plays every scenario of the lab, leaks and healthy look-alikes, on each HAProxy of Debian's
suites, each in a process of its own, and counts: leaks named and with the
right cause, time to name, false findings, lost events.  Loopback only; needs root.
Exit code 1 if a leak was missed or a false finding made, 3 if a trial could not be played.
"""
OVERHEAD_S = 4.0
"""Of a trial: starting and ending it."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/scoreboard",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    series = list(builds.SUITES.values())
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), metavar="NAME", help="default: all"
    )
    parser.add_argument("--haproxy", action="append", choices=series, help="default: all")
    parser.add_argument("--rounds", type=int, default=1, help="of everything (default: 1)")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="so many at a time (default: 1)"
    )
    parser.add_argument("--quick", action="store_true", help="look-alikes are watched for 12 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every trial, for later")
    parser.add_argument(
        "--with",
        dest="earlier",
        type=Path,
        metavar="FILE",
        help="rows that are not played now are those of an earlier --json",
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="as docs/scoreboard.md")
    return parser.parse_args(arguments)


def haproxies(wanted: Sequence[str] | None) -> list[HAProxy]:
    """Those that start here, fetched where they are not there yet; the others are named."""
    found = []
    for suite, series in builds.SUITES.items():
        if wanted and series not in wanted:
            continue
        try:
            found.append(HAProxy(series, builds.version(builds.fetch(suite)), suite))
        except HatraceError as error:
            print(f"HAProxy {series} is left out: {error}", file=sys.stderr)
    return found


def trials(
    scenarios: Sequence[Scenario],
    versions: Sequence[HAProxy],
    rounds: int,
    quick: bool,
    jobs: int = 1,
) -> Iterator[Trial]:
    """In order, ``jobs`` at a time; says on stderr how far it is."""
    plan = [
        (scenario, haproxy, number, quick)
        for number in range(rounds)
        for haproxy in versions
        for scenario in scenarios
        if plays_on(scenario, haproxy)
    ]
    plan.sort(key=lambda one: _alone(one[0]))
    left_s = sum(seconds(scenario, quick) + OVERHEAD_S for scenario, *_ in plan)
    for (scenario, haproxy, *_), trial in zip(plan, _played(plan, jobs), strict=True):
        left_s -= seconds(scenario, quick) + OVERHEAD_S
        said = f"{scenario.name} on {haproxy.series}: {_told(scenario, trial)}"
        print(f"{said} ({left_s / 60 / jobs:.0f} min left)", file=sys.stderr, flush=True)
        yield trial


def _played(plan: Sequence[tuple[Scenario, HAProxy, int, bool]], jobs: int) -> Iterator[Trial]:
    together = [one for one in plan if not _alone(one[0])]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda one: play(*one), together)
    yield from (play(*one) for one in plan if _alone(one[0]))


def _alone(scenario: Scenario) -> bool:
    """Whether others would see it: the kernel counts orphans for the host as a whole."""
    return scenario.expects is not None and scenario.expects.slug == "orphan-storm"


def _told(scenario: Scenario, trial: Trial) -> str:
    """One trial in a few words."""
    verdict = trial.verdict
    if trial.failure:
        return f"NOT PLAYED, {trial.failure}"
    words = [f"FALSE {what}" for what in verdict.false]
    if scenario.expects and verdict.named_s is None:
        words.append("MISSED")
    elif verdict.named_s is not None:
        words.append(f"named after {verdict.named_s:.1f} s")
        words += [] if verdict.cause_right else [f"OTHER CAUSE {verdict.cause}"]
    return "; ".join(words) or "silent"


def about(command: Sequence[str], versions: Sequence[HAProxy], done: Sequence[Trial]) -> About:
    rungs = {str(one.verdict.about["rung"]) for one in done if one.verdict.about}
    return About(
        command=("scripts/scoreboard", *command),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
        hatrace=__version__,
        rungs=sorted(rungs),
        haproxies=versions,
    )


def main(arguments: Sequence[str]) -> int:
    """0: all as it should be; 1: missed or false; 3: not all could be played."""
    chosen = options(arguments)
    if os.geteuid() != 0:
        print("hatrace: cannot play: not root\n  do: sudo scripts/scoreboard", file=sys.stderr)
        return 3
    scenarios = [one for one in SCENARIOS.values() if one.name in (chosen.scenario or SCENARIOS)]
    versions = haproxies(chosen.haproxy)
    done = list(trials(scenarios, versions, chosen.rounds, chosen.quick, max(chosen.jobs, 1)))
    told = about(arguments, versions, done)
    if chosen.earlier:
        before = json.loads(chosen.earlier.read_text())
        done = kept(before["trials"], done)
        versions = [one for one in haproxies(None) if one.series in {each.series for each in done}]
        commands = (*before["about"]["earlier"], shlex.join(before["about"]["command"]))
        told = replace(about(arguments, versions, done), earlier=commands)
    played = {one.scenario for one in done}
    page = render(told, done, {name: one for name, one in SCENARIOS.items() if name in played})
    print(page)
    if chosen.page:
        chosen.page.write_text(page)
    if chosen.json:
        rows = {"about": asdict(told), "trials": [asdict(one) for one in done]}
        chosen.json.write_text(json.dumps(rows, indent=1))
    return exit_code(done)


def kept(rows: Sequence[dict[str, Any]], done: Sequence[Trial]) -> list[Trial]:
    """Earlier trials without those played anew, and these."""
    new = {(one.scenario, one.series) for one in done}
    found = []
    for row in rows:
        said = row["verdict"] | {"false": tuple(row["verdict"]["false"])}
        trial = Trial(**(row | {"verdict": Verdict(**said)}))
        if (trial.scenario, trial.series) not in new and trial.scenario in SCENARIOS:
            found.append(trial)
    return [*found, *done]


def exit_code(done: Sequence[Trial]) -> int:
    """Wrong answers before missing ones."""
    counted = totals(done, SCENARIOS)
    if counted.wrong:
        return 1
    return 3 if counted.failed or not done else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
