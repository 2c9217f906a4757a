"""The README's code runs as printed, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.S)
FILES = sorted(set(re.findall(r"`((?:book|tests|refimpl)/[\w./]+)`", README)))
PACKAGES = sorted(set(re.findall(r"`refimpl\.(\w+)`", README)))
TARGETS = sorted(set(re.findall(r"\bmake (book|test|serve|notebooks|bench|lint|clean)\b", README)))
PERCENT = re.compile(r"(\d+\.\d)%")
POINTS = 1.5  # another BLAS rounds otherwise, and one test image is 0.28 points


def accuracies_apart(text: str) -> tuple[str, list[float]]:
    """The text without its percentages, and the percentages."""
    return PERCENT.sub("#", text), [float(number) for number in PERCENT.findall(text)]


def test_every_python_block_has_its_output_beside_it():
    assert len(EXAMPLES) == README.count("```python") > 0


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_code_block_prints_what_the_readme_says(code, printed, capsys):
    exec(compile(code, "README.md", "exec"), {})
    text, numbers = accuracies_apart(capsys.readouterr().out)
    wanted_text, wanted_numbers = accuracies_apart(printed)
    assert text == wanted_text
    assert numbers == pytest.approx(wanted_numbers, abs=POINTS)


def test_a_wrong_byte_count_would_be_noticed():
    assert accuracies_apart("97.5%, 10 bytes")[0] != accuracies_apart("97.5%, 11 bytes")[0]


@pytest.mark.parametrize("path", FILES)
def test_every_file_that_the_readme_names_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_that_the_readme_names_exists(package):
    assert (ROOT / "refimpl" / package / "__init__.py").is_file()


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_that_the_readme_names_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf8"), re.M)
