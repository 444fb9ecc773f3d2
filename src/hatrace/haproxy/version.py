"""Which version of HAProxy a process runs, and how versions compare.

A binary is only asked (``-v``) if it is this host's own: root's, in our mount namespace, and
not writable for others; it runs as nobody, with no environment, and not longer than a second.
Everything else says its version over the runtime API.  Only a program that the user names for
`check` is asked whatever it is, and as the user.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from contextlib import suppress
from functools import total_ordering

DEADLINE_S, COMMAND_DEADLINE_S = 1.0, 30.0
NOBODY = 65534
_BANNER = re.compile(rb"HA-?Proxy version (\S+)")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+)|-dev(\d+))?(?:-[0-9a-f]{6,40}-(\d+))?")


class Versions:
    """Asks each binary once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], str | None] = {}

    def of(self, pid: int, trusted: bool) -> str | None:
        """``2.6.12-1+deb12u4``; None if it cannot, or must not, be asked.

        ``trusted``: the process lives in our mount namespace.
        """
        with suppress(OSError):
            fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(fd)
                key = found.st_dev, found.st_ino, found.st_mtime_ns
                if key not in self._known:
                    self._known[key] = _ask(fd) if trusted and is_hosts_own(found) else None
                return self._known[key]
            finally:
                os.close(fd)
        return None


def of_command(name: str) -> str | None:
    """What a program of the user's choice says, which may be a wrapper; None: nothing of HAProxy.

    It runs as ourselves, as it does when it is asked about files.
    """
    try:
        answer = subprocess.run(
            [name, "-v"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_DEADLINE_S,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return _told(answer.stdout)


def is_hosts_own(found: os.stat_result) -> bool:
    """Root's, and not writable for others."""
    others_may_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == 0 and not others_may_write


def _ask(fd: int) -> str | None:
    """What ``-v`` prints, as nobody if we are root.

    The file is executed by its open fd: nobody could not follow /proc/PID/exe of another user.
    """
    nobody = NOBODY if os.geteuid() == 0 else None
    try:
        answer = subprocess.run(
            ["haproxy", "-v"],
            executable=f"/proc/self/fd/{fd}",
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=DEADLINE_S,
            cwd="/",
            env={},
            user=nobody,
            group=nobody,
            extra_groups=None if nobody is None else (),
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return _told(answer.stdout)


def _told(output: bytes) -> str | None:
    match = _BANNER.search(output[:4096])
    return match[1].decode(errors="replace")[:64] if match else None


@total_ordering
class Version:
    """A version that compares as HAProxy counts: ``3.1-dev9`` < ``3.1.0`` < ``3.1.7``.

    A build from git says how many commits it is past a tag: ``2.9.0`` < ``2.9.0-60c949-12``.
    """

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is no version; package suffixes are ignored."""
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"no version of HAProxy: {text!r}")
        self.branch = int(match[1]), int(match[2])
        self.text = match[0].removeprefix("v")
        dev, past = match[4], int(match[5] or 0)
        release = (-1, int(dev)) if dev else (int(match[3] or 0), 0)
        self._key = (*self.branch, *release, past)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Version({self.text!r})"
