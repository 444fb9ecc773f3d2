"""Are servers checked by a bare connect, which HAProxy ends with a reset?

Evidence: `check` without a protocol.  HAProxy connects and closes with SO_LINGER 0, so a RST
follows the handshake.  On Linux the RST overtakes the handshake's last ACK and the application
never sees the connection (measured: none of 200); behind a proxy, a load balancer or on another
system it does, and some lose an acceptor or an fd for each (Thousand Island up to 1.3.11, the
server below Bandit).  And it says UP of an application that answers nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hatrace.checks._answer import again, finding, into, named, reload, said, several
from hatrace.checks._rhythm import per_day, row
from hatrace.model.finding import Confidence, Evidence, Finding, Severity, Step
from hatrace.model.setup import Section, ServerLine, Setup

SLUG = "plain-tcp-check"
ERLANG = "beam.smp"
"""The Erlang VM, on which Bandit and Thousand Island run."""
PROTOCOLS = {
    25: ("option smtpchk",),
    389: ("option ldap-check",),
    443: ("option ssl-hello-chk",),
    636: ("option ssl-hello-chk",),
    3306: ("option mysql-check",),
    5432: ("option pgsql-check user haproxy",),
    6379: ("option redis-check",),
}
"""Check port → what to ask there instead."""
HTTP = ("option httpchk", "http-check send meth GET uri /health ver HTTP/1.1 hdr Host localhost")


def findings(setup: Setup) -> Iterable[Finding]:
    for section in setup.sections:
        servers = [server for server in section.servers if _is_plain(section, server)]
        if section.has_back and servers:
            yield _finding(setup, section, servers)


def _is_plain(section: Section, server: ServerLine) -> bool:
    """A connect and nothing else; `option tcp-check` without a rule is that, too."""
    bare = section.check == "tcp" or (section.check == "tcp-check" and not section.dialogue)
    return bare and server.checked and not server.encrypted and not server.tracks


def _finding(setup: Setup, section: Section, servers: list[ServerLine]) -> Finding:
    erlang = [each for each in servers if setup.host.listeners.get(each.check_port or 0) == ERLANG]
    daily = sum(per_day(row(section, [each]).inter_ms) for each in servers)
    return finding(
        setup,
        SLUG,
        f"{section.kind} {section.name}",
        Severity.WARNING if erlang else Severity.NOTICE,
        f"{several(len(servers), 'server')} of {section.name}"
        f" {'is' if len(servers) == 1 else 'are'} checked by a connect and a reset"
        f" ({daily:,} a day): an application that mishandles these loses acceptors or fds,"
        " and one that answers nobody still counts as UP",
        places=[section.places.get("option tcp-check"), *(each.place for each in servers)],
        evidence=_listening(erlang),
        confidence=Confidence.LIKELY if erlang else Confidence.POSSIBLE,
        count=len(servers),
        cause="`check` without a protocol: HAProxy resets the connection as soon as it stands",
        next_steps=[*_steps(section, servers, bool(erlang)), reload(setup)],
        verify=[
            again(setup),
            Step("the checks say L7OK", said(setup, "show stat")),
        ],
        caveat="a Linux application that accepts directly never sees these connections (measured);"
        " other systems, and proxies in between, do",
    )


def _listening(erlang: list[ServerLine]) -> Iterator[Evidence]:
    if erlang:
        names = named(f"{each.name} (port {each.check_port})" for each in erlang)
        note = (
            f"an Erlang VM listens on this host: {names}; Thousand Island before 1.3.12 (the"
            " server below Bandit) ends an acceptor for each such connection that it sees"
        )
        yield Evidence(what="listener", comm=ERLANG, note=note)


def _steps(section: Section, servers: list[ServerLine], erlang: bool) -> Iterator[Step]:
    ports = {server.check_port for server in servers}
    known = PROTOCOLS.get(ports.pop() or 0) if len(ports) == 1 else None
    if section.mode == "http" or known is None:
        first = "" if section.mode == "http" else "if they speak HTTP"
        yield into(section, HTTP[0], first)
        yield into(section, HTTP[1], "with a path that the application answers")
    else:
        yield into(section, known[0])
    if erlang:
        yield Step("in the application: thousand_island 1.3.12 or later", "mix deps | grep island")
