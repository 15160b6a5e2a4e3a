"""HyperMARL's layer (arXiv 2412.04233): each owner's weights are made by one network from a learned embedding of it.

Shapes: `A` mask owners, `D` embedding size, `K` features of the hypernetwork's last layer, `I`/`J` in/out features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from k24_rllib.checks import check_number
from k24_rllib.sparsity.layer import LAYERS, LayerWeights, MaskedLayer
from k24_rllib.sparsity.memory import Memory

WIDEST = 8_192
"""Of an embedding or of a hypernetwork's hidden layer, as of an agent's."""


@dataclass(frozen=True, slots=True)
class HyperWeights(LayerWeights):
    """Every owner's weights and, made with them, its biases."""

    biases: Tensor | None = None  # [A, J]


class HyperLinear(MaskedLayer):
    """A dense layer of each owner's own, which a hypernetwork `H` makes from the owner's embedding (a baseline).

    `W_a, b_a = H(e_a)` (2412.04233): owners share `H` and no weight. What an owner's inputs say reaches `H` as one
    gradient of `W_a`, summed over them, before it meets what depends on the owner: the two are decoupled by
    construction, where a shared network that sees an id mixes them row by row.

    Taken from the paper and its published code: learned orthogonal embeddings, or one-hot ids; a linear hypernetwork,
    or one with a hidden layer of ReLUs; no bias in its last layer, so that nothing is common to all owners from the
    start; 64 and 64 as sizes; a recurrent cell that all share as it is. What differs:

    - A layer has an embedding and a hypernetwork of its own, as layers know nothing of each other. The paper has one
      embedding for all of them. The layer before the cell is made too, which the paper's recurrent networks share.
    - One hidden layer makes weights and biases; the paper has one for each.
    - Every owner starts at `nn.Linear`'s scale, in weights and biases, as with every other layer here: features start
      with norm 1. The paper starts orthogonal, with biases of 0.
    - Whether agents see their id beside it is `agent_id_input`, on as for all methods; the paper leaves it out.

    A linear hypernetwork of one-hot ids is independent networks by another name, with a shared cell.

    Args:
        in_features: `I`.
        out_features: `J`.
        num_masks: `A`.
        bias: Whether to add a bias, made as the weights are.
        embedding_dim: `D`, numbers that tell one owner from another; fewer than owners make them start more alike. 0
            takes the one-hot id, of which nothing is learned.
        hypernet_dim: Width of the hypernetwork's hidden layer; wider makes more of an embedding, and costs `J (I + 1)`
            numbers for each unit. 0 makes the hypernetwork linear.

    Attributes:
        weight: `[K, J, I]`, the last layer of `H`: owners' weights are sums of these with their features.
        bias: `[K, J]`, the same of biases, or None.
        embedding: `e [A, D]`, or None where ids are one-hot.
        hidden: The hidden layer of `H`, or None.
    """

    embedding: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_masks: int,
        *,
        bias: bool = True,
        embedding_dim: int = 64,
        hypernet_dim: int = 64,
    ) -> None:
        super().__init__(in_features, out_features, num_masks, bias=bias)
        for key, size in (("embedding_dim", embedding_dim), ("hypernet_dim", hypernet_dim)):
            check_number(key, size, low=0, high=WIDEST, integer=True)
        self.register_parameter("embedding", _embedding(num_masks, embedding_dim) if embedding_dim else None)
        told = embedding_dim or num_masks
        self.hidden = nn.Linear(told, hypernet_dim) if hypernet_dim else None
        if self.hidden is not None:
            self._start_features_at_norm_1(self.hidden)
        features = hypernet_dim or told
        self.weight = nn.Parameter(torch.empty(features, out_features, in_features))
        if bias:
            self.bias = nn.Parameter(torch.empty(features, out_features))
        self.init_shared(fan_in=in_features)  # of the layer that is made: with norm 1, sums have the same scale

    def features(self) -> Tensor:
        """Returns what the hypernetwork makes of each owner before its last layer, `[A, K]`."""
        told = torch.eye(self.num_masks, device=self.weight.device) if self.embedding is None else self.embedding
        return told if self.hidden is None else self.hidden(told).relu()

    def weights(self, explore: bool) -> Tensor:
        """Returns every owner's weights, `[A, J, I]`; nothing is drawn, so `explore` changes nothing."""
        return self._sums(self.features(), self.weight)

    def make_weights(self, explore: bool) -> HyperWeights:
        """Returns every owner's weights and biases."""
        features = self.features()
        biases = None if self.bias is None else features @ self.bias
        return HyperWeights(self._sums(features, self.weight), biases)

    def multiply(self, x: Tensor, made: LayerWeights) -> Tensor:
        """Returns `x[a] @ weights[a].T + biases[a]`."""
        biases = made.biases if isinstance(made, HyperWeights) else None
        if biases is None:
            return torch.bmm(x, made.weights.mT)
        return torch.baddbmm(biases.unsqueeze(1), x, made.weights.mT)

    def memory(self) -> Memory:
        """Returns the memory that acting needs for this layer: what was made, once for each owner, and no `H`."""
        biases = 0 if self.bias is None else self.out_features
        return Memory.owned(self.in_features * self.out_features + biases, self.num_masks)

    @torch.no_grad()
    def kept_bias(self) -> Tensor | None:
        """Returns each owner's biases, `[A, J]`, or None without."""
        return None if self.bias is None else self.features() @ self.bias

    @staticmethod
    def _sums(features: Tensor, matrices: Tensor) -> Tensor:
        """Returns `sum_k features[a, k] matrices[k]`, `[A, J, I]`."""
        return (features @ matrices.flatten(1)).unflatten(1, matrices.shape[1:])

    @torch.no_grad()
    def _start_features_at_norm_1(self, hidden: nn.Linear) -> None:
        """Scales what tells owners apart, and turns round what turns every unit off, which could never learn.

        ReLUs without bias pass a factor on, and of `v` and `-v` at least one turns a unit on.
        """
        nn.init.zeros_(hidden.bias)
        before = hidden.weight.T if self.embedding is None else hidden(self.embedding)  # [A, K], before the ReLU
        on, off = before.relu().norm(dim=1), (-before).relu().norm(dim=1)
        factor = torch.where(on > 0, 1.0 / on, -1.0 / off).unsqueeze(1)
        if self.embedding is None:
            hidden.weight.mul_(factor.T)
        else:
            self.embedding.mul_(factor)


def _embedding(owners: int, size: int) -> nn.Parameter:
    """Draws `[A, D]` rows of norm 1, orthogonal to each other as far as `D` allows."""
    rows = nn.init.orthogonal_(torch.empty(owners, size))
    return nn.Parameter(nn.functional.normalize(rows, dim=1))


LAYERS.register("hyper", HyperLinear)
