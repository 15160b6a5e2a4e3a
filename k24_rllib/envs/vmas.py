"""VMAS's scenarios (Bettini et al. 2022, arXiv 2207.03530) with discrete actions: all copies at once, in PyTorch.

VMAS is an optional package and brings PyTorch, which is imported where copies are made and not before.
Shapes: `E` copies, `N` agents, `O` observation size, `U` actions.
"""

from __future__ import annotations

import ast
import contextlib
import io
import random
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice, check_name, check_number, nearest
from k24_rllib.envs.registry import register_team_env
from k24_rllib.envs.team_env import MOST_STEPS, TEAM_REWARDS, TeamEnv, TeamStep

TWO_TEAMS = ("simple_adversary", "simple_crypto", "simple_push", "simple_tag", "simple_world_comm")
"""Scenarios whose agents are two teams, both played from outside; `mpe_simple_tag` and so on play one side of them."""

SCORES = {"dispersion": (0.48, 4.0), "navigation": (-5.1, 16.6)}
"""Team returns of random play (4,000 episodes, standard errors 0.01 and 0.12), and the 1 of the score: of dispersion
all the food, which no play exceeds and an agent for each piece earns; of navigation a script that steers to the goals
past each other (2,000 episodes, 0.08; in tests/envs). Of scenarios as they are made without options."""


class VMASTeamEnv(TeamEnv):
    """Copies of a VMAS scenario, stepped together; a joint action of an agent is one number (`Discrete`).

    Where agents differ, observations are padded with zeros and actions with ones that are never available. The state
    is all observations side by side. A copy that is done goes on inside VMAS and is not looked at again.

    VMAS draws for all copies from one stream (and spawns until every copy's entities keep their distance), so the same
    seed gives the same episodes for the same number of copies alone, and copies do not have streams of their own.
    The stream is this object's: it shares none with other VMAS environments of the process, and leaves PyTorch's,
    NumPy's and Python's global generators as they were.

    Args:
        num_envs: `E`.
        scenario: One of VMAS's, by the name of its file.
        max_steps: Steps of an episode, after which it is cut.
        team_reward: `sum` or `mean` of the agents' rewards.
        **options: The scenario's own, as `n_agents`.

    Raises:
        ConfigError: naming the command that installs VMAS where it is missing, an unknown scenario or option, or what
            VMAS says of values that cannot work.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        scenario: str = "dispersion",
        max_steps: int = 100,
        team_reward: str = "sum",
        **options: Any,
    ) -> None:
        self.num_envs = int(check_number("num_envs", num_envs, low=1, integer=True))
        self.episode_limit = int(check_number("max_steps", max_steps, low=1, high=MOST_STEPS, integer=True))
        self._team_reward: str = check_choice("team_reward", team_reward, TEAM_REWARDS)
        _import()
        _check_options(scenario, options)
        self._stream = _stream(0)  # what a scenario draws once, of its world, is the same in every process
        self._env, first = self._make(scenario, options)
        self._stream = _stream(int(np.random.SeedSequence().generate_state(1)[0]))
        self.agent_names = tuple(agent.name for agent in self._env.agents)
        self.num_agents = self.num_mask_owners = len(self.agent_names)
        actions = [int(space.n) for space in self._env.action_space]
        self.num_actions, self.obs_dim = max(actions), max(seen.shape[1] for seen in first)
        self.state_dim = self.num_agents * self.obs_dim
        self._avail = np.arange(self.num_actions) < np.array(actions)[:, None]  # [N, U]
        if self.episode_limit == 100 and team_reward == "sum" and not options:
            self.score_reference = SCORES.get(scenario)
        self._last: TeamStep | None = None
        self._steps = 0

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy; see `TeamEnv.reset` and, for what a seed gives, the class."""
        if seed is not None:
            self._stream = _stream(seed)
        with self._own_stream():
            observations = self._env.reset()
        self._steps = 0
        nothing = np.zeros((self.num_envs, self.num_agents), np.float32)
        self._last = self._team_step(observations, nothing, np.zeros(self.num_envs, np.bool_))
        return self._last

    def step(self, actions: NDArray[np.int64]) -> TeamStep:
        """Steps every copy that is not done; see `TeamEnv.step`."""
        last, actions = self.check_goes_on(self._last), np.asarray(actions)
        self.check_actions(actions, last.avail_actions)
        with self._own_stream():
            observations, rewards, terminated, _, _ = self._env.step(list(actions.T))
        self._steps += 1
        each = np.stack([reward.numpy().reshape(self.num_envs) for reward in rewards], axis=1)
        step = self._team_step(observations, each.astype(np.float32, copy=False), terminated.numpy().copy())
        _keep(step, last, last.done)
        self._last = step
        return step

    def _make(self, scenario: str, options: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
        """Returns VMAS's environment and its first observations, each `[E, O]`; a step shows whether it can work."""
        try:
            with self._own_stream():
                env = import_module("vmas").make_env(
                    scenario, self.num_envs, continuous_actions=False, terminated_truncated=True, **options
                )
                first = env.reset()
                env.step([np.zeros(self.num_envs, np.int64) for _ in env.agents])
        except Exception as error:  # its scenarios check values by assertions, if at all
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"env_config: got {str(options)[:100]} for VMAS's {scenario}, which it can't make ({reason[:100]})"
            ) from error
        if not env.agents or not all(getattr(seen, "ndim", 0) == 2 for seen in first):
            raise ConfigError(
                f"env_config: got {str(options)[:100]} for VMAS's {scenario}, expected agents that see vectors"
            )
        return env, first

    @contextlib.contextmanager
    def _own_stream(self) -> Iterator[None]:
        """Lets VMAS draw from this object's stream: it keeps one for the process, and puts it in the globals' place."""
        shared = import_module("vmas.simulator.environment").Environment.vmas_random_state
        before, shared[:] = list(shared), self._stream
        try:
            yield
        finally:
            self._stream, shared[:] = list(shared), before

    def _team_step(
        self, observations: Sequence[Any], each: NDArray[np.float32], terminated: NDArray[np.bool_]
    ) -> TeamStep:
        obs = np.zeros((self.num_envs, self.num_agents, self.obs_dim), np.float32)
        for agent, seen in enumerate(observations):
            obs[:, agent, : seen.shape[1]] = seen.numpy()  # VMAS's own memory, copied once
        late = self._steps >= self.episode_limit
        return TeamStep(
            obs=obs,
            state=obs.reshape(self.num_envs, -1).copy(),
            avail_actions=np.repeat(self._avail[None], self.num_envs, axis=0),
            mask_ids=np.repeat(np.arange(self.num_agents)[None], self.num_envs, axis=0),
            team_reward=each.sum(1) if self._team_reward == "sum" else each.mean(1),
            agent_rewards=each,
            terminated=terminated,
            truncated=~terminated & late,
        )


