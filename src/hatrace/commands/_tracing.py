"""The live source: kernel, netlink, /proc and HAProxy merged into one stream of events.

Beats: finished flows are drained 20 times a second; everything else is read once a second, and
a `Tick` closes each second.  The first second's picture is delivered at once: what leaked before
hatrace came is there to be found at the first tick.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Self

from hatrace.errors import EnvironmentLacks, HatraceError
from hatrace.haproxy.sampler import Sampler
from hatrace.kernel import headers, preflight
from hatrace.kernel.probes import Probes, attach
from hatrace.kernel.wire import Criteria
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.event import (
    CommandSockets,
    Cost,
    Event,
    Finished,
    Holder,
    Holders,
    Open,
    Targets,
    Tick,
    Trouble,
)
from hatrace.model.flow import Condition
from hatrace.model.world import World
from hatrace.pipeline import Verdict
from hatrace.resources import bpf_dir
from hatrace.sockets.command_sockets import command_sockets
from hatrace.sockets.counters import host_counters
from hatrace.sockets.holders import Finder, all_pids
from hatrace.sockets.names import comm

DRAIN_S = 0.05
"""The ring holds 21,845 finished flows: at 20 drains a second, 400,000 flows per second."""
TICK_S = 1.0
INVENTORY_TICKS = 5
"""Every fd in scope is listed this often, and at each tick while there are suspects."""
CONFIRM_AFTER_NS = 2_000_000_000
"""A suspect this old is worth a question to HAProxy (`show sess`, at most every 5 s)."""


class Tracing:
    """An attached rung, HAProxy's sampler, and the readers of /proc and netlink."""

    def __init__(self, scope: Scope, rung: str | None, detail: str) -> None:
        self._scope = scope
        self._chosen = preflight.choose(rung)
        self._detail = detail
        self._sockets = Finder()
        self._sampler = Sampler(pids=_pids_of(scope), guard=self._may_ask)
        self._command_sockets: CommandSockets | None = None
        self._troubles: dict[str, Trouble] = {}
        self._followed: frozenset[int] = frozenset()
        self._began_cpu_ns = _cpu_ns()

    def __enter__(self) -> Self:
        self._sampler.start()
        self._early = self._sampler.first(timeout_s=2.0)
        pids = self._in_scope()
        if not pids and self._scope.kind in (ScopeKind.HAPROXY, ScopeKind.PID, ScopeKind.COMM):
            self._sampler.stop()
            raise _nobody(self._scope)
        try:
            self._probes = self._attach()
        except BaseException:
            self._sampler.stop()
            raise
        self._follow(pids)
        self.feedback = Feedback(self._probes, self._sampler)
        return self

    def __exit__(self, *_: object) -> None:
        self._sampler.stop()
        self._probes.close()

    def _attach(self) -> Probes:
        assert self._chosen
        return attach(
            self._chosen,
            bpf_dir(),
            headers.ensure_tree(),
            self._scope,
            summary=self._detail == "summary",
        )

    @property
    def rung(self) -> str:
        return self._probes.rung

    @property
    def blind_spots(self) -> tuple[str, ...]:
        return self._probes.blind_spots

    @property
    def versions(self) -> tuple[str, ...]:
        """HAProxy's versions among the processes found."""
        return self._sampler.versions()

    def events(self, go_on: Callable[[], bool]) -> Iterator[Event]:
        """Everything that happens until ``go_on`` says no; it is called between drains."""
        yield from self._early
        next_tick_s, ticks = time.monotonic(), 0
        while True:
            yield from self._news()
            if time.monotonic() >= next_tick_s:
                yield from self._picture(ticks)
                next_tick_s, ticks = max(next_tick_s + TICK_S, time.monotonic()), ticks + 1
            if not go_on():
                break
            time.sleep(max(0.0, min(DRAIN_S, next_tick_s - time.monotonic())))
        yield from self._news()
        yield from self._picture(0)

    def _news(self) -> Iterator[Event]:
        records = self._probes.drain()
        if records:
            yield Finished(time.monotonic_ns(), records)
        yield from self._sampler.drain()

    def _picture(self, ticks: int) -> Iterator[Event]:
        """What is true now, closed by a Tick."""
        self._follow(self._in_scope())
        held: tuple[Holder, ...] = ()
        if ticks % INVENTORY_TICKS == 0 or self.feedback.suspects:
            held = self._probes.inventory()
            yield Holders(time.monotonic_ns(), held, {h.pid: comm(h.pid) for h in held})
        yield host_counters()
        yield from self._attempt("command-sockets", lambda: self._command_socket_event(held))
        records, matched = self._probes.scan(self.feedback.criteria)
        yield Open(time.monotonic_ns(), records, matched)
        yield Targets(time.monotonic_ns(), self._probes.targets())
        yield self._probes.losses()
        yield self._cost()
        yield Tick(time.monotonic_ns())

    def _command_socket_event(self, held: Collection[Holder]) -> Event | None:
        sockets = self._sampler.sockets()
        if not sockets:
            return None
        self._command_sockets = command_sockets(sockets, self._sockets, held)
        return self._command_sockets

    def _attempt(self, source: str, work: Callable[[], Event | None]) -> Iterator[Event]:
        """A reader that may fail: said once when it begins to, and once when it is over."""
        try:
            event = work()
        except HatraceError as error:
            if source not in self._troubles:
                trouble = Trouble(time.monotonic_ns(), source, error.what, error.why, error.do)
                self._troubles[source] = trouble
                yield trouble
            return
        if old := self._troubles.pop(source, None):
            yield Trouble(time.monotonic_ns(), source, old.subject, old.why, over=True)
        if event is not None:
            yield event

    def _may_ask(self, path: str) -> bool:
        """Whether a question to a command-line socket takes nobody's place."""
        seen = self._command_sockets
        return seen is None or not crowded(seen, path)

    def _in_scope(self) -> frozenset[int]:
        """The processes that the scope means, as of now."""
        kind = self._scope.kind
        if kind is ScopeKind.COMM:
            names = {value[:15] for value in self._scope.values}
            return frozenset(pid for pid in all_pids() if comm(pid) in names)
        if kind is ScopeKind.PID:
            return _descendants(_pids_of(self._scope)) | self._sampler.pids()
        if kind is ScopeKind.HAPROXY:
            return self._sampler.pids()
        return frozenset()

    def _follow(self, pids: frozenset[int]) -> None:
        """Tell the kernel of processes that came; those that ended leave a beat later."""
        self._probes.follow(pids - self._followed)
        ended = frozenset(pid for pid in self._followed - pids if not Path(f"/proc/{pid}").exists())
        self._probes.leave(ended)
        self._followed = (self._followed | pids) - ended

    def _cost(self) -> Cost:
        bpf = self._probes.bpf_cost()
        return Cost(
            time.monotonic_ns(),
            _cpu_ns() - self._began_cpu_ns,
            _resident_bytes(),
            *(bpf or (None, None)),
        )


