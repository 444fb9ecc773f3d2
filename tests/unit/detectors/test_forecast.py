"""Limits: the soonest is named, with the arithmetic that leads there."""

from __future__ import annotations

from hatrace.detectors import forecast
from hatrace.model.finding import Growth, Severity
from tests import factories as make
from tests.unit.detectors.worlds import table


def test_the_arithmetic_is_shown() -> None:
    ahead = forecast.forecast("fd limit of pid 1", 1000, 4000, Growth(30.0, 10.0))
    assert ahead.seconds_left == 6000.0
    assert ahead.arithmetic == "(4,000 - 1,000) / 30 per minute = 100.0 min"


def test_without_growth_there_is_no_time() -> None:
    assert forecast.forecast("x", 1, 10, None).seconds_left is None
    assert forecast.forecast("x", 1, 10, Growth(0.0, 10.0)).seconds_left is None


def test_a_limit_that_is_reached_is_reached_now() -> None:
    assert forecast.forecast("x", 10, 10, None).seconds_left == 0.0


def test_descriptors_are_read_from_the_process() -> None:
    world = table()
    ahead = forecast.descriptors(world, make.WORKER, Growth(60.0, 10.0))
    assert ahead is not None
    assert (ahead.used, ahead.maximum, ahead.seconds_left) == (100, 4096, 3996.0)
    assert forecast.descriptors(world, 4711, None) is None


def test_maxconn_is_read_from_show_info() -> None:
    world = table(make.info_sample(make.at(10), Maxconn="2000", CurrConns="1900"))
    ahead = forecast.connections(world, make.WORKER, [make.client_flow(5)], Growth(10.0, 10.0))
    assert ahead is not None
    assert ahead.seconds_left == 600.0
    assert forecast.connections(table(), make.WORKER, [], None) is None


def test_maxconn_is_left_out_where_haproxy_does_not_count_the_clients() -> None:
    world = table(make.info_sample(make.at(10), Maxconn="2000", CurrConns="1"))
    then, later = [make.client_flow(5), make.client_flow(6)], make.client_flow(11)
    assert forecast.connections(world, make.WORKER, then, None) is None
    assert forecast.connections(world, make.WORKER, [then[0], later], None) is not None


def test_ports_are_counted_from_the_range() -> None:
    world = table(make.host(make.at(0), port_low=40_000, port_high=40_099))
    ahead = forecast.ports(world, "192.0.2.1:8000", 40, Growth(60.0, 10.0))
    assert ahead is not None
    assert (ahead.maximum, ahead.seconds_left) == (100, 60.0)


def test_the_soonest_wins_and_then_the_fullest() -> None:
    slow = forecast.forecast("slow", 1, 1000, Growth(1.0, 10.0))
    soon = forecast.forecast("soon", 1, 100, Growth(10.0, 10.0))
    full = forecast.forecast("full", 90, 100, None)
    empty = forecast.forecast("empty", 1, 100, None)
    assert forecast.soonest([slow, None, full, soon]) is soon
    assert forecast.soonest([empty, full]) is full
    assert forecast.soonest([None]) is None


def test_severity_follows_the_time_that_is_left() -> None:
    grows = Growth(10.0, 10.0)
    near = forecast.forecast("x", 10, 100, grows)
    far = forecast.forecast("x", 10, 100_000, grows)
    assert forecast.severity(near, grows) is Severity.CRITICAL
    assert forecast.severity(far, grows) is Severity.WARNING
    assert forecast.severity(None, None) is Severity.WARNING
    assert forecast.severity(far, Growth(0.0, 60.0)) is Severity.NOTICE
