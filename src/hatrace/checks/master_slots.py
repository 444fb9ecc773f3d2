"""Is there a master's command-line socket, and how much of it is in use?

Evidence: the master's ``-S`` and, on a running one, the connections to it.  It serves 10 at
once, a number that is fixed in the source of every version, and has no timeout: a client that
does not close keeps its slot for ever, and with ten of them nobody reaches any worker through
the master.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from hatrace.checks._answer import finding, several
from hatrace.model.event import CommandSockets, UnixSocket
from hatrace.model.finding import Evidence, Finding, Severity, Step
from hatrace.model.setup import Setup, Unasked
from hatrace.model.topology import CommandSocket

SLUG = "master-slots"
SLOTS = 10
"""`mworker_cli_create_master_proxy`: 2.2 to 3.4."""
HALF, LAST = 5, 9
"""Slots in use from which it is a warning, and from which one more client is the last."""
LISTENING = 10


def findings(setup: Setup) -> Iterable[Finding | Unasked]:
    for socket in setup.master_sockets:
        if setup.seen is None:
            yield Unasked(SLUG, f"who is connected to {socket.path} could not be read")
            continue
        yield _finding(setup, socket, setup.seen)


def _finding(setup: Setup, socket: CommandSocket, seen: CommandSockets) -> Finding:
    found = next((one for one in seen.sockets if one.path == socket.path), socket)
    listener = next((unix for unix in seen.unix if unix.inode == found.inode), None)
    used = list(_accepted(listener, seen)) if listener is not None else []
    waiting = listener.queue if listener is not None else 0
    many = f"{several(len(used), 'slot')} of {SLOTS} in use"
    return finding(
        setup,
        SLUG,
        socket.path,
        _severity(len(used), waiting),
        f"{socket.path} serves {SLOTS} connections at once and has no timeout: {many} now"
        + (f", {several(waiting, 'client')} waiting" if waiting else ""),
        evidence=_holders(used, seen),
        count=len(used),
        cause="; ".join(_causes(setup)),
        next_steps=_steps(socket, bool(used)),
        verify=[Step("slots in use", f"ss -xH src {shlex.quote(socket.path + '*')}")],
    )


def _severity(used: int, waiting: int) -> Severity:
    if waiting or used >= LAST:
        return Severity.CRITICAL
    return Severity.WARNING if used >= HALF else Severity.NOTICE


def _accepted(listener: UnixSocket, seen: CommandSockets) -> Iterator[UnixSocket]:
    """Accepted ends bear the listener's name."""
    for unix in seen.unix:
        if unix.path == listener.path and unix.state != LISTENING:
            yield unix


def _holders(used: list[UnixSocket], seen: CommandSockets) -> Iterator[Evidence]:
    """A line for each client process, and for slots whose client is gone."""
    owner = {each.inode: each.pid for each in seen.holders}
    pids = Counter(owner.get(unix.peer_inode) if unix.peer_inode else 0 for unix in used)
    for pid, number in pids.items():
        if pid:
            note = several(number, "connection")
            yield Evidence(what="unix", pid=pid, comm=seen.names.get(pid, ""), note=note)
        else:
            gone = "the client has closed" if pid == 0 else "the client was not found"
            yield Evidence(what="unix", note=f"{several(number, 'connection')}: {gone}")


def _causes(setup: Setup) -> Iterator[str]:
    yield "the limit and the missing timeout are fixed in the source, no setting changes them"
    words = setup.process.command_line if setup.process is not None else ()
    given = [value for word, value in pairwise(words) if word == "-S" and ",maxconn," in value]
    if given:
        yield f"maxconn in `-S {given[0]}` changes the accept queue only, not the slots (measured)"


def _steps(socket: CommandSocket, used: bool) -> Iterator[Step]:
    yield Step("clients: one command a connection, closed after the answer, with a deadline")
    yield Step(
        "ask the worker's own `stats socket` where no reload is wanted: it has `stats timeout`"
        " and `stats maxconn`"
    )
    if used:
        yield Step("see how it goes on", "hatrace live")
        yield Step("free all slots at once: reload", f"kill -USR2 {socket.pid}")
