"""Mask owners that differ between copies and are drawn anew each episode: rollouts, buffer and learner follow them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ray.rllib.models import ModelCatalog

import k24_rllib
from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, TeamStep
from k24_rllib.models import MODEL_NAME, TeamModel, register_models
from k24_rllib.qmix import EpisodeBatch, EpisodeReplayBuffer, TeamBaseEnv, collect_episodes

COPIES, AGENTS, OWNERS, ACTIONS, STEPS = 5, 3, 4, 6, 4
CONFIGS: dict[str, Callable[[], QMixConfig]] = {
    "dense": QMixConfig,
    "independent": lambda: QMixConfig().training(layer="independent"),
    "k24": lambda: K24QMixConfig().k24(total_env_steps=1000),
    "kaleidoscope": lambda: KaleidoscopeQMixConfig().kaleidoscope(total_env_steps=1000, reset_interval=None),
}


class Roles(TeamEnv):
    """Random observations, a reward of one's own, and owners that each reset draws for each copy."""

    def __init__(self, num_envs: int, max_cycles: int = STEPS, owners: int = OWNERS, fault: str | None = None):
        self.num_envs, self.num_agents, self.num_actions = num_envs, AGENTS, ACTIONS
        self.obs_dim, self.state_dim, self.episode_limit = 7, 3, max_cycles
        self.num_mask_owners, self._fault = owners, fault
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> TeamStep:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._steps = 0
        self._owners = self._rng.integers(self.num_mask_owners, size=(self.num_envs, AGENTS))
        if self._fault == "range":
            self._owners[2, 1] = self.num_mask_owners
        if self._fault == "type":
            self._owners = self._owners.astype(np.int32)
        if self._fault == "shape":
            self._owners = self._owners[0]
        return self._look(np.zeros(self.num_envs, np.float32))

    def step(self, actions: np.ndarray) -> TeamStep:
        self._steps += 1
        if self._fault == "change":
            self._owners[3, 2] = (self._owners[3, 2] + 1) % self.num_mask_owners
        return self._look(actions.sum(1).astype(np.float32))

    def _look(self, reward: np.ndarray) -> TeamStep:
        copies = self.num_envs
        return TeamStep(
            obs=self._rng.standard_normal((copies, AGENTS, 7)).astype(np.float32),
            state=self._rng.standard_normal((copies, 3)).astype(np.float32),
            avail_actions=np.ones((copies, AGENTS, ACTIONS), bool),
            mask_ids=self._owners.copy(),
            team_reward=reward,
            agent_rewards=np.repeat(reward[:, None] / AGENTS, AGENTS, 1),
            terminated=np.zeros(copies, bool),
            truncated=np.full(copies, self._steps >= self.episode_limit),
        )


def make_model(layer: str = "2:4", owners: int = OWNERS) -> TeamModel:
    register_models()
    torch.manual_seed(0)
    adapter = TeamBaseEnv(Roles, {"owners": owners})
    return ModelCatalog.get_model_v2(
        obs_space=adapter.observation_space,
        action_space=adapter.action_space,
        num_outputs=AGENTS * ACTIONS,
        model_config={
            "custom_model": MODEL_NAME,
            "custom_model_config": {
                "agent": "gru",
                "agent_options": {"hidden_dim": 16},
                "layer": layer,
                "mixer": "qmix",
            },
        },
        framework="torch",
    )


def greedy_alone(model: TeamModel, episodes: EpisodeBatch, copy: int, agent: int) -> list[int]:
    """Returns what a network with the weights of one owner does with one agent's observations, step by step."""
    network, owner = model.agent, episodes.mask_ids[copy, agent]
    weights, hidden, chosen = network.weights(explore=False), network.initial_hidden(OWNERS, 1), []
    for t in range(STEPS):
        inputs = model.agent_inputs(torch.from_numpy(episodes.obs[copy, t]))[agent]
        q, hidden = network.unroll(inputs.expand(OWNERS, 1, 1, -1), hidden, weights)
        chosen.append(int(q[owner].argmax()))
    return chosen


@pytest.mark.parametrize("layer", ["2:4", "kaleidoscope", "independent", "hyper", "dense"])
def test_each_copys_agents_act_with_their_owners_weights(layer: str) -> None:
    model, env, seen = make_model(layer), Roles(COPIES), []
    if layer == "kaleidoscope":
        with torch.no_grad():  # so that owners differ
            for each in model.agent.layers():
                each.thresholds.copy_(4 * torch.rand_like(each.thresholds) - 5)
    for seed in (0, None, None):
        episodes = collect_episodes(env, model, epsilon=0.0, explore=False, seed=seed)
        seen.append(episodes.mask_ids)
        for copy in range(COPIES):
            for agent in range(AGENTS):
                assert episodes.actions[copy, :, agent].tolist() == greedy_alone(model, episodes, copy, agent)
    assert (seen[0] != seen[1]).any()
    assert len(np.unique(seen[0], axis=0)) > 1


