"""A GRU whose weights are masked layers', so that owners differ in what they remember too.

Most weights of an agent are its recurrent cell's (24,576 of 35,013 at H = 64). Dense and shared, they are the same for
all owners, whatever masks the layers around it have.

Shapes: `A` mask owners, `T` time steps, `R` rows of an owner, `I` input size, `H` hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from k24_rllib.models import gru
from k24_rllib.sparsity import LayerWeights, MaskedLayer


class MaskedGRU(nn.Module):
    """`nn.GRU`'s equations with each owner's own version of the two weight matrices (arXiv 1406.1078).

    Args:
        input_size: `I`.
        hidden_size: `H`; compiled if it is a multiple of 16.
        make_layer: Makes both matrices, `I` to `3H` and `H` to `3H`; see `LayerFactory`.
        compiled: See `gru.GRU`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, make_layer: Callable[[int, int], MaskedLayer], compiled: bool = True
    ) -> None:
        super().__init__()
        self.compiled = compiled
        self.ih = make_layer(input_size, 3 * hidden_size)
        self.hh = make_layer(hidden_size, 3 * hidden_size)

    def layers(self) -> list[MaskedLayer]:
        """Returns the matrix of the inputs and that of the state."""
        return [self.ih, self.hh]

    def unroll(
        self, x: Tensor, hidden: Tensor, made: Sequence[LayerWeights], track: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Runs each owner's rows over time with its weights.

        Args:
            x: `[A, T, R, I]`; where all owners have the same weights, any number of groups in the place of `A`.
            hidden: `[A, R, H]`, the state before the first step; on the CPU no gradient flows into it.
            made: What both layers' `make_weights` returned.
            track: As in `Agent.unroll`.

        Returns:
            The states after each step `[A, T, R, H]` and the last of them `[A, R, H]`.
        """
        (w_ih, b_ih), (w_hh, b_hh) = (layer.effective(its) for layer, its in zip(self.layers(), made, strict=True))
        if any(layer.tells_owners_apart for layer in self.layers()):
            of_owners = [
                gru.unroll(x[a : a + 1], hidden[a : a + 1], (w_ih[a], w_hh[a], b_ih[a], b_hh[a]), self.compiled)
                for a in range(len(x))
            ]
            states, last = (torch.cat(parts) for parts in zip(*of_owners, strict=True))
        else:
            states, last = gru.unroll(x, hidden, (w_ih[0], w_hh[0], b_ih[0], b_hh[0]), self.compiled)
        if track is not None:
            before = torch.cat((hidden.unsqueeze(1), states[:, :-1].detach()), 1)
            for layer, its, inputs in zip(self.layers(), made, (x, before), strict=True):
                layer.observe(inputs.flatten(1, 2), track, its)
        return states, last
