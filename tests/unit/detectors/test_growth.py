"""The rate: from the times at which pieces came, and only as new as its news."""

from __future__ import annotations

import pytest

from hatrace.detectors.growth import growth, total
from hatrace.model.finding import Growth

S = 1_000_000_000


def test_nothing_is_known_before_ten_seconds_without_news() -> None:
    assert growth([], 0, 9 * S) is None
    assert growth([], 0, 25 * S) == Growth(0.0, 20.0)


def test_one_piece_counts_over_the_time_we_looked() -> None:
    assert growth([5 * S], 0, 31 * S) == Growth(2.0, 30.0)


def test_a_steady_row_gives_its_rate_at_once() -> None:
    times = [100 * S, 102 * S, 104 * S]
    assert growth(times, 90 * S, 105 * S) == Growth(30.0, 4.0)


def test_it_stays_the_same_between_two_pieces() -> None:
    times = [100 * S, 110 * S, 120 * S]
    asked = {growth(times, 0, now * S) for now in range(121, 130)}
    assert len(asked) == 1


def test_it_falls_when_no_more_come() -> None:
    times = [100 * S, 102 * S, 104 * S]
    later = growth(times, 90 * S, 164 * S)
    assert later == Growth(1.88, 64.0)


def test_a_burst_is_no_rate() -> None:
    times = [100 * S + n for n in range(20)]
    assert growth(times, 0, 101 * S) is None
    assert growth(times, 0, 103 * S) is not None
    assert growth(times, 0, 103 * S, least_ns=5 * S) is None
    assert growth(times, 0, 105 * S, least_ns=5 * S) == Growth(228.0, 5.0)


def test_pieces_of_one_instant_give_no_rate_at_once() -> None:
    assert growth([100 * S, 100 * S], 0, 101 * S) is None


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_the_times_does_not_matter(order: int) -> None:
    times = [100 * S, 104 * S, 102 * S][::order]
    assert growth(times, 0, 105 * S) == Growth(30.0, 4.0)


def test_what_is_older_than_the_window_does_not_count() -> None:
    times = [0, S, 1000 * S, 1002 * S]
    assert growth(times, 0, 1003 * S) == Growth(30.0, 2.0)


def test_rates_against_one_limit_add_up() -> None:
    assert total([Growth(1.5, 10.0), None, Growth(2.0, 20.0)]) == Growth(3.5, 20.0)
    assert total([None]) is None
