"""Options, the run, the answer: see ``scripts/bench --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import growth, storm
from bench.measure import Sample, alternating, measure
from bench.table import render
from bench.tools import known
from bench.work import WORKS, Work

ABOUT = """\
Measures hatrace and its peers beside the same work, in one run, in alternating order:
the speed of the work, the time spent in BPF for each operation (kernel.bpf_stats_enabled),
and the tool's own CPU time.  Cells are the median of the rounds, with the lowest and the
highest; ratios are taken within a round.  Loopback only; needs root.
"""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    works, tools = [*(work.name for work in WORKS), *ALONE], list(known(()))
    parser.add_argument("--work", action="append", choices=works, help="default: all")
    parser.add_argument("--tool", action="append", choices=tools, help="default: all")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second, fewer flows")
    parser.add_argument("--most", type=int, default=100_000, help="open flows in growth, storms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample, for later")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.most = 2, 1.0, min(chosen.most, 10_000)
    return chosen


def run_work(work: Work, chosen: argparse.Namespace) -> list[Sample]:
    """All rounds of one work; says on stderr how far it is."""
    every = known(work.scope)
    tools = [every[name] for name in chosen.tool or every]
    samples = []
    with work.ready() as run:
        for number, tool in alternating(tools, chosen.rounds):
            print(f"{work.name}, round {number + 1}: {tool.name}", file=sys.stderr)
            samples.append(measure(work, run, tool, number, chosen.seconds))
    print(f"\n{work.name}:\n", render(samples, [tool.name for tool in tools], work.unit), sep="\n")
    return samples


def run_growth(chosen: argparse.Namespace) -> list[dict[str, object]]:
    levels = growth.run(max(chosen.seconds, 5.0), chosen.most)
    print(f"\ngrowth:\n\n{growth.table(levels)}")
    return [asdict(level) for level in levels]


def run_storms(chosen: argparse.Namespace) -> list[dict[str, object]]:
    """Twice as many connections come and go as flows were reset: 200,000 by default."""
    found = storm.run(chosen.most // 2, 2 * chosen.most)
    print(f"\nstorms:\n\n{storm.table(found)}")
    return [asdict(found)]


ALONE = {"growth": run_growth, "storms": run_storms}
"""What is measured of hatrace alone."""


def machine() -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
    }


def main(arguments: Sequence[str]) -> int:
    """0, or 3 where a tool did not start or we are not root."""
    chosen = options(arguments)
    if os.geteuid() != 0:
        print("hatrace: cannot measure: not root\n  do: sudo scripts/bench", file=sys.stderr)
        return 3
    about = machine()
    print(*(f"{key} {value}" for key, value in about.items()), sep=", ")
    works = [work for work in WORKS if not chosen.work or work.name in chosen.work]
    samples = [sample for work in works for sample in run_work(work, chosen)]
    alone = {
        name: run(chosen) for name, run in ALONE.items() if not chosen.work or name in chosen.work
    }
    if chosen.json:
        rows = [asdict(sample) for sample in samples]
        text = json.dumps({"machine": about, "samples": rows, **alone}, indent=1)
        chosen.json.write_text(text)
    return 3 if any(sample.failure for sample in samples) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
