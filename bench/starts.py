"""From exec to the first line, and to the first finding of a leak that was there before.

The leak is the lab's: a real HAProxy whose checks leave sockets behind.  One start more has no
compiled BPF programs to find: that is what the very first start on a host takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from bench.aims import Aim
from bench.table import Spread, spread, tabulate
from bench.tools import hatrace
from hatrace.lab.scenarios import SCENARIOS
from hatrace.lab.stage import Stage
from hatrace.model.capture_info import Scope

LEAK = "check-leak"
BEFORE_S = 15.0
PATIENCE_S = "20s"
MOST_EVENT_S, MOST_FINDING_S = 0.5, 1.0


@dataclass(frozen=True)
class Start:
    """Seconds from exec; ``finding_s`` None: none came."""

    event_s: float
    finding_s: float | None


@dataclass(frozen=True)
class Starts:
    usual: tuple[Start, ...]
    first: Start
    """With nothing compiled yet."""


def run(rounds: int) -> Starts:
    print(f"starts: {LEAK}", file=sys.stderr)
    with Stage() as stage:
        scope = SCENARIOS[LEAK].play(stage, None).scope
        time.sleep(BEFORE_S)
        with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as cache:
            first = _start(scope, {"XDG_CACHE_HOME": cache})
        return Starts(tuple(_start(scope, {}) for _ in range(rounds)), first)


def _start(scope: Scope, environment: dict[str, str]) -> Start:
    words = [word for value in scope.values for word in (f"--{scope.kind.value}", value)]
    command = hatrace("live", "--json", "-d", PATIENCE_S, *words).command
    began_s, event_s, finding_s = time.monotonic(), None, None
    with subprocess.Popen(
        command,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            event_s = event_s or time.monotonic() - began_s
            said = json.loads(line)
            if said["type"] == "finding" and said["finding"]["slug"] == LEAK:
                finding_s = time.monotonic() - began_s
                break
        process.terminate()
    if event_s is None:
        raise RuntimeError("hatrace live said nothing: see above")
    return Start(event_s, finding_s)


def _spreads(found: Starts) -> tuple[Spread | None, Spread | None]:
    return (
        spread([start.event_s for start in found.usual]),
        spread([start.finding_s for start in found.usual]),
    )


def table(found: Starts) -> str:
    event, finding = _spreads(found)
    rows = [
        ("usual", _text(event), _text(finding)),
        ("nothing compiled yet", f"{found.first.event_s:.2f}", f"{found.first.finding_s or 0:.2f}"),
    ]
    return tabulate(("start", "first event s", f"first {LEAK} s"), rows)


def aims(found: Starts) -> list[Aim]:
    event, finding = _spreads(found)
    all_found = all(start.finding_s is not None for start in found.usual)
    return [
        Aim(
            "start to first event",
            f"under {MOST_EVENT_S} s",
            f"{_text(event)} s",
            event is not None and event.median < MOST_EVENT_S,
        ),
        Aim(
            "start to first finding of an existing leak",
            f"under {MOST_FINDING_S:g} s",
            f"{_text(finding)} s",
            all_found and finding is not None and finding.median < MOST_FINDING_S,
        ),
    ]


def _text(value: Spread | None) -> str:
    return value.text("{:.2f}") if value else "none"
