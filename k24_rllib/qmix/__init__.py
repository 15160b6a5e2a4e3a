"""QMIX for RLlib: configuration, algorithm, policy, loss, episode buffer and rollout worker. Knows nothing of 2:4."""

from k24_rllib.qmix.buffer import EpisodeReplayBuffer
from k24_rllib.qmix.config import QMixConfig
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.policy import QMixTorchPolicy
from k24_rllib.qmix.qmix import QMix
from k24_rllib.qmix.registry import ALGORITHMS
from k24_rllib.qmix.rollout import QMixRolloutWorker, TeamBaseEnv, collect_episodes

__all__ = [
    "ALGORITHMS",
    "EpisodeBatch",
    "EpisodeReplayBuffer",
    "QMix",
    "QMixConfig",
    "QMixRolloutWorker",
    "QMixTorchPolicy",
    "TeamBaseEnv",
    "collect_episodes",
]
