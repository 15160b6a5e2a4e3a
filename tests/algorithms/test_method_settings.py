"""Every setting of the method: switched on from Python or a file, what does it do?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from k24_rllib import K24QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.experiments.yaml_reader import read_yaml_file
from k24_rllib.sparsity import NM_RATIOS, diversity_loss


@pytest.fixture
def make(small, bare_policy, first_draft):
    """Builds a policy and its episodes from settings of `k24()`."""

    def build(**settings):
        return bare_policy(first_draft(small(K24QMixConfig())).k24(total_env_steps=1000, **settings))

    return build


def update(policy, episodes, step: int = 0) -> dict[str, float]:
    policy.on_global_var_update({"timestep": step})
    torch.manual_seed(step)
    return {name: float(value) for name, value in policy.learn_on_batch(episodes).items()}


@pytest.mark.parametrize("pattern", NM_RATIOS)
def test_each_ratio_keeps_exactly_n_of_m(make, pattern: str) -> None:
    n, m = NM_RATIOS[pattern]
    policy, episodes = make(pattern=pattern)
    update(policy, episodes)
    metrics = policy.method_metrics()
    assert metrics["overall_sparsity"].item() == pytest.approx(1 - n / m, abs=1e-6)
    count = len(policy.masked_layers()[0].patterns)
    assert sum(name.endswith("_prob") for name in metrics) == count
    kept = policy.masked_layers()[1].masks(explore=True).unflatten(-1, (-1, m)).sum(-1)
    assert (kept == n).all()


def test_fixed_random_masks_stay_and_differ_between_owners(make) -> None:
    policy, episodes = make(masks="fixed_random", finetune_at=0.5)
    masks = [layer.masks(explore=True).clone() for layer in policy.masked_layers()]
    assert not torch.equal(masks[1][0], masks[1][1])
    rate = update(policy, episodes)["lr"]
    for step in (450, 500, 950):
        stats = update(policy, episodes, step)
        policy.update_target()
    for layer, mask in zip(policy.masked_layers(), masks, strict=True):
        assert torch.equal(layer.masks(explore=True), mask)
    assert stats["div_loss"] == stats["div_coef"] == 0.0
    assert stats["loss"] == stats["loss_td"]
    assert stats["lr"] == pytest.approx(0.1 * rate)
    assert policy.record.resets_total == 0


def test_one_mask_for_all(make) -> None:
    policy, episodes = make(shared_mask=True)
    update(policy, episodes)
    masks = policy.masked_layers()[1].masks(explore=True)
    assert torch.equal(masks[0], masks[1])


@pytest.mark.parametrize(
    ("sampling", "estimator"), [("tempered", "reinmax"), ("gumbel", "reinmax"), ("gumbel", "rao_blackwell")]
)
def test_an_estimator_changes_the_gradient_alone(make, sampling: str, estimator: str) -> None:
    other, episodes = make()
    losses, gradients = [], []
    for name in ("straight_through", estimator):
        policy, _ = make(sampling=sampling, estimator=name, div_coef=0.0, rao_blackwell_samples=3)
        policy.reward_moments = other.reward_moments  # of the same episodes
        losses.append(update(policy, episodes)["loss"])
        gradients.append(torch.cat([layer.hetero_alpha.grad.flatten() for layer in policy.masked_layers()]))
        assert gradients[-1].isfinite().all()
        assert (gradients[-1] != 0).any()
    assert not torch.allclose(*gradients)
    if sampling == "gumbel":  # tempered draws come from another use of the same numbers
        assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["dot", "cosine", "js", "weighted"])
def test_each_diversity_loss_is_the_one_added(make, name: str) -> None:
    policy, episodes = make(diversity=name, div_coef=0.5, temperature_init=0.5, temperature_final=0.5)
    with torch.no_grad():
        for layer in policy.masked_layers():
            layer.hetero_alpha.normal_()
        expected = diversity_loss(name, policy.masked_layers()).item()
    stats = update(policy, episodes)
    assert stats["div_loss"] == pytest.approx(expected, rel=1e-4)
    assert stats["div_coef"] == pytest.approx(abs(0.5 * stats["loss_td"] / stats["div_loss"]), rel=1e-4)
    assert stats["loss"] == pytest.approx(stats["loss_td"] + stats["div_coef"] * stats["div_loss"], rel=1e-4)


def test_an_input_scale_of_each_owners_own(make) -> None:
    for own, shape in ((False, (8,)), (True, (2, 8))):
        policy, episodes = make(ema_per_owner=own)
        update(policy, episodes)
        scale = policy.masked_layers()[1].tracker.value
        assert scale.shape == shape
    assert not torch.allclose(scale[0], scale[1])


def test_no_finetuning_where_it_is_off(make) -> None:
    policy, episodes = make(finetune_at=None)
    rates = [update(policy, episodes, step)["lr"] for step in (0, 800, 1000)]
    assert rates[0] == rates[1] == rates[2]
    assert not policy.masks_frozen()
    assert policy.method_metrics()["finetune_mode"] == 0


@pytest.mark.parametrize("schedule", ["linear", "two_phase", "cosine"])
def test_each_schedule_of_the_temperature(make, schedule: str) -> None:
    policy, episodes = make(temperature_schedule=schedule)
    quarter = {"linear": 3.8, "two_phase": 3.0, "cosine": 4.297}[schedule]  # a quarter of the way from 5.0 to 0.2
    assert update(policy, episodes, 200)["temperature"] == pytest.approx(quarter, abs=1e-3)
    assert update(policy, episodes, 800)["temperature"] == pytest.approx(0.2)


def test_a_file_can_hold_every_setting(small, bare_policy, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(
        "total_env_steps: 1000\npattern: 2:8\nmasks: learned\nshared_mask: false\nsampling: gumbel\n"
        "estimator: rao_blackwell\nrao_blackwell_samples: 2\nema_momentum: 0.9\nema_per_owner: true\n"
        "temperature_init: 3\ntemperature_final: 0.5\ntemperature_end: 0.4\ntemperature_schedule: cosine\n"
        "diversity: js\ndiv_coef: 0.2\ndiv_window: 10\nreset_interval: 200\nreset_fraction: 0.2\nrevive: random\n"
        "ema_reset_step: 0.5\nkl_reset: true\nkl_threshold: 0.0\nkl_min_interval: 100\nfinetune_at: 0.5\n"
        "finetune_lr_factor: 0.5\nrewind_to: 0.1\n"
    )
    settings = read_yaml_file(path)
    config = K24QMixConfig().apply_dict(settings)
    assert config.pattern == "2:8"
    named = K24QMixConfig().k24(**settings)  # every key of the file is one of the method, and means the same
    assert {key: getattr(config, key) for key in settings} == {key: getattr(named, key) for key in settings}
    policy, episodes = bare_policy(small(config))
    for step in range(0, 1000, 100):
        stats = update(policy, episodes, step)
    assert policy.record.resets_total == 3  # at 200 by the calendar, at 300 and 400 because behaviour changed
    assert policy.record.rewound
    assert stats["lr"] == pytest.approx(0.5 * config.lr)


def test_a_setting_that_was_not_given_contradicts_nothing(first_draft) -> None:
    K24QMixConfig().k24(total_env_steps=500).validate()
    first_draft(K24QMixConfig()).k24(masks="fixed_random", temperature_end=0.9).validate()
    K24QMixConfig().k24(masks="fixed_random", reset_interval=None).validate()
    K24QMixConfig().k24(finetune_at=None, temperature_end=1.0).validate()
    with pytest.raises(ConfigError, match=r"got 10000 with finetune_at 0\.8 of total_env_steps 500"):
        first_draft(K24QMixConfig()).k24(total_env_steps=500, reset_interval=10_000).validate()
    config = first_draft(K24QMixConfig())
    config.reset_interval = 501
    with pytest.raises(ConfigError, match=r"got 501 with finetune_at 0\.8"):
        config.k24(total_env_steps=500).validate()


def test_owners_of_one_mask_are_alike(make) -> None:
    """They have the similarity of an owner with itself, and the floor of as many owners."""
    metrics = make(shared_mask=True)[0].method_metrics()
    (same,) = {float(metrics[f"pattern_{which}_similarity"]) for which in ("mean", "max", "min")}
    assert same > 1 / 6
    policy, _ = make(shared_mask=True)
    with torch.no_grad():
        layers = [layer.pattern_probs(choice_only=True) for layer in policy.masked_layers()]
        assert same == pytest.approx(sum(float(pi.square().sum(-1).mean()) for pi in layers) / len(layers))


def test_a_rewind_that_no_update_came_before_keeps_the_weights_of_then(make) -> None:
    policy, episodes = make(rewind_to=0.5, reset_interval=None)
    update(policy, episodes, 400)
    then = [layer.weight.clone() for layer in policy.masked_layers()]
    policy.on_global_var_update({"timestep": 800})
    policy.callbacks.on_learn_on_batch(policy=policy, train_batch=episodes, result={})
    assert policy.record.rewound
    (optimizer,) = policy._optimizers
    for layer, weight in zip(policy.masked_layers(), then, strict=True):
        assert torch.equal(layer.weight, weight)
        assert not optimizer.state.get(layer.weight)
