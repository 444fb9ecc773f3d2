"""ephemeral-bind: ports that the kernel may give away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatrace.checks import ephemeral_bind
from hatrace.model.setup import BindLine, HostFacts
from tests.unit.checks.setups import HOST, lines, only, proposed, setup, unasked


def bind(low: int | None, high: int | None = None) -> BindLine:
    return BindLine("", None, low, high if high is not None else low, None)


@pytest.mark.parametrize(
    ("low", "high", "reserved", "left"),
    [
        (443, None, (), []),
        (32767, None, (), []),
        (32768, None, (), [(32768, 32768)]),
        (60999, None, (), [(60999, 60999)]),
        (61000, None, (), []),
        (32000, 33000, (), [(32768, 33000)]),
        (40000, 40010, ((40000, 40010),), []),
        (40000, 40010, ((40003, 40005),), [(40000, 40002), (40006, 40010)]),
        (40000, 40010, ((40000, 40004), (40009, 41000)), [(40005, 40008)]),
        (40000, None, ((39000, 39999),), [(40000, 40000)]),
    ],
)
def test_what_is_exposed(
    low: int, high: int | None, reserved: tuple[tuple[int, int], ...], left: list[tuple[int, int]]
) -> None:
    host = replace(HOST, reserved_ports=reserved)
    assert ephemeral_bind.exposed(bind(low, high), host) == left


def test_a_finding_keeps_what_is_reserved_already() -> None:
    host = replace(HOST, reserved_ports=((8080, 8080), (40009, 40020)))
    text = "\nlisten a\n    bind :40000-40010,:443\n    bind :59044\n"
    found = only(ephemeral_bind.findings(setup(text, host=host)))
    assert found.count == 10
    assert lines(found) == ["3: bind :40000-40010,:443", "4: bind :59044"]
    assert proposed(found)[0] == (
        "sysctl -w net.ipv4.ip_local_reserved_ports=8080,40000-40020,59044"
    )


@pytest.mark.parametrize("address", ["/run/x.sock", "unix@/run/x", "quic4@:40000", "fd@3", "${A}"])
def test_no_tcp_port_no_finding(address: str) -> None:
    text = f"\nlisten a\n    bind {address}\n"
    assert list(ephemeral_bind.findings(setup(text))) == []


def test_an_unreadable_range_is_said() -> None:
    why = unasked(ephemeral_bind.findings(setup("", host=HostFacts()))).why
    assert "ip_local_port_range" in why
