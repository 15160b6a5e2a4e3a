"""`rllib train`: start Ray, run a file's experiments through Tune, say how good the result is."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.checkpoints import find_checkpoint, read_state
from k24_rllib.experiments.evaluate import evaluate_checkpoint, evaluate_command, import_words
from k24_rllib.experiments.experiment import Experiment, Overrides, build_config, read_experiments
from k24_rllib.experiments.grid import grid_points
from k24_rllib.experiments.ray_session import available_cpus, quiet_ray, start_ray
from k24_rllib.experiments.stopping import ENV_STEPS, SECONDS, is_reached, result_value


@dataclass(frozen=True)
class TrainOptions:
    """The command line of `rllib train`, beside what it changes in the file."""

    program: str
    """How the user calls this program: `rllib` or `k24`."""
    file: Path
    overrides: Overrides
    resume: bool = False
    ray_address: str | None = None
    dashboard: bool = False
    verbose: int = 0
    modules: Sequence[str] = ()
    """The user's modules, already imported; evaluating the result needs them too."""
    max_concurrent: int | None = None
    """Trials that may run at once; None means as many as Ray has room for."""

    @property
    def cluster(self) -> str | None:
        """Address of the Ray cluster to join, or None to start Ray on this machine."""
        return self.ray_address or os.environ.get("RAY_ADDRESS")


def run_train(options: TrainOptions) -> int:
    """Runs `rllib train` and returns its exit code; whatever the user got wrong is found before Ray starts."""
    began = time.monotonic()
    if options.verbose == 0:
        quiet_ray()
    experiments = read_experiments(options.file, options.overrides)
    if options.resume:
        _check_resume(experiments)
    prepare_ray(experiments, options)
    import ray

    from k24_rllib.experiments.progress import duration

    try:
        for experiment in experiments:
            code = _run_experiment(experiment, options)
            if code:
                return code
    finally:
        ray.shutdown()
    print(f"\n{duration(time.monotonic() - began)} in all")
    return 0


def prepare_ray(experiments: Sequence[Experiment], options: TrainOptions) -> None:
    """Checks what only this machine can tell about the experiments, then starts Ray with room for them."""
    for experiment in experiments:
        _check_restore(experiment)
    request = _largest_request(experiments)
    if options.cluster is None:
        _check_gpus(request)
    _start_ray(options, request)


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


def _check_resume(experiments: Sequence[Experiment]) -> None:
    """Checks that at least one of the experiments was begun; one that wasn't simply starts."""
    if not any(_can_resume(experiment) for experiment in experiments):
        places = ", ".join(experiment.directory for experiment in experiments)
        raise ConfigError(f"--resume: nothing to resume in {places}, expected the directory of an interrupted run")


def _largest_request(experiments: Sequence[Experiment]) -> dict[str, float]:
    """Returns the most CPUs and GPUs that any one trial asks Ray for."""
    largest: dict[str, float] = {}
    for experiment in experiments:
        for point in grid_points(experiment.config):
            config = build_config(experiment.run, point)
            wanted = config.algo_class.default_resource_request(config).required_resources
            for resource in ("CPU", "GPU"):
                largest[resource] = max(largest.get(resource, 0.0), wanted.get(resource, 0.0))
    return largest


def _check_gpus(request: dict[str, float]) -> None:
    """Checks that this machine has the GPUs a trial asks for; Ray would wait for them forever."""
    import torch

    if request["GPU"] > torch.cuda.device_count():
        raise ConfigError(
            f"config: a trial asks for {request['GPU']:g} GPUs, expected at most this machine's "
            f"{torch.cuda.device_count()} (or --ray-address of a cluster)"
        )


