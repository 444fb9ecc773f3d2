"""Flows as columns: all that was in the records comes back, together or one by one."""

from __future__ import annotations

import random

import pytest

from hatrace.model.columns import WORDS, Columns
from tests import factories as make


def some_records(count: int) -> bytes:
    return make.records(make.ended(make.flow(n / 7), sent_bytes=n) for n in range(count))


def random_records(zeros: float, count: int = 97) -> bytes:
    chance = random.Random(zeros)
    return b"".join(
        bytes(8) if chance.random() < zeros else chance.randbytes(8) for _ in range(WORDS * count)
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3, 255, 1000])
def test_records_come_back(count: int) -> None:
    records = some_records(count)
    flows = Columns.of(records)
    assert (len(flows), bool(flows)) == (count, count > 0)
    assert flows.records() == records


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.9])
def test_any_bytes_come_back(zeros: float) -> None:
    """Times in no order, of which some have not happened, borrow from one another."""
    assert Columns.of(random_records(zeros)).records() == random_records(zeros)


def test_a_time_at_its_base_is_not_taken_for_one_that_has_not_happened() -> None:
    flow = make.ended(make.flow())
    same = flow._replace(connect_ns=flow.born_ns, released_ns=flow.gone_ns, fin_ns=flow.gone_ns)
    never = flow._replace(connect_ns=0, released_ns=0, fin_ns=0)
    assert list(make.columns([same, never, same])) == [same, never, same]


def test_one_is_as_it_is_among_all() -> None:
    random_flows = Columns.of(random_records(0.3))
    assert list(random_flows.picked(range(97))) == list(random_flows)
    never = make.ended(make.flow(3))._replace(connect_ns=0, closed_ns=0, fin_ns=0)
    flows = [make.ended(make.flow(n)) for n in range(5)] + [never, make.ended(make.client_flow(1))]
    columns = make.columns(flows)
    assert list(columns.picked(range(len(flows)))) == flows == list(columns)
    assert list(columns.picked([1, 4])) == [flows[1], flows[4]]
    assert not list(columns.picked([]))


@pytest.mark.parametrize("name", ["target", "flags", "sent_bytes", "received_bytes", "state"])
def test_values_are_the_field_of_all(name: str) -> None:
    flows = [make.flow(**{name: 7 + n}) for n in range(5)]  # type: ignore[arg-type]
    assert make.columns(flows).values(name) == [7, 8, 9, 10, 11]


@pytest.mark.parametrize("name", ["born_ns", "gone_ns", "laddr"])
def test_of_times_and_names_there_are_no_values(name: str) -> None:
    with pytest.raises(KeyError):
        make.columns([make.flow()]).values(name)


def test_a_time_after_the_end_is_no_other_flows_business() -> None:
    """Distances below zero borrow from no neighbour: the kernel writes each flow by itself."""
    late = make.ended(make.flow())._replace(closed_ns=2**62, released_ns=2**63)
    flows = [late, make.flow(), make.ended(make.flow())]
    alone = Columns.joined(make.columns([flow]) for flow in flows)
    assert alone == make.columns(flows)
    assert list(alone) == flows


def test_joined_they_stay_in_their_order() -> None:
    first, second = make.columns([make.flow(1), make.flow(2)]), make.columns([make.flow(3)])
    assert list(Columns.joined([first, Columns(), second])) == [*first, *second]


def test_a_record_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number"):
        Columns.of(some_records(2)[:-1])
