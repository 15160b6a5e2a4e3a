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
from k24_rllib.experiments.checkpoints import check_fits, find_checkpoint, read_state
from k24_rllib.experiments.cluster import check_room
from k24_rllib.experiments.experiment import Experiment, build_config
from k24_rllib.experiments.goal import with_goal
from k24_rllib.experiments.grid import grid_size
from k24_rllib.experiments.loggers import logger_callbacks
from k24_rllib.experiments.memory import check_memory
from k24_rllib.experiments.objective import OBJECTIVE
from k24_rllib.experiments.ray_session import LOOPBACK, keep_files, start_ray, stop_ray
from k24_rllib.experiments.resume import plan_resume
from k24_rllib.experiments.space import as_tune
from k24_rllib.experiments.stopping import ENV_STEPS, is_reached, result_value
from k24_rllib.experiments.storage import NO_SPACE, check_writable, full_disk_named, full_disks, unwritten
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
    unfinished: Sequence[Any] = ()
    """The trials that neither failed nor reached their end: the user stopped them, or another signal did."""

    @property
    def failed(self) -> list[Any]:
        """The trials that ended by an error."""
        return [trial for trial in self.trials if trial.status == "ERROR"]

    @property
    def finished(self) -> list[Any]:
        """The trials that reached their end."""
        return [trial for trial in self.trials if trial.status != "ERROR" and trial not in self.unfinished]

    def problems(self) -> list[str]:
        """Returns what is wrong, a line each: trials that failed, ended too soon unasked, or could not be written."""
        lines = [failure(trial) for trial in self.failed]
        if self.stopped_by is None:
            lines += [_cut_short(trial) for trial in self.unfinished]
        failed = [trial.trial_id for trial in self.failed]
        lost = [unwritten(trial) for trial in self.trials if trial.trial_id not in failed]
        return [*lines, *(line for line in lost if line)]


def run_experiment(experiment: Experiment, options: RunOptions | None = None) -> Outcome:
    """Runs an experiment to its end, or until Ctrl-C, and prints its progress.

    Ray is started, and left running, unless it runs already; around several experiments put `ray_for`.
    """

    from k24_rllib.experiments.interrupt import Interrupt, LeaveWhenPaused

    options = options or RunOptions()
    requests = check_experiments([experiment], options)
    _make_ready([experiment], options, requests)
    with Interrupt() as interrupt, full_disk_named(experiment.directory):
        leave = LeaveWhenPaused(interrupt)
        trials = _run_tune(experiment, options, interrupt, leave)
    outcome = Outcome(trials, interrupt.signal, leave.unfinished)
    if outcome.problems():
        keep_files()
    return outcome


def failure(trial: Any) -> str:
    """Returns why a trial failed, in one line, and where the whole story is; a disk that is full is named."""
    logs = [Path(trial.path) / "error.txt", Path(trial.error_file or trial.path)]  # the first is a copy of the other
    lines, log = [], logs[0]
    for log in logs:
        lines = [line for line in log.read_text().splitlines() if line.strip()] if log.is_file() else []
        if lines:
            break
    if not lines or any(NO_SPACE in line for line in lines):
        full = full_disks([trial.path, trial.local_path])
        if full:
            return f"trial {trial} failed: {', '.join(full)}"
    ours = r"^k24_rllib[\w.]*: "  # our own errors speak for themselves
    return f"trial {trial} failed: {re.sub(ours, '', lines[-1]) if lines else 'no reason given'}; all of it in {log}"


def _cut_short(trial: Any) -> str:
    """Returns that a trial ended before its end though nobody asked for it, as Tune's loop does at a SIGUSR1."""
    steps = result_value(trial.last_result or {}, ENV_STEPS) or 0
    kept = f"; its last checkpoint is {trial.checkpoint.path}" if trial.checkpoint is not None else ""
    return f"trial {trial} was not finished: it was stopped from outside at {steps:,.0f} environment steps{kept}"


