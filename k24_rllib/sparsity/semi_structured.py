"""The K-2:4 layer: shared weights of which every mask owner keeps 2 of every 4 (n of every m), and learns which.

Shapes: `A` mask owners, `R` masks that differ (`A`, or 1 where all owners share one), `I`/`J` in/out features,
`G = ceil(I / m)` groups, `P` patterns (6 for 2:4). Inside the layer patterns come first, `[P, R, J, G]`: reductions
over six neighbouring numbers are what CPU kernels are slow at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k24_rllib.checks import ConfigError, check_bool, check_choice, check_number
from k24_rllib.sparsity.joint import JointPatterns
from k24_rllib.sparsity.layer import LAYERS, JointWeights, LayerWeights, MaskedLayer
from k24_rllib.sparsity.memory import FLOAT_BYTES, Memory
from k24_rllib.sparsity.packed import KeptWeights
from k24_rllib.sparsity.patterns import (
    NM_RATIOS,
    PatternDraw,
    PatternWeights,
    check_estimator,
    nm_patterns,
    normalize_logits,
    sample_patterns,
)
from k24_rllib.sparsity.schedules import check_temperature
from k24_rllib.sparsity.scores import SCORES, EMAActivationTracker, hetero_scores

MASKS = ("learned", "fixed_random")
REVIVE = ("dead", "random")
SELECTION_MOMENTUM = 0.99
"""Share of the old selection rate that a draw keeps: a weight counts as dead after some hundred draws without it."""
TIE_BREAK = 1e-6
"""Selection rates closer than this count as equal. Most dead weights were never drawn: their rates are the same."""


class SemiStructuredLinear(MaskedLayer):
    """A linear layer with a learned n:m mask per owner over shared weights (method steps A and B).

    Strict n:m holds on the matrix padded to `m * G` columns, which is what sparse tensor cores see. In a ragged last
    group of `r = I % m` real columns, patterns that keep a padded column while a real one is left out are never taken,
    so exactly `min(n, r)` real weights stay.

    Args:
        in_features: `I`, any number of at least 1.
        out_features: `J`.
        num_masks: `A`.
        n: Weights kept of each group, below `m`. More of them keep more capacity and leave less to choose.
        m: Weights of a group. There are `m! / (n! (m - n)!)` patterns, and time and memory grow with their number.
        bias: Whether to add a bias, shared by all owners.
        masks: `learned`, or `fixed_random`: every owner's patterns are drawn uniformly once and frozen (a baseline).
        shared_mask: Whether all owners have one and the same mask (a baseline): `R = 1`.
        sampling: How `explore` draws patterns, see `sample_patterns`.
        estimator: The gradient of a draw, see `sample_patterns`.
        rao_blackwell_samples: See `sample_patterns`.
        temperature: `tau`; a high one makes draws uniform, a low one greedy (with `tempered`). Above 0.
        scores: What a weight's score is, see `SCORES`.
        alpha_std: Standard deviation of `alpha` at the start. More lets `alpha` decide, and not `|W|`.
        alpha_in_common: Share of that variance, 0 to 1, which all owners have in common. 1 starts them alike.
        ema_momentum: Share of the old activation average that an update keeps.
        ema_per_owner: Whether each owner has an activation average of its own inputs, instead of one for all.
        compiled: Whether compiled kernels may do what they can; see `k24_rllib.kernels`.

    Attributes:
        weight: `W [J, I]`.
        hetero_alpha: `alpha [R, J, I]`.
        temperature: 0-dim buffer. Assign a number, or call `set_temperature`.
        tracker: The activation average `E`.
        selection_rate: `[R, J, I]`, a moving average of how often the learner's draws selected each weight.
        frozen_mask: `[R, J, I]` bool, or None as long as masks are learned; see `freeze_masks`.
    """

    temperature: Tensor
    patterns: Tensor
    legal: Tensor | None
    selection_rate: Tensor
    frozen_mask: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_masks: int,
        *,
        n: int = 2,
        m: int = 4,
        bias: bool = True,
        masks: str = "learned",
        shared_mask: bool = False,
        sampling: str = "tempered",
        estimator: str = "straight_through",
        rao_blackwell_samples: int = 10,
        temperature: float = 5.0,
        scores: str = "magnitude",
        alpha_std: float = 0.01,
        alpha_in_common: float = 0.0,
        ema_momentum: float = 0.99,
        ema_per_owner: bool = False,
        compiled: bool = True,
    ) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.m = int(check_number("m", m, low=2, integer=True))
        self.n = int(check_number("n", n, low=1, high=m - 1, integer=True))
        self.estimator = check_estimator(estimator, sampling)
        self.sampling = sampling
        self.rao_blackwell_samples = int(
            check_number("rao_blackwell_samples", rao_blackwell_samples, low=1, integer=True)
        )
        self.compiled = compiled
        self.fixed: bool = check_choice("masks", masks, MASKS) == "fixed_random"
        self.num_distinct = 1 if check_bool("shared_mask", shared_mask) else num_masks
        if check_bool("ema_per_owner", ema_per_owner) and shared_mask:
            raise ConfigError("ema_per_owner: got true with shared_mask true, expected false: one mask has one score")
        self.num_groups = -(-in_features // m)
        ragged = in_features % m
        self.num_choice_groups = self.num_groups - (0 < ragged <= n)
        self._padding = self.num_groups * m - in_features
        self.scores: str = check_choice("scores", scores, SCORES)
        self.alpha_std = check_number("alpha_std", alpha_std, low=0.0)
        in_common = check_number("alpha_in_common", alpha_in_common, low=0.0, high=1.0)
        self.hetero_alpha = nn.Parameter(self._first_alpha(in_common))
        self.tracker = EMAActivationTracker(in_features, ema_momentum, num_masks if ema_per_owner else None, compiled)
        self.register_buffer("temperature", torch.tensor(1.0))
        self.set_temperature(temperature)
        self.register_buffer("selection_rate", torch.full(self.hetero_alpha.shape, n / m))
        self.register_buffer("patterns", nm_patterns(n, m), persistent=False)
        self.register_buffer("legal", _legal_patterns(self.patterns, in_features), persistent=False)
        self.register_buffer("frozen_mask", self._random_mask() if self.fixed else None)
        self.hetero_alpha.requires_grad_(not self.fixed)
        # Effective fan-in: what a row keeps, n / m of I where I is a multiple of m.
        self.init_shared(fan_in=n * (in_features // m) + min(n, ragged))

    def set_temperature(self, value: float) -> None:
        """Sets `tau`.

        Raises:
            ConfigError: if `value` is not a number above 0.
        """
        self.temperature.fill_(check_temperature("temperature", value))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "temperature" and not isinstance(value, Tensor):
            self.set_temperature(value)
        else:
            super().__setattr__(name, value)

    def extra_repr(self) -> str:
        """Describes the layer in a printed model."""
        return f"{super().extra_repr()}, {self.n}:{self.m}{', frozen' if self.frozen else ''}"

    def memory(self) -> Memory:
        """Returns the memory that acting needs: shared weights, and for each mask the index of every pattern."""
        ragged = self.in_features % self.m
        kept = self.out_features * (self.n * (self.in_features // self.m) + min(self.n, ragged))
        index_bits = math.ceil(math.log2(len(self.patterns)))  # 3 for 2:4
        mask_bytes = self.out_features * self.num_groups * index_bits / 8
        numbers, owner_numbers = self.weight.numel() + self.num_biases, kept + self.num_biases
        return Memory(
            numbers=numbers,
            size=FLOAT_BYTES * numbers + self.num_distinct * mask_bytes,
            owner_numbers=owner_numbers,
            owner_size=FLOAT_BYTES * owner_numbers + mask_bytes,
        )

    def kept(self) -> KeptWeights:
        """Returns the shared weights and each mask's patterns; see `MaskedLayer.kept`."""
        weight = self.weight.detach().unsqueeze(0)
        return KeptWeights(weight, self.kept_bias(), (self.n, self.m), self.most_likely_patterns())

    def pattern_logits(self) -> Tensor:
        """Returns the normalised logits of each group's patterns, `[R, J, G, P]`, `-inf` where one may not be taken."""
        return self._logits().movedim(0, -1)

    def pattern_probs(self, choice_only: bool = False) -> Tensor:
        """Returns `pi = softmax(logits / tau)`, `[R, J, G, P]`; 1 for the frozen pattern once masks are frozen.

        Args:
            choice_only: Leaves out a last group of at most `n` real columns, which keeps them whatever is learned:
                owners always agree there. `[R, J, num_choice_groups, P]`.
        """
        groups = self.num_choice_groups if choice_only else self.num_groups
        if self.frozen:
            return F.one_hot(self.most_likely_patterns()[..., :groups], len(self.patterns)).to(self.weight.dtype)
        logits = self._logits()
        if groups < self.num_groups:
            logits = logits[..., :groups]
        return F.softmax(logits / self.temperature, dim=0).movedim(0, -1)

    @torch.no_grad()
    def most_likely_patterns(self) -> Tensor:
        """Returns the index of each group's most likely (or frozen) pattern, `[R, J, G]` int64; the first of equals."""
        if self.frozen_mask is None:
            logits = self._raw_logits()  # normalisation keeps their order
        else:
            frozen = self._pad(self.frozen_mask.to(self.weight.dtype))
            logits = self._pattern_sums(frozen)  # the one legal pattern that keeps all of it has the largest sum
        if self.legal is not None:
            logits = logits.masked_fill(~self.legal, -torch.inf)
        return logits.max(0).indices

    def padded_masks(self, explore: bool) -> Tensor:
        """Returns the masks on the padded matrix, `[R, J, m * G]`: exactly n of every m.

        Args:
            explore: Draws patterns, with an estimated gradient. Otherwise, and always once masks are frozen, takes the
                most likely ones, without noise or gradient.
        """
        return self._padded_masks(explore)[0]

    def masks(self, explore: bool) -> Tensor:
        """Returns every owner's mask, `[A, J, I]` of 0 and 1; see `padded_masks`."""
        return self.for_each_owner(self._distinct_masks(explore)[0].to(self.weight.dtype))

    def weights(self, explore: bool) -> Tensor:
        """Returns every owner's weights `W * mask[a]`, `[A, J, I]`; see `padded_masks`."""
        return self.make_weights(explore).weights

    def make_weights(self, explore: bool) -> PatternWeights:
        """Returns every owner's weights, as `weights` does, and the draw they were made from."""
        masks, draw = self._distinct_masks(explore)
        return PatternWeights(self.for_each_owner(self.weight * masks), draw)

    def masked_as(self, made: PatternWeights) -> PatternWeights:
        """Returns this layer's weights under the masks that another of its shape drew, without gradient to masks.

        Args:
            made: What the other's `make_weights(explore=True)` returned.

        Raises:
            ValueError: if that was not drawn.
        """
        if made.draw is None:
            raise ValueError("made: got weights without a draw, expected those of make_weights(explore=True)")
        masks = self._real_columns(made.draw.masks.view(self.num_distinct, self.out_features, -1))
        return PatternWeights(self.for_each_owner(self.weight * masks))

    @classmethod
    def joint(cls, layers: Sequence[MaskedLayer]) -> JointWeights | None:
        """Returns what draws all layers' patterns in one pass.

        A subclass says for itself whether it can: one that scores or draws in another way would be passed over.
        """
        if cls not in (SemiStructuredLinear, SemiStructuredLinear24):
            return None
        return JointPatterns([layer for layer in layers if isinstance(layer, SemiStructuredLinear)])

    def for_each_owner(self, distinct: Tensor) -> Tensor:
        """Returns `[A, J, I]` of `[R, J, I]`: a view where all owners share one mask."""
        if self.num_distinct == self.num_masks:
            return distinct
        return distinct.expand(self.num_masks, -1, -1)

    def observe(self, x: Tensor, track: Tensor, made: LayerWeights) -> None:
        """Updates the activation average with the real rows of `x [A, rows, I]`, and the selection rate.

        Whoever calls it learns, so the selection rate follows the draw of this learner batch. Frozen masks need
        neither.
        """
        if self.frozen:
            return
        self.tracker.update(x, track)
        if isinstance(made, PatternWeights) and made.draw is not None:
            masks = made.draw.masks.view(self.num_distinct, self.out_features, -1)
            self.selection_rate.lerp_(self._real_columns(masks), 1.0 - SELECTION_MOMENTUM)

    def sample_argmax_agreement(self, draw: PatternDraw | None) -> Tensor:
        """Returns the share of groups that drew the most likely pattern; NaN without a draw, 1 without a choice."""
        if self.num_choice_groups == 0 or self.frozen:
            return self.temperature.new_ones(())
        if draw is None:
            return self.temperature.new_full((), torch.nan)
        agrees = draw.likelihood.max(0).indices == draw.drawn
        agrees = agrees.view(self.num_distinct, self.out_features, self.num_groups)
        return agrees[..., : self.num_choice_groups].float().mean()

    @property
    def frozen(self) -> bool:
        """Whether masks no longer change."""
        return self.frozen_mask is not None

    @torch.no_grad()
    def freeze_masks(self) -> None:
        """Fixes masks at their most likely patterns, for finetuning; a second call changes nothing.

        From then on `weights` ignores `explore` and `observe` does nothing, so `alpha` gets no gradient and `E` stops.
        The mask is part of the state dict: loading a state freezes or unfreezes the layer as it was saved.
        """
        if not self.frozen:
            self.frozen_mask = self._distinct_masks(explore=False)[0].bool()

    @torch.no_grad()
    def reset_alpha(self, fraction: float, revive: str = "dead", generator: torch.Generator | None = None) -> Tensor:
        """Draws a part of every owner's `alpha` anew from N(0, alpha_std^2) (method, periodic reset).

        Args:
            fraction: Share of each owner's entries, 0 to 1. More explores again, and forgets more.
            revive: `dead` takes the entries least often selected by `selection_rate`, `random` any.
            generator: Source of randomness, on the layer's device; None means torch's own.

        Returns:
            `[R, J, I]` bool, the entries drawn anew: their optimizer moments describe what is gone. None of them once
            masks are frozen.
        """
        check_number("reset_fraction", fraction, low=0.0, high=1.0)
        check_choice("revive", revive, REVIVE)
        alpha = self.hetero_alpha
        redrawn = torch.zeros_like(alpha, dtype=torch.bool)
        if self.frozen:
            return redrawn
        order = torch.rand(alpha.shape, generator=generator, device=alpha.device)
        if revive == "dead":
            order = self.selection_rate + TIE_BREAK * order
        count = round(fraction * alpha[0].numel())
        chosen = order.flatten(1).topk(count, largest=False).indices
        redrawn.flatten(1).scatter_(1, chosen, True)
        fresh = torch.randn(alpha.shape, generator=generator, device=alpha.device) * self.alpha_std
        alpha.copy_(torch.where(redrawn, fresh, alpha))
        self.selection_rate.masked_fill_(redrawn, self.n / self.m)  # or the next reset would take the same again
        return redrawn

    def soft_reset_ema(self, step: float = 0.1) -> None:
        """Moves `E` this share of the way to its mean (method, periodic reset); not once masks are frozen."""
        check_number("ema_reset_step", step, low=0.0, high=1.0)
        if not self.frozen:
            self.tracker.soft_reset(step)

    def _first_alpha(self, in_common: float) -> Tensor:
        """Draws `alpha [R, J, I]` as it starts; each owner's has the same variance, whatever they have in common."""
        own = torch.randn(self.num_distinct, self.out_features, self.in_features)
        if in_common == 0.0:
            return own * self.alpha_std
        common = torch.randn(self.out_features, self.in_features)
        return (common * in_common**0.5 + own * (1.0 - in_common) ** 0.5) * self.alpha_std

    def _draw(self, logits: Tensor) -> Tensor:
        """Draws a pattern for each group of `logits [P, R, J, G]`, one-hot, with the gradient of the estimator."""
        return sample_patterns(
            logits,
            self.temperature,
            self.sampling,
            dim=0,
            estimator=self.estimator,
            rao_blackwell_samples=self.rao_blackwell_samples,
        )

    def padded_scores(self) -> Tensor:
        """Returns the scores on the padded matrix, `[R, J, m * G]`, 0 in padded columns; see `SCORES`."""
        if self.scores == "magnitude":
            return self._pad(hetero_scores(self.weight, self.tracker.value, self.hetero_alpha))
        return self._pad(self.hetero_alpha if self.scores == "logits" else self.hetero_alpha.sigmoid())

    def group_magnitudes(self) -> Tensor:
        """Returns `|W|` of each group without gradient, `[m, J, G]`, 0 in padded columns."""
        magnitude = self._pad(self.weight.detach().abs())
        return magnitude.view(self.out_features, self.num_groups, self.m).movedim(-1, 0)

    def _logits(self) -> Tensor:
        """Returns the logits, normalised unless they are what is learned, `[P, R, J, G]`."""
        raw = self._raw_logits()
        if self.scores != "logits":
            return normalize_logits(raw, self.legal, dim=0)
        return raw if self.legal is None else raw.masked_fill(~self.legal, -torch.inf)

    def _raw_logits(self) -> Tensor:
        """Returns each pattern's logit, the sum of the scores that it keeps, `[P, R, J, G]`."""
        return self._pattern_sums(self.padded_scores())

    def _pattern_sums(self, padded: Tensor) -> Tensor:
        """Returns, for each pattern, the sum of what it keeps of each group of `[R, J, m * G]`, `[P, R, J, G]`."""
        sums = self.patterns @ padded.view(-1, self.m).mT  # (S_group @ M.T).T
        return sums.view(-1, self.num_distinct, self.out_features, self.num_groups)

    def _kept(self, drawn: Tensor) -> Tensor:
        """Returns the masks of one-hot patterns `[P, R, J, G]`, `[R * J * G, m]`."""
        return drawn.flatten(1).mT @ self.patterns  # mask = pattern @ M

    def _padded_masks(self, explore: bool) -> tuple[Tensor, PatternDraw | None]:
        """Returns what `padded_masks` does, and the draw if there was one."""
        if not explore or self.frozen:
            masks = self.patterns.index_select(0, self.most_likely_patterns().flatten())
            return masks.view(self.num_distinct, self.out_features, -1), None
        logits = self._logits()
        one_hot = self._draw(logits)
        masks = self._kept(one_hot)
        draw = PatternDraw(
            likelihood=logits.detach().flatten(2),
            drawn=one_hot.detach().max(0).indices.flatten(1),
            masks=masks.detach().view(self.num_distinct, -1, self.m),
        )
        return masks.view(self.num_distinct, self.out_features, -1), draw

    def _distinct_masks(self, explore: bool) -> tuple[Tensor, PatternDraw | None]:
        """Returns the masks that differ, `[R, J, I]`: 0 and 1, or bool once they are frozen, and the draw, if any."""
        if self.frozen_mask is not None:
            return self.frozen_mask, None
        padded, draw = self._padded_masks(explore)
        return self._real_columns(padded), draw

    def _pad(self, values: Tensor) -> Tensor:
        """Returns `[..., m * G]` of `[..., I]`, with columns of 0 after it."""
        return F.pad(values, (0, self._padding)) if self._padding else values

    def _real_columns(self, padded: Tensor) -> Tensor:
        """Returns `[..., I]` of `[..., m * G]`."""
        return padded[..., : self.in_features] if self._padding else padded

    @torch.no_grad()
    def _random_mask(self) -> Tensor:
        """Returns masks `[R, J, I]` bool of patterns drawn uniformly among the legal ones."""
        logits = torch.zeros(len(self.patterns), self.num_distinct, self.out_features, self.num_groups)
        if self.legal is not None:
            logits = logits.masked_fill(~self.legal, -torch.inf)
        drawn = sample_patterns(logits, 1.0, dim=0)
        return self._real_columns(self._kept(drawn).view(self.num_distinct, self.out_features, -1)).bool()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for a frozen mask if there is one in the state, and drops this layer's own if there is none."""
        if prefix + "frozen_mask" in state_dict:
            self.frozen_mask = torch.empty_like(self.hetero_alpha, dtype=torch.bool)
        elif not self.fixed:  # without its mask, a fixed layer's state is incomplete, and torch says so
            self.frozen_mask = None
        super()._load_from_state_dict(state_dict, prefix, *args)


