"""Events a second."""

import pytest

from stn_runtime.machine.rate import RateMeter


def test_the_rate_counts_the_intervals_between_events() -> None:
    meter = RateMeter(seconds=2.0)
    assert [meter.count(moment) for moment in (100.0, 100.5, 101.0)] == [None, 2.0, 2.0]


def test_there_is_no_rate_before_two_moments() -> None:
    meter = RateMeter(seconds=2.0)
    assert meter.rate(100.0) is None
    assert meter.count(100.0) is None
    assert meter.count(100.0) is None  # two events at one moment span no time


def test_events_older_than_the_window_do_not_count() -> None:
    meter = RateMeter(seconds=2.0)
    for moment in (100.0, 100.1, 100.2, 102.5, 103.0):
        rate = meter.count(moment)
    assert rate == 2.0  # 102.5 and 103.0


def test_the_last_two_events_count_however_far_apart_they_are() -> None:
    meter = RateMeter(seconds=2.0)
    meter.count(100.0)
    assert meter.count(110.0) == pytest.approx(0.1)


def test_the_rate_ends_when_no_event_comes_within_the_window() -> None:
    meter = RateMeter(seconds=2.0)
    for moment in (100.0, 100.5, 101.0):
        meter.count(moment)
    assert meter.rate(103.0) == 2.0
    assert meter.rate(103.1) is None
    assert meter.count(105.0) == 0.25  # and comes back with the next event


def test_frequent_events_are_measured_over_fewer_seconds() -> None:
    meter = RateMeter(seconds=1000.0)
    for number in range(300):
        meter.count(float(number))
    for number in range(300):
        rate = meter.count(1000 + number * 0.125)
    assert rate == 8.0
