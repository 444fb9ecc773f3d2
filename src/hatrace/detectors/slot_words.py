"""The wording of a master-socket finding: who holds the slots, why, what to do."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import caveat, unreadable
from hatrace.detectors.slots import Service, Slot
from hatrace.model.finding import Step
from hatrace.model.topology import Kind, Process
from hatrace.model.world import World

COMMAND_CHARS = 60
SILENT_NS = 20_000_000_000
"""A worker that is asked regularly and has not answered for so long, does not answer."""


class Cause(Enum):
    """What keeps the slots; the symptom is the same for all."""

    CLIENTS = "clients hold them"
    SERVER = "HAProxy keeps them after the client left"
    WORKER = "a worker does not answer the commands"
    LEFT = "clients left, and either HAProxy or a worker is the reason"
    STOPPED = "the process itself is stopped"
    NOT_ACCEPTING = "the process does not accept"


def claim(service: Service) -> str:
    used, limit = len(service.slots), service.limit
    left = sum(slot.left for slot in service.slots)
    return words.sentence(
        [
            f"{service.name} of pid {service.socket.pid}: {used} of {limit} slots are taken",
            _whom(service.slots),
            f"{words.number(left)} by clients that have left" if left else "",
            _queue(service),
        ]
    )


def _whom(slots: Sequence[Slot]) -> str:
    """``8 by pid 4711 (python3 agent.py)``, those who hold most first."""
    alive = Counter((slot.client_pid, slot.command) for slot in slots if not slot.left)
    ordered = sorted(alive.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} by {_client(pid, command)}" for (pid, command), count in ordered[:3]]
    spare = sum(count for _, count in ordered[3:])
    return ", ".join([*named, *([f"{spare} by others"] if spare else [])])


def _client(pid: int, command: str) -> str:
    if not pid:
        return "a client that no process on this host holds"
    text = command if len(command) <= COMMAND_CHARS else command[: COMMAND_CHARS - 1] + "…"
    return f"pid {pid} ({text})" if text else f"pid {pid}"


def _queue(service: Service) -> str:
    if not service.queue:
        return "nobody waits"
    waiting = Counter((one.pid, one.command) for one in service.waiting if one.inode)
    ordered = sorted(waiting.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} of {_client(pid, command)}" for (pid, command), count in ordered[:3]]
    left = sum(not one.inode for one in service.waiting)
    who = ", ".join([*named, *([f"{left} that have left again"] if left else [])])
    waits = f"{words.several(service.queue, 'client')} waiting for a slot"
    return f"{waits} ({who})" if who else waits


def slot_note(server_pid: int, slot: Slot) -> str:
    """What one connection shows, beside its fields."""
    own = f"served as fd {slot.fd} of pid {server_pid}" if slot.fd is not None else ""
    peer = "its client has closed" if slot.left else ""
    unread = f"{slot.unread_bytes} bytes of a command unread" if slot.unread_bytes else ""
    answer = f"{slot.answer_bytes} bytes of an answer unread" if slot.answer_bytes else ""
    return words.sentence([own, peer, unread, answer])


def silent_workers(world: World, service: Service, at_ns: int) -> list[Process]:
    """Workers of this master that are stopped, or have not answered for long."""
    silent = []
    for process in sorted(world.processes.values(), key=lambda one: one.pid):
        is_worker = process.kind in (Kind.WORKER, Kind.OLD_WORKER)
        if not is_worker or process.parent_pid != service.socket.pid:
            continue
        info = world.infos.get(process.pid)
        mute = info is not None and at_ns - info.at_ns > SILENT_NS
        if process.stopped or mute:
            silent.append(process)
    return silent


def cause(world: World, service: Service, slots: Sequence[Slot], why: Cause) -> str:
    master = service.socket.master
    if why is Cause.CLIENTS:
        timeout = "which has no timeout" if master else "until `stats timeout`"
        return f"clients hold their connections; each keeps a slot of the socket, {timeout}"
    if why is Cause.SERVER:
        return "the server keeps the slots of clients that have left, although it runs and answers"
    if why is Cause.WORKER:
        names = ", ".join(
            f"pid {one.pid} ({'stopped' if one.stopped else 'silent'})"
            for one in silent_workers(world, service, _at(world))
        )
        return (
            f"a worker does not answer ({names}) the commands that were sent on to it; the master"
            " keeps each slot until it does, even after the client left"
        )
    if why is Cause.LEFT:
        return (
            "the server keeps the slots of clients that have left; whether a worker owes it"
            " answers is not known"
        )
    if why is Cause.STOPPED:
        return f"pid {service.socket.pid} is stopped by a signal or a debugger"
    return f"slots are free, but pid {service.socket.pid} does not accept: it is stuck or starved"


def _at(world: World) -> int:
    return world.command_sockets.at_ns if world.command_sockets is not None else world.now_ns


def ruled_out(world: World, service: Service, slots: Sequence[Slot], why: Cause) -> Iterable[str]:
    left = sum(slot.left for slot in slots)
    alive = len(slots) - left
    if why is Cause.CLIENTS:
        yield (
            f"HAProxy keeping slots: of {words.number(alive)} the client's end is still open"
            " in a living process"
        )
        if not any(slot.unread_bytes for slot in slots):
            yield "a worker that does not answer: no command is waiting, the clients are idle"
    if why in (Cause.SERVER, Cause.WORKER, Cause.LEFT) and left:
        yield f"clients that hold: of {words.number(left)} slots the client's end is closed"
    if why is Cause.SERVER:
        yield "a worker that does not answer: all have answered since"


def signature(service: Service, why: Cause) -> frozenset[str]:
    """What was measured, for the comparison with known bugs."""
    marks = {"master socket" if service.socket.master else "worker socket"}
    if why is Cause.SERVER:
        marks |= {"client left", "workers answer"}
    if why is Cause.WORKER:
        marks.add("worker silent")
    return frozenset(marks)


def next_steps(world: World, service: Service, slots: Sequence[Slot], why: Cause) -> Iterable[Step]:
    yield Step("see the listener (Recv-Q: who waits) and all connections", _listing(service))
    if why is Cause.CLIENTS:
        yield from _client_steps(slots)
    elif why is Cause.WORKER:
        yield from _worker_steps(world, service)
    elif why is Cause.STOPPED:
        yield Step("let it run again", f"kill -CONT {service.socket.pid}")
    elif why is Cause.NOT_ACCEPTING:
        yield Step("see what it does", f"top -H -b -n 1 -p {service.socket.pid} | head -20")
    else:
        yield Step(
            "see which fds it keeps",
            steps.files_of(service.socket.pid, (slot.inode for slot in slots if slot.left)),
        )
        if not service.socket.master:
            yield Step(
                "free them: only a new worker has new slots; the old one goes with its sessions",
                steps.reload(world, service.socket.pid),
            )
    if service.socket.master:
        yield Step(
            "free all slots at once: at a reload the master executes itself anew and closes them",
            steps.reload(world, service.socket.pid),
        )
    yield from _limit_steps(world, service)


def _client_steps(slots: Sequence[Slot]) -> Iterable[Step]:
    counts = Counter(slot.client_pid for slot in slots if slot.client_pid)
    for pid, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:1]:
        yield Step("see who the client is", f"ps -o pid,ppid,lstart,user,args -p {pid}")
        held = words.several(count, "slot")
        yield Step(f"free its {held} at once: restart it, or end it", f"kill -TERM {pid}")
    yield Step(
        "the cure is in the client: one connection for one command, close it, with a timeout"
        " on each"
    )


def _worker_steps(world: World, service: Service) -> Iterable[Step]:
    for process in silent_workers(world, service, _at(world))[:2]:
        pid = process.pid
        yield Step("see its state", f"grep -E 'State|TracerPid' /proc/{pid}/status")
        if process.stopped:
            yield Step("let it run again: the slots are freed at once", f"kill -CONT {pid}")
        else:
            yield Step("see what it does", f"top -H -b -n 1 -p {pid} | head -20")


def _limit_steps(world: World, service: Service) -> Iterable[Step]:
    if not service.socket.master:
        yield Step("more room: `stats maxconn` and a shorter `stats timeout` in the global section")
        return
    yield Step(
        "the limit of 10 cannot be raised: it is fixed in HAProxy's source, and `maxconn` of -S"
        " changes only the queue. Meanwhile use a worker's own socket",
        _other_socket(world, service),
    )


def _other_socket(world: World, service: Service) -> str:
    """A command that goes around the master; empty if no worker has a socket."""
    sample = world.command_sockets
    known = sample.sockets if sample is not None else ()
    for one in sorted(known, key=lambda one: (one.path, one.pid)):
        worker = world.processes.get(one.pid)
        current = worker is not None and worker.kind is not Kind.OLD_WORKER
        if not one.master and current and one.path.startswith(("/", "@")):
            return steps.say(world, one, "show info")
    return ""


def _listing(service: Service) -> str:
    """The kernel's name is ``<path>.<pid>.tmp``: look for the path as a part."""
    return f"ss -xap | grep -F {shlex.quote(service.socket.path)}"


def verify(service: Service) -> Iterable[Step]:
    path = shlex.quote(service.socket.path)
    yield Step("the listener's Recv-Q is 0", f"ss -xlp | grep -F {path}")
    yield Step(
        f"fewer connections than {service.limit}, and none that stay",
        f"ss -xap | grep -F {path} | grep -c ESTAB",
    )


def caveats(world: World, service: Service, slots: Sequence[Slot]) -> str:
    parts = []
    if any(slot.preexisting for slot in slots):
        parts.append("ages of preexisting connections count from when hatrace came")
    if service.socket.limit is None and not service.socket.master:
        parts.append(f"its limit was not told: {service.limit} is HAProxy's default")
    return caveat(world, *parts, unreadable(world, "runtime-api", "sock_diag"))
