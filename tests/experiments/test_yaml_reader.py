"""YAML as researchers write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.yaml_reader import read_yaml_file, read_yaml_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("1E6", 1e6),
        ("-.5e3", -500.0),
        ("1.", 1.0),
        ("3", 3),
        ("1_000", 1000),
        ("true", True),
        ("null", None),
        ("e5", "e5"),
        ("1e5x", "1e5x"),
        ("2:4", "2:4"),
        ("1:30:00", "1:30:00"),
        ("[1, 2e-1]", [1, 0.2]),
    ],
)
def test_scalars(text: str, value: object) -> None:
    read = read_yaml_value(text, "--set x")
    assert read == value
    assert type(read) is type(value)


def test_an_anchor_may_be_merged_and_overridden() -> None:
    text = "base: &base {lr: 1e-3, gamma: 0.9}\nmine:\n  <<: *base\n  gamma: 0.5\n"
    assert read_yaml_value(text, "text") == {"base": {"lr": 1e-3, "gamma": 0.9}, "mine": {"lr": 1e-3, "gamma": 0.5}}


def test_a_key_given_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("a:\n  lr: 1\n  gamma: 2\n  lr: 3\n")
    with pytest.raises(ConfigError, match="line 4: key 'lr' is given twice"):
        read_yaml_file(path)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "k24_spread.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"no such file; did you mean 'k24_spread.yaml'\?"):
        read_yaml_file(tmp_path / "k24_sprad.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: " + "[" * 3_000 + "]" * 3_000, r"nested too deeply, expected at most 50 levels"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, r"nested too deeply, expected at most 50 levels"),
        ("a: &a\n  config: *a\n", r"line 1: what is anchored here stands inside itself"),
        (
            "\n".join(["a0: &a0 [1, 2]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]),
            r"its aliases stand for [\d,]+ values, expected at most 100,000",
        ),
    ],
)
def test_what_would_never_end_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_yaml_value(text, "text")
