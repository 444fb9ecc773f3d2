"""Samples to numbers to text: medians with their spread, ratios paired within a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measure import Sample
from bench.tools import EMPTY, NOTHING

PEER = "tcplife"
LEAST_PART = 0.01

Value = Callable[[Sample], float | None]


@dataclass(frozen=True)
class Spread:
    """Of the rounds: the middle one, the lowest, the highest."""

    median: float
    low: float
    high: float

    def text(self, pattern: str) -> str:
        """``2.41 (2.38-2.60)`` for ``{:.2f}``."""
        low, high = pattern.format(self.low), pattern.format(self.high)
        return f"{pattern.format(self.median)} ({low}-{high})"


def spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(median(known), min(known), max(known)) if known else None


def per_operation_us(sample: Sample) -> float | None:
    """BPF time of one operation."""
    if sample.bpf_ns is None or not sample.counted:
        return None
    return sample.bpf_ns / sample.counted / 1e3


def work_cpu_us(sample: Sample) -> float | None:
    """CPU time of the process that was worked on, for one operation."""
    return sample.work_cpu_s / sample.count * 1e6 if sample.work_cpu_s and sample.count else None


def runs_per_operation(sample: Sample) -> float | None:
    return sample.bpf_runs / sample.counted if sample.bpf_runs and sample.counted else None


def own_cpu_us(sample: Sample) -> float | None:
    """CPU time of the tool's processes for one operation."""
    return None if sample.cpu_s is None else sample.cpu_s / sample.count * 1e6


def file_bytes(sample: Sample) -> float | None:
    """Of the file that the tool wrote, for each operation of both runs."""
    if sample.output_bytes is None or not sample.counted:
        return None
    return sample.output_bytes / (sample.count + sample.counted)


def resident_mb(sample: Sample) -> float | None:
    return None if sample.resident_bytes is None else sample.resident_bytes / 1e6


def of_tool(samples: Sequence[Sample], tool: str) -> list[Sample]:
    """Its samples by round, without those in which it did not start."""
    mine = [sample for sample in samples if sample.tool == tool and not sample.failure]
    return sorted(mine, key=lambda sample: sample.round)


def ratio(samples: Sequence[Sample], tool: str, other: str, value: Value) -> Spread | None:
    """How many times ``other``'s value ``tool``'s is, both taken in the same round."""
    others = {sample.round: value(sample) for sample in of_tool(samples, other)}
    ratios = []
    for sample in of_tool(samples, tool):
        mine, its = value(sample), others.get(sample.round)
        if mine is not None and its:
            ratios.append(mine / its)
    return spread(ratios)


def rows(samples: Sequence[Sample], tools: Sequence[str]) -> list[list[str]]:
    """A line of text cells for each tool."""
    return [_row(samples, tool) for tool in tools]


def _row(samples: Sequence[Sample], tool: str) -> list[str]:
    mine = of_tool(samples, tool)
    if not mine:
        return [tool, "cannot run here"]
    columns: list[tuple[Value, str]] = [
        (lambda sample: sample.rate, "{:,.0f}"),
        (work_cpu_us, "{:.1f}"),
        (per_operation_us, "{:.2f}"),
        (runs_per_operation, "{:.1f}"),
        (own_cpu_us, "{:.1f}"),
        (resident_mb, "{:.0f}"),
    ]
    cells = [_cell(spread([value(sample) for sample in mine]), form) for value, form in columns]
    beside = ratio(samples, tool, NOTHING, lambda sample: sample.rate)
    return [tool, cells[0], _cell(beside, "{:.3f}"), *cells[1:]]


def _cell(value: Spread | None, pattern: str) -> str:
    return value.text(pattern) if value else "-"


