"""RLlib's own settings: which of them act here, which don't, and what older files called them.

RLlib accepts all of its settings whatever the algorithm does with them. A file that asks for what can't happen is
refused here, without RLlib; a test holds the two lists to the installed RLlib.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number, nearest

Check = Callable[[str, Any], object]

MOST_WORKERS = 10_000
PLACEMENTS = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
"""How Ray places a trial's processes on the nodes of a cluster."""


def _amount(key: str, value: Any) -> None:
    check_number(key, value, low=0.0, high=10_000.0)


def _count(key: str, value: Any) -> None:
    check_number(key, value, low=0, high=10**15, integer=True)


def _seconds(key: str, value: Any) -> None:
    check_number(key, value, low=0.0, high=1e9)


def _optional(check: Check) -> Check:
    return lambda key, value: None if value is None else check(key, value)


def _either(*values: Any) -> Check:
    return lambda key, value: check_choice(key, value, values)


def _keys_and_values(key: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: got {value!r}, expected keys and values")


def _callback_class(key: str, value: Any) -> None:
    """Takes classes, from Python, and the place of one, from a file."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if not callable(one) and not (isinstance(one, str) and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", one)):
            raise ConfigError(f"{key}: got {one!r}, expected a class of callbacks, as my_module.MyCallbacks")


def _anything(key: str, value: Any) -> None:
    """Takes what the checks of the whole configuration look at, or what only Python can give."""


ACTING: dict[str, Check] = {
    "env": _anything,
    "env_config": _optional(_keys_and_values),
    "framework": _either("torch"),
    "model": _keys_and_values,
    "callbacks": _callback_class,
    "explore": check_bool,
    "batch_mode": _either("complete_episodes"),
    "rollout_fragment_length": _either("auto"),
    "count_steps_by": _either("env_steps"),
    "enable_rl_module_and_learner": _anything,
    "enable_env_runner_and_connector_v2": _anything,
    "evaluation_config": _optional(_keys_and_values),
    "evaluation_duration_unit": _either("episodes"),
    "evaluation_parallel_to_training": check_bool,
    "evaluation_sample_timeout_s": _seconds,
    "evaluation_force_reset_envs_before_iteration": check_bool,
    "evaluation_auto_duration_max_env_steps_per_sample": _count,
    "evaluation_auto_duration_min_env_steps_per_sample": _count,
    "custom_eval_function": _anything,
    "metrics_num_episodes_for_smoothing": lambda key, value: check_number(key, value, low=1, high=10**6, integer=True),
    "keep_per_episode_custom_metrics": check_bool,
    "min_time_s_per_iteration": _optional(_seconds),
    "min_train_timesteps_per_iteration": _count,
    "log_level": _either("WARN", "DEBUG", "INFO", "ERROR"),
    "log_sys_usage": check_bool,
    "restart_failed_env_runners": check_bool,
    "ignore_env_runner_failures": check_bool,
    "max_num_env_runner_restarts": _count,
    "delay_between_env_runner_restarts_s": _seconds,
    "num_consecutive_env_runner_failures_tolerance": _count,
    "env_runner_health_probe_timeout_s": _seconds,
    "env_runner_restore_timeout_s": _seconds,
    "validate_env_runners_after_construction": check_bool,
    "max_requests_in_flight_per_env_runner": _count,
    "create_local_env_runner": _either(True),
    "num_gpus": _amount,
    "num_gpus_per_env_runner": _amount,
    "num_cpus_per_env_runner": _amount,
    "num_cpus_for_main_process": _amount,
    "custom_resources_per_env_runner": _keys_and_values,
    "custom_resources_for_main_process": _keys_and_values,
    "placement_strategy": _either(*PLACEMENTS),
    "local_gpu_idx": _count,
    "extra_python_environs_for_driver": _keys_and_values,
    "extra_python_environs_for_worker": _keys_and_values,
    "export_native_model_files": check_bool,
    "checkpoint_trainable_policies_only": check_bool,
    "disable_env_checking": check_bool,
}
"""RLlib's settings that act on QMIX, and the check of each."""

_NEW_STACK = "it belongs to RLlib's new API stack"
_OFFLINE = "QMIX learns from what it plays itself"
_ONE_POLICY = "the team is one policy"
_OWN_ROLLOUT = "episodes are collected in lockstep"
_TENSORFLOW = "there is only torch"

IDLE: dict[str, str] = {
    **dict.fromkeys(
        (
            "action_mask_key",
            "add_default_connectors_to_env_to_module_pipeline",
            "add_default_connectors_to_learner_pipeline",
            "add_default_connectors_to_module_to_env_pipeline",
            "algorithm_config_overrides_per_module",
            "broadcast_env_runner_states",
            "callbacks_on_env_runners_recreated",
            "custom_resources_per_learner",
            "env_runner_state_server_max_concurrency",
            "episode_lookback_horizon",
            "episodes_to_numpy",
            "gym_env_vectorize_mode",
            "learner_config_dict",
            "max_requests_in_flight_per_aggregator_actor",
            "max_requests_in_flight_per_learner",
            "merge_env_runner_states",
            "minibatch_size",
            "num_aggregator_actors_per_learner",
            "num_cpus_per_learner",
            "num_epochs",
            "num_gpus_per_learner",
            "num_learners",
            "shuffle_batch_per_epoch",
            "stats_cls_lookup",
            "torch_compile_learner",
            "torch_compile_learner_dynamo_backend",
            "torch_compile_learner_dynamo_mode",
            "torch_compile_learner_what_to_compile",
            "torch_ddp_kwargs",
            "torch_skip_nan_gradients",
            "use_env_runner_state_server",
        ),
        _NEW_STACK,
    ),
    **dict.fromkeys(
        (
            "actions_in_input_normalized",
            "broadcast_offline_eval_runner_states",
            "custom_resources_per_offline_eval_runner",
            "dataset_num_iters_per_eval_runner",
            "dataset_num_iters_per_learner",
            "ignore_final_observation",
            "ignore_offline_eval_runner_failures",
            "input",
            "input_compress_columns",
            "input_config",
            "input_filesystem",
            "input_filesystem_kwargs",
            "input_read_batch_size",
            "input_read_episodes",
            "input_read_method",
            "input_read_method_kwargs",
            "input_read_sample_batches",
            "input_read_schema",
            "input_spaces_jsonable",
            "iter_batches_kwargs",
            "map_batches_kwargs",
            "materialize_data",
            "materialize_mapped_data",
            "max_num_offline_eval_runner_restarts",
            "max_requests_in_flight_per_offline_eval_runner",
            "num_cpus_per_offline_eval_runner",
            "num_gpus_per_offline_eval_runner",
            "num_offline_eval_runners",
            "off_policy_estimation_methods",
            "offline_data_class",
            "offline_eval_batch_size_per_runner",
            "offline_eval_rl_module_inference_only",
            "offline_eval_runner_class",
            "offline_eval_runner_health_probe_timeout_s",
            "offline_eval_runner_restore_timeout_s",
            "offline_evaluation_duration",
            "offline_evaluation_interval",
            "offline_evaluation_parallel_to_training",
            "offline_evaluation_timeout_s",
            "offline_evaluation_type",
            "offline_loss_for_module_fn",
            "offline_sampling",
            "ope_split_batch_by_episode",
            "postprocess_inputs",
            "prelearner_buffer_class",
            "prelearner_buffer_kwargs",
            "prelearner_class",
            "prelearner_module_synch_period",
            "prelearner_use_recorded_module_states",
            "restart_failed_offline_eval_runners",
            "shuffle_buffer_size",
            "validate_offline_eval_runners_after_construction",
        ),
        _OFFLINE,
    ),
    **dict.fromkeys(
        (
            "output",
            "output_compress_columns",
            "output_config",
            "output_filesystem",
            "output_filesystem_kwargs",
            "output_max_file_size",
            "output_max_rows_per_file",
            "output_write_episodes",
            "output_write_method",
            "output_write_method_kwargs",
            "output_write_remaining_data",
        ),
        "episodes are written nowhere but into the replay buffer",
    ),
    **dict.fromkeys(
        (
            "multiagent",
            "observation_fn",
            "policies",
            "policies_to_train",
            "policy_map_capacity",
            "policy_mapping_fn",
            "policy_states_are_swappable",
        ),
        _ONE_POLICY,
    ),
    **dict.fromkeys(
        (
            "action_space",
            "clip_actions",
            "clip_rewards",
            "compress_observations",
            "create_env_on_driver",
            "fake_sampler",
            "normalize_actions",
            "observation_space",
            "preprocessor_pref",
            "remote_env_batch_wait_ms",
            "remote_worker_envs",
            "render_env",
            "restart_failed_sub_environments",
            "sample_collector",
            "sampler_perf_stats_ema_coef",
        ),
        _OWN_ROLLOUT,
    ),
    **dict.fromkeys(
        (
            "observation_filter",
            "sync_filters_on_rollout_workers_timeout_s",
            "update_worker_filter_stats",
            "use_worker_filter_stats",
        ),
        "observations are not filtered",
    ),
    **dict.fromkeys(
        (
            "eager_max_retraces",
            "eager_tracing",
            "enable_tf1_exec_eagerly",
            "local_tf_session_args",
            "tf_session_args",
        ),
        _TENSORFLOW,
    ),
    **dict.fromkeys(
        ("torch_compile_worker", "torch_compile_worker_dynamo_backend", "torch_compile_worker_dynamo_mode"),
        "kernels are compiled by compile_kernels",
    ),
    "env_runner_cls": "episodes are collected by the algorithm's own worker",
    "exploration_config": "epsilon_initial, epsilon_final and epsilon_timesteps explore",
    "evaluation_error_after_n_consecutive_skips": _NEW_STACK,
    "evaluation_unhealthy_workers_timeout_s": _NEW_STACK,
    "grad_clip_by": "grad_clip bounds the norm of all gradients together",
    "in_evaluation": "RLlib sets it itself",
    "log_gradients": "the norm is always logged, as grad_norm",
    "optimizer": "Adam learns, set by lr and adam_epsilon",
    "replay_sequence_length": "whole episodes are replayed",
    "metrics_episode_collection_timeout_s": "the algorithm records every episode itself",
}
"""RLlib's settings without effect on QMIX, and why."""

_PYTHON = "callbacks_on_"
"""Functions that only Python can give: RLlib's settings that begin so."""

_DEPRECATED = frozenset(
    {
        "always_attach_evaluation_results",
        "auto_wrap_old_gym_envs",
        "custom_async_evaluation_function",
        "enable_async_evaluation",
        "enable_connectors",
        "env_task_fn",
        "policy_map_cache",
        "simple_optimizer",
        "synchronize_filters",
        "worker_cls",
    }
)
"""RLlib's settings that it has given up itself, and still knows."""

RENAMED = {
    "num_workers": "num_env_runners",
    "num_rollout_workers": "num_env_runners",
    "num_envs_per_worker": "num_envs_per_env_runner",
    "num_cpus_per_worker": "num_cpus_per_env_runner",
    "num_gpus_per_worker": "num_gpus_per_env_runner",
    "custom_resources_per_worker": "custom_resources_per_env_runner",
    "num_cpus_for_driver": "num_cpus_for_main_process",
    "num_cpus_for_local_worker": "num_cpus_for_main_process",
    "recreate_failed_workers": "restart_failed_env_runners",
    "recreate_failed_env_runners": "restart_failed_env_runners",
    "ignore_worker_failures": "ignore_env_runner_failures",
    "max_num_worker_restarts": "max_num_env_runner_restarts",
    "timesteps_per_iteration": "min_sample_timesteps_per_iteration",
    "min_iter_time_s": "min_time_s_per_iteration",
    "evaluation_num_episodes": "evaluation_duration",
    "evaluation_num_workers": "evaluation_num_env_runners",
    "metrics_smoothing_episodes": "metrics_num_episodes_for_smoothing",
    "grad_norm_clipping": "grad_clip",
    "optim_eps": "adam_epsilon",
}
"""What older files call a setting that means the same today."""

GONE = {
    "horizon": "the environment's own limit, as env_config: {max_cycles: 25} of the mpe_ environments",
    "buffer_size": "buffer_episodes, which counts episodes",
    "replay_buffer_config": "buffer_episodes and replay, with replay_alpha and what belongs to it",
    "learning_starts": "learning_starts_episodes, which counts episodes",
    "target_network_update_freq": "target_update_tau, or target_update_episodes, which counts episodes",
    "optim_alpha": "adam_epsilon or lr: Adam learns",
    "double_q": "nothing in its place: the TD target is always double",
    "num_steps_sampled_before_learning_starts": "learning_starts_episodes, which counts episodes",
    "model_config": "hidden_dim, agent and agent_options",
    "monitor": "metrics_export, or loggers beside config",
    "lr_schedule": "lr, as points [[0, lr], [step, lr], ...]",
}
"""What older files ask for that goes by another measure today, and what to say in its place."""


def todays_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with today's names for those that mean the same.

    Raises:
        ConfigError: where a setting has one value by its old name and another by today's.
    """
    given = dict(settings.items())  # a configuration of RLlib's has items too, and answers to old names by an error
    todays = {key: value for key, value in given.items() if key not in RENAMED}
    for old in given.keys() & RENAMED.keys():
        key, value = RENAMED[old], given[old]
        if key not in todays:
            todays[key] = value
        elif value not in (None, todays[key]):
            raise ConfigError(f"{old}: got {value!r} beside {key}, expected one of them: {old} is its old name")
    return todays


def is_rllib_key(key: object) -> bool:
    """Returns whether RLlib has a setting of this name, whether or not it acts here."""
    return key in ACTING or key in IDLE or key in _DEPRECATED or str(key).startswith(_PYTHON)


def check_rllib_key(key: str, value: Any, algorithm: str) -> None:
    """Checks one of RLlib's settings as a file gives it.

    Raises:
        ConfigError: for a value that cannot work, or a setting that has no effect here.
    """
    if key in ACTING:
        ACTING[key](key, value)
        return
    why = IDLE.get(key, "RLlib has given it up")
    if key.startswith(_PYTHON):
        why = "a function can be given from Python alone, in callbacks()"
    raise ConfigError(f"{key}: got {value!r}, which has no effect on {algorithm} ({why}), expected it left out")


def unknown_key(key: object, algorithm: str, own: Iterable[str]) -> ConfigError:
    """Returns the error for a key that is nobody's, with what is meant today or the nearest key that acts."""
    if key in GONE:
        return ConfigError(f"config key {key!r}: is no setting of {algorithm}, expected {GONE[str(key)]}")
    return ConfigError(f"unknown config key {key!r} of {algorithm}{nearest(key, [*own, *ACTING])}")
