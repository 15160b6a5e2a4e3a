"""The TD loss of QMIX as pure functions of tensors: they need PyTorch and nothing else.

`qmix_loss` is the whole of it; the others are its steps, and what is read from its parts.

Shapes, time-major: `T` steps, `B` episodes, `N` agents, `U` actions, `K` values per step (1 with a joint value,
`N` for independent learners).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from k24_rllib.qmix.batch import TrainBatch


@dataclass(frozen=True, slots=True)
class TeamValues:
    """What both networks make of a batch, after mixing."""

    chosen: Tensor  # [T, B, K], the online network's values of the actions taken, with gradient
    next_values: Tensor  # [T, B, K], the target network's values of the next step's best actions, without


@dataclass(frozen=True, slots=True)
class LossParts:
    """A loss and what it was made of."""

    loss: Tensor  # scalar, with gradient
    td_errors: Tensor  # [T, B, K], chosen - targets, detached; of no meaning in padding
    targets: Tensor  # [T, B, K], detached; of no meaning in padding


def qmix_loss(batch: TrainBatch, values: TeamValues, *, gamma: float, td_lambda: float = 0.0) -> LossParts:
    """Returns the mean squared TD error over real steps, `L = mean((Q - y)^2)` (QMIX, arXiv 1803.11485, equation 6).

    With `batch.importance`, each episode's squared errors count by its weight, which makes up for how often it is drawn
    (prioritised replay, Schaul et al. 2016, arXiv 1511.05952, section 3.4). The errors are still divided by the number
    of real steps and not by the weights' sum: smaller weights make smaller steps, as in the paper.

    Args:
        batch: Rewards, ends and real steps, and importance weights if there are any.
        values: The networks' values. For double Q-learning (arXiv 1509.06461) the online network chooses the next
            step's actions and the target network values them.
        gamma: Discount; nearer 1 looks further ahead.
        td_lambda: Lambda of the targets, see `td_targets`.

    Returns:
        The loss, the TD errors, one for each step, or for each step and agent where the mixer keeps agents apart
        (`K = N`), and the targets.
    """
    targets = td_targets(batch.rewards, batch.terminated, values.next_values, gamma, batch.valid, td_lambda).detach()
    errors = values.chosen - targets
    squared = errors.square()
    if batch.importance is not None:
        squared = squared * batch.importance.unsqueeze(-1)  # [T, B, K] * [B, 1]
    return LossParts(loss=masked_mean(squared, batch.valid), td_errors=errors.detach(), targets=targets)


@torch.no_grad()
def episode_priorities(td_errors: Tensor, valid: Tensor) -> Tensor:
    """Returns how much each episode has left to teach, `[B]`: its mean absolute TD error.

    Prioritised replay's proportional priority (Schaul et al. 2016, section 3.3) is of single transitions. Recurrent
    agents learn from whole episodes, so here it is the mean over an episode's real steps and its values of a step: a
    long episode does not count for more than a short one.

    Args:
        td_errors: `[T, B, K]`.
        valid: `[T, B]` bool, steps that were taken.
    """
    weight = valid.to(td_errors.dtype)
    total = (td_errors.abs().mean(-1) * weight).sum(0)  # [B]
    return total / weight.sum(0).clamp_min(1.0)


@torch.no_grad()
def loss_metrics(parts: LossParts, values: TeamValues, valid: Tensor) -> dict[str, Tensor]:
    """Returns what a run reports of an update's values, as 0-dimensional tensors (docs/metrics.md explains each).

    Args:
        parts: What `qmix_loss` returned.
        values: The values it was given.
        valid: `[T, B]` bool, steps that were taken.
    """
    return {
        "td_error_abs": masked_mean(parts.td_errors.abs(), valid),
        "q_taken_mean": masked_mean(values.chosen, valid),
        "target_mean": masked_mean(parts.targets, valid),
    }


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
