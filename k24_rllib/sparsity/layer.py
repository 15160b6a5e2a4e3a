"""What a layer that mask owners share must offer, and the plain dense layers that offer it.

Shapes: `A` mask owners, `I`/`J` in/out features, `rows` those that one owner multiplies: whoever calls a layer has put
them side by side, so that layers know nothing of agents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k24_rllib.checks import check_number
from k24_rllib.registry import Registry
from k24_rllib.sparsity.memory import Memory
from k24_rllib.sparsity.packed import KeptWeights


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """A layer's weights as made for one unroll; a layer that draws them adds what it drew in a subclass."""

    weights: Tensor  # [A, J, I]


class JointWeights(nn.Module, ABC):
    """Makes the weights of all layers of a network at once, faster than layer by layer; see `MaskedLayer.joint`."""

    @abstractmethod
    def make_weights(self, layers: Sequence[Any], explore: bool) -> tuple[list[LayerWeights], Tensor | None]:
        """Returns what each layer's own `make_weights` would, and probabilities that all layers' masks were drawn from.

        Args:
            layers: The layers that this was made for, or copies of them.
            explore: See `MaskedLayer.weights`.
        """


class MaskedLayer(nn.Module, ABC):
    """A fully connected layer with shared weights of which every mask owner sees its own version.

    Subclasses write `weights`, and `observe` if they follow their inputs. Weights are made once per unroll (a learner
    batch, or a rollout between two weight synchronisations) and handed to every `forward` of it. A layer that has to
    know later how they were made writes `make_weights` too, and finds its record in `observe`.

    Args:
        in_features: `I`.
        out_features: `J`.
        num_masks: `A`.
        bias: Whether to add a bias, shared by all owners.

    Attributes:
        weight: `[J, I]`.
        bias: `[J]`, or None.
        shares_weights: Whether owners share the numbers that their weights are made of. Where they do not, an agent
            gives each owner its own of all other modules too.
        num_distinct: How many of the owners' weights differ: `A`, or 1 where all are the same. With 1, any rows may be
            side by side, unless owners have a gain.
        owner_gain: `[A, J]`, what each owner multiplies outputs by, or None; see `add_owner_scale`.
        owner_bias: `[A, J]`, what each owner adds after that, or None.
    """

    shares_weights: ClassVar[bool] = True

    num_distinct: int
    weight: nn.Parameter
    bias: nn.Parameter
    owner_gain: nn.Parameter | None
    owner_bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, num_masks: int, *, bias: bool = True) -> None:
        super().__init__()
        for key, size in (("in_features", in_features), ("out_features", out_features), ("num_masks", num_masks)):
            check_number(key, size, low=1, integer=True)
        self.in_features = in_features
        self.out_features = out_features
        self.num_masks = self.num_distinct = num_masks
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)
        self.register_parameter("owner_gain", None)
        self.register_parameter("owner_bias", None)

    def add_owner_scale(self) -> None:
        """Gives each owner a gain and a bias for every output, 1 and 0 at first: `2 J` numbers of its own."""
        shape = (self.num_masks, self.out_features)
        self.owner_gain, self.owner_bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    @property
    def tells_owners_apart(self) -> bool:
        """Whether it matters to which owner a row belongs."""
        return self.num_distinct > 1 or not self.shares_weights or self.owner_gain is not None

    def init_shared(self, fan_in: int) -> None:
        """Draws weight and bias as `nn.Linear` does, uniform within `1 / sqrt(fan_in)`."""
        bound = fan_in**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @abstractmethod
    def weights(self, explore: bool) -> Tensor:
        """Returns every owner's weights, `[A, J, I]`; `explore` draws masks, otherwise they are the most likely."""

    def make_weights(self, explore: bool) -> LayerWeights:
        """Returns what `weights` does, with a record of how they were made where a subclass keeps one."""
        return LayerWeights(self.weights(explore))

    @classmethod
    def joint(cls, layers: Sequence[MaskedLayer]) -> JointWeights | None:
        """Returns what makes the weights of `layers`, all of this class, in one pass; None: each makes its own."""
        return None

    def observe(self, x: Tensor, track: Tensor, made: LayerWeights) -> None:
        """Follows the inputs `x [A, rows, I]` over the real rows `track` and what was made; most layers do not."""

    def forward(self, x: Tensor, made: LayerWeights | None = None, track: Tensor | None = None) -> Tensor:
        """Multiplies each owner's rows by its weights.

        Args:
            x: `[A, rows, I]`; where all owners have the same weights, any number of groups in the place of `A`.
            made: What `make_weights` returned for this unroll. None makes them here, drawn in training mode.
            track: `[A, rows]` (broadcastable) bool, the rows that are real, given by the learner's pass of the online
                network alone: statistics of inputs follow these. None (rollouts, target network, evaluation): nothing.

        Returns:
            `[A, rows, J]`.

        Raises:
            ValueError: if `x` has another shape.
        """
        if made is None:
            made = self.make_weights(self.training)
        groups = self.num_masks if self.tells_owners_apart or x.dim() != 3 else x.shape[0]
        if x.dim() != 3 or x.shape[0] != groups or x.shape[-1] != self.in_features:
            raise ValueError(f"x: got shape {list(x.shape)}, expected [{groups}, rows, {self.in_features}]")
        if track is not None:
            self.observe(x, track, made)
        y = self.multiply(x, made)
        if self.owner_gain is None or self.owner_bias is None:
            return y
        return torch.addcmul(self.owner_bias.unsqueeze(1), y, self.owner_gain.unsqueeze(1))

    def multiply(self, x: Tensor, made: LayerWeights) -> Tensor:
        """Returns `x[a] @ weights[a].T + bias`: one flat product where all are views of one matrix, else `A`."""
        weights = made.weights
        if weights.stride(0) == 0 or weights.shape[0] == 1:
            return F.linear(x, weights[0], self.bias)
        if self.bias is None:
            return torch.bmm(x, weights.mT)
        return torch.baddbmm(self.bias, x, weights.mT)

    def effective(self, made: LayerWeights) -> tuple[Tensor, Tensor]:
        """Returns the weights `[A, J, I]` and biases `[A, J]` with which `forward` is one product, for other modules.

        Args:
            made: What `make_weights` returned.
        """
        weights = made.weights
        bias = weights.new_zeros(self.out_features) if self.bias is None else self.bias
        if self.owner_gain is not None and self.owner_bias is not None:
            return weights * self.owner_gain.unsqueeze(-1), torch.addcmul(self.owner_bias, bias, self.owner_gain)
        return weights, bias.expand(self.num_masks, -1)

    def memory(self) -> Memory:
        """Returns the memory that acting needs for this layer; here that of a dense layer which all owners share."""
        return Memory.shared(self.weight.numel() + self.num_biases)

    @torch.no_grad()
    def kept(self) -> KeptWeights:
        """Returns what acting needs of this layer, with the most likely masks: here each owner's weights as they are.

        A layer that owners share in a way of its own says so, and takes less.
        """
        return KeptWeights(self.weights(explore=False).detach()[: self.num_distinct], self.kept_bias())

    def kept_bias(self) -> Tensor | None:
        """Returns the bias of all owners, `[1, J]`, or of each, `[A, J]`; None without one."""
        return None if self.bias is None else self.bias.detach().view(-1, self.out_features)

    @property
    def num_biases(self) -> int:
        """Numbers in the bias, 0 without one."""
        return 0 if self.bias is None else self.bias.numel()

    def extra_repr(self) -> str:
        """Describes the layer in a printed model."""
        return f"{self.in_features}, {self.out_features}, num_masks={self.num_masks}, bias={self.bias is not None}"


