"""What every algorithm shows while it trains, declared for `QMix.figures`."""

from __future__ import annotations

from k24_rllib.monitoring import Figure

LEARNER = "info/learner/default_policy"
"""Where a result holds the learner's metrics, which docs/metrics.md explains."""
_TRAINING_RETURN = "env_runners/episode_return_mean"
_GREEDY_RETURN = "evaluation/env_runners/episode_return_mean"
_ENV_STEPS = "num_env_steps_sampled_lifetime"
_UPDATES = "info/num_updates"

QMIX_FIGURES = (
    Figure(
        "k24_return", "Raw team return of an iteration's training episodes, mean.", _TRAINING_RETURN, "Return", "Return"
    ),
    Figure("k24_greedy_return", "The same of the last greedy evaluation.", _GREEDY_RETURN, "Return", "Return"),
    Figure(
        "k24_score",
        "Where the greedy return lies between random play (0) and a scripted policy (1).",
        _GREEDY_RETURN,
        "Return",
        "Score",
        "score",
    ),
    Figure("k24_loss", "Loss of the last update.", f"{LEARNER}/loss", "Learning", "Loss"),
    Figure("k24_loss_td", "The TD part of the loss.", f"{LEARNER}/loss_td", "Learning", "Loss"),
    Figure(
        "k24_grad_norm", "Norm of all gradients before clipping.", f"{LEARNER}/grad_norm", "Learning", "Gradient norm"
    ),
    Figure("k24_lr", "Learning rate.", f"{LEARNER}/lr", "Learning", "Learning rate"),
    Figure("k24_epsilon", "Probability of a random action.", f"{LEARNER}/epsilon", "Learning", "Exploration"),
    Figure("k24_env_steps", "Environment steps sampled so far.", _ENV_STEPS, "Progress and speed", "Environment steps"),
    Figure(
        "k24_env_steps_per_s",
        "Environment steps per second of the last iteration.",
        _ENV_STEPS,
        "Progress and speed",
        "Environment steps per second",
        "per_second",
    ),
    Figure("k24_updates", "Gradient updates so far.", _UPDATES, "Progress and speed", "Updates"),
    Figure(
        "k24_updates_per_s",
        "Gradient updates per second of the last iteration.",
        _UPDATES,
        "Progress and speed",
        "Updates per second",
        "per_second",
    ),
    Figure(
        "k24_buffer_fill",
        "Share of the replay buffer that is filled.",
        f"{LEARNER}/buffer_fill",
        "Progress and speed",
        "Replay buffer",
    ),
)
