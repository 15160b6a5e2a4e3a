"""Rounds of rollouts that remote workers play: asked for with weights and a number, and taken up in order.

What a worker plays depends on the weights and the number alone (`streams`), so a round that a dead worker took with it
is asked for again, and the run is the one without the death. Rounds in flight when a checkpoint is written are saved as
what was asked, and asked again by the run that goes on from it.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.streams import Streams
from k24_rllib.qmix.workers import RemoteWorkers

MOST_REPEATS = 3
"""How often in a row a round is asked again in vain of workers that did not return it; it then does without theirs."""
LONGEST_RESTART_S = 120.0
"""Seconds that Ray may take to start a dead worker again."""
_LOOK_EVERY_S = 0.2

_tags = itertools.count()


@dataclass(frozen=True, slots=True)
class Round:
    """A round in flight, and all that decides what comes of it."""

    number: int
    weights: Any  # where Ray keeps them
    global_vars: dict[str, Any]
    tag: str  # of the requests, unique in this process


class Rounds:
    """The rounds in flight of the remote rollout workers, and the number of the next one.

    Args:
        workers: Those workers.
        restore: Brings dead workers back, as far as they have been started again.
        patience_s: Seconds that a round waits for that, before it goes on without theirs.

    Attributes:
        streams: What the rounds draw from.
    """

    def __init__(
        self,
        workers: RemoteWorkers,
        streams: Streams,
        restore: Callable[[], None],
        patience_s: float = LONGEST_RESTART_S,
    ) -> None:
        self._workers = workers
        self._restore = restore
        self._patience_s = patience_s
        self.streams = streams
        self._next = 0
        self._in_flight: deque[Round] = deque()
        self._lost: set[int] = set()  # workers that did not come back in time

    def __len__(self) -> int:
        """Returns how many rounds are in flight."""
        return len(self._in_flight)

    @property
    def following(self) -> int:
        """The number of the next round."""
        return self._next

    def count(self) -> int:
        """Returns the number of the next round, and counts it as begun."""
        self._next += 1
        return self._next - 1

    def ask(self, weights: dict[str, Any], global_vars: dict[str, Any]) -> None:
        """Has every remote worker play the next round with these weights."""
        asked = Round(self.count(), ray.put(weights), global_vars, _new_tag())
        self._send(asked, self._workers)
        self._in_flight.append(asked)

    def take(self) -> list[EpisodeBatch]:
        """Returns the episodes of the round that was asked for first, one batch a worker, in the workers' order.

        Waits for it. What workers took with them when they died is played again once they are back.
        """
        asked = self._in_flight.popleft()
        played, repeats = self._workers.fetch(asked.tag), 0
        while repeats < MOST_REPEATS:
            missing = [worker for worker in self._workers if worker not in played]
            back = self._bring_back(missing) if missing else []
            if not back:
                break
            self._send(asked, back)
            again = self._workers.fetch(asked.tag)
            played |= again
            repeats = 0 if again else repeats + 1
        return [played[worker] for worker in sorted(played)]

    def _bring_back(self, missing: Sequence[int]) -> list[int]:
        """Waits for those of the missing workers that Ray starts again, and returns them; not twice for one in vain."""
        deadline = time.monotonic() + self._patience_s
        while True:
            self._restore()
            healthy = set(self._workers.healthy())
            self._lost -= healthy
            if healthy | self._lost >= set(missing):
                break
            if time.monotonic() > deadline:
                self._lost |= set(missing) - healthy
                break
            time.sleep(_LOOK_EVERY_S)
        return [worker for worker in missing if worker in healthy]

    def drop(self) -> None:
        """Forgets the rounds in flight, after waiting for the workers to end them."""
        self._workers.drop([asked.tag for asked in self._in_flight])
        self._in_flight.clear()

    def get_state(self) -> dict[str, Any]:
        """Returns the next round's number, and what was asked of the rounds in flight."""
        in_flight = [
            {"number": asked.number, "weights": ray.get(asked.weights), "global_vars": asked.global_vars}
            for asked in self._in_flight
        ]
        return {"next": self._next, "in_flight": in_flight}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned, and asks for the rounds that were in flight.

        Without remote workers the first of them is played next. Rounds of before are to be dropped first.
        """
        self._next = state["next"]
        for saved in state["in_flight"]:
            self._next = saved["number"]
            if not list(self._workers):
                return
            self.ask(saved["weights"], saved["global_vars"])

    def _send(self, asked: Round, workers: Iterable[int]) -> None:
        kwargs = {
            "weights": asked.weights,
            "global_vars": asked.global_vars,
            "streams": self.streams,
            "number": asked.number,
        }
        self._workers.ask(asked.tag, kwargs, workers)


def _new_tag() -> str:
    return f"round request {next(_tags)}"
