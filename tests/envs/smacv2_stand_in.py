"""A stand-in for the smacv2 package: its interface as documented, and a battle of a few lines in StarCraft's place.

StarCraft II is on no package index, so that the adapter cannot be tested on the real one here. The stand-in gives what
the package gives (lists of arrays, 0 and 1 for what is available, a time limit that is reported as an end, an empty
`info` when the game's connection is lost), and refuses what it refuses. It says nothing of StarCraft itself.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

NO_OP, STOP, FIRST_TARGET = 0, 1, 2
LIMIT = 12


class StandInStarCraft2Env:
    """Here for its signature, the arguments that the adapter checks options against."""

    def __init__(
        self, map_name: str = "8m", difficulty: str = "7", continuing_episode: bool = False, **settings: Any
    ) -> None:
        raise AssertionError("the wrapper is what is made")


class StandInBattle:
    """In `StarCraftCapabilityEnvWrapper`'s place: two hits kill an enemy, and one enemy hits back."""

    made: ClassVar[list[StandInBattle]] = []

    def __init__(self, **given: Any) -> None:
        self.given = given
        capabilities = given["capability_config"]
        self.n_agents, self.n_enemies = capabilities["n_units"], capabilities["n_enemies"]
        self.lose_connection_at: int | None = None
        self.closed = False
        for key in ("team_gen", "start_positions"):  # the package writes into what it gets, and refuses it twice
            assert "n_units" not in capabilities[key]
            capabilities[key]["n_units"] = self.n_agents
        StandInBattle.made.append(self)

    def get_env_info(self) -> dict[str, Any]:
        return {
            "state_shape": self.n_agents + self.n_enemies + 1,
            "obs_shape": 2 + self.n_enemies,
            "n_actions": FIRST_TARGET + self.n_enemies,
            "n_agents": self.n_agents,
            "episode_limit": LIMIT,
        }

    def reset(self) -> None:
        self.health, self.enemies, self.steps = np.full(self.n_agents, 3), np.full(self.n_enemies, 2), 0

    def get_obs(self) -> list[np.ndarray]:
        return [np.array([agent, self.health[agent], *self.enemies], np.float32) for agent in range(self.n_agents)]

    def get_state(self) -> np.ndarray:
        return np.array([*self.health, *self.enemies, self.steps], np.float64)

    def get_avail_agent_actions(self, agent: int) -> list[int]:
        if self.health[agent] <= 0:
            return [1] + [0] * (1 + self.n_enemies)
        return [0, 1, *(self.enemies > 0).astype(int).tolist()]

    def step(self, actions: list[int]) -> tuple[float, bool, dict[str, Any]]:
        for agent, action in enumerate(actions):
            assert type(action) is int
            assert self.get_avail_agent_actions(agent)[action] == 1
        self.steps += 1
        if self.steps == self.lose_connection_at:
            self.reset()
            return 0, True, {}
        before = self.enemies.sum()
        for action in actions:
            if action >= FIRST_TARGET:
                self.enemies[action - FIRST_TARGET] = max(0, self.enemies[action - FIRST_TARGET] - 1)
        if self.enemies.any():
            alive = np.flatnonzero(self.health > 0)
            self.health[alive[0]] -= 1
        return self._result(float(before - self.enemies.sum()))

    def _result(self, reward: float) -> tuple[float, bool, dict[str, Any]]:
        won, lost = not self.enemies.any(), not (self.health > 0).any()
        info: dict[str, Any] = {"battle_won": won}
        if not won and not lost and self.steps >= LIMIT and self.given["continuing_episode"]:
            info["episode_limit"] = True
        return reward + 10.0 * won, won or lost or self.steps >= LIMIT, info

    def close(self) -> None:
        self.closed = True


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts the stand-in where the package would be."""
    wrapper, game = ModuleType("smacv2.env.starcraft2.wrapper"), ModuleType("smacv2.env.starcraft2.starcraft2")
    wrapper.StarCraftCapabilityEnvWrapper = StandInBattle  # type: ignore[attr-defined]
    game.StarCraft2Env = StandInStarCraft2Env  # type: ignore[attr-defined]
    package = ModuleType("smacv2")
    package.__spec__ = ModuleSpec("smacv2", None)
    folders = {name: ModuleType(name) for name in ("smacv2.env", "smacv2.env.starcraft2")}
    for name, module in {"smacv2": package, wrapper.__name__: wrapper, game.__name__: game, **folders}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(StandInBattle, "made", [])
