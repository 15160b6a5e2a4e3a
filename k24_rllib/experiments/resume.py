"""Going on with an interrupted run: by what Tune wrote of it, or from its trials' checkpoints where that is damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.experiments.experiment import Experiment
from k24_rllib.experiments.storage import RESULTS_FILE
from k24_rllib.qmix.checkpoint_files import checkpoint_number, find_sound, trial_checkpoints
from k24_rllib.qmix.manifest import DamagedCheckpointError

CONFIG_FILE = "params.json"
_STATES = ("basic-variant-state-*.json", "search_gen_state-*.json", "searcher-state-*.pkl", "callback-states-*.pkl")
"""What Tune reads beside an experiment's state; where one can't be read it begins the run anew, without a word."""
_RUN_OF_TRIAL = re.compile(r"_([0-9a-f]{5})_\d{5}(?:_|$)")
"""In the name of a trial's directory, what all trials of one run have in common."""


@dataclass(frozen=True)
class Restart:
    """A trial that is started again by its settings, in its own directory."""

    directory: Path
    config: dict[str, Any]
    checkpoint: Path | None
    """Where it goes on; None begins anew."""

    def as_tunes(self, run: str, settings: Mapping[str, Any]) -> Any:
        """Returns the trial as Tune takes it: as an experiment, whose results and checkpoints follow those there.

        Args:
            run: The algorithm's name.
            settings: What else Tune's `Experiment` is to be told.
        """
        from ray.tune.experiment import Experiment as TunesExperiment

        _drop_half_a_line(self.directory / RESULTS_FILE)
        restore, name = str(self.checkpoint) if self.checkpoint else None, self.directory.name
        made = TunesExperiment(
            run=run, config=self.config, restore=restore, trial_dirname_creator=lambda trial: name, **settings
        )
        made.storage.current_checkpoint_index = max(map(_number, trial_checkpoints(self.directory)), default=-1)
        return made


