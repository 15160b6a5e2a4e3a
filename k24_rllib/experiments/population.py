"""Which settings a population may change on live runs, and what they are changed to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k24_rllib.checks import ConfigError, check_name, check_number
from k24_rllib.experiments.space import Choice, Distribution, check_distribution

_SHAPE = "it decides the shape of what a clone takes over"
_START = "it acts at the start of a run alone"
_RUN = "it belongs to the run as a whole"

FIXED = {
    **dict.fromkeys(("hidden_dim", "mixing_embed_dim", "hypernet_dim", "agent", "agent_options", "layer"), _SHAPE),
    **dict.fromkeys(("layer_options", "mixer", "mixer_options", "agent_id_input", "last_action_input"), _SHAPE),
    **dict.fromkeys(("pattern", "masks", "shared_mask", "ema_per_owner", "div_window", "buffer_episodes"), _SHAPE),
    **dict.fromkeys(("standardise_rewards", "replay", "store_buffer_in_checkpoints"), "a clone takes over its history"),
    **dict.fromkeys(("scores", "alpha_lr_factor", "owner_scale"), _SHAPE),
    **dict.fromkeys(("mixer_init_scale", "alpha_std", "alpha_in_common"), _START),
    **dict.fromkeys(("total_env_steps", "seed", "finetune_at", "rewind_to", "rollouts_ahead"), _RUN),
    **dict.fromkeys(("num_env_runners", "num_envs_per_env_runner", "min_sample_timesteps_per_iteration"), _RUN),
    **dict.fromkeys(("evaluation_interval", "evaluation_duration", "evaluation_num_env_runners"), _RUN),
    **dict.fromkeys(("sample_timeout_s", "max_round_retries"), _RUN),
    **dict.fromkeys(("torch_num_threads", "matmul_precision", "compile_kernels", "mixed_precision"), _RUN),
    "metrics_export": _RUN,
    **dict.fromkeys(("self_play_pool", "self_play_interval", "self_play_current"), _RUN),
}
"""Declared settings that can't change on a live run, and why."""


def check_mutations(run: str, config: dict[str, Any], mutations: object) -> dict[str, Any]:
    """Returns PBT's `hyperparam_mutations` with Tune's objects in them.

    A setting that `config` doesn't have starts from a draw of its own mutation, so that it is shown and resumed with
    the trial; what it has is where all trials begin.

    Raises:
        ConfigError: for a setting that can't change on a live run, and what isn't a list or a distribution.
    """
    checked: dict[str, Any] = {}
    for key, value in _mutable("hyperparam_mutations", run, mutations).items():
        where = f"scheduler: hyperparam_mutations: {key}"
        if isinstance(value, list):
            value = {"choice": value}
        distribution, given = check_distribution(where, value)
        _check_values(run, where, key, distribution.values(given))
        checked[key] = given if isinstance(distribution, Choice) else distribution.make(given)
        if key not in config:
            config[key] = {distribution.name: given}
    return checked


def check_bounds(run: str, config: dict[str, Any], bounds: object) -> dict[str, Any]:
    """Returns PB2's `hyperparam_bounds`; a setting that `config` doesn't have starts from a draw between them."""
    checked: dict[str, Any] = {}
    for key, value in _mutable("hyperparam_bounds", run, bounds).items():
        where = f"scheduler: hyperparam_bounds: {key}"
        if not isinstance(value, list) or len(value) != 2:
            raise ConfigError(f"{where}: got {value!r}, expected [low, high]")
        Distribution("uniform", ("low", "high")).check(where, value)
        _check_values(run, where, key, value)
        checked[key] = value
        config.setdefault(key, {"uniform": value})
    return checked


def _mutable(option: str, run: str, given: object) -> Mapping[str, Any]:
    """Returns what `option` holds, once it is sure that each of its keys can change on a live run."""
    from k24_rllib import ALGORITHMS

    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"scheduler: {option}: got {given!r}, expected settings, as lr: {{loguniform: [1e-4, 1e-2]}}")
    settings = ALGORITHMS.settings_class(run).settings()
    for key in given:
        if key in FIXED and key in settings:
            raise ConfigError(f"scheduler: {option}: {key} can't change on a live run: {FIXED[key]}")
        check_name("setting to change on a live run", key, [name for name in settings if name not in FIXED])
    return given


def _check_values(run: str, where: str, key: str, values: list[Any]) -> None:
    """Checks the ends of what a setting may become against the setting's own bounds."""
    from k24_rllib import ALGORITHMS

    setting = ALGORITHMS.settings_class(run).settings()[key]
    for value in values:
        setting.refuse(f"{where} ({value!r})" if isinstance(value, list) else where, value)


def keep_in_range(mutations: Mapping[str, Any]) -> Any:
    """Returns what puts a changed setting back into its distribution's range.

    Tune multiplies by 1.2 or 0.8 without looking, which takes a discount past 1 and a step count below 1.
    """

    def clip(config: dict[str, Any]) -> dict[str, Any]:
        for key, domain in mutations.items():
            low, high = getattr(domain, "lower", None), getattr(domain, "upper", None)
            if low is None or high is None or key not in config:
                continue
            whole = isinstance(config[key], int)
            config[key] = min(max(config[key], low), high - 1 if whole else high)
            check_number(key, config[key])
        return config

    return clip
