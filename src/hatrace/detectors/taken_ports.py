"""stale-bind, its third cause: a connection has, as its source port, one that a bind wants.

The kernel chooses source ports from net.ipv4.ip_local_port_range.  Where a frontend's port lies
in it, an outgoing connection may get it first; bind() then says "Address already in use", as if
somebody listened, and the reload fails.

Evidence: binds that the configuration files name now and nobody listens on, which the kernel
refuses; every socket with that local port, and who holds it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.memory import Memory
from hatrace.detectors.quotes import quotes
from hatrace.detectors.reloads import master_of
from hatrace.model.address import endpoint
from hatrace.model.finding import Confidence, Evidence, Finding, Severity, Step
from hatrace.model.flow import State
from hatrace.model.topology import Process, TakenPort
from hatrace.model.world import World

NAMED = 3
"""So many connections are given a command each."""
FIRST_NS = 2_000_000_000
"""What is found so early was there before hatrace."""
RANGE = "net.ipv4.ip_local_port_range"
RESERVED = "net.ipv4.ip_local_reserved_ports"


def findings(world: World, memory: Memory, slug: str, began_ns: int) -> Iterable[Finding]:
    """One for each bind that cannot be made; ``began_ns``: the first look."""
    groups: dict[tuple[int, bytes, int], list[TakenPort]] = {}
    for one in world.taken_ports:
        if one.wanted_by in world.processes:
            key = one.wanted_by, one.bind.address, one.bind.port
            groups.setdefault(key, []).append(one)
    for key in sorted(groups):
        found = _finding(world, memory, slug, world.processes[key[0]], groups[key])
        early = found.since_ns - began_ns <= FIRST_NS
        yield replace(found, preexisting=found.count) if early else found


def _finding(
    world: World, memory: Memory, slug: str, worker: Process, taken: Sequence[TakenPort]
) -> Finding:
    where = _where(taken[0])
    subject = memory.subject(f"{where} taken", worker.pid)
    failed = _failed(world, worker)
    return Finding(
        slug=slug,
        subject=subject,
        severity=Severity.WARNING if failed else Severity.NOTICE,
        confidence=Confidence.CERTAIN,
        claim=_claim(worker, taken, failed),
        at_ns=world.now_ns,
        since_ns=memory.since(subject, world.now_ns),
        count=len(taken),
        evidence=(*(_evidence(one) for one in taken), *quotes(world, [where])),
        cause="an ephemeral source port that looks like a bind: the kernel gave it to an outgoing"
        " connection before HAProxy could bind it",
        ruled_out=(
            "an old process still bound: nobody listens on the port",
            "a listener inherited through -x: there is no listener to inherit",
        ),
        next_steps=tuple(_next_steps(world, worker, taken)),
        verify=(
            Step("the worker listens there", steps.sockets_listening(worker, taken[0].bind.port)),
        ),
        caveat=caveat(world, _outside(world, taken[0])),
    )


def _failed(world: World, worker: Process) -> int:
    master = master_of(world, worker)
    return (master.failed_reloads or 0) if master is not None else 0


def _where(one: TakenPort) -> str:
    return endpoint(one.bind.address, one.bind.port)


def _claim(worker: Process, taken: Sequence[TakenPort], failed: int) -> str:
    first = taken[0]
    last = "the last reload has failed" if failed == 1 else f"the last {failed} reloads have failed"
    return words.sentence(
        [
            f"frontend {first.bind.frontend} cannot bind {_where(first)}: that is the source port"
            f" of {_connection(first)}"
            + (f" and of {words.number(len(taken) - 1)} more" if len(taken) > 1 else ""),
            last if failed else "a reload fails as long as it is there",
            f"pid {worker.pid} goes on with its old configuration",
        ]
    )


def _connection(one: TakenPort) -> str:
    remote = endpoint(one.remote, one.remote_port)
    if one.state == State.TIME_WAIT:
        return f"a connection to {remote} in TIME_WAIT, which ends within a minute"
    whose = f"pid {one.pid} ({one.comm})" if one.pid else "no process"
    return f"a connection of {whose} to {remote}"


def _evidence(one: TakenPort) -> Evidence:
    return Evidence(
        what="tcp",
        pid=one.pid or None,
        comm=one.comm,
        fd=one.fd,
        inode=one.inode or None,
        local=endpoint(one.local, one.bind.port),
        remote=endpoint(one.remote, one.remote_port),
        state=State(one.state).name,
        note=f"its local port is wanted by frontend {one.bind.frontend}",
    )


def _next_steps(world: World, worker: Process, taken: Sequence[TakenPort]) -> Iterable[Step]:
    port = taken[0].bind.port
    yield Step("see it", steps.sockets_at(worker, port))
    for one in [one for one in taken if one.state != State.TIME_WAIT][:NAMED]:
        ends = f"src {_end(one.local, port)} dst {_end(one.remote, one.remote_port)}"
        yield Step(
            "end that connection, with its session (needs CONFIG_INET_DIAG_DESTROY)",
            steps.inside(worker, f"ss -tK {ends}"),
        )
    now = steps.inside(worker, f"sysctl -n {RESERVED}")
    more = steps.inside(worker, f"sysctl -w {RESERVED}=${{R:+$R,}}{port}")
    yield Step(
        "give it to no connection any more (write it to /etc/sysctl.d as well)",
        f"R=$({now}) && {more}",
    )
    yield Step("then reload", steps.reload(world, worker.pid))
    yield Step("or bind a port outside the range", steps.inside(worker, f"sysctl {RANGE}"))


def _end(address: bytes, port: int) -> str:
    """As `ss` takes it; nothing else at this port is meant: sessions that were accepted there."""
    return shlex.quote(endpoint(address, port))


def _outside(world: World, one: TakenPort) -> str:
    """A source port outside the range was asked for, or the range was another then."""
    host = world.host
    if host is None or host.port_low is None or host.port_high is None:
        return ""
    if host.port_low <= one.bind.port <= host.port_high:
        return ""
    return (
        f"the port lies outside {host.port_low}-{host.port_high}: its owner asked for it"
        " (`source`), or the range was another"
    )
