"""Random streams: each round of rollouts has its own, a pure function of the run's seed and of the round's number.

So workers carry no stream from round to round: a resumed run needs to know the next round's number alone, a worker that
was restarted goes on with the right round, and a round that was lost can be played again as it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand
from numpy.typing import NDArray

_TRAINING, _EVALUATION, _REPLAY, _GREEDY, _LEARNER, _OPPONENTS = range(6)
_LARGEST_ENV_SEED = (1 << 31) - 1  # simulators written in C take no more
_ASIDE = np.random.MT19937(0)
"""What NumPy's global functions draw from in a block that shall leave no trace; such blocks are not nested."""


@dataclass(frozen=True, slots=True)
class Streams:
    """All streams of a run, which share nothing with each other or with those of any other seed.

    Attributes:
        entropy: The run's seed, or what was drawn in place of one.
    """

    entropy: int

    @classmethod
    def of(cls, seed: int | None) -> Streams:
        """Returns the streams of a seed; None draws fresh ones."""
        return cls(seed if seed is not None else int(np.random.SeedSequence().generate_state(1, np.uint64)[0]))

    def training(self, worker: int, number: int) -> np.random.SeedSequence:
        """Returns the stream of a worker's training round; rounds count from 0 over the whole run."""
        return self._stream(_TRAINING, worker, number)

    def evaluation(self, worker: int, number: int, batch: int = 0) -> np.random.SeedSequence:
        """Returns the stream of a worker's `batch`-th batch of episodes in the run's `number`-th evaluation."""
        return self._stream(_EVALUATION, worker, number, batch)

    def greedy(self) -> np.random.SeedSequence:
        """Returns the stream of `evaluate_greedy` without a seed of its own."""
        return self._stream(_GREEDY)

    def replay(self) -> np.random.SeedSequence:
        """Returns the stream of the replay buffer's draws."""
        return self._stream(_REPLAY)

    def learner(self) -> np.random.SeedSequence:
        """Returns the stream of what the learner draws: masks, resets."""
        return self._stream(_LEARNER)

    def opponents(self, number: int) -> np.random.SeedSequence:
        """Returns the stream of who is played against in a training round, where that is drawn (self-play)."""
        return self._stream(_OPPONENTS, number)

    def _stream(self, *key: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.entropy, spawn_key=key)


def env_seed(stream: np.random.SeedSequence) -> int:
    """Returns the seed with which an environment is reset for the episodes of a stream."""
    return int(stream.generate_state(1)[0]) & _LARGEST_ENV_SEED


def draw_from(stream: np.random.SeedSequence, device: torch.device) -> None:
    """Lets PyTorch's (the CPU's and `device`'s), NumPy's and Python's global generators draw from `stream`."""
    torch_seed, numpy_seed, python_seed = (int(word) for word in stream.generate_state(3, np.uint64))
    for generator in _torch_generators(device):
        generator.manual_seed(torch_seed)
    np.random.seed(numpy_seed & 0xFFFFFFFF)
    random.seed(python_seed)


@contextmanager
def drawing_from(stream: np.random.SeedSequence, device: torch.device) -> Iterator[None]:
    """Lets a block draw from `stream` whatever it draws from PyTorch's, NumPy's and Python's global generators.

    Exploration and masks draw from PyTorch's; the others are for environments that do. Afterwards all are as they were,
    so that a learner in the same process does not notice.

    Args:
        stream: Where the block's draws come from.
        device: The device whose PyTorch generator is meant, beside the CPU's.
    """
    with undisturbed(device):
        draw_from(stream, device)
        yield


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Puts PyTorch's, NumPy's and Python's global generators back after a block that may draw from them."""
    generators = _torch_generators(device)
    torch_states = [generator.get_state() for generator in generators]
    # NumPy's is put aside whole, since reading and writing its state takes ten times as long as all the rest.
    numpy_generator, python_state = mtrand.get_bit_generator(), random.getstate()
    mtrand.set_bit_generator(_ASIDE)
    try:
        yield
    finally:
        for generator, state in zip(generators, torch_states, strict=True):
            generator.set_state(state)
        mtrand.set_bit_generator(numpy_generator)
        random.setstate(python_state)


def global_state(device: torch.device) -> dict[str, Any]:
    """Returns the state of PyTorch's generators (the CPU's and `device`'s), NumPy's and Python's, as plain values."""
    states: list[NDArray[np.uint8]] = [generator.get_state().numpy() for generator in _torch_generators(device)]
    return {"torch": states, "numpy": np.random.get_state(), "python": random.getstate()}


def set_global_state(state: dict[str, Any], device: torch.device) -> None:
    """Takes over what `global_state` returned; of another kind of device the CPU's generator alone."""
    for generator, saved in zip(_torch_generators(device), state["torch"], strict=False):
        generator.set_state(torch.from_numpy(np.array(saved)))
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def _torch_generators(device: torch.device) -> list[torch.Generator]:
    """Returns PyTorch's global generators that matter to what runs on `device`: the CPU's first."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    return generators
