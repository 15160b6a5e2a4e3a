"""Who plays whom in self-play, and who is stronger: players, pools of them and Elo ratings. Knows no network, no Ray.

A player is a side's team as it was at a time. Shapes: `E` episodes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST_ELO = 1000.0
ELO_STEP = 16.0
"""Most that a round moves a rating; more follows sooner, and is less sure."""
ELO_SCALE = 400.0
"""A rating so much higher wins ten of eleven games, as in chess."""
HARDNESS = 2.0
"""Pool members are drawn in proportion to the share of games that they win, to this power (PFSP, Vinyals et al. 2019:
f_hard): what no longer wins is hardly played."""
ELO_FILE = "elo.csv"
"""The table of ratings in a checkpoint."""
RECENT = 0.1
"""Weight of the newest round in a moving mean."""


def games_won(margins: NDArray[np.floating], par: float) -> NDArray[np.float64]:
    """Returns how far a side has won its games, `[E]`: 1 won, 0 lost, 0.5 drawn.

    A game is decided by its margin, the side's return less the other's, each the mean over its agents. Rewards of MPE
    are not even: prey can only lose. So a side has won if the margin is above par, what games have come to of late
    (`SelfPlay`); whatever one side wins the other loses.

    Args:
        margins: `[E]`.
        par: The margin of an even game, from the side's view.
    """
    return (np.sign(margins - par) + 1.0) / 2.0


@dataclass
class Player:
    """A side's team as it was after `steps` environment steps, or, while it learns, as it is."""

    side: str
    steps: int
    weights: dict[str, Any] | None = None
    """Of its agents (`QMixTorchPolicy.get_weights`); None for the learner, and for what has left the pool."""
    elo: float = FIRST_ELO
    rounds: int = 0
    beaten: float = 0.5
    """Share of its games that the other side's learner has won against it of late, a moving mean."""

    @property
    def name(self) -> str:
        """The side and the steps."""
        return f"{self.side}@{self.steps}"

    def met(self, learner: Player, score: float) -> None:
        """Takes note of a round against the other side's learner, which won `score` of its games; both ratings move.

        Args:
            learner: Who won.
            score: From 0 to 1.
        """
        surprise = score - expected_score(learner.elo, self.elo)
        learner.elo += ELO_STEP * surprise
        self.elo -= ELO_STEP * surprise
        self.beaten = moved(self.beaten, score)
        self.rounds += 1
        learner.rounds += 1


def expected_score(elo: float, other: float) -> float:
    """Returns the share of games that a player of rating `elo` wins against one of rating `other` (Elo 1978)."""
    return float(1.0 / (1.0 + 10.0 ** ((other - elo) / ELO_SCALE)))


def moved(mean: float, value: float) -> float:
    """Returns a moving mean after one more value."""
    return mean + RECENT * (value - mean)


class Pool:
    """The snapshots of one side that the other plays against.

    Args:
        size: Snapshots kept. Once there are more, the one that is beaten most surely leaves, the oldest of several.

    Attributes:
        members: Those kept, by age.
        retired: Those that have left: their ratings stay in the table.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.members: list[Player] = []
        self.retired: list[Player] = []

    def add(self, player: Player) -> None:
        """Takes in a snapshot; the newest stays."""
        self.members.append(player)
        while len(self.members) > self._size:
            candidates = self.members[:-1] or self.members
            leaving = max(candidates, key=lambda member: member.beaten)
            self.members = [member for member in self.members if member is not leaving]
            leaving.weights = None
            self.retired.append(leaving)

    def chances(self) -> NDArray[np.float64]:
        """Returns the probability of drawing each member: those come first that beat the other side's learner."""
        wins = (1.0 - np.array([member.beaten for member in self.members])) ** HARDNESS
        if wins.sum() <= 0.0:  # every one is beaten always
            wins = np.ones(len(self.members))
        chances: NDArray[np.float64] = wins / wins.sum()
        return chances

    def draw(self, rng: np.random.Generator) -> Player:
        """Returns a member, drawn by `chances`."""
        return self.members[int(rng.choice(len(self.members), p=self.chances()))]

    def get_state(self) -> dict[str, list[dict[str, Any]]]:
        """Returns all players as plain values and arrays."""
        return {"members": plain(self.members), "retired": plain(self.retired)}

    def set_state(self, state: dict[str, list[dict[str, Any]]]) -> None:
        """Takes over what `get_state` returned."""
        self.members = [Player(**player) for player in state["members"]]
        self.retired = [Player(**player) for player in state["retired"]]


def plain(players: Iterable[Player]) -> list[dict[str, Any]]:
    """Returns players as plain values and arrays of their own."""
    return [asdict(player) for player in players]


def ratings_told(table: str, most: int = 12) -> list[str]:
    """Returns the strongest rows of `elo_table`, for reading; those who have left the pool are left out."""
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["in_pool"] != "no"]
    lines = [f"{'player':<24}{'elo':>8}{'rounds':>8}{'beaten':>8}"]
    lines += [f"{row['player']:<24}{row['elo']:>8}{row['rounds']:>8}{row['beaten']:>8}" for row in rows[:most]]
    return lines


COLUMNS = ("player", "side", "env_steps", "elo", "rounds", "beaten", "in_pool")


def elo_table(learners: Sequence[Player], pools: Sequence[Pool]) -> str:
    """Returns the ratings of all players as CSV, the strongest first; the learners are called by their side alone."""
    rows = [(learner.side, learner, "learner") for learner in learners]
    for pool in pools:
        rows += [(player.name, player, "yes") for player in pool.members]
        rows += [(player.name, player, "no") for player in pool.retired]
    rows.sort(key=lambda row: -row[1].elo)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, player, place in rows:
        beaten = f"{player.beaten:.3f}" if place != "learner" else ""
        writer.writerow((name, player.side, player.steps, f"{player.elo:.1f}", player.rounds, beaten, place))
    return text.getvalue()
