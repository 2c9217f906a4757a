"""The runner loses no finished run, repeats none, and gives the same bits wherever it computes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest

from refimpl.experiments.runner import run
from support import toy_experiment as toy

SETTINGS = [{"scale": 1.0}, {"scale": 0.5}]
ROOT = Path(__file__).parents[2]
quiet_run = partial(run, progress=False)


def results(records):
    return [record["result"] for record in records]


def snapshot(folder):
    """Content and time of every finished run."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.glob("*.json")}


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_run_covers_settings_and_seeds_in_order(tmp_path):
    records = quiet_run(toy.draw, SETTINGS, [3, 1], folder=tmp_path)
    order = [(record["setting"]["scale"], record["seed"]) for record in records]
    assert order == [(1.0, 3), (1.0, 1), (0.5, 3), (0.5, 1)]


def test_run_returns_what_the_function_computed(tmp_path):
    (record,) = quiet_run(toy.draw, [{"scale": 2.0}], [7], folder=tmp_path)
    assert record["result"]["first"] == 2.0 * np.random.default_rng(7).normal()


def test_run_records_machine_and_seconds(tmp_path):
    (record,) = quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    assert record["machine"]["python"]
    assert record["seconds"] > 0


def test_run_writes_one_file_a_run_and_nothing_else(tmp_path):
    quiet_run(toy.draw, SETTINGS, range(3), folder=tmp_path)
    names = sorted(path.suffix for path in tmp_path.iterdir())
    assert names == [".json"] * 6


def test_run_file_is_the_record(tmp_path):
    (record,) = quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    assert json.loads(only_file(tmp_path).read_text()) == record


def test_run_makes_the_folder(tmp_path):
    quiet_run(toy.draw, SETTINGS, [0], folder=tmp_path / "deep" / "er")
    assert len(list((tmp_path / "deep" / "er").iterdir())) == 2


def test_run_computes_a_finished_run_only_once(tmp_path):
    settings = [{"log": str(tmp_path / "log")}]
    quiet_run(toy.draw_and_log, settings, [0, 1], folder=tmp_path / "runs")
    quiet_run(toy.draw_and_log, settings, [0, 1, 2], folder=tmp_path / "runs")
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2"]


def test_run_reads_back_what_it_computed(tmp_path):
    computed = quiet_run(toy.draw, SETTINGS, range(2), folder=tmp_path)
    assert quiet_run(toy.draw, SETTINGS, range(2), folder=tmp_path) == computed


def test_run_with_two_jobs_gives_the_same_bits(tmp_path):
    alone = quiet_run(toy.draw, SETTINGS, range(3), folder=tmp_path / "1")
    pair = quiet_run(toy.draw, SETTINGS, range(3), folder=tmp_path / "2", n_jobs=2)
    assert results(pair) == results(alone)


def test_run_gives_every_run_one_thread(tmp_path):
    (record,) = quiet_run(toy.where, [{}], [0], folder=tmp_path)
    assert record["result"]["threads"] == 1


def test_run_lets_experiments_share_a_folder(tmp_path):
    quiet_run(toy.draw, SETTINGS, [0], folder=tmp_path)
    (record,) = quiet_run(toy.where, SETTINGS[:1], [0], folder=tmp_path)
    assert record["result"]["pid"] == os.getpid()


