"""Making a report of what is given, and writing it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.points_csv import read_points
from k24_rllib.comparison.runs import Environment, experiment_name, find_trials
from k24_rllib.comparison.sources import parse_source
from k24_rllib.experiments.checkpoints import find_checkpoint, policy_of
from k24_rllib.experiments.evaluate import score_reference
from k24_rllib.qmix.checkpoint_files import trial_checkpoints
from k24_rllib.qmix.manifest import read_manifest
from k24_rllib.report.episode import episode_section
from k24_rllib.report.facts import remake_section, summary_section
from k24_rllib.report.masks import masks_section
from k24_rllib.report.methods import comparison_sections
from k24_rllib.report.page import Page, Section, render
from k24_rllib.report.reading import Trial, read
from k24_rllib.report.search import is_search, search_sections
from k24_rllib.report.training import training_section

REPORT_FILE = "report.html"


def report_on(given: Sequence[str]) -> Page:
    """Returns the report of one run, of several, or of a search.

    Args:
        given: Directories of trials or experiments, or CSV files of evaluations, as `rllib compare` takes them;
            `NAME=PATH` gives a method a name.

    Raises:
        ConfigError: for a path that is no run's, naming the nearest. What is wrong with a run itself stands in the
            report.
    """
    sources = [parse_source(each) for each in given]
    for source in sources:
        if source.is_yaml:
            raise ConfigError(f"{source.path}: is a YAML file, expected a run's directory; rllib train runs a file")
    directories = [source for source in sources if source.path.is_dir()]
    tables = [source for source in sources if not source.path.is_dir()]
    if len(sources) == 1 and directories and is_search(directories[0].path):
        path = directories[0].path
        return Page(f"Search {path.absolute().name}", search_sections(path, _read_all([(path, None)])))
    trials = _read_all([(source.path, source.label) for source in directories])
    if len(trials) == 1 and not tables:
        return run_page(trials[0])
    others = [run for source in tables for run in read_points(source.path, source.label)]
    return Page(f"{len(trials) + len(others)} runs compared", comparison_sections(trials, others))


def write_report(given: Sequence[str], file: Path) -> None:
    """Writes the report of `given` as HTML; it is there as a whole or not at all.

    Raises:
        ConfigError: as `report_on` does, and for a file that can't be written.
    """
    text = render(report_on(given))
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, file)
    except OSError as error:
        raise ConfigError(f"{file}: can't be written ({error.strerror})") from None


def write_after_training(directory: Path) -> Path | None:
    """Writes `report.html` into an experiment's directory; what goes wrong is a warning, for training is done.

    Returns:
        The file, or None if there is none.
    """
    file = directory / REPORT_FILE
    try:
        write_report([str(directory)], file)
    except Exception as error:  # a report is no reason for a run to fail, whatever it is
        reason = " ".join(str(error).split())[:200]
        print(f"rllib: warning: no report: {type(error).__name__}: {reason}", file=sys.stderr, flush=True)
        return None
    return file


def run_page(trial: Trial) -> Page:
    """Returns the report of one run: summary, training, masks, an episode, and how to make it again."""
    reference = _reference(trial.run.environment)
    checkpoint, manifest, played = _of_checkpoint(trial)
    summary = summary_section(trial, reference)
    sections = [summary, training_section(trial, reference), *played, remake_section(trial, checkpoint, manifest)]
    name = experiment_name(trial.directory) if trial.run.label is None else trial.run.label
    return Page(f"{name}: {trial.run.algorithm or 'a run'} on {trial.run.environment}", sections)


def _read_all(given: Sequence[tuple[Path, str | None]]) -> list[Trial]:
    """Reads all trials in some directories, none twice."""
    trials: dict[Path, Trial] = {}
    for path, label in given:
        for directory in find_trials(path):
            if directory.resolve() not in trials:
                trials[directory.resolve()] = read(directory, label)
    return list(trials.values())


def _reference(environment: Environment) -> tuple[float, float] | None:
    """Returns the returns that the score's 0 and 1 stand for, where the environment is known and has them."""
    try:
        return score_reference(environment.name, environment.config)
    except Exception:  # of settings that nobody could have trained with, or an environment of the user's own
        return None


def _of_checkpoint(trial: Trial) -> tuple[Path | None, Mapping[str, Any] | None, list[Section]]:
    """Returns a run's last checkpoint, its manifest, and the sections made from it; or one that says why not."""
    try:
        checkpoint = find_checkpoint(str(trial.directory))
        manifest = read_manifest(checkpoint)
        policy = policy_of(checkpoint)
    except ConfigError as error:
        return None, None, [Section("Masks and an episode", notes=[f"are not here: {error}"])]
    sections = _damaged(trial, checkpoint)
    for title, make in (
        ("Masks", lambda: masks_section(policy.model.agent, _agents(trial))),
        ("An episode", lambda: episode_section(policy)),
    ):
        try:
            sections.append(make())
        except Exception as error:  # of an environment or a layer of the user's own, which raise whatever they like
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            sections.append(Section(title, notes=[f"is not here: {reason}"]))
    return checkpoint, manifest, sections


def _damaged(trial: Trial, used: Path) -> list[Section]:
    """Returns a section that says so, where the newest checkpoint is not the one that can be read."""
    newest = trial_checkpoints(trial.directory)[:1]
    if not newest or newest[0].name == used.name:
        return []
    note = f"{newest[0].name} is damaged; what follows is of {used.name}, the one before"
    return [Section("The last checkpoint", notes=[note])]


def _agents(trial: Trial) -> tuple[str, ...]:
    """Returns the names of the environment's agents, which are their masks' owners where there are as many."""
    from k24_rllib.envs import make_team_env

    env = make_team_env(trial.run.environment.name, 1, **trial.run.environment.config)
    names = env.agent_names
    env.close()
    return names
