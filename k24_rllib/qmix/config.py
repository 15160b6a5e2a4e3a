"""Configuration of QMIX: the one commented source of each default, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import _make_multi_callbacks as combine_callbacks
from ray.rllib.models import ModelCatalog
from ray.tune.registry import RLLIB_MODEL, _global_registry

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number, nearest
from k24_rllib.envs import team_env_factory
from k24_rllib.models import MIXERS, MODEL_NAME
from k24_rllib.qmix.process import MATMUL_PRECISIONS
from k24_rllib.qmix.rollout import QMixRolloutWorker, TeamBaseEnv

if TYPE_CHECKING:
    from k24_rllib.qmix.policy import QMixTorchPolicy

REPLAYS = ("uniform", "prioritized")
REPLAY_KEYS = ("replay_alpha", "replay_beta_initial", "replay_beta_final", "replay_beta_timesteps", "replay_epsilon")

_ALIASES = {"callbacks": "callbacks_class", "multiagent": "policies"}
"""Keys of RLlib's YAML files whose attribute has another name."""


class QMixConfig(AlgorithmConfig):
    """Configuration of `QMix`, in RLlib's fluent style.

    Counts are of whole episodes where the name says so; everything else counts environment steps (one step of the
    whole team).

    Example:
        >>> config = (
        ...     QMixConfig()
        ...     .environment("mpe_simple_spread", env_config={"N": 3})
        ...     .env_runners(num_env_runners=2, num_envs_per_env_runner=16)
        ...     .training(lr=5e-4, updates_per_episode=0.5)
        ... )
        >>> algo = config.build_algo()  # doctest: +SKIP
    """

    callbacks_class: Any
    method_callbacks: tuple[type[RLlibCallback], ...] = ()
    """Callbacks that belong to the algorithm; the user's own run beside them."""

    def __init__(self, algo_class: type | None = None) -> None:
        if algo_class is None:
            from k24_rllib.qmix.qmix import QMix  # QMix names this class as its default config

            algo_class = QMix
        super().__init__(algo_class=algo_class)
        self._given: tuple[str, ...] = ()
        # The old API stack is what TorchModelV2, TorchPolicyV2 and RolloutWorker belong to. (Set here rather than with
        # api_stack(), which warns that RLlib's exploration is not configured; QMIX brings its own.)
        self.enable_rl_module_and_learner = False
        self.enable_env_runner_and_connector_v2 = False
        self.exploration_config = {"type": "StochasticSampling"}  # built by RLlib's policy, asked by nobody
        self.framework_str = "torch"
        self.env_runner_cls = QMixRolloutWorker
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 32
        self.batch_mode = "complete_episodes"
        self.rollout_fragment_length = "auto"
        self.explore = True
        self.evaluation_config = AlgorithmConfig.overrides(explore=False)
        self.evaluation_duration = 100
        self.evaluation_duration_unit = "episodes"
        self.min_sample_timesteps_per_iteration = 4_000
        self.rollouts_ahead = 0
        # The algorithm records every training episode itself; asking remote workers would wait for their rollouts.
        self.metrics_episode_collection_timeout_s = 0.0

        # Learning. QMIX's own values (arXiv 1803.11485 and its code), except where a line says otherwise.
        self.lr = 5e-4
        self.gamma = 0.99
        self.td_lambda = 0.0
        self.grad_clip = 10.0
        self.adam_epsilon = 1e-8
        self.train_batch_size = 32  # episodes
        self.updates_per_episode = 1.0
        self.buffer_episodes = 5_000
        self.store_buffer_in_checkpoints = False
        self.replay = "uniform"
        # Prioritised replay (arXiv 1511.05952, table 3, proportional); the paper's beta also ends at 1 with its run.
        self.replay_alpha = 0.6
        self.replay_beta_initial = 0.4
        self.replay_beta_final = 1.0
        self.replay_beta_timesteps = 1_000_000
        self.replay_epsilon = 1e-3
        self.learning_starts_episodes = 32
        self.target_update_episodes = 200
        self.target_update_tau = None
        self.standardise_rewards = True  # EPyMARL (arXiv 2006.07869): one learning rate for any reward scale

        # Exploration.
        self.epsilon_initial = 1.0
        self.epsilon_final = 0.05
        self.epsilon_timesteps = 50_000

        # The network.
        self.hidden_dim = 64
        self.recurrent = True
        self.independent_networks = False
        self.agent_id_input = True
        self.last_action_input = False
        self.mixer = "qmix"
        self.mixing_embed_dim = 32
        self.hypernet_dim = 64
        self.mixer_init_scale = 1.0
        self.layer = "dense"

        # The machine.
        self.torch_num_threads = 1
        self.matmul_precision = "auto"
        self.compile_kernels = True
        self.mixed_precision = False

    def training(
        self,
        *,
        td_lambda: float = NotProvided,
        updates_per_episode: float = NotProvided,
        buffer_episodes: int = NotProvided,
        store_buffer_in_checkpoints: bool = NotProvided,
        replay: str = NotProvided,
        replay_alpha: float = NotProvided,
        replay_beta_initial: float = NotProvided,
        replay_beta_final: float = NotProvided,
        replay_beta_timesteps: int = NotProvided,
        replay_epsilon: float = NotProvided,
        learning_starts_episodes: int = NotProvided,
        target_update_episodes: int = NotProvided,
        target_update_tau: float | None = NotProvided,
        standardise_rewards: bool = NotProvided,
        adam_epsilon: float = NotProvided,
        epsilon_initial: float = NotProvided,
        epsilon_final: float = NotProvided,
        epsilon_timesteps: int = NotProvided,
        hidden_dim: int = NotProvided,
        recurrent: bool = NotProvided,
        independent_networks: bool = NotProvided,
        agent_id_input: bool = NotProvided,
        last_action_input: bool = NotProvided,
        mixer: str = NotProvided,
        mixing_embed_dim: int = NotProvided,
        hypernet_dim: int = NotProvided,
        mixer_init_scale: float = NotProvided,
        rollouts_ahead: int = NotProvided,
        torch_num_threads: int = NotProvided,
        matmul_precision: str = NotProvided,
        compile_kernels: bool = NotProvided,
        mixed_precision: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets how QMIX learns.

        Args:
            td_lambda: 0 is QMIX's one-step target; nearer 1 spreads rewards faster over an episode (lambda-returns) but
                follows the behaviour that the episode was played with.
            updates_per_episode: Gradient updates per episode sampled. More learns more from each episode and takes
                longer; fractions are carried over.
            buffer_episodes: Episodes kept for replay. More is more varied and older.
            store_buffer_in_checkpoints: Whether a checkpoint holds the replay buffer: a resumed run then continues
                where it stopped instead of filling a new buffer first, and the checkpoint is larger.
            replay: `uniform` draws every episode kept equally often; `prioritized` those more often whose TD errors
                were large when they were last learned from (arXiv 1511.05952). The settings `replay_...` belong to it.
            replay_alpha: How much TD errors count in the draws. 0 draws uniformly, 1 in proportion to them, which
                learns from a few episodes very often.
            replay_beta_initial: How much of the bias of such draws importance weights undo at the start. More is less
                biased, and learns less from the episodes that are drawn more.
            replay_beta_final: The same after `replay_beta_timesteps`; 1 undoes all of it.
            replay_beta_timesteps: Environment steps over which it moves linearly from one to the other; give the run's.
            replay_epsilon: Added to every episode's mean absolute TD error. Larger keeps in play what has been learned.
            learning_starts_episodes: Episodes sampled before the first update (at least a batch).
            target_update_episodes: Episodes between hard updates of the target network. Fewer follow faster, more
                hold the targets still.
            target_update_tau: If given, the target network follows softly after each update instead, by this share.
            standardise_rewards: Whether team rewards are learned from with zero mean and unit variance (running
                statistics over all rewards sampled). Reported returns are always raw.
            adam_epsilon: Adam's epsilon.
            epsilon_initial: Probability of a random action at the start.
            epsilon_final: Probability of a random action after `epsilon_timesteps`; 0 in evaluation.
            epsilon_timesteps: Environment steps over which it falls linearly.
            hidden_dim: Width of the agents' layers.
            recurrent: Whether the agents have a GRU; a fully connected layer takes its place otherwise.
            independent_networks: Whether each agent (mask owner) has a network of its own instead of a shared one:
                a baseline of as many times the weights, which learn from their own agent alone. The mixer stays one.
            agent_id_input: Whether agents see a one-hot id, which lets a shared network treat them differently.
            last_action_input: Whether agents see their previous action.
            mixer: `qmix`, `vdn` or `independent`.
            mixing_embed_dim: Width of QMIX's mixing layer.
            hypernet_dim: Hidden width of QMIX's hypernetworks.
            mixer_init_scale: Factor on the initial weights of the hypernetworks' last layers. Below 1 the joint value
                starts nearly flat and grows with what is learned, which is steadier.
            rollouts_ahead: Rounds of rollouts that remote workers play while the learner updates. 0 waits for each
                other in turn. 1 uses both at once; episodes are then played with weights one round of updates older,
                no more and no less. Both repeat a run exactly from its seed.
            torch_num_threads: Threads of PyTorch in the learner and in each rollout worker. These networks are small:
                1 is fastest unless cores are idle.
            matmul_precision: PyTorch's precision of float32 products in the learner: `highest`, `high` (TF32 on CUDA),
                `medium` (bfloat16 where the hardware has it), or `auto`: float32, by the library that is faster here.
            compile_kernels: Whether the GRU's recurrence and the draw of 2:4 patterns are compiled for the CPU, where
                there is a C compiler (a second or two, once for each machine). PyTorch computes the same, slower.
            mixed_precision: Whether the learner's forward passes multiply in bfloat16 on a GPU; patterns, losses and
                weights stay float32. Faster for wide networks, with values to two or three digits. No effect on a CPU.
            **kwargs: RLlib's own training settings: `lr` (a number, or points `[[0, lr], [step, lr], ...]` between
                which it moves linearly), `gamma`, `grad_clip` (gradient norm), `train_batch_size` (here in episodes),
                `model`.
        """
        self._set_provided(locals())
        super().training(**kwargs)
        return self

    def _set_provided(self, arguments: Mapping[str, Any]) -> None:
        """Sets the settings that the user provided, from the `locals()` of a method that names each."""
        for name, value in arguments.items():
            if value is not NotProvided and name not in ("self", "kwargs", "__class__"):
                setattr(self, name, value)
                self._given += (name,)

    def is_given(self, key: str) -> bool:
        """Returns whether the user set `key`: in a file, through a method of this class, or to a new value.

        What contradicts a value that was merely not thought of need not be refused.
        """
        return key in self._given or getattr(self, key) != getattr(type(self)(), key)

    # --- reading a file's or a dict's settings

    def apply_dict(self, settings: Mapping[str, Any]) -> Self:
        """Applies flat settings, as in a YAML file's `config`, after checking names and types.

        Args:
            settings: RLlib's flat keys and ours; `grid_search` entries must have been resolved to values.

        Raises:
            ConfigError: naming an unknown key and the nearest known one, or a value of the wrong type.
        """
        self.check_keys(settings)
        for key, value in settings.items():
            self._check_type(key, value)
        self._given += tuple(settings)
        if settings.get("framework", "torch") != "torch":
            raise ConfigError(f"framework: got {settings['framework']!r}, expected 'torch'")
        self.update_from_dict(dict(settings))
        return self

    def check_keys(self, settings: Mapping[str, Any]) -> None:
        """Checks the names of flat settings; RLlib itself takes what it does not know without a word.

        Raises:
            ConfigError: naming an unknown key, and the nearest known one or the algorithms that have it.
        """
        known = self.known_keys()
        for key, value in settings.items():
            if key in known:
                continue
            elsewhere = self._algorithms_with(key)
            if elsewhere:
                expected = " or ".join(f"run: {name}" for name in elsewhere)
                raise ConfigError(
                    f"unknown config key {key!r} of {self.algo_name}: got {value!r}, expected it with {expected}"
                )
            raise ConfigError(f"unknown config key {key!r} of {self.algo_name}{nearest(key, known)}")

    @property
    def algo_name(self) -> str:
        """Name under which the algorithm is registered."""
        return self.algo_class if isinstance(self.algo_class, str) else self.algo_class.__name__

    def known_keys(self) -> set[str]:
        """Returns the keys that a YAML file's `config` may hold."""
        return {key for key in self.to_dict() if not key.startswith("_")} | set(_ALIASES) | {"framework", "env"}

    @staticmethod
    def _algorithms_with(key: str) -> list[str]:
        """Returns the names of this package's algorithms, of those imported, that know a key."""
        found, classes = [], [QMixConfig]
        while classes:
            config_class = classes.pop()
            classes += config_class.__subclasses__()
            if not config_class.__module__.startswith("k24_rllib."):
                continue
            config = config_class()
            is_base_alone = type(config.algo_class.get_default_config()) is not config_class
            if not is_base_alone and key in config.known_keys():
                found.append(config.algo_name)
        return sorted(found)

    def _check_type(self, key: str, value: Any) -> None:
        """Checks `value` against the type of the key's default, where that tells anything."""
        default = getattr(self, _ALIASES.get(key, key), None)
        if value is None or default is None or key == "lr":
            return
        if isinstance(default, bool):
            check_bool(key, value)
        elif isinstance(default, int) and key not in _AUTO_KEYS:
            check_number(key, value, integer=True)
        elif isinstance(default, float):
            check_number(key, value)
        elif isinstance(default, dict) and not isinstance(value, Mapping):
            raise ConfigError(f"{key}: got {value!r}, expected a mapping")

    # --- building

    def build_policy(self) -> QMixTorchPolicy:
        """Builds the policy alone, as RLlib builds it for the algorithm, but without Ray: to count, time or test it."""
        self.validate()
        team = TeamBaseEnv(team_env_factory(self.env), self.env_config)
        space = ModelCatalog.get_preprocessor_for_space(team.observation_space).observation_space
        policy_class = self.algo_class.get_default_policy_class(self)
        policy: QMixTorchPolicy = policy_class(space, team.action_space, self.to_dict())
        return policy

    # --- checking

    def validate(self) -> None:
        """Checks all values; `ConfigError` names the first that cannot work."""
        self._check_learning()
        self._check_network()
        self._check_workers()
        self._compose()
        super().validate()

    def _check_learning(self) -> None:
        _check_lr(self.lr)
        check_number("gamma", self.gamma, low=0.0, high=1.0)
        check_number("td_lambda", self.td_lambda, low=0.0, high=1.0)
        if self.grad_clip is not None:
            check_number("grad_clip", self.grad_clip, above=0.0)
        check_number("adam_epsilon", self.adam_epsilon, above=0.0)
        check_number("train_batch_size", self.train_batch_size, low=1, integer=True)
        check_number("updates_per_episode", self.updates_per_episode, above=0.0)
        check_number("buffer_episodes", self.buffer_episodes, low=1, integer=True)
        if self.buffer_episodes < self.train_batch_size:
            raise ConfigError(
                f"buffer_episodes: got {self.buffer_episodes}, expected at least train_batch_size "
                f"({self.train_batch_size})"
            )
        check_bool("store_buffer_in_checkpoints", self.store_buffer_in_checkpoints)
        self._check_replay()
        check_number("learning_starts_episodes", self.learning_starts_episodes, low=0, integer=True)
        if self.learning_starts_episodes > self.buffer_episodes:
            raise ConfigError(
                f"learning_starts_episodes: got {self.learning_starts_episodes} with buffer_episodes "
                f"{self.buffer_episodes}, expected at most as many: the buffer never holds more"
            )
        check_number("target_update_episodes", self.target_update_episodes, low=1, integer=True)
        if self.target_update_tau is not None:
            check_number("target_update_tau", self.target_update_tau, above=0.0, high=1.0)
        check_bool("standardise_rewards", self.standardise_rewards)
        check_number("epsilon_initial", self.epsilon_initial, low=0.0, high=1.0)
        check_number("epsilon_final", self.epsilon_final, low=0.0, high=1.0)
        check_number("epsilon_timesteps", self.epsilon_timesteps, low=0, integer=True)

    def _check_replay(self) -> None:
        check_choice("replay", self.replay, REPLAYS)
        for key in ("replay_alpha", "replay_beta_initial", "replay_beta_final"):
            check_number(key, getattr(self, key), low=0.0, high=1.0)
        check_number("replay_beta_timesteps", self.replay_beta_timesteps, low=0, integer=True)
        check_number("replay_epsilon", self.replay_epsilon, above=0.0)
        for key in REPLAY_KEYS if self.replay == "uniform" else ():
            if self.is_given(key):
                raise ConfigError(
                    f"{key}: got {getattr(self, key)!r} with replay 'uniform', expected replay 'prioritized': "
                    "it has no effect on uniform draws"
                )

    def _check_network(self) -> None:
        check_choice("layer", self.layer, (type(self)().layer,))  # an algorithm of another layer has another class
        model = self.model.get("custom_model")
        if isinstance(model, str) and model != MODEL_NAME and not _global_registry.contains(RLLIB_MODEL, model):
            raise ConfigError(
                f"custom_model: got {model!r}, expected {MODEL_NAME!r} or what was registered with RLlib's "
                "ModelCatalog.register_custom_model (rllib train --import MODULE imports yours)"
            )
        for key in ("hidden_dim", "mixing_embed_dim", "hypernet_dim"):
            check_number(key, getattr(self, key), low=1, integer=True)
        for key in ("recurrent", "independent_networks", "agent_id_input", "last_action_input"):
            check_bool(key, getattr(self, key))
        if self.independent_networks and self.layer != "dense":
            raise ConfigError(
                f"independent_networks: got true with run: {self.algo_name}, expected it with run: QMix: the agents of "
                f"{self.algo_name} share weights"
            )
        check_choice("mixer", self.mixer, MIXERS)
        check_number("mixer_init_scale", self.mixer_init_scale, above=0.0)

    def _check_workers(self) -> None:
        for key in ("num_env_runners", "evaluation_num_env_runners"):
            check_number(key, getattr(self, key), low=0, integer=True)
        if self.seed is not None:
            check_number("seed", self.seed, low=0, integer=True)
        check_number("num_envs_per_env_runner", self.num_envs_per_env_runner, low=1, integer=True)
        check_number("rollouts_ahead", self.rollouts_ahead, low=0, integer=True)
        check_number("torch_num_threads", self.torch_num_threads, low=1, integer=True)
        check_bool("compile_kernels", self.compile_kernels)
        check_bool("mixed_precision", self.mixed_precision)
        check_choice("matmul_precision", self.matmul_precision, MATMUL_PRECISIONS)
        for key in ("evaluation_duration", "evaluation_interval"):
            value = getattr(self, key)
            if value is not None and value != "auto":
                check_number(key, value, low=0 if key == "evaluation_interval" else 1, integer=True)
        if isinstance(self.evaluation_config, Mapping):
            try:
                self.check_keys(self.evaluation_config)
            except ConfigError as error:
                raise ConfigError(f"evaluation_config: {error}") from None
        check_choice("evaluation_duration_unit", self.evaluation_duration_unit, ("episodes",))
        check_choice("batch_mode", self.batch_mode, ("complete_episodes",))
        if self.enable_rl_module_and_learner or self.enable_env_runner_and_connector_v2:
            raise ConfigError("enable_rl_module_and_learner: got true, expected false (QMIX uses the old API stack)")
        if self.count_steps_by != "env_steps":
            raise ConfigError(f"count_steps_by: got {self.count_steps_by!r}, expected 'env_steps'")

    def _compose(self) -> None:
        """Puts together what RLlib asks for in one piece: the model's settings and the callbacks."""
        if self._is_frozen:
            return
        model = {"custom_model": MODEL_NAME, **_given(self.model, "custom_model")}
        self.training(model={**model, "custom_model_config": self.model_options()})
        self.callbacks_class = with_method_callbacks(self.callbacks_class, self.method_callbacks)

    def model_options(self) -> dict[str, Any]:
        """Returns the `custom_model_config` of the model; a subclass adds its layer's options."""
        own = {
            "layer": "independent" if self.independent_networks else self.layer,
            "hidden_dim": self.hidden_dim,
            "recurrent": self.recurrent,
            "compile_kernels": self.compile_kernels,
            "agent_id": self.agent_id_input,
            "last_action": self.last_action_input,
            "mixer": self.mixer,
            "mixing_embed_dim": self.mixing_embed_dim,
            "hypernet_dim": self.hypernet_dim,
            "mixer_init_scale": self.mixer_init_scale,
        }
        return {**(self.model.get("custom_model_config") or {}), **own}


