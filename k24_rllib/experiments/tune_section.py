"""The `tune:` section of an experiment: metric, searcher, scheduler and limits, all checked before Ray starts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from k24_rllib.checks import ConfigError, check_choice, check_name, check_number, nearest
from k24_rllib.experiments.objective import Objective, check_metric
from k24_rllib.experiments.population import check_bounds, check_mutations
from k24_rllib.experiments.space import Axis, as_tune, space_axes
from k24_rllib.experiments.stopping import ENV_STEPS, STOP_KEYS

KEYS = (
    "metric",
    "mode",
    "search_alg",
    "scheduler",
    "num_samples",
    "max_concurrent_trials",
    "time_budget_s",
    "resources",
)


@dataclass(frozen=True)
class Tool:
    """A searcher or scheduler of Tune's.

    Attributes:
        place: Module and class.
        needs: A module that must be there, and what installs it.
    """

    place: str
    needs: tuple[str, str] | None = None

    def load(self, what: str, name: str) -> Any:
        """Returns the class; a package that is missing is one line."""
        if self.needs is not None and find_spec(self.needs[0]) is None:
            raise ConfigError(f"{what}: {name} needs a package that isn't installed: pip install {self.needs[1]}")
        module, _, cls = self.place.rpartition(".")
        return getattr(importlib.import_module(f"ray.tune.{module}"), cls)


_VARIANTS = Tool("search.basic_variant.BasicVariantGenerator")

SEARCHERS = {
    "random": _VARIANTS,
    "grid": _VARIANTS,
    "optuna": Tool("search.optuna.OptunaSearch", ("optuna", "optuna")),
    "hyperopt": Tool("search.hyperopt.HyperOptSearch", ("hyperopt", "hyperopt")),
    "ax": Tool("search.ax.AxSearch", ("ax", "ax-platform")),
    "bayesopt": Tool("search.bayesopt.BayesOptSearch", ("bayes_opt", "bayesian-optimization==1.4.3")),
    "bohb": Tool("search.bohb.TuneBOHB", ("hpbandster", "hpbandster ConfigSpace")),
    "nevergrad": Tool("search.nevergrad.NevergradSearch", ("nevergrad", "nevergrad")),
    "zoopt": Tool("search.zoopt.ZOOptSearch", ("zoopt", "zoopt")),
    "hebo": Tool("search.hebo.HEBOSearch", ("hebo", "HEBO")),
}
VARIANTS = ("random", "grid")
"""Searchers that draw, or go through, without looking at results."""

SCHEDULERS = {
    "fifo": Tool("schedulers.FIFOScheduler"),
    "asha": Tool("schedulers.AsyncHyperBandScheduler"),
    "median": Tool("schedulers.MedianStoppingRule"),
    "hyperband": Tool("schedulers.HyperBandScheduler"),
    "pbt": Tool("schedulers.PopulationBasedTraining"),
    "pb2": Tool("schedulers.pb2.PB2", ("sklearn", "scikit-learn")),
}
_TUNES_NAMES = {
    "async_hyperband": "asha",
    "asynchyperband": "asha",
    "median_stopping_rule": "median",
    "medianstopping": "median",
    "variant_generator": "random",
}
POPULATION = ("pbt", "pb2")
"""Schedulers that clone trials and change their settings."""
TAKING_TURNS = (*POPULATION, "hyperband")
"""Schedulers whose trials are paused and go on from checkpoints, which hold the replay buffer for it."""

_IN_THE_SECTION = ("metric", "mode", "space")
_PYTHON_ONLY = ("custom_explore_fn", "sampler", "storage", "ax_client", "optimizer", "analysis")


@dataclass(frozen=True)
class TuneSection:
    """A checked `tune:` section."""

    metric: str
    """As the file has it."""
    key: str
    """The result key that it means, or `score`."""
    mode: str = "max"
    search_alg: str = "random"
    search_options: dict[str, Any] = field(default_factory=dict)
    scheduler: str = "fifo"
    scheduler_options: dict[str, Any] = field(default_factory=dict)
    num_samples: int | None = None
    max_concurrent_trials: int | None = None
    time_budget_s: float | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    """The section as it stands in the file."""

    @property
    def takes_turns(self) -> bool:
        """Whether trials are paused and go on."""
        return self.scheduler in TAKING_TURNS

    @property
    def population(self) -> bool:
        """Whether trials are clones of each other."""
        return self.scheduler in POPULATION

    def objective(self) -> Objective:
        """Returns what reads the metric from results."""
        return Objective(self.metric, self.key, self.mode)

    def space(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the configuration with Tune's objects in it."""
        return as_tune(config, grid=self.search_alg == "grid")

    def make_searcher(self) -> Any:
        """Returns Tune's searcher, which is told metric and space by Tune."""
        options = dict(self.search_options)
        if self.search_alg == "optuna":
            import optuna

            optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of every trial
        if self.search_alg in VARIANTS:
            options["max_concurrent"] = self.max_concurrent_trials or 0
        return SEARCHERS[self.search_alg].load("search_alg", self.search_alg)(**options)


