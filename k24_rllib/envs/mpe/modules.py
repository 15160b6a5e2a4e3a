"""Where mpe2 keeps its scenarios."""

from __future__ import annotations

import importlib
import os
from typing import Any

COOPERATIVE = {
    "mpe_simple": "simple_v3",
    "mpe_simple_spread": "simple_spread_v3",
    "mpe_simple_reference": "simple_reference_v3",
    "mpe_simple_speaker_listener": "simple_speaker_listener_v4",
    "mpe_simple_formation": "simple_formation_v1",
    "mpe_simple_line": "simple_line_v1",
    "mpe_collect_treasure": "collect_treasure_v1",
}
"""Our name of each scenario whose agents all want the same, and mpe2's module."""

TWO_TEAM = {
    "mpe_simple_adversary": "simple_adversary_v3",
    "mpe_simple_crypto": "simple_crypto_v3",
    "mpe_simple_push": "simple_push_v3",
    "mpe_simple_tag": "simple_tag_v3",
    "mpe_simple_world_comm": "simple_world_comm_v3",
}
"""The scenarios in which two sides want different things."""


def scenario_module(name: str) -> Any:
    """Imports and returns mpe2's module of a scenario."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # or pygame greets on stdout
    return importlib.import_module(f"mpe2.{(COOPERATIVE | TWO_TEAM)[name]}")
