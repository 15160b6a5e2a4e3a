"""Reading an experiment file (the format of RLlib's tuned examples) and checking all of it before Ray starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_name, check_number
from k24_rllib.experiments.evaluate import score_reference
from k24_rllib.experiments.grid import GRID_KEY, grid_axes, grid_points
from k24_rllib.experiments.loggers import check_loggers, default_loggers
from k24_rllib.experiments.objective import SCORE
from k24_rllib.experiments.overrides import apply_set, parse_stop
from k24_rllib.experiments.space import as_grid, check_space, space_axes
from k24_rllib.experiments.stopping import ENV_STEPS, check_stop
from k24_rllib.experiments.storage import check_storage
from k24_rllib.experiments.tune_section import POPULATION, TuneSection, read_tune_section
from k24_rllib.experiments.yaml_reader import read_yaml_file

if TYPE_CHECKING:
    from k24_rllib.qmix import QMixConfig

DEFAULT_STORAGE = "~/ray_results"

_EXPERIMENT_KEYS = (
    "run",
    "env",
    "stop",
    "config",
    "num_samples",
    "tune",
    "checkpoint_config",
    "storage_path",
    "restore",
    "max_failures",
    "time_budget_s",
    "loggers",
    "report",
    # What older files have: `local_dir` is now `storage_path`, the others are keys of `checkpoint_config`.
    "local_dir",
    "checkpoint_freq",
    "checkpoint_at_end",
    "keep_checkpoints_num",
)

_OLD_CHECKPOINT_KEYS = {
    "checkpoint_freq": "checkpoint_frequency",
    "checkpoint_at_end": "checkpoint_at_end",
    "keep_checkpoints_num": "num_to_keep",
}

LONGEST_NAME = 120
"""Bytes of an experiment's name, which is a directory's and part of others'."""
MOST_TRIALS = 1_000_000
"""More than anybody waits for, of `num_samples` and of failures."""

_RLLIB_ERRORS = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError)
"""What RLlib's own checks raise."""


@dataclass(frozen=True)
class Overrides:
    """What is laid over a file, in the words of the command line; None and empty mean that the file's word stands."""

    set: Sequence[str] = ()
    stop: Sequence[str] = ()
    seeds: Sequence[int] = ()
    num_samples: int | None = None
    storage_path: str | None = None
    restore: str | None = None
    checkpoint_freq: int | None = None


@dataclass(frozen=True)
class Experiment:
    """One experiment of a file, checked: everything Ray Tune needs to run it."""

    name: str
    run: str
    """Name of the algorithm, as registered."""
    config: dict[str, Any]
    """Flat settings with the environment under `env`; values may be `{"grid_search": [...]}` and distributions."""
    stop: dict[str, float] = field(default_factory=dict)
    """Result keys and the values that end a trial; see `experiments.stopping`."""
    num_samples: int = 1
    checkpoint_config: dict[str, Any] = field(default_factory=dict)
    storage_path: str = DEFAULT_STORAGE
    restore: str | None = None
    max_failures: int = 0
    time_budget_s: float | None = None
    loggers: dict[str, dict[str, Any]] = field(default_factory=default_loggers)
    """What writes the results down, and its options; see `experiments.loggers`."""
    report: bool = True
    """Whether a page about the results is written at the end."""
    tune: TuneSection | None = None
    """How the space in `config` is searched, where the file says so."""

    @property
    def points(self) -> Iterator[dict[str, Any]]:
        """Configurations that `config` stands for: all of a grid's, and the ends of what is drawn."""
        return grid_points(as_grid(self.config))

    @property
    def directory(self) -> str:
        """Where Tune puts the experiment's trials."""
        return f"{self.storage_path.rstrip('/')}/{self.name}"

    @property
    def local_directory(self) -> Path | None:
        """The same as a path, or None where it is not on this machine."""
        return None if "://" in self.storage_path else Path(self.directory)


