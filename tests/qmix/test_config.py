"""Learning rates as schedules, and keys that files may hold."""

import pytest

from k24_rllib import K24QMix, K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.checks import ConfigError


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (0, "lr: got 0, expected a number above 0"),
        ("fast", "lr: got 'fast', expected a number above 0"),
        ([[10, 0.1]], r"expected a number or \[\[0, lr\], \[step, lr\], ...\]"),
        ([[0, 0.1], [5, -0.1]], "lr: got -0.1"),
        ([[0, 0.1], [5, 0.1], [5, 0.2]], "expected steps that rise"),
        ([], "expected a number or"),
    ],
)
def test_impossible_learning_rates_are_named(lr: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QMixConfig().training(lr=lr).validate()


@pytest.mark.usefixtures("ray_session")
def test_a_scheduled_learning_rate_moves_with_the_steps(small) -> None:
    algo = small(QMixConfig()).training(lr=[[0, 1e-2], [80, 1e-3]]).build_algo()
    seen = {}
    for _ in range(3):
        result = algo.train()
        seen[result["timesteps_total"]] = result["info"]["learner"]["default_policy"]["lr"]
    assert seen == pytest.approx({40: 5.5e-3, 80: 1e-3, 120: 1e-3})
    algo.stop()


def test_every_documented_setting_can_be_set_from_a_file() -> None:
    config = K24QMixConfig().apply_dict(
        {
            "lr": 1e-3,
            "sampling": "gumbel",
            "mixer": "vdn",
            "num_env_runners": 2,
            "evaluation_interval": 3,
            "num_gpus": 0.5,
        }
    )
    assert (config.sampling, config.mixer, config.num_env_runners) == ("gumbel", "vdn", 2)
    assert config.evaluation_interval == 3


def test_validating_twice_changes_nothing() -> None:
    config = K24QMixConfig().environment("mpe_simple_spread").k24(total_env_steps=10)
    config.validate()
    first = config.to_dict()
    config.validate()
    assert {key: value for key, value in config.to_dict().items() if key != "callbacks"} == {
        key: value for key, value in first.items() if key != "callbacks"
    }
    assert config.callbacks_class is first["callbacks"]


def test_a_misspelt_key_of_a_dict_is_refused() -> None:
    """As in Tune's `param_space`: RLlib itself would train without it."""
    with pytest.raises(ConfigError, match="unknown config key 'div_coeff' of K24QMix; did you mean 'div_coef'"):
        K24QMix(config={"env": "mpe_simple_spread", "div_coeff": 0.5})


@pytest.mark.parametrize("make", [QMixConfig, K24QMixConfig, KaleidoscopeQMixConfig])
@pytest.mark.parametrize("layer", ["2:4", "n:m", "kaleidoscope", "dense", "foo"])
def test_each_algorithm_has_its_own_layer(make, layer: str) -> None:
    config = make().environment("mpe_simple_spread")
    own = config.layer
    config.layer = layer
    if layer == own:
        config.validate()
    else:
        with pytest.raises(ConfigError, match=f"layer: got '{layer}', expected one of '{own}'"):
            config.validate()
