"""What is added to QMIX: one algorithm per file."""

from k24_rllib.algorithms.k24_qmix import K24QMix, K24QMixConfig, K24QMixTorchPolicy

__all__ = ["K24QMix", "K24QMixConfig", "K24QMixTorchPolicy"]
