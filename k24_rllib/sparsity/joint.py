"""All 2:4 layers of a network in one pass: a few large operations instead of as many small ones for every layer.

Shapes: `A` mask owners, `I`/`J` in/out features of a layer, `L` layers, `K` groups of all layers together, `P`
patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k24_rllib.checks import ConfigError
from k24_rllib.sparsity.diversity import pair_agreement
from k24_rllib.sparsity.linear import GROUP, SemiStructuredLinear24
from k24_rllib.sparsity.patterns import SMALLEST_SCALE, VARIANCE_EPS, sample_patterns


class JointPatterns(nn.Module):
    """Makes the weights of several 2:4 layers at once, as each layer's own `weights` would.

    It holds shapes and constants only, no layers: those are handed to every call, in the order given here.

    Args:
        layers: Layers with the same mask owners and the same `sampling`, at least one.

    Raises:
        ConfigError: if they differ in either.
    """

    patterns: Tensor
    layer_of_group: Tensor
    legal: Tensor | None
    real: Tensor | None
    columns: Tensor
    variance_of_sum: Tensor
    share: Tensor

    def __init__(self, layers: Sequence[SemiStructuredLinear24]) -> None:
        super().__init__()
        kinds = {(layer.num_masks, layer.sampling) for layer in layers}
        if len(kinds) != 1:
            raise ConfigError(f"layers: got mask owners and sampling {sorted(kinds)}, expected the same for all")
        ((self.num_masks, self.sampling),) = kinds
        self._groups = [layer.out_features * layer.num_groups for layer in layers]  # of one owner
        self.register_buffer("patterns", layers[0].patterns.clone(), persistent=False)
        index = torch.arange(len(layers)).repeat_interleave(torch.tensor(self._groups))
        self.register_buffer("layer_of_group", index, persistent=False)
        self.register_buffer("share", _shares(layers), persistent=False)
        legal = torch.cat([_legal(layer) for layer in layers], -1)
        real = torch.cat([_real_columns(layer) for layer in layers], -1)
        columns = real.sum(0)  # [1, K]
        kept = self.patterns[0].sum()
        ragged = not bool(legal.all())
        self.register_buffer("legal", legal if ragged else None, persistent=False)
        self.register_buffer("real", real if ragged else None, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        # Patterns keep n of m columns, all ways equally often: the sum of the kept ones of m centred scores has the
        # variance n (m - n) / (m (m - 1)) * sum of their squares. With no choice (m <= n) it does not matter.
        variance = kept * (columns - kept) / (columns * (columns - 1.0)).clamp_min(1.0)
        self.register_buffer("variance_of_sum", variance.clamp_min(0.0), persistent=False)

    def weights(self, layers: Sequence[SemiStructuredLinear24], explore: bool) -> tuple[list[Tensor], Tensor | None]:
        """Returns every owner's weights.

        Args:
            layers: The layers that this was made for, or copies of them.
            explore: See `SemiStructuredLinear24.weights`.

        Returns:
            The weights `[A, J, I]` of each layer and, where patterns were drawn, the probabilities
            `pi = softmax(logits / tau)`, `[P, A, K]` with gradient, for `agreement`.
        """
        scores = torch.cat([layer.padded_scores().view(self.num_masks, -1, GROUP) for layer in layers], 1)
        scores = scores.movedim(-1, 0).contiguous()  # [4, A, K]: see `linear.py` on what CPU kernels are slow at
        if not explore:
            most_likely = self._logits(scores.detach()).max(0).indices
            return self._weights(layers, self.patterns.index_select(0, most_likely.flatten())), None
        logits = self._logits(self._normalise(scores))
        temperature = torch.stack([layer.temperature for layer in layers])[self.layer_of_group]  # [K]
        probs = F.softmax(logits / temperature, dim=0)
        if self.sampling == "tempered":
            drawn = draw_indices(probs.detach())
            masks = _StraightThroughMasks.apply(probs, drawn, self.patterns)
        else:
            one_hot = sample_patterns(logits, temperature, self.sampling, dim=0)
            drawn, masks = one_hot.detach().max(0).indices, one_hot.flatten(1).mT @ self.patterns
        agrees = probs.detach().max(0).indices == drawn
        for layer, its_agreement in zip(layers, agrees.split(self._groups, 1), strict=True):
            layer.remember_agreement(its_agreement)
        return self._weights(layers, masks), probs

    def agreement(self, probs: Tensor) -> Tensor:
        """Returns `L_div` of the probabilities `[P, A, K]`; see `pattern_orthogonality_loss`."""
        return pair_agreement(probs) @ self.share

    def _normalise(self, scores: Tensor) -> Tensor:
        """Returns scores `[4, A, K]` scaled so that each group's pattern logits have zero mean and unit variance.

        The same as `normalize_logits` of the logits, with a third less to compute.
        """
        scale = scores.detach().amax(0).clamp_min_(SMALLEST_SCALE)
        scaled = scores / scale
        centred = scaled - scaled.sum(0) / self.columns
        if self.real is not None:
            centred = centred * self.real
        variance = centred.square().sum(0) * self.variance_of_sum
        return centred * (variance + VARIANCE_EPS).rsqrt()

    def _logits(self, scores: Tensor) -> Tensor:
        """Returns each pattern's logit, the sum of the scores that it keeps, `[P, A, K]`."""
        logits = (self.patterns @ scores.flatten(1)).view(-1, *scores.shape[1:])
        return logits if self.legal is None else logits.masked_fill(~self.legal, -torch.inf)

    def _weights(self, layers: Sequence[SemiStructuredLinear24], masks: Tensor) -> list[Tensor]:
        """Returns `W * mask` of each layer for `masks [A*K, 4]`."""
        per_layer = masks.view(self.num_masks, -1, GROUP).split(self._groups, 1)
        return [
            layer.weight * mask.view(self.num_masks, layer.out_features, -1)[..., : layer.in_features]
            for layer, mask in zip(layers, per_layer, strict=True)
        ]


