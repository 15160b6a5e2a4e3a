"""Finding and reading what a run left on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k24_rllib.checks import ConfigError

if TYPE_CHECKING:
    from k24_rllib.qmix import QMix, QMixConfig

STATE_FILE = "algorithm_state.pkl"
_CHECKPOINT_DIR = re.compile(r"checkpoint_\d+$")


def find_checkpoint(given: str) -> Path:
    """Returns the checkpoint directory that `given` is, or the newest one inside a trial's or experiment's directory.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(given).expanduser().absolute()
    if not path.exists():
        raise ConfigError(f"{given}: no such directory, expected a checkpoint")
    if not path.is_dir():
        raise ConfigError(f"{given}: is a file, expected a checkpoint's directory")
    if (path / STATE_FILE).is_file():
        return path
    inside = [
        directory
        for pattern in ("checkpoint_*", "*/checkpoint_*", "*/*/checkpoint_*")
        for directory in path.glob(pattern)
        if _CHECKPOINT_DIR.search(directory.name) and (directory / STATE_FILE).is_file()
    ]
    if not inside:
        raise ConfigError(f"{given}: holds no checkpoint, expected a directory with {STATE_FILE}, or a run's directory")
    return max(inside, key=lambda directory: ((directory / STATE_FILE).stat().st_mtime_ns, directory.name))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Returns the state that a checkpoint of one of our algorithms holds, checked to be one.

    A checkpoint is a pickle: reading one from a stranger runs the stranger's code.
    """
    from k24_rllib.qmix import QMixConfig
    from k24_rllib.qmix.resume import check_format

    state = _unpickle(checkpoint / STATE_FILE)
    config = state.get("config") if isinstance(state, dict) else None
    config_class = config.get("class") if isinstance(config, dict) else None
    if not isinstance(config_class, type) or not issubclass(config_class, QMixConfig):
        raise ConfigError(f"{checkpoint}: is not a checkpoint of k24_rllib")
    check_format(state)
    return state


def load_for_evaluation(checkpoint: Path) -> QMix:
    """Returns the algorithm that a checkpoint holds, in this process and with what acting needs and no more.

    Only its policy is restored, so that a replay buffer in the checkpoint stays where it is.
    """
    from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

    state = read_state(checkpoint)["config"]
    config: QMixConfig = state["class"].from_state(state)
    config.num_env_runners = 0
    config.num_envs_per_env_runner = 1
    config.evaluation_interval = None
    algorithm: QMix = config.build_algo()
    algorithm.get_policy(DEFAULT_POLICY_ID).set_state(read_policy_state(checkpoint))
    return algorithm


def read_policy_state(checkpoint: Path) -> dict[str, Any]:
    """Returns the state of the policy in a checkpoint: networks, optimizer, reward statistics."""
    from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

    state: dict[str, Any] = _unpickle(checkpoint / "policies" / DEFAULT_POLICY_ID / "policy_state.pkl")
    return state


def _unpickle(file: Path) -> Any:
    from ray import cloudpickle

    try:
        return cloudpickle.loads(file.read_bytes())
    except Exception as error:  # unpickling can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{file}: can't be read as part of a checkpoint ({reason})") from error
