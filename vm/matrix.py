"""The rungs' tests on every kernel, and a table of what each rung saw there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vm import images, machine, outcome
from vm.kernels import Kernel
from vm.outcome import Outcome
from vm.table import page

PAGE = images.TOP / "docs/kernels.md"

LADDER = "tests/kernel/test_ladder.py"
TABLE = " ".join(
    f"tests/kernel/{name}.py"
    for name in ("test_rungs", "test_calm", "test_adopted", "test_connects")
)
"""What each rung sees, and what a scan passes over."""
INTERRUPTED = "tests/kernel/test_interrupted.py"
"""It takes two CPUs, and under emulation its time."""
COMMAND = """\
export CI=true HATRACE_RUNGS={rungs}
python3 -m vm.facts >/out/facts.json
python3 -m pytest -q --durations=20 -p no:cacheprovider -o junit_family=xunit1 \
  --junitxml=/out/junit.xml {tests}
code=$?
if dmesg | grep 'WARNING: .* kernel/bpf/'; then exit 1; fi
exit $code
"""
LOCKDOWN = "lockdown=confidentiality"


def run(kernels: Sequence[Kernel], write: bool, jobs: int) -> int:
    """Everything on all of them, ``jobs`` at a time; 0 if every test passed on each.

    The page has the latest outcome of every kernel, of this run or of an earlier one.
    """
    with _workers(jobs) as pool:
        everything = f"{LADDER} {TABLE} {INTERRUPTED}"
        boots = [pool.submit(_boot, kernel, kernel.rungs, everything, cpus=2) for kernel in kernels]
        boots += [pool.submit(_boot, kernel, "none", LADDER, LOCKDOWN) for kernel in kernels]
        outcomes = [boot.result() for boot in boots]
    text = page(list(outcome.kept("")), list(outcome.kept(LOCKDOWN)))
    print(text)
    if write:
        PAGE.write_text(text)
    return _code(outcomes)


def run_short(kernels: Sequence[Kernel], jobs: int) -> int:
    """That every rung works and sees what it should; the refusals are left to `run`."""
    tests = f"{LADDER}::test_what_works_here {TABLE}"
    with _workers(jobs) as pool:
        boots = [pool.submit(_boot, kernel, kernel.rungs, tests, keep=False) for kernel in kernels]
        return _code([boot.result() for boot in boots])


@contextmanager
def _workers(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for guests; an interrupt ends the guests, too."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            machine.end_all()
            raise


def _code(outcomes: Sequence[Outcome]) -> int:
    return 1 if any(each.code for each in outcomes) else 0


def _boot(
    kernel: Kernel, rungs: str, tests: str, append: str = "", keep: bool = True, cpus: int = 1
) -> Outcome:
    """``rungs``: what must work there; the tests hold it against what does."""
    images.say(f"kernel {kernel.name} {append}".rstrip())
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        command = COMMAND.format(rungs=rungs, tests=tests)
        order = machine.Order(
            kernel, command, out=out, append=append, limit_s=1800, capture=True, cpus=cpus
        )
        result = machine.run(order)
        found = outcome.of(kernel, result, out)
    images.say(
        f"{result.release}: {found.passed} passed, {len(found.failed)} failed, "
        f"{result.seconds:.0f} s, exit code {result.code}"
    )
    if keep and found.passed:  # else it died, or was interrupted
        outcome.keep(found, append)
    log = outcome.place(kernel, append, "log")
    log.write_text(f"{result.output}\n{result.console}")
    if result.code:
        print(result.output[-20_000:])
        print("".join(result.console.splitlines(keepends=True)[-20:]))
        images.say(f"all it said: {log}")
    return found
