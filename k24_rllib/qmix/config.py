"""Configuration of QMIX: every setting declared once, and the checks of those that depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import _make_multi_callbacks as combine_callbacks
from ray.rllib.models import ModelCatalog
from ray.tune.registry import RLLIB_MODEL, _global_registry

from k24_rllib.checks import ConfigError, check_choice, nearest
from k24_rllib.envs import team_env_factory
from k24_rllib.envs.mpe.two_team import SELF
from k24_rllib.models import AGENTS, MIXERS, MODEL_NAME
from k24_rllib.qmix.registry import algorithm_of
from k24_rllib.qmix.rllib_keys import ACTING, PLACEMENTS, check_rllib_key
from k24_rllib.qmix.rollout import QMixRolloutWorker, TeamBaseEnv
from k24_rllib.qmix.settings import OLD_SWITCHES, REPLAY_KEYS, SELF_PLAY_KEYS, QMixSettings, check_names
from k24_rllib.registry import Part
from k24_rllib.settings import fluent
from k24_rllib.sparsity import LAYERS

if TYPE_CHECKING:
    from k24_rllib.qmix.policy import QMixTorchPolicy

_ALIASES = {"callbacks": "callbacks_class", "multiagent": "policies"}
"""Keys of RLlib's YAML files whose attribute has another name."""


class QMixConfig(QMixSettings, AlgorithmConfig):
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
        own = {key: value for key, value in self.todays(settings).items() if key in self.settings()}
        rllib = {key: value for key, value in settings.items() if key not in own and key not in OLD_SWITCHES}
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
        todays = self.todays(settings)
        for key, value in todays.items():
            self._check_value(key, value)
        self._given += tuple(todays)
        if todays.get("framework", "torch") != "torch":
            raise ConfigError(f"framework: got {todays['framework']!r}, expected 'torch'")
        self.update_from_dict(dict(todays))
        return self

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Applies flat settings without checks, as RLlib does with a checkpoint's; old names get today's."""
        super().update_from_dict(self.todays(config_dict))
        return self

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Any:
        """Returns the configuration of a checkpoint, with today's names for what older ones hold."""
        todays = cls.todays(state)
        if "max_round_retries" not in todays:  # from before rounds had a limit: what stands there is RLlib's default
            todays.pop("sample_timeout_s", None)
        return super().from_state(todays)

    def check_keys(self, settings: Mapping[str, Any]) -> None:
        """Checks the names of flat settings; RLlib itself takes what it does not know without a word.

        Raises:
            ConfigError: naming an unknown key, and the nearest known one or the algorithms that have it.
        """
        check_names(self.algo_name, type(self), settings)

    @property
    def algo_name(self) -> str:
        """Name under which the algorithm is registered."""
        return self.algo_class if isinstance(self.algo_class, str) else self.algo_class.__name__

    def known_keys(self) -> set[str]:
        """Returns the keys that a YAML file's `config` may hold."""
        known = {key for key in self.to_dict() if not key.startswith("_")}
        return known | set(_ALIASES) | set(OLD_SWITCHES) | {"framework", "env"}

    def _check_value(self, key: str, value: Any) -> None:
        """Checks a value by its declaration; one of RLlib's that has no effect here may be its default."""
        setting = self.settings().get(key)
        if setting is not None:
            setting.refuse(key, value)
        elif key == "model":
            self._check_model_keys(value)
        elif key in ACTING or _unlike(getattr(self, _ALIASES.get(key, key), None), value):
            check_rllib_key(key, value, self.algo_name)

    def _check_model_keys(self, model: Any) -> None:
        """Checks that RLlib's settings of models act: on a model of the user's own, not on the team's."""
        ACTING["model"]("model", model)
        if model.get("custom_model") not in (None, MODEL_NAME):
            return
        for key, value in model.items():
            if key in ("custom_model", "custom_model_config") or (
                key in self.model and not _unlike(self.model[key], value)
            ):
                continue
            raise ConfigError(
                f"model: {key}: got {value!r}, which has no effect on {self.algo_name}, expected hidden_dim, agent and "
                "agent_options beside model, which say what its network is"
            )

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
        own["owner_scale"] = self.owner_scale
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
        self._check_self_play()
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

    def _check_self_play(self) -> None:
        if (self.env_config or {}).get("opponents") != SELF:
            for key in SELF_PLAY_KEYS:
                if getattr(self, key) != self.settings()[key].default:
                    raise ConfigError(
                        f"{key}: got {getattr(self, key)!r}, expected env_config: {{opponents: self}} with it: it has "
                        "no effect on other opponents"
                    )
        elif self.num_env_runners > 0:
            raise ConfigError(
                f"num_env_runners: got {self.num_env_runners} with opponents 'self', expected 0: both sides play in "
                "the learner's process"
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
                for key, value in self.todays(self.evaluation_config).items():
                    self._check_value(key, value)
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


def _unlike(one: Any, other: Any) -> bool:
    """Returns whether two values differ, where they can be compared at all."""
    try:
        return bool(one != other)
    except (ValueError, TypeError):  # arrays, and what has a comparison of its own
        return True


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
