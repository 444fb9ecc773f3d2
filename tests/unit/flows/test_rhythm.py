"""The interval in force, by the server's state."""

from __future__ import annotations

import pytest

from hatrace.flows.rhythm import expected, intervals_ms
from hatrace.model.topology import CheckSettings, Kind
from tests import factories as f

ALL = CheckSettings(inter_ms=3000, fastinter_ms=500, downinter_ms=9000)
INTER = CheckSettings(inter_ms=3000)
NONE = CheckSettings()


@pytest.mark.parametrize(
    ("status", "settings", "interval", "name"),
    [
        ("UP", ALL, 3000, "inter"),
        ("UP 2/3", ALL, 500, "fastinter"),
        ("DOWN 1/2", ALL, 500, "fastinter"),
        ("DOWN", ALL, 9000, "downinter"),
        ("DRAIN", ALL, 3000, "inter"),
        ("NOLB 1/3", ALL, 500, "fastinter"),
        ("UP 2/3", INTER, 3000, "inter"),
        ("DOWN", INTER, 3000, "inter"),
        ("DOWN", NONE, 2000, "default"),
        ("UP", NONE, 2000, "default"),
        (None, ALL, 3000, "inter"),
        ("MAINT", ALL, None, "maintenance"),
        ("MAINT (via be/s2)", ALL, None, "maintenance"),
    ],
)
def test_by_state(
    status: str | None, settings: CheckSettings, interval: int | None, name: str
) -> None:
    server = f.server(status=status, settings=settings)
    assert expected(server, Kind.WORKER) == (interval, name)
    assert expected(server, None) == (interval, name)


def test_old_workers_stop_their_checks() -> None:
    assert expected(f.server(), Kind.OLD_WORKER) == (None, "stopped")


def test_agents_keep_one_interval() -> None:
    server = f.server(status="DOWN", settings=ALL)
    assert expected(server, Kind.WORKER, agent=True) == (3000, "inter")
    server = f.server(status="DOWN", settings=CheckSettings(inter_ms=1, agent_inter_ms=700))
    assert expected(server, Kind.WORKER, agent=True) == (700, "agent-inter")
    assert expected(f.server(settings=NONE), None, agent=True) == (2000, "default")


def test_all_that_may_be_kept() -> None:
    assert intervals_ms(f.server(settings=ALL)) == (3000, 500, 9000)
    assert intervals_ms(f.server(settings=CheckSettings(fastinter_ms=500))) == (2000, 500)
