"""The episode replay buffer."""

import numpy as np
import pytest

from k24_rllib.qmix import EpisodeBatch, EpisodeReplayBuffer, PrioritizedEpisodeReplayBuffer


def episodes(*numbers: int, steps: int = 3) -> EpisodeBatch:
    """Episodes that can be told apart: every reward of episode `k` is `k`."""
    batch = EpisodeBatch.empty(len(numbers), steps, agents=2, obs_dim=4, state_dim=5, actions=3)
    batch.team_reward[:] = np.array(numbers)[:, None]
    batch.obs[:] = np.array(numbers)[:, None, None, None]
    batch.lengths[:] = steps
    return batch


def make_prioritized(capacity: int, seed: int | None = None) -> PrioritizedEpisodeReplayBuffer:
    return PrioritizedEpisodeReplayBuffer(
        capacity, seed, alpha=0.6, beta_initial=0.4, beta_final=1.0, beta_timesteps=100, epsilon=1e-3
    )


def held_rows(buffer: EpisodeReplayBuffer) -> list[float]:
    """The episodes' numbers, row by row."""
    rewards: list[float] = buffer.get_state()["episodes"]["team_reward"][:, 0].tolist()
    return rewards


def held(buffer: EpisodeReplayBuffer) -> list[float]:
    return sorted(buffer.sample(len(buffer)).episodes.team_reward[:, 0].tolist())


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
    batch = buffer.sample(20).episodes
    assert len(set(batch.team_reward[:, 0])) == 20
    assert (batch.obs[:, 0, 0, 0] == batch.team_reward[:, 0]).all()


def test_draws_are_uniform() -> None:
    buffer = EpisodeReplayBuffer(5, seed=0)
    buffer.add(episodes(*range(5)))
    drawn = np.concatenate([buffer.sample(2).episodes.team_reward[:, 0] for _ in range(3_000)])
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


def test_a_uniform_draw_has_rows_and_no_weights() -> None:
    buffer = EpisodeReplayBuffer(4, seed=0)
    assert buffer.add(episodes(1, 2, 3)).tolist() == [0, 1, 2]
    assert buffer.add(episodes(4, 5)).tolist() == [3, 0]
    sample = buffer.sample(3)
    numbers = np.array([5, 2, 3, 4])
    assert sample.episodes.team_reward[:, 0].tolist() == numbers[sample.indices].tolist()
    assert sample.weights is None
    before = buffer.get_state()["rng"]
    buffer.update_priorities(sample.indices, np.array([1.0, 100.0, 0.0]))
    buffer.anneal(1_000)
    assert buffer.get_state()["rng"] == before


def test_a_restored_buffer_draws_the_same() -> None:
    buffer = EpisodeReplayBuffer(4, seed=0)
    buffer.add(episodes(1, 2, 3, 4, 5, 6))
    other = EpisodeReplayBuffer(4, seed=99)
    other.set_state(buffer.get_state())
    for _ in range(3):
        ours, theirs = buffer.sample(2), other.sample(2)
        np.testing.assert_array_equal(ours.episodes.team_reward, theirs.episodes.team_reward)
    for both in (buffer, other):
        both.add(episodes(7))
    assert held(buffer) == held(other)


def test_a_state_holds_what_it_always_held() -> None:
    """Checkpoints of earlier versions are read, and theirs read ours."""
    buffer = EpisodeReplayBuffer(4, seed=0)
    assert buffer.get_state()["episodes"] is None
    buffer.add(episodes(1, 2))
    assert buffer.get_state().keys() == {"episodes", "next", "rng"}


MAKERS = [EpisodeReplayBuffer, make_prioritized]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("played", [2, 4, 5, 6, 8])
@pytest.mark.parametrize("capacity", [1, 3, 5, 8])
def test_restored_into_another_size_the_newest_are_kept_and_the_oldest_go_first(
    make, played: int, capacity: int
) -> None:
    buffer = make(4, seed=0)
    for number in range(played):
        buffer.add(episodes(number))
    kept = list(range(played))[-4:][-capacity:]
    other = make(capacity, seed=1)
    other.set_state(buffer.get_state())
    assert len(other) == len(kept)
    assert held_rows(other) == kept  # in order of age
    for number in range(100, 103):
        other.add(episodes(number))
        kept = [*kept, number][-capacity:]
        assert sorted(held_rows(other)) == kept
        assert (other.sample(len(other)).episodes.lengths > 0).all()  # no phantoms


@pytest.mark.parametrize("make", MAKERS)
def test_a_buffer_that_held_nothing_restores_to_nothing(make) -> None:
    buffer = make(4, seed=0)
    buffer.add(episodes(1, 2))
    buffer.set_state(make(4, seed=0).get_state())
    assert len(buffer) == 0
    buffer.add(episodes(3))
    assert held_rows(buffer) == [3]
