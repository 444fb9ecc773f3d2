"""What one boot of one kernel gave: read from its tests' report, and kept for the page."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vm.images import CACHE
from vm.kernels import KERNELS, Kernel
from vm.machine import Result

LOGS = CACHE / "logs"


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


def of(kernel: Kernel, result: Result, out: Path) -> Outcome:
    """``out``: where the guest has left its report."""
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


def keep(outcome: Outcome, append: str) -> None:
    """``append``: the words that the kernel was booted with."""
    fields = {each.name: getattr(outcome, each.name) for each in dataclasses.fields(outcome)}
    text = json.dumps(fields | {"kernel": outcome.kernel.name}, indent=1)
    place(outcome.kernel, append, "json").write_text(text)


def kept(append: str) -> Iterator[Outcome]:
    """The latest outcome of each kernel, oldest kernel first."""
    for kernel in KERNELS:
        file = place(kernel, append, "json")
        if file.exists():
            yield Outcome(**json.loads(file.read_text()) | {"kernel": kernel})


def place(kernel: Kernel, append: str, kind: str) -> Path:
    """The file of one kernel, booted with these words; ``kind``: ``json`` or ``log``."""
    LOGS.mkdir(parents=True, exist_ok=True)
    return LOGS / f"{kernel.name}{'-locked' if append else ''}.{kind}"
