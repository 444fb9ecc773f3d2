"""Which check sockets are over: their check is done, and HAProxy holds them still.

HAProxy runs one check of a server at a time: the next starts only after the socket of the
one before is closed.  So of each check task (a server's health check, its agent check) at
most one socket is held, and a socket is over at the latest when the next check starts.

Where sessions go to the same address and port, a socket is first to be told from theirs, which
may come in a check's rhythm and ask what a check asks.  HAProxy knows (`show sess`, `show fd`).
Where it cannot be asked, each client that is connected may have one of these sockets.

And where HAProxy may have more tasks there than its server list shows (checks that connect
elsewhere, Lua, sessions to any address), no number of sockets tells, only their age.
"""

from __future__ import annotations

from collections.abc import Sequence

from hatrace.detectors.check_groups import Group, Thresholds, takes
from hatrace.detectors.matching import Matcher, Word
from hatrace.model.attribution import Role
from hatrace.model.finding import Confidence
from hatrace.model.flow import Flow, State
from hatrace.model.world import World

OTHERS = frozenset({"check connect elsewhere", "socks4", "lua", "set-dst", "option transparent"})
"""Settings (`Configured.options`) with which more than the listed checks may connect there."""
POOLING = frozenset({"http", "spop"})
"""Modes in which idle connections are kept for others; `spop` (agents) from HAProxy 3.1 on."""


def over(group: Group, world: World, matcher: Matcher, limits: Thresholds) -> tuple[Flow, ...]:
    """The sockets whose check is over, oldest first."""
    flows = list(group.flows)
    if _others(world, group):
        return tuple(flow for flow in flows if _too_old(flow, group, world, matcher, limits))
    if group.shared:
        flows = _unexplained(world, group, _told_apart(world, group, matcher, limits))
    surplus = max(len(flows) - group.tasks, 0)
    keys = {flow.key for flow in flows[:surplus]}
    if group.tasks == 1:
        keys |= {flow.key for flow in flows if _succeeded(flow, group, limits)}
    return tuple(flow for flow in flows if flow.key in keys)


def _others(world: World, group: Group) -> bool:
    """Whether HAProxy may have connections there which its list of servers does not show."""
    configured = world.configured.get(group.pid)
    return configured is not None and not OTHERS.isdisjoint(configured.options)


def _too_old(flow: Flow, group: Group, world: World, matcher: Matcher, limits: Thresholds) -> bool:
    """Whether no check takes so long, and HAProxy has no stream that holds it."""
    if matcher.match(flow).word not in (Word.UNASKED, Word.NO_STREAM):
        return False
    patience_ns = max(limits.asked_ns, limits.lone_limits * group.limit_ns)
    return world.now_ns - flow.born_ns > patience_ns


def _succeeded(flow: Flow, group: Group, limits: Thresholds) -> bool:
    """Whether a later check of the only task here has started."""
    start_ns = flow.connect_ns or flow.born_ns
    return group.latest_start_ns > start_ns + limits.order_ns


def _told_apart(world: World, group: Group, matcher: Matcher, limits: Thresholds) -> Sequence[Flow]:
    """Without those that may be sessions', as far as HAProxy has not said that they are not."""
    doubtful = [flow for flow in group.flows if _doubtful(flow, world, group, matcher)]
    answers = group.pid in world.infos
    waiting = [flow for flow in doubtful if world.now_ns - flow.born_ns < limits.asked_ns]
    # A connection may also wait in its server's pool, without any client.
    pooled = [flow for flow in doubtful if _pools(group) and flow.state == State.ESTABLISHED]
    left_out = {flow.key for flow in (*(waiting if answers else ()), *pooled)}
    left_out |= {flow.key for flow in group.flows if _attempt(flow, world, limits)}
    rest = [flow for flow in doubtful if flow.key not in left_out]
    left_out |= {flow.key for flow in rest[: _clients(world)]}
    return [flow for flow in group.flows if flow.key not in left_out]


def _doubtful(flow: Flow, world: World, group: Group, matcher: Matcher) -> bool:
    """Whether nothing but behaviour makes it a check's."""
    if world.attribution(flow).confidence is Confidence.CERTAIN:
        return False
    if not _unconnected(flow) and _pools(group) and not flow.sent_bytes and not flow.received_bytes:
        return False  # in these modes HAProxy connects when it has something to send
    return matcher.match(flow).word is Word.UNASKED


def _attempt(flow: Flow, world: World, limits: Thresholds) -> bool:
    """A connect that has not come about, a session's as well as a check's: many may be made at
    once, and HAProxy may see late that they were refused."""
    return _unconnected(flow) and world.now_ns - flow.born_ns < limits.asked_ns


def _unconnected(flow: Flow) -> bool:
    return flow.state == State.SYN_SENT or not (flow.established_ns or flow.preexisting)


def _pools(group: Group) -> bool:
    """Whether HAProxy has a pool for each server that takes sessions there."""
    return all(one.mode in POOLING for one in group.servers if takes(one, group.key))


def _clients(world: World) -> int:
    """Connections of clients, of all HAProxy processes: the totals do not say whose."""
    return sum(
        max(row.open, 0)
        for row in world.targets.values()
        if row.inbound and world.target_attribution(row).role is Role.CLIENT
    )


def _unexplained(world: World, group: Group, flows: Sequence[Flow]) -> list[Flow]:
    """Without those that HAProxy's own numbers explain: sessions, idle connections in a pool."""
    unsure = group.said.confidence is Confidence.POSSIBLE
    configured = world.configured.get(group.pid)
    options = configured.options if configured is not None else ()
    pooled = any("check-reuse-pool" in option for option in options)
    explained = sum(
        (one.idle_connections or 0) * (unsure or pooled) + (one.current_sessions or 0) * unsure
        for one in group.servers
    )
    left = []
    for flow in flows:
        if flow.state == State.ESTABLISHED and explained > 0:
            explained -= 1
        else:
            left.append(flow)
    return left
