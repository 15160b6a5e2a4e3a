"""QMIX for RLlib: configuration, algorithm, policy, loss, episode buffer and rollout worker. Knows nothing of 2:4.

Names are imported when they are first asked for, so that `batch` and `loss` (PyTorch alone) and `episodes`, `buffer`
and `prioritized` (NumPy alone) work where Ray is not installed.
"""

from typing import TYPE_CHECKING

from k24_rllib.lazy import names_from

if TYPE_CHECKING:
    from k24_rllib.qmix.batch import TrainBatch
    from k24_rllib.qmix.buffer import EpisodeReplayBuffer, ReplaySample
    from k24_rllib.qmix.config import QMixConfig
    from k24_rllib.qmix.episodes import EpisodeBatch
    from k24_rllib.qmix.loss import LossParts, TeamValues, qmix_loss
    from k24_rllib.qmix.policy import QMixTorchPolicy
    from k24_rllib.qmix.prioritized import PrioritizedEpisodeReplayBuffer
    from k24_rllib.qmix.qmix import QMix
    from k24_rllib.qmix.registry import ALGORITHMS
    from k24_rllib.qmix.rollout import QMixRolloutWorker, TeamBaseEnv, collect_episodes

_MODULES = {
    "ALGORITHMS": "registry",
    "EpisodeBatch": "episodes",
    "EpisodeReplayBuffer": "buffer",
    "LossParts": "loss",
    "PrioritizedEpisodeReplayBuffer": "prioritized",
    "QMix": "qmix",
    "QMixConfig": "config",
    "QMixRolloutWorker": "rollout",
    "QMixTorchPolicy": "policy",
    "ReplaySample": "buffer",
    "TeamBaseEnv": "rollout",
    "TeamValues": "loss",
    "TrainBatch": "batch",
    "collect_episodes": "rollout",
    "qmix_loss": "loss",
}

__all__ = [
    "ALGORITHMS",
    "EpisodeBatch",
    "EpisodeReplayBuffer",
    "LossParts",
    "PrioritizedEpisodeReplayBuffer",
    "QMix",
    "QMixConfig",
    "QMixRolloutWorker",
    "QMixTorchPolicy",
    "ReplaySample",
    "TeamBaseEnv",
    "TeamValues",
    "TrainBatch",
    "collect_episodes",
    "qmix_loss",
]


__getattr__ = names_from(globals(), _MODULES)
