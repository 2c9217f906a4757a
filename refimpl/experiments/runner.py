"""Run a function over settings and seeds, so that a run that has finished is never lost.

Every finished run is one small JSON file. A second call reads these files and computes only
what is missing, so that an experiment of an hour survives a power cut, one that was stopped
goes on, and one that got five seeds can get five more.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
from tqdm import tqdm

from refimpl.arrays import bad_argument, check_count
from refimpl.experiments.records import decode, encode
from refimpl.files import write_atomically
from refimpl.measure import machine_stamp, pinned_threads

KEYS = ("experiment", "setting", "seed", "result", "seconds", "machine")


class _Task(NamedTuple):
    """One run: which function, with which arguments, and the file it will leave."""

    function: Callable[[dict, int], dict]
    experiment: str
    setting: dict[str, Any]
    seed: int
    path: Path


def run(
    function: Callable[[dict, int], dict],
    settings: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    *,
    folder: str | os.PathLike,
    n_jobs: int = 1,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Run an experiment for every setting and seed, except where a finished run is on file.

    Parameters
    ----------
    function : callable
        ``function(setting, seed) -> dict``, defined at the top of a module so that its name
        says which experiment it is. All its randomness comes from the seed.
    settings : sequence of dict
        Each is text, numbers, booleans, None, lists and dicts of them: what JSON can hold.
    seeds : sequence of int
        At least 0; every setting runs with each of them.
    folder : path
        Where the files go, one for each run; made if missing. Several experiments may share it.
    n_jobs : int
        Processes side by side; -1 for one on each core. Inside
        ``joblib.parallel_config(backend="dask")`` the whole cluster is used instead.
    progress : bool
        Whether to show a bar (on stderr).

    Returns
    -------
    list of dict
        One record for each run, settings outside, seeds inside, with the keys ``experiment``,
        ``setting``, ``seed``, ``result``, ``seconds`` and ``machine``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or `function` returns what JSON cannot hold.
    ValueError
        If a file in the way is no finished run of this experiment; nothing is deleted, and
        nothing runs.

    Notes
    -----
    A file is written to its end under a temporary name and then renamed, so it is complete or
    not there. It is written as soon as its run is over, by the process that called `run`, so
    that the machines of a cluster need no common disk.

    Each run computes with one thread of BLAS and of Numba, because other numbers of threads
    may sum in another order: the results have the same bits for any `n_jobs`.

    Results come back as `refimpl.experiments.records.decode` reads them: NumPy numbers and
    arrays as Python's numbers and lists; NaN and infinities survive.

    A record does not notice that the code of the experiment has changed; its ``machine`` says
    which commit it came from. Changed code wants another folder.

    Examples
    --------
    >>> import random, tempfile
    >>> def toss_coins(setting, seed):
    ...     rng = random.Random(seed)
    ...     return {"heads": sum(rng.random() < 0.5 for _ in range(setting["n_coins"]))}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     records = run(toss_coins, [{"n_coins": 10}], [0, 1], folder=folder, progress=False)
    >>> [(record["seed"], record["result"]) for record in records]
    [(0, {'heads': 5}), (1, {'heads': 6})]
    """
    if n_jobs != -1:
        check_count("run", "n_jobs", n_jobs, 1)
    tasks = _tasks(function, settings, seeds, Path(folder))
    # [loop starts]
    finished = {task.path: _read(task) for task in tasks if task.path.exists()}
    missing = [task for task in tasks if task.path not in finished]
    Path(folder).mkdir(parents=True, exist_ok=True)
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")
    calls = (joblib.delayed(_execute)(task) for task in missing)
    bar = tqdm(total=len(tasks), initial=len(finished), unit="run", disable=not progress)
    with bar, contextlib.closing(parallel(calls)) as outcomes:
        for path, text in outcomes:
            write_atomically(path, text.encode())
            finished[path] = decode(text)
            bar.update()
    return [finished[task.path] for task in tasks]
    # [loop ends]


