"""SMACv2 (Ellis et al. 2023, arXiv 2212.07489): StarCraft II's units, drawn anew in every episode, one game a copy.

A thin adapter. It needs what no package index has: the `smacv2` package and Blizzard's StarCraft II program, of which
every copy starts one. The project's own tests hold it to a stand-in with the package's interface alone.
Shapes: `E` copies, `N` agents, `U` actions.
"""

from __future__ import annotations

import copy
import inspect
import os
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_name, check_number, nearest
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.team_env import TeamEnv, TeamStep

RACES: dict[str, dict[str, Any]] = {
    "10gen_terran": {
        "unit_types": ["marine", "marauder", "medivac"],
        "weights": [0.45, 0.45, 0.1],
        "exception_unit_types": ["medivac"],
    },
    "10gen_protoss": {
        "unit_types": ["stalker", "zealot", "colossus"],
        "weights": [0.45, 0.45, 0.1],
    },
    "10gen_zerg": {
        "unit_types": ["zergling", "baneling", "hydralisk"],
        "weights": [0.45, 0.1, 0.45],
        "exception_unit_types": ["baneling"],
    },
}
"""The maps of the published experiments, and how teams are drawn; of exceptions alone no team is made."""
PUBLISHED = {"obs_own_pos": True, "use_unit_ranges": True, "min_attack_range": 2, "conic_fov": False}
"""The package's options as its published experiments set them, where that is not its default."""

PACKAGE = "pip install git+https://github.com/oxwhirl/smacv2.git"
PROGRAM = "https://github.com/Blizzard/s2client-proto#downloads"
SPAWN = {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32}


