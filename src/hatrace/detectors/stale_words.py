"""The wording of stale-bind: who still listens where, why, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import caveat
from hatrace.detectors.reloads import current_workers
from hatrace.detectors.stale_listeners import Cause, Stale
from hatrace.model.finding import Evidence, Step
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World


def claim(holder: Process, cause: Cause, found: Sequence[Stale]) -> str:
    wanted = [one for one in found if one.wanted]
    deleted = [one for one in found if not one.wanted]
    kind = {Cause.OLD: "old worker", Cause.MASTER: "master"}.get(cause, "older process")
    state = " (stopped)" if holder.stopped else ""
    waiting = sum(one.listener.unread_bytes for one in found)
    listens = f"{kind} pid {holder.pid}{state} still listens on "
    places = [
        f"{_places(wanted)} beside the current process, and takes connections away from it"
        if wanted
        else "",
        f"{_places(deleted)}, not in today's configuration" if deleted else "",
    ]
    return words.sentence(
        [
            listens + words.sentence(places, "; and on "),
            f"{words.several(waiting, 'connection waits', 'connections wait')} there unserved"
            if waiting
            else "",
        ]
    )


def _places(found: Sequence[Stale]) -> str:
    spare = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(_where(one) for one in found[:5]) + spare


def _where(one: Stale) -> str:
    return one.listener.local


def cause(holder: Process, found: Sequence[Stale]) -> str:
    parts = [found[0].cause.value]
    if holder.stopped:
        parts.append("it is stopped by a signal or a debugger, so it never heard of the reload")
    if any(one.inherited for one in found):
        parts.append("the current worker holds the same socket: it was handed over by -x")
    elif any(one.wanted for one in found):
        parts.append("it is a socket of its own on the same port (SO_REUSEPORT)")
    return "; ".join(parts)


def ruled_out(found: Sequence[Stale]) -> Iterable[str]:
    yield "an ephemeral source port that looks like a bind: the sockets are in LISTEN"
    if not any(one.inherited for one in found):
        yield "a listener inherited through -x: no current worker holds the same socket"


def evidence(world: World, found: Sequence[Stale]) -> Iterable[Evidence]:
    for one in found:
        held = [
            holder.fd
            for holder in world.holders(one.listener.inode)
            if holder.pid == one.holder.pid
        ]
        yield Evidence(
            what="listener",
            pid=one.holder.pid,
            comm=one.holder.comm,
            fd=min(held, default=None),
            inode=one.listener.inode or None,
            local=one.listener.local,
            state="LISTEN",
            condition=f"{one.listener.unread_bytes} waiting of {one.listener.unsent_bytes}",
            preexisting=one.listener.preexisting,
            note=words.sentence(
                [
                    one.cause.value,
                    "in today's configuration" if one.wanted else "not in today's configuration",
                ]
            ),
        )


def next_steps(world: World, holder: Process, found: Sequence[Stale]) -> Iterable[Step]:
    yield Step("see all who listen there", steps.sockets_listening(holder, found[0].listener.lport))
    if holder.kind is Kind.MASTER:
        yield Step("a reload that works lets go of it", steps.reload(world, holder.pid))
        return
    if holder.stopped:
        yield Step("let it run: it hears of the reload, and closes", f"kill -CONT {holder.pid}")
    yield Step(
        "tell it to stop: it closes its listeners, and serves its sessions out",
        f"kill -USR1 {holder.pid}",
    )
    yield Step("or end it with its sessions", f"kill -TERM {holder.pid}")


def caveats(world: World, found: Sequence[Stale]) -> str:
    known = any(worker.pid in world.configured for worker in current_workers(world))
    host, parts = world.host, []
    if not known:
        parts.append("today's configuration could not be read: its binds are not known")
    if host is not None and host.port_low is not None and host.port_high is not None:
        inside = [
            str(one.listener.lport)
            for one in found
            if host.port_low <= one.listener.lport <= host.port_high
        ]
        if inside:
            parts.append(
                f"port {', '.join(inside[:5])} lies in the ephemeral range"
                f" {host.port_low}-{host.port_high}: a connection's source port may block it too"
            )
    return caveat(world, *parts)
