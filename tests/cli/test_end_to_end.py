"""The real command, on an experiment with every size shrunk: train, evaluate again, stop and go on."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

Spec = dict[str, Any]
Write = Callable[..., Path]
Call = Callable[..., subprocess.CompletedProcess[str]]

RLLIB = [sys.executable, "-m", "k24_rllib.cli.main"]
PATIENCE_S = 300


def run(words: Sequence[str], code: int = 0, cwd: Path | None = None) -> str:
    """Runs the command and returns what it printed."""
    done = subprocess.run([*RLLIB, *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def told(text: str, name: str) -> str:
    """Returns what the output says of `name`, as in `checkpoint     PATH`."""
    found = re.search(rf"^{re.escape(name)}  +(.*)$", text, re.MULTILINE)
    assert found, text
    return found[1].strip()


def steps_reported(text: str) -> list[int]:
    return [int(steps.replace(",", "")) for steps in re.findall(r"^steps ([\d,]+)", text, re.MULTILINE)]


def test_train_then_evaluate_again(write: Write, tiny: Spec, tmp_path: Path, call: Call) -> None:
    output = run(["train", "-f", str(write(tiny)), "--storage-path", str(tmp_path)])
    checkpoint = Path(told(output, "checkpoint"))
    assert checkpoint.is_relative_to(tmp_path / "tiny")
    assert "over 100 episodes" in told(output, "greedy return")
    assert steps_reported(output)

    program, *words = shlex.split(told(output, "evaluate it"))
    assert program == "rllib"
    again = run(words)
    assert told(again, "greedy return") == told(output, "greedy return")
    other_episodes = call("evaluate", tmp_path / "tiny", "--seed", "7", "--episodes", "10")
    assert told(other_episodes.stdout, "checkpoint") == str(checkpoint)
    assert "over 10 episodes" in told(other_episodes.stdout, "greedy return")


def test_both_sides_of_a_game_train_and_are_rated(write: Write, tiny: Spec, tmp_path: Path) -> None:
    tiny["env"] = "mpe_simple_tag"
    game = {"team": "adversaries", "opponents": "self", "max_cycles": 5}
    tiny["config"] = {**tiny["config"], "env_config": game, "self_play_interval": 100}
    output = run(["train", "-f", str(write(tiny)), "--storage-path", str(tmp_path)])
    assert re.search(r"^player +elo +rounds +beaten$", output, re.MULTILINE)
    assert {"adversaries", "good", "adversaries@0", "good@0"} <= set(re.findall(r"^\w+(?:@\d+)?", output, re.MULTILINE))

    other_side = Path(told(output, "checkpoint")) / "weights_good.safetensors"
    assert "over 5 episodes" in told(run(["evaluate", str(other_side), "--episodes", "5"]), "greedy return")
    tiny["config"]["env_config"] = {**game, "opponents": str(other_side)}
    del tiny["config"]["self_play_interval"]
    run(["train", "-f", str(write(tiny)), "--check"])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Tune's loop ends by SIGUSR1")
def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(
    write: Write, tiny: Spec, tmp_path: Path, interrupt: Callable[..., str]
) -> None:
    tiny["stop"] = {"training_iteration": 100_000}
    tiny["config"]["total_env_steps"] = 10_000_000
    words = ["train", "-f", str(write(tiny)), "--storage-path", str(tmp_path)]
    stopped = interrupt(words)
    assert list((tmp_path / "tiny").glob("*/checkpoint_*/algorithm_state.pkl"))
    saved_at = steps_reported(stopped)[-1]

    program, *resume = shlex.split(told(stopped, "go on with"))
    assert program == "rllib"
    assert resume == [*words, "--resume"]
    resumed = interrupt(resume)
    assert steps_reported(resumed)[0] > saved_at


def test_an_environment_of_the_users_own_is_imported(write: Write, tiny: Spec, tmp_path: Path) -> None:
    (tmp_path / "my_envs.py").write_text(
        "from functools import partial\n"
        "from mpe2 import simple_spread_v3\n"
        "import k24_rllib\n"
        "from k24_rllib.envs import PettingZooTeamEnv\n"
        "def mine(num_envs, size=2):\n"
        "    make_env = partial(simple_spread_v3.parallel_env, N=size, max_cycles=5)\n"
        "    return PettingZooTeamEnv(make_env, num_envs, episode_limit=5)\n"
        "k24_rllib.register_team_env('mine', mine)\n"
    )
    tiny |= {"env": "mine", "stop": {"training_iteration": 1}}
    tiny["config"] |= {"env_config": {"size": 3}, "num_env_runners": 1, "total_env_steps": 400}
    words = ["train", "-f", str(write(tiny)), "--storage-path", str(tmp_path), "--import", "my_envs"]
    output = run(words, cwd=tmp_path)
    program, *again = shlex.split(told(output, "evaluate it"))
    assert program == "rllib"
    assert again[-2:] == ["--import", "my_envs"]
    assert told(run(again, cwd=tmp_path), "greedy return") == told(output, "greedy return")