def _check_lr(lr: Any) -> None:
    """Checks a learning rate: a number, or points `[[step, lr], ...]` of rising steps that begin at 0."""
    if not isinstance(lr, list | tuple):
        check_number("lr", lr, above=0.0)
        return
    points = [point for point in lr if isinstance(point, list | tuple) and len(point) == 2]
    if len(points) != len(lr) or not points or points[0][0] != 0:
        raise ConfigError(f"lr: got {lr!r}, expected a number or [[0, lr], [step, lr], ...]")
    for step, rate in points:
        check_number("lr (step)", step, low=0, integer=True)
        check_number("lr", rate, above=0.0)
    if any(later[0] <= earlier[0] for earlier, later in pairwise(points)):
        raise ConfigError(f"lr: got {lr!r}, expected steps that rise")


_AUTO_KEYS = frozenset({"evaluation_duration", "num_gpus", "evaluation_interval"})
"""Keys whose default is a whole number but which take more: `auto`, or a share of a GPU."""


def _given(settings: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Returns `{key: value}` if the value is set."""
    return {key: settings[key]} if settings.get(key) else {}


def with_method_callbacks(
    user: type[RLlibCallback] | list[type[RLlibCallback]], method: tuple[type[RLlibCallback], ...]
) -> type[RLlibCallback]:
    """Returns one callback class that runs the user's callbacks and then the algorithm's, in their order.

    A user's subclass of one of the algorithm's takes its place. Asking twice changes nothing.
    """
    given = list(user) if isinstance(user, list | tuple) else [user]
    parts = [part for cls in given for part in getattr(cls, "parts", (cls,))]
    ordered = [part for part in parts if not issubclass(part, method)]
    for cls in method:
        in_its_place = [part for part in parts if issubclass(part, cls)] or [cls]
        ordered += [part for part in in_its_place if part not in ordered]
    if len(given) == 1 and ordered == list(getattr(given[0], "parts", given)):
        return given[0]
    combined: type[RLlibCallback] = type("CombinedCallbacks", (combine_callbacks(ordered),), {"parts": tuple(ordered)})
    return combined
