"""Running apt's tools: what they complain of is kept."""

from __future__ import annotations

import pytest

from hatrace.errors import EnvironmentLacks
from hatrace.lab import apt


def test_the_complaint_of_a_failed_tool_is_kept() -> None:
    with pytest.raises(EnvironmentLacks, match="No such file"):
        apt.run("ls", "/nonexistent")


def test_a_tool_that_is_not_there_is_said() -> None:
    with pytest.raises(EnvironmentLacks, match="did not run"):
        apt.run("/nonexistent/apt-get")
