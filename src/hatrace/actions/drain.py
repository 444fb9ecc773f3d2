"""Drain: take a server out of HAProxy for good, step by step, and prove it in the kernel.

HAProxy's word is no proof (measured on 2.2 to 3.2): `show sess` lists the newest worker only;
`wait ... srv-removable` (3.0) says "Done." while connects to the server go on; half-closed
sessions survive `shutdown sessions server` in every version, connecting ones before 3.2 (so
these are destroyed before it is said).
SOCK_DESTROY ends those, but then 2.2 and 2.6 connect anew a second later, up to `retries`
times: so the server counts as empty only when two looks, further apart, see nothing.
"""

from __future__ import annotations

import time

from hatrace.actions.desk import Change, Desk, Result
from hatrace.actions.haproxies import CURRENT, Haproxies, title
from hatrace.actions.residue import Inspector, Residue
from hatrace.actions.rows import by_hand_all, counted
from hatrace.actions.sessions import Sessions
from hatrace.actions.sever import sever
from hatrace.actions.target import ADMIN_HELP, Target, help_for
from hatrace.errors import EnvironmentLacks
from hatrace.haproxy import known_issues
from hatrace.haproxy.runtime import NoAnswer, Problem
from hatrace.model.event import Processes
from hatrace.model.finding import Step
from hatrace.model.flow import Flow, State
from hatrace.model.topology import Process

LOOK_S = 0.3
SHARE = 0.2
"""Of the time, at most, is spent looking: `show sess` of a busy HAProxy is long."""
SETTLED_S = 1.5
"""Longer than HAProxy's turn-around (1 s) before it connects again."""
LEAVES_CONNECTING = "51611a5b702e"
"""The commit that lets `shutdown sessions server` end what waits for the server."""
ROUNDS = 4
"""Of destroying: `retries` is 3, unless configured."""


def drain(haproxies: Haproxies, target: Target, desk: Desk, timeout_s: float) -> Result:
    """All steps.  Raises EnvironmentLacks, before any change, where one could not be done."""
    work = _Drain(haproxies, target, desk, timeout_s)
    found = work.present()
    work.check_level()
    sessions = Sessions(haproxies, target, desk)
    if not sessions.disable():
        return Result(max(found.count, 1), f"stopped: {target.label} is not in maintenance")
    work.end_connecting()
    sessions.shut_down()
    work.wait()
    if desk.dry_run:
        work.destroy(found)
        return Result(0, f"dry run, nothing was changed; sockets there now: {found.count}")
    found = work.destroy(work.settled())
    return work.conclude(found)


