"""Retire: end an old worker, after showing what it still carries; never a current one.

A master ends all of HAProxy when its current worker dies, but only takes note of an old one
(seen on 2.2 to 3.2, with SIGTERM and SIGKILL).  So that it is old has to be beyond doubt: its
master says so, or it says itself that it is stopping, or another was started to replace it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from hatrace.actions.carried import Carried, carried
from hatrace.actions.desk import Change, Desk, Result
from hatrace.actions.haproxies import CURRENT, Family, Haproxies, title
from hatrace.actions.rows import counted
from hatrace.actions.signals import Handle
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.haproxy import arguments
from hatrace.haproxy.runtime import NoAnswer
from hatrace.model.event import Processes
from hatrace.model.finding import Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Kind, Process
from hatrace.sockets.inventory import look

CLOSING_S = 3.0
"""For the kernel to end the connections of a process that is gone."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An old worker that may be ended, and why it is one."""

    process: Process
    family: Family
    reasons: tuple[str, ...]
    stopping: bool
    """It was told to stop, and says so."""


def examine(haproxies: Haproxies, pid: int) -> Candidate:
    """Raises UsageError for anything but an old worker, EnvironmentLacks where that is in doubt."""
    process = haproxies.get(pid)
    if process is None:
        raise UsageError(f"process {pid} is no HAProxy", "", "see: hatrace doctor")
    family = next(each for each in haproxies.families() if pid in each)
    old = [str(each.pid) for each in family.workers if each.kind not in CURRENT]
    do = f"old workers there: {', '.join(old)}" if old else "it has no old worker"
    if process.kind is Kind.MASTER:
        raise UsageError(f"process {pid} is a master", "its end would end all of its HAProxy", do)
    if process.kind in CURRENT or haproxies.old.get(pid) is False:
        raise UsageError(f"process {pid} is no old worker", "it serves: it is the current one", do)
    if not any(each.kind in CURRENT for each in family.workers):
        raise UsageError(f"process {pid} has no successor", "nobody would serve in its place")
    reasons, stopping = _reasons(haproxies, process, family)
    if not reasons:
        raise EnvironmentLacks(
            f"it is not certain that process {pid} is an old worker",
            "its master does not answer, nor does it, nor was a process started to replace it",
            "see: echo 'show proc' | socat - UNIX-CONNECT:(the master's socket)",
        )
    return Candidate(process, family, tuple(reasons), stopping)


def _reasons(haproxies: Haproxies, process: Process, family: Family) -> tuple[list[str], bool]:
    reasons = []
    if haproxies.old.get(process.pid):
        reasons.append("its master lists it among the old workers")
    stopping = _is_stopping(haproxies, process)
    if stopping:
        reasons.append("it says that it is stopping")
    seen_as = process.container_pid or process.pid
    for other in family.processes:
        if seen_as in arguments.parse(other.command_line).replaces and other.pid != process.pid:
            reasons.append(f"{title(other)} was started to replace it (-sf)")
            break
    return reasons, bool(stopping)


def _is_stopping(haproxies: Haproxies, process: Process) -> bool | None:
    """What it says itself; None: it does not answer.  Raises UsageError if it is not."""
    try:
        said = haproxies.identify(process).get("Stopping")
    except NoAnswer:
        return None
    if said == "0":
        raise UsageError(f"process {process.pid} serves", "it says of itself: Stopping: 0")
    return said == "1"


def retire(
    haproxies: Haproxies, candidate: Candidate, desk: Desk, timeout_s: float, soft: bool = False
) -> Result:
    """Show, ask, signal, verify.  ``soft``: only ask it to stop when its sessions have ended."""
    process = candidate.process
    with Handle(process) as handle:
        desk.saw(Processes(time.monotonic_ns(), haproxies.processes))
        before = carried(haproxies, process)
        desk.say(f"{title(process)}: {', '.join(candidate.reasons)}")
        desk.show(before.title, before.rows)
        desk.saw(before.event)
        _signal(candidate, before, handle, desk, timeout_s, soft)
        if not handle.ended():
            return _alive(candidate, before, desk, soft)
    return _gone(haproxies, candidate, before, desk)


