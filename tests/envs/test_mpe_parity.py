"""The batched engine against mpe2: the same states and actions give the same observations, rewards, ends and states.

`K24_PARITY_EPISODES` sets the episodes of each case (12 if unset), `K24_PARITY_STEPS` their most steps (25): thousands
of episodes of each scenario take minutes, since mpe2 does.
"""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
import pytest
from mpe_reference import CASES, compare, observations, parallel_env, same_world, scramble

from k24_rllib.envs.mpe import SCENARIOS, BatchedMPE
from k24_rllib.envs.mpe.engine import scenario_options
from k24_rllib.envs.mpe.modules import scenario_module
from k24_rllib.envs.mpe.options import default_options

EPISODES = int(os.environ.get("K24_PARITY_EPISODES", "12"))
STEPS = int(os.environ.get("K24_PARITY_STEPS", "25"))
TOLERANCE = 1e-9
OURS_ALONE = {"mpe_simple_push": {"num_good": 1, "num_adversaries": 1}}
"""Options that mpe2 does not have, whose defaults are what it does."""
COLLIDING = ("mpe_simple_spread", "mpe_simple_push", "mpe_simple_tag", "mpe_simple_world_comm")


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_whole_episodes_equal_mpe2(name: str, options: dict[str, Any], continuous: bool) -> None:
    seed = CASES.index((name, options))
    played = compare(name, {**options, "max_cycles": STEPS}, EPISODES, seed, continuous=continuous)
    assert played.deviation < TOLERANCE
    assert played.steps >= EPISODES
    assert (played.collisions > 0) == (name in COLLIDING and options.get("N", 2) > 1)
    assert (played.terminated > 0) == ("terminate_on_success" in options)