def test_buffer_and_checkpoint_keep_each_episodes_owners() -> None:
    model, env, buffer = make_model(), Roles(COPIES), EpisodeReplayBuffer(2 * COPIES, seed=0)
    for seed in (0, None):
        buffer.add(collect_episodes(env, model, epsilon=1.0, explore=True, seed=seed))
    restored = EpisodeReplayBuffer(2 * COPIES, seed=1)
    restored.set_state(buffer.get_state())
    batch, again = buffer.sample(2 * COPIES).episodes, restored.sample(2 * COPIES).episodes
    np.testing.assert_array_equal(batch.mask_ids, again.mask_ids)
    assert (batch.mask_ids != batch.mask_ids[0]).any()
    np.testing.assert_array_equal(batch.take(np.array([3])).mask_ids, batch.mask_ids[3:4])


def test_an_old_buffer_has_agents_as_their_own_owners() -> None:
    arrays = EpisodeBatch.empty(2, STEPS, agents=AGENTS, obs_dim=7, state_dim=3, actions=ACTIONS).arrays()
    del arrays["mask_ids"]
    assert EpisodeBatch.from_arrays(arrays).mask_ids.tolist() == [[0, 1, 2]] * 2
    given = EpisodeBatch.from_arrays({**arrays, "mask_ids": np.full((2, AGENTS), 3)})
    assert (given.mask_ids == 3).all()


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_learner_follows_the_owners_of_each_episode(small, bare_policy, name: str, recurrent: bool) -> None:
    """A batch's values, targets and gradients are those of its episodes one after the other."""
    k24_rllib.register_team_env("roles", Roles)
    policy, episodes = bare_policy(
        small(CONFIGS[name](), "roles").training(agent="gru" if recurrent else "feedforward")
    )
    assert len(np.unique(episodes.mask_ids, axis=0)) > 1
    parameters = list(policy.model.agent.parameters())

    def learn(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        batch = policy.train_batch(episodes.take(np.array(rows)))
        torch.manual_seed(7)  # the same masks each time
        weights = policy.model.agent.weights(explore=True)
        q = policy.online_values(batch, weights)
        grads = torch.autograd.grad(q.square().sum(), parameters, allow_unused=True)
        grads = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(parameters, grads, strict=True)]
        return q.detach(), policy.target_values(batch, q, weights), grads

    for layer in policy.model.agent.layers():  # or the input scale would move between the passes
        layer.observe = lambda *arguments: None
    q, targets, grads = learn([0, 1, 2, 3])
    each = [learn([row]) for row in range(4)]
    torch.testing.assert_close(q, torch.cat([part for part, _, _ in each], 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(targets, torch.cat([part for _, part, _ in each], 1), rtol=1e-5, atol=1e-6)
    for i, grad in enumerate(grads):
        torch.testing.assert_close(grad, sum(part[i] for _, _, part in each), rtol=1e-4, atol=1e-4)
    swapped = EpisodeBatch(**{**episodes.arrays(), "mask_ids": np.roll(episodes.mask_ids, 1, axis=0)})
    batch = policy.train_batch(swapped.take(np.arange(4)))
    torch.manual_seed(7)
    other = policy.online_values(batch, policy.model.agent.weights(explore=True))
    assert torch.allclose(other, q) is (name == "dense")


@pytest.mark.parametrize("name", CONFIGS)
def test_it_learns_where_owners_differ(small, bare_policy, name: str) -> None:
    k24_rllib.register_team_env("roles", Roles)
    policy, episodes = bare_policy(small(CONFIGS[name](), "roles"))
    losses = [float(policy.learn_on_batch(episodes)["loss_td"]) for _ in range(40)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("range", r"mask_ids: copy 2, agent 1: got 4, expected 0 to 3"),
        ("type", r"mask_ids: got int32 \[5, 3\], expected int64 \[5, 3\]"),
        ("shape", r"mask_ids: got int64 \[3\], expected int64 \[5, 3\]"),
        ("change", r"mask_ids: copy 3, agent 2: got \d after \d in one episode"),
    ],
)
def test_owners_that_cannot_be_are_refused_in_one_line(fault: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        collect_episodes(Roles(COPIES, fault=fault), make_model(), epsilon=0.0, explore=False, seed=0)
    assert "\n" not in str(caught.value)
