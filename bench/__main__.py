"""Options, the run, the answer: see ``scripts/bench --help``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError

from bench import against, aims, consumer, growth, lost, minute, page, starts, storm
from bench.aims import Aim
from bench.measure import Sample, alternating, measure
from bench.table import render
from bench.tools import DidNotStart, known, usual
from bench.work import WORKS, Work
from hatrace.errors import HatraceError

ABOUT = """\
Measures hatrace and its peers beside the same work, in one run, in alternating order: the speed
of the work, the time spent in BPF for each operation (kernel.bpf_stats_enabled), and the tool's
own CPU time.  Cells are the median of the rounds, with the lowest and the highest; ratios are
taken within a round.  Then hatrace alone: how it grows with the number of open flows, what it
loses in storms, what its consumer takes, how soon it speaks, how large a capture is.  First
comes the table of what is to be reached.  Loopback only; needs root; 20 to 45 minutes.
"""


@dataclass(frozen=True)
class Part:
    """What one part of the run has to say."""

    name: str
    text: str
    aims: list[Aim]
    data: object
    failed: bool = False
    """hatrace did not start, or the work failed."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    works, tools = [*(work.name for work in WORKS), *ALONE], list(known(()))
    parser.add_argument("--work", action="append", choices=works, help="default: all")
    parser.add_argument(
        "--tool", action="append", choices=tools, help="default: all, hatrace on the best rung"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run beside peers")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 second, fewer flows")
    parser.add_argument("--most", type=int, default=1_000_000, help="open flows in growth")
    parser.add_argument(
        "--against", metavar="REV", help="only BPF time in `loop`, beside another revision's"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every sample, for later")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables there, too")
    chosen = parser.parse_args(arguments)
    chosen.long = 10.0
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.most, chosen.long = 2, 1.0, 10_000, 4.0
    return chosen


def run_work(work: Work, chosen: argparse.Namespace, refused: dict[str, str]) -> Part:
    """All rounds of one work; says on stderr how far it is.

    ``refused``: the peers that cannot run here, and why; they are not tried again.
    """
    every = known(work.scope)
    tools = [every[name] for name in chosen.tool or usual(every)]
    samples = []
    with work.ready() as run:
        for number, tool in alternating(tools, chosen.rounds):
            if tool.name in refused:
                samples.append(Sample(work.name, tool.name, number, failure=refused[tool.name]))
                continue
            print(f"{work.name}, round {number + 1}: {tool.name}", file=sys.stderr)
            samples.append(measure(work, run, tool, number, chosen.seconds))
            if samples[-1].failure and not tool.name.startswith("hatrace"):
                refused[tool.name] = samples[-1].failure
    text = render(samples, [tool.name for tool in tools], work.unit)
    failed = any(one.failure and one.tool.startswith("hatrace") for one in samples)
    data = [asdict(one) for one in samples]
    return Part(work.name, text, aims.of_samples(samples), data, failed)


def run_lost(chosen: argparse.Namespace) -> Part:
    found = lost.run(6 * chosen.rounds)
    data = [asdict(one) for one in found]
    return Part("lost", lost.table(found), lost.aims(found), data)


def run_growth(chosen: argparse.Namespace) -> Part:
    found = growth.run(chosen.long / 2, chosen.most)
    plot = f"```text\n{growth.plot(found.levels)}\n```"
    text = f"{growth.table(found.levels)}\n\n{plot}"
    return Part("growth", text, growth.aims(found), asdict(found))


def run_storms(chosen: argparse.Namespace) -> Part:
    """Four times as many connections come and go as are reset: 200,000 by default."""
    resets = min(50_000, chosen.most // 20)
    found = storm.run(resets, 4 * resets)
    return Part("storms", storm.table(found), storm.aims(found), asdict(found))


def run_consumer(chosen: argparse.Namespace) -> Part:
    found = consumer.run(2, chosen.long)
    return Part("consumer", consumer.table(found), consumer.aims(found), asdict(found))


def run_starts(chosen: argparse.Namespace) -> Part:
    found = starts.run(chosen.rounds + 1)
    return Part("starts", starts.table(found), starts.aims(found), asdict(found))


def run_minute(chosen: argparse.Namespace) -> Part:
    found = minute.run(6 * chosen.long)
    return Part("minute", minute.table(found), minute.aims(found), asdict(found))


Run = Callable[[argparse.Namespace], Part]

ALONE: dict[str, Run] = {
    "lost": run_lost,
    "growth": run_growth,
    "storms": run_storms,
    "consumer": run_consumer,
    "starts": run_starts,
    "minute": run_minute,
}
"""What is measured of hatrace alone."""


def machine() -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def measured(chosen: argparse.Namespace) -> list[Part]:
    def wanted(name: str) -> bool:
        return not chosen.work or name in chosen.work

    refused: dict[str, str] = {}
    beside: dict[str, Run] = {work.name: partial(run_work, work, refused=refused) for work in WORKS}
    runs = {**beside, **ALONE}
    return [attempted(name, run, chosen) for name, run in runs.items() if wanted(name)]


def attempted(name: str, run: Run, chosen: argparse.Namespace) -> Part:
    """One part that fails does not take the others with it: nobody may be looking."""
    try:
        return run(chosen)
    except (DidNotStart, RuntimeError, OSError, HatraceError) as error:
        print(f"{name} failed: {error!r}", file=sys.stderr)
        return Part(name, f"Failed: `{error!r}`", [], None, failed=True)


def beside(chosen: argparse.Namespace) -> int:
    """Only this checkout and another revision of it."""
    work = next(work for work in WORKS if work.name == "loop")
    try:
        found = against.run(chosen.against, work, 2 * chosen.rounds, chosen.seconds / 2)
    except (DidNotStart, CalledProcessError, RuntimeError) as error:
        print(f"hatrace: cannot compare with {chosen.against}: {error}", file=sys.stderr)
        return 3
    print(against.table(found))
    return 0


def rendered(parts: Sequence[Part], about: str) -> str:
    """Markdown: what was to be reached first, then each part."""
    table = aims.table([aim for part in parts for aim in part.aims])
    sections = [f"### `{part.name}`\n\n{part.text}" for part in parts]
    return "\n\n".join([about, table, *sections])


def main(arguments: Sequence[str]) -> int:
    """0, or 3 where hatrace did not start or we are not root."""
    chosen = options(arguments)
    if os.geteuid() != 0:
        print("hatrace: cannot measure: not root\n  do: sudo scripts/bench", file=sys.stderr)
        return 3
    if chosen.against:
        return beside(chosen)
    said, began_s = machine(), time.monotonic()
    parts = measured(chosen)
    minutes = (time.monotonic() - began_s) / 60
    words = ", ".join(f"{key} {value}" for key, value in said.items())
    command = " ".join(["scripts/bench", *arguments])
    about = f"{time.strftime('%Y-%m-%d')}, `{command}`, {minutes:.0f} minutes: {words}."
    text = rendered(parts, about)
    print(text)
    if chosen.page:
        page.rewrite(chosen.page, text)
    if chosen.json:
        data = {part.name: part.data for part in parts}
        chosen.json.write_text(json.dumps({"machine": said, **data}, indent=1))
    return 3 if any(part.failed for part in parts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
