"""Packed arrays come back bit for bit, and what repeats is not written twice."""

from __future__ import annotations

import pickle

import numpy as np

from k24_rllib.qmix.packing import is_packed, pack, unpack


def test_arrays_come_back_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "obs": rng.normal(size=(5, 4, 3, 6)).astype(np.float32),
        "odd": np.array([[0.0, -0.0], [np.nan, np.inf]], np.float32),
        "avail": rng.integers(2, size=(5, 3)).astype(bool),
        "actions": rng.integers(9, size=(5, 4, 3)),
        "none": np.zeros((0, 3), np.float32),
    }
    arrays["strided"] = arrays["obs"][::2, :, 1]
    packed = pack(arrays)
    assert is_packed(packed)
    assert not is_packed(arrays)
    back = unpack(pickle.loads(pickle.dumps(packed)))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()


def test_a_state_of_all_observations_is_written_once() -> None:
    obs = np.random.default_rng(0).normal(size=(50, 10, 3, 6)).astype(np.float32)
    state = obs.reshape(50, 10, 18).copy()
    packed = pack({"obs": obs, "state": state})
    assert packed["arrays"]["state"] == {"dtype": "<f4", "shape": (50, 10, 18), "same_as": "obs"}
    assert unpack(packed)["state"].tobytes() == state.tobytes()
    state[3, 2, 1] = -0.0
    obs[3, 2, 0, 1] = 0.0
    assert "bytes" in pack({"obs": obs, "state": state})["arrays"]["state"]
