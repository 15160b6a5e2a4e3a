"""Crypto: Alice sends Bob a message, encrypted with a key both have, and Eve listens."""

from __future__ import annotations

from typing import Any

import numpy as np

from k24_rllib.envs.mpe.scenario import Rows, Scenario
from k24_rllib.envs.mpe.world import Body, Floats, World

COMM = 4
EVE, BOB, ALICE = range(3)


class SimpleCrypto(Scenario):
    """Nobody moves. The message and the key are each the colour of one of two landmarks, a unit vector."""

    counts = (2, 2)  # message, key

    def __init__(self, num_envs: int) -> None:
        agents = [Body(f"{name}_0", movable=False, silent=False) for name in ("eve", "bob", "alice")]
        landmarks = [Body(f"landmark {index}", movable=False) for index in range(2)]
        extra = {"message": (COMM,), "key": (COMM,)}
        super().__init__(World(num_envs, agents, landmarks, comm_dim=COMM, extra=extra))

    def chosen(self) -> None:
        """Writes message and key."""
        for name, choice in zip(("message", "key"), self.choices, strict=True):
            self.world.extra[name][...] = np.eye(COMM)[choice].T

    def observation(self, agent: int) -> list[Rows]:
        """Alice: message and key; Bob: key and what Alice says; Eve: what Alice says."""
        rows = self.world.rows
        message, key, heard = rows.extra["message"], rows.extra["key"], rows.comm[:, ALICE]
        return {EVE: [heard], BOB: [key, heard], ALICE: [message, key]}[agent]

    def rewards(self) -> Floats:
        """Eve and Bob pay the squared error of their guess if they say anything; Alice and Bob earn what Eve pays."""
        world = self.world
        guesses = world.comm[:, :ALICE]  # [C, 2, E]
        error = np.square(guesses - world.extra["message"][:, None]).sum(0) * guesses.any(0)
        rewards = np.empty((3, world.num_envs))
        rewards[EVE] = -error[EVE]
        rewards[BOB:] = error[EVE] - error[BOB]
        return rewards

    def read_choices(self, world: Any) -> list[int]:
        """Returns message and key."""
        return [int(world.agents[EVE].goal_a.color.argmax()), int(world.agents[ALICE].key.argmax())]

    def write_choices(self, world: Any, choices: list[int]) -> None:
        """Sets message and key, and colours Bob like the message."""
        message, key = (world.landmarks[choice] for choice in choices)
        for agent in world.agents:
            agent.goal_a = message
        world.agents[BOB].color = message.color
        world.agents[ALICE].key = key.color
