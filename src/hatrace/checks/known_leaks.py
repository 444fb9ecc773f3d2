"""Which published bugs of this version keep sockets, slots or processes?

Evidence: the version alone.  Whether one bites here is a matter of configuration and traffic,
and only measuring tells: `hatrace live` quotes a bug when what it sees looks like it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hatrace.checks._answer import again, finding, several
from hatrace.model.finding import Confidence, Evidence, Finding, KnownBug, Severity, Step
from hatrace.model.setup import Setup, Unasked

SLUG = "known-leaks"
_RELEASE = re.compile(r"\b(\d+\.\d+)\.(\d+)\b")


def findings(setup: Setup) -> Iterable[Finding | Unasked]:
    if setup.version is None:
        yield Unasked(SLUG, "the version of HAProxy is not known: give --version")
        return
    shown = _shown(setup)
    if not shown:
        return
    release = newest_fix(setup.version, shown)
    yield finding(
        setup,
        SLUG,
        f"HAProxy {setup.version}",
        Severity.WARNING if release else Severity.NOTICE,
        f"{several(len(shown), 'published bug')} of HAProxy {setup.version}"
        f" {'keeps' if len(shown) == 1 else 'keep'} sockets or processes"
        + (f"; {release} has fixes" if release else ""),
        evidence=[Evidence(what="bug", note=_words(bug, slugs)) for bug, slugs in shown.items()],
        confidence=Confidence.POSSIBLE,
        cause="the versions that the project itself states for them",
        next_steps=_steps(release),
        verify=[again(setup)],
        caveat="a distribution may have added fixes without changing this version; whether one"
        " of these shows here depends on configuration and traffic",
    )


def _shown(setup: Setup) -> dict[KnownBug, list[str]]:
    """Each bug with the findings it shows as, the surest first."""
    shown: dict[KnownBug, list[str]] = {}
    for slug, bug in setup.bugs:
        shown.setdefault(bug, []).append(slug)
    return shown


def newest_fix(version: str, bugs: Iterable[KnownBug]) -> str:
    """The last release of the same branch that is stated to fix one of them; empty: none is."""
    found = _RELEASE.match(version.removeprefix("v"))
    if found is None:
        return ""
    branch, patch = found[1], int(found[2])
    stated = [
        int(number)
        for bug in bugs
        for series, number in _RELEASE.findall(bug.fixed_in)
        if series == branch and int(number) > patch
    ]
    return f"{branch}.{max(stated)}" if stated else ""


def _words(bug: KnownBug, slugs: list[str]) -> str:
    """``stream-leak: ... (GH #2395, commit ...; fixed in 2.9.2); work-around: ...``."""
    help_ = f"; work-around: {bug.work_around}" if bug.work_around else ""
    return f"{', '.join(slugs)}: {bug.title} ({bug.reference}; fixed in {bug.fixed_in}){help_}"


def _steps(release: str) -> Iterable[Step]:
    if release:
        yield Step(f"upgrade to {release} or later")
    yield Step("see whether one of them bites here", "hatrace live -d 60s")
