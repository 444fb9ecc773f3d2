"""The attached rung as the consumer sees it: totals, suspects, finished flows, losses.

Everything here reads or writes BPF maps through fds that the loader's child handed over; when
they are closed (also by kill -9), nothing of hatrace is left in the kernel.
"""

from __future__ import annotations

import math
import mmap
import secrets
import struct
import time
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from hatrace.kernel import libbpf, maps, wire
from hatrace.kernel.loader import SCAN, SCAN_ALL, Loaded, Order, load
from hatrace.kernel.maps import MapId
from hatrace.kernel.preflight import cgroup_mount
from hatrace.kernel.ring import Ring
from hatrace.kernel.rungs import LADDER, Rung
from hatrace.model.capture_info import Scope, ScopeKind
from hatrace.model.event import CommandCalls, Holder, Losses, Target, Trouble

_U32, _U64, _S64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q")
_ZERO = _U32.pack(0)
LEAST_LIGHT_SCANS, CALM_A_SCAN = 8, 2048
"""From one scan of the whole table to the next: it takes 0.7 us for each calm flow."""
CALM_AN_ASKED_SCAN = 8192
"""The same, where more is asked for time and again: at once the first time, then not so often."""
_HZ = (100, 250, 300, 1000)
"""What CONFIG_HZ may be (kernel/Kconfig.hz)."""


