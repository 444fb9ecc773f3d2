"""The order as text, between two processes."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from hatrace.kernel import child
from hatrace.kernel.maps import Sizes
from hatrace.kernel.order import Order


@pytest.mark.parametrize("rung", [None, "cgroup"])
def test_what_is_expected_is_what_most_sessions_order(rung: str | None) -> None:
    assert Order.of(child.expected(rung)) == Order(rung)


def test_an_order_is_read_as_it_was_written() -> None:
    order = Order("fentry", Sizes(flows=64, ring_bytes=4096))
    assert Order.of(json.dumps(asdict(order))) == order
