"""One update: K-2:4, dense QMIX, Kaleidoscope, the arithmetic floor and plain PyTorch, in turn; where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.floor import Floor
from benchmarks.options import BenchOptions
from benchmarks.plain import VARIANTS, PlainProcess, PlainSizes
from benchmarks.results import Quantity, Section, Target, cells, number
from benchmarks.team import (
    BATCH_EPISODES,
    EPISODE_STEPS,
    UPDATE_CONFIGS,
    Sizes,
    filled_buffer,
    make_policy,
    set_up_process,
)
from benchmarks.timing import UPDATE_CALLS, Measure, in_turn, milliseconds
from k24_rllib.qmix import QMixTorchPolicy
from k24_rllib.qmix.buffer import EpisodeReplayBuffer
from k24_rllib.qmix.policy import clip_gradients

REPEATS = 15
DENSE_RATIO, FLOOR_RATIO, PLAIN_RATIO, KALEIDOSCOPE_RATIO = 1.15, 2.0, 5.0, 1.3
LIBRARIES = {"highest": "MKL", "high": "oneDNN", "medium": "oneDNN"}
"""Which library computes float32 products on a CPU, by PyTorch's precision."""


class Learner:
    """A policy, the episodes it learns from, and its update, whole and in parts."""

    def __init__(self, algorithm: str, sizes: Sizes) -> None:
        self.policy: QMixTorchPolicy = make_policy(algorithm, sizes)
        self.buffer: EpisodeReplayBuffer = filled_buffer(self.policy, sizes)
        self._episodes = self.buffer.sample(BATCH_EPISODES).episodes

    def update(self) -> None:
        """Makes one update from the batch at hand."""
        self.policy.learn_on_batch(self._episodes)

    def parts(self) -> dict[str, float]:
        """Makes one update step by step and returns each step's ms; those that begin with `of it` are timed again."""
        policy, times, start = self.policy, dict[str, float](), time.perf_counter()

        def passed(part: str) -> None:
            nonlocal start
            times[part] = (time.perf_counter() - start) * 1e3
            start = time.perf_counter()

        self._episodes = self.buffer.sample(BATCH_EPISODES).episodes
        passed("draw a batch (not in the update)")
        batch = policy.train_batch(self._episodes)
        passed("batch to tensors")
        weights = policy.model.agent.weights(explore=True)
        passed("of it: weights of all agents")
        online_q = policy.online_values(batch, weights)
        passed("of it: online network")
        policy.target_values(batch, online_q, weights)
        passed("of it: target network and its mixer")
        del weights, online_q
        start = time.perf_counter()
        loss = policy.loss(policy.model, policy.dist_class, batch)
        passed("loss, forward")
        (optimizer,) = policy._optimizers
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        passed("loss, backward")
        clip_gradients(policy._parameters, policy.config["grad_clip"])
        optimizer.step()
        passed("clipping and Adam")
        return times


def measure(options: BenchOptions, say: Callable[[str], None]) -> Section:
    """Times whole updates and their references in turn, then the parts of an update of each algorithm in turn."""
    sizes, repeats = Sizes(options.agents, options.hidden), options.repeats_or(REPEATS)
    say(f"update: N = {sizes.agents}, hidden {sizes.hidden}")
    used = set_up_process(options.threads)
    learners = {name: Learner(name, sizes) for name in UPDATE_CONFIGS}
    floors = make_floors(learners["QMix"].policy, used)
    with PlainProcess(plain_sizes(learners["QMix"], options)) as plain:
        measures: dict[str, Measure] = {
            name: milliseconds(learner.update, **UPDATE_CALLS) for name, learner in learners.items()
        }
        measures |= {name: milliseconds(work, **UPDATE_CALLS) for name, (work, _) in floors.items()}
        measures |= {label: plain.update(variant) for variant, label in VARIANTS.items()}
        taken = {name: Quantity("ms", samples) for name, samples in in_turn(measures, repeats).items()}
    section = Section(
        "update",
        f"update: {BATCH_EPISODES} episodes x {EPISODE_STEPS} steps x {sizes.agents} agents, hidden {sizes.hidden}, "
        f"threads {options.threads}; ms",
        ["what", "ms", "quartiles", "K24QMix / it"],
        settings={"agents": sizes.agents, "hidden": sizes.hidden, "repeats": repeats, "matmul_precision": used},
        quantities=dict(taken),
    )
    for name, quantity in taken.items():
        section.quantities[f"K24QMix / {name}"] = taken["K24QMix"].over(quantity)
        section.rows.append([name, *cells(quantity), number(section.quantities[f"K24QMix / {name}"].median)])
    section.quantities["KaleidoscopeQMix / QMix"] = taken["KaleidoscopeQMix"].over(taken["QMix"])
    add_notes(section, used, floors[floor_name(used)][1], learners["QMix"].policy)
    add_parts(section, learners, repeats)
    if (sizes, options.threads) == (Sizes(), 1):
        section.targets = targets(section, used)
    return section


