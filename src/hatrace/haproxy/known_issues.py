"""Published bugs of HAProxy, by version and by the finding they show as.

The list, known_issues.csv, keeps its sources beside each row: the commit of the fix, the GitHub
issue, the versions as they were stated, and what the claim rests on (reproduced, or the text of
the commit).  Only rows whose versions are stated are in it.  A release that no source names as
fixed is ``not verified``.

A bug may only be quoted when its version matches *and* what was measured looks like it: the
first is decided here, the second by the detector.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from hatrace.haproxy.version import Version
from hatrace.model.finding import KnownBug

PROJECT = "https://github.com/haproxy/haproxy"
_ORDER = {"reproduced": 0, "commit text": 1}
_SEVERITY = {"BUG/CRITICAL": 0, "BUG/MAJOR": 1, "BUG/MEDIUM": 2, "BUG/MINOR": 3}


@dataclass(frozen=True, slots=True)
class Issue:
    """One row; ``versions`` are ranges as `in_range` reads them."""

    slugs: frozenset[str]
    versions: str
    bug: KnownBug
    basis: str
    severity: str

    @property
    def rank(self) -> tuple[int, int]:
        """The surest first, then the worst."""
        return _ORDER.get(self.basis, 2), _SEVERITY.get(self.severity, 4)


def matching(version: str, slug: str) -> Sequence[KnownBug]:
    """Bugs of this version that show as findings ``slug``, the surest first.

    ``version`` as HAProxy says it, with whatever its packager appended; one that cannot be
    read has no known bugs.
    """
    try:
        running = Version(version)
    except ValueError:
        return ()
    return tuple(
        issue.bug for issue in issues() if slug in issue.slugs and in_range(running, issue.versions)
    )


def work_around(reference: str) -> str:
    """What to do where the fix cannot be installed; empty: nothing is known."""
    found = (issue.bug.work_around for issue in issues() if issue.bug.reference == reference)
    return next(found, "")


@cache
def issues() -> tuple[Issue, ...]:
    """All of the list, the surest first."""
    return tuple(sorted(_read(), key=lambda issue: issue.rank))


def _read() -> Iterator[Issue]:
    table = resources.files("hatrace.haproxy").joinpath("known_issues.csv")
    with table.open("r", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number = row["github_issue"].split()[:1]
            issue = f"GH #{number[0]}, " if number else ""
            bug = KnownBug(
                reference=f"{issue}commit {row['commit']}",
                title=row["title"],
                fixed_in=row["fixed_in"],
                url=f"{PROJECT}/commit/{row['commit']}",
                work_around=row["work_around"],
            )
            slugs = frozenset(row["slugs"].split())
            yield Issue(slugs, row["versions"], bug, row["basis"], row["severity"])


def in_range(version: Version, ranges: str) -> bool:
    """Whether a version lies in one of the ranges: ``>2.9.0 <2.9.2|>=3.0.0 <3.0.5``.

    ``>2.9.0`` takes in builds from git after the tag (``2.9.0-60c949-12``).
    """
    return any(_within(version, each.split()) for each in ranges.split("|"))


def _within(version: Version, bounds: Sequence[str]) -> bool:
    for bound in bounds:
        at = Version(bound.lstrip("<>="))
        if bound.startswith(">="):
            fits = version >= at
        elif bound.startswith(">"):
            fits = version > at
        else:
            fits = version < at
        if not fits:
            return False
    return True
