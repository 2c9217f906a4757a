"""How long does a function take, on a machine that is never quiet?

Three habits make a ratio of two times believable: warm up first (the first call may compile),
take turns (so that a slow second hits everybody), and keep every sample (so that the spread
can be seen). `compare` has them built in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from refimpl.arrays import bad_argument, check_count, check_positive
from refimpl.measure.machine import machine_stamp

SHORTEST_SAMPLE = 1e-3  # seconds; a clock that is off by a microsecond is then off by 0.1 %
MOST_CALLS = 2**20  # in one sample


@dataclass(frozen=True)
class Measurement:
    """Time samples of one function, with the work it did and the machine it ran on.

    Parameters
    ----------
    seconds : tuple of float
        Samples of the time of one call, in the order they were taken; at least one, all > 0.
    flops : int, optional
        Floating-point operations of one call.
    bytes_moved : int, optional
        Bytes that one call has to read and write.
    machine : dict
        What `machine_stamp` returned when the samples were taken.

    Raises
    ------
    ValueError
        If there is no sample, or one that is not a positive, finite time.

    Examples
    --------
    >>> m = Measurement((0.002, 0.001, 0.004), flops=2_000_000)
    >>> m.median, m.flops_per_second
    (0.002, 1000000000.0)
    >>> Measurement.from_json(m.to_json()) == m
    True
    """

    seconds: tuple[float, ...]
    flops: int | None = None
    bytes_moved: int | None = None
    machine: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", tuple(float(s) for s in self.seconds))
        if not self.seconds or not all(0 < s < math.inf for s in self.seconds):
            requirement = "hold at least one sample, each a positive, finite time"
            advice = "check the clock"
            raise bad_argument("Measurement", "seconds", requirement, self.seconds, advice)

    @property
    def median(self) -> float:
        """Median of the samples, in seconds."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Interquartile range of the samples, in seconds: the middle half lies this far apart."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(high - low)

    @property
    def flops_per_second(self) -> float | None:
        """Operations a second at the median, or None if they were not counted."""
        return None if self.flops is None else self.flops / self.median

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes moved a second at the median, or None if they were not counted."""
        return None if self.bytes_moved is None else self.bytes_moved / self.median

    def to_json(self) -> dict[str, Any]:
        """Return a new dict that `json` can write; `from_json` gets the same bits back."""
        return {
            "seconds": list(self.seconds),
            "flops": self.flops,
            "bytes_moved": self.bytes_moved,
            "machine": dict(self.machine),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Build a measurement from what `to_json` returned.

        Parameters
        ----------
        data : mapping
            With the keys ``seconds``, ``flops``, ``bytes_moved`` and ``machine``.

        Returns
        -------
        Measurement
            Equal to the one that was written.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a sample is no time.
        """
        wanted = {"seconds", "flops", "bytes_moved", "machine"}
        if set(data) != wanted:
            requirement = f"have the keys {sorted(wanted)}"
            advice = "read a file that to_json wrote"
            raise bad_argument("Measurement.from_json", "data", requirement, sorted(data), advice)
        return cls(tuple(data["seconds"]), data["flops"], data["bytes_moved"], data["machine"])


