"""Answers of the runtime API that are tables, by column name: HAProxy 2.2 to 3.4.

A column that a version does not have reads as None; a row that is cut short is left out.
Source: the management guide, 9.1 (CSV) and 9.3, and recorded answers in
tests/unit/haproxy/data.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from hatrace.model.address import packed
from hatrace.model.topology import Level

SERVER_ROW = "2"
"""Column ``type`` of `show stat`: 0 frontend, 1 backend, 2 server, 3 listener."""
INTERNAL_BACKENDS = frozenset(("MASTER",))

CHECK_CONFIGURED = 0x2
CHECK_ENABLED = 0x4
"""Bits of ``srv_check_state`` and ``srv_agent_state`` (`CHK_ST_*` of check-t.h)."""


def info(text: str) -> dict[str, str]:
    """`show info`: its names and values; a last line without an end is left out."""
    lines = (line.partition(": ") for line in text[: text.rfind("\n") + 1].splitlines())
    return {name: value for name, colon, value in lines if colon}


@dataclass(frozen=True, slots=True)
class ServerStat:
    """What `show stat` says of a server and `show servers state` does not."""

    mode: str | None
    backup: bool
    status: str | None
    check_status: str | None
    check_duration_ms: int | None
    check_fails: int | None
    current_sessions: int | None
    idle_connections: int | None


def stat(text: str) -> dict[str, ServerStat]:
    """`show stat`: servers by ``backend/server``."""
    table = csv.reader(io.StringIO(text.removeprefix("# ")), strict=False)
    found = {}
    with suppress(csv.Error):
        names = next(table, [])
        for cells in table:
            row = dict(zip(names, cells, strict=False))
            backend, name = row.get("pxname", ""), row.get("svname", "")
            if row.get("type") == SERVER_ROW and backend not in INTERNAL_BACKENDS:
                found[f"{backend}/{name}"] = _server_stat(row)
    return found


def _server_stat(row: dict[str, str]) -> ServerStat:
    return ServerStat(
        mode=row.get("mode") or None,
        backup=row.get("bck") == "1",
        status=row.get("status") or None,
        check_status=row.get("check_status", "").removeprefix("* ") or None,
        check_duration_ms=_number(row.get("check_duration")),
        check_fails=_number(row.get("chkfail")),
        current_sessions=_number(row.get("scur")),
        idle_connections=_number(row.get("srv_icur")),
    )


@dataclass(frozen=True, slots=True)
class ServerState:
    """A line of `show servers state` (since 2.4 with the check's own address and port).

    ``None``: inherited from the server, or (before 2.4) not said.  What it repeats of the
    check for an agent that is not configured is left out.
    """

    backend: str
    name: str
    address: bytes | None
    port: int
    checked: bool
    check_address: bytes | None
    check_port: int | None
    agent_checked: bool
    agent_address: bytes | None
    agent_port: int | None


def servers_state(text: str) -> tuple[ServerState, ...]:
    """`show servers state`, format 1: the line ``1``, the names, a line for each server."""
    names: list[str] = []
    found = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["#"]:
            names = words[1:]
        elif len(words) == len(names) > 1:
            row = dict(zip(names, words, strict=True))
            named = "be_name" in row and "srv_name" in row
            if named and row["be_name"] not in INTERNAL_BACKENDS:
                found.append(_server_state(row))
    return tuple(found)


def _server_state(row: dict[str, str]) -> ServerState:
    on = CHECK_CONFIGURED | CHECK_ENABLED
    agent = (_number(row.get("srv_agent_state")) or 0) & CHECK_CONFIGURED
    return ServerState(
        backend=row["be_name"],
        name=row["srv_name"],
        address=_address(row.get("srv_addr")),
        port=_number(row.get("srv_port")) or 0,
        checked=(_number(row.get("srv_check_state")) or 0) & on == on,
        check_address=_address(row.get("srv_check_addr")),
        check_port=_number(row.get("srv_check_port")) or None,
        agent_checked=bool(agent),
        agent_address=_address(row.get("srv_agent_addr")) if agent else None,
        agent_port=(_number(row.get("srv_agent_port")) or None) if agent else None,
    )


@dataclass(frozen=True, slots=True)
class ListedProcess:
    """A line of `show proc`; pids are those of the master's own pid namespace."""

    pid: int
    kind: str
    """``master``, ``worker`` or ``program``."""
    old: bool
    reloads: int | None
    """Of a worker: how many reloads ago it was started; of the master: reloads so far."""
    failed_reloads: int | None
    version: str | None


def processes(text: str) -> tuple[ListedProcess, ...]:
    """`show proc`.  2.2 has a column ``<relative PID>``, which is ``[was: 1]`` in old ones."""
    names: list[str] = []
    old = False
    found = []
    for line in text.splitlines():
        if line.startswith("#<PID>"):
            names = re.findall(r"<([^>]*)>", line)
        elif line.startswith("#"):
            old = line.startswith("# old")
        elif line.strip() and names:
            cells = re.split(r"\s{2,}|\t+", line.strip())
            row = dict(zip(names, cells, strict=False))
            if row.get("PID", "").isdecimal() and len(cells) >= len(names) - 1:
                found.append(_listed(row, old))
    return tuple(found)


def _listed(row: dict[str, str], old: bool) -> ListedProcess:
    reloads, _, failed = row.get("reloads", "").partition(" [failed: ")
    return ListedProcess(
        pid=int(row["PID"]),
        kind=row.get("type", ""),
        old=old,
        reloads=_number(reloads),
        failed_reloads=_number(failed.rstrip("]")),
        version=row.get("version") or None,
    )


@dataclass(frozen=True, slots=True)
class ListedSocket:
    """A line of `show cli sockets`; ``path`` with its family: ``unix@/run/haproxy.sock``."""

    path: str
    level: Level | None


def cli_sockets(text: str) -> tuple[ListedSocket, ...]:
    """`show cli sockets`: its own pairs with the master (``sockpair@``) are left out."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] != "#" and not words[0].startswith("sockpair@"):
            level = Level(words[1]) if words[1] in tuple(Level) else None
            found.append(ListedSocket(words[0], level))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ServerConnections:
    """A line of `show servers conn`; checks are not counted in it."""

    used: int | None
    idle: int | None


def servers_connections(text: str) -> dict[str, ServerConnections]:
    """`show servers conn` (2.2 on), by ``backend/server``."""
    names: list[str] = []
    found = {}
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["#"]:
            names = words[1:]
        elif len(words) > 5 and names:
            row = dict(zip(names, words, strict=False))
            label = words[0]
            if label.partition("/")[0] not in INTERNAL_BACKENDS:
                used, idle = _number(row.get("used_cur")), _number(row.get("idle_cur"))
                found[label] = ServerConnections(used, idle)
    return found


def drops(text: str) -> Iterator[tuple[str, int]]:
    """`show events`: events dropped by each sink, or `show trace`: by each source."""
    for match in re.finditer(r"^\s*(\S+)\s*:.*?(\d+) dropped", text, re.MULTILINE):
        yield match[1], int(match[2])
    for match in re.finditer(r"^ \[.\] (\S+).*\[drp (\d+)\]", text, re.MULTILINE):
        yield match[1], int(match[2])


def trace_state(text: str, source: str) -> str | None:
    """State of a trace source in `trace`: ``.`` stopped, ``w`` waiting, ``R`` running.

    None: this HAProxy has no such source.
    """
    match = re.search(rf"^ \[(.)\] {re.escape(source)} ", text, re.MULTILINE)
    return match[1] if match else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.lstrip("-").isdecimal() else None


def _address(text: str | None) -> bytes | None:
    """None where there is none, or an AF_UNIX path."""
    try:
        return packed(text) if text and text != "-" else None
    except ValueError:
        return None
