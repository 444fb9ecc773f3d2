"""What a connection costs on each rung, beside tcplife in the same guest: a table for docs.

Emulation stretches reads of the clock (bpf_stats makes two for each run) more than tcplife's
wake-ups; so what a rung costs beside the cgroup rung, which is measured natively, says most.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import page
from bench.measure import Sample
from bench.table import PEER, per_operation_us, ratio, runs_per_operation, spread, tabulate
from bench.tools import RUNGS, on_rung
from vm import images, machine
from vm.kernels import Kernel

PAGE, WRITER = images.TOP / "docs/overhead.md", "scripts/vm cost"
TOOLS = (PEER, *map(on_rung, RUNGS))
COMMAND = (
    "PYTHONPATH=src python3 -m bench --work loop --rounds 3 --seconds 3 --json /out/bench.json "
    + " ".join(f"--tool '{tool}'" for tool in TOOLS)
)
LIMIT_S = 1800.0
HEAD = (
    "kernel", "rung", "BPF us/connection, emulated", "runs", "of `tcplife`'s", "of `cgroup`'s",
)  # fmt: skip


def run(kernels: Sequence[Kernel], write: bool) -> int:
    """Print the table of these kernels, one after the other; 0 if all of them could be measured."""
    rows: list[Sequence[str]] = []
    code = 0
    for kernel in kernels:
        release, samples = _measure(kernel)
        rows += _rows(release, samples)
        code |= not samples or any(sample.failure for sample in samples)
    text = f"{datetime.now(tz=UTC).date()}, `scripts/vm cost --write`:\n\n{tabulate(HEAD, rows)}"
    print(text)
    if write:
        page.rewrite(PAGE, text, WRITER)
    return code


def _measure(kernel: Kernel) -> tuple[str, list[Sample]]:
    images.say(f"kernel {kernel.name}: {', '.join(TOOLS)}")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        result = machine.run(machine.Order(kernel, COMMAND, out=out, limit_s=LIMIT_S, capture=True))
        images.say(f"{result.release}: {result.seconds:.0f} s, exit code {result.code}")
        if not (out / "bench.json").exists():
            print(result.output[-5_000:], result.console[-2_000:])
            return result.release, []
        said = json.loads((out / "bench.json").read_text())["loop"]
    return result.release, [Sample(**each) for each in said]


def _rows(release: str, samples: Sequence[Sample]) -> Iterator[Sequence[str]]:
    for name, tool in zip(("`tcplife`", *RUNGS), TOOLS, strict=True):
        mine = [sample for sample in samples if sample.tool == tool]
        spent = spread([per_operation_us(sample) for sample in mine])
        runs = spread([runs_per_operation(sample) for sample in mine])
        parts = (ratio(samples, tool, one, per_operation_us) for one in (PEER, on_rung("cgroup")))
        yield (
            release,
            name,
            spent.text("{:.0f}") if spent else next((s.failure for s in mine), "not measured"),
            f"{runs.median:.1f}" if runs else "",
            *(part.text("{:.2f}") if part and tool != PEER else "" for part in parts),
        )
