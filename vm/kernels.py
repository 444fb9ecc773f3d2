"""Which kernels hatrace is run on: the one list that the script, the docs and CI read."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel series and the suite that carries it."""

    name: str
    suite: str
    userland: Userland


BOOKWORM = Userland("bookworm", "bookworm", "3.11", "2.6")
TRIXIE = Userland("trixie", "trixie", "3.13", "3.0")
SID = Userland("sid", "sid", "3.14", "3.2")
# bullseye's python is 3.9, and hatrace wants 3.11: its kernel and its HAProxy are run with
# bookworm's python and bcc, as a host does that upgraded the one and not the others.
OLD_HAPROXY = Userland("bookworm-with-2.2", "bookworm", "3.11", "2.2", haproxy_suite="bullseye")

KERNELS = (
    Kernel("5.10", "bullseye", OLD_HAPROXY),
    Kernel("6.1", "bookworm", BOOKWORM),
    Kernel("6.12", "trixie", TRIXIE),
    Kernel("newest", "sid", SID),
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
