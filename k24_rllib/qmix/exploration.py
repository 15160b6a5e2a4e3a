"""Epsilon-greedy exploration of a team: each agent on its own takes a random available action now and then."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from k24_rllib.qmix.loss import greedy_actions
from k24_rllib.qmix.schedules import linear


def epsilon_at(step: int, initial: float, final: float, duration: int) -> float:
    """Returns epsilon, falling linearly from `initial` to `final` over `duration` environment steps.

    Args:
        step: Environment steps sampled so far.
        initial: Epsilon at the start; 1 acts at random.
        final: Epsilon from `duration` on; what stays keeps trying other actions.
        duration: Environment steps of the fall; a longer one explores for longer.
    """
    return linear(step, initial, final, duration)


def epsilon_greedy(q: Tensor, available: Tensor, epsilon: float, generator: torch.Generator | None = None) -> Tensor:
    """Chooses actions: with probability `epsilon` uniform over the available ones, otherwise the best available.

    Args:
        q: `[..., U]`.
        available: `[..., U]` bool; at least one action of each agent must be available.
        epsilon: 0 acts greedily and draws nothing.
        generator: Source of randomness; torch's own if None.

    Returns:
        `[...]` int64.
    """
    greedy = greedy_actions(q, available)
    if epsilon <= 0.0:
        return greedy
    options: dict[str, Any] = {"generator": generator, "device": q.device}
    # The largest of independent uniform numbers falls on every available action equally often.
    random = greedy_actions(torch.rand(q.shape, **options), available)
    return torch.where(torch.rand(greedy.shape, **options) < epsilon, random, greedy)


class EpsilonGreedy:
    """`epsilon_greedy` for every step of a rollout, with the random numbers of all steps drawn at once.

    Args:
        shape: `[T, E, N, U]`, the values of all steps.
        epsilon: Probability of a random action.
        device: Where the values are.
    """

    def __init__(self, shape: tuple[int, int, int, int], epsilon: float, device: torch.device) -> None:
        self._explores: Tensor | None = None
        if epsilon > 0.0:
            self._explores = torch.rand((*shape[:-1], 1), device=device) < epsilon  # [T, E, N, 1]
            # The largest of independent uniform numbers falls on every available action equally often.
            self._random = torch.rand(shape, device=device)  # [T, E, N, U]

    def __call__(self, t: int, q: Tensor, available: Tensor) -> Tensor:
        """Returns the actions `[E, N]` of step `t` for values `q` and available actions, both `[E, N, U]`."""
        if self._explores is not None:
            q = torch.where(self._explores[t], self._random[t], q)
        return greedy_actions(q, available)