def draw_indices(probs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws a pattern of each group from its probabilities, by one uniform number each.

    Args:
        probs: `[P, ...]`; a pattern of probability 0 is never drawn.
        generator: Source of randomness; torch's own if None.

    Returns:
        `[...]` int64.
    """
    cumulative = probs.cumsum(0)
    total = cumulative[-1]
    # Rounding must not lift the product to the total: past the end of the last pattern that has any probability.
    threshold = torch.rand(total.shape, generator=generator, dtype=total.dtype, device=total.device)
    threshold = torch.minimum(threshold * total, total * (1.0 - 1e-6))
    return (cumulative <= threshold).sum(0)


class _StraightThroughMasks(torch.autograd.Function):
    """Gives the drawn patterns' masks, `[A*K, 4]`, and hands the gradient to `probs @ patterns`, their mean."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, drawn: Tensor, patterns: Tensor) -> Tensor:
        ctx.save_for_backward(patterns)
        ctx.shape = probs.shape
        return patterns.index_select(0, drawn.flatten())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (patterns,) = ctx.saved_tensors
        return (patterns @ grad.mT).view(ctx.shape), None, None


def _legal(layer: SemiStructuredLinear24) -> Tensor:
    """Returns which patterns each group of a layer may take, `[P, 1, J * G]` bool."""
    shape = (len(layer.patterns), 1, layer.out_features, layer.num_groups)
    legal = torch.ones(shape, dtype=torch.bool) if layer.legal is None else layer.legal.expand(shape)
    return legal.flatten(2)


def _real_columns(layer: SemiStructuredLinear24) -> Tensor:
    """Returns which columns of each group are real, not padding, `[4, 1, J * G]` of 0 and 1."""
    real = torch.arange(layer.num_groups * GROUP) < layer.in_features
    of_row = real.float().view(layer.num_groups, GROUP).mT  # [4, G]
    return of_row.repeat(1, layer.out_features).unsqueeze(1)


def _shares(layers: Sequence[SemiStructuredLinear24]) -> Tensor:
    """Returns each group's weight in a mean over layers of the mean over a layer's groups with a choice, `[K]`."""
    chosen = [torch.arange(layer.num_groups) < layer.num_choice_groups for layer in layers]
    each = [mask.float().repeat(layer.out_features) for mask, layer in zip(chosen, layers, strict=True)]
    counted = sum(bool(mask.any()) for mask in each)
    return torch.cat([mask / mask.sum().clamp_min(1.0) / max(counted, 1) for mask in each])
