"""The attached rung as the consumer sees it: totals, suspects, finished flows, losses.

Everything here reads or writes BPF maps through fds that the loader's child handed over; when
they are closed (also by kill -9), nothing of hatrace is left in the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import struct
import time
from collections.abc import Collection, Container, Iterable
from dataclasses import replace
from pathlib import Path

from hatrace.kernel import bpf, decode, maps, wire
from hatrace.kernel.lanes import Lanes
from hatrace.kernel.maps import MapId
from hatrace.kernel.order import Loaded, Order, load
from hatrace.kernel.preflight import cgroup_mount
from hatrace.kernel.report import Report
from hatrace.kernel.ring import Ring
from hatrace.kernel.rungs import LADDER, Rung
from hatrace.kernel.totals import Totals
from hatrace.kernel.walk import Walk
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.columns import Columns
from hatrace.model.event import CommandCalls, Holder, Losses, Target, Trouble
from hatrace.model.flow import EPHEMERAL_PORTS, LAYOUT

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_ZERO = _U32.pack(0)
LEAST_LIGHT_SCANS, CALM_A_SCAN = 8, 2048
"""From one scan of the whole table to the next: it takes 0.7 us for each calm flow."""
CALM_AN_ASKED_SCAN = 8192
"""The same, where more is asked for time and again: at once the first time, then not so often."""
_HZ = (100, 250, 300, 1000)
"""What CONFIG_HZ may be (kernel/Kconfig.hz)."""


class Since:
    """How long ago something was: in times asked, and in seconds; at first, for ever."""

    def __init__(self) -> None:
        self._times, self._began_s = math.inf, -math.inf

    def begin(self, now_s: float) -> None:
        self._times, self._began_s = 0, now_s

    def over(self, most: int, now_s: float) -> bool:
        """Whether it was asked more than ``most`` times, or so many seconds have passed."""
        self._times += 1
        return self._times > most or now_s - self._began_s > most


class Probes:
    """One attached rung.  Close it, or end the process: both detach everything."""

    def __init__(self, rung: Rung, loaded: Loaded, config: wire.Config) -> None:
        sizes = loaded.sizes
        self.rung = rung.name
        self.blind_spots = (*rung.blind_spots, *loaded.missing)
        self._loaded = loaded
        self._config = replace(config, lane_flows=sizes.lane_flows)
        self._maps = maps.opened(loaded.maps)
        self._ring = Ring(loaded.maps[MapId.RING], sizes.ring_bytes)
        self._lanes = Lanes(
            loaded.maps[MapId.LANES],
            loaded.maps[MapId.LANE_FLOWS],
            maps.possible_cpus(),
            sizes.lane_flows,
        )
        self._totals = Totals(loaded.maps, self._maps, sizes.targets)
        self._walk = Walk(loaded.programs["flows"], loaded.maps[MapId.KEYS])
        self._report = Report(loaded.maps[MapId.REPORT])
        self._unfinished = False
        """A whole scan has begun to count anew, and was broken off."""
        self.looked = 0
        """How many flows the latest scan looked at."""
        self._criteria: bytes = b""
        self._light, self._asked = Since(), Since()
        self._asked_more = False
        self._paths: list[str] = []
        self._truncated = 0
        self._left_out: list[Trouble] = []
        self._configure()

    def _configure(self) -> None:
        self._maps[MapId.CONFIG].set(_ZERO, self._config.pack())

    def follow(self, pids: Iterable[int]) -> None:
        """Put processes into the scope; their later forks join by themselves."""
        waiting = [pid for pid in pids if not self._joins(pid)]
        if waiting:
            self.forget_ended()
            waiting = [pid for pid in waiting if not self._joins(pid)]
        if waiting:
            self._left_out.append(_left_out(waiting))

    def _joins(self, pid: int) -> bool:
        """Whether there is room for it in the scope; it is in it then.

        It may get another name before it is in the scope: so its name is read again.
        """
        key, name = _U32.pack(pid), b""
        try:
            self._maps[MapId.TGIDS].set(key, wire.PROCESS.pack(name))
            while name != (now := _name(pid)):
                self._maps[MapId.TGIDS].set(key, wire.PROCESS.pack(now))
                name = now
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return False
        return True

    def follow_cgroup(self, folder: Path) -> None:
        """Watch the cgroup that is there now: systemd makes a service's anew at each restart.

        While there is none, the old one is watched.
        """
        with contextlib.suppress(OSError):
            now = folder.stat().st_ino
            if now != self._config.cgroup_id:
                self._config = replace(self._config, cgroup_id=now)
                self._configure()

    def report_finished(self, wanted: bool) -> None:
        """Whether each flow that ends is reported, or only counted; holds from now on."""
        self._config = replace(self._config, summary=not wanted)
        self._configure()

    def leave(self, pids: Iterable[int]) -> None:
        """Take ended processes out of the scope, before their pids serve somebody else."""
        for pid in pids:
            self._maps[MapId.TGIDS].delete(_U32.pack(pid))

    def forget_ended(self) -> frozenset[int]:
        """Take out forks that came and went between two looks, of which nobody else tells.

        4 us for each process in scope, 9 us for each that has ended.
        """
        ended = frozenset(filter(_has_ended, self.followed()))
        self.leave(ended)
        return ended

    def followed(self) -> frozenset[int]:
        """The pids in scope, forks and execs included; some may have ended."""
        return frozenset(_U32.unpack(key)[0] for key in self._maps[MapId.TGIDS])

    def inventory(self, *, wanted: Container[int] | None = None) -> tuple[Holder, ...]:
        """Every socket fd of the processes in scope; adopts their TCP sockets into the table.

        With ``wanted``, of established TCP connections only those of these inodes are told.

        The first time it runs twice, at first (HZ not known yet) for listeners alone: they
        tell which side an adopted socket is.
        """
        if not self._config.hz:
            bpf.read_iterator(self._loaded.iterators["inventory"])
            self._learn_hz()
        records = bpf.read_iterator(self._loaded.iterators["inventory"])
        return tuple(decode.holders(records, wanted))

    def _learn_hz(self) -> None:
        """HZ from jiffies: they start 300 s before they wrap 32 bits (INITIAL_JIFFIES)."""
        jiffies, now_ns = map(self._counted, (maps.COUNTER_JIFFIES, maps.COUNTER_NOW_NS))
        elapsed = now_ns / 1e9
        hz = min(_HZ, key=lambda hz: abs(2**32 - 300 * hz + elapsed * hz - jiffies))
        self._config = replace(self._config, hz=hz if jiffies else 250)
        self._configure()

    def scan(self, criteria: wire.Criteria) -> tuple[bytes, int]:
        """Open flows which meet the criteria: packed records, and how many matched.

        Calm flows are left out, of which nobody asks anything (bpf/calm.h); now and then all are
        looked at, for what a hook may have missed, and at once when more is asked for.
        """
        criteria = replace(criteria, whole=self._is_whole(criteria) or self._unfinished)
        self._count(maps.COUNTER_MATCHED, 0)
        if criteria.whole:
            self._count(maps.COUNTER_UNLISTED, 0)
        packed = criteria.pack()
        if packed != self._criteria:
            self._maps[MapId.CRITERIA].set(_ZERO, packed)
            self._criteria = packed
        self._totals.begin(criteria.whole)
        self._unfinished = criteria.whole
        self.looked = self._walk.over(self._maps[MapId.FLOWS if criteria.whole else MapId.LOOKS])
        self._unfinished = False
        matched = self._counted(maps.COUNTER_MATCHED)
        records = self._report.records(min(matched, criteria.limit))
        self._truncated = matched - len(records) // LAYOUT.size
        return records, matched

    def _counted(self, counter: int) -> int:
        return int(_U64.unpack(self._maps[MapId.COUNTERS].get(_U32.pack(counter)) or bytes(8))[0])

    def _count(self, counter: int, value: int) -> None:
        self._maps[MapId.COUNTERS].set(_U32.pack(counter), _U64.pack(value))

    def _is_whole(self, criteria: wire.Criteria) -> bool:
        """Whether this scan is to walk the whole table.

        From one such to the next there are so many scans or seconds, whatever comes first: scans
        are rare where little CPU is left to them.
        """
        now_s = time.monotonic()
        calm = self._totals.calm()
        whole = (
            bool(criteria.everything or criteria.idle_ns or criteria.whole)
            or (self._asked_more and self._asked.over(calm // CALM_AN_ASKED_SCAN, now_s))
            or bool(self._counted(maps.COUNTER_UNLISTED))
            or self._light.over(max(LEAST_LIGHT_SCANS, calm // CALM_A_SCAN), now_s)
        )
        if whole:
            self._light.begin(now_s)
            if self._asked_more:
                self._asked_more = False
                self._asked.begin(now_s)
        return whole

    def drain(self, least_bytes: int = 0) -> Columns:
        """Flows which ended since the last call; nothing while fewer bytes wait, and none
        of the lanes is half full."""
        waiting = self._ring.waiting_bytes() + self._lanes.waiting_bytes()
        if waiting < max(1, least_bytes) and not (waiting and self._lanes.half_full()):
            return Columns()
        return Columns.joined([Columns.of(self._ring.drain()), self._lanes.drain()])

    def targets(self) -> tuple[Target, ...]:
        """Totals of every target so far; call it right after `scan`, which counts what is open."""
        return self._totals.rows(self._counted(maps.COUNTER_TARGETS))

    def watch(self, target: int, age_ns: int) -> None:
        """Report this target's open flows older than ``age_ns``, whatever their state."""
        self._asked_more |= bool(age_ns)
        self._maps[MapId.WATCH_NS].set(_U32.pack(target), _U64.pack(age_ns))

    def listen_for(self, paths: Iterable[str]) -> None:
        """Count who connects to these command-line sockets, from now on."""
        for path in paths:
            name = path.encode()
            if path not in self._paths and len(name) < wire.UNIX_PATH.size:
                self._paths.append(path)
                number = _U32.pack(len(self._paths) - 1)
                self._maps[MapId.UNIX_PATHS].set(wire.UNIX_PATH.pack(name), number)

    def callers(self) -> tuple[CommandCalls, ...]:
        """Every process that connected to one of them, the latest first."""
        table = self._maps[MapId.UNIX_CALLS]
        found = []
        for caller in table:
            if calls := table.get(caller):
                pid, path = wire.UNIX_CALLER.unpack(caller)
                found.append(decode.command_calls(self._paths[path], pid, calls))
        return tuple(sorted(found, key=lambda one: -one.last_ns))

    def losses(self) -> Losses:
        counted = self._maps[MapId.LOSSES].get(_ZERO) or b""
        return decode.losses(time.monotonic_ns(), counted, self._truncated)

    def troubles(self) -> list[Trouble]:
        """Processes which found no room in the scope; else what is not seen is in `blind_spots`."""
        troubles, self._left_out = self._left_out, []
        return troubles

    def bpf_cost(self) -> tuple[int, int]:
        """(run time in ns, runs) of all programs, as far as the kernel counted them."""
        run_ns, runs = 0, 0
        for fd in self._loaded.programs.values():
            program_ns, program_runs = bpf.program_stats(fd)
            run_ns, runs = run_ns + program_ns, runs + program_runs
        return run_ns, runs

    def close(self) -> None:
        self._ring.close()
        self._lanes.close()
        self._totals.close()
        self._walk.close()
        self._report.close()
        self._loaded.close()


