"""Rollouts: copies of a team environment stepped in lockstep, one forward pass per time step, whole episodes at a time.

Shapes: `E` environment copies, `N` agents, `T` time steps, `U` actions.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.env.base_env import BaseEnv
from ray.rllib.evaluation.metrics import RolloutMetrics
from ray.rllib.evaluation.rollout_worker import RolloutWorker
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID
from ray.tune.registry import register_env

from k24_rllib.checks import ConfigError
from k24_rllib.envs import TeamEnv, TeamEnvFactory, TeamStep, team_env_factory
from k24_rllib.envs.faults import EnvironmentFault, Overdue, fault_at
from k24_rllib.envs.mpe.two_team import Opponents, TwoTeamMPE
from k24_rllib.models import TeamModel, team_observation_space
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.exploration import EpsilonGreedy
from k24_rllib.qmix.finite import check_episodes, check_values
from k24_rllib.qmix.notices import say
from k24_rllib.qmix.streams import Streams, drawing_from, env_seed
from k24_rllib.qmix.watch import RoundWatch

MAX_EVALUATION_COPIES = 128
"""Most environment copies that an evaluation steps at once; more would only take memory."""
WON = "won"
"""The name of winning in RLlib's record of an episode."""


class TeamBaseEnv(BaseEnv):
    """What RLlib's `RolloutWorker` is given as its environment: the spaces, and how to make copies.

    RLlib's own sampler never steps it; `QMixRolloutWorker.sample` does.
    """

    def __init__(self, factory: TeamEnvFactory, env_config: dict[str, Any]) -> None:
        self._factory = factory
        self._env_config = dict(env_config)
        env = self.make(1)
        self._observation_space = team_observation_space(
            env.obs_dim, env.state_dim, env.num_actions, env.num_agents, env.num_mask_owners
        )
        self._action_space = gym.spaces.MultiDiscrete([env.num_actions] * env.num_agents)
        env.close()

    def get_sub_environments(self, as_dict: bool = False) -> Any:
        """Returns nothing: the rollout worker owns and closes the copies."""
        return {} if as_dict else []

    def make(self, num_envs: int) -> TeamEnv:
        """Returns `num_envs` copies of the environment."""
        return self._factory(num_envs, **self._env_config)

    @property
    def observation_space(self) -> Any:
        """Space of one team's observation; see `team_observation_space`."""
        return self._observation_space

    @property
    def action_space(self) -> Any:
        """One `Discrete(U)` per agent."""
        return self._action_space


def register_rllib_env(name: str, factory: TeamEnvFactory) -> None:
    """Makes a team environment known to RLlib as `name`; the factory travels to remote workers by pickling."""
    register_env(name, _creator(factory))


def rllib_env_creator(name: str) -> Callable[[Any], TeamBaseEnv]:
    """Returns what RLlib calls to make the environment of a name that this package knows."""
    return _creator(team_env_factory(name))


def _creator(factory: TeamEnvFactory) -> Callable[[Any], TeamBaseEnv]:
    def create(env_context: Any) -> TeamBaseEnv:
        return TeamBaseEnv(factory, env_context)

    return create


