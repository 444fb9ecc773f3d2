"""The `netlink` rung: what can be told of sockets without any BPF, by looking again and again.

The same face as the attached BPF rungs (kernel/probes.py).  Beside the looks, the kernel's
own news of destroyed TCP sockets is read (SKNLGRP_INET_TCP_DESTROY, Linux 4.8; in our own
network namespace only), which gives each flow's end and its bytes at once.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Container, Iterable
from dataclasses import replace
from pathlib import Path

from hatrace.errors import HatraceError
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.columns import Columns
from hatrace.model.event import CommandCalls, Holder, Losses, Target, Trouble
from hatrace.model.flow import Flow
from hatrace.sockets.inventory import look
from hatrace.sockets.members import members, with_children
from hatrace.sockets.netlink import (
    TCP6_DESTROY_GROUP,
    TCP_DESTROY_GROUP,
    Diag,
    Lost,
    namespace_of,
)
from hatrace.sockets.sampled_table import Criteria, SampledTable
from hatrace.sockets.tcp_diag import Surroundings, decode

INTERVAL_NS = 1_000_000_000
SHARE = 0.05
"""Of one CPU, at most, for looking: with 20,000 sockets a look takes 0.25 s, so one in 5 s."""
_NEWS_BYTES = 16 << 20
FEW = 3

_ALWAYS = (
    "sockets are sampled (each second, less often when there are many): times are late by "
    "up to the interval",
    "a reset by the peer is not seen as such, and bytes received may count its FIN as one",
    "the process which let a socket go is taken to be its last known holder",
)
_WITH_NEWS = (
    "connections which begin and end between two samples are seen at their end only, if they "
    "went to a listened port or to a server seen before, and were not aborted by their owner "
    "(as most of HAProxy's health checks are); in other network namespaces not at all"
)
_WITHOUT_NEWS = "connections which begin and end between two samples are not seen"


class SampledProbes:
    """The TCP flows of some processes, sampled.  Use it in one thread; close it at the end.

    ``scope``: processes looked for again at each look; `follow` adds others.  ``lend`` as
    in ghosts.py.  Raises EnvironmentLacks where sockets cannot be listed at all.
    """

    rung = "netlink"

    def __init__(
        self,
        scope: Scope | None = None,
        interval_ns: int = INTERVAL_NS,
        share: float = SHARE,
        lend: bool = True,
    ) -> None:
        self._scope = scope or Scope(ScopeKind.PID)
        self._interval_ns = interval_ns
        self._share = share
        self._lend = lend
        self._followed: set[int] = set()
        self._left: set[int] = set()
        self._table = SampledTable()
        self._around = Surroundings(0)
        self._no_tcp: set[int] = set()
        self._held: tuple[Holder, ...] = ()
        self._looked = False
        self._troubles: list[Trouble] = []
        self._in_trouble: dict[str, Trouble] = {}
        self._due_ns = 0
        self._overruns = 0
        self._truncated = 0
        self._news = _subscribe()
        self.blind_spots: tuple[str, ...] = (
            *_ALWAYS,
            _WITH_NEWS if self._news is not None else _WITHOUT_NEWS,
        )

    def follow(self, pids: Iterable[int]) -> None:
        """Put processes into the scope; their later forks join by themselves."""
        pids = set(pids)
        self._followed |= pids
        self._left -= pids

    def follow_cgroup(self, folder: Path) -> None:
        """Nothing: each look reads the scope's cgroup by its name."""

    def report_finished(self, wanted: bool) -> None:
        """No matter: sampling costs by what is open, and has a share of its own it keeps to."""

    def leave(self, pids: Iterable[int]) -> None:
        """Take processes out of the scope."""
        self._left |= set(pids)
        self._followed -= self._left

    def forget_ended(self) -> frozenset[int]:
        """Nobody: each look finds the children anew."""
        return frozenset()

    def followed(self) -> frozenset[int]:
        """The pids in scope, their children included."""
        return frozenset(with_children(self._followed | members(self._scope)) - self._left)

    def inventory(
        self, pids: Collection[int] = (), *, wanted: Container[int] | None = None
    ) -> tuple[Holder, ...]:
        """Every socket fd in scope, ``pids`` included; `flows` has the flows.

        As of now the first time and when ``pids`` are new, else as of the last look that
        its cost allowed.  ``wanted`` is for rungs which look at each fd: here all is known.
        """
        del wanted
        if not self._looked or not self._followed.issuperset(pids):
            self.follow(pids)
            self._look()
        else:
            self._look_if_due()
        return self._held

    def flows(self) -> list[Flow]:
        """Every open flow, as of the last look."""
        return list(self._table.open.values())

    def drain(self, least_bytes: int = 0) -> Columns:
        """Flows which ended since the last call.  Looks again when it is time.

        ``least_bytes`` is for rings: here each call has to listen for news, and gives them.
        """
        del least_bytes
        self._hear()
        self._look_if_due()
        return Columns.of(self._table.take_finished())

    def scan(self, criteria: Criteria) -> tuple[bytes, int]:
        """Open flows which meet the criteria: packed records, and how many matched."""
        self._look_if_due()
        records, matched = self._table.suspects(criteria, time.monotonic_ns())
        self._truncated = max(0, matched - criteria.limit)
        return records, matched

    def targets(self) -> tuple[Target, ...]:
        """Totals of every target so far."""
        return self._table.targets()

    def watch(self, target: int, age_ns: int) -> None:
        """Report this target's open flows older than ``age_ns``, whatever their state."""
        self._table.watch(target, age_ns)

    def losses(self) -> Losses:
        """``ring_full`` counts overruns: how many ends each has swallowed, nobody knows."""
        return Losses(time.monotonic_ns(), ring_full=self._overruns, scan_truncated=self._truncated)

    def listen_for(self, paths: Iterable[str]) -> None:
        """Nothing: who calls a command-line socket, sampling does not see (`blind_spots`)."""

    def callers(self) -> tuple[CommandCalls, ...]:
        return ()

    def bpf_cost(self) -> tuple[int, int] | None:
        """None: there is no BPF here."""
        return None

    def troubles(self) -> list[Trouble]:
        """What can be looked at no more, or again, since the last call."""
        troubles, self._troubles = self._troubles, []
        return troubles

    def _notice(self, found: list[Trouble]) -> None:
        """What a look could not see; each is said when it begins and when it is over."""
        now = {trouble.subject: trouble for trouble in together(found)}
        for subject, trouble in self._in_trouble.items():
            if subject not in now:
                self._troubles.append(replace(trouble, at_ns=time.monotonic_ns(), over=True))
        self._troubles += [now[subject] for subject in now if subject not in self._in_trouble]
        self._in_trouble = now

    def close(self) -> None:
        if self._news is not None:
            self._news.close()
            self._news = None

    def _look_if_due(self) -> None:
        if time.monotonic_ns() < self._due_ns:
            return
        try:
            self._look()
        except HatraceError as error:
            now_ns = time.monotonic_ns()
            self._notice([Trouble(now_ns, "sock_diag", "sockets", str(error), error.do)])
            self._due_ns = now_ns + self._interval_ns

    def _look(self) -> None:
        started_ns = time.monotonic_ns()
        pids = self.followed()
        known, tabled = self._known_inodes(), self._table.tabled()
        seen = look(sorted(pids), known, self._table.open, self._lend, tabled)
        self._no_tcp |= seen.asked - {ghost.inode for ghost in seen.ghosts.values()}
        self._no_tcp &= {holder.inode for holder in seen.held}
        self._around = seen.around.get(namespace_of() or 0, self._around)
        self._table.update(seen, pids)
        self._held, self._looked = tuple(seen.held), True
        self._notice(seen.troubles)
        ended_ns = time.monotonic_ns()
        self._due_ns = ended_ns + max(self._interval_ns, int((ended_ns - started_ns) / self._share))

    def _known_inodes(self) -> set[int]:
        """Which inodes in no table need no second question."""
        return self._no_tcp | {flow.inode for flow in self._table.open.values()}

    def _hear(self) -> None:
        """The kernel's news of destroyed sockets."""
        if self._news is None:
            return
        around = Surroundings(
            time.monotonic_ns(),
            self._around.netns,
            self._around.ephemeral,
            self._around.listening,
        )
        try:
            for flow in decode(self._news.notifications(), around):
                self._table.destroyed(flow)
        except Lost:
            self._overruns += 1


def together(troubles: list[Trouble]) -> list[Trouble]:
    """Many processes which may not be read are one trouble, not one each."""
    unreadable = [trouble for trouble in troubles if trouble.source == "proc"]
    if len(unreadable) <= FEW:
        return troubles
    others = [trouble for trouble in troubles if trouble.source != "proc"]
    why = f"those of {len(unreadable)} processes cannot be read, as {unreadable[0].why}"
    return [*others, replace(unreadable[0], subject="fds of processes in scope", why=why)]


def _subscribe() -> Diag | None:
    """The kernel's news of destroyed TCP sockets, or None where it gives none."""
    try:
        news = Diag(groups=(TCP_DESTROY_GROUP, TCP6_DESTROY_GROUP))
    except HatraceError:
        return None
    news.grow(_NEWS_BYTES)
    return news
