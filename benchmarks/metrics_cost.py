"""What metrics and callbacks cost: `python -m benchmarks.metrics_cost`, against a limit of 2% of an iteration.

An iteration is counted as its updates alone, without rollouts, so that the shares are upper bounds.
"""

from __future__ import annotations

from statistics import median

from benchmarks.team import BATCH_EPISODES, EPISODE_STEPS, Sizes, filled_buffer, make_policy, set_up_process
from benchmarks.timing import UPDATE_CALLS, in_turn, milliseconds
from k24_rllib import K24QMixConfig
from k24_rllib.algorithms.k24_qmix import K24QMixTorchPolicy
from k24_rllib.callbacks import TemperatureCallback
from k24_rllib.qmix.episodes import EpisodeBatch

REPEATS = 60
LIMIT_PERCENT = 2.0


def learner() -> tuple[K24QMixTorchPolicy, EpisodeBatch]:
    """Returns a policy with the default settings and a batch for it."""
    policy = make_policy("K24QMix", Sizes())
    assert isinstance(policy, K24QMixTorchPolicy)
    return policy, filled_buffer(policy, Sizes()).sample(BATCH_EPISODES).episodes


def measure() -> dict[str, float]:
    """Returns the median ms of an update as it is, of one without what metrics and events add, and of a log."""
    (whole, batch), (bare, _) = learner(), learner()
    bare.callbacks = TemperatureCallback()
    bare.policy_change.see = lambda *arguments: None  # type: ignore[method-assign]

    def log() -> None:
        for value in whole.method_metrics().values():
            float(value)

    measures = {
        "update": milliseconds(lambda: whole.learn_on_batch(batch), **UPDATE_CALLS),
        "bare update": milliseconds(lambda: bare.learn_on_batch(batch), **UPDATE_CALLS),
        "log": milliseconds(log),
    }
    return {name: median(values) for name, values in in_turn(measures, REPEATS).items()}


def main() -> None:
    """Prints the figures."""
    set_up_process(1)
    config, taken = K24QMixConfig(), measure()
    for name, ms in taken.items():
        print(f"{name:12} {ms:7.3f} ms")
    episodes = (config.min_sample_timesteps_per_iteration or 0) / EPISODE_STEPS
    for rate in (config.updates_per_episode, 0.5):
        updates = episodes * rate
        per_update = max(taken["update"] - taken["bare update"], 0.0)
        share = 100 * (taken["log"] + updates * per_update) / (updates * taken["bare update"])
        alone = 100 * taken["log"] / (updates * taken["bare update"])
        print(
            f"{updates:.0f} updates an iteration: one log {alone:.2f}%, with what updates add {share:.2f}% "
            f"(limit {LIMIT_PERCENT:g}%)"
        )


if __name__ == "__main__":
    main()
