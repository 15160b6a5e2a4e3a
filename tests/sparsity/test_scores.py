"""Module A: the activation average and the scores."""

from __future__ import annotations

import copy

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity import EMAActivationTracker, hetero_scores


def test_value_is_one_before_the_first_update_which_sets_it():
    tracker = EMAActivationTracker(3)
    assert torch.equal(tracker.value, torch.ones(3))
    x = torch.tensor([[1.0, -2.0, 0.0], [-3.0, 4.0, 0.0]])
    tracker.update(x)
    torch.testing.assert_close(tracker.value, torch.tensor([2.0, 3.0, 0.0]))


def test_later_updates_move_by_the_momentum():
    tracker = EMAActivationTracker(2, momentum=0.9)
    tracker.update(torch.full((4, 2), 2.0))
    tracker.update(torch.full((4, 2), -12.0))
    torch.testing.assert_close(tracker.value, torch.full((2,), 0.9 * 2 + 0.1 * 12))
    tracker.update(torch.full((4, 2), 0.0))
    torch.testing.assert_close(tracker.value, torch.full((2,), 0.9 * 3.0))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_padding_does_not_count(dtype):
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4)
    valid = torch.rand(3, 5) < 0.5
    with_padding, without = EMAActivationTracker(4), EMAActivationTracker(4)
    for _ in range(3):
        padded = torch.where(valid.unsqueeze(-1), x, 1e6)
        with_padding.update(padded, valid.to(dtype))
        without.update(x[valid])
        x = x * 1.7
    torch.testing.assert_close(with_padding.value, without.value)


def test_a_mask_broadcasts_over_owners():
    x = torch.stack((torch.full((2, 3), 1.0), torch.full((2, 3), 3.0)))  # [A=2, rows=2, I=3]
    x[:, 1] = 100.0
    tracker = EMAActivationTracker(3)
    tracker.update(x, torch.tensor([[True, False]]))
    torch.testing.assert_close(tracker.value, torch.full((3,), 2.0))


def test_a_batch_without_real_rows_changes_nothing():
    tracker = EMAActivationTracker(2)
    nothing = torch.zeros(4, dtype=torch.bool)
    tracker.update(torch.full((4, 2), 9.0), nothing)
    tracker.update(torch.empty(0, 2))
    assert torch.equal(tracker.value, torch.ones(2))
    assert not tracker.initialised
    tracker.update(torch.full((4, 2), 5.0))
    tracker.update(torch.full((4, 2), 9.0), nothing)
    torch.testing.assert_close(tracker.value, torch.full((2,), 5.0))


def test_state_travels_with_the_state_dict():
    tracker, copied = EMAActivationTracker(2), EMAActivationTracker(2)
    tracker.update(torch.full((1, 2), 4.0))
    copied.load_state_dict(copy.deepcopy(tracker.state_dict()))
    for each in (tracker, copied):
        each.update(torch.full((1, 2), 8.0))  # the copy must know that this is not its first update
    torch.testing.assert_close(copied.value, torch.full((2,), 4.04))
    assert torch.equal(copied.value, tracker.value)


def test_impossible_momentum_is_refused():
    with pytest.raises(ConfigError, match="ema_momentum"):
        EMAActivationTracker(2, momentum=1.5)


def test_scores_follow_their_definition():
    torch.manual_seed(1)
    weight, ema, alpha = torch.randn(3, 5), torch.rand(5), torch.randn(2, 3, 5)
    scores = hetero_scores(weight, ema, alpha)
    for a in range(2):
        for j in range(3):
            for i in range(5):
                expected = abs(weight[j, i]) * ema[i] / (1 + torch.exp(-alpha[a, j, i]))
                torch.testing.assert_close(scores[a, j, i], expected)
