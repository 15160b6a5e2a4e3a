"""Greedy episodes with a checkpoint's policy, and how good they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from k24_rllib.experiments.checkpoints import load_for_evaluation
from k24_rllib.qmix.league import ELO_FILE, ratings_told

DEFAULT_EPISODES = 100
DEFAULT_SEED = 0


@dataclass(frozen=True)
class Evaluation:
    """Greedy team returns of a policy, summed up."""

    episodes: int
    mean: float
    """Mean raw team return of an episode."""
    margin: float
    """Half the width of the mean's 95% confidence interval."""
    reference: tuple[float, float] | None
    """Returns of a random and of a scripted policy, the 0 and 1 of the score, where the environment knows them."""
    win_rate: float | None = None
    """Share of the episodes that were won, where the environment knows of winning."""
    ratings: str | None = None
    """The table of Elo ratings as CSV, of a run in which both sides learned (`opponents: self`)."""

    @classmethod
    def of(
        cls, returns: Sequence[float], reference: tuple[float, float] | None, won: Sequence[bool] | None = None
    ) -> Evaluation:
        """Sums up one return per episode."""
        count = len(returns)
        mean = math.fsum(returns) / count
        variance = math.fsum((value - mean) ** 2 for value in returns) / max(count - 1, 1)
        win_rate = None if won is None else sum(won) / count
        return cls(count, mean, 1.96 * math.sqrt(variance / count), reference, win_rate)

    def lines(self) -> list[str]:
        """Returns what to tell the user."""
        told = [
            f"greedy return  {self.mean:.2f} ± {self.margin:.2f}  "
            f"(raw team return: mean and 95% interval over {self.episodes} episodes)"
        ]
        if self.reference:
            random, scripted = self.reference
            told.append(
                f"score          {score(self.mean, self.reference):.3f} ± "
                f"{self.margin / abs(scripted - random):.3f}  (0 = random {random:g}, 1 = scripted {scripted:g})"
            )
        if self.win_rate is not None:
            told.append(f"win rate       {self.win_rate:.3f}  (share of the episodes that were won)")
        if self.ratings is not None:
            told += ratings_told(self.ratings)
        return told


def score(team_return: float, reference: tuple[float, float]) -> float:
    """Returns where `team_return` lies between a random policy (0) and a scripted one (1)."""
    random, scripted = reference
    return (team_return - random) / (scripted - random)


def score_reference(env: str, env_config: dict[str, Any] | None) -> tuple[float, float] | None:
    """Returns the environment's returns of a random and of a scripted policy, or None if it knows none."""
    from k24_rllib.envs import make_team_env

    team_env = make_team_env(env, 1, **(env_config or {}))
    reference = team_env.score_reference
    team_env.close()
    return reference


def evaluate_checkpoint(checkpoint: Path, episodes: int = DEFAULT_EPISODES, seed: int = DEFAULT_SEED) -> Evaluation:
    """Plays `episodes` greedy episodes with a checkpoint's policy; the same seed plays the same episodes."""
    algorithm = load_for_evaluation(checkpoint)
    try:
        played = algorithm.evaluate_greedy(episodes, seed=seed)
        reference = score_reference(algorithm.config.env, algorithm.config.env_config)
    finally:
        algorithm.stop()
    won = played["won"].tolist() if "won" in played else None
    evaluation = Evaluation.of(played["episode_returns"].tolist(), reference, won)
    ratings = checkpoint / ELO_FILE
    return replace(evaluation, ratings=ratings.read_text()) if ratings.is_file() else evaluation
