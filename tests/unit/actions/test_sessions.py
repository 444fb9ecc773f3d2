"""Which commands reach which worker, in which order, and what an answer means."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hatrace.actions.sessions import Sessions
from hatrace.actions.target import Target, resolve
from hatrace.errors import EnvironmentLacks
from hatrace.model.topology import Kind
from tests import factories as f
from tests.unit.actions.scripted import Answer, Memory, Scripted, servers, sess, stat

MASTER = f.process(99, Kind.MASTER, parent_pid=1)
WORKER = f.process(100)
OLD = f.process(90, Kind.OLD_WORKER)


def haproxy(**changed: Answer) -> tuple[Scripted, Target]:
    """A worker and an old one which know be/s1; the old one has two sessions that obey."""
    living = {"0x1": 11, "0x2": 13}

    def end(command: str) -> str:
        living.pop(command.split()[-1], None)
        return "\n"

    def listed(command: str) -> str:
        return sess(*((pointer, "be/s1", fd - 1, fd) for pointer, fd in living.items()))

    script: dict[tuple[int, str], Answer] = {}
    for pid in (100, 90):
        script |= {
            (pid, "show info"): f"Pid: {pid}\n",
            (pid, "show servers state"): servers(("be/s1", "192.0.2.1", 443)),
            (pid, "show stat"): stat("be/s1", changed.get("status", "UP"), 3),  # type: ignore[arg-type]
            (pid, "show sess"): listed if pid == 90 else "",
        }
    script[100, "disable server"] = changed.get("disable", "\n")
    script[100, "shutdown sessions server"] = "\n"
    script[90, "shutdown session 0x"] = changed.get("end", end)
    haproxies = Scripted([MASTER, WORKER, OLD], script)
    return haproxies, resolve(haproxies, "be/s1")


def test_each_worker_gets_what_it_obeys() -> None:
    haproxies, target = haproxy()
    desk = Memory()
    sessions = Sessions(haproxies, target, desk)
    assert sessions.disable()
    sessions.shut_down()
    assert haproxies.commands(100) == ["disable server be/s1", "shutdown sessions server be/s1"]
    assert haproxies.commands(90) == ["shutdown session 0x1", "shutdown session 0x2"]
    assert [change.undo for change in desk.offered] == ["tell 100 enable server be/s1", "", ""]
    assert [(action.command, action.result) for action in desk.actions] == [
        ("disable server be/s1 in worker 100", "its status is UP"),
        ("shutdown sessions server be/s1 in worker 100", "none of 3 sessions still listed"),
        (
            "shutdown session 0x1; shutdown session 0x2 in old worker 90",
            "none of 3 sessions still listed",
        ),
    ]


def test_a_no_to_maintenance_ends_it_all_and_changes_nothing() -> None:
    haproxies, target = haproxy()
    desk = Memory(False)
    assert not Sessions(haproxies, target, desk).disable()
    assert haproxies.commands(100) == [] and desk.actions == []


def test_a_dry_run_goes_on_and_changes_nothing() -> None:
    haproxies, target = haproxy()
    desk = Memory(dry_run=True)
    sessions = Sessions(haproxies, target, desk)
    assert sessions.disable()
    sessions.shut_down()
    assert [change.command for change in desk.offered] == [
        "tell 100 disable server be/s1",
        "tell 100 shutdown sessions server be/s1",
        "tell 90 shutdown session 0x1\ntell 90 shutdown session 0x2",
    ]
    assert haproxies.commands(100) == haproxies.commands(90) == [] and desk.actions == []


def test_what_is_in_maintenance_is_left_alone_and_not_undone() -> None:
    haproxies, target = haproxy(status="MAINT")
    desk = Memory()
    assert Sessions(haproxies, target, desk).disable()
    assert haproxies.commands(100) == [] and desk.offered == []
    assert desk.said == ["worker 100: already in maintenance"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [("No such server.\n\n", "No such server."), ("Proxy is disabled.\n\n", "Proxy is disabled.")],
)
def test_an_answer_is_a_refusal(answer: str, why: str) -> None:
    haproxies, target = haproxy(disable=answer)
    desk = Memory()
    with pytest.raises(EnvironmentLacks, match=why):
        Sessions(haproxies, target, desk).disable()
    assert desk.actions == []


def test_a_session_that_ended_by_itself_is_no_trouble() -> None:
    haproxies, target = haproxy(end="No such session (use 'show sess').\n\n")
    desk = Memory()
    Sessions(haproxies, target, desk).shut_down()
    assert desk.actions[-1].result == "2 of 3 sessions still listed"


def test_a_worker_that_refuses_does_not_keep_the_others_from_it() -> None:
    refuse: Callable[[str], str] = lambda command: "Proxy is disabled.\n\n"  # noqa: E731
    haproxies, target = haproxy(end=refuse)
    desk = Memory()
    Sessions(haproxies, target, desk).shut_down()
    assert len(desk.actions) == 1 and "Proxy is disabled." in desk.said[-1]
