"""Level-based foraging and the robot warehouse: Gymnasium environments whose spaces are tuples, one entry an agent.

Each is an optional package, and a family of tasks that Gymnasium knows by name. They are stepped one copy after the
other, as PettingZoo's are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np

from k24_rllib.checks import ConfigError, check_name, check_number
from k24_rllib.envs.pettingzoo import PettingZooTeamEnv
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.team_env import MOST_STEPS, TeamEnv


@dataclass(frozen=True)
class Family:
    """A package's tasks.

    Attributes:
        name: Of the environment here, and of the package's module.
        extra: What installs the package: `pip install "k24_rllib[extra]"`.
        prefix: How Gymnasium's names of the tasks begin.
        task: The one that is meant where none is named.
        limit: The environment's attribute that holds its own time limit in steps.
        limit_option: What the environment calls the limit when it is made.
        best: Team return (summed over agents) that no play exceeds, or None where nobody knows it.
        random: Team return of uniformly random play, by task; where it was measured.
    """

    name: str
    extra: str
    prefix: str
    task: str
    limit: str
    limit_option: str
    best: float | None
    random: dict[str, float]


FORAGING = Family(
    name="lbforaging",
    extra="lbf",
    prefix="Foraging-",
    task="Foraging-8x8-2p-3f-v3",
    limit="_max_episode_steps",
    limit_option="max_episode_steps",
    best=1.0,
    random={
        "Foraging-8x8-2p-3f-v3": 0.180,
        "Foraging-10x10-3p-3f-v3": 0.092,
        "Foraging-8x8-2p-2f-coop-v3": 0.003,
        "Foraging-2s-8x8-2p-2f-coop-v3": 0.003,
    },
)
"""Papoudakis et al. 2021 (arXiv 2006.07869): collect food whose level the collectors' levels add up to. The food of an
episode is worth 1 in all. Random play: means of 2,000 episodes, standard errors below 0.005."""
WAREHOUSE = Family(
    name="rware",
    extra="rware",
    prefix="rware-",
    task="rware-tiny-2ag-v2",
    limit="max_steps",
    limit_option="max_steps",
    best=None,
    random={},
)
"""Papoudakis et al. 2021: bring the shelves that are asked for, 1 for each delivery."""
FAMILIES = {family.name: family for family in (FORAGING, WAREHOUSE)}


class TupleAsParallel:
    """A Gymnasium environment with tuple spaces as a parallel environment of PettingZoo's.

    Such environments end an episode by their own time limit as if it were over for good; here it is cut, so that
    learning bootstraps over it.
    """

    def __init__(self, env: Any, limit: int) -> None:
        self._env, self._limit, self._steps = env, limit, 0
        spaces = (env.observation_space, env.action_space)
        if not all(isinstance(space, gym.spaces.Tuple) for space in spaces):
            raise ConfigError(
                f"task: got {env}, whose spaces are {spaces}, expected tuples with an entry for each agent"
            )
        self.possible_agents = [f"agent_{index}" for index in range(len(env.action_space))]

    def observation_space(self, agent: str) -> Any:
        """Returns an agent's space."""
        return self._env.observation_space[self.possible_agents.index(agent)]

    def action_space(self, agent: str) -> Any:
        """Returns an agent's space."""
        return self._env.action_space[self.possible_agents.index(agent)]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode."""
        self._steps = 0
        observations, _ = self._env.reset(seed=seed)
        return self._by_agent(observations), {}

    def step(self, actions: dict[str, int]) -> tuple[dict[str, Any], ...]:
        """Steps with an action of every agent."""
        self._steps += 1
        observations, rewards, over, cut, _ = self._env.step(tuple(actions[agent] for agent in self.possible_agents))
        late = self._steps >= self._limit
        ended, truncated = bool(np.all(over)) and not late, bool(np.all(cut)) or late
        everybody = range(len(self.possible_agents))
        return (
            self._by_agent(observations),
            self._by_agent(rewards),
            self._by_agent([ended for _ in everybody]),
            self._by_agent([truncated and not ended for _ in everybody]),
            {},
        )

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def _by_agent(self, values: Any) -> dict[str, Any]:
        return dict(zip(self.possible_agents, values, strict=True))


def make_tuple_env(
    name: str,
    num_envs: int,
    *,
    task: str | None = None,
    max_cycles: int | None = None,
    team_reward: str = "sum",
) -> TeamEnv:
    """Makes copies of a task.

    Args:
        name: One of `FAMILIES`.
        num_envs: Copies, stepped one after the other.
        task: Gymnasium's name of it; None means the family's usual one.
        max_cycles: Steps of an episode; None means the task's own.
        team_reward: `sum` or `mean` of the agents' rewards.

    Raises:
        ConfigError: naming the command that installs the package where it is missing, or an unknown task.
    """
    family = FAMILIES[name]
    _import(family)
    known = [task_name for task_name in gym.registry if task_name.startswith(family.prefix)]
    task = check_name("task", family.task if task is None else task, known)
    limited = {} if max_cycles is None else {family.limit_option: _checked_limit(max_cycles)}

    def make() -> Any:
        return gym.make(task, disable_env_checker=True, **limited)

    first = make()
    limit = int(getattr(first.unwrapped, family.limit))
    first.close()
    reference = None
    if family.best is not None and task in family.random and not limited and team_reward == "sum":
        reference = (family.random[task], family.best)
    return PettingZooTeamEnv(
        lambda: TupleAsParallel(make(), limit),
        num_envs,
        episode_limit=limit,
        team_reward=team_reward,
        score_reference=reference,
    )


def _checked_limit(max_cycles: Any) -> int:
    return int(check_number("max_cycles", max_cycles, low=1, high=MOST_STEPS, integer=True))


def _import(family: Family) -> None:
    """Imports the package, which tells Gymnasium of its tasks."""
    if find_spec(family.name) is None:
        raise ConfigError(
            f"environment {family.name!r}: needs a package that is not installed, expected "
            f"pip install 'k24_rllib[{family.extra}]'"
        )
    import_module(family.name)


for _name in FAMILIES:
    register_team_env(_name, partial(make_tuple_env, _name))