def _start_ray(options: TrainOptions, request: dict[str, float]) -> None:
    """Starts Ray with room for one trial at least, or joins the cluster that the user named."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # see cli.interrupt
    if options.verbose == 0:
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints tables at any verbosity
    print("settings are fine; starting Ray", flush=True)
    address, cpus, wanted = options.cluster, available_cpus(), math.ceil(request["CPU"])
    if address is None and wanted > cpus:
        print(
            f"note: a trial asks for {wanted} CPUs and this machine has {cpus}, which its processes share", flush=True
        )
    start_ray(address=address, cpus=max(cpus, wanted), dashboard=options.dashboard, verbose=options.verbose)


def _run_experiment(experiment: Experiment, options: TrainOptions) -> int:
    """Runs one experiment to its end, prints what came out, and returns the exit code."""
    from k24_rllib.experiments.interrupt import Interrupt

    print(
        f"{experiment.name}: {experiment.run} on {experiment.config['env']}, results in {experiment.directory}",
        flush=True,
    )
    if not experiment.stop and experiment.time_budget_s is None:
        print("note: the file gives no stop, so this runs until Ctrl-C")
    with Interrupt() as interrupt:
        trials = run_tune(experiment, options, interrupt)
    if interrupt.signal is not None:
        return _report_interrupt(experiment, options, trials, interrupt.signal)
    failed = [trial for trial in trials if trial.status == "ERROR"]
    for trial in trials:
        if trial not in failed:
            _report_trial(trial, options)
    for trial in failed:
        report_failure(trial)
    return 1 if failed else 0


def run_tune(experiment: Experiment, options: TrainOptions, interrupt: Any) -> list[Any]:
    """Hands the experiment to Tune and returns its trials."""
    from ray import tune
    from ray.tune.stopper import FunctionStopper

    from k24_rllib.experiments.interrupt import LeaveWhenPaused, PausingScheduler
    from k24_rllib.experiments.progress import Progress

    resume = options.resume and _can_resume(experiment)
    resume_config = tune.ResumeConfig(errored=tune.ResumeConfig.ResumeType.RESUME) if resume else None
    analysis = tune.run(
        experiment.run,
        name=experiment.name,
        config=experiment.config,
        stop=FunctionStopper(lambda trial_id, result: is_reached(experiment.stop, result)),
        time_budget_s=experiment.time_budget_s,
        num_samples=experiment.num_samples,
        checkpoint_config=tune.CheckpointConfig(**experiment.checkpoint_config),
        storage_path=experiment.storage_path,
        restore=str(find_checkpoint(experiment.restore)) if experiment.restore else None,
        resume_config=resume_config,
        max_failures=experiment.max_failures,
        max_concurrent_trials=options.max_concurrent,
        scheduler=PausingScheduler(interrupt),
        callbacks=[Progress(experiment.stop), LeaveWhenPaused(interrupt)],
        verbose=options.verbose,
        raise_on_failed_trial=False,
    )
    return list(analysis.trials)


def _report_trial(trial: Any, options: TrainOptions) -> None:
    """Evaluates a finished trial's last checkpoint and prints the result."""
    from k24_rllib.experiments.progress import duration

    result = trial.last_result or {}
    steps, seconds = result_value(result, ENV_STEPS) or 0, result_value(result, SECONDS) or 0
    print(f"\n{trial} finished: {steps:,.0f} environment steps in {duration(seconds)} of training")
    if trial.checkpoint is None:
        print("no checkpoint was asked for, so there is none to evaluate")
        return
    checkpoint = Path(trial.checkpoint.path)
    print(f"checkpoint     {checkpoint}", flush=True)
    for line in evaluate_checkpoint(checkpoint).lines():
        print(line)
    print(f"evaluate it    {evaluate_command(options.program, checkpoint, options.modules)}", flush=True)


def report_failure(trial: Any) -> None:
    """Prints why a trial failed, in one line, and where the whole story is."""
    log = Path(trial.path) / "error.txt"
    if not log.is_file():  # not copied there, or not on this machine
        log = Path(trial.error_file or log)
    lines = [line for line in log.read_text().splitlines() if line.strip()] if log.is_file() else []
    print(
        f"rllib: error: trial {trial} failed: {lines[-1] if lines else 'no reason given'}; all of it in {log}",
        file=sys.stderr,
    )


def _report_interrupt(experiment: Experiment, options: TrainOptions, trials: Sequence[Any], number: int) -> int:
    """Prints where the interrupted trials were saved and how to go on; returns the exit code that shells expect."""
    print(f"\n{experiment.name}: stopped by {signal.Signals(number).name}")
    for trial in trials:
        if trial.checkpoint is not None:
            print(f"checkpoint     {trial.checkpoint.path}")
        elif not trial.has_reported_at_least_once:
            print(f"no checkpoint  {trial} had not begun its first iteration")
    words = [options.program, "train", "-f", str(options.file)]
    if options.overrides.storage_path:
        words += ["--storage-path", options.overrides.storage_path]
    print(f"go on with     {shlex.join([*words, *import_words(options.modules), '--resume'])}", flush=True)
    return 128 + number
