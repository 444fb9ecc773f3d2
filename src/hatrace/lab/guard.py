"""The guard: ends everything a lab started, even when hatrace itself was killed.

Every process of a lab inherits an environment variable with the lab's token.  The guard waits
for the end of its standard input (hatrace closed it, or died in whatever way), ends all
processes that carry the token, stopped ones and re-executed ones too, and removes the lab's
directory.  It runs as its own small program: ``python -m hatrace.lab.guard TOKEN DIRECTORY``.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "HATRACE_LAB"
GRACE_S = 2.0
"""From SIGTERM to SIGKILL."""


def members(token: str) -> list[int]:
    """The processes that carry a token, without this one; zombies have no environment."""
    wanted = f"{VARIABLE}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def end(token: str) -> None:
    """SIGTERM, then SIGKILL to all that carry the token, until none is left."""
    _signal(members(token), signal.SIGTERM, signal.SIGCONT)
    deadline = time.monotonic() + GRACE_S
    while members(token) and time.monotonic() < deadline:
        time.sleep(0.02)
    while left := members(token):
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)


def _signal(pids: list[int], *signals: signal.Signals) -> None:
    for pid in pids:
        for number in signals:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break


def main() -> None:
    """Wait for the end of standard input, then end the lab and remove its directory."""
    token, directory = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(BrokenPipeError):  # hatrace may be gone already
        os.write(1, b"ready\n")
    while os.read(0, 4096):
        pass
    end(token)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
