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


@pytest.mark.parametrize(
    ("make", "fitting"),
    [
        (QMixConfig, {"dense", "independent", "hyper", "kaleidoscope", "2:4"}),
        (K24QMixConfig, {"2:4"}),
        (KaleidoscopeQMixConfig, {"kaleidoscope"}),
    ],
)
@pytest.mark.parametrize("layer", ["2:4", "kaleidoscope", "dense", "independent", "hyper"])
def test_qmix_takes_any_layer_and_what_learns_masks_its_own_kind(small, make, fitting: set[str], layer: str) -> None:
    config = small(make()).training(layer=layer)
    if layer in fitting:
        config.build_policy()
    else:
        with pytest.raises(
            ConfigError, match=f"layer: got '{layer}' with an algorithm that learns masks, expected null or"
        ):
            config.build_policy()


@pytest.mark.parametrize("make", [QMixConfig, K24QMixConfig, KaleidoscopeQMixConfig])
def test_an_unknown_part_or_option_names_the_nearest(make) -> None:
    for key, value, message in [
        ("layer", "dens", "unknown layer 'dens'; did you mean 'dense'"),
        ("agent", "feedforwards", "unknown agent 'feedforwards'; did you mean 'feedforward'"),
        ("mixer", "qmx", "unknown mixer 'qmx'; did you mean 'qmix'"),
        (
            "agent_options",
            {"hiden_dim": 3},
            "unknown agent_options key 'hiden_dim' of agent 'gru'; did you mean 'hidden_dim'",
        ),
        ("mixer_options", [3], r"mixer_options: got \[3\], expected keys and values"),
    ]:
        config = make().environment("mpe_simple_spread").training(**{key: value})
        with pytest.raises(ConfigError, match=message):
            config.validate()


def test_old_switches_mean_names() -> None:
    config = QMixConfig().training(recurrent=False, independent_networks=True)
    assert (config.agent, config.layer) == ("feedforward", "independent")
    config = QMixConfig().apply_dict({"recurrent": True, "independent_networks": False, "layer": "independent"})
    assert (config.agent, config.layer) == ("gru", "independent")
    with pytest.raises(ConfigError, match="recurrent: got 'no', expected true or false"):
        QMixConfig().apply_dict({"recurrent": "no"})


def test_the_defaults_are_those_of_the_tuned_examples() -> None:
    """Whoever names an environment and nothing else gets what learns, and the examples say only what differs."""
    for config in (QMixConfig(), K24QMixConfig(), KaleidoscopeQMixConfig()):
        assert config.lr == [[0, 0.002], [1_000_000, 0.0001]]
        assert (config.gamma, config.target_update_tau, config.mixer_init_scale) == (0.9, 0.01, 0.1)
        assert (config.updates_per_episode, config.epsilon_timesteps) == (0.4, 100_000)
    config = K24QMixConfig()
    assert (config.temperature_init, config.temperature_final, config.temperature_end) == (0.1, 0.01, 0.5)
    assert (config.div_coef, config.reset_interval, config.finetune_at) == (0.1, None, None)


def test_a_restored_policy_learns_with_its_own_rate_and_epsilon(small, bare_policy) -> None:
    """Not with the checkpoint's, which Adam's state holds; a schedule's rate is that of the step reached."""
    before, _ = bare_policy(small(QMixConfig()).training(lr=1e-3, adam_epsilon=1e-8))
    before.on_global_var_update({"timestep": 500})
    for lr, expected in ((2e-3, 2e-3), ([[0, 1e-2], [1000, 0.0 + 1e-3]], 5.5e-3)):
        after, episodes = bare_policy(small(QMixConfig()).training(lr=lr, adam_epsilon=1e-5))
        after.set_state(before.get_state())
        stats = after.learn_on_batch(episodes)
        assert stats["lr"] == pytest.approx(expected)
        assert after._optimizers[0].param_groups[0]["eps"] == 1e-5
