"""What a trial needs of the machine's memory."""

from __future__ import annotations

import pytest

from k24_rllib import QMixConfig, make_team_env
from k24_rllib.checks import ConfigError
from k24_rllib.experiments import memory
from k24_rllib.qmix import EpisodeBatch


@pytest.mark.parametrize("options", [{}, {"N": 6}, {"max_cycles": 40}])
def test_an_episode_takes_what_the_buffer_makes_for_it(options: dict[str, int]) -> None:
    env = make_team_env("mpe_simple_spread", 1, **options)
    sizes = (env.episode_limit, env.num_agents, env.obs_dim, env.state_dim, env.num_actions)
    made = EpisodeBatch.empty(1, *sizes)
    assert memory.episode_bytes(env) == sum(array.nbytes for array in made.arrays().values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"buffer_episodes": 100_000_000}, r"buffer_episodes: got 100000000, expected at most [\d,]+ on this machine"),
        ({"num_env_runners": 10_000}, r"num_env_runners: got 10000, expected at most \d+ on this machine: each is a"),
    ],
)
def test_what_this_machine_cannot_hold_is_named(
    settings: dict[str, int], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "machine_bytes", lambda: 32 * 2**30)
    with pytest.raises(ConfigError, match=message):
        memory.check_memory([QMixConfig().environment("mpe_simple_spread").apply_dict(settings)])


def test_the_defaults_fit() -> None:
    memory.check_memory([QMixConfig().environment("mpe_simple_spread")])


@pytest.mark.parametrize(("size", "words"), [(1, "1 bytes"), (2048, "2 KiB"), (1.5 * 2**30, "1.5 GiB")])
def test_sizes_in_words(size: float, words: str) -> None:
    assert memory.told(size) == words
