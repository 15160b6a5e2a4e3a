"""What a run was: settings, seed, versions, machine, and the commands that remake it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from k24_rllib.comparison.runs import UPDATES, experiment_name
from k24_rllib.experiments.evaluate import score
from k24_rllib.experiments.stopping import ENV_STEPS, SECONDS, result_value
from k24_rllib.report.page import Section, Table
from k24_rllib.report.reading import Trial
from k24_rllib.reporting import duration, machine, versions

PACKAGES = ("torch", "ray", "numpy")


def summary_section(trial: Trial, reference: tuple[float, float] | None) -> Section:
    """Returns how far a run came, and how good it was."""
    rows = [
        ["what", "value"],
        ["algorithm", trial.run.algorithm or "not known"],
        ["environment", str(trial.run.environment)],
        ["seed", "none given" if trial.run.seed is None else str(trial.run.seed)],
        ["status", trial.status],
        ["environment steps", f"{trial.steps:,}"],
        *_speed(trial.last),
        *_returns(trial, reference),
    ]
    return Section("Summary", notes=trial.notes, tables=[Table(rows)])


def _speed(last: Mapping[str, Any]) -> list[list[str]]:
    steps, seconds, updates = (result_value(last, key) for key in (ENV_STEPS, SECONDS, UPDATES))
    if not steps or not seconds:
        return []
    rows = [["training time", duration(seconds)], ["speed", f"{steps / seconds:,.0f} environment steps/s"]]
    return rows if updates is None else [*rows, ["updates", f"{updates:,.0f} ({updates / seconds:,.1f}/s)"]]


def _returns(trial: Trial, reference: tuple[float, float] | None) -> list[list[str]]:
    points = trial.run.points
    if not points:
        return []
    best = max(points, key=lambda point: point.greedy_return)
    rows = []
    for name, point in (("last greedy return", points[-1]), ("best greedy return", best)):
        scored = "" if reference is None else f" (score {score(point.greedy_return, reference):.2f})"
        rows.append([name, f"{point.greedy_return:.2f}{scored} at {point.env_steps:,} steps"])
    return rows


def remake_section(trial: Trial, checkpoint: Path | None, manifest: Mapping[str, Any] | None) -> Section:
    """Returns the settings, what a run was made with, the file and the commands that make it again.

    Args:
        trial: The run.
        checkpoint: Its last checkpoint that can be read.
        manifest: What that says of the versions that wrote it; older ones have none.
    """
    settings = [["setting", "value"], *([key, _value(value)] for key, value in sorted(trial.given.items()))]
    tables = [Table(settings, "Settings as given; all others are the algorithm's defaults")]
    notes = []
    wrote = (manifest or {}).get("versions")
    if isinstance(wrote, Mapping):
        rows = [["versions that trained it", "value"], *([str(name), str(version)] for name, version in wrote.items())]
        tables.append(Table(rows))
    else:
        notes.append("its checkpoint does not tell with which versions it was trained")
    here = {**versions(PACKAGES), **{key: str(value) for key, value in machine().items()}}
    tables.append(Table([["this report was made with", "value"], *([key, value] for key, value in here.items())]))
    return Section("Settings, versions, and how to make it again", notes, tables, text=_commands(trial, checkpoint))


def _value(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _commands(trial: Trial, checkpoint: Path | None) -> str:
    """Returns the experiment file of one run, and commands."""
    lines: list[str] = []
    if trial.run.algorithm is not None and trial.given.get("env"):
        lines += [
            "# again.yaml: this run as a file of its own. Train it by: rllib train -f again.yaml",
            experiment_file(trial),
        ]
    if checkpoint is not None:
        place = shlex.quote(str(trial.directory / checkpoint.name))
        lines += [f"rllib evaluate {place}", f"rllib play {place} --gif episodes.gif"]
    lines.append(f"rllib report {shlex.quote(str(trial.directory))}")
    return "\n".join(lines)


def experiment_file(trial: Trial) -> str:
    """Returns a file for `rllib train` that trains a run again, up to where it ended."""
    config = {key: value for key, value in trial.given.items() if key != "env"}
    experiment = {
        "run": trial.run.algorithm,
        "env": trial.given["env"],
        "stop": {"timesteps_total": trial.steps},
        "checkpoint_config": {"checkpoint_at_end": True},
        "config": config,
    }
    text: str = yaml.safe_dump({experiment_name(trial.directory): experiment}, sort_keys=False, allow_unicode=True)
    return text