def test_run_keeps_the_setting_of_a_function_that_changes_it(tmp_path):
    (record,) = quiet_run(toy.change_setting, [{"scale": 1.0}], [0], folder=tmp_path)
    assert record["setting"] == {"scale": 1.0}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_run_resumes_after_kill_nine(tmp_path, n_jobs):
    folder = tmp_path / "runs"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "support.toy_experiment", str(folder), str(n_jobs)]
    program = subprocess.Popen(command, env=environment, cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(snapshot(folder)) < 2 and program.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(program.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    before = snapshot(folder)
    assert 2 <= len(before) < len(toy.SEEDS)
    resumed = quiet_run(toy.draw_slowly, toy.SLOW, toy.SEEDS, folder=folder)
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    fresh = quiet_run(toy.draw, toy.SLOW, toy.SEEDS, folder=tmp_path / "fresh")
    assert results(resumed) == results(fresh)


def test_run_ignores_what_a_kill_left_behind(tmp_path):
    (record,) = quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    path = only_file(tmp_path)
    path.rename(tmp_path / f".{path.name}.0123.tmp")
    (tmp_path / f".{path.name}.4567.tmp").write_text('{"experiment": "support')
    (again,) = quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    assert again["result"] == record["result"]


def test_run_interrupted_keeps_finished_runs(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quiet_run(toy.interrupt_at_seed_two, [{}], range(4), folder=tmp_path)
    kept = sorted(json.loads(path.read_text())["seed"] for path in tmp_path.iterdir())
    assert kept == [0, 1]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_run_says_which_run_failed(tmp_path, n_jobs):
    with pytest.raises(RuntimeError, match="planted") as caught:
        quiet_run(toy.fail_at_seed_two, [{"a": 1}], range(3), folder=tmp_path, n_jobs=n_jobs)
    assert "in support.toy_experiment.fail_at_seed_two with {'a': 1}, seed 2" in (
        caught.value.__notes__
    )


@pytest.mark.parametrize("name", ["nan", "inf", "-inf"])
def test_run_result_may_be(tmp_path, name):
    (record,) = quiet_run(toy.return_result_of_setting, [{"name": name}], [0], folder=tmp_path)
    assert str(record["result"]["value"]) == name


def test_run_result_of_float32_keeps_its_value(tmp_path):
    settings = [{"name": "float32"}]
    (record,) = quiet_run(toy.return_result_of_setting, settings, [0], folder=tmp_path)
    assert record["result"]["value"] == float(np.float32(0.1))


@pytest.mark.parametrize("name", ["set", "complex", "key"])
def test_run_rejects_a_result_that_json_cannot_hold(tmp_path, name):
    with pytest.raises(TypeError, match=r"value\['result'\]\['value'\] must be what JSON can hold"):
        quiet_run(toy.return_result_of_setting, [{"name": name}], [0], folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "actual"),
    [
        ("", r"no readable JSON \(JSONDecodeError\)"),
        ('{"experiment": "supp', r"no readable JSON \(JSONDecodeError\)"),
        ("[]", "JSON with other keys"),
        ('{"experiment": "support"}', "JSON with other keys"),
        (b"\xff\xfe", r"no readable JSON \(UnicodeDecodeError\)"),
    ],
)
def test_run_rejects_a_corrupt_file_and_keeps_it(tmp_path, text, actual):
    quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    path = only_file(tmp_path)
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(content)
    sentence = rf"{path.name} must hold a finished run of .*draw .*, got {actual}; move the file"
    with pytest.raises(ValueError, match=sentence):
        quiet_run(toy.draw, SETTINGS[:1], [0, 1], folder=tmp_path)
    assert snapshot(tmp_path).keys() == {path.name}
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("key", "value"), [("experiment", "other.f"), ("setting", {"scale": 9.0}), ("seed", 5)]
)
def test_run_rejects_a_file_of_another(tmp_path, key, value):
    (record,) = quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    only_file(tmp_path).write_text(json.dumps(record | {key: value}))
    with pytest.raises(ValueError, match=f"must hold a finished run of .*, got {key} "):
        quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)


def test_run_rejects_a_folder_in_the_place_of_a_file(tmp_path):
    quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)
    path = only_file(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=r"got no readable JSON \(IsADirectoryError\)"):
        quiet_run(toy.draw, SETTINGS[:1], [0], folder=tmp_path)


@pytest.mark.parametrize(
    "setting",
    [
        {"a": np.float32(1)},
        {"a": float("nan")},
        {"a": (1, 2)},
        {1: 2},
        [1],
        "scale",
        {"a": {"float": "nan"}},
    ],
)
def test_run_rejects_a_setting_that_json_changes(tmp_path, setting):
    with pytest.raises(TypeError, match=r"settings\[1\] must be a dict that JSON gives back"):
        quiet_run(toy.draw, [{}, setting], [0], folder=tmp_path)


