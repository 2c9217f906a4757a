"""Timing, on a clock that the tests move by hand: no real time is ever read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.measure import Measurement, compare, measure, speedup

TIMES = st.floats(1e-12, 1e6)


class FakeClock:
    """A clock that stands still until some work moves it."""

    def __init__(self, slowdown_per_second=0.0):
        self.now = 0.0
        self.slowdown = slowdown_per_second
        self.order = []

    def __call__(self):
        return self.now

    def work(self, seconds, name="work"):
        def call():
            self.order.append(name)
            self.now += seconds * (1 + self.slowdown * self.now)

        return call


def test_measurement_median_is_the_middle_sample():
    assert Measurement((3.0, 1.0, 2.0)).median == 2.0


def test_measurement_spread_is_the_interquartile_range():
    assert Measurement((1.0, 2.0, 3.0, 4.0, 5.0)).spread == 2.0


def test_measurement_rates_are_taken_at_the_median():
    m = Measurement((1.0, 2.0, 9.0), flops=10, bytes_moved=6)
    assert (m.flops_per_second, m.bytes_per_second) == (5.0, 3.0)


def test_measurement_has_no_rate_without_a_count():
    m = Measurement((1.0,))
    assert (m.flops_per_second, m.bytes_per_second) == (None, None)


@given(
    seconds=st.lists(TIMES, min_size=1, max_size=5),
    flops=st.none() | st.integers(0, 2**80),
    bytes_moved=st.none() | st.integers(0, 2**80),
)
def test_measurement_json_roundtrip_is_exact(seconds, flops, bytes_moved):
    m = Measurement(tuple(seconds), flops, bytes_moved, {"cpu": "a", "cores": 2, "commit": None})
    assert Measurement.from_json(json.loads(json.dumps(m.to_json()))) == m


@pytest.mark.parametrize("seconds", [(), (0.0,), (-1.0,), (1.0, float("nan")), (float("inf"),)])
def test_measurement_rejects_what_is_no_time(seconds):
    with pytest.raises(ValueError, match="Measurement: seconds must hold at least one sample"):
        Measurement(seconds)


@pytest.mark.parametrize("change", [{"secs": [1.0]}, {}])
def test_measurement_from_json_rejects_other_keys(change):
    data = {"seconds": [1.0], "flops": None, "bytes_moved": None} | change
    with pytest.raises(ValueError, match="from_json: data must have the keys"):
        Measurement.from_json(data)


def test_measure_warms_up_before_the_first_sample():
    clock = FakeClock()
    first_is_slow = iter([100.0])
    m = measure(lambda: clock.work(next(first_is_slow, 1.0))(), repeats=3, clock=clock)
    assert m.seconds == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("repeats", [1, 4])
def test_measure_takes_as_many_samples_as_asked(repeats):
    clock = FakeClock()
    assert len(measure(clock.work(1.0), repeats=repeats, clock=clock).seconds) == repeats


@pytest.mark.parametrize(("seconds", "calls"), [(2e-3, 1), (3e-4, 4), (2.0**-20, 2048)])
def test_measure_repeats_a_short_call_until_a_sample_lasts_a_millisecond(seconds, calls):
    clock = FakeClock()
    measure(clock.work(seconds), repeats=1, warmup=1, clock=clock)
    calibration = 2 * calls - 1  # 1 + 2 + 4 + ... calls
    assert len(clock.order) == 1 + calibration + calls


def test_measure_reports_seconds_of_one_call():
    clock = FakeClock()
    assert measure(clock.work(2.0**-12), repeats=2, clock=clock).seconds == (2.0**-12,) * 2


def test_measure_keeps_the_costs():
    clock = FakeClock()
    m = measure(clock.work(1.0), repeats=1, flops=54, bytes_moved=36, clock=clock)
    assert (m.flops, m.bytes_moved) == (54, 36)


def test_measure_stamps_the_machine():
    clock = FakeClock()
    assert measure(clock.work(1.0), repeats=1, clock=clock).machine["cores"] >= 1


def test_measure_refuses_a_stopped_clock():
    with pytest.raises(ValueError, match=r"positive, finite time, got .*; check the clock"):
        measure(lambda: None, repeats=1, clock=lambda: 7.0)


def test_measure_with_the_real_clock_sees_time_pass():
    assert measure(lambda: sum(range(10)), repeats=2).median > 0


def test_compare_runs_every_second_round_in_reverse():
    clock = FakeClock()
    both = {"a": clock.work(1.0, "a"), "b": clock.work(1.0, "b")}
    compare(both, repeats=4, clock=clock)
    warmup_and_calibration = 4
    assert "".join(clock.order[warmup_and_calibration:]) == "abbaabba"


def test_compare_shares_a_constant_drift_equally():
    clock = FakeClock(slowdown_per_second=1e-6)
    both = {"a": clock.work(1.0, "a"), "b": clock.work(1.0, "b")}
    times = compare(both, repeats=10, clock=clock)
    a, b = (sum(times[name].seconds) for name in "ab")
    assert abs(a - b) < 1e-6 * abs(times["a"].seconds[-1] - times["a"].seconds[0])


def test_compare_calls_a_function_for_the_lead_in_before_each_sample():
    clock = FakeClock()
    both = {"a": clock.work(1.0, "a"), "b": clock.work(2.0, "b")}
    compare(both, repeats=2, lead_in=3.0, clock=clock)
    warmup_and_calibration = 4
    assert "".join(clock.order[warmup_and_calibration:]) == "aaaa" + "bbb" + "bbb" + "aaaa"


def test_compare_does_not_time_the_lead_in():
    clock = FakeClock()
    times = compare({"a": clock.work(1.0)}, repeats=2, lead_in=3.0, clock=clock)
    assert times["a"].seconds == (1.0, 1.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_compare_rejects_a_lead_in_that_is_no_time(seconds):
    with pytest.raises(ValueError, match="compare: lead_in must be"):
        compare({"a": lambda: None}, lead_in=seconds)


def test_compare_keeps_the_costs_by_name():
    clock = FakeClock()
    both = {"a": clock.work(1.0), "b": clock.work(1.0)}
    times = compare(both, repeats=1, flops={"b": 30}, bytes_moved={"a": 36}, clock=clock)
    costs = {name: (m.flops, m.bytes_moved) for name, m in times.items()}
    assert costs == {"a": (None, 36), "b": (30, None)}


@pytest.mark.parametrize("cost", ["flops", "bytes_moved"])
def test_compare_rejects_the_cost_of_an_unknown_function(cost):
    with pytest.raises(ValueError, match=rf"compare: {cost} must name functions among \['a'\]"):
        compare({"a": lambda: None}, **{cost: {"A": 1}})


def test_compare_rejects_an_empty_table():
    with pytest.raises(ValueError, match="compare: functions must hold a function, got none"):
        compare({})


@pytest.mark.parametrize("count", ["repeats", "warmup"])
def test_compare_rejects_zero_of(count):
    with pytest.raises(ValueError, match=f"compare: {count} must be at least 1, got 0"):
        compare({"a": lambda: None}, **{count: 0})


def test_speedup_is_the_median_of_ratios_not_the_ratio_of_medians():
    slow, fast = Measurement((2.0, 40.0, 60.0)), Measurement((1.0, 10.0, 30.0))
    assert speedup(slow, fast).median == 2.0


def test_speedup_gives_the_quartiles():
    ratios = speedup(Measurement((1.0, 2.0, 3.0, 4.0, 5.0)), Measurement((1.0,) * 5))
    assert tuple(ratios) == (3.0, 2.0, 4.0)


@given(st.lists(TIMES, min_size=1, max_size=6), st.sampled_from([0.25, 0.5, 4.0, 8.0]))
def test_speedup_does_not_see_a_machine_that_slows_down(seconds, factor):
    baseline = Measurement(tuple(factor * s for s in seconds))
    assert speedup(baseline, Measurement(tuple(seconds))) == (factor,) * 3


def test_speedup_rejects_samples_that_do_not_pair_up():
    with pytest.raises(ValueError, match="speedup: contender must have as many samples"):
        speedup(Measurement((1.0, 1.0)), Measurement((1.0,)))
