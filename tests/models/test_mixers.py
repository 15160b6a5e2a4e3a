"""The mixers: what they compute and what they guarantee."""

import pytest
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.models import MIXERS, make_mixer

AGENTS, STATE = 4, 7


def test_qmix_is_monotone_in_every_agent() -> None:
    torch.manual_seed(0)
    mixer = make_mixer("qmix", AGENTS, STATE)
    agent_q = torch.randn(50, 6, AGENTS, requires_grad=True)
    joint = mixer(agent_q, torch.randn(50, 6, STATE))
    (gradient,) = torch.autograd.grad(joint.sum(), agent_q)
    assert joint.shape == (50, 6, 1)
    assert (gradient >= 0).all()
    assert (gradient > 0).float().mean() > 0.9


def test_qmix_depends_on_the_state() -> None:
    torch.manual_seed(0)
    mixer = make_mixer("qmix", AGENTS, STATE)
    agent_q = torch.randn(AGENTS)
    assert not torch.allclose(mixer(agent_q, torch.zeros(STATE)), mixer(agent_q, torch.ones(STATE)))


def test_qmix_equals_its_formula() -> None:
    torch.manual_seed(1)
    mixer = make_mixer("qmix", AGENTS, STATE, embed_dim=5)
    agent_q, state = torch.randn(3, AGENTS), torch.randn(3, STATE)
    joint = mixer(agent_q, state)
    for row in range(3):
        w1 = mixer.hyper_w1(state[row]).abs().view(AGENTS, 5)
        w2 = mixer.hyper_w2(state[row]).abs()
        hidden = torch.nn.functional.elu(agent_q[row] @ w1 + mixer.hyper_b1(state[row]))
        torch.testing.assert_close(joint[row], (hidden @ w2 + mixer.hyper_b2(state[row])))


def test_vdn_sums_and_independent_keeps() -> None:
    agent_q = torch.randn(2, 3, AGENTS)
    state = torch.zeros(2, 3, STATE)
    torch.testing.assert_close(make_mixer("vdn", AGENTS, STATE)(agent_q, state)[..., 0], agent_q.sum(-1))
    assert make_mixer("independent", AGENTS, STATE)(agent_q, state) is agent_q


def test_an_unknown_mixer_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'qmix'"):
        make_mixer("qmx", AGENTS, STATE)
    assert MIXERS == ("qmix", "vdn", "independent")
