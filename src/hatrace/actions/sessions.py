"""Sessions: no new ones to a server, and an end to those there are, by HAProxy's own commands.

Old workers refuse `disable server` and `shutdown sessions server` ("Proxy is disabled.", 2.2
to 3.2); they obey `shutdown session`, one session at a time.  Every answer is empty when the
command was taken, which says nothing of its effect: what is listed afterwards does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hatrace.actions.desk import Change, Desk
from hatrace.actions.haproxies import Haproxies, title
from hatrace.actions.residue import streams
from hatrace.actions.rows import counted
from hatrace.actions.target import ADMIN_HELP, Place, Target, sessions, status
from hatrace.errors import EnvironmentLacks
from hatrace.haproxy.runtime import NoAnswer, Problem
from hatrace.model.event import Stream
from hatrace.model.topology import Process

ROUNDS = 3
"""A session of an old worker may be followed by another on the same client connection."""
LISTED_S = 1.0
"""Until a session that was shut down is off the list."""
MAINTENANCE = "MAINT"


class Sessions:
    """The sessions of one server, in all its workers."""

    def __init__(self, haproxies: Haproxies, target: Target, desk: Desk) -> None:
        self._haproxies, self._target, self._desk = haproxies, target, desk

    def disable(self) -> bool:
        """Maintenance in each current worker; False: the user does not want it."""
        for place in self._target.places:
            if place.current and place.status == MAINTENANCE:
                self._desk.say(f"{title(place.process)}: already in maintenance")
            elif place.current and not self._disable(place.process):
                return False
        return True

    def _disable(self, process: Process) -> bool:
        label = self._target.label
        change = Change(
            f"put {label} into maintenance in {title(process)}: no new sessions, no checks",
            self._haproxies.by_hand(process, f"disable server {label}"),
            self._haproxies.by_hand(process, f"enable server {label}"),
            f"disable server {label} in {title(process)}",
        )
        if not self._desk.agreed(change):
            return self._desk.dry_run
        self._command(process, f"disable server {label}")
        self._desk.did(change, f"its status is {status(self._haproxies, process, label)}")
        return True

    def shut_down(self) -> None:
        """End them everywhere; where that fails it is said, and the kernel will tell."""
        for place in self._target.places:
            try:
                self._shut_down(place)
            except EnvironmentLacks as error:
                self._desk.say(f"{title(place.process)}: {error}")
        for process, no in self._target.silent:
            self._desk.say(f"{title(process)}: its sessions cannot be ended by command: {no.why}")

    def _shut_down(self, place: Place) -> None:
        label, process = self._target.label, place.process
        mine = self._mine(process)
        number = max(len(mine), sessions(self._haproxies, process, label) or 0)
        if not number:
            self._desk.say(f"{title(process)}: no session of {label}")
            return
        commands = [f"shutdown sessions server {label}"]
        if not place.current:
            commands = [f"shutdown session {stream.pointer}" for stream in mine]
        change = Change(
            f"end {counted(number, 'session')} of {label} in {title(process)}",
            "\n".join(self._haproxies.by_hand(process, command) for command in commands),
            record=f"{'; '.join(commands)} in {title(process)}",
        )
        if not self._desk.agreed(change):
            return
        left = self._end_all(process) if place.current else self._end_each(process, mine)
        self._desk.did(change, f"{left or 'none'} of {number} sessions still listed")

    def _end_all(self, process: Process) -> int:
        """By one command; how many are listed afterwards."""
        self._command(process, f"shutdown sessions server {self._target.label}")
        return len(_until_none(lambda: self._mine(process)))

    def _end_each(self, process: Process, mine: Sequence[Stream]) -> int:
        """One by one, and those that came after them."""
        for _ in range(ROUNDS):
            for stream in mine:
                self._end(process, stream)
            mine = _until_none(lambda: self._mine(process))
            if not mine:
                break
        return len(mine)

    def _end(self, process: Process, stream: Stream) -> None:
        """That it has ended meanwhile is no trouble."""
        try:
            self._command(process, f"shutdown session {stream.pointer}")
        except EnvironmentLacks as error:
            if "No such session" not in error.why:
                raise

    def _mine(self, process: Process) -> list[Stream]:
        found = streams(self._haproxies, process) or ()
        return [each for each in found if f"{each.backend}/{each.server}" == self._target.label]

    def _command(self, process: Process, command: str) -> None:
        """A command whose answer is empty when it is taken; raises EnvironmentLacks."""
        try:
            answer = self._haproxies.ask(process, command).strip()
        except NoAnswer as error:
            do = ADMIN_HELP if error.problem is Problem.DENIED else error.do
            raise EnvironmentLacks(error.what, error.why, do) from error
        if answer:
            raise EnvironmentLacks(f"{command!r} in {title(process)}", answer)


def _until_none(look: Callable[[], list[Stream]]) -> list[Stream]:
    """The sessions still listed when none is, or when the time is up."""
    end_s = time.monotonic() + LISTED_S
    while (found := look()) and time.monotonic() < end_s:
        time.sleep(0.1)
    return found
