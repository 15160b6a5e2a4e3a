"""Configuration of QMIX: every setting declared once, and the checks of those that depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import _make_multi_callbacks as combine_callbacks
from ray.rllib.models import ModelCatalog
from ray.tune.registry import RLLIB_MODEL, _global_registry

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number, nearest
from k24_rllib.envs import team_env_factory
from k24_rllib.models import AGENTS, MIXERS, MODEL_NAME
from k24_rllib.qmix.process import MATMUL_PRECISIONS
from k24_rllib.qmix.registry import ALGORITHMS, algorithm_of
from k24_rllib.qmix.rollout import QMixRolloutWorker, TeamBaseEnv
from k24_rllib.registry import Part, Registry, check_mapping
from k24_rllib.settings import Declared, checked, choice, flag, fluent, number, whole
from k24_rllib.sparsity import LAYERS

if TYPE_CHECKING:
    from k24_rllib.qmix.policy import QMixTorchPolicy

_ALIASES = {"callbacks": "callbacks_class", "multiagent": "policies"}
"""Keys of RLlib's YAML files whose attribute has another name."""

_OLD_SWITCHES: dict[str, tuple[str, dict[bool, str | None]]] = {
    "recurrent": ("agent", {True: "gru", False: "feedforward"}),
    "independent_networks": ("layer", {True: "independent", False: None}),
}
"""Switches of before agents and layers had names, and what they mean today; files and checkpoints have them."""
_OLD_PATTERN_LAYER = "n:m"
"""What K24QMix's layer was called then, whatever its pattern."""

PLACEMENTS = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
"""How Ray places a trial's processes on the nodes of a cluster."""
REPLAYS = ("uniform", "prioritized")
REPLAY_KEYS = ("replay_alpha", "replay_beta_initial", "replay_beta_final", "replay_beta_timesteps", "replay_epsilon")


def check_lr(key: str, lr: Any) -> None:
    """Checks a learning rate: a number, or points `[[step, lr], ...]` of rising steps that begin at 0."""
    if not isinstance(lr, list | tuple):
        check_number(key, lr, above=0.0)
        return
    points = [point for point in lr if isinstance(point, list | tuple) and len(point) == 2]
    if len(points) != len(lr) or not points or points[0][0] != 0:
        raise ConfigError(f"{key}: got {lr!r}, expected a number or [[0, lr], [step, lr], ...]")
    for step, rate in points:
        check_number(f"{key} (step)", step, low=0, integer=True)
        check_number(key, rate, above=0.0)
    if any(later[0] <= earlier[0] for earlier, later in pairwise(points)):
        raise ConfigError(f"{key}: got {lr!r}, expected steps that rise")


def named_part(registry: Registry, default: str | None, doc: str) -> Any:
    """Declares the name of a registered part; a default of None is the algorithm's own choice."""

    def check(key: str, value: Any) -> None:
        registry.check(value)

    return checked(default, doc, check, f"a registered {registry.kind}", optional=default is None)


def part_options(registry: Registry) -> Any:
    """Declares the options of a part that are no settings of their own."""
    doc = f"Options of the {registry.kind}, checked against its factory; those that are settings here need no mention."

    def check(key: str, value: Any) -> None:
        check_mapping(key, value)

    return checked({}, doc, check, "keys and values")


