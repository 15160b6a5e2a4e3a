"""Plays episodes in mpe2 and in the batched engine from the same states, with the same actions.

Shapes: `E` episodes (one copy each), `T` steps, `N` agents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pettingzoo.utils.env_logger import EnvLogger

from k24_rllib.envs.mpe import BatchedMPE
from k24_rllib.envs.mpe.modules import scenario_module

CASES: list[tuple[str, dict[str, Any]]] = [
    ("mpe_simple", {}),
    ("mpe_simple_spread", {}),
    ("mpe_simple_spread", {"N": 1}),
    ("mpe_simple_spread", {"N": 6, "local_ratio": 0.2}),
    ("mpe_simple_spread", {"N": 5, "local_ratio": 1.0, "num_agent_neighbors": 2, "num_landmark_neighbors": 3}),
    ("mpe_simple_spread", {"N": 2, "local_ratio": 0.0, "num_agent_neighbors": 4, "num_landmark_neighbors": 4}),
    ("mpe_simple_spread", {"curriculum": True, "terminate_on_success": True}),
    ("mpe_simple_reference", {}),
    ("mpe_simple_reference", {"local_ratio": 0.1}),
    ("mpe_simple_speaker_listener", {}),
    ("mpe_simple_adversary", {}),
    ("mpe_simple_adversary", {"N": 4, "num_agent_neighbors": 2, "num_landmark_neighbors": 1}),
    ("mpe_simple_adversary", {"N": 1, "num_agent_neighbors": 3}),
    ("mpe_simple_crypto", {}),
    ("mpe_simple_push", {}),
    ("mpe_simple_tag", {}),
    ("mpe_simple_tag", {"num_good": 3, "num_adversaries": 2, "num_obstacles": 0}),
    ("mpe_simple_tag", {"num_good": 2, "num_obstacles": 4, "num_agent_neighbors": 3, "num_landmark_neighbors": 5}),
    ("mpe_simple_tag", {"num_landmark_neighbors": 1, "curriculum": True, "terminate_on_success": True}),
    ("mpe_simple_world_comm", {}),
    ("mpe_simple_world_comm", {"num_good": 3, "num_adversaries": 1, "num_obstacles": 0, "num_forests": 1}),
    ("mpe_simple_world_comm", {"num_good": 1, "num_adversaries": 5, "num_food": 4, "num_forests": 0}),
]
"""Every scenario and option of the engine; `max_cycles` comes from the tests."""

CROWDS = (1.0, 0.5, 0.25, 0.05)
"""Start positions are shrunk by one of these, so that most episodes begin in a heap."""


@dataclass
class Played:
    """What an engine gave; step 0 is the start, entries after an episode's end are not compared."""

    obs: np.ndarray  # [E, T+1, S], every agent's observation, unpadded and side by side
    rewards: np.ndarray  # [E, T+1, N]
    terminated: np.ndarray  # [E, T+1]
    truncated: np.ndarray  # [E, T+1]
    lengths: np.ndarray  # [E]
    collisions: int = 0


@dataclass
class Compared:
    """How far the two engines are apart, and how much happened."""

    deviation: float
    collisions: int
    steps: int
    terminated: int


def parallel_env(name: str, **options: Any) -> Any:
    return scenario_module(name).parallel_env(**options)


def compare(
    name: str, options: dict[str, Any], episodes: int, seed: int, *, continuous: bool = False, stage: int = 0
) -> Compared:
    """Plays `episodes` in both engines; what agents see, earn and when episodes end must be the same."""
    rng = np.random.default_rng(seed)
    reference = parallel_env(name, continuous_actions=continuous, **options)
    engine = BatchedMPE(name, episodes, continuous_actions=continuous, dtype=np.float64, **options)
    if stage:
        reference.unwrapped.set_curriculum_stage(stage)
        engine.set_curriculum_stage(stage)
    engine.reset(seed)
    actions = random_actions(engine, rng)  # [T, E, N] or [T, E, N, U]
    EnvLogger.suppress_output()  # a line for each action that is clipped
    theirs = _play_reference(reference, engine, actions, rng)
    EnvLogger.unsuppress_output()
    ours = _play_engine(engine, actions)
    deviation = 0.0
    for episode, length in enumerate(theirs.lengths):
        for part in ("obs", "rewards", "terminated", "truncated"):
            expected = getattr(theirs, part)[episode, : length + 1].astype(float)
            got = getattr(ours, part)[episode, : length + 1].astype(float)
            deviation = max(deviation, float(np.abs(expected - got).max()))
    return Compared(deviation, theirs.collisions, int(theirs.lengths.sum()), int(theirs.terminated.any(1).sum()))


