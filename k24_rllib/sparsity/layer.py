"""What a layer that mask owners share must offer, and the plain dense layer that offers it.

Shapes: `A` mask owners, `N` agents (as many where each has masks of its own), `I`/`J` in/out features, `rows` whatever
an agent's inputs are stacked over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k24_rllib.checks import check_number
from k24_rllib.sparsity.storage import Storage


class MaskedLayer(nn.Module, ABC):
    """A fully connected layer with shared weights of which every mask owner sees its own version.

    Subclasses write `weights`, and `observe` if they follow their inputs. Weights are made once per unroll (a learner
    batch, or a rollout between two weight synchronisations) and handed to every `forward` of it.

    Args:
        in_features: `I`.
        out_features: `J`.
        num_masks: `A`.
        bias: Whether to add a bias, shared by all owners.

    Attributes:
        weight: `[J, I]`.
        bias: `[J]`, or None.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, in_features: int, out_features: int, num_masks: int, *, bias: bool = True) -> None:
        super().__init__()
        for key, size in (("in_features", in_features), ("out_features", out_features), ("num_masks", num_masks)):
            check_number(key, size, low=1, integer=True)
        self.in_features = in_features
        self.out_features = out_features
        self.num_masks = num_masks
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    def init_shared(self, fan_in: int) -> None:
        """Draws weight and bias as `nn.Linear` does, uniform within `1 / sqrt(fan_in)`."""
        bound = fan_in**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @abstractmethod
    def weights(self, explore: bool) -> Tensor:
        """Returns every owner's weights, `[A, J, I]`; `explore` draws masks, otherwise they are the most likely."""

    def observe(self, x: Tensor, track: Tensor, owners: Tensor | None = None) -> None:
        """Follows the inputs `x [N, rows, I]` over the real rows `track`, see `forward`; most layers do not."""

    def forward(
        self,
        x: Tensor,
        weights: Tensor | None = None,
        track: Tensor | None = None,
        owners: Tensor | None = None,
    ) -> Tensor:
        """Multiplies each agent's rows by the weights of its mask owner.

        Args:
            x: `[N, rows, I]`.
            weights: `[N, J, I]`, what `weights` returned for this unroll (where agents share owners, each agent's row
                of it). None makes them here, drawn in training mode.
            track: `[N, rows]` (broadcastable) bool, the rows that are real, given by the learner's pass of the online
                network alone: statistics of inputs follow these. None (rollouts, target network, evaluation): nothing.
            owners: `[N]` int64, each agent's mask owner, for statistics that are kept per owner. None means `N = A`.

        Returns:
            `[N, rows, J]`.
        """
        if weights is None:
            weights = self.weights(self.training)
        if x.dim() != 3 or x.shape[0] != weights.shape[0] or x.shape[-1] != self.in_features:
            expected = f"[{weights.shape[0]}, rows, {self.in_features}]"
            raise ValueError(f"x: got shape {list(x.shape)}, expected {expected}")
        if track is not None:
            self.observe(x, track, owners)
        return self.multiply(x, weights, owners)

    def multiply(self, x: Tensor, weights: Tensor, owners: Tensor | None = None) -> Tensor:
        """Returns `x[n] @ weights[n].T + bias`: one flat product where all are views of one matrix, else `N`."""
        if weights.stride(0) == 0 or weights.shape[0] == 1:
            return F.linear(x, weights[0], self.bias)
        if self.bias is None:
            return torch.bmm(x, weights.mT)
        return torch.baddbmm(self.bias, x, weights.mT)

    def storage(self) -> Storage:
        """Returns what acting needs of this layer; here that of a dense layer which all owners share."""
        return Storage.shared(self.weight.numel() + self.num_biases)

    @property
    def num_biases(self) -> int:
        """Numbers in the bias, 0 without one."""
        return 0 if self.bias is None else self.bias.numel()

    def extra_repr(self) -> str:
        """Describes the layer in a printed model."""
        return f"{self.in_features}, {self.out_features}, num_masks={self.num_masks}, bias={self.bias is not None}"


class DenseLinear(MaskedLayer):
    """Ordinary shared weights behind the interface of a masked layer: every owner sees the same `W`."""

    def __init__(self, in_features: int, out_features: int, num_masks: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.init_shared(fan_in=in_features)

    def weights(self, explore: bool) -> Tensor:
        """Returns `W` as a view `[A, J, I]`, without copies."""
        return self.weight.expand(self.num_masks, -1, -1)


class IndependentLinear(MaskedLayer):
    """A dense layer of each owner's own, nothing shared, behind the interface of a masked layer (a baseline).

    Attributes:
        weight: `[A, J, I]`.
        bias: `[A, J]`, or None.
    """

    def __init__(self, in_features: int, out_features: int, num_masks: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.weight = nn.Parameter(torch.empty(num_masks, out_features, in_features))
        if bias:
            self.bias = nn.Parameter(torch.empty(num_masks, out_features))
        self.init_shared(fan_in=in_features)

    def weights(self, explore: bool) -> Tensor:
        """Returns the weights as they are, `[A, J, I]`."""
        return self.weight

    def multiply(self, x: Tensor, weights: Tensor, owners: Tensor | None = None) -> Tensor:
        """Returns `x[n] @ weights[n].T + bias[owner of n]`."""
        if self.bias is None:
            return torch.bmm(x, weights.mT)
        bias = self.bias if owners is None else self.bias.index_select(0, owners)
        return torch.baddbmm(bias.unsqueeze(1), x, weights.mT)

    def storage(self) -> Storage:
        """Returns what acting needs of this layer: everything once for each owner."""
        return Storage.owned((self.weight.numel() + self.num_biases) // self.num_masks, self.num_masks)
