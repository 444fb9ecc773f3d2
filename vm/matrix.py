"""The rungs' tests on every kernel, and a table of what each rung saw there."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vm import images, machine
from vm.kernels import KERNELS, Kernel
from vm.table import page

PAGE = images.TOP / "docs/kernels.md"
LOGS = images.CACHE / "logs"

RUNGS, LADDER = "tests/kernel/test_rungs.py", "tests/kernel/test_ladder.py"
COMMAND = """\
export CI=true HATRACE_RUNGS={rungs}
python3 -m vm.facts >/out/facts.json
exec python3 -m pytest -q --durations=20 -p no:cacheprovider -o junit_family=xunit1 \
  --junitxml=/out/junit.xml {tests}
"""
EVERY_RUNG = "fentry,kprobe,cgroup"
LOCKDOWN = "lockdown=confidentiality"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one boot of one kernel gave."""

    kernel: Kernel
    release: str
    code: int
    seconds: float
    passed: int = 0
    failed: tuple[str, ...] = ()
    date: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    """What `vm.facts` found: versions, the ladder's answers, capabilities."""
    sees: dict[str, dict[str, str]] = field(default_factory=dict)
    """Fact → rung → the word for it, from the tests' records."""


def run(kernels: Sequence[Kernel], write: bool, jobs: int) -> int:
    """Everything on all of them, ``jobs`` at a time; 0 if every test passed on each.

    The page has the latest outcome of every kernel, of this run or of an earlier one.
    """
    with _workers(jobs) as pool:
        boots = [pool.submit(_boot, kernel, EVERY_RUNG, f"{LADDER} {RUNGS}") for kernel in kernels]
        boots += [pool.submit(_boot, kernel, "none", LADDER, LOCKDOWN) for kernel in kernels]
        outcomes = [boot.result() for boot in boots]
    text = page(list(_kept("")), list(_kept(LOCKDOWN)))
    print(text)
    if write:
        PAGE.write_text(text)
    return _code(outcomes)


def _keep(outcome: Outcome, append: str) -> None:
    fields = {each.name: getattr(outcome, each.name) for each in dataclasses.fields(outcome)}
    text = json.dumps(fields | {"kernel": outcome.kernel.name}, indent=1)
    _place(outcome.kernel, append, "json").write_text(text)


def _kept(append: str) -> Iterator[Outcome]:
    """The latest outcome of each kernel, oldest kernel first."""
    for kernel in KERNELS:
        place = _place(kernel, append, "json")
        if place.exists():
            yield Outcome(**json.loads(place.read_text()) | {"kernel": kernel})


def _place(kernel: Kernel, append: str, kind: str) -> Path:
    return LOGS / f"{kernel.name}{'-locked' if append else ''}.{kind}"


def run_short(kernels: Sequence[Kernel], jobs: int) -> int:
    """That every rung works and sees what it should; the refusals are left to `run`."""
    tests = f"{LADDER}::test_what_works_here {RUNGS}"
    with _workers(jobs) as pool:
        boots = [pool.submit(_boot, kernel, EVERY_RUNG, tests, keep=False) for kernel in kernels]
        return _code([boot.result() for boot in boots])


@contextmanager
def _workers(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for guests; an interrupt ends the guests, too."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            machine.end_all()
            raise


def _code(outcomes: Sequence[Outcome]) -> int:
    return 1 if any(outcome.code for outcome in outcomes) else 0


def _boot(kernel: Kernel, rungs: str, tests: str, append: str = "", keep: bool = True) -> Outcome:
    """``rungs``: what must work there; the tests hold it against what does."""
    images.say(f"kernel {kernel.name} {append}".rstrip())
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        command = COMMAND.format(rungs=rungs, tests=tests)
        order = machine.Order(kernel, command, out=out, append=append, limit_s=1800, capture=True)
        result = machine.run(order)
        outcome = _outcome(kernel, result, out)
    images.say(
        f"{result.release}: {outcome.passed} passed, {len(outcome.failed)} failed, "
        f"{result.seconds:.0f} s, exit code {result.code}"
    )
    LOGS.mkdir(parents=True, exist_ok=True)
    if keep and outcome.passed:  # else it died, or was interrupted
        _keep(outcome, append)
    log = _place(kernel, append, "log")
    log.write_text(f"{result.output}\n{result.console}")
    if result.code:
        print(result.output[-20_000:])
        print("".join(result.console.splitlines(keepends=True)[-20:]))
        images.say(f"all it said: {log}")
    return outcome


def _outcome(kernel: Kernel, result: machine.Result, out: Path) -> Outcome:
    about = out / "facts.json"
    tests = out / "junit.xml"
    passed, failed, sees = _read(tests) if tests.exists() else (0, (), {})
    return Outcome(
        kernel,
        result.release,
        result.code,
        result.seconds,
        passed,
        failed,
        datetime.now(tz=UTC).date().isoformat(),
        json.loads(about.read_text() or "{}") if about.exists() else {},
        sees,
    )


def _read(junit: Path) -> tuple[int, tuple[str, ...], dict[str, dict[str, str]]]:
    """(passed, names of those that failed, fact → rung → word) of pytest's report."""
    passed, failed = 0, []
    sees: dict[str, dict[str, str]] = {}
    for case in xml.parse(junit).getroot().iter("testcase"):
        wrong = case.find("failure") is not None or case.find("error") is not None
        if wrong:
            failed.append(case.get("name", "?"))
        elif case.find("skipped") is None:
            passed += 1
        words = {each.get("name"): each.get("value") or "" for each in case.iter("property")}
        if fact := words.get("fact"):
            sees.setdefault(fact, {})[words["rung"]] = "**wrong**" if wrong else words["sees"]
    return passed, tuple(failed), sees
