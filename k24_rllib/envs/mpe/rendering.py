"""Pictures of MPE, drawn by mpe2 itself or, of scenarios that it does not have, as discs; and films of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.envs.mpe.modules import scenario_module


class MpeRenderer:
    """Draws states of one scenario with an mpe2 environment, made when the first picture is asked for.

    Args:
        name: The scenario.
        options: As mpe2's environment takes them; what it does not take is left out.
    """

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self._name, self._options = name, dict(options)
        # never closed: mpe2's close() shuts pygame down for every other environment of the process
        self._env: Any = None

    def draw(self, fill: Callable[[Any], None], view: float) -> NDArray[np.uint8]:
        """Returns a picture, `[height, width, 3]`.

        Args:
            fill: Writes the state into the live world it is given.
            view: Largest coordinate at the start of the episode, to which mpe2 relates the sizes of bodies.
        """
        if self._env is None:
            made_by = scenario_module(self._name).raw_env
            known = inspect.signature(made_by.__init__).parameters
            taken = {key: value for key, value in self._options.items() if key in known}
            self._env = made_by(render_mode="rgb_array", **taken)
        fill(self._env.world)
        self._env.original_cam_range = view
        frame: NDArray[np.uint8] = self._env.render()
        return frame


SIDE = 350
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (240, 228, 66))
"""Of agents and their landmarks; told apart by colour-blind readers too (Okabe and Ito)."""


def draw_discs(pos: NDArray[Any], sizes: NDArray[Any], colours: NDArray[Any], agents: int) -> NDArray[np.uint8]:
    """Returns a picture, `[SIDE, SIDE, 3]`, of bodies as discs, agents with a rim.

    Args:
        pos: `[2, M]`, agents first.
        sizes: Radii, `[M]`.
        colours: Numbers of colours, `[M]`.
        agents: How many of the bodies are agents.
    """
    from PIL import Image, ImageDraw

    view = max(1.1, float(np.abs(pos).max()) * 1.05)
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture)
    for body in reversed(range(pos.shape[1])):  # agents last, on top
        x, y = (1 + pos[0, body] / view) * SIDE / 2, (1 - pos[1, body] / view) * SIDE / 2
        radius = max(sizes[body] / view * SIDE / 2, 3.0) * (1.0 if body < agents else 1.6)
        fill = COLOURS[int(colours[body]) % len(COLOURS)]
        pen.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=fill, outline="black" if body < agents else None
        )
    return np.asarray(picture)


def write_gif(path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: float = 10.0) -> None:
    """Writes frames `[height, width, 3]` as a GIF that repeats for ever.

    Args:
        path: Where to.
        frames: At least one.
        fps: Frames per second; MPE's step is a tenth of a second. GIF counts in hundredths of a second.

    Raises:
        ValueError: if there are no frames.
    """
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in frames]
    if not pictures:
        raise ValueError("frames: got none, expected at least one")
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000 / fps, loop=0)