def render(samples: Sequence[Sample], tools: Sequence[str], unit: str) -> str:
    """A table of the samples, and the ratios below it."""
    head = [
        "tool",
        f"{unit}s/s",
        "of nothing's",
        f"work's CPU us/{unit}",
        f"BPF us/{unit}",
        f"runs/{unit}",
        f"own CPU us/{unit}",
        "resident MB",
    ]
    lines = [row + [""] * (len(head) - len(row)) for row in rows(samples, tools)]
    table = tabulate(head, lines)
    below = [
        *failures(samples),
        *comparisons(samples, tools),
        *programs(samples, tools),
        *file_sizes(samples, tools, unit),
    ]
    return "\n".join([table, "", *below] if below else [table])


def tabulate(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table that reads well in a terminal and in Markdown."""
    widths = [max(len(row[column]) for row in [head, *lines]) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(_line(row, widths) for row in [head, rule, *lines])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    )


def comparisons(samples: Sequence[Sample], tools: Sequence[str]) -> list[str]:
    """hatrace beside the peer that answers the most similar question."""
    lines = []
    beyond_us = beyond_empty_us(samples)
    for tool in tools:
        found = ratio(samples, tool, PEER, per_operation_us)
        if not tool.startswith("hatrace") or not found:
            continue
        lines.append(f"- BPF time of {tool}: {found.text('{:.3f}')} of {PEER}'s")
        beyond = spread([beyond_us(sample) for sample in of_tool(samples, tool)])
        part = ratio(samples, tool, PEER, beyond_us)
        if beyond and part:
            lines.append(
                f"- beyond that of as many runs of empty programs: {beyond.text('{:.2f}')} us, "
                f"{part.text('{:.3f}')} of {PEER}'s"
            )
    return lines


def beyond_empty_us(samples: Sequence[Sample]) -> Value:
    """BPF time of an operation without what as many runs of empty programs take that round."""
    floors_ns = {
        sample.round: sample.bpf_ns / sample.bpf_runs
        for sample in of_tool(samples, EMPTY)
        if sample.bpf_ns and sample.bpf_runs
    }

    def value(sample: Sample) -> float | None:
        spent, runs = per_operation_us(sample), runs_per_operation(sample)
        floor_ns = floors_ns.get(sample.round)
        if spent is None or runs is None or floor_ns is None:
            return None
        return spent - runs * floor_ns / 1e3

    return value


def programs(samples: Sequence[Sample], tools: Sequence[str]) -> list[str]:
    """Where hatrace's BPF time goes, by the name of the program (its first 15 letters)."""
    return [
        f"- BPF time of {tool}, by program: {'; '.join(parts)}"
        for tool in tools
        if tool.startswith("hatrace") and (parts := _parts(of_tool(samples, tool)))
    ]


def _parts(mine: Sequence[Sample]) -> list[str]:
    """The dearest first; without those which have next to no part in it."""
    rounds: dict[str, list[tuple[float, float]]] = {}
    for sample in mine:
        for name, us_runs in sample.bpf_us_runs.items():
            rounds.setdefault(name, []).append(us_runs)
    parts = [
        (median(us for us, _ in each), median(runs for _, runs in each), name)
        for name, each in rounds.items()
    ]
    least_us = LEAST_PART * sum(us for us, _, _ in parts)
    dearest = sorted(parts, reverse=True)
    return [
        f"`{name}` {us:.2f} us in {runs:.1f} runs" for us, runs, name in dearest if us > least_us
    ]


def failures(samples: Sequence[Sample]) -> list[str]:
    """Why tools cannot run here, each reason once."""
    failed = {
        f"- {sample.tool} cannot run here: {sample.failure}": 0
        for sample in samples
        if sample.failure
    }
    return list(failed)


def file_sizes(samples: Sequence[Sample], tools: Sequence[str], unit: str) -> list[str]:
    """How large a tool's file grows with the work."""
    sizes = {tool: spread([file_bytes(one) for one in of_tool(samples, tool)]) for tool in tools}
    return [
        f"- file of {tool}: {size.text('{:.1f}')} bytes/{unit}"
        for tool, size in sizes.items()
        if size
    ]
