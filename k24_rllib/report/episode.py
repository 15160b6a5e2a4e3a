"""One episode of the final policy, for the page: pictures, actions and values of each agent, step by step."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from k24_rllib.experiments.play import Frame, Played, play
from k24_rllib.report.page import Section

if TYPE_CHECKING:
    from k24_rllib.qmix import QMixTorchPolicy

SEED = 0
MOST_STEPS = 100
"""Of an episode in the page; longer ones are cut."""
MOST_NUMBERS = 60_000
"""Action values in the page, for teams of many agents or actions."""
COLOURS = 64
"""Of a picture: MPE's have far fewer, and others show what matters."""


def episode_section(policy: QMixTorchPolicy) -> Section:
    """Plays a greedy episode and returns its section."""
    played = play(policy, 1, SEED, filmed=1, most_frames=MOST_STEPS + 1)
    length = int(played.episodes.lengths[0])
    steps, notes = _steps_shown(played, length), []
    if steps < length:
        notes.append(f"the first {steps} of its {length} steps")
    if not played.frames[0]:
        notes.append(f"{policy.config['env']} has no pictures, so there are numbers alone")
    title = f"An episode: greedy, seed {SEED}, return {played.returns[0]:.2f} in {length} steps"
    return Section(title, notes=notes, episode=_for_the_page(played, steps))


def _steps_shown(played: Played, length: int) -> int:
    of_a_step = played.values.shape[2] * played.values.shape[3]
    return max(min(length, MOST_STEPS, MOST_NUMBERS // max(of_a_step, 1)), 1)


def _for_the_page(played: Played, steps: int) -> dict[str, Any]:
    episodes = played.episodes
    agents = episodes.actions.shape[2]
    names = list(played.agent_names) if len(played.agent_names) == agents else [f"agent {n}" for n in range(agents)]
    values = np.where(episodes.avail_actions[0, :steps], played.values[0, :steps], np.nan)
    return {
        "agents": names,
        "owners": episodes.mask_ids[0],
        "actions": episodes.actions[0, :steps],
        "values": np.round(values.astype(np.float64), 3),
        "rewards": episodes.team_reward[0, :steps],
        "frames": [_as_uri(frame) for frame in _alike_sized(played.frames[0][: steps + 1])],
    }


def _alike_sized(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Returns the frames, none where not every step has one."""
    return frames if len({frame.shape for frame in frames}) <= 1 else []


def _as_uri(frame: Frame) -> str:
    """Returns a picture as a PNG of few colours in a data URI, some kilobytes."""
    from PIL import Image

    picture = Image.fromarray(frame).quantize(COLOURS)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
