"""The serving agent: a trained team that acts greedily on arrays, without Ray.

Shapes: `B` teams, `N` agents, `O` observation size, `U` actions, `S` numbers of an agent's state.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice
from k24_rllib.serve.backend import BACKENDS, Backend, Floats, make_backend
from k24_rllib.serve.files import read_team
from k24_rllib.serve.team import Spec

ONNX_SUFFIX = ".onnx"
PROGRAM_SUFFIX = ".pt2"


class ServedAgent:
    """A team that acts; `load_agent` makes one.

    Args:
        spec: Its sizes and names.
        backend: What executes its network.
    """

    def __init__(self, spec: Spec, backend: Backend) -> None:
        self.spec = spec
        self.backend = backend

    def initial_state(self, batch: int = 1) -> Floats:
        """Returns what agents remember before an episode's first step, `[B, N, S]`."""
        if type(batch) is not int or batch < 1:
            raise ConfigError(f"batch: got {batch!r}, expected a whole number of at least 1")
        return np.zeros((batch, self.spec.num_agents, self.spec.state_size), np.float32)

    def act(
        self, obs: Any, state: Any, available: Any | None = None, owners: Any | None = None
    ) -> tuple[NDArray[np.int64], Floats]:
        """Returns each agent's available action of the highest value, `[B, N]`, and the state for the next step.

        Args:
            obs: `[B, N, O]`, finite numbers; copied to float32 where they are others.
            state: `[B, N, S]`, from `initial_state` or the step before.
            available: `[B, N, U]` of true and false (or 1 and 0), at least one for each agent; None for all.
            owners: `[B, N]`, the mask owner of each agent, where owners change between episodes; None for the team's.

        Raises:
            ConfigError: naming the argument of another shape or type, or that holds NaN or infinity.
        """
        outcome = self.backend.step(*self._checked(obs, state, available, owners))
        return outcome.actions, outcome.state

    def values(
        self, obs: Any, state: Any, available: Any | None = None, owners: Any | None = None
    ) -> tuple[Floats, Floats]:
        """Returns the value of each action, `[B, N, U]`, and the state after the greedy ones; arguments as in `act`."""
        outcome = self.backend.step(*self._checked(obs, state, available, owners))
        return outcome.values, outcome.state

    def _checked(
        self, obs: Any, state: Any, available: Any | None, owners: Any | None
    ) -> tuple[Floats, Floats, NDArray[np.bool_] | None, NDArray[np.int64] | None]:
        spec = self.spec
        obs = _floats("obs", obs, (None, spec.num_agents, spec.obs_dim), f" of {spec.env}")
        batch = len(obs)
        state = _floats("state", state, (batch, spec.num_agents, spec.state_size))
        if available is not None:
            available = _flags(available, (batch, spec.num_agents, spec.num_actions))
        if owners is not None:
            owners = self._owners(owners, batch)
        elif spec.owners is None:
            raise ConfigError(f"owners: got none, expected [{batch}, {spec.num_agents}]: those of {spec.env} change")
        return obs, state, available, owners

    def _owners(self, owners: Any, batch: int) -> NDArray[np.int64]:
        owners, most = np.asarray(owners), self.spec.num_owners - 1
        _check_shape("owners", owners, (batch, self.spec.num_agents))
        if owners.dtype.kind not in "iu":
            raise ConfigError(f"owners: got {owners.dtype.name}, expected whole numbers")
        if owners.min() < 0 or owners.max() > most:
            raise ConfigError(f"owners: got {owners.min()} to {owners.max()}, expected 0 to {most}")
        return owners.astype(np.int64)


def _check_shape(what: str, array: NDArray[Any], expected: tuple[int | None, ...], whose: str = "") -> None:
    shape, first = array.shape, expected[0]
    if shape[1:] != expected[1:] or (shape[0] < 1 if first is None else shape[0] != first):
        sizes = ", ".join("B" if size is None else str(size) for size in expected)
        raise ConfigError(f"{what}: got shape {list(shape)}, expected [{sizes}]{whose}")


def _floats(what: str, given: Any, shape: tuple[int | None, ...], whose: str = "") -> Floats:
    """Returns numbers as float32, checked."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise ConfigError(f"{what}: got a list whose parts have different lengths, expected an array") from None
    if array.dtype.kind not in "fiu":
        raise ConfigError(f"{what}: got {array.dtype.name}, expected numbers")
    _check_shape(what, array, shape, whose)
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused with what was
            array = array.astype(np.float32)
    if not np.logical_and.reduce(np.isfinite(array), axis=None):  # `all` takes twice as long on a team of three
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ConfigError(f"{what}: got {array[place]} at {list(place)}, expected finite numbers")
    return array


def _flags(given: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Returns which actions are available, checked."""
    try:
        array = np.asarray(given)
    except ValueError:
        raise ConfigError("available: got a list whose parts have different lengths, expected an array") from None
    _check_shape("available", array, shape)
    if array.dtype != np.bool_:
        if array.dtype.kind not in "fiu" or not ((array == 0) | (array == 1)).all():
            raise ConfigError(f"available: got {array.dtype.name}, expected true and false, or 1 and 0")
        array = array.astype(np.bool_)
    some = array.any(-1)
    if not some.all():
        team, agent = (int(i) for i in np.argwhere(~some)[0])
        raise ConfigError(f"available: got no action for agent {agent} of team {team}, expected at least one")
    return array


def load_agent(
    path: Path | str,
    *,
    backend: str | None = None,
    num_agents: int | None = None,
    obs_dim: int | None = None,
    num_actions: int | None = None,
) -> ServedAgent:
    """Returns the team of a file that `rllib export` made; reading it runs no code of whoever made it.

    Args:
        path: A packed or plain `.safetensors` file, or an `.onnx` file.
        backend: `numpy` (the default) or `torch`; `onnxruntime` for `.onnx` files.
        num_agents: The agents that it is to act for, checked if given.
        obs_dim: The numbers of an observation, checked if given.
        num_actions: The actions of an agent, checked if given.

    Raises:
        ConfigError: for a file that is damaged, of another version or made for other spaces, and for a backend that is
            unknown or not installed.
    """
    path = Path(path)
    if path.suffix == PROGRAM_SUFFIX:
        raise ConfigError(
            f"{path}: is a program of PyTorch's, expected .safetensors or .onnx; torch.export.load runs it"
        )
    if path.suffix == ONNX_SUFFIX:
        from k24_rllib.serve.onnx_backend import OnnxBackend, open_onnx

        check_choice(f"backend of an {ONNX_SUFFIX} file", backend or "onnxruntime", ["onnxruntime"])
        session, spec = open_onnx(path)
        _check_spaces(path, spec, num_agents, obs_dim, num_actions)
        return ServedAgent(spec, OnnxBackend(session, spec))
    check_choice("backend", backend or "numpy", BACKENDS)
    team = read_team(path).team
    _check_spaces(path, team.spec, num_agents, obs_dim, num_actions)
    return ServedAgent(team.spec, make_backend(backend or "numpy", team))


def _check_spaces(path: Path, spec: Spec, num_agents: int | None, obs_dim: int | None, num_actions: int | None) -> None:
    for what, there, here in (
        ("agents", spec.num_agents, num_agents),
        ("numbers in an observation", spec.obs_dim, obs_dim),
        ("actions", spec.num_actions, num_actions),
    ):
        if here is not None and here != there:
            raise ConfigError(f"{path}: is of a team of {spec.env} with {there} {what}, expected {here}")
