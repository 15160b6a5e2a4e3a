"""Environment steps a second of a rollout with a policy, and where its time goes.

Shapes: `E` copies, `N` agents, `U` actions, `I` inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.options import BenchOptions
from benchmarks.results import Quantity, Section, Target, number
from benchmarks.team import CONFIGS, EPISODE_STEPS, Sizes, make_copies, make_policy, set_up_process
from benchmarks.timing import Measure, in_turn, milliseconds
from k24_rllib.qmix import QMixTorchPolicy, collect_episodes
from k24_rllib.qmix.exploration import EpsilonGreedy

COPIES = 64
REPEATS = 15
STEPS_PER_SECOND = 30_000.0
EPSILON = 0.05
WHOLE, REST = "whole rollout", "recording and the rest"


def measure(options: BenchOptions, say: Callable[[str], None]) -> Section:
    """Times an episode in every copy with the K-2:4 policy and with dense QMIX, whole and in parts, in turn."""
    copies, repeats = options.copies or COPIES, options.repeats_or(REPEATS)
    sizes = Sizes(options.agents, options.hidden)
    say(f"rollout: {copies} copies, N = {sizes.agents}")
    set_up_process(options.threads)
    measures: dict[str, Measure] = {}
    for name in CONFIGS:
        parts = RolloutParts(make_policy(name, sizes), sizes, copies)
        measures |= {f"{name}: {part}": milliseconds(work) for part, work in parts.works().items()}
    taken = {name: Quantity("ms", samples) for name, samples in in_turn(measures, repeats).items()}
    section = Section(
        "rollout",
        f"rollout: an episode in each of {copies} copies of spread, N = {sizes.agents}, hidden {sizes.hidden}, "
        f"threads {options.threads}; ms",
        ["part", *CONFIGS, "ratio"],
        quantities=dict(taken),
        settings={"copies": copies, "agents": sizes.agents, "hidden": sizes.hidden, "repeats": repeats},
    )
    add_rows(section)
    rates = {name: taken[f"{name}: {WHOLE}"].inverse(1e3 * copies * EPISODE_STEPS, "steps/s") for name in CONFIGS}
    section.quantities |= {f"{name}: rate": rate for name, rate in rates.items()}
    ratio = rates["K24QMix"].over(rates["QMix"])
    section.rows.append(["steps/s", *(number(rate.median) for rate in rates.values()), number(ratio.median)])
    if (sizes, copies, options.threads) == (Sizes(), COPIES, 1):
        section.targets = [Target("rollout, K24QMix, N = 3, 64 copies", rates["K24QMix"], STEPS_PER_SECOND)]
    return section


def add_rows(section: Section) -> None:
    """Adds a row for each part, and one for what the parts leave of the whole."""
    parts = [name.partition(": ")[2] for name in section.quantities if name.startswith("QMix: ")]
    for name in CONFIGS:
        whole = section.quantities[f"{name}: {WHOLE}"]
        timed = [section.quantities[f"{name}: {part}"].samples for part in parts if part != WHOLE]
        rest = [total - sum(turn) for total, *turn in zip(whole.samples, *timed, strict=True)]
        section.quantities[f"{name}: {REST}"] = Quantity("ms", rest)
    for part in [*(part for part in parts if part != WHOLE), REST, WHOLE]:
        mine, dense = (section.quantities[f"{name}: {part}"] for name in CONFIGS)
        ratio = number(mine.over(dense).median) if part != REST else ""
        section.rows.append([part, number(mine.median), number(dense.median), ratio])


class RolloutParts:
    """A rollout, whole and taken apart; each part is timed on its own for all the steps of an episode.

    Args:
        policy: The team.
        sizes: Its sizes.
        copies: `E`.
    """

    def __init__(self, policy: QMixTorchPolicy, sizes: Sizes, copies: int) -> None:
        self._model = policy.model
        self._env = make_copies(sizes, copies)
        first = self._env.reset(seed=0)
        self._mask_ids = first.mask_ids
        self._obs, self._available = torch.from_numpy(first.obs), torch.from_numpy(first.avail_actions)
        self._actions = torch.zeros(self._available.shape[:-1], dtype=torch.int64)  # [E, N]
        with torch.no_grad():
            self._weights = self._model.agent.weights(explore=True)
        self._q = torch.rand(self._available.shape)  # [E, N, U]

    def works(self) -> dict[str, Callable[[], object]]:
        """Returns the parts and the whole by name."""
        return {
            "environment": self._step_environment,
            "forward passes": self._forward,
            "choosing actions": self._choose,
            "weights, once a rollout": self._make_weights,
            WHOLE: self.play,
        }

    def play(self) -> int:
        """Plays one episode in every copy and returns the steps of all of them."""
        return collect_episodes(self._env, self._model, epsilon=EPSILON, explore=True).count

    def _step_environment(self) -> None:
        self._env.reset()
        actions = self._actions.numpy()
        for _ in range(EPISODE_STEPS):
            self._env.step(actions)

    @torch.no_grad()
    def _forward(self) -> None:
        groups = self._model.groups(self._mask_ids)
        hidden = self._model.initial_hidden(groups)
        for _ in range(EPISODE_STEPS):
            inputs = self._model.agent_inputs(self._obs, self._actions).unsqueeze(1)  # [N, 1, E, I]
            _, hidden = self._model.unroll(inputs, hidden, self._weights, groups)

    @torch.no_grad()
    def _choose(self) -> None:
        choose = EpsilonGreedy((EPISODE_STEPS, *self._q.shape), EPSILON, self._q.device)
        for t in range(EPISODE_STEPS):
            choose(t, self._q, self._available)

    @torch.no_grad()
    def _make_weights(self) -> None:
        self._model.agent.weights(explore=True)
