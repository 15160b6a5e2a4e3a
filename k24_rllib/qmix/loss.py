"""The TD loss of QMIX as pure functions of tensors.

Shapes, time-major: `T` steps, `B` episodes, `N` agents, `U` actions, `K` values per step (1 with a joint value,
`N` for independent learners).
"""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_actions(q: Tensor, available: Tensor) -> Tensor:
    """Returns the best available action, `[...]` int64, for `q [..., U]` and `available [..., U]` bool."""
    return q.masked_fill(~available, -torch.inf).argmax(-1)


def chosen_values(q: Tensor, actions: Tensor) -> Tensor:
    """Returns the value of each action taken, `[...]`, for `q [..., U]` and `actions [...]`."""
    return q.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def td_targets(
    rewards: Tensor,
    terminated: Tensor,
    next_values: Tensor,
    gamma: float,
    valid: Tensor | None = None,
    td_lambda: float = 0.0,
) -> Tensor:
    """Targets of each step: one-step (QMIX, arXiv 1803.11485, equation 6) or lambda-returns.

    `y_t = r_t + gamma * (1 - terminated_t) * ((1 - lambda) * Q'_{t+1} + lambda * y_{t+1})`; `y_{t+1}` is `Q'_{t+1}`
    after an episode's last step (Peng and Williams 1996, Q(lambda) without cutting the trace at exploratory actions).

    A time limit is not a termination: a truncated episode bootstraps from the state it was cut at.

    Args:
        rewards: `[T, B]`.
        terminated: `[T, B]` bool.
        next_values: `[T, B, K]`, the target network's values of the following step.
        gamma: Discount; nearer 1 looks further ahead.
        valid: `[T, B]` bool, steps that were taken; None means all.
        td_lambda: 0 trusts the target network after one step; nearer 1 trusts the rewards seen, which spreads them
            faster over an episode but follows older behaviour.

    Returns:
        `[T, B, K]`.
    """
    reward = rewards.unsqueeze(-1)
    keep = gamma * (~terminated).to(next_values.dtype).unsqueeze(-1)
    if td_lambda == 0.0:
        return reward + keep * next_values
    targets = torch.empty_like(next_values)
    following = next_values[-1]
    for t in range(len(rewards) - 1, -1, -1):
        torch.addcmul(reward[t], keep[t], torch.lerp(next_values[t], following, td_lambda), out=targets[t])
        if t and valid is not None:
            following = torch.where(valid[t].unsqueeze(-1), targets[t], next_values[t - 1])
        else:
            following = targets[t]
    return targets


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Returns the mean of `values [T, B, K]` over the real steps, `valid [T, B]`."""
    weight = valid.to(values.dtype).unsqueeze(-1)
    return (values * weight).sum() / (weight.sum() * values.shape[-1]).clamp_min(1.0)


def td_loss(chosen: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Mean squared TD error over real steps (QMIX, arXiv 1803.11485, equation 6).

    Args:
        chosen: `[T, B, K]`, with gradient.
        targets: `[T, B, K]`, held constant.
        valid: `[T, B]` bool; padding does not count.
    """
    return masked_mean((chosen - targets.detach()).square(), valid)
