"""The command line lists, runs, resumes, and says in a sentence what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from refimpl import __main__ as command
from refimpl.experiments import EXPERIMENTS
from support import toy_experiment as toy

ROOT = Path(__file__).parents[1]


def experiment(name, run_once, settings=({"scale": 1.0}, {"scale": 2.0})):
    module = ModuleType(f"refimpl.experiments.{name}", "How does it end.\n\nMore is said later.")
    module.SETTINGS, module.SEEDS, module.run_once = settings, (0, 1, 2), run_once
    return module


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Experiments of milliseconds in the place of the real ones."""
    modules = (
        experiment("toy_draw", toy.draw),
        experiment("toy_stop", toy.interrupt_at_seed_two),
        experiment("toy_fail", toy.fail_with_a_sentence),
    )
    monkeypatch.setattr(command, "EXPERIMENTS", modules)


def run_words(folder, name="toy_draw", *more):
    return command.main(["run", name, "--folder", str(folder), *more])


@pytest.mark.parametrize("words", [[], ["list"]])
def test_list_names_every_experiment_with_its_question(words, capsys):
    assert command.main(words) == 0
    assert "toy_draw (6 runs)\n    How does it end\n" in capsys.readouterr().out


def test_run_computes_every_setting_and_seed(tmp_path):
    assert run_words(tmp_path) == 0
    assert len(list(tmp_path.glob("*.json"))) == 6


def test_run_takes_the_first_seeds(tmp_path):
    run_words(tmp_path, "toy_draw", "--seeds", "2")
    seeds = sorted(json.loads(path.read_text())["seed"] for path in tmp_path.iterdir())
    assert seeds == [0, 0, 1, 1]


def test_run_with_jobs_computes_the_same(tmp_path):
    run_words(tmp_path / "1", "toy_draw", "--summary", str(tmp_path / "1.json"))
    run_words(tmp_path / "2", "toy_draw", "--jobs", "2", "--summary", str(tmp_path / "2.json"))
    alone, pair = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "12")
    assert alone["settings"] == pair["settings"]


def test_run_writes_the_summary(tmp_path):
    run_words(tmp_path / "runs", "toy_draw", "--summary", str(tmp_path / "toy.json"))
    summary = json.loads((tmp_path / "toy.json").read_text())
    assert summary["experiment"] == "support.toy_experiment.draw"


def test_run_prints_mean_and_spread(tmp_path, capsys):
    run_words(tmp_path)
    out = capsys.readouterr().out
    assert "scale 2.0" in out
    assert "seed                 1 ± 1  (n = 3)" in out


def condensing_experiment():
    module = experiment("toy_draw", toy.draw)
    module.condense = lambda records: {"n_records": len(records)}
    module.report = lambda condensed: f"condensed {condensed['n_records']} records"
    return module


def test_run_prints_the_report_of_an_experiment_that_has_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "EXPERIMENTS", (condensing_experiment(),))
    assert run_words(tmp_path) == 0
    assert "\ncondensed 6 records\n" in capsys.readouterr().out


def test_run_writes_what_an_experiment_condenses(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "EXPERIMENTS", (condensing_experiment(),))
    run_words(tmp_path / "runs", "toy_draw", "--summary", str(tmp_path / "toy.json"))
    assert json.loads((tmp_path / "toy.json").read_text()) == {"n_records": 6}


def test_run_shows_a_bar_on_stderr(tmp_path, capsys):
    run_words(tmp_path)
    assert "6/6" in capsys.readouterr().err


def test_run_stopped_says_how_to_go_on(tmp_path, capsys):
    assert run_words(tmp_path, "toy_stop") == 130
    assert f"The runs that finished are kept in {tmp_path}; the same command goes on" in (
        capsys.readouterr().err
    )


def test_run_stopped_keeps_what_was_finished(tmp_path):
    run_words(tmp_path, "toy_stop")
    assert len(list(tmp_path.iterdir())) == 2


def test_run_failed_says_why_and_where(tmp_path, capsys):
    assert run_words(tmp_path, "toy_fail") == 1
    err = capsys.readouterr().err
    assert "error: toy: seed must be even, got 1; take another" in err
    assert "with {'scale': 1.0}, seed 1" in err
    assert "Traceback" not in err


def test_run_rejects_a_corrupt_file_in_a_sentence(tmp_path, capsys):
    run_words(tmp_path)
    next(tmp_path.iterdir()).write_text("{")
    assert run_words(tmp_path) == 1
    assert "must hold a finished run of support.toy_experiment.draw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "advice"),
    [("toy_darw", "did you mean toy_draw?"), ("x", "there are: toy_draw, toy_stop, toy_fail")],
)
def test_run_rejects_an_unknown_name(tmp_path, capsys, name, advice):
    with pytest.raises(SystemExit) as stop:
        run_words(tmp_path, name)
    assert stop.value.code == 2
    assert f"NAME must be an experiment, got '{name}'; {advice}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--jobs"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_run_rejects_what_is_no_count(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit) as stop:
        run_words(tmp_path, "toy_draw", f"{option}={value}")
    assert stop.value.code == 2
    assert f"must be a whole number of at least 1, got '{value}'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_shows_an_example_with_every_option(words, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "run magnitude_curve --seeds 5 --jobs 2 --summary curve.json" in out


def test_help_example_names_an_experiment_that_exists():
    name = command.EXAMPLES.split(" run ")[1].split()[0]
    assert f"refimpl.experiments.{name}" in {module.__name__ for module in EXPERIMENTS}


@pytest.mark.parametrize("attribute", ["__doc__", "SETTINGS", "SEEDS", "run_once"])
@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.__name__)
def test_every_experiment_has(module, attribute):
    assert getattr(module, attribute)


def test_python_m_refimpl_lists_the_experiments():
    listed = subprocess.run(
        [sys.executable, "-m", "refimpl"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "magnitude_curve" in listed.stdout
    assert listed.stderr == ""


def test_run_refuses_a_folder_as_summary_before_it_runs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_words(tmp_path / "runs", "toy_draw", "--summary", str(tmp_path))
    assert "--summary must be a file, got the folder" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
