"""Faults below a real HAProxy: which closes are withheld, and the object that does it.

Used where today's HAProxy no longer has a bug.  The binary, its sockets, its traffic and the
kernel stay real; only the system calls named in the rules do nothing (shim.c).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hatrace.errors import EnvironmentLacks
from hatrace.model.flow import State

SOURCE = Path(__file__).with_name("shim.c")


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule of shim.c."""

    kind: str
    """``connected``, ``accepted`` or ``deaf``."""
    where: str
    """The port; of ``deaf`` the UNIX socket's path."""
    state: State | None = None
    """Only sockets in this state when they are closed; None: all."""
    every: int = 1
    """Only one in so many."""

    def __str__(self) -> str:
        return f"{self.kind} {self.where} {int(self.state or 0)} {self.every}"


def connected(port: int, state: State | None = None, every: int = 1) -> Fault:
    """HAProxy's close of sockets that it connected to a port is withheld."""
    return Fault("connected", str(port), state, every)


def accepted(port: int, state: State | None = None, every: int = 1) -> Fault:
    """HAProxy's close of sockets that it accepted on a port is withheld."""
    return Fault("accepted", str(port), state, every)


def deaf(path: Path) -> Fault:
    """HAProxy does not notice that clients of a UNIX socket have left."""
    return Fault("deaf", str(path))


def environment(faults: Iterable[Fault], directory: Path, from_s: int = 0) -> dict[str, str]:
    """What HAProxy's environment needs for these faults; compiles the shim into ``directory``.

    ``from_s``: CLOCK_MONOTONIC seconds before which nothing is withheld.
    """
    return {
        "LD_PRELOAD": str(compiled(directory)),
        "HATRACE_LAB_FAULTS": ";".join(map(str, faults)),
        "HATRACE_LAB_FROM": str(from_s),
    }


def compiled(directory: Path) -> Path:
    """The shared object; raises EnvironmentLacks without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise EnvironmentLacks(
            "this scenario needs a C compiler",
            "the fault is injected below HAProxy by a small shared object",
            "apt-get install gcc libc6-dev",
        )
    target = directory / "shim.so"
    words = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(target), str(SOURCE)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["no word"])[0]
        raise EnvironmentLacks("the lab's shim does not compile", complaint,
                               "apt-get install gcc libc6-dev")  # fmt: skip
    return target
