"""Runs that were cut short: what is said of them, and how they go on where files of theirs are damaged."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.runs import read_results
from k24_rllib.experiments import Experiment, Overrides, RunOptions, ray_for, read_experiments, run_experiment
from k24_rllib.experiments.resume import check_resume, plan_resume
from k24_rllib.experiments.stopping import ENV_STEPS, result_value
from k24_rllib.qmix.checkpoint_files import checkpoint_number, trial_checkpoints
from tests.checkpoint_damage import flip_bit

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Tune's loop ends by SIGUSR1")
Capture = pytest.CaptureFixture[str]
SEEDS = 2


def stop_when_saved(directory: Path, number: int) -> None:
    """Ends Tune's loop as soon as every trial in a directory has a checkpoint of this number, or a later one."""

    def wait() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            saved = [path.parent for path in directory.glob("*/checkpoint_*/manifest.json")]
            if len({path.parent for path in saved if (checkpoint_number(path) or 0) >= number}) == SEEDS:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=wait, daemon=True).start()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, tiny_once: dict[str, Any], ray_session: None) -> Experiment:
    """Two trials that a SIGUSR1 from outside has cut short, each with a few checkpoints."""
    place = tmp_path_factory.mktemp("begun")
    tiny_once["stop"] = {"training_iteration": 100_000}
    tiny_once["checkpoint_config"] = {"checkpoint_frequency": 2, "num_to_keep": 4}
    tiny_once["config"]["total_env_steps"] = 1_000_000
    (place / "tiny.yaml").write_text(yaml.safe_dump({"tiny": tiny_once}))
    overrides = Overrides(storage_path=str(place), seeds=list(range(SEEDS)))
    (experiment,) = read_experiments(place / "tiny.yaml", overrides)
    stop_when_saved(place / "tiny", number=2)
    with ray_for([experiment], RunOptions()):
        outcome = run_experiment(experiment)
    assert outcome.stopped_by is None
    assert (outcome.finished, outcome.failed) == ([], [])
    lines = outcome.problems()
    assert len(lines) == len(outcome.unfinished) == SEEDS
    for line, trial in zip(lines, outcome.unfinished, strict=True):
        steps = result_value(trial.last_result, ENV_STEPS)
        assert f"was not finished: it was stopped from outside at {steps:,.0f} environment steps" in line
        assert trial.checkpoint.path in line
        for checkpoint in trial_checkpoints(Path(trial.path)):
            if checkpoint.name > Path(trial.checkpoint.path).name:  # was being saved when the loop ended
                shutil.rmtree(checkpoint)
    return experiment


@pytest.fixture
def again(begun: Experiment, tmp_path: Path) -> Experiment:
    """The same in a place of its own, to be damaged."""
    shutil.copytree(begun.directory, tmp_path / "tiny")
    return replace(begun, storage_path=str(tmp_path), config=copy.deepcopy(begun.config))


def trials_of(experiment: Experiment) -> list[Path]:
    assert experiment.local_directory is not None
    return sorted(path for path in experiment.local_directory.iterdir() if path.is_dir())


def damage_all(trial: Path) -> None:
    for checkpoint in trial_checkpoints(trial):
        flip_bit(checkpoint / "algorithm_state.pkl", 12345)


def test_what_is_sound_goes_on_as_tune_knows_it(again: Experiment) -> None:
    plan = plan_resume(again)
    assert plan is not None
    assert (plan.restarts, plan.notes) == ((), ())


def test_a_damaged_newest_checkpoint_is_said(again: Experiment) -> None:
    newest, before, *_ = trial_checkpoints(trials_of(again)[0])
    flip_bit(newest / "policies/default_policy/policy_state.pkl", 77)
    plan = plan_resume(again)
    assert plan is not None
    assert plan.restarts == ()
    (note,) = plan.notes
    assert note.startswith(f"note: {newest.name}: policies/default_policy/policy_state.pkl is damaged")
    assert note.endswith(f"; {before.name}, the one before, is used")


def test_a_trial_without_any_sound_checkpoint_is_refused(again: Experiment) -> None:
    damage_all(trials_of(again)[1])
    with pytest.raises(ConfigError, match=r"checkpoint_\d+: algorithm_state.pkl is damaged"):
        check_resume([again])


