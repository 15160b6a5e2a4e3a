"""RLlib's own settings: those that act, those that don't, and what older files called them."""

from __future__ import annotations

from typing import Any

import pytest

from k24_rllib import K24QMixConfig, QMix, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.qmix.rllib_keys import ACTING, GONE, IDLE, RENAMED, check_rllib_key, is_rllib_key, todays_names
from k24_rllib.qmix.settings import OLD_SWITCHES


def test_the_lists_are_those_of_the_installed_rllib() -> None:
    known = QMixConfig().known_keys() - set(QMixConfig.settings()) - set(OLD_SWITCHES)
    assert not [key for key in known if not is_rllib_key(key)]
    assert not ({*ACTING, *IDLE} - known)
    assert not set(ACTING) & set(IDLE)
    assert not {*RENAMED, *GONE} & {*known, *QMixConfig.settings()}


def test_what_an_old_name_means_is_a_setting_today() -> None:
    assert all(key in ACTING or key in QMixConfig.settings() for key in RENAMED.values())


def test_every_default_that_acts_passes_its_own_check() -> None:
    config = QMixConfig().to_dict()
    for key, check in ACTING.items():
        if key in config and config[key] is not None:
            check(key, config[key])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "x"}, r"output: got 'x', which has no effect on K24QMix \(episodes are written nowhere"),
        ({"num_learners": 2}, r"num_learners: got 2, which has no effect"),
        ({"observation_filter": "MeanStdFilter"}, r"observation_filter: got 'MeanStdFilter', which has no effect"),
        ({"exploration_config": {"type": "Random"}}, r"exploration_config: got .* \(epsilon_initial"),
        ({"model": {"fcnet_hiddens": [64]}}, r"model: fcnet_hiddens: got \[64\], which has no effect .* hidden_dim"),
        ({"callbacks_on_train_result": "f"}, r"a function can be given from Python alone"),
        ({"simple_optimizer": True}, r"RLlib has given it up"),
        ({"horizon": 25}, r"config key 'horizon': is no setting of K24QMix, expected the environment's own limit"),
        ({"evaluation_config": {"lr": -1}}, r"evaluation_config: lr: got -1"),
        ({"num_workers": 1, "num_env_runners": 2}, r"num_workers: got 1 beside num_env_runners"),
        ({"callbacks": "nonsense"}, r"callbacks: got 'nonsense', expected a class of callbacks"),
        ({"num_gpus": -1}, r"num_gpus: got -1, expected a number at least 0"),
        ({"rollouts_ahead": 2**63}, r"rollouts_ahead: got 9223372036854775808, expected .* at most 100"),
        ({"buffer_episodes": 10**400}, r"buffer_episodes: got 10"),
    ],
)
def test_what_does_nothing_or_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    config = K24QMixConfig().environment("mpe_simple_spread")
    with pytest.raises(ConfigError, match=message):
        config.apply_dict(settings).validate()


def test_what_does_nothing_may_stand_at_its_default() -> None:
    defaults = QMixConfig().to_dict()
    QMixConfig().environment("mpe_simple").apply_dict(
        {key: defaults[key] for key in ("num_learners", "observation_filter", "output", "model", "exploration_config")}
    ).validate()


def test_old_names_set_what_they_are_called_today() -> None:
    config = QMixConfig().environment("mpe_simple").apply_dict({"num_workers": 2, "evaluation_num_episodes": 7})
    assert (config.num_env_runners, config.evaluation_duration) == (2, 7)
    assert todays_names({"num_workers": None, "num_env_runners": 3}) == {"num_env_runners": 3}


def test_a_value_is_named_before_it_has_any_effect() -> None:
    with pytest.raises(ConfigError, match="batch_mode: got 'truncate_episodes', expected one of 'complete_episodes'"):
        check_rllib_key("batch_mode", "truncate_episodes", "QMix")


def test_an_algorithm_without_a_configuration_has_a_name() -> None:
    """Ray asks for it while it reports an error of the constructor, and loses the error if that fails too."""
    assert repr(QMix.__new__(QMix)) == "QMix"
