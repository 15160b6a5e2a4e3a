"""The tutorial's examples are run from its text."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from blocks import ROOT, commands, named_files

DOCUMENT = ROOT / "docs" / "extending.md"
EXAMPLES = ["gain_layer", "weighted_mixer", "leaky_agent", "trades", "l1_qmix"]
FEW_STEPS = 1000


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory with every file of the tutorial."""
    for name, text in named_files(DOCUMENT).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_example_is_one_file_of_code_and_one_of_settings() -> None:
    assert set(named_files(DOCUMENT)) == {f"{name}.{kind}" for name in EXAMPLES for kind in ("py", "yaml")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_registers_once_and_changes_nothing_else(name: str) -> None:
    code = named_files(DOCUMENT)[f"{name}.py"]
    assert code.count("k24_rllib.register_") == 1
    assert code.rstrip().splitlines()[-1].startswith("k24_rllib.register_")


def test_every_example_trains_through_the_command_line(saved: Path) -> None:
    """All in one Ray, for time's sake: one file with every experiment, every module imported."""
    told = [shlex.split(command) for command in commands(DOCUMENT)]
    assert [words[-1] for words in told] == [f"{name}.yaml" for name in EXAMPLES]
    modules = dict.fromkeys(words[i + 1] for words in told for i, word in enumerate(words) if word == "--import")
    experiments = {key: its for words in told for key, its in yaml.safe_load((saved / words[-1]).read_text()).items()}
    for experiment in experiments.values():
        experiment["config"]["min_sample_timesteps_per_iteration"] = FEW_STEPS
    (saved / "all.yaml").write_text(yaml.safe_dump(experiments, sort_keys=False))
    words = [word for name in modules for word in ("--import", name)]
    done = subprocess.run(
        [sys.executable, "-m", "k24_rllib.cli.main", "train", *words, "-f", "all.yaml"]
        + ["--stop", f"timesteps_total={FEW_STEPS}", "--storage-path", str(saved / "results")],
        cwd=saved,
        env=_with_package(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("greedy return") == len(EXAMPLES)


def test_the_algorithms_setting_is_listed_and_checked(
    saved: Path, call: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved)
    listed = call("config", "L1QMix", "--import", "trades", "--import", "l1_qmix")
    assert listed.returncode == 0
    assert "l1_coef: 0.001  (a number of at least 0)" in listed.stdout
    refused = call("train", "-f", "l1_qmix.yaml", "--set", "l1_coef=-1")
    assert refused.returncode == 2
    assert "l1_coef: got -1, expected a number at least 0.0" in refused.stderr


def _with_package() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
