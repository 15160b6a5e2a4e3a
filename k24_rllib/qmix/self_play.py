"""Self-play, `opponents: self`: both sides of a two-team game learn at once, two policies in one algorithm.

The other side is a second algorithm of the same kind, which the first one holds: network, optimizer, replay buffer,
schedules, callbacks and random streams are what they are for any learner, and so is their checkpoint. The sides play in
turn, a round each, and learn from it, so that neither waits for the other to be done. In a side's round the other is a
part of the environment, frozen: as it is now, or an earlier snapshot of it, drawn from a pool. One simulation could
serve both sides where both are as they are now; but games against a snapshot have something to teach to one side alone,
simulating is a small part of a round, and rounds remain what everything else here takes them for: a function of seed,
number and weights.

What a game is, how it is won, and who is drawn: `k24_rllib.qmix.league`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED

from k24_rllib.envs.mpe.two_team import SELF, TEAMS, TwoTeamMPE
from k24_rllib.qmix.league import ELO_FILE, Player, Pool, elo_table, games_won, moved
from k24_rllib.qmix.opponents import NetworkTeam, play_against
from k24_rllib.qmix.streams import undisturbed
from k24_rllib.qmix.weights import save_weights

if TYPE_CHECKING:
    from k24_rllib.models import TeamModel
    from k24_rllib.qmix.config import QMixConfig
    from k24_rllib.qmix.qmix import QMix

OTHER_SIDE = "other_side"
"""What the second policy is called, beside `default_policy`."""


class Side:
    """A side's learner and its earlier selves.

    Args:
        algorithm: What learns.
        name: The side's, one of `TEAMS`.
        config: The settings of self-play.

    Attributes:
        algorithm: What learns.
        player: The learner's rating.
        pool: Its snapshots, which the other side plays against.
        won: Share of its games that it has won of late: against the other side as it is, a moving mean.
    """

    def __init__(self, algorithm: QMix, name: str, config: QMixConfig) -> None:
        self.algorithm = algorithm
        self.player = Player(name, 0)
        self.pool = Pool(config.self_play_pool)
        self.won = 0.5
        self._interval = config.self_play_interval
        policy = algorithm.policy
        with undisturbed(policy.device):
            self._spare: TeamModel = policy.make_model().to(policy.device)  # plays with a snapshot's weights

    def keep_snapshot(self) -> None:
        """Puts the learner as it is into the pool, at the start and where another multiple of the interval is past."""
        steps, pool = self.algorithm._counters[NUM_ENV_STEPS_SAMPLED], self.pool
        if not pool.members or steps // self._interval > self.player.steps // self._interval:
            weights = {name: value.copy() for name, value in self.algorithm.policy.get_weights().items()}
            pool.add(Player(self.player.side, steps, weights, elo=self.player.elo))
        self.player.steps = steps

    def as_opponents(self, player: Player) -> NetworkTeam:
        """Returns one of this side's players as the opponents in the other's environment."""
        if player is self.player:
            return NetworkTeam(self.algorithm.policy.model)
        device = self.algorithm.policy.device
        weights = {name: torch.from_numpy(np.array(value)).to(device) for name, value in (player.weights or {}).items()}
        self._spare.agent.load_state_dict(weights)
        return NetworkTeam(self._spare)

    def results(self, against: Pool) -> dict[str, Any]:
        """Returns what results tell of this side; `against` has the snapshots that it plays against."""
        beaten = {member.name: member.beaten for member in against.members}
        return {
            "elo": self.player.elo,
            "elo_first": min((*self.pool.retired, *self.pool.members), key=lambda member: member.steps).elo,
            "win_rate": self.won,
            "win_rate_pool": float(np.mean(list(beaten.values()))),
            "win_rates": beaten,
        }

    def get_state(self) -> dict[str, Any]:
        """Returns what is not the algorithm's own state."""
        return {"player": asdict(self.player), "pool": self.pool.get_state(), "won": self.won}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        self.player = Player(**state["player"])
        self.pool.set_state(state["pool"])
        self.won = state["won"]


