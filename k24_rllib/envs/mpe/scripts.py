"""Scripts that play one side of MPE's two-team scenarios sensibly: the opponents of `opponents: scripted`.

Each reads the world as it is and gives a move to every agent of its side. They are no optimum: they give a side that
learns something worth learning against, which random play is not.

Shapes: `E` copies, `K` agents of the side; positions are `[E, bodies, 2]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.scenario import Scenario
from k24_rllib.envs.mpe.steering import moved, towards
from k24_rllib.envs.mpe.world import Floats, World

Actions = NDArray[np.int64]
Script = Callable[[Scenario, Sequence[int], Sequence[int]], Actions]
"""Called with the scenario, the side's agents and the others; returns `[E, K]`."""

FIELD = 0.9  # prey turn back here; at 1.0 leaving the field begins to cost
ALARM = 0.6  # prey with a chaser nearer than this flee, others look for food


def chase(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Every chaser heads for the nearest prey."""
    place, velocity, accel = _where(scenario.world)
    gaps = place[:, None, list(others)] - place[:, list(own), None]  # [E, K, prey, 2]
    nearest = np.linalg.norm(gaps, axis=-1).argmin(-1)[..., None, None]
    goal = np.take_along_axis(gaps, nearest, axis=2)[:, :, 0]
    return towards(goal, velocity[:, list(own)], accel[list(own)])


def flee(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Every prey moves to where the nearest chaser is farthest away, and stays in the field."""
    place, velocity, accel = _where(scenario.world)
    here, chasers = place[:, list(own)], place[:, list(others)]
    then = here[:, :, None] + moved(velocity[:, list(own)], accel[list(own)])  # [E, K, 5, 2]
    gaps = np.linalg.norm(then[:, :, :, None] - chasers[:, None, None], axis=-1).min(-1)  # [E, K, 5]
    outside = np.maximum(np.abs(then) - FIELD, 0.0).sum(-1)
    best: Actions = (gaps - 10.0 * outside).argmax(-1)
    return best


def forage(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Prey flee from a chaser that is near, and otherwise head for the nearest food."""
    world = scenario.world
    place, velocity, accel = _where(world)
    food = [index for index, body in enumerate(world.bodies) if body.name.startswith("food")]
    fleeing = flee(scenario, own, others)
    if not food:
        return fleeing
    here = place[:, list(own)]
    gaps = place[:, None, food] - here[:, :, None]
    nearest = np.linalg.norm(gaps, axis=-1).argmin(-1)[..., None, None]
    eating = towards(np.take_along_axis(gaps, nearest, axis=2)[:, :, 0], velocity[:, list(own)], accel[list(own)])
    alarmed = np.linalg.norm(place[:, None, list(others)] - here[:, :, None], axis=-1).min(-1) < ALARM
    chosen: Actions = np.where(alarmed, fleeing, eating)
    return chosen


def block(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Every pusher, who doesn't know the goal, heads for the landmark that the others are nearest to, all together."""
    place, velocity, accel = _where(scenario.world)
    landmarks = place[:, len(scenario.world.agents) :]
    gaps = np.linalg.norm(landmarks[:, :, None] - place[:, None, list(others)], axis=-1).sum(-1)  # [E, L]
    goal = landmarks[np.arange(len(landmarks)), gaps.argmin(-1)][:, None] - place[:, list(own)]
    return towards(goal, velocity[:, list(own)], accel[list(own)])


def reach(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Every agent heads for the goal."""
    return _to_landmarks(scenario, own, np.zeros(len(own), int))


def cover(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """The first agent heads for the goal, the next for the landmark after it, and so on.

    They cover all landmarks, so that where they are tells nothing.
    """
    return _to_landmarks(scenario, own, np.arange(len(own)))


def _to_landmarks(scenario: Scenario, own: Sequence[int], places: NDArray[np.int64]) -> Actions:
    """Returns the moves towards the landmarks that stand `places [K]` after the goal."""
    place, velocity, accel = _where(scenario.world)
    landmarks = place[:, len(scenario.world.agents) :]  # [E, L, 2]
    which = (scenario.choices[0][:, None] + places) % landmarks.shape[1]  # [E, K]
    goal = np.take_along_axis(landmarks, which[..., None], axis=1) - place[:, list(own)]
    return towards(goal, velocity[:, list(own)], accel[list(own)])


def suspect(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """The adversary heads for the landmark with an agent nearest to it."""
    place, velocity, accel = _where(scenario.world)
    landmarks = place[:, len(scenario.world.agents) :]
    gaps = np.linalg.norm(landmarks[:, :, None] - place[:, None, list(others)], axis=-1).min(-1)  # [E, L]
    goal = landmarks[np.arange(len(landmarks)), gaps.argmin(-1)][:, None] - place[:, list(own)]
    return towards(goal, velocity[:, list(own)], accel[list(own)])


def eavesdrop(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Eve says what she heard last, as if it were not encrypted."""
    return scenario.world.comm[:, -1].argmax(0)[:, None]  # Alice speaks last


def encrypt(scenario: Scenario, own: Sequence[int], others: Sequence[int]) -> Actions:
    """Alice says the message where the key is the first and the other message where it is the second; Bob undoes it."""
    message, key = scenario.choices
    heard = scenario.world.comm[:, -1]
    said = np.where(heard.any(0), heard.argmax(0) % 2, 0)
    return np.stack([said ^ key, message ^ key], axis=1)  # Bob, Alice


SCRIPTS: dict[str, dict[str, Script]] = {
    "mpe_simple_tag": {"adversaries": chase, "good": flee},
    "mpe_simple_world_comm": {"adversaries": chase, "good": forage},
    "mpe_simple_push": {"adversaries": block, "good": reach},
    "mpe_simple_adversary": {"adversaries": suspect, "good": cover},
    "mpe_simple_crypto": {"adversaries": eavesdrop, "good": encrypt},
}
"""By scenario and side."""


def _where(world: World) -> tuple[Floats, Floats, Floats]:
    """Returns positions of bodies `[E, M, 2]`, velocities of agents `[E, N, 2]` and the force of their moves `[N]`."""
    return world.pos.transpose(2, 1, 0), world.vel.transpose(2, 1, 0), world.accel
