"""For the kernel tests: all here carry the mark, and none runs without root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def pytest_runtest_setup() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for BPF and for other processes' sockets")
