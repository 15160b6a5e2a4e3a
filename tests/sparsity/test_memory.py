"""What acting needs to be kept, counted by hand."""

import pytest
import torch

from k24_rllib.sparsity import DenseLinear, IndependentLinear, KaleidoscopeLinear, Memory, SemiStructuredLinear

A, J = 3, 5


def test_dense_layers_count_once_and_independent_ones_for_each_owner() -> None:
    numbers = 7 * J + J
    assert DenseLinear(7, J, A).memory() == Memory(numbers, 4 * numbers, numbers, 4 * numbers)
    assert IndependentLinear(7, J, A).memory() == Memory(A * numbers, 4 * A * numbers, numbers, 4 * numbers)
    assert DenseLinear(7, J, A, bias=False).memory().numbers == 7 * J
    assert IndependentLinear(7, J, A, bias=False).memory().numbers == A * 7 * J


@pytest.mark.parametrize(("features", "kept", "groups"), [(8, 4, 2), (7, 4, 2), (6, 4, 2), (5, 3, 2)])
@pytest.mark.parametrize("options", [{}, {"masks": "fixed_random"}, {"shared_mask": True}], ids=str)
def test_2_4_layers_share_weights_and_have_3_bits_a_group(features: int, kept: int, groups: int, options: dict) -> None:
    layer = SemiStructuredLinear(features, J, A, **options)
    masks = 1 if options.get("shared_mask") else A
    mask_bytes = 3 * J * groups / 8
    numbers, used = features * J + J, kept * J + J
    assert layer.memory() == Memory(numbers, 4 * numbers + masks * mask_bytes, used, 4 * used + mask_bytes)
    assert layer.masks(explore=False)[0].sum() == kept * J


def test_other_ratios_take_as_many_bits_as_their_patterns() -> None:
    layer = SemiStructuredLinear(16, J, 1, n=2, m=8, bias=False)  # 28 patterns
    assert layer.memory() == Memory(16 * J, 64 * J + 2 * J * 5 / 8, 4 * J, 16 * J + 2 * J * 5 / 8)


def test_kaleidoscopes_owners_keep_what_lies_above_their_thresholds() -> None:
    layer = KaleidoscopeLinear(7, J, A)
    with torch.no_grad():
        layer.weight.fill_(0.1)
        layer.thresholds.fill_(-20.0)
        layer.thresholds[0, 0] = 3.0  # one owner prunes a row of 7
    weights = 7 * J
    numbers, used = A * weights - 7 + J, weights - 7 / 3 + J
    assert layer.memory() == Memory(
        numbers, 4 * numbers + A * weights / 8, pytest.approx(used), pytest.approx(4 * used + weights / 8)
    )


def test_only_learned_masks_are_trained() -> None:
    def trained(**options) -> int:
        layer = SemiStructuredLinear(8, J, A, **options)
        return sum(parameter.numel() for parameter in layer.parameters() if parameter.requires_grad)

    weights = 8 * J + J
    assert trained() == weights + A * 8 * J
    assert trained(shared_mask=True) == weights + 8 * J
    assert trained(masks="fixed_random") == weights
