"""What is added to QMIX: one algorithm per file."""

from k24_rllib.algorithms.k24_qmix import K24QMix, K24QMixConfig, K24QMixTorchPolicy
from k24_rllib.algorithms.kaleidoscope_qmix import KaleidoscopeQMix, KaleidoscopeQMixConfig, KaleidoscopeQMixTorchPolicy

__all__ = [
    "K24QMix",
    "K24QMixConfig",
    "K24QMixTorchPolicy",
    "KaleidoscopeQMix",
    "KaleidoscopeQMixConfig",
    "KaleidoscopeQMixTorchPolicy",
]
