"""BPF time of this checkout beside another revision's: both attached at once, to the same work.

A machine of many tenants changes its speed by a fifth within seconds; that hits both alike, so
one per cent shows.  Who is called first fetches what the other then finds in the caches: each
comes first in turn, and a ratio is the geometric mean of two runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import median

from bench import bpf
from bench.table import Spread, spread, tabulate
from bench.tools import Tool, attached
from bench.work import Run, Work

TOP = Path(__file__).resolve().parent.parent
LEAST_RUNS = 0.3
"""Of a program for one operation: those which only readers run are left out."""

Costs = dict[str, float]
"""us of BPF for one operation, by the name of the program."""


@dataclass(frozen=True)
class Beside:
    """What each of the two took, run by run; every other one with the other side first."""

    revision: str
    here: tuple[Costs, ...]
    there: tuple[Costs, ...]

    @property
    def ratio(self) -> Spread:
        """Ours by theirs."""
        runs = [
            sum(ours.values()) / sum(theirs.values())
            for ours, theirs in zip(self.here, self.there, strict=True)
        ]
        pairs = [sqrt(one * other) for one, other in zip(runs[::2], runs[1::2], strict=True)]
        found = spread(pairs)
        assert found is not None, "there is at least one pair"
        return found


def run(revision: str, work: Work, pairs: int, seconds: float) -> Beside:
    """Raises DidNotStart where one of the two cannot run, CalledProcessError if git cannot."""
    costs: tuple[list[Costs], list[Costs]] = ([], [])
    with checked_out(revision) as there, work.ready() as doing:
        tools = [_record(TOP, work, "here"), _record(there, work, revision)]
        for number in range(2 * pairs):
            print(f"against {revision}: {number + 1} of {2 * pairs}", file=sys.stderr)
            order = (0, 1) if number % 2 == 0 else (1, 0)
            both = _together([tools[n] for n in order], doing, seconds)
            for each, cost in zip(order, both, strict=True):
                costs[each].append(cost)
    return Beside(revision, tuple(costs[0]), tuple(costs[1]))


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A work tree of that revision, for a while."""
    with tempfile.TemporaryDirectory(prefix="hatrace-bench-") as folder:
        tree = Path(folder, "tree")
        git = ("git", "-C", str(TOP), "worktree")
        subprocess.run([*git, "add", "--quiet", "--detach", tree, revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", tree], check=True)


def _record(tree: Path, work: Work, name: str) -> Tool:
    """`hatrace record` of a work tree, with the packages of this one."""
    words = ("env", f"PYTHONPATH={tree / 'src'}", sys.executable, "-m", "hatrace")
    options = ("--no-bpf-stats", "-o", "{out}")
    return Tool(name, (*words, "record", *work.scope, *options))


def _together(tools: Sequence[Tool], doing: Run, seconds: float) -> list[Costs]:
    with ExitStack() as stack:
        running = [stack.enter_context(attached(tool)) for tool in tools]
        programs = [one.programs for one in running if one is not None]
        stack.enter_context(bpf.stats_enabled())
        before = [bpf.run_times(each) for each in programs]
        count = doing(seconds).count
        after = [bpf.run_times(each) for each in programs]
    return [_costs(then, now, count) for then, now in zip(before, after, strict=True)]


def _costs(before: dict[str, bpf.RunTime], after: dict[str, bpf.RunTime], operations: int) -> Costs:
    spent = {name: after[name] - before[name] for name in before.keys() & after.keys()}
    return {
        name: each.ns / operations / 1e3
        for name, each in spent.items()
        if each.runs > LEAST_RUNS * operations
    }


def table(found: Beside) -> str:
    """Medians of the runs; the last row is the sum's ratio, pair by pair."""
    names = sorted({name for cost in (*found.here, *found.there) for name in cost})
    rows = [[name, _us(found.here, name), _us(found.there, name), ""] for name in names]
    rows.append(["all", _us(found.here), _us(found.there), found.ratio.text("{:.3f}")])
    head = ("BPF us/operation", "here", found.revision, "ratio")
    return tabulate(head, rows)


def _us(costs: Sequence[Costs], name: str | None = None) -> str:
    return f"{median(cost.get(name, 0) if name else sum(cost.values()) for cost in costs):.2f}"
