"""What a run that can't learn any more leaves behind: the batch that it stopped at, and its state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from k24_rllib.checks import ConfigError
from k24_rllib.qmix.buffer import ReplaySample
from k24_rllib.qmix.guard import DivergedError

if TYPE_CHECKING:
    from k24_rllib.qmix.qmix import QMix

DIRECTORY = "diverged"
BATCH, STATE = "batch.npz", "state"


def stop_diverged(algorithm: QMix, sample: ReplaySample) -> NoReturn:
    """Saves the last batch and the algorithm's state, which no skipped update has changed, and stops the run.

    `batch.npz` holds the arrays of an `EpisodeBatch`, and `importance` where the replay draws some episodes more often;
    `state` is a checkpoint. `learn_on_batch` of the one with the other is skipped again.

    Raises:
        DivergedError: always; it says where they are.
    """
    policy = algorithm.policy
    numbers = {name: float(algorithm._last_update[name]) for name in ("loss", "grad_norm")}
    directory = trial_directory(algorithm) / DIRECTORY
    try:
        directory.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = sample.episodes.arrays()
        if sample.weights is not None:
            arrays["importance"] = sample.weights
        np.savez_compressed(directory / BATCH, **arrays)
        algorithm.save_to_path(directory / STATE)
        kept = f"batch and state are in {directory}"
    except (OSError, ConfigError) as error:
        kept = f"batch and state can't be saved in {directory} ({getattr(error, 'strerror', None) or error})"
    raise DivergedError(
        f"{policy.guard.in_a_row} updates in a row had no finite loss and gradient and were skipped (loss "
        f"{numbers['loss']:g}, grad_norm {numbers['grad_norm']:g}, lr {policy.cur_lr:g}); {kept}"
    )


def trial_directory(algorithm: QMix) -> Path:
    """Returns where a trial's results go; its directory on this machine where they go elsewhere."""
    storage = algorithm._storage
    if storage is not None and storage.storage_filesystem.type_name == "local":
        return Path(storage.trial_fs_path)
    return Path(algorithm.logdir)
