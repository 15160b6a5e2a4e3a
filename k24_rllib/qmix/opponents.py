"""A trained team as the opponents of another: it plays greedily, frozen, inside the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from k24_rllib.checks import ConfigError
from k24_rllib.envs.mpe.two_team import TEAMS, Actions, Opponents, TwoTeamMPE
from k24_rllib.models import UNAVAILABLE, TeamModel
from k24_rllib.qmix.settings import SELF_PLAY_KEYS
from k24_rllib.qmix.weights import WEIGHTS_FILE, config_of, load_network, read_weights

if TYPE_CHECKING:
    from k24_rllib.qmix.config import QMixConfig


PUBLISHED_IN = Path(__file__).parent / "published"
PUBLISHED = {
    ("mpe_simple_tag", "adversaries", 3, 1): "tag_prey.safetensors",
    ("mpe_simple_world_comm", "adversaries", 4, 2): "world_prey.safetensors",
    ("mpe_simple_push", "adversaries", 5, 2): "push_pushed.safetensors",
}
"""Opponents that come with this package: by scenario, team that learns, its agents and theirs. The files in
tuned_examples/opponents made them."""


class NetworkTeam(Opponents):
    """A team that is a network, of which it takes the greedy actions with the most likely masks.

    Args:
        model: The network. It learns nothing here; what it has learned elsewhere by the next episode counts there.
    """

    def __init__(self, model: TeamModel) -> None:
        self._model = model

    @torch.no_grad()
    def begin(self, env: TwoTeamMPE, seed: int | None) -> None:
        """Forgets the last episode."""
        model, copies, agents = self._model, env.num_envs, len(env.opponents)
        self._weights = model.agent.weights(False)
        self._groups = model.groups(np.tile(np.arange(agents), (copies, 1)))
        self._hidden = model.initial_hidden(self._groups)
        self._last = torch.full((copies, agents), -1, dtype=torch.int64, device=model.device)

    @torch.no_grad()
    def act(self, env: TwoTeamMPE) -> Actions:
        """Returns each opponent's available action of the highest value."""
        step, model = env.what_opponents_see(), self._model
        inputs = model.agent_inputs(torch.from_numpy(step.obs).to(model.device), self._last).unsqueeze(1)
        q, self._hidden = model.unroll(inputs, self._hidden, self._weights, self._groups)  # [N, 1, E, U]
        available = torch.from_numpy(step.avail_actions).to(model.device)
        self._last = q[:, 0].transpose(0, 1).masked_fill(~available, UNAVAILABLE).argmax(-1)
        actions: Actions = self._last.cpu().numpy()
        return actions


class TrainedTeam(NetworkTeam):
    """The team of a checkpoint, or of a file of weights; what it reads runs no code.

    Args:
        path: A checkpoint's directory or a `.safetensors` file. A relative one is looked for where the command was
            called, too.

    Raises:
        ConfigError: for what is neither, or is damaged.
    """

    def __init__(self, path: str) -> None:
        self._file = _weights_file(path)
        weights = read_weights(self._file)
        self._config = config_of(weights)
        self._tensors = weights.tensors
        self._checked = False

    @classmethod
    def published(cls, env: TwoTeamMPE) -> TrainedTeam:
        """Returns the team that is published with this package as the other side of an environment.

        Raises:
            ConfigError: where there is none of its sizes; the message names those that there are.
        """
        game = env.engine.name, env.team, len(env.side), len(env.opponents)
        if game in PUBLISHED:
            return cls(str(PUBLISHED_IN / PUBLISHED[game]))
        there = ", ".join(f"{name} ({team}, {own} against {others})" for name, team, own, others in PUBLISHED)
        raise ConfigError(
            f"opponents: got 'trained' for {game[0]} ({game[1]}, {game[2]} against {game[3]}), expected one of those "
            f"published: {there}"
        )

    def begin(self, env: TwoTeamMPE, seed: int | None) -> None:
        """Forgets the last episode; the first time it checks that it is a team of this scenario's other side."""
        if not self._checked:
            self._check(env)
            self._model = self._built()
            self._checked = True
        super().begin(env, seed)

    def _check(self, env: TwoTeamMPE) -> None:
        config, other = self._config, TEAMS[1 - TEAMS.index(env.team)]
        theirs = (config.env, config.env_config.get("team", "good"))
        if theirs != (env.engine.name, other):
            raise ConfigError(
                f"opponents: {self._file} is of a team {theirs[1]!r} of {theirs[0]}, expected one of {other!r} of "
                f"{env.engine.name}"
            )
        made = TwoTeamMPE(theirs[0], 1, **_against_nobody(config))
        obs_dim, num_actions = env.opponent_sizes
        for what, there, here in (
            ("agents", made.num_agents, len(env.opponents)),
            ("numbers in an observation", made.obs_dim, obs_dim),
            ("actions", made.num_actions, num_actions),
        ):
            if there != here:
                raise ConfigError(f"opponents: {self._file} is of a team with {there} {what}, expected {here}")

    def _built(self) -> TeamModel:
        """Returns the network with its weights; nothing is asked of those that it was itself trained against."""
        config = self._config
        play_against("still", config)
        config.num_gpus = 0
        model: TeamModel = config.build_policy().model
        load_network(str(self._file), self._tensors, model)
        return model


def _against_nobody(config: QMixConfig) -> dict[str, Any]:
    return {**config.env_config, "opponents": "still"}


def play_against(opponents: str, config: QMixConfig) -> None:
    """Has a configuration play against others; where it was to play itself, no other side is made."""
    config.env_config = {**config.env_config, "opponents": opponents}
    for key in SELF_PLAY_KEYS:  # which have nothing to say then
        setattr(config, key, config.settings()[key].default)


def _weights_file(path: str) -> Path:
    """Returns the file of weights that a path names: itself, or the one in a checkpoint's directory."""
    given = Path(path).expanduser()
    called_in = os.environ.get("TUNE_ORIG_WORKING_DIR", ".")  # Tune has trials in directories of their own
    places = [given] if given.is_absolute() else [given, Path(called_in, given)]
    for place in places:
        for file in (place, place / WEIGHTS_FILE):
            if file.is_file():
                return file.absolute()
    raise ConfigError(
        f"opponents: got {path!r}, expected a checkpoint with {WEIGHTS_FILE} in it, a file of weights, or scripted, "
        "random or still"
    )
