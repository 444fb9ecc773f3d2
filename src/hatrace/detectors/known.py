"""Known bugs: quoted only when the version *and* what was measured match.

The list itself (version ranges, references) is handed in; here is what each bug looks like
to hatrace.  A bug without a line here is never named: its symptom cannot be told from
another's by what we see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hatrace.model.finding import KnownBug
from hatrace.model.topology import Process
from hatrace.model.world import World

Known = Callable[[str, str], Sequence[KnownBug]]
"""The published bugs of a HAProxy version that may show as a finding: (version, slug)."""


def version(world: World, process: Process | None) -> str:
    """What the process itself says it is; empty if unknown."""
    if process is None:
        return ""
    info = world.infos.get(process.pid)
    return process.version or (info.values.get("Version", "") if info is not None else "")


def named(
    world: World,
    process: Process | None,
    known: Known,
    slug: str,
    signature: frozenset[str],
) -> KnownBug | None:
    """The first bug of this version all of whose marks were measured."""
    running = version(world, process)
    if not running:
        return None
    return next((bug for bug in known(running, slug) if _fits(bug, signature)), None)


SIGNATURES: dict[str, frozenset[str]] = {
    "123a9e7d8321": frozenset({"mode tcp", "front CLOSE_WAIT", "back CLOSE", "splicing"}),
    "f6e193f1b05b": frozenset({"mode http", "front CLOSE_WAIT", "back open"}),
    "fbff854250c7": frozenset({"mode tcp", "back alone", "no stream"}),
    "14a413033c15": frozenset({"worker socket", "client left", "workers answer"}),
    "f47d80402a0f": frozenset({"master socket", "worker silent"}),
    "f1064c7382e1": frozenset({"haproxy listener", "room left"}),
    "13e86d947d15": frozenset({"haproxy listener", "room left"}),
    "e08acaed19c6": frozenset({"held by master"}),
    "51611a5b702e": frozenset({"same worker", "waits for server"}),
}
"""By upstream commit of the fix (known_issues.csv): what must have been seen."""


def _fits(bug: KnownBug, signature: frozenset[str]) -> bool:
    words = f"{bug.reference} {bug.title} {bug.url}"
    marks = [need for commit, need in SIGNATURES.items() if commit[:9] in words]
    return any(need <= signature for need in marks)
