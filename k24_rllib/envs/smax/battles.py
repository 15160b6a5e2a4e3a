"""SMAX's battles, all copies in one compiled call: the part that is JAX.

Shapes: `E` copies, `N` allies (the agents), `M` units of both sides, `F` features of a unit, `O` observation size, `S`
state size, `U` actions. Functions for one copy have no `E`; JAX gives it to them.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

X, Y, COOLDOWN = 1, 2, 3
"""Where a unit's features in the state have its position and weapon cooldown."""


class Seen(NamedTuple):
    """What a copy shows after a reset or a step."""

    obs: Array  # [N, O]
    state: Array  # [S]
    avail_actions: Array  # [N, U]
    reward: Array  # [], of each agent
    terminated: Array  # [], one side is dead
    won: Array  # []


class Board(NamedTuple):
    """All there is to know of a copy: JaxMARL's own state, the key of the draws to come, and what was seen last."""

    key: Array  # [2]
    battle: Any
    seen: Seen


class Battles:
    """A number of copies of a map against the heuristic enemy, compiled when they are first played.

    Args:
        map_name: JaxMARL's name of the map.
        num_envs: `E`.
    """

    def __init__(self, map_name: str, num_envs: int) -> None:
        self.smax = HeuristicEnemySMAX(scenario=map_name_to_scenario(map_name))
        self._num_envs = num_envs

    @cached_property
    def reset(self) -> Any:
        """Maps a seed of each copy, uint32 `[E]`, and the number of the episode, uint32 `[]`, to a `Board`."""
        return jax.jit(jax.vmap(self._begin, in_axes=(0, None))).lower(*self._seeds()).compile()

    @cached_property
    def step(self) -> Any:
        """Maps a `Board` and available actions, int32 `[E, N]`, to the next one; copies that are over stay."""
        board = jax.eval_shape(jax.vmap(self._begin, in_axes=(0, None)), *self._seeds())
        actions = jax.ShapeDtypeStruct((self._num_envs, self.smax.num_agents), jnp.int32)
        return jax.jit(jax.vmap(self._step)).lower(board, actions).compile()

    def _seeds(self) -> tuple[Any, Any]:
        return jax.ShapeDtypeStruct((self._num_envs,), jnp.uint32), jax.ShapeDtypeStruct((), jnp.uint32)

    def _begin(self, seed: Array, episode: Array) -> Board:
        key, now = jax.random.split(jax.random.fold_in(jax.random.PRNGKey(seed), episode))
        obs, battle = self.smax.reset(now)
        no = jnp.bool_(False)
        return _strong(Board(key, battle, self._seen(obs, battle, jnp.float32(0.0), no, no)))

    def _step(self, board: Board, actions: Array) -> Board:
        key, now = jax.random.split(board.key)
        orders = {agent: actions[index] for index, agent in enumerate(self.smax.agents)}
        # JaxMARL's `step` would begin the next episode and lose the last observation.
        # Its `dones` do not tell an end from its limit of steps, which is `SmaxEnv`'s business.
        obs, battle, rewards, _, _ = self.smax.step_env(now, board.battle, orders)
        alive = battle.state.unit_alive
        allies, enemies = alive[: self.smax.num_agents].any(), alive[self.smax.num_agents :].any()
        reward = rewards[self.smax.agents[0]]  # everybody's, dead or alive
        after = _strong(Board(key, battle, self._seen(obs, battle, reward, ~(allies & enemies), allies & ~enemies)))
        before = board._replace(seen=board.seen._replace(reward=jnp.zeros_like(board.seen.reward)))
        chosen: Board = jax.tree.map(lambda stays, goes: jnp.where(board.seen.terminated, stays, goes), before, after)
        return chosen

    def _seen(self, obs: Any, battle: Any, reward: Array, terminated: Array, won: Array) -> Seen:
        available = self.smax.get_avail_actions(battle)
        return Seen(
            obs=jnp.stack([obs[agent] for agent in self.smax.agents]),
            state=self._scaled(obs["world_state"], battle.state),
            avail_actions=jnp.stack([available[agent] for agent in self.smax.agents]).astype(jnp.bool_),
            reward=reward,
            terminated=terminated,
            won=won,
        )

    def _scaled(self, world: Array, units: Any) -> Array:
        """Returns JaxMARL's state with every number from about 0 to 1; it has positions, cooldowns and types raw.

        A little beyond are positions of units that JaxMARL puts off the map, where they die in their first step.
        """
        smax, types = self.smax, units.unit_types
        features = world[: -2 * len(types)].reshape(len(types), -1)  # [M, F]; each unit's side and type follow
        cooldowns = features[:, COOLDOWN] / smax.unit_type_weapon_cooldowns[types]  # below 0 once it may shoot
        features = features.at[:, COOLDOWN].set(jnp.clip(cooldowns, 0.0, 1.0))
        features = features.at[:, X : Y + 1].divide(jnp.array([smax.map_width, smax.map_height], jnp.float32))
        return jnp.concatenate([features.reshape(-1), units.unit_teams, types / (smax.unit_type_bits - 1)])


def _strong(board: Board) -> Board:
    """Returns a board without weak types, which a reset would have and a step wouldn't: it would be compiled twice."""
    strong: Board = jax.tree.map(lambda array: jax.lax.convert_element_type(array, jnp.asarray(array).dtype), board)
    return strong


@lru_cache(maxsize=16)
def battles(map_name: str, num_envs: int) -> Battles:
    """Returns the same `Battles` for the same arguments: evaluations make their copies anew each time."""
    return Battles(map_name, num_envs)
