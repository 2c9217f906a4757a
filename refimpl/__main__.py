"""Which experiments are there, and how is one run? The command line: ``python -m refimpl``."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from refimpl import __version__
from refimpl.experiments import EXPERIMENTS, run, summarize, write_summary

INTERRUPTED = 130  # what a shell reports after Ctrl-C

DESCRIPTION = """\
Run the experiments of refimpl, the reference implementation of pruning and sparsity.
Without a command, list them."""

EXAMPLES = """\
example:
  python -m refimpl run magnitude_curve --seeds 5 --jobs 2 --summary curve.json

  Every finished run is one file in the folder. Stop with Ctrl-C, or lose power: the same
  command goes on where it was. Ask for more seeds later, and only the new ones run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Words after the program's name; those of the shell if left out.

    Returns
    -------
    int
        Exit code: 0 for success, 1 if an experiment could not run, 130 after Ctrl-C. Wrong
        words on the command line end in ``SystemExit(2)``, as usual for argparse.

    Examples
    --------
    >>> main(["list"])  # doctest: +ELLIPSIS
    magnitude_curve (110 runs)
    ...
    0
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command == "run":
        return _run(parser, chosen)
    _list()
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m refimpl", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"refimpl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", help="list the experiments (what happens without a command)")
    runner = commands.add_parser(
        "run",
        help="run one experiment, or what is missing of it",
        description="Run one experiment over its settings and seeds, except finished runs.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    runner.add_argument("name", metavar="NAME", help="which one; see: python -m refimpl list")
    runner.add_argument(
        "--seeds", type=_count, metavar="N", help="use seeds 0 to N - 1 (default: the experiment's)"
    )
    runner.add_argument(
        "--jobs", type=_count, default=1, metavar="N", help="runs side by side (default: 1)"
    )
    runner.add_argument(
        "--folder",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where the finished runs are kept (default: results)",
    )
    runner.add_argument(
        "--summary", type=Path, metavar="FILE", help="write means and spreads to this JSON file"
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _list() -> None:
    for module in EXPERIMENTS:
        runs = len(module.SETTINGS) * len(module.SEEDS)
        print(f"{_name(module)} ({runs} runs)\n    {_question(module)}")
    print("\nRun one:  python -m refimpl run NAME     Options:  python -m refimpl run --help")


def _run(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> int:
    module = _find(parser, chosen.name)
    seeds = module.SEEDS if chosen.seeds is None else range(chosen.seeds)
    print(f"{_name(module)}: {_question(module)}")
    if chosen.summary is not None and chosen.summary.is_dir():
        parser.error(f"--summary must be a file, got the folder {chosen.summary}; add a name")
    try:
        records = run(
            module.run_once, module.SETTINGS, seeds, folder=chosen.folder, n_jobs=chosen.jobs
        )
        summary = getattr(module, "condense", summarize)(records)
        if chosen.summary is not None:
            write_summary(summary, chosen.summary)
    except KeyboardInterrupt:
        print(
            f"\nStopped. The runs that finished are kept in {chosen.folder}; "
            "the same command goes on from there.",
            file=sys.stderr,
        )
        return INTERRUPTED
    except (OSError, ValueError, ArithmeticError) as error:
        notes = "".join(f"\n  {note}" for note in getattr(error, "__notes__", ()))
        print(f"\nerror: {error}{notes}", file=sys.stderr)
        return 1
    print("\n" + getattr(module, "report", _means)(summary))
    print(f"\n{len(records)} runs in {chosen.folder}{os.sep}")
    return 0


def _find(parser: argparse.ArgumentParser, name: str) -> ModuleType:
    modules = {_name(module): module for module in EXPERIMENTS}
    if name not in modules:
        close = difflib.get_close_matches(name, modules, n=1)
        advice = f"did you mean {close[0]}?" if close else f"there are: {', '.join(modules)}"
        parser.error(f"NAME must be an experiment, got {name!r}; {advice}")
    return modules[name]


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _question(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0].rstrip(".")


def _means(summary: dict[str, Any]) -> str:
    """Write a row for each setting: mean and standard deviation of each number."""
    blocks = []
    for group in summary["settings"]:
        lines = [", ".join(f"{key} {value}" for key, value in group["setting"].items())]
        for key, spread in group["results"].items():
            if "mean" in spread:
                around = "" if spread["sd"] is None else f" ± {spread['sd']:.2g}"
                lines.append(f"  {key:20} {spread['mean']:.4g}{around}  (n = {spread['n']})")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


if __name__ == "__main__":
    sys.exit(main())
