"""K-2:4's settings, declared without RLlib."""

from __future__ import annotations

from k24_rllib.algorithms.masked_settings import MaskedSettings
from k24_rllib.settings import choice, flag, number, whole
from k24_rllib.sparsity import DIVERSITY_LOSSES, ESTIMATORS, MASKS, NM_RATIOS, REVIVE, SAMPLING, SCHEDULES, SCORES


class K24Settings(MaskedSettings):
    """What `K24QMixConfig` adds to the settings of learned masks."""

    pattern: str = choice(
        "2:4",
        NM_RATIOS,
        "Weights kept of each group. Sparse tensor cores know 2:4. Wider groups choose more freely, and cost time and "
        "memory (6, 4, 28 and 70 patterns).",
    )
    masks: str = choice(
        "learned",
        MASKS,
        "How masks come about: learned, or fixed_random: each owner's patterns are drawn once and never change (a "
        "baseline).",
        offers={"layer": "masks"},
    )
    shared_mask: bool = flag(
        False, "Whether all owners have one and the same mask (a baseline).", offers={"layer": "shared_mask"}
    )
    sampling: str = choice(
        "tempered",
        SAMPLING,
        "How patterns are drawn: tempered from the distribution itself, so that noise dies as the temperature falls; "
        "gumbel is the textbook hard Gumbel-softmax (arXiv 1611.01144), whose draws do not depend on the temperature.",
        offers={"layer": "sampling"},
    )
    estimator: str = choice(
        "straight_through",
        ESTIMATORS,
        "Gradient of a draw: straight_through; reinmax (arXiv 2304.08612), more exact and noisier; rao_blackwell "
        "(arXiv 2010.04838), with gumbel alone, less noisy and slower.",
        offers={"layer": "estimator"},
    )
    rao_blackwell_samples: int = whole(
        10,
        "Noises that rao_blackwell averages; more is less noisy and slower.",
        low=1,
        high=1_000,
        offers={"layer": "rao_blackwell_samples"},
    )
    scores: str = choice(
        "magnitude",
        SCORES,
        "What says how much an owner needs a weight: magnitude is |W| E sigmoid(alpha); alpha is sigmoid(alpha) alone, "
        "so that large weights are not kept by everybody; logits is alpha as it is, without the others' normalisation.",
        offers={"layer": "scores"},
    )
    alpha_std: float = number(
        0.01,
        "Standard deviation of alpha at the start. More makes owners' masks differ from the first step.",
        low=0.0,
        high=100.0,
        offers={"layer": "alpha_std"},
    )
    alpha_in_common: float = number(
        0.0,
        "Share of alpha's variance at the start that all owners have in common: with 1 they start alike.",
        low=0.0,
        high=1.0,
        offers={"layer": "alpha_in_common"},
    )
    alpha_lr_factor: float = number(
        1.0, "Alpha's learning rate over that of all else. More moves masks faster.", above=0.0, high=1_000.0
    )
    target_masks: str = choice(
        "likeliest",
        ("likeliest", "own", "online"),
        "Masks of the target network: its most likely ones, a draw of its own in each update, or the online network's "
        "draw. At temperatures of 1 and more most likely masks keep larger weights than drawn ones, so values grow.",
    )
    ema_momentum: float = number(
        0.99,
        "Momentum of the average input scale in the scores; nearer 1 follows more slowly.",
        low=0.0,
        high=1.0,
        offers={"layer": "ema_momentum"},
    )
    ema_per_owner: bool = flag(
        False,
        "Whether each owner's scores use the scale of its own inputs, instead of everybody's.",
        offers={"layer": "ema_per_owner"},
    )

    temperature_init: float = number(
        0.1,
        "Temperature at the start. Higher draws patterns more uniformly.",
        above=0.0,
        offers={"layer": "temperature"},
    )
    temperature_final: float = number(
        0.01,
        "Temperature at the end. Lower closes the gap between drawn and most likely pattern.",
        above=0.0,
    )
    temperature_end: float = number(
        0.5, "Progress at which the final temperature is reached; not after finetune_at.", above=0.0, high=1.0
    )
    temperature_schedule: str = choice("linear", SCHEDULES, "How the temperature falls: linear, two_phase or cosine.")

    diversity: str = choice(
        "dot",
        DIVERSITY_LOSSES,
        "What owners are pushed apart by: dot (how often they agree, the method's), cosine (that, whatever their "
        "certainty), js (Jensen-Shannon) or weighted (mask differences times |W|).",
    )

    revive: str = choice(
        "dead", REVIVE, "Which part of alpha a reset redraws: dead, the entries least often selected, or random."
    )
    ema_reset_step: float = number(
        0.1, "Share of the way to its mean that a reset moves the input scale E.", low=0.0, high=1.0
    )
    kl_reset: bool = flag(False, "Whether masks are also reset when behaviour jumps between two learner batches.")
    kl_threshold: float = number(0.1, "KL divergence in nats above which it does. Lower resets sooner.", low=0.0)
    kl_min_interval: int = whole(1_000, "Environment steps after a reset in which it may not.")

    finetune_at: float | None = number(
        None,
        "Progress from which masks are frozen and weights settle; null for never (it costs 0.9 on simple_spread).",
        above=0.0,
        high=1.0,
        optional=True,
    )
    finetune_lr_factor: float = number(
        0.1, "Share of the scheduled learning rate from then on. Lower settles more calmly.", above=0.0
    )
    rewind_to: float | None = number(
        None,
        "Progress whose weights of the masked layers finetuning begins with (lottery-ticket rewinding, arXiv "
        "1903.01611); null goes on with those of the moment.",
        low=0.0,
        high=1.0,
        optional=True,
    )
