"""Live figures: read from results, set in Ray's metrics of a real algorithm, cheap, and to be switched off."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import Any

import pytest
from ray.util.metrics import Gauge

from k24_rllib import K24QMix, K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.monitoring import TAGS, Exporter, Figure

QMIX = {"k24_return", "k24_loss", "k24_env_steps", "k24_env_steps_per_s", "k24_updates_per_s", "k24_buffer_fill"}
MASKS = {"k24_density", "k24_div_coef"}
PATTERNS = {"k24_temperature", "k24_pattern_entropy", "k24_pattern_similarity", "k24_mask_flip_rate"}
GREEDY = {"k24_greedy_return", "k24_score"}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, dict[str, str]]]:
    """Notes what is handed to Ray's gauges of ours, which still get it."""
    seen: dict[str, tuple[float, dict[str, str]]] = {}
    given = Gauge.set

    def note(self: Gauge, value: float, tags: dict[str, str] | None = None) -> None:
        if self.info["name"].startswith("k24_"):
            seen[self.info["name"]] = (value, dict(tags or {}))
        given(self, value, tags)

    monkeypatch.setattr(Gauge, "set", note)
    return seen


def test_a_figure_is_read_in_each_of_its_ways() -> None:
    exporter = Exporter((), (-80.0, -30.0))
    result: dict[str, Any] = {"a": {"b": 0.25}, "steps": 100, "time_this_iter_s": 2.0, "flag": True, "text": "x"}

    def read(key: str, reading: Any = "value") -> float | None:
        return exporter.read(Figure("k24_it", "It.", key, "Row", "Panel", reading), result)

    assert read("a/b") == 0.25
    assert read("a/b", "complement") == 0.75
    assert (read("a/c"), read("a"), read("flag"), read("text")) == (None, None, None, None)
    assert read("steps", "per_second") is None  # a restored run's counter begins anywhere
    result["steps"] = 150
    assert read("steps", "per_second") == 25.0
    result["return"] = -55.0
    assert read("return", "score") == 0.5
    no_score = Exporter((), None)
    assert no_score.read(Figure("k24_it", "It.", "return", "Row", "Panel", "score"), result) is None


def test_what_is_not_a_number_is_left_out(recorded: dict) -> None:
    figures = [Figure(f"k24_{name}", "It.", name, "Row", "Panel") for name in ("good", "nan", "missing")]
    Exporter(figures, None).export({"good": 1, "nan": math.nan}, dict.fromkeys(TAGS, "x"))
    assert recorded.keys() == {"k24_good"}


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("config", "expected", "absent"),
    [
        (QMixConfig(), QMIX, MASKS | PATTERNS),
        (KaleidoscopeQMixConfig(), QMIX | MASKS, PATTERNS),
        (K24QMixConfig(), QMIX | MASKS | PATTERNS, set()),
    ],
)
def test_every_algorithm_sets_the_figures_that_it_has(
    small, recorded: dict, config: QMixConfig, expected: set[str], absent: set[str]
) -> None:
    algo = small(config, N=3, max_cycles=25).evaluation(evaluation_interval=1).build_algo()
    results = [algo.train() for _ in range(3)]
    algo.stop()
    assert recorded.keys() >= expected | GREEDY
    assert not recorded.keys() & absent
    assert recorded["k24_env_steps"][0] == results[-1]["num_env_steps_sampled_lifetime"]
    assert recorded["k24_loss"][0] == results[-1]["info"]["learner"]["default_policy"]["loss"]
    assert recorded["k24_buffer_fill"][0] == 12 / 16
    greedy = results[-1]["evaluation"]["env_runners"]["episode_return_mean"]
    assert recorded["k24_greedy_return"][0] == greedy
    random, scripted = algo.make_env(1).score_reference
    assert recorded["k24_score"][0] == pytest.approx((greedy - random) / (scripted - random))
    tags = recorded["k24_return"][1]
    assert tags["algorithm"] == type(algo).__name__
    assert (tags["trial"], tags["experiment"]) == (algo.logdir.rstrip("/").split("/")[-1], "none")
    if "k24_density" in expected:
        sparsity = results[-1]["info"]["learner"]["default_policy"]["overall_sparsity"]
        assert recorded["k24_density"][0] == pytest.approx(1 - sparsity)


@pytest.mark.usefixtures("ray_session")
def test_it_can_be_switched_off(small, recorded: dict) -> None:
    algo = small(K24QMixConfig()).training(metrics_export=False).build_algo()
    algo.train()
    algo.stop()
    assert not recorded


class Curious(K24QMix):
    """A user's own algorithm, which shows one figure more."""

    figures = (*K24QMix.figures, Figure("k24_curiosity", "A figure of its own.", "curiosity", "Mine", "Curiosity"))

    def step(self) -> dict[str, Any]:
        return {**super().step(), "curiosity": 0.5}


@pytest.mark.usefixtures("ray_session")
def test_an_algorithm_of_ones_own_adds_its_own(small, recorded: dict) -> None:
    algo = Curious(small(K24QMixConfig()))
    algo.train()
    algo.stop()
    assert recorded["k24_curiosity"] == (0.5, algo.metric_tags())
    assert algo.metric_tags()["algorithm"] == "Curious"


@pytest.mark.usefixtures("ray_session")
def test_it_costs_next_to_nothing(small) -> None:
    algo = small(K24QMixConfig()).build_algo()
    result = algo.train()
    exporter, tags = Exporter(algo.figures, None), algo.metric_tags()
    algo.stop()
    exporter.export(result, tags)
    seconds = []
    for _ in range(100):
        began = time.perf_counter()
        exporter.export(result, tags)
        seconds.append(time.perf_counter() - began)
    assert median(seconds) < 0.002  # 0.14 ms measured; iterations take seconds