def read_experiments(path: Path | str, overrides: Overrides | None = None) -> list[Experiment]:
    """Reads all experiments of a file and checks every value in them.

    Args:
        path: A YAML file that maps experiment names to `run`, `env`, `stop`, `config`, ...
        overrides: What is changed, in every experiment of the file.

    Raises:
        ConfigError: naming the file, the experiment, the key and what was expected.
    """
    path, overrides = Path(path), overrides or Overrides()
    content = read_yaml_file(path)
    specs = _check_top_level(path, content)
    experiments: list[Experiment] = []
    configs: list[QMixConfig] = []
    for name, spec in specs.items():
        where = f"{path}: " if len(specs) == 1 else f"{path}: {name}: "
        try:
            experiment = _build(name, spec, overrides)
            _check_without_rllib(experiment)
            configs += [build_config(experiment.run, point) for point in experiment.points]
        except ConfigError as error:
            raise ConfigError(f"{where}{error}") from error
        experiments.append(experiment)
    _check_parts(path, configs)
    for experiment in experiments:
        _check_score(path, experiment)
    return experiments


def _check_without_rllib(experiment: Experiment) -> None:
    """Checks keys, and values one by one: most mistakes are found before RLlib is imported, which takes seconds."""
    from k24_rllib import ALGORITHMS
    from k24_rllib.qmix.rllib_keys import ACTING
    from k24_rllib.qmix.settings import check_names

    settings_class = ALGORITHMS.settings_class(experiment.run)
    declared = settings_class.settings()
    for point in experiment.points:
        check_names(experiment.run, settings_class, point)
        for key, value in settings_class.todays(point).items():
            if key in declared:
                declared[key].refuse(key, value)
            elif key in ACTING:
                ACTING[key](key, value)


def build_config(run: str, settings: Mapping[str, Any]) -> QMixConfig:
    """Returns the checked configuration of algorithm `run` with flat `settings` (no grids left in them)."""
    from k24_rllib import ALGORITHMS

    config = ALGORITHMS[run]()
    try:
        config.apply_dict(settings)
        config.validate()
    except ConfigError:
        raise
    except _RLLIB_ERRORS as error:
        raise ConfigError(_explain(run, settings, error)) from error
    return config


def _explain(run: str, settings: Mapping[str, Any], error: Exception) -> str:
    """Returns the message for an error of RLlib's, which names no key: the first setting that alone gives one."""
    from k24_rllib import ALGORITHMS

    needed = {key: settings[key] for key in ("env", "total_env_steps") if key in settings}
    defaults = ALGORITHMS[run]().to_dict()
    for key, value in {**needed, **settings}.items():
        config = ALGORITHMS[run]()
        try:
            config.apply_dict({**needed, key: value})
            config.validate()
        except ConfigError:  # it needs others of the settings
            continue
        except _RLLIB_ERRORS as alone:
            return f"{key}: got {value!r}, {_expected(defaults.get(key), value) or _words(alone)}"
    return f"config: {_words(error)}"


def _expected(default: object, value: object) -> str:
    """Returns what was expected of a value of another type than the default, or nothing if it is of that type."""
    if isinstance(default, Mapping) and not isinstance(value, Mapping):
        return "expected keys and values"
    if _is_number(default) and not _is_number(value):
        return "expected a number"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _words(error: Exception) -> str:
    return f"RLlib says: {' '.join(str(error).split())}"


def _check_top_level(path: Path, content: object) -> dict[str, dict[str, Any]]:
    """Checks that the file maps experiment names to mappings."""
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{path}: expected an experiment's name with run, env, stop and config inside it")
    if "run" in content or "config" in content:
        key = "run" if "run" in content else "config"
        raise ConfigError(f"{path}: {key!r} is at the top level, expected it inside an experiment's name")
    for name, spec in content.items():
        if not isinstance(spec, dict):
            raise ConfigError(f"{path}: experiment {name!r} holds {spec!r}, expected run, env, stop and config")
        if not str(name).strip() or any(its in str(name) for its in "/\0") or len(str(name).encode()) > LONGEST_NAME:
            raise ConfigError(f"{path}: experiment name {name!r} can't be a directory's name")
    return {str(name): spec for name, spec in content.items()}


