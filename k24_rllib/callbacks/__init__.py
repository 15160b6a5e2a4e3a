"""What changes while an algorithm trains: one small RLlib callback each, replaceable one by one."""

from k24_rllib.callbacks.kaleidoscope_reset import KaleidoscopeResetCallback
from k24_rllib.callbacks.temperature import TemperatureCallback

__all__ = ["KaleidoscopeResetCallback", "TemperatureCallback"]
