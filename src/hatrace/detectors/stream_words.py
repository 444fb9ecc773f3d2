"""The wording of a stream-leak: claim, cause, what rules the others out, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import at_least, caveat, unreadable
from hatrace.detectors.halves import Unit
from hatrace.detectors.stream_verdict import Reason, longest_timeout_ns
from hatrace.model.finding import Forecast, Growth, Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Kind, Level
from hatrace.model.world import World

SPLICING_OFF = ("-dZ", "tune.disable-zero-copy-forwarding")
"""Settings without which the 2.9.1 leak cannot be (GH #2395)."""
GHOST = "ghost: gone, fd held, not shown by ss"


def claim(
    world: World,
    pid: int,
    proxy: str,
    flows: Sequence[Flow],
    growth: Growth | None,
    ahead: Forecast | None,
) -> str:
    process = world.processes.get(pid)
    states = Counter(State(flow.state) for flow in flows)
    held = ", ".join(_in_state(states[state], state) for state in sorted(states))
    if process is not None and process.stopped:
        return (
            f"pid {pid} is stopped (state T) and lets go of nothing:"
            f" {at_least(world)}{words.several(len(flows), 'socket')} wait for it ({held})"
        )
    return words.sentence(
        [
            f"pid {pid} holds {at_least(world)}{words.several(len(flows), 'socket')} of sessions"
            f" of {proxy} whose peer has left ({held})",
            words.grows(growth),
            words.until(ahead),
        ]
    )


def _in_state(count: int, state: State) -> str:
    note = f" ({GHOST})" if state is State.CLOSE else ""
    return f"{words.number(count)} in {state.name}{note}"


def cause(world: World, pid: int, units: Sequence[Unit], reasons: Counter[Reason]) -> str:
    process = world.processes.get(pid)
    if process is not None and process.stopped:
        return (
            "the process is stopped by a signal or a debugger: nothing leaks, but new"
            " connections that reach it are not served and no old one ends"
        )
    why = "; ".join(f"{words.number(reasons[one])}: {one.value}" for one in Reason if reasons[one])
    return f"HAProxy does not close the sockets of sessions that are over ({_shape(units)}); {why}"


def _shape(units: Sequence[Unit]) -> str:
    """``20 times client CLOSE_WAIT + server CLOSE``, the most frequent shapes first."""
    shapes = Counter(_shape_of(unit) for unit in units)
    ordered = sorted(shapes.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{words.number(count)} times {shape}" for shape, count in ordered[:3])


def _shape_of(unit: Unit) -> str:
    halves = [
        f"{side} {State(flow.state).name}"
        for side, flow in (("client", unit.front), ("server", unit.back))
        if flow is not None
    ]
    return " + ".join(halves) + ("" if len(halves) == 2 else " alone")


def ruled_out(
    world: World, pid: int, units: Sequence[Unit], reasons: Counter[Reason]
) -> Iterable[str]:
    process = world.processes.get(pid)
    if process is not None and process.stopped:
        return
    yield from _no_check_leak(world, pid)
    both = reasons[Reason.BOTH_GONE]
    if both:
        yield (
            f"a slow or half-closed peer: of {words.several(both, 'session')} both peers have"
            " left, and nothing is unread or unsent"
        )
        yield "a configured timeout: there is nothing left to wait for"
    elif reasons[Reason.LATE] and (longest := longest_timeout_ns(world, pid)) is not None:
        yield (
            f"a configured timeout: the longest ({words.milliseconds(longest / 1_000_000)}) is past"
        )
    if _answered(world, pid, units):
        yield f"a stopped or stuck process: pid {pid} answered its runtime API since then"


def _no_check_leak(world: World, pid: int) -> Iterable[str]:
    """Health checks, if they are seen to hold no more than they may."""
    checks = [one for one in world.checks if one.pid == pid]
    if checks and all(one.held <= one.sharing for one in checks):
        yield (
            f"health checks (check-leak): the checks of {words.several(len(checks), 'server')}"
            " hold no more than one socket each"
        )


def _answered(world: World, pid: int, units: Sequence[Unit]) -> bool:
    """Whether HAProxy spoke to us after the youngest of these had gone wrong."""
    said = [world.infos.get(pid), world.streams.get(pid), world.descriptors.get(pid)]
    latest = max((one.at_ns for one in said if one is not None), default=0)
    wrong = [max(flow.closed_ns, flow.fin_ns, flow.born_ns) for u in units for flow in u.flows]
    return latest > max(wrong)


def signature(world: World, units: Sequence[Unit], reasons: Counter[Reason]) -> frozenset[str]:
    """What was measured, for the comparison with known bugs."""
    marks: set[str] = set()
    for unit in units:
        marks |= _marks(world, unit)
    if reasons[Reason.NO_STREAM]:
        marks.add("no stream")
    configured = world.configured.get(units[0].pid)
    if configured is None or not any(one in configured.options for one in SPLICING_OFF):
        marks.add("splicing")
    return frozenset(marks)


def _marks(world: World, unit: Unit) -> set[str]:
    marks: set[str] = set()
    if unit.front is not None:
        marks.add(f"front {State(unit.front.state).name}")
    if unit.back is not None:
        marks.add(f"back {State(unit.back.state).name}")
        if unit.back.state == State.ESTABLISHED:
            marks.add("back open")
        if unit.front is None:
            marks.add("back alone")
        label = world.attribution(unit.back).label
        modes = {one.mode for one in world.servers.get(unit.pid, ()) if one.label == label}
        marks |= {f"mode {mode}" for mode in modes if mode}
    return marks


def next_steps(
    world: World, pid: int, flows: Sequence[Flow], signature: frozenset[str]
) -> Iterable[Step]:
    process = world.processes.get(pid)
    if process is not None and process.stopped:
        yield Step("see who stopped it", f"grep -E 'State|TracerPid' /proc/{pid}/status")
        yield Step("let it run again", f"kill -CONT {pid}")
        return
    yield Step("see which fds these are", steps.files_of(pid, (flow.inode for flow in flows)))
    yield Step(
        "see what HAProxy's streams say of them", steps.ask(world, pid, "show sess", Level.OPERATOR)
    )
    if {"mode tcp", "splicing", "back CLOSE"} <= signature:
        yield Step(
            "stop the growth: put `tune.disable-zero-copy-forwarding` into the global section"
            " (or start with -dZ), check, and reload",
            steps.reload(world, pid),
        )
    if process is None or process.kind is not Kind.OLD_WORKER:
        yield Step(
            "free what is held: only the end of the process does. Reload first, so that a new"
            " worker takes the new connections",
            steps.reload(world, pid),
        )
    yield Step(
        "then end the old worker, which these sessions would keep for ever; its living sessions"
        " are cut",
        f"kill -TERM {pid}",
    )


def verify(pid: int, flows: Sequence[Flow]) -> Iterable[Step]:
    yield Step("these sockets are gone", steps.files_of(pid, (flow.inode for flow in flows)))
    yield Step("no sockets without a row in the kernel's tables", steps.alloc_minus_inuse())


def caveats(world: World, pid: int, units: Sequence[Unit], reasons: Counter[Reason]) -> str:
    parts = []
    if any(flow.preexisting for unit in units for flow in unit.flows):
        parts.append("how long the preexisting ones have been gone is not known")
    if reasons[Reason.LATE_UNKNOWN]:
        parts.append("no timeouts could be read from the configuration")
    if pid not in world.streams:
        parts.append("show sess was not read")
    return caveat(world, *parts, unreadable(world, "runtime-api"))