def read_tune_section(
    section: object, run: str, config: dict[str, Any], stop: Mapping[str, float]
) -> TuneSection | None:
    """Checks a `tune` section and everything in it; None if there is none.

    Args:
        section: What the file has.
        run: The algorithm.
        config: The experiment's settings; what the section decides is put into them, in place.
        stop: The experiment's stop values, for the defaults of what counts environment steps.
    """
    if section is None:
        return None
    if not isinstance(section, Mapping):
        raise ConfigError(f"tune: got {section!r}, expected keys and values, as in metric: greedy_return")
    for key in section:
        check_name("tune key", key, KEYS)
    try:
        return _read(section, run, config, stop)
    except ConfigError as error:
        raise ConfigError(f"tune: {error}") from error


def _read(section: Mapping[str, Any], run: str, config: dict[str, Any], stop: Mapping[str, float]) -> TuneSection:
    search_alg, search_options = _name_and_options("search_alg", section.get("search_alg", "random"), SEARCHERS)
    scheduler, scheduler_options = _name_and_options("scheduler", section.get("scheduler", "fifo"), SCHEDULERS)
    _check_options("search_alg", search_alg, SEARCHERS[search_alg], search_options)
    _check_options("scheduler", scheduler, SCHEDULERS[scheduler], scheduler_options)
    scheduler_options = _with_defaults(scheduler, scheduler_options, stop)
    if scheduler in POPULATION:
        _prepare_population(run, config, scheduler, scheduler_options)
    if scheduler in TAKING_TURNS:
        config.setdefault("store_buffer_in_checkpoints", True)
    _take_resources(config, section.get("resources"))
    metric = section.get("metric", "greedy_return")
    tuned = TuneSection(
        metric=str(metric),
        key=check_metric(metric, run, config),
        mode=check_choice("mode", section.get("mode", "max"), ("max", "min")),
        search_alg=search_alg,
        search_options=search_options,
        scheduler=scheduler,
        scheduler_options=scheduler_options,
        num_samples=_count("num_samples", section.get("num_samples")),
        max_concurrent_trials=_count("max_concurrent_trials", section.get("max_concurrent_trials")),
        time_budget_s=_above_zero("time_budget_s", section.get("time_budget_s")),
        given=section,
    )
    _check_together(tuned, space_axes(config), config)
    return tuned


def _name_and_options(what: str, given: object, known: Mapping[str, Tool]) -> tuple[str, dict[str, Any]]:
    """Returns what `name` or `{name: {option: value}}` gives."""
    options: object = {}
    if isinstance(given, Mapping):
        if len(given) != 1:
            first = next(iter(known))
            raise ConfigError(
                f"{what}: got {dict(given)!r}, expected a name or one name with options, as {first}: {{}}"
            )
        ((given, options),) = given.items()
    name = _TUNES_NAMES.get(str(given).lower(), str(given).lower())
    if not isinstance(given, str) or name not in known:
        raise ConfigError(f"unknown {what} {given!r}{nearest(given, known) or f' (known: {chr(44).join(known)})'}")
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"{what}: {name}: got {options!r}, expected options and values")
    return name, dict(options)


def _check_options(what: str, name: str, tool: Tool, options: Mapping[str, Any]) -> None:
    """Checks the names of options against the signature of Tune's class."""
    parameters = inspect.signature(tool.load(what, name).__init__).parameters
    known = [key for key, its in parameters.items() if key != "self" and its.kind is not its.VAR_KEYWORD]
    takes_more = any(its.kind is its.VAR_KEYWORD for its in parameters.values())
    for option in options:
        if option in _IN_THE_SECTION or (name in VARIANTS and option == "max_concurrent"):
            instead = "max_concurrent_trials" if option == "max_concurrent" else option
            place = "config" if option == "space" else f"{instead} in the tune section itself"
            raise ConfigError(f"{what}: {name}: got {option}, expected it as {place}")
        if option in _PYTHON_ONLY:
            raise ConfigError(f"{what}: {name}: {option} is a Python object, which a file can't hold")
        offered = [key for key in known if key not in (*_IN_THE_SECTION, *_PYTHON_ONLY)]
        if option not in known and not takes_more:
            listed = f" (known: {', '.join(offered)})" if offered else " (it has none)"
            raise ConfigError(f"{what}: {name}: unknown option {option!r}{nearest(option, offered) or listed}")


_STEP_OPTIONS = {
    "asha": {"max_t": 1.0, "grace_period": 0.125},
    "median": {"grace_period": 0.125, "min_time_slice": 1.0},  # by itself trials take turns at every result
    "hyperband": {"max_t": 1.0},
    "pbt": {"perturbation_interval": 0.25},
    "pb2": {"perturbation_interval": 0.25},
}
"""Defaults of what counts environment steps, as shares of the file's stop."""