def random_actions(engine: BatchedMPE, rng: np.random.Generator) -> np.ndarray:
    """Returns actions that often last for a few steps, so that agents go far, meet and leave the field."""
    shape = (engine.episode_limit, engine.num_envs, engine.num_agents)
    if engine.continuous_actions:
        precision = rng.choice([np.float32, np.float64])
        actions = rng.uniform(-0.3, 1.3, (*shape, engine.num_actions)).astype(precision)
    else:
        actions = rng.integers(engine.observe().avail_actions.sum(-1), size=shape)
    for step in range(1, shape[0]):
        again = rng.random(shape[1:]) < 0.6
        actions[step][again] = actions[step - 1][again]
    return actions


def scramble(world: Any, rng: np.random.Generator) -> None:
    """Turns a fresh world into one from the midst of an episode: shrunk, everyone moving, everyone saying something."""
    crowd = rng.choice(CROWDS)
    for entity in world.entities:
        entity.state.p_pos = entity.state.p_pos * crowd
    for agent in world.agents:
        if agent.movable:
            agent.state.p_vel = rng.normal(0.0, 0.5, 2)
        if not agent.silent:
            agent.state.c = rng.random(world.dim_c)


def observations(reference: Any) -> np.ndarray:
    """Returns all agents' observations side by side, not yet rounded to float32."""
    raw = reference.unwrapped
    return np.concatenate([raw.scenario.observation(agent, raw.world) for agent in raw.world.agents])


def same_world(one: Any, other: Any) -> bool:
    """Returns whether two worlds of mpe2 are in the same state."""
    alike = [
        np.allclose(a.state.p_pos, b.state.p_pos, atol=1e-9, rtol=0)
        and np.allclose(a.state.p_vel, b.state.p_vel, atol=1e-9, rtol=0)
        and np.array_equal(a.color, b.color)
        for a, b in zip(one.entities, other.entities, strict=True)
    ]
    spoken = [np.array_equal(a.state.c, b.state.c) for a, b in zip(one.agents, other.agents, strict=True)]
    return all(alike) and all(spoken)


def _play_reference(reference: Any, engine: BatchedMPE, actions: np.ndarray, rng: np.random.Generator) -> Played:
    world = reference.unwrapped.world
    played = _empty(engine)
    for episode in range(engine.num_envs):
        reference.reset(seed=int(rng.integers(1 << 31)))
        scramble(world, rng)
        engine.load_state(episode, world)
        played.obs[episode, 0] = observations(reference)
        for step, now in enumerate(actions[:, episode], start=1):
            spaces = [reference.action_space(agent) for agent in reference.possible_agents]
            choice = [
                action[: space.shape[0]] if engine.continuous_actions else int(action)
                for action, space in zip(now, spaces, strict=True)
            ]
            ended = reference.step(dict(zip(reference.possible_agents, choice, strict=True)))
            played.obs[episode, step] = observations(reference)
            for part, values in zip(("rewards", "terminated", "truncated"), ended[1:4], strict=True):
                each = [values[agent] for agent in reference.possible_agents]
                getattr(played, part)[episode, step] = each if part == "rewards" else all(each)
            played.collisions += _overlaps(world)
            played.lengths[episode] = step
            if not reference.agents:
                break
    return played


def _play_engine(engine: BatchedMPE, actions: np.ndarray) -> Played:
    played = _empty(engine)
    step = engine.observe()
    for t in range(len(actions) + 1):
        played.obs[:, t], played.rewards[:, t] = step.state, step.agent_rewards
        played.terminated[:, t], played.truncated[:, t] = step.terminated, step.truncated
        if step.done.all():
            break
        step = engine.step(actions[t])
    return played


def _empty(engine: BatchedMPE) -> Played:
    shape = (engine.num_envs, engine.episode_limit + 1)
    return Played(
        obs=np.zeros((*shape, engine.state_dim)),
        rewards=np.zeros((*shape, engine.num_agents)),
        terminated=np.zeros(shape, bool),
        truncated=np.zeros(shape, bool),
        lengths=np.zeros(shape[0], int),
    )


def _overlaps(world: Any) -> int:
    """Returns how many pairs push each other."""
    bodies = [body for body in world.entities if body.collide]
    pos = np.array([body.state.p_pos for body in bodies] or np.zeros((0, 2)))
    size = np.array([body.size for body in bodies])
    dist = np.linalg.norm(pos[:, None] - pos, axis=-1)
    movable = np.array([body.movable for body in bodies], bool)
    touching = (dist < size[:, None] + size) & (movable[:, None] | movable)
    return int(np.triu(touching, 1).sum())