class SemiStructuredLinear24(SemiStructuredLinear):
    """The 2:4 layer, the ratio that sparse tensor cores know; options are those of `SemiStructuredLinear`."""

    def __init__(self, in_features: int, out_features: int, num_masks: int, **options: Any) -> None:
        super().__init__(in_features, out_features, num_masks, n=2, m=4, **options)


def _legal_patterns(patterns: Tensor, in_features: int) -> Tensor | None:
    """Returns which of `patterns [P, m]` each group may take, `[P, 1, 1, G]` bool; None without a ragged group.

    Legal is what leaves out no real column for a padded one. Where a group has no choice, patterns that differ in
    padded columns alone are one and the same: only the first is legal, so that its probability is 1 and no gradient,
    not even a rounding error, comes from it. Where it has one, a legal pattern keeps no padded column at all.
    """
    count, size = patterns.shape
    ragged, kept = in_features % size, int(patterns[0].sum())
    if ragged == 0:
        return None
    last = patterns[:, :ragged].sum(1) == min(kept, ragged)  # [P]
    if ragged <= kept:
        last &= last.cumsum(0) == 1
    legal = torch.ones(count, 1, 1, -(-in_features // size), dtype=torch.bool)
    legal[:, 0, 0, -1] = last
    return legal


for _ratio, (_n, _m) in NM_RATIOS.items():
    LAYERS.register(_ratio, partial(SemiStructuredLinear, n=_n, m=_m))
