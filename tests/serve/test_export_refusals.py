"""What can't be exported is refused in one line; a network that is more than it says is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import k24_rllib
from k24_rllib import QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.experiments.export import export_checkpoint
from k24_rllib.models import Agent, AgentWeights, GRUAgent, LayerFactory
from k24_rllib.qmix.weights import save_weights
from k24_rllib.sparsity import MaskedLayer, SemiStructuredLinear24


class Untold(Agent):
    """One layer, and nothing said of it."""

    def __init__(self, input_dim: int, num_actions: int, num_owners: int, make_layer: LayerFactory) -> None:
        super().__init__(num_owners)
        self.fc1 = make_layer(input_dim, num_actions)

    def layers(self) -> list[MaskedLayer]:
        return [self.fc1]

    def initial_hidden(self, groups: int, rows: int) -> Tensor:
        return self.fc1.weight.new_zeros(groups, rows, 0)

    def unroll(
        self, inputs: Tensor, hidden: Tensor, weights: AgentWeights, track: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        owners, steps, rows, _ = inputs.shape
        q = self.fc1(inputs.reshape(owners, steps * rows, -1), weights.layers[0], track)
        return q.view(owners, steps, rows, -1), hidden


class Scaled(GRUAgent):
    """A GRU agent that does more than its stages say."""

    def unroll(self, *args: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
        q, hidden = super().unroll(*args, **keywords)
        return q * 2.0, hidden


class Halved(SemiStructuredLinear24):
    """A layer whose weights are other than those that it says it keeps."""

    def weights(self, explore: bool) -> Tensor:
        return super().weights(explore) / 2

    def make_weights(self, explore: bool) -> Any:
        made = super().make_weights(explore)
        return type(made)(made.weights / 2, made.draw)


k24_rllib.register_agent("serve_untold", Untold)
k24_rllib.register_agent("serve_scaled", Scaled)
k24_rllib.register_layer("serve_halved", Halved)


@pytest.fixture
def weights(small: Callable, tmp_path: Path) -> Callable[..., Path]:
    def write(**settings: Any) -> Path:
        config = small(QMixConfig()).training(**settings)
        torch.manual_seed(0)
        save_weights(config.build_policy().model, config, tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors"

    return write


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"agent": "serve_untold"}, "agent Untold: can't be exported: its class has no `stages`"),
        ({"agent": "serve_scaled"}, "agent Scaled: can't be exported: its values differ from those of its stages"),
        ({"layer": "serve_halved"}, "layer Halved: can't be exported: its weights aren't those of its `kept`"),
    ],
)
def test_parts_of_the_users_own(weights: Callable, tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        export_checkpoint(weights(**settings), tmp_path / "team.safetensors", observations=100)
    assert said in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_numbers_that_a_type_cant_hold(small: Callable, tmp_path: Path) -> None:
    config = small(QMixConfig())
    model = config.build_policy().model
    with torch.no_grad():
        model.agent.fc2.weight[0, 0] = 1e6
    save_weights(model, config, tmp_path / "weights.safetensors")
    export_checkpoint(tmp_path / "weights.safetensors", tmp_path / "team.safetensors", dtype="bfloat16", observations=9)
    with pytest.raises(ConfigError, match=r"fc2.weight: got 1e\+06, expected what float16 can hold"):
        export_checkpoint(tmp_path / "weights.safetensors", tmp_path / "t.safetensors", dtype="float16")
