"""One trial: a scenario on one HAProxy, in a fresh `hatrace lab`, read line by line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from hatrace.lab.scenario import Scenario
from scoreboard.judge import Line, Verdict, due_s, judge

SPARE_S = 6.0
"""A leak is watched so much longer than it is due, so that a late finding is seen as late."""
QUIET_S = 30.0
"""A look-alike is watched at least so long: longer than what a detector waits for a reload's
old workers, for half-closed sessions, or for resets to be noticed."""
QUICK_QUIET_S = 12.0
PATIENCE_S = 90.0
"""For starting, attaching and ending, on a busy machine; then it is killed."""


@dataclass(frozen=True)
class HAProxy:
    """One of those that are compared."""

    series: str
    version: str
    suite: str

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, self.series.split(".")))


@dataclass(frozen=True)
class Trial:
    """What came of it."""

    scenario: str
    series: str
    round: int
    seconds: float
    """How long it was watched."""
    verdict: Verdict
    load: float
    """The host's load average of a minute, the higher of before and after."""
    failure: str = ""
    """Why it could not be played, or did not end well."""

    @property
    def disturbed(self) -> bool:
        """Whether others were using the machine's processors, too."""
        return self.load > (os.cpu_count() or 1)


def plays_on(scenario: Scenario, haproxy: HAProxy) -> bool:
    """Whether this HAProxy has what the scenario needs."""
    if scenario.brings:
        return haproxy.series == scenario.brings
    first, last = _series(scenario.since), _series(scenario.until)
    return first <= haproxy.number and (not last or haproxy.number <= last)


def _series(text: str) -> tuple[int, ...]:
    """``3.2``: (3, 2); of an empty text: ()."""
    return tuple(int(part) for part in text.split(".") if part)


def seconds(scenario: Scenario, quick: bool) -> float:
    """How long it is watched."""
    if scenario.expects:
        return due_s(scenario) + SPARE_S
    return max(QUICK_QUIET_S if quick else QUIET_S, due_s(scenario))


def play(scenario: Scenario, haproxy: HAProxy, number: int, quick: bool) -> Trial:
    """Run it and judge it; it takes its time and at most `PATIENCE_S` more."""
    watched = seconds(scenario, quick)
    command = [sys.executable, "-m", "hatrace", "lab", scenario.name, "--json"]
    command += ["--haproxy", haproxy.suite, "-d", f"{watched:g}s"]
    before = os.getloadavg()[0]
    with (
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        _killed_after(process, watched + PATIENCE_S),
        _drained(process.stderr) as said,
    ):
        lines = list(_lines(process.stdout))
        code = process.wait()
    verdict = judge(scenario, lines)
    load = round(max(before, os.getloadavg()[0]), 2)
    failure = "" if verdict.complete and code in (0, 1) else _failure(code, said)
    return Trial(scenario.name, haproxy.series, number, watched, verdict, load, failure)


def _lines(stream: IO[str] | None) -> Iterator[Line]:
    """Each line with the time at which it came; a torn last one is none."""
    for text in stream or ():
        at_ns = time.monotonic_ns()
        with contextlib.suppress(ValueError):
            yield Line(at_ns, json.loads(text))


def _failure(code: int, said: list[str]) -> str:
    """The error that hatrace ended with, or the last words of a traceback."""
    known = [line for line in said if line.startswith("hatrace:")]
    last = (known or said or ["it said nothing"])[-1].strip()
    return f"exit code {code}: {last}"


@contextlib.contextmanager
def _killed_after(process: subprocess.Popen[str], limit_s: float) -> Iterator[None]:
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if process.poll() is None:
            process.terminate()


@contextlib.contextmanager
def _drained(stream: IO[str] | None) -> Iterator[list[str]]:
    """What is said on stderr, read meanwhile so that the pipe never fills."""
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(stream or ()), daemon=True)
    reader.start()
    try:
        yield said
    finally:
        reader.join(5)
