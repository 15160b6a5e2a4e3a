"""The K-2:4 layer: shared weights of which every mask owner keeps 2 of every 4, and learns which 2.

Shapes: `A` mask owners, `I`/`J` in/out features, `G = ceil(I / 4)` groups, `P = 6` patterns. Inside the layer patterns
come first, `[P, A, J, G]`: reductions over six neighbouring numbers are what CPU kernels are slow at.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k24_rllib.checks import check_choice, check_number
from k24_rllib.sparsity.layer import MaskedLayer
from k24_rllib.sparsity.patterns import SAMPLING, nm_patterns, normalize_logits, sample_patterns
from k24_rllib.sparsity.scores import EMAActivationTracker, hetero_scores

KEPT, GROUP = 2, 4
ALPHA_STD = 0.01


class SemiStructuredLinear24(MaskedLayer):
    """A linear layer with a learned 2:4 mask per owner over shared weights (method steps A and B).

    Strict 2:4 holds on the matrix padded to `4 * G` columns, which is what sparse tensor cores see. In a ragged last
    group of `r = I % 4` real columns, patterns that keep a padded column while a real one is left out are never taken,
    so exactly `min(2, r)` real weights stay.

    Args:
        in_features: `I`, any number of at least 1.
        out_features: `J`.
        num_masks: `A`.
        bias: Whether to add a bias, shared by all owners.
        sampling: How `explore` draws patterns, see `sample_patterns`.
        temperature: `tau`; a high one makes draws uniform, a low one greedy (with `tempered`). Above 0.
        ema_momentum: Share of the old activation average that an update keeps.

    Attributes:
        weight: `W [J, I]`.
        hetero_alpha: `alpha [A, J, I]`.
        temperature: 0-dim buffer. Assign a number, or call `set_temperature`.
        tracker: The activation average `E`.
    """

    temperature: Tensor
    patterns: Tensor
    legal: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_masks: int,
        *,
        bias: bool = True,
        sampling: str = "tempered",
        temperature: float = 5.0,
        ema_momentum: float = 0.99,
    ) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.sampling: str = check_choice("sampling", sampling, SAMPLING)
        self.num_groups = -(-in_features // GROUP)
        ragged = in_features % GROUP
        self.num_choice_groups = self.num_groups - (0 < ragged <= KEPT)
        self._padding = self.num_groups * GROUP - in_features
        self.hetero_alpha = nn.Parameter(torch.randn(num_masks, out_features, in_features) * ALPHA_STD)
        self.tracker = EMAActivationTracker(in_features, ema_momentum)
        self.register_buffer("temperature", torch.tensor(1.0))
        self.set_temperature(temperature)
        self.register_buffer("patterns", nm_patterns(KEPT, GROUP), persistent=False)
        self.register_buffer("legal", _legal_patterns(self.patterns, in_features), persistent=False)
        self._last_agreement: Tensor | None = None
        # Effective fan-in: what a row keeps, half of I where I is a multiple of 4.
        self.init_shared(fan_in=KEPT * (in_features // GROUP) + min(KEPT, ragged))

    def set_temperature(self, value: float) -> None:
        """Sets `tau`.

        Raises:
            ConfigError: if `value` is not a number above 0.
        """
        self.temperature.fill_(check_number("temperature", value, above=0.0))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "temperature" and not isinstance(value, Tensor):
            self.set_temperature(value)
        else:
            super().__setattr__(name, value)

    def pattern_logits(self) -> Tensor:
        """Returns the normalised logits of each group's patterns, `[A, J, G, 6]`, `-inf` where one may not be taken."""
        return self._logits().movedim(0, -1)

    def pattern_probs(self, choice_only: bool = False) -> Tensor:
        """Returns `pi = softmax(logits / tau)`, `[A, J, G, 6]`.

        Args:
            choice_only: Leaves out a last group of one or two real columns, which keeps them whatever is learned:
                owners always agree there. `[A, J, num_choice_groups, 6]`.
        """
        logits = self._logits()
        if choice_only and self.num_choice_groups < self.num_groups:
            logits = logits[..., : self.num_choice_groups]
        return F.softmax(logits / self.temperature, dim=0).movedim(0, -1)

    @torch.no_grad()
    def most_likely_patterns(self) -> Tensor:
        """Returns the index of each group's most likely pattern, `[A, J, G]` int64; the first of equal ones."""
        logits = self._raw_logits()  # normalisation keeps their order
        if self.legal is not None:
            logits = logits.masked_fill(~self.legal, -torch.inf)
        return logits.max(0).indices

    def padded_masks(self, explore: bool) -> Tensor:
        """Returns every owner's mask on the padded matrix, `[A, J, 4 * G]`: exactly 2 of every 4.

        Args:
            explore: Draws patterns, with a straight-through gradient. Otherwise takes the most likely ones, without
                noise or gradient.
        """
        if explore:
            logits = self._logits()
            drawn = sample_patterns(logits, self.temperature, self.sampling, dim=0)
            self.remember_agreement(drawn.detach().gather(0, logits.detach().max(0, keepdim=True).indices)[0] > 0)
            masks = drawn.flatten(1).mT @ self.patterns  # mask = pattern @ M, [A*J*G, 4]
        else:
            masks = self.patterns.index_select(0, self.most_likely_patterns().flatten())
        return masks.view(self.num_masks, self.out_features, -1)

    def masks(self, explore: bool) -> Tensor:
        """Returns every owner's mask, `[A, J, I]` of 0 and 1; see `padded_masks`."""
        masks = self.padded_masks(explore)
        return masks[..., : self.in_features] if self._padding else masks

    def weights(self, explore: bool) -> Tensor:
        """Returns every owner's weights `W * mask[a]`, `[A, J, I]`; see `padded_masks`."""
        return self.weight * self.masks(explore)

    def remember_agreement(self, agrees: Tensor) -> None:
        """Keeps where the last draw was the most likely pattern, `[A, J, G]` or `[A, J * G]` bool, for the metrics."""
        self._last_agreement = agrees.view(self.num_masks, self.out_features, self.num_groups)

    def observe(self, x: Tensor, track: Tensor) -> None:
        """Updates the activation average with the real rows of `x [A, rows, I]`."""
        self.tracker.update(x, track)

    @property
    def sample_argmax_agreement(self) -> Tensor:
        """Share of groups whose last drawn pattern was the most likely one; NaN before a draw, 1 without a choice."""
        if self.num_choice_groups == 0:
            return self.temperature.new_ones(())
        if self._last_agreement is None:
            return self.temperature.new_full((), torch.nan)
        return self._last_agreement[..., : self.num_choice_groups].float().mean()

    def padded_scores(self) -> Tensor:
        """Returns the scores on the padded matrix, `[A, J, 4 * G]`, 0 in padded columns; see `hetero_scores`."""
        scores = hetero_scores(self.weight, self.tracker.value, self.hetero_alpha)
        return F.pad(scores, (0, self._padding)) if self._padding else scores

    def _logits(self) -> Tensor:
        """Returns the normalised logits, `[6, A, J, G]`."""
        return normalize_logits(self._raw_logits(), self.legal, dim=0)

    def _raw_logits(self) -> Tensor:
        """Returns each pattern's logit, the sum of the scores that it keeps, `[6, A, J, G]`."""
        logits = self.patterns @ self.padded_scores().view(-1, GROUP).mT  # (S_group @ M.T).T
        return logits.view(-1, self.num_masks, self.out_features, self.num_groups)


def _legal_patterns(patterns: Tensor, in_features: int) -> Tensor | None:
    """Returns which patterns each group may take, `[P, 1, 1, G]` bool, or None where there is no ragged group.

    Legal is what leaves out no real column for a padded one. Where a group has no choice, patterns that differ in
    padded columns alone are one and the same: only the first is legal, so that its probability is 1 and no gradient,
    not even a rounding error, comes from it.
    """
    ragged = in_features % GROUP
    if ragged == 0:
        return None
    last = patterns[:, :ragged].sum(1) == min(KEPT, ragged)  # [P]
    if ragged <= KEPT:
        last &= last.cumsum(0) == 1
    legal = torch.ones(len(patterns), 1, 1, -(-in_features // GROUP), dtype=torch.bool)
    legal[:, 0, 0, -1] = last
    return legal