class Feedback:
    """A sink that tells the sources what to look at more closely: the only way back."""

    def __init__(self, probes: Probes, sampler: Sampler) -> None:
        self._probes, self._sampler = probes, sampler
        self._watched: dict[int, int] = {}
        self.suspects = False
        self.criteria = Criteria()

    def accept(self, event: Event, world: World, verdict: Verdict) -> None:
        if not isinstance(event, Tick):
            return
        self.suspects = bool(verdict.findings) or any(
            flow.held and flow.condition(world.now_ns) in (Condition.GHOST, Condition.HALF_CLOSED)
            for flow in world.open.values()
        )
        self._watch_checks(world)
        self._confirm(world)

    def _watch_checks(self, world: World) -> None:
        """Check sockets are suspects as soon as they outlive a check: ask for those."""
        ages = check_ages_ns(world)
        for index, target in world.targets.items():
            age_ns = 0 if target.inbound else ages.get((target.address, target.port), 0)
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


CHECK_AGE_NS = 500_000_000
"""A check on a port of its own is done within milliseconds, or it hangs."""


def check_ages_ns(world: World) -> dict[tuple[bytes, int], int]:
    """(address, port) that checks go to → the age from which a socket there is a suspect.

    Where data flows share the port, only what outlives two intervals is asked for.
    """
    ages: dict[tuple[bytes, int], int] = {}
    for servers in world.servers.values():
        for server in servers:
            inter_ns = (server.settings.inter_ms or 2000) * 1_000_000
            shared = (server.address, server.port) == (server.check_address, server.check_port)
            age_ns = 2 * inter_ns if shared else min(CHECK_AGE_NS, inter_ns)
            if server.checked and server.check_address:
                ages[server.check_address, server.check_port] = age_ns
            if server.agent_checked and server.agent_address:
                ages[server.agent_address, server.agent_port] = age_ns
    return ages


def crowded(seen: CommandSockets, path: str) -> bool:
    """Whether somebody waits at a command-line socket, or fewer than two places are free."""
    for socket in seen.sockets:
        if socket.path != path:
            continue
        for unix in seen.unix:
            if unix.inode == socket.inode and unix.queue:
                return True
        inside = {h.inode for h in seen.holders if h.pid == socket.pid}
        used = sum(1 for u in seen.unix if u.inode in inside and u.inode != socket.inode)
        if socket.limit is not None and socket.limit - used < 2:
            return True
    return False


def _pids_of(scope: Scope) -> frozenset[int]:
    return frozenset(map(int, scope.values)) if scope.kind is ScopeKind.PID else frozenset()


def _descendants(pids: frozenset[int]) -> frozenset[int]:
    """The processes that are alive among these, and all their children."""
    found = {pid for pid in pids if Path(f"/proc/{pid}").exists()}
    ahead = list(found)
    while ahead:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{ahead[-1]}/task/{ahead[-1]}/children").read_text().split()
            ahead[-1:] = [pid for pid in map(int, children) if pid not in found]
            found.update(map(int, children))
            continue
        ahead.pop()
    return frozenset(found)


def _nobody(scope: Scope) -> EnvironmentLacks:
    if scope.kind is ScopeKind.HAPROXY:
        return EnvironmentLacks(
            "no HAProxy runs on this host",
            "no process is named haproxy",
            "start it, or name what to watch: --comm NAME, --pid PID or --all",
        )
    return EnvironmentLacks(
        f"nothing to watch: {scope}", "no such process is running", "see `ps -e`, or use --all"
    )


def _cpu_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