class _Drain:
    def __init__(self, haproxies: Haproxies, target: Target, desk: Desk, timeout_s: float) -> None:
        self._haproxies, self._target, self._desk = haproxies, target, desk
        self._timeout_s = timeout_s
        self._known = frozenset(haproxies.pids)
        self._inspector = Inspector(haproxies, target)

    def present(self) -> Residue:
        """Who knows the server, and what goes to it now."""
        target, say = self._target, self._desk.say
        self._desk.saw(Processes(time.monotonic_ns(), self._haproxies.processes))
        say(f"{target.label} at {', '.join(target.endpoints)}, HAProxy of {target.family}:")
        status = {each.process.pid: each.status or "no status said" for each in target.places}
        silent = {process.pid: f"cannot be asked: {no.why}" for process, no in target.silent}
        for process in target.family.workers:
            words = status.get(process.pid) or silent.get(process.pid) or "does not know it"
            version = f", {process.version}" if process.version else ""
            say(f"  {title(process)}{version}: {words}")
        found = self._inspector.look()
        self._desk.saw(found.event)
        self._show(found, "now")
        return found

    def check_level(self) -> None:
        """Raises EnvironmentLacks unless each worker that is to be changed takes commands."""
        for process, error in self._target.silent:
            if process.kind in CURRENT:
                what = f"{title(process)} cannot be told anything"
                raise EnvironmentLacks(what, error.why, help_for(error))
        for place in self._target.places:
            level = self._haproxies.ask(place.process, "show cli level").strip()
            own = self._haproxies.has_own_socket(place.process)
            if level != "admin" and not (own and self._master_is_admin(place.process)):
                raise EnvironmentLacks(
                    f"{title(place.process)} takes no changes",
                    f"its command-line socket has level {level or 'unknown'}, not admin",
                    ADMIN_HELP,
                )

    def _master_is_admin(self, process: Process) -> bool:
        """Where a worker's own socket refuses a command, its master's is used."""
        master = self._haproxies.get(process.parent_pid)
        try:
            return master is not None and "admin" in self._haproxies.ask(master, "show cli level")
        except NoAnswer:
            return False

    def end_connecting(self) -> None:
        """Destroy what still waits for the server to answer, as often as HAProxy tries again.

        `shutdown sessions server` does not end these in 2.2 to 3.0, and 3.0.11 then freezes
        them: their sockets stay until the worker ends (measured).
        """
        if not self._leaves_connecting():
            return
        for _ in range(ROUNDS):
            left = self._inspector.look().left
            waiting = [each for each in left if each.sure and each.flow.state == State.SYN_SENT]
            if not waiting:
                return
            number = counted(len(waiting), "connection")
            what = f"destroy {number} that wait for the server: a command would not end their"
            flows = [each.flow for each in waiting]
            if not self._desk.agreed(Change(f"{what} sessions", by_hand_all(flows))):
                return
            sever([(each.flow, each.fd) for each in waiting], self._desk)
            time.sleep(SETTLED_S)

    def _leaves_connecting(self) -> bool:
        bugs = (
            bug.reference
            for process in self._target.family.workers
            for bug in known_issues.matching(process.version or "", "drain-survivor")
        )
        return any(LEAVES_CONNECTING in reference for reference in bugs)

    def wait(self) -> None:
        """HAProxy's own word that the server can be removed, where it has one."""
        for place in self._target.places:
            if place.current and self._haproxies.has_own_socket(place.process):
                self._wait(place.process)

    def _wait(self, process: Process) -> None:
        command = f"wait {max(1, round(self._timeout_s))}s srv-removable {self._target.label}"
        if self._desk.dry_run:
            self._desk.say("then wait for HAProxy's word (3.0 and later), and look in the kernel:")
            self._desk.say(f"    {self._haproxies.by_hand(process, command)}")
            return
        try:
            answer = self._haproxies.ask(process, command, self._timeout_s + 2).strip()
        except NoAnswer as error:
            if error.problem is not Problem.UNKNOWN:
                self._desk.say(f"{title(process)} does not say that it can be removed")
            return
        said = " ".join(answer.split()) or "nothing"
        self._desk.say(f"{title(process)} says of srv-removable: {said}")

    def settled(self) -> Residue:
        """What is left when two looks saw nothing, or when the time is up."""
        end_s = time.monotonic() + self._timeout_s
        empty_since_s: float | None = None
        while True:
            began_s = time.monotonic()
            found = self._inspector.look()
            now_s = time.monotonic()
            if not found.clean:
                empty_since_s = None
                if now_s > end_s:
                    return found
            elif empty_since_s is None:
                empty_since_s = now_s
            elif now_s - empty_since_s >= SETTLED_S:
                return found
            time.sleep(max(LOOK_S, (now_s - began_s) / SHARE))

    def destroy(self, found: Residue) -> Residue:
        """Offer to destroy the survivors, again if HAProxy connects anew."""
        for _ in range(ROUNDS):
            survivors, text = _offer(found)
            if not survivors:
                break
            if not self._desk.dry_run:
                self._desk.saw(found.event)
                self._show(found, "left")
            change = Change(text, by_hand_all([flow for flow, _ in survivors]))
            if not self._desk.agreed(change):
                break
            sever(survivors, self._desk)
            found = self.settled()
        return found

    def conclude(self, found: Residue) -> Result:
        target = self._target
        self._desk.saw(found.event)
        newcomers = self._newcomers()
        for process in newcomers:
            self._desk.say(f"{title(process)} came meanwhile: it knows of no maintenance")
        if found.clean and not newcomers:
            where = ", ".join(target.endpoints)
            text = f"{target.label} is drained: no socket of {target.family} to {where}"
            return Result(0, f"{text}, seen twice, {SETTLED_S:g} s apart", self._removal())
        if not found.clean:
            self._show(found, "left")
        count = found.count + len(newcomers)
        again = Step("once more, for the new worker", f"hatrace drain {target.label}")
        return Result(
            count,
            f"{target.label} is not drained: {count} left",
            (*_help(found), *([again] if newcomers else [])),
        )

    def _newcomers(self) -> list[Process]:
        """Workers of this HAProxy that were not there at the start."""
        self._haproxies.look()
        mine = {each.pid for each in self._target.family.processes}
        return [
            process
            for family in self._haproxies.families()
            if any(pid in family for pid in mine)
            for process in family.workers
            if process.pid not in self._known
        ]

    def _removal(self) -> tuple[Step, ...]:
        files = sorted({f for each in self._target.family.processes for f in each.config_files})
        where = f" of {', '.join(files)}" if files else ""
        return (
            Step(f"take it out{where}, then reload: a reload ends the maintenance"),
            Step("look again afterwards", f"hatrace drain {self._target.label} --dry-run"),
        )

    def _show(self, found: Residue, when: str) -> None:
        number, label, say = len(found.left), self._target.label, self._desk.say
        self._desk.show(f"{when}: {counted(number, 'socket')} of {label}", found.rows)
        for pid, bare in found.bare.items():
            say(f"pid {pid}: {counted(len(bare), 'more session')} of it, without a socket")
        if found.others:
            say(f"{counted(found.others, 'socket')} there of other servers: not touched")
        if found.orphans:
            say(
                f"{counted(found.orphans, 'socket')} to it without an owner: the kernel closes them"
            )
        for pid, count in found.foreign.items():
            say(f"{counted(count, 'socket')} of another HAProxy (pid {pid}) there: not touched")


