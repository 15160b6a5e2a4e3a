"""Mixed precision, with the CPU's bfloat16 in the GPU's place: the same code, dtypes and values to two digits."""

import pytest
import torch

from k24_rllib import K24QMixConfig, QMixConfig


def loss_and_gradients(bare_policy, config_class, mixed: bool, **options):
    """Returns one update's loss, gradients and policy."""
    config = config_class().environment("mpe_simple_spread", env_config={"N": 2}).debugging(seed=0)
    config.training(hidden_dim=32, mixer_init_scale=1.0, compile_kernels=False, mixed_precision=mixed, **options)
    if isinstance(config, K24QMixConfig):
        config.k24(temperature_init=5.0)  # a low temperature enlarges every difference in the scores
    policy, episodes = bare_policy(config)
    assert not policy._precision._enabled  # on a CPU the option changes nothing
    if mixed:
        policy._precision = torch.autocast("cpu", torch.bfloat16)
    torch.manual_seed(1)
    loss = policy.loss(policy.model, policy.dist_class, policy.train_batch(episodes))
    loss.backward()
    return loss, {name: parameter.grad for name, parameter in policy.model.named_parameters()}, policy


@pytest.mark.parametrize("config_class", [QMixConfig, K24QMixConfig])
@pytest.mark.parametrize("recurrent", [True, False])
def test_values_and_gradients_are_nearly_those_of_float32(bare_policy, config_class, recurrent: bool) -> None:
    exact, exact_gradients, plain = loss_and_gradients(bare_policy, config_class, mixed=False, recurrent=recurrent)
    loss, gradients, policy = loss_and_gradients(bare_policy, config_class, mixed=True, recurrent=recurrent)
    assert loss.dtype == torch.float32
    assert loss != exact  # something was multiplied in bfloat16
    assert abs(loss - exact) < 0.03 * exact
    for name, gradient in gradients.items():
        expected = exact_gradients[name]
        assert gradient.dtype == torch.float32, name
        assert (gradient - expected).norm() < 0.1 * expected.norm() + 1e-5, name
    if config_class is K24QMixConfig:
        layers = zip(policy.masked_layers(), plain.masked_layers(), policy.last_draws, plain.last_draws, strict=True)
        for layer, other, draw, expected in layers:
            assert layer.tracker.value.dtype == torch.float32
            torch.testing.assert_close(layer.tracker.value, other.tracker.value, rtol=0.01, atol=0.01)
            # Patterns are scored and drawn in float32: the same ones.
            assert torch.equal(draw.masks, expected.masks)
