"""What environments give and networks are made of, looked through for numbers that are none."""

import numpy as np
import pytest
import torch

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.qmix import EpisodeBatch
from k24_rllib.qmix.finite import check_episodes, check_weights

EPISODES, STEPS, AGENTS, SEEN, STATE, ACTIONS = 6, 5, 3, 4, 7, 2
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def episodes() -> EpisodeBatch:
    """Episodes of which the last two ended early, the padding without any action to take."""
    rng = np.random.default_rng(0)
    made = EpisodeBatch.empty(EPISODES, STEPS, AGENTS, SEEN, STATE, ACTIONS)
    made.lengths[:] = [5, 5, 5, 5, 2, 3]
    for name in ("obs", "state", "team_reward", "agent_rewards"):
        array = getattr(made, name)
        array[:] = rng.standard_normal(array.shape)
    made.avail_actions[:, :, :, 0] = True
    for row, length in enumerate(made.lengths):
        made.avail_actions[row, length + 1 :] = False
    return made


def refusal(episodes: EpisodeBatch, agents: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        check_episodes(episodes, "my_env", agents)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("name", "place", "where"),
    [
        ("obs", (3, 2, 1, 3), "observation of agent 1 at step 2, entry 3 (copy 3)"),
        ("state", (5, 0, 6), "state at step 0, entry 6 (copy 5)"),
        ("team_reward", (0, 4), "team reward at step 5 (copy 0)"),
        ("agent_rewards", (2, 0, 2), "reward of agent 2 at step 1 (copy 2)"),
    ],
)
def test_what_is_no_number_is_refused_by_name(episodes, value: float, name: str, place: tuple, where: str) -> None:
    check_episodes(episodes, "my_env")
    getattr(episodes, name)[place] = value
    expected = f"environment my_env: {where}: got {value}, expected a finite number"
    assert refusal(episodes) == expected
    names = ("left", "middle", "right")
    assert refusal(episodes, names) == expected.replace("agent 1", "agent middle").replace("agent 2", "agent right")


def test_the_earliest_step_is_named(episodes) -> None:
    episodes.obs[0, 4], episodes.obs[5, 1, 2, 0] = NAN, -INF
    assert "agent 2 at step 1, entry 0 (copy 5): got -inf" in refusal(episodes)


def test_an_agent_without_an_action_is_refused_but_not_where_its_episode_is_over(episodes) -> None:
    check_episodes(episodes, "my_env")
    episodes.avail_actions[1, 5] = False  # after the last step there is nothing to choose
    check_episodes(episodes, "my_env")
    episodes.avail_actions[4, 1, 2] = False
    assert refusal(episodes) == (
        "environment my_env: available actions of agent 2 at step 1 (copy 4): got none, expected at least one"
    )


def test_large_numbers_are_numbers(episodes) -> None:
    """Their squares, and even their sums, are beyond float32."""
    episodes.obs[:], episodes.team_reward[:] = 3e38, -3e38
    check_episodes(episodes, "my_env")
    check_weights({"weight": torch.full((8,), 3e38)}, "policy", "so it gets no score")


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (QMixConfig, "weight_hh"),
        (QMixConfig, "mixer"),
        (K24QMixConfig, "hetero_alpha"),
        (K24QMixConfig, "tracker.value"),
        (K24QMixConfig, "selection_rate"),
        (KaleidoscopeQMixConfig, "thresholds"),
    ],
)
def test_a_network_with_one_such_number_is_refused(small, bare_policy, config, name: str, value: float) -> None:
    policy, _ = bare_policy(small(config()))
    policy.check_finite("so it gets no score")
    for model, what in ((policy.target_model, "target network"), (policy.model, "policy")):
        full = next(key for key in model.state_dict() if name in key)
        model.state_dict()[full].view(-1)[-1] = value
        with pytest.raises(ConfigError, match=f"^{what}: {full}: got {value} and 0 more of .* so it gets no score$"):
            policy.check_finite("so it gets no score")


@pytest.mark.parametrize("part", ["model", "target_model", "optimizer"])
def test_a_checkpoint_with_one_is_not_taken_up(small, bare_policy, part: str) -> None:
    policy, batch = bare_policy(small(K24QMixConfig()))
    policy.learn_on_batch(batch)
    state = policy.get_state()
    if part == "optimizer":
        its = state["_optimizer_variables"][0]["state"][3]
        its["exp_avg_sq"] = np.full_like(its["exp_avg_sq"], NAN)
    else:
        state[part]["agent.fc2.hetero_alpha"] = np.full_like(state[part]["agent.fc2.hetero_alpha"], NAN)
    other, _ = bare_policy(small(K24QMixConfig()))
    before = {name: value.clone() for name, value in other.model.state_dict().items()}
    with pytest.raises(ConfigError, match=r"^checkpoint: .*optimizer: exp_avg_sq of parameter 3|_alpha: got nan"):
        other.set_state(state)
    assert all(torch.equal(value, before[name]) for name, value in other.model.state_dict().items())
