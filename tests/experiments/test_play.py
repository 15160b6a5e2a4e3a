"""Episodes that a checkpoint's team plays: the same as an evaluation's, filmed, with the values behind each action."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.envs import PettingZooTeamEnv, make_team_env
from k24_rllib.experiments.checkpoints import policy_of
from k24_rllib.experiments.evaluate import evaluate_checkpoint
from k24_rllib.experiments.play import SIDE, play
from tests.checkpoint_damage import lay_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return lay_checkpoint(tmp_path / "checkpoint_000001")


def test_the_episodes_are_those_of_an_evaluation(checkpoint: Path, ray_session: None) -> None:
    played = play(policy_of(checkpoint), 6, seed=3)
    evaluated = evaluate_checkpoint(checkpoint, 6, seed=3)
    assert played.returns.mean() == pytest.approx(evaluated.mean, rel=1e-12)
    assert evaluated.mean != pytest.approx(evaluate_checkpoint(checkpoint, 6, seed=4).mean)


def test_the_values_are_those_that_decided(checkpoint: Path) -> None:
    played = play(policy_of(checkpoint), 4, seed=0)
    available = played.episodes.avail_actions[:, :-1]
    best = np.where(available, played.values, -np.inf).argmax(-1)
    taken = played.episodes.valid()
    assert (best == played.episodes.actions)[taken].all()
    assert len(np.unique(played.values[taken])) > 100


def test_a_film_has_the_beginning_and_every_step_of_the_first_episodes(checkpoint: Path) -> None:
    policy = policy_of(checkpoint)
    policy.model.agent.layers()[-1].bias.data[1] += 100.0  # all go to the left, as this team stands still
    played = play(policy, 3, seed=0, filmed=2)
    assert [len(frames) for frames in played.frames] == (played.episodes.lengths[:2] + 1).tolist()
    first = played.frames[0]
    assert max(first[0].shape[:2]) == SIDE
    assert first[0].dtype == np.uint8
    moved = [(frame != before).any() for before, frame in itertools.pairwise(first)]
    assert moved == [False] + [True] * (len(moved) - 1)  # the first step of MPE changes speeds alone
    assert (first[0] != played.frames[1][0]).any()
    short = play(policy, 1, seed=0, filmed=1, most_frames=2)
    assert len(short.frames[0]) == 2
    assert (short.frames[0][1] == first[1]).all()


def test_filming_changes_no_episode(checkpoint: Path) -> None:
    policy = policy_of(checkpoint)
    assert (play(policy, 3, seed=1).returns == play(policy, 3, seed=1, filmed=3).returns).all()


def test_an_environment_that_ends_early_is_not_filmed_further() -> None:
    from k24_rllib.experiments.play import Film

    class Drawn:
        def render(self, copy: int) -> np.ndarray:
            return np.full((4, 4, 3), copy, np.uint8)

    class Step:
        def __init__(self, done: list[bool]) -> None:
            self.done = np.array(done)

    film = Film(2, most_frames=10)
    for done in ([False, False], [True, False], [True, False], [True, True]):
        film(Drawn(), Step(done))  # type: ignore[arg-type]
    assert [len(frames) for frames in film.frames] == [2, 4]


def test_what_can_be_drawn() -> None:
    spread = make_team_env("mpe_simple_spread", 2, N=2)
    assert spread.reset(seed=0) is not None
    picture = spread.render(1)
    assert picture is not None
    assert picture.ndim == 3
    matrix = make_team_env("matrix_climbing", 2)
    matrix.reset(seed=0)
    assert matrix.render() is None


@pytest.mark.parametrize(("mode", "drawn"), [("rgb_array", True), (None, False)])
def test_a_pettingzoo_environment_is_drawn_where_it_was_made_to_be(mode: str | None, drawn: bool) -> None:
    from mpe2 import simple_spread_v3

    def make() -> object:
        return simple_spread_v3.parallel_env(N=2, render_mode=mode)

    env = PettingZooTeamEnv(make, 1, episode_limit=25)
    env.reset(seed=0)
    assert (env.render() is not None) == drawn


def test_weights_that_are_no_numbers_play_nothing(checkpoint: Path) -> None:
    policy = policy_of(checkpoint)
    next(policy.model.parameters()).data.fill_(float("nan"))
    with pytest.raises(ConfigError, match="so it plays no episode"):
        play(policy, 1, seed=0)


def test_the_number_of_episodes(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="episodes: got 0"):
        play(policy_of(checkpoint), 0, seed=0)
