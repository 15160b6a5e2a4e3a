"""What a score is measured from: the returns of a random and of a scripted policy, where somebody measured them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCORE_REFERENCES: dict[str, dict[int | None, tuple[float, float]]] = {
    "mpe_simple_spread": {3: (-81.4, -25.0), 6: (-237.0, -93.3)},
    "mpe_simple_speaker_listener": {None: (-80.1, -15.1)},
}
"""By scenario and `N` (None where it has none): team returns over 25 steps of a random and of a scripted policy.

The scripts: in spread each agent heads for the landmark of the assignment whose distances at the start sum up to the
least; in speaker_listener the speaker names the goal and the listener heads for it. Means of 4,000 episodes (standard
errors 0.2 to 1.0), but for spread with `N` = 3, whose scale was fixed before: 4,000 episodes give -79.0 and -24.9.
"""


def score_reference(
    name: str, options: Mapping[str, Any], defaults: Mapping[str, Any], team_reward: str
) -> tuple[float, float] | None:
    """Returns a scenario's references for these options, or None: any but `N` change what a return means."""
    others = [key for key in defaults if key != "N" and options[key] != defaults[key]]
    if others or team_reward != "sum":
        return None
    return SCORE_REFERENCES.get(name, {}).get(options.get("N"))
