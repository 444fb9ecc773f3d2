"""One event of each kind, every field set to something of its own, as a capture must keep it."""

from __future__ import annotations

import dataclasses

from hatrace.model.event import (
    Action,
    CheckResult,
    CommandCalls,
    CommandClients,
    Cost,
    Event,
    LogLine,
    Losses,
    TakenPorts,
    Tick,
    TimeWaits,
)
from hatrace.model.finding import (
    Change,
    Confidence,
    Evidence,
    Finding,
    FindingChange,
    Forecast,
    Growth,
    KnownBug,
    Severity,
    Step,
)
from hatrace.model.topology import CheckSettings
from tests import factories as make


def events() -> list[Event]:
    """In the order in which a session could meet them, a tenth of a second apart."""
    open_flow = make.half_closed(make.flow(laddr="2001:db8::5", raddr="2001:db8::6"))
    done = [make.ended(make.flow(n / 100)) for n in range(30)]
    server = make.server(
        agent_address="192.0.2.9", agent_checked=True, settings=CheckSettings(2000, 500, 5000)
    )
    kinds: list[Event] = [
        make.processes(0),
        make.configured(0, options=("-dZ",)),
        TakenPorts(0, (make.taken_port(),)),
        make.servers(0, server),
        make.info_sample(0, CurrConns="7", node="lb1.example"),
        make.host(0, max_orphans=None),
        TimeWaits(0, 4026531840, ((make.address("192.0.2.1"), 443, 20_000),)),
        make.finished(*done, at_ns=0),
        make.finished(at_ns=0),
        make.open_scan(0, open_flow, matched=70_000),
        make.holders_of(0, open_flow),
        make.targets(0, make.target(born=30, gone=29, lifetime=tuple(range(16)))),
        make.master_connections(0, clients=3, orphaned=1, waiting=2),
        CommandClients(0, (CommandCalls("/run/haproxy/ma.sock", 812, "socat", 30, 5),)),
        make.streams(0, make.stream(expires_ms=-5), complete=False),
        make.descriptors(0, make.descriptor(11, "check", suspicious=True)),
        CheckResult(0, make.WORKER, "be/s1", False, "L7OK, code 200"),
        LogLine(0, make.WORKER, "Server be/s1 is DOWN \x1b[31m"),
        Action(0, "ss -K dst 192.0.2.1", "3 sockets destroyed"),
        make.trouble(0, do="join the group haproxy"),
        Losses(0, ring_full=2**64 - 1, scan_truncated=3),
        Cost(0, 5, 6, None),
        Tick(0),
    ]
    return [_at(event, number) for number, event in enumerate(kinds)]


def _at(event: Event, number: int) -> Event:
    return dataclasses.replace(event, at_ns=make.at(number / 10))


def change(at_ns: int = make.at(2)) -> FindingChange:
    """A finding with all its parts."""
    flow = make.half_closed(make.check_flow(id=77, inode=78, lport=40_001))
    finding = Finding(
        slug="check-leak",
        subject="be/s1 at 100",
        severity=Severity.CRITICAL,
        confidence=Confidence.CERTAIN,
        claim="health checks of be/s1 leave their sockets open",
        at_ns=at_ns,
        since_ns=make.at(1),
        count=12,
        preexisting=2,
        evidence=(Evidence.of(flow, at_ns, fd=17, note="no stream"),),
        growth=Growth(30.0, 10.0),
        forecast=Forecast("fd limit of pid 100", 100, 4096, 7992.0, "(4096 - 100) / 30 a minute"),
        cause="the check ends, close() does not come",
        ruled_out=("a slow server: it answered",),
        known_bug=KnownBug("GH #1", "checks leak", "2.6.13", "https://example.org/1"),
        next_steps=(Step("restart it", "systemctl restart haproxy"),),
        verify=(Step("look again", "hatrace live"),),
        caveat="3 events lost",
    )
    return FindingChange(Change.OPENED, finding)