class Speedup(NamedTuple):
    """How many times faster: the median over rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def measure(
    function: Callable[[], object],
    *,
    repeats: int = 20,
    warmup: int = 1,
    flops: int | None = None,
    bytes_moved: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Measurement:
    """Time one function: warm it up, then take samples long enough for the clock.

    Parameters
    ----------
    function : callable
        Takes no argument; what it returns is dropped.
    repeats : int
        Number of samples, at least 1.
    warmup : int
        Calls before the first sample; at least 1, because the first call may compile.
    flops, bytes_moved : int, optional
        What one call costs, from `refimpl.measure.counting`.
    clock : callable
        Returns seconds; only differences count.

    Returns
    -------
    Measurement
        Seconds per call.

    Notes
    -----
    A sample repeats the call until it lasts at least a millisecond, and is the mean of these
    calls.

    Examples
    --------
    >>> measure(lambda: sum(range(100)), repeats=3).median > 0
    True
    """
    return compare(
        {"function": function},
        repeats=repeats,
        warmup=warmup,
        flops=None if flops is None else {"function": flops},
        bytes_moved=None if bytes_moved is None else {"function": bytes_moved},
        clock=clock,
    )["function"]


def compare(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 20,
    warmup: int = 1,
    lead_in: float | None = None,
    flops: Mapping[str, int] | None = None,
    bytes_moved: Mapping[str, int] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measurement]:
    """Time several functions in turn, so that a drift of the machine hits all of them alike.

    Parameters
    ----------
    functions : mapping of str to callable
        At least one; each takes no argument. Check that they compute the same thing *before*
        comparing their times.
    repeats : int
        Number of rounds, at least 1. Each round takes one sample of every function.
    warmup : int
        Calls of each function before the first round, at least 1.
    lead_in : float, optional
        Seconds, above 0, for which a function is called before each of its samples, untimed.
        Libraries with threads of their own need it: the threads of the function before wait for
        more work by running in circles, on a core that the next function would use.
    flops, bytes_moved : mapping of str to int, optional
        What one call costs, by the name of the function; names may be left out.
    clock : callable
        Returns seconds; only differences count.

    Returns
    -------
    dict of str to Measurement
        In the order of `functions`. Sample ``i`` of every function comes from round ``i``,
        which is what `speedup` relies on.

    Raises
    ------
    ValueError
        If there is no function, a count is below 1, `lead_in` is no positive time, or a cost has
        an unknown name.

    Notes
    -----
    Every second round runs in reverse order (A B, B A, A B, ...): over two rounds, a machine
    that slows down at a constant rate slows A and B by the same amount.

    Examples
    --------
    >>> times = compare({"short": lambda: sum(range(10)), "long": lambda: sum(range(1000))},
    ...                 repeats=3)
    >>> [len(times[name].seconds) for name in ("short", "long")]
    [3, 3]
    """
    check_count("compare", "repeats", repeats, 1)
    check_count("compare", "warmup", warmup, 1)
    if lead_in is not None:
        check_positive("compare", "lead_in", lead_in)
    if not functions:
        raise bad_argument("compare", "functions", "hold a function", "none", "name one")
    flops = _named_costs("flops", flops, functions)
    bytes_moved = _named_costs("bytes_moved", bytes_moved, functions)
    for function in functions.values():
        _seconds(function, warmup, clock)
    calls = {name: _calls_per_sample(f, clock) for name, f in functions.items()}
    samples = _samples_in_turns(functions, calls, repeats, clock, lead_in)
    stamp = machine_stamp()
    return {
        name: Measurement(tuple(samples[name]), flops.get(name), bytes_moved.get(name), stamp)
        for name in functions
    }


def _samples_in_turns(
    functions: Mapping[str, Callable[[], object]],
    calls: Mapping[str, int],
    repeats: int,
    clock: Callable[[], float],
    lead_in: float | None = None,
) -> dict[str, list[float]]:
    """Take one sample of each function a round; every second round runs in reverse."""
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(repeats):
        backwards = round_number % 2 == 1
        for name in reversed(list(functions)) if backwards else functions:
            if lead_in is not None:
                _keep_calling(functions[name], lead_in, clock)
            elapsed = _seconds(functions[name], calls[name], clock)
            samples[name].append(elapsed / calls[name])
    return samples


def _named_costs(
    argument: str, costs: Mapping[str, int] | None, functions: Mapping[str, Any]
) -> Mapping[str, int]:
    unknown = sorted(set(costs or ()) - set(functions))
    if unknown:
        requirement = f"name functions among {sorted(functions)}"
        raise bad_argument("compare", argument, requirement, unknown, "spell them alike")
    return costs or {}


def _seconds(function: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        function()
    return clock() - start


def _keep_calling(
    function: Callable[[], object], seconds: float, clock: Callable[[], float]
) -> None:
    end = clock() + seconds
    while clock() < end:
        function()


def _calls_per_sample(function: Callable[[], object], clock: Callable[[], float]) -> int:
    calls = 1
    while calls < MOST_CALLS and _seconds(function, calls, clock) < SHORTEST_SAMPLE:
        calls *= 2
    return calls


def speedup(baseline: Measurement, contender: Measurement) -> Speedup:
    """Say how many times faster the contender is, round by round.

    Parameters
    ----------
    baseline, contender : Measurement
        Of one call of `compare`, so that their samples pair up.

    Returns
    -------
    Speedup
        Median and quartiles of ``baseline / contender`` over the rounds; above 1 the
        contender is faster.

    Raises
    ------
    ValueError
        If the two do not have the same number of samples.

    Notes
    -----
    A slow round slows both; their ratio hardly notices. That is why the ratio is taken first
    and the median after.

    Examples
    --------
    >>> speedup(Measurement((2.0, 20.0, 2.0)), Measurement((1.0, 10.0, 1.0)))
    Speedup(median=2.0, low=2.0, high=2.0)
    """
    if len(baseline.seconds) != len(contender.seconds):
        requirement = f"have as many samples as baseline, {len(baseline.seconds)}"
        advice = "measure both in one call of compare"
        raise bad_argument("speedup", "contender", requirement, len(contender.seconds), advice)
    ratios = np.array(baseline.seconds) / np.array(contender.seconds)
    low, middle, high = (float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return Speedup(middle, low, high)
