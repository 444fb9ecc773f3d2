"""The wording of a check-leak: claim, cause, what rules the others out, what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hatrace.detectors import steps, words
from hatrace.detectors.caveats import at_least, caveat, unreadable
from hatrace.detectors.check_groups import Leak
from hatrace.model.finding import Confidence, Forecast, Step
from hatrace.model.flow import State
from hatrace.model.topology import Level
from hatrace.model.world import World

NAMED = 10
"""Addresses named, where there are several; the evidence has them all."""
CLAIMED = 3
"""Servers and addresses named in the claim, which is read on a narrow screen."""
COMMANDS = 3
"""Addresses for which commands are given."""


def claim(world: World, leak: Leak, ahead: Forecast | None) -> str:
    kind = "agent-check" if leak.agent else "health-check"
    whose = _names(leak) or leak.places[0].group.said.label or "a server"
    where = _several(_ends(leak), CLAIMED)
    return words.sentence(
        [
            f"pid {leak.pid} holds {at_least(world)}"
            f"{words.several(len(leak.over), f'{kind} socket')} of {whose}"
            f" to {where} whose checks are over",
            words.grows(leak.growth),
            words.until(ahead) if leak.growth is not None else "",
        ]
    )


def _several(names: list[str], most: int = NAMED) -> str:
    """``s1, s2, s3 and 5 more``; never "and 1 more", which is as long as the name."""
    spare = len(names) - most
    if spare <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {spare} more"


def _names(leak: Leak) -> str:
    """``be/s1``, or ``be/s1, s2, s3 and 5 more``: the servers checked at these addresses."""
    backends: dict[str, list[str]] = {}
    for server in leak.users:
        backends.setdefault(server.backend, []).append(server.name)
    return ", ".join(f"{backend}/{_several(names, CLAIMED)}" for backend, names in backends.items())


STATES = {
    State.ESTABLISHED: "no side closed: the check ended, its socket was left as it was",
    State.CLOSE_WAIT: "the server closed, HAProxy's side did not",
    State.CLOSE: "the connection is gone, only the fd is held (a ghost: ss does not show it)",
    State.FIN_WAIT1: "HAProxy's side shut its sending half, and did not close",
    State.FIN_WAIT2: "HAProxy's side shut its sending half, and did not close",
    State.SYN_SENT: "the connect was never answered, and never given up",
}


def cause(leak: Leak) -> str:
    counts = Counter(State(flow.state) for flow in leak.over)
    parts = [
        f"{words.number(counts[state])} in {state.name}: {STATES.get(state, 'held')}"
        for state in sorted(counts)
    ]
    return "HAProxy does not close the sockets of its checks; " + "; ".join(parts)


def ruled_out(world: World, leak: Leak) -> Iterable[str]:
    groups = [one.group for one in leak.places]
    tasks = sum(group.tasks for group in groups)
    yield (
        f"slow, hung or failing checks: {words.several(tasks, 'check task')} would hold at most"
        f" {words.several(tasks, 'socket')} at a time"
    )
    if all(
        one.group.tasks == 1 and one.group.latest_start_ns > one.over[-1].connect_ns
        for one in leak.places
    ):
        yield "a check still running: a later one of the same server has started"
    shared = [group.endpoint for group in groups if group.shared]
    if not shared:
        yield f"sessions (stream-leak): no server takes sessions at {_several(_ends(leak))}"
    else:
        yield "sessions (stream-leak): none of these sockets has a client's half"
    unlisted = _unlisted(world, leak)
    if unlisted:
        yield (
            f"HAProxy's own bookkeeping: its show fd does not list fd {unlisted}, which"
            f" pid {leak.pid} holds: the leak is below HAProxy, or it has forgotten them"
        )


def _ends(leak: Leak) -> list[str]:
    return [one.group.endpoint for one in leak.places]


def _unlisted(world: World, leak: Leak) -> str:
    """Held fds which `show fd` does not have, a few of them."""
    asked = world.descriptors.get(leak.pid)
    if asked is None or not asked.complete:
        return ""
    listed = {one.fd for one in asked.descriptors}
    held = [
        one.fd
        for flow in leak.over
        if flow.born_ns < asked.at_ns
        for one in world.holders(flow.inode)
        if one.pid == leak.pid
    ]
    missing = sorted(fd for fd in set(held) if fd not in listed)
    return ", ".join(str(fd) for fd in missing[: steps.SAMPLE])


def next_steps(world: World, leak: Leak) -> Iterable[Step]:
    pid = leak.pid
    yield from _see(world, leak, "see them")
    yield Step(
        "see what HAProxy takes them for (stops its threads for some ms)",
        steps.ask(world, pid, "show fd"),
    )
    what = "agent" if leak.agent else "health"
    if leak.users:
        servers = [one.label for one in leak.users]
        yield Step(
            "stop the growth: no further checks (the servers keep the state they have)",
            steps.ask_each(world, pid, f"disable {what}", servers, Level.ADMIN),
        )
    yield Step(
        "or slow it down: a longer `inter` on the server line, then reload; free what is held:"
        f" it goes when pid {pid} exits, so reload and see that the old worker leaves",
        steps.reload(world, pid),
    )


def _see(world: World, leak: Leak, text: str, filter_: str = "") -> Iterable[Step]:
    """The sockets to each address, of the first few."""
    process = world.processes.get(leak.pid)
    for one in leak.places[:COMMANDS]:
        listing = steps.sockets_to(process, one.group.address, one.group.port)
        yield Step(text, f"{listing}{filter_}")
        text = "and" if not filter_ else text


def verify(world: World, leak: Leak) -> Iterable[Step]:
    most = max(one.group.tasks for one in leak.places)
    text = f"no more than {words.several(most, 'socket')} of pid {leak.pid} now and later"
    yield from _see(world, leak, text, f" | grep -c pid={leak.pid},")
    yield Step("and no ghosts", steps.rows_of(leak.pid, leak.over))


def caveats(world: World, leak: Leak) -> str:
    doubts = {
        one.group.said.reason: None
        for one in leak.places
        if one.group.said.confidence is not Confidence.CERTAIN
    }
    doubt = f"taken for checks because: {words.sentence(doubts)}" if doubts else ""
    return caveat(world, doubt, unreadable(world, "runtime-api"))
