"""Who may be ended: only what is an old worker beyond doubt."""

from __future__ import annotations

import pytest

from hatrace.actions.retire import examine
from hatrace.errors import EnvironmentLacks, UsageError
from hatrace.model.topology import Kind, Process
from tests import factories as f
from tests.unit.actions.scripted import Answer, Scripted

MASTER = f.process(99, Kind.MASTER, parent_pid=1)
WORKER = f.process(100)
OLD = f.process(90, Kind.OLD_WORKER)


def haproxy(*processes: Process, old: dict[int, bool] | None = None, **said: str) -> Scripted:
    """``p90="1"``: what process 90 says of Stopping."""
    script: dict[tuple[int, str], Answer] = {
        (int(pid[1:]), "show info"): f"Pid: {pid[1:]}\nStopping: {stopping}\n"
        for pid, stopping in said.items()
    }
    haproxies = Scripted(processes or (MASTER, WORKER, OLD), script)
    haproxies.old = old or {}
    return haproxies


@pytest.mark.parametrize(
    ("pid", "why"), [(99, "is a master"), (100, "no old worker"), (5, "no HAProxy")]
)
def test_refused(pid: int, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        examine(haproxy(old={90: True, 100: False}, p90="1"), pid)
    assert pid == 5 or caught.value.do == "old workers there: 90"


def test_its_masters_word_and_its_own() -> None:
    candidate = examine(haproxy(old={90: True}, p90="1"), 90)
    assert candidate.stopping and len(candidate.reasons) == 2
    silent = examine(haproxy(old={90: True}), 90)
    assert not silent.stopping and len(silent.reasons) == 1


def test_a_master_that_calls_it_current_is_believed() -> None:
    with pytest.raises(UsageError, match="it serves"):
        examine(haproxy(old={90: False}), 90)


def test_one_that_says_it_does_not_stop_is_believed() -> None:
    """While a reload begins, the serving worker may look old."""
    with pytest.raises(UsageError, match="Stopping: 0"):
        examine(haproxy(old={90: True}, p90="0"), 90)


def test_in_doubt_it_lives() -> None:
    with pytest.raises(EnvironmentLacks, match="not certain"):
        examine(haproxy(), 90)


def test_replaced_without_a_master() -> None:
    first = f.process(10, Kind.OLD_WORKER, parent_pid=1)
    second = f.process(
        20, Kind.STANDALONE, parent_pid=1, command_line=("haproxy", "-f", "x", "-sf", "10")
    )
    assert examine(haproxy(first, second), 10).reasons == (
        "process 20 was started to replace it (-sf)",
    )


def test_the_last_one_that_serves_is_never_ended() -> None:
    with pytest.raises(UsageError, match="no successor"):
        examine(haproxy(MASTER, OLD, old={90: True}, p90="1"), 90)