LAYERS = Registry("layer", given=("in_features", "out_features", "num_masks"), product=MaskedLayer)
"""Layers by name; each registers itself where it is written."""


class DenseLinear(MaskedLayer):
    """Ordinary shared weights behind the interface of a masked layer: every owner sees the same `W`."""

    def __init__(self, in_features: int, out_features: int, num_masks: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.num_distinct = 1
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

    shares_weights = False

    def __init__(self, in_features: int, out_features: int, num_masks: int, *, bias: bool = True) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        self.weight = nn.Parameter(torch.empty(num_masks, out_features, in_features))
        if bias:
            self.bias = nn.Parameter(torch.empty(num_masks, out_features))
        self.init_shared(fan_in=in_features)

    def weights(self, explore: bool) -> Tensor:
        """Returns the weights as they are, `[A, J, I]`."""
        return self.weight

    def multiply(self, x: Tensor, made: LayerWeights) -> Tensor:
        """Returns `x[a] @ weights[a].T + bias[a]`."""
        if self.bias is None:
            return torch.bmm(x, made.weights.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), x, made.weights.mT)

    def memory(self) -> Memory:
        """Returns the memory that acting needs for this layer: everything once for each owner."""
        return Memory.owned((self.weight.numel() + self.num_biases) // self.num_masks, self.num_masks)


LAYERS.register("dense", DenseLinear)
LAYERS.register("independent", IndependentLinear)
