"""The rungs' tests on every kernel, and a table of what each rung saw there."""

from __future__ import annotations

import json
import tempfile
import xml.etree.ElementTree as xml
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm import images, machine
from vm.kernels import Kernel
from vm.table import page

PAGE = images.TOP / "docs/kernels.md"
LOGS = images.CACHE / "logs"

RUNGS, LADDER = "tests/kernel/test_rungs.py", "tests/kernel/test_ladder.py"
SURROUNDINGS = "tests/kernel/test_containers.py tests/kernel/test_privileges.py"
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
    about: dict[str, Any] = field(default_factory=dict)
    """What `vm.facts` found: versions, the ladder's answers, capabilities."""
    sees: dict[str, dict[str, str]] = field(default_factory=dict)
    """Fact → rung → the word for it, from the tests' records."""


def run(kernels: Sequence[Kernel], write: bool, jobs: int) -> int:
    """Everything on all of them, ``jobs`` at a time; 0 if every test passed on each."""
    tests = f"{LADDER} {SURROUNDINGS} {RUNGS}"
    with ThreadPoolExecutor(jobs) as pool:
        open_ones = [pool.submit(_boot, kernel, EVERY_RUNG, tests) for kernel in kernels]
        locked_ones = [pool.submit(_boot, each, "none", LADDER, LOCKDOWN) for each in kernels]
        outcomes = [each.result() for each in open_ones]
        locked = [each.result() for each in locked_ones]
    text = page(outcomes, locked)
    print(text)
    if write:
        PAGE.write_text(text)
    return _code((*outcomes, *locked))


def run_short(kernels: Sequence[Kernel], jobs: int) -> int:
    """That every rung works and sees what it should; the refusals are left to `run`."""
    tests = f"{LADDER}::test_what_works_here {RUNGS}"
    with ThreadPoolExecutor(jobs) as pool:
        return _code(list(pool.map(lambda kernel: _boot(kernel, EVERY_RUNG, tests), kernels)))


def _code(outcomes: Sequence[Outcome]) -> int:
    return 1 if any(outcome.code for outcome in outcomes) else 0


def _boot(kernel: Kernel, rungs: str, tests: str, append: str = "") -> Outcome:
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
    log = LOGS / f"{kernel.name}{'-locked' if append else ''}.log"
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
