"""The episode replay buffer."""

import numpy as np
import pytest

from k24_rllib.qmix import EpisodeBatch, EpisodeReplayBuffer


def episodes(*numbers: int, steps: int = 3) -> EpisodeBatch:
    """Episodes that can be told apart: every reward of episode `k` is `k`."""
    batch = EpisodeBatch.empty(len(numbers), steps, agents=2, obs_dim=4, state_dim=5, actions=3)
    batch.team_reward[:] = np.array(numbers)[:, None]
    batch.obs[:] = np.array(numbers)[:, None, None, None]
    batch.lengths[:] = steps
    return batch


def held(buffer: EpisodeReplayBuffer) -> list[float]:
    return sorted(buffer.sample(len(buffer)).team_reward[:, 0].tolist())


def test_the_oldest_episodes_are_overwritten() -> None:
    buffer = EpisodeReplayBuffer(4, seed=0)
    buffer.add(episodes(1, 2, 3))
    assert held(buffer) == [1, 2, 3]
    buffer.add(episodes(4, 5))
    assert held(buffer) == [2, 3, 4, 5]
    buffer.add(episodes(6, 7, 8, 9, 10, 11))
    assert held(buffer) == [8, 9, 10, 11]


def test_a_batch_has_no_episode_twice_and_keeps_its_arrays_together() -> None:
    buffer = EpisodeReplayBuffer(50, seed=0)
    buffer.add(episodes(*range(50)))
    batch = buffer.sample(20)
    assert len(set(batch.team_reward[:, 0])) == 20
    assert (batch.obs[:, 0, 0, 0] == batch.team_reward[:, 0]).all()


def test_draws_are_uniform() -> None:
    buffer = EpisodeReplayBuffer(5, seed=0)
    buffer.add(episodes(*range(5)))
    drawn = np.concatenate([buffer.sample(2).team_reward[:, 0] for _ in range(3_000)])
    assert np.bincount(drawn.astype(int)) / len(drawn) == pytest.approx(np.full(5, 0.2), abs=0.02)


def test_asking_for_more_than_is_held_says_so() -> None:
    with pytest.raises(ValueError, match="asked for 3 episodes, the buffer holds 0"):
        EpisodeReplayBuffer(5).sample(3)


def test_other_shapes_are_refused_and_nothing_is_lost() -> None:
    buffer = EpisodeReplayBuffer(5, seed=0)
    buffer.add(episodes(1, 2))
    with pytest.raises(ValueError, match="the buffer holds"):
        buffer.add(episodes(3, steps=4))
    assert held(buffer) == [1, 2]


def test_a_restored_buffer_draws_the_same() -> None:
    buffer = EpisodeReplayBuffer(4, seed=0)
    buffer.add(episodes(1, 2, 3, 4, 5, 6))
    other = EpisodeReplayBuffer(4, seed=99)
    other.set_state(buffer.get_state())
    for _ in range(3):
        np.testing.assert_array_equal(buffer.sample(2).team_reward, other.sample(2).team_reward)
    for both in (buffer, other):
        both.add(episodes(7))
    assert held(buffer) == held(other)
