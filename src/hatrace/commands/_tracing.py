"""The live source: kernel, netlink, /proc and HAProxy merged into one stream of events.

Beats: everything is read once a second, and a `Tick` closes each second.  In between, 10 times a
second, HAProxy's answers are taken, and finished flows if there are many: thousands at once cost
a third of what they cost in small batches, and nobody judges them before the tick.  The first
picture comes with HAProxy's first answers, and two more soon, as what was there before hatrace
proves to stay: so what leaked before is found early.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from hatrace.commands._budget import TICK_S, Budget, Limits, Pace
from hatrace.commands._crowd import guard
from hatrace.commands._feedback import Feedback
from hatrace.commands._own_cost import OwnCost
from hatrace.commands._scope import members, nobody, pids_of
from hatrace.commands._surroundings import Surroundings
from hatrace.errors import EnvironmentLacks, HatraceError
from hatrace.haproxy.sampler import Sampler
from hatrace.kernel import preflight
from hatrace.kernel.probes import Probes, attach
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.event import (
    Event,
    Finished,
    Holder,
    Holders,
    Open,
    Processes,
    Targets,
    Tick,
    Trouble,
)
from hatrace.model.topology import CommandSocket
from hatrace.sockets.names import comm
from hatrace.sockets.rooms import rooms
from hatrace.sockets.sampled import SampledProbes
from hatrace.sockets.tcp_diag import ephemeral_ports

DRAIN_S = 0.1
"""The ring holds 43,690 finished flows: at 10 looks a second, 430,000 flows per second."""
BATCH_BYTES = 1 << 20
"""So much waits when its flows are taken between ticks: 5,698 of them (or half of a lane)."""
ANSWERS_S = 0.2
"""So long the first picture waits for HAProxy's first answers: the second then looks at what they
tell to be checks."""
SOON_S = 0.5
"""From one to the next of the first three pictures."""
INVENTORY_S, URGENT_INVENTORY_S = 5.0, 0.9
"""Every fd in scope is listed this often; while there are suspects, at each tick."""
CALM_SHARE, BUSY_SHARE = 0.006, 0.1
"""Of one CPU, for looking at what is open: with 100,000 open flows and nothing wrong still each
second.  Inventories may take half of that again, and come each minute then."""


AnyProbes = Probes | SampledProbes


class Tracing:
    """An attached rung, HAProxy's sampler, and the readers of /proc and netlink."""

    def __init__(
        self,
        scope: Scope,
        rung: str | None,
        detail: str,
        check_events: bool = False,
        limits: Limits | None = None,
        bpf_stats: bool = True,
        logs: str = "none",
    ) -> None:
        self._scope = scope
        self._rung = rung
        self._detail = detail
        self._limits = limits or Limits()
        self._cost = OwnCost(lambda: self._probes.bpf_cost(), bpf_stats)
        self._guard = guard()
        self._sampler = Sampler(
            sorted(pids_of(scope)), self._crowded, check_events=check_events, logs=logs
        )
        self._surroundings = Surroundings(self._sampler)
        self._followed: frozenset[int] = frozenset()
        self._looks = Pace(CALM_SHARE, BUSY_SHARE)
        self._inventories = Pace(CALM_SHARE / 2, BUSY_SHARE / 2)
        self._inventory_s = self._inventory_cost_s = 0.0

    def __enter__(self) -> Self:
        self.began_ns, self.began_unix_ns = time.monotonic_ns(), time.time_ns()
        self._sampler.start()
        self._early = self._sampler.drain()
        pids = self._in_scope()
        if not pids and self._scope.kind in (ScopeKind.HAPROXY, ScopeKind.PID, ScopeKind.COMM):
            self._sampler.stop()
            raise nobody(self._scope)
        try:
            self._probes = self._attach()
        except BaseException:
            self._sampler.stop()
            raise
        self._follow(pids)
        self.feedback = Feedback(self._probes, self._sampler)
        full = self._detail == "full" and isinstance(self._probes, Probes)
        self._budget = Budget(self._limits, full, time.monotonic_ns(), self._cost.cpu_ns)
        return self

    def __exit__(self, *_: object) -> None:
        self._cost.close()
        self._sampler.stop()
        self._probes.close()

    def _attach(self) -> AnyProbes:
        """The rung asked for, or the best that works: the lowest then says why it is taken."""
        if self._rung == preflight.NETLINK:
            return SampledProbes(self._scope)
        summary = self._detail == "summary"
        try:
            probes = attach(self._scope, self._rung, summary, ephemeral=ephemeral_ports())
            why = None if probes else preflight.why_none()
        except EnvironmentLacks as error:
            if self._rung:
                raise
            probes, why = None, error
        if why:
            said = str(why)
            self._early.append(Trouble(time.monotonic_ns(), "kernel", "BPF", said, why.do))
        return probes or SampledProbes(self._scope)

    @property
    def rung(self) -> str:
        return self._probes.rung

    @property
    def blind_spots(self) -> tuple[str, ...]:
        return self._probes.blind_spots

    @property
    def versions(self) -> tuple[str, ...]:
        """HAProxy's versions among the processes found at the start."""
        found = (event.processes for event in self._early if isinstance(event, Processes))
        return tuple(sorted({p.version for processes in found for p in processes if p.version}))

    def events(self, go_on: Callable[[], bool]) -> Iterator[Event]:
        """Everything that happens until ``go_on`` says no; it is called between drains."""
        yield from self._early
        self._sampler.wait(ANSWERS_S)
        next_tick_s, looks = time.monotonic(), 0
        while True:
            due = time.monotonic() >= next_tick_s
            yield from self._news(0 if due else BATCH_BYTES)
            if due:
                began_s = time.thread_time()
                yield from self._picture()
                self._looks.took(time.thread_time() - began_s - self._inventory_cost_s)
                wait_s = self._looks.wait_s(not self.feedback.suspects, self._budget.tick_s)
                looks += 1
                next_tick_s = max(next_tick_s + (wait_s if looks > 2 else SOON_S), time.monotonic())
            if not go_on():
                break
            time.sleep(max(0.0, min(DRAIN_S, next_tick_s - time.monotonic())))
        yield from self._news(0)
        yield from self._picture(last=True)

    def _news(self, least_bytes: int) -> Iterator[Event]:
        ended = self._probes.drain(least_bytes)
        if ended:
            yield Finished(time.monotonic_ns(), ended)
        yield from self._sampler.drain()

    def _picture(self, last: bool = False) -> Iterator[Event]:
        """What is true now, closed by a Tick."""
        self._follow(self._in_scope())
        held = self._inventory(last)
        if held is not None:
            names = {pid: comm(pid) for pid in {holder.pid for holder in held}}
            suspects = self.feedback.inodes
            room = rooms({holder.pid for holder in held if holder.inode in suspects})
            yield Holders(time.monotonic_ns(), held, names, room)
        yield from self._surroundings.look(self._probes, self._followed, held or ())
        records, matched = self._probes.scan(self.feedback.criteria)
        yield Open(time.monotonic_ns(), records, matched)
        targets = Targets(time.monotonic_ns(), self._probes.targets())
        yield targets
        yield self._probes.losses()
        yield from self._probes.troubles()
        gone = sum(target.gone for target in targets.rows)
        yield from self._within_budget(gone)
        yield self._cost.event(gone)
        yield Tick(time.monotonic_ns())

    def _inventory(self, last: bool) -> tuple[Holder, ...] | None:
        """Who holds what, if it is time to ask: at the start, at the end, now and then."""
        calm = not self.feedback.suspects
        wait_s = self._inventories.wait_s(calm, INVENTORY_S if calm else URGENT_INVENTORY_S)
        now_s, began_s = time.monotonic(), time.thread_time()
        self._inventory_cost_s = 0.0
        if now_s < self._inventory_s + wait_s and self._inventory_s and not last:
            return None
        held = self._probes.inventory(wanted=self.feedback.inodes)
        self._followed -= self._probes.forget_ended()
        self._inventory_s, self._inventory_cost_s = now_s, time.thread_time() - began_s
        self._inventories.took(self._inventory_cost_s)
        return held

    def _within_budget(self, gone: int) -> Iterator[Event]:
        """Less detail, or more again, and the sources do as it says."""
        before = self._budget.summary, self._budget.tick_s
        yield from self._budget.judge(time.monotonic_ns(), self._cost.cpu_ns, gone)
        if (self._budget.summary, self._budget.tick_s) != before:
            self._probes.report_finished(not self._budget.summary)
            self._sampler.pace(self._budget.tick_s / TICK_S)

    def _crowded(self, socket: CommandSocket) -> str | None:
        """Asked in the sampler's thread, of the sockets as they are now."""
        try:
            return self._guard(socket)
        except HatraceError as error:
            return f"its connections cannot be counted: {error}"

    def _in_scope(self) -> frozenset[int]:
        return members(self._scope, self._sampler.pids())

    def _follow(self, pids: frozenset[int]) -> None:
        """Tell the kernel of processes that came; those that ended leave a beat later."""
        if self._scope.kind is ScopeKind.CGROUP:
            self._probes.follow_cgroup(Path(self._scope.values[0]))
        self._probes.follow(pids - self._followed)
        ended = frozenset(pid for pid in self._followed - pids if not Path(f"/proc/{pid}").exists())
        self._probes.leave(ended)
        self._followed = (self._followed | pids) - ended
