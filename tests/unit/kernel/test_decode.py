"""What the maps and the inventory say, as events."""

from __future__ import annotations

import socket

from hatrace.kernel import decode, wire


def test_totals_of_all_cpus_are_one_target() -> None:
    key = wire.TARGET_KEY.pack(bytes(15) + b"\1", 42, 4026531840, 8000, 0)
    one = wire.TARGET_TOTAL.pack(1, 10, 2, 3, 100, 200, *range(16))
    two = wire.TARGET_TOTAL.pack(0, 5, 0, 1, 10, 20, *[0] * 15, 7)
    target = decode.target(9, key, one + two, open_now=4)
    assert (target.index, target.pid, target.port, target.inbound) == (9, 42, 8000, False)
    assert (target.gone, target.failed, target.reset) == (15, 2, 4)
    assert (target.sent_bytes, target.received_bytes) == (110, 220)
    assert (target.adopted, target.open, target.born) == (1, 4, 18)
    assert target.lifetime[14:] == (14, 22)


def test_losses_of_all_cpus() -> None:
    counted = decode.losses(5, wire.LOSSES.pack(1, 2, 3, 4) + wire.LOSSES.pack(10, 0, 0, 1), 6)
    assert (counted.ring_full, counted.flows_full, counted.targets_full) == (11, 2, 3)
    # What was told late is not lost.
    assert (counted.overwritten, counted.scan_truncated, counted.total) == (5, 6, 16)


def test_holders() -> None:
    records = wire.HELD.pack(1, 2, 3, 2, 6, 1) + wire.HELD.pack(4, 5, 6, 1, 0, 1)
    assert [(h.pid, h.fd, h.inode) for h in decode.holders(records)] == [(1, 2, 3), (4, 5, 6)]


def test_of_established_connections_only_the_wanted_holders() -> None:
    tcp, listening, closed, established = socket.IPPROTO_TCP, 10, 7, 1
    records = b"".join(
        wire.HELD.pack(1, fd, 100 + fd, family, protocol, state)
        for fd, (family, protocol, state) in enumerate(
            [
                (socket.AF_INET, tcp, established),
                (socket.AF_INET6, tcp, established),
                (socket.AF_INET, tcp, listening),
                (socket.AF_INET6, tcp, closed),
                (socket.AF_INET, socket.IPPROTO_UDP, established),
                (socket.AF_UNIX, 0, established),
            ]
        )
    )
    assert [one.fd for one in decode.holders(records)] == [0, 1, 2, 3, 4, 5]
    assert [one.fd for one in decode.holders(records, ())] == [2, 3, 4, 5]
    assert [one.fd for one in decode.holders(records, {101})] == [1, 2, 3, 4, 5]
    assert not list(decode.holders(b"", ()))