def _build(name: str, spec: Mapping[str, Any], overrides: Overrides) -> Experiment:
    """Checks one experiment's own keys and lays the overrides over it; `config` is checked by the caller."""
    for key in spec:
        check_name("experiment key", key, _EXPERIMENT_KEYS)
    config = _check_config(spec, overrides)
    stop = check_stop(spec.get("stop"))
    for option in overrides.stop:
        stop.update(check_stop(parse_stop(option), "--stop"))
    experiment = Experiment(
        name=name,
        run="",
        config=config,
        stop=stop,
        checkpoint_config=_check_checkpoint_config(spec, overrides.checkpoint_freq),
        storage_path=check_storage(
            overrides.storage_path or spec.get("storage_path") or spec.get("local_dir"), DEFAULT_STORAGE
        ),
        restore=overrides.restore or spec.get("restore"),
        max_failures=_first_count("max_failures", spec.get("max_failures"), default=0, low=-1),
        time_budget_s=_check_time_budget(spec.get("time_budget_s")),
        loggers=check_loggers(spec.get("loggers")),
        report=check_bool("report", spec.get("report", True)),
    )
    run = check_algorithm(spec.get("run"))
    _share_total_steps(run, config, stop)
    check_space(run, config)
    tune = read_tune_section(_wanted_section(spec, config, overrides), run, config, stop)
    return replace(
        experiment,
        run=run,
        tune=tune,
        num_samples=_first_count("num_samples", overrides.num_samples, _samples(spec, tune), default=1, low=1),
        time_budget_s=(tune.time_budget_s if tune else None) or experiment.time_budget_s,
    )


def _wanted_section(spec: Mapping[str, Any], config: Mapping[str, Any], overrides: Overrides) -> object:
    """Returns the file's `tune` section, or None where `--set` has left it nothing to search.

    So the command that trains a search's winner is the search's own file with the winner's values.
    """
    section = spec.get("tune")
    scheduler = section.get("scheduler") if isinstance(section, Mapping) else None
    clones = isinstance(scheduler, Mapping) and any(name in POPULATION for name in scheduler)
    if section is None or space_axes(config) or clones:
        return section
    if overrides.set or overrides.seeds:
        return None
    raise ConfigError("tune: there is nothing to search, expected a distribution in config, as lr: {uniform: [0.1, 1]}")


def _samples(spec: Mapping[str, Any], tune: TuneSection | None) -> object:
    """Returns how many trials the file asks for: in its section, or beside it; a search's winner is one."""
    if tune is None:
        return None if spec.get("tune") is not None else spec.get("num_samples")
    return tune.num_samples or spec.get("num_samples")


def check_algorithm(run: object) -> str:
    """Returns the registered name of algorithm `run`; RLlib's old spelling `QMIX` is as good as `QMix`."""
    from k24_rllib import ALGORITHMS

    if run is None:
        raise ConfigError(f"run: is missing, expected the algorithm's name (known: {', '.join(sorted(ALGORITHMS))})")
    by_lower = {name.lower(): name for name in ALGORITHMS}
    return by_lower.get(str(run).lower()) or check_name("algorithm", run, ALGORITHMS)


