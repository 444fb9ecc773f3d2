"""Which kernels hatrace is run on: the one list that the script, the docs and CI read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """What QEMU makes for an architecture."""

    architecture: str
    """Debian's name."""
    uname: str
    qemu: tuple[str, ...]
    parameters: str
    """The kernel's: its console, and what QEMU needs."""
    serial: tuple[str, ...]
    """Two more serial ports: one to stdout, one to the file ``{status}``."""
    output: str
    """The first, as the guest calls it: for the command's output."""
    status: str
    """The second: for its exit code."""


AMD64 = Machine(
    "amd64",
    "x86_64",
    ("qemu-system-x86_64", "-machine", "pc", "-cpu", "max"),
    # 141 is cmpxchg16b: QEMU 7.2 gets it wrong where 6.12's allocator uses it, and guests die at
    # random.  HAProxy needs it, so the processor keeps it and the kernel alone is told not to.
    "console=ttyS0 clearcpuid=141 no_timer_check tsc=reliable",
    ("-serial", "stdio", "-serial", "file:{status}"),
    "ttyS1",
    "ttyS2",
)
ARM64 = Machine(
    "arm64",
    "aarch64",
    ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"),
    "console=ttyAMA0",
    (
        "-chardev",
        "stdio,id=output",
        "-device",
        "pci-serial,chardev=output",
        "-chardev",
        "file,id=status,path={status}",
        "-device",
        "pci-serial,chardev=status",
    ),
    "ttyS0",
    "ttyS1",
)


@dataclass(frozen=True, slots=True)
class Userland:
    """What lies around the kernel: a Debian suite with its own python3, bcc and iproute2."""

    name: str
    suite: str
    python: str
    """The version of its python3: wheels are fetched for that one."""
    haproxy: str
    """The series of its HAProxy."""
    haproxy_suite: str = ""
    """Where HAProxy comes from, if not from the suite itself."""
    machine: Machine = AMD64


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel series and the suite that carries it."""

    name: str
    suite: str
    userland: Userland
    rungs: str = "fentry,kprobe,cgroup"
    """Those which must work there, and no other."""

    @property
    def machine(self) -> Machine:
        return self.userland.machine


BOOKWORM = Userland("bookworm", "bookworm", "3.11", "2.6")
TRIXIE = Userland("trixie", "trixie", "3.13", "3.0")
SID = Userland("sid", "sid", "3.14", "3.2")
# bullseye's python is 3.9, and hatrace wants 3.11: its kernel and its HAProxy are run with
# bookworm's python and bcc, as a host does that upgraded the one and not the others.
OLD_HAPROXY = Userland("bookworm-with-2.2", "bookworm", "3.11", "2.2", haproxy_suite="bullseye")

TRIXIE_ARM64 = Userland("trixie-arm64", "trixie", "3.13", "3.0", machine=ARM64)

KERNELS = (
    Kernel("5.10", "bullseye", OLD_HAPROXY, rungs="fentry,cgroup"),
    Kernel("6.1", "bookworm", BOOKWORM),
    Kernel("6.12", "trixie", TRIXIE),
    Kernel("newest", "sid", SID),
    Kernel("6.12-arm64", "trixie", TRIXIE_ARM64),
)
"""Oldest first.  ``newest`` moves with Debian's sid: 7.2 in November 2026."""

SHORT = ("5.10", "6.1")
"""What CI boots: the oldest, and the one that most hosts have."""


def kernel(name: str) -> Kernel:
    """By its name; raises KeyError."""
    return {each.name: each for each in KERNELS}[name]


def userland(name: str) -> Userland:
    """By its name; raises KeyError."""
    return {each.userland.name: each.userland for each in KERNELS}[name]
