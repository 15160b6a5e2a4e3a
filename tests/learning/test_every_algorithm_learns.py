"""Every algorithm trains a tiny task to a threshold that random play, chance and a broken update can't reach."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # also for Ray's workers, which get this process's path

from tasks import Middle, Trades

from k24_rllib import ALGORITHMS, register_team_env
from k24_rllib.qmix import QMix

register_team_env("middle", Middle)
register_team_env("trades_of_the_tests", Trades)

EPISODES = 200
MIDDLE_THRESHOLD, TRADES_THRESHOLD = 8.0, 11.0


def train(run: str, env: str, steps: int, **settings: Any) -> float:
    """Trains an algorithm and returns its mean greedy return."""
    config = ALGORITHMS[run]().environment(env)
    config.env_runners(num_envs_per_env_runner=32)
    config.training(hidden_dim=32, mixing_embed_dim=16, hypernet_dim=16, epsilon_timesteps=steps, lr=0.003, **settings)
    if run != "QMix":
        config.total_env_steps = steps
    config.reporting(min_sample_timesteps_per_iteration=steps)
    config.debugging(seed=0, log_level="ERROR")
    algo: QMix = config.build_algo()
    algo.train()
    returns = algo.evaluate_greedy(EPISODES, seed=1)["episode_returns"]
    algo.stop()
    return float(np.mean(returns))


def random_return(env: Middle) -> float:
    """Returns what random play earns."""
    rng, total = np.random.default_rng(7), np.zeros(env.num_envs)
    step = env.reset(seed=0)
    while not step.done.all():
        step = env.step(rng.integers(3, size=(env.num_envs, env.num_agents)))
        total += step.team_reward
    return float(total.mean())


def constant_return(env: Middle, action: int) -> float:
    """Returns what an agent earns that always does the same."""
    total, step = np.zeros(env.num_envs), env.reset(seed=0)
    while not step.done.all():
        step = env.step(np.full((env.num_envs, env.num_agents), action))
        total += step.team_reward
    return float(total.mean())


def test_the_thresholds_are_out_of_reach_of_chance() -> None:
    assert random_return(Middle(2_000)) < 1.0
    assert abs(random_return(Trades(2_000))) < 1.0
    assert all(constant_return(Middle(2_000), action) < 1.0 for action in range(3))
    assert all(abs(constant_return(Trades(2_000), action)) < 1.0 for action in range(3))


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("run", ["QMix", "K24QMix", "KaleidoscopeQMix"])
def test_the_algorithm_learns(run: str) -> None:
    assert train(run, "middle", 6_000) > MIDDLE_THRESHOLD


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    "settings",
    [
        {"mixer": "vdn"},
        {"mixer": "independent"},
        {"agent": "feedforward"},
        {"layer": "independent"},
        {"replay": "prioritized"},
        {"td_lambda": 0.6},
    ],
    ids=lambda settings: "-".join(map(str, *settings.items())),
)
def test_every_part_of_qmix_learns(settings: dict[str, Any]) -> None:
    assert train("QMix", "middle", 6_000, **settings) > MIDDLE_THRESHOLD


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("run", "settings"), [("QMix", {"layer": "independent"}), ("K24QMix", {"masks": "fixed_random", "div_coef": 0.0})]
)
def test_what_differs_by_owner_learns_what_only_owners_know(run: str, settings: dict[str, Any]) -> None:
    assert train(run, "trades_of_the_tests", 16_000, **settings) > TRADES_THRESHOLD


@pytest.mark.usefixtures("ray_session")
def test_what_is_the_same_for_every_owner_cannot() -> None:
    assert train("QMix", "trades_of_the_tests", 6_000) < 3.0


@pytest.mark.usefixtures("ray_session")
def test_an_algorithm_that_does_not_update_stays_where_it_began() -> None:
    assert train("QMix", "middle", 6_000, learning_starts_episodes=5_000) < MIDDLE_THRESHOLD / 2
