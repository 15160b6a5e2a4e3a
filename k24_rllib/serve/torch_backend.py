"""A team's network in PyTorch, and a module of a whole step that needs nothing of this package.

Shapes: `G` groups of rows (agents, or rows of one owner), `R` rows of a group, `B` teams, `N` agents, `M` numbers that
an agent remembers; see `backend.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from k24_rllib.serve.backend import UNAVAILABLE, Backend, Floats, NetworkBackend, Outcome
from k24_rllib.serve.team import Cell, Linear, Spec, Stage, Team


class Network(nn.Module):
    """A team's stages, with the weights of some owners.

    Args:
        stages: From input to output.
        owners: The owner of each group of rows.
    """

    def __init__(self, stages: Sequence[Stage], owners: NDArray[np.int64]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _Layer(stage, owners) if isinstance(stage, Linear) else _GRU(stage, owners) for stage in stages
        )

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Returns action values `[G, R, U]` and what is remembered after the step for `x [G, R, I]`."""
        after, place = [], 0
        for stage in self.stages:
            if isinstance(stage, _GRU):
                x = stage(x, memory[..., place : place + stage.size])
                place += stage.size
                after.append(x)
            else:
                x = stage(x)
        if not after:
            return x, memory
        return x, after[0] if len(after) == 1 else torch.cat(after, -1)


class _Product(nn.Module):
    """`x [G, R, I]` to `x @ weight + bias`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Floats, bias: Floats | None, owners: NDArray[np.int64]) -> None:
        super().__init__()
        if bias is None:
            bias = np.zeros((1, weight.shape[1]), np.float32)
        self.register_buffer("weight", _chosen(weight, owners).mT.contiguous())  # [G, I, J]
        self.register_buffer("bias", _chosen(bias, owners).unsqueeze(1))  # [G, 1, J]

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.shape[0] == 1:
            return x @ self.weight[0] + self.bias
        return torch.baddbmm(self.bias, x, self.weight)


class _Layer(nn.Module):
    def __init__(self, layer: Linear, owners: NDArray[np.int64]) -> None:
        super().__init__()
        self.product = _Product(layer.weights(), layer.bias, owners)
        self.relu = layer.relu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.product(x)
        return y.relu() if self.relu else y


class _GRU(nn.Module):
    """`r, z = sigmoid(i_rz + g_rz)`, `n = tanh(i_n + r g_n)`, `h' = n + z (h - n)`."""

    def __init__(self, cell: Cell, owners: NDArray[np.int64]) -> None:
        super().__init__()
        self.inputs = _Product(cell.w_ih.float32(), cell.b_ih, owners)
        self.memory = _Product(cell.w_hh.float32(), cell.b_hh, owners)
        self.size = cell.out_features

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        gates, share = self.inputs(x), self.memory(before)
        split = [2 * self.size, self.size]
        (gates_rz, gates_n), (share_rz, share_n) = gates.split(split, -1), share.split(split, -1)
        r, z = (gates_rz + share_rz).sigmoid().chunk(2, -1)
        new = (gates_n + r * share_n).tanh()
        after: Tensor = new + z * (before - new)
        return after


def _chosen(of_owners: Floats, owners: NDArray[np.int64]) -> Tensor:
    """Returns what each group has of `[K, ...]`, or what is the same for all."""
    return torch.from_numpy(of_owners.copy() if len(of_owners) == 1 else of_owners[owners])


class TorchBackend(NetworkBackend):
    """Executes a team with PyTorch on the CPU.

    Args:
        team: The team.
    """

    def __init__(self, team: Team) -> None:
        super().__init__(team)
        self._stages = team.stages
        self._of_agents = Network(team.stages, self._known_owners(team))
        self._of_owner: dict[int, Network] = {}

    def _known_owners(self, team: Team) -> NDArray[np.int64]:
        return self._owners % team.spec.num_owners  # any owners, where `act` is told of each step's

    @torch.inference_mode()
    def run(self, x: Floats, memory: Floats, owner: int | None) -> tuple[Floats, Floats]:
        """Runs all stages; see `NetworkBackend.run`."""
        network = self._of_agents if owner is None else self._owners_network(owner)
        before = torch.from_numpy(np.ascontiguousarray(memory))
        q, after = network(torch.from_numpy(x), before)
        return q.numpy(), after.numpy()

    def _owners_network(self, owner: int) -> Network:
        if owner not in self._of_owner:
            self._of_owner[owner] = Network(self._stages, np.array([owner]))
        return self._of_owner[owner]


class TeamStep(nn.Module):
    """A whole step of a team: from observations to actions.

    Args:
        team: A team whose owners are the same in all episodes.
    """

    identity: Tensor

    def __init__(self, team: Team) -> None:
        super().__init__()
        spec = team.spec
        self.memory, self.last_action, self.num_actions = spec.memory, spec.last_action, spec.num_actions
        self.agent_id = spec.agent_id
        self.network = Network(team.stages, team.fixed_owners())
        self.register_buffer("identity", torch.eye(spec.num_agents).unsqueeze(1))

    def forward(self, obs: Tensor, state: Tensor, available: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns actions `[B, N]`, the state after them `[B, N, S]` and values `[B, N, U]`."""
        state = state.transpose(0, 1)
        parts = [obs.transpose(0, 1)]  # [N, B, ...]
        if self.agent_id:
            parts.append(self.identity.expand(-1, obs.shape[0], -1))
        if self.last_action:
            parts.append(state[..., self.memory :])
        q, memory = self.network(torch.cat(parts, -1), state[..., : self.memory])
        values, memory = q.transpose(0, 1), memory.transpose(0, 1)
        actions = values.masked_fill(~available, float(UNAVAILABLE)).argmax(-1)
        if self.last_action:
            memory = torch.cat([memory, nn.functional.one_hot(actions, self.num_actions).to(memory.dtype)], -1)
        return actions, memory.contiguous(), values.contiguous()


def write_program(path: Path | str, team: Team) -> int:
    """Writes `TeamStep` as a program of `torch.export` (`.pt2`), which needs this package no more; returns its bytes.

    Whoever loads one (`torch.export.load`) trusts who made it.

    Args:
        path: The file.
        team: The team.
    """
    spec, path = team.spec, Path(path)
    step = TeamStep(team).eval()
    batch = torch.export.Dim("batch", min=1)
    agents = (2, spec.num_agents)  # an example; any batch fits
    example = (
        torch.zeros(*agents, spec.obs_dim),
        torch.zeros(*agents, spec.state_size),
        torch.ones(*agents, spec.num_actions, dtype=torch.bool),
    )
    program = torch.export.export(step, example, dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    part = path.with_name(f"part-{path.name}")  # PyTorch wants to see its own suffix
    torch.export.save(program, part)
    part.replace(path)
    return path.stat().st_size


class ProgramBackend(Backend):
    """Executes a file of `write_program`; to read it is to trust whoever made it.

    Args:
        path: The file.
        spec: What it was made of.
    """

    def __init__(self, path: Path | str, spec: Spec) -> None:
        self._module = torch.export.load(path).module()
        self._num_actions = spec.num_actions

    @torch.inference_mode()
    def step(
        self,
        obs: Floats,
        state: Floats,
        available: NDArray[np.bool_] | None = None,
        owners: NDArray[np.int64] | None = None,
    ) -> Outcome:
        """Acts once, with the owners that are built in; see `Backend.step`."""
        if available is None:
            available = np.ones((*obs.shape[:2], self._num_actions), bool)
        given = (torch.from_numpy(np.ascontiguousarray(array)) for array in (obs, state, available))
        return Outcome(*(array.numpy() for array in self._module(*given)))
