"""A minute of capture at 5,000 connections a second: how large it is."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from bench import processes
from bench.aims import BYTES_PER_FLOW, Aim, if_so
from bench.crowd import crowd
from bench.tools import attached, record
from bench.work import Done

CONNECTIONS = 2_000
PER_S = 5_000.0
SECONDS = 60.0
SETTLE_S = 2.0
MOST_BYTES = 5_000_000


@dataclass(frozen=True)
class Minute:
    done: Done
    file_bytes: int
    cpu_s: float

    @property
    def per_flow(self) -> float:
        """Bytes; each connection has both its ends here."""
        return self.file_bytes / (2 * self.done.count)

    @property
    def per_minute(self) -> float:
        return self.file_bytes / self.done.seconds * SECONDS


def run(seconds: float) -> Minute:
    print(f"minute: {seconds:.0f} s at {PER_S:,.0f} connections/s", file=sys.stderr)
    with crowd(CONNECTIONS) as people, attached(record(people.scope)) as running:
        assert running is not None
        time.sleep(SETTLE_S)
        before_s = processes.cpu_s(running.session)
        done = people.churn(PER_S, seconds)
        cpu_s = processes.cpu_s(running.session) - before_s
    return Minute(done, running.output_bytes or 0, cpu_s)


def table(found: Minute) -> str:
    flows, seconds = 2 * found.done.count, found.done.seconds
    return (
        f"{flows:,} flows in {seconds:.0f} s: {found.file_bytes / 1e6:.2f} MB, "
        f"{found.per_flow:.1f} bytes each; own CPU {found.cpu_s / seconds:.1%}"
    )


def aims(found: Minute) -> list[Aim]:
    reached_rate = found.done.count / found.done.seconds
    return [
        Aim(
            "capture size per finished flow, at 5,000 connections/s",
            f"under {BYTES_PER_FLOW} bytes",
            f"{found.per_flow:.1f} bytes",
            found.per_flow < BYTES_PER_FLOW,
        ),
        Aim(
            "capture of 60 s at 5,000 connections/s",
            f"under {MOST_BYTES / 1e6:g} MB",
            f"{found.per_minute / 1e6:.1f} MB, two flows a connection, {reached_rate:,.0f}/s",
            if_so(found.per_minute < MOST_BYTES, reached_rate > 0.95 * PER_S),
        ),
    ]
