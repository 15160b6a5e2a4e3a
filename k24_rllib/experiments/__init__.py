"""Experiment files: reading and checking them, running them through Ray Tune, evaluating what they leave.

From Python as `rllib train` does it:

    experiment, = read_experiments("tuned_examples/k24_spread.yaml", Overrides(stop=["timesteps_total=100000"]))
    outcome = run_experiment(experiment)
    for trial in outcome.finished:
        print(evaluate_checkpoint(trial.checkpoint.path).mean)
"""

from k24_rllib.experiments.checkpoints import find_checkpoint
from k24_rllib.experiments.describe import settings_lines, starter_file
from k24_rllib.experiments.evaluate import Evaluation, evaluate_checkpoint
from k24_rllib.experiments.experiment import Experiment, Overrides, build_config, read_experiments
from k24_rllib.experiments.run import Outcome, RunOptions, failure, ray_for, run_experiment

__all__ = [
    "Evaluation",
    "Experiment",
    "Outcome",
    "Overrides",
    "RunOptions",
    "build_config",
    "evaluate_checkpoint",
    "failure",
    "find_checkpoint",
    "ray_for",
    "read_experiments",
    "run_experiment",
    "settings_lines",
    "starter_file",
]