class Probes:
    """One attached rung.  Close it, or end the process: both detach everything."""

    def __init__(self, rung: Rung, loaded: Loaded, sizes: maps.Sizes, config: wire.Config) -> None:
        self.rung = rung.name
        self.blind_spots = (*rung.blind_spots, *loaded.missing)
        self._loaded = loaded
        self._config = config
        self._maps = maps.opened(loaded.maps)
        self._ring = Ring(loaded.maps[MapId.RING], sizes.ring_bytes)
        self._open = mmap.mmap(loaded.maps[MapId.TARGET_OPEN], 8 * sizes.targets)
        self._calm = mmap.mmap(loaded.maps[MapId.TARGET_CALM], 8 * sizes.targets)
        self._criteria: bytes = b""
        self._light_scans = LEAST_LIGHT_SCANS
        self._asked_more, self._asked_scans = False, math.inf
        self._keys: dict[int, bytes] = {}
        self._paths: list[str] = []
        self._truncated = 0
        self._configure()

    def _configure(self) -> None:
        self._maps[MapId.CONFIG].set(_ZERO, self._config.pack())

    def follow(self, pids: Iterable[int]) -> None:
        """Put processes into the scope; their later forks join by themselves."""
        for pid in pids:
            self._maps[MapId.TGIDS].set(_U32.pack(pid), b"\1")

    def report_finished(self, wanted: bool) -> None:
        """Whether each flow that ends is reported, or only counted; holds from now on."""
        self._config = replace(self._config, summary=not wanted)
        self._configure()

    def leave(self, pids: Iterable[int]) -> None:
        """Take ended processes out of the scope, before their pids serve somebody else."""
        for pid in pids:
            self._maps[MapId.TGIDS].delete(_U32.pack(pid))

    def followed(self) -> frozenset[int]:
        """The pids in scope, forks and execs included."""
        return frozenset(_U32.unpack(key)[0] for key in self._maps[MapId.TGIDS])

    def inventory(self, *, wanted: Container[int] | None = None) -> tuple[Holder, ...]:
        """Every socket fd of the processes in scope; adopts their TCP sockets into the table.

        With ``wanted``, of established TCP connections only those of these inodes are told.

        The first time it runs twice, at first (HZ not known yet) for listeners alone: they
        tell which side an adopted socket is.
        """
        if not self._config.hz:
            libbpf.read_iterator(self._loaded.iterators["inventory"])
            self._learn_hz()
        records = libbpf.read_iterator(self._loaded.iterators["inventory"])
        return tuple(wire.holders(records, wanted))

    def _learn_hz(self) -> None:
        """HZ from jiffies: they start 300 s before they wrap 32 bits (INITIAL_JIFFIES)."""
        counters = self._maps[MapId.COUNTERS]
        jiffies, now_ns = (
            _U64.unpack(counters.get(_U32.pack(which)) or bytes(8))[0]
            for which in (maps.COUNTER_JIFFIES, maps.COUNTER_NOW_NS)
        )
        elapsed = now_ns / 1e9
        hz = min(_HZ, key=lambda hz: abs(2**32 - 300 * hz + elapsed * hz - jiffies))
        self._config = replace(self._config, hz=hz if jiffies else 250)
        self._configure()

    def scan(self, criteria: wire.Criteria) -> tuple[bytes, int]:
        """Open flows which meet the criteria: packed records, and how many matched.

        Calm flows are left out, of which nobody asks anything (bpf/calm.h); now and then all are
        looked at, for what a hook may have missed, and at once when more is asked for.
        """
        whole = self._is_whole(criteria)
        packed = replace(criteria, whole=whole).pack()
        if packed != self._criteria:
            self._maps[MapId.CRITERIA].set(_ZERO, packed)
            self._criteria = packed
        matched_key = _U32.pack(maps.COUNTER_MATCHED)
        self._maps[MapId.COUNTERS].set(matched_key, bytes(8))
        self._open[:] = bytes(len(self._open))
        if whole:
            self._calm[:] = bytes(len(self._calm))
            self._maps[MapId.COUNTERS].set(_U32.pack(maps.COUNTER_UNLISTED), bytes(8))
        records = libbpf.read_iterator(self._loaded.iterators[SCAN_ALL if whole else SCAN])
        matched = _U64.unpack(self._maps[MapId.COUNTERS].get(matched_key) or bytes(8))[0]
        self._truncated = max(0, matched - criteria.limit)
        return records, matched

    def _is_whole(self, criteria: wire.Criteria) -> bool:
        """Whether this scan is to walk the whole table."""
        self._light_scans += 1
        self._asked_scans += 1
        unlisted = self._maps[MapId.COUNTERS].get(_U32.pack(maps.COUNTER_UNLISTED))
        calm = sum(memoryview(self._calm).cast("q"))
        whole = (
            bool(criteria.everything or criteria.idle_ns or criteria.whole)
            or (self._asked_more and self._asked_scans > calm // CALM_AN_ASKED_SCAN)
            or any(unlisted or b"")
            or self._light_scans >= max(LEAST_LIGHT_SCANS, calm // CALM_A_SCAN)
        )
        if whole:
            self._light_scans = 0
            if self._asked_more:
                self._asked_more, self._asked_scans = False, 0
        return whole

    def drain(self, least_bytes: int = 0) -> bytes:
        """Flows which ended since the last call, packed; nothing while fewer bytes wait."""
        return self._ring.drain(least_bytes)

    def targets(self) -> tuple[Target, ...]:
        """Totals of every target so far; call it right after `scan`, which counts what is open."""
        index = self._maps[MapId.TARGET_INDEX]
        counters = self._maps[MapId.COUNTERS]
        given = _U64.unpack(counters.get(_U32.pack(maps.COUNTER_TARGETS)) or bytes(8))[0]
        if given > len(self._keys):
            for key in index:
                if value := index.get(key):
                    self._keys[_U32.unpack(value)[0]] = key
        totals = self._maps[MapId.TARGET_TOTALS]
        return tuple(
            wire.target(
                number,
                key,
                totals.get(_U32.pack(number)) or b"",
                sum(_S64.unpack_from(at, number * _S64.size)[0] for at in (self._open, self._calm)),
            )
            for number, key in sorted(self._keys.items())
        )

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
                found.append(wire.command_calls(self._paths[path], pid, calls))
        return tuple(sorted(found, key=lambda one: -one.last_ns))

    def losses(self) -> Losses:
        counted = self._maps[MapId.LOSSES].get(_ZERO) or b""
        return wire.losses(time.monotonic_ns(), counted, self._truncated)

    def troubles(self) -> list[Trouble]:
        """None: what an attached rung cannot see is in its blind spots."""
        return []

    def bpf_cost(self) -> tuple[int, int]:
        """(run time in ns, runs) of all programs, as far as the kernel counted them."""
        run_ns, runs = 0, 0
        for fd in self._loaded.programs.values():
            program_ns, program_runs = libbpf.program_stats(fd)
            run_ns, runs = run_ns + program_ns, runs + program_runs
        return run_ns, runs

    def close(self) -> None:
        self._ring.close()
        self._open.close()
        self._calm.close()
        self._loaded.close()


def attach(
    source_folder: Path,
    scope: Scope,
    rung: str | None = None,
    summary: bool = False,
    sizes: maps.Sizes | None = None,
) -> Probes | None:
    """Load the best rung, or the named one; None where BPF does not work here at all.

    ``source_folder`` is bpf/.  Raises EnvironmentLacks with the reason why it cannot.
    """
    sizes = sizes or maps.Sizes()
    loaded = load(Order(rung, str(source_folder), sizes))
    if loaded is None:
        return None
    taken = next(each for each in LADDER if each.name == loaded.rung)
    return Probes(taken, loaded, sizes, _config(scope, summary))


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