def _check_config(spec: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Returns the experiment's `config` with `env` moved into it and `--set` and `--seed` applied."""
    config = copy.deepcopy(spec.get("config") or {})
    if not isinstance(config, dict):
        raise ConfigError(f"config: got {config!r}, expected keys and values")
    env = spec.get("env")
    if env is not None and config.setdefault("env", env) != env:
        raise ConfigError(f"env: got {env!r}, but config has env {config['env']!r}; expected one of them")
    for option in overrides.set:
        apply_set(config, option)
    if overrides.seeds:
        seeds = list(overrides.seeds)
        config["seed"] = seeds[0] if len(seeds) == 1 else {GRID_KEY: seeds}
    if "env_config" in config and config["env_config"] is None:
        config["env_config"] = {}  # `env_config:` with nothing below it is an environment without options
    if config.get("env") is None:
        raise ConfigError("env: is missing, expected an environment's name, as in env: mpe_simple_spread")
    grid_axes(config)
    return config


def _share_total_steps(run: str, config: dict[str, Any], stop: dict[str, float]) -> None:
    """Gives schedules the length of the run: the file says it once, as `stop` or as `total_env_steps`."""
    from k24_rllib import ALGORITHMS

    if "total_env_steps" not in ALGORITHMS.settings_class(run).settings():
        return
    total = config.get("total_env_steps")
    if total is None and ENV_STEPS in stop:
        config["total_env_steps"] = int(stop[ENV_STEPS])
    elif not stop and isinstance(total, int):
        stop[ENV_STEPS] = total
    elif total is None:
        raise ConfigError("total_env_steps: is missing, expected it in config, or timesteps_total in stop")


def _check_checkpoint_config(spec: Mapping[str, Any], frequency: int | None) -> dict[str, Any]:
    """Returns the keywords of Tune's `CheckpointConfig`; a file that says nothing gets a checkpoint at the end."""
    given = spec.get("checkpoint_config")
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"checkpoint_config: got {given!r}, expected keys and values")
    checkpoint: dict[str, Any] = {"checkpoint_at_end": True}
    for old_key, key in _OLD_CHECKPOINT_KEYS.items():
        if spec.get(old_key) is not None:
            checkpoint[key] = spec[old_key]
    checkpoint.update(given or {})
    if frequency is not None:
        checkpoint["checkpoint_frequency"] = frequency
    checks = {
        "checkpoint_at_end": lambda key, value: check_bool(key, value),
        "checkpoint_frequency": lambda key, value: check_number(key, value, low=0, integer=True),
        "num_to_keep": lambda key, value: value is None or check_number(key, value, low=1, integer=True),
        "checkpoint_score_attribute": lambda key, value: value,
        "checkpoint_score_order": lambda key, value: check_choice(key, value, ("max", "min")),
    }
    for key, value in checkpoint.items():
        checks[check_name("checkpoint_config key", key, checks)](f"checkpoint_config: {key}", value)
    return checkpoint


def _check_time_budget(value: object) -> float | None:
    return None if value is None else check_number("time_budget_s", value, above=0, high=1e9)


def _first_count(key: str, *values: object, default: int, low: int) -> int:
    """Returns the first value that was given, checked, or the default."""
    for value in values:
        if value is not None:
            return int(check_number(key, value, low=low, high=MOST_TRIALS, integer=True))
    return default


def _check_parts(path: Path, configs: Sequence[QMixConfig]) -> None:
    """Makes a copy of every environment that the configurations name, and every network, each once, and tries it.

    So a part of the user's own that makes something else, or gives what has no use here, is named before Ray starts.
    """
    environments: set[str] = set()
    networks: set[tuple[str, ...]] = set()
    for config in configs:
        options = {str(key): value for key, value in (config.env_config or {}).items()}
        environment = f"{config.env} {options}"
        network = (config.algo_name, environment, repr(config.model_options()))
        try:
            if environment not in environments:
                _try_environment(config.env, options)
            if network not in networks:
                _try_network(config)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        environments.add(environment)
        networks.add(network)


def _check_score(path: Path, experiment: Experiment) -> None:
    """Checks that a search by score has environments that know one."""
    if experiment.tune is None or experiment.tune.key != SCORE:
        return
    for options in {repr(point.get("env_config")): point.get("env_config") for point in experiment.points}.values():
        if score_reference(experiment.config["env"], options) is None:
            raise ConfigError(
                f"{path}: tune: metric: got 'score', expected greedy_return: {experiment.config['env']} with "
                f"{options} knows no score"
            )


def _try_environment(name: str, options: Mapping[str, Any]) -> None:
    """Makes one copy of an environment and looks at how an episode begins."""
    from k24_rllib.envs import make_team_env

    env = make_team_env(name, 1, **options)
    env.check_first_step(env.reset(seed=0))
    env.close()


def _try_network(config: QMixConfig) -> None:
    """Builds the policy of a configuration, on the CPU, and runs its network for two steps."""
    config.num_gpus = 0
    try:
        config.build_policy().model.check_shapes()
    except ConfigError:
        raise
    except (MemoryError, RuntimeError) as error:  # PyTorch says either where memory is short
        reason = " ".join(str(error).split())
        raise ConfigError(f"config: its networks can't be built ({type(error).__name__}: {reason})") from error