@torch.no_grad()
def collect_episodes(
    env: TeamEnv,
    model: TeamModel,
    *,
    epsilon: float,
    explore: bool,
    seed: int | None = None,
    name: str | None = None,
    watch: Callable[[TeamEnv, TeamStep], None] | None = None,
) -> EpisodeBatch:
    """Plays one episode in every copy of `env`.

    What is played with exploration is there to be learned from, and is checked where it is taken in.

    Args:
        env: The copies; all are reset.
        model: The team.
        epsilon: Probability of a random action.
        explore: Whether masks are drawn (once for all episodes) or the most likely ones.
        seed: Seed of the reset; None goes on with the environment's own stream.
        name: What messages call the environment; None is its class.
        watch: Is shown the environment, and what it gave, after the reset and after every step.

    Returns:
        `E` episodes.

    Raises:
        EnvironmentFault: if the environment raises, gives arrays of another form than it said, mask owners that cannot
            be or change within an episode, or does not return in time.
        ConfigError: without exploration, if what the environment gave, or the team's values, are no finite numbers.
    """
    device = model.device
    episodes = EpisodeBatch.empty(
        env.num_envs, env.episode_limit, env.num_agents, env.obs_dim, env.state_dim, env.num_actions
    )
    weights = model.agent.weights(explore)
    chooser = EpsilonGreedy((env.episode_limit, env.num_envs, env.num_agents, env.num_actions), epsilon, device)
    last_actions = torch.full((env.num_envs, env.num_agents), -1, dtype=torch.int64, device=device)
    step = _reset(env, seed)
    form = step.form
    episodes.mask_ids[:] = step.mask_ids
    groups = model.groups(episodes.mask_ids)
    hidden = model.initial_hidden(groups)
    running: NDArray[np.bool_] | slice = _running(~step.done)
    _write_observation(episodes, 0, step, running)
    if watch is not None:
        watch(env, step)
    for t in range(env.episode_limit):
        obs = torch.from_numpy(step.obs).to(device)
        inputs = model.agent_inputs(obs, last_actions).unsqueeze(1)  # [N, 1, E, I]
        q, hidden = model.unroll(inputs, hidden, weights, groups)  # [N, 1, E, U]
        last_actions = chooser(t, q[:, 0].transpose(0, 1), torch.from_numpy(step.avail_actions).to(device))  # [E, N]
        actions = last_actions.cpu().numpy()
        try:
            step = env.step(actions)
            _check_form(env, step, form)
            env.check_mask_ids_stay(episodes.mask_ids, step.mask_ids)
        except (Exception, Overdue) as error:
            raise fault_at(f"step {t + 1}", error) from error
        _write_transition(episodes, t, actions, step, running)
        if watch is not None:
            watch(env, step)
        if step.done.any():
            if step.done.all():
                break
            running = _running(~step.done)
    if step.won is not None:
        episodes.won[:] = step.won
    if not explore:
        check_episodes(episodes, name or type(env).__name__, env.agent_names)
        check_values(q[:, :, running])  # the last ones: what agents remember brings all others there
    return episodes


def _reset(env: TeamEnv, seed: int | None) -> TeamStep:
    """Begins an episode in every copy, and looks at what the environment gives."""
    try:
        step = env.reset(seed)
        env.check_arrays(step)
        env.check_mask_ids(step.mask_ids)
    except (Exception, Overdue) as error:
        raise fault_at("reset", error) from error
    return step


def _check_form(env: TeamEnv, step: TeamStep, form: tuple[Any, ...]) -> None:
    """Checks that a step's arrays have the form of the reset's, which takes a microsecond where they have."""
    try:
        if step.form == form:
            return
    except AttributeError:  # something is no array at all
        pass
    env.check_arrays(step)


