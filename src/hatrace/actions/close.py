"""Close: destroy connections that leak, after showing them, and see what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from hatrace.actions.choose import Chosen
from hatrace.actions.desk import Change, Desk, Result
from hatrace.actions.residue import looked
from hatrace.actions.rows import by_hand_all, counted
from hatrace.actions.sever import Severed, sever
from hatrace.model.finding import Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Kind, Process


def close(chosen: Chosen, scope: Collection[int], known: dict[int, Process], desk: Desk) -> Result:
    """Show, ask, destroy, verify.  ``known``: HAProxy's processes by pid."""
    for remark in dict.fromkeys(chosen.remarks):
        desk.say(remark)
    desk.show(f"meant: {counted(len(chosen.flows), 'socket')}", chosen.rows)
    desk.saw(chosen.event)
    if chosen.ghosts:
        desk.say(
            f"{len(chosen.ghosts)} of them in state CLOSE (ghosts): there is no connection to "
            "destroy, only their owner's close or its end frees the fd"
        )
    help_ = _help({flow.pid for flow, _ in chosen.ghosts}, known)
    lost = len(chosen.ghosts) + chosen.missed
    if not chosen.alive:
        return Result(lost, "nothing to destroy", help_)
    number = len(chosen.alive)
    change = Change(
        f"destroy {counted(number, 'connection')}: both sides are reset",
        by_hand_all([flow for flow, _ in chosen.alive]),
    )
    if not desk.agreed(change):
        left = 0 if desk.dry_run else number + lost
        return Result(
            left, f"nothing was changed: {counted(number, 'connection')} could be destroyed", help_
        )
    done, spared = _with_trial(chosen.alive, desk)
    return _verified(done, spared, scope, known, lost, desk)


def _with_trial(
    flows: Sequence[tuple[Flow, int | None]], desk: Desk
) -> tuple[list[Severed], dict[int, int]]:
    """Destroy them; what was destroyed, and how many were spared by pid.

    A peer that has left gains nothing by a reset.  So of the connections in CLOSE_WAIT of a
    process one is tried: if its fd stays, its owner does not watch it (HAProxy 2.6 with the
    client's half of a half-closed session), and the others would become ghosts as well.
    """
    left_by_peer = [each for each in flows if each[0].state == State.CLOSE_WAIT]
    trials = list({flow.pid: (flow, fd) for flow, fd in reversed(left_by_peer)}.values())
    done = sever(trials, desk)
    deaf = {one.flow.pid for one in done if one.destroyed and one.held}
    tried = {flow.id for flow, _ in trials}
    rest = [each for each in flows if each[0].id not in tried]
    spared = [each for each in left_by_peer if each in rest and each[0].pid in deaf]
    done += sever([each for each in rest if each not in spared], desk)
    return done, Counter(flow.pid for flow, _ in spared)


def _verified(
    done: list[Severed],
    spared: dict[int, int],
    scope: Collection[int],
    known: dict[int, Process],
    lost: int,
    desk: Desk,
) -> Result:
    """By the kernel's tables and the owners' fds, whatever was answered to the requests."""
    now = {flow.id: flow for flow in looked(scope).owned}
    alive = [one for one in done if _is_alive(now.get(one.flow.id))]
    kept = [one for one in done if one.held and one not in alive]
    for one in alive:
        desk.say(f"{one.flow.local} to {one.flow.remote} is still there: {one.text}")
    steps: list[Step] = []
    for pid, number in sorted(spared.items()):
        desk.say(
            f"spared: {number} more in CLOSE_WAIT of pid {pid}, which does not notice their end"
        )
        text = "destroy the other half of their sessions instead, where that still lives"
        steps.append(Step(text, f"hatrace close --pid {pid} --state fin-wait-2"))
    gone = f"{len(done) - len(alive)} of {counted(len(done), 'connection')}"
    text = f"gone from the kernel's tables: {gone}"
    if kept:
        pids = sorted({one.flow.pid for one in kept})
        text += f"; {counted(len(kept), 'fd')} still held by {', '.join(map(str, pids))}"
    ghosts = {flow.pid for flow in now.values() if flow.state == State.CLOSE and flow.closed_ns}
    left = len(alive) + len(kept) + sum(spared.values()) + lost
    steps += _help(ghosts, known) if left else ()
    return Result(left, f"{text}; {left} left in all" if left else text, tuple(steps))


def _is_alive(flow: Flow | None) -> bool:
    return flow is not None and flow.state != State.CLOSE


def _help(pids: set[int], known: dict[int, Process]) -> tuple[Step, ...]:
    """How to be rid of the fds that these processes keep."""
    steps: list[Step] = []
    for pid in sorted(pids):
        process = known.get(pid)
        if process is None:
            steps.append(Step(f"only process {pid} itself frees its ghosts: restart it"))
        elif process.kind is Kind.OLD_WORKER:
            steps.append(Step("end the old worker that keeps them", f"hatrace retire {pid}"))
        elif process.kind is Kind.WORKER:
            reload_ = f"kill -USR2 {process.parent_pid}"
            steps.append(Step(f"reload HAProxy, so that worker {pid} becomes an old one", reload_))
            steps.append(Step("then end it, once its sessions may go", f"hatrace retire {pid}"))
        else:
            steps.append(Step(f"start a new HAProxy that replaces it: haproxy ... -sf {pid}"))
    return tuple(steps)
