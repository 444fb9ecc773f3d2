"""The wording of drain-survivor: what is still open to a server that is out, why, what to do."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from hatrace.detectors import steps, words
from hatrace.detectors.reloads import generation
from hatrace.detectors.survivors import MOVED, REMOVED, Survivor
from hatrace.model.event import Stream
from hatrace.model.finding import Evidence, Step
from hatrace.model.topology import Level
from hatrace.model.world import World

OUT = {
    REMOVED: "it is removed from the configuration",
    MOVED: "its address is another now",
}


def claim(one: Survivor) -> str:
    return words.sentence(
        [
            f"{words.several(one.count, 'connection')} of {generation(one.process)} to"
            f" {one.label} ({one.endpoint}) {'is' if one.count == 1 else 'are'} open, although"
            f" {OUT.get(one.out, f'it is in {one.out}')}",
            f"new ones are still made: {words.rate(one.born_per_s)} per second"
            if one.born_per_s > 0
            else "",
        ]
    )


def cause(one: Survivor) -> str:
    if one.old:
        return (
            "sessions of an old worker: commands at the stats socket reach only the newest"
            " process, which neither lists nor ends them"
        )
    if one.mostly_connecting:
        return (
            "sessions that wait for their connection to the server: `shutdown sessions server`"
            " does not end these before HAProxy 3.1.7 and 3.2 (3.0.11 freezes them: only the end of"
            " the worker frees those); they go on until `timeout connect` and all `retries` are"
            " used up"
        )
    if one.out == MOVED:
        return (
            "a server that is given another address (`set server addr`, a name that resolves to"
            " another) takes new sessions there; those that were there go on until they end"
        )
    return (
        "maintenance stops new sessions only; those that were there go on until they end, or"
        " until `shutdown sessions server`, which in no version reaches half-closed ones"
    )


def ruled_out(one: Survivor) -> Iterable[str]:
    if one.born_per_s <= 0:
        yield "new traffic: no connection was made to it since the last look"
    if one.out == MOVED and not one.old:
        yield "health checks: these go to its new address"
        return
    yield "health checks: a server in maintenance is not checked, an old worker checks nothing"


def evidence(world: World, one: Survivor, sample: int) -> Iterable[Evidence]:
    yield Evidence(
        what="process",
        pid=one.process.pid,
        comm=one.process.comm,
        remote=one.endpoint,
        condition=generation(one.process),
        note=f"{words.several(one.count, 'connection')} open to {one.label}, {one.out}",
    )
    behind = {stream.back_fd: stream for stream in one.streams if stream.back_fd is not None}
    shown = one.flows[: sample - 1]
    for flow in shown:
        held = [holder.fd for holder in world.holders(flow.inode) if holder.pid == flow.pid]
        fd = min(held, default=None)
        stream = behind.pop(fd, None) if fd is not None else None
        yield Evidence.of(flow, world.now_ns, fd, _client(stream) if stream else "")
    for fd, stream in list(behind.items())[: max(sample - 1 - len(shown), 0)]:
        yield Evidence(
            what="tcp",
            pid=one.process.pid,
            comm=one.process.comm,
            fd=fd,
            remote=one.endpoint,
            condition="session",
            age_s=stream.age_ms / 1000 if stream.age_ms is not None else None,
            note=_client(stream),
        )


def _client(stream: Stream) -> str:
    """The other half of a session."""
    front = f" (fd {stream.front_fd})" if stream.front_fd is not None else ""
    return f"for client {stream.source}{front} of {stream.frontend}"


def _sessions(world: World, one: Survivor) -> str:
    """`show sess`, only its lines; an address that two servers share has several labels."""
    command = steps.ask(world, one.process.pid, "show sess")
    backend, _, server = one.label.partition("/")
    if not command or ", " in one.label:
        return command
    return f"{command} | grep -F {shlex.quote(f'be={backend} srv={server} ')}"


def next_steps(world: World, one: Survivor) -> Iterable[Step]:
    pid = one.process.pid
    yield Step("see them", steps.sockets_to(one.process, one.address, one.port))
    if one.old or one.elsewhere:
        yield Step("see whose they are", _sessions(world, one))
    if not one.elsewhere:
        yield from _end_sessions(world, one)
    if one.old:
        # An old worker refuses `shutdown sessions server`: "Proxy is disabled." (2.2 to 3.2).
        yield Step("or end the old worker with all its sessions", f"hatrace retire {pid}")
        yield Step("for the next time: `hard-stop-after` in the global section")
    again = "; HAProxy tries again, up to `retries` times" if one.connecting else ""
    yield Step(
        "destroy this worker's sockets to it in the kernel (needs CONFIG_INET_DIAG_DESTROY; others"
        f" may have that address in use){again}",
        f"hatrace close --pid {pid} --dst {shlex.quote(one.endpoint)}",
    )


def _end_sessions(world: World, one: Survivor) -> Iterable[Step]:
    """By one command, or by `drain`: which comes first where a command would freeze some."""
    drain = f"hatrace drain {one.label}"
    command = steps.ask(
        world, one.process.pid, f"shutdown sessions server {one.label}", Level.ADMIN
    )
    if one.connecting:
        yield Step(
            "end all of it step by step, verified in the kernel: those that wait come first, for a"
            " command may freeze them",
            drain,
        )
        if not one.old:
            but = "not those that wait for it, before 3.1.7 and 3.2"
            yield Step(f"end its sessions in that worker; {but}", command)
        return
    if not one.old:
        yield Step("end its sessions in that worker", command)
    yield Step("or all of it step by step, verified in the kernel", drain)