def _with_defaults(name: str, given: dict[str, Any], stop: Mapping[str, float]) -> dict[str, Any]:
    """Returns a scheduler's options with time in environment steps, unless the file has it otherwise."""
    if name == "fifo":
        return given
    time = given.get("time_attr", ENV_STEPS)
    if time not in STOP_KEYS:
        raise ConfigError(
            f"scheduler: {name}: time_attr: got {time!r}, expected a result key{nearest(time, STOP_KEYS)}"
        )
    options = {**given, "time_attr": STOP_KEYS[time]}
    if name in POPULATION:
        options.setdefault("require_attrs", False)  # a result without evaluation decides nothing
    total = stop.get(options["time_attr"])
    for key, share in _STEP_OPTIONS[name].items():
        if key in options:
            check_number(f"scheduler: {name}: {key}", options[key], above=0)
        elif total is None:
            raise ConfigError(f"scheduler: {name}: {key} is missing, expected it, or {time} in stop")
        else:
            options[key] = max(int(share * total), 1)
    if name == "asha" and options["grace_period"] > options["max_t"]:
        raise ConfigError(
            f"scheduler: asha: grace_period: got {options['grace_period']}, expected at most max_t ({options['max_t']})"
        )
    return options


def _prepare_population(run: str, config: dict[str, Any], name: str, options: dict[str, Any]) -> None:
    """Checks what is changed on live runs, and has each trial begin with a draw of it."""
    if name == "pbt":
        options["hyperparam_mutations"] = check_mutations(run, config, options.get("hyperparam_mutations"))
    else:
        options["hyperparam_bounds"] = check_bounds(run, config, options.get("hyperparam_bounds"))


def _take_resources(config: dict[str, Any], resources: object) -> None:
    """Puts what a trial may use into the settings by which RLlib asks for it: the learner gets what workers leave."""
    if resources is None:
        return
    if not isinstance(resources, Mapping):
        raise ConfigError(f"resources: got {resources!r}, expected keys and values, as in {{cpu: 2, gpu: 0.5}}")
    for key in resources:
        check_name("resource", key, ("cpu", "gpu"))
    if "gpu" in resources:
        config["num_gpus"] = check_number("resources: gpu", resources["gpu"], low=0)
    if "cpu" in resources:
        cpus = int(check_number("resources: cpu", resources["cpu"], low=1, integer=True))
        workers = 0
        if isinstance(config.get("num_env_runners"), int):
            workers = config["num_env_runners"] * config.get("num_cpus_per_env_runner", 1)
        if cpus <= workers:
            raise ConfigError(
                f"resources: cpu: got {cpus}, expected at least {workers + 1}: {workers} for num_env_runners and 1"
            )
        config["num_cpus_for_main_process"] = cpus - workers


def _check_together(tuned: TuneSection, axes: Sequence[Axis], config: Mapping[str, Any]) -> None:
    """Checks that searcher, scheduler and space go with each other."""
    grids = [axis.name for axis in axes if axis.distribution is None]
    continuous = [axis.name for axis in axes if not axis.categorical]
    if tuned.search_alg == "grid" and continuous:
        raise ConfigError(f"search_alg: grid can't go through {continuous[0]}, expected grid_search or choice there")
    if tuned.search_alg not in VARIANTS:
        if grids:
            raise ConfigError(
                f"search_alg: {tuned.search_alg} can't search {grids[0]} by grid_search, expected choice there "
                "(or search_alg: random)"
            )
        if tuned.population:
            raise ConfigError(
                f"search_alg: got {tuned.search_alg} with {tuned.scheduler}, expected random: it searches by itself"
            )
        _try_searcher(tuned, config)
    if tuned.scheduler in TAKING_TURNS and tuned.max_concurrent_trials is not None:
        raise ConfigError(
            f"max_concurrent_trials: got {tuned.max_concurrent_trials} with {tuned.scheduler}, expected resources: "
            "its trials take turns, and all of them are under way"
        )
    _try_scheduler(tuned)


def _try_searcher(tuned: TuneSection, config: Mapping[str, Any]) -> None:
    """Makes the searcher and gives it the space, once: what it can't take is said before Ray starts."""
    try:
        searcher = tuned.make_searcher()
        searcher.set_search_properties(tuned.metric, tuned.mode, tuned.space(config))
    except Exception as error:  # searchers raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"search_alg: {tuned.search_alg} says: {reason}") from error


def _try_scheduler(tuned: TuneSection) -> None:
    try:
        SCHEDULERS[tuned.scheduler].load("scheduler", tuned.scheduler)(**tuned.scheduler_options)
    except Exception as error:  # assertions among them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"scheduler: {tuned.scheduler} says: {reason}") from error


def _count(key: str, value: object) -> int | None:
    return None if value is None else int(check_number(key, value, low=1, integer=True))


def _above_zero(key: str, value: object) -> float | None:
    return None if value is None else check_number(key, value, above=0)
