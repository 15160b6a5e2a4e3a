"""QMIX as an RLlib algorithm: sample whole episodes, replay them, update, follow with the target network."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_AGENT_STEPS_TRAINED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_TRAINED,
    SAMPLE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
)
from ray.tune import Checkpoint
from ray.tune.result import TRIAL_INFO
from torch import Tensor

from k24_rllib.checks import ConfigError, check_number
from k24_rllib.envs import TeamEnv, team_env_factory, team_env_names
from k24_rllib.monitoring import Exporter, Figure
from k24_rllib.qmix.buffer import EpisodeReplayBuffer, ReplaySample
from k24_rllib.qmix.checkpoint_files import announce_manifest, sound_checkpoint, written_whole
from k24_rllib.qmix.config import QMixConfig
from k24_rllib.qmix.diverged import stop_diverged
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.figures import QMIX_FIGURES
from k24_rllib.qmix.finite import check_episodes
from k24_rllib.qmix.first_round import FirstRound, tell
from k24_rllib.qmix.manifest import write_manifest
from k24_rllib.qmix.notices import say
from k24_rllib.qmix.opponents import play_against
from k24_rllib.qmix.policy import QMixTorchPolicy
from k24_rllib.qmix.prioritized import PrioritizedEpisodeReplayBuffer
from k24_rllib.qmix.process import keep_freed_memory, set_matmul_precision
from k24_rllib.qmix.registry import ALGORITHMS
from k24_rllib.qmix.resume import (
    BUFFER_KEY,
    FORMAT,
    FORMAT_KEY,
    check_format,
    history_from,
    keeps_buffer,
    packed_buffer,
    plain_history,
    plain_metrics,
    unpacked_buffer,
)
from k24_rllib.qmix.rollout import (
    MAX_EVALUATION_COPIES,
    TeamBaseEnv,
    collect_episodes,
    put_win_rate,
    register_rllib_env,
)
from k24_rllib.qmix.rounds import LONGEST_RESTART_S, Rounds
from k24_rllib.qmix.self_play import OTHER_SIDE, SelfPlay, plays_itself
from k24_rllib.qmix.sharing import share_again
from k24_rllib.qmix.streams import (
    Streams,
    draw_from,
    drawing_from,
    env_seed,
    global_state,
    set_global_state,
    undisturbed,
)
from k24_rllib.qmix.weights import WEIGHTS_FILE, config_of, load_network, read_weights, save_weights
from k24_rllib.qmix.workers import Failures, RemoteWorkers, play_here

NUM_EPISODES_SAMPLED = "num_episodes_sampled"
NUM_UPDATES = "num_updates"
NUM_RESTARTS = "num_worker_restarts"
LAST_TARGET_UPDATE = "last_target_update_episode"
UPDATES_OWED = "updates_owed"
LEARN_TIMER = "learn"
NO_SCORE = "so it gets no score"


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

    def __repr__(self) -> str:
        """Returns the algorithm's name, and RLlib's own words once there is a configuration.

        RLlib's fail without one; Ray asks for them while it reports an error of the constructor, and then loses it.
        """
        return super().__repr__() if isinstance(self.config, QMixConfig) else type(self).__name__

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
        self._evaluations = 0
        self._last_update: dict[str, Any] = {}
        self._opponents_share: float | None = None
        self._self_play: SelfPlay | None = None
        self._exporter: Exporter | None = None
        super().setup(config)
        self._failures = Failures(self.config, self._say_restarted)
        self._workers = RemoteWorkers(self.env_runner_group, self.config, self._failures)
        streams = Streams.of(self.config.seed)
        patience_s = LONGEST_RESTART_S if self.config.restart_failed_env_runners else 0.0
        self._rounds = Rounds(self._workers, streams, self._restore_workers, patience_s)
        if self._trial is not None:  # a process of Tune's, which may be ended
            self.env_runner.watch.last_resort = self._end_of_a_hang
        if plays_itself(self.config):
            self._self_play = SelfPlay(self)
        draw_from(streams.learner(), self.policy.device)  # however many networks were made here before
        torch.set_num_threads(self.config.torch_num_threads)
        set_matmul_precision(self.config.matmul_precision, self.policy.device)
        keep_freed_memory()

    def _create_local_replay_buffer_if_necessary(self, config: QMixConfig) -> EpisodeReplayBuffer:
        stream = Streams.of(config.seed).replay()
        if config.replay == "uniform":
            return EpisodeReplayBuffer(config.buffer_episodes, stream)
        return PrioritizedEpisodeReplayBuffer(
            config.buffer_episodes,
            stream,
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
        """Plays a round and learns from it (`play_and_learn`); with `opponents: self` each side does."""
        return self.play_and_learn() if self._self_play is None else self._self_play.step()

    def play_and_learn(self) -> dict[str, Any]:
        """One round of QMIX.

        1. Every rollout worker plays one episode in each of its copies.
        2. The episodes go into the replay buffer, their rewards into the running statistics.
        3. The learner makes `updates_per_episode` updates per episode, each from a fresh batch, and the target
           network follows.

        Remote workers get the weights with each round that they are asked for. With `rollouts_ahead`, they play the
        rounds to come while the learner is at step 3.

        Returns:
            Metrics of the last update, by policy, as they are on the learner's device; empty before learning starts.
        """
        with self._timers[SAMPLE_TIMER]:
            batches = self._sample()
        if not batches:  # every worker failed; RLlib restarts them and asks again
            return {}
        for batch in batches:
            check_episodes(batch, self.config.env, self._agent_names())
            self._take_in(batch)
        self._tell_first_round(batches)
        with self._timers[LEARN_TIMER]:
            self._learn(sum(len(batch) for batch in batches))
        self.env_runner.set_global_vars(self._global_vars())
        return {DEFAULT_POLICY_ID: self._last_update}

    def _run_one_training_iteration_old_api_stack(self) -> tuple[dict[str, Any], Any]:
        """Reads the learner's metrics once an iteration, as RLlib reports no others."""
        results, context = super()._run_one_training_iteration_old_api_stack()
        if results:
            own = {DEFAULT_POLICY_ID: self.learner_metrics(results[DEFAULT_POLICY_ID])}
            if self._self_play is not None:
                own[OTHER_SIDE] = self._self_play.other.learner_metrics(results[OTHER_SIDE])
            results = own
        return results, context

    def _compile_iteration_results_old_api_stack(self, **kwargs: Any) -> dict[str, Any]:
        """Adds the win rate to RLlib's results, where the environment knows of winning."""
        results: dict[str, Any] = super()._compile_iteration_results_old_api_stack(**kwargs)
        put_win_rate(results[ENV_RUNNER_RESULTS])
        return results

    def step(self) -> dict[str, Any]:
        """Has RLlib make an iteration, and adds what it does not know of: opponents and their share of the time."""
        result: dict[str, Any] = super().step()
        if self._opponents_share is not None:
            result["timers"]["opponents_share"] = self._opponents_share
        if self._self_play is not None:
            result["self_play"] = self._self_play.results()
        return result

    def _global_vars(self) -> dict[str, Any]:
        return {"timestep": self._counters[NUM_ENV_STEPS_SAMPLED]}

    def _sample(self) -> list[EpisodeBatch]:
        """Returns the episodes of the next round, in the order of the workers."""
        if self.env_runner_group.num_remote_workers() == 0:
            return play_here(self.env_runner, self._rounds.streams, self._rounds.count(), self._failures)
        # A round is asked for with the weights of now, before the learner uses the round that is taken up here. So the
        # round taken up was played with weights `ahead` rounds old, always, and runs repeat whatever the timing.
        while len(self._rounds) <= self.config.rollouts_ahead:
            with self._timers[SYNCH_WORKER_WEIGHTS_TIMER]:
                self._rounds.ask(self.env_runner.get_weights(), self._global_vars())
        return self._rounds.take()

    def _restore_workers(self) -> None:
        """Brings dead rollout workers back, as RLlib does before each round, where a round needs them sooner."""
        restored = self.restore_env_runners(self.env_runner_group)
        if restored:
            self._make_on_env_runners_recreated_callbacks(
                config=self.config,
                env_runner_group=self.env_runner_group,
                restored_env_runner_indices=restored,
            )

    def restore_env_runners(self, env_runner_group: EnvRunnerGroup) -> list[int]:
        """Gives workers that Ray has started anew their state, and says so."""
        restored: list[int] = super().restore_env_runners(env_runner_group)
        if env_runner_group is self.env_runner_group:
            for worker in restored:
                self._failures.restarted(worker)
            self._workers.check_alive()
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
        self._opponents_share = batch.opponents_share
        self.env_runner.record(batch)

    def _agent_names(self) -> tuple[str, ...]:
        """Returns the agents' names where the learner's process has an environment, for messages."""
        env: TeamEnv | None = self.env_runner.team_env
        return () if env is None else env.agent_names

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
        sample: ReplaySample | None = None
        while self._counters[UPDATES_OWED] >= 1:
            self._counters[UPDATES_OWED] -= 1
            sample = buffer.sample(config.train_batch_size)
            self._update(sample)
        if sample is not None:
            self.policy.guard.read()  # a device is waited for here anyway: the weights are read next
            self._stop_if_diverged(sample)
        self._follow_hard()

    def _update(self, sample: ReplaySample) -> None:
        """Makes an update, and what follows from one that was made."""
        tau = self.config.target_update_tau
        self._last_update = self.policy.learn_on_batch(sample.episodes, importance=sample.weights)
        self._counters[NUM_UPDATES] += 1
        self._counters[NUM_ENV_STEPS_TRAINED] += sample.episodes.env_steps()
        self._counters[NUM_AGENT_STEPS_TRAINED] += sample.episodes.agent_steps()
        if self.policy.update_made is False:
            self._stop_if_diverged(sample)
            return
        if sample.weights is not None:
            self._feed_back(sample, sample.weights)
        if tau is not None:
            self.policy.update_target(tau)

    def _stop_if_diverged(self, sample: ReplaySample) -> None:
        """Stops the run where too many updates in a row were skipped; `sample` is that of the last one."""
        if self.policy.guard.in_a_row >= self.config.max_skipped_updates:
            stop_diverged(self, sample)

    def _feed_back(self, sample: ReplaySample, weights: NDArray[np.float32]) -> None:
        """Gives the prioritised replay the TD errors of the update just made; waits for the learner's device."""
        buffer: PrioritizedEpisodeReplayBuffer = self.local_replay_buffer
        priorities = self.policy.last_priorities().cpu().numpy()
        if np.isfinite(priorities).all():  # otherwise the device has skipped the update
            buffer.update_priorities(sample.indices, priorities)
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
        metrics["updates_skipped"] = self.policy.guard.get_state()["skipped"]
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

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Evaluates as `evaluation_config` says, also where no evaluations are planned; returns RLlib's results.

        Raises:
            ConfigError: if there can be no score: weights or values that are no finite numbers, or the environment's.
        """
        self.policy.check_finite(NO_SCORE)
        if self.eval_env_runner_group is None and not self.config.custom_evaluation_function:
            self._make_evaluation_workers()
        results: dict[str, Any] = super().evaluate(*args, **kwargs)
        played = results.get(ENV_RUNNER_RESULTS, {})
        put_win_rate(played)
        if self.eval_env_runner_group is not None and np.isnan(played.get("episode_return_mean", 0.0)):
            said = self.eval_env_runner_group.foreach_env_runner(lambda worker: worker.complaint)
            for complaint in filter(None, said):
                raise ConfigError(complaint)
        return results

    def make_env(self, num_envs: int) -> TeamEnv:
        """Returns `num_envs` fresh copies of the environment this algorithm trains on."""
        adapter: TeamBaseEnv = self.env_creator(self.config.env_config)
        return adapter.make(num_envs)

    def _make_evaluation_workers(self) -> None:
        """Makes the workers that RLlib makes at the start if evaluations are planned; training does not notice."""
        with undisturbed(self.policy.device):
            self.eval_env_runner_group = EnvRunnerGroup(
                env_creator=self.env_creator,
                default_policy_class=self.get_default_policy_class(self.config),
                config=self.evaluation_config,
                logdir=self.logdir,
                tune_trial_id=self.trial_id,
            )

    def _before_evaluate(self) -> None:
        """Tells the evaluation's workers which one it is, so that each has episodes of its own."""
        streams, number = self._rounds.streams, self._evaluations
        self._evaluations += 1
        if self.eval_env_runner_group is not None:
            self.eval_env_runner_group.foreach_env_runner(lambda worker: worker.begin_evaluation(streams, number))

    def evaluate_greedy(self, num_episodes: int = 100, seed: int | None = None) -> dict[str, Any]:
        """Plays greedy episodes (no random actions, most likely masks) with the learner's current weights.

        Args:
            num_episodes: Episodes to play.
            seed: Seed of the environments; the same seed gives the same episodes. None draws one from the config's,
                which training does not use.

        Returns:
            `episode_returns [num_episodes]`, raw team returns, `episode_lengths [num_episodes]` and, where the
            environment says which episodes were won, `won [num_episodes]`.

        Raises:
            ConfigError: if there can be no score: weights or values that are no finite numbers, or the environment's.
        """
        check_number("num_episodes", num_episodes, low=1, integer=True)
        self.policy.check_finite(NO_SCORE)
        env = self.make_env(min(num_episodes, MAX_EVALUATION_COPIES))
        stream = self._rounds.streams.greedy()
        next_seed: int | None = env_seed(stream) if seed is None else seed
        played: list[EpisodeBatch] = []
        try:
            with drawing_from(stream, self.policy.device):
                while sum(map(len, played)) < num_episodes:
                    model, name = self.policy.model, self.config.env
                    played.append(collect_episodes(env, model, epsilon=0.0, explore=False, seed=next_seed, name=name))
                    next_seed = None
        finally:
            env.close()
        returns: NDArray[np.float64] = np.concatenate([b.team_reward.sum(1, dtype=np.float64) for b in played])
        lengths = np.concatenate([b.lengths for b in played])
        wins = [won for b in played if (won := b.wins()) is not None]
        told = {"won": np.concatenate(wins)[:num_episodes]} if wins else {}
        return {"episode_returns": returns[:num_episodes], "episode_lengths": lengths[:num_episodes], **told}

    # --- checkpoints

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Writes a checkpoint, whole or not at all, with a manifest of its files: see `qmix.manifest`.

        Raises:
            ConfigError: if a weight is no finite number: such a network is not saved.
        """
        self.policy.check_finite("so it is not saved")
        with written_whole(Path(checkpoint_dir)) as draft:
            super().save_checkpoint(str(draft))
            with suppress(ConfigError):  # settings that only a pickle can hold
                self.save_weights(draft / WEIGHTS_FILE)
                if self._self_play is not None:
                    self._self_play.write(draft)
            announce_manifest(draft)
            write_manifest(draft, algorithm=type(self).__name__)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Takes over a checkpoint, or the sound one before it where it is damaged: see `qmix.checkpoint_files`."""
        super().load_checkpoint(str(sound_checkpoint(Path(checkpoint_dir))))

    @classmethod
    def from_checkpoint(cls, path: Any, filesystem: Any = None, **kwargs: Any) -> Any:
        """Returns the algorithm of a checkpoint: a directory, a URI or Tune's `Checkpoint`; see `load_checkpoint`."""
        if filesystem is None and isinstance(path, str | Path) and "://" not in str(path):
            path = Path(path).expanduser().absolute()
        given = path if hasattr(path, "as_directory") else Checkpoint(path, filesystem)
        with given.as_directory() as directory:
            return super().from_checkpoint(str(sound_checkpoint(Path(directory))), **kwargs)

    def save_weights(self, path: str | Path) -> None:
        """Writes the network's weights alone into a `.safetensors` file; every checkpoint holds one.

        Raises:
            ConfigError: for settings that plain JSON can't hold.
        """
        save_weights(self.policy.model, self.config, path)

    def load_weights(self, path: str | Path) -> None:
        """Takes over the weights of a `.safetensors` file, in both networks and in every worker; runs no code of it.

        What else the algorithm remembers stays: the optimizer, the counters, the replay buffer.

        Raises:
            ConfigError: for a damaged file, or one of another network.
        """
        load_network(str(path), read_weights(path).tensors, self.policy.model)
        self.policy.update_target()
        self.env_runner_group.sync_weights(global_vars=self._global_vars())

    @classmethod
    def from_weights(cls, path: str | Path) -> QMix:
        """Returns an algorithm with the network and the weights of a `.safetensors` file, to act or to train on.

        Everything but the network is as by default, with no workers; it needs a Ray that runs, as every algorithm does.
        """
        weights = read_weights(path)
        config = config_of(weights)
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        config.evaluation(evaluation_interval=None)
        if plays_itself(config):
            play_against("scripted", config)
        algorithm: QMix = config.build_algo()
        algorithm.load_weights(path)
        return algorithm

    def save_to_path(self, path: str | Path | None = None, **kwargs: Any) -> str:
        """Saves a checkpoint, under the name that RLlib's newer algorithms use.

        Args:
            path: Directory to write into, made if it is missing; a new temporary one if None.
            **kwargs: RLlib's further arguments for its new API stack, which do not apply here.

        Returns:
            The directory, from which `from_checkpoint` and `restore_from_path` restore.
        """
        directory = Path(path) if path is not None else Path(tempfile.mkdtemp(prefix=f"{type(self).__name__}_"))
        self.save_checkpoint(str(directory))
        return str(directory)

    def restore_from_path(self, path: str | Path, *args: Any, **kwargs: Any) -> None:
        """Takes over the state of a checkpoint that `save_to_path` or `save` wrote."""
        self.load_checkpoint(str(path))

    def __getstate__(self) -> dict[str, Any]:
        """Returns RLlib's state and what it lacks for going on bit for bit: streams, rounds in flight, the buffer."""
        state: dict[str, Any] = super().__getstate__()
        buffer = self.local_replay_buffer
        if keeps_buffer(self.config.store_buffer_in_checkpoints, buffer):
            state[BUFFER_KEY] = packed_buffer(state.get(BUFFER_KEY) or buffer.get_state())
        return {
            **state,
            FORMAT_KEY: FORMAT,
            "rounds": self._rounds.get_state(),
            "streams": {
                "seed": self.config.seed,
                "trial": self._trial_id(),
                "entropy": self._rounds.streams.entropy,
                "evaluations": self._evaluations,
                "global": global_state(self.policy.device),
            },
            "last_update": plain_metrics(self._last_update),
            "episode_history": plain_history(self._episode_history),
            "self_play": None if self._self_play is None else self._self_play.get_state(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes over what `__getstate__` returned, of this version or an older one.

        Settings stay those of this algorithm. So do its streams where its seed is another, or where neither has one and
        they belong to different trials, as a population's clone and its donor.

        Raises:
            ConfigError: for the state of a newer version.
        """
        check_format(state)
        self._rounds.drop()
        self.env_runner.get_metrics()  # of episodes that this algorithm has played before
        own_draws = self.local_replay_buffer.draws
        super().__setstate__(self._without_packing(state))
        if state.get(FORMAT_KEY, 0) == 0:
            return
        if self._self_play is not None and state.get("self_play") is not None:
            self._self_play.set_state(state["self_play"])  # first: the global streams are set below, for both
        self._last_update = dict(state["last_update"])
        self._episode_history = history_from(state["episode_history"])
        streams = state["streams"]
        if self._is_own(streams):
            self._rounds.streams = Streams(streams["entropy"])
            self._evaluations = streams["evaluations"]
            set_global_state(streams["global"], self.policy.device)
        else:
            self.local_replay_buffer.draws = own_draws
        self._rounds.set_state(state["rounds"])

    def _without_packing(self, state: dict[str, Any]) -> dict[str, Any]:
        """Returns a state as RLlib takes it; a replay buffer that RLlib would not take is taken over here."""
        packed, setting = state.get(BUFFER_KEY), self.config.store_buffer_in_checkpoints
        if packed is None or setting is False:
            return state
        buffer = unpacked_buffer(packed)
        if setting:
            return {**state, BUFFER_KEY: buffer}
        self.local_replay_buffer.set_state(buffer)
        return {key: value for key, value in state.items() if key != BUFFER_KEY}

    def _is_own(self, streams: dict[str, Any]) -> bool:
        """Returns whether a checkpoint's streams are those of this run."""
        seed = self.config.seed
        return bool(streams["seed"] == seed and (seed is not None or streams["trial"] == self._trial_id()))

    def _trial_id(self) -> str | None:
        """Returns the name by which Tune knows the trial, or None outside of Tune."""
        trial = self._trial_info or self._trial  # the former after Tune has given this actor another trial
        return None if trial is None else str(trial.trial_id)

    def cleanup(self) -> None:
        """Ends what the algorithm has started."""
        if self._self_play is not None:
            self._self_play.stop()
        super().cleanup()

    def _sync_filters_if_needed(self, **kwargs: Any) -> None:
        """Does nothing: QMIX uses no observation filters, and asking remote workers for theirs takes time."""


ALGORITHMS.register("QMix", QMix)