@contextmanager
def ray_for(experiments: Sequence[Experiment], options: RunOptions) -> Iterator[None]:
    """Runs Ray with room for each of the experiments, all of which are checked first; where it runs already it stays.

    Raises:
        ConfigError: for what only this machine can tell: a checkpoint to start from, the GPUs.
    """
    import ray

    requests = check_experiments(experiments, options)
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


def check_experiments(experiments: Sequence[Experiment], options: RunOptions) -> list[Any]:
    """Checks what only this machine can tell about the experiments, and returns what each of their trials asks for.

    Returns:
        RLlib's `PlacementGroupFactory`s: a trial's `bundles` of resources, and the `strategy` by which Ray places them.
    """
    import ray

    for storage_path, name in {experiment.storage_path: experiment.name for experiment in experiments}.items():
        check_writable(storage_path, name)
    for experiment in experiments:
        _check_restore(experiment)
        if options.resume:
            plan_resume(experiment)
    configs = [build_config(experiment.run, point) for experiment in experiments for point in experiment.points]
    requests = [config.algo_class.default_resource_request(config) for config in configs]
    if options.cluster is None and not ray.is_initialized():
        _check_machine(requests)
        check_memory(configs)
    return requests


def _check_room(requests: Sequence[Any], options: RunOptions) -> None:
    """Checks that the Ray that runs now can ever hold each of the trials."""
    where = "the cluster" if options.cluster is not None else "Ray on this machine"
    for request in requests:
        check_room(request.bundles, request.strategy, where)


def _check_restore(experiment: Experiment) -> None:
    """Checks that the checkpoint to start from is one of the experiment's algorithm, and of its network."""
    if experiment.restore is None:
        return
    from k24_rllib import ALGORITHMS

    checkpoint = find_checkpoint(experiment.restore)
    made_by = read_state(checkpoint)["config"]["class"]
    if made_by is not ALGORITHMS[experiment.run]:
        raise ConfigError(f"{checkpoint}: is a checkpoint of a {made_by.__name__}, expected one of {experiment.run}")
    check_fits(checkpoint, [build_config(experiment.run, point) for point in experiment.points])


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


def _run_tune(experiment: Experiment, options: RunOptions, interrupt: Any, leave: Any) -> list[Any]:
    """Hands the experiment to Tune and returns its trials."""
    from ray import tune
    from ray.tune.stopper import FunctionStopper

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # see experiments.interrupt
    if options.verbose == 0:
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints tables at any verbosity
    plan = plan_resume(experiment) if options.resume else None
    for note in plan.notes if plan else ():
        print(note, flush=True)
    resume = plan is not None and not plan.restarts
    experiment = with_goal(experiment, resume=plan is not None)  # also where Tune's own state is of no use
    resume_config = tune.ResumeConfig(errored=tune.ResumeConfig.ResumeType.RESUME) if resume else None
    searched = _search_settings(experiment, options, interrupt, resume=resume)
    callbacks = [*searched.pop("callbacks"), leave]
    settings = {
        "name": experiment.name,
        "stop": FunctionStopper(lambda trial_id, result: is_reached(experiment.stop, result)),
        "time_budget_s": experiment.time_budget_s,
        "checkpoint_config": tune.CheckpointConfig(**experiment.checkpoint_config),
        "storage_path": experiment.storage_path,
        "max_failures": experiment.max_failures,
    }
    restarts = [trial.as_tunes(experiment.run, settings) for trial in plan.restarts] if plan else []
    analysis = tune.run(
        restarts or experiment.run,
        num_samples=experiment.num_samples,
        restore=str(find_checkpoint(experiment.restore)) if experiment.restore else None,
        resume_config=resume_config,
        callbacks=[*callbacks, *logger_callbacks(experiment)],  # last: they write down what the others add
        verbose=options.verbose,
        raise_on_failed_trial=False,
        **settings,
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
