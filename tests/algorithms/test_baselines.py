"""The baselines of the same code: what they are made of, and what training changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.sparsity import SemiStructuredLinear

BASELINES: dict[str, Callable[[], QMixConfig]] = {
    "shared": QMixConfig,
    "independent": lambda: QMixConfig().training(layer="independent"),
    "hyper": lambda: QMixConfig().training(layer="hyper", layer_options={"embedding_dim": 4, "hypernet_dim": 3}),
    "k24": lambda: K24QMixConfig().k24(total_env_steps=200),
    "kaleidoscope": lambda: KaleidoscopeQMixConfig().kaleidoscope(total_env_steps=200),
}


def numbers(agents: int, hidden: int, features: int, actions: int) -> tuple[int, int]:
    """Returns the fully connected layers' numbers (weights and biases) and the GRU's, of one dense network."""
    layers = [(features, hidden), (hidden, hidden), (hidden, hidden), (hidden, actions)]
    return sum(i * j + j for i, j in layers), 2 * 3 * hidden * (hidden + 1)


def masks(policy) -> list[torch.Tensor]:
    return [layer.masks(explore=False).clone() for layer in policy.masked_layers()]


def learn(policy, episodes, steps=(0, 40, 80, 120, 160, 200)) -> None:
    """Makes updates over a whole run: with resets, where there are any, and finetuning at its end."""
    for step in steps:
        policy.global_timestep = step
        policy.learn_on_batch(episodes)


@pytest.mark.parametrize("network", ["model", "target_model"])
def test_fixed_masks_never_change_while_weights_do(small, bare_policy, network: str) -> None:
    config = small(K24QMixConfig()).training(lr=1e-2).k24(total_env_steps=200, masks="fixed_random", div_coef=0.0)
    policy, episodes = bare_policy(config)
    layers = getattr(policy, network).agent.layers_of(SemiStructuredLinear)
    kept = [layer.masks(explore=True).clone() for layer in layers]
    weights = [layer.weight.detach().clone() for layer in layers]
    alphas = [layer.hetero_alpha.detach().clone() for layer in layers]
    learn(policy, episodes)
    policy.update_target()
    for layer, mask, weight, alpha in zip(layers, kept, weights, alphas, strict=True):
        assert torch.equal(layer.masks(explore=True), mask)
        assert torch.equal(layer.hetero_alpha, alpha)
        moved = layer.weight != weight
        assert moved.any()
        assert not (moved & ~mask.any(0).bool()).any()  # what nobody keeps gets no gradient
    differ = [not torch.equal(mask[0], mask[1]) for mask in kept]
    assert all(differ)


def test_fixed_masks_are_the_same_after_a_checkpoint(small, bare_policy) -> None:
    config = small(K24QMixConfig()).k24(total_env_steps=200, masks="fixed_random", div_coef=0.0)
    policy, episodes = bare_policy(config)
    other, _ = bare_policy(config, seed=5)
    assert any(not torch.equal(mine, its) for mine, its in zip(masks(policy), masks(other), strict=True))
    other.set_state(policy.get_state())
    for _ in range(2):
        for each in (policy, other):
            each.learn_on_batch(episodes)
    for name, value in policy.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def test_a_shared_mask_is_one_mask_for_all_and_is_learned(small, bare_policy) -> None:
    config = small(K24QMixConfig()).training(lr=5e-2).k24(total_env_steps=1000, shared_mask=True, div_coef=0.0)
    policy, episodes = bare_policy(config)
    before = masks(policy)
    for step in range(0, 400, 20):
        learn(policy, episodes, (step,))
        drawn = policy.model.agent.weights(explore=True).layers
        for its in drawn:
            assert torch.equal(its.weights[0], its.weights[1])
    assert all(layer.hetero_alpha.shape[0] == 1 for layer in policy.masked_layers())
    assert any(not torch.equal(mine, its) for mine, its in zip(masks(policy), before, strict=True))
    assert all((mask.mean() - 0.5).abs() < 0.1 for mask in masks(policy))


@pytest.mark.parametrize("hidden", [8, 4])
def test_parameters_are_counted(small, bare_policy, hidden: int) -> None:
    """Two agents: what is shared counts once, and the mixer only where all that is trained is counted."""
    found = {}
    for name, make in BASELINES.items():
        policy, _ = bare_policy(small(make()).training(hidden_dim=hidden))
        found[name] = policy.num_parameters()
    inputs = policy.model.agent.fc1.in_features
    connected, gru = numbers(2, hidden, inputs, 5)
    mixer = sum(parameter.numel() for parameter in policy.model.mixer.parameters())
    masked = connected - 3 * hidden - 5  # weights without biases
    dense = connected + gru
    assert found["shared"] == {
        "parameters_trained": dense + mixer,
        "bytes_trained": 4 * (dense + mixer),
        "parameters_team": dense,
        "bytes_team": 4 * dense,
        "parameters_agent": dense,
        "bytes_agent": 4 * dense,
    }
    assert found["independent"]["parameters_trained"] == 2 * dense + mixer
    assert found["independent"]["parameters_team"] == 2 * found["independent"]["parameters_agent"] == 2 * dense
    made_by = 4 * (2 * 4 + 3 * (4 + 1)) + 3 * connected  # four layers' embeddings, hidden layers and last layers
    assert found["hyper"]["parameters_trained"] == made_by + gru + mixer
    assert found["hyper"]["parameters_team"] == 2 * connected + gru
    assert found["hyper"]["parameters_agent"] == dense
    assert found["k24"]["parameters_trained"] == dense + mixer + 2 * masked  # alpha
    assert found["k24"]["parameters_team"] == dense
    assert found["k24"]["parameters_agent"] == pytest.approx(dense - masked / 2, abs=hidden)  # a ragged last group
    assert found["kaleidoscope"]["parameters_trained"] == dense + mixer + 2 * masked  # thresholds
    assert dense < found["kaleidoscope"]["parameters_team"] <= connected + masked + gru
    assert found["k24"]["bytes_agent"] < found["kaleidoscope"]["bytes_agent"] < found["shared"]["bytes_agent"] * 1.04


def test_one_agents_loss_moves_only_its_own_network(small, bare_policy) -> None:
    """Through the policy: independent networks, no mixing, and an update that only agent 1's values enter."""
    policy, episodes = bare_policy(small(QMixConfig()).training(layer="independent", mixer="independent"))
    batch = policy.train_batch(episodes)
    q = policy.online_values(batch, policy.model.agent.weights(explore=True))
    q[:, :, 1].square().sum().backward()
    agent = policy.model.agent
    for layer in agent.layers():
        for parameter in layer.parameters():
            assert parameter.grad.flatten(1).any(1).tolist() == [False, True]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in agent.middle.cells[0].parameters())
    assert all(parameter.grad.any() for parameter in agent.middle.cells[1].parameters())


def test_the_target_follows_every_network(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(QMixConfig()).training(layer="independent"))
    policy.learn_on_batch(episodes)
    online, target = policy.model.state_dict(), policy.target_model.state_dict()
    assert any(not torch.equal(online[name], target[name]) for name in online if ".cells.1." in name)
    policy.update_target()
    assert all(torch.equal(online[name], target[name]) for name in online)
