"""What changes while an algorithm trains: one small RLlib callback each, replaceable one by one."""

from k24_rllib.callbacks.finetuning import FinetuneCallback, RewindCallback
from k24_rllib.callbacks.kaleidoscope_reset import KaleidoscopeResetCallback
from k24_rllib.callbacks.learner import MaskLearner, PatternLearner, ThresholdLearner
from k24_rllib.callbacks.record import RunRecord
from k24_rllib.callbacks.resets import AdaptiveResetCallback, PeriodicResetCallback
from k24_rllib.callbacks.temperature import TemperatureCallback

__all__ = [
    "AdaptiveResetCallback",
    "FinetuneCallback",
    "KaleidoscopeResetCallback",
    "MaskLearner",
    "PatternLearner",
    "PeriodicResetCallback",
    "RewindCallback",
    "RunRecord",
    "TemperatureCallback",
    "ThresholdLearner",
]
