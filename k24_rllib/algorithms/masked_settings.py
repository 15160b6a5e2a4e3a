"""The settings that every algorithm with learned masks has, declared without RLlib."""

from __future__ import annotations

from k24_rllib.qmix.settings import QMixSettings
from k24_rllib.settings import number, whole


class MaskedSettings(QMixSettings):
    """What `MaskedQMixConfig` adds to QMIX's settings."""

    total_env_steps: int | None = whole(
        None,
        "Environment steps of the whole run, against which progress (0 to 1) is measured. The command line takes it "
        "from the file's stop; otherwise give it, or 1,000,000 is assumed and said.",
        low=1,
        optional=True,
    )
    div_coef: float = number(
        0.1,
        "Weight of the diversity loss relative to the TD loss (adaptive: their ratio is held there). More pulls the "
        "agents' masks apart harder; 0 switches it off.",
        low=0.0,
    )
    div_window: int = whole(
        100, "Updates over which that ratio is averaged; longer is smoother.", low=1, high=1_000_000
    )
    reset_interval: int | None = whole(
        None,
        "Environment steps between resets of masks; null or 0 for none. Fewer explore longer, and disturb more.",
        optional=True,
    )
    reset_fraction: float = number(
        0.1,
        "Share of what a reset may redraw that it redraws. More explores more, and forgets more.",
        low=0.0,
        high=1.0,
    )
