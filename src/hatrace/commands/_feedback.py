"""The only way back: what was seen decides what the sources look at more closely."""

from __future__ import annotations

from typing import Protocol

from hatrace.kernel.wire import Criteria
from hatrace.model.event import Event, Tick
from hatrace.model.finding import Change
from hatrace.model.flow import Condition
from hatrace.model.world import World
from hatrace.pipeline import Verdict

CONFIRM_AFTER_NS = 2_000_000_000
"""A suspect this old is worth a question to HAProxy (`show sess`, at most every 5 s)."""
SESSIONS_GO_ON = frozenset({"drain-survivor", "stale-worker"})
"""Findings for which `show sess` says which client is behind each session."""


class Watching(Protocol):
    def watch(self, target: int, age_ns: int) -> None: ...


class Confirming(Protocol):
    def confirm(self, pid: int) -> None: ...


class Feedback:
    """A sink that tells the sources what to look at more closely: the only way back."""

    def __init__(self, probes: Watching, sampler: Confirming) -> None:
        self._probes, self._sampler = probes, sampler
        self._watched: dict[int, int] = {}
        self.suspects = False
        self.inodes: frozenset[int] = frozenset()
        """Sockets of the open flows of the latest scan."""
        self.criteria = Criteria()

    def accept(self, event: Event, world: World, verdict: Verdict) -> None:
        if not isinstance(event, Tick):
            return
        self.suspects = bool(verdict.findings) or any(
            flow.held and flow.condition(world.now_ns) in (Condition.GHOST, Condition.HALF_CLOSED)
            for flow in world.open.values()
        )
        self.inodes = frozenset(flow.inode for flow in world.open.values() if flow.inode)
        self._watch_checks(world)
        self._confirm(world)
        self._ask_for_sessions(verdict)

    def _watch_checks(self, world: World) -> None:
        """Check sockets are suspects as soon as they outlive a check: ask for those."""
        ages = world.check_targets()
        self._watched = {
            index: age_ns for index, age_ns in self._watched.items() if index in world.targets
        }
        for index in world.targets:
            age_ns = ages.get(index, 0)
            if self._watched.get(index, 0) != age_ns:
                self._probes.watch(index, age_ns)
                self._watched[index] = age_ns

    def _confirm(self, world: World) -> None:
        """Let HAProxy say what it takes the suspects for; the sampler limits how often."""
        for pid in sorted(
            {
                flow.pid
                for key, flow in world.open.items()
                if flow.held
                and flow.pid in world.processes
                and world.now_ns - world.first_seen_ns(key) > CONFIRM_AFTER_NS
                and flow.condition(world.now_ns) is not Condition.LISTENER
            }
        ):
            self._sampler.confirm(pid)

    def _ask_for_sessions(self, verdict: Verdict) -> None:
        """Once for each new finding about sessions that go on: their flows are no suspects."""
        for pid in sorted(
            {
                evidence.pid
                for change in verdict.changes
                if change.change is Change.OPENED and change.finding.slug in SESSIONS_GO_ON
                for evidence in change.finding.evidence
                if evidence.pid is not None
            }
        ):
            self._sampler.confirm(pid)
