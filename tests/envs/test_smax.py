"""SMAX, where it is installed, against JaxMARL's own stepping; and what is said where it isn't.

Shapes: `E` copies, `N` agents. What is compiled is shared: all of it has `COPIES` copies.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from random_play import random_actions

from k24_rllib import K24QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, TeamStep, make_team_env
from k24_rllib.envs.smax import BEST, MAPS, make_smax, start
from k24_rllib.experiments.evaluate import Evaluation

COPIES, LIMIT, STOP, SEED = 4, 101, 4, 3
DRAWN = "smacv2_5_units"
"""A map that draws positions and types."""

Play = Callable[[TeamStep], np.ndarray]
needs_smax = pytest.mark.skipif(start.find_spec("jaxmarl") is None, reason="jaxmarl is not installed")


def make(name: str = DRAWN, **options: Any) -> TeamEnv:
    return make_team_env("smax", COPIES, map=name, **options)


def at_random(seed: int = 0) -> Play:
    rng = np.random.default_rng(seed)
    return lambda step: random_actions(step.avail_actions, rng)


def hold_and_shoot(step: TeamStep) -> np.ndarray:
    """All shoot the same enemy where they can, and else stay where they are."""
    shoots = step.avail_actions[..., STOP + 1 :]
    return np.where(shoots.any(-1), STOP + 1 + shoots.argmax(-1), STOP)


def play(env: TeamEnv, choose: Play, seed: int | None = SEED) -> list[TeamStep]:
    """Returns a reset and all steps until every copy is done."""
    steps = [env.reset(seed)]
    while not steps[-1].done.all():
        steps.append(env.step(choose(steps[-1])))
    return steps


def arrays(steps: list[TeamStep]) -> dict[str, np.ndarray]:
    """Returns everything that was given, stacked over time."""
    return {field.name: np.stack([getattr(step, field.name) for step in steps]) for field in fields(TeamStep)}


@pytest.fixture(scope="module")
def episode() -> list[TeamStep]:
    """A random episode of each copy."""
    return play(make(), at_random())


@pytest.fixture(scope="module")
def jaxmarl_env(episode: list[TeamStep]) -> Any:
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

    return HeuristicEnemySMAX(scenario=map_name_to_scenario(DRAWN))


@needs_smax
def test_it_follows_jaxmarls_own_stepping(episode: list[TeamStep], jaxmarl_env: Any) -> None:
    """One copy, stepped by JaxMARL alone: observations, rewards, actions, the end, the state but for its scale."""
    import jax

    from k24_rllib.envs.team_env import copy_seeds

    copy, agents = COPIES - 1, jaxmarl_env.agents
    key = jax.random.fold_in(jax.random.PRNGKey(np.uint32(copy_seeds(SEED, COPIES)[copy])), 0)
    key, now = jax.random.split(key)
    obs, state = jaxmarl_env.reset(now)
    choose, rewards, done = at_random(), dict.fromkeys(agents, 0.0), False
    for step in episode:
        available = jaxmarl_env.get_avail_actions(state)
        np.testing.assert_array_equal(step.avail_actions[copy], [available[agent] for agent in agents])
        np.testing.assert_allclose(step.obs[copy], [obs[agent] for agent in agents], atol=1e-5)
        np.testing.assert_allclose(step.agent_rewards[copy], [rewards[agent] for agent in agents], atol=1e-6)
        assert step.team_reward[copy] == step.agent_rewards[copy, 0]
        assert step.done[copy] == done
        units = np.asarray(obs["world_state"])[: -2 * 10].reshape(10, 10)
        np.testing.assert_allclose(step.state[copy, :100].reshape(10, 10)[:, 1:3] * 32, units[:, 1:3], atol=1e-4)
        np.testing.assert_array_equal(step.state[copy, :100].reshape(10, 10)[:, 4:], units[:, 4:])
        if done:
            break
        orders = choose(step)[copy]
        key, now = jax.random.split(key)
        obs, state, rewards, dones, _ = jaxmarl_env.step_env(
            now, state, {agent: np.int32(order) for agent, order in zip(agents, orders, strict=True)}
        )
        done = bool(dones["__all__"])
    assert done


@needs_smax
def test_the_limit_is_jaxmarls(episode: list[TeamStep], jaxmarl_env: Any) -> None:
    import jax

    key = jax.random.PRNGKey(np.uint32(0))
    _, state = jaxmarl_env.reset(key)
    stay = dict.fromkeys(jaxmarl_env.agents, np.int32(STOP))
    ends = []
    for made in (LIMIT - 2, LIMIT - 1):
        late = state.replace(state=state.state.replace(step=jax.numpy.array(made)))
        ends.append(bool(jaxmarl_env.step_env(key, late, stay)[3]["__all__"]))
    assert ends == [False, True]
    assert make().episode_limit == LIMIT


@needs_smax
def test_what_is_seen_is_scaled_and_typed(episode: list[TeamStep]) -> None:
    env = make()
    for step in episode:
        env.check_first_step(step)
        assert -0.1 < step.state.min() <= step.state.max() < 1.1  # who begins at a corner may begin off the map
        assert np.abs(step.obs).max() < 1.1


@needs_smax
def test_a_copy_that_is_over_stays_as_it_was(episode: list[TeamStep]) -> None:
    seen = arrays(episode)
    lengths = seen["terminated"].argmax(0)
    assert len(set(lengths.tolist())) > 1
    assert not seen["truncated"].any()
    for copy, length in enumerate(lengths):
        for name, array in seen.items():
            if "reward" not in name:
                np.testing.assert_array_equal(array[length:, copy], array[[length] * (len(array) - length), copy])
        assert (seen["agent_rewards"][length + 1 :, copy] == 0).all()
    env, stay = make(), np.full((COPIES, 5), STOP)
    for prepare in (lambda: None, lambda: play(env, at_random())):
        prepare()
        with pytest.raises(ValueError, match="expected reset"):
            env.step(stay)


@needs_smax
def test_the_arrays_are_the_callers_own(episode: list[TeamStep]) -> None:
    def spoil(step: TeamStep) -> np.ndarray:
        actions = choose(step)
        for field in fields(TeamStep):
            given = getattr(step, field.name)
            kept.setdefault(field.name, []).append(given.copy())
            given[...] = 0
        return actions

    env, choose, kept = make(), at_random(), {}
    step = env.reset(SEED)
    for _ in episode[1:]:
        step = env.step(spoil(step))
    for name, array in arrays(episode[:-1]).items():
        np.testing.assert_array_equal(np.stack(kept[name]), array)


@needs_smax
def test_the_dead_can_only_stop(episode: list[TeamStep]) -> None:
    seen = arrays(episode)
    dead = ~seen["obs"][..., -6:].any(-1)  # [T, E, N]
    assert dead.any()
    assert not seen["obs"][dead].any()
    assert seen["avail_actions"][dead][:, STOP].all()
    assert seen["avail_actions"][dead].sum() == dead.sum()
    assert (seen["avail_actions"][~dead].sum(-1) >= STOP + 1).all()


@needs_smax
def test_an_action_that_is_not_available_is_refused() -> None:
    env, orders = make(), np.full((COPIES, 5), STOP)
    copy, agent, action = np.argwhere(~env.reset(SEED).avail_actions)[0]
    orders[copy, agent] = action
    with pytest.raises(ValueError, match=f"actions: copy {copy}, agent {agent}: got {action}, expected one of"):
        env.step(orders)


@needs_smax
def test_a_limit_cuts_and_a_battle_that_is_over_ends(episode: list[TeamStep]) -> None:
    cut = play(make(max_cycles=6), at_random())
    whole = arrays(episode[:7])
    assert len(cut) == 7
    assert cut[-1].truncated.all()
    assert not cut[-1].terminated.any()
    np.testing.assert_array_equal(arrays(cut)["obs"], whole["obs"])
    ends = int(arrays(episode)["terminated"].argmax(0).min())
    at_the_end = play(make(max_cycles=ends), at_random())[-1]
    np.testing.assert_array_equal(at_the_end.truncated, ~at_the_end.terminated)
    assert 0 < at_the_end.terminated.sum() < COPIES


@needs_smax
def test_who_has_won_has_all_that_can_be_earned() -> None:
    env, won, returns = make(), [], []
    env.reset(0)
    for _ in range(6):
        seen = arrays(play(env, hold_and_shoot, seed=None))
        won.append(seen["won"][-1])
        returns.append(seen["team_reward"].sum(0))
    wins = np.concatenate(won)
    assert 0 < wins.sum() < len(wins)
    np.testing.assert_allclose(np.concatenate(returns)[wins], BEST, rtol=1e-5)
    assert (np.concatenate(returns)[~wins] <= BEST / 2 + 1e-5).all()


@needs_smax
def test_owners_are_the_types_that_a_reset_drew(episode: list[TeamStep]) -> None:
    env = make(mask_owners="unit_type")
    assert env.num_mask_owners == 6
    drawn = []
    for seed in (SEED, None):
        steps = play(env, at_random(), seed)
        owners = arrays(steps)["mask_ids"]
        np.testing.assert_array_equal(owners[0], steps[0].obs[..., -6:].argmax(-1))
        assert (owners == owners[0]).all()
        drawn.append(owners[0])
    assert (drawn[0] != drawn[1]).any()
    assert len(np.unique(drawn[0], axis=0)) > 1
    np.testing.assert_array_equal(episode[0].mask_ids, np.tile(np.arange(5), (COPIES, 1)))
    assert make().num_mask_owners == 5


@needs_smax
def test_owners_of_a_fixed_map_have_no_gaps() -> None:
    env = make("2s3z", mask_owners="unit_type")
    assert env.num_mask_owners == 2
    assert make("27m_vs_30m", mask_owners="unit_type").num_mask_owners == 1
    step = env.reset(SEED)
    assert step.mask_ids.tolist() == [[0, 0, 1, 1, 1]] * COPIES
    assert (step.obs[..., -6:].argmax(-1) == [2, 2, 3, 3, 3]).all()


@needs_smax
def test_a_seed_repeats_its_episodes_bit_for_bit(episode: list[TeamStep]) -> None:
    env = make()
    again = [play(env, at_random()), play(env, at_random(1), None)]
    env.reset(SEED)
    env.step(np.full((COPIES, 5), STOP))  # the next episode does not depend on how far this one was played
    later = play(env, at_random(1), None)
    for one, other in ((episode, again[0]), (again[1], later)):
        for name, array in arrays(one).items():
            np.testing.assert_array_equal(array, arrays(other)[name])
    assert (again[1][0].obs != episode[0].obs).any()
    assert (make().reset(SEED + 1).obs != episode[0].obs).any()
    assert (episode[0].obs[0] != episode[0].obs[1]).any()


@needs_smax
def test_rewards_may_be_summed(episode: list[TeamStep]) -> None:
    summed = arrays(play(make(team_reward="sum"), at_random()))["team_reward"]
    np.testing.assert_allclose(summed, 5 * arrays(episode)["team_reward"], rtol=1e-6)


@needs_smax
def test_random_play_is_where_scores_begin() -> None:
    expected = MAPS[DRAWN]
    assert expected is not None
    assert make().score_reference == (expected, BEST)
    assert make(team_reward="sum").score_reference is make(max_cycles=9).score_reference is None
    env, choose, returns = make(), at_random(), []
    for seed in range(40):
        returns.append(arrays(play(env, choose, seed))["team_reward"].sum(0))
    error = float(np.std(returns)) / np.size(returns) ** 0.5
    assert np.mean(returns) == pytest.approx(expected, abs=4 * error)


@needs_smax
def test_it_trains_with_masks_by_unit_type(ray_session, small) -> None:
    config = small(K24QMixConfig(), "smax", map=DRAWN, mask_owners="unit_type", max_cycles=30)
    config.evaluation(evaluation_duration=COPIES)
    algo = config.k24(total_env_steps=10_000).build_algo()
    results = [algo.train() for _ in range(3)]
    assert np.isfinite(results[-1]["info"]["learner"]["default_policy"]["loss"])
    assert {layer.num_masks for layer in algo.policy.model.agent.layers()} == {6}
    batch = algo.local_replay_buffer.sample(8).episodes
    np.testing.assert_array_equal(batch.mask_ids, batch.obs[:, 0, :, -6:].argmax(-1))
    assert len(np.unique(batch.mask_ids, axis=0)) > 2
    assert 0.0 <= results[-1]["env_runners"]["win_rate"] <= 1.0
    assert 0.0 <= algo.evaluate()["env_runners"]["win_rate"] <= 1.0
    played = algo.evaluate_greedy(COPIES, seed=0)
    assert played["won"].dtype == np.bool_
    told = Evaluation.of(played["episode_returns"], None, played["won"].tolist()).lines()
    assert told[1].startswith("win rate")
    algo.stop()


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "find_spec", lambda module: None)
    start.start_jax.cache_clear()
    with pytest.raises(ConfigError, match=r"environment 'smax': needs .* pip install 'k24_rllib\[smax\]'"):
        make_smax(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": "2s3x"}, r"unknown map '2s3x'; did you mean '2s3z'"),
        ({"map": 5}, r"unknown map 5"),
        ({"mask_owners": "types"}, r"mask_owners: got 'types', expected .*'unit_type'"),
        ({"max_cycles": 0}, r"max_cycles: got 0"),
        ({"team_reward": "some"}, r"team_reward: got 'some'"),
        ({"maps": "2s3z"}, r"unknown env_config key 'maps' of environment 'smax'; did you mean 'map'"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_team_env("smax", 1, **options)
    assert "\n" not in str(caught.value)


def test_jax_waits_for_an_environment() -> None:
    code = "import sys, k24_rllib, k24_rllib.envs; sys.exit('jax' in sys.modules or 'jaxmarl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
