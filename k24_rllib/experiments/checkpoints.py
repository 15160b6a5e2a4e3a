"""Finding and reading what a run left on disk: what is read is checked first to be what was written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k24_rllib.checks import ConfigError
from k24_rllib.qmix.checkpoint_files import STATE_FILE, checkpoint_number, sound_checkpoint, trial_checkpoints
from k24_rllib.qmix.manifest import MANIFEST_FILE, read_manifest, read_verified

if TYPE_CHECKING:
    from k24_rllib.qmix import QMix, QMixConfig, QMixTorchPolicy

WEIGHTS_SUFFIX = ".safetensors"
_PARTS: tuple[str, ...] = ("agent", "layer", "mixer", "agent_options", "layer_options", "mixer_options")
_PARTS += ("agent_id_input", "last_action_input")


def find_checkpoint(given: str) -> Path:
    """Returns the checkpoint directory that `given` is, or the newest one inside a trial's or experiment's directory.

    Every file of it is as it was written. Where one isn't, the trial's checkpoint before is returned, and that is said.

    Raises:
        ConfigError: if there is none, or none that is sound.
    """
    path = Path(given).expanduser().absolute()
    if not path.exists():
        raise ConfigError(f"{given}: no such directory, expected a checkpoint")
    if not path.is_dir():
        raise ConfigError(f"{given}: is a file, expected a checkpoint's directory")
    if _looks_like_one(path):
        return sound_checkpoint(path)
    trials = {found.parent for depth in ("", "*/", "*/*/") for found in path.glob(f"{depth}checkpoint_*")}
    newest = [found[0] for trial in trials if (found := trial_checkpoints(trial))]
    if not newest:
        raise ConfigError(f"{given}: holds no checkpoint, expected a directory with {STATE_FILE}, or a run's directory")
    return sound_checkpoint(max(newest, key=_written_at))


def _looks_like_one(path: Path) -> bool:
    """Returns whether a directory is a checkpoint, or what is left of one."""
    return checkpoint_number(path) is not None or any((path / name).is_file() for name in (STATE_FILE, MANIFEST_FILE))


def _written_at(checkpoint: Path) -> tuple[int, str]:
    state = checkpoint / STATE_FILE
    return (state if state.is_file() else checkpoint).stat().st_mtime_ns, checkpoint.name


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Returns the state that a checkpoint of one of our algorithms holds, checked to be one.

    A checkpoint is a pickle: reading one from a stranger runs the stranger's code.
    """
    from k24_rllib.qmix import QMixConfig
    from k24_rllib.qmix.resume import check_format

    state = _unpickle(checkpoint, STATE_FILE)
    config = state.get("config") if isinstance(state, dict) else None
    config_class = config.get("class") if isinstance(config, dict) else None
    if not isinstance(config_class, type) or not issubclass(config_class, QMixConfig):
        raise ConfigError(f"{checkpoint}: is not a checkpoint of k24_rllib")
    check_format(state)
    return state


def is_weights_file(given: str | Path) -> bool:
    """Returns whether a path is one of a file of weights alone; see `qmix.weights`."""
    return Path(given).suffix == WEIGHTS_SUFFIX


def find_network(given: str) -> tuple[str, Path]:
    """Returns what a user's path is of, `weights` or `checkpoint`, and the file or directory itself.

    Raises:
        ConfigError: as `find_checkpoint` does.
    """
    return ("weights", Path(given)) if is_weights_file(given) else ("checkpoint", find_checkpoint(given))


def policy_of(checkpoint: Path) -> QMixTorchPolicy:
    """Returns the policy of a checkpoint, or of a file of weights; see `config_and_policy_of`."""
    return config_and_policy_of(checkpoint)[1]


def config_and_policy_of(checkpoint: Path) -> tuple[QMixConfig, QMixTorchPolicy]:
    """Returns what a checkpoint, or a file of weights, was made by, and its policy on the CPU.

    It needs no Ray, so that what can't be is soon said.

    Raises:
        ConfigError: for what this version can't read.
    """
    if is_weights_file(checkpoint):
        from k24_rllib.qmix.weights import config_of, load_network, read_weights

        weights = read_weights(checkpoint)
        config = config_of(weights)
        policy = config.build_policy()
        load_network(str(checkpoint), weights.tensors, policy.model)
        return config, policy
    config = _acting_config(checkpoint)
    config.num_gpus = 0
    return config, _of_this_version(checkpoint, lambda: _with_state(config.build_policy(), checkpoint))


