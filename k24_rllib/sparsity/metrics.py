"""What is logged about masks.

Shapes: `A` mask owners, `J` out features, `G` groups with a choice, `P` patterns, `L` layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity.diversity import similarity_floor
from k24_rllib.sparsity.kaleidoscope import KaleidoscopeLinear
from k24_rllib.sparsity.patterns import PatternDraw
from k24_rllib.sparsity.semi_structured import SemiStructuredLinear


@torch.no_grad()
def pattern_metrics(
    layers: Sequence[SemiStructuredLinear], draws: Sequence[PatternDraw | None] | None = None
) -> dict[str, Tensor]:
    """Returns the state of n:m masks as scalars, without waiting for the device.

    Means are over layers (of one ratio) of the mean over a layer, as in `L_div`. Groups without a choice do not count.
    Frozen layers are certain of their masks: entropy 0, agreement 1, and similarity the share of equal patterns.

    - `sparsity_layer_<i>`, `overall_sparsity`: zeros in the most likely masks / their size, on the padded matrix:
      `1 - n / m`, 0.5 for 2:4
    - `pattern_<k>_prob`: mean probability of pattern `k`
    - `pattern_entropy`: mean of `-sum_k pi_k log2 pi_k`, bits, at most `log2 P`, 2.585 for 2:4
    - `pattern_mean_similarity`, `pattern_max_similarity`, `pattern_min_similarity`: `pi[a] . pi[b]` over owner pairs
      (the mean is `L_div`; 0 for a single owner); `similarity_floor`: the least that the mean can be
    - `sample_argmax_agreement`: share of `draws` that were the most likely pattern; NaN where there is none

    Args:
        layers: n:m layers, of the same mask owners.
        draws: What was last drawn for each layer (see `PatternWeights`); None for nothing yet.

    Raises:
        ConfigError: if there is no layer.
    """
    if not layers:
        raise ConfigError("layers: got none, expected at least one n:m layer")
    metrics = _sparsity([layer.padded_masks(explore=False) for layer in layers])
    choosing = [layer for layer in layers if layer.num_choice_groups > 0]
    if choosing:
        probs = [layer.pattern_probs(choice_only=True) for layer in choosing]
        usage = torch.stack([pi.mean((0, 1, 2)) for pi in probs]).mean(0)  # [P]
        metrics |= {f"pattern_{k}_prob": prob for k, prob in enumerate(usage)}
        entropies = [-torch.xlogy(pi, pi).sum(-1).mean() for pi in probs]
        metrics["pattern_entropy"] = torch.stack(entropies).mean() / torch.log(usage.new_tensor(2.0))
        # Where all owners share one mask, each pair has the same.
        metrics |= _similarity(
            [pi.expand(layer.num_masks, -1, -1, -1) for pi, layer in zip(probs, choosing, strict=True)]
        )
    draws = [None] * len(layers) if draws is None else draws
    agreements = [layer.sample_argmax_agreement(draw) for layer, draw in zip(layers, draws, strict=True)]
    metrics["sample_argmax_agreement"] = torch.stack(agreements).mean()
    return metrics


@torch.no_grad()
def kaleidoscope_metrics(layers: Sequence[KaleidoscopeLinear]) -> dict[str, Tensor]:
    """Returns the state of Kaleidoscope's masks as scalars, without waiting for the device.

    - `sparsity_layer_<i>`, `overall_sparsity`: share of weights that are pruned, mean over owners
    - `mask_difference`: share of weights that one of two owners prunes and the other keeps, mean over owner pairs and
      over all layers' weights (0 for a single owner)
    - `dead_weights`: share of weights that every owner has pruned, which a reset may revive

    Raises:
        ConfigError: if there is no layer.
    """
    if not layers:
        raise ConfigError("layers: got none, expected at least one Kaleidoscope layer")
    masks = [layer.masks() for layer in layers]
    kept_by = torch.cat([mask.sum(0).flatten() for mask in masks])  # owners that keep each weight of all layers
    owners = layers[0].num_masks
    # Of the A (A - 1) ordered pairs, 2 c (A - c) differ where c owners keep a weight
    differing = 2.0 * kept_by * (owners - kept_by) / max(owners * (owners - 1), 1)
    return {
        **_sparsity(masks),
        "mask_difference": differing.mean(),
        "dead_weights": (kept_by == 0).to(kept_by.dtype).mean(),
    }


def _sparsity(masks: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns the share of zeros in each layer's masks, and that of all layers together."""
    metrics = {f"sparsity_layer_{i}": 1.0 - mask.mean() for i, mask in enumerate(masks)}
    kept = torch.stack([mask.sum() for mask in masks]).sum()
    metrics["overall_sparsity"] = 1.0 - kept / sum(mask.numel() for mask in masks)
    return metrics


def _similarity(probs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns mean, largest and smallest similarity over owner pairs, and the mean's floor."""
    owners = probs[0].shape[0]
    flat = [pi.flatten(1) for pi in probs]  # [A, J*G*P]
    per_layer = [x @ x.mT * (pi.shape[-1] / x.shape[1]) for x, pi in zip(flat, probs, strict=True)]
    rows, columns = torch.triu_indices(owners, owners, offset=1, device=probs[0].device)
    pairs = torch.stack(per_layer).mean(0)[rows, columns]  # [A*(A-1)/2]
    if owners == 1:
        pairs = probs[0].new_zeros(1)
    return {
        "pattern_mean_similarity": pairs.mean(),
        "pattern_max_similarity": pairs.max(),
        "pattern_min_similarity": pairs.min(),
        "similarity_floor": pairs.new_tensor(similarity_floor(owners, probs[0].shape[-1])),
    }


class MaskFlipTracker:
    """Counts how many groups changed their most likely pattern between two logs."""

    def __init__(self) -> None:
        self._previous: list[Tensor] | None = None

    def update(self, layers: Sequence[SemiStructuredLinear]) -> Tensor:
        """Returns `mask_flip_rate` since the last call, a share of all owners' groups with a choice; 0 at first."""
        current = [layer.most_likely_patterns()[:, :, : layer.num_choice_groups] for layer in layers]
        previous, self._previous = self._previous or current, current
        flips = torch.cat([(new != old).flatten() for new, old in zip(current, previous, strict=True)])
        return flips.sum() / max(flips.numel(), 1)

    def get_state(self) -> list[Tensor]:
        """Returns the patterns of the last call, a tensor `[R, J, G]` per layer; empty before it."""
        return self._previous or []

    def set_state(self, state: Sequence[Tensor]) -> None:
        """Takes over what `get_state` returned."""
        self._previous = list(state) or None