class QMixConfig(Declared, AlgorithmConfig):
    """Configuration of `QMix`, in RLlib's fluent style; the defaults are those that learn on the tasks measured.

    Counts are of whole episodes where the name says so; everything else counts environment steps (one step of the
    whole team). `rllib config QMix` prints every setting.

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
    own_layer = "dense"
    """The layer that the algorithm takes where `layer` is None."""

    # --- learning: what learns on simple_spread and simple_speaker_listener (docs/results.md). The first write-ups'
    # values, QMIX's own of arXiv 1803.11485, stand in tuned_examples/k24_spread_first_draft.yaml.

    lr: Any = checked(
        [[0, 0.002], [1_000_000, 0.0001]],
        "Learning rate of Adam: a number, or points [[0, lr], [step, lr], ...] between which it moves linearly. "
        "Higher learns sooner and ends less calmly.",
        check_lr,
        "a number above 0, or points of environment steps and rates",
    )
    gamma: float = number(
        0.9,
        "Discount of the next step's value; nearer 1 looks further ahead and learns more slowly, since episodes here "
        "bootstrap over their time limit.",
        low=0.0,
        high=1.0,
    )
    td_lambda: float = number(
        0.0,
        "Lambda of the TD target: 0 is QMIX's one-step target; nearer 1 spreads rewards faster over an episode "
        "(lambda-returns) but follows the behaviour that the episode was played with.",
        low=0.0,
        high=1.0,
    )
    grad_clip: float | None = number(
        10.0, "Largest norm of all gradients together; lower tames outliers, and slows.", above=0.0, optional=True
    )
    adam_epsilon: float = number(1e-8, "Adam's epsilon; larger dampens parameters of small gradients.", above=0.0)
    train_batch_size: int = whole(32, "Episodes in a learner batch; more is less noisy and slower.", low=1)
    updates_per_episode: float = number(
        0.4,
        "Gradient updates per episode sampled. More learns more from each episode and takes longer; fractions are "
        "carried over.",
        above=0.0,
    )
    learning_starts_episodes: int = whole(32, "Episodes sampled before the first update (at least a batch).")
    target_update_tau: float | None = number(
        0.01,
        "Share by which the target network follows the online one after each update; null copies it whole every "
        "target_update_episodes instead. Smaller holds targets stiller.",
        above=0.0,
        high=1.0,
        optional=True,
    )
    target_update_episodes: int = whole(
        200,
        "Episodes between hard updates of the target network, where target_update_tau is null. Fewer follow faster, "
        "more hold the targets still.",
        low=1,
    )
    standardise_rewards: bool = flag(  # EPyMARL (arXiv 2006.07869): one learning rate for any reward scale
        True,
        "Whether team rewards are learned from with zero mean and unit variance (running statistics over all rewards "
        "sampled). Reported returns are always raw.",
    )

    # --- replay

    buffer_episodes: int = whole(5_000, "Episodes kept for replay. More is more varied and older.", low=1)
    store_buffer_in_checkpoints: bool = flag(
        False,
        "Whether a checkpoint holds the replay buffer: a resumed run then continues where it stopped instead of "
        "filling a new buffer first, and the checkpoint is larger.",
    )
    # Prioritised replay (arXiv 1511.05952, table 3, proportional); the paper's beta also ends at 1 with its run.
    replay: str = choice(
        "uniform",
        REPLAYS,
        "How episodes are drawn: uniform draws every episode kept equally often; prioritized those more often whose TD "
        "errors were large when they were last learned from (arXiv 1511.05952).",
    )
    replay_alpha: float = number(
        0.6,
        "How much TD errors count in prioritized draws. 0 draws uniformly, 1 in proportion to them, which learns from "
        "a few episodes very often.",
        low=0.0,
        high=1.0,
    )
    replay_beta_initial: float = number(
        0.4,
        "How much of the bias of prioritized draws importance weights undo at the start. More is less biased, and "
        "learns less from the episodes that are drawn more.",
        low=0.0,
        high=1.0,
    )
    replay_beta_final: float = number(
        1.0, "The same after replay_beta_timesteps; 1 undoes all of it.", low=0.0, high=1.0
    )
    replay_beta_timesteps: int = whole(
        1_000_000, "Environment steps over which it moves linearly from one to the other; give the run's."
    )
    replay_epsilon: float = number(
        1e-3,
        "Added to every episode's mean absolute TD error as its priority. Larger keeps in play what has been learned.",
        above=0.0,
    )

    # --- exploration

    epsilon_initial: float = number(1.0, "Probability of a random action at the start.", low=0.0, high=1.0)
    epsilon_final: float = number(
        0.05,
        "Probability of a random action after epsilon_timesteps; 0 in evaluation. More keeps trying other actions.",
        low=0.0,
        high=1.0,
    )
    epsilon_timesteps: int = whole(
        100_000, "Environment steps over which epsilon falls linearly; more explores for longer."
    )

    # --- the network

    agent: str = named_part(AGENTS, "gru", "The agents' architecture: gru (1R3), feedforward, or one of your own.")
    agent_options: dict[str, Any] = part_options(AGENTS)
    layer: str | None = named_part(
        LAYERS,
        None,
        "The agents' fully connected layers, by which they differ: dense (all share every weight), independent (a "
        "network of each agent's own, a baseline), or one of your own; null takes the algorithm's.",
    )
    layer_options: dict[str, Any] = part_options(LAYERS)
    mixer: str = named_part(MIXERS, "qmix", "What makes one value of the agents': qmix, vdn, independent, or your own.")
    mixer_options: dict[str, Any] = part_options(MIXERS)
    hidden_dim: int = whole(
        64,
        "Width of the agents' layers; wider represents more and costs quadratically more.",
        low=1,
        offers={"agent": "hidden_dim"},
    )
    agent_id_input: bool = flag(
        True, "Whether agents see a one-hot id, which lets a shared network treat them differently."
    )
    last_action_input: bool = flag(False, "Whether agents see their previous action.")
    mixing_embed_dim: int = whole(
        32, "Width of QMIX's mixing layer; wider mixes more finely.", low=1, offers={"mixer": "embed_dim"}
    )
    hypernet_dim: int = whole(64, "Hidden width of QMIX's hypernetworks.", low=1, offers={"mixer": "hypernet_dim"})
    mixer_init_scale: float = number(
        0.1,
        "Factor on the initial weights of the hypernetworks' last layers. Below 1 the joint value starts nearly flat "
        "and grows with what is learned, which is steadier.",
        above=0.0,
        offers={"mixer": "init_scale"},
    )

    # --- workers and the machine

    num_env_runners: int = whole(0, "Remote rollout workers; 0 plays in the learner's process.")
    num_envs_per_env_runner: int = whole(
        64, "Environment copies that a worker steps in lockstep, and episodes of its round; more is faster.", low=1
    )
    rollouts_ahead: int = whole(
        0,
        "Rounds of rollouts that remote workers play while the learner updates. 0 waits for each other in turn. 1 uses "
        "both at once; episodes are then played with weights one round of updates older, no more and no less. Both "
        "repeat a run exactly from its seed.",
    )
    sample_timeout_s: float | None = number(
        600.0,
        "Seconds that a worker may play at one round, after which its environment counts as hanging; null waits "
        "without end. Give a few times what a round takes: a hang is then noticed as soon.",
        above=0.0,
        optional=True,
    )
    max_round_retries: int = whole(
        3,
        "Rounds that a worker may fail, as its environment raises, hangs or ends its process, and is started anew for; "
        "the next ends the trial. Ten rounds that it plays make up for one. restart_failed_env_runners: false allows "
        "none.",
    )
    min_sample_timesteps_per_iteration: int | None = whole(
        4_000, "Environment steps of an iteration, at least; a result comes after each.", optional=True
    )
    evaluation_interval: int | None = whole(
        None, "Iterations between greedy evaluations; null for none.", optional=True
    )
    evaluation_duration: int | str = whole(100, "Episodes of a greedy evaluation.", low=1, words=("auto",))
    evaluation_num_env_runners: int = whole(0, "Workers that only evaluate; 0 evaluates in the learner's process.")
    seed: int | None = whole(None, "Seed of everything drawn; null draws differently every time.", optional=True)
    torch_num_threads: int = whole(
        1,
        "Threads of PyTorch in the learner and in each rollout worker. These networks are small: 1 is fastest unless "
        "cores are idle.",
        low=1,
    )
    metrics_export: bool = flag(
        True,
        "Whether live figures (return, loss, speed, ...) are set in Ray's metrics once an iteration, for Prometheus "
        "and Grafana; see docs/monitoring.md.",
    )
    matmul_precision: str = choice(
        "auto",
        MATMUL_PRECISIONS,
        "PyTorch's precision of float32 products in the learner: highest, high (TF32 on CUDA), medium (bfloat16 where "
        "the hardware has it), or auto: float32, by the library that is faster here.",
    )
    compile_kernels: bool = flag(
        True,
        "Whether the GRU's recurrence and the draw of 2:4 patterns are compiled for the CPU, where there is a C "
        "compiler (a second or two, once for each machine). PyTorch computes the same, slower.",
        offers={"agent": "compiled", "layer": "compiled"},
    )
    mixed_precision: bool = flag(
        False,
        "Whether the learner's forward passes multiply in bfloat16 on a GPU; patterns, losses and weights stay "
        "float32. Faster for wide networks, with values to two or three digits. No effect on a CPU.",
    )

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or algorithm_of(type(self)))
        self._given: tuple[str, ...] = ()
        # The old API stack is what TorchModelV2, TorchPolicyV2 and RolloutWorker belong to. (Set here rather than with
        # api_stack(), which warns that RLlib's exploration is not configured; QMIX brings its own.)
        self.enable_rl_module_and_learner = False
        self.enable_env_runner_and_connector_v2 = False
        self.exploration_config = {"type": "StochasticSampling"}  # built by RLlib's policy, asked by nobody
        self.framework_str = "torch"
        self.env_runner_cls = QMixRolloutWorker
        self.batch_mode = "complete_episodes"
        self.rollout_fragment_length = "auto"
        self.explore = True
        self.evaluation_config = AlgorithmConfig.overrides(explore=False)
        self.evaluation_duration_unit = "episodes"
        # The algorithm records every training episode itself; asking remote workers would wait for their rollouts.
        self.metrics_episode_collection_timeout_s = 0.0
        self.set_defaults()

    @fluent
    def training(self, **settings: Any) -> Self:
        """Sets how the algorithm learns: any setting below, and RLlib's own of its method of this name (`model`).

        Raises:
            ConfigError: naming a setting that there isn't, and the nearest that there is.
        """
        own = {key: value for key, value in self._todays(settings).items() if key in self.settings()}
        rllib = {key: value for key, value in settings.items() if key not in own and key not in _OLD_SWITCHES}
        known = self.known_keys()
        for key, value in rllib.items():
            if key not in known:
                raise ConfigError(f"unknown setting {key!r} of {self.algo_name}: got {value!r}{nearest(key, known)}")
        self.set(**own)
        super().training(**rllib)
        return self

    def is_given(self, key: str) -> bool:
        """Returns whether the user set `key`: in a file, through a method of this class, or to a new value.

        What contradicts a value that was merely not thought of need not be refused.
        """
        return key in self._given or getattr(self, key) != getattr(type(self)(), key)

    # --- reading a file's, a dict's or a checkpoint's settings

    def apply_dict(self, settings: Mapping[str, Any]) -> Self:
        """Applies flat settings, as in a YAML file's `config`, after checking names and types.

        Args:
            settings: RLlib's flat keys and ours; `grid_search` entries must have been resolved to values.

        Raises:
            ConfigError: naming an unknown key and the nearest known one, or a value that cannot work.
        """
        self.check_keys(settings)
        todays = self._todays(settings)
        for key, value in todays.items():
            self._check_value(key, value)
        self._given += tuple(todays)
        if todays.get("framework", "torch") != "torch":
            raise ConfigError(f"framework: got {todays['framework']!r}, expected 'torch'")
        self.update_from_dict(dict(todays))
        return self

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Applies flat settings without checks, as RLlib does with a checkpoint's; old names get today's."""
        super().update_from_dict(self._todays(config_dict))
        return self

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Any:
        """Returns the configuration of a checkpoint, with today's names for what older ones hold."""
        todays = cls._todays(state)
        if "max_round_retries" not in todays:  # from before rounds had a limit: what stands there is RLlib's default
            todays.pop("sample_timeout_s", None)
        return super().from_state(todays)

    @staticmethod
    def _todays(settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns settings with today's names for old switches; a name that is given beside its switch stands."""
        todays = {key: value for key, value in settings.items() if key not in _OLD_SWITCHES}
        if todays.get("layer") == _OLD_PATTERN_LAYER:
            todays["layer"] = None
        for old, (key, names) in _OLD_SWITCHES.items():
            if old in settings:
                name = names[check_bool(old, settings[old])]
                if name is not None or key not in todays:
                    todays[key] = name
        return todays

    def check_keys(self, settings: Mapping[str, Any]) -> None:
        """Checks the names of flat settings; RLlib itself takes what it does not know without a word.

        Raises:
            ConfigError: naming an unknown key, and the nearest known one or the algorithms that have it.
        """
        known = self.known_keys()
        for key, value in settings.items():
            if key in known:
                continue
            elsewhere = [name for name in ALGORITHMS if key in ALGORITHMS[name].settings()]
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
        known = {key for key in self.to_dict() if not key.startswith("_")}
        return known | set(_ALIASES) | set(_OLD_SWITCHES) | {"framework", "env"}

    def _check_value(self, key: str, value: Any) -> None:
        """Checks a value by its declaration or, of RLlib's own keys, against the type of the default."""
        setting = self.settings().get(key)
        if setting is not None:
            setting.refuse(key, value)
            return
        default = getattr(self, _ALIASES.get(key, key), None)
        if value is None or default is None:
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

    def parts(self) -> dict[str, Part]:
        """Returns the agent, the layer and the mixer that these settings name, with their options.

        Raises:
            ConfigError: naming an option that its factory does not have.
        """
        return {
            "agent": AGENTS.part(self.agent, self.agent_options, self.offered("agent")),
            "layer": LAYERS.part(self.layer or self.own_layer, self.layer_options, self.offered("layer")),
            "mixer": MIXERS.part(self.mixer, self.mixer_options, self.offered("mixer")),
        }

    def model_options(self) -> dict[str, Any]:
        """Returns the `custom_model_config` of the model: its parts, and what agents see."""
        own = {**self.parts(), "agent_id": self.agent_id_input, "last_action": self.last_action_input}
        return {**(self.model.get("custom_model_config") or {}), **own}

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
        """Checks all values; `ConfigError` names the first that cannot work, or two that contradict each other."""
        self.check_settings()
        self._check_learning()
        self._check_replay()
        self._check_model()
        self._check_workers()
        self._compose()
        super().validate()

    def _check_learning(self) -> None:
        if self.buffer_episodes < self.train_batch_size:
            raise ConfigError(
                f"buffer_episodes: got {self.buffer_episodes}, expected at least train_batch_size "
                f"({self.train_batch_size})"
            )
        if self.learning_starts_episodes > self.buffer_episodes:
            raise ConfigError(
                f"learning_starts_episodes: got {self.learning_starts_episodes} with buffer_episodes "
                f"{self.buffer_episodes}, expected at most as many: the buffer never holds more"
            )

    def _check_replay(self) -> None:
        for key in REPLAY_KEYS if self.replay == "uniform" else ():
            if getattr(self, key) != self.settings()[key].default:
                raise ConfigError(
                    f"{key}: got {getattr(self, key)!r} with replay 'uniform', expected replay 'prioritized': "
                    "it has no effect on uniform draws"
                )

    def _check_model(self) -> None:
        model = self.model.get("custom_model")
        if isinstance(model, str) and model != MODEL_NAME and not _global_registry.contains(RLLIB_MODEL, model):
            raise ConfigError(
                f"custom_model: got {model!r}, expected {MODEL_NAME!r} or what was registered with RLlib's "
                "ModelCatalog.register_custom_model (rllib train --import MODULE imports yours)"
            )

    def _check_workers(self) -> None:
        if isinstance(self.evaluation_config, Mapping):
            try:
                self.check_keys(self.evaluation_config)
            except ConfigError as error:
                raise ConfigError(f"evaluation_config: {error}") from None
        check_choice("evaluation_duration_unit", self.evaluation_duration_unit, ("episodes",))
        check_choice("batch_mode", self.batch_mode, ("complete_episodes",))
        if self.enable_rl_module_and_learner or self.enable_env_runner_and_connector_v2:
            raise ConfigError("enable_rl_module_and_learner: got true, expected false (QMIX uses the old API stack)")
        check_choice("placement_strategy", self.placement_strategy, PLACEMENTS)
        if self.count_steps_by != "env_steps":
            raise ConfigError(f"count_steps_by: got {self.count_steps_by!r}, expected 'env_steps'")

    def _compose(self) -> None:
        """Puts together what RLlib asks for in one piece: the model's settings and the callbacks."""
        if self._is_frozen:
            return
        model = {"custom_model": MODEL_NAME, **_given(self.model, "custom_model")}
        super().training(model={**model, "custom_model_config": self.model_options()})
        self.callbacks_class = with_method_callbacks(self.callbacks_class, self.method_callbacks)


_AUTO_KEYS = frozenset({"num_gpus"})
"""RLlib's keys whose default is a whole number but which take more: a share of a GPU."""


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
