"""What is asked of the remote rollout workers, and what is done where one fails: said in a line, restarted, given up.

A worker fails where its environment raises or gives what has no use (it says so itself), where it doesn't answer in
time, and where its process dies. Ray starts it anew, RLlib gives it its state, and it plays the round again (`rounds`).
After too many failures in a row the trial ends.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, OutOfMemoryError, RayActorError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from k24_rllib.envs.faults import EnvironmentFault, told
from k24_rllib.qmix.config import QMixConfig
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.rollout import QMixRolloutWorker, RoundFault
from k24_rllib.qmix.streams import Streams
from k24_rllib.qmix.watch import GRACE_S

STARTED_S = 30.0
"""Seconds beside those of its round in which a worker must answer: it may have just been started."""
STARTING_S = 300.0
"""The same while it is being started, which takes imports, compilers and simulators their time on a busy machine."""
FORGIVING_ROUNDS = 10
"""Rounds played that make up for a failure."""
_END_S = 10.0


class RoundsFailedError(RuntimeError):
    """A worker failed too often in a row; the message says how it did the last time."""


class WorkerTraceback(Exception):  # noqa: N818
    """The traceback of a worker's process, as a cause in this one."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Failures:
    """Counts failures by worker, says each, and ends the trial at one too many.

    A round that is played makes up for a tenth of a failure: what fails now and then is borne with forever, what fails
    every few rounds ends, though it never failed twice in a row.

    Args:
        config: How many there may be.
        say: Says a line to the user, one for each restart.
    """

    def __init__(self, config: QMixConfig, say: Callable[[str], None]) -> None:
        self._allowed = config.max_round_retries if config.restart_failed_env_runners else 0
        self._say = say
        self._open: dict[int, int] = {}  # rounds that have to be played to make up for failures, by worker
        self._why: dict[int, str] = {}

    def failed(self, worker: int, why: str, traceback: str = "") -> None:
        """Takes note of a failure.

        Raises:
            RoundsFailedError: where there were too many.
        """
        self._open[worker] = self._open.get(worker, 0) + FORGIVING_ROUNDS
        if self._open[worker] > self._allowed * FORGIVING_ROUNDS:
            who = why if why.startswith("environment") else f"worker {worker} {why}"
            after = f"; given up (max_round_retries: {self._allowed})" if self._allowed else ""
            raise RoundsFailedError(f"{who}{after}") from (WorkerTraceback(traceback) if traceback else None)
        self._why[worker] = why
        if worker == 0:
            self.restarted(worker)

    def played(self, worker: int) -> None:
        """Takes note of a round that a worker has played."""
        if worker in self._open:
            self._open[worker] = max(self._open[worker] - 1, 0)

    def why(self, worker: int) -> str:
        """Returns why a worker is gone that has not been started again."""
        return self._why.get(worker, "it was gone")

    def restarted(self, worker: int) -> None:
        """Says that a worker is there again."""
        who = f"worker {worker} restarted" if worker else "environments made anew"
        self._say(f"{who} ({self.why(worker)})")
        self._why.pop(worker, None)


