"""What is to be reached, and what was: the table of issue 5, a line for each measured number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure import Sample
from bench.table import (
    PEER,
    Spread,
    file_bytes,
    of_tool,
    per_operation_us,
    ratio,
    spread,
    tabulate,
)

RECORD = "hatrace record"
OF_PEER, MOST_US = 1 / 20, 1.5
LOST_OF_PEER, MOST_LOST, MOST_REQUESTS_LOST = 0.1, 0.05, 0.01
FLOWS_PER_REQUEST = 3
"""In `close`: both sides of HAProxy, and HAProxy is its own server, too."""
BYTES_PER_FLOW = 16


@dataclass(frozen=True)
class Aim:
    """``reached`` is None where this run cannot tell."""

    what: str
    to_reach: str
    measured: str
    reached: bool | None


def if_so(reached: bool, can_tell: bool) -> bool | None:
    """Not to be told where the machine was too slow for the work, or shook too much."""
    return reached if can_tell else None


def table(aims: Sequence[Aim]) -> str:
    said = {True: "yes", False: "no", None: "not to be told here"}
    rows = [[aim.what, aim.to_reach, aim.measured, said[aim.reached]] for aim in aims]
    return tabulate(["what", "to reach", "measured", "reached?"], rows)


def of_samples(samples: Sequence[Sample]) -> list[Aim]:
    """What a work beside its peers tells; nothing of what was not measured."""
    aims = []
    for work, told in TOLD.items():
        mine = [sample for sample in samples if sample.work == work]
        if of_tool(mine, RECORD):
            aims += told(mine)
    return aims


def _bpf_time(samples: Sequence[Sample]) -> list[Aim]:
    spent = spread([per_operation_us(one) for one in of_tool(samples, RECORD)])
    part = ratio(samples, RECORD, PEER, per_operation_us)
    if spent is None:
        return []
    measured = f"{spent.text('{:.2f}')} us; {_text(part, '{:.3f}')} of it"
    reached = None if part is None else part.median <= OF_PEER and spent.median < MOST_US
    to_reach = f"at most 1/20 of `{PEER}`'s, under {MOST_US} us"
    return [Aim("BPF time per connection", to_reach, measured, reached)]


def _bytes_per_flow(samples: Sequence[Sample]) -> list[Aim]:
    size = spread([file_bytes(one) for one in of_tool(samples, RECORD)])
    if size is None:
        return []
    each = size.median / FLOWS_PER_REQUEST
    to_reach = f"under {BYTES_PER_FLOW} bytes"
    what = "capture size per finished flow, HAProxy's in `close`"
    return [Aim(what, to_reach, f"{each:.1f} bytes", each < BYTES_PER_FLOW)]


TOLD = {"loop": _bpf_time, "close": _bytes_per_flow}
"""What each work tells; what it loses, bench/lost.py measures."""


def _text(value: Spread | None, pattern: str) -> str:
    return value.text(pattern) if value else "unknown part"