def _tasks(
    function: Callable[[dict, int], dict],
    settings: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    folder: Path,
) -> list[_Task]:
    """Name every run before the first one starts, so that a mistake costs no time."""
    experiment = _experiment_name(function)
    settings, seeds = _listed("settings", settings), _listed("seeds", seeds)
    texts = [_setting_text(index, setting) for index, setting in enumerate(settings)]
    for seed in seeds:
        check_count("run", "seeds", seed, 0)
    for argument, values in (("settings", texts), ("seeds", [int(seed) for seed in seeds])):
        _check_no_repeat(argument, values)
    tasks = []
    for setting, text in zip(settings, texts, strict=True):
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        for seed in map(int, seeds):
            short_name = ".".join(experiment.split(".")[-2:])
            path = folder / f"{short_name}-{digest}-seed{seed}.json"
            tasks.append(_Task(function, experiment, setting, seed, path))
    return tasks


def _experiment_name(function: Callable[[dict, int], dict]) -> str:
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '<none>')}"
    if "<" in name:
        advice = "its name is how finished runs are found again"
        requirement = "be a function defined with def at the top of a module"
        raise bad_argument("run", "function", requirement, repr(function), advice, kind=TypeError)
    return name


def _listed(argument: str, values: Any) -> list:
    """List values that are read more than once: a generator would be empty the second time."""
    if isinstance(values, str | dict) or not isinstance(values, Iterable):
        actual, advice = repr(values), f"put it into a list, {argument}=[...]"
        raise bad_argument("run", argument, "be a sequence", actual, advice, kind=TypeError)
    return list(values)


def _setting_text(index: int, setting: dict[str, Any]) -> str:
    """Write a setting in the one form that its file name is computed from."""
    try:
        text = json.dumps(setting, sort_keys=True, allow_nan=False)
        survives = isinstance(setting, dict) and decode(text) == setting
    except (TypeError, ValueError):
        survives = False
    if not survives:
        requirement = "be a dict that JSON gives back unchanged"
        advice = "use text, finite numbers, booleans, None, lists and dicts with text keys"
        raise bad_argument(
            "run", f"settings[{index}]", requirement, repr(setting), advice, kind=TypeError
        )
    return text


def _check_no_repeat(argument: str, values: list) -> None:
    repeated = sorted(str(value) for value, n in Counter(values).items() if n > 1)
    if repeated:
        advice = "a repeated run would only repeat its result"
        raise bad_argument("run", argument, "be all different", f"{repeated} twice", advice)


def _execute(task: _Task) -> tuple[Path, str]:
    """Compute one run, in whichever process it lands, and return its file's path and text."""
    with pinned_threads(1):
        start = time.perf_counter()
        try:
            result = task.function(copy.deepcopy(task.setting), task.seed)
        except Exception as error:
            error.add_note(f"in {task.experiment} with {task.setting}, seed {task.seed}")
            raise
        seconds = time.perf_counter() - start
        stamp = machine_stamp()
    values = (task.experiment, task.setting, task.seed, result, seconds, stamp)
    return task.path, encode(dict(zip(KEYS, values, strict=True)))


def _read(task: _Task) -> dict[str, Any]:
    """Read a finished run, or say in one sentence why the file is none."""
    try:
        record = decode(task.path.read_text("utf8"))
    except (OSError, ValueError) as error:
        raise _not_a_run(task, f"no readable JSON ({type(error).__name__})") from error
    if not isinstance(record, dict) or set(record) != set(KEYS):
        raise _not_a_run(task, "JSON with other keys")
    wanted = {"experiment": task.experiment, "setting": task.setting, "seed": task.seed}
    for key, value in wanted.items():
        if record[key] != value:
            raise _not_a_run(task, f"{key} {record[key]!r}")
    return record


def _not_a_run(task: _Task, actual: str) -> Exception:
    requirement = f"hold a finished run of {task.experiment} with {task.setting}, seed {task.seed}"
    advice = "move the file away and run again"
    return bad_argument("run", f"the file {task.path}", requirement, actual, advice)
