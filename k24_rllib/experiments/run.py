"""Running experiments through Tune: Ray is started with room for them, and every trial can be stopped and resumed."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.checkpoints import find_checkpoint, read_state
from k24_rllib.experiments.cluster import check_room
from k24_rllib.experiments.experiment import Experiment, build_config
from k24_rllib.experiments.grid import grid_size
from k24_rllib.experiments.loggers import logger_callbacks
from k24_rllib.experiments.objective import OBJECTIVE
from k24_rllib.experiments.ray_session import LOOPBACK, keep_files, start_ray, stop_ray
from k24_rllib.experiments.space import as_tune
from k24_rllib.experiments.stopping import is_reached
from k24_rllib.experiments.tune_section import VARIANTS
from k24_rllib.reporting import available_cpus


@dataclass(frozen=True)
class RunOptions:
    """How experiments are run."""

    resume: bool = False
    """Whether to go on with what an interrupted or failed run left, where it left something."""
    ray_address: str | None = None
    dashboard: bool = False
    dashboard_host: str = LOOPBACK
    """Where the dashboard listens; by default nobody but this machine reaches it."""
    verbose: int = 0
    """Above 0, Ray's own messages are shown."""
    modules: Sequence[str] = ()
    """The user's modules, imported here, that the nodes of a cluster need beside this package."""
    max_concurrent: int | None = None
    """Trials that may run at once; None means as many as Ray has room for."""

    @property
    def cluster(self) -> str | None:
        """Address of the Ray cluster to join, or None to start Ray on this machine."""
        return self.ray_address or os.environ.get("RAY_ADDRESS")


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment: its trials, as Tune knows them."""

    trials: list[Any]
    stopped_by: int | None = None
    """The signal by which the user stopped it, after which its trials are saved and not finished."""

    @property
    def failed(self) -> list[Any]:
        """The trials that ended by an error."""
        return [trial for trial in self.trials if trial.status == "ERROR"]

    @property
    def finished(self) -> list[Any]:
        """The trials that did not fail; of a stopped experiment, some are saved and not finished."""
        return [trial for trial in self.trials if trial.status != "ERROR"]


def run_experiment(experiment: Experiment, options: RunOptions | None = None) -> Outcome:
    """Runs an experiment to its end, or until Ctrl-C, and prints its progress.

    Ray is started, and left running, unless it runs already; around several experiments put `ray_for`.
    """

    from k24_rllib.experiments.interrupt import Interrupt

    options = options or RunOptions()
    requests = _check([experiment], options)
    _make_ready([experiment], options, requests)
    with Interrupt() as interrupt:
        trials = _run_tune(experiment, options, interrupt)
    outcome = Outcome(trials, interrupt.signal)
    if outcome.failed:
        keep_files()
    return outcome


def failure(trial: Any) -> str:
    """Returns why a trial failed, in one line, and where the whole story is."""
    log = Path(trial.path) / "error.txt"
    if not log.is_file():  # not copied there, or not on this machine
        log = Path(trial.error_file or log)
    lines = [line for line in log.read_text().splitlines() if line.strip()] if log.is_file() else []
    reason = (
        re.sub(r"^k24_rllib[\w.]*: ", "", lines[-1]) if lines else "no reason given"
    )  # our own errors speak for themselves
    return f"trial {trial} failed: {reason}; all of it in {log}"


@contextmanager
def ray_for(experiments: Sequence[Experiment], options: RunOptions) -> Iterator[None]:
    """Runs Ray with room for each of the experiments, all of which are checked first; where it runs already it stays.

    Raises:
        ConfigError: for what only this machine can tell: a checkpoint to start from, the GPUs.
    """
    import ray

    requests = _check(experiments, options)
    ours = not ray.is_initialized()
    try:
        _make_ready(experiments, options, requests)
        yield
    except Exception as error:
        if not isinstance(error, ConfigError):
            keep_files()
        raise
    finally:
        if ours:
            stop_ray()


def _check(experiments: Sequence[Experiment], options: RunOptions) -> list[Any]:
    """Checks what only this machine can tell about the experiments, and returns what each of their trials asks for.

    Returns:
        RLlib's `PlacementGroupFactory`s: a trial's `bundles` of resources, and the `strategy` by which Ray places them.
    """
    import ray

    for experiment in experiments:
        _check_restore(experiment)
    requests = [
        config.algo_class.default_resource_request(config)
        for experiment in experiments
        for config in (build_config(experiment.run, point) for point in experiment.points)
    ]
    if options.cluster is None and not ray.is_initialized():
        _check_machine(requests)
    return requests


def _check_room(requests: Sequence[Any], options: RunOptions) -> None:
    """Checks that the Ray that runs now can ever hold each of the trials."""
    where = "the cluster" if options.cluster is not None else "Ray on this machine"
    for request in requests:
        check_room(request.bundles, request.strategy, where)


def _check_restore(experiment: Experiment) -> None:
    """Checks that the checkpoint to start from is one of the experiment's algorithm."""
    if experiment.restore is None:
        return
    from k24_rllib import ALGORITHMS

    checkpoint = find_checkpoint(experiment.restore)
    made_by = read_state(checkpoint)["config"]["class"]
    if made_by is not ALGORITHMS[experiment.run]:
        raise ConfigError(f"{checkpoint}: is a checkpoint of a {made_by.__name__}, expected one of {experiment.run}")


def _can_resume(experiment: Experiment) -> bool:
    """Returns whether Tune left an experiment's state in its directory."""
    from ray.tune import ExperimentAnalysis

    try:
        return bool(ExperimentAnalysis(experiment.directory).trials)
    except (ValueError, OSError):
        return False


