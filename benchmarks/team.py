"""What is timed: the policies, built as RLlib builds them but without starting Ray, and episodes they played."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from k24_rllib import K24QMixConfig, KaleidoscopeQMixConfig, QMixConfig
from k24_rllib.algorithms import MaskedQMixConfig
from k24_rllib.envs import TeamEnv, make_team_env
from k24_rllib.qmix import QMixTorchPolicy, collect_episodes
from k24_rllib.qmix.buffer import EpisodeReplayBuffer
from k24_rllib.qmix.process import keep_freed_memory, set_matmul_precision

SPREAD = "mpe_simple_spread"
CONFIGS: dict[str, type[QMixConfig]] = {"K24QMix": K24QMixConfig, "QMix": QMixConfig}
"""K-2:4 and the dense baseline, which everything is timed with."""
UPDATE_CONFIGS: dict[str, type[QMixConfig]] = {**CONFIGS, "KaleidoscopeQMix": KaleidoscopeQMixConfig}
"""What an update is timed with."""
EPISODE_STEPS = 25
BATCH_EPISODES = 32


@dataclass(frozen=True)
class Sizes:
    """What the cost of a step and of an update depends on."""

    agents: int = 3
    hidden: int = 64


def configure(algorithm: str, sizes: Sizes) -> QMixConfig:
    """Returns the configuration of an algorithm on simple_spread: the defaults, but for the sizes."""
    config = UPDATE_CONFIGS[algorithm]().environment(SPREAD, env_config={"N": sizes.agents})
    config.training(hidden_dim=sizes.hidden, train_batch_size=BATCH_EPISODES)
    config.debugging(seed=0, log_level="ERROR")
    if isinstance(config, MaskedQMixConfig):
        config.total_env_steps = 10_000_000
    return config


def set_up_process(threads: int) -> str:
    """Sets up this process as a learner sets up its own, and returns the precision of products that it took."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    return set_matmul_precision("auto", torch.device("cpu"))


def make_policy(algorithm: str, sizes: Sizes) -> QMixTorchPolicy:
    """Returns a new policy, which needs no Ray."""
    torch.manual_seed(0)
    return configure(algorithm, sizes).build_policy()


def make_copies(sizes: Sizes, copies: int) -> TeamEnv:
    """Returns environment copies of simple_spread on the batched engine."""
    return make_team_env(SPREAD, copies, N=sizes.agents)


def filled_buffer(policy: QMixTorchPolicy, sizes: Sizes, episodes: int = 4 * BATCH_EPISODES) -> EpisodeReplayBuffer:
    """Returns a replay buffer with episodes that the policy played, whose rewards its statistics have seen."""
    buffer = EpisodeReplayBuffer(episodes, seed=0)
    env = make_copies(sizes, BATCH_EPISODES)
    while len(buffer) < episodes:
        batch = collect_episodes(env, policy.model, epsilon=0.05, explore=True, seed=None if len(buffer) else 0)
        policy.reward_moments.update(batch.team_reward[batch.valid()])
        buffer.add(batch)
    env.close()
    return buffer