@pytest.mark.parametrize("pattern", ["experiment_state-*.json", "basic-variant-state-*.json"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, None])
def test_tunes_state_cut_short_or_gone(again: Experiment, pattern: str, kept: float | None) -> None:
    assert again.local_directory is not None
    (file,) = again.local_directory.glob(pattern)
    if kept is not None:
        with file.open("r+b") as opened:
            opened.truncate(int(kept if kept != 0.5 else file.stat().st_size / 2))
    elif pattern.startswith("basic"):
        pytest.skip("Tune does without")
    else:
        file.unlink()
    plan = plan_resume(again)
    assert plan is not None
    assert [restart.config["seed"] for restart in plan.restarts] == [0, 1]
    newest = [trial_checkpoints(trial)[0] for trial in trials_of(again)]
    assert [restart.checkpoint for restart in plan.restarts] == newest
    assert plan.notes[0].startswith(f"note: Tune's state in {again.directory} ")
    assert plan.notes[0].endswith("going on from the checkpoints of 2 of its trials")


def test_a_checkpoint_that_tune_names_and_is_gone(again: Experiment) -> None:
    """As where the state was written before the checkpoints that have taken its place."""
    newest, before, *_ = trial_checkpoints(trials_of(again)[0])
    shutil.rmtree(newest)
    plan = plan_resume(again)
    assert plan is not None
    assert plan.restarts[0].checkpoint == before
    assert f"names {newest.name}, which is gone" in plan.notes[0]


def test_nothing_is_left(again: Experiment) -> None:
    assert again.local_directory is not None
    for trial in trials_of(again):
        damage_all(trial)
    next(again.local_directory.glob("experiment_state*")).unlink()
    with pytest.raises(ConfigError, match="nothing to resume"):
        check_resume([again])


def test_a_full_disk_leaves_files_of_no_length(begun: Experiment, again: Experiment, capsys: Capture) -> None:
    """Tune's files are empty then, and the newest checkpoint is half there: it goes on with the others."""
    again.config["seed"] = 1
    first, trial = trials_of(again)
    shutil.rmtree(first)
    for file in [*Path(again.directory).glob("*.json"), *trial.glob("*.*")]:
        file.write_bytes(b"")
    newest, before, *_ = trial_checkpoints(trial)
    (newest / "manifest.json").unlink()
    (newest / "algorithm_state.pkl").write_bytes(b"")
    saved = (before / "manifest.json").read_bytes()
    shutil.copy(begun.local_directory / trial.name / "result.json", trial)
    with (trial / "result.json").open("a") as opened:
        opened.write('{"training_iteration": 12345')  # half a line
    results = len((begun.local_directory / trial.name / "result.json").read_text().splitlines())
    stopped = replace(again, stop={ENV_STEPS: 1_000}, checkpoint_config={"checkpoint_at_end": True})
    with ray_for([stopped], RunOptions(resume=True)):
        outcome = run_experiment(stopped, RunOptions(resume=True))
    printed = capsys.readouterr().out
    assert "can't be read (JSONDecodeError); going on from the checkpoints of 1 of its trials" in printed
    assert f"{newest.name}: is incomplete: manifest.json is missing; {before.name}, the one before, is used" in printed
    assert (outcome.problems(), len(outcome.finished)) == ([], 1)
    assert outcome.finished[0].config["seed"] == 1
    assert (
        outcome.finished[0].last_result["iterations_since_restore"]
        < outcome.finished[0].last_result["training_iteration"]
    )
    assert (before / "manifest.json").read_bytes() == saved
    assert trials_of(again) == [trial]
    assert trial_checkpoints(trial)[0].name > newest.name
    iterations = [its["training_iteration"] for its in read_results(trial)]
    assert iterations == list(range(1, iterations[-1] + 1))
    assert len((trial / "result.json").read_text().splitlines()) > results


def test_the_trial_itself_goes_back_to_the_one_before(again: Experiment, capsys: Capture) -> None:
    """Tune restores by its own state, in the trial's process, which finds the same damage."""
    went_back = []
    for trial in trials_of(again):
        newest, before, *_ = trial_checkpoints(trial)
        flip_bit(newest / "algorithm_state.pkl", 4242)
        went_back.append(2 * (checkpoint_number(before) or 0) + 2)  # its iteration
    last = max(checkpoint_number(trial_checkpoints(trial)[0]) or 0 for trial in trials_of(again))
    stop_when_saved(Path(again.directory), number=last + 1)
    outcome = run_experiment(again, RunOptions(resume=True))
    assert capsys.readouterr().out.count("the one before, is used") == SEEDS
    results = [trial.last_result for trial in sorted(outcome.trials, key=lambda trial: trial.trial_id)]
    assert [its["training_iteration"] - its["iterations_since_restore"] for its in results] == went_back
