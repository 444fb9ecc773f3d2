"""For the kernel tests: all here carry the mark, and none runs without root.

What they open ends with them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.own import Pair

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)


def pytest_runtest_setup() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for BPF and for other processes' sockets")


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def listener(opened: ExitStack) -> socket.socket:
    return opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))


@pytest.fixture
def connected(opened: ExitStack, listener: socket.socket) -> Callable[[], Pair]:
    """Makes a connection to a listener of this process."""

    def pair() -> Pair:
        client = opened.enter_context(socket.create_connection(listener.getsockname()))
        return client, opened.enter_context(listener.accept()[0])

    return pair
