"""A short session, told as events: a server whose checks leak, and a master socket in use."""

from __future__ import annotations

from hatrace.model.event import Action, Cost, Event, Losses, Tick
from tests import factories as make

SECONDS = 40
EVERY = 2


def leaking(name: str = "s1", **info: str) -> list[Event]:
    """Each check of ``be/<name>`` leaves its socket in CLOSE_WAIT, for forty seconds."""
    server = make.server(name, check_status="L7OK", status="UP")
    events: list[Event] = [
        make.processes(make.at(0)),
        make.configured(make.at(0)),
        make.servers(make.at(0), server),
        make.info_sample(make.at(0), Ulimit_n="4096", **info),
        make.host(make.at(0)),
        make.master_connections(make.at(0), clients=3, orphaned=1),
    ]
    held = []
    for second in range(0, SECONDS, EVERY):
        one = make.check_flow(second, id=second + 1, inode=900 + second, lport=41_000 + second)
        held.append(make.half_closed(one, 0.1))
        now = make.at(second + 1)
        events += [
            make.open_scan(now, *held),
            make.holders_of(now, *held),
            make.targets(
                now,
                make.target(born=len(held), gone=0),
                make.data_target(
                    born=second * 10,
                    gone=second * 10,
                    lifetime=(0,) * 4 + (second * 10,) + (0,) * 11,
                ),
                make.client_target(born=second * 10, gone=second * 10),
            ),
            Cost(now, second * 1_000_000, 40 << 20, 5_000_000, 1000),
            Tick(now),
        ]
    events += [
        make.finished(make.ended(make.flow(3, id=77, inode=78, lport=45_000))),
        make.trouble(make.at(SECONDS), do="add the user to the group haproxy"),
        Losses(make.at(SECONDS), ring_full=3),
        Action(make.at(SECONDS), "hatrace close", "2 sockets destroyed"),
        make.host(make.at(SECONDS), tcp_alloc=75),
        Tick(make.at(SECONDS)),
    ]
    return events


def healthy() -> list[Event]:
    """Checks that end as they should."""
    events: list[Event] = [make.processes(make.at(0)), make.servers(make.at(0))]
    for second in range(0, SECONDS, EVERY):
        one = make.http_check(second, id=second + 1, inode=900 + second, lport=41_000 + second)
        events += [
            make.finished(one),
            make.open_scan(make.at(second + 1)),
            Tick(make.at(second + 1)),
        ]
    return events