@dataclass(frozen=True)
class Plan:
    """How a run goes on: as Tune knows it, or by `restarts` where Tune's state is of no use."""

    restarts: tuple[Restart, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user is to be told of damage."""


def check_resume(experiments: Sequence[Experiment]) -> None:
    """Checks that at least one of the experiments was begun, and can go on; one that wasn't begun simply starts.

    Raises:
        ConfigError: naming where there is nothing, or what is damaged beyond use.
    """
    begun = [experiment for experiment in experiments if plan_resume(experiment) is not None]
    if not begun:
        places = ", ".join(experiment.directory for experiment in experiments)
        raise ConfigError(f"--resume: nothing to resume in {places}, expected the directory of an interrupted run")
    from k24_rllib.experiments.search import check_section

    for experiment in begun:
        if experiment.local_directory is not None:
            check_section(experiment.local_directory, experiment.tune)


def plan_resume(experiment: Experiment) -> Plan | None:
    """Returns how an experiment goes on, or None where there is nothing of it.

    Raises:
        ConfigError: for a trial all of whose checkpoints are damaged, or a search whose memory is.
    """
    trials, problem = _tunes_trials(experiment)
    directory = experiment.local_directory
    if directory is None:
        return Plan() if trials else None
    if not problem:
        problem, notes = _check_checkpoints(trials)
        if not problem:
            return Plan(notes=notes) if trials else None
    return _plan_restarts(experiment, directory, problem)


def _tunes_trials(experiment: Experiment) -> tuple[list[Any], str]:
    """Returns the trials that Tune's state has, and what is wrong with that state, or nothing."""
    from ray.tune import ExperimentAnalysis

    try:
        trials = ExperimentAnalysis(experiment.directory).trials
        for pattern in _STATES:
            _read_state(experiment.local_directory, pattern)
    except Exception as error:  # of a damaged state, anything
        missing = "No experiment snapshot file" in str(error)
        return [], "is missing" if missing else f"can't be read ({type(error).__name__})"
    return list(trials), "" if trials else "is empty"


def _read_state(directory: Path | None, pattern: str) -> None:
    from ray import cloudpickle

    files = sorted(directory.glob(pattern)) if directory is not None else []
    if files:
        cloudpickle.loads(files[-1].read_bytes())


def _check_checkpoints(trials: Sequence[Any]) -> tuple[str, tuple[str, ...]]:
    """Looks at the checkpoints from which Tune would go on, and returns what makes its state useless, and notes."""
    notes = []
    for trial in trials:
        if trial.status == "TERMINATED" or trial.checkpoint is None:
            continue
        checkpoint = Path(trial.checkpoint.path)
        if not checkpoint.is_dir():
            return f"names {checkpoint.name}, which is gone", ()
        _, note = find_sound(checkpoint)
        notes += [note] if note else []
    return "", tuple(notes)


def _plan_restarts(experiment: Experiment, directory: Path, problem: str) -> Plan | None:
    """Returns how the trials of the newest run in a directory go on without Tune's state."""
    unfinished = [trial for trial in _newest_run(directory) if not _is_done(trial)]
    found = {trial: _newest_sound(trial) for trial in unfinished}
    sound = [checkpoint for checkpoint, _ in found.values() if checkpoint is not None]
    if not sound:
        return None
    if experiment.tune is not None:
        raise ConfigError(
            f"--resume: Tune's state of the search {problem}, so what it has tried is forgotten; expected --restore "
            f"of one trial's checkpoint, as {sound[0]}"
        )
    note = f"note: Tune's state in {directory} {problem}; going on from the checkpoints of {len(sound)} of its trials"
    restarts = tuple(Restart(trial, _config_of(experiment, trial), its) for trial, (its, _) in found.items())
    return Plan(restarts, (note, *(damage for _, damage in found.values() if damage)))


def _newest_run(directory: Path) -> list[Path]:
    """Returns the directories of the trials of the run that wrote last."""
    trials = [path for path in directory.glob("*") if path.is_dir() and _written(path)]
    if not trials:
        return []
    newest = max(trials, key=_written)
    run = _RUN_OF_TRIAL.search(newest.name)
    return sorted(trial for trial in trials if trial == newest or (run and run[0][:7] in trial.name))


def _written(trial: Path) -> int:
    """Returns when a trial's results or checkpoints were last written, 0 for a directory that has neither."""
    files = [trial / RESULTS_FILE, trial / CONFIG_FILE, *trial_checkpoints(trial)]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def _number(checkpoint: Path) -> int:
    return checkpoint_number(checkpoint) or 0


def _drop_half_a_line(file: Path) -> None:
    """Cuts what a full disk has left of the last result, after which others will be written."""
    if file.is_file():
        with file.open("r+b") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)


def _is_done(trial: Path) -> bool:
    """Returns whether a trial's last result says that it reached its end."""
    try:
        return bool(json.loads((trial / RESULTS_FILE).read_text().splitlines()[-1]).get("done"))
    except (OSError, ValueError, IndexError, AttributeError):
        return False


def _newest_sound(trial: Path) -> tuple[Path | None, str]:
    """Returns a trial's newest sound checkpoint, and what there is to say of newer ones."""
    checkpoints = trial_checkpoints(trial)
    try:
        return find_sound(checkpoints[0]) if checkpoints else (None, "")
    except DamagedCheckpointError as error:
        return None, f"note: {trial.name} has no sound checkpoint ({error.what}) and begins anew"


def _config_of(experiment: Experiment, trial: Path) -> dict[str, Any]:
    """Returns the settings of a trial as it was begun, or the file's where those can't be read and it has one point."""
    try:
        content = json.loads((trial / CONFIG_FILE).read_bytes())
        if isinstance(content, dict) and content:
            return content
    except (OSError, ValueError):
        pass
    points = list(experiment.points)
    if len(points) > 1:
        raise ConfigError(f"--resume: {trial / CONFIG_FILE} can't be read, expected the settings of that trial")
    return points[0]
