"""All n:m layers of a network in one pass: a few large operations instead of as many small ones for every layer.

Shapes: `A` mask owners, `R` masks that differ (`A`, or 1 where all owners share one), `I`/`J` in/out features of a
layer, `K` groups of `m` weights of all layers together, `P` patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from k24_rllib import kernels
from k24_rllib.checks import ConfigError
from k24_rllib.sparsity.diversity import DIVERSITY_LOSSES
from k24_rllib.sparsity.layer import JointWeights, LayerWeights
from k24_rllib.sparsity.patterns import SMALLEST_SCALE, VARIANCE_EPS, PatternDraw, PatternWeights, sample_patterns
from k24_rllib.sparsity.scores import SCORES

if TYPE_CHECKING:
    from k24_rllib.sparsity.semi_structured import SemiStructuredLinear


class JointPatterns(JointWeights):
    """Makes the weights of several n:m layers at once, as each layer's own `make_weights` would.

    It holds shapes and constants only, no layers: those are handed to every call, in the order given here.

    Args:
        layers: Layers with the same mask owners, patterns and way to draw them, at least one.

    Raises:
        ConfigError: if they differ in any of these.
    """

    patterns: Tensor
    layer_of_group: Tensor
    penalty: Tensor | None
    real: Tensor | None
    columns: Tensor
    variance_of_sum: Tensor
    share: Tensor

    def __init__(self, layers: Sequence[SemiStructuredLinear]) -> None:
        super().__init__()
        kinds = {_kind(layer) for layer in layers}
        if len(kinds) != 1:
            raise ConfigError(
                f"layers: got (owners, n, m, sampling, estimator, scores) {sorted(kinds)}, expected one for all"
            )
        first = layers[0]
        self.num_distinct, self.m = first.num_distinct, first.m
        self.sampling, self.estimator, self.scores = first.sampling, first.estimator, first.scores
        self._samples = first.rao_blackwell_samples
        self._own_draw = (self.sampling, self.estimator) == ("tempered", "straight_through")
        self._compiled = first.compiled and (first.n, first.m) == (2, 4)
        self._groups = [layer.out_features * layer.num_groups for layer in layers]  # of one owner
        self._starts = [sum(self._groups[:i]) for i in range(len(layers))]
        with torch.device(first.weight.device):
            self._register_constants(layers)

    def _register_constants(self, layers: Sequence[SemiStructuredLinear]) -> None:
        first = layers[0]
        index = torch.arange(len(layers)).repeat_interleave(torch.tensor(self._groups))
        legal = torch.cat([_legal(layer) for layer in layers], -1)
        real = torch.cat([_real_columns(layer) for layer in layers], -1)
        ragged = not bool(legal.all())
        columns = real.sum(0)  # [1, K]
        # Patterns keep n of m columns, all ways equally often: the sum of the kept ones of m centred scores has the
        # variance n (m - n) / (m (m - 1)) * sum of their squares. With no choice (m <= n) it does not matter.
        variance = first.n * (columns - first.n) / (columns * (columns - 1.0)).clamp_min(1.0)
        for name, constant in {
            "patterns": first.patterns.clone(),
            "layer_of_group": index,
            "share": _shares(layers),
            "penalty": _penalty(legal, self.num_distinct) if ragged else None,
            "real": real if ragged else None,
            "columns": columns,
            "variance_of_sum": variance.clamp_min(0.0),
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def make_weights(
        self, layers: Sequence[SemiStructuredLinear], explore: bool
    ) -> tuple[list[LayerWeights], Tensor | None]:
        """Returns every owner's weights.

        Args:
            layers: The layers that this was made for, or copies of them.
            explore: See `SemiStructuredLinear.weights`.

        Returns:
            What each layer's own `make_weights` would, and, where patterns were drawn, the probabilities
            `pi = softmax(logits / tau)`, `[P, R, K]` with gradient, for `diversity`.
        """
        if any(layer.frozen for layer in layers):  # there is nothing to compute
            return [layer.make_weights(explore) for layer in layers], None
        library = self._library(layers[0].weight, explore)
        if library is not None:
            return self._compiled_weights(library, layers, explore)
        scores = torch.cat([layer.padded_scores().view(self.num_distinct, -1, self.m) for layer in layers], 1)
        scores = scores.movedim(-1, 0).contiguous()  # [m, R, K]: `semi_structured.py` says what CPUs are slow at
        if not explore:
            most_likely = self._logits(scores.detach()).max(0).indices
            weights = self._weights(layers, self.patterns.index_select(0, most_likely.flatten()))
            return [PatternWeights(its) for its in weights], None
        logits = self._logits(scores if self.scores == "logits" else self._normalise(scores))
        temperature = torch.stack([layer.temperature for layer in layers])[self.layer_of_group]  # [K]
        probs = F.softmax(logits / temperature, dim=0)
        drawn, masks = self._draw(logits, temperature, probs)
        draws = self._draws(probs.detach(), drawn, masks.detach())
        return _records(self._weights(layers, masks), draws), probs

    def diversity(self, name: str, layers: Sequence[SemiStructuredLinear], probs: Tensor) -> Tensor:
        """Returns a diversity loss of the probabilities `[P, R, K]`, a scalar; see `diversity_loss`."""
        magnitude = probs.new_empty(0)
        if name == "weighted":
            magnitude = torch.cat([layer.group_magnitudes().flatten(1) for layer in layers], 1)  # [m, K]
        return DIVERSITY_LOSSES[name](probs, magnitude, self.patterns) @ self.share

    def _library(self, like: Tensor, explore: bool) -> CDLL | None:
        """Returns the compiled kernels where they can do it: 2:4, the method's own draw, on the CPU."""
        if not self._compiled or not kernels.on_cpu(like):
            return None
        if not self._own_draw if explore else torch.is_grad_enabled():
            return None
        return kernels.library()

    def _compiled_weights(
        self, library: CDLL, layers: Sequence[SemiStructuredLinear], explore: bool
    ) -> tuple[list[LayerWeights], Tensor | None]:
        kind = SCORES.index(self.scores)
        tensors = [
            kernels.patterns.LayerTensors(
                layer.weight, layer.tracker.value, layer.hetero_alpha, layer.temperature, start, kind
            )
            for layer, start in zip(layers, self._starts, strict=True)
        ]
        if not explore:
            likely = [kernels.patterns.most_likely(library, its) for its in tensors]
            return [PatternWeights(layer.for_each_owner(its)) for layer, its in zip(layers, likely, strict=True)], None
        draw = kernels.patterns.Draw.empty(torch.rand(self.num_distinct, sum(self._groups)))
        parameters = [tensor for layer in layers for tensor in (layer.weight, layer.hetero_alpha)]
        probs, *distinct = _CompiledDraw.apply(library, tensors, draw, *parameters)
        weights = [layer.for_each_owner(its) for layer, its in zip(layers, distinct, strict=True)]
        return _records(weights, self._draws(draw.probs, draw.drawn, draw.masks)), probs

    def _normalise(self, scores: Tensor) -> Tensor:
        """Returns scores `[m, R, K]` scaled so that each group's pattern logits have zero mean and unit variance.

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
        """Returns each pattern's logit, the sum of the scores that it keeps, `[P, R, K]`."""
        flat = scores.flatten(1)
        # Where a pattern may not be taken, -inf is added in the same product.
        logits = self.patterns @ flat if self.penalty is None else torch.addmm(self.penalty, self.patterns, flat)
        return logits.view(-1, *scores.shape[1:])

    def _draw(self, logits: Tensor, temperature: Tensor, probs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the index of the pattern drawn for each group, `[R, K]`, and the masks `[R * K, m]`."""
        if self._own_draw:
            drawn = draw_indices(probs.detach())
            return drawn, _StraightThroughMasks.apply(probs, drawn, self.patterns)
        one_hot = sample_patterns(
            logits,
            temperature,
            self.sampling,
            dim=0,
            probs=probs,
            estimator=self.estimator,
            rao_blackwell_samples=self._samples,
        )
        return one_hot.detach().max(0).indices, one_hot.flatten(1).mT @ self.patterns

    def _weights(self, layers: Sequence[SemiStructuredLinear], masks: Tensor) -> list[Tensor]:
        """Returns `W * mask` of each layer, `[A, J, I]`, for `masks [R * K, m]`."""
        weights = []
        for layer, its in zip(layers, self._of_layers(masks), strict=True):
            mask = its.view(self.num_distinct, layer.out_features, -1)[..., : layer.in_features]
            weights.append(layer.for_each_owner(layer.weight * mask))
        return weights

    def _draws(self, probs: Tensor, drawn: Tensor, masks: Tensor) -> list[PatternDraw]:
        """Returns each layer's part of a draw: of `probs [P, R, K]`, `drawn [R, K]` and `masks [R * K, m]`."""
        parts = (probs.split(self._groups, 2), drawn.split(self._groups, 1), self._of_layers(masks))
        return [PatternDraw(*its) for its in zip(*parts, strict=True)]

    def _of_layers(self, masks: Tensor) -> tuple[Tensor, ...]:
        """Returns the part `[R, J * G, m]` of each layer in `masks [R * K, m]`."""
        return masks.view(self.num_distinct, -1, self.m).split(self._groups, 1)


def _records(weights: Sequence[Tensor], draws: Sequence[PatternDraw]) -> list[LayerWeights]:
    return [PatternWeights(*its) for its in zip(weights, draws, strict=True)]


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
    """Gives the drawn patterns' masks, `[R * K, m]`, and hands the gradient to `probs @ patterns`, their mean."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, drawn: Tensor, patterns: Tensor) -> Tensor:
        ctx.save_for_backward(patterns)
        ctx.shape = probs.shape
        return patterns.index_select(0, drawn.flatten())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (patterns,) = ctx.saved_tensors
        return (patterns @ grad.mT).view(ctx.shape), None, None


class _CompiledDraw(torch.autograd.Function):
    """`pi [P, R, K]` and each layer's weights `[R, J, I]`, with the gradient of `_StraightThroughMasks`."""

    @staticmethod
    def forward(
        ctx: Any,
        library: CDLL,
        layers: list[kernels.patterns.LayerTensors],
        draw: kernels.patterns.Draw,
        *parameters: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.library, ctx.layers, ctx.draw = library, layers, draw
        ctx.set_materialize_grads(False)
        return draw.probs.detach(), *(kernels.patterns.draw(library, layer, draw) for layer in layers)

    @staticmethod
    def backward(ctx: Any, grad_probs: Tensor | None, *grad_weights: Tensor | None) -> tuple[Tensor | None, ...]:
        grads: list[Tensor] = []
        for layer, grad in zip(ctx.layers, grad_weights, strict=True):
            its = torch.zeros_like(layer.alpha) if grad is None else grad
            grads += kernels.patterns.draw_backward(ctx.library, layer, ctx.draw, its, grad_probs)
        return None, None, None, *grads


def _kind(layer: SemiStructuredLinear) -> tuple[int, int, int, str, str, str]:
    return layer.num_distinct, layer.n, layer.m, layer.sampling, layer.estimator, layer.scores


def _legal(layer: SemiStructuredLinear) -> Tensor:
    """Returns which patterns each group of a layer may take, `[P, 1, J * G]` bool."""
    shape = (len(layer.patterns), 1, layer.out_features, layer.num_groups)
    legal = torch.ones(shape, dtype=torch.bool) if layer.legal is None else layer.legal.expand(shape)
    return legal.flatten(2)


def _penalty(legal: Tensor, num_distinct: int) -> Tensor:
    """Returns what to add to logits, `[P, R * K]`: 0, and `-inf` where `legal [P, 1, K]` is false."""
    return torch.zeros(legal.shape).masked_fill(~legal, -torch.inf).expand(-1, num_distinct, -1).flatten(1)


def _real_columns(layer: SemiStructuredLinear) -> Tensor:
    """Returns which columns of each group are real, not padding, `[m, 1, J * G]` of 0 and 1."""
    real = torch.arange(layer.num_groups * layer.m) < layer.in_features
    of_row = real.float().view(layer.num_groups, layer.m).mT  # [m, G]
    return of_row.repeat(1, layer.out_features).unsqueeze(1)


def _shares(layers: Sequence[SemiStructuredLinear]) -> Tensor:
    """Returns each group's weight in a mean over layers of the mean over a layer's groups with a choice, `[K]`."""
    chosen = [torch.arange(layer.num_groups) < layer.num_choice_groups for layer in layers]
    each = [mask.float().repeat(layer.out_features) for mask, layer in zip(chosen, layers, strict=True)]
    counted = sum(bool(mask.any()) for mask in each)
    return torch.cat([mask / mask.sum().clamp_min(1.0) / max(counted, 1) for mask in each])
