"""MPE for all copies at once, behind the interface of a team environment.

Shapes: `E` copies, `N` agents, `O` observation size, `S` state size, `U` actions (discrete) or numbers in an action
(continuous), `R` rows of the world's table, `F` copies that are done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from k24_rllib.checks import check_bool, check_choice, check_name, check_number
from k24_rllib.envs.mpe.actions import ContinuousActions, DiscreteActions
from k24_rllib.envs.mpe.options import check_options, default_options
from k24_rllib.envs.mpe.rendering import MpeRenderer, draw_discs
from k24_rllib.envs.mpe.scenario import Scenario
from k24_rllib.envs.mpe.scenarios import OWN_SCENARIOS, SCENARIOS
from k24_rllib.envs.mpe.streams import Streams
from k24_rllib.envs.mpe.world import DEFAULT_ACCEL, Floats
from k24_rllib.envs.team_env import MOST_STEPS, TEAM_REWARDS, TeamEnv, TeamStep

ALL_SCENARIOS = SCENARIOS | OWN_SCENARIOS


class BatchedMPE(TeamEnv):
    """Copies of one of MPE's scenarios, computed together in NumPy; it needs `mpe2` only to draw them.

    Observations, rewards, ends of episodes and motion are those of `mpe2` 1.1.1; initial states have its distribution
    but streams of their own, one for each copy, which do not depend on how many copies there are. In the scenarios of
    two teams `agent_rewards` is what matters: `team_reward` adds up both sides.

    Args:
        scenario: One of `SCENARIOS` or `OWN_SCENARIOS`, such as `mpe_simple_tag`.
        num_envs: `E`.
        max_cycles: Steps of an episode, `episode_limit`.
        continuous_actions: Whether actions are `[E, N, U]` of strengths, clipped to 0 and 1, instead of `[E, N]` of
            numbers: none, left, right, down and up for agents that move, then the message for those that speak.
        team_reward: `sum` or `mean` of the agents' rewards.
        dtype: Of observations, states and rewards; physics is float64 in any case.
        dynamic_rescaling: Whether `render` scales bodies with the view.
        score_reference: See `TeamEnv`.
        **options: The scenario's own, named as mpe2 names them: `N`, `local_ratio`, `num_good`, ...

    Attributes:
        obs_sizes: How much of its padded observation each agent has, `[N]`.
        action_counts: How many of the padded actions each agent has, `[N]`; they come first.

    Raises:
        ConfigError: naming an unknown scenario or option, or a value that cannot work.
    """

    def __init__(
        self,
        scenario: str,
        num_envs: int,
        *,
        max_cycles: int = 25,
        continuous_actions: bool = False,
        team_reward: str = "sum",
        dtype: DTypeLike = np.float32,
        dynamic_rescaling: bool = True,
        score_reference: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        self.name = check_name("scenario", scenario, ALL_SCENARIOS)
        self.num_envs = int(check_number("num_envs", num_envs, low=1, integer=True))
        self.episode_limit = int(check_number("max_cycles", max_cycles, low=1, high=MOST_STEPS, integer=True))
        self._team_reward: str = check_choice("team_reward", team_reward, TEAM_REWARDS)
        self.continuous_actions = check_bool("continuous_actions", continuous_actions)
        self.dtype = np.dtype(check_choice("dtype", np.dtype(dtype).name, ("float32", "float64")))
        self.score_reference = score_reference
        check_options(self.name, options, scenario_options(self.name))
        self._scenario = ALL_SCENARIOS[self.name](self.num_envs, **options)
        self._world = self._scenario.world
        self._actions = (ContinuousActions if continuous_actions else DiscreteActions)(self._world)
        self.agent_names = tuple(agent.name for agent in self._world.agents)
        self.num_agents = self.num_mask_owners = len(self.agent_names)
        self.num_actions, self.action_counts = self._actions.width, self._actions.counts
        self._set_observations()
        shared = (self.num_envs, self.num_agents)
        self._avail = np.broadcast_to(self._actions.available, (*shared, self.num_actions))
        self._mask_ids = np.broadcast_to(np.arange(self.num_agents), shared)
        self._streams = Streams(self.num_envs)
        drawing = {"continuous_actions": continuous_actions, "dynamic_rescaling": dynamic_rescaling}
        self._renderer = MpeRenderer(self.name, options | drawing)
        self._view = np.ones(self.num_envs)  # what the camera covers, set by the first positions of an episode
        self._steps: int | None = None  # None before the first reset
        self._terminated = np.zeros(self.num_envs, np.bool_)
        self._truncated = np.zeros(self.num_envs, np.bool_)

    def reset(self, seed: int | None = None) -> TeamStep:
        """Starts a new episode in every copy; see `TeamEnv.reset`."""
        self._scenario.begin(self._streams.draw(self._scenario.draws, seed))
        self._view = np.abs(self._world.pos).max((0, 1))
        self._terminated[:] = self._truncated[:] = False
        self._steps = 0
        return self.observe()

    def step(self, actions: NDArray[Any]) -> TeamStep:
        """Steps every copy that is not done; see `TeamEnv.step`. Continuous actions are `[E, N, U]`."""
        if self._steps is None:
            raise ValueError("step() before reset()")
        actions = np.asarray(actions)
        done = (self._terminated | self._truncated).nonzero()[0]
        if done.size == self.num_envs:
            raise ValueError("step() after every copy's episode is over, expected reset()")
        self._check(actions)
        kept = self._world.table[:, done] if done.size else None  # [R, F]
        self._actions.apply(actions)
        self._world.step()
        self._scenario.update()
        if kept is not None:
            self._world.table[:, done] = kept
        rewards = self._scenario.rewards()  # [N, E]
        if done.size:
            rewards[:, done] = 0.0
        self._steps += 1
        self._set_done()
        return self._team_step(rewards)

    def observe(self) -> TeamStep:
        """Returns what agents see now, with rewards of 0, as after `load_state`."""
        self._check_started("observe")
        return self._team_step(np.zeros((self.num_agents, self.num_envs)))

    def load_state(self, copy: int, world: Any) -> None:
        """Takes one copy's state from a live world of `mpe2`, as the first of an episode as far as drawing goes.

        Positions, velocities, messages and whatever was drawn at the episode's start (goals, keys, colours) are taken;
        the number of steps and whether the copy is done stay.

        Raises:
            ValueError: if that world has other bodies than this scenario with these options, or before `reset`.
        """
        self._check_copy("load_state", copy)
        self._check_bodies(world)
        self._check_speeds(world)
        here = self._world
        for index, entity in enumerate(world.entities):
            here.pos[:, index, copy] = entity.state.p_pos
        for index, agent in enumerate(world.agents):
            here.vel[:, index, copy] = agent.state.p_vel
        for place, speaker in enumerate(here.speakers):
            here.comm[:, place, copy] = world.agents[speaker].state.c
        self._scenario.choices[:, copy] = self._scenario.read_choices(world)
        self._view[copy] = np.abs(here.pos[..., copy]).max()
        here.look()
        self._scenario.chosen()
        self._scenario.update()

    def store_state(self, copy: int, world: Any) -> None:
        """Puts one copy's state into a live world of `mpe2`, so that its observations and rewards are this copy's.

        Raises:
            ValueError: if that world has other bodies than this scenario with these options, or before `reset`.
        """
        self._check_copy("store_state", copy)
        self._check_bodies(world)
        here = self._world
        for index, entity in enumerate(world.entities):
            entity.state.p_pos = here.pos[:, index, copy].copy()
            entity.state.p_vel = np.zeros(2)
        for index, agent in enumerate(world.agents):
            agent.state.p_vel = here.vel[:, index, copy].copy()
            agent.state.c = np.zeros(world.dim_c)
        for place, speaker in enumerate(here.speakers):
            world.agents[speaker].state.c = here.comm[:, place, copy].copy()
        self._scenario.write_choices(world, self._scenario.choices[:, copy].tolist())

    def render(self, copy: int = 0) -> NDArray[np.uint8]:
        """Returns a picture of one copy, `[height, width, 3]`, by mpe2 where it has it; see `write_gif` for a film."""
        self._check_copy("render", copy)
        colours = self._scenario.body_colours(copy)
        if colours is not None:
            return draw_discs(self._world.pos[..., copy], self._world.sizes, colours, self.num_agents)
        return self._renderer.draw(lambda world: self.store_state(copy, world), float(self._view[copy]))

    @property
    def scenario(self) -> Scenario:
        """The scenario, whose world is as it stands; scripts read it."""
        return self._scenario

    @property
    def curriculum_stage(self) -> int:
        """Present stage of the curriculum, from 0; it matters only where `curriculum` is true."""
        return self._scenario.stage

    def set_curriculum_stage(self, stage: int) -> None:
        """Goes to a stage of the curriculum, the nearest if there is no such; speeds change at the next reset.

        This is what mpe2 documents; its release 1.1.1 never leaves the first stage, whatever it is told.
        """
        self._scenario.stage = max(0, min(stage, self._scenario.stages - 1))

    def advance_curriculum(self) -> None:
        """Goes to the curriculum's next stage, and stays at the last."""
        self.set_curriculum_stage(self.curriculum_stage + 1)

    def _set_observations(self) -> None:
        """Fixes the table's rows that agents see, padded with the row of zeros."""
        seen = [np.concatenate(self._scenario.observation(agent)) for agent in range(self.num_agents)]
        self.obs_sizes = sizes = np.array([len(rows) for rows in seen])
        self.obs_dim, self.state_dim = int(sizes.max()), int(sizes.sum())
        padded = np.full((self.num_agents, self.obs_dim), self._world.rows.zero[0])
        for agent, rows in enumerate(seen):
            padded[agent, : len(rows)] = rows
        self._seen = padded.ravel()
        real = np.arange(self.obs_dim) < sizes[:, None]
        self._unpadded = None if real.all() else np.flatnonzero(real)
        self._gathered = np.empty((len(self._seen), self.num_envs))  # [N O, E]

    def _team_step(self, rewards: Floats) -> TeamStep:
        np.take(self._world.table, self._seen, axis=0, out=self._gathered, mode="clip")
        flat = self._gathered.T.astype(self.dtype, order="C")  # [E, N O]
        team = np.add.reduce(rewards, axis=0)
        if self._team_reward == "mean":
            team = team / self.num_agents
        return TeamStep(
            obs=flat.reshape(self.num_envs, self.num_agents, self.obs_dim),
            state=flat.copy() if self._unpadded is None else flat.take(self._unpadded, axis=1),
            avail_actions=self._avail.copy(),
            mask_ids=self._mask_ids.copy(),
            team_reward=team.astype(self.dtype),
            agent_rewards=rewards.T.astype(self.dtype, order="C"),
            terminated=self._terminated.copy(),
            truncated=self._truncated.copy(),
        )

    def _set_done(self) -> None:
        """Ends copies by the time limit or, before it, by success; copies that are done keep their flags."""
        if self._steps == self.episode_limit:
            self._truncated = ~self._terminated
            return
        terminal = self._scenario.terminal()
        if terminal is not None:
            self._terminated |= terminal

    def _check(self, actions: NDArray[Any]) -> None:
        shape = (self.num_envs, self.num_agents) + ((self.num_actions,) if self.continuous_actions else ())
        wanted = np.floating if self.continuous_actions else np.integer
        if actions.shape == shape and np.issubdtype(actions.dtype, wanted) and self._actions.valid(actions):
            return
        if not self.continuous_actions:
            self.check_actions(actions, self._avail)
        raise ValueError(
            f"actions: got {actions.dtype} {list(actions.shape)}, expected floats {list(shape)}, none of them nan"
        )

    def _check_started(self, what: str) -> None:
        if self._steps is None:
            raise ValueError(f"{what}() before reset()")

    def _check_copy(self, what: str, copy: int) -> None:
        self._check_started(what)
        check_number("copy", copy, low=0, high=self.num_envs - 1, integer=True)

    def _check_bodies(self, world: Any) -> None:
        def described(bodies: Any) -> list[tuple]:
            return [(body.name, body.size, body.movable, body.collide) for body in bodies]

        here = self._world
        if described(world.entities) != described(here.bodies):
            raise ValueError(
                f"world: got bodies {[body.name for body in world.entities]}, expected those of {self.name} with the "
                f"same options: {[body.name for body in here.bodies]}"
            )

    def _check_speeds(self, world: Any) -> None:
        accel = [DEFAULT_ACCEL if agent.accel is None else agent.accel for agent in world.agents]
        limit = [np.inf if agent.max_speed is None else agent.max_speed for agent in world.agents]
        if accel != self._world.accel.tolist() or limit != self._world.max_speed.tolist():
            raise ValueError(
                f"world: got agents of speeds {limit}, expected {self._world.max_speed.tolist()}, those of this stage "
                f"of the curriculum"
            )


def scenario_options(name: str) -> dict[str, Any]:
    """Returns a scenario's own options and their defaults, which are mpe2's."""
    return default_options(ALL_SCENARIOS[name], without=("num_envs",))
