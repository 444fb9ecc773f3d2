"""What is so on this kernel, as JSON: versions, the ladder's answers, capabilities.

Runs inside the guest, as root: ``python3 -m vm.facts``.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import struct
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from hatrace.errors import EnvironmentLacks
from hatrace.kernel import maps, preflight
from hatrace.kernel.rungs import LADDER, Rung

CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
ADMIN = "CAP_SYS_ADMIN"
OTHERS = [name for name in CAPABILITIES if name != ADMIN]

_CAPSET = {"x86_64": 126, "aarch64": 91}
_VERSION_3 = 0x20080522


def become(capabilities: frozenset[str]) -> None:
    """Give up every capability but these, for good, and root's uid with them.

    Those that this process lacks, it cannot keep: they are not among the rest either.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    held = _permitted()
    mask = sum(1 << CAPABILITIES[name] for name in capabilities) & held
    low, high = mask & 0xFFFFFFFF, mask >> 32
    head = struct.pack("<Ii", _VERSION_3, 0)
    data = struct.pack("<6I", low, low, 0, high, high, 0)
    if libc.syscall(_CAPSET[platform.machine()], head, data):
        raise OSError(ctypes.get_errno(), "capset")


def _permitted() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapPrm:"))


def works_with(rung: Rung, capabilities: frozenset[str]) -> bool:
    """Whether the rung can be attached by a process with just these, asked in a child."""
    pid = os.fork()
    if pid == 0:
        try:
            become(capabilities)
            why = preflight.refusal(rung)
            if not why:
                maps.create(maps.Sizes())
            os._exit(bool(why))
        except EnvironmentLacks:
            os._exit(1)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def needs(rung: Rung) -> list[str]:
    """The capabilities without which, one at a time, the rung is refused; empty: it never works.

    CAP_SYS_ADMIN stands in for several, so it counts only where the others do not do.  What is
    found is tried: with just these it must work, or ``more`` is appended.
    """
    every = frozenset(CAPABILITIES)
    if not works_with(rung, every - {ADMIN}):
        if not works_with(rung, every):
            return []
        found = [ADMIN, *(name for name in OTHERS if not works_with(rung, every - {name}))]
    else:
        found = [name for name in OTHERS if not works_with(rung, every - {ADMIN, name})]
    return found if works_with(rung, frozenset(found)) else [*found, "more"]


def haproxy() -> str:
    try:
        said = subprocess.run(["/usr/sbin/haproxy", "-v"], capture_output=True, text=True).stdout
    except OSError:
        return "none"
    found = re.search(r"version (\S+)", said)
    return found[1] if found else "unknown"


def bcc() -> str:
    """The package's version: bcc itself says "EAD-NOTFOUND" in Debian's builds."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "python3-bpfcc"], capture_output=True, text=True
    )
    if done.returncode == 0:
        return done.stdout
    try:
        return version("bcc")
    except PackageNotFoundError:
        return "none"


def main() -> None:
    facts = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "bcc": bcc(),
        "haproxy": haproxy(),
        "lockdown": preflight.lockdown(),
        "ladder": {rung.name: preflight.ask(rung).why for rung in LADDER},
        "capabilities": {rung.name: needs(rung) for rung in LADDER},
        "admin alone": [rung.name for rung in LADDER if works_with(rung, frozenset({ADMIN}))],
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