def _keep(step: TeamStep, last: TeamStep, done: NDArray[np.bool_]) -> None:
    """Leaves finished copies where they were, with reward 0."""
    if not done.any():
        return
    for name in ("obs", "state", "terminated", "truncated"):
        getattr(step, name)[done] = getattr(last, name)[done]
    step.team_reward[done] = 0.0
    step.agent_rewards[done] = 0.0


def _stream(seed: int) -> list[Any]:
    """Returns states of PyTorch's, NumPy's and Python's generators as VMAS keeps them; no generator notices."""
    torch_state = import_module("torch").Generator().manual_seed(seed).get_state()
    return [torch_state, np.random.RandomState(seed % 2**32).get_state(), random.Random(seed).getstate()]


def _import() -> None:
    """Imports VMAS, without what its old Gym says about NumPy and about its own end."""
    if find_spec("vmas") is None:
        raise ConfigError(
            "environment 'vmas': needs a package that is not installed, expected pip install 'k24_rllib[vmas]'"
        )
    with contextlib.redirect_stderr(io.StringIO()):
        import_module("vmas")


def scenario_files() -> dict[str, Path]:
    """Returns VMAS's scenarios that one team plays, with the files that define them."""
    folder = Path(import_module("vmas.scenarios").__path__[0])
    return {path.stem: path for path in folder.rglob("*.py") if path.stem not in (*TWO_TEAMS, "__init__")}


def _check_options(scenario: str, options: dict[str, Any]) -> None:
    """Checks names alone: VMAS warns of options that a scenario does not have, or takes them without a word."""
    files = scenario_files()
    if scenario in TWO_TEAMS:
        raise ConfigError(
            f"scenario: got {scenario!r}, whose agents are two teams, expected one team's; env: mpe_{scenario} plays "
            "one side of it"
        )
    known = _option_names(files[check_name("scenario", scenario, files)])
    for key in options:
        if key not in known:
            names = f" (known: {', '.join(sorted(known)) or 'none'})"
            raise ConfigError(
                f"unknown env_config key {key!r} of VMAS's {scenario}"
                f"{nearest(key, [*known, 'scenario', 'max_steps', 'team_reward']) or names[:150]}"
            )


def _option_names(path: Path) -> set[str]:
    """Returns what a scenario's code takes out of its `kwargs`: VMAS lists its options nowhere else."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("pop", "get")
        and getattr(node.func.value, "id", None) == "kwargs"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


register_team_env("vmas", VMASTeamEnv)