def check_resume(experiments: Sequence[Experiment]) -> None:
    """Checks that at least one of the experiments was begun; one that wasn't simply starts."""
    begun = [experiment for experiment in experiments if _can_resume(experiment)]
    if not begun:
        places = ", ".join(experiment.directory for experiment in experiments)
        raise ConfigError(f"--resume: nothing to resume in {places}, expected the directory of an interrupted run")
    from k24_rllib.experiments.search import check_section

    for experiment in begun:
        if experiment.local_directory is not None:
            check_section(experiment.local_directory, experiment.tune)


def _check_machine(requests: Sequence[Any]) -> None:
    """Checks that this machine has what a trial asks for beside CPUs, which processes share: Ray would wait forever."""
    import torch

    there = {"CPU": math.inf, "GPU": float(torch.cuda.device_count())}
    for request in requests:
        for name, amount in request.required_resources.items():
            if amount > there.get(name, 0.0):
                what = f"{amount:g} GPUs" if name == "GPU" else f"{amount:g} of the resource {name!r}"
                raise ConfigError(
                    f"config: a trial asks for {what}, expected at most this machine's {there.get(name, 0.0):g} (or "
                    "--ray-address of a cluster)"
                )


def _make_ready(experiments: Sequence[Experiment], options: RunOptions, requests: Sequence[Any]) -> None:
    """Starts Ray unless it runs, gives it the package's names, and checks that it has room for the trials."""
    import ray

    from k24_rllib import register_all

    if not ray.is_initialized():
        _start_ray(experiments, options, requests)
    register_all()  # an earlier Ray of this process has taken the names with it
    _check_room(requests, options)


def _start_ray(experiments: Sequence[Experiment], options: RunOptions, requests: Sequence[Any]) -> None:
    """Starts Ray with room for all trials, or as many as there are CPUs for; or joins the cluster that was named."""
    address, cpus = options.cluster, available_cpus()
    trials = max(experiment.num_samples * grid_size(experiment.config) for experiment in experiments)
    wanted = math.ceil(max(request.required_resources.get("CPU", 0.0) for request in requests))
    print(f"settings are fine; {'starting Ray' if address is None else f'joining Ray at {address}'}", flush=True)
    if address is None and wanted > cpus:
        print(
            f"note: a trial asks for {wanted} CPUs and this machine has {cpus}, which its processes share", flush=True
        )
    start_ray(
        address=address,
        cpus=max(min(cpus, trials * wanted), wanted),  # no more, as Ray starts a process for each
        dashboard=options.dashboard,
        dashboard_host=options.dashboard_host,
        verbose=options.verbose,
        modules=options.modules,
    )


def _run_tune(experiment: Experiment, options: RunOptions, interrupt: Any) -> list[Any]:
    """Hands the experiment to Tune and returns its trials."""
    from ray import tune
    from ray.tune.stopper import FunctionStopper

    from k24_rllib.experiments.interrupt import LeaveWhenPaused

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # see experiments.interrupt
    if options.verbose == 0:
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints tables at any verbosity
    resume = options.resume and _can_resume(experiment)
    resume_config = tune.ResumeConfig(errored=tune.ResumeConfig.ResumeType.RESUME) if resume else None
    searched = _search_settings(experiment, options, interrupt, resume=resume)
    callbacks = [*searched.pop("callbacks"), LeaveWhenPaused(interrupt)]
    analysis = tune.run(
        experiment.run,
        name=experiment.name,
        stop=FunctionStopper(lambda trial_id, result: is_reached(experiment.stop, result)),
        time_budget_s=experiment.time_budget_s,
        num_samples=experiment.num_samples,
        checkpoint_config=tune.CheckpointConfig(**experiment.checkpoint_config),
        storage_path=experiment.storage_path,
        restore=str(find_checkpoint(experiment.restore)) if experiment.restore else None,
        resume_config=resume_config,
        max_failures=experiment.max_failures,
        callbacks=[*callbacks, *logger_callbacks(experiment)],  # last: they write down what the others add
        verbose=options.verbose,
        raise_on_failed_trial=False,
        **searched,
    )
    return list(analysis.trials)


def _search_settings(experiment: Experiment, options: RunOptions, interrupt: Any, *, resume: bool) -> dict[str, Any]:
    """Returns what `tune.run` is told of the space, of who searches it, and of who watches."""
    from k24_rllib.experiments.interrupt import PausingScheduler
    from k24_rllib.experiments.progress import Progress
    from k24_rllib.experiments.search import NoteObjective, directory_name, label, make_scheduler, write_section
    from k24_rllib.experiments.search_report import Ranking

    tuned, directory = experiment.tune, experiment.local_directory
    if directory is not None:
        write_section(directory, tuned)
    if tuned is None:
        return {
            "config": as_tune(experiment.config),
            "scheduler": PausingScheduler(interrupt),
            "max_concurrent_trials": options.max_concurrent,
            "callbacks": [Progress(experiment.stop)],
        }
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"  # results between evaluations don't have the metric
    return {
        "config": tuned.space(experiment.config),
        "metric": OBJECTIVE,
        "mode": tuned.mode,
        "search_alg": tuned.make_searcher(),
        "scheduler": make_scheduler(tuned, interrupt, directory, resume=resume),
        "trial_dirname_creator": directory_name,
        "max_concurrent_trials": None if tuned.search_alg in VARIANTS else tuned.max_concurrent_trials,
        "callbacks": [
            NoteObjective(tuned.objective()),
            Ranking(experiment),
            Progress(experiment.stop, label=label),
        ],
    }
