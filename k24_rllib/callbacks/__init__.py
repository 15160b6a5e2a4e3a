"""What changes while K-2:4 trains: one small RLlib callback each, replaceable one by one."""

from k24_rllib.callbacks.finetuning import FinetuneCallback, RewindCallback
from k24_rllib.callbacks.record import RunRecord
from k24_rllib.callbacks.resets import AdaptiveResetCallback, PeriodicResetCallback
from k24_rllib.callbacks.temperature import TemperatureCallback

__all__ = [
    "AdaptiveResetCallback",
    "FinetuneCallback",
    "PeriodicResetCallback",
    "RewindCallback",
    "RunRecord",
    "TemperatureCallback",
]
