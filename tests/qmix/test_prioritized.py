"""Prioritised replay: the tree against brute force, the draws against their probabilities, the weights against bias."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.stats import chi2

from k24_rllib.qmix import EpisodeBatch, PrioritizedEpisodeReplayBuffer
from k24_rllib.qmix.prioritized import SumTree


def episodes(*numbers: int) -> EpisodeBatch:
    """Episodes that can be told apart: every reward of episode `k` is `k`."""
    batch = EpisodeBatch.empty(len(numbers), 2, agents=1, obs_dim=1, state_dim=1, actions=1)
    batch.team_reward[:] = np.array(numbers)[:, None]
    batch.lengths[:] = 2
    return batch


def make_buffer(capacity: int, seed: int | None = 0, **settings) -> PrioritizedEpisodeReplayBuffer:
    given = {"alpha": 0.6, "beta_initial": 0.4, "beta_final": 1.0, "beta_timesteps": 100, "epsilon": 1e-3, **settings}
    return PrioritizedEpisodeReplayBuffer(capacity, seed, **given)


def filled_buffer(priorities: np.ndarray, **settings) -> PrioritizedEpisodeReplayBuffer:
    """A buffer whose episode `k` has priority `priorities[k]`."""
    buffer = make_buffer(len(priorities), **{"epsilon": 1e-12, **settings})
    buffer.add(episodes(*range(len(priorities))))
    buffer.update_priorities(np.arange(len(priorities)), priorities)
    return buffer


# --- the tree


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 8, 13, 64, 100])
def test_the_tree_is_what_brute_force_says(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    tree, values = SumTree(capacity), np.zeros(capacity)
    for _ in range(30):
        indices = rng.integers(capacity, size=rng.integers(1, 2 * capacity + 2))  # some are there twice
        new = rng.random(len(indices)) * (rng.random(len(indices)) < 0.7)  # some are 0
        tree.update(indices, new)
        for index, value in zip(indices, new, strict=True):
            values[index] = value
        np.testing.assert_array_equal(tree.values, values)
        assert tree.total == pytest.approx(values.sum(), rel=1e-12)
        if not values.any():
            continue
        sums = rng.random(50) * values.sum() * (1 - 1e-9)
        slow = [next(i for i in range(capacity) if values[: i + 1].sum() > each) for each in sums]
        assert tree.find(sums).tolist() == slow


def test_numbers_whose_sums_are_exact_are_found_at_their_edges() -> None:
    tree = SumTree(5)
    tree.update(np.arange(5), np.array([2.0, 0.0, 1.0, 0.0, 4.0]))
    assert tree.find(np.array([0.0, 1.999, 2.0, 2.999, 3.0, 6.999])).tolist() == [0, 0, 2, 2, 4, 4]


def test_a_value_of_nothing_is_never_found_whatever_rounding_does() -> None:
    rng = np.random.default_rng(0)
    for capacity in (3, 7, 100):
        tree = SumTree(capacity)
        tree.update(np.arange(capacity - 2), rng.random(capacity - 2) * 10.0 ** rng.integers(-9, 9, capacity - 2))
        ends = np.array([tree.total, np.nextafter(tree.total, 0), 0.0])
        assert (tree.values[tree.find(ends)] > 0).all()


def test_the_tree_depends_on_its_values_alone() -> None:
    """However often they changed: no rounding error piles up."""
    rng = np.random.default_rng(0)
    used, fresh = SumTree(11), SumTree(11)
    for _ in range(500):
        used.update(rng.integers(11, size=4), rng.random(4) * 1e6)
    values = rng.random(11)
    for tree in (used, fresh):
        tree.update(np.arange(11), values)
    np.testing.assert_array_equal(used._nodes, fresh._nodes)


# --- draws


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("batch", [1, 7])
def test_episodes_are_drawn_as_often_as_their_priorities_say(alpha: float, batch: int) -> None:
    priorities = np.array([0.1, 2.0, 0.5, 1.0, 0.7, 3.0, 0.2, 0.9, 0.4, 1.5])
    buffer = filled_buffer(priorities, alpha=alpha)
    draws = 14_000
    drawn = np.concatenate([buffer.sample(batch).indices for _ in range(draws // batch)])
    expected = draws * priorities**alpha / (priorities**alpha).sum()
    statistic = ((np.bincount(drawn, minlength=10) - expected) ** 2 / expected).sum()
    # Stratified draws vary less than independent ones, so the bound holds for them all the more.
    assert statistic < chi2.ppf(0.999, df=9)


def test_each_part_of_the_sum_is_drawn_from_once() -> None:
    """With equal priorities and as many draws as episodes, every episode is drawn exactly once."""
    buffer = filled_buffer(np.full(8, 0.3))
    for _ in range(20):
        assert buffer.sample(8).indices.tolist() == list(range(8))


def test_one_episode_may_be_drawn_twice_for_an_update() -> None:
    buffer = filled_buffer(np.array([100.0, 1e-6, 1e-6]), alpha=1.0)
    sample = buffer.sample(3)
    assert sample.indices.tolist() == [0, 0, 0]
    assert sample.episodes.team_reward[:, 0].tolist() == [0, 0, 0]


def test_new_episodes_have_the_largest_priority_seen() -> None:
    buffer = make_buffer(4, alpha=1.0, epsilon=0.5)
    buffer.add(episodes(0, 1))
    buffer.update_priorities(np.array([0, 1]), np.array([9.5, 0.5]))
    assert buffer.max_priority == 10.0
    buffer.update_priorities(np.array([0]), np.array([1.5]))
    buffer.add(episodes(2))
    assert buffer._tree.values.tolist() == [2.0, 1.0, 10.0, 0.0]
    buffer.add(episodes(3, 4))  # takes the place of episode 0
    assert buffer._tree.values.tolist() == [10.0, 1.0, 10.0, 10.0]


def test_no_error_left_keeps_an_episode_in_play() -> None:
    buffer = make_buffer(2, alpha=1.0, epsilon=0.25)
    buffer.add(episodes(0, 1))
    buffer.update_priorities(np.array([0, 1]), np.array([0.0, 0.5]))
    drawn = np.concatenate([buffer.sample(1).indices for _ in range(2_000)])
    assert (drawn == 0).mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("indices", "priorities", "message"),
    [
        ([0, 1], [1.0, np.nan], "priorities: got nan, .* diverged"),
        ([0], [np.inf], "priorities: got inf"),
        ([0], [-1.0], "priorities: got -1.0"),
        ([2], [1.0], "indices: got 2 to 2, the buffer holds 2"),
        ([-1], [1.0], "indices: got -1 to -1"),
    ],
)
def test_what_cannot_be_a_priority_is_refused_and_changes_nothing(indices, priorities, message: str) -> None:
    buffer = make_buffer(4)
    buffer.add(episodes(0, 1))
    with pytest.raises(ValueError, match=message):
        buffer.update_priorities(np.array(indices), np.array(priorities))
    assert buffer._tree.values.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_more_than_is_held_is_refused() -> None:
    with pytest.raises(ValueError, match="asked for 3 episodes, the buffer holds 0"):
        make_buffer(4).sample(3)


# --- importance weights


def test_the_weights_are_the_papers() -> None:
    priorities = np.array([0.5, 2.0, 1.0, 4.0])
    buffer = filled_buffer(priorities, alpha=0.5)
    sample = buffer.sample(4)
    share = priorities**0.5 / (priorities**0.5).sum()
    paper = (4 * share) ** -0.4
    np.testing.assert_allclose(sample.weights, (paper / paper.max())[sample.indices], rtol=1e-6)
    assert sample.weights.dtype == np.float32


def test_beta_moves_linearly_and_decides_how_much_weights_differ() -> None:
    buffer = filled_buffer(np.array([1.0, 3.0]), alpha=1.0)
    seen = []
    for steps in (0, 50, 100, 500):
        buffer.anneal(steps)
        seen.append(buffer.beta)
        weights = buffer._weights(np.array([0, 1]))
        np.testing.assert_allclose(weights, [1.0, 3.0**-buffer.beta], rtol=1e-6)
    assert seen == pytest.approx([0.4, 0.7, 1.0, 1.0])


@pytest.mark.parametrize("batch", [1, 4])
def test_weighted_means_are_unbiased_with_a_beta_of_one_and_only_then(batch: int) -> None:
    rng = np.random.default_rng(1)
    priorities = 0.2 + 3 * rng.random(20)
    value = priorities + rng.normal(size=20)  # goes with the priority, so that plain means are biased
    mean = value.mean()

    def estimate(beta: float) -> tuple[float, float]:
        """Returns the mean of `w * value`, the batches' common factor undone, and its standard error."""
        buffer = filled_buffer(priorities, beta_initial=beta)
        share = priorities**0.6 / (priorities**0.6).sum()
        largest = ((20 * share) ** -beta).max()
        samples = [buffer.sample(batch) for _ in range(8_000 // batch)]
        means = np.array([largest * (sample.weights * value[sample.indices]).mean() for sample in samples])
        return means.mean(), means.std() / len(means) ** 0.5

    corrected, error = estimate(1.0)
    assert abs(corrected - mean) < 4 * error
    plain, error = estimate(0.0)
    assert plain - mean > 10 * error


# --- checkpoints


def test_a_restored_buffer_draws_and_weighs_the_same() -> None:
    rng = np.random.default_rng(0)
    buffer = make_buffer(6)
    buffer.add(episodes(*range(8)))
    for _ in range(20):
        buffer.update_priorities(buffer.sample(3).indices, rng.random(3) * 5)
    buffer.anneal(30)
    other = make_buffer(6, seed=99)
    other.set_state(pickle.loads(pickle.dumps(buffer.get_state())))
    np.testing.assert_array_equal(other._tree._nodes, buffer._tree._nodes)
    for step in range(20):
        ours, theirs = buffer.sample(4), other.sample(4)
        np.testing.assert_array_equal(ours.indices, theirs.indices)
        np.testing.assert_array_equal(ours.weights, theirs.weights)
        np.testing.assert_array_equal(ours.episodes.team_reward, theirs.episodes.team_reward)
        for both in (buffer, other):
            both.update_priorities(ours.indices, np.linspace(0, 1, 4) * step)
            both.add(episodes(100 + step))


@pytest.mark.parametrize("capacity", [2, 4, 5, 9])
def test_priorities_go_with_their_episodes_into_another_size(capacity: int) -> None:
    buffer = make_buffer(4, alpha=1.0, epsilon=1.0)
    buffer.add(episodes(*range(6)))
    numbers = buffer.get_state()["episodes"]["team_reward"][:, 0].astype(int)
    buffer.update_priorities(np.arange(4), 10.0 * numbers)
    other = make_buffer(capacity, alpha=1.0, epsilon=1.0)
    other.set_state(buffer.get_state())
    rows = other.get_state()["episodes"]["team_reward"][:, 0]
    np.testing.assert_allclose(other._tree.values[: len(other)], 10.0 * rows + 1.0)
    assert not other._tree.values[len(other) :].any()
    assert other.max_priority == 51.0


def test_a_uniform_buffers_episodes_begin_as_new_ones() -> None:
    state = make_buffer(4).get_state() | {"episodes": episodes(1, 2).arrays(), "next": 2}
    old_format = {key: state[key] for key in ("episodes", "next", "rng")}
    buffer = filled_buffer(np.full(4, 50.0))
    buffer.set_state(old_format)
    assert buffer._tree.values.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert set(buffer.sample(2).indices) == {0, 1}
