"""One measurement, and the order in which they are taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench import bpf, processes
from bench.tools import DidNotStart, Running, Tool, attached
from bench.work import Done, Run, Work


@dataclass(frozen=True)
class Sample:
    """A tool beside one run of a work.  ``None``: not measured for this tool."""

    work: str
    tool: str
    round: int
    count: int = 0
    seconds: float = 0.0
    cpu_s: float | None = None
    """CPU time of the tool's own processes; precision: 10 ms."""
    resident_bytes: int | None = None
    counted: int | None = None
    """Operations of a second run, with BPF statistics on: these cost some time themselves."""
    bpf_ns: int | None = None
    bpf_runs: int | None = None
    bpf_us_runs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of each program, by its name: us and runs for one operation."""
    output_bytes: int | None = None
    """Of the file it wrote, which holds both runs."""
    work_cpu_s: float | None = None
    """CPU time of the process that was worked on, in the first run."""
    failure: str = ""
    """Why it did not start; then nothing was measured."""

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.count / self.seconds


def alternating(tools: Sequence[Tool], rounds: int) -> Iterator[tuple[int, Tool]]:
    """Each tool once a round; every other round backwards, so that a drift hits all alike."""
    for number in range(rounds):
        for tool in tools if number % 2 == 0 else reversed(tools):
            yield number, tool


def measure(work: Work, run: Run, tool: Tool, number: int, seconds: float) -> Sample:
    """The work twice: for its speed, then for the time spent in BPF."""
    try:
        with attached(tool) as running:
            if running is None:
                done = run(seconds)
                return Sample(
                    work.name, tool.name, number, done.count, done.seconds, work_cpu_s=done.cpu_s
                )
            speed, cpu_s = _with_cpu(running, run, seconds)
            resident_bytes = processes.resident_bytes(running.session)
            counted, programs = _with_bpf(running, run, seconds)
    except DidNotStart as failure:
        return Sample(work.name, tool.name, number, failure=str(failure))
    spent = bpf.total(programs.values())
    return Sample(
        work.name,
        tool.name,
        number,
        speed.count,
        speed.seconds,
        cpu_s,
        resident_bytes,
        counted.count,
        spent.ns,
        spent.runs,
        {name: _each(its, counted.count) for name, its in programs.items() if its.runs},
        running.output_bytes,
        speed.cpu_s,
    )


def _with_cpu(running: Running, run: Run, seconds: float) -> tuple[Done, float]:
    before_s = processes.cpu_s(running.session)
    done = run(seconds)
    return done, processes.cpu_s(running.session) - before_s


def _with_bpf(running: Running, run: Run, seconds: float) -> tuple[Done, dict[str, bpf.RunTime]]:
    """Not of programs that have come or gone meanwhile."""
    with bpf.stats_enabled():
        before = bpf.run_times(running.programs)
        done = run(seconds)
        after = bpf.run_times(running.programs)
    return done, {name: after[name] - before[name] for name in before.keys() & after.keys()}


def _each(spent: bpf.RunTime, operations: int) -> tuple[float, float]:
    return spent.ns / operations / 1e3, spent.runs / operations
