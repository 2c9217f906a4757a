"""Small experiments that worker processes can import; run as a program, a slow one to be killed."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numba
import numpy as np

from refimpl.experiments.runner import run

SLOW = [{"scale": 1.0, "sleep": 0.1}]
SEEDS = range(8)


def draw(setting, seed):
    """Random numbers and their Gram matrix, summed by BLAS."""
    rng = np.random.default_rng(seed)
    sample = setting["scale"] * rng.normal(size=(200, 100))
    return {"first": sample[0, 0], "gram": (sample.T @ sample)[0], "seed": seed}


def draw_slowly(setting, seed):
    time.sleep(setting["sleep"])
    return draw(setting, seed)


def draw_and_log(setting, seed):
    """Leave a line behind, so that a test can count the runs."""
    with Path(setting["log"]).open("a") as log:
        log.write(f"{seed}\n")
    return {"seed": seed}


def where(_setting, _seed):
    return {"pid": os.getpid(), "threads": numba.get_num_threads()}


def fail_at_seed_two(_setting, seed):
    if seed == 2:
        raise RuntimeError("planted")
    return {"seed": seed}


def fail_with_a_sentence(_setting, seed):
    if seed == 1:
        raise ValueError("toy: seed must be even, got 1; take another")
    return {"seed": seed}


def interrupt_at_seed_two(_setting, seed):
    if seed == 2:
        raise KeyboardInterrupt
    return {"seed": seed}


def change_setting(setting, _seed):
    setting["scale"] = 0.0
    return {}


def return_result_of_setting(setting, _seed):
    """What JSON cannot say, by name."""
    named = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "float32": np.float32(0.1)}
    odd = {"set": {1}, "complex": 1j, "key": {1: 2}}
    return {"value": (named | odd)[setting["name"]]}


if __name__ == "__main__":
    run(draw_slowly, SLOW, SEEDS, folder=sys.argv[1], n_jobs=int(sys.argv[2]), progress=False)