def _offer(found: Residue) -> tuple[list[tuple[Flow, int | None]], str]:
    """Connections to destroy, each with its fd, and what that means; what is unsure is not ours.

    First those to the server; then, of sessions that HAProxy keeps with a ghost, the clients':
    they wait for an answer that cannot come (seen on 3.0: such a session is frozen).
    """
    sure = [each for each in found.left if each.sure]
    alive = [(each.flow, each.fd) for each in sure if each.flow.state != State.CLOSE]
    if alive:
        return alive, f"destroy {counted(len(alive), 'connection')}: both sides are reset"
    clients = [
        (each.other, each.stream.front_fd)
        for each in sure
        if each.other is not None and each.other.state != State.CLOSE and each.stream is not None
    ]
    text = (
        f"destroy {counted(len(clients), 'connection')} of clients whose session hangs on a ghost"
    )
    return list(clients), text


def _help(found: Residue) -> tuple[Step, ...]:
    """What would help with each kind that is left."""
    steps = []
    if any(each.flow.state == State.CLOSE for each in found.left):
        text = "ghosts (state CLOSE) have no connection to destroy, only their owner frees the fd"
        steps.append(Step(f"{text}: reload HAProxy, then hatrace retire the old worker"))
    if any(not each.sure for each in found.left):
        steps.append(Step("some may belong to another server at this address: drain that, too"))
    if any(each.flow.state != State.CLOSE for each in found.left) or found.bare:
        steps.append(Step("destroy what is left, or wait for its timeouts (`timeout server`)"))
    return tuple(steps)
