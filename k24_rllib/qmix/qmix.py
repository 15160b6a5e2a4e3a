"""QMIX as an RLlib algorithm: sample whole episodes, replay them, update, follow with the target network."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID
from ray.rllib.utils.metrics import (
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_TRAINED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_TRAINED,
    SAMPLE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
)
from ray.tune.result import TRIAL_INFO
from torch import Tensor

from k24_rllib.checks import check_number
from k24_rllib.envs import TeamEnv, team_env_factory, team_env_names
from k24_rllib.monitoring import Exporter, Figure
from k24_rllib.qmix.buffer import EpisodeReplayBuffer, ReplaySample
from k24_rllib.qmix.config import QMixConfig
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.figures import QMIX_FIGURES
from k24_rllib.qmix.first_round import FirstRound, tell
from k24_rllib.qmix.notices import say
from k24_rllib.qmix.policy import QMixTorchPolicy
from k24_rllib.qmix.prioritized import PrioritizedEpisodeReplayBuffer
from k24_rllib.qmix.process import keep_freed_memory, set_matmul_precision
from k24_rllib.qmix.registry import ALGORITHMS
from k24_rllib.qmix.rollout import MAX_EVALUATION_COPIES, TeamBaseEnv, collect_episodes, register_rllib_env
from k24_rllib.qmix.sharing import share_again
from k24_rllib.qmix.workers import Failures, RemoteRounds, play_here

NUM_EPISODES_SAMPLED = "num_episodes_sampled"
NUM_UPDATES = "num_updates"
NUM_RESTARTS = "num_worker_restarts"
LAST_TARGET_UPDATE = "last_target_update_episode"
UPDATES_OWED = "updates_owed"
LEARN_TIMER = "learn"


class QMix(Algorithm):
    """QMIX (arXiv 1803.11485) with double Q-learning over whole episodes; also VDN and independent learners.

    `train()` gives, beside RLlib's own results, `info/learner/default_policy/<metric>`: the update's loss and its
    parts, and `env_runners/episode_return_mean`, the raw team return summed over an episode.
    """

    config: QMixConfig
    config_class: type[QMixConfig] = QMixConfig
    """What configures the algorithm; a subclass names its own."""
    policy_class: type[QMixTorchPolicy] = QMixTorchPolicy
    """What learns; a subclass names its own."""
    figures: tuple[Figure, ...] = QMIX_FIGURES
    """What stands in Ray's metrics, set once an iteration; a subclass adds its own."""

    def __init__(self, config: Any = None, *args: Any, **kwargs: Any) -> None:
        if isinstance(config, dict):
            self.get_default_config().check_keys({key: its for key, its in config.items() if not key.startswith("_")})
        # Ray forgets what was registered at import once it was shut down, as between two runs in a notebook.
        env = config.get("env") if config is not None else None
        if env in team_env_names():
            register_rllib_env(env, team_env_factory(env))
        share_again()
        # What Tune tells of the trial; RLlib drops it when it makes a configuration of the dict.
        self._trial = config.get(TRIAL_INFO) if isinstance(config, dict) else None
        self._tune_trial: str | None = None if self._trial is None else self._trial.trial_id  # until it has told
        super().__init__(config, *args, **kwargs)

    @classmethod
    def get_default_config(cls) -> QMixConfig:
        """Returns the configuration with every default."""
        return cls.config_class(algo_class=cls)

    @classmethod
    def get_default_policy_class(cls, config: QMixConfig) -> type[QMixTorchPolicy]:
        """Returns the policy class."""
        return cls.policy_class

    def setup(self, config: Any) -> None:
        """Builds workers and the replay buffer."""
        self._rounds_ahead: deque[str] = deque()
        self._rounds_asked = 0
        self._last_update: dict[str, Any] = {}
        self._exporter: Exporter | None = None
        super().setup(config)
        self._failures = Failures(self.config, self._say_restarted)
        self._remote_rounds = RemoteRounds(self.env_runner_group, self.config, self._failures)
        if self._trial is not None:  # a process of Tune's, which may be ended
            self.env_runner.watch.last_resort = self._end_of_a_hang
        torch.set_num_threads(self.config.torch_num_threads)
        set_matmul_precision(self.config.matmul_precision, self.policy.device)
        keep_freed_memory()

    def _create_local_replay_buffer_if_necessary(self, config: QMixConfig) -> EpisodeReplayBuffer:
        if config.replay == "uniform":
            return EpisodeReplayBuffer(config.buffer_episodes, config.seed)
        return PrioritizedEpisodeReplayBuffer(
            config.buffer_episodes,
            config.seed,
            alpha=config.replay_alpha,
            beta_initial=config.replay_beta_initial,
            beta_final=config.replay_beta_final,
            beta_timesteps=config.replay_beta_timesteps,
            epsilon=config.replay_epsilon,
        )

    @property
    def policy(self) -> QMixTorchPolicy:
        """The learner's policy: both networks, the optimizer, the reward statistics."""
        policy: QMixTorchPolicy = self.get_policy(DEFAULT_POLICY_ID)
        return policy

    # --- training

    def training_step(self) -> dict[str, Any]:
        """One round of QMIX.

        1. Every rollout worker plays one episode in each of its copies.
        2. The episodes go into the replay buffer, their rewards into the running statistics.
        3. The learner makes `updates_per_episode` updates per episode, each from a fresh batch, and the target
           network follows.
        4. The rollout workers get the new weights.

        With `rollouts_ahead`, remote workers play the rounds to come while the learner is at step 3.

        Returns:
            Metrics of the last update, by policy, as they are on the learner's device; empty before learning starts.
        """
        with self._timers[SAMPLE_TIMER]:
            batches = self._sample()
        if not batches:  # every worker failed; RLlib restarts them and asks again
            return {}
        for batch in batches:
            self._take_in(batch)
        self._tell_first_round(batches)
        with self._timers[LEARN_TIMER]:
            self._learn(sum(len(batch) for batch in batches))
        global_vars = self._global_vars()
        with self._timers[SYNCH_WORKER_WEIGHTS_TIMER]:
            if self.env_runner_group.num_remote_workers() > 0 and not self.config.rollouts_ahead:
                self.env_runner_group.sync_weights(global_vars=global_vars)
        self.env_runner.set_global_vars(global_vars)
        return {DEFAULT_POLICY_ID: self._last_update}

    def _run_one_training_iteration_old_api_stack(self) -> tuple[dict[str, Any], Any]:
        """Reads the learner's metrics once an iteration, as RLlib reports no others."""
        results, context = super()._run_one_training_iteration_old_api_stack()
        if results:
            results = {DEFAULT_POLICY_ID: self.learner_metrics(results[DEFAULT_POLICY_ID])}
        return results, context

    def _global_vars(self) -> dict[str, Any]:
        return {"timestep": self._counters[NUM_ENV_STEPS_SAMPLED]}

    def _sample(self) -> list[EpisodeBatch]:
        """Returns the episodes of the next round, in the order of the workers."""
        ahead = self.config.rollouts_ahead
        if self.env_runner_group.num_remote_workers() == 0:
            return play_here(self.env_runner, self._failures)
        if not ahead:
            return self._remote_rounds.play("round")
        # A round is asked for with the weights of now, before the learner uses the round that is taken up here. So the
        # round taken up was played with weights `ahead` rounds old, always, and runs repeat whatever the timing.
        while len(self._rounds_ahead) <= ahead:
            self._ask_for_round()
        return self._remote_rounds.take(self._rounds_ahead.popleft())

    def _ask_for_round(self) -> None:
        """Sends the weights to every remote worker and has it play a round with them."""
        self._rounds_asked += 1
        tag = f"round {self._rounds_asked}"
        weights = ray.put(self.env_runner.get_weights())
        kwargs = {"weights": weights, "global_vars": self._global_vars()}
        self._remote_rounds.ask(tag, kwargs)
        self._rounds_ahead.append(tag)

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Gives workers that Ray has started anew their state, and says so."""
        restored: list[int] = super().restore_env_runners(env_runner_group)
        if env_runner_group is self.env_runner_group:
            for worker in restored:
                self._failures.restarted(worker)
            self._remote_rounds.check_alive()
        return restored

    def _say_restarted(self, text: str) -> None:
        """Counts a restart and says it."""
        self._counters[NUM_RESTARTS] += 1
        self._say(text)

    def _say(self, text: str) -> None:
        """Says a line about this trial while it runs."""
        trial = self._trial_info or self._trial
        say(text, None if trial is None else trial.trial_id)

    def _end_of_a_hang(self, stack: str) -> None:
        """Ends this process, whose environment hangs and can't be interrupted; called by the thread that watches."""
        file = Path(self.logdir) / "hang.txt"
        file.write_text(stack)
        self._say(f"environment {self.config.env!r} (in the learner's process): hangs beyond interruption, see {file}")
        os._exit(1)

    def _take_in(self, batch: EpisodeBatch) -> None:
        """Adds sampled episodes to the buffer, the reward statistics, the counters and the results."""
        self.local_replay_buffer.add(batch)
        self.policy.reward_moments.update(batch.team_reward[batch.valid()])
        self._counters[NUM_ENV_STEPS_SAMPLED] += batch.env_steps()
        self._counters[NUM_AGENT_STEPS_SAMPLED] += batch.agent_steps()
        self._counters[NUM_EPISODES_SAMPLED] += len(batch)
        self.env_runner.record(batch)

    def _tell_first_round(self, batches: list[EpisodeBatch]) -> None:
        """Lets a run through Tune show that episodes are being played; its first iteration may take minutes."""
        if self._tune_trial is None:
            return
        returns = np.concatenate([batch.team_reward.sum(axis=1, dtype=np.float64) for batch in batches])
        tell(self._tune_trial, FirstRound(self._counters[NUM_ENV_STEPS_SAMPLED], float(returns.mean())))
        self._tune_trial = None

    def _learn(self, new_episodes: int) -> None:
        """Makes the updates that `new_episodes` pay for."""
        config, buffer = self.config, self.local_replay_buffer
        if len(buffer) < max(config.train_batch_size, config.learning_starts_episodes):
            return
        self.env_runner.set_global_vars(self._global_vars())
        buffer.anneal(self._counters[NUM_ENV_STEPS_SAMPLED])
        self._counters[UPDATES_OWED] += new_episodes * config.updates_per_episode
        while self._counters[UPDATES_OWED] >= 1:
            self._counters[UPDATES_OWED] -= 1
            sample = buffer.sample(config.train_batch_size)
            self._last_update = self.policy.learn_on_batch(sample.episodes, importance=sample.weights)
            if sample.weights is not None:
                self._feed_back(sample, sample.weights)
            self._counters[NUM_UPDATES] += 1
            self._counters[NUM_ENV_STEPS_TRAINED] += sample.episodes.env_steps()
            self._counters[NUM_AGENT_STEPS_TRAINED] += sample.episodes.agent_steps()
            if config.target_update_tau is not None:
                self.policy.update_target(config.target_update_tau)
        self._follow_hard()

    def _feed_back(self, sample: ReplaySample, weights: NDArray[np.float32]) -> None:
        """Gives the prioritised replay the TD errors of the update just made; waits for the learner's device."""
        buffer: PrioritizedEpisodeReplayBuffer = self.local_replay_buffer
        buffer.update_priorities(sample.indices, self.policy.last_priorities().cpu().numpy())
        self._last_update |= {"replay_beta": buffer.beta, "importance_mean": float(weights.mean())}

    def _follow_hard(self) -> None:
        """Copies the online network into the target network once enough episodes have passed."""
        played = self._counters[NUM_EPISODES_SAMPLED]
        if self.config.target_update_tau is not None:
            return
        if played - self._counters[LAST_TARGET_UPDATE] >= self.config.target_update_episodes:
            self.policy.update_target()
            self._counters[LAST_TARGET_UPDATE] = played

    def learner_metrics(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Returns the last update's metrics as numbers, read from the device in one go."""
        metrics = {**metrics, "epsilon": self.policy.epsilon(), "reward_mean": self.policy.reward_moments.mean}
        metrics["reward_std"] = self.policy.reward_moments.std
        metrics["buffer_fill"] = len(self.local_replay_buffer) / self.config.buffer_episodes
        tensors = {name: value for name, value in metrics.items() if isinstance(value, Tensor)}
        if tensors:
            numbers = torch.stack([value.detach().float() for value in tensors.values()]).tolist()
            metrics.update(zip(tensors, numbers, strict=True))
        return metrics

    # --- monitoring

    def log_result(self, result: dict[str, Any]) -> None:
        """Runs the callbacks of a result and sets the live figures, also those that a callback has put into it."""
        super().log_result(result)
        if not self.config.metrics_export:
            return
        if self._exporter is None:
            env = self.make_env(1)
            self._exporter = Exporter(self.figures, env.score_reference)
            env.close()
        self._exporter.export(result, self.metric_tags())

    def metric_tags(self) -> dict[str, str]:
        """Returns what tells this algorithm's live figures from others': the trial and experiment are Tune's."""
        trial = self._trial_info or self._trial  # the former after Tune has given this actor another trial
        return {
            "trial": trial.trial_name if trial else Path(self.logdir).name,
            "algorithm": type(self).__name__,
            "experiment": trial.experiment_name if trial else "none",
        }

    # --- evaluation

    def make_env(self, num_envs: int) -> TeamEnv:
        """Returns `num_envs` fresh copies of the environment this algorithm trains on."""
        adapter: TeamBaseEnv = self.env_creator(self.config.env_config)
        return adapter.make(num_envs)

    def evaluate_greedy(self, num_episodes: int = 100, seed: int | None = None) -> dict[str, Any]:
        """Plays greedy episodes (no random actions, most likely masks) with the learner's current weights.

        Args:
            num_episodes: Episodes to play.
            seed: Seed of the environments; the same seed gives the same episodes. None uses the config's.

        Returns:
            `episode_returns [num_episodes]`, raw team returns, and `episode_lengths [num_episodes]`.
        """
        check_number("num_episodes", num_episodes, low=1, integer=True)
        env = self.make_env(min(num_episodes, MAX_EVALUATION_COPIES))
        next_seed: int | None = seed if seed is not None else self.config.seed
        played: list[EpisodeBatch] = []
        try:
            while sum(map(len, played)) < num_episodes:
                played.append(collect_episodes(env, self.policy.model, epsilon=0.0, explore=False, seed=next_seed))
                next_seed = None
        finally:
            env.close()
        returns: NDArray[np.float64] = np.concatenate([b.team_reward.sum(1, dtype=np.float64) for b in played])
        lengths = np.concatenate([b.lengths for b in played])
        return {"episode_returns": returns[:num_episodes], "episode_lengths": lengths[:num_episodes]}

    # --- checkpoints

    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        """Saves a checkpoint, under the name that RLlib's newer algorithms use.

        Args:
            path: Directory to write into, made if it is missing; a new temporary one if None.
            **kwargs: RLlib's further arguments for its new API stack, which do not apply here.

        Returns:
            The directory, from which `from_checkpoint` and `restore_from_path` restore.
        """
        directory = Path(path) if path is not None else Path(tempfile.mkdtemp(prefix=f"{type(self).__name__}_"))
        directory.mkdir(parents=True, exist_ok=True)
        self.save_checkpoint(str(directory))
        return str(directory)

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Takes over the state of a checkpoint that `save_to_path` or `save` wrote."""
        self.load_checkpoint(str(path))

    def _sync_filters_if_needed(self, **kwargs: Any) -> None:
        """Does nothing: QMIX uses no observation filters, and asking remote workers for theirs takes time."""


ALGORITHMS.register("QMix", QMix)