@pytest.mark.parametrize(
    ("name", "stage"), [("mpe_simple_spread", 1), ("mpe_simple_tag", 1), ("mpe_simple_tag", 2)], ids=str
)
def test_later_stages_of_the_curriculum_equal_mpe2(name: str, stage: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # mpe2 1.1.1 never leaves stage 0: a property of its base class swallows the setting; a plain attribute does not
    monkeypatch.setattr(scenario_module(name).raw_env.__init__.__globals__["Scenario"], "curriculum_stage", 0)
    played = compare(name, {"curriculum": True, "max_cycles": STEPS}, EPISODES, seed=9, stage=stage)
    assert played.deviation < TOLERANCE
    assert played.collisions > 0


def test_the_comparison_can_fail() -> None:
    ours = BatchedMPE("mpe_simple_spread", 1, local_ratio=0.5, dtype=np.float64)
    other = BatchedMPE("mpe_simple_spread", 1, local_ratio=0.4, dtype=np.float64)
    for env in (ours, other):
        env.reset(0)
    actions = np.zeros((1, 3), np.int64)
    assert np.abs(ours.step(actions).agent_rewards - other.step(actions).agent_rewards).max() > TOLERANCE


@pytest.mark.parametrize("name", SCENARIOS)
def test_names_sizes_and_default_options_are_mpe2s(name: str) -> None:
    theirs = default_options(
        scenario_module(name).raw_env.__init__,
        without=("self", "max_cycles", "continuous_actions", "render_mode", "dynamic_rescaling", "benchmark_data"),
    )
    assert scenario_options(name) == {**theirs, **OURS_ALONE.get(name, {})}
    for continuous in (False, True):
        env = BatchedMPE(name, 2, continuous_actions=continuous)
        reference = parallel_env(name, continuous_actions=continuous)
        assert env.agent_names == tuple(reference.possible_agents)
        assert env.episode_limit == reference.unwrapped.max_cycles
        spaces = [reference.action_space(agent) for agent in reference.possible_agents]
        counts = [space.shape[0] if continuous else space.n for space in spaces]
        step = env.reset(0)
        np.testing.assert_array_equal(step.avail_actions.sum(-1), [counts, counts])
        assert env.num_actions == max(counts)
        assert env.state_dim == reference.state_space.shape[0]
        assert env.obs_dim == max(reference.observation_space(agent).shape[0] for agent in reference.possible_agents)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_state_is_mpe2s_and_observations_are_padded_with_zeros(name: str) -> None:
    env, reference = BatchedMPE(name, 3), parallel_env(name)
    reference.reset(seed=1)
    scramble(reference.unwrapped.world, np.random.default_rng(1))
    env.reset(0)
    env.load_state(1, reference.unwrapped.world)
    step = env.observe()
    np.testing.assert_array_equal(step.state[1], reference.state())
    for index, agent in enumerate(reference.possible_agents):
        seen = reference.aec_env.observe(agent)
        np.testing.assert_array_equal(step.obs[1, index, : len(seen)], seen)
        assert not step.obs[1, index, len(seen) :].any()


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_state_survives_the_way_to_mpe2_and_back(name: str, options: dict[str, Any]) -> None:
    env, references = BatchedMPE(name, 2, dtype=np.float64, **options), []
    for seed in (1, 2):
        references.append(parallel_env(name, **options))
        references[-1].reset(seed=seed)
        scramble(references[-1].unwrapped.world, np.random.default_rng(seed))
    one, other = (reference.unwrapped.world for reference in references)
    env.reset(0)
    env.load_state(1, one)
    before = env.observe()
    assert not same_world(one, other)
    env.store_state(1, other)
    assert same_world(one, other)
    np.testing.assert_array_equal(observations(references[1]), before.state[1])
    env.load_state(0, other)
    np.testing.assert_array_equal(env.observe().obs[0], before.obs[1])
    raw = references[1].unwrapped
    for agent, theirs in zip(raw.world.agents, one.agents, strict=True):
        assert raw.scenario.reward(agent, other) == references[0].unwrapped.scenario.reward(theirs, one)


@pytest.mark.parametrize("name", SCENARIOS)
def test_states_after_an_episode_are_mpe2s(name: str) -> None:
    env, reference = BatchedMPE(name, 2, max_cycles=8), parallel_env(name, max_cycles=8)
    spare = parallel_env(name)
    reference.reset(seed=3)
    env.reset(0)
    env.load_state(0, reference.unwrapped.world)
    rng = np.random.default_rng(0)
    while reference.agents:
        actions = rng.integers(env.observe().avail_actions.sum(-1))
        env.step(actions)
        reference.step(dict(zip(reference.possible_agents, actions[0].tolist(), strict=True)))
    spare.reset(seed=0)
    env.store_state(0, spare.unwrapped.world)
    assert same_world(spare.unwrapped.world, reference.unwrapped.world)


def test_a_listener_that_says_nothing_pays_nothing() -> None:
    env = BatchedMPE("mpe_simple_crypto", 2, continuous_actions=True)
    env.reset(0)
    actions = np.ones((2, 3, 4))
    actions[0, 0] = 0.0  # eve is silent in the first copy
    actions[1, 1] = 0.0  # bob in the second
    rewards = env.step(actions).agent_rewards
    np.testing.assert_allclose(rewards, [[0.0, -3.0, -3.0], [-3.0, 3.0, 3.0]])  # three of four entries are wrong


def test_bodies_at_the_very_same_point_stay_finite() -> None:
    env, reference = BatchedMPE("mpe_simple_spread", 1), parallel_env("mpe_simple_spread")
    reference.reset(seed=0)
    for agent in reference.unwrapped.world.agents:
        agent.state.p_pos = np.zeros(2)
    env.reset(0)
    env.load_state(0, reference.unwrapped.world)
    for _ in range(3):
        step = env.step(np.array([[1, 2, 3]]))
    assert np.isfinite(step.obs).all()
    assert len({row.tobytes() for row in step.obs[0, :, 2:4]}) == 3  # they part


def test_push_of_any_size_follows_the_functions_of_mpe2() -> None:
    """mpe2 makes a world of one pusher and one agent; what it says of a world with more of them is the same here."""
    pushers, agents = 5, 2
    env, reference = (
        BatchedMPE("mpe_simple_push", 4, num_good=agents, num_adversaries=pushers),
        parallel_env("mpe_simple_push"),
    )
    scenario, world = reference.unwrapped.scenario, reference.unwrapped.world
    pusher, agent = world.agents
    world.agents = [copy.deepcopy(pusher) for _ in range(pushers)] + [copy.deepcopy(agent) for _ in range(agents)]
    for index, one in enumerate(world.agents):
        one.name = f"adversary_{index}" if index < pushers else f"agent_{index - pushers}"
    env.reset(0)
    for number in range(4):
        scenario.reset_world(world, np.random.default_rng(number))
        env.load_state(number, world)
    rng = np.random.default_rng(0)
    for _ in range(10):
        step = env.step(rng.integers(5, size=(4, pushers + agents)))
        for number in range(4):
            env.store_state(number, world)
            seen = [scenario.observation(one, world) for one in world.agents]
            np.testing.assert_allclose(step.state[number], np.concatenate(seen), atol=1e-6)
            earned = [scenario.reward(one, world) for one in world.agents]
            np.testing.assert_allclose(step.agent_rewards[number], earned, atol=1e-6)
    assert env.obs_sizes.tolist() == [18] * pushers + [29] * agents
    assert {env.render(copy=number).shape for number in range(2)} == {(350, 350, 3)}
