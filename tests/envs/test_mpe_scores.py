"""The scores' references against what they stand for: random play and scripts that see what agents see."""

from collections.abc import Callable

import numpy as np
import pytest
from random_play import random_actions
from scipy.optimize import linear_sum_assignment

from k24_rllib.envs import TeamEnv, TeamStep, make_team_env
from k24_rllib.envs.mpe import ENGINES, SCORE_REFERENCES, BatchedMPE
from k24_rllib.envs.mpe.steering import towards

EPISODES = 400

Policy = Callable[[TeamStep], np.ndarray]


def spread(env: TeamEnv) -> Policy:
    """Each agent heads for its landmark of the assignment with the least sum of distances at the start."""
    agents, assigned = env.num_agents, np.empty(0)

    def act(step: TeamStep) -> np.ndarray:
        nonlocal assigned
        landmarks = step.obs[:, :, 4 : 4 + 2 * agents].reshape(-1, agents, agents, 2)
        if not assigned.size:
            distances = np.linalg.norm(landmarks, axis=-1)
            assigned = np.stack([linear_sum_assignment(one)[1] for one in distances])
        goal = np.take_along_axis(landmarks, assigned[:, :, None, None], axis=2)[:, :, 0]
        return towards(goal, step.obs[:, :, :2])

    return act


def speaker_listener(env: TeamEnv) -> Policy:
    """The speaker names the goal by its colour; the listener heads for it, or for the middle until it has heard."""

    def act(step: TeamStep) -> np.ndarray:
        speaker, listener = step.obs[:, 0], step.obs[:, 1]
        landmarks, message = listener[:, 2:8].reshape(-1, 3, 2), listener[:, 8:11]
        named = landmarks[np.arange(env.num_envs), message.argmax(-1)]
        goal = np.where(message.any(-1)[:, None], named, landmarks.mean(1))
        return np.stack([speaker[:, :3].argmax(-1), towards(goal, listener[:, :2])], axis=1)

    return act


def blind_spread(env: TeamEnv) -> Policy:
    """Each agent heads for the landmark of its colour, which the script alone is told."""
    assert isinstance(env, BatchedMPE)
    colours = env._scenario.body_colours(copy=0)[: env.num_agents]

    def act(step: TeamStep) -> np.ndarray:
        landmarks = step.obs[:, :, 4:].reshape(env.num_envs, env.num_agents, -1, 2)
        goal = np.take_along_axis(landmarks, colours[None, :, None, None], axis=2)[:, :, 0]
        return towards(goal, step.obs[:, :, :2])

    return act


def random_play(env: TeamEnv) -> Policy:
    """Any available action."""
    rng = np.random.default_rng(0)
    return lambda step: random_actions(step.avail_actions, rng)


def team_returns(env: TeamEnv, policy: Policy) -> np.ndarray:
    """Plays an episode in each copy."""
    step, returns = env.reset(0), np.zeros(env.num_envs)
    while not step.done.all():
        step = env.step(policy(step))
        returns += step.team_reward
    return returns


SCRIPTS = {
    "mpe_simple_spread": spread,
    "mpe_simple_speaker_listener": speaker_listener,
    "mpe_blind_spread": blind_spread,
}
CASES = [(name, size) for name, by_size in SCORE_REFERENCES.items() for size in by_size]


def sized(size: object) -> dict[str, object]:
    """Returns the options of a size that references are known by."""
    return {} if size is None else {"groups": list(size)} if isinstance(size, tuple) else {"N": size}


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_the_scores_ends_are_random_play_and_the_script(name: str, size: object) -> None:
    env = make_team_env(name, EPISODES, **sized(size))
    assert env.score_reference == SCORE_REFERENCES[name][size]
    for reference, policy in zip(env.score_reference, (random_play(env), SCRIPTS[name](env)), strict=True):
        returns = team_returns(env, policy)
        assert returns.mean() == pytest.approx(reference, abs=4 * returns.std() / EPISODES**0.5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_score_is_known_only_where_it_was_measured(engine: str) -> None:
    def reference(name: str = "mpe_simple_spread", **options: object) -> object:
        env = make_team_env(name, 1, engine=engine, **options)
        env.close()
        return env.score_reference

    assert reference() == reference(N=3, continuous_actions=False) == (-81.4, -25.0)
    assert reference(N=4) is reference(team_reward="mean") is reference(max_cycles=50) is None
    assert reference(N=6, max_cycles=50) is None
    assert reference("mpe_simple_speaker_listener", max_cycles=50) is reference("mpe_simple") is None


def test_random_play_in_mpe2_is_the_score_zero() -> None:
    env = make_team_env("mpe_simple_spread", 100, engine="mpe2")
    returns = team_returns(env, random_play(env))
    assert returns.mean() == pytest.approx(-81.4, abs=4 * returns.std() / 10)
    env.close()
