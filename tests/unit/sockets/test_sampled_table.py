"""What consecutive looks say about each socket's life."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hatrace.model.event import Holder
from hatrace.model.flow import Condition, Flag, Flow, State, flows
from hatrace.sockets.ghosts import INODE_ID
from hatrace.sockets.inventory import Look
from hatrace.sockets.sampled_table import SampledTable
from tests import factories
from tests.factories import at

PID = 4000
NETNS = 4026531840


@dataclass
class Want:
    half_closed_ns: int = 0
    ghost_ns: int = 0
    orphan_ns: int = 0
    unanswered_ns: int = 0
    idle_ns: int = 0
    limit: int = 100
    everything: bool = False


def seen(second: float, state: State = State.ESTABLISHED, **fields: Any) -> Flow:
    """A flow as sock_diag shows it at a second: all that it does not know is unknown."""
    defaults = {"id": 1, "cookie": 1, "inode": 11, "pid": PID, "target": 0, "netns": NETNS}
    flags = int(Flag.ADOPTED | Flag.CONNECTED | (Flag.OWNED if fields.get("pid", PID) else 0))
    nothing = dict.fromkeys(("connect_ns", "established_ns", "moved_ns"), 0)
    known = defaults | nothing | {"state": int(state), "flags": flags} | fields
    return factories.flow(born=second, **known)


def looked(second: float, *shown: Flow, held: tuple[int, ...] = (11,)) -> Look:
    look = Look(at_ns=at(second), held=[Holder(PID, inode, inode) for inode in held])
    for flow in shown:
        place = look.ghosts if flow.state == State.CLOSE else look.flows
        place[flow.id] = flow
    return look


def table(*looks: Look) -> SampledTable:
    made = SampledTable()
    for look in looks:
        made.update(look, {PID})
    return made


def ended(of: SampledTable) -> list[Flow]:
    return list(flows(of.take_finished()))


def test_the_first_look_adopts_and_later_ones_see_births() -> None:
    made = table(looked(0, seen(0)), looked(1, seen(1), seen(1, id=2, inode=12), held=(11, 12)))
    old, new = made.open[1], made.open[2]
    assert old.preexisting and old.born_ns == at(0)
    assert not new.preexisting and new.born_ns == at(1)
    [row] = made.targets()
    assert (row.adopted, row.born, row.open, row.pid) == (1, 1, 2, PID)
    assert old.target == new.target == row.index


def test_a_life_keeps_its_past() -> None:
    made = table(
        looked(0),
        looked(1, seen(1, State.SYN_SENT, connect_ns=at(1))),
        looked(2, seen(2, sent_bytes=9)),
        looked(3, seen(3, State.CLOSE_WAIT, fin_ns=at(2.5))),
        looked(4, seen(4, State.CLOSE_WAIT, fin_ns=at(3.5))),
    )
    flow = made.open[1]
    assert flow.born_ns == flow.connect_ns == at(1)
    assert flow.established_ns == at(2) and flow.fin_ns == at(2.5)
    assert flow.condition(at(4)) is Condition.HALF_CLOSED


def test_held_but_in_no_table_any_more_is_a_ghost_then_ends() -> None:
    made = table(looked(0, seen(0)), looked(1))
    ghost = made.open[1]
    assert (ghost.state, ghost.closed_ns, ghost.released_ns) == (State.CLOSE, at(1), 0)
    assert ghost.condition(at(1)) is Condition.GHOST and not ghost.flags & Flag.FAILED
    made.update(looked(2), {PID})
    assert made.open[1].closed_ns == at(1), "not closed anew"
    made.update(looked(3, held=()), {PID})
    [gone] = ended(made)
    assert (gone.released_ns, gone.gone_ns, gone.closer) == (at(3), at(3), PID)
    assert made.open == {} and ended(made) == [], "told once"


def test_an_attempt_that_vanishes_has_failed() -> None:
    made = table(looked(0), looked(1, seen(1, State.SYN_SENT)), looked(2))
    assert made.open[1].flags & Flag.FAILED
    made = table(looked(0), looked(1, seen(1, State.SYN_SENT)), looked(2, held=()))
    [gone] = ended(made)
    assert gone.flags & Flag.FAILED and made.targets()[0].failed == 1


def test_an_orphan_keeps_its_owner() -> None:
    orphan = seen(1, State.FIN_WAIT1, pid=0, inode=0, released_ns=at(1))
    made = table(looked(0, seen(0)), looked(1, orphan, held=()))
    flow = made.open[1]
    assert (flow.pid, flow.inode, flow.comm) == (PID, 11, "haproxy")
    assert flow.condition(at(2)) is Condition.ORPHAN


def test_a_strangers_orphan_is_not_ours_unless_its_port_is() -> None:
    orphan = seen(0, State.FIN_WAIT1, pid=0, inode=0, released_ns=at(0), lport=443)
    assert table(looked(0, orphan, held=())).open == {}
    listener = seen(0, State.LISTEN, id=9, lport=443)
    made = table(looked(0, listener), looked(1, listener, orphan))
    assert made.open[1].pid == PID and not made.open[1].flags & Flag.OWNED


def test_a_nameless_ghost_gets_its_name_and_no_second_life() -> None:
    nameless = seen(0, State.CLOSE, id=INODE_ID | 11, flags=int(Flag.ADOPTED))
    made = table(looked(0, nameless), looked(1, seen(1)))
    assert list(made.open) == [1] and ended(made) == []


def test_a_socket_that_connects_after_the_inventory_counts_then() -> None:
    unconnected = seen(0, State.CLOSE, flags=int(Flag.ADOPTED | Flag.OWNED))
    made = table(looked(0, unconnected))
    assert made.targets() == () and made.open[1].target == 0
    made.update(looked(1, seen(1)), {PID})
    assert made.open[1].target == 1 and made.open[1].closed_ns == 0


def test_news_of_the_end_carries_the_bytes() -> None:
    made = table(looked(0), looked(1, seen(1, sent_bytes=5)))
    news = seen(1.5, State.CLOSE, pid=0, sent_bytes=500, received_bytes=70)
    made.destroyed(news)
    made.destroyed(news._replace(id=99, rport=1))
    [gone] = ended(made)
    assert (gone.gone_ns, gone.sent_bytes, gone.closer) == (at(1.5), 500, PID)
    made.update(looked(2, held=()), {PID})
    assert ended(made) == [], "not a second time"


def test_short_lives_are_claimed_by_port_or_by_a_server_known() -> None:
    listener = seen(0, State.LISTEN, id=9, inode=19, lport=443)
    made = table(looked(0, listener, seen(0), held=(11, 19)))
    inward = seen(1, State.CLOSE, id=50, pid=0, lport=443, flags=int(Flag.ACCEPTED))
    outward = seen(1, State.CLOSE, id=51, pid=0, moved_ns=at(0.7))
    made.destroyed(inward)
    made.destroyed(outward)
    made.destroyed(seen(1, State.CLOSE, id=52, pid=0, rport=9))
    first, second = ended(made)
    assert (first.id, second.id) == (50, 51)
    assert second.pid == PID and not second.flags & (Flag.OWNED | Flag.ADOPTED)
    assert second.born_ns == at(0.7) and second.gone_ns == at(1)


def test_an_abort_by_the_owner_leaves_only_the_cookie() -> None:
    """SO_LINGER 0: the kernel's news have neither remote end nor bytes."""
    made = table(looked(0), looked(1, seen(1, sent_bytes=5)))
    made.destroyed(seen(2, State.CLOSE, pid=0, rport=0, raddr=bytes(16), sent_bytes=0))
    [gone] = ended(made)
    assert gone.flags & Flag.RST_SENT and not gone.flags & Flag.FAILED
    assert gone.sent_bytes == 5 and gone.rport and made.targets()[0].reset == 1