def _signal(
    candidate: Candidate, before: Carried, handle: Handle, desk: Desk, timeout_s: float, soft: bool
) -> None:
    """One signal after the other, each agreed to, until it has ended."""
    process, pid = candidate.process, candidate.process.pid
    if soft and candidate.stopping:
        desk.say("it was told to stop before: it waits for its sessions, another word is no use")
        handle.ended(timeout_s)
        return
    text = f"end it at once: {before.cost}"
    numbers = [signal.SIGTERM]
    if soft:
        text, numbers = "tell it to end when its sessions have ended", [signal.SIGUSR1]
    if process.stopped:
        text += "; it is stopped, so let it run on to hear that"
        numbers.append(signal.SIGCONT)
    if not _send(text, numbers, pid, handle, desk, timeout_s) or soft or handle.ended():
        return
    _send(
        f"it does not end: kill it; {before.cost}", [signal.SIGKILL], pid, handle, desk, timeout_s
    )


def _send(
    text: str,
    numbers: Iterable[signal.Signals],
    pid: int,
    handle: Handle,
    desk: Desk,
    timeout_s: float,
) -> bool:
    """Whether it was agreed to, and done."""
    numbers = tuple(numbers)
    commands = [f"kill -{number.name.removeprefix('SIG')} {pid}" for number in numbers]
    change = Change(text, "\n".join(commands), record="; ".join(commands))
    if not desk.agreed(change):
        return False
    for number in numbers:
        handle.send(number)
    ended = handle.ended(timeout_s)
    desk.did(change, "it has ended" if ended else f"it runs still, {timeout_s:g} s later")
    return True


def _alive(candidate: Candidate, before: Carried, desk: Desk, soft: bool) -> Result:
    process = candidate.process
    if desk.dry_run:
        return Result(0, f"dry run, nothing was changed: {title(process)} runs")
    steps = [Step("end it at once", f"hatrace retire {process.pid}")] if soft else []
    return Result(max(1, len(before.flows)), f"{title(process)} runs still", tuple(steps))


def _gone(haproxies: Haproxies, candidate: Candidate, before: Carried, desk: Desk) -> Result:
    """Its sockets must be gone as well, and its successor must serve."""
    name = title(candidate.process)
    others = [pid for pid in haproxies.pids if pid != candidate.process.pid]
    held, closing = _remaining(before.flows, others)
    if closing:
        desk.say(f"{counted(closing, 'socket')} of it without an owner: the kernel closes them")
    haproxies.look()
    desk.saw(Processes(time.monotonic_ns(), haproxies.processes))
    serving = [each for each in haproxies.processes if each.pid in candidate.family]
    current = [title(each) for each in serving if each.kind in CURRENT]
    desk.say(f"serving on: {', '.join(current) or 'nobody'}")
    number = len(before.flows)
    if held or not current:
        text = f"{name} is gone, but others hold {held} of its {counted(number, 'socket')}"
        return Result(held + (not current), text if held else f"{name} is gone, and nobody serves")
    return Result(0, f"{name} is gone, and all it held: {counted(number, 'socket')}")


def _remaining(flows: Iterable[Flow], others: Iterable[int]) -> tuple[int, int]:
    """Of these sockets, how many others hold, and how many the kernel is still closing."""
    ids, others = {flow.id for flow in flows if flow.state != State.CLOSE}, tuple(others)
    end_s = time.monotonic() + CLOSING_S
    while True:
        now = [flow for flow in look(others, keep=ids).flows.values() if flow.id in ids]
        held = sum(bool(flow.pid) for flow in now)
        if not now or time.monotonic() > end_s:
            return held, len(now) - held
        time.sleep(0.1)
