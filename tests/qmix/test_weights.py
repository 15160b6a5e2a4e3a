"""Weights alone travel in a file that runs no code, and that is refused unless it is as it was written."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMix, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.qmix.weights import config_of, load_network, read_weights, save_weights

LAYERS = {
    "dense": lambda: QMixConfig().training(mixer="vdn", lr=[[0, 0.01], [100, 0.001]]),
    "2:4": lambda: K24QMixConfig().k24(
        masks="fixed_random", div_coef=0.0, temperature_init=0.005, temperature_final=0.001
    ),
    "2:8": lambda: K24QMixConfig().k24(pattern="2:8", ema_per_owner=True),
    "kaleidoscope": lambda: KaleidoscopeQMixConfig(),
    "hyper": lambda: QMixConfig().training(layer="hyper", layer_options={"embedding_dim": 2, "hypernet_dim": 4}),
    "independent": lambda: QMixConfig().training(layer="independent", agent="feedforward", last_action_input=True),
}


@pytest.fixture
def written(small: Any, bare_policy: Any, tmp_path: Path) -> Any:
    """Writes the weights of a small policy."""

    def write(config: Any, seed: int = 0) -> tuple[Path, Any]:
        policy, _ = bare_policy(small(config), seed)
        save_weights(policy.model, config, tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors", policy

    return write


@pytest.mark.parametrize("name", LAYERS)
def test_a_stranger_rebuilds_the_network_from_the_file_alone(written: Any, name: str) -> None:
    path, policy = written(LAYERS[name]())
    weights = read_weights(path)
    torch.manual_seed(1)
    other = config_of(weights).build_policy()
    load_network(str(path), weights.tensors, other.model)
    assert type(other) is type(policy)
    assert weights.agents == policy.model.num_agents
    for (ours, value), (theirs, same) in zip(
        policy.model.state_dict().items(), other.model.state_dict().items(), strict=True
    ):
        assert ours == theirs
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(same))


def test_any_program_reads_it(written: Any) -> None:
    path, policy = written(K24QMixConfig())
    assert load_file(path).keys() == policy.model.state_dict().keys()


def test_every_flip_and_cut_is_refused(written: Any, tmp_path: Path) -> None:
    path, _ = written(K24QMixConfig())
    content = path.read_bytes()
    rng, header = random.Random(0), int.from_bytes(content[:8], "little") + 8
    bits = [*range(64), *rng.sample(range(64, 8 * header), 300), *rng.sample(range(8 * header, 8 * len(content)), 100)]
    other = tmp_path / "other.safetensors"
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        other.write_bytes(flipped)
        with pytest.raises(ConfigError, match=r"other\.safetensors: is (damaged|no file of weights)"):
            read_weights(other)
    for kept in [*range(0, 16), *rng.sample(range(len(content)), 50)]:
        other.write_bytes(content[:kept])
        with pytest.raises(ConfigError, match=r"other\.safetensors: is (damaged|no file of weights)"):
            read_weights(other)


def test_another_network_is_refused_by_its_shapes(small: Any, bare_policy: Any, written: Any) -> None:
    path, _ = written(QMixConfig())
    weights = read_weights(path)
    wider = small(QMixConfig()).training(hidden_dim=16)
    with pytest.raises(ConfigError, match=r"weights\.safetensors: .*\[8, 14\] there, \[16, 14\] here"):
        load_network(str(path), weights.tensors, bare_policy(wider)[0].model)
    more = small(QMixConfig(), N=3)
    with pytest.raises(ConfigError, match="of other shapes"):
        load_network(str(path), weights.tensors, bare_policy(more)[0].model)
    simpler = small(QMixConfig()).training(mixer="vdn")
    with pytest.raises(ConfigError, match=r"another kind of network .mixer.* is there alone"):
        load_network(str(path), weights.tensors, bare_policy(simpler)[0].model)


def test_what_is_no_json_is_not_shared(small: Any, bare_policy: Any, tmp_path: Path) -> None:
    config = small(QMixConfig())
    policy, _ = bare_policy(config)
    config.env_config["size"] = {1, 2}
    with pytest.raises(ConfigError, match=r"env_config: got .*, expected what JSON can hold"):
        save_weights(policy.model, config, tmp_path / "weights.safetensors")
    assert list(tmp_path.iterdir()) == []


def forged(path: Path, **changes: str) -> Path:
    """Writes a file of weights as a stranger may: with a digest that is right, and metadata of their own."""
    from k24_rllib.serve.container import NO_DIGEST, seal

    content = path.read_bytes()
    about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    path.write_bytes(seal(save(load_file(path), {**about, **changes, "digest": NO_DIGEST})))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": "2"}, "is of format 'k24_rllib weights 2', expected k24_rllib weights 1"),
        ({"algorithm": "os.system"}, "unknown algorithm 'os.system'"),
        ({"settings": '{"callbacks": "os.system"}'}, "callbacks: is no setting of QMix's network"),
        ({"settings": '{"env": "mpe_simple_spread", "layer": "os.system"}'}, "unknown layer 'os.system'"),
        ({"settings": '{"env": "os.system"}'}, "unknown environment 'os.system'"),
        ({"settings": "[]"}, "settings: got"),
    ],
)
def test_a_stranger_has_no_say_in_more_than_the_network(written: Any, changes: dict[str, str], message: str) -> None:
    path = forged(written(QMixConfig())[0], **changes)
    with pytest.raises(ConfigError, match=message):
        config_of(read_weights(path)).build_policy()


@pytest.mark.usefixtures("ray_session")
def test_an_algorithm_plays_from_weights_as_it_did(small: Any, tmp_path: Path) -> None:
    algo = small(K24QMixConfig()).training(agent_id_input=False).build_algo()
    algo.train()
    checkpoint = Path(algo.save_to_path(tmp_path / "saved"))
    returns = algo.evaluate_greedy(4, seed=0)["episode_returns"]
    other = QMix.from_weights(checkpoint / "weights.safetensors")
    assert type(other) is type(algo)
    np.testing.assert_array_equal(other.evaluate_greedy(4, seed=0)["episode_returns"], returns)
    for parameter in other.policy.model.parameters():
        parameter.data.zero_()
    assert (other.evaluate_greedy(4, seed=0)["episode_returns"] != returns).any()
    other.load_weights(checkpoint / "weights.safetensors")
    np.testing.assert_array_equal(other.evaluate_greedy(4, seed=0)["episode_returns"], returns)
    online, target = other.policy.model.state_dict(), other.policy.target_model.state_dict()
    assert all(torch.equal(torch.as_tensor(online[name]), torch.as_tensor(target[name])) for name in online)
    other.train()
    algo.stop()
    other.stop()
