"""What is added to QMIX: one algorithm per file."""

from typing import TYPE_CHECKING

from k24_rllib.lazy import names_from

if TYPE_CHECKING:
    from k24_rllib.algorithms.k24_qmix import K24QMix, K24QMixConfig, K24QMixTorchPolicy
    from k24_rllib.algorithms.kaleidoscope_qmix import (
        KaleidoscopeQMix,
        KaleidoscopeQMixConfig,
        KaleidoscopeQMixTorchPolicy,
    )
    from k24_rllib.algorithms.masked_qmix import MaskedQMix, MaskedQMixConfig, MaskedQMixTorchPolicy

_MODULES = {
    "K24QMix": "k24_qmix",
    "K24QMixConfig": "k24_qmix",
    "K24QMixTorchPolicy": "k24_qmix",
    "KaleidoscopeQMix": "kaleidoscope_qmix",
    "KaleidoscopeQMixConfig": "kaleidoscope_qmix",
    "KaleidoscopeQMixTorchPolicy": "kaleidoscope_qmix",
    "MaskedQMix": "masked_qmix",
    "MaskedQMixConfig": "masked_qmix",
    "MaskedQMixTorchPolicy": "masked_qmix",
}

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

__getattr__ = names_from(globals(), _MODULES)
