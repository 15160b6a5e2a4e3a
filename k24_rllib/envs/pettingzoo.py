"""Any fully cooperative PettingZoo environment as a batched team environment: SuperSuit's padding, a loop over copies.

Shapes: `E` copies, `N` agents, `O` observation size, `S` state size, `U` actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice, check_number
from k24_rllib.envs.team_env import MOST_STEPS, TEAM_REWARDS, TeamEnv, TeamStep, copy_seeds


class PettingZooTeamEnv(TeamEnv):
    """Copies of a PettingZoo parallel environment with discrete actions and vector observations.

    Where agents differ, SuperSuit pads observations with zeros and actions with ones that are never available. The
    state is the environment's own `state()` where it has one, otherwise all observations side by side. All agents must
    stay to the end: an episode is over for the whole team at once.

    Args:
        make_env: Returns a new parallel environment.
        num_envs: `E`.
        episode_limit: Most steps of an episode, known to the environment and enforced here.
        team_reward: `sum` or `mean` of the agents' rewards.
        score_reference: See `TeamEnv`.

    Raises:
        ConfigError: if actions are not discrete or observations are no vectors.
    """

    def __init__(
        self,
        make_env: Callable[[], Any],
        num_envs: int,
        *,
        episode_limit: int,
        team_reward: str = "sum",
        score_reference: tuple[float, float] | None = None,
    ) -> None:
        self.num_envs = int(check_number("num_envs", num_envs, low=1, integer=True))
        self.episode_limit = int(check_number("episode_limit", episode_limit, low=1, high=MOST_STEPS, integer=True))
        self._team_reward: str = check_choice("team_reward", team_reward, TEAM_REWARDS)
        self.score_reference = score_reference
        self._originals = [make_env() for _ in range(num_envs)]
        first = self._originals[0]
        self.agent_names = tuple(first.possible_agents)
        self.num_agents = self.num_mask_owners = len(self.agent_names)
        actions, sizes = _discrete_actions(first), _observation_sizes(first)
        self.num_actions, self.obs_dim = max(actions), max(sizes)
        self._avail = np.arange(self.num_actions) < np.array(actions)[:, None]  # [N, U]
        self._envs = [_padded(env, actions, sizes) for env in self._originals]
        self._has_state = _has_state(first)
        self.state_dim = int(first.state_space.shape[0]) if self._has_state else self.num_agents * self.obs_dim
        self._last: TeamStep | None = None
        self._steps = 0

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy; see `TeamEnv.reset`."""
        seeds = [None] * self.num_envs if seed is None else copy_seeds(seed, self.num_envs)
        step = self._empty()
        for row, env in enumerate(self._envs):
            observations, _ = env.reset(seed=seeds[row])
            self._write_observations(step, row, observations)
        self._steps = 0
        self._last = step
        return step

    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Steps every copy that is not done; see `TeamEnv.step`."""
        last, actions = self.check_goes_on(self._last), np.asarray(actions)
        self.check_actions(actions, last.avail_actions)
        self._steps += 1
        step = self._empty()
        done = last.done
        for row in range(self.num_envs):
            if done[row]:
                self._repeat(step, row, last)
            else:
                self._step_copy(step, row, actions[row].tolist())
        self._last = step
        return step

    def render(self, copy: int = 0) -> NDArray[np.uint8] | None:
        """Returns a picture of one copy, of environments made with `render_mode="rgb_array"`; else None."""
        env = self._originals[copy]
        if getattr(env, "render_mode", None) != "rgb_array":
            return None
        frame: NDArray[np.uint8] | None = env.render()
        return frame

    def close(self) -> None:
        """Closes every copy."""
        for env in self._originals:
            env.close()

    def _step_copy(self, step: TeamStep, row: int, actions: list[int]) -> None:
        choice = dict(zip(self.agent_names, actions, strict=True))
        observations, rewards, terminations, truncations, _ = self._envs[row].step(choice)
        self._write_observations(step, row, observations)
        each = [rewards[name] for name in self.agent_names]
        step.agent_rewards[row] = each
        step.team_reward[row] = sum(each) / (1 if self._team_reward == "sum" else len(each))
        ended = [terminations[name] for name in self.agent_names]
        cut = [truncations[name] for name in self.agent_names]
        over = np.logical_or(ended, cut)
        if over.any() and not over.all():
            left = [name for name, is_over in zip(self.agent_names, over, strict=True) if is_over]
            raise ValueError(f"agents {left} left before the others; a team's episode must end for all at once")
        step.terminated[row] = all(ended)
        step.truncated[row] = not all(ended) and (bool(over.all()) or self._steps >= self.episode_limit)

    def _empty(self) -> TeamStep:
        copies, agents = self.num_envs, self.num_agents
        return TeamStep(
            obs=np.empty((copies, agents, self.obs_dim), np.float32),
            state=np.empty((copies, self.state_dim), np.float32),
            avail_actions=np.repeat(self._avail[None], copies, axis=0),
            mask_ids=np.repeat(np.arange(agents)[None], copies, axis=0),
            team_reward=np.zeros(copies, np.float32),
            agent_rewards=np.zeros((copies, agents), np.float32),
            terminated=np.zeros(copies, np.bool_),
            truncated=np.zeros(copies, np.bool_),
        )

    def _write_observations(self, step: TeamStep, row: int, observations: dict[str, NDArray]) -> None:
        for agent, name in enumerate(self.agent_names):
            step.obs[row, agent] = observations[name]
        step.state[row] = self._originals[row].state() if self._has_state else step.obs[row].ravel()

    @staticmethod
    def _repeat(step: TeamStep, row: int, last: TeamStep) -> None:
        """Leaves a finished copy where it was; its rewards stay 0."""
        for name in ("obs", "state", "terminated", "truncated"):
            getattr(step, name)[row] = getattr(last, name)[row]


def _discrete_actions(env: Any) -> list[int]:
    spaces = [env.action_space(name) for name in env.possible_agents]
    for name, space in zip(env.possible_agents, spaces, strict=True):
        if not isinstance(space, gym.spaces.Discrete):
            raise ConfigError(f"action space of {name}: got {space}, expected Discrete")
    return [int(space.n) for space in spaces]


def _observation_sizes(env: Any) -> list[int]:
    spaces = [env.observation_space(name) for name in env.possible_agents]
    for name, space in zip(env.possible_agents, spaces, strict=True):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ConfigError(f"observation space of {name}: got {space}, expected a Box of one dimension")
    return [int(space.shape[0]) for space in spaces]


def _padded(env: Any, actions: list[int], sizes: list[int]) -> Any:
    """Returns `env` with SuperSuit's padding, where agents differ."""
    if len(set(sizes)) == 1 and len(set(actions)) == 1:
        return env
    import supersuit

    if len(set(sizes)) > 1:
        env = supersuit.pad_observations_v0(env)
    return supersuit.pad_action_space_v0(env) if len(set(actions)) > 1 else env


def _has_state(env: Any) -> bool:
    """Returns whether the environment has a state of its own that is a vector."""
    space = getattr(env, "state_space", None)
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 1