class RemoteWorkers:
    """The remote rollout workers of a group, and what is still expected of each."""

    def __init__(self, group: EnvRunnerGroup, config: QMixConfig, failures: Failures) -> None:
        self._group = group
        self._config = config
        self._failures = failures
        self._asked: dict[str, list[int]] = {}
        self._gone_since: dict[int, float] = {}

    def __iter__(self) -> Iterator[int]:
        """Yields the indices of all, dead ones among them."""
        return iter(range(1, self._group.num_remote_workers() + 1))

    def healthy(self) -> list[int]:
        """Returns the indices of those that live, as far as is known."""
        healthy: list[int] = self._group.healthy_env_runner_ids()
        return healthy

    def ask(self, tag: str, kwargs: Mapping[str, Any], workers: Iterable[int]) -> None:
        """Has those of the workers that are there play a round; `kwargs` are those of `QMixRolloutWorker.attempt`."""
        there = sorted(set(workers) & set(self.healthy()))
        self._asked[tag] = there
        if there:
            self._group.foreach_env_runner_async("attempt", tag=tag, kwargs=dict(kwargs), remote_worker_ids=there)

    def fetch(self, tag: str) -> dict[int, EpisodeBatch]:
        """Waits for what was asked under a tag, and returns the episodes by worker; none of those that failed.

        Raises:
            RoundsFailedError: where a worker has failed too often in a row.
        """
        limit = self._config.sample_timeout_s
        timeout = None if limit is None else limit + GRACE_S + STARTED_S
        manager = self._group._worker_manager  # the group's own method drops errors, after logging them at length
        results = {
            result.actor_id: result for result in manager.fetch_ready_async_reqs(tags=tag, timeout_seconds=timeout)
        }
        played: dict[int, EpisodeBatch] = {}
        for worker in sorted(self._asked.pop(tag)):
            if worker not in results:
                self._end(worker)
                self._failures.failed(worker, self._overdue(worker, timeout))
            elif not results[worker].ok:
                self._forget(worker)
                self._failures.failed(worker, how_it_died(results[worker].get()))
            elif isinstance(reply := results[worker].get(), RoundFault):
                self._end(worker)
                self._failures.failed(worker, reply.line, reply.traceback)
            else:
                self._failures.played(worker)
                played[worker] = reply
        return played

    def drop(self, tags: Sequence[str]) -> None:
        """Waits for what was asked under these tags, and forgets it."""
        for tag in tags:
            self._asked.pop(tag, None)
        if tags:
            self._group.fetch_ready_async_reqs(tags=list(tags), timeout_seconds=None)

    def check_alive(self) -> None:
        """Checks that those which are gone can come back.

        Raises:
            RoundsFailedError: naming one that Ray will not start again, as it failed while it was made, or that takes
                longer than a round may.
        """
        manager, now = self._group._worker_manager, time.monotonic()
        for worker in manager.actor_ids():
            if manager.is_actor_healthy(worker):
                self._gone_since.pop(worker, None)
                continue
            limit = (self._config.sample_timeout_s or math.inf) + STARTING_S
            why = self._failures.why(worker)
            if now - self._gone_since.setdefault(worker, now) > limit:
                raise RoundsFailedError(f"worker {worker} has not been started again within {limit:g} s ({why})")
            try:
                ray.get(manager.actors()[worker].ping.remote(), timeout=0.1)
            except (ActorUnavailableError, GetTimeoutError):
                continue
            except RayActorError as error:
                raise RoundsFailedError(
                    f"worker {worker} could not be started again: {_cause(error)} ({why})"
                ) from error

    def _end(self, worker: int) -> None:
        """Ends a worker's process; Ray starts another in its place."""
        manager = self._group._worker_manager
        manager.set_actor_state(worker, healthy=False)
        self._forget(worker)
        actor, began = manager.actors()[worker], time.monotonic()
        ray.kill(actor, no_restart=False)
        with contextlib.suppress(RayActorError, GetTimeoutError):
            while time.monotonic() - began < _END_S:  # the old process may answer RLlib's ping as the new one
                ray.get(actor.ping.remote(), timeout=0.5)
                time.sleep(0.05)

    def _forget(self, worker: int) -> None:
        """Expects nothing more of the rounds that were asked of a worker that is gone."""
        self._asked = {tag: [other for other in asked if other != worker] for tag, asked in self._asked.items()}

    def _overdue(self, worker: int, timeout: float | None) -> str:
        return (
            f"environment {self._config.env!r} (worker {worker}): no answer within {timeout:g} s, nor where it hangs "
            f"(sample_timeout_s: {self._config.sample_timeout_s:g})"
        )


def play_here(worker: QMixRolloutWorker, streams: Streams, number: int, failures: Failures) -> list[EpisodeBatch]:
    """Returns the round of this number, played in this process; where it fails it is played again in new environments.

    Raises:
        RoundsFailedError: where it has failed too often in a row.
    """
    while True:
        try:
            episodes = worker.sample_round(streams, number)
        except EnvironmentFault as fault:
            try:
                failures.failed(0, str(fault))
            except RoundsFailedError as last:
                raise last from fault
            worker.renew()
            continue
        failures.played(0)
        return [episodes]


def how_it_died(error: BaseException) -> str:
    """Returns why a worker's process is gone, as far as Ray tells."""
    if isinstance(error, OutOfMemoryError):
        return "died: Ray ended it as memory ran out"
    is_gone = isinstance(error, RayActorError)  # of a process that it didn't end itself Ray can't tell more
    return "died: killed, or crashed" if is_gone else f"died: {told(error)}"


def _cause(error: RayActorError) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
