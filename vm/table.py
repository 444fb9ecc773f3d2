"""docs/kernels.md out of the matrix's outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hatrace.kernel.rungs import LADDER
from vm.outcome import Outcome

RUNGS = tuple(rung.name for rung in LADDER)

HEAD = """\
# Kernels: what each rung sees where

Written by `scripts/vm matrix --write`; do not edit.  Every kernel is Debian's own, booted in QEMU
(software emulation, so no times of programs are given here: docs/overhead.md has those), and each
cell is a test that ran there: tests/kernel/test_rungs.py and test_ladder.py.
"""


CAPABILITIES = """\
## Capabilities

Without root, a rung needs these: a process without any one of them was refused, one with just
them was not.  The last column: the rungs for which CAP_SYS_ADMIN alone is enough.  Debian's
kernel.perf_event_paranoid is 3, which leaves kprobes to CAP_SYS_ADMIN.  What further
capabilities add is in [privileges.md](privileges.md).

"""


def page(outcomes: Sequence[Outcome], locked: Sequence[Outcome]) -> str:
    """The whole page; ``locked``: the same kernels under lockdown=confidentiality."""
    parts = [
        HEAD,
        "## The kernels\n\n" + _grid(_machines(outcomes)),
        "bullseye's python is 3.9 and hatrace needs 3.11, so 5.10 runs with bookworm's python and "
        "bcc, and bullseye's HAProxy.\n",
        "## The ladder\n\n" + _grid(_ladder(outcomes, locked)),
        "## What a rung sees\n\n" + _grid(_facts(outcomes)),
        "## What it says of itself that it cannot see\n\n" + _grid(_blind_spots()),
        CAPABILITIES + _grid(_capabilities(outcomes)),
    ]
    return "\n".join(parts)


def _machines(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, ...]]:
    yield "kernel", "release", "python", "bcc", "HAProxy", "tests passed", "failed", "run on"
    for one in outcomes:
        about = one.about
        versions = (str(about.get(name, "?")) for name in ("python", "bcc", "haproxy"))
        failed = ", ".join(one.failed) or "0"
        yield one.kernel.name, one.release, *versions, str(one.passed), failed, one.date


def _ladder(outcomes: Iterable[Outcome], locked: Iterable[Outcome]) -> Iterator[tuple[str, ...]]:
    yield "kernel", *(f"`{rung}`" for rung in RUNGS)
    for one in outcomes:
        yield one.kernel.name, *_answers(one)
    for one in locked:
        yield f"{one.kernel.name}, lockdown=confidentiality", *_answers(one)


def _answers(one: Outcome) -> Iterator[str]:
    answers = one.about.get("ladder", {})
    for rung in RUNGS:
        yield str(answers.get(rung, "?")) or "works"


def _facts(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """A column for each rung: the word, where all kernels that have it agree; else by kernel."""
    yield "fact", *(f"`{rung}`" for rung in RUNGS)
    for fact in dict.fromkeys(fact for one in outcomes for fact in one.sees):
        cells = []
        for rung in RUNGS:
            having = [one for one in outcomes if rung in one.kernel.rungs.split(",")]
            words = {o.kernel.name: o.sees.get(fact, {}).get(rung, "not run") for o in having}
            differ = len(set(words.values())) > 1
            by_kernel = ", ".join(f"{name}: {word}" for name, word in words.items())
            cells.append(by_kernel if differ else next(iter(words.values()), "not run"))
        yield fact, *cells


def _blind_spots() -> Iterator[tuple[str, ...]]:
    """As in every capture's header; the facts above test them."""
    yield "rung", "blind spots"
    for rung in LADDER:
        yield f"`{rung.name}`", "; ".join(rung.blind_spots)


def _capabilities(outcomes: Iterable[Outcome]) -> Iterator[tuple[str, ...]]:
    yield "kernel", *(f"`{rung}`" for rung in RUNGS), "CAP_SYS_ADMIN alone"
    for one in outcomes:
        needs = one.about.get("capabilities", {})
        cells = (", ".join(needs.get(rung, ["?"])) or "refused" for rung in RUNGS)
        yield one.kernel.name, *cells, ", ".join(one.about.get("admin alone", ())) or "none"


def _grid(rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = rows
    lines = [head, tuple("---" for _ in head), *rest]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
