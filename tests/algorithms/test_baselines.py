"""The baselines of the same code: what they are made of, and what training changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig

BASELINES: dict[str, Callable[[], QMixConfig]] = {
    "shared": QMixConfig,
    "independent": lambda: QMixConfig().training(independent_networks=True),
    "k24": lambda: K24QMixConfig().k24(total_env_steps=200),
    "kaleidoscope": lambda: KaleidoscopeQMixConfig().kaleidoscope(total_env_steps=200),
}


def numbers(agents: int, hidden: int, features: int, actions: int) -> tuple[int, int]:
    """Returns the fully connected layers' numbers (weights and biases) and the GRU's, of one dense network."""
    layers = [(features, hidden), (hidden, hidden), (hidden, hidden), (hidden, actions)]
    return sum(i * j + j for i, j in layers), 2 * 3 * hidden * (hidden + 1)


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
    assert found["k24"]["parameters_trained"] == dense + mixer + 2 * masked  # alpha
    assert found["k24"]["parameters_team"] == dense
    assert found["k24"]["parameters_agent"] == pytest.approx(dense - masked / 2, abs=hidden)  # a ragged last group
    assert found["kaleidoscope"]["parameters_trained"] == dense + mixer + 2 * masked  # thresholds
    assert dense < found["kaleidoscope"]["parameters_team"] <= connected + masked + gru
    assert found["k24"]["bytes_agent"] < found["kaleidoscope"]["bytes_agent"] < found["shared"]["bytes_agent"] * 1.04


def test_one_agents_loss_moves_only_its_own_network(small, bare_policy) -> None:
    """Through the policy: independent networks, no mixing, and an update that only agent 1's values enter."""
    policy, episodes = bare_policy(small(QMixConfig()).training(independent_networks=True, mixer="independent"))
    batch = policy.train_batch(episodes)
    q = policy.online_values(batch, policy.model.agent.agent_weights(explore=True))
    q[:, :, 1].square().sum().backward()
    agent = policy.model.agent
    for layer in agent.layers():
        for parameter in layer.parameters():
            assert parameter.grad.flatten(1).any(1).tolist() == [False, True]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in agent.middle.cells[0].parameters())
    assert all(parameter.grad.any() for parameter in agent.middle.cells[1].parameters())


def test_the_target_follows_every_network(small, bare_policy) -> None:
    policy, episodes = bare_policy(small(QMixConfig()).training(independent_networks=True))
    policy.learn_on_batch(episodes)
    online, target = policy.model.state_dict(), policy.target_model.state_dict()
    assert any(not torch.equal(online[name], target[name]) for name in online if ".cells.1." in name)
    policy.update_target()
    assert all(torch.equal(online[name], target[name]) for name in online)