class SelfPlay:
    """Two sides that learn by playing each other.

    Args:
        algorithm: The side that the configuration is of, whose environment has `opponents: self`. The other side has
            the same settings, but its own sizes and a seed of its own.

    Attributes:
        sides: That side and the other.
        par: The margin of an even game from the first side's view, a moving mean over rounds; None before the first.
    """

    def __init__(self, algorithm: QMix) -> None:
        config = other_sides_config(algorithm.config)
        with undisturbed(algorithm.policy.device):
            other = type(algorithm)(config, storage=algorithm._storage)
        other._trial = algorithm._trial  # what it says, and its streams, are the trial's
        other.env_runner.watch.last_resort = algorithm.env_runner.watch.last_resort
        team = config.env_config["team"]
        self._config = algorithm.config
        self.sides = Side(algorithm, _other(team), self._config), Side(other, team, self._config)
        self.par: float | None = None

    @property
    def other(self) -> QMix:
        """The other side's algorithm."""
        return self.sides[1].algorithm

    def step(self) -> dict[str, Any]:
        """Has each side play a round against the other and learn from it; returns the metrics of both policies."""
        for side in self.sides:
            side.keep_snapshot()
        metrics = [self._round(side, other) for side, other in self._turns()]
        return dict(zip((DEFAULT_POLICY_ID, OTHER_SIDE), metrics, strict=True))

    def _turns(self) -> Iterator[tuple[Side, Side]]:
        first, second = self.sides
        yield first, second
        yield second, first

    def _round(self, side: Side, other: Side) -> Any:
        """Has a side play a round and learn from it; returns its policy's metrics."""
        opponent = self._opponent(side, other)
        worker = side.algorithm.env_runner
        worker.opponents = other.as_opponents(opponent)
        metrics = side.algorithm.play_and_learn()
        assert isinstance(worker.team_env, TwoTeamMPE)
        score = self._rate(side, opponent, worker.team_env.margins())
        if opponent is other.player:
            side.won = moved(side.won, score)
        return metrics[DEFAULT_POLICY_ID]

    def _opponent(self, side: Side, other: Side) -> Player:
        """Returns whom a side plays in its next round, drawn from a stream of that round's own."""
        rounds = side.algorithm._rounds
        rng = np.random.default_rng(rounds.streams.opponents(rounds.following))
        if rng.random() < self._config.self_play_current:
            return other.player
        return other.pool.draw(rng)

    def _rate(self, side: Side, opponent: Player, margins: NDArray[np.float64]) -> float:
        """Rates both players by how the round has gone, and moves par; returns the share of games that the side won."""
        sign = 1.0 if side is self.sides[0] else -1.0
        mean = sign * float(margins.mean())
        if self.par is None:
            self.par = mean
        score = float(games_won(margins, sign * self.par).mean())
        opponent.met(side.player, score)
        self.par = moved(self.par, mean)
        return score

    def results(self) -> dict[str, Any]:
        """Returns what results tell of both sides, by their names, and of the games of the second one's own rounds."""
        first, second = self.sides
        played = [episode.episode_reward for episode in self.other.env_runner.get_metrics()]
        own = {"episode_return_mean": float(np.mean(played)) if played else float("nan")}
        return {
            "par": self.par,
            first.player.side: first.results(second.pool),
            second.player.side: {**own, **second.results(first.pool)},
        }

    def table(self) -> str:
        """Returns the ratings of all players as CSV."""
        return elo_table([side.player for side in self.sides], [side.pool for side in self.sides])

    def write(self, checkpoint: Path) -> None:
        """Writes the ratings and the other side's weights into a checkpoint."""
        (checkpoint / ELO_FILE).write_text(self.table())
        other = self.sides[1]
        save_weights(other.algorithm.policy.model, other.algorithm.config, checkpoint / weights_file(other.player.side))

    def get_state(self) -> dict[str, Any]:
        """Returns what a checkpoint holds of it: ratings, pools, and all of the other side's algorithm."""
        return {
            "par": self.par,
            "sides": [side.get_state() for side in self.sides],
            "other": self.other.__getstate__(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned."""
        self.other.__setstate__(state["other"])
        self.par = state["par"]
        for side, its in zip(self.sides, state["sides"], strict=True):
            side.set_state(its)

    def stop(self) -> None:
        """Ends the other side's algorithm."""
        self.other.stop()


def plays_itself(config: QMixConfig) -> bool:
    """Returns whether a configuration's environment has `opponents: self`."""
    return bool((config.env_config or {}).get("opponents") == SELF)


def weights_file(side: str) -> str:
    """Returns the name of the file with the second side's weights in a checkpoint; the first's is that of any."""
    return f"weights_{side}.safetensors"


def other_sides_config(config: QMixConfig) -> QMixConfig:
    """Returns the configuration of the side that learns beside the first: its settings, its sizes, another seed."""
    team = config.env_config.get("team", "good")
    other: QMixConfig = config.copy(copy_frozen=False)
    other.env_config = {**config.env_config, "team": _other(team)}
    play_against("scripted", other)  # SelfPlay seats whom it plays
    if config.seed is not None:
        other.seed = int(np.random.SeedSequence(config.seed, spawn_key=(1,)).generate_state(1)[0])
    other.evaluation_interval = None
    other.metrics_export = other.log_sys_usage = False
    return other


def _other(team: str) -> str:
    return TEAMS[1 - TEAMS.index(team)]