def check_fits(checkpoint: Path, configs: Sequence[QMixConfig]) -> None:
    """Checks that a run with each of some configurations can go on from a checkpoint; it needs no Ray.

    Raises:
        ConfigError: naming a layer of another shape, or what else can't be taken over, and the setting that is another.
    """
    from k24_rllib.qmix.weights import load_network

    state, made_by = read_policy_state(checkpoint), _acting_config(checkpoint)
    for config in configs:
        config.num_gpus = 0
        policy = config.build_policy()
        try:
            load_network(str(checkpoint), state["model"], policy.model)
        except (KeyError, ConfigError) as error:
            raise ConfigError(f"{error}{_difference(state['model'], made_by, config)}") from None
        try:
            policy.set_state(copy.deepcopy(state))
        except ConfigError:
            raise
        except Exception as error:  # what another setting makes of it can be anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
            raise ConfigError(f"{checkpoint}: can't be gone on from ({reason})") from error


def _difference(state: Mapping[str, Any], there: QMixConfig, here: QMixConfig) -> str:
    """Returns the setting that alone gives the network of `there` another shape than its state has, or nothing."""
    offers = [name for name, setting in there.settings().items() if setting.offers]
    for key in ("env", *_PARTS, *offers):
        ours, theirs = getattr(here, key, None), getattr(there, key, None)
        if ours != theirs and not _builds(state, there, {key: ours}):
            return f"; {key}: {theirs!r} there, {ours!r} here"
    for key in sorted({*there.env_config, *here.env_config}):
        ours, theirs = here.env_config.get(key), there.env_config.get(key)
        if ours != theirs and not _builds(state, there, {"env_config": {**there.env_config, key: ours}}):
            return f"; env_config.{key}: {theirs!r} there, {ours!r} here"
    return ""


def _builds(state: Mapping[str, Any], config: QMixConfig, change: Mapping[str, Any]) -> bool:
    """Returns whether a configuration still builds the network of a state when some settings are changed."""
    from k24_rllib.qmix.weights import load_network

    changed = config.copy(copy_frozen=False)
    for key, value in change.items():
        setattr(changed, key, value)
    try:
        load_network("", state, changed.build_policy().model)
    except Exception:  # settings that don't go together raise whatever they like
        return False
    return True


def load_for_evaluation(checkpoint: Path) -> QMix:
    """Returns the algorithm that a checkpoint, or a file of weights, holds: in this process, with what acting needs.

    Only its policy is restored, so that a replay buffer in the checkpoint stays where it is.
    """
    from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

    if is_weights_file(checkpoint):
        from k24_rllib.qmix import QMix

        return QMix.from_weights(checkpoint)
    algorithm: QMix = _acting_config(checkpoint).build_algo()
    _of_this_version(checkpoint, lambda: _with_state(algorithm.get_policy(DEFAULT_POLICY_ID), checkpoint))
    return algorithm


def _acting_config(checkpoint: Path) -> QMixConfig:
    """Returns a checkpoint's configuration, without workers."""
    from k24_rllib.qmix.opponents import play_against
    from k24_rllib.qmix.self_play import plays_itself

    state = read_state(checkpoint)["config"]
    config: QMixConfig = _of_this_version(checkpoint, lambda: state["class"].from_state(state))
    config.num_env_runners = 0
    config.num_envs_per_env_runner = 1
    config.evaluation_interval = None
    if plays_itself(config):
        play_against("scripted", config)  # as in evaluations
    return config


def _with_state(policy: QMixTorchPolicy, checkpoint: Path) -> QMixTorchPolicy:
    policy.set_state(read_policy_state(checkpoint))
    return policy


def _of_this_version(checkpoint: Path, read: Callable[[], Any]) -> Any:
    """Returns what `read` does; what another version has left, or a hand has changed, raises whatever it likes."""
    try:
        return read()
    except ConfigError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise ConfigError(f"{checkpoint}: is of another version, or not whole ({reason})") from error


def read_policy_state(checkpoint: Path) -> dict[str, Any]:
    """Returns the state of the policy in a checkpoint: networks, optimizer, reward statistics."""
    from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

    state: dict[str, Any] = _unpickle(checkpoint, f"policies/{DEFAULT_POLICY_ID}/policy_state.pkl")
    if not isinstance(state, Mapping):
        raise ConfigError(f"{checkpoint}: policy_state.pkl: got {type(state).__name__}, expected a policy's state")
    return state


def _unpickle(checkpoint: Path, name: str) -> Any:
    """Returns what a file of a checkpoint holds; it is unpickled only if it is what was written."""
    from ray import cloudpickle

    content = read_verified(checkpoint, name, read_manifest(checkpoint))
    try:
        return cloudpickle.loads(content)
    except Exception as error:  # unpickling can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise ConfigError(f"{checkpoint / name}: can't be read as part of a checkpoint ({reason})") from error