def _running(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | slice:
    """Returns what selects the copies that are running; a slice where all are, which NumPy copies far faster."""
    return slice(None) if mask.all() else mask


def _write_observation(episodes: EpisodeBatch, t: int, step: TeamStep, running: NDArray[np.bool_] | slice) -> None:
    """Writes what the running copies see at time `t`."""
    episodes.obs[running, t] = step.obs[running]
    episodes.state[running, t] = step.state[running]
    episodes.avail_actions[running, t] = step.avail_actions[running]


def _write_transition(
    episodes: EpisodeBatch, t: int, actions: NDArray[np.int64], step: TeamStep, running: NDArray[np.bool_] | slice
) -> None:
    """Writes the action taken at time `t` and what it led to, for the copies that were still running."""
    episodes.actions[running, t] = actions[running]
    episodes.team_reward[running, t] = step.team_reward[running]
    episodes.agent_rewards[running, t] = step.agent_rewards[running]
    episodes.terminated[running, t] = step.terminated[running]
    episodes.lengths[running] = t + 1
    _write_observation(episodes, t + 1, step, running)


@dataclass(frozen=True)
class RoundFault:
    """What a remote worker gives instead of episodes where its environment failed."""

    line: str
    """Worker, environment, step and what was wrong."""
    traceback: str


class QMixRolloutWorker(RolloutWorker):
    """RLlib's rollout worker, whose `sample()` plays whole episodes in lockstep.

    Creation, weight synchronisation, checkpoints and restarts are RLlib's. A training worker returns one episode per
    copy and call, and leaves their metrics to the algorithm, which sees them all; an evaluation worker plays as many
    copies at once as its share of the evaluation, but hands out one episode per call, which is what RLlib counts.
    """

    def __init__(self, **kwargs: Any) -> None:
        torch.set_num_threads(kwargs["config"].torch_num_threads)
        super().__init__(**kwargs)
        self._trial_id: str | None = kwargs.get("tune_trial_id")
        self._metrics: list[RolloutMetrics] = []
        self._evaluated: list[EpisodeBatch] = []
        self.complaint: str | None = None
        self._streams = Streams.of(self.config.seed)
        self._number = 0  # of the next round or, in an evaluation, of this evaluation
        self._batch = 0  # batches of episodes played in this evaluation
        self.team_env: TeamEnv | None = None if self.env is None else self.env.make(self._num_copies())
        self.watch = RoundWatch(self.config.sample_timeout_s)
        self.opponents: Opponents | None = None  # whom self-play seats; None leaves the environment's own

    def _num_copies(self) -> int:
        duration = self.config.evaluation_duration
        if not self.config.in_evaluation or not isinstance(duration, int):
            return int(self.config.num_envs_per_env_runner)
        return min(-(-duration // max(self.num_workers, 1)), MAX_EVALUATION_COPIES)

    def sample(self, **kwargs: Any) -> EpisodeBatch:
        """Plays episodes: one per copy, or, in an evaluation, hands out the next one of those played."""
        if not self.config.in_evaluation:
            episodes = self._play(self._streams.training(self.worker_index, self._number))
            self._number += 1
        else:
            if not self._evaluated:
                played = self._evaluate(self._streams.evaluation(self.worker_index, self._number, self._batch))
                self._batch += 1
                self._evaluated = [played.take(np.array([row])) for row in range(len(played))]
            episodes = self._evaluated.pop(0)
            self.record(episodes)
        self.callbacks.on_sample_end(worker=self, samples=episodes)
        return episodes

    def sample_round(self, streams: Streams, number: int) -> EpisodeBatch:
        """Plays the training round of this number, whatever was played before."""
        self._streams, self._number = streams, number
        return self.sample()

    def sample_with(
        self, weights: dict[str, Any], global_vars: dict[str, Any], streams: Streams, number: int
    ) -> EpisodeBatch:
        """Takes over weights and plays a round with them: all that decides what a remote worker plays, in one call."""
        self.set_weights(weights, global_vars)
        return self.sample_round(streams, number)

    def attempt(self, **kwargs: Any) -> EpisodeBatch | RoundFault:
        """Plays a round as `sample_with` does; what the environment does wrong comes back instead of episodes.

        RLlib ends a worker in which anything raises, and with it the exception's text.
        """
        try:
            return self.sample_with(**kwargs)
        except EnvironmentFault as fault:
            return RoundFault(str(fault), traceback.format_exc())

    def begin_evaluation(self, streams: Streams, number: int) -> None:
        """Makes this the run's `number`-th evaluation, whose episodes are its own."""
        self._streams, self._number, self._batch = streams, number, 0
        self._evaluated.clear()

    def renew(self) -> None:
        """Makes the environments anew, after a fault that they may not have outlived."""
        if self.team_env is not None:
            with contextlib.suppress(Exception):
                self.team_env.close()
            self.team_env = self.env.make(self._num_copies())

    def record(self, episodes: EpisodeBatch) -> None:
        """Adds the metrics of `episodes` to those that `get_metrics` returns next."""
        self._metrics += episode_metrics(episodes)

    def _play(self, stream: np.random.SeedSequence) -> EpisodeBatch:
        """Plays one episode in every copy, with all that is random drawn from `stream`."""
        if self.team_env is None:
            raise ValueError("this worker has no environment: set create_local_env_runner or evaluate elsewhere")
        policy = self.policy_map[DEFAULT_POLICY_ID]
        explore = self.config.explore
        epsilon = policy.epsilon() if explore else 0.0
        name, seed, env = self.config.env, env_seed(stream), self.team_env
        if self.opponents is not None:
            assert isinstance(env, TwoTeamMPE)
            env.face(self.opponents)
        began, before = time.perf_counter(), env.opponents_s
        try:
            with self.watch, drawing_from(stream, policy.device):
                episodes = collect_episodes(env, policy.model, epsilon=epsilon, explore=explore, seed=seed, name=name)
        except (EnvironmentFault, Overdue) as error:
            fault = error if isinstance(error, EnvironmentFault) else fault_at("between steps", error)
            raise fault.of(str(name), self.worker_index) from error
        if before is None or env.opponents_s is None:
            return episodes
        return replace(episodes, opponents_share=(env.opponents_s - before) / (time.perf_counter() - began))

    def _evaluate(self, stream: np.random.SeedSequence) -> EpisodeBatch:
        """Plays as `_play` does; where that gives no score, the episodes' returns are NaN and `complaint` says why.

        An exception would have RLlib restart a remote worker and ask it again, which is right where its environment
        failed; that is said here, as RLlib would not tell.
        """
        assert self.team_env is not None
        try:
            return self._play(stream)
        except EnvironmentFault as fault:
            if self.worker_index > 0:
                say(f"evaluation: {fault}", self._trial_id)
            raise
        except ConfigError as error:
            self.complaint = str(error)
        episodes = EpisodeBatch.empty(self.team_env.num_envs, 1, self.team_env.num_agents, 0, 0, 0)
        episodes.team_reward[:] = np.nan
        return episodes

    def set_weights(self, weights: Any, global_vars: Any = None, weights_seq_no: int | None = None) -> None:
        """Takes over weights; episodes played with older ones are no longer handed out."""
        super().set_weights(weights, global_vars, weights_seq_no)
        self._evaluated.clear()

    def get_metrics(self) -> list[RolloutMetrics]:
        """Returns the metrics of the episodes recorded since the last call."""
        metrics, self._metrics = self._metrics, []
        return metrics

    def stop(self) -> None:
        """Closes the environments."""
        self.watch.stop()
        if self.team_env is not None:
            self.team_env.close()
        super().stop()


def episode_metrics(episodes: EpisodeBatch) -> list[RolloutMetrics]:
    """Returns RLlib's record of each episode: its steps, its raw team return (not standardised), whether it was won."""
    returns, wins = episodes.team_reward.sum(axis=1, dtype=np.float64), episodes.wins()
    told = [{}] * len(episodes) if wins is None else [{WON: float(won)} for won in wins]
    return [
        RolloutMetrics(episode_length=int(length), episode_reward=float(team_return), custom_metrics=custom)
        for length, team_return, custom in zip(episodes.lengths, returns, told, strict=True)
    ]


def put_win_rate(results: dict[str, Any]) -> None:
    """Puts `win_rate` into what RLlib makes of some episodes' records, where these know of winning."""
    custom = results.get("custom_metrics", {})
    won = custom.get(WON, custom.get(f"{WON}_mean"))  # RLlib may have been told to keep all episodes' own
    if won is not None:
        results["win_rate"] = float(np.mean(won))
        for name in (f"{WON}_mean", f"{WON}_min", f"{WON}_max"):
            custom.pop(name, None)
