"""Checkpoints that were written before layers, mixers and agents had names go on where they stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from k24_rllib.qmix import QMix

CHECKPOINTS = Path(__file__).parent.parent / "data" / "checkpoints_before_parts"
RETURNS = {
    "QMix": [-4.21184515953064, -3.626616984605789, -7.589637994766235, -7.7397096157073975],
    "K24QMix": [-3.5894575715065002, -2.4303078949451447, -7.136684060096741, -8.193925619125366],
    "KaleidoscopeQMix": [-4.21184515953064, -3.626616984605789, -7.589637994766235, -7.7397096157073975],
    "independent": [-4.351951956748962, -2.205723136663437, -6.894814848899841, -9.074369072914124],
    "feedforward": [-3.5894575715065002, -2.415800541639328, -7.136684060096741, -8.193925619125366],
}
"""Greedy returns of four episodes, seed 0, that the code of then printed beside each checkpoint."""


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("name", RETURNS)
def test_an_old_checkpoint_plays_as_it_did_and_learns_on(name: str) -> None:
    algo = QMix.from_checkpoint(str(CHECKPOINTS / name))
    played = algo.evaluate_greedy(4, seed=0)["episode_returns"]
    assert np.allclose(played, RETURNS[name], atol=1e-4)
    assert len(algo.local_replay_buffer) == 8
    before = algo._counters["num_updates"]
    algo.train()
    assert algo._counters["num_updates"] > before
    algo.stop()


@pytest.mark.usefixtures("ray_session")
def test_old_switches_become_names() -> None:
    independent = QMix.from_checkpoint(str(CHECKPOINTS / "independent"))
    feedforward = QMix.from_checkpoint(str(CHECKPOINTS / "feedforward"))
    assert (independent.config.layer, independent.config.agent) == ("independent", "gru")
    assert (feedforward.config.layer, feedforward.config.agent) == ("dense", "feedforward")
    independent.stop()
    feedforward.stop()
