"""A trained team as opponents: it plays as it does for its checkpoint, and only against whom it was trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.envs import make_team_env
from k24_rllib.envs.mpe import TwoTeamMPE
from k24_rllib.envs.mpe.scripts import SCRIPTS
from k24_rllib.experiments.yaml_reader import read_yaml_file
from k24_rllib.qmix import collect_episodes
from k24_rllib.qmix.opponents import PUBLISHED, PUBLISHED_IN
from k24_rllib.qmix.weights import WEIGHTS_FILE, read_weights, save_weights

TAG = "mpe_simple_tag"
EXAMPLES = Path(__file__).parents[2] / "tuned_examples" / "opponents"


def saved(directory: Path, config: QMixConfig | None = None, **env_config: Any) -> tuple[Path, Any]:
    """Returns a checkpoint's directory with the weights of a fresh team of predators, and the team's network."""
    config = config or K24QMixConfig().training(seed=1)
    config.environment(TAG, env_config={"team": "adversaries", "opponents": "still", **env_config})
    model = config.build_policy().model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.agent.parameters():  # large enough for actions that depend on what is seen
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    save_weights(model, config, directory / WEIGHTS_FILE)
    return directory, model


def test_it_plays_as_its_network_does(tmp_path: Path) -> None:
    """Predators that act in the environment of a prey that stands still, and the same ones as that prey's opponents."""
    checkpoint, model = saved(tmp_path)
    own = make_team_env(TAG, 4, team="adversaries", opponents="still")
    played = collect_episodes(own, model, epsilon=0.0, explore=False, seed=3)
    env = make_team_env(TAG, 4, team="good", opponents=str(checkpoint))
    assert isinstance(env, TwoTeamMPE)
    step = env.reset(3)
    for t in range(env.episode_limit):
        np.testing.assert_array_equal(step.state, played.state[:, t])
        step = env.step(np.zeros((4, 1), int))
    np.testing.assert_array_equal(step.state, played.state[:, -1])
    assert len(np.unique(played.actions)) > 1


def test_a_file_and_a_path_from_where_the_command_was_called_do_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, _ = saved(tmp_path)
    monkeypatch.setenv("TUNE_ORIG_WORKING_DIR", str(tmp_path.parent))
    for name in (str(checkpoint / WEIGHTS_FILE), f"{tmp_path.name}/{WEIGHTS_FILE}"):
        make_team_env(TAG, 1, team="good", opponents=name).reset(0)


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (TAG, {"team": "adversaries"}, r"is of a team 'adversaries' of mpe_simple_tag, expected one of 'good' of mpe_"),
        ("mpe_simple_push", {"team": "good"}, r"of mpe_simple_tag, expected one of 'adversaries' of mpe_simple_push"),
        (TAG, {"num_adversaries": 2}, r"is of a team with 3 agents, expected 2"),
        (TAG, {"num_obstacles": 1}, r"is of a team with 16 numbers in an observation, expected 14"),
    ],
)
def test_a_team_made_for_something_else_is_named(
    tmp_path: Path, env: str, options: dict[str, Any], message: str
) -> None:
    checkpoint, _ = saved(tmp_path)
    with pytest.raises(ConfigError, match=message):
        make_team_env(env, 1, opponents=str(checkpoint), **options).reset(0)


def test_what_is_no_team_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"opponents: got '.*/no/such', expected a checkpoint with weights.safetens"):
        make_team_env(TAG, 1, opponents=f"{tmp_path}/no/such")
    checkpoint, _ = saved(tmp_path)
    content = bytearray((checkpoint / WEIGHTS_FILE).read_bytes())
    content[-3] ^= 1
    (checkpoint / WEIGHTS_FILE).write_bytes(content)
    with pytest.raises(ConfigError, match="is damaged"):
        make_team_env(TAG, 1, opponents=str(checkpoint))


def against(opponents: str, name: str, own: int, others: int) -> np.ndarray:
    """Plays 200 episodes of scripted adversaries; returns their returns."""
    env = make_team_env(name, 200, team="adversaries", opponents=opponents, num_adversaries=own, num_good=others)
    assert isinstance(env, TwoTeamMPE)
    step, total = env.reset(0), np.zeros(200)
    while not step.done.all():
        step = env.step(SCRIPTS[name]["adversaries"](env.engine.scenario, env.side, env.opponents))
        total += step.team_reward
    return total


@pytest.mark.parametrize("game", PUBLISHED, ids=lambda game: game[0])
def test_published_opponents_play_no_worse_than_the_script_and_always_the_same(game: tuple[str, str, int, int]) -> None:
    name, _, own, others = game
    trained, again, scripted = (against(who, name, own, others) for who in ("trained", "trained", "scripted"))
    np.testing.assert_array_equal(trained, again)
    assert trained.mean() < scripted.mean() + 2.0


@pytest.mark.parametrize("file", PUBLISHED.values())
def test_published_opponents_are_what_their_file_makes(file: str) -> None:
    """The settings in the weights are those of the file in tuned_examples/opponents; small, and without a path."""
    path = PUBLISHED_IN / file
    weights = read_weights(path)
    (experiment,) = read_yaml_file(EXAMPLES / f"{path.stem}.yaml").values()
    assert (weights.algorithm, weights.settings["env"]) == (experiment["run"], experiment["env"])
    config = QMixConfig().environment(experiment["env"]).apply_dict(experiment["config"])
    for key, value in weights.settings.items():
        assert getattr(config, key) == value, key
    assert path.stat().st_size < 400_000
    assert not any(mark in str(weights.settings) for mark in ("/", "\\", "~"))


@pytest.mark.parametrize("config_class", [QMixConfig, K24QMixConfig])
def test_published_opponents_are_the_same_for_all_methods(config_class: Any) -> None:
    config = config_class().environment(TAG, env_config={"team": "adversaries", "opponents": "trained"})
    model = config.build_policy().model
    env = make_team_env(TAG, 3, **config.env_config)
    assert isinstance(env, TwoTeamMPE)
    collect_episodes(env, model, epsilon=0.0, explore=False, seed=1)
    tensors = read_weights(PUBLISHED_IN / PUBLISHED[TAG, "adversaries", 3, 1]).tensors
    played: Any = env._opponents
    for name, value in played._model.state_dict().items():
        assert torch.equal(value, tensors[name]), name


@pytest.mark.parametrize(
    ("env", "options"),
    [(TAG, {"team": "good"}), (TAG, {"num_good": 2}), ("mpe_simple_crypto", {}), ("mpe_simple_push", {})],
)
def test_where_none_are_published_those_that_are_are_named(env: str, options: dict[str, Any]) -> None:
    options = {"team": "adversaries", **options}
    with pytest.raises(ConfigError, match=r"opponents: got 'trained' for mpe_.* expected .* mpe_simple_tag") as error:
        make_team_env(env, 1, opponents="trained", **options)
    assert len(str(error.value)) < 300
