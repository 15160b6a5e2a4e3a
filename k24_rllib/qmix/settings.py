"""QMIX's settings, declared without RLlib: a file's values are checked by them before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from k24_rllib.checks import ConfigError, check_bool, check_number
from k24_rllib.models import AGENTS, MIXERS
from k24_rllib.qmix.process import MATMUL_PRECISIONS
from k24_rllib.qmix.registry import ALGORITHMS
from k24_rllib.qmix.rllib_keys import MOST_WORKERS, RENAMED, is_rllib_key, todays_names, unknown_key
from k24_rllib.registry import Registry, check_mapping
from k24_rllib.settings import Declared, checked, choice, flag, number, whole
from k24_rllib.sparsity import LAYERS

OLD_SWITCHES: dict[str, tuple[str, dict[bool, str | None]]] = {
    "recurrent": ("agent", {True: "gru", False: "feedforward"}),
    "independent_networks": ("layer", {True: "independent", False: None}),
}
"""Switches of before agents and layers had names, and what they mean today; files and checkpoints have them."""
_OLD_PATTERN_LAYER = "n:m"
"""What K24QMix's layer was called then, whatever its pattern."""

REPLAYS = ("uniform", "prioritized")
SELF_PLAY_KEYS = ("self_play_pool", "self_play_interval", "self_play_current")
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