def make_floors(policy: QMixTorchPolicy, used: str) -> dict[str, tuple[Callable[[], None], Floor]]:
    """Returns the floors by name: under each library, and with weights of each agent's own under the one used."""
    shared, own = Floor(policy.model), Floor(policy.model, owners=policy.model.num_agents)
    floors = {
        floor_name(precision): (shared.under(precision), shared) for precision in dict.fromkeys((used, "highest"))
    }
    return floors | {f"floor, weights of each agent ({LIBRARIES[used]})": (own.under(used), own)}


def floor_name(precision: str) -> str:
    """Returns the name of the floor under a precision."""
    return f"floor, {LIBRARIES[precision]} (precision {precision})"


def plain_sizes(learner: Learner, options: BenchOptions) -> PlainSizes:
    """Returns the sizes of the plain update, those of ours."""
    episodes, config = learner.buffer.sample(1).episodes, learner.policy.config
    return PlainSizes(
        agents=options.agents,
        obs_dim=episodes.obs.shape[-1],
        state_dim=episodes.state.shape[-1],
        actions=episodes.avail_actions.shape[-1],
        hidden=options.hidden,
        episodes=BATCH_EPISODES,
        steps=EPISODE_STEPS,
        embed=config["mixing_embed_dim"],
        hypernet=config["hypernet_dim"],
        threads=options.threads,
    )


def add_notes(section: Section, used: str, floor: Floor, policy: QMixTorchPolicy) -> None:
    """Says under which library the products ran, and how fast."""
    operations = floor.operations() / 1e9
    speed = operations / section.quantities[floor_name(used)].median * 1e3
    section.settings |= {"gflop": operations}
    section.notes += [
        f"K24QMix and QMix ran with matmul_precision: auto, which took {used!r} here ({LIBRARIES[used]}, float32).",
        f"The floor is {operations:.2f} GFLOP in {len(floor.products)} products, {speed:.0f} GFLOP/s.",
        "The plain updates run in a process of their own with PyTorch's defaults and as many threads.",
    ]


def add_parts(section: Section, learners: dict[str, Learner], repeats: int) -> None:
    """Times the parts of an update, the algorithms in turn, and adds a row for each."""
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in learners}
    for turn in range(-2, repeats):
        for name, learner in learners.items():
            for part, value in learner.parts().items():
                if turn >= 0:
                    taken[name].setdefault(part, []).append(value)
    quantities = {name: {part: Quantity("ms", v) for part, v in parts.items()} for name, parts in taken.items()}
    section.quantities |= {
        f"{name}: {part}": quantity for name, parts in quantities.items() for part, quantity in parts.items()
    }
    masked = [name for name in learners if name != "QMix"]
    section.rows += [[], ["part", *learners, *(f"{name} / QMix" for name in masked)]]
    for part, dense in quantities["QMix"].items():
        times = [number(quantities[name][part].median) for name in learners]
        ratios = [number(quantities[name][part].over(dense).median) for name in masked]
        section.rows.append([part, *times, *ratios])


def targets(section: Section, used: str) -> list[Target]:
    """Returns the targets of an update's time."""
    quantities = section.quantities
    kaleidoscope = quantities["KaleidoscopeQMix / QMix"]
    plain = quantities[f"K24QMix / {VARIANTS['gru']}"]
    return [
        Target("update, K24QMix beside QMix", quantities["K24QMix / QMix"], DENSE_RATIO, at_least=False),
        Target("update, KaleidoscopeQMix beside QMix", kaleidoscope, KALEIDOSCOPE_RATIO, False),
        Target("update, K24QMix beside the floor", quantities[f"K24QMix / {floor_name(used)}"], FLOOR_RATIO, False),
        Target("update, plain PyTorch (nn.GRU) beside K24QMix", plain.inverse(1.0, "x"), PLAIN_RATIO),
    ]
