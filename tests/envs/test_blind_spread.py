"""Blind-particle spread against a slow copy of it written here, and as an environment to train on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_play import random_actions

from k24_rllib.checks import ConfigError
from k24_rllib.envs import make_team_env
from k24_rllib.envs.mpe import BatchedMPE

PUSHES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
ACCEL, DAMPING, DT = 5.0, 0.25, 0.1


def slow_step(pos: list[Any], vel: list[Any], actions: list[int]) -> None:
    """Moves agents as MPE does: along the old velocity, then damping, then the push."""
    for agent, action in enumerate(actions):
        for axis in (0, 1):
            pos[agent][axis] += vel[agent][axis] * DT
            vel[agent][axis] = vel[agent][axis] * (1 - DAMPING) + PUSHES[action][axis] * ACCEL * DT


@pytest.mark.parametrize("groups", [[1, 1, 1, 1, 1], [2, 2, 2], [3, 1], [4]])
def test_what_agents_see_and_earn_is_that_of_a_slow_copy(groups: list[int]) -> None:
    env = BatchedMPE("mpe_blind_spread", 3, groups=groups, dtype=np.float64)
    step, rng = env.reset(5), np.random.default_rng(0)
    colours = [colour for colour, size in enumerate(groups) for _ in range(size)]
    pos = step.obs[..., 2:4].tolist()  # [E, N, 2]
    vel = np.zeros_like(step.obs[..., :2]).tolist()
    landmarks = (step.obs[:, :1, 4:].reshape(3, -1, 2) + step.obs[:, :1, 2:4]).tolist()  # [E, L, 2]
    while not step.done.all():
        actions = random_actions(step.avail_actions, rng)
        step = env.step(actions)
        for copy in range(3):
            slow_step(pos[copy], vel[copy], actions[copy].tolist())
            for agent, colour in enumerate(colours):
                here = pos[copy][agent]
                seen = [*vel[copy][agent], *here]
                for landmark in landmarks[copy]:
                    seen += [landmark[0] - here[0], landmark[1] - here[1]]
                np.testing.assert_allclose(step.obs[copy, agent], seen, atol=1e-12)
                own = landmarks[copy][colour]
                paid = -(((own[0] - here[0]) ** 2 + (own[1] - here[1]) ** 2) ** 0.5)
                assert step.agent_rewards[copy, agent] == pytest.approx(paid, abs=1e-12)
            assert step.team_reward[copy] == pytest.approx(step.agent_rewards[copy].sum())


def test_nobody_sees_a_colour() -> None:
    """Two agents in the same place see the same, whatever their colours."""
    env = BatchedMPE("mpe_blind_spread", 1, groups=[1, 1, 1])
    env.reset(0)
    env._world.pos[:, :3] = 0.25
    env._world.look()
    seen = env.observe().obs[0]
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_shuffled_observations_hold_the_same_in_an_order_of_each_colour() -> None:
    plain, shuffled = (
        BatchedMPE("mpe_blind_spread", 4, groups=[2, 2], shuffle_observations=way) for way in (0 > 1, 1 > 0)
    )
    one, other = plain.reset(1).obs, shuffled.reset(1).obs
    np.testing.assert_array_equal(np.sort(one, -1), np.sort(other, -1))
    orders = [[int(np.flatnonzero(one[0, agent] == value)[0]) for value in other[0, agent]] for agent in range(4)]
    assert orders[0] == orders[1] != orders[2] == orders[3]


def test_it_is_made_by_name_and_drawn() -> None:
    env = make_team_env("mpe_blind_spread", 2, groups=[1, 2])
    assert (env.num_agents, env.obs_dim, env.num_actions, env.num_mask_owners) == (3, 8, 5, 3)
    assert env.score_reference is None
    assert isinstance(env, BatchedMPE)
    env.reset(0)
    picture = env.render()
    assert picture.shape == (350, 350, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 4  # white, black rims, two colours


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": []}, r"groups: got \[\], expected how many agents there are of each kind, as \[2, 2, 2\]"),
        ({"groups": 3}, r"groups: got 3, expected how many"),
        ({"groups": [2, 0]}, r"groups: got 0, expected a whole number at least 1"),
        ({"groups": [900, 900]}, r"groups: got 1800 agents in all, expected at most 1000"),
        ({"group": [1]}, r"unknown env_config key 'group' of mpe_blind_spread; did you mean 'groups'"),
        ({"shuffle_observations": 1}, r"shuffle_observations: got 1, expected true or false"),
        ({"engine": "mpe2"}, r"engine: got 'mpe2', expected 'batched', the only engine that has mpe_blind_spread"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_team_env("mpe_blind_spread", 1, **options)