def test_run_takes_generators(tmp_path):
    settings, seeds = (setting for setting in SETTINGS), (seed for seed in (3, 1))
    assert len(quiet_run(toy.draw, settings, seeds, folder=tmp_path)) == 4


@pytest.mark.parametrize(
    ("settings", "seeds", "argument"), [({"scale": 1.0}, [0], "settings"), (SETTINGS, 5, "seeds")]
)
def test_run_rejects_what_is_no_sequence(tmp_path, settings, seeds, argument):
    with pytest.raises(TypeError, match=f"run: {argument} must be a sequence, got"):
        quiet_run(toy.draw, settings, seeds, folder=tmp_path)


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_run_rejects_what_is_no_seed(tmp_path, seed):
    with pytest.raises((TypeError, ValueError), match="run: seeds must be"):
        quiet_run(toy.draw, SETTINGS, [0, seed], folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "seeds", "argument"),
    [([{"scale": 1.0}] * 2, [0], "settings"), ([{"scale": 1.0}], [0, 1, 0], "seeds")],
)
def test_run_rejects_repeated(tmp_path, settings, seeds, argument):
    with pytest.raises(ValueError, match=f"run: {argument} must be all different, got"):
        quiet_run(toy.draw, settings, seeds, folder=tmp_path)


@pytest.mark.parametrize("function", [lambda _setting, _seed: {}, partial(toy.draw)])
def test_run_rejects_a_function_without_a_name(tmp_path, function):
    with pytest.raises(TypeError, match="run: function must be a function defined with def"):
        quiet_run(function, SETTINGS, [0], folder=tmp_path)


def test_run_shows_a_bar_that_counts_finished_runs(tmp_path, capsys):
    quiet_run(toy.where, SETTINGS, [0], folder=tmp_path)
    run(toy.where, SETTINGS, [0, 1], folder=tmp_path)
    assert "4/4" in capsys.readouterr().err


def test_run_without_progress_is_silent(tmp_path, capsys):
    quiet_run(toy.where, SETTINGS, [0], folder=tmp_path)
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def cluster():
    """Two workers in processes of their own, reached over the loopback interface."""
    distributed = pytest.importorskip(
        "distributed", reason="the cluster test needs distributed: pip install refimpl[scale]"
    )
    workers = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    )
    with workers, distributed.Client(workers):
        yield


@pytest.mark.usefixtures("cluster")
def test_run_on_a_dask_cluster_computes_in_its_workers(tmp_path):
    with joblib.parallel_config(backend="dask"):
        records = quiet_run(toy.where, [{}], range(6), folder=tmp_path)
    assert os.getpid() not in {result["pid"] for result in results(records)}


@pytest.mark.usefixtures("cluster")
def test_run_on_a_dask_cluster_gives_the_same_bits(tmp_path):
    with joblib.parallel_config(backend="dask"):
        on_cluster = quiet_run(toy.draw, SETTINGS, range(3), folder=tmp_path / "cluster")
    alone = quiet_run(toy.draw, SETTINGS, range(3), folder=tmp_path / "alone")
    assert results(on_cluster) == results(alone)


@pytest.mark.usefixtures("cluster")
def test_run_on_a_dask_cluster_reads_what_was_finished_without_it(tmp_path):
    alone = quiet_run(toy.where, [{}], [0, 1], folder=tmp_path)
    with joblib.parallel_config(backend="dask"):
        both = quiet_run(toy.where, [{}], range(4), folder=tmp_path)
    assert both[:2] == alone


@pytest.mark.parametrize("n_jobs", [0, -2])
def test_run_refuses_fewer_than_one_job(tmp_path, n_jobs):
    with pytest.raises(ValueError, match=f"run: n_jobs must be at least 1, got {n_jobs};"):
        run(toy.draw, [{"scale": 1.0}], [0], folder=tmp_path, n_jobs=n_jobs, progress=False)
