"""The mixers: what they compute and what they guarantee."""

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.models import MIXERS, QMixer, make_mixer

AGENTS, STATE = 4, 7


def test_qmix_is_monotone_in_every_agent() -> None:
    torch.manual_seed(0)
    mixer = QMixer(AGENTS, STATE)
    agent_q = torch.randn(50, 6, AGENTS, requires_grad=True)
    joint = mixer(agent_q, torch.randn(50, 6, STATE))
    (gradient,) = torch.autograd.grad(joint.sum(), agent_q)
    assert joint.shape == (50, 6, 1)
    assert (gradient >= 0).all()
    assert (gradient > 0).float().mean() > 0.9


def test_qmix_depends_on_the_state() -> None:
    torch.manual_seed(0)
    mixer = QMixer(AGENTS, STATE)
    agent_q = torch.randn(AGENTS)
    assert not torch.allclose(mixer(agent_q, torch.zeros(STATE)), mixer(agent_q, torch.ones(STATE)))


def test_qmix_equals_its_formula() -> None:
    torch.manual_seed(1)
    mixer = QMixer(AGENTS, STATE, embed_dim=5)
    agent_q, state = torch.randn(3, AGENTS), torch.randn(3, STATE)
    joint = mixer(agent_q, state)
    for row in range(3):
        # four hypernetworks whose first layers are stored as one: 64 units for w1, 64 for w2, 5 for b2, and b1 itself
        units = mixer.hyper_in.weight @ state[row] + mixer.hyper_in.bias
        w1 = mixer.hyper_w1(units[:64].relu()).abs().view(AGENTS, 5)
        w2 = mixer.hyper_w2(units[64:128].relu()).abs()
        b2 = mixer.hyper_b2(units[128:133].relu())
        hidden = torch.nn.functional.elu(agent_q[row] @ w1 + units[133:])
        torch.testing.assert_close(joint[row], (hidden @ w2 + b2))


def test_a_small_init_scale_starts_flat() -> None:
    """Only the hypernetworks' outputs shrink: the joint value hardly depends on anything, and can grow from there."""
    torch.manual_seed(0)
    usual = QMixer(AGENTS, STATE)
    torch.manual_seed(0)
    flat = QMixer(AGENTS, STATE, init_scale=0.1)
    agent_q, state = torch.randn(20, AGENTS), torch.randn(20, STATE)
    assert flat(agent_q, state).std() < 0.2 * usual(agent_q, state).std()
    assert torch.equal(flat.hyper_in.weight[:-32], usual.hyper_in.weight[:-32])
    torch.testing.assert_close(flat.hyper_in.weight[-32:], 0.1 * usual.hyper_in.weight[-32:])


def test_vdn_sums_and_independent_keeps() -> None:
    agent_q = torch.randn(2, 3, AGENTS)
    state = torch.zeros(2, 3, STATE)
    torch.testing.assert_close(MIXERS.part("vdn").make(AGENTS, STATE)(agent_q, state)[..., 0], agent_q.sum(-1))
    assert MIXERS.part("independent").make(AGENTS, STATE)(agent_q, state) is agent_q


def test_an_unknown_mixer_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'qmix'"):
        make_mixer({"mixer": "qmx"}, AGENTS, STATE)
    assert {"independent", "qmix", "vdn"} <= set(MIXERS.names())
