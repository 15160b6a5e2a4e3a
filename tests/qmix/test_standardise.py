"""Running reward statistics."""

import numpy as np
import pytest
import torch

from k24_rllib.qmix.standardise import RunningMoments


def test_merging_batches_equals_all_values_at_once() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(5, 3, size).astype(np.float32) for size in (1, 7, 200, 3)]
    moments = RunningMoments()
    for batch in batches:
        moments.update(batch)
    values = np.concatenate(batches)
    assert moments.mean == pytest.approx(values.mean(), rel=1e-6)
    assert moments.std == pytest.approx(values.std(), rel=1e-6)
    standardised = moments.standardise(torch.from_numpy(values))
    assert standardised.mean().item() == pytest.approx(0, abs=1e-5)
    assert standardised.std(correction=0).item() == pytest.approx(1, rel=1e-5)


def test_constant_rewards_and_no_rewards_do_not_divide_by_zero() -> None:
    moments = RunningMoments()
    moments.update(np.zeros(0, np.float32))
    assert moments.std == 1.0
    moments.update(np.full(10, 2.0, np.float32))
    assert moments.standardise(torch.tensor([2.0])).item() == 0.0


def test_state_round_trip() -> None:
    moments, other = RunningMoments(), RunningMoments()
    moments.update(np.arange(5, dtype=np.float32))
    other.set_state(moments.get_state())
    assert (other.mean, other.std, other.count) == (moments.mean, moments.std, moments.count)
