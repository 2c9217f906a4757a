"""What did an experiment find: mean and spread over seeds, small enough to keep and to cite."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from refimpl.arrays import bad_argument
from refimpl.experiments.records import encode
from refimpl.files import write_atomically


def summarize(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gather the runs of one experiment by setting, with mean and spread over the seeds.

    Parameters
    ----------
    records : sequence of dict
        What `refimpl.experiments.runner.run` returned, at least one.

    Returns
    -------
    dict
        ``experiment``, ``seeds`` (in order), ``seconds`` (of all runs), ``machines`` (each
        different stamp once) and ``settings``: a list of dicts with ``setting`` and
        ``results``. For each key of a run's result, ``results`` holds ``values``, one for each
        seed in the order of ``seeds``; where these are finite numbers, also ``mean``, ``sd``
        (with n - 1; None for one seed) and ``n``.

    Raises
    ------
    ValueError
        If there is no record, experiments are mixed, or settings have different seeds.

    Examples
    --------
    >>> records = [{"experiment": "toss", "setting": {"coins": 9}, "seed": seed,
    ...             "result": {"heads": heads}, "seconds": 0.5, "machine": {"cores": 2}}
    ...            for seed, heads in [(0, 3), (1, 6)]]
    >>> summarize(records)["settings"][0]["results"]["heads"]
    {'values': [3, 6], 'mean': 4.5, 'sd': 2.1213203435596424, 'n': 2}
    """
    experiments = sorted({record["experiment"] for record in records})
    if len(experiments) != 1:
        requirement = "come from one experiment"
        advice = "summarize each experiment by itself"
        raise bad_argument("summarize", "records", requirement, experiments or "none", advice)
    groups = _by_setting(records)
    return {
        "experiment": experiments[0],
        "seeds": _common_seeds(groups),
        "seconds": round(sum(record["seconds"] for record in records), 3),
        "machines": _distinct(record["machine"] for record in records),
        "settings": [
            {"setting": group[0]["setting"], "results": _results(group)} for group in groups
        ],
    }


def write_summary(summary: dict[str, Any], path: str | os.PathLike) -> None:
    """Write a summary as a JSON file that a page can read and a person can compare.

    Parameters
    ----------
    summary : dict
        From `summarize`.
    path : path
        Replaced if there; its folder is made if missing.

    Raises
    ------
    TypeError
        If the summary holds what JSON cannot.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encode(summary).encode())


def _by_setting(records: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[str, list] = {}
    for record in records:
        groups.setdefault(encode(record["setting"]), []).append(record)
    return list(groups.values())


def _common_seeds(groups: Sequence[Sequence[dict[str, Any]]]) -> list[int]:
    seeds = [[record["seed"] for record in group] for group in groups]
    if any(other != seeds[0] for other in seeds):
        requirement = "have the same seeds, in the same order, for every setting"
        actual = sorted({str(other) for other in seeds})
        raise bad_argument("summarize", "records", requirement, actual, "run the missing ones")
    return seeds[0]


def _distinct(stamps: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    distinct: list[dict[str, Any]] = []
    for stamp in stamps:
        if stamp not in distinct:
            distinct.append(stamp)
    return distinct


def _results(group: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    keys = {key: None for record in group for key in record["result"]}
    return {key: _spread([record["result"].get(key) for record in group]) for key in keys}


def _spread(values: list[Any]) -> dict[str, Any]:
    if not all(_is_finite_number(value) for value in values):
        return {"values": values}
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"values": values, "mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