class QMixSettings(Declared):
    """What `QMixConfig` adds to RLlib's settings."""

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
    max_skipped_updates: int = whole(
        10,
        "Updates in a row without a finite loss and gradient after which a run stops. Such an update is skipped and "
        "counted (updates_skipped); fewer stop sooner where nothing can be learned any more.",
        low=1,
    )
    adam_epsilon: float = number(1e-8, "Adam's epsilon; larger dampens parameters of small gradients.", above=0.0)
    train_batch_size: int = whole(
        32, "Episodes in a learner batch; more is less noisy and slower.", low=1, high=1_000_000
    )
    updates_per_episode: float = number(
        0.4,
        "Gradient updates per episode sampled. More learns more from each episode and takes longer; fractions are "
        "carried over.",
        above=0.0,
        high=10_000.0,
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

    buffer_episodes: int = whole(
        5_000, "Episodes kept for replay. More is more varied and older.", low=1, high=100_000_000
    )
    store_buffer_in_checkpoints: bool | None = flag(
        None,
        "Whether a checkpoint holds the replay buffer: a resumed run then goes on exactly as if it had not been "
        "stopped, instead of filling a new buffer first, and the checkpoint is larger. null: where a full buffer has "
        "less than 1 GiB.",
        optional=True,
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

    # --- self-play, where env_config has opponents: self

    self_play_pool: int = whole(
        10,
        "Earlier snapshots of each side that the other plays against. More remembers more ways to play, and takes "
        "memory and checkpoints' space.",
        low=1,
        high=1_000,
    )
    self_play_interval: int = whole(
        50_000,
        "Environment steps of a side between its snapshots. Fewer fill the pool with players that are more alike.",
        low=1,
    )
    self_play_current: float = number(
        0.5,
        "Share of rounds that a side plays against the other as it is now; in the rest it plays a snapshot, those "
        "first that win most against it. Less forgets less, and follows the other more slowly.",
        low=0.0,
        high=1.0,
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
        "network of each agent's own, a baseline), hyper (each agent's made by a network from its id, a baseline), or "
        "one of your own; null takes the algorithm's.",
    )
    layer_options: dict[str, Any] = part_options(LAYERS)
    mixer: str = named_part(MIXERS, "qmix", "What makes one value of the agents': qmix, vdn, independent, or your own.")
    mixer_options: dict[str, Any] = part_options(MIXERS)
    hidden_dim: int = whole(
        64,
        "Width of the agents' layers; wider represents more and costs quadratically more.",
        low=1,
        offers={"agent": "hidden_dim"},
        high=8_192,
    )
    agent_id_input: bool = flag(
        True, "Whether agents see a one-hot id, which lets a shared network treat them differently."
    )
    last_action_input: bool = flag(False, "Whether agents see their previous action.")
    owner_scale: bool = flag(
        False,
        "Whether each mask owner has a gain and a bias of its own for every output of each layer, 1 and 0 at first: "
        "the least that lets agents who share all weights differ.",
    )
    mixing_embed_dim: int = whole(
        32,
        "Width of QMIX's mixing layer; wider mixes more finely.",
        low=1,
        offers={"mixer": "embed_dim"},
        high=8_192,
    )
    hypernet_dim: int = whole(
        64, "Hidden width of QMIX's hypernetworks.", low=1, offers={"mixer": "hypernet_dim"}, high=8_192
    )
    mixer_init_scale: float = number(
        0.1,
        "Factor on the initial weights of the hypernetworks' last layers. Below 1 the joint value starts nearly flat "
        "and grows with what is learned, which is steadier.",
        above=0.0,
        offers={"mixer": "init_scale"},
    )

    # --- workers and the machine

    num_env_runners: int = whole(0, "Remote rollout workers; 0 plays in the learner's process.", high=MOST_WORKERS)
    num_envs_per_env_runner: int = whole(
        64,
        "Environment copies that a worker steps in lockstep, and episodes of its round; more is faster.",
        low=1,
        high=100_000,
    )
    rollouts_ahead: int = whole(
        0,
        "Rounds of rollouts that remote workers play while the learner updates. 0 waits for each other in turn. 1 uses "
        "both at once; episodes are then played with weights one round of updates older, no more and no less. Both "
        "repeat a run exactly from its seed.",
        high=100,
    )
    sample_timeout_s: float | None = number(
        600.0,
        "Seconds that a worker may play at one round, after which its environment counts as hanging; null waits "
        "without end. Give a few times what a round takes: a hang is then noticed as soon.",
        above=0.0,
        high=1e9,
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
    evaluation_duration: int | str = whole(
        100, "Episodes of a greedy evaluation.", low=1, words=("auto",), high=1_000_000
    )
    evaluation_num_env_runners: int = whole(
        0, "Workers that only evaluate; 0 evaluates in the learner's process.", high=MOST_WORKERS
    )
    seed: int | None = whole(
        None, "Seed of everything drawn; null draws differently every time.", optional=True, high=2**32 - 1
    )
    torch_num_threads: int = whole(
        1,
        "Threads of PyTorch in the learner and in each rollout worker. These networks are small: 1 is fastest unless "
        "cores are idle.",
        low=1,
        high=1_024,
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

    @classmethod
    def todays(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns settings with today's names for old ones; a name that is given beside an old switch stands."""
        given = todays_names(settings)
        todays = {key: value for key, value in given.items() if key not in OLD_SWITCHES}
        if todays.get("layer") == _OLD_PATTERN_LAYER:
            todays["layer"] = None
        for old, (key, names) in OLD_SWITCHES.items():
            if old in given:
                name = names[check_bool(old, given[old])]
                if name is not None or key not in todays:
                    todays[key] = name
        return todays


def check_names(algorithm: str, own: type[Declared], settings: Mapping[str, Any]) -> None:
    """Checks the names of flat settings of an algorithm, whose own `own` declares.

    Raises:
        ConfigError: naming an unknown key, and the nearest known one or the algorithms that have it.
    """
    declared = own.settings()
    for key, value in settings.items():
        if key in declared or key in OLD_SWITCHES or key in RENAMED or is_rllib_key(key):
            continue
        elsewhere = [name for name in ALGORITHMS if key in ALGORITHMS.settings_class(name).settings()]
        if elsewhere:
            expected = " or ".join(f"run: {name}" for name in elsewhere)
            raise ConfigError(f"unknown config key {key!r} of {algorithm}: got {value!r}, expected it with {expected}")
        raise unknown_key(key, algorithm, declared)
