"""Greedy episodes of a team as they went: pictures, actions, and what the agents thought of each action.

Shapes: `E` episodes, `T` steps of the longest episode, `N` agents, `U` actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import check_number
from k24_rllib.envs import TeamEnv, TeamStep, make_team_env

if TYPE_CHECKING:
    from k24_rllib.models import TeamModel
    from k24_rllib.qmix import EpisodeBatch, QMixTorchPolicy

Frame = NDArray[np.uint8]
SIDE = 350
"""Pixels of a picture's longer side; larger ones are made smaller as they are taken."""
NO_SCORE = "so it plays no episode"


@dataclass(frozen=True)
class Played:
    """Episodes that a team played."""

    episodes: EpisodeBatch
    values: NDArray[np.float32]  # [E, T, N, U], the agents' own values of every action; T as in `episodes`
    frames: list[list[Frame]]
    """Of each filmed episode the pictures, of its beginning and of every step; none of what can't be drawn."""
    agent_names: tuple[str, ...]

    @property
    def returns(self) -> NDArray[np.float64]:
        """Raw team returns, `[E]`."""
        returns: NDArray[np.float64] = self.episodes.team_reward.sum(1, dtype=np.float64)
        return returns


class Film:
    """Takes pictures of the first copies of an environment, at the beginning and at every step.

    Args:
        copies: How many of its copies are filmed.
        most_frames: Pictures of an episode, after which no more are taken.
    """

    def __init__(self, copies: int, most_frames: int) -> None:
        self.frames: list[list[Frame]] = [[] for _ in range(copies)]
        self._most = most_frames
        self._over: NDArray[np.bool_] | None = None

    def __call__(self, env: TeamEnv, step: TeamStep) -> None:
        """Takes the pictures of a reset's or step's end; see `collect_episodes`."""
        for copy, frames in enumerate(self.frames):
            if len(frames) < self._most and (self._over is None or not self._over[copy]):
                frame = env.render(copy)
                if frame is not None:
                    frames.append(_small(frame))
        self._over = step.done


def play(policy: QMixTorchPolicy, episodes: int, seed: int, *, filmed: int = 0, most_frames: int = 1000) -> Played:
    """Plays greedy episodes; with the same seed they are those of `evaluate_checkpoint`.

    Args:
        policy: The team, as `policy_of` reads it.
        episodes: `E`, played side by side.
        seed: Seed of the environments.
        filmed: How many of the episodes are filmed, where the environment can be drawn.
        most_frames: Pictures of an episode.

    Raises:
        ConfigError: if there can be no score: weights or values that are no finite numbers, or the environment's.
    """
    from k24_rllib.qmix.rollout import collect_episodes
    from k24_rllib.qmix.streams import Streams, drawing_from

    check_number("episodes", episodes, low=1, integer=True)
    policy.check_finite(NO_SCORE)
    name = policy.config["env"]
    env, film = make_team_env(name, episodes, **(policy.config["env_config"] or {})), Film(filmed, most_frames)
    try:
        with drawing_from(Streams.of(policy.config["seed"]).greedy(), policy.device):
            played = collect_episodes(
                env, policy.model, epsilon=0.0, explore=False, seed=seed, name=name, watch=film if filmed else None
            )
    finally:
        env.close()
    return Played(played, action_values(policy.model, played), film.frames, env.agent_names)


def action_values(model: TeamModel, episodes: EpisodeBatch) -> NDArray[np.float32]:
    """Returns the agents' values of every action at every step of greedy episodes, `[E, T, N, U]`.

    Where an episode is over already they mean nothing.
    """
    import torch

    with torch.no_grad():
        steps = episodes.actions.shape[1]
        obs = torch.from_numpy(episodes.obs[:, :steps]).to(model.device).transpose(0, 1)  # [T, E, N, O]
        actions = torch.from_numpy(episodes.actions).to(model.device).transpose(0, 1)
        before = torch.cat((torch.full_like(actions[:1], -1), actions[:-1]))
        groups = model.groups(episodes.mask_ids)
        inputs = model.agent_inputs(obs, before)  # [N, T, E, I]
        values, _ = model.unroll(inputs, model.initial_hidden(groups), model.agent.weights(explore=False), groups)
    found: NDArray[np.float32] = values.permute(2, 1, 0, 3).cpu().numpy()
    return found


def _small(frame: Frame) -> Frame:
    """Returns a picture whose longer side has at most `SIDE` pixels."""
    from PIL import Image

    height, width = frame.shape[:2]
    shrink = SIDE / max(height, width)
    if shrink >= 1:
        return frame
    size = (max(round(width * shrink), 1), max(round(height * shrink), 1))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
