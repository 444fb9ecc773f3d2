"""Options, the run, the answer: see ``scripts/vm --help``."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hatrace.errors import HatraceError
from vm import cost, images, kernels, machine, matrix

ABOUT = f"""\
Boots a Debian kernel in QEMU (software emulation: slow, and needs no /dev/kvm) with this
checkout inside, and runs a command there as root.

  scripts/vm run --kernel 6.1 -- python3 -m pytest -m kernel
  scripts/vm matrix               the rungs' tests on every kernel; --write: docs/kernels.md
  scripts/vm matrix --short       without the refusals, on {" and ".join(kernels.SHORT)}: for CI
  scripts/vm cost                 BPF time of each rung beside tcplife's; --write: docs/overhead.md
  scripts/vm list                 what is kept below {images.CACHE}

Kernels and root images are made when they are missing or their inputs have changed; --again
asks Debian for newer ones.  Exit code: the command's; {machine.TIME_LIMIT} time limit, \
{machine.DIED} the guest died.
"""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/vm", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    names = [kernel.name for kernel in kernels.KERNELS]
    run = verbs.add_parser("run", help="one command under one kernel")
    run.add_argument("--kernel", choices=names, default="6.1")
    userlands = [kernel.userland.name for kernel in kernels.KERNELS]
    run.add_argument("--userland", choices=userlands, help="default: the kernel's own")
    run.add_argument("--out", type=Path, metavar="DIR", help="receives the guest's /out")
    run.add_argument("--time", type=float, default=600, metavar="SECONDS", help="limit; 600")
    run.add_argument("--memory", default="1G")
    run.add_argument("--cpus", type=int, default=1)
    run.add_argument("--append", default="", metavar="WORDS", help="more kernel parameters")
    run.add_argument("words", nargs="+", metavar="COMMAND", help="one word is a shell line")
    many = verbs.add_parser("matrix", help="the rungs' tests on every kernel")
    many.add_argument("--kernel", action="append", choices=names, help="default: all")
    many.add_argument("--short", action="store_true", help="for CI")
    many.add_argument("--jobs", type=int, default=1, metavar="N", help="guests at once; 1")
    many.add_argument("--write", action="store_true", help="write the table to docs/kernels.md")
    spent = verbs.add_parser("cost", help="BPF time of each rung beside tcplife's")
    spent.add_argument("--kernel", action="append", choices=names, help="default: all of amd64")
    spent.add_argument("--write", action="store_true", help="write the table to docs/overhead.md")
    for each in (run, many, spent):
        each.add_argument("--again", action="store_true", help="make images and kernels anew")
    verbs.add_parser("list", help="what is kept")
    return parser.parse_args(arguments)


def ready(kernel: kernels.Kernel, userland: kernels.Userland, again: bool) -> None:
    """Make what is missing, or all of it anew."""
    images.kernel_folder(kernel, again)
    images.root_image(userland, again)


def run(chosen: argparse.Namespace) -> int:
    kernel = kernels.kernel(chosen.kernel)
    userland = kernels.userland(chosen.userland) if chosen.userland else kernel.userland
    ready(kernel, userland, chosen.again)
    words = chosen.words
    result = machine.run(
        machine.Order(
            kernel,
            words[0] if len(words) == 1 else shlex.join(words),
            userland,
            out=chosen.out,
            limit_s=chosen.time,
            memory=chosen.memory,
            cpus=chosen.cpus,
            append=chosen.append,
        )
    )
    images.say(f"{result.release}: {result.seconds:.0f} s, exit code {result.code}")
    if result.code in (machine.TIME_LIMIT, machine.DIED):
        print("".join(result.console.splitlines(keepends=True)[-40:]), file=sys.stderr)
    return result.code


def run_many(chosen: argparse.Namespace) -> int:
    """The verbs that take several kernels."""
    short = chosen.verb == "matrix" and chosen.short
    wanted = chosen.kernel or (kernels.SHORT if short else ())
    some = [kernel for kernel in kernels.KERNELS if kernel.name in wanted or not wanted]
    if chosen.verb == "cost":
        some = [kernel for kernel in some if kernel.machine == kernels.AMD64]
    images.demand_tools([kernel.machine for kernel in some])
    for kernel in some:
        ready(kernel, kernel.userland, chosen.again)
    if chosen.verb == "cost":
        return cost.run(some, chosen.write)
    if short:
        return matrix.run_short(some, chosen.jobs)
    return matrix.run(some, chosen.write, chosen.jobs)


def show() -> int:
    for release in sorted(images.CACHE.glob("kernel/*/release")):
        print(f"kernel  {release.parent.name:20} {release.read_text()}")
    for image in sorted(images.CACHE.glob("root/*.ext4")):
        print(f"root    {image.stem:20} {image.stat().st_blocks >> 11} MB")
    return 0


def main(arguments: Sequence[str]) -> int:
    chosen = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the guest, too
    try:
        if chosen.verb == "list":
            return show()
        if chosen.verb == "run":
            images.demand_tools([kernels.kernel(chosen.kernel).machine])
            return run(chosen)
        return run_many(chosen)
    except HatraceError as error:
        print(f"hatrace vm: {error}", f"  do: {error.do}", sep="\n", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
