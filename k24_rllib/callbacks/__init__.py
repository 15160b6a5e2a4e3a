"""What changes while K-2:4 trains: one small RLlib callback each, replaceable one by one."""

from k24_rllib.callbacks.temperature import TemperatureCallback

__all__ = ["TemperatureCallback"]
