"""Help and version."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from k24_rllib import __version__
from k24_rllib.cli.main import main


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(call: Callable[..., subprocess.CompletedProcess[str]], words: list[str]) -> None:
    outcome = call(*words)
    assert outcome.returncode == 0
    assert outcome.stderr == ""
    assert "rllib train -f FILE" in outcome.stdout
    assert "rllib evaluate CHECKPOINT" in outcome.stdout
    assert "rllib compare RUN_OR_YAML..." in outcome.stdout
    assert "rllib export CHECKPOINT" in outcome.stdout
    assert "rllib inspect FILE" in outcome.stdout


def test_k24_is_the_same_program_and_says_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/k24", "--help"])
    assert main() == 0
    assert "k24 train -f FILE" in capsys.readouterr().out


def test_version(call: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert __version__ in call("--version").stdout


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (
            "train",
            "--set --stop --seed --num-samples --storage-path --restore --resume --ray-address --checkpoint-freq -v",
        ),
        ("evaluate", "--episodes --seed -v"),
        ("export", "--format --dtype --out --observations --import -v"),
        ("inspect", "FILE -v"),
        ("play", "--episodes --seed --gif --import -v"),
        ("watch", "--port --open --import -v"),
        ("report", "--out --open --import -v"),
        ("compare", "--seeds --out --set --stop --at --window --metric --csv --json --figure --no-return -v"),
    ],
)
def test_each_command_explains_its_options(capsys: pytest.CaptureFixture[str], command: str, named: str) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in named.split())