class SMACv2TeamEnv(TeamEnv):
    """Copies of a SMACv2 game, stepped one after the other.

    A battle that somebody won ends an episode; the time limit cuts it, as does a game whose connection was lost (the
    package starts it anew). All agents get the team's reward in equal parts.

    SMACv2 takes no seed of an episode: units and places are drawn from generators that nobody can reach, so the same
    seed does not give the same episodes.

    Args:
        num_envs: `E`, each a StarCraft II program.
        map_name: One of `RACES`.
        units: Of the team.
        enemies: Of the other side.
        **options: Arguments of the package's `StarCraft2Env`, as `difficulty`; `capability_config` replaces all that
            `units`, `enemies` and the race say of how teams are drawn.

    Raises:
        ConfigError: naming the package or program that is missing and where it is to be had, or an unknown option.
    """

    def __init__(
        self, num_envs: int, *, map_name: str = "10gen_terran", units: int = 5, enemies: int = 5, **options: Any
    ) -> None:
        self.num_envs = int(check_number("num_envs", num_envs, low=1, integer=True))
        check_name("map_name", map_name, RACES)
        capabilities = {
            "n_units": int(check_number("units", units, low=1, high=10, integer=True)),
            "n_enemies": int(check_number("enemies", enemies, low=1, high=10, integer=True)),
            "team_gen": {"dist_type": "weighted_teams", "observe": True, **RACES[map_name]},
            "start_positions": SPAWN,
        }
        make_game = _package()
        _check_options(options)
        given = {**PUBLISHED, "capability_config": capabilities, **options}
        # continuing_episode makes the package tell its time limit from a battle that is over; nothing else hangs on it.
        given |= {"map_name": map_name, "continuing_episode": True}
        self._games = [make_game(**copy.deepcopy(given)) for _ in range(self.num_envs)]  # it writes into what it gets
        sizes = self._games[0].get_env_info()
        self.num_agents = self.num_mask_owners = int(sizes["n_agents"])
        self.obs_dim, self.state_dim = int(sizes["obs_shape"]), int(sizes["state_shape"])
        self.num_actions, self.episode_limit = int(sizes["n_actions"]), int(sizes["episode_limit"])
        self.agent_names = tuple(f"agent_{index}" for index in range(self.num_agents))
        self._won = np.zeros(self.num_envs, np.bool_)
        self._last: TeamStep | None = None
        self._steps = 0

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy; the seed makes no difference, see the class."""
        self._won[:] = False
        step = self._empty()
        for row, game in enumerate(self._games):
            game.reset()
            self._write(step, row)
        self._steps, self._last = 0, step
        return step

    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Steps every copy that is not done; see `TeamEnv.step`."""
        last, actions = self.check_goes_on(self._last), np.asarray(actions)
        self.check_actions(actions, last.avail_actions)
        self._steps += 1
        step = self._empty()
        for row in range(self.num_envs):
            if last.done[row]:
                self._repeat(step, row, last)
            else:
                self._step_copy(step, row, actions[row].tolist())
        self._last = replace(step, won=self._won.copy())
        return self._last

    def close(self) -> None:
        """Ends every copy's program."""
        for game in self._games:
            game.close()

    def _step_copy(self, step: TeamStep, row: int, actions: list[int]) -> None:
        reward, over, info = self._games[row].step(actions)
        self._write(step, row)
        step.team_reward[row] = reward
        step.agent_rewards[row] = reward / self.num_agents
        lost_connection = bool(over) and "battle_won" not in info
        late = bool(info.get("episode_limit")) or (self._steps >= self.episode_limit and not over)
        step.truncated[row] = late or lost_connection
        step.terminated[row] = bool(over) and not step.truncated[row]
        self._won[row] = bool(info.get("battle_won", False))

    def _write(self, step: TeamStep, row: int) -> None:
        """Writes what a copy shows now; an agent is asked for by number, since not every version has all at once."""
        game = self._games[row]
        step.obs[row] = game.get_obs()
        step.state[row] = game.get_state()
        step.avail_actions[row] = [game.get_avail_agent_actions(agent) for agent in range(self.num_agents)]

    def _empty(self) -> TeamStep:
        copies, agents = self.num_envs, self.num_agents
        return TeamStep(
            obs=np.empty((copies, agents, self.obs_dim), np.float32),
            state=np.empty((copies, self.state_dim), np.float32),
            avail_actions=np.empty((copies, agents, self.num_actions), np.bool_),
            mask_ids=np.repeat(np.arange(agents)[None], copies, axis=0),
            team_reward=np.zeros(copies, np.float32),
            agent_rewards=np.zeros((copies, agents), np.float32),
            terminated=np.zeros(copies, np.bool_),
            truncated=np.zeros(copies, np.bool_),
            won=self._won.copy(),
        )

    @staticmethod
    def _repeat(step: TeamStep, row: int, last: TeamStep) -> None:
        """Leaves a finished copy where it was; its rewards stay 0."""
        for name in ("obs", "state", "avail_actions", "terminated", "truncated"):
            getattr(step, name)[row] = getattr(last, name)[row]


def _package() -> Any:
    """Returns what makes a game.

    Raises:
        ConfigError: in one line, for the package or for the program.
    """
    if find_spec("smacv2") is None:
        raise ConfigError(f"environment 'smacv2': needs a package that is on no index, expected {PACKAGE}")
    folder = Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"environment 'smacv2': no StarCraft II in {folder} (SC2PATH names another place), expected the program "
            f"from {PROGRAM} and smacv2's maps in its Maps folder"
        )
    return import_module("smacv2.env.starcraft2.wrapper").StarCraftCapabilityEnvWrapper


def _check_options(options: dict[str, Any]) -> None:
    game = import_module("smacv2.env.starcraft2.starcraft2").StarCraft2Env
    known = [name for name in inspect.signature(game).parameters if name != "continuing_episode"]
    for key in options:
        if key not in known:
            raise ConfigError(
                f"unknown env_config key {key!r} of environment 'smacv2'{nearest(key, [*known, 'units', 'enemies'])}"
            )


register_team_env("smacv2", SMACv2TeamEnv)
