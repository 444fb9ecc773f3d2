"""Is this a HAProxy whose data streams in `mode tcp` leak (2.9.1)?

Evidence: version, `mode tcp`, and no work-around.  Commit 2421c6fa7, in 2.9.1 only, never lets
go of a stream of which one side has closed: two fds a session, and a spinning thread.  The
published incident blames the health checks it happened to have (`option httpchk` to another
port); measured on that version they hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hatrace.checks._answer import finding, into_global, named, pid, reload, several
from hatrace.model.finding import Finding, KnownBug, Severity, Step
from hatrace.model.setup import Place, Section, Setup, Unasked

SLUG = "zero-copy-tcp"
FIX = "123a9e7d8321"
"""The commit in 2.9.2 which ends it: how it is found among the known issues."""
WORK_AROUNDS = ("-dZ", "tune.disable-zero-copy-forwarding", "tune.pt.zero-copy-forwarding off")


def findings(setup: Setup) -> Iterable[Finding | Unasked]:
    fronts = [one for one in setup.sections if one.has_front and one.mode == "tcp"]
    if not fronts:
        return
    if setup.version is None:
        yield Unasked(SLUG, "the version of HAProxy is not known: give --version")
        return
    bug = next((bug for _, bug in setup.bugs if FIX in bug.reference), None)
    if bug is not None and not any(each in setup.options for each in WORK_AROUNDS):
        yield _finding(setup, fronts, bug)


def _finding(setup: Setup, fronts: list[Section], bug: KnownBug) -> Finding:
    suspects = [one for one in setup.sections if one.mode == "tcp" and _blamed(one)]
    return finding(
        setup,
        SLUG,
        f"HAProxy {setup.version}",
        Severity.CRITICAL,
        f"each session in mode tcp that a client closes leaves two fds in HAProxy {setup.version}"
        f" ({named(one.name for one in fronts)}): they are freed by a restart only",
        places=[*(one.places.get("mode") or one.place for one in fronts), *_places(suspects)],
        count=len(fronts),
        cause="zero-copy forwarding of data: the client's socket stays CLOSE_WAIT, the server's"
        " CLOSE with its fd open, no timeout frees them, and each thread goes up to 100 % CPU",
        ruled_out=_ruled_out(suspects),
        known_bug=bug,
        next_steps=[
            Step(f"best: upgrade to {bug.fixed_in} or later"),
            into_global(setup, "tune.disable-zero-copy-forwarding", "until then"),
            reload(setup),
            Step("then end the old worker, which keeps what it has leaked", "hatrace live"),
        ],
        verify=[
            Step("no stream-leak within a minute of traffic", "hatrace live -d 60s"),
            Step("this count stays", f"ls /proc/{pid(setup)}/fd | wc -l"),
        ],
    )


def _blamed(section: Section) -> bool:
    """Has the checks that the published incident blames."""
    return section.check == "http" and any(
        server.checked
        and (server.check_port, server.check_address) != (server.port, server.address)
        for server in section.servers
    )


def _places(suspects: list[Section]) -> Iterator[Place | None]:
    for section in suspects:
        yield section.places.get("option httpchk")
        yield next((server.place for server in section.servers if server.checked), None)


def _ruled_out(suspects: list[Section]) -> Iterator[str]:
    if suspects:
        servers = sum(server.checked for section in suspects for server in section.servers)
        yield (
            f"the health checks of {named(one.name for one in suspects)}"
            f" ({several(servers, 'server')}, `option httpchk` to another port): measured on"
            " 2.9.1, they held no socket in 30 runs with ten kinds of peers; longer intervals"
            " do not help"
        )
