"""The stop values that a run began with: `--resume` goes on to them, whatever the file says by then."""

from __future__ import annotations

import json
from dataclasses import replace

from k24_rllib.experiments.experiment import Experiment

GOAL_FILE = "k24_stop.json"


def with_goal(experiment: Experiment, *, resume: bool) -> Experiment:
    """Returns the experiment with the stop values that Tune obeys, and leaves those of a new run beside its results.

    Where the results are not on this machine, or no such file was left there, the file's word stands.
    """
    directory = experiment.local_directory
    if directory is None:
        return experiment
    note = directory.expanduser() / GOAL_FILE
    if not resume:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(experiment.stop) + "\n")
        return experiment
    try:
        begun = json.loads(note.read_text())
    except (OSError, ValueError):
        return experiment
    return replace(experiment, stop=begun) if isinstance(begun, dict) else experiment
