"""The batched engine as a team environment: seeds, initial states, ends of episodes, drawing, bad input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpe_reference import parallel_env
from PIL import Image
from scipy import stats

from k24_rllib.checks import ConfigError
from k24_rllib.envs import make_team_env, team_env_names
from k24_rllib.envs.mpe import COOPERATIVE, SCENARIOS, TWO_TEAM, BatchedMPE, write_gif
from k24_rllib.envs.mpe.streams import Streams
from k24_rllib.envs.team_env import TeamStep

DRAWS = 4000


def play(env: BatchedMPE, seed: int | None, actions_seed: int = 0) -> list[TeamStep]:
    """Plays an episode with actions that are the same in every copy."""
    rng, steps = np.random.default_rng(actions_seed), [env.reset(seed)]
    while not steps[-1].done.all():
        actions = rng.integers(steps[-1].avail_actions[0].sum(-1))
        steps.append(env.step(np.repeat(actions[None], env.num_envs, axis=0)))
    return steps


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_episode_does_not_depend_on_the_number_of_copies(name: str) -> None:
    many, few, other = (BatchedMPE(name, copies, max_cycles=6) for copies in (5, 2, 2))
    for seed in (7, None):  # the seeded episode and the one after it
        for ours, theirs in zip(play(many, seed), play(few, seed), strict=True):
            np.testing.assert_array_equal(ours.obs[:2], theirs.obs)
            np.testing.assert_array_equal(ours.agent_rewards[:2], theirs.agent_rewards)
    assert (other.reset(8).obs != few.reset(7).obs).any()


def test_seeds_repeat_and_every_copy_and_episode_differs() -> None:
    env = BatchedMPE("mpe_simple_spread", 64)
    first, again, other, after = env.reset(3), env.reset(3), env.reset(4), env.reset()
    np.testing.assert_array_equal(first.obs, again.obs)
    starts = np.concatenate([first.state, other.state, after.state])
    assert len({row.tobytes() for row in starts}) == 3 * 64
    unseeded = [BatchedMPE("mpe_simple_spread", 1).reset().state.tobytes() for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_streams_are_uniform_and_independent() -> None:
    streams = Streams(500)
    draws = np.stack([streams.draw(8, 0 if episode == 0 else None) for episode in range(6)])  # [episode, D, E]
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3
    flat = draws.reshape(48, 500)
    correlation = np.corrcoef(flat) - np.eye(48)  # between draws and episodes, over copies
    assert np.abs(correlation).max() < 5 / np.sqrt(500)
    assert np.abs(np.corrcoef(flat.T) - np.eye(500)).max() < 6 / np.sqrt(48)  # between copies
    neighbours = np.stack([Streams(1).draw(1000, seed)[:, 0] for seed in range(20)])
    assert np.abs(np.corrcoef(neighbours) - np.eye(20)).max() < 5 / np.sqrt(1000)


@pytest.mark.parametrize("name", SCENARIOS)
def test_initial_states_are_distributed_as_mpe2s(name: str) -> None:
    env, reference = BatchedMPE(name, DRAWS), parallel_env(name)
    env.reset(0)
    raw, rng = reference.unwrapped, np.random.default_rng(0)
    theirs, choices = [], []
    for _ in range(DRAWS):
        raw.scenario.reset_world(raw.world, rng)
        theirs.append([entity.state.p_pos for entity in raw.world.entities])
        choices.append(env._scenario.read_choices(raw.world))
    ours = env._world.pos.transpose(2, 1, 0)  # [E, M, 2]
    for body in range(ours.shape[1]):
        for axis in range(2):
            sample = [positions[body][axis] for positions in theirs]
            assert stats.ks_2samp(ours[:, body, axis], sample).pvalue > 1e-4
            limit = env._world.bodies[body].spread
            assert 0.99 * limit < np.abs(ours[:, body, axis]).max() <= limit
    assert not env._world.vel.any()
    assert not env._world.comm.any()
    for ours_drawn, theirs_drawn, count in zip(
        env._scenario.choices, np.array(choices).T, env._scenario.counts, strict=True
    ):
        table = [np.bincount(drawn, minlength=count) for drawn in (ours_drawn, theirs_drawn)]
        assert stats.chi2_contingency(table).pvalue > 1e-4
        assert len(table[0]) == count


def test_goals_are_drawn_apart_from_each_other_and_from_places() -> None:
    env = BatchedMPE("mpe_simple_reference", DRAWS)
    env.reset(1)
    one, other = env._scenario.choices
    assert stats.chi2_contingency(np.histogram2d(one, other, 3)[0]).pvalue > 1e-4
    for goal in range(3):
        assert stats.kstest(env._world.pos[0, 0, one == goal], stats.uniform(-1, 2).cdf).pvalue > 1e-4


def test_a_copy_that_is_done_stays_and_the_others_go_on() -> None:
    env = BatchedMPE("mpe_simple_spread", 2, terminate_on_success=True, max_cycles=6)
    env.reset(0)
    reference = parallel_env("mpe_simple_spread")
    reference.reset(seed=0)
    world = reference.unwrapped.world
    for agent, landmark in zip(world.agents, world.landmarks, strict=True):
        agent.state.p_pos = landmark.state.p_pos.copy()
        agent.state.p_vel = np.array([0.1, 0.0])
    env.load_state(0, world)
    still = np.zeros((2, 3), np.int64)
    ended = env.step(still)
    assert ended.terminated.tolist() == [True, False]
    assert not ended.truncated.any()
    later = env.step(still + 1)
    for part in ("obs", "state"):
        np.testing.assert_array_equal(getattr(later, part)[0], getattr(ended, part)[0])
        assert (getattr(later, part)[1] != getattr(ended, part)[1]).any()
    assert later.team_reward[0] == 0
    assert not later.agent_rewards[0].any()
    assert later.team_reward[1] != 0
    for _ in range(4):
        later = env.step(still)
    assert later.terminated.tolist() == [True, False]
    assert later.truncated.tolist() == [False, True]
    with pytest.raises(ValueError, match=r"expected reset\(\)"):
        env.step(still)
    assert not env.reset(1).done.any()


def test_success_at_the_time_limit_counts_as_the_limit() -> None:
    env = BatchedMPE("mpe_simple_spread", 1, terminate_on_success=True, max_cycles=1)
    reference = parallel_env("mpe_simple_spread", terminate_on_success=True, max_cycles=1)
    reference.reset(seed=0)
    for agent, landmark in zip(reference.unwrapped.world.agents, reference.unwrapped.world.landmarks, strict=True):
        agent.state.p_pos = landmark.state.p_pos.copy()
    env.reset(0)
    env.load_state(0, reference.unwrapped.world)
    step = env.step(np.zeros((1, 3), np.int64))
    ended = reference.step(dict.fromkeys(reference.possible_agents, 0))
    assert step.terminated[0] == all(ended[2].values()) == False  # noqa: E712
    assert step.truncated[0] == all(ended[3].values()) == True  # noqa: E712


def test_the_arrays_are_the_callers_own() -> None:
    env = BatchedMPE("mpe_simple_speaker_listener", 2)
    step = env.reset(0)
    kept = {name: getattr(step, name).copy() for name in TeamStep.__slots__ if name != "won"}
    following = env.step(np.zeros((2, 2), np.int64))
    for name, array in kept.items():
        np.testing.assert_array_equal(getattr(step, name), array)
        getattr(following, name)[...] = 0  # must reach neither the environment nor later steps
    later = env.step(np.full((2, 2), 2))
    np.testing.assert_array_equal(later.avail_actions, kept["avail_actions"])
    np.testing.assert_array_equal(later.mask_ids, kept["mask_ids"])
    assert later.obs.any()


def test_precision_and_the_mean_reward() -> None:
    steps = {}
    for dtype in ("float32", "float64"):
        env = BatchedMPE("mpe_simple_spread", 3, N=4, dtype=dtype, team_reward="mean" if dtype == "float64" else "sum")
        env.reset(0)
        steps[dtype] = env.step(np.ones((3, 4), np.int64))
        assert {getattr(steps[dtype], part).dtype for part in ("obs", "state", "team_reward", "agent_rewards")} == {
            np.dtype(dtype)
        }
    np.testing.assert_array_equal(steps["float32"].obs, steps["float64"].obs.astype(np.float32))
    np.testing.assert_allclose(steps["float64"].team_reward * 4, steps["float32"].team_reward, rtol=1e-6)


@pytest.mark.parametrize("dynamic_rescaling", [True, False])
@pytest.mark.parametrize("name", SCENARIOS)
def test_pictures_are_mpe2s(name: str, dynamic_rescaling: bool) -> None:
    options: dict[str, Any] = {"dynamic_rescaling": dynamic_rescaling, "max_cycles": 5}
    env = BatchedMPE(name, 2, **options)
    reference = parallel_env(name, render_mode="rgb_array", **options)
    env.reset(0)
    reference.reset(seed=5)
    env.load_state(1, reference.unwrapped.world)
    rng = np.random.default_rng(0)
    for _ in range(3):
        actions = rng.integers(env.observe().avail_actions.sum(-1))
        env.step(actions)
        reference.step(dict(zip(reference.possible_agents, actions[1].tolist(), strict=True)))
    frame = env.render(1)
    assert frame.dtype == np.uint8
    assert frame.shape == (700, 700, 3)
    np.testing.assert_array_equal(frame, reference.render())
    assert (frame != env.render(0)).any()


def test_a_film_has_all_frames(tmp_path: Path) -> None:
    env = BatchedMPE("mpe_simple_tag", 1)
    env.reset(0)
    frames = [env.render()]
    for _ in range(3):
        env.step(np.full((1, 4), 2))
        frames.append(env.render())
    write_gif(tmp_path / "tag.gif", frames, fps=10)
    with Image.open(tmp_path / "tag.gif") as film:
        assert film.size == (700, 700)
        shown = 0
        for frame in range(film.n_frames):  # equal frames in a row become one that is shown longer
            film.seek(frame)
            shown += film.info["duration"]
        assert shown == 400
    with pytest.raises(ValueError, match="frames: got none"):
        write_gif(tmp_path / "none.gif", [])


def test_the_curriculums_stages_are_clamped() -> None:
    env = BatchedMPE("mpe_simple_tag", 1, curriculum=True)
    assert env.curriculum_stage == 0
    for expected in (1, 2, 2):
        env.advance_curriculum()
        assert env.curriculum_stage == expected
    env.set_curriculum_stage(-3)
    assert env.curriculum_stage == 0


def test_the_preys_speed_changes_at_the_next_reset_and_states_of_other_stages_do_not_fit() -> None:
    env, reference = BatchedMPE("mpe_simple_tag", 1, curriculum=True), parallel_env("mpe_simple_tag", curriculum=True)
    reference.reset(seed=0)
    world = reference.unwrapped.world
    env.reset(0)
    env.load_state(0, world)
    env.advance_curriculum()
    env.load_state(0, world)
    env.reset(0)
    with pytest.raises(ValueError, match=r"world: got agents of speeds \[1.0, 1.0, 1.0, 0.65\], expected .* 0.975"):
        env.load_state(0, world)
    env.store_state(0, world)
    assert world.agents[-1].max_speed == pytest.approx(0.975)
    env.load_state(0, world)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mpe_simple_tg", {}, "unknown scenario 'mpe_simple_tg'; did you mean 'mpe_simple_tag'"),
        ("mpe_simple_line", {}, "unknown scenario 'mpe_simple_line'"),
        ("mpe_simple_tag", {"num_goods": 1}, "unknown env_config key 'num_goods' of mpe_simple_tag; did you mean"),
        ("mpe_simple_tag", {"num_good": 0}, "num_good: got 0, expected a whole number at least 1"),
        ("mpe_simple_tag", {"num_obstacles": -1}, "num_obstacles: got -1, expected a whole number at least 0"),
        ("mpe_simple_tag", {"num_agent_neighbors": 0}, "num_agent_neighbors: got 0"),
        ("mpe_simple_reference", {"local_ratio": 1.5}, "local_ratio: got 1.5"),
        ("mpe_simple_spread", {"max_cycles": 0}, "max_cycles: got 0"),
        ("mpe_simple_spread", {"num_envs": 0}, "num_envs: got 0"),
        ("mpe_simple_spread", {"dtype": "float16"}, "dtype: got 'float16', expected one of 'float32', 'float64'"),
        ("mpe_simple_spread", {"continuous_actions": 1}, "continuous_actions: got 1, expected true or false"),
        ("mpe_simple_spread", {"team_reward": "max"}, "team_reward: got 'max'"),
    ],
)
def test_options_that_cannot_work_are_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        BatchedMPE(name, **{"num_envs": 1, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("continuous", "actions", "message"),
    [
        (False, np.zeros((2, 3), np.int64), r"expected integers \[3, 2\]"),
        (False, np.zeros((3, 2)), "got float64"),
        (False, [[0, 0], [3, 0], [0, 0]], r"copy 1, agent 0: got 3, expected one of \[0, 1, 2\]"),
        (False, [[0, 0], [0, 0], [0, 5]], "copy 2, agent 1: got 5"),
        (False, [[0, -1], [0, 0], [0, 0]], "copy 0, agent 1: got -1"),
        (True, np.zeros((3, 2)), r"got float64 \[3, 2\], expected floats \[3, 2, 5\]"),
        (True, np.zeros((3, 2, 5), np.int64), "got int64"),
        (True, np.full((3, 2, 5), np.nan), "none of them nan"),
    ],
)
def test_impossible_actions_of_either_kind_are_named(continuous: bool, actions: Any, message: str) -> None:
    env = BatchedMPE("mpe_simple_speaker_listener", 3, continuous_actions=continuous)
    env.reset(0)
    with pytest.raises(ValueError, match=message):
        env.step(np.asarray(actions))


def test_padding_of_continuous_actions_is_ignored() -> None:
    env = BatchedMPE("mpe_simple_speaker_listener", 1, continuous_actions=True)
    actions = np.full((1, 2, 5), 0.5)
    env.reset(0)
    plain = env.step(actions)
    actions[0, 0, 3:] = np.nan
    env.reset(0)
    np.testing.assert_array_equal(env.step(actions).obs, plain.obs)


def test_nothing_goes_before_reset_and_only_with_worlds_that_fit() -> None:
    env, world = BatchedMPE("mpe_simple_tag", 2), parallel_env("mpe_simple_tag", num_good=2).unwrapped.world
    calls = {
        "step": lambda: env.step(np.zeros((2, 4), np.int64)),
        "observe": env.observe,
        "render": env.render,
        "load_state": lambda: env.load_state(0, world),
        "store_state": lambda: env.store_state(0, world),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"{name}\(\) before reset\(\)"):
            call()
    env.reset(0)
    for name in ("load_state", "store_state"):
        with pytest.raises(ValueError, match=r"expected those of mpe_simple_tag with the same options"):
            calls[name]()
    with pytest.raises(ValueError, match="copy: got 2, expected a whole number at least 0 and at most 1"):
        env.render(2)


def test_every_scenario_has_a_name_and_an_engine() -> None:
    assert {*COOPERATIVE, *TWO_TEAM} <= set(team_env_names())
    with pytest.raises(ConfigError, match=r"engine: got 'batched', expected 'mpe2', the only engine that has mpe_sim"):
        make_team_env("mpe_simple_line", 2, engine="batched")


def test_training_needs_no_mpe2_until_something_is_drawn() -> None:
    program = (
        "import sys; sys.modules['mpe2'] = sys.modules['pygame'] = None\n"
        "from k24_rllib.envs import make_team_env\n"
        "print(make_team_env('mpe_simple_spread', 2).reset(0).obs.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(2, 3, 18)", done.stderr
