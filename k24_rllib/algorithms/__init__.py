"""What is added to QMIX: one algorithm per file."""

from k24_rllib.algorithms.k24_qmix import K24QMix, K24QMixConfig, K24QMixTorchPolicy
from k24_rllib.algorithms.kaleidoscope_qmix import KaleidoscopeQMix, KaleidoscopeQMixConfig, KaleidoscopeQMixTorchPolicy
from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy

__all__ = [
    "K24QMix",
    "K24QMixConfig",
    "K24QMixTorchPolicy",
    "KaleidoscopeQMix",
    "KaleidoscopeQMixConfig",
    "KaleidoscopeQMixTorchPolicy",
    "MaskedQMix",
    "MaskedQMixConfig",
    "MaskedQMixTorchPolicy",
]
