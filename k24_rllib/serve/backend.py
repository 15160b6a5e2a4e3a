"""What executes a team's network: one small interface, so that a faster one is a file of its own.

Shapes: `B` teams, `N` agents, `O` observation size, `U` actions, `M` numbers that an agent remembers, `S` numbers of
its state, `I` input size, `G` groups of rows, `R` rows of a group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice
from k24_rllib.serve.team import Team

UNAVAILABLE = np.float32(-1e9)
"""Value of an action that can't be taken, as in training."""
Floats = NDArray[np.float32]


class Outcome(NamedTuple):
    """What a team's step gives."""

    actions: NDArray[np.int64]  # [B, N], of the highest value among the available, the first of equals
    state: Floats  # [B, N, S]
    values: Floats  # [B, N, U], of all actions, available or not


class Backend(ABC):
    """Executes one team's network; what it is given has been checked."""

    @abstractmethod
    def step(
        self,
        obs: Floats,
        state: Floats,
        available: NDArray[np.bool_] | None = None,
        owners: NDArray[np.int64] | None = None,
    ) -> Outcome:
        """Acts once.

        Args:
            obs: `[B, N, O]`.
            state: `[B, N, S]`, zeros before the first step.
            available: `[B, N, U]`; None for all.
            owners: `[B, N]`; None for the team's own.
        """


class NetworkBackend(Backend):
    """A backend that computes the network alone; inputs, owners' rows and the choice of actions are made here.

    Args:
        team: The team.
    """

    def __init__(self, team: Team) -> None:
        self._spec = spec = team.spec
        self._identity = np.eye(spec.num_agents, dtype=np.float32)[:, None]
        self._one_hot = np.eye(spec.num_actions, dtype=np.float32)
        self._owners = np.arange(spec.num_agents) if spec.owners is None else np.array(spec.owners)
        self._apart = team.tells_owners_apart

    @abstractmethod
    def run(self, x: Floats, memory: Floats, owner: int | None) -> tuple[Floats, Floats]:
        """Returns action values `[G, R, U]` and what is remembered after the step, `[G, R, M]`.

        Args:
            x: `[G, R, I]`.
            memory: `[G, R, M]`.
            owner: The owner of all rows; None: groups are agents, each with its owner in the team.
        """

    def step(
        self,
        obs: Floats,
        state: Floats,
        available: NDArray[np.bool_] | None = None,
        owners: NDArray[np.int64] | None = None,
    ) -> Outcome:
        """Acts once; see `Backend.step`."""
        x, memory = self._inputs(obs, state), state[..., : self._spec.memory].swapaxes(0, 1)
        if owners is None or not self._apart or (owners == self._owners).all():
            q, memory = self.run(x, memory, None)
        else:
            q, memory = self._by_owner(x, memory, owners.T)
        values = np.ascontiguousarray(q.swapaxes(0, 1))
        actions = (values if available is None else np.where(available, values, UNAVAILABLE)).argmax(-1)
        return Outcome(actions, self._state(memory, actions), values)

    def _inputs(self, obs: Floats, state: Floats) -> Floats:
        """Returns what the network sees of each agent, `[N, B, I]`."""
        spec, obs_dim = self._spec, self._spec.obs_dim
        x = np.empty((spec.num_agents, len(obs), spec.input_dim), np.float32)
        x[..., :obs_dim] = obs.swapaxes(0, 1)
        if spec.agent_id:
            x[..., obs_dim : obs_dim + spec.num_agents] = self._identity
        if spec.last_action:
            x[..., spec.input_dim - spec.num_actions :] = state[..., spec.memory :].swapaxes(0, 1)
        return x

    def _by_owner(self, x: Floats, memory: Floats, owners: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Runs each owner's rows by themselves, for `x [N, B, I]` and owners `[N, B]`."""
        q = np.empty((*owners.shape, self._spec.num_actions), np.float32)
        after = np.empty_like(memory)
        for owner in np.unique(owners):
            rows = owners == owner
            its_q, its_memory = self.run(x[rows][None], memory[rows][None], int(owner))
            q[rows], after[rows] = its_q[0], its_memory[0]
        return q, after

    def _state(self, memory: Floats, actions: NDArray[np.int64]) -> Floats:
        """Returns agents' states `[B, N, S]`."""
        memory = memory.swapaxes(0, 1)
        if not self._spec.last_action:
            return np.ascontiguousarray(memory)
        return np.concatenate([memory, self._one_hot[actions]], -1)


def _numpy(team: Team) -> Backend:
    from k24_rllib.serve.numpy_backend import NumpyBackend

    return NumpyBackend(team)


def _torch(team: Team) -> Backend:
    need("torch", "backend: torch", "pip install torch")
    from k24_rllib.serve.torch_backend import TorchBackend

    return TorchBackend(team)


BACKENDS: dict[str, Callable[[Team], Backend]] = {"numpy": _numpy, "torch": _torch}
"""What makes a backend of a team; a file for onnxruntime is its own."""


def make_backend(name: str, team: Team) -> Backend:
    """Returns the backend of a name for a team.

    Raises:
        ConfigError: for an unknown name, or a package that is missing.
    """
    return BACKENDS[check_choice("backend", name, BACKENDS)](team)


def need(module: str, what: str, install: str) -> Any:
    """Returns an optional module.

    Args:
        module: Its name.
        what: What it is needed for.
        install: The command that installs it.

    Raises:
        ConfigError: with the command, where it is missing.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{what}: needs {error.name}, which is not installed: {install}") from None
