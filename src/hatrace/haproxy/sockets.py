"""The command-line sockets of HAProxy's processes: what is configured, seen in the kernel.

The kernel knows a socket as ``<path>.<pid>.tmp``: HAProxy binds a temporary name and renames
the file (2.2 to 3.4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from hatrace.haproxy import arguments, procfs
from hatrace.haproxy.config import Configuration
from hatrace.haproxy.config_words import address
from hatrace.model.topology import CommandSocket, Kind, Level, Process

MASTER_LIMIT = 10
"""Connections a master's socket serves: fixed in `mworker_cli_create_master_proxy`."""
LOW_FDS = 1024
"""Listeners are opened, or handed over, at the start: their fds are low."""
_TEMPORARY = re.compile(r"\.\d+\.tmp$")


def of_process(process: Process, configuration: Configuration | None) -> tuple[CommandSocket, ...]:
    """A master's ``-S``, or a worker's `stats socket` lines.

    A path that the process does not hold as a listener is another's (a worker's after a
    reload) and left out; where its fds cannot be read, it is kept with an unknown inode.
    """
    if process.kind is Kind.MASTER:
        wanted = _of_master(process)
    elif process.kind is Kind.OLD_WORKER:
        return ()
    else:
        wanted = _of_worker(process, configuration)
    held = _listeners(process.pid)
    return tuple(found for each in wanted if (found := _seen(each, held)) is not None)


def _of_master(process: Process) -> Iterable[CommandSocket]:
    for value in arguments.parse(process.command_line).master_sockets:
        path, *options = value.split(",")
        level = dict(pairwise(options)).get("level", "")
        known = Level(level) if level in tuple(Level) else Level.ADMIN
        yield CommandSocket(path, True, process.pid, None, MASTER_LIMIT, known)


def _of_worker(process: Process, configuration: Configuration | None) -> Iterable[CommandSocket]:
    """By its configuration; where that is unreadable, by its environment (after a re-exec)."""
    if configuration is not None:
        for each in configuration.sockets:
            yield CommandSocket(each.path, False, process.pid, None, each.limit, each.level)
        return
    for path in procfs.environment(process.pid).get("HAPROXY_CLI", "").split(";"):
        if path and not path.startswith("sockpair@"):
            yield CommandSocket(path, False, process.pid)


def _listeners(pid: int) -> dict[str, int] | None:
    """Inodes by configured path of the AF_UNIX listeners it holds; None: not readable."""
    held = procfs.socket_inodes(pid, LOW_FDS)
    if held is None:
        return None
    paths = procfs.unix_listeners(pid)
    found = {_TEMPORARY.sub("", paths[inode]): inode for inode in held if inode in paths}
    return {path.rstrip("@") if path[0] == "@" else path: at for path, at in found.items()}


def _seen(socket: CommandSocket, held: Mapping[str, int] | None) -> CommandSocket | None:
    """With the full path (`unix-bind prefix` may stand before it) and inode of its listener."""
    where = address(socket.path)
    if where is None:
        return None
    if where.path is None or held is None:
        return socket
    for path, inode in held.items():
        if path.endswith(where.path):
            written = f"abns{path}" if path[0] == "@" else path
            return CommandSocket(
                written, socket.master, socket.pid, inode, socket.limit, socket.level
            )
    return None
