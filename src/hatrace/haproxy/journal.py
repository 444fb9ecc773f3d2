"""HAProxy's lines in systemd's journal: a child ``journalctl -f -o json``.

By who wrote them, not by unit: HAProxy also runs under other units' names.  Lines of priority
info that came over syslog are its traffic, and are left out where journald is, so that they cost
nothing here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
LONGEST_BYTES = 1 << 20
_SYSLOG = [f"PRIORITY={number}" for number in range(6)]
MATCHES = (
    *("_COMM=haproxy", "_TRANSPORT=syslog", *_SYSLOG),
    *("+", "SYSLOG_IDENTIFIER=haproxy", "_TRANSPORT=syslog", *_SYSLOG),
    *("+", "_COMM=haproxy", "_TRANSPORT=stdout"),
    *("+", "UNIT=haproxy.service"),
)
"""`+` is OR; the same field twice is OR, different fields are AND."""


def available() -> bool:
    return SOCKET.exists() and shutil.which("journalctl") is not None


class Journal:
    """New lines as pairs of pid and message; ``options`` go to journalctl before the matches."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        """Raises OSError if journalctl does not start."""
        words = ["journalctl", "-f", "-o", "json", "-n", "0", "--no-pager", *options, *MATCHES]
        self._child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._child.stdout is not None
        self._fd = self._child.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._rest = b""

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    def read(self) -> Iterator[tuple[int | None, str]]:
        """What came since the last call; never waits."""
        data = self._rest
        with suppress(BlockingIOError):
            while len(data) < LONGEST_BYTES and (part := os.read(self._fd, 65536)):
                data += part
        whole, _, self._rest = data.rpartition(b"\n")
        if len(self._rest) >= LONGEST_BYTES:
            self._rest = b""
        for line in whole.splitlines():
            said = entry(line)
            if said is not None:
                yield said

    def close(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


def entry(line: bytes) -> tuple[int | None, str] | None:
    """Pid and message of a journal entry; None for what is none.

    A message that is no text comes as a list of byte values; one that is very long as null.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    message = fields.get("MESSAGE")
    if isinstance(message, list):
        with suppress(ValueError, TypeError):
            message = bytes(message).decode(errors="replace")
    if not isinstance(message, str):
        return None
    pid = str(fields.get("SYSLOG_PID") or fields.get("_PID") or "").strip()
    return (int(pid) if pid.isdecimal() else None), message
