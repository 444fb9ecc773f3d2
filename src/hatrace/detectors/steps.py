"""Steps: commands that can be pasted into a root shell of the host, with real values in them.

What came from the network, a process name or a configuration is quoted; a command is left
out (empty) where the world does not know what it would need.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from hatrace.model.address import endpoint
from hatrace.model.flow import Flow, State
from hatrace.model.topology import CommandSocket, Kind, Level, Process
from hatrace.model.world import World

SAMPLE = 5
"""Descriptors or inodes named in one command: enough to see, short enough to read."""


def ask(world: World, pid: int, command: str, level: Level = Level.OPERATOR) -> str:
    """One runtime API command to worker ``pid``, by its own socket or else its master's."""
    own = [one for one in _sockets(world) if one.pid == pid and not one.master]
    allowed = [one for one in own if one.level is None or _rank(one.level) >= _rank(level)]
    if allowed:
        return say(world, allowed[0], command)
    process = world.processes.get(pid)
    masters = [one for one in _sockets(world) if one.master and process is not None]
    for master in masters:
        if process is not None and master.pid == process.parent_pid:
            return say(world, master, f"@!{process.container_pid or pid} {command}")
    return ""


def ask_each(
    world: World, pid: int, command: str, subjects: Sequence[str], level: Level = Level.OPERATOR
) -> str:
    """The command for each of several, in words that a screen may break:
    ``for one in be/s1 be/s2; do echo "disable health $one" | socat ...; done``."""
    if len(subjects) <= 1:
        return ask(world, pid, " ".join([command, *subjects]), level) if subjects else ""
    asked = ask(world, pid, f"{command} $one", level).replace("'", '"', 2)
    each = " ".join(shlex.quote(one) for one in subjects)
    return f"for one in {each}; do {asked}; done" if asked else ""


def say(world: World, one: CommandSocket, command: str) -> str:
    """``echo 'show info' | socat -t 5 - UNIX-CONNECT:/run/haproxy.sock``."""
    return f"echo {shlex.quote(command)} | socat -t 5 - {_address(world, one)}"


def _address(world: World, one: CommandSocket) -> str:
    """socat's address of a command-line socket (socat(1)); abstract names begin with ``@``."""
    if one.path.startswith("@"):
        return shlex.quote(f"ABSTRACT-CONNECT:{one.path[1:]}")
    process = world.processes.get(one.pid)
    root = process.root.rstrip("/") if process is not None else ""
    return shlex.quote(f"UNIX-CONNECT:{root}{one.path}")


def _sockets(world: World) -> Sequence[CommandSocket]:
    """The AF_UNIX ones, the most powerful first."""
    known = world.command_sockets.sockets if world.command_sockets is not None else ()
    local = [one for one in known if one.path.startswith(("/", "@"))]
    return sorted(local, key=lambda one: (-_rank(one.level), one.path, one.pid))


def _rank(level: Level | None) -> int:
    return {Level.USER: 1, Level.OPERATOR: 2, Level.ADMIN: 3, None: 0}[level]


def inside(process: Process | None, command: str) -> str:
    """The command in the network namespace of a process that has another; else as it is."""
    if process is None or not (process.other_network or _contained(process)):
        return command
    return f"nsenter -t {process.pid} -n {command}"


def _contained(process: Process) -> bool:
    return process.container_pid not in (None, process.pid)


def reload(world: World, pid: int) -> str:
    """Check the configuration with the running binary, then have the master reload.

    ``pid``: the master itself or one of its workers; without a master, systemd's word.
    """
    process = world.processes.get(pid)
    master = process
    if process is not None and process.kind is not Kind.MASTER:
        master = world.processes.get(process.parent_pid)
    if master is None or master.kind is not Kind.MASTER:
        return "systemctl reload haproxy"
    files = " ".join(f"-f {shlex.quote(path)}" for path in master.config_files)
    if not files or _contained(master):
        return f"kill -USR2 {master.pid}"
    return f"/proc/{master.pid}/exe -c -q {files} && kill -USR2 {master.pid}"


def sockets_to(process: Process | None, address: bytes, port: int) -> str:
    """``ss`` for all sockets towards one address and port."""
    return inside(process, f"ss -tanpeo dst {shlex.quote(endpoint(address, port))}")


def sockets_at(process: Process | None, port: int, state: State | None = None) -> str:
    """``ss`` for all sockets of one local port, in one state or any."""
    chosen = f" state {state.name.lower().replace('_', '-')}" if state is not None else ""
    return inside(process, f"ss -tanpeo{chosen} sport = :{port}")


def sockets_listening(process: Process | None, port: int) -> str:
    """``ss`` for the listeners of a port: Recv-Q is what waits, Send-Q the backlog."""
    return inside(process, f"ss -tlnpe sport = :{port}")


def rows_of(pid: int, flows: Iterable[Flow]) -> str:
    """Look for sockets in the kernel's tables by inode; a ghost has no row there."""
    inodes = "|".join(str(flow.inode) for flow in list(flows)[:SAMPLE] if flow.inode)
    if not inodes:
        return ""
    return f"grep -wE '{inodes}' /proc/{pid}/net/tcp /proc/{pid}/net/tcp6 || echo 'no row: ghosts'"


def files_of(pid: int, inodes: Iterable[int]) -> str:
    """Which fds of a process are these sockets."""
    chosen = "|".join(str(inode) for inode in list(inodes)[:SAMPLE] if inode)
    return f"ls -l /proc/{pid}/fd | grep -E 'socket:.({chosen})'" if chosen else ""


def held_count(pid: int) -> str:
    """How many sockets a process holds."""
    return f"ls -l /proc/{pid}/fd | grep -c socket:"


def alloc_minus_inuse() -> str:
    """Sockets the kernel has and no table lists: ghosts, on the whole host."""
    return (
        "awk '/^TCP:/{print $9-$3, \"TCP sockets allocated but in no table\"}' /proc/net/sockstat"
    )