def test_news_before_the_first_look_is_nobodys() -> None:
    made = SampledTable()
    made.destroyed(seen(1, State.CLOSE, pid=0))
    assert ended(made) == []


def scanned(of: SampledTable, second: float, want: Want) -> list[int]:
    records, _ = of.suspects(want, at(second))
    return sorted(flow.id for flow in flows(records))


def test_suspects_by_kind_and_age() -> None:
    made = table(
        looked(
            0,
            seen(0, id=1, inode=1),
            seen(0, State.CLOSE_WAIT, id=2, inode=2, fin_ns=at(0)),
            seen(0, State.SYN_SENT, id=3, inode=3, connect_ns=at(0)),
            seen(0, State.FIN_WAIT1, id=4, inode=0, released_ns=at(0)),
            seen(0, State.CLOSE, id=5, inode=5, closed_ns=at(0)),
            seen(0, State.LISTEN, id=6, inode=6),
            seen(0, id=7, inode=7, moved_ns=at(0)),
            held=(1, 2, 3, 4, 5, 6, 7),
        )
    )
    second = 10**9
    assert scanned(made, 5, Want()) == [6]
    assert scanned(made, 5, Want(half_closed_ns=second)) == [2, 6]
    assert scanned(made, 5, Want(unanswered_ns=second)) == [3, 6]
    assert scanned(made, 5, Want(orphan_ns=second)) == [4, 6]
    assert scanned(made, 5, Want(ghost_ns=second)) == [5, 6]
    assert scanned(made, 5, Want(idle_ns=second)) == [6, 7], "1: nobody knows when it moved"
    assert scanned(made, 5, Want(ghost_ns=9 * second)) == [6]
    assert scanned(made, 5, Want(everything=True)) == [1, 2, 3, 4, 5, 6, 7]


def test_limit_and_watched_targets() -> None:
    made = table(looked(0, seen(0), seen(0, id=2, inode=12, rport=99), held=(11, 12)))
    records, matched = made.suspects(Want(everything=True, limit=1), at(1))
    assert (len(list(flows(records))), matched) == (1, 2)
    made.watch(made.open[2].target, 10**9)
    assert scanned(made, 0.5, Want()) == []
    assert scanned(made, 3, Want()) == [2]
