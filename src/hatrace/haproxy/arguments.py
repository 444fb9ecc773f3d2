"""HAProxy's command line: configuration files, the master's socket, which pids it replaces.

Source: the management guide, section 3, and `init()` of src/haproxy.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WITH_VALUE = frozenset("CfLmnNpSx")
_PID_LISTS = ("-sf", "-st")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What matters here of a command line."""

    config: tuple[str, ...] = ()
    """Files and folders as given."""
    folder: str | None = None
    """``-C``: where relative paths begin."""
    master: bool = False
    """``-W``, ``-Ws`` or ``-S``."""
    master_sockets: tuple[str, ...] = ()
    """``-S``: ``path[,bind options]``."""
    local_peer: str | None = None
    """``-L``."""
    replaces: tuple[int, ...] = ()
    """``-sf`` and ``-st``: pids as that process sees them."""
    switches: tuple[str, ...] = ()
    """The others, ``-dZ`` ..."""


def parse(words: Sequence[str]) -> Arguments:
    """Tolerant: unknown switches are kept as they are."""
    config: list[str] = []
    sockets: list[str] = []
    replaces: list[int] = []
    switches: list[str] = []
    folder: str | None = None
    local_peer: str | None = None
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        if word == "--":
            config += rest
            break
        if word in _PID_LISTS:
            while rest and rest[0].isdecimal():
                replaces.append(int(rest.pop(0)))
        elif len(word) == 2 and word[0] == "-" and word[1] in _WITH_VALUE:
            value = rest.pop(0) if rest else ""
            if word == "-f":
                config.append(value)
            elif word == "-S":
                sockets.append(value)
            elif word == "-C":
                folder = value
            elif word == "-L":
                local_peer = value
        else:
            switches.append(word)
    master = bool(sockets) or "-W" in switches or "-Ws" in switches
    return Arguments(
        tuple(config),
        folder,
        master,
        tuple(sockets),
        local_peer,
        tuple(replaces),
        tuple(switches),
    )
