"""Totals per target, beside what ``bpf/targets.h`` counts."""

from __future__ import annotations

import pytest

from hatrace.model.flow import Flag, State
from hatrace.sockets.totals import Totals, bucket, key_of
from tests import factories


@pytest.mark.parametrize(
    ("microseconds", "expected"),
    [(0, 0), (1, 1), (3, 1), (4, 2), (15, 2), (16, 3), (4**9 - 1, 9), (4**9, 10), (4**20, 15)],
)
def test_buckets(microseconds: int, expected: int) -> None:
    assert bucket(microseconds * 1000) == expected
    assert bucket(-5) == 0


def test_in_and_out_and_neither() -> None:
    out = factories.flow(pid=5)
    assert key_of(out) == (False, out.raddr, out.rport, 5, out.netns)
    inward = factories.flow(pid=5, flags=int(Flag.ACCEPTED), lport=443)
    assert key_of(inward) == (True, inward.laddr, 443, 0, inward.netns)
    assert key_of(factories.flow(flags=0)) is None
    assert key_of(factories.flow(state=int(State.LISTEN))) is None


def test_counting() -> None:
    totals = Totals()
    old = factories.flow(flags=int(Flag.CONNECTED | Flag.ADOPTED))
    new = factories.flow()
    assert totals.enter(old) == totals.enter(new) == 1
    assert totals.enter(factories.flow(flags=0)) == 0
    end = new.born_ns + 10_000_000
    gone = new._replace(target=1, gone_ns=end, released_ns=end, flags=new.flags | Flag.FAILED)
    totals.leave(gone)
    totals.leave(gone._replace(target=0))
    [row] = totals.rows()
    assert (row.born, row.adopted, row.gone, row.failed, row.reset, row.open) == (1, 1, 1, 1, 0, 1)
    assert (row.sent_bytes, row.received_bytes) == (5_000, 70_000)
    assert row.lifetime[7] == sum(row.lifetime) == 1, "10 ms are under 4**7 us"


def test_who_connects_there() -> None:
    totals = Totals()
    one, other = factories.flow(pid=5), factories.flow(pid=6)
    place = one.raddr, one.rport, one.netns
    totals.enter(one)
    assert totals.owner_of(*place, {5, 6}) == 5
    assert totals.owner_of(*place, {6}) == 0
    totals.enter(other)
    assert totals.owner_of(*place, {5, 6}) == 0, "two: nobody can say"
    assert totals.owner_of(one.raddr, 1, one.netns, {5}) == 0