def _name(pid: int) -> bytes:
    """Empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n")[:15]
    return b""


def _has_ended(pid: int) -> bool:
    """Asked by a signal, from which hidepid hides nobody."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    return False


def _left_out(pids: Collection[int]) -> Trouble:
    why = f"as many as there is room for are alive already: {len(pids)} more are not traced"
    do = "trace fewer of them: --pid, or --comm with another name"
    return Trouble(time.monotonic_ns(), "kernel", "processes in scope", why, do)


def attach(
    scope: Scope,
    rung: str | None = None,
    summary: bool = False,
    sizes: maps.Sizes | None = None,
    ephemeral: range = EPHEMERAL_PORTS,
) -> Probes | None:
    """Load the best rung, or the named one; None where BPF does not work here at all.

    Raises EnvironmentLacks with the reason why it cannot.
    ``sizes``: None for those that fit this host.
    ``ephemeral``: local ports that are chosen for who connects; where nobody listens any more,
    they tell which side a connection is that is older than hatrace.
    """
    loaded = load(Order(rung, sizes))
    if loaded is None:
        return None
    taken = next(each for each in LADDER if each.name == loaded.rung)
    return Probes(taken, loaded, replace(_config(scope, summary), ephemeral=ephemeral))


def _config(scope: Scope, summary: bool) -> wire.Config:
    secret = secrets.randbits(64)
    if scope.kind is ScopeKind.ALL:
        return wire.Config(secret, wire.SCOPE_ALL, summary=summary)
    if scope.kind is ScopeKind.CGROUP:
        folder = Path(scope.values[0])
        return wire.Config(
            secret,
            wire.SCOPE_CGROUP,
            cgroup_id=folder.stat().st_ino,
            cgroup_level=len(folder.relative_to(cgroup_mount() or "/").parts),
            summary=summary,
        )
    name = "haproxy" if scope.kind is ScopeKind.HAPROXY else ""
    if scope.kind is ScopeKind.COMM:
        name = scope.values[0]
    return wire.Config(secret, wire.SCOPE_TGIDS, comm=name.encode(), summary=summary)
